/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roles: the Security Token Service (API version 2011-06-15), AssumeRole signed with the
 * keys found so far, and AssumeRoleWithWebIdentity with a token that somebody keeps fresh in
 * a file. One POST each; the answer is a small XML document.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <expat.h>
#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "store/services/s3/sign.h"
#include "store/services/s3/source.h"

#define CONNECT_TIMEOUT_MS 5000
#define TIMEOUT_MS 15000
#define FORM_MAX                                                                                   \
	(128 << 10)	 /* a web identity token has up to 20000 bytes, encoded thrice as many */
#define HEADER_MAX 20480 /* one with a session token */
#define ROLE_DURATION_S 3600
#define SESSION_NAME "ovfs"

/* ---- The answer. ---- */

enum field {
	FIELD_ACCESS_KEY_ID,
	FIELD_SECRET_ACCESS_KEY,
	FIELD_SESSION_TOKEN,
	FIELD_EXPIRATION,
	FIELD_CODE,
	FIELD_MESSAGE,
	FIELD_COUNT,
};

static const struct {
	const char *parent, *name;
} fields[FIELD_COUNT] = {
	[FIELD_ACCESS_KEY_ID] = { "Credentials", "AccessKeyId" },
	[FIELD_SECRET_ACCESS_KEY] = { "Credentials", "SecretAccessKey" },
	[FIELD_SESSION_TOKEN] = { "Credentials", "SessionToken" },
	[FIELD_EXPIRATION] = { "Credentials", "Expiration" },
	[FIELD_CODE] = { "Error", "Code" },
	[FIELD_MESSAGE] = { "Error", "Message" },
};

struct answer {
	XML_Parser parser;
	const char *parent;	 /* of fields, the one that is open; or NULL */
	struct s3_text *current; /* the field that is open; or NULL */
	struct s3_text field[FIELD_COUNT];
	char access_key_id[256], secret_access_key[S3_SIGN_SECRET_MAX], session_token[16384];
	char expiration[64], code[128], message[512];
};

static void answer_init(struct answer *a)
{
	memset(a, 0, sizeof(*a));
	s3_text_init(&a->field[FIELD_ACCESS_KEY_ID], a->access_key_id, sizeof(a->access_key_id));
	s3_text_init(&a->field[FIELD_SECRET_ACCESS_KEY], a->secret_access_key,
		     sizeof(a->secret_access_key));
	s3_text_init(&a->field[FIELD_SESSION_TOKEN], a->session_token, sizeof(a->session_token));
	s3_text_init(&a->field[FIELD_EXPIRATION], a->expiration, sizeof(a->expiration));
	s3_text_init(&a->field[FIELD_CODE], a->code, sizeof(a->code));
	s3_text_init(&a->field[FIELD_MESSAGE], a->message, sizeof(a->message));
}

static void XMLCALL element_start(void *arg, const char *name, const char **attributes)
{
	struct answer *a = arg;

	(void)attributes;
	a->current = NULL;
	for (size_t i = 0; i < FIELD_COUNT; i++) {
		if (!strcmp(name, fields[i].parent))
			a->parent = fields[i].parent;
		else if (a->parent && !strcmp(a->parent, fields[i].parent) &&
			 !strcmp(name, fields[i].name))
			a->current = &a->field[i];
	}
}

static void XMLCALL element_end(void *arg, const char *name)
{
	struct answer *a = arg;

	a->current = NULL;
	if (a->parent && !strcmp(name, a->parent))
		a->parent = NULL;
}

static void XMLCALL element_text(void *arg, const char *text, int len)
{
	struct answer *a = arg;

	if (a->current)
		s3_text_bytes(a->current, text, (size_t)len);
}

/* No answer of STS has one, and entities could make it grow without end. */
static void XMLCALL doctype_start(void *arg, const char *name, const char *system_id,
				  const char *public_id, int internal)
{
	struct answer *a = arg;

	(void)name;
	(void)system_id;
	(void)public_id;
	(void)internal;
	XML_StopParser(a->parser, XML_FALSE);
}

