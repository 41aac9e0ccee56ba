/* SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/workers.h"
#include "fs/filefs/filefs.h"
#include "storage_stack.h"
#include "observe.h"

struct backends {
	pthread_mutex_t lock; /* covers what follows, and what struct backend says */
	pthread_cond_t opened;
	struct cache *cache;
	uint64_t size; /* of it, as configured */
	struct list all;
	struct ctl *ctl;
	uint32_t block_sizes[POOL_CLASSES_MAX]; /* of the cache, */
	unsigned classes;			/* that many */
};

struct backend {
	struct list link;
	struct backends *owner;
	/* ---- Of the owner's lock ---- */
	unsigned users;
	unsigned active; /* users that have not settled */
	bool opening;	 /* somebody makes it; others wait */
	/* ---- One user's at a time: reload ---- */
	struct generation *generation; /* that config is of */
	const struct ovfs_backend *config;
	struct generation *wanted_generation; /* NULL: no reload */
	const struct ovfs_backend *wanted;
	bool stack_prepared;
	/* ---- Constant once it is open ---- */
	struct storage_stack *stack;
	/* Commits in the background must not wait for those of the mount, who may be waiting
	 * for them. */
	struct workers *flushers;
	struct cache_storage *files;
	struct observer_storage *observer;
};

/* ---- All of them ---- */

struct err *backends_new(struct backends **out)
{
	struct backends *b = calloc(1, sizeof(*b));

	if (!b)
		return err_errno(ENOMEM, "storages");
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->opened, NULL);
	list_init(&b->all);
	*out = b;
	return NULL;
}

