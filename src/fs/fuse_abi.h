/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE protocol up to 7.45, whatever the age of the kernel headers.
 *
 * <linux/fuse.h> is the source; Debian 12's ends at 7.38. What later minors
 * added and ovfs uses is declared here, under the names of the kernel's own
 * header, when that header is older (the version history in its first comment
 * gives the minor of each).
 */
#ifndef OVFS_FS_FUSE_ABI_H
#define OVFS_FS_FUSE_ABI_H

#include <stdint.h>

#include <linux/fuse.h>

/* The newest minor that ovfs speaks. */
#define FUSE_ABI_MINOR 45

/* The oldest: 7.27 brought the 64-bit-clean structures of today. */
#define FUSE_ABI_MINOR_MIN 27

#if FUSE_KERNEL_MINOR_VERSION < 38
#error "linux/fuse.h is older than 7.38: install linux-libc-dev of Debian 12 or newer"
#endif

#if FUSE_KERNEL_MINOR_VERSION < 39
struct fuse_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t __reserved;
};

struct fuse_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t __spare0[1];
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct fuse_sx_time atime;
	struct fuse_sx_time btime;
	struct fuse_sx_time ctime;
	struct fuse_sx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t __spare2[14];
};

struct fuse_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct fuse_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct fuse_statx stat;
};

#define FUSE_STATX 52
#endif

/* These four came with or just after 7.38; headers of that minor differ. */
#ifndef FUSE_CREATE_SUPP_GROUP
#define FUSE_CREATE_SUPP_GROUP (1ULL << 34)
#define FUSE_EXT_GROUPS 32

struct fuse_supp_groups {
	uint32_t nr_groups;
	uint32_t groups[];
};
#endif

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
#ifndef FUSE_NO_EXPORT_SUPPORT
#define FUSE_NO_EXPORT_SUPPORT (1ULL << 38)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40)
#endif
#ifndef FUSE_UNIQUE_RESEND
#define FUSE_UNIQUE_RESEND (1ULL << 63)
#endif
#ifndef FUSE_INVALID_UIDGID
#define FUSE_INVALID_UIDGID ((uint32_t)(-1))
#endif

#if FUSE_KERNEL_MINOR_VERSION < 45
#define FUSE_COPY_FILE_RANGE_64 53

struct fuse_copy_file_range_out {
	uint64_t bytes_copied;
};
#endif

_Static_assert(sizeof(struct fuse_statx_in) == 24, "7.39 ABI");
_Static_assert(sizeof(struct fuse_statx_out) == 288, "7.39 ABI");

/* One more than the largest opcode that has a place in our tables. */
#define FUSE_OPCODE_COUNT (FUSE_COPY_FILE_RANGE_64 + 1)

#endif
