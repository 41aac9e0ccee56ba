/* SPDX-License-Identifier: Apache-2.0 */
/* Writes: what is sent, and what their answers mean. */
#include "s3-fixture.h"

static void puts_carry_what_is_stored_with_them(void **state)
{
	struct s3_env e;
	struct call call = { .op = { .opcode = STORE_PUT,
				     .key = "k",
				     .if_match = "\"old\"",
				     .set_user_mtime = true,
				     .user_mtime_ns = 1500000000,
				     .write_id = "w1",
				     .content_type = "text/x" } };

	(void)state;
	s3_begin(&e, &(struct s3_config){
			     .server_side_encryption = "aws:kms",
			     .server_side_encryption_aws_kms_key_id = "kk",
			     .server_side_encryption_bucket_key_enabled = true,
			     .default_storage_class = "STANDARD_IA",
			     .default_acl = "private",
			     .enable_request_payer = true,
		     });
	fake_says(&e, "200 OK", "ETag: \"new\"\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "");
	call_body(&call, "hello", 5);
	assert_int_equal(store_call(e.env.top, &call.op), 0);
	assert_string_equal(call.op.meta.etag, "\"new\"");
	assert_int_equal(call.op.meta.size, 5);
	assert_true(call.op.meta.mtime_ns == 1445412480000000000);
	assert_string_equal(call.op.meta.write_id, "w1");
	assert_true(call.op.meta.has_user_mtime);
	fake_asked(&e, 0, "PUT /b/k HTTP/1.1\r\n");
	fake_asked(&e, 0, "\r\n\r\nhello");
	fake_asked(&e, 0, "if-match: \"old\"\r\n");
	fake_asked(&e, 0, "x-amz-meta-mtime: 1.500000000\r\n");
	fake_asked(&e, 0, "x-amz-meta-ovfs-write-id: w1\r\n");
	fake_asked(&e, 0, "content-type: text/x\r\n");
	fake_asked(&e, 0, "x-amz-server-side-encryption: aws:kms\r\n");
	fake_asked(&e, 0, "x-amz-server-side-encryption-aws-kms-key-id: kk\r\n");
	fake_asked(&e, 0, "x-amz-server-side-encryption-bucket-key-enabled: true\r\n");
	fake_asked(&e, 0, "x-amz-storage-class: STANDARD_IA\r\n");
	fake_asked(&e, 0, "x-amz-acl: private\r\n");
	fake_asked(&e, 0, "x-amz-request-payer: requester\r\n");
	/* The SHA-256 of "hello": over plain HTTP bodies are signed. */
	fake_asked(&e, 0,
		   "x-amz-content-sha256: "
		   "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n");
	fake_asked_not(&e, 0, "Expect");
	s3_end(&e);
}

/* What others stored with an object, as STAT tells it, goes with its next version. */
static void properties_go_from_answer_to_request(void **state)
{
	char text[STORE_PROPERTIES_MAX];
	struct store_properties p = { .text = text, .room = sizeof(text) };
	struct store_op stat = { .opcode = STORE_STAT, .key = "k", .properties_out = &p };
	struct call call = { .op = { .opcode = STORE_PUT,
				     .key = "k",
				     .set_user_mtime = true,
				     .write_id = "w2",
				     .properties = &p } };
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "200 OK",
		  "ETag: \"old\"\r\nContent-Type: text/theirs\r\nX-Amz-Meta-Mtime: 7\r\n"
		  "x-amz-meta-ovfs-write-id: w1\r\nx-amz-meta-mine: a b\r\nx-other: 1\r\n"
		  "Cache-Control: no-store\r\nx-amz-meta-A+b: c\td\r\n"
		  "x-amz-meta-odd: \x01\r\nx-amz-meta-(odd): 1\r\n",
		  "");
	assert_int_equal(store_call(e.env.top, &stat), 0);
	assert_false(p.cut);
	fake_says(&e, "200 OK", "ETag: \"new\"\r\n", "");
	call_body(&call, "x", 1);
	assert_int_equal(store_call(e.env.top, &call.op), 0);
	fake_asked(&e, 1, "content-type: text/theirs\r\n");
	fake_asked(&e, 1, "cache-control: no-store\r\n");
	fake_asked(&e, 1, "x-amz-meta-mine: a b\r\n");
	fake_asked(&e, 1, "x-amz-meta-a+b: c\td\r\n");
	fake_asked_not(&e, 1, "odd"); /* rather than no write at all */
	fake_asked(&e, 1, "x-amz-meta-ovfs-write-id: w2\r\n");
	fake_asked(&e, 1, "x-amz-meta-mtime: 0");
	fake_asked_not(&e, 1, "x-other");
	fake_asked_not(&e, 1, "w1");
	/* More than there is room for: nothing rather than half of it. */
	p.room = 40;
	fake_says(&e, "200 OK",
		  "ETag: \"old\"\r\nContent-Type: text/theirs\r\nx-amz-meta-mine: a b\r\n", "");
	assert_int_equal(store_call(e.env.top, &stat), 0);
	assert_true(p.cut);
	assert_int_equal(p.len, 0);
	s3_end(&e);
}

