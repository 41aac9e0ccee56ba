/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes: GETATTR, STATX, SETATTR, STATFS. */
/* #syscalls statx fstatfs fchownat fchown fchmodat fchmod ftruncate utimensat openat close */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/filefs/creds.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

int filefs_stat_fd(int fd, struct statx *stx)
{
	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, FILEFS_STATX_MASK, stx) < 0)
		return -errno;
	return 0;
}

uint64_t filefs_guest_ino(const struct filefs *fs, dev_t dev, uint64_t ino)
{
	uint64_t mix;

	/* A guest that knows of submounts sees them as file systems of their own. */
	if (dev == fs->root_dev || fs->config.announce_submounts)
		return ino;
	mix = ((uint64_t)dev * 0x9e3779b97f4a7c15ull) >> 48;
	return ino ^ ((mix ? mix : 1) << 48);
}

/* The kernel's 32-bit form of a device number (new_encode_dev). */
static uint32_t attr_rdev(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

/* With a cache: what the host does not have yet. */
static void attr_show_data(const struct filefs *fs, const struct statx *stx, struct fuse_attr *attr)
{
	struct timespec mtime = { (time_t)attr->mtime, attr->mtimensec };

	data_show(fs, stx, &attr->size, &attr->blocks, &mtime);
	attr->mtime = (uint64_t)mtime.tv_sec;
	attr->mtimensec = (uint32_t)mtime.tv_nsec;
}

void filefs_attr_fill(const struct filefs *fs, const struct statx *stx, struct fuse_attr *attr)
{
	dev_t dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);

	*attr = (struct fuse_attr){
		.ino = filefs_guest_ino(fs, dev, stx->stx_ino),
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.atime = (uint64_t)stx->stx_atime.tv_sec,
		.mtime = (uint64_t)stx->stx_mtime.tv_sec,
		.ctime = (uint64_t)stx->stx_ctime.tv_sec,
		.atimensec = stx->stx_atime.tv_nsec,
		.mtimensec = stx->stx_mtime.tv_nsec,
		.ctimensec = stx->stx_ctime.tv_nsec,
		.mode = stx->stx_mode,
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.rdev = attr_rdev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.blksize = stx->stx_blksize,
	};
	if (fs->data)
		attr_show_data(fs, stx, attr);
}

static uint64_t attr_cache_ns(const struct filefs *fs, uint64_t configured)
{
	switch (fs->config.cache) {
	case FILEFS_CACHE_NEVER:
		return 0;
	case FILEFS_CACHE_ALWAYS:
		return 86400ull * 1000000000ull;
	case FILEFS_CACHE_AUTO:
	case FILEFS_CACHE_METADATA:
		break;
	}
	return configured;
}

static void attr_split_ns(uint64_t ns, uint64_t *sec, uint32_t *nsec)
{
	*sec = ns / 1000000000u;
	*nsec = (uint32_t)(ns % 1000000000u);
}

void filefs_attr_timeout(const struct filefs *fs, uint64_t *sec, uint32_t *nsec)
{
	attr_split_ns(attr_cache_ns(fs, fs->config.attr_timeout_ns), sec, nsec);
}

void filefs_entry_timeout(const struct filefs *fs, bool negative, uint64_t *sec, uint32_t *nsec)
{
	uint64_t ns = attr_cache_ns(fs, fs->config.entry_timeout_ns);

	/* "always" stretches what is there; what is not there yet may well come. */
	if (negative)
		ns = fs->config.cache == FILEFS_CACHE_NEVER ? 0 : fs->config.negative_timeout_ns;
	attr_split_ns(ns, sec, nsec);
}

/* A descriptor for an operation on an inode: of its open handle when the
 * request names one, else the inode's O_PATH one. */
struct attr_target {
	struct inode *inode;
	struct handle *handle; /* NULL: path */
	struct inode_fd path;
	int fd;
};

static int attr_target_get(struct filefs_session *s, uint64_t nodeid, bool with_fh, uint64_t fh,
			   struct attr_target *t)
{
	int ret;

