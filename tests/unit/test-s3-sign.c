/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signer against what AWS publishes: the examples of "Signature Calculations for the
 * Authorization Header: Transferring Payload in a Single Chunk" (Amazon S3 API
 * reference), and the vectors of the Signature Version 4 test suite (awslabs/aws-c-auth,
 * tests/aws-signing-test-suite/v4) that use S3's path rule.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "store/services/s3/credentials.h"
#include "store/services/s3/sign.h"

#define MAY_24_2013 1369353600	  /* 20130524T000000Z */
#define AUGUST_30_2015 1440938160 /* 20150830T123600Z */
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define STS_TOKEN                                                                                  \
	"AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRX"   \
	"mxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburE"   \
	"Dy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL"   \
	"64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

struct vector {
	const char *name;
	const char *method, *path;
	struct s3_sign_pair query[4], headers[5];
	const char *payload_hash; /* NULL: of nothing */
	const char *token;
	const char *target; /* NULL: the path */
	const char *signed_headers, *signature;
};

static const struct vector s3_examples[] = {
	{
		.name = "GET object",
		.method = "GET",
		.path = "/test.txt",
		.headers = { { "range", "bytes=0-9" } },
		.signed_headers = "host;range;x-amz-content-sha256;x-amz-date",
		.signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
	},
	{
		.name = "PUT object",
		.method = "PUT",
		.path = "/test$file.text",
		.headers = { { "x-amz-storage-class", "REDUCED_REDUNDANCY" },
			     { "date", "Fri, 24 May 2013 00:00:00 GMT" } },
		.payload_hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
		.target = "/test%24file.text",
		.signed_headers = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
		.signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
	},
	{
		.name = "GET bucket lifecycle",
		.method = "GET",
		.path = "/",
		.query = { { "lifecycle", "" } },
		.target = "/?lifecycle=",
		.signed_headers = "host;x-amz-content-sha256;x-amz-date",
		.signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
	},
	{
		.name = "GET bucket (list objects)",
		.method = "GET",
		.path = "/",
		.query = { { "prefix", "J" }, { "max-keys", "2" } },
		.target = "/?max-keys=2&prefix=J",
		.signed_headers = "host;x-amz-content-sha256;x-amz-date",
		.signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	},
};

#define PLAIN .signed_headers = "host;x-amz-date"
#define FORM_HASH "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"

