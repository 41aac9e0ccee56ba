/* SPDX-License-Identifier: Apache-2.0 */
/* The memory service keeps objects, conditions, sessions and listings as S3 does. */
#include "store-fixture.h"

#include <time.h>

static void objects_come_back_as_they_went(void **state)
{
	struct env env;
	struct store_meta put, got;
	char buf[16];
	int64_t before = (int64_t)time(NULL) * 1000000000;

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	assert_int_equal(env_put_if(&env, "a/b", "hello, world", 12, NULL, false, &put), 0);
	assert_int_equal(env_read(&env, "a/b", 0, buf, sizeof(buf), NULL, &got), 12);
	assert_memory_equal(buf, "hello, world", 12);
	assert_string_equal(got.etag, put.etag);
	assert_int_equal(got.size, 12);
	assert_true(got.mtime_ns >= before);
	assert_int_equal(env_read(&env, "a/b", 7, buf, 3, NULL, &got), 3);
	assert_memory_equal(buf, "wor", 3);
	assert_int_equal(got.size, 12);
	assert_int_equal(env_read(&env, "a/b", 12, buf, 3, NULL, &got), -ERANGE);
	assert_int_equal(got.size, 12);
	assert_int_equal(env_read(&env, "a", 0, buf, 3, NULL, NULL), -ENOENT);
	assert_int_equal(env_put(&env, "empty", "", 0), 0);
	assert_int_equal(env_stat(&env, "empty", &got), 0);
	assert_int_equal(got.size, 0);
	assert_int_equal(env_read(&env, "empty", 0, buf, 3, NULL, NULL), -ERANGE);
	assert_int_equal(env_delete(&env, "a/b"), 0);
	assert_int_equal(env_delete(&env, "a/b"), 0);
	assert_int_equal(env_stat(&env, "a/b", &got), -ENOENT);
	env_end(&env);
}

static void scattered_buffers_are_filled_in_order(void **state)
{
	struct env env;
	char a[3] = "", b[1] = "", c[8] = "";
	struct iovec iov[] = { { a, 3 }, { b, 1 }, { c, 8 } };
	struct store_op op = { .opcode = STORE_READ, .key = "k", .offset = 1 };

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	env_put(&env, "k", "0123456789", 10);
	op.data = iov_cursor(iov, 3);
	iov_skip(&op.data, 1);
	assert_int_equal(store_call(env.top, &op), 0);
	assert_int_equal(op.done, 9);
	assert_memory_equal(a,
			    "\0"
			    "12",
			    3);
	assert_memory_equal(b, "3", 1);
	assert_memory_equal(c, "456789\0\0", 8);
	env_end(&env);
}

static void each_write_is_a_version(void **state)
{
	struct env env;
	struct store_meta first, second;

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	env_put_if(&env, "k", "same", 4, NULL, false, &first);
	env_put_if(&env, "k", "same", 4, NULL, false, &second);
	assert_string_not_equal(first.etag, second.etag);
	assert_int_equal(store_memory_write(env.memory, "k", "same", 4, &first), 0);
	assert_string_not_equal(first.etag, second.etag);
	env_end(&env);
}

static void conditions_hold_or_refuse(void **state)
{
	struct env env;
	struct store_meta old, now;
	struct store_op stat = { .opcode = STORE_STAT, .key = "k" };
	struct store_op delete = { .opcode = STORE_DELETE, .key = "k" };
	char buf[4];

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
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
	delete.if_match = old.etag;
	assert_int_equal(store_call(env.top, &delete), -ESTALE);
	delete.if_match = now.etag;
	assert_int_equal(store_call(env.top, &delete), 0);
	assert_int_equal(store_call(env.top, &delete), -ENOENT);
	env_end(&env);
}

