/* SPDX-License-Identifier: Apache-2.0 */
/* What S3 says, taken apart: documents, times, errors, checksums; and endpoints. */
#include "store-fixture.h"

#include "store/services/s3/buffer.h"
#include "store/services/s3/checksum.h"
#include "store/services/s3/date.h"
#include "store/services/s3/endpoint.h"
#include "store/services/s3/error.h"
#include "store/services/s3/xml.h"

/* ---- Documents ---- */

struct rows {
	char text[1024];
};

static void add_row(void *arg, const struct s3_row *row)
{
	struct rows *rows = arg;
	size_t used = strlen(rows->text);

	snprintf(rows->text + used, sizeof(rows->text) - used, "%d:%s:%llu:%s:%s:%s;", row->kind,
		 row->key, (unsigned long long)row->size, row->etag, row->session, row->code);
}

/* Parses @text in pieces of @step bytes. */
static int parse(struct s3_xml *xml, struct rows *rows, const char *text, size_t step)
{
	size_t len = strlen(text);
	int err = 0;

	rows->text[0] = '\0';
	s3_xml_begin(xml, add_row, rows);
	for (size_t at = 0; at < len && !err; at += step)
		err = s3_xml_feed(xml, text + at, MIN(step, len - at));
	return err ? err : s3_xml_end(xml);
}

static void listings_parse_in_pieces_of_any_size(void **state)
{
	static const char text[] =
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
		"<Name>b</Name><Prefix>not/this</Prefix><KeyCount>2</KeyCount>"
		"<Contents><Key>a%2Fb&amp;c</Key><LastModified>2015-10-21T07:28:00.5Z</"
		"LastModified>"
		"<ETag>&quot;abc&quot;</ETag><Size>123</Size>"
		"<Owner><ID>x</ID><Key>wrong</Key></Owner><StorageClass>S</StorageClass></Contents>"
		"<Contents><Key>second</Key><ETag>plain</ETag><Size>18446744073709551615</Size>"
		"</Contents>"
		"<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"
		"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
		"<NextContinuationToken>t/+=</NextContinuationToken></ListBucketResult>";
	struct s3_xml *xml = s3_xml_new();
	struct rows rows;

	(void)state;
	for (size_t step = 1; step < sizeof(text); step += 7) {
		const struct s3_document *document;

		assert_int_equal(parse(xml, &rows, text, step), 0);
		assert_string_equal(rows.text, "0:a%2Fb&c:123:\"abc\"::;"
					       "0:second:18446744073709551615:\"plain\"::;"
					       "1:p/:0:::;");
		document = s3_xml_document(xml);
		assert_int_equal(document->kind, S3_XML_LIST);
		assert_true(document->truncated);
		assert_true(document->url_encoded);
		assert_string_equal(document->marker, "t/+=");
	}
	s3_xml_free(xml);
}

static void other_documents_parse(void **state)
{
	struct s3_xml *xml = s3_xml_new();
	const struct s3_document *document = s3_xml_document(xml);
	struct rows rows;

	(void)state;
	assert_int_equal(parse(xml, &rows,
			       "<ListMultipartUploadsResult><Upload><Key>k</Key>"
			       "<UploadId>id</UploadId><Initiated>2015-10-21T07:28:00Z</Initiated>"
			       "</Upload><IsTruncated>false</IsTruncated>"
			       "<NextKeyMarker>km</NextKeyMarker>"
			       "<NextUploadIdMarker>im</NextUploadIdMarker>"
			       "</ListMultipartUploadsResult>",
			       3),
			 0);
	assert_string_equal(rows.text, "2:k:0::id:;");
	assert_string_equal(document->marker, "km");
	assert_string_equal(document->session_marker, "im");
	assert_int_equal(parse(xml, &rows,
			       "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error>"
			       "<Deleted><Key>d</Key></Deleted></DeleteResult>",
			       100),
			 0);
	assert_string_equal(rows.text, "3:k:0:::AccessDenied;4:d:0:::;");
	assert_int_equal(document->kind, S3_XML_DELETED);
	assert_int_equal(
		parse(xml, &rows,
		      "<x:InitiateMultipartUploadResult xmlns:x='y'><x:UploadId>u</x:UploadId>"
		      "</x:InitiateMultipartUploadResult>",
		      1),
		0);
	assert_int_equal(document->kind, S3_XML_BEGUN);
	assert_string_equal(document->session, "u");
	assert_int_equal(parse(xml, &rows,
			       "  <CompleteMultipartUploadResult><ETag>\"e-1\"</ETag>"
			       "</CompleteMultipartUploadResult>",
			       100),
			 0);
	assert_string_equal(document->etag, "\"e-1\"");
	assert_int_equal(parse(xml, &rows,
			       "<CopyPartResult><ETag>\"c\"</ETag>"
			       "<ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></CopyPartResult>",
			       100),
			 0);
	assert_int_equal(document->kind, S3_XML_COPIED);
	assert_string_equal(document->checksum, "AAAAAA==");
	assert_int_equal(parse(xml, &rows,
			       "<Error><Code>InvalidRange</Code><Message>m</Message>"
			       "<ActualObjectSize>7</ActualObjectSize><Region>r</Region></Error>",
			       100),
			 0);
	assert_int_equal(document->kind, S3_XML_ERROR);
	assert_string_equal(document->error.code, "InvalidRange");
	assert_string_equal(document->error.region, "r");
	assert_true(document->error.has_object_size);
	assert_int_equal(document->error.object_size, 7);
	s3_xml_free(xml);
}

