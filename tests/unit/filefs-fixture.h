/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filefs over a temporary directory, driven as the FUSE layer would: by
 * fs_submit(). Requests are made by helpers that look like system calls and return the
 * operation's outcome.
 *
 * main() runs the tests of a file on each of: a directory on tmpfs and one on
 * disk, inodes by file handle and by descriptor, as on a remote file system, and with data through
 * the cache.
 */
#ifndef OVFS_TESTS_FILEFS_FIXTURE_H
#define OVFS_TESTS_FILEFS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

/* The cache of a struct fx, when it has one. */
struct fx_cache {
	struct loop *loop;
	pthread_t thread;
	struct filefs_data *data;
	struct workers *flushers;
	struct cache *cache;
	struct cache_storage *files;
};

struct fx {
	char path[64];
	int dirfd, proc;
	struct workers *workers;
	struct fs *fs;
	struct fs_session *session;
	struct fx_cache cache;
};

/* What the next fx_new() makes. */
struct fx_mode {
	const char *base;
	bool handles;
	bool remote; /* as if it were: all that may wait goes to the workers */
	enum { FX_CACHE_NONE, FX_CACHE_THROUGH, FX_CACHE_BACK } cache;
	uint64_t expiration_ns; /* 0: none */
};
extern struct fx_mode fx_mode;

/* A request and what it takes to wait for it. */
struct fx_req {
	struct fs_req req;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	ssize_t result;
	struct iovec in, out;
};

struct filefs_config fx_config(void);
struct fx *fx_new(const struct filefs_config *config, uint64_t flags);
void fx_free(struct fx *fx);

/* The same, as root of cmocka's set-up: default configuration. */
int fx_setup(void **state);
int fx_teardown(void **state);

/* cmocka's main for the modes above; @name for the report. */
#define FX_MAIN(name, tests)                                                                       \
	int main(void)                                                                             \
	{                                                                                          \
		int failed = 0;                                                                    \
		for (unsigned m = 0; fx_mode_select(m); m++)                                       \
			failed += cmocka_run_group_tests_name(name, tests, NULL, NULL);            \
		return failed;                                                                     \
	}
bool fx_mode_select(unsigned n);

void fx_req_init(struct fx_req *r, uint32_t opcode, uint64_t nodeid);
void fx_start(struct fx *fx, struct fx_req *r);
ssize_t fx_wait(struct fx_req *r);
bool fx_done(struct fx_req *r);
ssize_t fx_call(struct fx *fx, struct fx_req *r);

/* Each returns the outcome; a nodeid, handle or attributes through pointers (may be NULL). */
int fx_lookup(struct fx *fx, uint64_t parent, const char *name, struct fuse_entry_out *e);
void fx_forget(struct fx *fx, uint64_t nodeid, uint64_t n);
int fx_getattr(struct fx *fx, uint64_t nodeid, struct fuse_attr *attr);
int fx_open(struct fx *fx, uint64_t nodeid, int flags, struct fuse_open_out *out);
int fx_create(struct fx *fx, uint64_t parent, const char *name, int flags, unsigned mode,
	      struct fuse_entry_out *e, struct fuse_open_out *out);
int fx_release(struct fx *fx, uint64_t nodeid, uint64_t fh);
ssize_t fx_read(struct fx *fx, uint64_t fh, void *buf, size_t len, uint64_t offset);
ssize_t fx_write(struct fx *fx, uint64_t fh, const void *buf, size_t len, uint64_t offset);
int fx_opendir(struct fx *fx, uint64_t nodeid, uint64_t *fh);
int fx_releasedir(struct fx *fx, uint64_t nodeid, uint64_t fh);
ssize_t fx_readdir(struct fx *fx, uint32_t opcode, uint64_t nodeid, uint64_t fh, uint64_t offset,
		   void *buf, size_t size);
int fx_unlink(struct fx *fx, uint64_t parent, const char *name);
int fx_mkdir(struct fx *fx, uint64_t parent, const char *name, struct fuse_entry_out *e);

struct inode_table *fx_inodes(struct fx *fx);
struct filefs *fx_filefs(struct fx *fx);
/* Whether inodes are by file handle indeed: it takes a privilege. */
bool fx_handles(struct fx *fx);

#endif
