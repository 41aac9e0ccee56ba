/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The canonical request is never built: its pieces go into the digest in order. The
 * target comes first, because its halves are the canonical URI and query; then the
 * Authorization up to the list of signed headers, which the canonical request ends with.
 *
 * The key that signs a day's requests takes four HMACs to derive and depends on secret,
 * day, region and service; the last one is kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/util.h"
#include "store/services/s3/credentials.h"
#include "store/services/s3/sign.h"
#include "store/services/s3/text.h"

#define HASH_BYTES 32
#define REGION_MAX 128
#define SERVICE_MAX 32
#define ADDED_HEADERS 4
#define ALGORITHM "AWS4-HMAC-SHA256"
#define DAY_LEN 8 /* YYYYMMDD, the beginning of the date */

struct s3_signer {
	EVP_MD *sha256;
	EVP_MD_CTX *digest;
	EVP_MAC *hmac;
	EVP_MAC_CTX *mac;

	/* The last signing key and what it was derived from. */
	struct {
		bool valid;
		char secret[S3_SIGN_SECRET_MAX];
		char day[DAY_LEN];
		char region[REGION_MAX];
		char service[SERVICE_MAX];
		unsigned char key[HASH_BYTES];
	} cache;
};

/* ---- The target. ---- */

int s3_sign_encode(char *dst, size_t size, const char *src, bool keep_slash)
{
	struct s3_text t;

	if (size == 0)
		return -ENAMETOOLONG;
	s3_text_init(&t, dst, size);
	s3_text_encoded(&t, src, keep_slash);
	return t.full ? -ENAMETOOLONG : 0;
}

static int query_compare(const struct s3_sign_pair *a, const struct s3_sign_pair *b)
{
	int order = s3_encoded_compare(a->name, b->name);

	return order ? order : s3_encoded_compare(a->value, b->value);
}

static int name_compare(const struct s3_sign_pair *a, const struct s3_sign_pair *b)
{
	return strcmp(a->name, b->name);
}

/* By insertion: a few entries, and equal ones stay in their order. */
static void pairs_sort(const struct s3_sign_pair **pairs, size_t count,
		       int (*compare)(const struct s3_sign_pair *, const struct s3_sign_pair *))
{
	for (size_t i = 1; i < count; i++) {
		const struct s3_sign_pair *moving = pairs[i];
		size_t at = i;

		for (; at > 0 && compare(pairs[at - 1], moving) > 0; at--)
			pairs[at] = pairs[at - 1];
		pairs[at] = moving;
	}
}

static int target_make(const struct s3_sign_request *request, struct s3_sign_result *result)
{
	const struct s3_sign_pair *query[S3_SIGN_QUERY_MAX];
	struct s3_text t;

	if (request->query_count > S3_SIGN_QUERY_MAX)
		return -E2BIG;
	if (request->path[0] != '/')
		return -EINVAL;
	s3_text_init(&t, result->target, sizeof(result->target));
	s3_text_encoded(&t, request->path, true);
	for (size_t i = 0; i < request->query_count; i++)
		query[i] = &request->query[i];
	pairs_sort(query, request->query_count, query_compare);
	for (size_t i = 0; i < request->query_count; i++) {
		s3_text_byte(&t, i ? '&' : '?');
		if (i == 0)
			result->query_offset = t.len;
		s3_text_encoded(&t, query[i]->name, false);
		s3_text_byte(&t, '=');
		s3_text_encoded(&t, query[i]->value, false);
	}
	return t.full ? -ENAMETOOLONG : 0;
}

/* ---- Digests. ---- */

static bool digest_begin(struct s3_signer *signer)
{
	return EVP_DigestInit_ex2(signer->digest, signer->sha256, NULL) == 1;
}

/* What goes wrong in between, digest_end() reports. */
static void digest_add(struct s3_signer *signer, const void *data, size_t len)
{
	EVP_DigestUpdate(signer->digest, data, len);
}

static void digest_text(struct s3_signer *signer, const char *text)
{
	digest_add(signer, text, strlen(text));
}

static bool digest_end(struct s3_signer *signer, char hash[static S3_SIGN_HASH_SIZE])
{
	unsigned char bytes[HASH_BYTES];

	if (EVP_DigestFinal_ex(signer->digest, bytes, NULL) != 1)
		return false;
	s3_hex_encode(hash, bytes, sizeof(bytes));
	return true;
}