void backends_free(struct backends *b)
{
	if (!b)
		return;
	cache_free(b->cache);
	pthread_cond_destroy(&b->opened);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static struct err *cache_open(struct backends *b, const struct ovfs_config *config)
{
	struct pool_config pool = {
		.size = config->pool.size,
		.huge_pages = (enum pool_huge_pages)config->pool.huge_pages,
	};
	struct err *e;

	for (unsigned bit = 0; bit < 32 && pool.classes < POOL_CLASSES_MAX; bit++) {
		if (config->pool.block_sizes & 1ull << bit)
			pool.block_sizes[pool.classes++] = 1u << bit;
	}
	e = cache_new(&b->cache, &pool);
	b->size = pool.size;
	if (!e) {
		memcpy(b->block_sizes, pool.block_sizes, sizeof(b->block_sizes));
		b->classes = pool.classes;
	}
	return e ? err_wrap(e, "cache") : NULL;
}

struct err *backends_cache(struct backends *b, const struct ovfs_config *config, struct cache **out)
{
	struct err *e = NULL;

	pthread_mutex_lock(&b->lock);
	if (!b->cache)
		e = cache_open(b, config);
	*out = b->cache;
	pthread_mutex_unlock(&b->lock);
	return e;
}

struct err *backends_resize(struct backends *b, uint64_t size)
{
	struct cache *cache;
	struct err *e = NULL;

	pthread_mutex_lock(&b->lock);
	cache = size != b->size ? b->cache : NULL;
	pthread_mutex_unlock(&b->lock);
	if (cache)
		e = cache_resize(cache, size);
	if (!cache || e)
		return e;
	pthread_mutex_lock(&b->lock);
	b->size = size;
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

void backends_set_ctl(struct backends *b, struct ctl *ctl)
{
	b->ctl = ctl;
}

unsigned backends_usage(struct backends *b, struct pool_usage *out,
			uint32_t sizes[POOL_CLASSES_MAX])
{
	unsigned classes = 0;

	pthread_mutex_lock(&b->lock);
	if (b->cache) {
		cache_usage(b->cache, out);
		for (unsigned i = 0; i < b->classes; i++)
			sizes[i] = b->block_sizes[i];
		classes = b->classes;
	}
	pthread_mutex_unlock(&b->lock);
	return classes;
}

/* ---- One ---- */

static struct cache_storage_config files_config(const struct ovfs_backend *config)
{
	return (struct cache_storage_config){
		.write_back = config->cache.write_back,
		.write_back_delay_ns = config->cache.write_back_delay_ns,
		.dirty_percent = config->cache.dirty_limit,
		.expiration = config->cache.expiration,
		.expiration_ns = config->cache.expiration_time_ns,
		.wait_timeout_ns = config->cache.wait_timeout_ns,
		.read_ahead_max = config->cache.read_ahead,
		.sparse_max = config->object.sparse_max,
		.part_size = config->cache.part_size,
		.parts_in_flight = config->cache.parts_in_flight,
		.conflict = config->cache.on_conflict == OVFS_CONFLICT_OVERWRITE
				    ? CACHE_CONFLICT_OVERWRITE
				    : CACHE_CONFLICT_FAIL,
	};
}

static struct err *backend_open(struct backend *b, unsigned threads, bool may_refuse)
{
	struct cache_storage_config files = files_config(b->config);
	struct cache *cache = NULL;
	struct err *e;

	e = storage_stack_new(&b->stack, b->config, may_refuse);
	if (!e)
		e = backends_cache(b->owner, &b->generation->config, &cache);
	if (!e)
		e = workers_new(&b->flushers, "ovfs-flush", threads);
	if (e)
		return e;
	files.store = storage_stack_store(b->stack);
	files.workers = b->flushers;
	e = cache_storage_new(&b->files, cache, &files);
	if (e)
		return err_wrap(e, "cache");
	if (backend_data(b))
		filefs_data_start(backend_data(b), b->files, b->config->cache.write_back);
	b->observer = observer_storage_new(b->owner->ctl, b->config, b->stack, b->files);
	return NULL;
}

static void backend_close(struct backend *b)
{
	observer_storage_free(b->observer);
	if (b->files && backend_data(b))
		filefs_data_stop(backend_data(b));
	cache_storage_free(b->files);
	workers_free(b->flushers);
	storage_stack_free(b->stack);
	generation_put(b->generation);
	free(b);
}

/* One for @config, with the lock held; waits for one that is being made. */
static struct backend *backend_find(struct backends *all, const struct ovfs_backend *config)
{
	struct list *link;

	if (config->storage.type == OVFS_STORAGE_MEMORY)
		return NULL;
again:
	list_for_each (link, &all->all) {
		struct backend *b = list_entry(link, struct backend, link);

		if (!backend_same_storage(b->config, config) ||
		    !backend_same_settings(b->config, config))
			continue;
		if (!b->opening)
			return b;
		pthread_cond_wait(&all->opened, &all->lock);
		goto again;
	}
	return NULL;
}

/* Two caches of one storage see each other's writes as another host's. */
static void warn_of_twin(struct backends *all, const struct ovfs_backend *config)
{
	struct list *link;

	list_for_each (link, &all->all) {
		struct backend *b = list_entry(link, struct backend, link);

		if (config->storage.type == OVFS_STORAGE_S3 &&
		    backend_same_storage(b->config, config))
			log_warn("storage_cached_twice",
				 "bucket=\"%s\" reason=\"mounts of it have different settings\"",
				 config->storage.s3.bucket);
	}
}

struct err *backend_get(struct backend **out, struct backends *all, struct generation *generation,
			const struct ovfs_backend *config, unsigned threads, bool may_refuse)
{
	struct backend *b;
	struct err *e;

	pthread_mutex_lock(&all->lock);
	b = backend_find(all, config);
	if (b) {
		b->users++;
		b->active++;
		pthread_mutex_unlock(&all->lock);
		*out = b;
		return NULL;
	}
	warn_of_twin(all, config);
	b = calloc(1, sizeof(*b));
	if (!b) {
		pthread_mutex_unlock(&all->lock);
		return err_errno(ENOMEM, "storage");
	}
	b->owner = all;
	b->generation = generation_get(generation);
	b->config = config;
	b->opening = true;
	list_push_back(&all->all, &b->link);
	pthread_mutex_unlock(&all->lock);

	e = backend_open(b, threads, may_refuse);

	pthread_mutex_lock(&all->lock);
	b->opening = false;
	b->users = b->active = 1;
	if (e)
		list_remove(&b->link);
	pthread_cond_broadcast(&all->opened);
	pthread_mutex_unlock(&all->lock);
	if (e)
		backend_close(b);
	else
		*out = b;
	return e;
}

const char *backend_name(const struct backend *b)
{
	return observer_storage_name(b->observer);
}

struct store *backend_store(struct backend *b)
{
	return storage_stack_store(b->stack);
}

struct filefs_data *backend_data(struct backend *b)
{
	return storage_stack_files(b->stack);
}

struct cache_storage *backend_files(struct backend *b)
{
	return b->files;
}

void backend_log(struct backend *b)
{
	struct cache_storage_usage usage;

	storage_stack_log(b->stack);
	cache_storage_usage(b->files, &usage);
	log_info("cache_usage",
		 "files=%llu bytes=%llu dirty_files=%llu dirty_bytes=%llu hits=%llu misses=%llu "
		 "fetched=%llu commits=%llu commit_failures=%llu",
		 (unsigned long long)usage.files, (unsigned long long)usage.bytes,
		 (unsigned long long)usage.dirty_files, (unsigned long long)usage.dirty_bytes,
		 (unsigned long long)usage.hits, (unsigned long long)usage.misses,
		 (unsigned long long)usage.fetched, (unsigned long long)usage.commits,
		 (unsigned long long)usage.commit_failures);
}

/* ---- The end ---- */

unsigned backend_settle(struct backend *b)
{
	unsigned left;
	bool last;

	pthread_mutex_lock(&b->owner->lock);
	last = --b->active == 0;
	/* Who comes now gets one of his own. */
	if (last)
		list_remove(&b->link);
	pthread_mutex_unlock(&b->owner->lock);
	if (!last)
		return 0;
	left = cache_storage_drain(b->files, b->config->cache.drain_timeout_ns);
	if (left)
		backend_log(b);
	else
		storage_stack_stop(b->stack);
	return left;
}

unsigned backend_put(struct backend *b)
{
	unsigned left;
	bool last;

	pthread_mutex_lock(&b->owner->lock);
	last = --b->users == 0;
	pthread_mutex_unlock(&b->owner->lock);
	if (!last)
		return 0;
	left = cache_storage_drain(b->files, b->config->cache.drain_timeout_ns);
	backend_log(b);
	backend_close(b);
	return left;
}

/* ---- Reload ---- */

struct err *backend_prepare(struct backend *b, struct generation *generation,
			    const struct ovfs_backend *config)
{
	struct err *e;

	if (b->wanted) {
		if (!backend_same_settings(b->wanted, config))
			return err_new("mounts that share a storage are to differ in its settings: "
				       "that takes a restart");
		return NULL;
	}
	if (!backend_same_stack(b->config, config)) {
		e = storage_stack_prepare(b->stack, config, backend_same_place(b->config, config));
		if (e)
			return e;
		b->stack_prepared = true;
	}
	b->wanted_generation = generation_get(generation);
	b->wanted = config;
	return NULL;
}

static void backend_settled(struct backend *b)
{
	b->wanted = NULL;
	b->wanted_generation = NULL;
	b->stack_prepared = false;
}

void backend_commit(struct backend *b)
{
	struct cache_storage_config files;
	struct generation *old = b->generation;
	unsigned left;

	if (!b->wanted)
		return;
	if (b->stack_prepared)
		storage_stack_commit(b->stack);
	files = files_config(b->wanted);
	left = cache_storage_reconfigure(b->files, &files, b->wanted->cache.drain_timeout_ns);
	if (left)
		log_warn("write_back_off_undrained", "files=%u", left);
	pthread_mutex_lock(&b->owner->lock);
	b->generation = b->wanted_generation;
	b->config = b->wanted;
	pthread_mutex_unlock(&b->owner->lock);
	backend_settled(b);
	generation_put(old);
}

void backend_discard(struct backend *b)
{
	if (!b->wanted)
		return;
	if (b->stack_prepared)
		storage_stack_discard(b->stack);
	generation_put(b->wanted_generation);
	backend_settled(b);
}
