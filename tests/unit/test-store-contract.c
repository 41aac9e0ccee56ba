/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every storage service keeps of store/operator.h: played on the memory service, and on
 * a real S3 server where these name one:
 *
 *	OVFS_TEST_S3_ENDPOINT, OVFS_TEST_S3_BUCKET, OVFS_TEST_S3_REGION (may be missing),
 *	AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
 *	OVFS_TEST_S3_CHECKSUM: crc32c, crc64nvme, md5; OVFS_TEST_S3_LIST_V1: 1;
 *	OVFS_TEST_S3_VIRTUAL_HOST: 1; OVFS_TEST_S3_CA: a file; OVFS_TEST_S3_CUSTOMER_KEY: base64
 *
 * There it works below a root of its own, and removes what it made.
 */
#include "store-fixture.h"

#include "store/services/s3/s3.h"

#define PART (5u << 20) /* the smallest that may be followed by another */

static char *big; /* 2 * PART bytes */

static bool is_s3(void)
{
	return getenv("OVFS_TEST_S3_ENDPOINT") != NULL;
}

static void begin(struct env *env)
{
	char root[8 + STORE_WRITE_ID_MAX], id[STORE_WRITE_ID_MAX];
	struct s3_config config = {
		.endpoint = getenv("OVFS_TEST_S3_ENDPOINT"),
		.bucket = getenv("OVFS_TEST_S3_BUCKET"),
		.region = getenv("OVFS_TEST_S3_REGION"),
		.access_key_id = getenv("AWS_ACCESS_KEY_ID"),
		.secret_access_key = getenv("AWS_SECRET_ACCESS_KEY"),
		.checksum_algorithm = getenv("OVFS_TEST_S3_CHECKSUM"),
		.disable_list_objects_v2 = getenv("OVFS_TEST_S3_LIST_V1") != NULL,
		.ca_bundle = getenv("OVFS_TEST_S3_CA"),
		.enable_virtual_host_style = getenv("OVFS_TEST_S3_VIRTUAL_HOST") != NULL,
		.server_side_encryption_customer_key = getenv("OVFS_TEST_S3_CUSTOMER_KEY"),
		.server_side_encryption_customer_algorithm =
			getenv("OVFS_TEST_S3_CUSTOMER_KEY") ? "AES256" : NULL,
		.root = root,
	};
	bool absent;

	if (!is_s3()) {
		env_memory(env, NULL);
		env_run(env);
		return;
	}
	store_write_id(id);
	snprintf(root, sizeof(root), "test-%s", id);
	*env = (struct env){ 0 };
	env_ok(loop_new(&env->loop));
	env_ok(s3_new(&env->top, env->loop, &config));
	env_run(env);
	env_ok(s3_check(env->top, 20000, &absent));
}

/* ---- Cleaning up, by which listing and deleting are tried, too ---- */

struct sweep {
	struct store_op op;
	struct store_page page;
	char keys[STORE_DELETE_BATCH_MAX][STORE_KEY_MAX + 1];
	char sessions[STORE_DELETE_BATCH_MAX][STORE_SESSION_MAX];
	size_t count;
};

static void sweep_entry(struct store_op *op, const struct store_entry *entry)
{
	struct sweep *sweep = container_of(op, struct sweep, op);

	assert_in_range(sweep->count, 0, STORE_DELETE_BATCH_MAX - 1);
	memcpy(sweep->keys[sweep->count], entry->key, entry->key_len);
	sweep->keys[sweep->count][entry->key_len] = '\0';
	if (entry->session)
		strcpy(sweep->sessions[sweep->count], entry->session);
	sweep->count++;
}

static void sweep_page(struct env *env, struct sweep *sweep, enum store_opcode opcode,
		       const char *prefix)
{
	sweep->count = 0;
	sweep->op = (struct store_op){ .opcode = opcode,
				       .key = prefix,
				       .list = { .entry = sweep_entry, .page = &sweep->page } };
	assert_int_equal(store_call(env->top, &sweep->op), 0);
}

static void end(struct env *env)
{
	struct sweep *sweep = calloc(1, sizeof(*sweep));
	const char *keys[STORE_DELETE_BATCH_MAX];
	int results[STORE_DELETE_BATCH_MAX];

	assert_non_null(sweep);
	for (;;) {
		struct store_op op = { .opcode = STORE_DELETE_BATCH,
				       .keys = keys,
				       .key_results = results };

		sweep_page(env, sweep, STORE_LIST, "");
		if (sweep->count == 0)
			break;
		for (size_t i = 0; i < sweep->count; i++)
			keys[i] = sweep->keys[i];
		op.key_count = sweep->count;
		assert_int_equal(store_call(env->top, &op), 0);
		for (size_t i = 0; i < sweep->count; i++)
			assert_int_equal(results[i], 0);
	}
	free(sweep);
	env_end(env);
}

