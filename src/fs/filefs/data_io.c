/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on files whose data goes through the cache.
 *
 * READ that hits, and WRITE with write-back, are done on the queue's thread, by copying. Whatever
 * may wait for the file runs on a thread of filefs_data.io: the *_blocking functions. Of a handle
 * without a datafile, the operations are the plain ones.
 *
 * Around the cache go: every WRITE without write-back; those of O_APPEND, which belong at the end
 * that the file has on the host then, and of O_SYNC; direct I/O; and all that changes a
 * file otherwise. That is a section (cache_bypass_begin()): what is dirty is written first, and
 * what the cache has of the range is dropped behind it.
 *
 * Locks of guests make their data coherent: who gives one back has written before, and
 * who takes one looks whether the file was changed.
 */
#include <errno.h>
#include <fcntl.h>

#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

static struct datafile *handle_data(const struct handle *h)
{
	return atomic_load_explicit(&h->data, memory_order_acquire);
}

/* The handle @fh, when it has a datafile: then *@d; else NULL. */
static struct handle *data_handle_get(struct filefs_session *s, uint64_t fh, struct datafile **d)
{
	struct handle *h = filefs_handle_get(s, fh, false);

	if (!h)
		return NULL;
	*d = handle_data(h);
	if (*d)
		return h;
	filefs_handle_put(s, h);
	return NULL;
}

/* ---- READ ---- */

/* What READ keeps in the request. */
struct data_wait {
	struct cache_wait wait;
	struct fs_req *req;
	struct handle *handle;
};
_Static_assert(sizeof(struct data_wait) <= FS_REQ_DRIVER_SIZE, "driver's part of a request");

/* cache_wait.done */
static void data_read_done(struct cache_wait *wait, ssize_t result)
{
	struct data_wait *w = container_of(wait, struct data_wait, wait);
	struct fs_req *req = w->req;

	filefs_handle_put(filefs_session_of(req->session), w->handle);
	fs_req_complete(req, result);
}

/* Consumes @h. */
static ssize_t data_read_cached(struct filefs_session *s, struct fs_req *req, struct handle *h,
				struct datafile *d)
{
	struct data_wait *w = (struct data_wait *)(void *)req->driver;
	size_t length = MIN((size_t)req->in.read.size, req->reply_size);
	ssize_t n;

	w->req = req;
	w->handle = h;
	n = cache_read(d->file, h->stream, req->in.read.offset, length, &req->reply, &w->wait,
		       data_read_done);
	if (n == CACHE_PENDING)
		return FS_PENDING;
	filefs_handle_put(s, h);
	return n;
}

/* Whether @h's READs, or this one, have to go around the cache. */
static bool data_reads_through(const struct handle *h, const struct fs_req *req)
{
	const struct fuse_read_in *in = &req->in.read;

	return (atomic_load_explicit(&h->flags, memory_order_relaxed) & HANDLE_THROUGH_READ) ||
	       in->offset > DATA_SIZE_MAX - in->size;
}

ssize_t data_read(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d;
	struct handle *h = data_handle_get(s, req->in.read.fh, &d);

	if (!h)
		return filefs_read(s, req);
	if (atomic_load_explicit(&d->suspect, memory_order_relaxed) || data_reads_through(h, req)) {
		filefs_handle_put(s, h);
		return filefs_defer(s, req);
	}
	return data_read_cached(s, req, h, d);
}

ssize_t data_read_blocking(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d;
	struct handle *h = data_handle_get(s, req->in.read.fh, &d);
	ssize_t ret = 0;

	if (!h)
		return filefs_read_blocking(s, req);
	if (data_reads_through(h, req)) {
		ret = cache_commit(d->file);
		filefs_handle_put(s, h);
		return ret < 0 ? ret : filefs_read_blocking(s, req);
	}
	if (atomic_load(&d->suspect))
		ret = data_refresh(d);
	if (ret < 0) {
		filefs_handle_put(s, h);
		return ret;
	}
	return data_read_cached(s, req, h, d);
}

/* ---- Sections ---- */

struct section {
	struct datafile *file;
	struct store_meta former;
};

/* 0, or why what is dirty could not be written, or the file not be looked at. */
static int section_begin(struct section *section, struct datafile *d)
{
	int ret = cache_bypass_begin(d->file);

	section->file = d;
	if (ret < 0)
		return ret;
	ret = data_stat(d->fd, &section->former);
	if (ret < 0)
		cache_bypass_end(d->file, NULL, NULL, 0, UINT64_MAX);
	/* What was dirty is known to be written: what the host shows from now on is newer. */
	data_begin();
	return ret;
}

