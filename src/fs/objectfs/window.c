/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects in a guest's window: see struct fs_window_ops.
 *
 * A front end gets a descriptor of what it maps, and can map all of it whatever we asked for. So it
 * never gets the pool's memory, in which the next block is another file's: each range is a
 * copy (fuse/window_memory.h), a memfd of its own with that range of that file in that version, and
 * zeros after its end. The pool lends as much of its budget, so the memory of both stays
 * what was configured; when that much cannot be spared, SETUPMAPPING is -ENOMEM.
 *
 * What a guest writes to a copy goes into the cache like a WRITE when the copy is written
 * back, and from there to the object: at once, if that was for FSYNC or SYNCFS, or for FLUSH
 * without write-back, else when the cleaner comes to it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

struct window_object {
	struct node *node;
	struct cache_file *file;
	struct cache_reserve *reserve;
};

static struct window_object *window_object_of(const struct fs_window_file *file)
{
	return (struct window_object *)(uintptr_t)file->priv;
}

static void window_put(struct objectfs *fs, struct window_object *o)
{
	if (o->reserve)
		cache_reserve_free(o->reserve);
	if (o->file)
		cache_file_put(o->file);
	tree_lock(&fs->tree);
	file_settle(fs, o->node);
	node_put(&fs->tree, o->node);
	tree_unlock(&fs->tree);
	free(o);
}

/* Finds the version that the guest's attributes are of. */
static int window_get(struct objectfs *fs, uint64_t nodeid, struct window_object **out)
{
	struct window_object *o = calloc(1, sizeof(*o));
	int ret = 0;

	if (!o)
		return -ENOMEM;
	tree_lock(&fs->tree);
	o->node = node_get(&fs->tree, nodeid);
	if (!o->node)
		ret = -ESTALE;
	else if (node_is(o->node, NODE_DIR))
		ret = -EINVAL;
	else
		ret = file_get(fs, o->node, &o->file);
	tree_unlock(&fs->tree);
	if (ret < 0 && o->node)
		window_put(fs, o);
	else if (ret < 0)
		free(o);
	*out = o;
	return ret;
}

static struct objectfs *window_fs(const struct fs_window_file *file)
{
	return container_of(file->fs, struct objectfs, fs);
}

static void window_share(struct fs_window_file *file)
{
	file->share = (struct fs_window_share){
		.fs = file->fs,
		.number = { (uintptr_t)window_object_of(file)->file },
	};
}

static int window_open(struct fs_session *session, uint64_t nodeid, bool write,
		       struct fs_window_file *file)
{
	struct objectfs *fs = objectfs_of(objectfs_session_of(session));
	const bool readonly = atomic_load(&fs->config.readonly);
	struct window_object *o;
	int ret;

	if (write && readonly)
		return -EROFS;
	ret = window_get(fs, nodeid, &o);
	if (ret < 0)
		return ret;
	*file = (struct fs_window_file){
		.fs = &fs->fs,
		.nodeid = nodeid,
		.fd = -1,
		.writable = !readonly,
		.size = cache_file_size(o->file),
		.priv = (uintptr_t)o,
	};
	window_share(file);
	return 0;
}

static int window_reserve(struct fs_window_file *file, uint64_t length)
{
	return cache_reserve_new(&window_object_of(file)->reserve, window_fs(file)->cache, length);
}

static void window_close(struct fs_window_file *file)
{
	window_put(window_fs(file), window_object_of(file));
}

static void window_reopened(struct fs_window_file *file)
{
	struct objectfs *fs = window_fs(file);
	struct window_object *o = window_object_of(file), *now;
	struct cache_file *old = o->file;

	if (window_get(fs, file->nodeid, &now) < 0)
		return;
	o->file = now->file;
	now->file = old;
	window_share(file);
	window_put(fs, now);
}

static uint64_t window_version(struct fs_window_file *file)
{
	return cache_file_content(window_object_of(file)->file);
}

static ssize_t window_read(struct fs_window_file *file, void *buf, size_t size, uint64_t offset)
{
	return cache_read_wait(window_object_of(file)->file, offset, buf, size);
}

static ssize_t window_write(struct fs_window_file *file, const void *buf, size_t size,
			    uint64_t offset)
{
	struct cache_file *f = window_object_of(file)->file;
	const uint64_t end = cache_file_size(f);
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf };
	struct iov_cursor from;
	ssize_t n;

	/* A reload has made it so, while guests had it mapped. */
	if (atomic_load(&window_fs(file)->config.readonly))
		return -EROFS;
	/* The end of a file never moves by this. */
	if (offset >= end)
		return 0;
	iov.iov_len = MIN(size, end - offset);
	from = iov_cursor(&iov, 1);
	n = cache_write_wait(f, offset, iov.iov_len, &from, false);
	if (n > 0) {
		/* Which of the guests that share it did this is not known: all who ask for
		 * their data to be written have this written. */
		cache_file_wrote(f, 0);
		atomic_store(&window_fs(file)->windowed, true);
	}
	return n;
}

bool window_left_dirty(struct objectfs_session *s, struct handle *h)
{
	struct cache_file_info info;

	if (likely(!atomic_load_explicit(&objectfs_of(s)->windowed, memory_order_relaxed)) ||
	    !(h->flags & HANDLE_WRITE))
		return false;
	cache_file_info(atomic_load(&h->file), &info);
	return info.dirty;
}

const struct fs_window_ops objectfs_window_ops = {
	.open = window_open,
	.close = window_close,
	.reserve = window_reserve,
	.reopened = window_reopened,
	.version = window_version,
	.read = window_read,
	.write = window_write,
};
