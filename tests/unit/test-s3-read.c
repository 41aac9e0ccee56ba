/* SPDX-License-Identifier: Apache-2.0 */
/* What reaches the caller's memory, and what never does. */
#include "s3-fixture.h"

static ssize_t read_at(struct s3_env *e, uint64_t offset, char *buf, size_t len)
{
	memset(buf, '.', len);
	return env_read(&e->env, "k", offset, buf, len, NULL, NULL);
}

/* Nothing of an answer was put in place. */
static void assert_untouched(const char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], '.');
}

static void ranges_are_asked_for_and_filled_in(void **state)
{
	struct s3_env e;
	struct store_meta meta;
	char buf[8];

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "/pre/fix/" });
	fake_says(&e, "206 Partial Content",
		  "Content-Range: bytes 5-9/100\r\nETag: \"e\"\r\n"
		  "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n"
		  "X-Amz-Meta-Mtime: -1.5\r\nx-amz-meta-ovfs-write-id: w1\r\n",
		  "hello");
	assert_int_equal(env_read(&e.env, "a b/\xc3\xa9", 5, buf, 5, "\"e\"", &meta), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(meta.size, 100);
	assert_string_equal(meta.etag, "\"e\"");
	assert_true(meta.mtime_ns == 1445412480000000000);
	assert_true(meta.has_user_mtime && meta.user_mtime_ns == -1500000000);
	assert_string_equal(meta.write_id, "w1");
	fake_asked(&e, 0, "GET /b/pre/fix/a%20b/%C3%A9 HTTP/1.1\r\n");
	fake_asked(&e, 0, "range: bytes=5-9\r\n");
	fake_asked(&e, 0, "if-match: \"e\"\r\n");
	fake_asked(&e, 0, "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/");
	fake_asked_not(&e, 0, "Expect");
	s3_end(&e);
}

static void short_objects_are_short_reads(void **state)
{
	struct s3_env e;
	char buf[8];

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "206 Partial Content", "Content-Range: bytes 5-6/7\r\n", "ab");
	assert_int_equal(read_at(&e, 5, buf, 8), 2);
	assert_memory_equal(buf, "ab......", 8);
	s3_end(&e);
}

static void split_answers_are_put_together(void **state)
{
	struct s3_env e;
	char buf[10];

	(void)state;
	s3_begin(&e, NULL);
	fake_bytes(&e, "HTTP/1.1 100 Continue\r\n\r\n"
		       "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n"
		       "Content-Length: 10\r\nETag: \"e\"\r\n\r\n0123456789")
		->step = 3;
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n"
		       "Transfer-Encoding: chunked\r\nETag: \"e\"\r\n\r\n"
		       "4\r\n0123\r\n6\r\n456789\r\n0\r\nEtag: \"trailer\"\r\n\r\n")
		->step = 5;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(read_at(&e, 0, buf, 10), 10);
		assert_memory_equal(buf, "0123456789", 10);
	}
	s3_end(&e);
}

static void error_documents_stay_out(void **state)
{
	static const struct {
		const char *status;
		int error;
	} cases[] = {
		{ "404 Not Found", -ENOENT },
		{ "403 Forbidden", -EACCES },
		{ "412 Precondition Failed", -ESTALE },
		{ "500 Internal Server Error", -EIO },
		{ "503 Slow Down", -EAGAIN },
		{ "400 Bad Request", -EINVAL },
		{ "302 Found", -EIO },
	};
	struct s3_env e;
	char buf[8];

	(void)state;
	s3_begin(&e, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_says(&e, cases[i].status,
			  "Content-Range: bytes 0-7/8\r\nLocation: http://127.0.0.1:1/\r\n",
			  "<html>this is not your file");
		assert_int_equal(read_at(&e, 0, buf, 8), cases[i].error);
		assert_untouched(buf, 8);
	}
	s3_end(&e);
}

static void answers_to_another_question_are_refused(void **state)
{
	static const char *const headers[] = {
		"Content-Range: bytes 4-11/100\r\n", /* begins elsewhere */
		"Content-Range: bytes 5-4/100\r\n",
		"Content-Range: bytes 5-12/10\r\n", /* ends behind the end */
		"Content-Range: bytes 5-12/*\r\n",
		"Content-Range: bytes 5-99999999999999999999/100\r\n",
		"Content-Range: lines 5-12/100\r\n",
		"",
	};
	struct s3_env e;
	char buf[8];

	(void)state;
	s3_begin(&e, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		fake_says(&e, "206 Partial Content", headers[i], "12345678");
		assert_int_equal(read_at(&e, 5, buf, 8), -EIO);
		assert_untouched(buf, 8);
	}
	/* The whole object, where a part from its middle was asked for. */
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "0123456789abcdefgh");
	assert_int_equal(read_at(&e, 5, buf, 8), -EIO);
	assert_untouched(buf, 8);
	/* No object at all. */
	fake_says(&e, "200 OK", "", "<html>log in first</html>");
	assert_int_equal(read_at(&e, 0, buf, 8), -EIO);
	assert_untouched(buf, 8);
	fake_says(&e, "204 No Content", "ETag: \"e\"\r\n", "");
	assert_int_equal(read_at(&e, 0, buf, 8), -EIO);
	s3_end(&e);
}

