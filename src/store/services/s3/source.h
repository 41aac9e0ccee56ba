/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sources of keys, and the order in which they are asked. Inside of the provider
 * (credentials.h); nobody else includes this.
 *
 *	source.c		settings, the chain, configuration, environment
 *	source_profile.c	profile files
 *	source_sts.c		roles: STS AssumeRole and AssumeRoleWithWebIdentity
 *	source_metadata.c	container and EC2 metadata services
 *
 * A source that is not set up gives S3_NOTHING, and the next one is asked. One that is set
 * up and does not work gives S3_FAILED, and that is the end: going on would silently take
 * another identity. Both leave a note in the report.
 *
 * struct s3_sources is made once and then read by the provider's thread alone, but @stop.
 */
#ifndef OVFS_STORE_SERVICES_S3_SOURCE_H
#define OVFS_STORE_SERVICES_S3_SOURCE_H

#include "base/err.h"
#include "store/services/s3/credentials.h"
#include "store/services/s3/fetch.h"
#include "store/services/s3/secret_file.h"
#include "store/services/s3/text.h"

#define S3_REPORT_MAX 3072

/* Variables that are looked at. */
enum s3_env {
	S3_ENV_ACCESS_KEY_ID,
	S3_ENV_SECRET_ACCESS_KEY,
	S3_ENV_SESSION_TOKEN,
	S3_ENV_PROFILE,
	S3_ENV_CREDENTIALS_FILE,
	S3_ENV_CONFIG_FILE,
	S3_ENV_REGION,
	S3_ENV_DEFAULT_REGION,
	S3_ENV_ROLE_ARN,
	S3_ENV_ROLE_SESSION_NAME,
	S3_ENV_WEB_IDENTITY_TOKEN_FILE,
	S3_ENV_CONTAINER_RELATIVE_URI,
	S3_ENV_CONTAINER_FULL_URI,
	S3_ENV_CONTAINER_TOKEN,
	S3_ENV_CONTAINER_TOKEN_FILE,
	S3_ENV_METADATA_DISABLED,
	S3_ENV_METADATA_ENDPOINT,
	S3_ENV_METADATA_ENDPOINT_MODE,
	S3_ENV_IGNORE_ENDPOINT_URLS,
	S3_ENV_ENDPOINT_URL_STS,
	S3_ENV_ENDPOINT_URL,
	S3_ENV_HOME,
	S3_ENV_COUNT,
};

extern const char *const s3_env_names[S3_ENV_COUNT];

struct s3_role {
	const char *arn;
	const char *session_name; /* NULL: one is made up */
	const char *external_id;  /* NULL: none */
	uint32_t duration_s;	  /* 0: an hour */
};

struct s3_sources {
	/* Of the configuration; owned, NULL when not set. */
	char *profile;
	char *access_key_id, *secret_access_key, *session_token;
	char *role_arn, *external_id, *role_session_name;
	uint32_t role_duration_s;
	bool disable_config_load, disable_ec2_metadata, allow_anonymous;
	void (*configure)(void *curl_easy, void *arg);
	void *configure_arg;

	/* All NULL with disable_config_load; empty ones are NULL. */
	char *env[S3_ENV_COUNT];

	struct s3_secret_file credentials_file, config_file;
	struct s3_secret_file web_identity_file, container_token_file;
	char *region; /* NULL: unknown */

	_Atomic bool stop; /* give up what is under way */
};

enum s3_outcome {
	S3_FOUND,
	S3_NOTHING,
	S3_FAILED,
};

/* One look-up. */
struct s3_lookup {
	const struct s3_sources *sources;
	struct s3_credentials *found; /* S3_FOUND: a reference */
	bool from_file;		      /* may change without a notice */
	int error;	       /* S3_FAILED: -EACCES, -EIO, -ETIMEDOUT, -ENOMEM, -ECANCELED */
	struct s3_text report; /* what was tried, "; " between */
	char report_buf[S3_REPORT_MAX];
};

/* Copies; reads environment and, for the region, the profile. s3_sources_destroy() in any
 * case. */
struct err *s3_sources_init(struct s3_sources *s, const struct s3_provider_config *config)
	__attribute__((warn_unused_result));
void s3_sources_destroy(struct s3_sources *s);

void s3_lookup_init(struct s3_lookup *l, const struct s3_sources *s);

/* Asks one after the other, then takes the role. Never S3_NOTHING: then nothing was found,
 * and S3_FAILED. With allow_anonymous, that is S3_FOUND of an anonymous snapshot. */
enum s3_outcome s3_lookup_run(struct s3_lookup *l);

/* The keys that need no asking: of configuration or environment, without a role. */
enum s3_outcome s3_lookup_at_hand(struct s3_lookup *l);

/* ---- For sources. ---- */

/* Adds to the report and returns S3_NOTHING. */
enum s3_outcome s3_nothing(struct s3_lookup *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Adds to the report and returns S3_FAILED with @error. */
enum s3_outcome s3_failed(struct s3_lookup *l, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Makes the snapshot: S3_FOUND, or S3_FAILED when it is expired, has a byte that no
 * key has, or memory is out. @expires: ISO 8601, or NULL for never. */
enum s3_outcome s3_found(struct s3_lookup *l, const char *source, const char *access_key_id,
			 const char *secret_access_key, const char *session_token,
			 const char *expires);

enum s3_outcome s3_source_environment(struct s3_lookup *l);
enum s3_outcome s3_source_profile(struct s3_lookup *l);
enum s3_outcome s3_source_web_identity(struct s3_lookup *l);
enum s3_outcome s3_source_container(struct s3_lookup *l);
enum s3_outcome s3_source_ec2(struct s3_lookup *l);

/* The name of the profile, and where it comes from. */
const char *s3_profile_name(const struct s3_sources *s);

/* The region that the profile names, into a malloc()ed string; NULL for none. */
char *s3_profile_region(const struct s3_sources *s);

/* Exchanges l->found for keys of @role. @region: NULL for that of the sources. */
enum s3_outcome s3_assume_role(struct s3_lookup *l, const struct s3_role *role, const char *region);

/* The same with the token in @file in place of keys. */
enum s3_outcome s3_assume_web_identity(struct s3_lookup *l, const struct s3_role *role,
				       const struct s3_secret_file *file, const char *region);

#endif
