/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files whose data goes through the cache, in a guest's window: see struct fs_window_ops.
 *
 * They are never mapped as they are, which would not show what is dirty: each range is a copy,
 * read from the cache and written to it. Its memory is lent by the pool.
 *
 * A copy uses the datafile, thus its descriptor; so the guest, to map a file anew, has to have it
 * open, as a kernel has that maps for one of its programs.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

struct window_data {
	struct datafile *data;
	struct cache_reserve *reserve;
};

static struct window_data *window_data_of(const struct fs_window_file *file)
{
	return (struct window_data *)(uintptr_t)file->priv;
}

static struct filefs *window_fs(const struct fs_window_file *file)
{
	return container_of(file->fs, struct filefs, fs);
}

static bool window_datafile_writable(struct datafile *d)
{
	bool writable;

	pthread_mutex_lock(&d->data->lock);
	writable = d->writable;
	pthread_mutex_unlock(&d->data->lock);
	return writable;
}

static int window_open(struct fs_session *session, uint64_t nodeid, bool write,
		       struct fs_window_file *file)
{
	struct filefs_session *s = filefs_session_of(session);
	struct filefs *fs = filefs_of(s);
	struct window_data *w;
	struct datafile *d;
	bool writable;

	if (write && fs->config.readonly)
		return -EROFS;
	d = data_find_node(s, nodeid);
	if (!d)
		return -ESTALE;
	writable = !fs->config.readonly && window_datafile_writable(d);
	w = calloc(1, sizeof(*w));
	if (!w || (write && !writable)) {
		data_put(d);
		free(w);
		return w ? -EACCES : -ENOMEM;
	}
	w->data = d;
	*file = (struct fs_window_file){
		.fs = &fs->fs,
		.nodeid = nodeid,
		.fd = -1,
		.writable = writable,
		.size = cache_file_size(d->file),
		.priv = (uintptr_t)w,
	};
	if (writable || fs->config.readonly)
		file->share = (struct fs_window_share){
			.fs = &fs->fs,
			.number = { (uintptr_t)d },
		};
	return 0;
}

static int window_reserve(struct fs_window_file *file, uint64_t length)
{
	struct window_data *w = window_data_of(file);

	return cache_reserve_new(&w->reserve, w->data->data->cache, length);
}

static void window_close(struct fs_window_file *file)
{
	struct window_data *w = window_data_of(file);

	if (w->reserve)
		cache_reserve_free(w->reserve);
	data_put(w->data);
	free(w);
}

static uint64_t window_version(struct fs_window_file *file)
{
	struct datafile *d = window_data_of(file)->data;

	/* So that the cache knows what the host has. */
	return data_refresh(d) < 0 ? 0 : cache_file_content(d->file);
}

static ssize_t window_read(struct fs_window_file *file, void *buf, size_t size, uint64_t offset)
{
	return cache_read_wait(window_data_of(file)->data->file, offset, buf, size);
}

static ssize_t window_write(struct fs_window_file *file, const void *buf, size_t size,
			    uint64_t offset)
{
	struct datafile *d = window_data_of(file)->data;
	const uint64_t end = cache_file_size(d->file);
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf };
	struct iov_cursor from;
	ssize_t n;
	int ret;

	/* A reload has made it so, while guests had it mapped. */
	if (window_fs(file)->config.readonly)
		return -EROFS;
	/* The end of a file never moves by this. */
	if (offset >= end)
		return 0;
	iov.iov_len = MIN(size, end - offset);
	from = iov_cursor(&iov, 1);
	n = cache_write_wait(d->file, offset, iov.iov_len, &from, false);
	if (n <= 0 || atomic_load(&window_fs(file)->data->write_back))
		return n;
	ret = cache_commit(d->file);
	return ret < 0 ? ret : n;
}

const struct fs_window_ops filefs_cached_window_ops = {
	.open = window_open,
	.close = window_close,
	.reserve = window_reserve,
	.version = window_version,
	.read = window_read,
	.write = window_write,
};