static bool answer_parse(struct answer *a, const char *text, size_t len)
{
	enum XML_Status status;

	a->parser = XML_ParserCreate(NULL);
	if (!a->parser)
		return false;
	XML_SetUserData(a->parser, a);
	XML_SetElementHandler(a->parser, element_start, element_end);
	XML_SetCharacterDataHandler(a->parser, element_text);
	XML_SetStartDoctypeDeclHandler(a->parser, doctype_start);
	status = XML_Parse(a->parser, text, (int)len, 1);
	XML_ParserFree(a->parser);
	return status == XML_STATUS_OK;
}

static bool answer_has_keys(const struct answer *a)
{
	/* A key cut short is none; a message may be. */
	for (size_t i = FIELD_ACCESS_KEY_ID; i <= FIELD_EXPIRATION; i++) {
		if (a->field[i].len == 0 || a->field[i].full)
			return false;
	}
	return true;
}

static enum s3_outcome answer_use(struct s3_lookup *l, const char *source, const char *url,
				  const struct s3_fetched *fetched)
{
	struct answer *a = malloc(sizeof(*a));
	enum s3_outcome outcome;
	bool parsed;

	if (!a)
		return s3_failed(l, -ENOMEM, "%s: out of memory", source);
	answer_init(a);
	parsed = answer_parse(a, fetched->body, fetched->len);
	if (fetched->status == 200 && parsed && answer_has_keys(a))
		outcome = s3_found(l, source, a->access_key_id, a->secret_access_key,
				   a->session_token, a->expiration);
	else if (parsed && a->field[FIELD_CODE].len > 0)
		outcome = s3_failed(l, fetched->status >= 500 ? -EIO : -EACCES,
				    "%s: %s answered %s: %s (HTTP %ld)", source, url, a->code,
				    a->message, fetched->status);
	else
		outcome = s3_failed(l, -EIO, "%s: %s answered HTTP %ld without keys", source, url,
				    fetched->status);
	OPENSSL_cleanse(a, sizeof(*a));
	free(a);
	return outcome;
}

/* ---- The request. ---- */

struct call {
	const char *source; /* for messages */
	const char *region;
	char *url;
	char *host, *path;
	char *form; /* the body */
	struct s3_text body;
};

static bool region_valid(const char *region)
{
	return *region && strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(region);
}

/* Regional, as the SDKs have it since 2022; without a region the global one, which signs as
 * us-east-1. */
static char *endpoint_url(const struct s3_sources *s, const char *region)
{
	const char *given = NULL, *ignore = s->env[S3_ENV_IGNORE_ENDPOINT_URLS];
	bool china = region && !strncmp(region, "cn-", 3);
	char *url = NULL;
	int ret;

	if (!ignore || strcasecmp(ignore, "true") != 0)
		given = s->env[S3_ENV_ENDPOINT_URL_STS] ? s->env[S3_ENV_ENDPOINT_URL_STS]
							: s->env[S3_ENV_ENDPOINT_URL];
	if (given)
		return strdup(given);
	if (!region)
		return strdup("https://sts.amazonaws.com");
	ret = asprintf(&url, "https://sts.%s.amazonaws.com%s", region, china ? ".cn" : "");
	return ret < 0 ? NULL : url;
}

static void call_free(struct call *c)
{
	free(c->url);
	free(c->host);
	free(c->path);
	s3_secret_free(c->form, FORM_MAX);
}

static enum s3_outcome call_init(struct s3_lookup *l, struct call *c, const char *region)
{
	bool tls;

	if (!region)
		region = l->sources->region;
	if (region && !region_valid(region))
		return s3_failed(l, -EACCES, "%s: '%s' is no region", c->source, region);
	c->region = region ? region : "us-east-1";
	c->form = malloc(FORM_MAX);
	c->url = endpoint_url(l->sources, region);
	if (!c->form || !c->url)
		return s3_failed(l, -ENOMEM, "%s: out of memory", c->source);
	if (strpbrk(c->url, "?#") || !s3_url_split(c->url, &tls, &c->host, NULL, &c->path))
		return s3_failed(l, -EACCES, "%s: '%s' is no endpoint for STS", c->source, c->url);
	s3_text_init(&c->body, c->form, FORM_MAX);
	return S3_FOUND;
}

