/* SPDX-License-Identifier: Apache-2.0 */
/* The table of numbers that guests hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/util.h"
#include "fs/slots.h"

struct elem {
	struct slot slot;
	uint64_t value;
};

static void ids_name_their_element_until_killed(void **state)
{
	enum { N = 5000 };
	uint64_t *ids = calloc(N, sizeof(*ids));
	struct slots t;

	(void)state;
	slots_init(&t, sizeof(struct elem), 1u << 20);
	for (unsigned i = 0; i < N; i++) {
		struct elem *e = slot_alloc(&t);

		assert_non_null(e);
		ids[i] = slot_id(e);
		assert_null(slot_get(&t, ids[i])); /* not yet */
		e->value = i;
		slot_publish(e);
	}
	assert_int_equal(ids[0], 1);
	for (unsigned i = 0; i < N; i++) {
		struct elem *e = slot_get(&t, ids[i]);

		assert_non_null(e);
		assert_int_equal(e->value, i);
		assert_false(slot_put(e));
		assert_null(slot_get(&t, ids[i] + (1ull << 32)));
	}
	for (unsigned i = 0; i < N; i += 2) {
		struct elem *e = slot_get(&t, ids[i]);

		assert_true(slot_kill(e, ids[i]));
		assert_false(slot_kill(e, ids[i])); /* once */
		assert_null(slot_get(&t, ids[i]));
		assert_false(slot_put(e));
		assert_int_equal(e->value, i); /* ours still */
		assert_true(slot_put(e));
		slot_free(&t, e);
		assert_null(slot_get(&t, ids[i]));
		assert_null(slot_get(&t, ids[i] + (1ull << 32)));
	}
	assert_int_equal(slots_live(&t), N / 2);
	/* Elements are used again, ids are not. */
	for (unsigned i = 0; i < N / 2; i++) {
		struct elem *e = slot_alloc(&t);

		assert_true((uint32_t)slot_id(e) <= N);
		assert_int_not_equal(slot_id(e) >> 32, 0);
		slot_publish(e);
	}
	for (unsigned i = 0; i < N; i += 2)
		assert_null(slot_get(&t, ids[i]));
	slots_fini(&t);
	free(ids);
}

static void a_table_has_an_end(void **state)
{
	struct slots t;
	unsigned n = 0;

	(void)state;
	slots_init(&t, sizeof(struct elem), 100);
	while (slot_alloc(&t))
		n++;
	assert_int_equal(n, 100);
	slots_fini(&t);
}

static void wild_ids_name_nothing(void **state)
{
	static const uint64_t wild[] = {
		0, 2, 1ull << 32, UINT32_MAX, UINT64_MAX, UINT64_MAX << 32, (1ull << 63) + 1
	};
	struct slots t;

	(void)state;
	slots_init(&t, sizeof(struct elem), UINT32_MAX - 1);
	slot_publish(slot_alloc(&t));
	for (unsigned i = 0; i < ARRAY_SIZE(wild); i++)
		assert_null(slot_get(&t, wild[i]));
	assert_null(slot_peek(&t, 0));
	assert_null(slot_peek(&t, UINT32_MAX));
	assert_non_null(slot_get(&t, 1));
	slots_fini(&t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_name_their_element_until_killed),
		cmocka_unit_test(a_table_has_an_end),
		cmocka_unit_test(wild_ids_name_nothing),
	};

	return cmocka_run_group_tests_name("fs-slots", tests, NULL, NULL);
}
