/* SPDX-License-Identifier: Apache-2.0 */
/* The cache and its storages, put together and taken apart; waiting for room. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/util.h"
#include "cache/file.h"

/* Nobody misses a signal for longer. */
#define ROOM_WAIT_NS 20000000ull

/* storage_dirty_max(): what each has, of the pool. */
#define DIRTY_LEAST_PART 32u

/* Bytes of memory that the host has: more no cache could use. */
static uint64_t host_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

/*
 * #syscalls sysinfo
 */
struct err *cache_new(struct cache **out, const struct pool_config *config)
{
	struct cache *cache = aligned_alloc(_Alignof(struct cache), sizeof(*cache));
	struct pool_config pool = *config;
	struct err *e;

	if (!cache)
		return err_errno(ENOMEM, "cache");
	memset(cache, 0, sizeof(*cache));
	if (!pool.size_max)
		pool.size_max = host_memory();
	e = pool_new(&cache->pool, &pool, file_evict, cache);
	if (e) {
		free(cache);
		return e;
	}
	map_memory_init(&cache->maps);
	map_layout_init(&cache->layout, cache->pool, &cache->maps);
	pthread_mutex_init(&cache->lock, NULL);
	list_init(&cache->storages);
	*out = cache;
	return NULL;
}

void cache_free(struct cache *cache)
{
	if (!cache)
		return;
	pool_free(cache->pool);
	map_memory_exit(&cache->maps);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

void cache_usage(const struct cache *cache, struct pool_usage *out)
{
	pool_usage(cache->pool, out);
}

uint64_t cache_map_bytes(struct cache *cache)
{
	return map_memory_bytes(&cache->maps);
}

/*
 * A service that is dead takes what dirty_limit gives it, for as long as it is dead. Several of
 * them, which may be one endpoint with several buckets, would take all of the pool: so together
 * they have three fourths, and beyond that each only a bit. Who finds others to have that much
 * writes less at a time.
 */
uint64_t storage_dirty_max(const struct cache_storage *s)
{
	uint64_t all = atomic_load_explicit(&s->cache->dirty_bytes, memory_order_relaxed);
	uint64_t own = atomic_load_explicit(&s->dirty_bytes, memory_order_relaxed);
	uint64_t others = all > own ? all - own : 0;
	uint64_t room = s->dirty_all > others ? s->dirty_all - others : 0;

	return MIN(s->dirty_max, MAX(room, s->dirty_least));
}

/* What follows from the size of the pool. With cache.lock. */
static void storage_set_limits(struct cache_storage *s)
{
	struct pool_usage usage;
	uint64_t dirty_max, rest;

	pool_usage(s->cache->pool, &usage);
	dirty_max = usage.arena * s->config.dirty_percent / 100;
	pthread_mutex_lock(&s->lock);
	s->dirty_max = dirty_max;
	s->dirty_all = MAX(dirty_max, usage.arena / 4 * 3);
	s->dirty_least = MIN(dirty_max, usage.arena / DIRTY_LEAST_PART);
	/* Of what can not be dirty, half; and half of that for what commits have to read. */
	rest = usage.arena - dirty_max;
	s->apart_max = MIN(dirty_max / 2, rest / 2);
	s->fill_max = rest / 4;
	cleaner_wake(s);
	pthread_mutex_unlock(&s->lock);
	storage_room(s);
}

struct err *cache_resize(struct cache *cache, uint64_t size)
{
	struct err *e;
	struct list *pos;

	pthread_mutex_lock(&cache->lock);
	e = pool_resize(cache->pool, size);
	if (!e)
		list_for_each (pos, &cache->storages)
			storage_set_limits(list_entry(pos, struct cache_storage, link));
	pthread_mutex_unlock(&cache->lock);
	return e;
}

/* Of @s, what can be changed at any time. */
static void storage_configure(struct cache_storage *s, const struct cache_storage_config *config)
{
	s->config.write_back = config->write_back;
	s->config.write_back_delay_ns = config->write_back_delay_ns;
	s->config.dirty_percent = config->dirty_percent;
	s->config.expiration = config->expiration;
	s->config.expiration_ns = config->expiration_ns;
	s->config.wait_timeout_ns = config->wait_timeout_ns;
	s->config.read_ahead_max = config->read_ahead_max;
	s->config.sparse_max = config->sparse_max;
	s->config.part_size = config->part_size;
	s->config.parts_in_flight = config->parts_in_flight;
	s->config.conflict = config->conflict;
}

unsigned cache_storage_reconfigure(struct cache_storage *s,
				   const struct cache_storage_config *config, uint64_t drain_ns)
{
	bool drain;

	pthread_mutex_lock(&s->cache->lock);
	drain = s->config.write_back && !config->write_back;
	storage_configure(s, config);
	storage_set_limits(s);
	pthread_mutex_unlock(&s->cache->lock);
	cleaner_look_anew(s);
	return drain ? storage_write_out(s, drain_ns) : 0;
}

static void cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

static void storage_destroy(struct cache_storage *s)
{
	table_exit(s);
	fill_exit(s);
	pthread_cond_destroy(&s->room);
	pthread_cond_destroy(&s->idle);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/*
 * #syscalls getrandom
 */
struct err *cache_storage_new(struct cache_storage **out, struct cache *cache,
			      const struct cache_storage_config *config)
{
	/* Aligned for the counters of hits. */
	struct cache_storage *s = aligned_alloc(64, sizeof(*s));
	struct err *e = NULL;
	int ret;

	if (!s)
		return err_errno(ENOMEM, "cached storage");
	memset(s, 0, sizeof(*s));
	s->cache = cache;
	s->config.store = config->store;
	s->config.workers = config->workers;
	storage_configure(s, config);
	list_init(&s->dirty);
	leftover_init(s);
	pthread_mutex_init(&s->lock, NULL);
	cond_init_monotonic(&s->room);
	cond_init_monotonic(&s->idle);
	if (getrandom(&s->hash_seed, sizeof(s->hash_seed), 0) < 0)
		s->hash_seed = loop_now_ns();
	ret = table_init(s);
	if (ret == 0)
		ret = fill_init(s);
	if (ret == 0)
		ret = pool_owner_init(cache->pool, &s->owner);
	if (ret < 0) {
		e = err_errno(-ret, "cached storage");
	} else {
		pthread_mutex_lock(&cache->lock);
		storage_set_limits(s);
		e = cleaner_start(s);
		if (e)
			pool_owner_exit(cache->pool, &s->owner);
		else
			list_push_back(&cache->storages, &s->link);
		pthread_mutex_unlock(&cache->lock);
	}
	if (e) {
		storage_destroy(s);
		return e;
	}
	*out = s;
	return NULL;
}

/* Everything that is cached of a file, changes of ours included. */
static void storage_drop_file(struct cache_file *f, void *arg)
{
	(void)arg;
	file_purge(f, true);
	pthread_mutex_lock(&f->lock);
	if (atomic_load_explicit(&f->dirty, memory_order_relaxed))
		file_dirty_end(f);
	pthread_mutex_unlock(&f->lock);
	file_put(f);
}

void cache_storage_free(struct cache_storage *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->cache->lock);
	list_remove(&s->link);
	pthread_mutex_unlock(&s->cache->lock);
	cleaner_stop(s);
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	while (s->in_flight > 0)
		pthread_cond_wait(&s->idle, &s->lock);
	pthread_mutex_unlock(&s->lock);
	leftover_exit(s);
	table_each(s, storage_drop_file, NULL);
	pool_owner_exit(s->cache->pool, &s->owner);
	storage_count_dirty(s, -(int64_t)s->dirty_bytes);
	storage_destroy(s);
}

void storage_begin(struct cache_storage *s)
{
	pthread_mutex_lock(&s->lock);
	s->in_flight++;
	pthread_mutex_unlock(&s->lock);
}

void storage_end(struct cache_storage *s)
{
	pthread_mutex_lock(&s->lock);
	if (--s->in_flight == 0)
		pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->lock);
}