static const struct vector suite[] = {
	{ "get-vanilla", "GET", "/", PLAIN,
	  .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
	{ "get-header-key-duplicate", "GET", "/",
	  .headers = { { "my-header1", "value2" },
		       { "my-header1", "value2" },
		       { "my-header1", "value1" } },
	  .signed_headers = "host;my-header1;x-amz-date",
	  .signature = "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea" },
	{ "get-header-value-order", "GET", "/",
	  .headers = { { "my-header1", "value4" },
		       { "my-header1", "value1" },
		       { "my-header1", "value3" },
		       { "my-header1", "value2" } },
	  .signed_headers = "host;my-header1;x-amz-date",
	  .signature = "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01" },
	{ "get-header-value-trim", "GET", "/",
	  .headers = { { "my-header1", " value1" }, { "my-header2", " \"a   b   c\" " } },
	  .signed_headers = "host;my-header1;my-header2;x-amz-date",
	  .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736" },
	{ "get-relative-relative-unnormalized", "GET", "/example1/example2/../..", PLAIN,
	  .signature = "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b" },
	{ "get-slash-dot-slash-unnormalized", "GET", "/./", PLAIN,
	  .signature = "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145" },
	{ "get-slashes-unnormalized", "GET", "//example//", PLAIN,
	  .signature = "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5" },
	{ "get-space-unnormalized", "GET", "/example space/", .target = "/example%20space/", PLAIN,
	  .signature = "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741" },
	{ "get-unreserved", "GET", "/" UNRESERVED, PLAIN,
	  .signature = "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
	{ "get-utf8", "GET", "/\xe1\x88\xb4", .target = "/%E1%88%B4", PLAIN,
	  .signature = "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
	{ "get-vanilla-empty-query-key",
	  "GET",
	  "/",
	  { { "Param1", "value1" } },
	  .target = "/?Param1=value1",
	  PLAIN,
	  .signature = "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb" },
	{ "get-vanilla-query-order-encoded",
	  "GET",
	  "/",
	  { { "Param-3", "Value3" }, { "Param", "Value2" }, { "\xe1\x88\xb4", "Value1" } },
	  .target = "/?%E1%88%B4=Value1&Param=Value2&Param-3=Value3",
	  PLAIN,
	  .signature = "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac" },
	{ "get-vanilla-query-order-key-case",
	  "GET",
	  "/",
	  { { "Param2", "value2" }, { "Param1", "value1" } },
	  .target = "/?Param1=value1&Param2=value2",
	  PLAIN,
	  .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
	{ "get-vanilla-query-unreserved",
	  "GET",
	  "/",
	  { { UNRESERVED, UNRESERVED } },
	  .target = "/?" UNRESERVED "=" UNRESERVED,
	  PLAIN,
	  .signature = "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197" },
	{ "get-vanilla-utf8-query",
	  "GET",
	  "/",
	  { { "\xe1\x88\xb4", "bar" } },
	  .target = "/?%E1%88%B4=bar",
	  PLAIN,
	  .signature = "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04" },
	{ "get-vanilla-with-session-token", "GET", "/",
	  .token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
	  .signed_headers = "host;x-amz-date;x-amz-security-token",
	  .signature = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8" },
	{ "post-vanilla", "POST", "/", PLAIN,
	  .signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b" },
	{ "post-header-key-sort", "POST", "/", .headers = { { "my-header1", "value1" } },
	  .signed_headers = "host;my-header1;x-amz-date",
	  .signature = "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c" },
	{ "post-vanilla-empty-query-value",
	  "POST",
	  "/",
	  { { "Param1", "value1" } },
	  .target = "/?Param1=value1",
	  PLAIN,
	  .signature = "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11" },
	{ "post-sts-header-before", "POST", "/", .token = STS_TOKEN,
	  .signed_headers = "host;x-amz-date;x-amz-security-token",
	  .signature = "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead" },
	{ "post-x-www-form-urlencoded", "POST", "/",
	  .headers = { { "content-type", "application/x-www-form-urlencoded" },
		       { "content-length", "13" },
		       { "x-amz-content-sha256", FORM_HASH } },
	  .payload_hash = FORM_HASH,
	  .signed_headers = "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
	  .signature = "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b" },
	{ "post-x-www-form-urlencoded-parameters", "POST", "/",
	  .headers = { { "content-type", "application/x-www-form-urlencoded; charset=utf-8" },
		       { "content-length", "13" },
		       { "x-amz-content-sha256", FORM_HASH } },
	  .payload_hash = FORM_HASH,
	  .signed_headers = "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
	  .signature = "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422" },
};

struct fixture {
	struct s3_signer *signer;
	struct s3_credentials *keys; /* of the S3 examples */
	struct s3_sign_result result;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(s3_signer_new(&f->signer), 0);
	f->keys = s3_credentials_new("AKIAIOSFODNN7EXAMPLE",
				     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL, 0, "test");
	assert_non_null(f->keys);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	s3_signer_free(f->signer);
	s3_credentials_put(f->keys);
	free(f);
	return 0;
}

static size_t pairs_count(const struct s3_sign_pair *pairs, size_t max)
{
	size_t count = 0;

	while (count < max && pairs[count].name)
		count++;
	return count;
}

static struct s3_sign_request vector_request(const struct vector *v)
{
	return (struct s3_sign_request){
		.method = v->method,
		.path = v->path,
		.region = "us-east-1",
		.query = v->query,
		.query_count = pairs_count(v->query, ARRAY_SIZE(v->query)),
		.headers = v->headers,
		.header_count = pairs_count(v->headers, ARRAY_SIZE(v->headers)),
		.payload_hash = v->payload_hash ? v->payload_hash : S3_EMPTY_PAYLOAD,
	};
}

static void assert_signed(const struct vector *v, const struct s3_sign_result *r, const char *who)
{
	char expected[1024];

	assert_string_equal(r->target, v->target ? v->target : v->path);
	snprintf(expected, sizeof(expected),
		 "AWS4-HMAC-SHA256 Credential=%s/aws4_request, SignedHeaders=%s, Signature=%s", who,
		 v->signed_headers, v->signature);
	assert_string_equal(r->authorization, expected);
}

static void test_s3_examples(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(s3_examples); i++) {
		const struct vector *v = &s3_examples[i];
		struct s3_sign_request request = vector_request(v);

		print_message("%s\n", v->name);
		request.host = "examplebucket.s3.amazonaws.com";
		request.service = "s3";
		request.now = MAY_24_2013;
		assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), 0);
		assert_signed(v, &f->result, "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3");
		assert_string_equal(f->result.date, "20130524T000000Z");
		assert_string_equal(f->result.content_sha256, request.payload_hash);
		assert_null(f->result.security_token);
	}
}

static void test_suite(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(suite); i++) {
		const struct vector *v = &suite[i];
		struct s3_sign_request request = vector_request(v);
		struct s3_credentials *keys;

		print_message("%s\n", v->name);
		request.host = "example.amazonaws.com";
		request.service = "service";
		request.now = AUGUST_30_2015;
		keys = s3_credentials_new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
					  v->token, 0, "test");
		assert_non_null(keys);
		assert_int_equal(s3_sign(f->signer, keys, &request, &f->result), 0);
		assert_signed(v, &f->result, "AKIDEXAMPLE/20150830/us-east-1/service");
		assert_null(f->result.content_sha256);
		if (v->token)
			assert_string_equal(f->result.security_token, v->token);
		else
			assert_null(f->result.security_token);
		s3_credentials_put(keys);
	}
}

static struct s3_sign_request plain_request(void)
{
	struct s3_sign_request request = vector_request(&s3_examples[0]);

	request.host = "examplebucket.s3.amazonaws.com";
	request.service = "s3";
	request.now = MAY_24_2013;
	return request;
}

/* The cached key follows secret, day, region and service, each alone. */
static void test_key_cache(void **state)
{
	struct fixture *f = *state;
	struct s3_sign_request base = plain_request(), other;
	struct s3_credentials *rotated;
	char first[S3_SIGN_AUTH_MAX];

	rotated = s3_credentials_new("AKIAIOSFODNN7EXAMPLE", "another", NULL, 0, "test");
	assert_non_null(rotated);
	assert_int_equal(s3_sign(f->signer, f->keys, &base, &f->result), 0);
	strcpy(first, f->result.authorization);
	for (int what = 0; what < 4; what++) {
		struct s3_signer *fresh;
		char cached[S3_SIGN_AUTH_MAX];

		other = base;
		if (what == 0)
			other.now += 86400;
		if (what == 1)
			other.region = "eu-central-1";
		if (what == 2)
			other.service = "s4";
		assert_int_equal(
			s3_sign(f->signer, what == 3 ? rotated : f->keys, &other, &f->result), 0);
		strcpy(cached, f->result.authorization);
		assert_string_not_equal(cached, first);

		assert_int_equal(s3_signer_new(&fresh), 0);
		assert_int_equal(s3_sign(fresh, what == 3 ? rotated : f->keys, &other, &f->result),
				 0);
		assert_string_equal(cached, f->result.authorization);
		s3_signer_free(fresh);

		assert_int_equal(s3_sign(f->signer, f->keys, &base, &f->result), 0);
		assert_string_equal(f->result.authorization, first);
	}
	s3_credentials_put(rotated);
}

static void test_anonymous(void **state)
{
	struct fixture *f = *state;
	struct s3_sign_request request = plain_request();
	struct s3_credentials *nobody = s3_credentials_new(NULL, NULL, NULL, 0, "test");

	assert_non_null(nobody);
	assert_true(nobody->anonymous);
	request.path = "/a b//../c";
	for (int i = 0; i < 2; i++) {
		assert_int_equal(s3_sign(f->signer, i ? nobody : NULL, &request, &f->result), 0);
		assert_string_equal(f->result.target, "/a%20b//../c");
		assert_string_equal(f->result.authorization, "");
		assert_string_equal(f->result.date, "");
		assert_null(f->result.content_sha256);
		assert_null(f->result.security_token);
	}
	s3_credentials_put(nobody);
}

/* Every byte that a key may have, once. */
static void test_encoding(void **state)
{
	char raw[256], encoded[3 * 256 + 1], small[8];

	(void)state;
	for (int c = 1; c < 256; c++) {
		char expected[4] = { (char)c };

		if (c != '/' && !strchr(UNRESERVED, c))
			snprintf(expected, sizeof(expected), "%%%02X", (unsigned)c);
		raw[0] = (char)c;
		raw[1] = '\0';
		assert_int_equal(s3_sign_encode(encoded, sizeof(encoded), raw, true), 0);
		assert_string_equal(encoded, expected);
	}
	assert_int_equal(s3_sign_encode(encoded, sizeof(encoded), "a/b%2F+c", false), 0);
	assert_string_equal(encoded, "a%2Fb%252F%2Bc");

	assert_int_equal(s3_sign_encode(small, sizeof(small), "1234567", true), 0);
	assert_int_equal(s3_sign_encode(small, sizeof(small), "12345678", true), -ENAMETOOLONG);
	assert_int_equal(s3_sign_encode(small, sizeof(small), "12345 ", true), -ENAMETOOLONG);
	assert_int_equal(s3_sign_encode(small, 0, "", true), -ENAMETOOLONG);
}

static int sign_header(struct fixture *f, const char *name, const char *value)
{
	struct s3_sign_request request = plain_request();
	struct s3_sign_pair header = { name, value };
	int ret;

	request.headers = &header;
	request.header_count = 1;
	ret = s3_sign(f->signer, f->keys, &request, &f->result);
	if (ret < 0)
		assert_string_equal(f->result.authorization, "");
	return ret;
}

/* What would forge a header, or make the service see another request. */
static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct s3_sign_request request = plain_request();
	struct s3_credentials *forged;

	assert_int_equal(sign_header(f, "x-amz-acl", "private"), 0);
	assert_int_equal(sign_header(f, "x-amz-meta-n", "\xc3\xa4"), 0);
	assert_int_equal(sign_header(f, "x-amz-acl", "private\r\nx-evil: 1"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-acl", "a\vb"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-acl", "a\x7f"), -EINVAL);
	assert_int_equal(sign_header(f, "X-Amz-Acl", "private"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-acl:", "private"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-acl ", "private"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-acl;a", "private"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-acl\xc3\xa4", "private"), -EINVAL);
	assert_int_equal(sign_header(f, "", "private"), -EINVAL);
	assert_int_equal(sign_header(f, "host", "elsewhere"), -EINVAL);
	assert_int_equal(sign_header(f, "x-amz-date", "19700101T000000Z"), -EINVAL);

	request.path = "no-slash";
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), -EINVAL);
	request = plain_request();
	request.host = "a\nb";
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), -EINVAL);
	request = plain_request();
	request.now = (time_t)1 << 58; /* a year of ten digits */
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), -EINVAL);

	request = plain_request();
	forged = s3_credentials_new("A\r\nx", "secret", NULL, 0, "test");
	assert_int_equal(s3_sign(f->signer, forged, &request, &f->result), -EINVAL);
	s3_credentials_put(forged);
	forged = s3_credentials_new("A", "secret", "to\nken", 0, "test");
	assert_int_equal(s3_sign(f->signer, forged, &request, &f->result), -EINVAL);
	s3_credentials_put(forged);
}

