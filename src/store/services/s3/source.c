/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "store/services/s3/date.h"
#include "store/services/s3/source.h"

#define ROLE_DURATION_MIN_S 900	  /* of STS */
#define ROLE_DURATION_MAX_S 43200 /* of STS */

const char *const s3_env_names[S3_ENV_COUNT] = {
	[S3_ENV_ACCESS_KEY_ID] = "AWS_ACCESS_KEY_ID",
	[S3_ENV_SECRET_ACCESS_KEY] = "AWS_SECRET_ACCESS_KEY",
	[S3_ENV_SESSION_TOKEN] = "AWS_SESSION_TOKEN",
	[S3_ENV_PROFILE] = "AWS_PROFILE",
	[S3_ENV_CREDENTIALS_FILE] = "AWS_SHARED_CREDENTIALS_FILE",
	[S3_ENV_CONFIG_FILE] = "AWS_CONFIG_FILE",
	[S3_ENV_REGION] = "AWS_REGION",
	[S3_ENV_DEFAULT_REGION] = "AWS_DEFAULT_REGION",
	[S3_ENV_ROLE_ARN] = "AWS_ROLE_ARN",
	[S3_ENV_ROLE_SESSION_NAME] = "AWS_ROLE_SESSION_NAME",
	[S3_ENV_WEB_IDENTITY_TOKEN_FILE] = "AWS_WEB_IDENTITY_TOKEN_FILE",
	[S3_ENV_CONTAINER_RELATIVE_URI] = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	[S3_ENV_CONTAINER_FULL_URI] = "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	[S3_ENV_CONTAINER_TOKEN] = "AWS_CONTAINER_AUTHORIZATION_TOKEN",
	[S3_ENV_CONTAINER_TOKEN_FILE] = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	[S3_ENV_METADATA_DISABLED] = "AWS_EC2_METADATA_DISABLED",
	[S3_ENV_METADATA_ENDPOINT] = "AWS_EC2_METADATA_SERVICE_ENDPOINT",
	[S3_ENV_METADATA_ENDPOINT_MODE] = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
	[S3_ENV_IGNORE_ENDPOINT_URLS] = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
	[S3_ENV_ENDPOINT_URL_STS] = "AWS_ENDPOINT_URL_STS",
	[S3_ENV_ENDPOINT_URL] = "AWS_ENDPOINT_URL",
	[S3_ENV_HOME] = "HOME",
};

/* ---- Settings. ---- */

/* NULL for what is not set; *@failed when memory is out. */
static char *copy_set(const char *text, bool *failed)
{
	char *copy;

	if (!text || !*text)
		return NULL;
	copy = strdup(text);
	if (!copy)
		*failed = true;
	return copy;
}

static bool copy_config(struct s3_sources *s, const struct s3_provider_config *c)
{
	bool failed = false;

	s->profile = copy_set(c->profile, &failed);
	s->access_key_id = copy_set(c->access_key_id, &failed);
	s->secret_access_key = copy_set(c->secret_access_key, &failed);
	s->session_token = copy_set(c->session_token, &failed);
	s->role_arn = copy_set(c->role_arn, &failed);
	s->external_id = copy_set(c->external_id, &failed);
	s->role_session_name = copy_set(c->role_session_name, &failed);
	s->region = copy_set(c->region, &failed);
	s->role_duration_s = c->assume_role_duration_seconds;
	s->disable_config_load = c->disable_config_load;
	s->disable_ec2_metadata = c->disable_ec2_metadata;
	s->allow_anonymous = c->allow_anonymous;
	s->configure = c->configure;
	s->configure_arg = c->configure_arg;
	for (size_t i = 0; i < S3_ENV_COUNT && !c->disable_config_load; i++)
		s->env[i] = copy_set(getenv(s3_env_names[i]), &failed);
	return !failed;
}

static struct err *check_config(const struct s3_sources *s)
{
	if (s->access_key_id && !s->secret_access_key)
		return err_new("access_key_id is set without secret_access_key");
	if (s->secret_access_key && !s->access_key_id)
		return err_new("secret_access_key is set without access_key_id");
	if (s->session_token && !s->access_key_id)
		return err_new("session_token is set without access_key_id");
	if (s->profile && s->access_key_id)
		return err_new("both profile and access_key_id are set: keep one");
	if (s->profile && s->disable_config_load)
		return err_new("profile is set, but disable_config_load forbids to read it");
	if (!s->role_arn && (s->external_id || s->role_session_name || s->role_duration_s))
		return err_new("external_id, role_session_name and assume_role_duration_seconds "
			       "mean nothing without role_arn");
	if (s->role_duration_s &&
	    (s->role_duration_s < ROLE_DURATION_MIN_S || s->role_duration_s > ROLE_DURATION_MAX_S))
		return err_new("assume_role_duration_seconds is %u: it must be between %u and %u",
			       s->role_duration_s, ROLE_DURATION_MIN_S, ROLE_DURATION_MAX_S);
	return NULL;
}

