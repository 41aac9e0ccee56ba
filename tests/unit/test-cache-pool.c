/* SPDX-License-Identifier: Apache-2.0 */
/* The block pool: what is handed out, comes back, is evicted, and what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "cache/pool.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static const struct pool_config small = {
	.size = 8 * MIB,
	.block_sizes = { 4 * KIB, 16 * KIB, 256 * KIB },
	.classes = 3,
	.huge_pages = POOL_HUGE_NEVER,
};

/* Owners by number, for blocks have no file here. */
static struct pool_owner owners[4];

static struct pool_owner *evict_clean(void *arg, struct block *b)
{
	(void)arg;
	return block_try_evict(b) ? &owners[b->owner] : NULL;
}

static struct pool *start(const struct pool_config *config, unsigned count)
{
	struct pool *pool;
	struct err *e = pool_new(&pool, config, evict_clean, NULL);

	if (e)
		fail_msg("%s", err_msg(e));
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(pool_owner_init(pool, &owners[i]), 0);
	return pool;
}

static void end(struct pool *pool, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		pool_owner_exit(pool, &owners[i]);
	pool_free(pool);
}

/* Takes a block into use, with @flags. */
static struct block *take(struct pool *pool, unsigned class, unsigned owner, uint32_t flags)
{
	struct block *b = pool_get(pool, class, &owners[owner]);

	if (!b)
		return NULL;
	assert_int_equal(atomic_load(&b->state), BLOCK_FREE);
	assert_int_equal(b->class, class);
	atomic_store(&b->state, flags);
	pool_add(pool, b);
	return b;
}

static void give(struct pool *pool, struct block *b, unsigned owner)
{
	atomic_store(&b->state, BLOCK_FREE);
	pool_put(pool, b, &owners[owner]);
}

static void expect_error(struct pool_config config, const char *text)
{
	struct pool *pool;
	struct err *e = pool_new(&pool, &config, evict_clean, NULL);

	assert_non_null(e);
	assert_null(pool);
	if (!strstr(err_msg(e), text))
		fail_msg("\"%s\" does not say \"%s\"", err_msg(e), text);
	err_free(e);
}

