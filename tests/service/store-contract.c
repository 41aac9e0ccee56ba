/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store-contract [TEST]: holds the S3 service against the contract of store/operator.h, on a
 * real server. TAP on standard output. The server comes from the environment:
 *
 *	OVFS_TEST_S3_ENDPOINT, OVFS_TEST_S3_BUCKET, OVFS_TEST_S3_REGION, OVFS_TEST_S3_ROOT,
 *	OVFS_TEST_S3_CA, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
 *
 * The bucket (below the root) is empty at the start. Where the memory service, which the unit
 * tests hold against the same contract, knows each write as a version, S3 may know each content
 * as one: the contents here all differ.
 */
#include "../unit/store-fixture.h"

#include <time.h>

#include "store/services/s3/s3.h"

#define MIB (1u << 20)
#define ODD_KEYS 14

static const char *const odd_keys[ODD_KEYS] = {
	"a b",
	"100%",
	"%41",
	"a+b",
	"a&b=c",
	"what?",
	"hash#;,",
	"<tag>'\"",
	"~$@",
	"*!()",
	"\xc3\xa4/\xe6\x97\xa5",
	"trail ",
	"tab\there\n",
	"\x01\x1f\x7f",
};

static void env_s3(struct env *env)
{
	struct s3_config config = {
		.endpoint = getenv("OVFS_TEST_S3_ENDPOINT"),
		.bucket = getenv("OVFS_TEST_S3_BUCKET"),
		.region = getenv("OVFS_TEST_S3_REGION"),
		.root = getenv("OVFS_TEST_S3_ROOT"),
		.ca_bundle = getenv("OVFS_TEST_S3_CA"),
		.access_key_id = getenv("AWS_ACCESS_KEY_ID"),
		.secret_access_key = getenv("AWS_SECRET_ACCESS_KEY"),
		.disable_config_load = true,
		.disable_ec2_metadata = true,
	};

	*env = (struct env){ 0 };
	env_ok(loop_new(&env->loop));
	env_ok(s3_new(&env->top, env->loop, &config));
	env_run(env);
}

/* Set-up and tear-down of each test: the bucket is emptied by the next one. */
static int set_up(void **state)
{
	static struct env env;

	env_s3(&env);
	*state = &env;
	return 0;
}

struct sweep {
	struct store_op op;
	char keys[1000][STORE_KEY_MAX + 1];
	size_t count;
	struct store_page page;
};

static void sweep_entry(struct store_op *op, const struct store_entry *entry)
{
	struct sweep *sweep = container_of(op, struct sweep, op);

	snprintf(sweep->keys[sweep->count++], STORE_KEY_MAX + 1, "%.*s", (int)entry->key_len,
		 entry->key);
}

static int tear_down(void **state)
{
	struct env *env = *state;
	static struct sweep sweep;

	do {
		sweep.count = 0;
		sweep.op =
			(struct store_op){ .opcode = STORE_LIST,
					   .key = "",
					   .list = { .entry = sweep_entry, .page = &sweep.page } };
		assert_int_equal(store_call(env->top, &sweep.op), 0);
		for (size_t i = 0; i < sweep.count; i++)
			assert_int_equal(env_delete(env, sweep.keys[i]), 0);
	} while (sweep.page.truncated);
	env_end(env);
	return 0;
}

/* Bytes of which none repeats soon. */
static unsigned char *noise(size_t len, uint32_t seed)
{
	unsigned char *p = malloc(len);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (unsigned char)(seed >> 24);
	}
	return p;
}

static void it_answers_the_check(void **state)
{
	struct env *env = *state;
	bool absent;

	env_ok(s3_check(env->top, 10000, &absent));
}