/* @path, with "~/" at its front as the home folder; or @fallback in the home folder. */
static int file_init(struct s3_secret_file *file, const struct s3_sources *s, const char *path,
		     const char *fallback)
{
	const char *home = s->env[S3_ENV_HOME], *below = fallback;
	const struct passwd *entry;
	char *full = NULL;
	int ret;

	if (path && strncmp(path, "~/", 2) != 0)
		return s3_secret_file_init(file, path);
	if (path)
		below = path + 2;
	if (!home) {
		/* Services are often started without HOME. */
		entry = getpwuid(geteuid());
		home = entry ? entry->pw_dir : "";
	}
	if (asprintf(&full, "%s/%s", home, below) < 0)
		return -ENOMEM;
	ret = s3_secret_file_init(file, full);
	free(full);
	return ret;
}

static int files_init(struct s3_sources *s)
{
	const char *token = s->env[S3_ENV_CONTAINER_TOKEN_FILE];
	const char *identity = s->env[S3_ENV_WEB_IDENTITY_TOKEN_FILE];
	int ret;

	if (s->disable_config_load)
		return 0;
	ret = file_init(&s->credentials_file, s, s->env[S3_ENV_CREDENTIALS_FILE],
			".aws/credentials");
	if (ret == 0)
		ret = file_init(&s->config_file, s, s->env[S3_ENV_CONFIG_FILE], ".aws/config");
	if (ret == 0 && identity)
		ret = s3_secret_file_init(&s->web_identity_file, identity);
	if (ret == 0 && token)
		ret = s3_secret_file_init(&s->container_token_file, token);
	return ret;
}

static bool region_init(struct s3_sources *s)
{
	bool failed = false;

	if (!s->region)
		s->region = copy_set(s->env[S3_ENV_REGION], &failed);
	if (!s->region)
		s->region = copy_set(s->env[S3_ENV_DEFAULT_REGION], &failed);
	if (!s->region && !s->disable_config_load)
		s->region = s3_profile_region(s);
	return !failed;
}

struct err *s3_sources_init(struct s3_sources *s, const struct s3_provider_config *config)
{
	struct err *e;

	memset(s, 0, sizeof(*s));
	if (!copy_config(s, config))
		return err_errno(ENOMEM, "credentials");
	e = check_config(s);
	if (!e && (files_init(s) < 0 || !region_init(s)))
		e = err_errno(ENOMEM, "credentials");
	return e;
}

void s3_sources_destroy(struct s3_sources *s)
{
	char *owned[] = {
		s->profile,  s->access_key_id, s->secret_access_key, s->session_token,
		s->role_arn, s->external_id,   s->role_session_name, s->region,
	};

	for (size_t i = 0; i < ARRAY_SIZE(owned); i++)
		s3_secret_string_free(owned[i]);
	for (size_t i = 0; i < S3_ENV_COUNT; i++)
		s3_secret_string_free(s->env[i]);
	s3_secret_file_destroy(&s->credentials_file);
	s3_secret_file_destroy(&s->config_file);
	s3_secret_file_destroy(&s->web_identity_file);
	s3_secret_file_destroy(&s->container_token_file);
}

/* ---- The report. ---- */

static void report_add(struct s3_lookup *l, const char *fmt, va_list ap)
{
	struct s3_text *t = &l->report;
	size_t room, from;
	int len;

	if (t->len > 0)
		s3_text_add(t, "; ");
	room = t->size - t->len;
	len = vsnprintf(t->buf + t->len, room, fmt, ap);
	from = t->len;
	if (len > 0)
		t->len += MIN((size_t)len, room - 1);
	/* It goes into one line of the log, in quotes; a part may be what a server said. */
	for (size_t i = from; i < t->len; i++) {
		if ((unsigned char)t->buf[i] < 0x20)
			t->buf[i] = ' ';
		else if (t->buf[i] == '"')
			t->buf[i] = '\'';
	}
}

enum s3_outcome s3_nothing(struct s3_lookup *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report_add(l, fmt, ap);
	va_end(ap);
	return S3_NOTHING;
}

enum s3_outcome s3_failed(struct s3_lookup *l, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report_add(l, fmt, ap);
	va_end(ap);
	l->error = error;
	return S3_FAILED;
}

/* ---- What was found. ---- */

/* What may stand in a header: a line break in a key would forge one. */
static bool printable(const char *text)
{
	for (; text && *text; text++) {
		if ((unsigned char)*text <= 0x20 || (unsigned char)*text >= 0x7f)
			return false;
	}
	return true;
}