/* @value NULL: left out. */
static void form_add(struct call *c, const char *name, const char *value)
{
	if (!value)
		return;
	if (c->body.len > 0)
		s3_text_byte(&c->body, '&');
	s3_text_add(&c->body, name);
	s3_text_byte(&c->body, '=');
	s3_text_encoded(&c->body, value, false);
}

static void form_add_role(struct call *c, const char *action, const struct s3_role *role)
{
	char duration[16];

	snprintf(duration, sizeof(duration), "%u",
		 role->duration_s ? role->duration_s : ROLE_DURATION_S);
	form_add(c, "Action", action);
	form_add(c, "Version", "2011-06-15");
	form_add(c, "RoleArn", role->arn);
	form_add(c, "RoleSessionName", role->session_name ? role->session_name : SESSION_NAME);
	form_add(c, "DurationSeconds", duration);
	form_add(c, "ExternalId", role->external_id);
}

static enum s3_outcome call_send(struct s3_lookup *l, const struct call *c,
				 const char *const *headers)
{
	const struct s3_fetch fetch = {
		.method = "POST",
		.url = c->url,
		.headers = headers,
		.body = c->form,
		.connect_timeout_ms = CONNECT_TIMEOUT_MS,
		.timeout_ms = TIMEOUT_MS,
		.configure = l->sources->configure,
		.configure_arg = l->sources->configure_arg,
		.stop = &l->sources->stop,
	};
	struct s3_fetched fetched;
	enum s3_outcome outcome;
	int ret;

	if (c->body.full)
		return s3_failed(l, -EACCES, "%s: the request is too long", c->source);
	ret = s3_fetch(&fetch, &fetched);
	if (ret < 0)
		outcome = s3_failed(l, ret, "%s: %s: %s", c->source, c->url, fetched.error);
	else
		outcome = answer_use(l, c->source, c->url, &fetched);
	s3_fetched_free(&fetched);
	return outcome;
}

static const char content_type[] = "application/x-www-form-urlencoded; charset=utf-8";

/* The headers of a signed request, each in memory to be wiped. */
struct signed_headers {
	char host[512], type[128], date[64], authorization[S3_SIGN_AUTH_MAX + 32];
	char token[HEADER_MAX];
	const char *list[6];
};

static bool headers_make(struct signed_headers *h, const struct call *c,
			 const struct s3_sign_result *r)
{
	size_t n = 0;
	int token = 0;

	if (r->security_token)
		token = snprintf(h->token, sizeof(h->token), "X-Amz-Security-Token: %s",
				 r->security_token);
	if (token < 0 || (size_t)token >= sizeof(h->token) ||
	    (size_t)snprintf(h->host, sizeof(h->host), "Host: %s", c->host) >= sizeof(h->host))
		return false;
	snprintf(h->type, sizeof(h->type), "Content-Type: %s", content_type);
	snprintf(h->date, sizeof(h->date), "X-Amz-Date: %s", r->date);
	snprintf(h->authorization, sizeof(h->authorization), "Authorization: %s", r->authorization);
	h->list[n++] = h->host;
	h->list[n++] = h->type;
	h->list[n++] = h->date;
	h->list[n++] = h->authorization;
	if (r->security_token)
		h->list[n++] = h->token;
	h->list[n] = NULL;
	return true;
}

static int call_sign(const struct call *c, const struct s3_credentials *keys,
		     struct s3_sign_result *result)
{
	const struct s3_sign_pair type = { "content-type", content_type };
	struct iovec body = { c->form, c->body.len };
	char hash[S3_SIGN_HASH_SIZE];
	const struct s3_sign_request request = {
		.method = "POST",
		.host = c->host,
		.path = c->path,
		.service = "sts",
		.region = c->region,
		.headers = &type,
		.header_count = 1,
		.payload_hash = hash,
		.now = time(NULL),
	};
	struct s3_signer *signer;
	int ret;