/* ---- Cases ---- */

static void objects_come_back_as_they_went(void **state)
{
	struct env env;
	struct store_meta put, got;
	char buf[16];

	(void)state;
	begin(&env);
	assert_int_equal(env_put_if(&env, "a/b", "hello, world", 12, NULL, false, &put), 0);
	assert_int_equal(put.size, 12);
	assert_true(put.mtime_ns > 0);
	assert_int_equal(env_read(&env, "a/b", 0, buf, sizeof(buf), NULL, &got), 12);
	assert_memory_equal(buf, "hello, world", 12);
	assert_string_equal(got.etag, put.etag);
	assert_int_equal(got.size, 12);
	assert_int_equal(env_read(&env, "a/b", 7, buf, 3, NULL, &got), 3);
	assert_memory_equal(buf, "wor", 3);
	assert_int_equal(got.size, 12);
	assert_int_equal(env_read(&env, "a/b", 12, buf, 3, NULL, NULL), -ERANGE);
	assert_int_equal(env_read(&env, "a", 0, buf, 3, NULL, NULL), -ENOENT);
	assert_int_equal(env_put(&env, "empty", "", 0), 0);
	assert_int_equal(env_stat(&env, "empty", &got), 0);
	assert_int_equal(got.size, 0);
	assert_int_equal(env_read(&env, "empty", 0, buf, 3, NULL, NULL), -ERANGE);
	assert_int_equal(env_delete(&env, "a/b"), 0);
	assert_int_equal(env_delete(&env, "a/b"), 0);
	assert_int_equal(env_stat(&env, "a/b", &got), -ENOENT);
	end(&env);
}

static void odd_keys_are_keys(void **state)
{
	static const char *const keys[] = { "plus+and%20", "space here",	   "q?a=b&c#d",
					    "\"<&>'",	   "\xc3\xa9\xe2\x82\xac", "back\\slash",
					    "star*~(!)",   "a:b,c;d=@$",	   "end." };
	struct env env;
	struct env_list list = { 0 };
	char buf[32];

	(void)state;
	begin(&env);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct store_op copy = { .opcode = STORE_COPY,
					 .key = "copy",
					 .source_key = keys[i] };

		assert_int_equal(env_put(&env, keys[i], keys[i], strlen(keys[i])), 0);
		assert_int_equal(env_read(&env, keys[i], 0, buf, sizeof(buf), NULL, NULL),
				 strlen(keys[i]));
		assert_memory_equal(buf, keys[i], strlen(keys[i]));
		assert_int_equal(store_call(env.top, &copy), 0);
		list = (struct env_list){ .prefix = keys[i] };
		assert_string_equal(env_list_text(&env, &list), keys[i]);
	}
	end(&env);
}

static void scattered_buffers_are_filled_in_order(void **state)
{
	struct env env;
	char a[3] = "", b[1] = "", c[8] = "";
	struct iovec iov[] = { { a, 3 }, { b, 1 }, { c, 8 } };
	struct store_op op = { .opcode = STORE_READ, .key = "k", .offset = 1 };
	struct store_op put = { .opcode = STORE_PUT, .key = "p", .length = 3 };

	(void)state;
	begin(&env);
	env_put(&env, "k", "0123456789", 10);
	op.data = iov_cursor(iov, 3);
	iov_skip(&op.data, 1);
	assert_int_equal(store_call(env.top, &op), 0);
	assert_int_equal(op.done, 9);
	assert_memory_equal(a + 1, "12", 2);
	assert_memory_equal(b, "3", 1);
	assert_memory_equal(c, "456789\0\0", 8);
	put.data = iov_cursor(iov, 3);
	iov_skip(&put.data, 2);
	assert_int_equal(store_call(env.top, &put), 0);
	assert_int_equal(env_read(&env, "p", 0, c, 8, NULL, NULL), 3);
	assert_memory_equal(c, "234", 3);
	end(&env);
}

