/* SPDX-License-Identifier: Apache-2.0 */
/* Open files: OPEN, CREATE, TMPFILE, FLUSH, RELEASE. */
/* #syscalls openat open_by_handle_at statx fcntl close */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fs/filefs/creds.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

/* What of the guest's flags makes sense for a file of the host. */
static int open_flags(const struct filefs_session *s, uint32_t guest)
{
	const struct filefs *fs = filefs_of(s);
	int flags = (int)guest & (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC);

	if ((flags & O_ACCMODE) == O_ACCMODE)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	if (fs->config.allow_direct_io)
		flags |= (int)guest & O_DIRECT;
	if (fs->root_user)
		flags |= (int)guest & O_NOATIME;
	if (s->writeback) {
		/* The guest's cache reads the rest of a page it writes to, and knows itself
		 * where the end of the file is. */
		if ((flags & O_ACCMODE) == O_WRONLY)
			flags = (flags & ~O_ACCMODE) | O_RDWR;
		flags &= ~O_APPEND;
	}
	return flags;
}

static bool open_writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

static uint32_t open_handle_flags(int flags)
{
	uint32_t h = 0;

	if (flags & (O_DIRECT | O_SYNC | O_DSYNC))
		h |= HANDLE_SLOW_WRITE;
	if (flags & O_DIRECT)
		h |= HANDLE_SLOW_READ;
	return h;
}

/*
 * May the guest keep the pages it has of this file? Only if the file is as it was
 * when the guest opened it last: data, length and everything that changes ctime.
 */
static bool open_version_same(struct inode *inode, const struct statx *stx)
{
	uint64_t v;

	v = (uint64_t)stx->stx_ctime.tv_sec * 1000000000u + stx->stx_ctime.tv_nsec;
	v = v * 0x9e3779b97f4a7c15ull + (uint64_t)stx->stx_mtime.tv_sec * 1000000000u +
	    stx->stx_mtime.tv_nsec;
	v = v * 0x9e3779b97f4a7c15ull + stx->stx_size;
	v |= 1; /* 0: never opened */
	return atomic_exchange_explicit(&inode->version, v, memory_order_relaxed) == v;
}

/* @made: what statx said of the file if it is known, because we made it. */
static uint32_t open_reply_flags(const struct filefs_session *s, struct inode *inode, int fd,
				 const struct statx *made)
{
	const struct filefs *fs = filefs_of(s);
	const struct mount *mount = &fs->mounts.table[atomic_load(&inode->mount)];
	uint32_t reply = 0;
	struct statx stx;

	switch (fs->config.cache) {
	case FILEFS_CACHE_ALWAYS:
		reply |= FOPEN_KEEP_CACHE;
		break;
	case FILEFS_CACHE_AUTO:
		if (fs->data) /* data_attach() */
			break;
		if (!made && filefs_stat_fd(fd, &stx) == 0)
			made = &stx;
		if (made && open_version_same(inode, made))
			reply |= FOPEN_KEEP_CACHE;
		break;
	case FILEFS_CACHE_NEVER:
	case FILEFS_CACHE_METADATA:
		reply |= FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
		break;
	}
	/* FLUSH gives locks back, and asks a remote file system for its last error.
	 * Where it does neither, the guest may leave it out. */
	if (!fs->config.posix_locks && !mount->remote)
		reply |= FOPEN_NOFLUSH;
	return reply;
}

/* Makes a handle of @fd, which it owns from now on. */
static int open_finish(struct filefs_session *s, struct fs_req *req, struct inode *inode, int fd,
		       int flags, const struct statx *made)
{
	struct fuse_open_out *out = &req->out.open;
	int ret;

	*out = (struct fuse_open_out){ .open_flags = open_reply_flags(s, inode, fd, made) };
	ret = filefs_handle_add(s, inode, fd, open_handle_flags(flags), 0, &out->fh);
	if (ret < 0)
		close(fd);
	return ret;
}

static int open_inode(struct filefs_session *s, struct fs_req *req, struct inode *inode, int flags,
		      uint32_t open_flags_in)
{
	struct filefs *fs = filefs_of(s);
	int fd, ret;

	if (inode->type == S_IFDIR && open_writes(flags))
		return -EISDIR;
	if (inode->type != S_IFREG)
		return inode->type == S_IFLNK ? -ELOOP : -ENXIO;
	if (!filefs_fd_take(fs))
		return -ENFILE;
	if (flags & O_TRUNC)
		creds_kill_suidgid(open_flags_in & FUSE_OPEN_KILL_SUIDGID);
	if ((flags & O_TRUNC) && fs->data)
		fd = data_open_truncating(s, inode, flags);
	else
		fd = inode_open(&s->inodes, inode, flags);
	ret = fd < 0 ? fd : open_finish(s, req, inode, fd, flags, NULL);
	if (ret < 0)
		filefs_fd_release(fs);
	return ret;
}

ssize_t filefs_open(struct filefs_session *s, struct fs_req *req)
{
	int flags = open_flags(s, req->in.open.flags);
	struct inode *inode;
	int ret;

	if (filefs_of(s)->config.readonly && open_writes(flags))
		return -EROFS;
	inode = inode_get(&s->inodes, req->nodeid);
	if (!inode)
		return -ESTALE;
	ret = open_inode(s, req, inode, flags, req->in.open.open_flags);
	inode_put(&s->inodes, inode);
	return ret;
}

