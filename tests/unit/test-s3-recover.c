/* SPDX-License-Identifier: Apache-2.0 */
/* What the service puts right by itself, what it gives back, and how it ends early. */
#include "s3-fixture.h"

#define READ_OK "Content-Range: bytes 0-4/5\r\nETag: \"e\"\r\n"

static void the_region_is_learnt(void **state)
{
	struct s3_env e;
	char buf[5];

	(void)state;
	s3_begin(&e, NULL);
	fake_says(
		&e, "400 Bad Request", "",
		"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-x-1</Region></Error>");
	fake_says(&e, "206 Partial Content", READ_OK, "hello");
	assert_int_equal(env_read(&e.env, "k", 0, buf, 5, NULL, NULL), 5);
	fake_asked(&e, 0, "/us-east-1/s3/aws4_request");
	fake_asked(&e, 1, "/eu-x-1/s3/aws4_request");
	/* For good, and HEAD hears it from a header. */
	fake_bytes(&e, "HTTP/1.1 301 Moved\r\nContent-Length: 99\r\n"
		       "x-amz-bucket-region: us-y-2\r\n\r\n");
	fake_bytes(&e, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e\"\r\n\r\n");
	assert_int_equal(env_stat(&e.env, "k", NULL), 0);
	fake_asked(&e, 2, "/eu-x-1/s3/aws4_request");
	fake_asked(&e, 3, "/us-y-2/s3/aws4_request");
	/* Not for ever. */
	fake_says(&e, "301 Moved", "x-amz-bucket-region: a\r\n", "");
	fake_says(&e, "301 Moved", "x-amz-bucket-region: b\r\n", "");
	assert_int_equal(env_put(&e.env, "k", "x", 1), -EIO);
	assert_int_equal(fake_count(&e), 6);
	/* And not to a place that is none. */
	fake_says(&e, "301 Moved", "x-amz-bucket-region: evil.example/\r\n", "");
	assert_int_equal(env_put(&e.env, "k", "x", 1), -EIO);
	assert_int_equal(fake_count(&e), 7);
	s3_end(&e);
}

static void keys_that_expired_are_asked_for_again(void **state)
{
	struct s3_env e;

	(void)state;
	/* The configured ones are all there are. */
	s3_begin(&e, &(struct s3_config){ .access_key_id = "id",
					  .secret_access_key = "secret",
					  .session_token = "token" });
	fake_says(&e, "400 Bad Request", "", "<Error><Code>ExpiredToken</Code></Error>");
	assert_int_equal(env_put(&e.env, "k", "x", 1), -EACCES);
	assert_int_equal(fake_count(&e), 1);
	fake_asked(&e, 0, "x-amz-security-token: token\r\n");
	s3_end(&e);
}

static void dead_connections_are_replaced(void **state)
{
	struct s3_env e;
	char *data = malloc(1 << 20);

	(void)state;
	memset(data, 'x', 1 << 20);
	s3_begin(&e, NULL);
	/* Closed behind our back, found out when the next body is half sent. */
	fake_bytes(&e, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n")->hang_up =
		true;
	fake_says(&e, "200 OK", "ETag: \"f\"\r\n", "");
	assert_int_equal(env_put(&e.env, "k", data, 1 << 20), 0);
	assert_int_equal(env_put(&e.env, "k", data, 1 << 20), 0);
	assert_int_equal(fake_count(&e), 2);
	assert_int_equal(strlen(strstr(fake_request(&e, 1), "\r\n\r\n") + 4), 1 << 20);
	free(data);
	s3_end(&e);
}

/* A second time it would be refused because of the first. */
static void conditional_writes_are_not_sent_twice(void **state)
{
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_put(&e.env, "k", "", 0), 0);
	/* Taken, perhaps done, and the connection is gone. */
	fake_bytes(&e, "")->hang_up = true;
	assert_int_equal(env_put_if(&e.env, "dir/", "", 0, NULL, true, NULL), -EIO);
	assert_int_equal(fake_count(&e), 2);
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_put(&e.env, "k", "", 0), 0);
	fake_bytes(&e, "")->hang_up = true;
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_put(&e.env, "k", "", 0), 0);
	assert_int_equal(fake_count(&e), 5);
	s3_end(&e);
}

static void proxies_get_the_whole_address(void **state)
{
	struct s3_env e, proxied;
	char proxy[64];

	(void)state;
	s3_begin(&e, NULL);
	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", e.fake.port);
	s3_begin(&proxied, &(struct s3_config){ .endpoint = "http://s3.invalid:8080/x",
						.enable_virtual_host_style = true,
						.proxy = proxy });
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_put(&proxied.env, "k", "x", 1), 0);
	fake_asked(&e, 0, "PUT http://b.s3.invalid:8080/x/k HTTP/1.1\r\n");
	fake_asked(&e, 0, "Host: b.s3.invalid:8080\r\n");
	s3_end(&proxied);
	s3_end(&e);
}

