/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Signature Version 4 (header form), for S3 and for STS.
 *
 * Pure computation: no I/O, no clock, no global state. What is signed is what is sent:
 * the result has the encoded target for the URL, which must reach the wire unchanged
 * (CURLOPT_PATH_AS_IS), and the header values to add; headers of the request go out
 * with the names and values that were given here.
 *
 * Specification: "Signature Calculations for the Authorization Header: Transferring
 * Payload in a Single Chunk" of the Amazon S3 API reference. Paths follow S3's rule: each
 * byte is percent-encoded once unless it is unreserved or '/', nothing is normalised.
 *
 * Threads: a signer belongs to one thread at a time, but for what says so; it caches the signing
 * key, so that only the first request of a day pays for it. Requests and results are the caller's.
 */
#ifndef OVFS_STORE_SERVICES_S3_SIGN_H
#define OVFS_STORE_SERVICES_S3_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/iov.h"

struct s3_credentials; /* services/s3/credentials.h */

#define S3_SIGN_HASH_SIZE 65 /* 64 hexadecimal digits and the NUL */
#define S3_SIGN_DATE_SIZE 17 /* 20130524T000000Z and the NUL */

#define S3_SIGN_TARGET_MAX 24576 /* encoded path and query, with the NUL */
#define S3_SIGN_AUTH_MAX 6144	 /* Authorization, with the NUL; it names all headers */
#define S3_SIGN_QUERY_MAX 16	 /* parameters of a request */
#define S3_SIGN_HEADERS_MAX 64	 /* signed headers of a request, the caller's */
#define S3_SIGN_SECRET_MAX 512	 /* bytes of a secret access key, with the NUL */

#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define S3_EMPTY_PAYLOAD "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_sign_pair {
	const char *name;
	const char *value;
};

struct s3_sign_request {
	const char *method;  /* "GET", ... */
	const char *host;    /* as the Host header is sent: with the port unless default */
	const char *path;    /* raw bytes, begins with '/' */
	const char *service; /* "s3", "sts" */
	const char *region;  /* of the scope: "us-east-1" */

	/* Not encoded, in any order; value "" for sub-resources ("uploads"). */
	const struct s3_sign_pair *query;
	size_t query_count;

	/* All that begin with x-amz-, and others that must not change on the way
	 * (content-md5, range, if-match). s3_sign_header_valid(), in any order. Not host,
	 * x-amz-date, x-amz-content-sha256, x-amz-security-token: those are added here. */
	const struct s3_sign_pair *headers;
	size_t header_count;

	/* S3_UNSIGNED_PAYLOAD, or s3_sign_payload_hash() of the body. Service "s3": to
	 * be sent as x-amz-content-sha256. */
	const char *payload_hash;

	time_t now; /* the service's, as far as it is known */
};

struct s3_sign_result {
	/* "/bucket/a%20key?list-type=2&prefix=x": the query sorted, "name=" for an
	 * empty value. Filled in also when nothing is signed. */
	char target[S3_SIGN_TARGET_MAX];
	size_t query_offset; /* of the byte after '?'; 0 when there is no query */

	/* Values of headers to send; "" when the credentials are anonymous. */
	char authorization[S3_SIGN_AUTH_MAX];
	char date[S3_SIGN_DATE_SIZE]; /* x-amz-date */
	const char *content_sha256;   /* x-amz-content-sha256, the request's; NULL: none */
	const char *security_token;   /* x-amz-security-token, the credentials'; NULL: none */
};

struct s3_signer;

/* 0, -ENOMEM, or -EIO when the crypto library has no SHA-256. */
int s3_signer_new(struct s3_signer **out);

/* Forgets the keys. Accepts NULL. */
void s3_signer_free(struct s3_signer *signer);

/*
 * Signs @request. Anonymous credentials (or NULL): only @result->target is made.
 *
 * 0; -ENAMETOOLONG when the target, the secret or the Authorization would not fit;
 * -E2BIG for too many parameters or headers; -EINVAL for a request that breaks the rules above;
 * -EIO when the crypto library fails. No key material is left on the stack.
 */
int s3_sign(struct s3_signer *signer, const struct s3_credentials *credentials,
	    const struct s3_sign_request *request, struct s3_sign_result *result);

/* Whether a header can be sent and signed: a token of RFC 9110 in lower case, and no control
 * characters in its value but TAB. */
bool s3_sign_header_valid(const char *name, const char *value);

/* The SHA-256 of the next @length bytes (all when SIZE_MAX) of @data, in hexadecimal.
 * 0, -EINVAL when there are fewer, -EIO. Any thread, several at a time. */
int s3_sign_payload_hash(const struct s3_signer *signer, struct iov_cursor data, size_t length,
			 char hash[static S3_SIGN_HASH_SIZE]);

/* Percent-encodes @src for a path (@keep_slash) or a query, as signing does, for what is
 * sent outside of the target: x-amz-copy-source. 0, or -ENAMETOOLONG. */
int s3_sign_encode(char *dst, size_t size, const char *src, bool keep_slash);

#endif
