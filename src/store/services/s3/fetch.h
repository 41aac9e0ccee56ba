/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request, waited for: how the provider of keys asks the metadata services
 * and STS. Answers are short and secret: kept in memory that is wiped.
 *
 * Blocks the calling thread until the answer, a time-out, or *@stop.
 */
#ifndef OVFS_STORE_SERVICES_S3_FETCH_H
#define OVFS_STORE_SERVICES_S3_FETCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define S3_FETCH_BODY_MAX (256 << 10) /* bytes of an answer */
#define S3_FETCH_ERROR_MAX 256	      /* with the NUL */

struct s3_fetch {
	const char *method;		   /* "GET", "PUT", "POST" */
	const char *url;		   /* sent unchanged */
	const char *const *headers;	   /* "Name: value", NULL at the end; or NULL */
	const char *body;		   /* or NULL */
	unsigned connect_timeout_ms;	   /* name, TCP, TLS */
	unsigned timeout_ms;		   /* all of it */
	bool direct;			   /* past any proxy of the environment */
	void (*configure)(void *, void *); /* of the CURL handle; or NULL */
	void *configure_arg;		   /* its second argument */
	const _Atomic bool *stop;	   /* looked at about once a second */
};

struct s3_fetched {
	long status; /* HTTP */
	char *body;  /* NUL-terminated; never NULL after success */
	size_t len, size;
	char error[S3_FETCH_ERROR_MAX]; /* what went wrong, for people */
};

/* 0: there is an answer, whatever its status. -ETIMEDOUT, -ECANCELED (*@stop), -ENOMEM, or
 * -EIO. s3_fetched_free() in any case. */
int s3_fetch(const struct s3_fetch *fetch, struct s3_fetched *out);

void s3_fetched_free(struct s3_fetched *out);

/* Host (with the port unless it is the scheme's) and path ("/" when empty) of an http or https
 * URL, into malloc()ed strings. False when @url is none, or names a user. @host_only (may
 * be NULL): without the port and the brackets of IPv6. */
bool s3_url_split(const char *url, bool *tls, char **host, char **host_only, char **path);

#endif