/* As many and as long as an object can have. */
static void long_properties_can_be_signed(void **state)
{
	enum { COUNT = 38, NAME = 100 };
	char text[STORE_PROPERTIES_MAX], headers[COUNT * (NAME + 8) + 64] = "ETag: \"e\"\r\n";
	struct store_properties p = { .text = text, .room = sizeof(text) };
	struct store_op stat = { .opcode = STORE_STAT, .key = "k", .properties_out = &p };
	struct call call = { .op = { .opcode = STORE_PUT, .key = "k", .properties = &p } };
	size_t len = strlen(headers);
	struct s3_env e;

	(void)state;
	for (int i = 0; i < COUNT; i++)
		len += (size_t)snprintf(headers + len, sizeof(headers) - len,
					"x-amz-meta-%0*d: v\r\n", NAME - 11, i);
	s3_begin(&e, NULL);
	fake_says(&e, "200 OK", headers, "");
	assert_int_equal(store_call(e.env.top, &stat), 0);
	assert_false(p.cut);
	fake_says(&e, "200 OK", "ETag: \"new\"\r\n", "");
	call_body(&call, "x", 1);
	assert_int_equal(store_call(e.env.top, &call.op), 0);
	s3_end(&e);
}

/* Digests of these are computed on other threads. */
#define LONG_BODY (1u << 20)

static unsigned char *long_body(size_t len)
{
	unsigned char *body = malloc(len);

	assert_non_null(body);
	for (size_t i = 0; i < len; i++)
		body[i] = (unsigned char)(i * 7 + i / 4096);
	return body;
}

static void long_bodies_have_their_digests_too(void **state)
{
	unsigned char *body = long_body(LONG_BODY);
	struct store_part part;
	struct s3_env e;

	(void)state;
	s3_begin(&e, &(struct s3_config){ .checksum_algorithm = "crc32c" });
	fake_says(&e, "200 OK", "ETag: \"p\"\r\n", "");
	assert_int_equal(env_part(&e.env, "k", "session", 1, body, LONG_BODY, &part), 0);
	fake_asked(&e, 0,
		   "x-amz-content-sha256: "
		   "3ed6ee444c4c2833b1fbae831778768fda7196c052b2f57562058c53407c4c66\r\n");
	fake_asked(&e, 0, "x-amz-checksum-crc32c: 1t9INg==\r\n");
	assert_string_equal(part.checksum, "1t9INg==");
	s3_end(&e);
	free(body);
}

static void a_put_ends_that_is_cancelled_early(void **state)
{
	const size_t len = 64u << 20;
	unsigned char *body = long_body(len);
	struct call call = { .op = { .opcode = STORE_PUT, .key = "k" } };
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	call_body(&call, body, len);
	call_submit(&e.env, &call);
	store_cancel(&call.op); /* nobody answers: only this can end it */
	assert_int_equal(call_wait(&call), -ECANCELED);
	s3_end(&e);
	free(body);
}

static void empty_puts_have_a_length(void **state)
{
	struct s3_env e;

	(void)state;
	s3_begin(&e, &(struct s3_config){ .skip_signature = true });
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_put(&e.env, "dir/", "", 0), 0);
	fake_asked(&e, 0, "PUT /b/dir/ HTTP/1.1\r\n");
	fake_asked(&e, 0, "Content-Length: 0\r\n");
	fake_asked_not(&e, 0, "Authorization");
	fake_asked_not(&e, 0, "x-amz-date");
	s3_end(&e);
}