	*t = (struct attr_target){ .inode = inode_get(&s->inodes, nodeid) };
	if (!t->inode)
		return -ESTALE;
	if (with_fh) {
		t->handle = slot_get(&s->handles, fh);
		/* A handle of some other file would answer for the wrong one. */
		if (t->handle && t->handle->inode == t->inode->slot.index) {
			t->fd = t->handle->fd;
			return 0;
		}
		if (t->handle)
			filefs_handle_put(s, t->handle);
		inode_put(&s->inodes, t->inode);
		return -EBADF;
	}
	ret = inode_fd_get(&s->inodes, t->inode, &t->path);
	if (ret < 0)
		inode_put(&s->inodes, t->inode);
	t->fd = t->path.fd;
	return ret;
}

static void attr_target_put(struct filefs_session *s, struct attr_target *t)
{
	if (t->handle)
		filefs_handle_put(s, t->handle);
	else
		inode_fd_put(&t->path);
	inode_put(&s->inodes, t->inode);
}

static ssize_t attr_reply(struct filefs_session *s, struct fs_req *req, const struct attr_target *t)
{
	struct filefs *fs = filefs_of(s);
	struct fuse_attr_out *out = &req->out.attr;
	struct statx stx;
	int ret = filefs_stat_fd(t->fd, &stx);

	if (ret < 0)
		return ret;
	memset(out, 0, sizeof(*out));
	filefs_attr_timeout(fs, &out->attr_valid, &out->attr_valid_nsec);
	filefs_attr_fill(fs, &stx, &out->attr);
	return 0;
}

ssize_t filefs_getattr(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_getattr_in *in = &req->in.getattr;
	struct attr_target t;
	ssize_t ret;

	ret = attr_target_get(s, req->nodeid, in->getattr_flags & FUSE_GETATTR_FH, in->fh, &t);
	if (ret < 0)
		return ret;
	ret = attr_reply(s, req, &t);
	attr_target_put(s, &t);
	return ret;
}

static struct fuse_sx_time attr_sx_time(const struct statx_timestamp *ts)
{
	return (struct fuse_sx_time){ .tv_sec = ts->tv_sec, .tv_nsec = ts->tv_nsec };
}

static void attr_statx_fill(const struct filefs *fs, const struct statx *stx,
			    struct fuse_statx *out)
{
	dev_t dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);

	*out = (struct fuse_statx){
		.mask = stx->stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
		.blksize = stx->stx_blksize,
		.attributes = stx->stx_attributes,
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.mode = stx->stx_mode,
		.ino = filefs_guest_ino(fs, dev, stx->stx_ino),
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.attributes_mask = stx->stx_attributes_mask,
		.atime = attr_sx_time(&stx->stx_atime),
		.btime = attr_sx_time(&stx->stx_btime),
		.ctime = attr_sx_time(&stx->stx_ctime),
		.mtime = attr_sx_time(&stx->stx_mtime),
		.rdev_major = stx->stx_rdev_major,
		.rdev_minor = stx->stx_rdev_minor,
		.dev_major = stx->stx_dev_major,
		.dev_minor = stx->stx_dev_minor,
	};
	if (fs->data) {
		struct timespec mtime = { stx->stx_mtime.tv_sec, stx->stx_mtime.tv_nsec };

		data_show(fs, stx, &out->size, &out->blocks, &mtime);
		out->mtime.tv_sec = mtime.tv_sec;
		out->mtime.tv_nsec = (uint32_t)mtime.tv_nsec;
	}
}

ssize_t filefs_statx(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_statx_in *in = &req->in.statx;
	struct fuse_statx_out *out = &req->out.statx;
	struct filefs *fs = filefs_of(s);
	struct attr_target t;
	struct statx stx;
	int ret;

	ret = attr_target_get(s, req->nodeid, in->getattr_flags & FUSE_GETATTR_FH, in->fh, &t);
	if (ret < 0)
		return ret;
	ret = filefs_stat_fd(t.fd, &stx);
	if (ret == 0) {
		memset(out, 0, sizeof(*out));
		filefs_attr_timeout(fs, &out->attr_valid, &out->attr_valid_nsec);
		attr_statx_fill(fs, &stx, &out->stat);
	}
	attr_target_put(s, &t);
	return ret;
}

