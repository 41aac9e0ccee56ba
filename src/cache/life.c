/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files with changes that lose their object or its key, and what went wrong with them.
 *
 * What was written to a file that is removed then, and open still, is in memory only, and stays
 * there as long as somebody has it open: nothing can be written to make room. So it is counted
 * apart from what is dirty, or it would stop all who write, and may have a share of the memory
 * (storage.apart_max). Who writes more to such files gets -ENOSPC. A file that has changes beyond
 * that share when it is removed keeps them as anything else that is cached: until the memory is
 * needed; from then on who reads gets -ESTALE.
 */
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

/* Nothing of @f is dirty any more: it may be evicted. Under the lock. */
static void life_clean(struct cache_file *f)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	struct map_place place;
	uint64_t offset = 0;

	while (map_next(layout, &f->map, offset, &place) != BLOCK_NONE) {
		struct block *b = file_block_find(f, place.start, &place);

		offset = place.start + place.size;
		if (!b)
			continue;
		block_make_clean(f, b);
		block_unpin(b);
	}
}

/* Moves what is dirty from one count to the other. Under the lock. */
static void life_move_dirty(struct cache_file *f, bool apart)
{
	uint64_t bytes = f->dirty_bytes;

	file_count_dirty(f, -(int64_t)bytes);
	f->apart = apart;
	file_count_dirty(f, (int64_t)bytes);
}

/* @f is removed, and nobody commits it. Under the lock. */
static void life_set_apart(struct cache_file *f)
{
	static struct log_limit limit;
	struct cache_storage *s = f->storage;

	if (f->apart)
		return;
	if (f->dirty_bytes &&
	    atomic_load_explicit(&s->apart_bytes, memory_order_relaxed) + f->dirty_bytes >
		    s->apart_max) {
		log_limited(&limit, LOG_LEVEL_WARN, "removed_file_droppable",
			    "key=\"%s\" bytes=%llu", f->key, (unsigned long long)f->dirty_bytes);
		/* Before the blocks may go: no hole. */
		atomic_store_explicit(&f->base_limit,
				      atomic_load_explicit(&f->size, memory_order_relaxed),
				      memory_order_release);
		f->lost = true;
		life_clean(f);
	}
	life_move_dirty(f, true);
	storage_room(s);
}

void cache_file_unlink_begin(struct cache_file *f)
{
	/* First of all: an upload under way stops at its next part. */
	atomic_fetch_or_explicit(&f->flags, FILE_UNLINKED, memory_order_acq_rel);
	table_remove(f);
	pthread_mutex_lock(&f->lock);
	life_wait_commit(f);
	file_dirty_end(f);
	pthread_mutex_unlock(&f->lock);
}

void cache_file_unlink(struct cache_file *f)
{
	cache_file_unlink_begin(f);
	pthread_mutex_lock(&f->lock);
	life_wait_commit(f);
	f->lost |= upload_let_go(f);
	upload_discard(f, true);
	life_set_apart(f);
	pthread_mutex_unlock(&f->lock);
}

void cache_file_restore(struct cache_file *f)
{
	struct cache_file *there = NULL;

	pthread_mutex_lock(&f->lock);
	/* In this order: who finds it by key sees that it has changes. */
	atomic_fetch_and_explicit(&f->flags, ~(uint32_t)FILE_UNLINKED, memory_order_acq_rel);
	if (f->write_seq != f->committed_seq)
		file_dirty_begin(f);
	if (!file_is(f, FILE_REPLACED) && !table_restore(f, &there))
		/* There are two lines of changes now. The next commit keeps ours beside his. */
		atomic_fetch_or_explicit(&f->flags, FILE_REPLACED, memory_order_acq_rel);
	pthread_mutex_unlock(&f->lock);
	table_forget(there);
}

void file_abandon(struct cache_file *f)
{
	pthread_mutex_lock(&f->lock);
	life_wait_commit(f);
	upload_discard(f, true);
	file_dirty_end(f);
	pthread_mutex_unlock(&f->lock);
	file_purge(f, true);
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

void file_set_properties(struct cache_file *f, const char *etag, const struct store_properties *p)
{
	static struct log_limit limit;

	if (f->properties_known || !*etag || strcmp(f->base.etag, etag) != 0)
		return;
	if (p->cut)
		log_limited(&limit, LOG_LEVEL_WARN, "object_metadata_dropped", "key=\"%s\"",
			    f->key);
	f->properties.text = p->len ? malloc(p->len) : NULL;
	if (p->len && !f->properties.text)
		return; /* it is asked for once more */
	if (p->len)
		memcpy(f->properties.text, p->text, p->len);
	f->properties.len = p->len;
	f->properties.cut = p->cut;
	f->properties_known = true;
}

void cache_file_properties(struct cache_file *f, const char *etag, const struct store_properties *p)
{
	pthread_mutex_lock(&f->lock);
	file_set_properties(f, etag, p);
	pthread_mutex_unlock(&f->lock);
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