void storage_room(struct cache_storage *s)
{
	if (atomic_load_explicit(&s->room_waiters, memory_order_acquire) == 0)
		return;
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->lock);
}

bool storage_room_wait(struct cache_storage *s, uint64_t deadline_ns)
{
	uint64_t now = loop_now_ns(), until = MIN(now + ROOM_WAIT_NS, deadline_ns);
	struct timespec ts = {
		.tv_sec = (time_t)(until / 1000000000),
		.tv_nsec = (long)(until % 1000000000),
	};

	if (now >= deadline_ns)
		return false;
	pthread_mutex_lock(&s->lock);
	atomic_fetch_add_explicit(&s->room_waiters, 1, memory_order_acq_rel);
	pthread_cond_timedwait(&s->room, &s->lock, &ts);
	atomic_fetch_sub_explicit(&s->room_waiters, 1, memory_order_relaxed);
	pthread_mutex_unlock(&s->lock);
	return true;
}

void cache_storage_usage(const struct cache_storage *s, struct cache_storage_usage *out)
{
	memset(out, 0, sizeof(*out));
	out->files = atomic_load_explicit(&s->count.files, memory_order_relaxed);
	out->bytes = atomic_load_explicit(&s->owner.bytes, memory_order_relaxed);
	out->dirty_files = atomic_load_explicit(&s->dirty_files, memory_order_relaxed);
	out->dirty_bytes = atomic_load_explicit(&s->dirty_bytes, memory_order_relaxed);
	out->apart_bytes = atomic_load_explicit(&s->apart_bytes, memory_order_relaxed);
	out->fetched = atomic_load_explicit(&s->count.fetched, memory_order_relaxed);
	out->commits = atomic_load_explicit(&s->count.commits, memory_order_relaxed);
	out->commit_failures =
		atomic_load_explicit(&s->count.commit_failures, memory_order_relaxed);
	for (unsigned i = 0; i < STORAGE_HIT_SHARDS; i++) {
		out->hits += atomic_load_explicit(&s->hits[i].hits, memory_order_relaxed);
		out->misses += atomic_load_explicit(&s->hits[i].misses, memory_order_relaxed);
	}
}