static void objects_come_back_as_they_went(void **state)
{
	struct env *env = *state;
	struct store_meta put, got;
	char buf[16];

	assert_int_equal(env_put_if(env, "k", "0123456789", 10, NULL, false, &put), 0);
	assert_string_not_equal(put.etag, "");
	assert_int_equal(env_stat(env, "k", &got), 0);
	assert_int_equal(got.size, 10);
	assert_string_equal(got.etag, put.etag);
	assert_true(llabs(got.mtime_ns / (int64_t)SEC - time(NULL)) < 60);
	assert_int_equal(env_read(env, "k", 0, buf, 16, NULL, &got), 10);
	assert_memory_equal(buf, "0123456789", 10);
	assert_int_equal(got.size, 10);
	assert_string_equal(got.etag, put.etag);
	assert_int_equal(env_read(env, "k", 3, buf, 4, NULL, &got), 4);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(got.size, 10);
	assert_int_equal(env_read(env, "k", 8, buf, 8, NULL, NULL), 2);
	assert_int_equal(env_read(env, "k", 10, buf, 8, NULL, &got), -ERANGE);
	assert_int_equal(env_read(env, "missing", 0, buf, 8, NULL, NULL), -ENOENT);
	assert_int_equal(env_stat(env, "missing", NULL), -ENOENT);
	assert_int_equal(env_put(env, "empty", "", 0), 0);
	assert_int_equal(env_stat(env, "empty", &got), 0);
	assert_int_equal(got.size, 0);
	assert_int_equal(env_read(env, "empty", 0, buf, 8, NULL, NULL), -ERANGE);
	assert_int_equal(env_delete(env, "k"), 0);
	assert_int_equal(env_delete(env, "k"), 0);
	assert_int_equal(env_stat(env, "k", NULL), -ENOENT);
}

static void large_bodies_are_whole(void **state)
{
	struct env *env = *state;
	size_t len = 9 * MIB + 7;
	unsigned char *data = noise(len, 1), *back = malloc(len + 10);
	struct iovec iov[3] = { { back, 5 }, { back + 5, 4 * MIB }, { back + 5 + 4 * MIB, len } };
	struct store_op read = { .opcode = STORE_READ, .key = "k" };

	assert_non_null(back);
	assert_int_equal(env_put(env, "k", data, len), 0);
	iov[2].iov_len = len - 5 - 4 * MIB;
	read.data = iov_cursor(iov, 3);
	assert_int_equal(store_call(env->top, &read), 0);
	assert_int_equal(read.done, len);
	assert_memory_equal(back, data, len);
	assert_int_equal(env_read(env, "k", 4 * MIB + 1, back, MIB, NULL, NULL), MIB);
	assert_memory_equal(back, data + 4 * MIB + 1, MIB);
	free(data);
	free(back);
}

static void conditions_hold_or_refuse(void **state)
{
	struct env *env = *state;
	struct store_meta old, now;
	struct store_op stat = { .opcode = STORE_STAT, .key = "k" };
	char buf[4];

	assert_int_equal(env_put_if(env, "k", "1", 1, NULL, true, &old), 0);
	assert_int_equal(env_put_if(env, "k", "2", 1, NULL, true, NULL), -EEXIST);
	assert_int_equal(env_put_if(env, "k", "2", 1, old.etag, false, &now), 0);
	assert_int_equal(env_put_if(env, "k", "3", 1, old.etag, false, NULL), -ESTALE);
	assert_int_equal(env_put_if(env, "x", "3", 1, old.etag, false, NULL), -ESTALE);
	assert_int_equal(env_read(env, "k", 0, buf, 4, old.etag, NULL), -ESTALE);
	assert_int_equal(env_read(env, "k", 0, buf, 4, now.etag, NULL), 1);
	assert_int_equal(buf[0], '2');
	stat.if_match = old.etag;
	assert_int_equal(store_call(env->top, &stat), -ESTALE);
	stat.if_match = now.etag;
	assert_int_equal(store_call(env->top, &stat), 0);
}

static void metadata_travels_with_the_object(void **state)
{
	struct env *env = *state;
	struct call put = { .op = { .opcode = STORE_PUT,
				    .key = "k",
				    .set_user_mtime = true,
				    .user_mtime_ns = 1234567890250000000,
				    .content_type = "text/x-mine",
				    .write_id = "w1" } };
	struct store_op copy = { .opcode = STORE_COPY, .key = "c", .source_key = "k" };
	struct store_meta meta;

	call_body(&put, "data", 4);
	assert_int_equal(store_call(env->top, &put.op), 0);
	assert_int_equal(store_call(env->top, &copy), 0);
	assert_int_equal(env_stat(env, "c", &meta), 0);
	assert_true(meta.has_user_mtime);
	assert_int_equal(meta.user_mtime_ns, 1234567890250000000);
	assert_string_equal(meta.write_id, "w1");
	copy.set_user_mtime = true;
	copy.user_mtime_ns = -5 * (int64_t)SEC;
	assert_int_equal(store_call(env->top, &copy), 0);
	assert_int_equal(env_stat(env, "c", &meta), 0);
	assert_int_equal(meta.user_mtime_ns, -5 * (int64_t)SEC);
}