/* [@start, @end) was written. *@now is what the file is. */
static void section_end(struct section *section, uint64_t start, uint64_t end)
{
	struct datafile *d = section->file;
	struct store_meta meta;
	bool known = data_stat(d->fd, &meta) == 0;

	/* What lies between two sizes is cut off, or new. */
	if (known && meta.size != section->former.size) {
		start = MIN(start, meta.size);
		start = MIN(start, section->former.size);
		end = UINT64_MAX;
	}
	cache_bypass_end(d->file, &section->former, known ? &meta : NULL, start, end);
}

/* ---- WRITE ---- */

static bool data_writes_through(struct filefs_session *s, const struct handle *h,
				const struct datafile *d, const struct fs_req *req)
{
	const struct fuse_write_in *in = &req->in.write;

	return !atomic_load_explicit(&filefs_of(s)->data->write_back, memory_order_relaxed) ||
	       (atomic_load_explicit(&h->flags, memory_order_relaxed) & HANDLE_THROUGH_WRITE) ||
	       ((in->write_flags & FUSE_WRITE_KILL_SUIDGID) && atomic_load(&d->setid)) ||
	       in->offset > DATA_SIZE_MAX - in->size;
}

/* In case that the file gets set-id bits from somebody on the host before it is written. */
static void data_note_kill(struct datafile *d, const struct fs_req *req)
{
	if ((req->in.write.write_flags & FUSE_WRITE_KILL_SUIDGID) && !atomic_load(&d->kill))
		atomic_store(&d->kill, true);
}

ssize_t data_write(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_write_in *in = &req->in.write;
	struct datafile *d;
	struct handle *h = data_handle_get(s, in->fh, &d);
	ssize_t n = -EAGAIN;

	if (!h)
		return filefs_write(s, req);
	if (!data_writes_through(s, h, d, req)) {
		data_note_kill(d, req);
		n = cache_write(d->file, in->offset, in->size, &req->data, false);
	}
	filefs_handle_put(s, h);
	return n == -EAGAIN ? filefs_defer(s, req) : n;
}

static ssize_t data_write_file(struct filefs_session *s, struct fs_req *req, struct handle *h,
			       struct datafile *d)
{
	const struct fuse_write_in *in = &req->in.write;
	uint64_t start = in->offset, end = UINT64_MAX;
	struct section section;
	ssize_t n = section_begin(&section, d);

	if (n < 0)
		return n;
	n = filefs_write_blocking(s, req);
	/* Where an append went is not known. */
	if (atomic_load(&h->flags) & HANDLE_THROUGH_WRITE)
		start = MIN(start, section.former.size);
	else
		end = n > 0 ? start + (uint64_t)n : start;
	section_end(&section, start, end);
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		atomic_store(&d->setid, false);
	return n;
}

ssize_t data_write_blocking(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_write_in *in = &req->in.write;
	struct datafile *d;
	struct handle *h = data_handle_get(s, in->fh, &d);
	ssize_t n;

	if (!h)
		return filefs_write_blocking(s, req);
	if (data_writes_through(s, h, d, req)) {
		n = data_write_file(s, req, h, d);
	} else {
		data_note_kill(d, req);
		n = cache_write_wait(d->file, in->offset, in->size, &req->data, false);
	}
	filefs_handle_put(s, h);
	return n;
}

/* ---- OPEN, and the way to the storage ---- */

int data_open_truncating(struct filefs_session *s, struct inode *inode, int flags)
{
	struct datafile *d = data_find_inode(filefs_of(s), inode);
	struct section section;
	int ret = d ? section_begin(&section, d) : 0;

	if (ret == 0) {
		ret = inode_open(&s->inodes, inode, flags);
		if (d)
			section_end(&section, 0, 0);
	}
	if (d)
		data_put(d);
	return ret;
}

ssize_t data_open_blocking(struct filefs_session *s, struct fs_req *req)
{
	ssize_t ret = filefs_open(s, req);

	return ret < 0 ? ret : data_attach(s, &req->out.open, req->in.open.flags);
}

ssize_t data_open(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d = req->in.open.flags & O_TRUNC ? data_find_node(s, req->nodeid) : NULL;

	if (d) {
		data_put(d);
		return filefs_defer(s, req);
	}
	return data_open_blocking(s, req);
}