static void conditions_that_fail_are_told_apart(void **state)
{
	static const char refused[] = "<Error><Code>PreconditionFailed</Code></Error>";
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "412 Precondition Failed", "", refused);
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, NULL, true, NULL), -EEXIST);
	fake_asked(&e, 0, "if-none-match: *\r\n");
	fake_says(&e, "412 Precondition Failed", "", refused);
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, "\"e\"", false, NULL), -ESTALE);
	fake_says(&e, "404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>");
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, "\"e\"", false, NULL), -ESTALE);
	fake_says(&e, "409 Conflict", "", "<Error><Code>ConditionalRequestConflict</Code></Error>");
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, "\"e\"", false, NULL), -EAGAIN);
	s3_end(&e);
}

static void a_service_without_conditions_is_remembered(void **state)
{
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "501 Not Implemented", "", "<Error><Code>NotImplemented</Code></Error>");
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, NULL, true, NULL), -EOPNOTSUPP);
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, NULL, true, NULL), -EOPNOTSUPP);
	assert_int_equal(fake_count(&e), 1);
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "");
	assert_int_equal(env_put(&e.env, "k", "1", 1), 0);
	s3_end(&e);
	s3_begin(&e, &(struct s3_config){ .disable_write_with_if_match = true });
	assert_int_equal(env_put_if(&e.env, "k", "1", 1, NULL, true, NULL), -EOPNOTSUPP);
	assert_int_equal(fake_count(&e), 0);
	s3_end(&e);
}

static void sessions_are_uploads_in_parts(void **state)
{
	struct s3_env e;
	char session[STORE_SESSION_MAX];
	struct store_part parts[2];
	struct store_meta meta;

	(void)state;
	s3_begin(&e, &(struct s3_config){ .checksum_algorithm = "crc32c" });
	fake_says(&e, "200 OK", "",
		  "<InitiateMultipartUploadResult><UploadId>id/+=&amp;</UploadId>"
		  "</InitiateMultipartUploadResult>");
	assert_int_equal(env_begin(&e.env, "k", session), 0);
	assert_string_equal(session, "id/+=&");
	fake_asked(&e, 0, "POST /b/k?uploads= HTTP/1.1\r\n");
	fake_asked(&e, 0, "x-amz-checksum-algorithm: CRC32C\r\n");
	fake_asked(&e, 0, "Content-Length: 0\r\n");
	fake_says(&e, "200 OK", "ETag: \"p1\"\r\n", "");
	fake_says(&e, "200 OK", "ETag: \"p<3\"\r\n", "");
	assert_int_equal(env_part(&e.env, "k", session, 1, "123456789", 9, &parts[0]), 0);
	assert_int_equal(env_part(&e.env, "k", session, 3, "", 0, &parts[1]), 0);
	fake_asked(&e, 1, "PUT /b/k?partNumber=1&uploadId=id%2F%2B%3D%26 HTTP/1.1\r\n");
	fake_asked(&e, 1, "x-amz-checksum-crc32c: 4waSgw==\r\n");
	fake_says(&e, "200 OK", "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
		  "<?xml version=\"1.0\"?>\n   \n<CompleteMultipartUploadResult>"
		  "<ETag>\"all-2\"</ETag></CompleteMultipartUploadResult>");
	assert_int_equal(env_commit(&e.env, "k", session, parts, 2, &meta), 0);
	assert_string_equal(meta.etag, "\"all-2\"");
	fake_asked(&e, 3, "POST /b/k?uploadId=id%2F%2B%3D%26 HTTP/1.1\r\n");
	fake_asked(&e, 3,
		   "<Part><ETag>&#34;p1&#34;</ETag><ChecksumCRC32C>4waSgw==</ChecksumCRC32C>"
		   "<PartNumber>1</PartNumber></Part><Part><ETag>&#34;p&#60;3&#34;</ETag>");
	fake_says(&e, "204 No Content", "", "");
	assert_int_equal(env_abort(&e.env, "k", session), 0);
	fake_asked(&e, 4, "DELETE /b/k?uploadId=id%2F%2B%3D%26 HTTP/1.1\r\n");
	s3_end(&e);
}

