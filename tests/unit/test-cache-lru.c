/* SPDX-License-Identifier: Apache-2.0 */
/* The order of eviction, and how often it hits, beside plain LRU on the same accesses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cache/lru.h"

#define BLOCKS 2000u
#define KEYS 100000u

/* A cache of BLOCKS blocks, over keys 0 .. KEYS - 1. */
struct sim {
	struct block *blocks; /* from 1 */
	struct lru lru;
	struct lru_ghost ghost;
	uint32_t *where; /* key -> block */
	uint32_t used;
	uint64_t hits, accesses;
	/* plain LRU, by the time of the last access */
	uint32_t *plain_next, *plain_prev; /* a ring through key KEYS */
	bool *plain_in;
	uint32_t plain_used;
	uint64_t plain_hits;
	uint64_t x;
};

static struct sim *sim_new(void)
{
	struct sim *s = calloc(1, sizeof(*s));

	s->blocks = aligned_alloc(64, (BLOCKS + 1) * sizeof(struct block));
	memset((void *)s->blocks, 0, (BLOCKS + 1) * sizeof(struct block));
	s->ghost = (struct lru_ghost){ calloc(4096, 4), 4096 };
	s->where = calloc(KEYS, sizeof(*s->where));
	s->plain_next = calloc(KEYS + 1, sizeof(*s->plain_next));
	s->plain_prev = calloc(KEYS + 1, sizeof(*s->plain_prev));
	s->plain_in = calloc(KEYS, 1);
	s->plain_next[KEYS] = s->plain_prev[KEYS] = KEYS;
	s->x = 88172645463325252u;
	return s;
}

static void sim_free(struct sim *s)
{
	free(s->blocks);
	free(s->ghost.print);
	free(s->where);
	free(s->plain_next);
	free(s->plain_prev);
	free(s->plain_in);
	free(s);
}

static uint64_t sim_random(struct sim *s)
{
	s->x ^= s->x << 13, s->x ^= s->x >> 7, s->x ^= s->x << 17;
	return s->x;
}

static void plain_unlink(struct sim *s, uint32_t key)
{
	s->plain_next[s->plain_prev[key]] = s->plain_next[key];
	s->plain_prev[s->plain_next[key]] = s->plain_prev[key];
}

static void plain_access(struct sim *s, uint32_t key)
{
	if (s->plain_in[key]) {
		s->plain_hits++;
		plain_unlink(s, key);
	} else if (s->plain_used == BLOCKS) {
		s->plain_in[s->plain_prev[KEYS]] = false;
		plain_unlink(s, s->plain_prev[KEYS]);
	} else {
		s->plain_used++;
	}
	s->plain_in[key] = true;
	s->plain_next[key] = s->plain_next[KEYS];
	s->plain_prev[key] = KEYS;
	s->plain_prev[s->plain_next[KEYS]] = key;
	s->plain_next[KEYS] = key;
}

static block_id victim(struct sim *s, unsigned *steps)
{
	block_id id = lru_look(&s->lru, s->blocks, steps, 0);

	if (id)
		lru_take(&s->lru, &s->ghost, s->blocks, id, BLOCKS);
	return id;
}

static void sim_access(struct sim *s, uint32_t key)
{
	uint32_t id = s->where[key];

	s->accesses++;
	plain_access(s, key);
	if (id) {
		s->hits++;
		block_touch(&s->blocks[id]);
		return;
	}
	if (s->used < BLOCKS) {
		id = ++s->used;
	} else {
		unsigned steps = 4 * BLOCKS;

		id = victim(s, &steps);
		assert_int_not_equal(id, BLOCK_NONE);
		assert_int_equal(atomic_load(&s->blocks[id].queue), LRU_LIMBO);
		s->where[s->blocks[id].region] = BLOCK_NONE;
	}
	s->where[key] = id;
	atomic_store(&s->blocks[id].state, 0);
	s->blocks[id].file = (struct cache_file *)(void *)s;
	s->blocks[id].region = key;
	lru_add(&s->lru, &s->ghost, s->blocks, id, false, BLOCKS, 0);
	block_touch(&s->blocks[id]);
}

static double sim_ratio(const struct sim *s)
{
	return (double)s->hits / (double)s->accesses;
}

static double sim_plain_ratio(const struct sim *s)
{
	return (double)s->plain_hits / (double)s->accesses;
}

static void sim_report(const struct sim *s, const char *name)
{
	print_message("# %s: %.3f of accesses hit, plain LRU %.3f\n", name, sim_ratio(s),
		      sim_plain_ratio(s));
}

/* Zipf's law with exponent 1 over @n keys, by inverting the integral of 1/x. */
static uint32_t zipf(struct sim *s, uint32_t n)
{
	double u = (double)(sim_random(s) >> 11) / (double)(1ull << 53);

	return (uint32_t)pow((double)n, u) - 1;
}