/* @head, @count times 'x', @tail. */
static void make_long(char *text, const char *head, size_t count, const char *tail)
{
	size_t head_len = strlen(head);

	memcpy(text, head, head_len);
	memset(text + head_len, 'x', count);
	strcpy(text + head_len + count, tail);
}

static void hostile_documents_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"no document",
		"<Error><Code>cut",
		"<Error><Code>a</Error>",
		"<!DOCTYPE x [<!ENTITY a \"aaaa\">]><Error><Code>&a;</Code></Error>",
		"<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><Error></Error>",
		"<Error><Code>&undefined;</Code></Error>",
		"<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Size>99999999999999999999</Size></Contents>"
		"</ListBucketResult>",
		"<ListBucketResult><Contents><LastModified>now</LastModified></Contents>"
		"</ListBucketResult>",
	};
	struct s3_xml *xml = s3_xml_new();
	struct rows rows;
	char *text = malloc(1 << 20);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(parse(xml, &rows, texts[i], 5), -EIO);
	/* Too deep. */
	text[0] = '\0';
	for (int i = 0; i < 40; i++)
		strcat(text, "<a>");
	for (int i = 0; i < 40; i++)
		strcat(text, "</a>");
	assert_int_equal(parse(xml, &rows, text, 1000), -EIO);
	/* A key that no service has, and a tag without an end. */
	make_long(text, "<ListBucketResult><Contents><Key>", 8000,
		  "</Key></Contents></ListBucketResult>");
	assert_int_equal(parse(xml, &rows, text, 1000), -EIO);
	make_long(text, "<ListBucketResult><", 200000, "");
	assert_int_equal(parse(xml, &rows, text, 1000), -EIO);
	/* A long message is cut, no more. */
	make_long(text, "<Error><Code>C</Code><Message>", 20000, "</Message></Error>");
	assert_int_equal(parse(xml, &rows, text, 1000), 0);
	assert_int_equal(strlen(s3_xml_document(xml)->error.message), 255);
	/* And the parser is as good as new. */
	assert_int_equal(parse(xml, &rows, "<Error><Code>C</Code></Error>", 1), 0);
	assert_string_equal(s3_xml_document(xml)->error.message, "");
	free(text);
	s3_xml_free(xml);
}

static void xml_carries_what_it_can(void **state)
{
	struct s3_buffer buffer;

	(void)state;
	s3_buffer_init(&buffer, 64);
	s3_buffer_xml(&buffer, "a<&>\"\r\n\tb'");
	assert_string_equal(buffer.data, "a&#60;&#38;&#62;&#34;&#13;&#10;&#9;b'");
	s3_buffer_printf(&buffer, "%0100d", 1);
	assert_int_equal(buffer.error, -EFBIG);
	s3_buffer_add(&buffer, "x");
	assert_int_equal(strlen(buffer.data), buffer.len);
	s3_buffer_reset(&buffer);
	s3_buffer_add(&buffer, "x");
	assert_string_equal(buffer.data, "x");
	s3_buffer_free(&buffer);
	assert_true(s3_xml_can_carry("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \t\r\n"));
	assert_false(s3_xml_can_carry("\x01"));
	assert_false(s3_xml_can_carry("\xff"));
	assert_false(s3_xml_can_carry("cut \xe2\x82"));
	assert_false(s3_xml_can_carry("overlong \xc0\x80"));
	assert_false(s3_xml_can_carry("overlong \xe0\x80\x80"));
	assert_false(s3_xml_can_carry("surrogate \xed\xa0\x80"));
	assert_false(s3_xml_can_carry("\xef\xbf\xbf"));
	assert_false(s3_xml_can_carry("\xf4\x90\x80\x80"));
}