enum s3_outcome s3_found(struct s3_lookup *l, const char *source, const char *access_key_id,
			 const char *secret_access_key, const char *session_token,
			 const char *expires)
{
	int64_t expires_ns = 0;
	struct timespec now;

	if (!printable(access_key_id) || !printable(session_token))
		return s3_failed(l, -EACCES, "%s: the keys have blanks or control characters",
				 source);
	if (expires && !s3_time_parse_iso(expires, &expires_ns))
		return s3_failed(l, -EACCES, "%s: the keys expire at '%.40s', which is no time",
				 source, expires);
	clock_gettime(CLOCK_REALTIME, &now);
	if (expires && expires_ns / 1000000000 <= now.tv_sec)
		return s3_failed(l, -EACCES,
				 "%s: the keys have expired, at %.40s (or this clock is wrong)",
				 source, expires);
	l->found = s3_credentials_new(access_key_id, secret_access_key, session_token, expires_ns,
				      source);
	return l->found ? S3_FOUND : s3_failed(l, -ENOMEM, "%s: out of memory", source);
}

/* ---- The first two sources. ---- */

static enum s3_outcome source_configuration(struct s3_lookup *l)
{
	const struct s3_sources *s = l->sources;

	if (!s->access_key_id)
		return s3_nothing(l, "configuration: access_key_id is not set");
	return s3_found(l, "configuration", s->access_key_id, s->secret_access_key,
			s->session_token, NULL);
}

enum s3_outcome s3_source_environment(struct s3_lookup *l)
{
	char *const *env = l->sources->env;

	if (!env[S3_ENV_ACCESS_KEY_ID])
		return s3_nothing(l, "environment: AWS_ACCESS_KEY_ID is not set");
	if (!env[S3_ENV_SECRET_ACCESS_KEY])
		return s3_failed(l, -EACCES,
				 "environment: AWS_ACCESS_KEY_ID is set without "
				 "AWS_SECRET_ACCESS_KEY");
	return s3_found(l, "environment", env[S3_ENV_ACCESS_KEY_ID], env[S3_ENV_SECRET_ACCESS_KEY],
			env[S3_ENV_SESSION_TOKEN], NULL);
}

/* ---- The chain. ---- */

void s3_lookup_init(struct s3_lookup *l, const struct s3_sources *s)
{
	memset(l, 0, sizeof(*l));
	l->sources = s;
	s3_text_init(&l->report, l->report_buf, sizeof(l->report_buf));
}

/* A profile that the configuration names goes before the environment. */
static enum s3_outcome source_environment_unless_profile(struct s3_lookup *l)
{
	if (l->sources->profile)
		return s3_nothing(l, "environment: not asked, profile is set");
	return s3_source_environment(l);
}

static enum s3_outcome run_chain(struct s3_lookup *l)
{
	enum s3_outcome (*const from_settings[])(struct s3_lookup *) = {
		source_environment_unless_profile,
		s3_source_profile,
		s3_source_web_identity,
		s3_source_container,
	};
	enum s3_outcome outcome = source_configuration(l);

	if (outcome == S3_NOTHING && l->sources->disable_config_load)
		s3_nothing(l, "environment and profile files: disable_config_load is set");
	for (size_t i = 0; i < ARRAY_SIZE(from_settings); i++) {
		if (outcome == S3_NOTHING && !l->sources->disable_config_load)
			outcome = from_settings[i](l);
	}
	return outcome == S3_NOTHING ? s3_source_ec2(l) : outcome;
}

enum s3_outcome s3_lookup_run(struct s3_lookup *l)
{
	const struct s3_sources *s = l->sources;
	struct s3_role role = {
		.arn = s->role_arn,
		.session_name = s->role_session_name,
		.external_id = s->external_id,
		.duration_s = s->role_duration_s,
	};
	enum s3_outcome outcome = run_chain(l);

	if (outcome == S3_FOUND && s->role_arn)
		return s3_assume_role(l, &role, NULL);
	if (outcome != S3_NOTHING)
		return outcome;
	if (!l->error)
		l->error = -EACCES;
	if (!s->allow_anonymous || l->error == -ECANCELED)
		return S3_FAILED;
	l->found = s3_credentials_new(NULL, NULL, NULL, 0, "anonymous");
	return l->found ? S3_FOUND : s3_failed(l, -ENOMEM, "out of memory");
}

enum s3_outcome s3_lookup_at_hand(struct s3_lookup *l)
{
	enum s3_outcome outcome;

	if (l->sources->role_arn)
		return S3_NOTHING;
	outcome = source_configuration(l);
	if (outcome == S3_NOTHING && !l->sources->disable_config_load)
		outcome = source_environment_unless_profile(l);
	return outcome;
}
