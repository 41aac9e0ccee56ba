/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names to nodeids, and back: LOOKUP, FORGET, BATCH_FORGET.
 *
 * A name whose inode the guest knows, or knew not long ago (memo.h), costs one statx. A
 * new one costs a name_to_handle_at more, or where there are no handles an openat and a statx of
 * what was opened.
 */
/* #syscalls statx name_to_handle_at openat close */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/filefs/internal.h"

static void lookup_key(const struct statx *stx, uint32_t mount, struct inode_key *key)
{
	key->mount = mount;
	key->type = stx->stx_mode & S_IFMT;
	key->ino = stx->stx_ino;
	key->btime_ns =
		stx->stx_mask & STATX_BTIME
			? (uint64_t)stx->stx_btime.tv_sec * 1000000000u + stx->stx_btime.tv_nsec
			: 0;
	key->verified = false;
	key->handle_len = 0;
	key->handle_type = 0;
}

static void lookup_reply(struct filefs_session *s, const struct inode *parent, uint32_t mount,
			 const struct statx *stx, uint64_t nodeid, struct fuse_entry_out *entry)
{
	struct filefs *fs = filefs_of(s);

	memset(entry, 0, sizeof(*entry));
	entry->nodeid = nodeid;
	filefs_entry_timeout(fs, false, &entry->entry_valid, &entry->entry_valid_nsec);
	filefs_attr_timeout(fs, &entry->attr_valid, &entry->attr_valid_nsec);
	filefs_attr_fill(fs, stx, &entry->attr);
	if (mount != atomic_load(&parent->mount) && S_ISDIR(stx->stx_mode) &&
	    (s->flags & FUSE_SUBMOUNTS))
		entry->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

/* Where there are no handles: holds the inode open. @stx and @mount become
 * those of what was opened. Consumes the reference to *@mount. */
static int lookup_add_open(struct filefs_session *s, int dirfd, const char *name, struct statx *stx,
			   unsigned *mount, uint64_t *nodeid)
{
	struct mounts *mounts = &filefs_of(s)->mounts;
	struct inode_key key;
	int fd, ret;

	fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		mounts_put(mounts, *mount);
		return ret;
	}
	ret = filefs_stat_fd(fd, stx);
	if (ret == 0)
		ret = mounts_get(mounts, *mount, stx, fd, "");
	mounts_put(mounts, *mount);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	*mount = (unsigned)ret;
	lookup_key(stx, *mount, &key);
	return inode_add(&s->inodes, &key, fd, true, nodeid, NULL);
}

int filefs_lookup_name(struct filefs_session *s, const struct inode *parent, int dirfd,
		       const char *name, bool made, struct fuse_entry_out *entry)
{
	struct mounts *mounts = &filefs_of(s)->mounts;
	unsigned near = atomic_load(&parent->mount), mount;
	struct inode_key key;
	struct statx stx;
	uint64_t nodeid;
	int ret;

	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW, FILEFS_STATX_MASK, &stx) < 0)
		return -errno;
	ret = mounts_get(mounts, near, &stx, dirfd, name);
	if (ret < 0)
		return ret;
	mount = (unsigned)ret;
	lookup_key(&stx, mount, &key);
	if (inode_find(&s->inodes, &key, made, &nodeid) == INODE_FOUND) {
		mounts_put(mounts, mount);
		lookup_reply(s, parent, mount, &stx, nodeid, entry);
		return 0;
	}
	ret = -EOPNOTSUPP;
	if (key.handle_len)
		ret = 0;
	else if (mounts->table[mount].handles)
		ret = inode_key_handle(&key, dirfd, name);
	if (ret == 0) {
		ret = inode_add(&s->inodes, &key, -1, key.verified, &nodeid, NULL);
	} else if (ret == -EOPNOTSUPP) {
		ret = lookup_add_open(s, dirfd, name, &stx, &mount, &nodeid);
	} else {
		mounts_put(mounts, mount);
	}
	if (ret == 0)
		lookup_reply(s, parent, mount, &stx, nodeid, entry);
	return ret;
}

int filefs_lookup_fd(struct filefs_session *s, const struct inode *parent, int fd,
		     struct statx *stx, struct fuse_entry_out *entry, struct inode **out)
{
	struct filefs *fs = filefs_of(s);
	struct mounts *mounts = &fs->mounts;
	unsigned mount;
	struct inode_key key;
	uint64_t nodeid;
	int path = -1, ret;

	ret = filefs_stat_fd(fd, stx);
	if (ret == 0)
		ret = mounts_get(mounts, atomic_load(&parent->mount), stx, fd, "");
	if (ret < 0)
		return ret;
	mount = (unsigned)ret;
	lookup_key(stx, mount, &key);
	if (!mounts->table[mount].handles || inode_key_handle(&key, fd, "") < 0) {
		char name[16];

		snprintf(name, sizeof(name), "%d", fd);
		path = openat(fs->proc_self_fd, name, O_PATH | O_CLOEXEC);
		if (path < 0) {
			ret = -errno;
			mounts_put(mounts, mount);
			return ret;
		}
	}
	ret = inode_add(&s->inodes, &key, path, true, &nodeid, out);
	if (ret == 0)
		lookup_reply(s, parent, mount, stx, nodeid, entry);
	return ret;
}

ssize_t filefs_lookup(struct filefs_session *s, struct fs_req *req)
{
	struct fuse_entry_out *entry = &req->out.entry;
	struct filefs *fs = filefs_of(s);
	struct inode *parent = inode_get(&s->inodes, req->nodeid);
	struct inode_fd dir;
	int ret;

	if (!parent)
		return -ESTALE;
	ret = inode_fd_get(&s->inodes, parent, &dir);
	if (ret == 0) {
		ret = filefs_lookup_name(s, parent, dir.fd, req->name, false, entry);
		inode_fd_put(&dir);
	}
	inode_put(&s->inodes, parent);
	if (ret == -ENOENT && fs->config.negative_timeout_ns) {
		memset(entry, 0, sizeof(*entry));
		filefs_entry_timeout(fs, true, &entry->entry_valid, &entry->entry_valid_nsec);
		if (entry->entry_valid || entry->entry_valid_nsec)
			return 0;
	}
	return ret;
}

ssize_t filefs_forget(struct filefs_session *s, struct fs_req *req)
{
	inode_forget(&s->inodes, req->nodeid, req->in.forget.nlookup);
	return 0;
}

ssize_t filefs_batch_forget(struct filefs_session *s, struct fs_req *req)
{
	struct iov_cursor c = req->data;
	struct fuse_forget_one one;

	for (uint32_t i = 0; i < req->in.batch_forget.count; i++) {
		if (iov_read(&c, &one, sizeof(one)) != sizeof(one))
			break;
		inode_forget(&s->inodes, one.nodeid, one.nlookup);
	}
	return 0;
}