static void a_status_of_200_is_not_yet_a_success(void **state)
{
	static const struct {
		const char *body;
		int error;
	} cases[] = {
		{ "<Error><Code>InternalError</Code></Error>", -EIO },
		{ "<Error><Code>SlowDown</Code></Error>", -EAGAIN },
		{ "<Error><Code>NoSuchUpload</Code></Error>", -ENOENT },
		{ "<Error><Code>PreconditionFailed</Code></Error>", -ESTALE },
		{ "<CompleteMultipartUploadResult><ETag>\"x\"</ETag>", -EIO },
		{ "<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>", -EIO },
		{ "<html></html>", -EIO },
		{ "", -EIO },
	};
	struct s3_env e;
	struct store_part part = { .number = 1, .etag = "\"p\"" };
	struct store_op commit = { .opcode = STORE_COMMIT,
				   .key = "k",
				   .session = "s",
				   .parts = &part,
				   .part_count = 1,
				   .if_match = "\"old\"" };
	struct store_op copy = { .opcode = STORE_COPY, .key = "k", .source_key = "s" };

	(void)state;
	s3_begin(&e, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_says(&e, "200 OK", "", cases[i].body);
		assert_int_equal(store_call(e.env.top, &commit), cases[i].error);
	}
	fake_says(&e, "200 OK", "", "<Error><Code>InternalError</Code></Error>");
	assert_int_equal(store_call(e.env.top, &copy), -EIO);
	/* A session without a name, and a part without a version. */
	fake_says(&e, "200 OK", "",
		  "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>");
	assert_int_equal(env_begin(&e.env, "k", (char[STORE_SESSION_MAX]){ 0 }), -EIO);
	fake_says(&e, "200 OK", "", "");
	assert_int_equal(env_part(&e.env, "k", "s", 1, "x", 1, NULL), -EIO);
	/* The same of whole objects. */
	fake_says(&e, "200 OK", "", "<CompleteMultipartUploadResult/>");
	assert_int_equal(store_call(e.env.top, &commit), -EIO);
	s3_end(&e);
}

static void a_put_without_an_etag_is_not_believed(void **state)
{
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "200 OK", "", "");
	assert_int_equal(env_put(&e.env, "k", "x", 1), -EIO);
	fake_says(&e, "200 OK", "", "");
	assert_int_equal(env_put(&e.env, "k", "", 0), -EIO);
	fake_says(&e, "204 No Content", "", "");
	assert_int_equal(env_put(&e.env, "dir/", "x", 1), -EIO);
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "<Error><Code>InternalError</Code></Error>");
	assert_int_equal(env_put(&e.env, "k", "x", 1), -EIO);
	fake_says(&e, "200 OK", "ETag: \"e\"\r\n", "<Error><Code>SlowDown</Code></Error>");
	assert_int_equal(env_put(&e.env, "k", "x", 1), -EAGAIN);
	/* MinIO gives none for these. */
	fake_says(&e, "200 OK", "", "");
	assert_int_equal(env_put(&e.env, "dir/", "", 0), 0);
	s3_end(&e);
}

static void copies_name_their_source(void **state)
{
	struct s3_env e;
	struct store_op copy = { .opcode = STORE_COPY,
				 .key = "to",
				 .source_key = "fr\xc3\xb6m ?",
				 .source_if_match = "\"s\"" };
	struct store_op part = { .opcode = STORE_COPY_PART,
				 .key = "to",
				 .source_key = "from",
				 .session = "s",
				 .part_number = 7,
				 .offset = 10,
				 .length = 5 };

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "r" });
	fake_says(&e, "200 OK", "",
		  "<CopyObjectResult><LastModified>2015-10-21T07:28:00.999Z</LastModified>"
		  "<ETag>&quot;c&quot;</ETag></CopyObjectResult>");
	assert_int_equal(store_call(e.env.top, &copy), 0);
	assert_string_equal(copy.meta.etag, "\"c\"");
	assert_true(copy.meta.mtime_ns == 1445412480000000000);
	fake_asked(&e, 0, "PUT /b/r/to HTTP/1.1\r\n");
	fake_asked(&e, 0, "x-amz-copy-source: /b/r/fr%C3%B6m%20%3F\r\n");
	fake_asked(&e, 0, "x-amz-copy-source-if-match: \"s\"\r\n");
	fake_asked_not(&e, 0, "metadata-directive");
	fake_says(&e, "200 OK", "",
		  "<CopyPartResult><ETag>&quot;p&quot;</ETag>"
		  "<ChecksumCRC32C>4waSgw==</ChecksumCRC32C></CopyPartResult>");
	assert_int_equal(store_call(e.env.top, &part), 0);
	assert_string_equal(part.meta.etag, "\"p\"");
	assert_string_equal(part.checksum, "4waSgw==");
	fake_asked(&e, 1, "PUT /b/r/to?partNumber=7&uploadId=s HTTP/1.1\r\n");
	fake_asked(&e, 1, "x-amz-copy-source-range: bytes=10-14\r\n");
	fake_says(&e, "404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>");
	assert_int_equal(store_call(e.env.top, &copy), -ENOENT);
	fake_says(&e, "412 Precondition Failed", "", "");
	assert_int_equal(store_call(e.env.top, &copy), -ESTALE);
	fake_says(&e, "400 Bad Request", "",
		  "<Error><Code>InvalidRequest</Code><Message>The specified copy source is larger "
		  "than the maximum allowable size</Message></Error>");
	assert_int_equal(store_call(e.env.top, &copy), -EFBIG);
	s3_end(&e);
}