/* The attributes that came with the name are those from before. */
static void create_truncated(struct filefs_session *s, struct fs_req *req)
{
	struct handle *h = filefs_handle_get(s, req->out.open.fh, false);
	struct statx stx;

	if (!h)
		return;
	if (filefs_stat_fd(h->fd, &stx) == 0)
		filefs_attr_fill(filefs_of(s), &stx, &req->out.entry.attr);
	filefs_handle_put(s, h);
}

/* The name was there already, and the guest did not ask for O_EXCL. */
static int create_existing(struct filefs_session *s, struct fs_req *req, struct inode *parent,
			   int dirfd, int flags)
{
	struct inode *inode;
	uint64_t nodeid;
	int ret;

	ret = filefs_lookup_name(s, parent, dirfd, req->name, false, &req->out.entry);
	if (ret < 0)
		return ret;
	nodeid = req->out.entry.nodeid;
	inode = inode_get(&s->inodes, nodeid);
	if (!inode)
		return -ESTALE;
	/* The guest thinks of a regular file or of nothing; let it look again. */
	ret = inode->type == S_IFREG ? open_inode(s, req, inode, flags, req->in.create.open_flags)
				     : -ESTALE;
	inode_put(&s->inodes, inode);
	if (ret < 0)
		inode_forget(&s->inodes, nodeid, 1);
	else if (flags & O_TRUNC)
		create_truncated(s, req);
	return ret;
}

static int create_host(struct filefs_session *s, struct fs_req *req, int dirfd, int flags)
{
	const struct fuse_create_in *in = &req->in.create;
	const char *name = req->opcode == FUSE_TMPFILE ? "." : req->name;
	mode_t mode = in->mode & 07777;
	struct creds creds;
	int fd, ret;

	ret = creds_enter(filefs_of(s), req, &creds);
	if (ret < 0)
		return ret;
	mode = creds_umask(mode, s->flags & FUSE_DONT_MASK ? in->umask & 0777 : 0);
	fd = openat(dirfd, name, flags, mode);
	if (fd < 0 && errno == EACCES && creds_override(&creds))
		fd = openat(dirfd, name, flags, mode);
	ret = fd < 0 ? -errno : fd;
	creds_leave(&creds);
	return ret;
}

/* A file that is ours from its first moment: nodeid and handle from its descriptor. */
static int create_finish(struct filefs_session *s, struct fs_req *req, const struct inode *parent,
			 int fd, int flags)
{
	struct inode *inode;
	struct statx stx;
	int ret;

	ret = filefs_lookup_fd(s, parent, fd, &stx, &req->out.entry, &inode);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	ret = open_finish(s, req, inode, fd, flags, &stx);
	inode_put(&s->inodes, inode);
	if (ret < 0)
		inode_forget(&s->inodes, req->out.entry.nodeid, 1);
	return ret;
}

static ssize_t create_or_tmpfile(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_create_in *in = &req->in.create;
	struct filefs *fs = filefs_of(s);
	struct inode *parent = inode_get(&s->inodes, req->nodeid);
	int flags = open_flags(s, in->flags), extra, fd, ret;
	struct inode_fd dir;
	bool taken;

	if (!parent)
		return -ESTALE;
	ret = inode_fd_get(&s->inodes, parent, &dir);
	if (ret < 0) {
		inode_put(&s->inodes, parent);
		return ret;
	}
	taken = filefs_fd_take(fs);
	ret = -ENFILE;
	if (taken) {
		extra = req->opcode == FUSE_TMPFILE ? O_TMPFILE | ((int)in->flags & O_EXCL)
						    : O_CREAT | O_EXCL | O_NOFOLLOW;
		fd = create_host(s, req, dir.fd,
				 (flags & ~O_TRUNC) | extra | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		ret = fd < 0 ? fd : create_finish(s, req, parent, fd, flags);
	}
	/* An existing file takes a place for itself. */
	if (taken && ret < 0)
		filefs_fd_release(fs);
	if (ret == -EEXIST && req->opcode == FUSE_CREATE && !(in->flags & O_EXCL))
		ret = create_existing(s, req, parent, dir.fd, flags);
	inode_fd_put(&dir);
	inode_put(&s->inodes, parent);
	return ret;
}

ssize_t filefs_create(struct filefs_session *s, struct fs_req *req)
{
	return create_or_tmpfile(s, req);
}

ssize_t filefs_tmpfile(struct filefs_session *s, struct fs_req *req)
{
	return create_or_tmpfile(s, req);
}

ssize_t filefs_flush(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_flush_in *in = &req->in.flush;
	struct filefs *fs = filefs_of(s);
	struct handle *h = filefs_handle_get(s, in->fh, false);
	int ret = 0, fd;

	if (!h)
		return -EBADF;
	if (fs->config.posix_locks)
		lock_owner_release(s, h->inode, in->lock_owner);
	/* Closing a duplicate is how a local process would hear of the error. */
	if (fs->mounts.table[h->mount].remote) {
		fd = fcntl(h->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0 || close(fd) < 0)
			ret = -errno;
	}
	filefs_handle_put(s, h);
	return ret;
}

ssize_t filefs_release(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_release_in *in = &req->in.release;
	struct handle *h;

	if (in->release_flags & FUSE_RELEASE_FLOCK_UNLOCK) {
		h = filefs_handle_get(s, in->fh, false);
		if (h) {
			lock_flock_release(s, h);
			filefs_handle_put(s, h);
		}
	}
	return filefs_handle_release(s, in->fh, false) ? 0 : -EBADF;
}