static void metadata_travels_with_the_object(void **state)
{
	struct env env;
	struct call put = { .op = { .opcode = STORE_PUT,
				    .key = "k",
				    .set_user_mtime = true,
				    .user_mtime_ns = -5,
				    .write_id = "w1" } };
	struct store_op copy = { .opcode = STORE_COPY, .key = "c", .source_key = "k" };
	struct store_meta meta;

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	call_body(&put, "data", 4);
	assert_int_equal(store_call(env.top, &put.op), 0);
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_int_equal(env_stat(&env, "c", &meta), 0);
	assert_true(meta.has_user_mtime);
	assert_int_equal(meta.user_mtime_ns, -5);
	assert_string_equal(meta.write_id, "w1");
	copy.set_user_mtime = true;
	copy.user_mtime_ns = 77;
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_int_equal(env_stat(&env, "c", &meta), 0);
	assert_int_equal(meta.user_mtime_ns, 77);
	env_end(&env);
}

static void copies_are_conditional(void **state)
{
	struct env env;
	struct store_meta meta;
	struct store_op copy = { .opcode = STORE_COPY, .key = "to", .source_key = "from" };
	char big[101] = "", buf[8];

	(void)state;
	env_memory(&env, &env_small);
	env_run(&env);
	assert_int_equal(store_call(env.top, &copy), -ENOENT);
	env_put_if(&env, "from", "abc", 3, NULL, false, &meta);
	copy.source_if_match = "\"other\"";
	assert_int_equal(store_call(env.top, &copy), -ESTALE);
	copy.source_if_match = meta.etag;
	copy.if_absent = true;
	assert_int_equal(store_call(env.top, &copy), 0);
	assert_string_not_equal(copy.meta.etag, meta.etag);
	meta = copy.meta;
	assert_int_equal(store_call(env.top, &copy), -EEXIST);
	assert_int_equal(env_read(&env, "to", 0, buf, 8, meta.etag, NULL), 3);
	assert_memory_equal(buf, "abc", 3);
	store_memory_write(env.memory, "from", big, 101, NULL);
	copy = (struct store_op){ .opcode = STORE_COPY, .key = "to", .source_key = "from" };
	assert_int_equal(store_call(env.top, &copy), -EFBIG);
	copy = (struct store_op){ .opcode = STORE_COPY, .key = "to", .source_key = "to" };
	assert_int_equal(store_call(env.top, &copy), 0);
	env_end(&env);
}

static void sessions_assemble_parts(void **state)
{
	struct env env;
	char session[STORE_SESSION_MAX], buf[32];
	struct store_part parts[3];
	struct store_meta meta;
	struct store_op copy_part = { .opcode = STORE_COPY_PART,
				      .key = "k",
				      .session = session,
				      .part_number = 2,
				      .source_key = "s",
				      .offset = 2,
				      .length = 4 };

	(void)state;
	env_memory(&env, &env_small);
	env_run(&env);
	env_put(&env, "s", "0123456789", 10);
	assert_int_equal(env_begin(&env, "k", session), 0);
	assert_int_equal(env_part(&env, "k", session, 5, "end", 3, &parts[2]), 0);
	assert_int_equal(env_part(&env, "k", session, 1, "wrong", 5, &parts[0]), 0);
	assert_int_equal(env_part(&env, "k", session, 1, "begin", 5, &parts[0]), 0);
	assert_int_equal(env_part(&env, "k", session, 3, "unnamed", 7, NULL), 0);
	assert_int_equal(store_call(env.top, &copy_part), 0);
	parts[1].number = 2;
	memcpy(parts[1].etag, copy_part.meta.etag, STORE_ETAG_MAX);
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	assert_int_equal(env_commit(&env, "k", session, parts, 3, &meta), 0);
	assert_int_equal(meta.size, 12);
	assert_int_equal(env_read(&env, "k", 0, buf, 32, meta.etag, NULL), 12);
	assert_memory_equal(buf, "begin2345end", 12);
	assert_int_equal(store_memory_usage(env.memory).sessions, 0);
	assert_int_equal(store_memory_usage(env.memory).bytes, 22);
	assert_int_equal(env_commit(&env, "k", session, parts, 3, &meta), -ENOENT);
	copy_part.offset = 8;
	assert_int_equal(env_begin(&env, "k", session), 0);
	assert_int_equal(store_call(env.top, &copy_part), -EINVAL);
	env_end(&env);
}