static int setattr_owner(const struct fuse_setattr_in *in, int fd)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int setattr_mode(struct filefs *fs, const struct fuse_setattr_in *in,
			const struct attr_target *t)
{
	mode_t mode = in->mode & 07777;
	char name[16];

	/* The guest's kernel has decided whether the caller may set the set-gid bit. */
	creds_kill_suidgid(false);
	if (t->handle)
		return fchmod(t->fd, mode) < 0 ? -errno : 0;
	if (t->inode->type == S_IFLNK)
		return -EOPNOTSUPP;
	snprintf(name, sizeof(name), "%d", t->fd);
	return fchmodat(fs->proc_self_fd, name, mode, 0) < 0 ? -errno : 0;
}

static int setattr_size(struct filefs_session *s, const struct fuse_setattr_in *in,
			const struct attr_target *t)
{
	CLEANUP_CLOSE int own = -1;
	int fd = t->fd;

	if (in->size > INT64_MAX)
		return -EFBIG;
	if (t->inode->type != S_IFREG)
		return t->inode->type == S_IFDIR ? -EISDIR : -EINVAL;
	if (!t->handle) {
		own = fd = inode_open(&s->inodes, t->inode, O_WRONLY);
		if (fd < 0)
			return fd;
	}
	creds_kill_suidgid(in->valid & FATTR_KILL_SUIDGID);
	return ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
}

static int setattr_times(const struct fuse_setattr_in *in, int fd)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };

	if (in->valid & FATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_ATIME)
		ts[0] = (struct timespec){ (time_t)in->atime, (long)in->atimensec };
	if (in->valid & FATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_MTIME)
		ts[1] = (struct timespec){ (time_t)in->mtime, (long)in->mtimensec };
	return utimensat(fd, "", ts, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* The mode after owner and size: a change of either takes set-id bits off. */
static int setattr_apply(struct filefs_session *s, const struct fuse_setattr_in *in,
			 const struct attr_target *t)
{
	const uint32_t times = FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW;
	int ret = 0;

	if (in->valid & (FATTR_UID | FATTR_GID))
		ret = setattr_owner(in, t->fd);
	if (ret == 0 && (in->valid & FATTR_SIZE))
		ret = setattr_size(s, in, t);
	if (ret == 0 && (in->valid & FATTR_MODE))
		ret = setattr_mode(filefs_of(s), in, t);
	if (ret == 0 && (in->valid & times))
		ret = setattr_times(in, t->fd);
	return ret;
}

ssize_t filefs_setattr(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_setattr_in *in = &req->in.setattr;
	struct attr_target t;
	ssize_t ret;

	ret = attr_target_get(s, req->nodeid, in->valid & FATTR_FH, in->fh, &t);
	if (ret < 0)
		return ret;
	ret = setattr_apply(s, in, &t);
	if (ret == 0)
		ret = attr_reply(s, req, &t);
	attr_target_put(s, &t);
	return ret;
}

ssize_t filefs_statfs(struct filefs_session *s, struct fs_req *req)
{
	struct fuse_kstatfs *out = &req->out.statfs;
	struct attr_target t;
	struct statfs sfs;
	int ret;

	ret = attr_target_get(s, req->nodeid, false, 0, &t);
	if (ret < 0)
		return ret;
	ret = fstatfs(t.fd, &sfs) < 0 ? -errno : 0;
	attr_target_put(s, &t);
	if (ret < 0)
		return ret;
	*out = (struct fuse_kstatfs){
		.blocks = sfs.f_blocks,
		.bfree = sfs.f_bfree,
		.bavail = sfs.f_bavail,
		.files = sfs.f_files,
		.ffree = sfs.f_ffree,
		.bsize = (uint32_t)sfs.f_bsize,
		.namelen = (uint32_t)sfs.f_namelen,
		.frsize = (uint32_t)sfs.f_frsize,
	};
	return 0;
}
