/* SPDX-License-Identifier: Apache-2.0 */
/* Listings: what is asked for, how keys come back, and pages. */
#include "s3-fixture.h"

#define LIST(inner) "<ListBucketResult>" inner "</ListBucketResult>"
#define KEY(key) "<Contents><Key>" key "</Key><Size>1</Size></Contents>"
#define PREFIX(key) "<CommonPrefixes><Prefix>" key "</Prefix></CommonPrefixes>"
#define URL "<EncodingType>url</EncodingType>"

static void pages_follow_one_another(void **state)
{
	struct s3_env e;
	struct env_list list = { .prefix = "p/", .delimiter = "/", .start_after = "p/a" };

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "r" });
	fake_says(&e, "200 OK", "",
		  LIST(KEY("r/p/") KEY("r/p/b") PREFIX("r/p/c/") URL
		       "<IsTruncated>true</IsTruncated>"
		       "<NextContinuationToken>t/+=</NextContinuationToken>"));
	fake_says(&e, "200 OK", "", LIST(KEY("r/p/d") URL));
	assert_string_equal(env_list_text(&e.env, &list), "p/,p/b,p/c/|p/d");
	fake_asked(&e, 0,
		   "GET /b?delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000&"
		   "prefix=r%2Fp%2F&start-after=r%2Fp%2Fa HTTP/1.1\r\n");
	fake_asked(&e, 1,
		   "GET /b?continuation-token=t%2F%2B%3D&delimiter=%2F&encoding-type=url&"
		   "list-type=2&max-keys=1000&prefix=r%2Fp%2F HTTP/1.1\r\n");
	s3_end(&e);
}

static void the_root_itself_is_no_row(void **state)
{
	struct s3_env e;
	struct env_list list = { .limit = 7 };

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "r" });
	fake_says(&e, "200 OK", "", LIST(KEY("r/") KEY("r/a") URL));
	assert_string_equal(env_list_text(&e.env, &list), "a");
	fake_asked(&e, 0, "max-keys=7&prefix=r%2F ");
	/* A row from somewhere else. */
	fake_says(&e, "200 OK", "", LIST(KEY("other") URL));
	assert_int_equal(env_list(&e.env, &list), -EIO);
	s3_end(&e);
}

static void keys_come_back_as_bytes(void **state)
{
	struct s3_env e;
	struct env_list list = { 0 };

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "200 OK", "",
		  LIST(URL KEY("a%20b") KEY("c+d%2Be") KEY("%ff%01") KEY("%zz%") KEY("&lt;")));
	assert_string_equal(env_list_text(&e.env, &list), "a b,c d+e,\xff\x01,%zz%,<");
	s3_end(&e);
}

static void services_that_do_not_encode_are_found_out(void **state)
{
	struct s3_env e;
	struct env_list list = { 0 };

	(void)state;
	s3_begin(&e, NULL);
	/* Nothing that would have been changed: no harm done. */
	fake_says(&e, "200 OK", "", LIST(KEY("plain")));
	assert_string_equal(env_list_text(&e.env, &list), "plain");
	fake_says(&e, "200 OK", "", LIST(KEY("a+b%20c")));
	assert_int_equal(env_list(&e.env, &list), -EIO);
	fake_says(&e, "200 OK", "", LIST(KEY("a+b%20c")));
	assert_string_equal(env_list_text(&e.env, &list), "a+b%20c");
	fake_asked(&e, 1, "encoding-type");
	fake_asked_not(&e, 2, "encoding-type");
	s3_end(&e);
}

struct row {
	struct store_op op;
	struct store_meta meta;
};

static void keep_row(struct store_op *op, const struct store_entry *entry)
{
	container_of(op, struct row, op)->meta = entry->meta;
}

static void rows_say_what_is_known(void **state)
{
	struct s3_env e;
	struct store_page page;
	struct row row = { .op = { .opcode = STORE_LIST,
				   .key = "",
				   .list = { .entry = keep_row, .page = &page } } };

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "200 OK", "",
		  LIST(URL "<Contents><Key>k</Key><Size>12345678901</Size>"
			   "<LastModified>2015-10-21T07:28:00.999Z</LastModified>"
			   "<ETag>&#34;e&#34;</ETag></Contents>"));
	assert_int_equal(store_call(e.env.top, &row.op), 0);
	assert_int_equal(row.op.entries, 1);
	assert_true(row.meta.size == 12345678901);
	assert_string_equal(row.meta.etag, "\"e\"");
	/* As a HEAD would have it. */
	assert_true(row.meta.mtime_ns == 1445412480000000000);
	s3_end(&e);
}