static ssize_t data_created(struct filefs_session *s, struct fs_req *req, ssize_t ret)
{
	if (ret == 0)
		ret = data_attach(s, &req->out.open, req->in.create.flags);
	if (ret < 0 && req->out.entry.nodeid)
		inode_forget(&s->inodes, req->out.entry.nodeid, 1);
	return ret;
}

ssize_t data_create_blocking(struct filefs_session *s, struct fs_req *req)
{
	ssize_t ret = filefs_create(s, req);

	return ret < 0 ? ret : data_created(s, req, ret);
}

ssize_t data_create(struct filefs_session *s, struct fs_req *req)
{
	uint32_t flags = req->in.create.flags;
	ssize_t ret;

	if (!(flags & O_TRUNC) || (flags & O_EXCL))
		return data_create_blocking(s, req);
	/* A file that is new needs no truncation; one that is there may have to be written first.
	 */
	req->in.create.flags = flags | O_EXCL;
	ret = filefs_create(s, req);
	req->in.create.flags = flags;
	if (ret == -EEXIST)
		return filefs_defer(s, req);
	return ret < 0 ? ret : data_created(s, req, ret);
}

ssize_t data_tmpfile(struct filefs_session *s, struct fs_req *req)
{
	ssize_t ret = filefs_tmpfile(s, req);

	return ret < 0 ? ret : data_created(s, req, ret);
}

/* close() gives locks back; who takes them then expects to see what was written. */
static bool data_flush_commits(struct filefs_session *s, const struct datafile *d)
{
	return cache_file_dirty(d->file) && atomic_load(&s->lock_owners.count) > 0;
}

static ssize_t data_flush_rest(struct filefs_session *s, struct fs_req *req, struct handle *h,
			       struct datafile *d)
{
	struct filefs_data *data = filefs_of(s)->data;
	ssize_t ret = filefs_flush(s, req), error;

	pthread_mutex_lock(&data->lock);
	error = cache_file_error(d->file, &h->error_seen);
	pthread_mutex_unlock(&data->lock);
	return error < 0 ? error : ret;
}

ssize_t data_flush(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d;
	struct handle *h = data_handle_get(s, req->in.flush.fh, &d);
	ssize_t ret;

	if (!h)
		return filefs_flush(s, req);
	if (d->remote || data_flush_commits(s, d))
		ret = filefs_defer(s, req);
	else
		ret = data_flush_rest(s, req, h, d);
	filefs_handle_put(s, h);
	return ret;
}

ssize_t data_flush_blocking(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d;
	struct handle *h = data_handle_get(s, req->in.flush.fh, &d);
	ssize_t ret = 0, rest;

	if (!h)
		return filefs_flush(s, req);
	if (data_flush_commits(s, d))
		ret = cache_commit(d->file);
	rest = data_flush_rest(s, req, h, d);
	filefs_handle_put(s, h);
	return ret < 0 ? ret : rest;
}

/* Whether what was written through @fh, maybe, is not in the file yet. */
static bool data_is_dirty(struct filefs_session *s, uint64_t fh)
{
	struct datafile *d;
	struct handle *h = data_handle_get(s, fh, &d);
	bool dirty;

	if (!h)
		return false;
	dirty = cache_file_dirty(d->file);
	filefs_handle_put(s, h);
	return dirty;
}

/* Brings it there. */
static int data_commit(struct filefs_session *s, uint64_t fh)
{
	struct datafile *d;
	struct handle *h = data_handle_get(s, fh, &d);
	int ret;

	if (!h)
		return 0;
	ret = cache_commit(d->file);
	if (ret < 0) { /* told now, so not again */
		pthread_mutex_lock(&d->data->lock);
		cache_file_error(d->file, &h->error_seen);
		pthread_mutex_unlock(&d->data->lock);
	}
	filefs_handle_put(s, h);
	return ret;
}

ssize_t data_fsync(struct filefs_session *s, struct fs_req *req)
{
	return data_is_dirty(s, req->in.fsync.fh) ? filefs_defer(s, req) : filefs_fsync(s, req);
}

ssize_t data_fsync_blocking(struct filefs_session *s, struct fs_req *req)
{
	ssize_t ret = data_commit(s, req->in.fsync.fh);

	return ret < 0 ? ret : filefs_fsync(s, req);
}

