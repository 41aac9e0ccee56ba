/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files with cached data: their table, versions, and how long their descriptors stay.
 *
 * A datafile is made when a file is opened and lives as long as it is open anywhere, and then until
 * its changes are written: the last close has that begin, without waiting for it. If that fails it
 * lingers: the cleaner of the cache tries it again and again, by the descriptor that stays; once a
 * second at most, when another file is closed, those that are written by now are let go.
 */
/* #syscalls openat statx dup3 close */
#include "fs/filefs/data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "fs/filefs/internal.h"

#define NSEC_PER_SEC 1000000000ull

static _Thread_local uint64_t data_started_ns;

void data_begin(void)
{
	data_started_ns = loop_now_ns();
}

/* ---- Versions ---- */

/* A file may have any time; those that nanoseconds have no room for are at the end of all. */
static int64_t data_time(const struct statx_timestamp *ts)
{
	int64_t ns;

	if (__builtin_mul_overflow(ts->tv_sec, (int64_t)NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts->tv_nsec, &ns))
		return ts->tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

void data_meta(const struct statx *stx, struct store_meta *meta)
{
	memset(meta, 0, sizeof(*meta));
	meta->size = stx->stx_size;
	meta->mtime_ns = data_time(&stx->stx_mtime);
	snprintf(meta->etag, sizeof(meta->etag), "%llx.%llx.%llx",
		 (unsigned long long)meta->mtime_ns, (unsigned long long)data_time(&stx->stx_ctime),
		 (unsigned long long)stx->stx_size);
}

int data_stat(int fd, struct store_meta *meta)
{
	struct statx stx;
	int ret = filefs_stat_fd(fd, &stx);

	if (ret == 0)
		data_meta(&stx, meta);
	return ret;
}

static void data_key(char key[DATA_KEY_MAX], dev_t dev, uint64_t ino)
{
	snprintf(key, DATA_KEY_MAX, "%llx:%llx", (unsigned long long)dev, (unsigned long long)ino);
}

/* ---- The table; filefs_data.lock ---- */

static struct list *data_bucket(struct filefs_data *data, const char *key)
{
	uint32_t h = 2166136261u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 16777619u;
	return &data->buckets[h % DATA_BUCKETS];
}

static struct datafile *data_look(struct filefs_data *data, const char *key)
{
	struct list *bucket = data_bucket(data, key), *pos;

	list_for_each (pos, bucket) {
		struct datafile *d = list_entry(pos, struct datafile, link);

		if (!strcmp(d->key, key))
			return d;
	}
	return NULL;
}

struct datafile *data_find(struct filefs_data *data, const char *key)
{
	struct datafile *d;

	pthread_mutex_lock(&data->lock);
	d = data_look(data, key);
	if (d)
		d->uses++;
	pthread_mutex_unlock(&data->lock);
	return d;
}

struct datafile *data_find_inode(struct filefs *fs, const struct inode *inode)
{
	char key[DATA_KEY_MAX];

	if (inode->type != S_IFREG)
		return NULL;
	data_key(key, fs->mounts.table[atomic_load(&inode->mount)].dev, inode->ino);
	return data_find(fs->data, key);
}

struct datafile *data_find_node(struct filefs_session *s, uint64_t nodeid)
{
	struct inode *inode = inode_get(&s->inodes, nodeid);
	struct datafile *d;

	if (!inode)
		return NULL;
	d = data_find_inode(filefs_of(s), inode);
	inode_put(&s->inodes, inode);
	return d;
}

/* Out of the table, for data_free(). */
static void data_unlink(struct datafile *d)
{
	list_remove(&d->link);
	list_remove(&d->lingerer);
	if (d->fs)
		filefs_fd_release(d->fs);
}

void data_free(struct datafile *d)
{
	if (d->file)
		cache_file_put(d->file);
	close(d->fd);
	free(d);
}

/* Whether anything still needs @d, which then lingers if that is its changes alone. */
static bool data_needed(struct datafile *d)
{
	if (d->uses || d->closing)
		return true;
	if (!d->file || !cache_file_dirty(d->file))
		return false;
	if (list_empty(&d->lingerer))
		list_push_back(&d->data->lingering, &d->lingerer);
	return true;
}

void data_put(struct datafile *d)
{
	struct filefs_data *data = d->data;
	bool needed;

	pthread_mutex_lock(&data->lock);
	d->uses--;
	needed = data_needed(d);
	if (!needed)
		data_unlink(d);
	pthread_mutex_unlock(&data->lock);
	if (!needed)
		data_free(d);
}

static void data_reap(struct filefs_data *data)
{
	uint64_t now = loop_now_ns();
	struct list gone, *pos, *tmp;

	list_init(&gone);
	pthread_mutex_lock(&data->lock);
	if (!list_empty(&data->lingering) && now - data->reaped_ns >= NSEC_PER_SEC) {
		data->reaped_ns = now;
		list_for_each_safe (pos, tmp, &data->lingering) {
			struct datafile *d = list_entry(pos, struct datafile, lingerer);

			if (d->uses || d->closing || cache_file_dirty(d->file))
				continue;
			data_unlink(d);
			list_push_back(&gone, &d->link);
		}
	}
	pthread_mutex_unlock(&data->lock);
	while ((pos = list_pop_front(&gone)))
		data_free(list_entry(pos, struct datafile, link));
}

/* ---- Opening ---- */

/* Another descriptor of what @fd is. */
static int data_reopen(const struct filefs *fs, int fd, int flags)
{
	char name[16];
	int own;

	snprintf(name, sizeof(name), "%d", fd);
	own = openat(fs->proc_self_fd, name, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own < 0 ? -errno : own;
}

/* A datafile that nobody knows of yet. Its place in the budget is taken. */
static struct datafile *data_make(struct filefs *fs, const struct handle *h, const char *key,
				  bool writes, int *error)
{
	const struct mount *mount = &fs->mounts.table[h->mount];
	struct datafile *d = calloc(1, sizeof(*d));

	if (!d) {
		*error = -ENOMEM;
		return NULL;
	}
	d->fd = data_reopen(fs, h->fd, writes ? O_RDWR : O_RDONLY);
	if (d->fd < 0) {
		*error = d->fd;
		free(d);
		return NULL;
	}
	memcpy(d->key, key, sizeof(d->key));
	list_init(&d->lingerer);
	d->data = fs->data;
	d->fs = fs;
	d->proc_self_fd = fs->proc_self_fd;
	d->writable = writes;
	d->memory = mount->memory;
	d->remote = mount->remote;
	return d;
}

/* Has d->fd write, under the same number, which others may be using. */
static int data_make_writable(struct filefs *fs, struct datafile *d, const struct handle *h)
{
	int fd = data_reopen(fs, h->fd, O_RDWR);
	int ret = 0;

	if (fd < 0)
		return fd;
	if (dup3(fd, d->fd, O_CLOEXEC) < 0)
		ret = -errno;
	close(fd);
	pthread_mutex_lock(&d->data->lock);
	d->writable |= ret == 0;
	pthread_mutex_unlock(&d->data->lock);
	return ret;
}

/* Finds the datafile of @key for a handle more, or puts @made in its place. */
static struct datafile *data_open_known(struct filefs_data *data, const char *key,
					struct datafile *made, bool *writable)
{
	struct datafile *d;

	pthread_mutex_lock(&data->lock);
	d = data_look(data, key);
	if (!d && made) {
		d = made;
		list_push_back(data_bucket(data, key), &d->link);
	}
	if (d) {
		d->uses++;
		d->handles++;
		*writable = d->writable;
		list_remove(&d->lingerer);
		list_init(&d->lingerer);
	}
	pthread_mutex_unlock(&data->lock);
	return d;
}

static void data_handle_put(struct datafile *d)
{
	pthread_mutex_lock(&d->data->lock);
	d->handles--;
	pthread_mutex_unlock(&d->data->lock);
	data_put(d);
}

/* The datafile for @h, which counts as a handle of it. @meta: as found. */
static int data_open_for(struct filefs *fs, const struct handle *h, const char *key, bool writes,
			 const struct store_meta *meta, uint64_t seen_ns, struct datafile **out)
{
	struct datafile *made, *d;
	bool writable = false;
	int ret = 0;

	d = data_open_known(fs->data, key, NULL, &writable);
	if (!d) {
		if (!filefs_fd_take(fs))
			return -ENFILE;
		made = data_make(fs, h, key, writes, &ret);
		if (made)
			made->file = cache_file_get(fs->data->cache, key, meta, seen_ns);
		if (!made || !made->file) {
			if (made)
				data_free(made);
			filefs_fd_release(fs);
			return made ? -ENOMEM : ret;
		}
		d = data_open_known(fs->data, key, made, &writable);
		if (d != made) {
			data_free(made);
			filefs_fd_release(fs);
		}
	}
	if (writes && !writable)
		ret = data_make_writable(fs, d, h);
	if (ret < 0) {
		data_handle_put(d);
		return ret;
	}
	*out = d;
	return 0;
}

/* What of the guest's OPEN goes around the cache: also what it did not ask for, for the host to
 * refuse. */
static uint32_t data_handle_flags(const struct filefs_session *s, uint32_t flags,
				  const struct store_meta *meta)
{
	uint32_t h = 0;

	if ((flags & O_ACCMODE) == O_RDONLY)
		h |= HANDLE_THROUGH_WRITE;
	if ((flags & O_ACCMODE) == O_WRONLY && !s->writeback)
		h |= HANDLE_THROUGH_READ;
	if (((flags & O_APPEND) && !s->writeback) || (flags & (O_SYNC | O_DSYNC)))
		h |= HANDLE_THROUGH_WRITE;
	if ((flags & O_DIRECT) && filefs_of(s)->config.allow_direct_io)
		h |= HANDLE_THROUGH_WRITE | HANDLE_THROUGH_READ;
	if (meta->size > DATA_SIZE_MAX)
		h |= HANDLE_THROUGH_WRITE | HANDLE_THROUGH_READ;
	return h;
}

/* May the guest keep the pages it has of the file? */
static bool data_version_same(struct inode *inode, struct cache_file *file)
{
	struct cache_file_info info;
	uint64_t v;

	cache_file_info(file, &info);
	v = info.version * 0x9e3779b97f4a7c15ull + (uint64_t)info.mtime_ns;
	v = v * 0x9e3779b97f4a7c15ull + info.size;
	v |= 1; /* 0: never opened */
	return atomic_exchange_explicit(&inode->version, v, memory_order_relaxed) == v;
}

/* A failure of a write in the background that no OPEN has reported. */
static int data_old_error(struct datafile *d)
{
	int error;

	pthread_mutex_lock(&d->data->lock);
	error = cache_file_error(d->file, &d->error_seen);
	pthread_mutex_unlock(&d->data->lock);
	return error;
}

static int data_attach_handle(struct filefs_session *s, struct handle *h, struct fuse_open_out *out,
			      uint32_t flags)
{
	struct filefs *fs = filefs_of(s);
	struct inode *inode = slot_peek(&s->inodes.slots, h->inode);
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	uint64_t seen_ns = loop_now_ns();
	struct datafile *d;
	struct store_meta meta;
	char key[DATA_KEY_MAX];
	struct statx stx;
	int ret;

	ret = filefs_stat_fd(h->fd, &stx);
	if (ret < 0)
		return ret;
	data_meta(&stx, &meta);
	data_key(key, makedev(stx.stx_dev_major, stx.stx_dev_minor), stx.stx_ino);
	ret = data_open_for(fs, h, key, writes, &meta, seen_ns, &d);
	/* A file that we may write but not read: it goes around the cache. */
	if (ret == -EACCES || ret == -EPERM)
		return 0;
	if (ret < 0)
		return ret;
	atomic_store(&d->setid, stx.stx_mode & (S_ISUID | S_ISGID));
	if (!cache_file_seen(d->file, &meta, seen_ns, false))
		atomic_store(&d->suspect, true);
	if (writes && (ret = data_old_error(d)) < 0) {
		data_handle_put(d);
		return ret;
	}
	cache_file_error(d->file, &h->error_seen); /* old news */
	h->stream = cache_stream_new();
	atomic_fetch_or(&h->flags, data_handle_flags(s, flags, &meta));
	if (fs->config.cache == FILEFS_CACHE_AUTO && data_version_same(inode, d->file))
		out->open_flags |= FOPEN_KEEP_CACHE;
	/* FLUSH is what tells of failures. */
	if (writes && atomic_load(&fs->data->write_back))
		out->open_flags &= ~(uint32_t)FOPEN_NOFLUSH;
	atomic_store_explicit(&h->data, d, memory_order_release);
	return 0;
}

int data_attach(struct filefs_session *s, struct fuse_open_out *out, uint32_t flags)
{
	struct handle *h = filefs_handle_get(s, out->fh, false);
	int ret;

	if (!h)
		return -EBADF;
	ret = data_attach_handle(s, h, out, flags);
	filefs_handle_put(s, h);
	if (ret < 0)
		filefs_handle_release(s, out->fh, false);
	return ret;
}

int data_refresh(struct datafile *d)
{
	uint64_t seen_ns = loop_now_ns();
	struct store_meta meta;
	int ret;

	atomic_store(&d->suspect, false);
	ret = data_stat(d->fd, &meta);
	if (ret == 0)
		cache_file_seen(d->file, &meta, seen_ns, true);
	return ret;
}

/* ---- Closing ---- */

/* On a thread of data->io. */
static void data_close_run(struct work *work)
{
	struct datafile *d = container_of(work, struct datafile, work);
	struct filefs_data *data = d->data;

	if (cache_file_dirty(d->file))
		cache_commit_background(d->file);
	pthread_mutex_lock(&data->lock);
	d->closing = false;
	pthread_mutex_unlock(&data->lock);
	data_put(d);
	data_reap(data);
}

void data_close(struct handle *h)
{
	struct datafile *d = atomic_load_explicit(&h->data, memory_order_relaxed);
	bool last;

	if (!d)
		return;
	atomic_store_explicit(&h->data, NULL, memory_order_relaxed);
	cache_stream_free(h->stream);
	h->stream = NULL;
	pthread_mutex_lock(&d->data->lock);
	last = --d->handles == 0 && !d->closing && (cache_file_dirty(d->file) || d->remote);
	d->closing |= last;
	pthread_mutex_unlock(&d->data->lock);
	if (!last) {
		data_put(d);
		return;
	}
	d->work.run = data_close_run;
	workers_submit(d->data->io, &d->work); /* with the use that the handle was */
}

void data_detach(struct filefs *fs)
{
	struct filefs_data *data = fs->data;
	struct list *pos;

	pthread_mutex_lock(&data->lock);
	for (unsigned i = 0; i < DATA_BUCKETS; i++) {
		list_for_each (pos, &data->buckets[i]) {
			struct datafile *d = list_entry(pos, struct datafile, link);

			if (d->fs == fs)
				d->fs = NULL;
		}
	}
	pthread_mutex_unlock(&data->lock);
}

/* ---- What guests see ---- */

void data_show(const struct filefs *fs, const struct statx *stx, uint64_t *size, uint64_t *blocks,
	       struct timespec *mtime)
{
	struct cache_file_info info;
	struct store_meta meta;
	struct cache_file *file;
	char key[DATA_KEY_MAX];

	if (!S_ISREG(stx->stx_mode))
		return;
	data_key(key, makedev(stx->stx_dev_major, stx->stx_dev_minor), stx->stx_ino);
	file = cache_file_peek(fs->data->cache, key);
	if (!file)
		return;
	data_meta(stx, &meta);
	cache_file_seen(file, &meta, data_started_ns, false);
	cache_file_info(file, &info);
	/* It has changes, or they were written after the host was asked. */
	if (info.dirty || info.validated_ns > data_started_ns) {
		*size = info.size;
		/* At least so much; who sees none takes it all for a hole. */
		*blocks += info.dirty_blocks * (POOL_BLOCK_MIN / 512);
		*mtime = (struct timespec){ info.mtime_ns / (int64_t)NSEC_PER_SEC,
					    info.mtime_ns % (int64_t)NSEC_PER_SEC };
		if (mtime->tv_nsec < 0) { /* before 1970 */
			mtime->tv_sec--;
			mtime->tv_nsec += (long)NSEC_PER_SEC;
		}
	}
	cache_file_put(file);
}

void data_locked(struct filefs_session *s, uint64_t fh)
{
	struct handle *h = filefs_handle_get(s, fh, false);
	struct datafile *d;

	if (!h)
		return;
	d = atomic_load_explicit(&h->data, memory_order_acquire);
	if (d)
		atomic_store(&d->suspect, true);
	filefs_handle_put(s, h);
}
