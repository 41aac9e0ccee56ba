/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between actions.c, which says what is asked for, and request.c, which signs and sends it.
 * Transfer loop; lives for one s3_request_prepare().
 */
#ifndef OVFS_STORE_SERVICES_S3_ACTIONS_H
#define OVFS_STORE_SERVICES_S3_ACTIONS_H

#include "store/services/s3/internal.h"

/* Texts that have to be put together (keys with the root, ranges, times) lie in
 * request->scratch until the request is signed and its lines are written. */
struct s3_build {
	struct s3_request *request;
	struct s3 *s3;
	const struct store_op *op;
	const char *method;
	const char *key; /* relative to the root; NULL: the bucket */
	struct s3_sign_pair query[S3_SIGN_QUERY_MAX];
	size_t query_count;
	struct s3_sign_pair headers[S3_SIGN_HEADERS_MAX];
	size_t header_count;
	struct s3_text scratch;
	char hash[S3_SIGN_HASH_SIZE]; /* of the body; the signature refers to it */
	bool has_body;		      /* the operation's data */
	bool has_xml;		      /* request->body */
	int error;
};

/* Fills in method, key, query and headers for the step of b->request; b->error. */
void s3_build(struct s3_build *b);

/* In the scratch space: @left and @right; @key as the service knows it. "" and b->error
 * when there is no room, or the key is too long. */
const char *s3_build_join(struct s3_build *b, const char *left, const char *right);
const char *s3_build_key(struct s3_build *b, const char *key);

#endif
