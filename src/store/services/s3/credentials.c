/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of keys; who makes them is in provider.c. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "store/services/s3/credentials.h"

/* Copies @src (NULL: nothing) behind what is there and moves on. */
static const char *append(char **at, const char *src)
{
	char *copy = *at;

	if (!src)
		return NULL;
	*at = stpcpy(copy, src) + 1;
	return copy;
}

struct s3_credentials *s3_credentials_new(const char *access_key_id, const char *secret_access_key,
					  const char *session_token, int64_t expires_ns,
					  const char *source)
{
	const char *id = access_key_id ? access_key_id : "";
	const char *secret = secret_access_key ? secret_access_key : "";
	const char *token = session_token && *session_token ? session_token : NULL;
	struct s3_credentials *c;
	size_t size;
	char *at;

	size = sizeof(*c) + strlen(id) + 1 + strlen(secret) + 1 + (token ? strlen(token) + 1 : 0);
	c = calloc(1, size);
	if (!c)
		return NULL;
	at = (char *)(c + 1);
	c->anonymous = !access_key_id;
	c->access_key_id = append(&at, id);
	c->secret_access_key = append(&at, secret);
	c->session_token = append(&at, token);
	c->expires_ns = expires_ns;
	c->source = source;
	c->size = size;
	atomic_init(&c->refs, 1);
	return c;
}

struct s3_credentials *s3_credentials_get(struct s3_credentials *credentials)
{
	atomic_fetch_add_explicit(&credentials->refs, 1, memory_order_relaxed);
	return credentials;
}

void s3_credentials_put(struct s3_credentials *credentials)
{
	if (!credentials ||
	    atomic_fetch_sub_explicit(&credentials->refs, 1, memory_order_acq_rel) != 1)
		return;
	OPENSSL_cleanse(credentials, credentials->size);
	free(credentials);
}
