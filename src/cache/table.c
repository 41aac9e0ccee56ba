/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key -> file, and how long a file lives.
 *
 * A file is referenced by its holders, by each of its blocks, by its fetches, and by
 * being dirty; holders, who came through cache.h, are counted apart, too. So what is cached stays
 * findable as long as anything of it is, and a file of which nothing is left goes at once. The last
 * reference is dropped under the lock of its shard, where somebody might just find it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "cache/file.h"

#define TABLE_BUCKETS_MIN 16

/* wyhash-like mixing is not needed: keys are not chosen to collide by somebody who knows
 * the seed. FNV-1a, finished so that the low bits are good. */
static uint64_t table_hash(const struct cache_storage *s, const char *key)
{
	uint64_t h = s->hash_seed ^ 0xcbf29ce484222325u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 0x100000001b3u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

static struct table_shard *shard_of(struct cache_storage *s, uint64_t hash)
{
	return &s->shard[hash % TABLE_SHARDS];
}

static struct cache_file **bucket_of(struct table_shard *shard, uint64_t hash)
{
	return &shard->bucket[(hash / TABLE_SHARDS) & (shard->buckets - 1)];
}

int table_init(struct cache_storage *s)
{
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		struct table_shard *shard = &s->shard[i];

		shard->buckets = TABLE_BUCKETS_MIN;
		shard->bucket = calloc(shard->buckets, sizeof(shard->bucket[0]));
		if (!shard->bucket)
			return -ENOMEM;
		pthread_mutex_init(&shard->lock, NULL);
		list_init(&shard->all);
	}
	return 0;
}

void table_exit(struct cache_storage *s)
{
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		if (s->shard[i].bucket)
			pthread_mutex_destroy(&s->shard[i].lock);
		free(s->shard[i].bucket);
	}
}

/* Twice the buckets, when there is memory; chains get longer when there is none. */
static void shard_grow(struct table_shard *shard)
{
	size_t old = shard->buckets;
	struct cache_file **bucket, **former = shard->bucket;

	bucket = calloc(old * 2, sizeof(bucket[0]));
	if (!bucket)
		return;
	shard->bucket = bucket;
	shard->buckets = old * 2;
	for (size_t i = 0; i < old; i++) {
		struct cache_file *f = former[i];

		while (f) {
			struct cache_file *next = f->next_in_bucket;
			struct cache_file **head = bucket_of(shard, f->hash);

			f->next_in_bucket = *head;
			*head = f;
			f = next;
		}
	}
	free(former);
}

static void shard_insert(struct table_shard *shard, struct cache_file *f)
{
	struct cache_file **head;

	if (shard->files >= shard->buckets)
		shard_grow(shard);
	head = bucket_of(shard, f->hash);
	f->next_in_bucket = *head;
	*head = f;
	f->in_table = true;
	shard->files++;
}

static void shard_remove(struct table_shard *shard, struct cache_file *f)
{
	struct cache_file **p;

	if (!f->in_table)
		return;
	for (p = bucket_of(shard, f->hash); *p != f; p = &(*p)->next_in_bucket)
		;
	*p = f->next_in_bucket;
	f->in_table = false;
	shard->files--;
}

static void shard_own(struct table_shard *shard, struct cache_file *f)
{
	list_push_back(&shard->all, &f->all_link);
	shard->all_count++;
}

static void shard_disown(struct table_shard *shard, struct cache_file *f)
{
	list_remove(&f->all_link);
	shard->all_count--;
}

static struct cache_file *shard_find(struct table_shard *shard, uint64_t hash, const char *key)
{
	struct cache_file *f;

	for (f = *bucket_of(shard, hash); f; f = f->next_in_bucket)
		if (f->hash == hash && !strcmp(f->key, key))
			return f;
	return NULL;
}

static void file_free(struct cache_file *f)
{
	atomic_fetch_sub_explicit(&f->storage->count.files, 1, memory_order_relaxed);
	map_free(&f->storage->cache->layout, &f->map);
	free(f->properties.text);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f->key);
	free(f);
}