static void pages_that_lead_nowhere_are_errors(void **state)
{
	static const char *const bodies[] = {
		LIST(KEY("a") URL "<IsTruncated>true</IsTruncated>"),
		LIST(KEY("a")) "trailing",
		"<ListBucketResult>" KEY("a"),
		"<Error><Code>SlowDown</Code></Error>",
		"<html/>",
		"",
	};
	static const int errors[] = { -EIO, -EIO, -EIO, -EAGAIN, -EIO, -EIO };
	struct s3_env e;
	struct env_list list = { 0 };

	(void)state;
	s3_begin(&e, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		fake_says(&e, "200 OK", "", bodies[i]);
		assert_int_equal(env_list(&e.env, &list), errors[i]);
	}
	/* The same page for ever. */
	for (int i = 0; i < 2; i++)
		fake_says(&e, "200 OK", "",
			  LIST(KEY("a") URL "<IsTruncated>true</IsTruncated>"
					    "<NextContinuationToken>t</NextContinuationToken>"));
	assert_int_equal(env_list(&e.env, &list), -EIO);
	fake_says(&e, "404 Not Found", "", "<Error><Code>NoSuchBucket</Code></Error>");
	assert_int_equal(env_list(&e.env, &list), -EIO);
	s3_end(&e);
}

static void the_old_version_goes_by_markers(void **state)
{
	struct s3_env e;
	struct env_list list = { .start_after = "0" };

	(void)state;
	s3_begin(&e, &(struct s3_config){ .disable_list_objects_v2 = true, .root = "r" });
	fake_says(&e, "200 OK", "",
		  LIST(KEY("r/a%20") PREFIX("r/b/") URL "<IsTruncated>true</IsTruncated>"));
	fake_says(&e, "200 OK", "",
		  LIST(KEY("r/c") URL "<IsTruncated>true</IsTruncated>"
				      "<NextMarker>r/d%2B</NextMarker>"));
	fake_says(&e, "200 OK", "", LIST(KEY("r/e") URL));
	assert_string_equal(env_list_text(&e.env, &list), "a ,b/|c|e");
	fake_asked_not(&e, 0, "list-type");
	fake_asked(&e, 0, "marker=r%2F0&");
	fake_asked(&e, 1, "marker=r%2Fb%2F&");
	fake_asked(&e, 2, "marker=r%2Fd%2B&");
	s3_end(&e);
}

struct sessions {
	struct store_op op;
	char text[256];
};

static void add_session(struct store_op *op, const struct store_entry *entry)
{
	struct sessions *sessions = container_of(op, struct sessions, op);
	size_t used = strlen(sessions->text);

	snprintf(sessions->text + used, sizeof(sessions->text) - used, "%.*s=%s@%lld ",
		 (int)entry->key_len, entry->key, entry->session,
		 (long long)(entry->meta.mtime_ns / 1000000000));
}

static void unfinished_sessions_are_paged_too(void **state)
{
	struct s3_env e;
	struct store_page page = { 0 };
	char token[STORE_TOKEN_MAX];
	struct sessions sessions = { .op = { .opcode = STORE_LIST_SESSIONS,
					     .key = "p/",
					     .list = { .entry = add_session, .page = &page } } };

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "r" });
	fake_says(&e, "200 OK", "",
		  "<ListMultipartUploadsResult><EncodingType>url</EncodingType><Upload>"
		  "<Key>r/p/a%2Bb</Key><UploadId>u1</UploadId>"
		  "<Initiated>2015-10-21T07:28:00.000Z</Initiated></Upload>"
		  "<IsTruncated>true</IsTruncated><NextKeyMarker>r/p/a%2Bb</NextKeyMarker>"
		  "<NextUploadIdMarker>u1</NextUploadIdMarker></ListMultipartUploadsResult>");
	assert_int_equal(store_call(e.env.top, &sessions.op), 0);
	assert_string_equal(sessions.text, "p/a+b=u1@1445412480 ");
	assert_true(page.truncated);
	memcpy(token, page.token, sizeof(token));
	sessions.op.list.token = token;
	fake_says(&e, "200 OK", "",
		  "<ListMultipartUploadsResult><EncodingType>url</EncodingType>"
		  "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
	assert_int_equal(store_call(e.env.top, &sessions.op), 0);
	assert_false(page.truncated);
	fake_asked(&e, 0, "GET /b?encoding-type=url&max-uploads=1000&prefix=r%2Fp%2F&uploads= ");
	fake_asked(&e, 1, "key-marker=r%2Fp%2Fa%2Bb&");
	fake_asked(&e, 1, "&upload-id-marker=u1&");
	sessions.op.list.token = "nonsense";
	assert_int_equal(store_call(e.env.top, &sessions.op), -EINVAL);
	s3_end(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_follow_one_another),
		cmocka_unit_test(the_root_itself_is_no_row),
		cmocka_unit_test(keys_come_back_as_bytes),
		cmocka_unit_test(services_that_do_not_encode_are_found_out),
		cmocka_unit_test(rows_say_what_is_known),
		cmocka_unit_test(pages_that_lead_nowhere_are_errors),
		cmocka_unit_test(the_old_version_goes_by_markers),
		cmocka_unit_test(unfinished_sessions_are_paged_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
