/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File data: READ, WRITE, FALLOCATE, LSEEK, SYNCFS.
 *
 * READ and WRITE go between guest memory and the cache, on the queue's thread. A READ that
 * misses is parked in the request's own memory until the fetch is there; a WRITE that has to wait
 * (for room, or for a piece of a block that it changes) goes to the writers, a pool of their own,
 * so that a storage that takes no data stops no `ls`.
 *
 * A handle that finds its version gone at its very first READ was opened on an old
 * belief: somebody replaced the object within the attribute time-out. As it has shown
 * nothing of the old version yet, it is moved to the new one. Any later, it is ESTALE.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

/* What READ keeps in the request. */
struct read_wait {
	struct cache_wait wait;
	struct fs_req *req;
	struct handle *handle;
	bool again; /* on the new version */
};
_Static_assert(sizeof(struct read_wait) <= FS_REQ_DRIVER_SIZE, "driver's part of a request");

static struct read_wait *read_wait_of(struct fs_req *req)
{
	return (struct read_wait *)(void *)req->driver;
}

static ssize_t read_finish(struct read_wait *r, ssize_t result);

/* cache_wait.done */
static void read_done(struct cache_wait *wait, ssize_t result)
{
	struct read_wait *r = container_of(wait, struct read_wait, wait);
	struct fs_req *req = r->req;

	result = read_finish(r, result);
	if (result != FS_PENDING)
		fs_req_complete(req, result);
}

static ssize_t read_start(struct read_wait *r)
{
	struct fs_req *req = r->req;
	struct handle *h = r->handle;
	size_t length = MIN((size_t)req->in.read.size, req->reply_size);
	ssize_t n = cache_read(atomic_load_explicit(&h->file, memory_order_acquire), h->stream,
			       req->in.read.offset, length, &req->reply, &r->wait, read_done);

	return n == CACHE_PENDING ? FS_PENDING : read_finish(r, n);
}

/* On a worker: what is the object now? */
static ssize_t read_reopen(struct read_wait *r)
{
	struct objectfs *fs = objectfs_of(objectfs_session_of(r->req->session));
	struct handle *h = r->handle;
	struct cache_file *old = atomic_load(&h->file), *file = NULL;
	int ret;

	ret = objectfs_refresh(fs, h->node, loop_now_ns(), NULL);
	tree_lock(&fs->tree);
	if (!ret && file_get(fs, h->node, &file) < 0)
		file = NULL;
	/* Once for a handle, and only while it has shown nothing. */
	if (file && file != old && !h->former && atomic_load(&h->file) == old &&
	    !atomic_load(&h->delivered)) {
		h->former = old; /* others may be reading it */
		atomic_store(&h->file, cache_file_ref(file));
	}
	tree_unlock(&fs->tree);
	if (file)
		cache_file_put(file);
	r->again = true;
	if (atomic_load(&h->file) == old)
		return read_finish(r, -ESTALE);
	return read_start(r);
}

static void read_reopen_run(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);
	ssize_t result = read_reopen(read_wait_of(req));

	if (result != FS_PENDING)
		fs_req_complete(req, result);
}

/* The handle is given back, unless it is tried once more. */
static ssize_t read_finish(struct read_wait *r, ssize_t result)
{
	struct objectfs_session *s = objectfs_session_of(r->req->session);
	struct handle *h = r->handle;

	/* Once: other queues read the handle's cache line. */
	if (result > 0 && !atomic_load_explicit(&h->delivered, memory_order_relaxed))
		atomic_store_explicit(&h->delivered, true, memory_order_relaxed);
	if (unlikely(result == -ESTALE) && !r->again && !(h->flags & HANDLE_WRITE) &&
	    !atomic_load(&h->delivered)) {
		fs_req_defer(r->req, objectfs_of(s)->workers, read_reopen_run);
		return FS_PENDING;
	}
	handle_put(s, h);
	return result;
}

ssize_t objectfs_read(struct objectfs_session *s, struct fs_req *req)
{
	struct read_wait *r = read_wait_of(req);

	r->req = req;
	r->again = false;
	r->handle = handle_get(s, req->in.read.fh, HANDLE_READ);
	if (!r->handle)
		return -EBADF;
	return read_start(r);
}

/* ---- WRITE ---- */

int io_commit(struct objectfs *fs, struct node *n, struct cache_file *file)
{
	int ret = cache_commit(file);

	tree_lock(&fs->tree);
	file_digest(fs, n);
	tree_unlock(&fs->tree);
	return ret;
}

ssize_t objectfs_write(struct objectfs_session *s, struct fs_req *req)
{
	const struct fuse_write_in *in = &req->in.write;
	struct handle *h = handle_get(s, in->fh, HANDLE_WRITE);
	ssize_t n = OP_DEFER;

	if (!h)
		return -EBADF;
	if (!(h->flags & HANDLE_SYNC)) {
		n = cache_write(atomic_load(&h->file), in->offset, in->size, &req->data,
				h->flags & HANDLE_APPEND);
		if (n == -EAGAIN)
			n = OP_DEFER;
		else if (n > 0)
			handle_changed(s, h);
	}
	handle_put(s, h);
	return n;
}

ssize_t objectfs_write_slow(struct objectfs_session *s, struct fs_req *req)
{
	const struct fuse_write_in *in = &req->in.write;
	struct handle *h = handle_get(s, in->fh, HANDLE_WRITE);
	ssize_t n;

	if (!h)
		return -EBADF;
	n = cache_write_wait(atomic_load(&h->file), in->offset, in->size, &req->data,
			     h->flags & HANDLE_APPEND);
	if (n > 0)
		handle_changed(s, h);
	if (n > 0 && (h->flags & HANDLE_SYNC)) {
		int ret = io_commit(objectfs_of(s), h->node, atomic_load(&h->file));

		n = ret ? ret : n;
	}
	handle_put(s, h);
	return n;
}

/* ---- The rest ---- */

/*
 * To make a file longer is all that can be done: nothing is set aside in an object store,
 * and a hole in an object is zeros that are stored.
 */
ssize_t objectfs_fallocate(struct objectfs_session *s, struct fs_req *req)
{
	const struct fuse_fallocate_in *in = &req->in.fallocate;
	uint64_t end = in->offset + in->length;
	struct cache_file *file;
	struct handle *h;
	int ret = 0;

	if (in->mode)
		return -EOPNOTSUPP;
	if (end < in->offset || end > INT64_MAX)
		return -EFBIG;
	h = handle_get(s, in->fh, HANDLE_WRITE);
	if (!h)
		return -EBADF;
	file = atomic_load(&h->file);
	if (cache_file_size(file) < end) {
		ret = cache_extend(file, end); /* somebody may be writing more just now */
		if (!ret)
			handle_changed(s, h);
	}
	handle_put(s, h);
	return ret;
}

/* All is data, up to the end: where an object has zeros only is not known. */
ssize_t objectfs_lseek(struct objectfs_session *s, struct fs_req *req)
{
	const struct fuse_lseek_in *in = &req->in.lseek;
	struct handle *h = handle_get(s, in->fh, 0);
	uint64_t size;

	if (!h)
		return -EBADF;
	size = cache_file_size(atomic_load(&h->file));
	handle_put(s, h);
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	if (in->offset >= size)
		return -ENXIO;
	req->out.lseek.offset = in->whence == SEEK_DATA ? in->offset : size;
	return 0;
}

ssize_t objectfs_syncfs(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	int ret = cache_storage_sync_session(fs->cache, s->number);

	(void)req;
	file_reap(fs);
	return ret;
}
