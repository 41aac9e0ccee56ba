/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What FUSE gained between 7.38, which Debian 12's <linux/fuse.h> describes, and
 * 7.45, written from the protocol's changelog. Each piece stands aside when the
 * system's header is new enough to have it.
 */
#ifndef TESTS_FRONTEND_FUSE_EXT_H
#define TESTS_FRONTEND_FUSE_EXT_H

#include <stddef.h>
#include <stdint.h>

#include <linux/fuse.h>

/* Opcodes are enumerators, invisible to #ifdef: names of our own. */
enum fuc_opcode_ext {
	FUC_STATX = 52,
	FUC_COPY_FILE_RANGE_64 = 53,
};

#define FUC_CREATE_SUPP_GROUP (1ull << 34)
#define FUC_DIRECT_IO_ALLOW_MMAP (1ull << 36)
#define FUC_HAS_RESEND (1ull << 39)
#define FUC_ALLOW_IDMAP (1ull << 40)
/* Extension header type of the supplementary groups; below are security contexts. */
#define FUC_EXT_GROUPS 32

struct fuc_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct fuc_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct fuc_sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};

struct fuc_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct fuc_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct fuc_statx stat;
};

struct fuc_copy_file_range_out {
	uint64_t bytes_copied;
};

struct fuc_ext_header {
	uint32_t size; /* with this header, a multiple of 8 */
	uint32_t type;
};

/* The first revision's fields only: INIT of 7.5 to 7.35 ends here. */
#define FUC_INIT_IN_SHORT 16u

_Static_assert(sizeof(struct fuc_statx_out) == 288, "7.39");

#endif