/* ---- Times ---- */

static void times_parse(void **state)
{
	static const char *const bad_http[] = { "",
						"Wed, 21 Foo 2015 07:28:00 GMT",
						"Wed, 21 Oct 2015 07:28:00",
						"Wed, 21 Oct 9999 07:28:00 GMT",
						"Wed, 41 Oct 2015 07:28:00 GMT",
						"Wed, 21 anF 2015 07:28:00 GMT" };
	static const char *const bad_iso[] = { "", "2015-10-21", "2015-10-21T07:28:00",
					       "2015-13-21T07:28:00Z", "2015-10-21T07:28:00.5" };
	static const char *const bad_mtime[] = { "", "-", "x", "1.5x", "99999999999", "1 " };
	int64_t ns = 0;

	(void)state;
	assert_true(s3_time_parse_http("Wed, 21 Oct 2015 07:28:00 GMT", &ns));
	assert_true(ns == 1445412480ll * 1000000000);
	assert_true(s3_time_parse_iso("2015-10-21T07:28:00.125Z", &ns));
	assert_true(ns == 1445412480125000000ll);
	assert_true(s3_time_parse_iso("2015-10-21T07:28:00Z", &ns));
	assert_true(ns == 1445412480000000000ll);
	for (size_t i = 0; i < ARRAY_SIZE(bad_http); i++)
		assert_false(s3_time_parse_http(bad_http[i], &ns));
	for (size_t i = 0; i < ARRAY_SIZE(bad_iso); i++)
		assert_false(s3_time_parse_iso(bad_iso[i], &ns));
	for (size_t i = 0; i < ARRAY_SIZE(bad_mtime); i++)
		assert_false(s3_mtime_parse(bad_mtime[i], &ns));
}

static void mtimes_come_back(void **state)
{
	static const int64_t values[] = { 0,
					  1,
					  -1,
					  -5,
					  1445412480000000000,
					  1445412480123456789,
					  -1445412480123456789,
					  9223372035999999999 };
	char text[S3_MTIME_SIZE];
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		s3_mtime_format(text, values[i]);
		assert_true(s3_mtime_parse(text, &ns));
		assert_true(ns == values[i]);
	}
	s3_mtime_format(text, 1445412480000000000);
	assert_string_equal(text, "1445412480");
	s3_mtime_format(text, -5);
	assert_string_equal(text, "-0.000000005");
	assert_true(s3_mtime_parse("1445412480.5", &ns)); /* as rclone may */
	assert_true(ns == 1445412480500000000);
	assert_true(s3_mtime_parse("1.0000000019", &ns));
	assert_true(ns == 1000000001);
	s3_mtime_format(text, INT64_MIN); /* has room */
}

/* ---- Checksums ---- */

static void checksums_are_the_published_ones(void **state)
{
	static const char digits[] = "123456789";
	unsigned char data[10000];
	char text[S3_CHECKSUM_TEXT], whole[S3_CHECKSUM_TEXT];
	struct iovec iov[3] = { { data, 1 }, { data + 1, 4096 }, { data + 4097, 5903 } };
	enum s3_checksum_kind kind;

	(void)state;
	assert_int_equal(s3_crc32c(0, digits, 9), 0xe3069283);
	assert_true(s3_crc64nvme(0, digits, 9) == 0xae8b14860a799888);
	memset(data, 0, sizeof(data));
	assert_int_equal(s3_crc32c(0, data, 32), 0x8a9136aa); /* RFC 3720, B.4 */
	assert_int_equal(s3_md5_text("", 0, text), 0);
	assert_string_equal(text, "1B2M2Y8AsgTpgAmY7PhCfg==");
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 7 + i / 256);
	for (kind = S3_CHECKSUM_CRC32C; kind <= S3_CHECKSUM_MD5; kind++) {
		struct iovec one = { data, sizeof(data) };

		assert_int_equal(s3_checksum_body(kind, iov_cursor(iov, 3), sizeof(data), text), 0);
		assert_int_equal(s3_checksum_body(kind, iov_cursor(&one, 1), sizeof(data), whole),
				 0);
		assert_string_equal(text, whole);
	}
	/* Any cut gives the same. */
	for (size_t cut = 0; cut < 100; cut++) {
		assert_int_equal(s3_crc32c(s3_crc32c(0, data, cut), data + cut, 1000 - cut),
				 s3_crc32c(0, data, 1000));
		assert_true(s3_crc64nvme(s3_crc64nvme(0, data, cut), data + cut, 1000 - cut) ==
			    s3_crc64nvme(0, data, 1000));
	}
	assert_true(s3_checksum_parse("CRC32C", &kind));
	assert_int_equal(kind, S3_CHECKSUM_CRC32C);
	assert_false(s3_checksum_parse("sha1", &kind));
}

