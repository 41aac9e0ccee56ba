/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who we are to the service: keys, where they come from, and their renewal.
 *
 * A provider goes through the usual sources in the order of the AWS tools and takes the
 * first that has keys:
 *
 *	1 configuration		access_key_id, secret_access_key, session_token
 *	2 environment		AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *	3 profile files		~/.aws/credentials, ~/.aws/config; role_arn there: STS
 *	4 web identity		AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN: STS
 *	5 container		AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI
 *	6 EC2 instance		metadata service, version 2
 *
 * A `profile` in the configuration goes before the environment. role_arn in the configuration: STS
 * AssumeRole with what the sources gave.
 *
 * Keys are immutable snapshots with a reference count. The provider renews them on a thread
 * of its own: some minutes before they expire, every few minutes where a file may have changed,
 * and when the service refused them. That thread makes plain blocking requests with short
 * time-outs, so that no transfer ever waits behind the metadata service. Failures keep the old keys
 * as long as those are valid.
 *
 * Secrets are never logged, and their memory is wiped before it is freed.
 */
#ifndef OVFS_STORE_SERVICES_S3_CREDENTIALS_H
#define OVFS_STORE_SERVICES_S3_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"

/* ---- A snapshot. Any thread; read-only. ---- */

struct s3_credentials {
	bool anonymous; /* sign nothing; the strings are "" */
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token; /* NULL: none */
	int64_t expires_ns;	   /* CLOCK_REALTIME; 0: never, as far as is known */
	const char *source;	   /* "environment", "ec2", ...: for logs; static */

	_Atomic unsigned refs;
	size_t size; /* of all of it, to be wiped */
};

/* Copies the strings (@session_token may be NULL); one reference is the caller's. NULL when
 * out of memory. Without @access_key_id: anonymous. */
struct s3_credentials *s3_credentials_new(const char *access_key_id, const char *secret_access_key,
					  const char *session_token, int64_t expires_ns,
					  const char *source);

struct s3_credentials *s3_credentials_get(struct s3_credentials *credentials);

/* Wipes it with the last reference. Accepts NULL. */
void s3_credentials_put(struct s3_credentials *credentials);

/* ---- The provider. ---- */

/* Strings: NULL or "" when not set. All is copied. */
struct s3_provider_config {
	const char *profile;
	const char *access_key_id, *secret_access_key, *session_token;
	const char *role_arn, *external_id, *role_session_name;
	uint32_t assume_role_duration_seconds; /* 0: 3600 */
	const char *region;		       /* of STS; default: environment, profile */
	bool disable_config_load;	       /* neither environment nor files */
	bool disable_ec2_metadata;
	bool skip_signature;  /* always anonymous; nothing is looked for */
	bool allow_anonymous; /* anonymous when nothing was found */

	/* Sets certificates and proxy of a CURL handle for STS as for the service itself.
	 * NULL: libcurl's own. Called on the provider's thread. */
	void (*configure)(void *curl_easy, void *arg);
	void *configure_arg;
};

struct s3_provider;

/*
 * Reads environment and configuration, opens the folders of the files that it may have to read
 * again (so that a sandbox without them may be entered later), and sends nothing. @loop is
 * where waiters are answered. Errors are those of the configuration alone. The thread starts
 * with the first s3_provider_wait().
 */
struct err *s3_provider_new(struct s3_provider **out, const struct s3_provider_config *config,
			    struct loop *loop) __attribute__((warn_unused_result));

/* Nobody waits any more. Stops the thread, which takes as long as the request under way lets
 * go (it is told to). Accepts NULL. */
void s3_provider_free(struct s3_provider *provider);

/* The region that the configuration, AWS_REGION, AWS_DEFAULT_REGION or the profile names, or
 * NULL. Valid as long as the provider. Any thread. */
const char *s3_provider_region(const struct s3_provider *provider);

/*
 * The current snapshot, a reference of which is the caller's; NULL when there is none
 * or it has expired: s3_provider_wait(). Any thread; never blocks for I/O.
 */
struct s3_credentials *s3_provider_get(struct s3_provider *provider);

/* Whether s3_provider_get() would give other keys than @than. Any thread. */
bool s3_provider_has_others(struct s3_provider *provider, const struct s3_credentials *than);

/* Embedded in whoever waits. */
struct s3_provider_wait {
	/*
	 * On the loop, exactly once. @credentials: a reference that is the callee's, with
	 * @error 0; or NULL and -EACCES (nothing found, or refused), -EIO or -ETIMEDOUT (a
	 * source did not answer), -ENOMEM, -ECANCELED.
	 */
	void (*ready)(struct s3_provider_wait *wait, struct s3_credentials *credentials, int error);

	/* The caller's: it is not certain that the service refused the keys; should there be no
	 * others, then it was something else. */
	bool suspected;

	/* The provider's. */
	struct list link;
	struct loop_task task;
	struct s3_credentials *credentials, *refused;
	unsigned round; /* the look-up that was under way */
	int error;
};

/*
 * Answers with the current snapshot, or the one that the look-up under way or begun by this
 * finds. @refused (NULL: none) is a snapshot that the service did not take
 * (ExpiredToken, InvalidAccessKeyId): then with another one, or -EACCES when all that the sources
 * have is the same again. wait->ready is set. Never answers from within the call. Any thread.
 *
 * After a failure the next look-up is not before a second, growing to 30, passed; who waits
 * meanwhile gets the failure.
 */
void s3_provider_wait(struct s3_provider *provider, struct s3_provider_wait *wait,
		      struct s3_credentials *refused);

/* ready() comes soon, with -ECANCELED unless it has its answer. Any thread. */
void s3_provider_cancel(struct s3_provider *provider, struct s3_provider_wait *wait);

/* Why there are no keys: what was tried and why each gave none. NULL when the last look-up
 * succeeded or none was made. The caller's to free. Any thread. */
struct err *s3_provider_error(struct s3_provider *provider) __attribute__((warn_unused_result));

#endif
