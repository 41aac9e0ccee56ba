/* SPDX-License-Identifier: Apache-2.0 */
/* How classes get memory from each other, and how much is free but not to be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/err.h"
#include "base/util.h"
#include "cache/pool.h"

#define KIB 1024u
#define MIB (1024u * KIB)
#define CLASSES 6

static const struct pool_config config = {
	.size = 64 * MIB,
	.block_sizes = { 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 2 * MIB },
	.classes = CLASSES,
	.huge_pages = POOL_HUGE_NEVER,
};

static struct pool_owner owner;
/* What is in use, by block_id, for give_random(); evictions are seen by their flag. */
static struct block **taken;
static size_t count;
static uint64_t x;

static struct pool_owner *evict_clean(void *arg, struct block *b)
{
	(void)arg;
	return block_try_evict(b) ? &owner : NULL;
}

static uint64_t random_number(void)
{
	x ^= x << 13, x ^= x >> 7, x ^= x << 17;
	return x;
}

static struct pool *start(void)
{
	struct pool *pool;
	struct err *e = pool_new(&pool, &config, evict_clean, NULL);

	assert_null(e);
	assert_int_equal(pool_owner_init(pool, &owner), 0);
	taken = calloc(1u << 20, sizeof(struct block *));
	count = 0;
	x = 88172645463325252u;
	return pool;
}

static void end(struct pool *pool)
{
	free(taken);
	atomic_store(&owner.bytes, 0);
	pool_owner_exit(pool, &owner);
	pool_free(pool);
}

static struct block *take(struct pool *pool, unsigned class, uint32_t flags)
{
	struct block *b = pool_get(pool, class, &owner);

	if (!b)
		return NULL;
	atomic_store(&b->state, flags);
	pool_add(pool, b);
	taken[count++] = b;
	return b;
}

static void give(struct pool *pool, size_t i)
{
	struct block *b = taken[i];

	taken[i] = taken[--count];
	atomic_store(&b->state, BLOCK_FREE);
	pool_put(pool, b, &owner);
}

static uint64_t free_bytes(struct pool *pool)
{
	struct pool_usage u;
	uint64_t bytes;

	pool_usage(pool, &u);
	bytes = u.free;
	for (unsigned i = 0; i < CLASSES; i++)
		bytes += u.free_blocks[i] * pool_class_size(pool, i);
	return bytes;
}

/* Dirty blocks in sizes that vary, given back at random: the most that a pool is ever torn to
 * pieces. At each failure: how much of the arena is free all the same. */
static void little_is_free_when_there_is_none(void **state)
{
	struct pool *pool = start();
	uint64_t worst = 0, sum = 0, samples = 0, of_small = 0;
	struct pool_usage u;

	(void)state;
	pool_usage(pool, &u);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned class = (unsigned)(random_number() >> 20) % 8;

		/* small ones are in the majority */
		class = class < CLASSES ? class : 0;
		if (take(pool, class, BLOCK_DIRTY))
			continue;
		sum += free_bytes(pool);
		samples++;
		of_small += class < 3;
		worst = MAX(worst, free_bytes(pool));
		for (unsigned i = 0; i < 64 && count > 0; i++)
			give(pool, random_number() % count);
	}
	assert_true(samples > 100);
	print_message(
		"# dirty blocks of 6 sizes: no memory with %.1f %% free on average, %.1f %% at "
		"worst; %ju of %ju times for 64 KiB or less\n",
		(double)sum * 100 / (double)samples / (double)u.arena,
		(double)worst * 100 / (double)u.arena, (uintmax_t)of_small, (uintmax_t)samples);
	assert_true(sum / samples < u.arena / 5);
	assert_true(worst < u.arena * 2 / 5);
	end(pool);
}

/* The same with clean blocks, which is what a cache mostly holds: how much was free when
 * something had to be evicted. */
static void little_is_free_when_eviction_begins(void **state)
{
	struct pool *pool = start();
	uint64_t worst = 0, sum = 0, samples = 0, evicted = 0;
	struct pool_usage u;

	(void)state;
	for (unsigned round = 0; round < 100000; round++) {
		uint64_t before = free_bytes(pool);
		unsigned class = (unsigned)(random_number() >> 20) % CLASSES;
		/* in phases, one size more than others */
		struct block *b = take(pool, round / 5000 % 2 ? class : round / 10000 % CLASSES, 0);

		assert_non_null(b);
		count = 0;
		pool_usage(pool, &u);
		if (u.evicted == evicted)
			continue;
		evicted = u.evicted;
		sum += before;
		samples++;
		worst = MAX(worst, before);
	}
	assert_true(samples > 1000);
	print_message("# clean blocks of 6 sizes: evicts with %.1f %% free on average, %.1f %% at "
		      "worst; %ju slabs moved for %ju evicted blocks\n",
		      (double)sum * 100 / (double)samples / (double)u.arena,
		      (double)worst * 100 / (double)u.arena, (uintmax_t)u.slabs_returned,
		      (uintmax_t)u.evicted);
	assert_true(sum / samples < u.arena / 5);
	end(pool);
}

/* Nothing free is out of reach as long as nothing is dirty: all of the arena for one class,
 * after any mixture. */
static void clean_mixtures_are_no_obstacle(void **state)
{
	(void)state;
	for (unsigned class = 0; class < CLASSES; class ++) {
		struct pool *pool = start();
		struct pool_usage u;
		size_t n = 0;

		for (unsigned i = 0; i < 20000; i++)
			assert_non_null(take(pool, (unsigned)(random_number() >> 20) % CLASSES, 0));
		count = 0;
		while (take(pool, class, BLOCK_DIRTY))
			n++;
		pool_usage(pool, &u);
		assert_int_equal(n, u.arena / pool_class_size(pool, class));
		end(pool);
	}
}

/* Small blocks that nobody has looked at for a while make room for a stream, not a little
 * at a time of the stream's own; small blocks that are being hit do not. */
static void the_older_class_gives(void **state)
{
	for (unsigned hit = 0; hit < 2; hit++) {
		struct pool *pool = start();
		struct pool_usage u, after;
		struct block *b;

		(void)state;
		pool_usage(pool, &u);
		/* a fourth for the stream, the rest small */
		for (unsigned i = 0; i < u.arena / (2 * MIB) / 4; i++)
			take(pool, 5, 0);
		pool_usage(pool, &u);
		while (u.free > 0 || u.free_blocks[0] > 0) {
			take(pool, 0, 0);
			pool_usage(pool, &u);
		}
		for (unsigned i = 0; i < 300; i++) {
			for (size_t k = 0; hit && k < count; k++)
				if (taken[k] && taken[k]->class == 0 &&
				    !block_is(taken[k], BLOCK_FREE))
					block_touch(taken[k]);
			b = take(pool, 5, 0);
			assert_non_null(b);
			count--;
		}
		pool_usage(pool, &after);
		print_message("# %s: small blocks %ju MiB, after a stream %ju MiB\n",
			      hit ? "hit" : "idle", (uintmax_t)(u.blocks[0] * 4 / 1024),
			      (uintmax_t)(after.blocks[0] * 4 / 1024));
		if (hit)
			assert_true(after.blocks[0] >= u.blocks[0] * 9 / 10);
		else
			assert_true(after.blocks[0] <= u.blocks[0] / 2);
		end(pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(little_is_free_when_there_is_none),
		cmocka_unit_test(little_is_free_when_eviction_begins),
		cmocka_unit_test(clean_mixtures_are_no_obstacle),
		cmocka_unit_test(the_older_class_gives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
