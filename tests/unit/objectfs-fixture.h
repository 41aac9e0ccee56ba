/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An objectfs over the cache and a memory service, driven as the FUSE layer would: by
 * fs_submit(). Requests are made by helpers that look like system calls on paths and return the
 * operation's outcome. The other client of the bucket goes behind the back
 * (cache_env_object(), store_memory_write(), ...).
 */
#ifndef OVFS_TESTS_OBJECTFS_FIXTURE_H
#define OVFS_TESTS_OBJECTFS_FIXTURE_H

#include "cache-fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fs/objectfs/internal.h"

struct ox {
	struct cache_env ce;
	struct objectfs_config config;
	struct fs *fs;
	struct fs_session *session; /* the guest that asks; tests may exchange it */
	uint64_t counted;	    /* ox_spent()'s */
};

/* A request and what it takes to wait for it. */
struct ox_req {
	struct fs_req req;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	ssize_t result;
	struct iovec in, out;
};

/* Defaults: time-outs of a minute. Then options may be changed, then ox_open(). */
void ox_init(struct ox *ox);
void ox_open(struct ox *ox);
void ox_close(struct ox *ox);
/* Another guest. */
struct fs_session *ox_session(struct ox *ox);

/* Both, as cmocka's set-up; *state is the struct ox. */
int ox_setup(void **state);
int ox_setup_write_back(void **state);
int ox_teardown(void **state);

void ox_req_init(struct ox_req *r, uint32_t opcode, uint64_t nodeid);
void ox_start(struct ox *ox, struct ox_req *r);
ssize_t ox_wait(struct ox_req *r);
ssize_t ox_call(struct ox *ox, struct ox_req *r);

/* ---- By nodeid ---- */

int ox_lookup(struct ox *ox, uint64_t parent, const char *name, struct fuse_entry_out *e);
void ox_forget(struct ox *ox, uint64_t nodeid, uint64_t n);
int ox_getattr(struct ox *ox, uint64_t nodeid, struct fuse_attr *attr);
int ox_setattr(struct ox *ox, uint64_t nodeid, const struct fuse_setattr_in *in,
	       struct fuse_attr *attr);
int ox_open_node(struct ox *ox, uint64_t nodeid, int flags, struct fuse_open_out *out);
int ox_opendir(struct ox *ox, uint64_t nodeid, uint64_t *fh);
ssize_t ox_readdir(struct ox *ox, uint32_t opcode, uint64_t fh, uint64_t offset, void *buf,
		   size_t size);
int ox_releasedir(struct ox *ox, uint64_t fh);
int ox_flush(struct ox *ox, uint64_t fh);
int ox_release(struct ox *ox, uint64_t fh);
int ox_fsync(struct ox *ox, uint64_t fh);
ssize_t ox_read(struct ox *ox, uint64_t fh, void *buf, size_t len, uint64_t offset);
ssize_t ox_write(struct ox *ox, uint64_t fh, const void *buf, size_t len, uint64_t offset);

/* ---- By path, each component looked up as a guest without a cache would ---- */

/* The directory of @path, and its last component. -ENOENT, ... */
int ox_walk(struct ox *ox, const char *path, uint64_t *parent, const char **name);
/* 0, -ENOENT also for an entry with nodeid 0. */
int ox_stat(struct ox *ox, const char *path, struct fuse_entry_out *e);
int ox_openat(struct ox *ox, const char *path, int flags, uint64_t *fh);
int ox_create(struct ox *ox, const char *path, int flags, uint64_t *fh);
/* FLUSH, then RELEASE; what FLUSH said. */
int ox_closeat(struct ox *ox, uint64_t fh);
int ox_mkdir(struct ox *ox, const char *path);
int ox_rmdir(struct ox *ox, const char *path);
int ox_unlink(struct ox *ox, const char *path);
int ox_rename(struct ox *ox, const char *from, const char *to, unsigned flags);
int ox_truncate(struct ox *ox, const char *path, uint64_t size);

/* Makes or replaces a file through the driver; all must succeed. */
void ox_put(struct ox *ox, const char *path, const char *text);
/* Compares a file, through the driver. */
void ox_expect(struct ox *ox, const char *path, const char *text);

/* The names in a directory, in order of appearance, with a slash behind directories: "a,b/".
 * @opcode: FUSE_READDIR or FUSE_READDIRPLUS; @room: bytes of each reply. */
const char *ox_list_as(struct ox *ox, const char *path, uint32_t opcode, size_t room);
const char *ox_list(struct ox *ox, const char *path);

/* ---- The bucket, behind the back ---- */

void ox_bucket_put(struct ox *ox, const char *key, const char *text);
void ox_bucket_remove(struct ox *ox, const char *key);
/* The text of an object, "(none)" when there is none. */
const char *ox_bucket(struct ox *ox, const char *key);

/* Requests since the last call. */
uint64_t ox_spent(struct ox *ox);

#endif