struct cache_file *file_ref(struct cache_file *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

static struct cache_file *file_hold(struct cache_file *f)
{
	atomic_fetch_add_explicit(&f->holders, 1, memory_order_relaxed);
	return file_ref(f);
}

/* The shard that @f is in, locked. Its hash changes under both shards' locks only. */
static struct table_shard *file_lock_shard(struct cache_file *f)
{
	for (;;) {
		uint64_t hash = atomic_load_explicit(&f->hash, memory_order_relaxed);
		struct table_shard *shard = shard_of(f->storage, hash);

		pthread_mutex_lock(&shard->lock);
		if (atomic_load_explicit(&f->hash, memory_order_relaxed) == hash)
			return shard;
		pthread_mutex_unlock(&shard->lock);
	}
}

void file_put(struct cache_file *f)
{
	uint32_t refs = atomic_load_explicit(&f->refs, memory_order_relaxed);
	struct table_shard *shard;
	bool last;

	while (refs > 1)
		if (atomic_compare_exchange_weak_explicit(
			    &f->refs, &refs, refs - 1, memory_order_release, memory_order_relaxed))
			return;
	shard = file_lock_shard(f);
	last = atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1;
	if (last) {
		shard_remove(shard, f);
		shard_disown(shard, f);
	}
	pthread_mutex_unlock(&shard->lock);
	if (last)
		file_free(f);
}

struct cache_file *cache_file_ref(struct cache_file *f)
{
	return file_hold(f);
}

void cache_file_put(struct cache_file *f)
{
	/* What nobody can find any more, and nobody has, is of no use. */
	if (atomic_fetch_sub_explicit(&f->holders, 1, memory_order_acq_rel) == 1 &&
	    file_is(f, FILE_UNLINKED))
		file_abandon(f);
	file_put(f);
}

/* A new file without blocks, referenced once, that no key leads to. */
static struct cache_file *file_new(struct cache_storage *s, const char *key, uint64_t hash)
{
	struct cache_file *f = calloc(1, sizeof(*f));
	pthread_condattr_t attr;

	if (!f)
		return NULL;
	f->key = strdup(key);
	if (!f->key) {
		free(f);
		return NULL;
	}
	f->storage = s;
	atomic_init(&f->hash, hash);
	atomic_init(&f->refs, 1);
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->changed, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&f->fetches);
	list_init(&f->dirty_link);
	pthread_mutex_lock(&shard_of(s, hash)->lock);
	shard_own(shard_of(s, hash), f);
	pthread_mutex_unlock(&shard_of(s, hash)->lock);
	f->version = atomic_fetch_add_explicit(&s->version, 1, memory_order_relaxed) + 1;
	atomic_fetch_add_explicit(&s->count.files, 1, memory_order_relaxed);
	return f;
}

static void file_set_base(struct cache_file *f, const struct store_meta *meta, uint64_t seen_ns)
{
	f->base = *meta;
	f->mtime_ns = meta->has_user_mtime ? meta->user_mtime_ns : meta->mtime_ns;
	atomic_init(&f->size, meta->size);
	atomic_init(&f->base_limit, meta->size);
	atomic_init(&f->validated_ns, seen_ns);
}

