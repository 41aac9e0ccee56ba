/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata services: that of a container (ECS, EKS Pod Identity) and that of an EC2 instance
 * (version 2 only: a session token first, so that a forwarded GET gets nothing). Both
 * answer with the same JSON.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <jansson.h>
#include <openssl/crypto.h>

#include "base/util.h"
#include "store/services/s3/source.h"

/* These are on the same machine, or not there at all. */
#define CONNECT_TIMEOUT_MS 1000
#define TIMEOUT_MS 5000

#define ECS_ORIGIN "http://169.254.170.2"
#define EC2_ORIGIN "http://169.254.169.254"
#define EC2_ORIGIN_IPV6 "http://[fd00:ec2::254]"
#define EC2_TOKEN_PATH "/latest/api/token"
#define EC2_KEYS_PATH "/latest/meta-data/iam/security-credentials/"
#define EC2_TOKEN_TTL "X-aws-ec2-metadata-token-ttl-seconds: 21600"

#define URL_MAX 1024
#define HEADER_MAX 8192

/* ---- Both. ---- */

static int metadata_get(struct s3_lookup *l, const char *method, const char *url,
			const char *header, struct s3_fetched *fetched)
{
	const char *const headers[] = { header, NULL };
	const struct s3_fetch fetch = {
		.method = method,
		.url = url,
		.headers = headers,
		.connect_timeout_ms = CONNECT_TIMEOUT_MS,
		.timeout_ms = TIMEOUT_MS,
		.direct = true,
		.stop = &l->sources->stop,
	};

	return s3_fetch(&fetch, fetched);
}

/* jansson frees without wiping. */
static void json_wipe(json_t *object)
{
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value)
	{
		if (json_is_string(value))
			OPENSSL_cleanse((char *)json_string_value(value),
					json_string_length(value));
	}
	json_decref(object);
}

static const char *json_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text && *text ? text : NULL;
}

static enum s3_outcome answer_use(struct s3_lookup *l, const char *source, const char *url,
				  const struct s3_fetched *fetched)
{
	json_t *object = json_loadb(fetched->body, fetched->len, 0, NULL);
	const char *code = json_text(object, "Code"), *id = json_text(object, "AccessKeyId");
	const char *secret = json_text(object, "SecretAccessKey");
	const char *message = json_text(object, "Message");
	enum s3_outcome outcome;

	if (!json_is_object(object))
		outcome = s3_failed(l, -EIO, "%s: %s did not answer with JSON", source, url);
	else if (code && strcmp(code, "Success") != 0)
		outcome = s3_failed(l, -EACCES, "%s: %s answered %.128s: %.256s", source, url, code,
				    message ? message : "");
	else if (!id || !secret)
		outcome = s3_failed(l, -EIO, "%s: the answer of %s has no keys", source, url);
	else
		outcome = s3_found(l, source, id, secret, json_text(object, "Token"),
				   json_text(object, "Expiration"));
	json_wipe(object);
	return outcome;
}

static enum s3_outcome status_failed(struct s3_lookup *l, const char *source, const char *url,
				     const struct s3_fetched *fetched)
{
	return s3_failed(l, fetched->status >= 400 && fetched->status < 500 ? -EACCES : -EIO,
			 "%s: %s answered HTTP %ld", source, url, fetched->status);
}

/* GETs keys from @url. */
static enum s3_outcome keys_get(struct s3_lookup *l, const char *source, const char *url,
				const char *header)
{
	struct s3_fetched fetched;
	enum s3_outcome outcome;
	int ret;

	ret = metadata_get(l, "GET", url, header, &fetched);
	if (ret < 0)
		outcome = s3_failed(l, ret, "%s: %s: %s", source, url, fetched.error);
	else if (fetched.status != 200)
		outcome = status_failed(l, source, url, &fetched);
	else
		outcome = answer_use(l, source, url, &fetched);
	s3_fetched_free(&fetched);
	return outcome;
}

/* ---- Containers. ---- */

/* The token must not go over the network in the clear: this machine, or where Amazon puts
 * its agents. */
static bool host_trusted(const char *host)
{
	static const char *const agents[] = { "169.254.170.2", "169.254.170.23", "fd00:ec2::23" };
	struct in6_addr six;
	struct in_addr four;

	if (!strcasecmp(host, "localhost"))
		return true;
	if (inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127)
		return true;
	if (inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(agents); i++) {
		if (!strcasecmp(host, agents[i]))
			return true;
	}
	return false;
}

static bool url_trusted(const char *url)
{
	char *host, *name, *path;
	bool tls, trusted;

	if (!s3_url_split(url, &tls, &host, &name, &path))
		return false;
	trusted = tls || host_trusted(name);
	free(host);
	free(name);
	free(path);
	return trusted;
}

/* "Authorization: TOKEN" into @header; "" when there is none. */
static enum s3_outcome container_header(struct s3_lookup *l, char header[static HEADER_MAX])
{
	const struct s3_sources *s = l->sources;
	const struct s3_secret_file *file = &s->container_token_file;
	char *text = NULL;
	size_t size = 0;
	int ret, len = 0;

	header[0] = '\0';
	if (file->path) {
		ret = s3_secret_file_read(file, &text, &size);
		if (ret < 0)
			return s3_failed(l, -EACCES, "container: %s: %s", file->path,
					 strerror(-ret));
		text[strcspn(text, "\r\n")] = '\0';
		len = snprintf(header, HEADER_MAX, "Authorization: %s", text);
		s3_secret_free(text, size);
	} else if (s->env[S3_ENV_CONTAINER_TOKEN]) {
		len = snprintf(header, HEADER_MAX, "Authorization: %s",
			       s->env[S3_ENV_CONTAINER_TOKEN]);
	}
	/* A line break would forge a header. */
	if (len >= HEADER_MAX || strpbrk(header, "\r\n"))
		return s3_failed(l, -EACCES,
				 "container: the authorization token is too long or "
				 "has a line break");
	return S3_FOUND;
}