static void another_version_is_refused(void **state)
{
	struct s3_env e;
	char buf[8] = "........";

	(void)state;
	s3_begin(&e, NULL);
	/* From a service that does not look at If-Match. */
	fake_says(&e, "206 Partial Content", "Content-Range: bytes 0-7/8\r\nETag: \"new\"\r\n",
		  "12345678");
	assert_int_equal(env_read(&e.env, "k", 0, buf, 8, "\"old\"", NULL), -ESTALE);
	assert_untouched(buf, 8);
	fake_says(&e, "206 Partial Content", "Content-Range: bytes 0-7/8\r\n", "12345678");
	assert_int_equal(env_read(&e.env, "k", 0, buf, 8, "\"old\"", NULL), -ESTALE);
	assert_untouched(buf, 8);
	s3_end(&e);
}

static void too_much_is_cut(void **state)
{
	struct s3_env e;
	struct store_meta meta;
	char buf[16];

	(void)state;
	s3_begin(&e, NULL);
	/* The range was not looked at. */
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "0123456789");
	memset(buf, '.', sizeof(buf));
	assert_int_equal(env_read(&e.env, "k", 0, buf, 4, NULL, &meta), 4);
	assert_memory_equal(buf, "0123............", 16);
	assert_int_equal(meta.size, 10);
	/* More than the headers promise: the chunks do not end in time. */
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/10\r\n"
		       "Transfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n0\r\n\r\n");
	assert_int_equal(read_at(&e, 0, buf, 16), -EIO); /* as short as the headers say */
	assert_memory_equal(buf, "0123............", 16);
	s3_end(&e);
}

static void truncated_bodies_are_errors(void **state)
{
	struct s3_env e;
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };
	char buf[10];

	(void)state;
	s3_begin(&e, NULL);
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n"
		       "Content-Length: 10\r\nETag: \"e\"\r\n\r\n01234")
		->hang_up = true;
	call_body(&call, buf, 10);
	assert_int_equal(store_call(e.env.top, &call.op), -EIO);
	assert_int_equal(call.op.done, 5);
	assert_memory_equal(buf, "01234", 5);
	assert_string_equal(call.op.meta.etag, "\"e\"");
	/* Fewer bytes in good order, and a chunked body without its end. */
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n"
		       "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n");
	assert_int_equal(read_at(&e, 0, buf, 10), -EIO);
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n"
		       "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n")
		->hang_up = true;
	assert_int_equal(read_at(&e, 0, buf, 10), -EIO);
	/* Headers that do not end. */
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n")->hang_up =
		true;
	assert_int_equal(read_at(&e, 0, buf, 10), -EIO);
	fake_bytes(&e, "no http\r\n\r\n")->hang_up = true;
	assert_int_equal(read_at(&e, 0, buf, 10), -EIO);
	s3_end(&e);
}

/* As the retry layer does it in a second attempt. */
static void wrap_submit(struct store *store, struct store_op *op)
{
	op->done = 4;
	store_op_forward(store, op, NULL);
}

static void wrap_free(struct store *store)
{
	(void)store;
}

static void reads_begin_where_the_last_one_ended(void **state)
{
	static const struct store_ops wrap_ops = { .name = "wrap",
						   .submit = wrap_submit,
						   .free = wrap_free };
	struct s3_env e;
	struct store wrap;
	char buf[10];

	(void)state;
	s3_begin(&e, NULL);
	env_ok(store_init_layer(&wrap, &wrap_ops, e.env.top));
	e.env.top = &wrap;
	fake_says(&e, "206 Partial Content", "Content-Range: bytes 104-109/200\r\nETag: \"e\"\r\n",
		  "456789");
	assert_int_equal(read_at(&e, 100, buf, 10), 10);
	assert_memory_equal(buf, "....456789", 10);
	fake_asked(&e, 0, "range: bytes=104-109\r\n");
	/* All was there already: no request. */
	assert_int_equal(read_at(&e, 100, buf, 4), 4);
	assert_int_equal(fake_count(&e), 1);
	s3_end(&e);
}