static void connections_are_kept_and_bounded(void **state)
{
	struct s3_env e;
	struct call calls[6];
	char bufs[6][8];

	(void)state;
	s3_begin(&e, &(struct s3_config){ .connections_max = 2 });
	for (int i = 0; i < 6; i++)
		fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n" READ_OK
			       "\r\nhello")
			->wait = true;
	for (int i = 0; i < 6; i++) {
		calls[i] = (struct call){ .op = { .opcode = STORE_READ, .key = "k" } };
		call_body(&calls[i], bufs[i], 8);
		call_submit(&e.env, &calls[i]);
	}
	fake_wait(&e, 2);
	sleep_ms(50);
	assert_int_equal(fake_count(&e), 2);
	fake_go_on(&e);
	for (int i = 0; i < 6; i++)
		assert_int_equal(call_wait(&calls[i]), 0);
	assert_int_equal(e.fake.connection_count, 2);
	s3_end(&e);
}

static void operations_can_be_cancelled(void **state)
{
	struct s3_env e;
	struct call calls[3];
	char buf[8];

	(void)state;
	s3_begin(&e, &(struct s3_config){ .connections_max = 1 });
	fake_says(&e, "404 Not Found", "", "");
	e.fake.answers[0].wait = true;
	for (int i = 0; i < 3; i++) {
		calls[i] = (struct call){ .op = { .opcode = STORE_READ, .key = "k" } };
		call_body(&calls[i], buf, 8);
		call_submit(&e.env, &calls[i]);
	}
	fake_wait(&e, 1);
	store_cancel(&calls[1].op); /* in the queue */
	assert_int_equal(call_wait(&calls[1]), -ECANCELED);
	store_cancel(&calls[0].op); /* on the wire */
	assert_int_equal(call_wait(&calls[0]), -ECANCELED);
	fake_says(&e, "404 Not Found", "", "");
	fake_go_on(&e);
	/* Whatever the server made of the one before. */
	assert_int_not_equal(call_wait(&calls[2]), -ECANCELED);
	s3_end(&e);
}

/* Cancels from within the body of its own answer. */
static void cancel_in_progress(struct store_op *op, uint64_t done)
{
	if (done >= 2)
		store_op_recall(op->top, op);
}

static void stop_submit(struct store *store, struct store_op *op)
{
	store_op_forward(store, op, NULL);
}

static void stop_free(struct store *store)
{
	(void)store;
}

static void bodies_can_be_cut_from_inside(void **state)
{
	static const struct store_ops stop_ops = { .name = "stop",
						   .submit = stop_submit,
						   .free = stop_free };
	struct s3_env e;
	struct store stop;
	struct call call = {
		.op = { .opcode = STORE_READ, .key = "k", .progress = cancel_in_progress }
	};
	char buf[5] = "";

	(void)state;
	s3_begin(&e, NULL);
	env_ok(store_init_layer(&stop, &stop_ops, e.env.top));
	e.env.top = &stop;
	fake_bytes(&e, "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n" READ_OK "\r\nhello")
		->step = 1;
	call_body(&call, buf, 5);
	assert_int_equal(store_call(e.env.top, &call.op), -ECANCELED);
	assert_int_equal(call.op.done, 2);
	assert_memory_equal(buf, "he\0\0", 4);
	s3_end(&e);
}

static void wishes_to_wait_are_passed_on(void **state)
{
	struct s3_env e;
	struct store_op stat = { .opcode = STORE_DELETE, .key = "k" };

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "503 Slow Down", "Retry-After: 7\r\n", "");
	assert_int_equal(store_call(e.env.top, &stat), -EAGAIN);
	assert_int_equal(stat.retry_after_ms, 7000);
	fake_says(&e, "429 Too Many", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "");
	assert_int_equal(store_call(e.env.top, &stat), -EAGAIN);
	assert_int_equal(stat.retry_after_ms, 0);
	/* Not what a server says that has just been started: it does not know. */
	fake_says(&e, "503 Service Unavailable", "Retry-After: 60\r\n",
		  "<Error><Code>XMinioServerNotInitialized</Code></Error>");
	assert_int_equal(store_call(e.env.top, &stat), -EAGAIN);
	assert_int_equal(stat.retry_after_ms, 0);
	s3_end(&e);
}

/* The answer of the service to the check at start, and a word of the message. */
static void check_says(const char *status, const char *headers, const char *body, const char *word)
{
	struct s3_env e;
	struct err *err;
	bool absent;

	s3_begin(&e, NULL);
	fake_says(&e, status, headers, body);
	err = s3_check(e.env.top, 5000, &absent);
	assert_false(absent);
	if (word) {
		assert_non_null(err);
		if (!strstr(err_msg(err), word))
			fail_msg("\"%s\" is not in \"%s\"", word, err_msg(err));
		assert_null(strstr(err_msg(err), "wJalrXUtnFEMI"));
	} else if (err) {
		fail_msg("%s", err_msg(err));
	}
	err_free(err);
	s3_end(&e);
}

#define CODE(code) "<Error><Code>" code "</Code><Message>said</Message></Error>"

