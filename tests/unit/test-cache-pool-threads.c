/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads at the pool at once, as the cache uses it: readers that take no lock, misses,
 * drops, evictions from everywhere, in all classes and for several owners. To be run under
 * ThreadSanitizer too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "cache/pool.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define THREADS 6
#define OWNERS 2
#define SLOTS 2048

#if defined(__SANITIZE_THREAD__)
#define STEPS 30000
#else
#define STEPS 200000
#endif

/* A map of one file for each slot: the lock is the file's. */
struct slot {
	pthread_mutex_t lock;
	_Atomic uint32_t id;
};

static struct slot slots[SLOTS];
static struct pool_owner owners[OWNERS];
static struct pool *pool;
/* By units of the smallest class: whether a block in use covers it. */
static _Atomic uint8_t *used;
static _Atomic uint64_t hits, misses, drops, nones;

static const struct pool_config config = {
	.size = 8 * MIB,
	.size_max = 12 * MIB,
	.block_sizes = { 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB },
	.classes = 4,
	.huge_pages = POOL_HUGE_NEVER,
};

static unsigned slot_class(unsigned n)
{
	return n % 32 == 0 ? 3 : n % 8 == 0 ? 2 : n % 2;
}

static unsigned slot_owner(unsigned n)
{
	return n / 64 % OWNERS;
}

static void broken(const char *what)
{
	/* cmocka's own would jump out of the wrong thread */
	fprintf(stderr, "# %s\n", what);
	abort();
}

static void cover(struct block *b, bool on)
{
	uint32_t units = pool_class_size(pool, b->class) / (4 * KIB);
	block_id id = pool_block_id(pool, b);

	for (uint32_t i = 0; i < units; i++)
		if (atomic_exchange(&used[id + i], on) == on)
			broken(on ? "a block was handed out twice"
				  : "a block was given back twice");
}

static struct pool_owner *evict(void *arg, struct block *b)
{
	uint32_t id = pool_block_id(pool, b), n;

	(void)arg;
	if (!block_try_evict(b))
		return NULL;
	n = b->region;
	cover(b, false);
	atomic_compare_exchange_strong(&slots[n].id, &id, BLOCK_NONE);
	return &owners[slot_owner(n)];
}

static void put(struct block *b, unsigned n)
{
	cover(b, false);
	pool_put(pool, b, &owners[slot_owner(n)]);
}

/* As a reader: no lock. Whether it was there. */
static bool hit(unsigned n)
{
	uint32_t id = atomic_load(&slots[n].id);
	struct block *b = pool_block(pool, id);
	uint32_t words = pool_class_size(pool, slot_class(n)) / 4;
	const uint32_t *data;

	if (!id || !block_pin(b))
		return false;
	if (atomic_load(&slots[n].id) != id || !block_covers(b, 0, 1)) {
		block_unpin(b);
		return false;
	}
	data = pool_data(pool, b);
	if (data[0] != n || data[words - 1] != n || b->region != n)
		broken("a pinned block holds a stranger's bytes");
	block_touch(b);
	block_unpin(b);
	atomic_fetch_add_explicit(&hits, 1, memory_order_relaxed);
	return true;
}

static void miss(unsigned n)
{
	struct pool_owner *owner = &owners[slot_owner(n)];
	uint32_t words = pool_class_size(pool, slot_class(n)) / 4, *data;
	struct block *b;

	pthread_mutex_lock(&slots[n].lock);
	if (atomic_load(&slots[n].id)) {
		pthread_mutex_unlock(&slots[n].lock);
		return;
	}
	b = pool_get(pool, slot_class(n), owner);
	if (!b) {
		atomic_fetch_add(&nones, 1);
		pthread_mutex_unlock(&slots[n].lock);
		return;
	}
	cover(b, true);
	b->region = n;
	b->file = (struct cache_file *)(void *)&slots[n];
	atomic_store_explicit(&b->valid, 0, memory_order_relaxed);
	if (n % 5 == 0) {
		/* second thoughts, before it was ever added */
		put(b, n);
		pthread_mutex_unlock(&slots[n].lock);
		return;
	}
	atomic_fetch_add_explicit(&b->state, 1u - BLOCK_FREE, memory_order_release);
	atomic_store(&slots[n].id, pool_block_id(pool, b));
	pool_add(pool, b);
	if (n % 3 == 0)
		block_set(b, BLOCK_DIRTY);
	data = pool_data(pool, b);
	data[0] = data[words - 1] = n;
	atomic_store_explicit(&b->valid, block_range(0, words * 4), memory_order_release);
	block_unpin(b);
	if (n % 3 == 0)
		block_clear(b, BLOCK_DIRTY);
	pthread_mutex_unlock(&slots[n].lock);
	atomic_fetch_add_explicit(&misses, 1, memory_order_relaxed);
}