static void base64_is_taken_exactly(void **state)
{
	unsigned char out[8];

	(void)state;
	assert_true(s3_base64_decode("AAECAw==", out, 4));
	assert_memory_equal(out, "\0\1\2\3", 4);
	assert_true(s3_base64_decode("AAEC", out, 3));
	assert_false(s3_base64_decode("AAEC", out, 2));
	assert_false(s3_base64_decode("AAECAw==", out, 5));
	assert_false(s3_base64_decode("A!ECAw==", out, 4));
	assert_false(s3_base64_decode("", out, 4));
}

/* ---- Errors ---- */

static int judge(const char *code, unsigned status, const struct store_op *op)
{
	struct s3_error error = { 0 };

	snprintf(error.code, sizeof(error.code), "%s", code);
	return s3_error_judge(&error, status, op).result;
}

static void errors_are_those_of_the_operator(void **state)
{
	struct store_op put = { .opcode = STORE_PUT }, match = put, absent = put, commit = put;
	struct store_op read = { .opcode = STORE_READ }, list = { .opcode = STORE_LIST };
	struct store_op copy_part = { .opcode = STORE_COPY_PART }, stat = { .opcode = STORE_STAT };

	(void)state;
	match.if_match = "\"e\"";
	absent.if_absent = true;
	commit.opcode = STORE_COMMIT;
	commit.if_match = "\"e\"";
	assert_int_equal(judge("NoSuchKey", 404, &read), -ENOENT);
	assert_int_equal(judge("", 404, &read), -ENOENT);
	assert_int_equal(judge("NoSuchBucket", 404, &read), -EIO);
	assert_int_equal(judge("NoSuchBucket", 404, &list), -EIO);
	assert_int_equal(judge("", 404, &list), -EIO);
	assert_int_equal(judge("NoSuchKey", 404, &match), -ESTALE);
	assert_int_equal(judge("PreconditionFailed", 412, &match), -ESTALE);
	assert_int_equal(judge("PreconditionFailed", 412, &absent), -EEXIST);
	assert_int_equal(judge("NoSuchUpload", 404, &commit), -ENOENT);
	assert_int_equal(judge("NoSuchKey", 404, &commit), -ESTALE);
	assert_int_equal(judge("", 404, &commit), -ENOENT);
	assert_int_equal(judge("ConditionalRequestConflict", 409, &commit), -EAGAIN);
	assert_int_equal(judge("InvalidRange", 416, &read), -ERANGE);
	assert_int_equal(judge("InvalidRange", 416, &copy_part), -EINVAL);
	assert_int_equal(judge("SlowDown", 503, &put), -EAGAIN);
	assert_int_equal(judge("", 429, &put), -EAGAIN);
	assert_int_equal(judge("", 503, &put), -EAGAIN);
	assert_int_equal(judge("RequestTimeout", 400, &put), -ETIMEDOUT);
	assert_int_equal(judge("InternalError", 500, &put), -EIO);
	assert_int_equal(judge("InternalError", 200, &commit), -EIO);
	assert_int_equal(judge("Unheard", 200, &commit), -EIO);
	assert_int_equal(judge("AccessDenied", 403, &put), -EACCES);
	assert_int_equal(judge("QuotaExceeded", 403, &put), -EDQUOT);
	assert_int_equal(judge("XMinioStorageFull", 507, &put), -ENOSPC);
	assert_int_equal(judge("EntityTooLarge", 400, &put), -EFBIG);
	assert_int_equal(judge("KeyTooLongError", 400, &put), -ENAMETOOLONG);
	assert_int_equal(judge("NotImplemented", 501, &match), -EOPNOTSUPP);
	assert_int_equal(judge("", 400, &stat), -EACCES);
	assert_int_equal(judge("", 400, &read), -EINVAL);
	assert_int_equal(judge("Unheard", 418, &put), -EINVAL);
	assert_int_equal(judge("Unheard", 599, &put), -EIO);
}