ssize_t data_syncfs(struct filefs_session *s, struct fs_req *req)
{
	return filefs_defer(s, req);
}

ssize_t data_syncfs_blocking(struct filefs_session *s, struct fs_req *req)
{
	ssize_t ret = cache_storage_sync(filefs_of(s)->data->cache);
	ssize_t rest = filefs_syncfs(s, req);

	return ret < 0 ? ret : rest;
}

/* ---- What else changes a file, or looks at it ---- */

ssize_t data_setattr(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d = data_find_node(s, req->nodeid);

	if (!d)
		return filefs_setattr(s, req);
	data_put(d);
	return filefs_defer(s, req);
}

ssize_t data_setattr_blocking(struct filefs_session *s, struct fs_req *req)
{
	struct datafile *d = data_find_node(s, req->nodeid);
	struct section section;
	ssize_t ret;

	if (!d)
		return filefs_setattr(s, req);
	ret = section_begin(&section, d);
	if (ret == 0) {
		ret = filefs_setattr(s, req);
		section_end(&section, 0, 0);
		if (ret == 0)
			atomic_store(&d->setid, req->out.attr.attr.mode & (S_ISUID | S_ISGID));
	}
	data_put(d);
	return ret;
}

/* Holes are where the host has them. */
ssize_t data_lseek(struct filefs_session *s, struct fs_req *req)
{
	return data_is_dirty(s, req->in.lseek.fh) ? filefs_defer(s, req) : filefs_lseek(s, req);
}

ssize_t data_lseek_blocking(struct filefs_session *s, struct fs_req *req)
{
	ssize_t ret = data_commit(s, req->in.lseek.fh);

	return ret < 0 ? ret : filefs_lseek(s, req);
}

ssize_t data_fallocate(struct filefs_session *s, struct fs_req *req)
{
	return filefs_defer(s, req);
}

ssize_t data_fallocate_blocking(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_fallocate_in *in = &req->in.fallocate;
	uint64_t end = UINT64_MAX;
	struct datafile *d;
	struct handle *h = data_handle_get(s, in->fh, &d);
	struct section section;
	ssize_t ret;

	if (!h)
		return filefs_fallocate(s, req);
	ret = section_begin(&section, d);
	if (ret == 0) {
		ret = filefs_fallocate(s, req);
		/* Everything behind is moved by some modes. */
		if (!(in->mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) &&
		    in->length <= UINT64_MAX - in->offset)
			end = in->offset + in->length;
		section_end(&section, in->offset, end);
	}
	filefs_handle_put(s, h);
	return ret;
}

ssize_t data_copy_file_range(struct filefs_session *s, struct fs_req *req)
{
	return filefs_defer(s, req);
}

ssize_t data_copy_file_range_blocking(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_copy_file_range_in *in = &req->in.copy_file_range;
	struct datafile *d;
	struct handle *h;
	struct section section;
	ssize_t ret = data_commit(s, in->fh_in);

	if (ret < 0)
		return ret;
	h = data_handle_get(s, in->fh_out, &d);
	if (!h)
		return filefs_copy_file_range(s, req);
	ret = section_begin(&section, d);
	if (ret == 0) {
		ret = filefs_copy_file_range(s, req);
		section_end(&section, in->off_out, in->off_out + (uint64_t)(ret > 0 ? ret : 0));
	}
	filefs_handle_put(s, h);
	return ret;
}

/* ---- Locks ---- */

static bool lock_commits(struct filefs_session *s, const struct fs_req *req)
{
	return req->in.lk.lk.type == F_UNLCK && data_is_dirty(s, req->in.lk.fh);
}

ssize_t data_setlk(struct filefs_session *s, struct fs_req *req)
{
	return lock_commits(s, req) ? filefs_defer(s, req) : filefs_setlk(s, req);
}

ssize_t data_setlkw(struct filefs_session *s, struct fs_req *req)
{
	return lock_commits(s, req) ? filefs_defer(s, req) : filefs_setlkw(s, req);
}

/* A lock is given back whatever becomes of the data: that stays, and fsync will tell. */
ssize_t data_setlk_blocking(struct filefs_session *s, struct fs_req *req)
{
	data_commit(s, req->in.lk.fh);
	return filefs_setlk(s, req);
}

ssize_t data_setlkw_blocking(struct filefs_session *s, struct fs_req *req)
{
	data_commit(s, req->in.lk.fh);
	return filefs_setlkw(s, req);
}