static void conditions_hold_or_refuse(void **state)
{
	struct env env;
	struct store_meta old, now;
	struct store_op stat = { .opcode = STORE_STAT, .key = "k" };
	char buf[4];

	(void)state;
	begin(&env);
	assert_int_equal(env_put_if(&env, "k", "1", 1, NULL, true, &old), 0);
	assert_int_equal(env_put_if(&env, "k", "2", 1, NULL, true, NULL), -EEXIST);
	assert_int_equal(env_put_if(&env, "k", "2", 1, old.etag, false, &now), 0);
	assert_int_equal(env_put_if(&env, "k", "3", 1, old.etag, false, NULL), -ESTALE);
	assert_int_equal(env_put_if(&env, "x", "3", 1, old.etag, false, NULL), -ESTALE);
	assert_int_equal(env_read(&env, "k", 0, buf, 4, old.etag, NULL), -ESTALE);
	assert_int_equal(env_read(&env, "k", 0, buf, 4, now.etag, NULL), 1);
	assert_int_equal(buf[0], '2');
	stat.if_match = old.etag;
	assert_int_equal(store_call(env.top, &stat), -ESTALE);
	stat.if_match = now.etag;
	assert_int_equal(store_call(env.top, &stat), 0);
	if (store_caps(env.top)->delete_if_match) {
		struct store_op delete = { .opcode = STORE_DELETE, .key = "k" };

		delete.if_match = old.etag;
		assert_int_equal(store_call(env.top, &delete), -ESTALE);
		delete.if_match = now.etag;
		assert_int_equal(store_call(env.top, &delete), 0);
		assert_int_equal(store_call(env.top, &delete), -ENOENT);
	}
	end(&env);
}

static void metadata_travels_with_the_object(void **state)
{
	struct env env;
	struct call put = { .op = { .opcode = STORE_PUT,
				    .key = "k",
				    .set_user_mtime = true,
				    .user_mtime_ns = -5,
				    .content_type = "text/x-test",
				    .write_id = "w1" } };
	struct store_op copy = { .opcode = STORE_COPY, .key = "c", .source_key = "k" };
	struct store_meta meta;

	(void)state;
	begin(&env);
	call_body(&put, "data", 4);
	assert_int_equal(store_call(env.top, &put.op), 0);
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_int_equal(env_stat(&env, "c", &meta), 0);
	assert_true(meta.has_user_mtime);
	assert_int_equal(meta.user_mtime_ns, -5);
	assert_string_equal(meta.write_id, "w1");
	/* A touch. */
	copy.source_key = "c";
	copy.set_user_mtime = true;
	copy.user_mtime_ns = 1700000000123456789;
	copy.source_if_match = meta.etag;
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_int_equal(env_stat(&env, "c", &meta), 0);
	assert_true(meta.user_mtime_ns == 1700000000123456789);
	assert_string_equal(meta.write_id, "w1");
	assert_string_equal(meta.etag, copy.meta.etag);
	/* Onto itself, with nothing to change. */
	copy = (struct store_op){ .opcode = STORE_COPY, .key = "c", .source_key = "c" };
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_int_equal(env_stat(&env, "c", &meta), 0);
	assert_true(meta.user_mtime_ns == 1700000000123456789);
	end(&env);
}

static void copies_are_conditional(void **state)
{
	struct env env;
	struct store_meta meta;
	struct store_op copy = { .opcode = STORE_COPY, .key = "to", .source_key = "from" };
	char buf[8];

	(void)state;
	begin(&env);
	assert_int_equal(store_call(env.top, &copy), -ENOENT);
	env_put_if(&env, "from", "abc", 3, NULL, false, &meta);
	copy.source_if_match = "\"other\"";
	assert_int_equal(store_call(env.top, &copy), -ESTALE);
	copy.source_if_match = meta.etag;
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_int_equal(env_read(&env, "to", 0, buf, 8, copy.meta.etag, NULL), 3);
	assert_memory_equal(buf, "abc", 3);
	copy.if_absent = true;
	assert_int_equal(store_call(env.top, &copy),
			 store_caps(env.top)->copy_if_absent ? -EEXIST : -EOPNOTSUPP);
	end(&env);
}