/* A loop over a hot set, and one large file read through once, then another. */
static void a_scan_leaves_the_hot_set_alone(void **state)
{
	struct sim *s = sim_new();
	uint32_t scan = 10000, hot = BLOCKS / 2;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < hot; i++)
			sim_access(s, (uint32_t)(sim_random(s) % hot));
		for (unsigned i = 0; i < 2 * BLOCKS; i++)
			sim_access(s, scan + (round * 2 * BLOCKS + i) % (KEYS - scan));
	}
	sim_report(s, "hot set and scans");
	/* Nothing of a scan can hit: 1 of 5 accesses could, but for the first of each. */
	assert_true(sim_ratio(s) > 0.15);
	assert_true(sim_plain_ratio(s) < 0.10);
	sim_free(s);
}

static void skewed_accesses_hit_as_with_lru(void **state)
{
	struct sim *s = sim_new();

	(void)state;
	for (unsigned i = 0; i < 1000000; i++)
		sim_access(s, zipf(s, KEYS));
	sim_report(s, "zipf");
	assert_true(sim_ratio(s) > sim_plain_ratio(s));
	sim_free(s);
}

static void skewed_accesses_beside_a_scan_hit_better(void **state)
{
	struct sim *s = sim_new();
	uint64_t scan = 0;

	(void)state;
	for (unsigned i = 0; i < 500000; i++) {
		sim_access(s, zipf(s, 20000));
		sim_access(s, 20000 + (uint32_t)(scan++ % (KEYS - 20000)));
	}
	sim_report(s, "zipf beside a scan");
	assert_true(sim_ratio(s) > sim_plain_ratio(s) + 0.03);
	sim_free(s);
}

/* What was hot makes room for what is: 5 times as many accesses as blocks do. */
static void a_new_hot_set_takes_over(void **state)
{
	struct sim *s = sim_new();
	uint32_t set = BLOCKS * 3 / 4;

	(void)state;
	for (unsigned i = 0; i < 20 * BLOCKS; i++)
		sim_access(s, (uint32_t)(sim_random(s) % set));
	for (unsigned i = 0; i < 10 * BLOCKS; i++)
		sim_access(s, set + (uint32_t)(sim_random(s) % set));
	s->hits = s->plain_hits = s->accesses = 0;
	for (unsigned i = 0; i < 10 * BLOCKS; i++)
		sim_access(s, set + (uint32_t)(sim_random(s) % set));
	sim_report(s, "new hot set");
	assert_true(sim_ratio(s) > 0.98);
	sim_free(s);
}

/* A loop over slightly more than there is room for. Plain LRU never hits. */
static void a_loop_larger_than_the_cache_hits_at_all(void **state)
{
	struct sim *s = sim_new();

	(void)state;
	for (unsigned i = 0; i < 40 * BLOCKS; i++)
		sim_access(s, i % (BLOCKS * 5 / 4));
	sim_report(s, "loop");
	assert_int_equal(s->plain_hits, 0);
	assert_true(sim_ratio(s) > 0.2);
	sim_free(s);
}

static void blocks_in_use_are_passed_over(void **state)
{
	static const uint32_t busy[] = { BLOCK_DIRTY, BLOCK_FILLING, BLOCK_SEALED, BLOCK_FREE, 1 };
	struct sim *s = sim_new();
	unsigned steps = 5;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(busy); i++) {
		sim_access(s, i);
		atomic_store(&s->blocks[s->where[i]].state, busy[i] | BLOCK_HOT);
	}
	assert_int_equal(victim(s, &steps), BLOCK_NONE);
	assert_int_equal(steps, 0);
	assert_int_equal(lru_count(&s->lru), ARRAY_SIZE(busy));
	/* hits are still remembered, also while it was busy */
	atomic_store(&s->blocks[s->where[2]].state, 0);
	steps = 5;
	assert_int_equal(victim(s, &steps), s->where[2]);
	lru_remove(&s->lru, s->blocks, s->where[0]);
	assert_int_equal(lru_count(&s->lru), ARRAY_SIZE(busy) - 2);
	sim_free(s);
}

/* Whatever was hit, however often, goes when it is not hit any more: in small a block gets one
 * more round, in main one for each of two hits. */
static void hits_are_forgotten_in_the_end(void **state)
{
	struct sim *s = sim_new();
	unsigned steps = 4 * BLOCKS;

	(void)state;
	for (unsigned i = 0; i < BLOCKS; i++)
		for (unsigned k = 0; k <= i % 4; k++)
			sim_access(s, i);
	for (unsigned i = 0; i < BLOCKS; i++) {
		block_id id = victim(s, &steps);

		assert_int_not_equal(id, BLOCK_NONE);
		lru_add(&s->lru, NULL, s->blocks, id, true, BLOCKS, 0);
		block_touch(&s->blocks[id]);
		if (i % 2)
			block_touch(&s->blocks[id]);
	}
	steps = 3 * BLOCKS;
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_not_equal(victim(s, &steps), BLOCK_NONE);
	assert_int_equal(lru_count(&s->lru), 0);
	sim_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_scan_leaves_the_hot_set_alone),
		cmocka_unit_test(skewed_accesses_hit_as_with_lru),
		cmocka_unit_test(skewed_accesses_beside_a_scan_hit_better),
		cmocka_unit_test(a_new_hot_set_takes_over),
		cmocka_unit_test(a_loop_larger_than_the_cache_hits_at_all),
		cmocka_unit_test(blocks_in_use_are_passed_over),
		cmocka_unit_test(hits_are_forgotten_in_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
