/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File data: READ, WRITE, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE, SYNCFS.
 *
 * READ and WRITE go straight between guest memory and the file. On the queue
 * thread a READ takes what is in the host's page cache (RWF_NOWAIT); when
 * something is missing, a worker does it again from the start.
 */
/* #syscalls preadv2 pwritev2 fsync fdatasync fallocate lseek copy_file_range syncfs */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/filefs/creds.h"
#include "fs/filefs/internal.h"

/* A read that ends inside a page has seen the end of the file: a page that is in the
 * cache is there whole. */
#define IO_PAGE 4096u

/*
 * preadv2 until @len bytes or the end of the file. Returns the bytes, or a
 * negative errno when there are none; with RWF_NOWAIT -EAGAIN when any part would have
 * to wait.
 */
static ssize_t io_read(int fd, struct iov_cursor to, size_t len, uint64_t offset, int flags)
{
	struct iovec iov[IOV_MAX];
	size_t done = 0;

	while (done < len) {
		struct iov_cursor rest = to;
		size_t bytes, count = iov_take(&rest, len - done, iov, IOV_MAX, &bytes);
		ssize_t n;

		if (!count)
			break;
		n = preadv2(fd, iov, (int)count, (off_t)(offset + done), flags);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (!done || errno == EAGAIN)
				return -errno;
			break;
		}
		if (n == 0)
			break;
		iov_skip(&to, (size_t)n);
		done += (size_t)n;
		if ((size_t)n < bytes && (offset + done) % IO_PAGE)
			break;
	}
	return (ssize_t)done;
}