static void drop(unsigned n)
{
	struct block *b;
	uint32_t id;

	pthread_mutex_lock(&slots[n].lock);
	id = atomic_load(&slots[n].id);
	b = pool_block(pool, id);
	if (id && block_pin(b)) {
		if (atomic_compare_exchange_strong(&slots[n].id, &id, BLOCK_NONE)) {
			/* Readers may have it pinned: the evictor's, then. */
			if (block_unpin_evict(b)) {
				put(b, n);
				atomic_fetch_add_explicit(&drops, 1, memory_order_relaxed);
			}
		} else {
			block_unpin(b);
		}
	}
	pthread_mutex_unlock(&slots[n].lock);
}

static void *work(void *arg)
{
	uint64_t x = 0x9e3779b97f4a7c15u * ((uintptr_t)arg + 1);

	for (unsigned i = 0; i < STEPS; i++) {
		unsigned n, what;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		/* Phases with other classes in demand, so that slabs move. */
		n = (unsigned)(x >> 32) % SLOTS;
		if (i / 4096 % 3 == 1)
			n &= ~7u;
		else if (i / 4096 % 3 == 2)
			n |= 1;
		what = (unsigned)(x & 15);
		if (what == 0)
			drop(n);
		else if (!hit(n))
			miss(n);
	}
	return NULL;
}

/* Meanwhile somebody wants more memory, and less. */
static void *resize(void *arg)
{
	const _Atomic bool *stop = arg;

	for (unsigned i = 0; !atomic_load(stop); i++) {
		static const unsigned mib[] = { 3, 12, 6, 8, 2 };
		struct err *e = pool_resize(pool, mib[i % 5] * MIB);

		if (e)
			broken(err_msg(e));
		usleep(2000);
		pool_trim(pool);
	}
	return NULL;
}

static void check_all_came_back(void)
{
	struct pool_usage u;
	uint64_t n = 0;

	/* Dropped while pinned: on the LRU still, for the evictor. So has anybody's taken. */
	for (unsigned i = 0; i < OWNERS; i++)
		n += atomic_load(&owners[i].bytes);
	pool_usage(pool, &u);
	for (unsigned i = 0; i < pool_classes(pool); i++)
		n -= u.blocks[i] * pool_class_size(pool, i);
	assert_int_equal(n, 0);
	for (unsigned i = 0; i < SLOTS; i++)
		drop(i);
	/* The whole arena can be had in any class. What was dropped while pinned is its
	 * owner's still, and only he is sure to get it. */
	for (unsigned class = 0; class < pool_classes(pool); class ++) {
		struct block **b = calloc(u.arena / (4 * KIB) + 1, sizeof(*b));
		size_t count = 0, first;

		while ((b[count] = pool_get(pool, class, &owners[0])))
			cover(b[count++], true);
		first = count;
		while ((b[count] = pool_get(pool, class, &owners[1])))
			cover(b[count++], true);
		assert_int_equal(count, u.arena / pool_class_size(pool, class));
		while (count > 0) {
			cover(b[--count], false);
			pool_put(pool, b[count], &owners[count >= first]);
		}
		free(b);
	}
	assert_int_equal(atomic_load(&owners[0].bytes), 0);
	assert_int_equal(atomic_load(&owners[1].bytes), 0);
}

static void no_block_has_two_holders(void **state)
{
	_Atomic bool stop = false;
	pthread_t threads[THREADS], resizer;
	struct pool_usage u;
	struct err *e = pool_new(&pool, &config, evict, NULL);

	(void)state;
	assert_null(e);
	used = calloc(2 * config.size / (4 * KIB), 1);
	for (unsigned i = 0; i < OWNERS; i++)
		assert_int_equal(pool_owner_init(pool, &owners[i]), 0);
	for (unsigned i = 0; i < SLOTS; i++)
		pthread_mutex_init(&slots[i].lock, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
	assert_int_equal(pthread_create(&resizer, NULL, resize, (void *)&stop), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&stop, true);
	pthread_join(resizer, NULL);
	assert_null(pool_resize(pool, config.size));
	pool_usage(pool, &u);
	print_message(
		"# %ju hits, %ju misses, %ju drops, %ju without memory, %ju evicted, %ju slabs\n",
		(uintmax_t)hits, (uintmax_t)misses, (uintmax_t)drops, (uintmax_t)nones,
		(uintmax_t)u.evicted, (uintmax_t)u.slabs_returned);
	assert_true(hits > 0 && drops > 0 && u.evicted > 0 && u.slabs_returned > 0);
	check_all_came_back();
	for (unsigned i = 0; i < OWNERS; i++)
		pool_owner_exit(pool, &owners[i]);
	pool_free(pool);
	free((void *)used);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_block_has_two_holders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