static void refused_commits_leave_the_session(void **state)
{
	struct env env;
	char session[STORE_SESSION_MAX];
	struct store_part parts[2], swapped;
	struct store_meta meta;
	struct store_op commit;

	(void)state;
	env_memory(&env, &env_small);
	env_run(&env);
	env_put_if(&env, "k", "old", 3, NULL, false, &meta);
	env_begin(&env, "k", session);
	env_part(&env, "k", session, 1, "abc", 3, &parts[0]);
	env_part(&env, "k", session, 2, "defg", 4, &parts[1]);
	/* too small for one that is not the last */
	assert_int_equal(env_commit(&env, "k", session, parts, 2, NULL), -EINVAL);
	env_part(&env, "k", session, 1, "abcd", 4, &parts[0]);
	swapped = parts[1];
	memcpy(swapped.etag, parts[0].etag, STORE_ETAG_MAX);
	assert_int_equal(env_commit(&env, "k", session, &swapped, 1, NULL), -EINVAL);
	commit = (struct store_op){ .opcode = STORE_COMMIT,
				    .key = "k",
				    .session = session,
				    .parts = parts,
				    .part_count = 2,
				    .if_absent = true };
	assert_int_equal(store_call(env.top, &commit), -EEXIST);
	commit.if_absent = false;
	commit.if_match = "\"0\"";
	assert_int_equal(store_call(env.top, &commit), -ESTALE);
	commit.if_match = meta.etag;
	assert_int_equal(store_call(env.top, &commit), 0);
	env_begin(&env, "k", session);
	env_part(&env, "k", session, 1, "abcd", 4, &parts[0]);
	assert_int_equal(env_part(&env, "other", session, 1, "x", 1, NULL), -ENOENT);
	assert_int_equal(env_abort(&env, "k", session), 0);
	assert_int_equal(env_abort(&env, "k", session), -ENOENT);
	assert_int_equal(env_part(&env, "k", session, 1, "x", 1, NULL), -ENOENT);
	assert_int_equal(store_memory_usage(env.memory).bytes, 8);
	env_end(&env);
}

static void limits_are_kept(void **state)
{
	struct env env;
	char session[STORE_SESSION_MAX], big[101] = "", name[16];
	struct store_part part;

	(void)state;
	env_memory(&env, &env_small);
	env_run(&env);
	assert_int_equal(env_put(&env, "k", big, 101), -EFBIG);
	assert_int_equal(env_put(&env, "k", big, 100), 0);
	env_begin(&env, "k", session);
	assert_int_equal(env_part(&env, "k", session, 1, big, 65, &part), -EFBIG);
	assert_int_equal(env_part(&env, "k", session, 9, big, 4, &part), -EFBIG);
	assert_int_equal(env_part(&env, "k", session, 0, big, 4, &part), -EINVAL);
	for (int i = 0; i < 39; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(env_put(&env, name, big, 100), 0);
	}
	assert_int_equal(env_put(&env, "more", big, 100), -ENOSPC);
	assert_int_equal(env_delete(&env, "f0"), 0);
	assert_int_equal(env_put(&env, "more", big, 100), 0);
	env_end(&env);
}

