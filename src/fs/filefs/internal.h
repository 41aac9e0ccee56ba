/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of filefs share: the driver instance, a session, and the
 * operations. See filefs.c for the theory of operation.
 */
#ifndef OVFS_FS_FILEFS_INTERNAL_H
#define OVFS_FS_FILEFS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/list.h"
#include "base/log.h"
#include "fs/filefs/filefs.h"
#include "fs/filefs/handle.h"
#include "fs/filefs/inode.h"
#include "fs/filefs/lock.h"
#include "fs/filefs/mounts.h"
#include "fs/fs.h"

struct filefs {
	struct fs fs;
	struct filefs_config config;
	struct workers *workers;
	int root_fd;	  /* O_PATH */
	int proc_self_fd; /* borrowed */
	bool root_user;	  /* effective uid 0: acts with the caller's identity */
	dev_t root_dev;
	struct mounts mounts;
	unsigned cache_fds; /* size of a session's descriptor cache */

	unsigned fd_limit;
	_Atomic unsigned fds; /* descriptors taken of fd_limit */

	struct filefs_data *data; /* NULL: no cache */

	struct locks locks; /* waiting lock requests of all sessions */

	struct log_limit fd_log, creds_log, stale_log;
};

/* Buffers of directory streams. */
#define DIR_POOL_MAX 32

struct dir_pool {
	pthread_mutex_t lock;
	void *spare[DIR_POOL_MAX]; /* large ones that nobody uses */
	unsigned spares;
	unsigned large; /* large ones in use */
};

struct filefs_session {
	struct fs_session session;
	uint64_t flags; /* FUSE_INIT flags agreed on */
	bool writeback;
	struct inode_table inodes;
	struct inode *root; /* inodes' element 1: lives as long as the session */
	struct slots handles;
	struct slots dirs; /* directory streams */
	struct dir_pool dir_pool;
	struct lock_table lock_owners;
};

static inline struct filefs *filefs_of(const struct filefs_session *s)
{
	return container_of(s->session.fs, struct filefs, fs);
}

static inline struct filefs_session *filefs_session_of(struct fs_session *session)
{
	return container_of(session, struct filefs_session, session);
}

/* Takes one descriptor of the budget; false, with a line in the log, when it is
 * spent: the request fails with ENFILE. */
bool filefs_fd_take(struct filefs *fs);
void filefs_fd_release(struct filefs *fs);

/* An operation. What struct fs_ops says about outcomes holds, except that these
 * may block; filefs.c decides on which thread they run. */
typedef ssize_t filefs_op_fn(struct filefs_session *s, struct fs_req *req);

/* attr.c */
#define FILEFS_STATX_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
/* statx of what @fd itself is. Negative errno. */
int filefs_stat_fd(int fd, struct statx *stx);
void filefs_attr_fill(const struct filefs *fs, const struct statx *stx, struct fuse_attr *attr);
/* The inode number that the guest sees for @ino on device @dev. */
uint64_t filefs_guest_ino(const struct filefs *fs, dev_t dev, uint64_t ino);
void filefs_attr_timeout(const struct filefs *fs, uint64_t *sec, uint32_t *nsec);
void filefs_entry_timeout(const struct filefs *fs, bool negative, uint64_t *sec, uint32_t *nsec);
filefs_op_fn filefs_getattr, filefs_setattr, filefs_statx, filefs_statfs;

/* lookup.c */
/*
 * Looks @name up in the directory open as @dirfd, whose mount is @parent's, and
 * counts one lookup for the guest. @made: the caller made the entry just now, so
 * it is not an older inode of the same number. Negative errno.
 */
int filefs_lookup_name(struct filefs_session *s, const struct inode *parent, int dirfd,
		       const char *name, bool made, struct fuse_entry_out *entry);
/* The same for a file that we made just now and have open as @fd. With its attributes
 * and a reference to its inode. */
int filefs_lookup_fd(struct filefs_session *s, const struct inode *parent, int fd,
		     struct statx *stx, struct fuse_entry_out *entry, struct inode **out);
filefs_op_fn filefs_lookup, filefs_forget, filefs_batch_forget;

/* create.c */
filefs_op_fn filefs_mknod, filefs_mkdir, filefs_symlink, filefs_link, filefs_unlink, filefs_rmdir,
	filefs_rename, filefs_readlink;

/* open.c */
filefs_op_fn filefs_open, filefs_create, filefs_tmpfile, filefs_release, filefs_flush;

/* io.c */
filefs_op_fn filefs_read, filefs_read_blocking, filefs_write, filefs_write_blocking, filefs_fsync,
	filefs_fallocate, filefs_lseek, filefs_copy_file_range, filefs_syncfs;

/* dir.c */
filefs_op_fn filefs_opendir, filefs_readdir, filefs_readdirplus, filefs_releasedir;
/* The session's streams: before its first request, and after its last. */
void filefs_dirs_init(struct filefs_session *s);
void filefs_dirs_fini(struct filefs_session *s);
/* The stream @index is its handle's no more. */
void filefs_dir_free(struct filefs_session *s, uint32_t index);

/* xattr.c */
filefs_op_fn filefs_setxattr, filefs_getxattr, filefs_listxattr, filefs_removexattr;

/* window.c */
extern const struct fs_window_ops filefs_window_ops;

/* window_cached.c */
extern const struct fs_window_ops filefs_cached_window_ops;

/* ---- describe.c: fs_ops.describe ---- */

bool filefs_describe(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg);

/* lock.c */
filefs_op_fn filefs_getlk, filefs_setlk, filefs_setlkw;

/* data_io.c: the same with a cache, for handles that have a datafile */
filefs_op_fn data_read, data_read_blocking, data_write, data_write_blocking, data_open,
	data_open_blocking, data_create, data_create_blocking, data_tmpfile, data_flush,
	data_flush_blocking, data_fsync, data_fsync_blocking, data_setattr, data_setattr_blocking,
	data_lseek, data_lseek_blocking, data_fallocate, data_fallocate_blocking,
	data_copy_file_range, data_copy_file_range_blocking, data_syncfs, data_syncfs_blocking,
	data_setlk, data_setlkw, data_setlk_blocking, data_setlkw_blocking;

/* Hands @req to a worker, which runs @req's operation in its blocking form. */
ssize_t filefs_defer(struct filefs_session *s, struct fs_req *req);

#endif