static void copies_are_conditional(void **state)
{
	struct env *env = *state;
	struct store_meta meta;
	struct store_op copy = { .opcode = STORE_COPY, .key = "to", .source_key = "from" };
	char buf[8];

	assert_int_equal(store_call(env->top, &copy), -ENOENT);
	env_put_if(env, "from", "abc", 3, NULL, false, &meta);
	copy.source_if_match = "\"00000000000000000000000000000000\"";
	assert_int_equal(store_call(env->top, &copy), -ESTALE);
	copy.source_if_match = meta.etag;
	assert_int_equal(store_call(env->top, &copy), 0);
	assert_int_equal(env_read(env, "to", 0, buf, 8, copy.meta.etag, NULL), 3);
	assert_memory_equal(buf, "abc", 3);
	if (!store_caps(env->top)->copy_if_absent)
		return;
	copy.if_absent = true;
	assert_int_equal(store_call(env->top, &copy), -EEXIST);
}

/* Two parts: one sent, one copied out of another object. */
static void two_parts(struct env *env, const char *session, const unsigned char *data,
		      struct store_part parts[2])
{
	struct store_op copy = { .opcode = STORE_COPY_PART,
				 .key = "k",
				 .session = session,
				 .part_number = 2,
				 .source_key = "s",
				 .offset = 1000,
				 .length = 5 * MIB };

	assert_int_equal(env_part(env, "k", session, 1, data, 5 * MIB, &parts[0]), 0);
	assert_int_equal(store_call(env->top, &copy), 0);
	parts[1].number = 2;
	memcpy(parts[1].etag, copy.meta.etag, STORE_ETAG_MAX);
	memcpy(parts[1].checksum, copy.checksum, STORE_CHECKSUM_MAX);
}

static void sessions_assemble_parts(void **state)
{
	struct env *env = *state;
	char session[STORE_SESSION_MAX];
	struct store_part parts[2];
	struct store_meta meta;
	unsigned char *data = noise(6 * MIB, 2), *back = malloc(11 * MIB);
	struct store_op copy = { .opcode = STORE_COPY_PART,
				 .key = "k",
				 .session = session,
				 .part_number = 3,
				 .source_key = "s",
				 .length = 10,
				 .source_if_match = "\"00000000000000000000000000000000\"" };

	assert_non_null(back);
	assert_int_equal(env_put(env, "s", data, 6 * MIB), 0);
	assert_int_equal(env_begin(env, "k", session), 0);
	two_parts(env, session, data, parts);
	assert_int_equal(store_call(env->top, &copy), -ESTALE);
	assert_int_equal(env_stat(env, "k", NULL), -ENOENT);
	assert_int_equal(env_commit(env, "k", session, parts, 2, &meta), 0);
	assert_int_equal(env_read(env, "k", 0, back, 11 * MIB, meta.etag, NULL), 10 * MIB);
	assert_memory_equal(back, data, 5 * MIB);
	assert_memory_equal(back + 5 * MIB, data + 1000, 5 * MIB);
	assert_int_equal(env_commit(env, "k", session, parts, 2, &meta), -ENOENT);
	free(data);
	free(back);
}

static void commits_are_conditional(void **state)
{
	struct env *env = *state;
	char session[STORE_SESSION_MAX];
	struct store_part parts[2];
	struct store_meta meta, now;
	unsigned char *data = noise(6 * MIB, 3);
	struct store_op commit = { .opcode = STORE_COMMIT,
				   .key = "k",
				   .session = session,
				   .parts = parts,
				   .part_count = 2 };

	assert_int_equal(env_put(env, "s", data, 6 * MIB), 0);
	assert_int_equal(env_put_if(env, "k", "old", 3, NULL, false, &meta), 0);
	assert_int_equal(env_begin(env, "k", session), 0);
	two_parts(env, session, data, parts);
	commit.if_absent = true;
	assert_int_equal(store_call(env->top, &commit), -EEXIST);
	commit.if_absent = false;
	commit.if_match = "\"00000000000000000000000000000000\"";
	assert_int_equal(store_call(env->top, &commit), -ESTALE);
	assert_int_equal(env_stat(env, "k", &now), 0);
	assert_string_equal(now.etag, meta.etag);
	commit.if_match = meta.etag;
	assert_int_equal(store_call(env->top, &commit), 0);
	assert_int_equal(env_stat(env, "k", &now), 0);
	assert_int_equal(now.size, 10 * MIB);
	assert_string_equal(now.etag, commit.meta.etag);
	free(data);
}

