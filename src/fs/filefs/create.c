/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of directories: MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, READLINK. */
/* #syscalls mknodat mkdirat symlinkat linkat unlinkat renameat renameat2 readlinkat */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/filefs/creds.h"
#include "fs/filefs/internal.h"

#ifndef RENAME_NOREPLACE
#include <linux/fs.h>
#endif

/* A directory of the guest, open for *at() calls. */
struct dir_ref {
	struct inode *inode;
	struct inode_fd fd;
};

static int dir_ref_get(struct filefs_session *s, uint64_t nodeid, struct dir_ref *d)
{
	int ret;

	d->inode = inode_get(&s->inodes, nodeid);
	if (!d->inode)
		return -ESTALE;
	ret = inode_fd_get(&s->inodes, d->inode, &d->fd);
	if (ret < 0)
		inode_put(&s->inodes, d->inode);
	return ret;
}

static void dir_ref_put(struct filefs_session *s, struct dir_ref *d)
{
	inode_fd_put(&d->fd);
	inode_put(&s->inodes, d->inode);
}

static int create_once(const struct filefs_session *s, const struct fs_req *req, int dirfd)
{
	bool dont_mask = s->flags & FUSE_DONT_MASK;
	mode_t mode;

	switch (req->opcode) {
	case FUSE_MKNOD:
		mode = creds_umask(req->in.mknod.mode, dont_mask ? req->in.mknod.umask & 0777 : 0);
		return mknodat(dirfd, req->name, mode, req->in.mknod.rdev);
	case FUSE_MKDIR:
		mode = creds_umask(req->in.mkdir.mode & 07777,
				   dont_mask ? req->in.mkdir.umask & 0777 : 0);
		return mkdirat(dirfd, req->name, mode);
	default:
		return symlinkat(req->target, dirfd, req->name);
	}
}

/* MKNOD, MKDIR and SYMLINK: make, as the caller, then look up. */
static ssize_t filefs_make(struct filefs_session *s, struct fs_req *req)
{
	struct dir_ref dir;
	struct creds creds;
	int ret;

	ret = dir_ref_get(s, req->nodeid, &dir);
	if (ret < 0)
		return ret;
	ret = creds_enter(filefs_of(s), req, &creds);
	if (ret == 0) {
		ret = create_once(s, req, dir.fd.fd) < 0 ? -errno : 0;
		if (ret == -EACCES && creds_override(&creds))
			ret = create_once(s, req, dir.fd.fd) < 0 ? -errno : 0;
		creds_leave(&creds);
	}
	if (ret == 0)
		ret = filefs_lookup_name(s, dir.inode, dir.fd.fd, req->name, true, &req->out.entry);
	dir_ref_put(s, &dir);
	return ret;
}

ssize_t filefs_mknod(struct filefs_session *s, struct fs_req *req)
{
	return filefs_make(s, req);
}

ssize_t filefs_mkdir(struct filefs_session *s, struct fs_req *req)
{
	return filefs_make(s, req);
}

ssize_t filefs_symlink(struct filefs_session *s, struct fs_req *req)
{
	return filefs_make(s, req);
}

ssize_t filefs_link(struct filefs_session *s, struct fs_req *req)
{
	struct filefs *fs = filefs_of(s);
	struct dir_ref dir, old;
	char name[16];
	int ret;

	ret = dir_ref_get(s, req->nodeid, &dir);
	if (ret < 0)
		return ret;
	ret = dir_ref_get(s, req->in.link.oldnodeid, &old);
	if (ret == 0) {
		/* The magic link leads to the inode itself, whatever its type, and unlike
		 * AT_EMPTY_PATH needs no capability. */
		snprintf(name, sizeof(name), "%d", old.fd.fd);
		ret = linkat(fs->proc_self_fd, name, dir.fd.fd, req->name, AT_SYMLINK_FOLLOW) < 0
			      ? -errno
			      : 0;
		if (ret == 0)
			ret = filefs_lookup_name(s, dir.inode, dir.fd.fd, req->name, false,
						 &req->out.entry);
		dir_ref_put(s, &old);
	}
	dir_ref_put(s, &dir);
	return ret;
}

static ssize_t filefs_remove(struct filefs_session *s, struct fs_req *req, int flags)
{
	struct dir_ref dir;
	int ret;

	ret = dir_ref_get(s, req->nodeid, &dir);
	if (ret < 0)
		return ret;
	ret = unlinkat(dir.fd.fd, req->name, flags) < 0 ? -errno : 0;
	dir_ref_put(s, &dir);
	return ret;
}

ssize_t filefs_unlink(struct filefs_session *s, struct fs_req *req)
{
	return filefs_remove(s, req, 0);
}

ssize_t filefs_rmdir(struct filefs_session *s, struct fs_req *req)
{
	return filefs_remove(s, req, AT_REMOVEDIR);
}

ssize_t filefs_rename(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_rename2_in *in = &req->in.rename;
	struct dir_ref from, to;
	int ret;

	if (in->flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	ret = dir_ref_get(s, req->nodeid, &from);
	if (ret < 0)
		return ret;
	ret = dir_ref_get(s, in->newdir, &to);
	if (ret == 0) {
		ret = renameat2(from.fd.fd, req->name, to.fd.fd, req->newname, in->flags) < 0
			      ? -errno
			      : 0;
		dir_ref_put(s, &to);
	}
	dir_ref_put(s, &from);
	return ret;
}

ssize_t filefs_readlink(struct filefs_session *s, struct fs_req *req)
{
	struct iov_cursor reply = req->reply;
	struct dir_ref link;
	char target[PATH_MAX];
	ssize_t n;
	int ret;

	ret = dir_ref_get(s, req->nodeid, &link);
	if (ret < 0)
		return ret;
	if (link.inode->type == S_IFLNK)
		n = readlinkat(link.fd.fd, "", target, MIN(sizeof(target), req->reply_size));
	else
		n = -1, errno = EINVAL;
	n = n < 0 ? -errno : (ssize_t)iov_write(&reply, target, (size_t)n);
	dir_ref_put(s, &link);
	return n;
}