/* pwritev2 of all @len bytes; fewer when an error follows some that were written. */
static ssize_t io_write(int fd, struct iov_cursor from, size_t len, uint64_t offset)
{
	struct iovec iov[IOV_MAX];
	size_t done = 0;

	while (done < len) {
		struct iov_cursor rest = from;
		size_t count = iov_take(&rest, len - done, iov, IOV_MAX, NULL);
		ssize_t n;

		if (!count)
			break;
		n = pwritev2(fd, iov, (int)count, (off_t)(offset + done), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (!done && n < 0)
				return -errno;
			break;
		}
		iov_skip(&from, (size_t)n);
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static bool io_range_ok(uint64_t offset, uint64_t len)
{
	return offset <= INT64_MAX && len <= INT64_MAX - offset;
}

ssize_t filefs_read(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_read_in *in = &req->in.read;
	size_t len = MIN(req->reply_size, (size_t)in->size);
	struct handle *h = filefs_handle_get(s, in->fh, false);
	struct mount *mount;
	int flags = 0;
	ssize_t n;

	if (!h)
		return -EBADF;
	mount = &filefs_of(s)->mounts.table[h->mount];
	if (!mount->memory)
		flags = RWF_NOWAIT;
	if (mount->remote || (atomic_load(&h->flags) & HANDLE_SLOW_READ) ||
	    (flags && atomic_load_explicit(&mount->nowait_broken, memory_order_relaxed)))
		n = -EAGAIN;
	else if (!io_range_ok(in->offset, len))
		n = -EINVAL;
	else
		n = io_read(h->fd, req->reply, len, in->offset, flags);
	if (n == -EOPNOTSUPP && flags) {
		atomic_store(&mount->nowait_broken, true);
		n = -EAGAIN;
	}
	filefs_handle_put(s, h);
	return n == -EAGAIN ? filefs_defer(s, req) : n;
}

ssize_t filefs_read_blocking(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_read_in *in = &req->in.read;
	size_t len = MIN(req->reply_size, (size_t)in->size);
	struct handle *h = filefs_handle_get(s, in->fh, false);
	ssize_t n;

	if (!h)
		return -EBADF;
	n = io_range_ok(in->offset, len) ? io_read(h->fd, req->reply, len, in->offset, 0) : -EINVAL;
	filefs_handle_put(s, h);
	return n;
}

static ssize_t io_write_handle(struct handle *h, const struct fs_req *req)
{
	const struct fuse_write_in *in = &req->in.write;

	if (!io_range_ok(in->offset, in->size))
		return -EFBIG;
	creds_kill_suidgid(in->write_flags & FUSE_WRITE_KILL_SUIDGID);
	return io_write(h->fd, req->data, in->size, in->offset);
}

ssize_t filefs_write(struct filefs_session *s, struct fs_req *req)
{
	struct handle *h = filefs_handle_get(s, req->in.write.fh, false);
	const struct mount *mount;
	ssize_t n;

	if (!h)
		return -EBADF;
	mount = &filefs_of(s)->mounts.table[h->mount];
	if (mount->remote || (!mount->memory && (atomic_load(&h->flags) & HANDLE_SLOW_WRITE))) {
		filefs_handle_put(s, h);
		return filefs_defer(s, req);
	}
	n = io_write_handle(h, req);
	filefs_handle_put(s, h);
	return n;
}

ssize_t filefs_write_blocking(struct filefs_session *s, struct fs_req *req)
{
	struct handle *h = filefs_handle_get(s, req->in.write.fh, false);
	ssize_t n;

	if (!h)
		return -EBADF;
	n = io_write_handle(h, req);
	filefs_handle_put(s, h);
	return n;
}

/* FSYNC and FSYNCDIR. */
ssize_t filefs_fsync(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_fsync_in *in = &req->in.fsync;
	struct handle *h = filefs_handle_get(s, in->fh, req->opcode == FUSE_FSYNCDIR);
	int ret;

	if (!h)
		return -EBADF;
	ret = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd);
	ret = ret < 0 ? -errno : 0;
	filefs_handle_put(s, h);
	return ret;
}

ssize_t filefs_fallocate(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_fallocate_in *in = &req->in.fallocate;
	struct handle *h = filefs_handle_get(s, in->fh, false);
	int ret;

	if (!h)
		return -EBADF;
	/* Like a write; but this request has no flag to say who the caller is. */
	creds_kill_suidgid(req->uid != 0);
	/* The host judges ranges and modes. */
	ret = fallocate(h->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? -errno
											: 0;
	filefs_handle_put(s, h);
	return ret;
}

ssize_t filefs_lseek(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_lseek_in *in = &req->in.lseek;
	struct handle *h;
	off_t pos;

	/* The guest knows all other kinds itself; the descriptor's position is nobody's. */
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	h = filefs_handle_get(s, in->fh, false);
	if (!h)
		return -EBADF;
	pos = lseek(h->fd, (off_t)in->offset, (int)in->whence);
	if (pos >= 0)
		req->out.lseek.offset = (uint64_t)pos;
	else
		pos = -errno;
	filefs_handle_put(s, h);
	return pos < 0 ? pos : 0;
}

ssize_t filefs_copy_file_range(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_copy_file_range_in *in = &req->in.copy_file_range;
	struct handle *from, *to;
	off_t off_in = (off_t)in->off_in, off_out = (off_t)in->off_out;
	ssize_t n = -EBADF;

	if (in->flags)
		return -EINVAL;
	from = filefs_handle_get(s, in->fh_in, false);
	to = filefs_handle_get(s, in->fh_out, false);
	if (from && to) {
		creds_kill_suidgid(req->uid != 0);
		/* The reply's narrow form has 32 bits; MAX_RW_COUNT keeps below that. */
		n = copy_file_range(from->fd, &off_in, to->fd, &off_out,
				    MIN(in->len, (uint64_t)SSIZE_MAX), 0);
		if (n < 0)
			n = -errno;
	}
	if (from)
		filefs_handle_put(s, from);
	if (to)
		filefs_handle_put(s, to);
	return n;
}

ssize_t filefs_syncfs(struct filefs_session *s, struct fs_req *req)
{
	struct inode *inode = inode_get(&s->inodes, req->nodeid);
	const struct mount *mount;
	int ret;

	if (!inode)
		return -ESTALE;
	mount = &filefs_of(s)->mounts.table[atomic_load(&inode->mount)];
	ret = syncfs(mount->fd) < 0 ? -errno : 0;
	inode_put(&s->inodes, inode);
	return ret;
}
