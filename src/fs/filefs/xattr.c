/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes.
 *
 * There is no call on an O_PATH descriptor before Linux 6.13 (getxattrat), and
 * opening the file is not possible for all types. What works for every type, with one call, is
 * its name in /proc/self/fd; a thread's working directory is put there once, which
 * spares it a path that may not exist in its root. The last link is a magic one:
 * it leads to the inode itself and is followed no further, so an attribute
 * of a symlink is the symlink's.
 */
/* #syscalls getxattr setxattr listxattr removexattr */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <linux/limits.h>

#include "base/cleanup.h"
#include "fs/filefs/creds.h"
#include "fs/filefs/internal.h"

#define XATTR_STACK 1024

struct xattr_target {
	struct inode *inode;
	struct inode_fd fd;
	char name[16]; /* relative to the working directory */
};

static int xattr_target_get(struct filefs_session *s, uint64_t nodeid, struct xattr_target *t)
{
	struct filefs *fs = filefs_of(s);
	int ret;

	if (!fs->config.xattr)
		return -ENOSYS;
	ret = creds_chdir(fs->proc_self_fd);
	if (ret < 0)
		return ret;
	t->inode = inode_get(&s->inodes, nodeid);
	if (!t->inode)
		return -ESTALE;
	ret = inode_fd_get(&s->inodes, t->inode, &t->fd);
	if (ret < 0)
		inode_put(&s->inodes, t->inode);
	else
		snprintf(t->name, sizeof(t->name), "%d", t->fd.fd);
	return ret;
}

static void xattr_target_put(struct filefs_session *s, struct xattr_target *t)
{
	inode_fd_put(&t->fd);
	inode_put(&s->inodes, t->inode);
}

static bool xattr_is_acl(const char *name)
{
	return !strcmp(name, "system.posix_acl_access") ||
	       !strcmp(name, "system.posix_acl_default");
}

/* A guest that does not know of ACLs must not set them behind its own back. */
static bool xattr_hidden(const struct filefs_session *s, const char *name)
{
	return !(s->flags & FUSE_POSIX_ACL) && xattr_is_acl(name);
}

ssize_t filefs_setxattr(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_setxattr_in *in = &req->in.setxattr;
	struct iov_cursor data = req->data;
	CLEANUP_FREE char *value = NULL;
	struct xattr_target t;
	int ret;

	if (in->size > XATTR_SIZE_MAX)
		return -E2BIG;
	if (xattr_hidden(s, req->name))
		return -EOPNOTSUPP;
	ret = xattr_target_get(s, req->nodeid, &t);
	if (ret < 0)
		return ret;
	value = malloc(in->size + 1u);
	if (!value)
		ret = -ENOMEM;
	else if (iov_read(&data, value, in->size) != in->size)
		ret = -EINVAL;
	if (ret == 0) {
		if (xattr_is_acl(req->name))
			creds_kill_suidgid(in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);
		ret = setxattr(t.name, req->name, value, in->size, (int)in->flags) < 0 ? -errno : 0;
	}
	xattr_target_put(s, &t);
	return ret;
}

ssize_t filefs_removexattr(struct filefs_session *s, struct fs_req *req)
{
	struct xattr_target t;
	int ret;

	if (xattr_hidden(s, req->name))
		return -EOPNOTSUPP;
	ret = xattr_target_get(s, req->nodeid, &t);
	if (ret < 0)
		return ret;
	ret = removexattr(t.name, req->name) < 0 ? -errno : 0;
	xattr_target_put(s, &t);
	return ret;
}

ssize_t filefs_getxattr(struct filefs_session *s, struct fs_req *req)
{
	size_t size = MIN((size_t)req->in.getxattr.size, (size_t)XATTR_SIZE_MAX);
	struct iov_cursor reply = req->reply;
	CLEANUP_FREE char *big = NULL;
	char stack[XATTR_STACK], *buf = stack;
	struct xattr_target t;
	ssize_t n;
	int ret;

	if (xattr_hidden(s, req->name))
		return -EOPNOTSUPP;
	ret = xattr_target_get(s, req->nodeid, &t);
	if (ret < 0)
		return ret;
	if (size > sizeof(stack))
		buf = big = malloc(size);
	n = -ENOMEM;
	if (buf) {
		n = getxattr(t.name, req->name, buf, size);
		if (n < 0)
			n = -errno;
	}
	xattr_target_put(s, &t);
	if (n < 0)
		return n;
	if (!size) {
		req->out.xattr_size = (uint32_t)n;
		return 0;
	}
	return (ssize_t)iov_write(&reply, buf, (size_t)n);
}

/* Takes the hidden names out of a list; returns its new length. */
static size_t xattr_list_filter(const struct filefs_session *s, char *list, size_t len)
{
	size_t from = 0, to = 0;

	while (from < len) {
		size_t n = strnlen(list + from, len - from) + 1;

		if (n > len - from)
			break;
		if (!xattr_hidden(s, list + from)) {
			memmove(list + to, list + from, n);
			to += n;
		}
		from += n;
	}
	return to;
}

ssize_t filefs_listxattr(struct filefs_session *s, struct fs_req *req)
{
	size_t size = req->in.getxattr.size;
	struct iov_cursor reply = req->reply;
	CLEANUP_FREE char *big = NULL;
	char stack[XATTR_STACK], *buf = stack;
	struct xattr_target t;
	ssize_t n;
	int ret;

	ret = xattr_target_get(s, req->nodeid, &t);
	if (ret < 0)
		return ret;
	/* The whole list, whatever the guest has room for: it is shorter after
	 * filtering. */
	n = listxattr(t.name, stack, sizeof(stack));
	if (n < 0 && errno == ERANGE) {
		buf = big = malloc(XATTR_LIST_MAX);
		n = big ? listxattr(t.name, big, XATTR_LIST_MAX) : (errno = ENOMEM, -1);
	}
	if (n < 0)
		n = -errno;
	xattr_target_put(s, &t);
	if (n < 0)
		return n;
	n = (ssize_t)xattr_list_filter(s, buf, (size_t)n);
	if (!size) {
		req->out.xattr_size = (uint32_t)n;
		return 0;
	}
	if ((size_t)n > size)
		return -ERANGE;
	return (ssize_t)iov_write(&reply, buf, (size_t)n);
}