static bool hmac(struct s3_signer *signer, const unsigned char *key, size_t key_len,
		 const char *data, size_t len, unsigned char out[static HASH_BYTES])
{
	size_t written;

	return EVP_MAC_init(signer->mac, key, key_len, NULL) == 1 &&
	       EVP_MAC_update(signer->mac, (const unsigned char *)data, len) == 1 &&
	       EVP_MAC_final(signer->mac, out, &written, HASH_BYTES) == 1;
}

/* ---- Headers. ---- */

static bool name_valid(const char *name)
{
	if (*name == '\0')
		return false;
	for (; *name; name++) {
		if (!strchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", *name))
			return false;
	}
	return true;
}

/* No byte that would end the header, or that a proxy may take for something else. */
static bool value_valid(const char *value)
{
	for (; *value; value++) {
		if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f)
			return false;
	}
	return true;
}

bool s3_sign_header_valid(const char *name, const char *value)
{
	return name_valid(name) && value_valid(value);
}

struct headers {
	struct s3_sign_pair added[ADDED_HEADERS];
	const struct s3_sign_pair *sorted[S3_SIGN_HEADERS_MAX + ADDED_HEADERS];
	size_t count;
};

static int headers_make(struct headers *h, const struct s3_sign_request *request,
			const struct s3_sign_result *result)
{
	size_t added = 0;

	if (request->header_count > S3_SIGN_HEADERS_MAX)
		return -E2BIG;
	h->added[added++] = (struct s3_sign_pair){ "host", request->host };
	h->added[added++] = (struct s3_sign_pair){ "x-amz-date", result->date };
	if (result->content_sha256)
		h->added[added++] =
			(struct s3_sign_pair){ "x-amz-content-sha256", result->content_sha256 };
	if (result->security_token)
		h->added[added++] =
			(struct s3_sign_pair){ "x-amz-security-token", result->security_token };
	h->count = 0;
	for (size_t i = 0; i < added; i++)
		h->sorted[h->count++] = &h->added[i];
	for (size_t i = 0; i < request->header_count; i++) {
		if (!name_valid(request->headers[i].name))
			return -EINVAL;
		for (size_t j = 0; j < added; j++) {
			if (!strcmp(request->headers[i].name, h->added[j].name))
				return -EINVAL;
		}
		h->sorted[h->count++] = &request->headers[i];
	}
	for (size_t i = 0; i < h->count; i++) {
		if (!value_valid(h->sorted[i]->value))
			return -EINVAL;
	}
	pairs_sort(h->sorted, h->count, name_compare);
	return 0;
}

/* Another value of the same name as the one before; both go into one line. */
static bool header_continues(const struct headers *h, size_t i)
{
	return i > 0 && !strcmp(h->sorted[i]->name, h->sorted[i - 1]->name);
}

/* Without blanks at the ends, and one space where there are some: services, as AWS's own clients,
 * take a TAB for one. */
static void digest_value(struct s3_signer *signer, const char *value)
{
	static const char blanks[] = " \t";
	bool first = true;

	for (;;) {
		size_t len;

		value += strspn(value, blanks);
		len = strcspn(value, blanks);
		if (len == 0)
			return;
		if (!first)
			digest_text(signer, " ");
		digest_add(signer, value, len);
		value += len;
		first = false;
	}
}

static void digest_headers(struct s3_signer *signer, const struct headers *h)
{
	for (size_t i = 0; i < h->count; i++) {
		if (header_continues(h, i)) {
			digest_text(signer, ",");
		} else {
			if (i > 0)
				digest_text(signer, "\n");
			digest_text(signer, h->sorted[i]->name);
			digest_text(signer, ":");
		}
		digest_value(signer, h->sorted[i]->value);
	}
	digest_text(signer, "\n\n");
}

/* ---- The signature. ---- */