static void sessions_assemble_parts(void **state)
{
	struct env env;
	char session[STORE_SESSION_MAX], other[STORE_SESSION_MAX], buf[32];
	struct store_part parts[3];
	struct store_meta meta;
	struct store_op copy_part = { .opcode = STORE_COPY_PART,
				      .key = "k",
				      .session = session,
				      .part_number = 2,
				      .source_key = "s",
				      .offset = 2,
				      .length = PART };

	(void)state;
	begin(&env);
	assert_int_equal(env_put(&env, "s", big, PART + 10), 0);
	assert_int_equal(env_begin(&env, "k", session), 0);
	assert_int_equal(env_part(&env, "k", session, 5, "end", 3, &parts[2]), 0);
	assert_int_equal(env_part(&env, "k", session, 1, "wrong", 5, &parts[0]), 0);
	assert_int_equal(env_part(&env, "k", session, 1, big, PART, &parts[0]), 0);
	assert_int_equal(env_part(&env, "k", session, 3, "unnamed", 7, NULL), 0);
	assert_int_equal(store_call(env.top, &copy_part), 0);
	parts[1].number = 2;
	memcpy(parts[1].etag, copy_part.meta.etag, STORE_ETAG_MAX);
	memcpy(parts[1].checksum, copy_part.checksum, STORE_CHECKSUM_MAX);
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	assert_int_equal(env_commit(&env, "k", session, parts, 3, &meta), 0);
	assert_int_equal(env_stat(&env, "k", &meta), 0);
	assert_int_equal(meta.size, 2 * PART + 3);
	assert_int_equal(env_read(&env, "k", PART - 4, buf, 8, meta.etag, NULL), 8);
	assert_memory_equal(buf, big + PART - 4, 4);
	assert_memory_equal(buf + 4, big + 2, 4);
	assert_int_equal(env_read(&env, "k", 2 * PART - 2, buf, 32, meta.etag, NULL), 5);
	assert_memory_equal(buf, big + PART, 2);
	assert_memory_equal(buf + 2, "end", 3);
	assert_int_equal(env_commit(&env, "k", session, parts, 3, &meta), -ENOENT);
	assert_int_equal(env_begin(&env, "k", other), 0);
	copy_part.session = other;
	copy_part.offset = 20;
	assert_int_equal(store_call(env.top, &copy_part), -EINVAL);
	assert_int_equal(env_abort(&env, "k", other), 0);
	assert_int_equal(env_part(&env, "k", other, 1, "x", 1, NULL), -ENOENT);
	end(&env);
}

static void refused_commits_leave_the_session(void **state)
{
	struct env env;
	char session[STORE_SESSION_MAX];
	struct store_part parts[2], swapped;
	struct store_meta meta;
	struct store_op commit;

	(void)state;
	begin(&env);
	env_put_if(&env, "k", "old", 3, NULL, false, &meta);
	assert_int_equal(env_begin(&env, "k", session), 0);
	assert_int_equal(env_part(&env, "k", session, 1, "abc", 3, &parts[0]), 0);
	assert_int_equal(env_part(&env, "k", session, 2, "defg", 4, &parts[1]), 0);
	/* too small for one that is not the last */
	assert_int_equal(env_commit(&env, "k", session, parts, 2, NULL), -EINVAL);
	assert_int_equal(env_part(&env, "k", session, 1, big, PART, &parts[0]), 0);
	swapped = parts[1];
	memcpy(swapped.etag, parts[0].etag, STORE_ETAG_MAX);
	assert_int_equal(env_commit(&env, "k", session, &swapped, 1, NULL), -EINVAL);
	commit = (struct store_op){ .opcode = STORE_COMMIT,
				    .key = "k",
				    .session = session,
				    .parts = parts,
				    .part_count = 2,
				    .write_id = "w2",
				    .if_absent = true };
	assert_int_equal(store_call(env.top, &commit), -EEXIST);
	commit.if_absent = false;
	commit.if_match = "\"0123456789abcdef0123456789abcdef\"";
	assert_int_equal(store_call(env.top, &commit), -ESTALE);
	commit.if_match = meta.etag;
	assert_int_equal(store_call(env.top, &commit), 0);
	assert_int_equal(env_stat(&env, "k", &meta), 0);
	assert_int_equal(meta.size, PART + 4);
	assert_string_equal(meta.etag, commit.meta.etag);
	end(&env);
}