static void the_check_says_which_it_is(void **state)
{
	(void)state;
	check_says("200 OK", "", "<ListBucketResult></ListBucketResult>", NULL);
	check_says("403 Forbidden", "", CODE("InvalidAccessKeyId"), "access_key_id");
	check_says("403 Forbidden", "", CODE("SignatureDoesNotMatch"), "secret_access_key");
	check_says("403 Forbidden", "", CODE("AccessDenied"), "access denied");
	check_says("403 Forbidden", "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
		   CODE("RequestTimeTooSkewed"), "clock");
	check_says("404 Not Found", "", CODE("NoSuchBucket"), "no bucket \"b\"");
	check_says("400 Bad Request", "", CODE("AuthorizationHeaderMalformed"), "region");
	check_says("400 Bad Request", "", CODE("ExpiredToken"), "expired");
	check_says("200 OK", "", "<html>", "not");
	check_says("404 Not Found", "", "<html>no</html>", "not as S3 does");
	check_says("418 Teapot", "", CODE("Teapot"), "Teapot");
}

static void the_check_knows_dead_endpoints(void **state)
{
	static const struct {
		const char *endpoint, *word;
	} cases[] = {
		{ "http://127.0.0.1:1", "does not accept connections" },
		{ "http://no-such-host.invalid", "does not resolve" },
	};
	struct s3_env e;
	struct err *err;
	bool absent;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		s3_begin(&e, &(struct s3_config){ .endpoint = cases[i].endpoint });
		err = s3_check(e.env.top, 20000, &absent);
		assert_non_null(err);
		assert_true(absent);
		if (!strstr(err_msg(err), cases[i].word))
			fail_msg("\"%s\" is not in \"%s\"", cases[i].word, err_msg(err));
		err_free(err);
		s3_end(&e);
	}
	/* No answer at all. */
	s3_begin(&e, NULL);
	fake_bytes(&e, "")->wait = true;
	err = s3_check(e.env.top, 100, &absent);
	assert_non_null(err);
	assert_true(absent);
	assert_non_null(strstr(err_msg(err), "no answer"));
	err_free(err);
	s3_end(&e);
	/* Somebody who has no time. */
	s3_begin(&e, NULL);
	for (int i = 0; i < 3; i++)
		fake_says(&e, "503 Slow Down", "", CODE("SlowDown"));
	err = s3_check(e.env.top, 5000, &absent);
	assert_non_null(err);
	assert_true(absent);
	err_free(err);
	s3_end(&e);
}

static void refused_keys_are_named(void **state)
{
	static const struct {
		struct s3_config config;
		const char *word;
	} cases[] = {
		{ { .bucket = NULL }, "bucket" },
		{ { .bucket = "b", .enable_versioning = true }, "enable_versioning" },
		{ { .bucket = "b", .enable_write_with_append = true }, "enable_write_with_append" },
		{ { .bucket = "b", .checksum_algorithm = "sha1" }, "checksum_algorithm" },
		{ { .bucket = "b", .access_key_id = "only" }, "secret_access_key" },
		{ { .bucket = "b", .session_token = "only" }, "session_token" },
		{ { .bucket = "b", .server_side_encryption = "rot13" }, "server_side_encryption" },
		{ { .bucket = "b", .server_side_encryption_aws_kms_key_id = "k" }, "kms_key_id" },
		{ { .bucket = "b", .ca_bundle = "/nonexistent" }, "ca_bundle" },
		{ { .bucket = "b", .client_certificate = "/nonexistent" }, "client_certificate" },
		{ { .bucket = "b", .client_key = "/dev/null" }, "client_key" },
		{ { .bucket = "b", .endpoint = "gopher://x" }, "endpoint" },
		{ { .bucket = "b", .default_acl = "a\nb" }, "default_acl" },
		{ { .bucket = "b", .connections_max = 100000 }, "connections_max" },
	};
	struct loop *loop;
	struct store *store;

	(void)state;
	env_ok(loop_new(&loop));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct s3_config config = cases[i].config;
		struct err *err;

		config.disable_config_load = true;
		err = s3_new(&store, loop, &config);
		if (!err)
			fail_msg("%s was not refused", cases[i].word);
		if (!strstr(err_msg(err), cases[i].word))
			fail_msg("\"%s\" is not in \"%s\"", cases[i].word, err_msg(err));
		err_free(err);
	}
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_region_is_learnt),
		cmocka_unit_test(keys_that_expired_are_asked_for_again),
		cmocka_unit_test(dead_connections_are_replaced),
		cmocka_unit_test(conditional_writes_are_not_sent_twice),
		cmocka_unit_test(proxies_get_the_whole_address),
		cmocka_unit_test(connections_are_kept_and_bounded),
		cmocka_unit_test(operations_can_be_cancelled),
		cmocka_unit_test(bodies_can_be_cut_from_inside),
		cmocka_unit_test(wishes_to_wait_are_passed_on),
		cmocka_unit_test(the_check_says_which_it_is),
		cmocka_unit_test(the_check_knows_dead_endpoints),
		cmocka_unit_test(refused_keys_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