static bool canonical_hash(struct s3_signer *signer, const struct s3_sign_request *request,
			   const struct s3_sign_result *result, const struct headers *h,
			   const char *signed_headers, char hash[static S3_SIGN_HASH_SIZE])
{
	size_t path_len = result->query_offset ? result->query_offset - 1 : strlen(result->target);

	if (!digest_begin(signer))
		return false;
	digest_text(signer, request->method);
	digest_text(signer, "\n");
	digest_add(signer, result->target, path_len);
	digest_text(signer, "\n");
	if (result->query_offset)
		digest_text(signer, result->target + result->query_offset);
	digest_text(signer, "\n");
	digest_headers(signer, h);
	digest_text(signer, signed_headers);
	digest_text(signer, "\n");
	digest_text(signer, request->payload_hash);
	return digest_end(signer, hash);
}

/* "20130524/us-east-1/s3/aws4_request" */
static void text_scope(struct s3_text *t, const struct s3_sign_request *request, const char *date)
{
	s3_text_bytes(t, date, DAY_LEN);
	s3_text_byte(t, '/');
	s3_text_add(t, request->region);
	s3_text_byte(t, '/');
	s3_text_add(t, request->service);
	s3_text_add(t, "/aws4_request");
}

static bool cache_holds(const struct s3_signer *signer, const char *secret,
			const struct s3_sign_request *request, const char *date)
{
	return signer->cache.valid && !memcmp(signer->cache.day, date, DAY_LEN) &&
	       !strcmp(signer->cache.region, request->region) &&
	       !strcmp(signer->cache.service, request->service) &&
	       !strcmp(signer->cache.secret, secret);
}

/* Leaves the signing key in the cache. */
static int key_derive(struct s3_signer *signer, const char *secret,
		      const struct s3_sign_request *request, const char *date)
{
	char first[sizeof("AWS4") - 1 + S3_SIGN_SECRET_MAX];
	unsigned char *key = signer->cache.key;
	struct s3_text t;
	bool good;

	if (cache_holds(signer, secret, request, date))
		return 0;
	if (strlen(secret) >= sizeof(signer->cache.secret) ||
	    strlen(request->region) >= sizeof(signer->cache.region) ||
	    strlen(request->service) >= sizeof(signer->cache.service))
		return -ENAMETOOLONG;
	signer->cache.valid = false;
	strcpy(signer->cache.secret, secret);
	strcpy(signer->cache.region, request->region);
	strcpy(signer->cache.service, request->service);
	memcpy(signer->cache.day, date, DAY_LEN);

	s3_text_init(&t, first, sizeof(first));
	s3_text_add(&t, "AWS4");
	s3_text_add(&t, secret);
	good = hmac(signer, (unsigned char *)first, t.len, date, DAY_LEN, key) &&
	       hmac(signer, key, HASH_BYTES, request->region, strlen(request->region), key) &&
	       hmac(signer, key, HASH_BYTES, request->service, strlen(request->service), key) &&
	       hmac(signer, key, HASH_BYTES, "aws4_request", 12, key);
	OPENSSL_cleanse(first, sizeof(first));
	signer->cache.valid = good;
	return good ? 0 : -EIO;
}

/* Of the string to sign, whose last line is @hash. */
static int signature_make(struct s3_signer *signer, const struct s3_sign_request *request,
			  const char *date, const char *hash,
			  char signature[static S3_SIGN_HASH_SIZE])
{
	char string[512];
	unsigned char mac[HASH_BYTES];
	struct s3_text t;

	s3_text_init(&t, string, sizeof(string));
	s3_text_add(&t, ALGORITHM "\n");
	s3_text_add(&t, date);
	s3_text_byte(&t, '\n');
	text_scope(&t, request, date);
	s3_text_byte(&t, '\n');
	s3_text_add(&t, hash);
	if (t.full)
		return -ENAMETOOLONG;
	if (!hmac(signer, signer->cache.key, HASH_BYTES, string, t.len, mac))
		return -EIO;
	s3_hex_encode(signature, mac, sizeof(mac));
	return 0;
}

