/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiles: ~/.aws/credentials and ~/.aws/config, read anew for each look-up.
 *
 * A profile either has keys, or a role together with where the keys to assume it come from:
 * source_profile (another profile, which may have a role itself), credential_source, or
 * web_identity_token_file. Programs (credential_process) and browser log-ins (sso_*) are
 * refused by name: a daemon in a sandbox can do neither.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "store/services/s3/ini.h"
#include "store/services/s3/source.h"

#define ROLE_CHAIN_MAX 5 /* profiles that name one another */

enum property {
	ACCESS_KEY_ID,
	SECRET_ACCESS_KEY,
	SESSION_TOKEN,
	SECURITY_TOKEN, /* the same, older */
	ROLE_ARN,
	ROLE_SESSION_NAME,
	EXTERNAL_ID,
	DURATION_SECONDS,
	SOURCE_PROFILE,
	CREDENTIAL_SOURCE,
	WEB_IDENTITY_TOKEN_FILE,
	MFA_SERIAL,
	CREDENTIAL_PROCESS,
	SSO_SESSION,
	SSO_START_URL,
	REGION,
	PROPERTY_COUNT,
};

static const char *const property_names[PROPERTY_COUNT] = {
	[ACCESS_KEY_ID] = "aws_access_key_id",
	[SECRET_ACCESS_KEY] = "aws_secret_access_key",
	[SESSION_TOKEN] = "aws_session_token",
	[SECURITY_TOKEN] = "aws_security_token",
	[ROLE_ARN] = "role_arn",
	[ROLE_SESSION_NAME] = "role_session_name",
	[EXTERNAL_ID] = "external_id",
	[DURATION_SECONDS] = "duration_seconds",
	[SOURCE_PROFILE] = "source_profile",
	[CREDENTIAL_SOURCE] = "credential_source",
	[WEB_IDENTITY_TOKEN_FILE] = "web_identity_token_file",
	[MFA_SERIAL] = "mfa_serial",
	[CREDENTIAL_PROCESS] = "credential_process",
	[SSO_SESSION] = "sso_session",
	[SSO_START_URL] = "sso_start_url",
	[REGION] = "region",
};

struct profile {
	const char *name;
	bool exists;
	bool config; /* the file being read is the configuration file */
	bool no_memory;
	char *value[PROPERTY_COUNT]; /* NULL: not set, or empty */
};

/* ---- Reading. ---- */

static void profile_item(void *arg, const struct s3_ini_item *item)
{
	struct profile *p = arg;

	if (!s3_ini_is_profile(item->section, p->name, p->config))
		return;
	p->exists = true;
	for (size_t i = 0; i < PROPERTY_COUNT && item->name.at; i++) {
		if (!s3_ini_name_is(item->name, property_names[i]))
			continue;
		s3_secret_string_free(p->value[i]);
		p->value[i] = NULL;
		if (item->value.len == 0)
			continue;
		p->value[i] = strndup(item->value.at, item->value.len);
		if (!p->value[i])
			p->no_memory = true;
	}
}

/* Later files win over earlier ones. Negative errno of the file. */
static int profile_read(struct profile *p, const struct s3_secret_file *file, bool config)
{
	char *text;
	size_t len;
	int ret;

	ret = s3_secret_file_read(file, &text, &len);
	if (ret < 0)
		return ret;
	p->config = config;
	s3_ini_parse(text, len, profile_item, p);
	s3_secret_free(text, len);
	return 0;
}

static void profile_clear(struct profile *p)
{
	for (size_t i = 0; i < PROPERTY_COUNT; i++)
		s3_secret_string_free(p->value[i]);
}

const char *s3_profile_name(const struct s3_sources *s)
{
	if (s->profile)
		return s->profile;
	return s->env[S3_ENV_PROFILE] ? s->env[S3_ENV_PROFILE] : "default";
}

char *s3_profile_region(const struct s3_sources *s)
{
	struct profile p = { .name = s3_profile_name(s) };
	char *region = NULL;

	if (profile_read(&p, &s->config_file, true) == 0 && p.value[REGION])
		region = strdup(p.value[REGION]);
	profile_clear(&p);
	return region;
}

/* ---- Keys. ---- */

static enum s3_outcome profile_keys(struct s3_lookup *l, const struct profile *p)
{
	const char *token = p->value[SESSION_TOKEN];

	if (!p->value[ACCESS_KEY_ID] || !p->value[SECRET_ACCESS_KEY])
		return s3_failed(
			l, -EACCES, "profile '%s': %s is set without %s", p->name,
			property_names[p->value[ACCESS_KEY_ID] ? ACCESS_KEY_ID : SECRET_ACCESS_KEY],
			property_names[p->value[ACCESS_KEY_ID] ? SECRET_ACCESS_KEY
							       : ACCESS_KEY_ID]);
	l->from_file = true;
	return s3_found(l, "profile", p->value[ACCESS_KEY_ID], p->value[SECRET_ACCESS_KEY],
			token ? token : p->value[SECURITY_TOKEN], NULL);
}

static bool profile_has_keys(const struct profile *p)
{
	return p->value[ACCESS_KEY_ID] || p->value[SECRET_ACCESS_KEY];
}

static enum s3_outcome profile_resolve(struct s3_lookup *l, const char *name, unsigned depth);

/* credential_source: the keys of this machine. */
static enum s3_outcome named_source(struct s3_lookup *l, const struct profile *p)
{
	const char *source = p->value[CREDENTIAL_SOURCE];
	enum s3_outcome outcome;