static void copies_keep_what_they_do_not_change(void **state)
{
	struct s3_env e;
	struct store_op touch = { .opcode = STORE_COPY,
				  .key = "k",
				  .source_key = "k",
				  .set_user_mtime = true,
				  .user_mtime_ns = 2000000000 };

	(void)state;
	s3_begin(&e, NULL);
	fake_bytes(&e, "HTTP/1.1 200 OK\r\nContent-Length: 77\r\nETag: \"now\"\r\n"
		       "Content-Type: text/plain; charset=x\r\nCache-Control: no-store\r\n"
		       "x-amz-meta-mtime: 1\r\nx-amz-meta-Uid: 1000\r\nx-amz-request-id: no\r\n"
		       "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n");
	fake_says(&e, "200 OK", "", "<CopyObjectResult><ETag>\"c\"</ETag></CopyObjectResult>");
	assert_int_equal(store_call(e.env.top, &touch), 0);
	assert_int_equal(touch.meta.size, 77);
	assert_true(touch.meta.user_mtime_ns == 2000000000);
	fake_asked(&e, 0, "HEAD /b/k HTTP/1.1\r\n");
	fake_asked(&e, 1, "x-amz-metadata-directive: REPLACE\r\n");
	fake_asked(&e, 1, "content-type: text/plain; charset=x\r\n");
	fake_asked(&e, 1, "cache-control: no-store\r\n");
	fake_asked(&e, 1, "x-amz-meta-uid: 1000\r\n");
	fake_asked(&e, 1, "x-amz-meta-mtime: 2\r\n");
	fake_asked(&e, 1, "x-amz-copy-source-if-match: \"now\"\r\n");
	fake_asked_not(&e, 1, "x-amz-meta-mtime: 1\r\n");
	fake_asked_not(&e, 1, "x-amz-request-id");
	fake_says(&e, "404 Not Found", "", "");
	assert_int_equal(store_call(e.env.top, &touch), -ENOENT);
	assert_int_equal(fake_count(&e), 3);
	s3_end(&e);
}

static void deletions_of_nothing_succeed(void **state)
{
	struct s3_env e;

	(void)state;
	s3_begin(&e, NULL);
	fake_says(&e, "204 No Content", "", "");
	assert_int_equal(env_delete(&e.env, "k"), 0);
	fake_says(&e, "404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>");
	assert_int_equal(env_delete(&e.env, "k"), 0);
	fake_says(&e, "404 Not Found", "", "<Error><Code>NoSuchBucket</Code></Error>");
	assert_int_equal(env_delete(&e.env, "k"), -EIO);
	fake_says(&e, "404 Not Found", "", "<Error><Code>NoSuchUpload</Code></Error>");
	assert_int_equal(env_abort(&e.env, "k", "s"), -ENOENT);
	s3_end(&e);
}