static int authorize(struct s3_signer *signer, const struct s3_credentials *credentials,
		     const struct s3_sign_request *request, struct s3_sign_result *result)
{
	char hash[S3_SIGN_HASH_SIZE], signature[S3_SIGN_HASH_SIZE];
	struct headers h;
	size_t list;
	struct s3_text t;
	int ret;

	ret = headers_make(&h, request, result);
	if (ret == 0)
		ret = key_derive(signer, credentials->secret_access_key, request, result->date);
	if (ret < 0)
		return ret;

	s3_text_init(&t, result->authorization, sizeof(result->authorization));
	s3_text_add(&t, ALGORITHM " Credential=");
	s3_text_add(&t, credentials->access_key_id);
	s3_text_byte(&t, '/');
	text_scope(&t, request, result->date);
	s3_text_add(&t, ", SignedHeaders=");
	list = t.len;
	for (size_t i = 0; i < h.count; i++) {
		if (header_continues(&h, i))
			continue;
		if (i > 0)
			s3_text_byte(&t, ';');
		s3_text_add(&t, h.sorted[i]->name);
	}
	if (t.full)
		return -ENAMETOOLONG;
	if (!canonical_hash(signer, request, result, &h, result->authorization + list, hash))
		return -EIO;
	ret = signature_make(signer, request, result->date, hash, signature);
	s3_text_add(&t, ", Signature=");
	s3_text_add(&t, signature);
	return ret < 0 ? ret : t.full ? -ENAMETOOLONG : 0;
}

static bool date_make(time_t now, char date[static S3_SIGN_DATE_SIZE])
{
	struct tm tm;

	return gmtime_r(&now, &tm) &&
	       strftime(date, S3_SIGN_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm) == S3_SIGN_DATE_SIZE - 1;
}

int s3_sign(struct s3_signer *signer, const struct s3_credentials *credentials,
	    const struct s3_sign_request *request, struct s3_sign_result *result)
{
	int ret;

	result->query_offset = 0;
	result->authorization[0] = '\0';
	result->date[0] = '\0';
	result->content_sha256 = NULL;
	result->security_token = NULL;
	ret = target_make(request, result);
	if (ret < 0 || !credentials || credentials->anonymous)
		return ret;
	if (!value_valid(credentials->access_key_id) || !date_make(request->now, result->date))
		return -EINVAL;
	if (!strcmp(request->service, "s3"))
		result->content_sha256 = request->payload_hash;
	result->security_token = credentials->session_token;
	ret = authorize(signer, credentials, request, result);
	if (ret < 0)
		result->authorization[0] = '\0';
	return ret;
}

int s3_sign_payload_hash(const struct s3_signer *signer, struct iov_cursor data, size_t length,
			 char hash[static S3_SIGN_HASH_SIZE])
{
	unsigned char bytes[HASH_BYTES];
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	struct iovec segments[16];
	size_t count, step;
	bool good = digest && EVP_DigestInit_ex2(digest, signer->sha256, NULL) == 1,
	     missing = false;

	while (good && length > 0) {
		count = iov_take(&data, length, segments, ARRAY_SIZE(segments), &step);
		missing = count == 0 && length != SIZE_MAX;
		if (count == 0)
			break;
		for (size_t i = 0; i < count; i++)
			good &= EVP_DigestUpdate(digest, segments[i].iov_base,
						 segments[i].iov_len) == 1;
		if (length != SIZE_MAX)
			length -= step;
	}
	good = good && EVP_DigestFinal_ex(digest, bytes, NULL) == 1;
	EVP_MD_CTX_free(digest);
	if (good)
		s3_hex_encode(hash, bytes, sizeof(bytes));
	if (missing)
		return -EINVAL;
	return good ? 0 : -EIO;
}

/* ---- Life. ---- */

static bool signer_set_up(struct s3_signer *signer)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	signer->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	signer->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	signer->digest = EVP_MD_CTX_new();
	signer->mac = signer->hmac ? EVP_MAC_CTX_new(signer->hmac) : NULL;
	return signer->sha256 && signer->digest && signer->mac &&
	       EVP_MAC_CTX_set_params(signer->mac, params) == 1;
}

int s3_signer_new(struct s3_signer **out)
{
	struct s3_signer *signer = calloc(1, sizeof(*signer));

	if (!signer)
		return -ENOMEM;
	if (!signer_set_up(signer)) {
		s3_signer_free(signer);
		return -EIO;
	}
	*out = signer;
	return 0;
}

void s3_signer_free(struct s3_signer *signer)
{
	if (!signer)
		return;
	EVP_MAC_CTX_free(signer->mac);
	EVP_MAC_free(signer->hmac);
	EVP_MD_CTX_free(signer->digest);
	EVP_MD_free(signer->sha256);
	OPENSSL_cleanse(&signer->cache, sizeof(signer->cache));
	free(signer);
}