struct sessions {
	struct store_op op;
	unsigned count;
	char key[64], session[STORE_SESSION_MAX];
	struct store_page page;
};

static void session_entry(struct store_op *op, const struct store_entry *entry)
{
	struct sessions *found = container_of(op, struct sessions, op);

	found->count++;
	snprintf(found->key, sizeof(found->key), "%.*s", (int)entry->key_len, entry->key);
	snprintf(found->session, sizeof(found->session), "%s", entry->session);
}

static unsigned sessions_list(struct env *env, struct sessions *found, const char *prefix)
{
	found->count = 0;
	found->op = (struct store_op){ .opcode = STORE_LIST_SESSIONS,
				       .key = prefix,
				       .list = { .entry = session_entry, .page = &found->page } };
	assert_int_equal(store_call(env->top, &found->op), 0);
	return found->count;
}

static void unfinished_sessions_are_listed_and_end(void **state)
{
	struct env *env = *state;
	char session[STORE_SESSION_MAX];
	static struct sessions found;

	assert_int_equal(env_begin(env, "dir/k &%", session), 0);
	/* MinIO lists the sessions of whole keys only. */
	assert_int_equal(sessions_list(env, &found, "dir/k &%"), 1);
	assert_string_equal(found.key, "dir/k &%");
	assert_string_equal(found.session, session);
	assert_int_equal(env_abort(env, "dir/k &%", session), 0);
	assert_int_equal(sessions_list(env, &found, "dir/k &%"), 0);
	assert_int_equal(env_part(env, "dir/k &%", session, 1, "x", 1, NULL), -ENOENT);
}