static void batches_say_what_became_of_each(void **state)
{
	static const char *const keys[] = { "a&b", "denied", "c\x01", "odd \xff", "gone" };
	struct s3_env e;
	int results[5];
	struct store_op op = {
		.opcode = STORE_DELETE_BATCH, .keys = keys, .key_count = 5, .key_results = results
	};

	(void)state;
	s3_begin(&e, &(struct s3_config){ .root = "r" });
	fake_says(&e, "200 OK", "",
		  "<DeleteResult><Error><Key>r/denied</Key><Code>AccessDenied</Code></Error>"
		  "<Error><Key>r/gone</Key><Code>NoSuchKey</Code></Error></DeleteResult>");
	fake_says(&e, "204 No Content", "", "");
	fake_says(&e, "503 Slow Down", "", "");
	assert_int_equal(store_call(e.env.top, &op), 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], -EACCES);
	assert_int_equal(results[2], 0);
	assert_int_equal(results[3], -EAGAIN);
	assert_int_equal(results[4], 0);
	fake_asked(&e, 0, "POST /b?delete= HTTP/1.1\r\n");
	fake_asked(&e, 0, "content-md5: ");
	fake_asked(&e, 0,
		   "<Quiet>true</Quiet><Object><Key>r/a&#38;b</Key></Object>"
		   "<Object><Key>r/denied</Key></Object><Object><Key>r/gone</Key></Object>"
		   "</Delete>");
	/* What XML cannot carry goes alone. */
	fake_asked(&e, 1, "DELETE /b/r/c%01 HTTP/1.1\r\n");
	fake_asked(&e, 2, "DELETE /b/r/odd%20%FF HTTP/1.1\r\n");
	assert_int_equal(fake_count(&e), 3);
	op.keys = keys + 2;
	op.key_count = 1;
	fake_says(&e, "404 Not Found", "", "");
	assert_int_equal(store_call(e.env.top, &op), 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(fake_count(&e), 4);
	op.keys = keys;
	fake_says(&e, "403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>");
	assert_int_equal(store_call(e.env.top, &op), -EACCES);
	fake_says(&e, "200 OK", "", "<Error><Code>InternalError</Code></Error>");
	assert_int_equal(store_call(e.env.top, &op), -EIO);
	s3_end(&e);
}

/* The same when there are no credentials yet: a look for them takes a while, even for none. */
static void batches_wait_for_credentials(void **state)
{
	char too_long[STORE_KEY_MAX + 1] = "";
	const char *const keys[] = { too_long, "c\x01" };
	struct s3_env e;
	int results[2];
	struct store_op op = {
		.opcode = STORE_DELETE_BATCH, .keys = keys, .key_count = 2, .key_results = results
	};

	(void)state;
	memset(too_long, 'x', STORE_KEY_MAX);
	s3_begin(&e, &(struct s3_config){ .root = "r", .allow_anonymous = true });
	fake_says(&e, "503 Slow Down", "", "");
	assert_int_equal(store_call(e.env.top, &op), 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[1], -EAGAIN);
	assert_int_equal(fake_count(&e), 1);
	fake_asked(&e, 0, "DELETE /b/r/c%01 HTTP/1.1\r\n");
	s3_end(&e);
}

static void customers_keys_go_over_tls_only(void **state)
{
	static const char key[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
	struct s3_config config = { .bucket = "b",
				    .endpoint = "http://127.0.0.1:1",
				    .disable_config_load = true,
				    .server_side_encryption_customer_algorithm = "AES256",
				    .server_side_encryption_customer_key = key };
	struct loop *loop;
	struct store *store;
	struct err *e;

	(void)state;
	env_ok(loop_new(&loop));
	e = s3_new(&store, loop, &config);
	assert_non_null(e);
	assert_non_null(strstr(err_msg(e), "server_side_encryption_customer_key"));
	err_free(e);
	config.endpoint = "https://127.0.0.1:1";
	env_ok(s3_new(&store, loop, &config));
	store_free(store);
	config.server_side_encryption_customer_key_md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
	e = s3_new(&store, loop, &config);
	assert_non_null(e);
	assert_non_null(strstr(err_msg(e), "server_side_encryption_customer_key_md5"));
	err_free(e);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_carry_what_is_stored_with_them),
		cmocka_unit_test(long_bodies_have_their_digests_too),
		cmocka_unit_test(a_put_ends_that_is_cancelled_early),
		cmocka_unit_test(empty_puts_have_a_length),
		cmocka_unit_test(conditions_that_fail_are_told_apart),
		cmocka_unit_test(a_service_without_conditions_is_remembered),
		cmocka_unit_test(sessions_are_uploads_in_parts),
		cmocka_unit_test(a_status_of_200_is_not_yet_a_success),
		cmocka_unit_test(a_put_without_an_etag_is_not_believed),
		cmocka_unit_test(copies_name_their_source),
		cmocka_unit_test(copies_keep_what_they_do_not_change),
		cmocka_unit_test(deletions_of_nothing_succeed),
		cmocka_unit_test(batches_say_what_became_of_each),
		cmocka_unit_test(batches_wait_for_credentials),
		cmocka_unit_test(properties_go_from_answer_to_request),
		cmocka_unit_test(long_properties_can_be_signed),
		cmocka_unit_test(customers_keys_go_over_tls_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
