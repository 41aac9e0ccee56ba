/* SPDX-License-Identifier: Apache-2.0 */
#include "store/services/s3/digest.h"

#include <errno.h>
#include <stdlib.h>

/* A part of a large upload is several MiB; some of them are hashed side by side. */
#define DIGEST_THREADS 4
/* Bytes that take less than waking up a thread: about 20 us. */
#define DIGEST_SHORT (32u << 10)

struct s3_digests {
	struct loop *loop;
	struct s3_signer *signer;
	struct workers *workers;
};

static void digest_compute(struct s3_digest *digest)
{
	struct s3_signer *signer = digest->digests->signer;

	digest->hash[0] = digest->text[0] = '\0';
	digest->error = 0;
	if (digest->sha256)
		digest->error = s3_sign_payload_hash(signer, digest->data, (size_t)digest->length,
						     digest->hash);
	if (digest->checksum != S3_CHECKSUM_OFF && !digest->error)
		digest->error = s3_checksum_body(digest->checksum, digest->data, digest->length,
						 digest->text);
}

static void digest_done(struct loop_task *task)
{
	struct s3_digest *digest = container_of(task, struct s3_digest, task);

	digest->ready(digest);
}

static void digest_run(struct work *work)
{
	struct s3_digest *digest = container_of(work, struct s3_digest, work);

	digest_compute(digest);
	digest->task.run = digest_done;
	loop_post(digest->digests->loop, &digest->task);
}

void s3_digest_start(struct s3_digests *digests, struct s3_digest *digest)
{
	digest->digests = digests;
	if (digest->length <= DIGEST_SHORT) {
		digest_compute(digest);
		digest->ready(digest);
		return;
	}
	digest->work.run = digest_run;
	workers_submit(digests->workers, &digest->work);
}

struct err *s3_digests_new(struct s3_digests **out, struct loop *loop, struct s3_signer *signer)
{
	struct s3_digests *digests = calloc(1, sizeof(*digests));
	struct err *e;

	if (!digests)
		return err_errno(ENOMEM, "digests of what is sent");
	digests->loop = loop;
	digests->signer = signer;
	e = workers_new(&digests->workers, "s3-digest", DIGEST_THREADS);
	if (e) {
		s3_digests_free(digests);
		return e;
	}
	*out = digests;
	return NULL;
}

void s3_digests_free(struct s3_digests *digests)
{
	if (!digests)
		return;
	workers_free(digests->workers);
	free(digests);
}
