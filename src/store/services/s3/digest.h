/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests of what PUT and PART send: the SHA-256 that the signature covers where there is no TLS,
 * and the checksum that the configuration asks for.
 *
 * Of a part they take milliseconds, in which the transfer loop would serve nobody else; so threads
 * of their own compute them. Short bodies are not worth the way there and back.
 *
 * Threads: everything but the computation on the transfer loop.
 */
#ifndef OVFS_STORE_SERVICES_S3_DIGEST_H
#define OVFS_STORE_SERVICES_S3_DIGEST_H

#include "base/err.h"
#include "base/iov.h"
#include "base/loop.h"
#include "base/workers.h"
#include "store/services/s3/checksum.h"
#include "store/services/s3/sign.h"

struct s3_digests;

struct s3_digest {
	/* The caller's; the bytes hold still until ready(). */
	struct iov_cursor data;
	uint64_t length;
	bool sha256; /* is wanted */
	enum s3_checksum_kind checksum;
	void (*ready)(struct s3_digest *digest);

	/* Valid in ready(). */
	int error;		      /* 0 or negative errno */
	char hash[S3_SIGN_HASH_SIZE]; /* "" when it is not wanted */
	char text[S3_CHECKSUM_TEXT];

	struct s3_digests *digests;
	struct work work;
	struct loop_task task;
};

/* @loop and @signer outlive it. */
struct err *s3_digests_new(struct s3_digests **out, struct loop *loop, struct s3_signer *signer)
	__attribute__((warn_unused_result));

/* Nothing is under way. Accepts NULL. */
void s3_digests_free(struct s3_digests *digests);

/* @digest->ready() comes on the loop, or at once, from within this. */
void s3_digest_start(struct s3_digests *digests, struct s3_digest *digest);

#endif