static void ranges_behind_the_end_say_so(void **state)
{
	struct s3_env e;
	struct store_meta meta;
	char buf[4];

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "416 Range Not Satisfiable", "Content-Range: bytes */7\r\n", "");
	assert_int_equal(env_read(&e.env, "k", 9, buf, 4, NULL, &meta), -ERANGE);
	assert_int_equal(meta.size, 7);
	fake_says(&e, "416 Range Not Satisfiable", "",
		  "<Error><Code>InvalidRange</Code><ActualObjectSize>8</ActualObjectSize></Error>");
	assert_int_equal(env_read(&e.env, "k", 9, buf, 4, NULL, &meta), -ERANGE);
	assert_int_equal(meta.size, 8);
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_read(&e.env, "k", 0, buf, 4, NULL, &meta), -ERANGE);
	assert_int_equal(meta.size, 0);
	s3_end(&e);
}

static void checksums_of_whole_objects_are_compared(void **state)
{
	struct s3_env e;
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };
	char buf[16];

	(void)state;
	s3_begin(&e, &(struct s3_config){ .checksum_algorithm = "crc32c" });
	/* CRC32C of "123456789" is e3069283. */
	fake_says(&e, "206 Partial Content",
		  "Content-Range: bytes 0-8/9\r\nx-amz-checksum-crc32c: 4waSgw==\r\n"
		  "x-amz-checksum-type: FULL_OBJECT\r\n",
		  "123456789");
	assert_int_equal(read_at(&e, 0, buf, 16), 9);
	fake_asked(&e, 0, "x-amz-checksum-mode: ENABLED\r\n");
	fake_says(&e, "206 Partial Content",
		  "Content-Range: bytes 0-8/9\r\nx-amz-checksum-crc32c: 4waSgw==\r\n", "123456780");
	call_body(&call, buf, 16);
	assert_int_equal(store_call(e.env.top, &call.op), -EIO);
	assert_int_equal(call.op.done, 0);
	/* Of the parts, not of the whole: no use. */
	fake_says(&e, "206 Partial Content",
		  "Content-Range: bytes 0-8/9\r\nx-amz-checksum-crc32c: 4waSgw==-2\r\n"
		  "x-amz-checksum-type: COMPOSITE\r\n",
		  "123456780");
	assert_int_equal(read_at(&e, 0, buf, 16), 9);
	s3_end(&e);
}

static void stat_reads_headers_only(void **state)
{
	struct s3_env e;
	struct store_meta meta;

	(void)state;
	s3_begin(&e, NULL);
	fake_bytes(&e, "HTTP/1.1 200 OK\r\nContent-Length: 12345678901\r\nETag: plain\r\n"
		       "x-amz-meta-mtime: nonsense\r\n\r\n");
	assert_int_equal(env_stat(&e.env, "k", &meta), 0);
	assert_true(meta.size == 12345678901);
	assert_string_equal(meta.etag, "\"plain\"");
	assert_false(meta.has_user_mtime);
	fake_asked(&e, 0, "HEAD /b/k HTTP/1.1\r\n");
	fake_bytes(&e, "HTTP/1.1 404 Not Found\r\nContent-Length: 300\r\n\r\n");
	assert_int_equal(env_stat(&e.env, "k", &meta), -ENOENT);
	fake_bytes(&e, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n\r\n");
	assert_int_equal(env_stat(&e.env, "k", &meta), -EIO); /* how large is it? */
	fake_bytes(&e, "HTTP/1.1 200 OK\r\nContent-Length: 188\r\n\r\n");
	assert_int_equal(env_stat(&e.env, "k", &meta), -EIO); /* is it one? */
	s3_end(&e);
}

static void keys_are_bounded_with_their_root(void **state)
{
	struct s3_env e;
	char key[STORE_KEY_MAX + 1], buf[4];

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "r" });
	memset(key, 0xff, sizeof(key));
	key[STORE_KEY_MAX - 1] = '\0';
	assert_int_equal(env_read(&e.env, key, 0, buf, 4, NULL, NULL), -ENAMETOOLONG);
	key[STORE_KEY_MAX - 2] = '\0';
	fake_says(&e, "404 Not Found", "", "");
	assert_int_equal(env_read(&e.env, key, 0, buf, 4, NULL, NULL), -ENOENT);
	s3_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_asked_for_and_filled_in),
		cmocka_unit_test(short_objects_are_short_reads),
		cmocka_unit_test(split_answers_are_put_together),
		cmocka_unit_test(error_documents_stay_out),
		cmocka_unit_test(answers_to_another_question_are_refused),
		cmocka_unit_test(another_version_is_refused),
		cmocka_unit_test(too_much_is_cut),
		cmocka_unit_test(truncated_bodies_are_errors),
		cmocka_unit_test(reads_begin_where_the_last_one_ended),
		cmocka_unit_test(ranges_behind_the_end_say_so),
		cmocka_unit_test(checksums_of_whole_objects_are_compared),
		cmocka_unit_test(stat_reads_headers_only),
		cmocka_unit_test(keys_are_bounded_with_their_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