static void listings_are_paged_in_byte_order(void **state)
{
	static const char *const keys[] = {
		"b",  "a",  "a/x", "a/y/1",  "a/y/2",  "a/y/3", "a-",
		"a0", "c/", "c/1", "\xff/1", "\xff/2", "\xc3",	"d//e"
	};
	struct env env;
	struct env_list list = { 0 };

	(void)state;
	env_memory(&env, &env_small);
	env_run(&env);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(env_put(&env, keys[i], "", 0), 0);
	assert_string_equal(env_list_text(&env, &list),
			    "a,a-,a/x,a/y/1,a/y/2|a/y/3,a0,b,c/,c/1|d//e,\xc3,\xff/1,\xff/2");
	list = (struct env_list){ .delimiter = "/" };
	assert_string_equal(env_list_text(&env, &list), "a,a-,a/,a0,b|c/,d/,\xc3,\xff/");
	list = (struct env_list){ .delimiter = "/", .limit = 1 };
	assert_string_equal(env_list_text(&env, &list), "a|a-|a/|a0|b|c/|d/|\xc3|\xff/");
	list = (struct env_list){ .delimiter = "/", .prefix = "a/" };
	assert_string_equal(env_list_text(&env, &list), "a/x,a/y/");
	list = (struct env_list){ .delimiter = "/", .prefix = "c/" };
	assert_string_equal(env_list_text(&env, &list), "c/,c/1");
	list = (struct env_list){ .delimiter = "/", .prefix = "d/" };
	assert_string_equal(env_list_text(&env, &list), "d//");
	list = (struct env_list){ .delimiter = "/", .start_after = "a/y/1" };
	assert_string_equal(env_list_text(&env, &list), "a/,a0,b,c/,d/|\xc3,\xff/");
	list = (struct env_list){ .delimiter = "/", .start_after = "a/y/3" };
	assert_string_equal(env_list_text(&env, &list), "a0,b,c/,d/,\xc3|\xff/");
	list = (struct env_list){ .prefix = "a/", .start_after = "0" };
	assert_string_equal(env_list_text(&env, &list), "a/x,a/y/1,a/y/2,a/y/3");
	list = (struct env_list){ .prefix = "nothing" };
	assert_string_equal(env_list_text(&env, &list), "");
	list = (struct env_list){ .limit = 14 };
	assert_string_equal(env_list_text(&env, &list),
			    "a,a-,a/x,a/y/1,a/y/2|a/y/3,a0,b,c/,c/1|d//e,\xc3,\xff/1,\xff/2");
	env_end(&env);
}

static void a_forged_token_is_refused(void **state)
{
	struct env env;
	struct store_page page;
	struct env_list list = { 0 };

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	env_list_text(&env, &list); /* sets up the operation */
	list.call.op.list.token = "nonsense";
	list.call.op.list.page = &page;
	assert_int_equal(store_call(env.top, &list.call.op), -EINVAL);
	env_end(&env);
}

struct sessions {
	struct store_op op;
	char text[512];
	char last[STORE_SESSION_MAX];
};

static void add_session(struct store_op *op, const struct store_entry *entry)
{
	struct sessions *sessions = container_of(op, struct sessions, op);
	size_t used = strlen(sessions->text);

	assert_non_null(entry->session);
	assert_true(entry->meta.mtime_ns > 0);
	snprintf(sessions->text + used, sizeof(sessions->text) - used, "%.*s ", (int)entry->key_len,
		 entry->key);
	snprintf(sessions->last, sizeof(sessions->last), "%s", entry->session);
}

static void unfinished_sessions_are_listed(void **state)
{
	static const char *const keys[] = { "p/b", "p/a", "q", "p/b", "p/c", "p/d", "p/e" };
	struct env env;
	struct store_page page = { 0 };
	char session[STORE_SESSION_MAX], token[STORE_TOKEN_MAX];
	struct sessions sessions = { .op = { .opcode = STORE_LIST_SESSIONS,
					     .key = "p/",
					     .list = { .entry = add_session, .page = &page } } };

	(void)state;
	env_memory(&env, &env_small);
	env_run(&env);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(env_begin(&env, keys[i], session), 0);
	assert_int_equal(store_call(env.top, &sessions.op), 0);
	assert_string_equal(sessions.text, "p/a p/b p/b p/c p/d ");
	assert_true(page.truncated);
	memcpy(token, page.token, sizeof(token));
	sessions.op.list.token = token;
	sessions.text[0] = '\0';
	assert_int_equal(store_call(env.top, &sessions.op), 0);
	assert_string_equal(sessions.text, "p/e ");
	assert_false(page.truncated);
	assert_int_equal(env_abort(&env, "p/e", sessions.last), 0);
	assert_int_equal(store_memory_usage(env.memory).sessions, 6);
	env_end(&env);
}