/* What HTTP allows in the headers of others. */
static void test_odd_headers(void **state)
{
	static const char *const blanks[] = { "a b", "a\tb", " a \t  b\t", "\ta \tb " };
	struct fixture *f = *state;
	char first[S3_SIGN_AUTH_MAX] = "";

	assert_int_equal(sign_header(f, "x-amz-meta-!#$%&'*+-.^_`|~", "v"), 0);
	assert_non_null(strstr(f->result.authorization, ";x-amz-meta-!#$%&'*+-.^_`|~,"));
	/* All the same to who compares signatures. */
	for (size_t i = 0; i < ARRAY_SIZE(blanks); i++) {
		assert_int_equal(sign_header(f, "x-amz-meta-a", blanks[i]), 0);
		if (i == 0)
			strcpy(first, f->result.authorization);
		assert_string_equal(f->result.authorization, first);
	}
}

static char *long_string(size_t len)
{
	char *s = malloc(len + 1);

	assert_non_null(s);
	memset(s, '%', len);
	s[0] = '/';
	s[len] = '\0';
	return s;
}

static void test_too_long(void **state)
{
	struct fixture *f = *state;
	struct s3_sign_pair pairs[S3_SIGN_HEADERS_MAX + 1], page[3];
	struct s3_sign_request request = plain_request();
	struct s3_credentials *keys;
	char *fits = long_string(1 + (S3_SIGN_TARGET_MAX - 2) / 3);
	char *over = long_string(2 + (S3_SIGN_TARGET_MAX - 2) / 3);
	char *key = long_string(1024), *token = long_string(3330), *secret;

	request.path = fits;
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), 0);
	request.path = over;
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), -ENAMETOOLONG);

	/* The longest listing that the operator can ask for. */
	request = plain_request();
	request.query = page;
	request.query_count = 3;
	page[0] = (struct s3_sign_pair){ "prefix", key };
	page[1] = (struct s3_sign_pair){ "start-after", key };
	page[2] = (struct s3_sign_pair){ "continuation-token", token };
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), 0);

	request = plain_request();
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		pairs[i] = (struct s3_sign_pair){ "x-amz-meta-a", "b" };
	request.headers = pairs;
	request.header_count = S3_SIGN_HEADERS_MAX;
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), 0);
	request.header_count++;
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), -E2BIG);
	request = plain_request();
	request.query = pairs;
	request.query_count = S3_SIGN_QUERY_MAX + 1;
	assert_int_equal(s3_sign(f->signer, f->keys, &request, &f->result), -E2BIG);

	request = plain_request();
	secret = long_string(S3_SIGN_SECRET_MAX - 1);
	keys = s3_credentials_new("A", secret, NULL, 0, "test");
	assert_int_equal(s3_sign(f->signer, keys, &request, &f->result), 0);
	s3_credentials_put(keys);
	free(secret);
	secret = long_string(S3_SIGN_SECRET_MAX);
	keys = s3_credentials_new("A", secret, NULL, 0, "test");
	assert_int_equal(s3_sign(f->signer, keys, &request, &f->result), -ENAMETOOLONG);
	s3_credentials_put(keys);
	free(secret);

	secret = long_string(S3_SIGN_AUTH_MAX);
	keys = s3_credentials_new(secret, "s", NULL, 0, "test");
	assert_int_equal(s3_sign(f->signer, keys, &request, &f->result), -ENAMETOOLONG);
	assert_string_equal(f->result.authorization, "");
	s3_credentials_put(keys);
	free(secret);
	free(fits);
	free(over);
	free(key);
	free(token);
}