/* ---- Endpoints ---- */

static void endpoint(const char *url, const char *region, bool virtual_host, const char *host,
		     const char *path)
{
	struct s3_endpoint e;

	env_ok(s3_endpoint_init(&e, url, "bkt", region, NULL, virtual_host));
	assert_string_equal(e.host, host);
	assert_string_equal(e.path, path);
}

static void endpoints_make_hosts_and_paths(void **state)
{
	struct s3_endpoint e;

	(void)state;
	endpoint(NULL, NULL, false, "s3.us-east-1.amazonaws.com", "/bkt/");
	endpoint(NULL, "eu-west-1", true, "bkt.s3.eu-west-1.amazonaws.com", "/");
	endpoint("s3.amazonaws.com", "cn-north-1", false, "s3.cn-north-1.amazonaws.com.cn",
		 "/bkt/");
	endpoint("https://s3.eu-west-3.amazonaws.com", NULL, false, "s3.eu-west-3.amazonaws.com",
		 "/bkt/");
	endpoint("https://s3.dualstack.eu-west-3.amazonaws.com", "eu-west-3", false,
		 "s3.dualstack.eu-west-3.amazonaws.com", "/bkt/");
	endpoint("http://127.0.0.1:9000/", NULL, false, "127.0.0.1:9000", "/bkt/");
	endpoint("http://H.example:80/s3/x/", NULL, true, "bkt.h.example", "/s3/x/");
	endpoint("https://[::1]:443", NULL, false, "[::1]", "/bkt/");
	endpoint("h:8080", NULL, false, "h:8080", "/bkt/");
	env_ok(s3_endpoint_init(&e, "https://s3.eu-west-3.amazonaws.com", "bkt", NULL, NULL, true));
	assert_string_equal(e.region, "eu-west-3");
	assert_true(s3_endpoint_set_region(&e, "us-west-2"));
	assert_string_equal(e.host, "bkt.s3.us-west-2.amazonaws.com");
	assert_false(s3_endpoint_set_region(&e, "evil.example/"));
	env_ok(s3_endpoint_init(&e, "http://127.0.0.1:9000", "bkt", NULL, NULL, false));
	assert_true(s3_endpoint_set_region(&e, "us-west-2"));
	assert_string_equal(e.host, "127.0.0.1:9000");
	assert_string_equal(e.region, "us-west-2");
}

static void bad_endpoints_are_named(void **state)
{
	static const char *const urls[] = { "ftp://x",	     "https://",   "http:///x",
					    "http://u@h",    "http://h?q", "http://h x",
					    "http://h/#frag" };
	static const char *const buckets[] = { "", "..", "a/b", "a b", "a\nb", "a%b" };
	struct s3_endpoint e;
	struct err *err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		err = s3_endpoint_init(&e, urls[i], "b", NULL, NULL, false);
		assert_non_null(err);
		assert_non_null(strstr(err_msg(err), "endpoint"));
		err_free(err);
	}
	for (size_t i = 0; i < ARRAY_SIZE(buckets); i++) {
		err = s3_endpoint_init(&e, NULL, buckets[i], NULL, NULL, false);
		assert_non_null(err);
		assert_non_null(strstr(err_msg(err), "bucket"));
		err_free(err);
	}
	err = s3_endpoint_init(&e, NULL, "b", "no region", NULL, false);
	assert_non_null(err);
	err_free(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listings_parse_in_pieces_of_any_size),
		cmocka_unit_test(other_documents_parse),
		cmocka_unit_test(hostile_documents_are_refused),
		cmocka_unit_test(xml_carries_what_it_can),
		cmocka_unit_test(times_parse),
		cmocka_unit_test(mtimes_come_back),
		cmocka_unit_test(checksums_are_the_published_ones),
		cmocka_unit_test(base64_is_taken_exactly),
		cmocka_unit_test(errors_are_those_of_the_operator),
		cmocka_unit_test(endpoints_make_hosts_and_paths),
		cmocka_unit_test(bad_endpoints_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