static void listings_are_paged_in_byte_order(void **state)
{
	struct env *env = *state;
	struct env_list list = { .delimiter = "/" };
	/* No file beside a folder of its name: MinIO would list only one of them. */
	static const char *const keys[] = { "a!", "a/1", "a/2", "b", "b!", "bb/x/y", "c", "d/" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(env_put(env, keys[i], "", 0), 0);
	assert_string_equal(env_list_text(env, &list), "a!,b,b!,c,a/,bb/,d/");
	list = (struct env_list){ 0 };
	assert_string_equal(env_list_text(env, &list), "a!,a/1,a/2,b,b!,bb/x/y,c,d/");
	list = (struct env_list){ .limit = 3 };
	assert_string_equal(env_list_text(env, &list), "a!,a/1,a/2|b,b!,bb/x/y|c,d/");
	list = (struct env_list){ .prefix = "bb/", .delimiter = "/" };
	assert_string_equal(env_list_text(env, &list), "bb/x/");
	list = (struct env_list){ .prefix = "d/", .delimiter = "/" };
	assert_string_equal(env_list_text(env, &list), "d/");
	list = (struct env_list){ .prefix = "nothing/" };
	assert_string_equal(env_list_text(env, &list), "");
	if (!store_caps(env->top)->start_after)
		return;
	list = (struct env_list){ .start_after = "b!" };
	assert_string_equal(env_list_text(env, &list), "bb/x/y,c,d/");
}

static void odd_keys_are_keys(void **state)
{
	struct env *env = *state;
	struct store_op copy = { .opcode = STORE_COPY, .key = "copy" };
	struct env_list list;
	char buf[4];

	for (size_t i = 0; i < ODD_KEYS; i++) {
		char content[4] = { (char)('a' + i) };

		assert_int_equal(env_put(env, odd_keys[i], content, 1), 0);
		assert_int_equal(env_read(env, odd_keys[i], 0, buf, 4, NULL, NULL), 1);
		assert_int_equal(buf[0], content[0]);
		list = (struct env_list){ .prefix = odd_keys[i] };
		assert_string_equal(env_list_text(env, &list), odd_keys[i]);
		copy.source_key = odd_keys[i];
		assert_int_equal(store_call(env->top, &copy), 0);
		assert_int_equal(env_read(env, "copy", 0, buf, 4, NULL, NULL), 1);
		assert_int_equal(buf[0], content[0]);
	}
}

static void batches_delete_all_that_they_name(void **state)
{
	struct env *env = *state;
	const char *keys[ODD_KEYS + 2];
	int results[ODD_KEYS + 2];
	struct store_op op = { .opcode = STORE_DELETE_BATCH,
			       .keys = keys,
			       .key_count = ODD_KEYS + 1,
			       .key_results = results };
	struct env_list list = { 0 };

	if (!store_caps(env->top)->delete_batch_max)
		return;
	for (size_t i = 0; i < ODD_KEYS; i++) {
		keys[i] = odd_keys[i];
		assert_int_equal(env_put(env, keys[i], "x", 1), 0);
	}
	keys[ODD_KEYS] = "never there";
	assert_int_equal(env_put(env, "kept", "x", 1), 0);
	memset(results, 0xff, sizeof(results));
	assert_int_equal(store_call(env->top, &op), 0);
	for (size_t i = 0; i < ODD_KEYS + 1; i++)
		assert_int_equal(results[i], 0);
	assert_string_equal(env_list_text(env, &list), "kept");
}

static void many_operations_at_a_time(void **state)
{
	struct env *env = *state;
	static struct call calls[300];
	static char keys[300][16], contents[300][16], buffers[300][16];

	for (unsigned i = 0; i < 300; i++) {
		snprintf(keys[i], sizeof(keys[i]), "many/%03u", i);
		snprintf(contents[i], sizeof(contents[i]), "content %03u", i);
		calls[i].op = (struct store_op){ .opcode = STORE_PUT, .key = keys[i] };
		call_body(&calls[i], contents[i], 11);
		call_submit(env, &calls[i]);
	}
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(call_wait(&calls[i]), 0);
	for (unsigned i = 0; i < 300; i++) {
		calls[i].op = (struct store_op){ .opcode = STORE_READ, .key = keys[i] };
		call_body(&calls[i], buffers[i], 11);
		call_submit(env, &calls[i]);
	}
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(call_wait(&calls[i]), 0);
		assert_memory_equal(buffers[i], contents[i], 11);
	}
}

static void cancelled_operations_end(void **state)
{
	struct env *env = *state;
	static struct call calls[50];
	unsigned char *data = noise(2 * MIB, 4), *back = malloc(50 * 2 * MIB);

	assert_non_null(back);
	assert_int_equal(env_put(env, "k", data, 2 * MIB), 0);
	for (unsigned i = 0; i < 50; i++) {
		calls[i].op = (struct store_op){ .opcode = STORE_READ, .key = "k" };
		call_body(&calls[i], back + (size_t)i * 2 * MIB, 2 * MIB);
		call_submit(env, &calls[i]);
		if (i % 2)
			store_cancel(&calls[i].op);
	}
	for (unsigned i = 0; i < 50; i++) {
		int err = call_wait(&calls[i]);

		assert_true(err == 0 || (i % 2 && err == -ECANCELED));
		if (!err)
			assert_memory_equal(back + (size_t)i * 2 * MIB, data, 2 * MIB);
	}
	free(data);
	free(back);
}

static void keys_too_long_are_refused(void **state)
{
	struct env *env = *state;
	char key[STORE_KEY_MAX + 2];

	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	assert_int_equal(env_put(env, key, "x", 1), -ENAMETOOLONG);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(it_answers_the_check),
		TEST(objects_come_back_as_they_went),
		TEST(large_bodies_are_whole),
		TEST(conditions_hold_or_refuse),
		TEST(metadata_travels_with_the_object),
		TEST(copies_are_conditional),
		TEST(sessions_assemble_parts),
		TEST(commits_are_conditional),
		TEST(unfinished_sessions_are_listed_and_end),
		TEST(listings_are_paged_in_byte_order),
		TEST(odd_keys_are_keys),
		TEST(batches_delete_all_that_they_name),
		TEST(many_operations_at_a_time),
		TEST(cancelled_operations_end),
		TEST(keys_too_long_are_refused),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("store contract on S3", tests, NULL, NULL);
}