	if (!strcmp(source, "Environment"))
		outcome = s3_source_environment(l);
	else if (!strcmp(source, "EcsContainer"))
		outcome = s3_source_container(l);
	else if (!strcmp(source, "Ec2InstanceMetadata"))
		outcome = s3_source_ec2(l);
	else
		return s3_failed(l, -EACCES,
				 "profile '%s': credential_source is '%s': it must be "
				 "Environment, EcsContainer or Ec2InstanceMetadata",
				 p->name, source);
	if (outcome != S3_NOTHING)
		return outcome;
	return s3_failed(l, -EACCES, "profile '%s': its credential_source has no keys", p->name);
}

/* What the role of @p is assumed with. */
static enum s3_outcome role_base(struct s3_lookup *l, const struct profile *p, unsigned depth)
{
	const char *source = p->value[SOURCE_PROFILE];

	if (source && p->value[CREDENTIAL_SOURCE])
		return s3_failed(l, -EACCES,
				 "profile '%s': both source_profile and credential_source are set",
				 p->name);
	if (p->value[CREDENTIAL_SOURCE])
		return named_source(l, p);
	if (!source)
		return s3_failed(l, -EACCES,
				 "profile '%s': role_arn is set without source_profile, "
				 "credential_source or web_identity_token_file",
				 p->name);
	if (!strcmp(source, p->name) && profile_has_keys(p))
		return profile_keys(l, p);
	if (depth == ROLE_CHAIN_MAX)
		return s3_failed(l, -EACCES,
				 "profile '%s': source_profile leads in a circle, or over more "
				 "than %d profiles",
				 p->name, ROLE_CHAIN_MAX);
	return profile_resolve(l, source, depth + 1);
}

/* False when there is one that is no number of seconds. */
static bool role_duration(const struct profile *p, uint32_t *seconds)
{
	const char *text = p->value[DURATION_SECONDS];
	unsigned long value;
	char *end;

	*seconds = 0;
	if (!text)
		return true;
	errno = 0;
	value = strtoul(text, &end, 10);
	*seconds = (uint32_t)value;
	return *end == '\0' && *text != '-' && errno == 0 && value > 0 && value <= UINT32_MAX;
}

static enum s3_outcome profile_role(struct s3_lookup *l, const struct profile *p, unsigned depth)
{
	struct s3_role role = {
		.arn = p->value[ROLE_ARN],
		.session_name = p->value[ROLE_SESSION_NAME],
		.external_id = p->value[EXTERNAL_ID],
	};
	struct s3_secret_file token = { 0 };
	enum s3_outcome outcome;

	if (p->value[MFA_SERIAL])
		return s3_failed(l, -EACCES,
				 "profile '%s': mfa_serial is not supported: nobody is there to "
				 "type the code",
				 p->name);
	if (!role_duration(p, &role.duration_s))
		return s3_failed(l, -EACCES, "profile '%s': duration_seconds is '%s'", p->name,
				 p->value[DURATION_SECONDS]);
	if (!p->value[WEB_IDENTITY_TOKEN_FILE]) {
		outcome = role_base(l, p, depth);
		return outcome == S3_FOUND ? s3_assume_role(l, &role, p->value[REGION]) : outcome;
	}
	if (s3_secret_file_init(&token, p->value[WEB_IDENTITY_TOKEN_FILE]) < 0)
		return s3_failed(l, -ENOMEM, "out of memory");
	outcome = s3_assume_web_identity(l, &role, &token, p->value[REGION]);
	s3_secret_file_destroy(&token);
	return outcome;
}

/* A profile that exists. */
static enum s3_outcome profile_use(struct s3_lookup *l, const struct profile *p, unsigned depth)
{
	if (p->value[ROLE_ARN])
		return profile_role(l, p, depth);
	if (profile_has_keys(p))
		return profile_keys(l, p);
	if (p->value[CREDENTIAL_PROCESS])
		return s3_failed(l, -EACCES,
				 "profile '%s': credential_process is not supported: ovfs starts "
				 "no programs",
				 p->name);
	if (p->value[SSO_SESSION] || p->value[SSO_START_URL])
		return s3_failed(l, -EACCES,
				 "profile '%s': sso is not supported: it needs a browser to log in",
				 p->name);
	return s3_nothing(l, "profile '%s': it has neither keys nor a role", p->name);
}

static const char *file_state(int ret)
{
	return ret == 0 ? "not in it" : strerror(-ret);
}

/* There, and probably meant for us, but not to be read now. */
static bool unreadable(int ret)
{
	return ret < 0 && ret != -ENOENT && ret != -ENOTDIR && ret != -EACCES;
}

static enum s3_outcome profile_resolve(struct s3_lookup *l, const char *name, unsigned depth)
{
	const struct s3_sources *s = l->sources;
	bool needed = depth > 0 || s->profile || s->env[S3_ENV_PROFILE];
	struct profile p = { .name = name };
	int config, credentials;
	enum s3_outcome outcome;

	config = profile_read(&p, &s->config_file, true);
	credentials = profile_read(&p, &s->credentials_file, false);
	needed = needed || unreadable(config) || unreadable(credentials);
	if (p.no_memory)
		outcome = s3_failed(l, -ENOMEM, "profile '%s': out of memory", name);
	else if (p.exists)
		outcome = profile_use(l, &p, depth);
	else
		outcome = s3_nothing(l, "profile '%s': %s: %s, %s: %s", name,
				     s->credentials_file.path, file_state(credentials),
				     s->config_file.path, file_state(config));
	if (outcome == S3_NOTHING && needed) {
		l->error = -EACCES;
		outcome = S3_FAILED;
	}
	profile_clear(&p);
	return outcome;
}

enum s3_outcome s3_source_profile(struct s3_lookup *l)
{
	return profile_resolve(l, s3_profile_name(l->sources), 0);
}