	ret = s3_signer_new(&signer);
	if (ret < 0)
		return ret;
	ret = s3_sign_payload_hash(signer, iov_cursor(&body, 1), SIZE_MAX, hash);
	if (ret == 0)
		ret = s3_sign(signer, keys, &request, result);
	s3_signer_free(signer);
	return ret;
}

static enum s3_outcome call_send_signed(struct s3_lookup *l, const struct call *c,
					const struct s3_credentials *keys)
{
	CLEANUP_FREE struct s3_sign_result *result = malloc(sizeof(*result));
	struct signed_headers *headers = malloc(sizeof(*headers));
	enum s3_outcome outcome;
	int ret;

	if (!headers || !result) {
		free(headers);
		return s3_failed(l, -ENOMEM, "%s: out of memory", c->source);
	}
	ret = call_sign(c, keys, result);
	if (ret == 0 && !headers_make(headers, c, result))
		ret = -ENAMETOOLONG;
	if (ret < 0)
		outcome = s3_failed(l, -EACCES, "%s: the request cannot be signed: %s", c->source,
				    strerror(-ret));
	else
		outcome = call_send(l, c, headers->list);
	OPENSSL_cleanse(headers, sizeof(*headers));
	free(headers);
	return outcome;
}

/* ---- The two ways. ---- */

enum s3_outcome s3_assume_role(struct s3_lookup *l, const struct s3_role *role, const char *region)
{
	struct call c = { .source = "role" };
	struct s3_credentials *base = l->found;
	enum s3_outcome outcome;

	l->found = NULL;
	outcome = call_init(l, &c, region);
	if (outcome == S3_FOUND) {
		form_add_role(&c, "AssumeRole", role);
		outcome = call_send_signed(l, &c, base);
	}
	if (outcome != S3_FOUND)
		s3_nothing(l, "that was role_arn '%s' with the keys %s of source %s", role->arn,
			   base->access_key_id, base->source);
	call_free(&c);
	s3_credentials_put(base);
	return outcome;
}

enum s3_outcome s3_assume_web_identity(struct s3_lookup *l, const struct s3_role *role,
				       const struct s3_secret_file *file, const char *region)
{
	static const char *const headers[] = {
		"Content-Type: application/x-www-form-urlencoded; charset=utf-8",
		NULL,
	};
	struct call c = { .source = "web identity" };
	enum s3_outcome outcome;
	char *token;
	size_t len;
	int ret;

	ret = s3_secret_file_read(file, &token, &len);
	if (ret < 0)
		return s3_failed(l, -EACCES, "%s: %s: %s", c.source, file->path, strerror(-ret));
	token[strcspn(token, "\r\n \t")] = '\0';
	outcome = call_init(l, &c, region);
	if (outcome == S3_FOUND && !*token)
		outcome = s3_failed(l, -EACCES, "%s: %s is empty", c.source, file->path);
	if (outcome == S3_FOUND) {
		form_add_role(&c, "AssumeRoleWithWebIdentity", role);
		form_add(&c, "WebIdentityToken", token);
		outcome = call_send(l, &c, headers);
	}
	call_free(&c);
	s3_secret_free(token, len);
	return outcome;
}

enum s3_outcome s3_source_web_identity(struct s3_lookup *l)
{
	char *const *env = l->sources->env;
	const struct s3_role role = {
		.arn = env[S3_ENV_ROLE_ARN],
		.session_name = env[S3_ENV_ROLE_SESSION_NAME],
	};

	if (!env[S3_ENV_WEB_IDENTITY_TOKEN_FILE])
		return s3_nothing(l, "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set");
	if (!role.arn)
		return s3_failed(l, -EACCES,
				 "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is set without "
				 "AWS_ROLE_ARN");
	return s3_assume_web_identity(l, &role, &l->sources->web_identity_file, NULL);
}