static void impossible_settings_are_refused(void **state)
{
	struct pool_config c;

	(void)state;
	c = small, c.classes = 0;
	expect_error(c, "0 block sizes");
	c = small, c.classes = POOL_CLASSES_MAX + 1;
	expect_error(c, "9 block sizes");
	c = small, c.block_sizes[0] = 2048;
	expect_error(c, "2048 is not a power of two");
	c = small, c.block_sizes[1] = 12288;
	expect_error(c, "12288 is not");
	c = small, c.block_sizes[2] = 32 * MIB;
	expect_error(c, "33554432 is not");
	c = small, c.block_sizes[1] = 4096;
	expect_error(c, "do not ascend");
	c = small, c.size = 8 * 256 * KIB - 1;
	expect_error(c, "less than 8 of its largest");
	c = small, c.size = 64ull << 40;
	expect_error(c, "at most");
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
/* Addresses for it there may be, or not; it does not take for ever to say so. */
static void a_pool_beyond_all_memory_is_made_or_refused(void **state)
{
	struct pool_config c = { .size = 12ull << 40,
				 .block_sizes = { 4 * KIB, 2 * MIB },
				 .classes = 2 };
	struct pool *pool;
	struct err *e;

	(void)state;
	alarm(60);
	e = pool_new(&pool, &c, evict_clean, NULL);
	if (e)
		err_free(e);
	else
		pool_free(pool);
	alarm(0);
}
#endif

/* Whether it works depends on the host. When not, the message says what to do. */
static void huge_pages_are_there_or_missed(void **state)
{
	struct pool_config c = { .size = 64 * MIB,
				 .block_sizes = { 4 * KIB, 2 * MIB },
				 .classes = 2,
				 .huge_pages = POOL_HUGE_ALWAYS };
	struct pool *pool;
	struct err *e = pool_new(&pool, &c, evict_clean, NULL);

	(void)state;
	if (e) {
		assert_non_null(strstr(err_msg(e), "huge pages"));
		err_free(e);
	} else {
		pool_free(pool);
	}
	c.huge_pages = POOL_HUGE_AUTO;
	end(start(&c, 1), 1);
}

static void the_budget_holds_all(void **state)
{
	struct pool *pool = start(&small, 1);
	const struct pool_arena *arena = (const void *)pool;
	struct pool_usage u;
	struct stat st;
	uint64_t blocks = 0;

	(void)state;
	pool_usage(pool, &u);
	assert_int_equal(u.arena % (256 * KIB), 0);
	assert_int_equal(u.free, u.arena);
	while (take(pool, 0, 0, BLOCK_DIRTY))
		blocks++;
	/* every block, with its descriptor and its link, within what was asked for */
	assert_int_equal(blocks, u.arena / (4 * KIB));
	assert_true(blocks * (4 * KIB + sizeof(struct block) + 8) <= small.size);
	assert_true(u.arena >= small.size * 9 / 10);
	assert_int_equal(atomic_load(&owners[0].bytes), u.arena);
	/* the front end may get the descriptor, and cannot cut it */
	assert_int_equal(fstat(arena->memfd, &st), 0);
	assert_true((uint64_t)st.st_size >= u.arena);
	assert_int_equal(ftruncate(arena->memfd, 0), -1);
	assert_true(fcntl(arena->memfd, F_GET_SEALS) & F_SEAL_SHRINK);
	atomic_store(&owners[0].bytes, 0);
	end(pool, 1);
}

/* Bytes of a block are its own, and at its place in the memfd. */
static void blocks_do_not_overlap(void **state)
{
	struct pool *pool = start(&small, 1);
	const struct pool_arena *arena = (const void *)pool;
	struct block *b[64];
	unsigned char byte;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		b[i] = take(pool, i % 2, 0, BLOCK_DIRTY);
		assert_true(pool_block_id(pool, b[i]) != BLOCK_NONE);
		assert_ptr_equal(pool_block(pool, pool_block_id(pool, b[i])), b[i]);
		memset(pool_data(pool, b[i]), (int)i + 1, pool_class_size(pool, i % 2));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		const unsigned char *p = pool_data(pool, b[i]);

		for (uint32_t k = 0; k < pool_class_size(pool, i % 2); k++)
			assert_int_equal(p[k], i + 1);
		assert_int_equal(pread(arena->memfd, &byte, 1, p - arena->base), 1);
		assert_int_equal(byte, i + 1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		give(pool, b[i], 0);
	assert_int_equal(atomic_load(&owners[0].bytes), 0);
	end(pool, 1);
}

static void free_blocks_are_first_in_first_out(void **state)
{
	struct pool *pool = start(&small, 1);
	struct block *b[64];

	(void)state;
	/* one slab */
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = take(pool, 0, 0, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		give(pool, b[(i * 7) % ARRAY_SIZE(b)], 0);
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		assert_ptr_equal(take(pool, 0, 0, 0), b[(i * 7) % ARRAY_SIZE(b)]);
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		give(pool, b[i], 0);
	end(pool, 1);
}

/* The last block of a list can be taken too, and the list is usable after that. */
static void lists_run_empty_and_fill_again(void **state)
{
	struct pool *pool = start(&small, 1);
	struct block *b;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		b = take(pool, 2, 0, 0);
		give(pool, b, 0);
	}
	end(pool, 1);
}

static void classes_trade_memory(void **state)
{
	struct pool *pool = start(&small, 1);
	struct block **b = calloc(small.size / (4 * KIB), sizeof(struct block *));
	struct pool_usage u;

	(void)state;
	pool_usage(pool, &u);
	/* All of the arena in blocks of one class, given back, then of another, ... */
	for (unsigned round = 0; round < 12; round++) {
		unsigned class = (round * 2) % 3;
		size_t n = 0;

		while ((b[n] = take(pool, class, 0, BLOCK_DIRTY)))
			n++;
		assert_int_equal(n, u.arena / pool_class_size(pool, class));
		for (size_t i = 0; i < n; i++)
			give(pool, b[i * 7919 % n], 0);
	}
	pool_usage(pool, &u);
	assert_true(u.slabs_returned >= 11 * (u.arena / (256 * KIB)));
	assert_int_equal(u.evicted, 0);
	free(b);
	end(pool, 1);
}

static void only_clean_blocks_are_evicted(void **state)
{
	struct pool *pool = start(&small, 1);
	struct block *clean = NULL, *b;
	struct pool_usage u;
	size_t n = 0;

	(void)state;
	static const uint32_t busy[] = { BLOCK_DIRTY, BLOCK_FILLING, BLOCK_SEALED, 1, 77 };

	pool_usage(pool, &u);
	for (; n < u.arena / (16 * KIB); n++) {
		b = take(pool, 1, 0, n == 40 ? 0 : busy[n % ARRAY_SIZE(busy)]);
		if (n == 40)
			clean = b;
	}
	assert_ptr_equal(take(pool, 1, 0, BLOCK_DIRTY), clean);
	assert_null(take(pool, 1, 0, 0));
	assert_null(take(pool, 0, 0, 0));
	assert_null(take(pool, 2, 0, 0));
	pool_usage(pool, &u);
	assert_int_equal(u.evicted, 1);
	atomic_store(&owners[0].bytes, 0);
	end(pool, 1);
}

/* A block that nobody can evict keeps its slab, but not those around it. */
static void other_classes_are_evicted_by_the_slab(void **state)
{
	struct pool *pool = start(&small, 1);
	struct block *pinned = NULL, *b;
	struct pool_usage u;
	size_t n = 0;

	(void)state;
	pool_usage(pool, &u);
	for (; n < u.arena / (4 * KIB); n++) {
		b = take(pool, 0, 0, n == 100 ? 1 : 0);
		if (n == 100)
			pinned = b;
	}
	for (n = 0; take(pool, 2, 0, BLOCK_DIRTY); n++)
		;
	assert_int_equal(n, u.arena / (256 * KIB) - 1);
	assert_int_equal(atomic_load(&pinned->state), 1);
	pool_usage(pool, &u);
	assert_int_equal(u.blocks[2], n);
	atomic_store(&owners[0].bytes, 0);
	end(pool, 1);
}

static uint64_t held(unsigned owner)
{
	return atomic_load(&owners[owner].bytes);
}

static void owners_get_their_share(void **state)
{
	for (unsigned class = 0; class < 3; class ++) {
		struct pool *pool = start(&small, 2);
		struct pool_usage u;

		(void)state;
		pool_usage(pool, &u);
		/* the first takes all there is, as nobody else wants it */
		for (unsigned i = 0; i < 4 * u.arena / (16 * KIB); i++)
			assert_non_null(take(pool, 1, 0, 0));
		assert_int_equal(held(0), u.arena);
		/* the second comes, in any class, and gets half */
		while (held(1) < u.arena / 2)
			assert_non_null(take(pool, class, 1, 0));
		/* and neither can take more from the other, however much it reads */
		for (unsigned i = 0; i < 4 * u.arena / (16 * KIB); i++) {
			assert_non_null(take(pool, class, i % 4 > 0, 0));
			assert_true(held(0) >= u.arena / 2 - 2 * 256 * KIB);
			assert_true(held(1) >= u.arena / 2 - 2 * 256 * KIB);
		}
		/* one goes, and the other may have all again */
		atomic_store(&owners[0].bytes, 0);
		atomic_store(&owners[1].bytes, 0);
		end(pool, 2);
	}
}

static void there_are_65535_owners(void **state)
{
	struct pool *pool = start(&small, 0);
	struct pool_owner *many = calloc(65536, sizeof(*many));

	(void)state;
	for (unsigned i = 0; i < 65535; i++) {
		assert_int_equal(pool_owner_init(pool, &many[i]), 0);
		assert_int_equal(many[i].number, i);
	}
	assert_int_equal(pool_owner_init(pool, &many[65535]), -ENOSPC);
	pool_owner_exit(pool, &many[7]);
	assert_int_equal(pool_owner_init(pool, &many[7]), 0);
	assert_int_equal(many[7].number, 7);
	for (unsigned i = 0; i < 65535; i++)
		pool_owner_exit(pool, &many[i]);
	free(many);
	end(pool, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(impossible_settings_are_refused),
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
		cmocka_unit_test(a_pool_beyond_all_memory_is_made_or_refused),
#endif
		cmocka_unit_test(huge_pages_are_there_or_missed),
		cmocka_unit_test(the_budget_holds_all),
		cmocka_unit_test(blocks_do_not_overlap),
		cmocka_unit_test(free_blocks_are_first_in_first_out),
		cmocka_unit_test(lists_run_empty_and_fill_again),
		cmocka_unit_test(classes_trade_memory),
		cmocka_unit_test(only_clean_blocks_are_evicted),
		cmocka_unit_test(other_classes_are_evicted_by_the_slab),
		cmocka_unit_test(owners_get_their_share),
		cmocka_unit_test(there_are_65535_owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