/* The base was current at @seen_ns; never goes back. */
static void file_validated_at(struct cache_file *f, uint64_t seen_ns)
{
	uint64_t old = atomic_load_explicit(&f->validated_ns, memory_order_relaxed);

	while (old < seen_ns &&
	       !atomic_compare_exchange_weak_explicit(&f->validated_ns, &old, seen_ns,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

/* Whether what is cached in @f may be shown to somebody who just saw @meta in the
 * storage. Without the file's lock: base.etag is read under the shard's. */
static bool file_serves(struct cache_file *f, const struct store_meta *meta, uint64_t seen_ns)
{
	return file_is(f, FILE_CREATED) || file_in_place(f) ||
	       atomic_load_explicit(&f->dirty, memory_order_acquire) ||
	       atomic_load_explicit(&f->committing, memory_order_acquire) ||
	       atomic_load_explicit(&f->validated_ns, memory_order_relaxed) > seen_ns ||
	       (meta->etag[0] && !strcmp(f->base.etag, meta->etag));
}

/* @f is not what the storage has any more. Referenced for table_forget(). */
static struct cache_file *shard_replace(struct table_shard *shard, struct cache_file *f)
{
	shard_remove(shard, f);
	atomic_fetch_or_explicit(&f->flags, FILE_REPLACED, memory_order_release);
	return file_ref(f);
}

/* Or is to be made. With the lock of its shard. */
static bool file_has_changes(const struct cache_file *f)
{
	return file_is(f, FILE_CREATED) || atomic_load_explicit(&f->dirty, memory_order_acquire);
}

void table_forget(struct cache_file *f)
{
	if (!f)
		return;
	file_purge(f, false);
	file_put(f);
}

struct cache_file *cache_file_get(struct cache_storage *s, const char *key,
				  const struct store_meta *meta, uint64_t seen_ns)
{
	uint64_t hash = table_hash(s, key);
	struct table_shard *shard = shard_of(s, hash);
	struct cache_file *f, *made = NULL, *former = NULL;

	for (;;) {
		pthread_mutex_lock(&shard->lock);
		f = shard_find(shard, hash, key);
		if (f && file_serves(f, meta, seen_ns)) {
			file_hold(f);
			if (!strcmp(f->base.etag, meta->etag))
				file_validated_at(f, seen_ns);
			break;
		}
		if (made) {
			if (f)
				former = shard_replace(shard, f);
			shard_insert(shard, made);
			atomic_init(&made->holders, 1);
			f = made;
			made = NULL;
			break;
		}
		pthread_mutex_unlock(&shard->lock);
		made = file_new(s, key, hash);
		if (!made)
			return NULL;
		file_set_base(made, meta, seen_ns);
	}
	pthread_mutex_unlock(&shard->lock);
	if (made)
		file_put(made);
	table_forget(former);
	return f;
}

struct cache_file *cache_file_peek(struct cache_storage *s, const char *key)
{
	uint64_t hash = table_hash(s, key);
	struct table_shard *shard = shard_of(s, hash);
	struct cache_file *f;

	pthread_mutex_lock(&shard->lock);
	f = shard_find(shard, hash, key);
	if (f)
		file_hold(f);
	pthread_mutex_unlock(&shard->lock);
	return f;
}

struct cache_file *cache_file_create(struct cache_storage *s, const char *key, int *error)
{
	uint64_t hash = table_hash(s, key);
	struct table_shard *shard = shard_of(s, hash);
	struct cache_file *f = file_new(s, key, hash), *there;
	struct timespec now;

	if (!f) {
		*error = -ENOMEM;
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	f->mtime_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	f->properties_known = true; /* there are none */
	atomic_init(&f->flags, FILE_CREATED);
	atomic_init(&f->validated_ns, loop_now_ns());

	pthread_mutex_lock(&shard->lock);
	there = shard_find(shard, hash, key);
	if (there && file_has_changes(there)) {
		pthread_mutex_unlock(&shard->lock);
		file_put(f);
		*error = -EEXIST;
		return NULL;
	}
	/* What is cached of an object that is gone by now. */
	if (there)
		there = shard_replace(shard, there);
	shard_insert(shard, f);
	atomic_init(&f->holders, 1);
	pthread_mutex_unlock(&shard->lock);
	table_forget(there);

	pthread_mutex_lock(&f->lock);
	f->write_seq = 1;
	file_dirty_begin(f);
	pthread_mutex_unlock(&f->lock);
	return f;
}

void table_remove(struct cache_file *f)
{
	struct table_shard *shard = file_lock_shard(f);

	shard_remove(shard, f);
	pthread_mutex_unlock(&shard->lock);
}

bool table_restore(struct cache_file *f, struct cache_file **former)
{
	struct table_shard *shard = file_lock_shard(f);
	struct cache_file *there =
		shard_find(shard, atomic_load_explicit(&f->hash, memory_order_relaxed), f->key);
	bool taken = there && file_has_changes(there);

	*former = !taken && there ? shard_replace(shard, there) : NULL;
	if (!taken)
		shard_insert(shard, f);
	pthread_mutex_unlock(&shard->lock);
	return !taken;
}

/* Two shards, in the order of their addresses. */
static void shards_lock(struct table_shard *a, struct table_shard *b)
{
	pthread_mutex_lock(a < b ? &a->lock : &b->lock);
	if (a != b)
		pthread_mutex_lock(a < b ? &b->lock : &a->lock);
}

static void shards_unlock(struct table_shard *a, struct table_shard *b)
{
	pthread_mutex_unlock(&a->lock);
	if (a != b)
		pthread_mutex_unlock(&b->lock);
}

void table_rename(struct cache_file *f, char *key)
{
	uint64_t hash = table_hash(f->storage, key);
	struct table_shard *to = shard_of(f->storage, hash);
	struct table_shard *from =
		shard_of(f->storage, atomic_load_explicit(&f->hash, memory_order_relaxed));
	struct cache_file *there;
	char *former;

	/* The hash of a file changes under its lock, which the caller has. */
	shards_lock(from, to);
	shard_remove(from, f);
	shard_disown(from, f);
	shard_own(to, f);
	there = shard_find(to, hash, key);
	if (there) {
		shard_remove(to, there);
		atomic_fetch_or_explicit(&there->flags, FILE_UNLINKED | FILE_RENAMED_OVER,
					 memory_order_release);
	}
	former = f->key;
	f->key = key;
	atomic_store_explicit(&f->hash, hash, memory_order_relaxed);
	shard_insert(to, f);
	shards_unlock(from, to);
	free(former);
}

void table_set_base(struct cache_file *f, const struct store_meta *meta)
{
	struct table_shard *shard = file_lock_shard(f);

	f->base = *meta;
	pthread_mutex_unlock(&shard->lock);
}

void table_each(struct cache_storage *s, void (*fn)(struct cache_file *f, void *arg), void *arg)
{
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		struct table_shard *shard = &s->shard[i];
		struct cache_file **all;
		struct list *pos;
		size_t n = 0;

		pthread_mutex_lock(&shard->lock);
		all = calloc(shard->all_count + 1, sizeof(struct cache_file *));
		list_for_each (pos, &shard->all)
			if (all)
				all[n++] = file_ref(list_entry(pos, struct cache_file, all_link));
		pthread_mutex_unlock(&shard->lock);
		for (size_t k = 0; k < n; k++)
			fn(all[k], arg);
		free(all);
	}
}