static void batches_delete_all_that_they_name(void **state)
{
	static const char *const keys[] = { "1", "absent", "3" };
	struct env env;
	int results[3] = { 1, 1, 1 };
	struct store_op op = {
		.opcode = STORE_DELETE_BATCH, .keys = keys, .key_count = 3, .key_results = results
	};

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	env_put(&env, "1", "", 0);
	env_put(&env, "2", "", 0);
	env_put(&env, "3", "", 0);
	assert_int_equal(store_call(env.top, &op), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(results[i], 0);
	assert_int_equal(store_memory_usage(env.memory).objects, 1);
	assert_int_equal(env_stat(&env, "2", NULL), 0);
	env_end(&env);
}

static void another_client_comes_from_behind(void **state)
{
	struct env env;
	struct store_meta meta;
	char buf[8] = "";

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	assert_int_equal(store_memory_write(env.memory, "k", "behind", 6, &meta), 0);
	assert_int_equal(env_read(&env, "k", 0, buf, 8, meta.etag, NULL), 6);
	assert_memory_equal(buf, "behind", 6);
	env_put(&env, "k", "front", 5);
	assert_int_equal(store_memory_read(env.memory, "k", buf, 3, &meta), 0);
	assert_memory_equal(buf, "froind", 6);
	assert_int_equal(meta.size, 5);
	assert_int_equal(store_memory_remove(env.memory, "k"), 0);
	assert_int_equal(store_memory_remove(env.memory, "k"), -ENOENT);
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	env_end(&env);
}

/* The skip list against an array. */
static void many_keys_stay_in_order(void **state)
{
	struct env env;
	struct env_list list;
	unsigned present[800] = { 0 }, count = 0;
	char key[16], expected[64];

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	srandom(7);
	for (int i = 0; i < 20000; i++) {
		unsigned n = (unsigned)random() % 800;

		snprintf(key, sizeof(key), "%03u", n);
		if (random() % 3)
			assert_int_equal(store_memory_write(env.memory, key, "", 0, NULL), 0);
		else
			store_memory_remove(env.memory, key);
		present[n] = env_stat(&env, key, NULL) == 0;
		if (i % 100)
			continue;
		list = (struct env_list){ .start_after = key, .limit = 1 };
		list.page.truncated = false;
		expected[0] = '\0';
		for (unsigned next = n + 1; next < 800; next++) {
			if (present[next]) {
				snprintf(expected, sizeof(expected), "%03u", next);
				break;
			}
		}
		env_list(&env, &list);
		list.text[MIN(strlen(list.text), (size_t)3)] = '\0';
		assert_string_equal(list.text, expected);
	}
	for (unsigned n = 0; n < 800; n++)
		count += present[n];
	assert_int_equal(store_memory_usage(env.memory).objects, count);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_come_back_as_they_went),
		cmocka_unit_test(scattered_buffers_are_filled_in_order),
		cmocka_unit_test(each_write_is_a_version),
		cmocka_unit_test(conditions_hold_or_refuse),
		cmocka_unit_test(metadata_travels_with_the_object),
		cmocka_unit_test(copies_are_conditional),
		cmocka_unit_test(sessions_assemble_parts),
		cmocka_unit_test(refused_commits_leave_the_session),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(listings_are_paged_in_byte_order),
		cmocka_unit_test(a_forged_token_is_refused),
		cmocka_unit_test(unfinished_sessions_are_listed),
		cmocka_unit_test(batches_delete_all_that_they_name),
		cmocka_unit_test(another_client_comes_from_behind),
		cmocka_unit_test(many_keys_stay_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
