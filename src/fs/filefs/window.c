/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in a guest's window: see struct fs_window_ops.
 *
 * A file that is mapped as it is stays open in the front end, not here; a copy of a range keeps a
 * descriptor, of the mount's budget, as long as it is there.
 *
 * A file is opened for writing whenever that is possible, so on the host it counts as open for
 * writing as long as a guest has it mapped: execve(2) of it fails there with ETXTBSY.
 *
 * When data goes through the cache, files are window_cached.c's.
 */
/* #syscalls openat open_by_handle_at statx pread64 pwrite64 close */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "fs/filefs/internal.h"

/* A file that was changed so short a time ago may change again without showing it: the times
 * of file systems move in steps. */
#define CHANGE_SETTLED_S 2

/* Opens for writing, too, if that can be. */
static int window_open_fd(struct filefs_session *s, struct inode *inode, bool write, bool *writable)
{
	int fd = -EROFS;

	if (!filefs_of(s)->config.readonly)
		fd = inode_open(&s->inodes, inode, O_RDWR);
	*writable = fd >= 0;
	if (fd < 0 && fd != -ESTALE && !write)
		fd = inode_open(&s->inodes, inode, O_RDONLY);
	return fd;
}

static int window_open_inode(struct filefs_session *s, struct inode *inode, bool write,
			     struct fs_window_file *file)
{
	struct filefs *fs = filefs_of(s);
	struct statx stx;
	int ret;

	if (inode->type != S_IFREG)
		return -EINVAL;
	if (!filefs_fd_take(fs))
		return -ENFILE;
	file->fd = window_open_fd(s, inode, write, &file->writable);
	ret = file->fd < 0 ? file->fd : filefs_stat_fd(file->fd, &stx);
	if (ret < 0) {
		if (file->fd >= 0)
			close(file->fd);
		filefs_fd_release(fs);
		return ret;
	}
	file->fs = &fs->fs;
	file->size = stx.stx_size;
	/* Who may not write to this one file may write to another, or to this one soon. */
	if (file->writable || fs->config.readonly)
		file->share = (struct fs_window_share){
			.fs = &fs->fs,
			.number = { (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor,
				    stx.stx_ino },
		};
	return 0;
}

static int window_open(struct fs_session *session, uint64_t nodeid, bool write,
		       struct fs_window_file *file)
{
	struct filefs_session *s = filefs_session_of(session);
	struct inode *inode = inode_get(&s->inodes, nodeid);
	int ret;

	*file = (struct fs_window_file){ .fd = -1, .nodeid = nodeid };
	if (!inode)
		return -ESTALE;
	ret = window_open_inode(s, inode, write, file);
	inode_put(&s->inodes, inode);
	return ret;
}

static void window_close(struct fs_window_file *file)
{
	close(file->fd);
	filefs_fd_release(container_of(file->fs, struct filefs, fs));
}

static uint64_t window_version(struct fs_window_file *file)
{
	uint64_t version = 0xcbf29ce484222325ull;
	struct timespec now;
	struct statx stx;

	if (filefs_stat_fd(file->fd, &stx) < 0)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	if (stx.stx_ctime.tv_sec > now.tv_sec - CHANGE_SETTLED_S)
		return 0;
	version = (version ^ (uint64_t)stx.stx_ctime.tv_sec) * 0x100000001b3ull;
	version = (version ^ stx.stx_ctime.tv_nsec) * 0x100000001b3ull;
	version = (version ^ (uint64_t)stx.stx_mtime.tv_sec) * 0x100000001b3ull;
	version = (version ^ stx.stx_mtime.tv_nsec) * 0x100000001b3ull;
	version = (version ^ stx.stx_size) * 0x100000001b3ull;
	return version | 1;
}

static ssize_t window_read(struct fs_window_file *file, void *buf, size_t size, uint64_t offset)
{
	ssize_t n = pread(file->fd, buf, size, (off_t)offset);

	return n < 0 ? -errno : n;
}

static ssize_t window_write(struct fs_window_file *file, const void *buf, size_t size,
			    uint64_t offset)
{
	struct statx stx;
	ssize_t n;

	/* A reload has made it so, while guests had it mapped. */
	if (container_of(file->fs, struct filefs, fs)->config.readonly)
		return -EROFS;
	/* The end of a file never moves by this. */
	n = filefs_stat_fd(file->fd, &stx);
	if (n < 0)
		return n;
	if (offset >= stx.stx_size)
		return 0;
	n = pwrite(file->fd, buf, MIN(size, stx.stx_size - offset), (off_t)offset);
	return n < 0 ? -errno : n;
}

const struct fs_window_ops filefs_window_ops = {
	.open = window_open,
	.close = window_close,
	.version = window_version,
	.read = window_read,
	.write = window_write,
};
