/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages for the pool: whatever the kernel makes of them, what was written stays. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/pool.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define THREADS 4

static struct pool_owner owner;

static struct pool_owner *evict_nothing(void *arg, struct block *b)
{
	(void)arg;
	(void)b;
	return NULL;
}

static struct pool *start(uint64_t size, uint32_t smallest, uint32_t largest)
{
	struct pool_config c = { .size = size,
				 .block_sizes = { smallest, largest },
				 .classes = 2,
				 .huge_pages = POOL_HUGE_AUTO };
	struct pool *pool;
	struct err *e = pool_new(&pool, &c, evict_nothing, NULL);

	if (e)
		fail_msg("%s", err_msg(e));
	assert_int_equal(pool_owner_init(pool, &owner), 0);
	return pool;
}

struct taker {
	struct pool *pool;
	unsigned class, count;
	block_id *taken;
	bool whole; /* it still has what was written, all of it */
};

/* Takes blocks until there are none, and writes into each who it is. */
static void *take_all(void *arg)
{
	struct taker *t = arg;
	uint32_t size = pool_class_size(t->pool, t->class);
	struct block *b;

	while ((b = pool_get(t->pool, t->class, &owner))) {
		block_id id = pool_block_id(t->pool, b);
		unsigned char *data = pool_data(t->pool, b);

		atomic_store(&b->state, BLOCK_DIRTY);
		pool_add(t->pool, b);
		t->taken[t->count++] = id;
		for (uint32_t i = 0; i < size; i += 4 * KIB)
			memcpy(data + i, &id, sizeof(id));
	}
	t->whole = true;
	for (unsigned k = 0; k < t->count; k++) {
		unsigned char *data = pool_data(t->pool, pool_block(t->pool, t->taken[k]));

		for (uint32_t i = 0; i < size; i += 4 * KIB)
			t->whole &= memcmp(data + i, &t->taken[k], sizeof(t->taken[k])) == 0;
	}
	return NULL;
}

/* @class of a new pool, by several threads at a time; gives all of it back. */
static void fill(uint64_t size, uint32_t smallest, uint32_t largest, unsigned class)
{
	struct pool *pool = start(size, smallest, largest);
	struct taker taker[THREADS];
	pthread_t thread[THREADS];
	uint64_t bytes = 0;
	struct pool_usage u;

	for (unsigned i = 0; i < THREADS; i++) {
		taker[i] = (struct taker){ .pool = pool, .class = class };
		taker[i].taken = calloc(size / pool_class_size(pool, class), sizeof(block_id));
		assert_non_null(taker[i].taken);
		assert_int_equal(pthread_create(&thread[i], NULL, take_all, &taker[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		assert_true(taker[i].whole);
		for (unsigned k = 0; k < taker[i].count; k++) {
			struct block *b = pool_block(pool, taker[i].taken[k]);

			bytes += pool_class_size(pool, class);
			atomic_store(&b->state, BLOCK_FREE);
			pool_put(pool, b, &owner);
		}
		free(taker[i].taken);
	}
	pool_usage(pool, &u);
	assert_int_equal(bytes, u.arena);
	pool_owner_exit(pool, &owner);
	pool_free(pool);
}

static void small_blocks_keep_what_is_written(void **state)
{
	(void)state;
	fill(64 * MIB, 16 * KIB, 2 * MIB, 0);
}

static void large_blocks_keep_what_is_written(void **state)
{
	(void)state;
	fill(128 * MIB, 4 * KIB, 2 * MIB, 1);
}

/* They go without. */
static void slabs_below_a_huge_page(void **state)
{
	(void)state;
	fill(33 * MIB, 64 * KIB, 1 * MIB, 0);
	fill(9 * MIB, 4 * KIB, 64 * KIB, 1);
}

static void slabs_of_many_huge_pages(void **state)
{
	(void)state;
	fill(256 * MIB, 256 * KIB, 16 * MIB, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_blocks_keep_what_is_written),
		cmocka_unit_test(large_blocks_keep_what_is_written),
		cmocka_unit_test(slabs_below_a_huge_page),
		cmocka_unit_test(slabs_of_many_huge_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