static void listings_are_paged_in_byte_order(void **state)
{
	/* No "a" beside "a/": MinIO keeps keys in folders. */
	static const char *const keys[] = { "b",  "a/x", "a/y/1", "a/y/2", "a/y/3",
					    "a-", "a0",	 "c/1",	  "d/e",   "\xc3\xa9" };
	struct env env;
	struct env_list list = { .limit = 5 };

	(void)state;
	begin(&env);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(env_put(&env, keys[i], "", 0), 0);
	assert_string_equal(env_list_text(&env, &list),
			    "a-,a/x,a/y/1,a/y/2,a/y/3|a0,b,c/1,d/e,\xc3\xa9");
	list = (struct env_list){ .prefix = "a/", .delimiter = "/" };
	assert_string_equal(env_list_text(&env, &list), "a/x,a/y/");
	list = (struct env_list){ .start_after = "a/y/3" };
	assert_string_equal(env_list_text(&env, &list), "a0,b,c/1,d/e,\xc3\xa9");
	list = (struct env_list){ .start_after = "a/y/3", .delimiter = "/" };
	assert_string_equal(env_list_text(&env, &list),
			    is_s3() ? "a0,b,\xc3\xa9,c/,d/" : "a0,b,c/,d/,\xc3\xa9");
	list = (struct env_list){ .prefix = "nothing" };
	assert_string_equal(env_list_text(&env, &list), "");
	end(&env);
}

static void unfinished_sessions_are_listed(void **state)
{
	struct env env;
	char session[STORE_SESSION_MAX];
	struct sweep *sweep = calloc(1, sizeof(*sweep));

	(void)state;
	begin(&env);
	assert_int_equal(env_begin(&env, "p/a", session), 0);
	/* The whole key: MinIO takes the prefix for one. */
	sweep_page(&env, sweep, STORE_LIST_SESSIONS, "p/a");
	assert_int_equal(sweep->count, 1);
	assert_string_equal(sweep->keys[0], "p/a");
	assert_string_equal(sweep->sessions[0], session);
	assert_int_equal(env_abort(&env, "p/a", sweep->sessions[0]), 0);
	sweep_page(&env, sweep, STORE_LIST_SESSIONS, "p/a");
	assert_int_equal(sweep->count, 0);
	free(sweep);
	end(&env);
}

static void batches_delete_all_that_they_name(void **state)
{
	static const char *const keys[] = { "1", "absent", "3&", "ctrl\x01" };
	struct env env;
	int results[4] = { 1, 1, 1, 1 };
	struct store_op op = {
		.opcode = STORE_DELETE_BATCH, .keys = keys, .key_count = 4, .key_results = results
	};

	(void)state;
	begin(&env);
	for (int i = 0; i < 3; i += 2)
		assert_int_equal(env_put(&env, keys[i], "", 0), 0);
	assert_int_equal(env_put(&env, "2", "", 0), 0);
	assert_int_equal(store_call(env.top, &op), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(results[i], 0);
	assert_int_equal(env_stat(&env, "1", NULL), -ENOENT);
	assert_int_equal(env_stat(&env, "3&", NULL), -ENOENT);
	assert_int_equal(env_stat(&env, "2", NULL), 0);
	end(&env);
}

#define MANY 40

static void many_ranges_arrive_at_once(void **state)
{
	struct env env;
	struct call calls[MANY];
	size_t step = 2 * PART / MANY;
	char *copy = calloc(1, 2 * PART);

	(void)state;
	begin(&env);
	assert_int_equal(env_put(&env, "k", big, 2 * PART), 0);
	for (size_t i = 0; i < MANY; i++) {
		calls[i] = (struct call){
			.op = { .opcode = STORE_READ, .key = "k", .offset = i * step }
		};
		call_body(&calls[i], copy + i * step, step);
		call_submit(&env, &calls[i]);
	}
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(call_wait(&calls[i]), 0);
	assert_memory_equal(copy, big, 2 * PART);
	free(copy);
	end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_come_back_as_they_went),
		cmocka_unit_test(odd_keys_are_keys),
		cmocka_unit_test(scattered_buffers_are_filled_in_order),
		cmocka_unit_test(conditions_hold_or_refuse),
		cmocka_unit_test(metadata_travels_with_the_object),
		cmocka_unit_test(copies_are_conditional),
		cmocka_unit_test(sessions_assemble_parts),
		cmocka_unit_test(refused_commits_leave_the_session),
		cmocka_unit_test(listings_are_paged_in_byte_order),
		cmocka_unit_test(unfinished_sessions_are_listed),
		cmocka_unit_test(batches_delete_all_that_they_name),
		cmocka_unit_test(many_ranges_arrive_at_once),
	};
	int failed;

	big = malloc(2 * PART);
	for (size_t i = 0; i < 2 * PART; i++)
		big[i] = (char)(i * 31 + i / 4093);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(big);
	return failed;
}