static void test_payload_hash(void **state)
{
	struct fixture *f = *state;
	char text[] = "Welcome to Amazon S3. And more.", hash[S3_SIGN_HASH_SIZE];
	struct iovec bytes[40];
	size_t count = strlen(text);

	/* More segments than are looked at in one go. */
	for (size_t i = 0; i < count; i++)
		bytes[i] = (struct iovec){ text + i, 1 };
	assert_int_equal(s3_sign_payload_hash(f->signer, iov_cursor(bytes, count), 21, hash), 0);
	assert_string_equal(hash,
			    "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
	assert_int_equal(s3_sign_payload_hash(f->signer, iov_cursor(bytes, 21), SIZE_MAX, hash), 0);
	assert_string_equal(hash,
			    "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
	assert_int_equal(s3_sign_payload_hash(f->signer, iov_cursor(bytes, 0), SIZE_MAX, hash), 0);
	assert_string_equal(hash, S3_EMPTY_PAYLOAD);
	assert_int_equal(s3_sign_payload_hash(f->signer, iov_cursor(bytes, 5), 0, hash), 0);
	assert_string_equal(hash, S3_EMPTY_PAYLOAD);
	assert_int_equal(s3_sign_payload_hash(f->signer, iov_cursor(bytes, 20), 21, hash), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_s3_examples, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_suite, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_key_cache, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_anonymous, set_up, tear_down),
		cmocka_unit_test(test_encoding),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_odd_headers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_payload_hash, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
