/* SPDX-License-Identifier: Apache-2.0 */
/* Files with changes that lose their object or its key, and what went wrong with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "cache/write.h"

/* Waits, under the lock, until nobody commits @f. */
static void life_wait_commit(struct cache_file *f)
{
	f->commit_waiters++;
	while (atomic_load_explicit(&f->committing, memory_order_relaxed))
		pthread_cond_wait(&f->changed, &f->lock);
	f->commit_waiters--;
}

void cache_file_unlink(struct cache_file *f)
{
	/* First of all: an upload under way stops at its next part. */
	atomic_fetch_or_explicit(&f->flags, FILE_UNLINKED, memory_order_acq_rel);
	table_remove(f);
	pthread_mutex_lock(&f->lock);
	life_wait_commit(f);
	f->lost |= upload_let_go(f);
	upload_discard(f, true);
	file_dirty_end(f);
	pthread_mutex_unlock(&f->lock);
}

void cache_file_restore(struct cache_file *f)
{
	bool changed;

	pthread_mutex_lock(&f->lock);
	changed = f->write_seq != f->committed_seq;
	/* In this order: who finds it by key sees that it has changes. */
	atomic_fetch_and_explicit(&f->flags, ~(uint32_t)FILE_UNLINKED, memory_order_acq_rel);
	if (changed)
		file_dirty_begin(f);
	if (f->lost || file_is(f, FILE_REPLACED) || !table_restore(f)) {
		atomic_fetch_or_explicit(&f->flags, FILE_UNLINKED, memory_order_acq_rel);
		file_dirty_end(f);
		if (changed && !file_is(f, FILE_REPLACED))
			log_error("changes_lost", "key=\"%s\" size=%llu", f->key,
				  (unsigned long long)atomic_load(&f->size));
	}
	pthread_mutex_unlock(&f->lock);
}

void file_abandon(struct cache_file *f)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	struct map_place place;
	uint64_t offset = 0;

	pthread_mutex_lock(&f->lock);
	life_wait_commit(f);
	upload_discard(f, true);
	file_dirty_end(f);
	while (map_next(layout, &f->map, offset, &place) != BLOCK_NONE) {
		struct block *b = file_block_find(f, place.start, &place);

		offset = place.start + place.size;
		if (!b)
			continue;
		block_make_clean(f, b);
		if (block_is(b, BLOCK_FILLING))
			block_unpin(b); /* for the evictor, later */
		else
			file_block_drop(f, b);
	}
	pthread_mutex_unlock(&f->lock);
	storage_room(f->storage);
}

/* Under the lock. */
static int life_rename(struct cache_file *f, char *key, const struct store_meta *meta,
		       const char *source)
{
	life_wait_commit(f);
	if (file_is(f, FILE_UNLINKED | FILE_REPLACED))
		return -ESTALE;
	if (!meta && !file_is(f, FILE_CREATED))
		return -EINVAL;
	if (upload_let_go(f) || (meta && strcmp(f->base.etag, source) != 0))
		return -EBUSY;
	/* A session belongs to its key. */
	upload_discard(f, true);
	memset(f->doubt, 0, sizeof(f->doubt));
	if (meta) {
		struct store_meta base = f->base; /* which the copy is, but for its version */

		memcpy(base.etag, meta->etag, sizeof(base.etag));
		base.mtime_ns = meta->mtime_ns ? meta->mtime_ns : base.mtime_ns;
		atomic_store_explicit(&f->validated_ns, loop_now_ns(), memory_order_relaxed);
		table_set_base(f, &base);
	}
	table_rename(f, key);
	return 0;
}

int cache_file_rename(struct cache_file *f, const char *key, const struct store_meta *meta,
		      const char *source)
{
	struct cache_file *there = cache_file_peek(f->storage, key);
	char *copy = strdup(key);
	int ret;

	if (there && there != f)
		cache_file_unlink(there);
	if (there)
		cache_file_put(there);
	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&f->lock);
	ret = life_rename(f, copy, meta, source);
	pthread_mutex_unlock(&f->lock);
	if (ret < 0)
		free(copy);
	return ret;
}

int cache_file_error(struct cache_file *f, uint32_t *seen)
{
	int error = 0;

	pthread_mutex_lock(&f->lock);
	if (*seen != f->error_count) {
		*seen = f->error_count;
		error = f->error;
	}
	pthread_mutex_unlock(&f->lock);
	return error;
}