enum s3_outcome s3_source_container(struct s3_lookup *l)
{
	const char *relative = l->sources->env[S3_ENV_CONTAINER_RELATIVE_URI];
	const char *full = l->sources->env[S3_ENV_CONTAINER_FULL_URI];
	char url[URL_MAX], header[HEADER_MAX];
	enum s3_outcome outcome;
	int len;

	if (!relative && !full)
		return s3_nothing(l, "container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and "
				     "AWS_CONTAINER_CREDENTIALS_FULL_URI are not set");
	len = relative ? snprintf(url, sizeof(url), ECS_ORIGIN "%s", relative)
		       : snprintf(url, sizeof(url), "%s", full);
	if (len < 0 || (size_t)len >= sizeof(url) || (relative && *relative != '/'))
		return s3_failed(l, -EACCES, "container: '%.80s' is no path",
				 relative ? relative : full);
	if (!url_trusted(url))
		return s3_failed(l, -EACCES, "container: '%s' is neither https nor on this machine",
				 url);
	outcome = container_header(l, header);
	if (outcome == S3_FOUND)
		outcome = keys_get(l, "container", url, *header ? header : NULL);
	OPENSSL_cleanse(header, sizeof(header));
	return outcome;
}

/* ---- EC2. ---- */

static const char *ec2_origin(const struct s3_sources *s)
{
	const char *mode = s->env[S3_ENV_METADATA_ENDPOINT_MODE];

	if (s->env[S3_ENV_METADATA_ENDPOINT])
		return s->env[S3_ENV_METADATA_ENDPOINT];
	return mode && !strcasecmp(mode, "IPv6") ? EC2_ORIGIN_IPV6 : EC2_ORIGIN;
}

/* One line of text, such as a token or a name, from the metadata service. S3_NOTHING when it is
 * not there, or there is none. */
static enum s3_outcome ec2_line(struct s3_lookup *l, const char *method, const char *url,
				const char *header, char *line, size_t size)
{
	struct s3_fetched fetched;
	enum s3_outcome outcome = S3_FOUND;
	size_t len;
	int ret;

	ret = metadata_get(l, method, url, header, &fetched);
	if (ret < 0) {
		outcome = s3_nothing(l, "ec2: %s: %s", url, fetched.error);
		l->error = ret;
	} else if (fetched.status == 404 || fetched.status == 403) {
		outcome = s3_nothing(l, "ec2: %s answered HTTP %ld", url, fetched.status);
	} else if (fetched.status != 200) {
		outcome = status_failed(l, "ec2", url, &fetched);
	} else {
		len = strcspn(fetched.body, "\r\n");
		if (len == 0 || len >= size)
			outcome = s3_failed(l, -EIO, "ec2: the answer of %s makes no sense", url);
		else
			snprintf(line, size, "%.*s", (int)len, fetched.body);
	}
	s3_fetched_free(&fetched);
	return outcome;
}

/* The role of the instance, then its keys. */
static enum s3_outcome ec2_keys(struct s3_lookup *l, const char *origin, const char *header)
{
	char url[URL_MAX], role[256], encoded[3 * sizeof(role)];
	enum s3_outcome outcome;
	struct s3_text t;

	snprintf(url, sizeof(url), "%s" EC2_KEYS_PATH, origin);
	outcome = ec2_line(l, "GET", url, header, role, sizeof(role));
	if (outcome == S3_NOTHING && !l->error)
		return s3_nothing(l, "ec2: the instance has no role");
	if (outcome != S3_FOUND)
		return S3_FAILED; /* it was there a moment ago */
	s3_text_init(&t, encoded, sizeof(encoded));
	s3_text_encoded(&t, role, false);
	if (snprintf(url, sizeof(url), "%s" EC2_KEYS_PATH "%s", origin, encoded) >=
	    (int)sizeof(url))
		return s3_failed(l, -EIO, "ec2: the name of the role is too long");
	return keys_get(l, "ec2", url, header);
}

enum s3_outcome s3_source_ec2(struct s3_lookup *l)
{
	const struct s3_sources *s = l->sources;
	const char *off = s->env[S3_ENV_METADATA_DISABLED], *configured = ec2_origin(s);
	char origin[URL_MAX / 2], url[URL_MAX], token[HEADER_MAX / 2], header[HEADER_MAX];
	enum s3_outcome outcome;
	size_t len;

	if (s->disable_ec2_metadata)
		return s3_nothing(l, "ec2: disable_ec2_metadata is set");
	if (off && !strcasecmp(off, "true"))
		return s3_nothing(l, "ec2: AWS_EC2_METADATA_DISABLED is set");
	len = strlen(configured);
	while (len > 0 && configured[len - 1] == '/')
		len--;
	if (len >= sizeof(origin))
		return s3_failed(l, -EACCES, "ec2: AWS_EC2_METADATA_SERVICE_ENDPOINT is too long");
	snprintf(origin, sizeof(origin), "%.*s", (int)len, configured);

	snprintf(url, sizeof(url), "%s" EC2_TOKEN_PATH, origin);
	outcome = ec2_line(l, "PUT", url, EC2_TOKEN_TTL, token, sizeof(token));
	if (outcome == S3_FOUND) {
		snprintf(header, sizeof(header), "X-aws-ec2-metadata-token: %s", token);
		outcome = ec2_keys(l, origin, header);
		OPENSSL_cleanse(header, sizeof(header));
		OPENSSL_cleanse(token, sizeof(token));
	}
	return outcome;
}
