/* SPDX-License-Identifier: Apache-2.0 */
/* What other clients stored with an object stays with it when it is written, and costs nothing. */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

static const char theirs[] = "content-type\0text/x-theirs\0x-amz-meta-mine\0yes";

/* An object of another client, who has more to say of it. */
static void put_theirs(struct ox *ox, const char *key, const char *text)
{
	struct store_properties p = { .text = (char *)(uintptr_t)theirs, .len = sizeof(theirs) };
	struct call call = { .op = { .opcode = STORE_PUT, .key = key, .properties = &p } };

	call_body(&call, text, strlen(text));
	assert_int_equal(store_call(ox->ce.env.memory, &call.op), 0);
}

static void expect_theirs(struct ox *ox, const char *key)
{
	char text[STORE_PROPERTIES_MAX];
	struct store_properties p = { .text = text, .room = sizeof(text) };
	struct store_op op = { .opcode = STORE_STAT, .key = key, .properties_out = &p };

	assert_int_equal(store_call(ox->ce.env.memory, &op), 0);
	assert_int_equal(p.len, sizeof(theirs));
	assert_memory_equal(text, theirs, sizeof(theirs));
}

static void test_rewritten(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	put_theirs(ox, "f", "old");
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	ox_spent(ox);
	ox_put(ox, "f", "new");
	assert_int_equal(ox_spent(ox), 2); /* STAT at open, as ever, and PUT */
	assert_string_equal(ox_bucket(ox, "f"), "new");
	expect_theirs(ox, "f");
	/* Again, on a version of ours. */
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "er", 2, 3), 2);
	assert_int_equal(ox_fsync(ox, fh), 0);
	assert_int_equal(ox_write(ox, fh, "!", 1, 5), 1);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "newer!");
	expect_theirs(ox, "f");
	assert_int_equal(ox_truncate(ox, "f", 3), 0);
	assert_int_equal(ox_rename(ox, "f", "g", 0), 0);
	assert_string_equal(ox_bucket(ox, "g"), "new");
	expect_theirs(ox, "g");
}

/* By a write session. */
static void test_large(void **state)
{
	const size_t size = 12u << 20;
	unsigned char *data = calloc(1, size);
	struct ox *ox = *state;
	uint64_t fh;

	put_theirs(ox, "f", "old");
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	for (size_t at = 0; at < size; at += 1u << 20)
		assert_int_equal(ox_write(ox, fh, data + at, 1u << 20, at), 1u << 20);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_true(cache_env_count(&ox->ce, STORE_COMMIT) > 0);
	expect_theirs(ox, "f");
	free(data);
}

/* What we made ourselves has nothing of the kind, and nobody asks. */
static void test_new(void **state)
{
	char text[STORE_PROPERTIES_MAX];
	struct store_properties p = { .text = text, .room = sizeof(text), .len = 1 };
	struct store_op op = { .opcode = STORE_STAT, .key = "f", .properties_out = &p };
	struct ox *ox = *state;

	ox_put(ox, "f", "ours");
	ox_spent(ox);
	ox_put(ox, "f", "ours, too");
	assert_int_equal(ox_spent(ox), 2);
	assert_int_equal(store_call(ox->ce.env.memory, &op), 0);
	assert_int_equal(p.len, 0);
}

/* Opened when the service did not answer, as it was last seen: the commit asks. */
static void test_unknown(void **state)
{
	struct store_fault down = { .error_permille = 1000 };
	struct ox *ox = *state;
	struct fuse_open_out open;
	struct fuse_entry_out f;

	put_theirs(ox, "f", "old");
	ox_expect(ox, "f", "old");
	assert_int_equal(ox_stat(ox, "f", &f), 0);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, &down);
	assert_int_equal(ox_open_node(ox, f.nodeid, O_RDWR, &open), 0);
	assert_int_equal(ox_write(ox, open.fh, "new", 3, 0), 3);
	assert_int_equal(ox_fsync(ox, open.fh), -EIO);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_fsync(ox, open.fh), 0);
	assert_int_equal(ox_closeat(ox, open.fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "new");
	expect_theirs(ox, "f");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_rewritten),
		TEST(test_large),
		TEST(test_new),
		TEST(test_unknown),
	};

	return cmocka_run_group_tests_name("objectfs-properties", tests, NULL, NULL);
}
