/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <openssl/crypto.h>

#include "base/util.h"
#include "store/services/s3/fetch.h"
#include "store/services/s3/secret_file.h"

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_set_up(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* Moves to more room by hand: realloc() would leave the old copy behind. */
static bool body_grow(struct s3_fetched *out, size_t needed)
{
	size_t size = MAX(needed, MIN(2 * out->size, (size_t)S3_FETCH_BODY_MAX + 1));
	char *body = malloc(size);

	if (!body)
		return false;
	if (out->body)
		memcpy(body, out->body, out->len);
	s3_secret_free(out->body, out->size);
	out->body = body;
	out->size = size;
	return true;
}

static size_t body_write(char *data, size_t one, size_t len, void *arg)
{
	struct s3_fetched *out = arg;

	(void)one;
	if (len > S3_FETCH_BODY_MAX - out->len) {
		snprintf(out->error, sizeof(out->error), "the answer is longer than %d bytes",
			 S3_FETCH_BODY_MAX);
		return 0;
	}
	if (out->len + len + 1 > out->size && !body_grow(out, out->len + len + 1))
		return 0;
	memcpy(out->body + out->len, data, len);
	out->len += len;
	return len;
}

static int progress(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
		    curl_off_t ulnow)
{
	const struct s3_fetch *fetch = arg;

	(void)dltotal;
	(void)dlnow;
	(void)ultotal;
	(void)ulnow;
	return atomic_load(fetch->stop);
}

static struct curl_slist *header_list(const struct s3_fetch *fetch, bool *complete)
{
	/* No "Expect: 100-continue": it costs a round trip. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:"), *more;

	*complete = list != NULL;
	for (size_t i = 0; *complete && fetch->headers && fetch->headers[i]; i++) {
		more = curl_slist_append(list, fetch->headers[i]);
		*complete = more != NULL;
		list = more ? more : list;
	}
	return list;
}

static void header_list_free(struct curl_slist *list)
{
	for (struct curl_slist *at = list; at; at = at->next)
		OPENSSL_cleanse(at->data, strlen(at->data));
	curl_slist_free_all(list);
}

static void easy_set_up(CURL *easy, const struct s3_fetch *fetch, struct s3_fetched *out,
			const struct curl_slist *headers, char *error)
{
	curl_easy_setopt(easy, CURLOPT_URL, fetch->url);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, fetch->method);
	if (fetch->body)
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, fetch->body);
	else if (strcmp(fetch->method, "GET") != 0)
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_write);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, out);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)fetch->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)fetch->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* Do not wait for a resolver that hangs. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, fetch);
	if (fetch->direct)
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	if (fetch->configure)
		fetch->configure(easy, fetch->configure_arg);
}

static int errno_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static int perform(CURL *easy, const struct s3_fetch *fetch, struct s3_fetched *out)
{
	char error[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers;
	CURLcode code = CURLE_OUT_OF_MEMORY;
	bool complete;

	headers = header_list(fetch, &complete);
	if (complete) {
		easy_set_up(easy, fetch, out, headers, error);
		code = curl_easy_perform(easy);
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &out->status);
	}
	if (code != CURLE_OK && !*out->error)
		snprintf(out->error, sizeof(out->error), "%s",
			 *error ? error : curl_easy_strerror(code));
	header_list_free(headers);
	return errno_of(code);
}

int s3_fetch(const struct s3_fetch *fetch, struct s3_fetched *out)
{
	CURL *easy;
	int ret;

	*out = (struct s3_fetched){ 0 };
	pthread_once(&curl_once, curl_set_up);
	easy = curl_easy_init();
	if (!easy || !body_grow(out, 4096)) {
		curl_easy_cleanup(easy);
		return -ENOMEM;
	}
	ret = perform(easy, fetch, out);
	out->body[out->len] = '\0';
	curl_easy_cleanup(easy);
	return ret;
}

void s3_fetched_free(struct s3_fetched *out)
{
	s3_secret_free(out->body, out->size);
	*out = (struct s3_fetched){ 0 };
}

/* ---- URLs. ---- */

static char *url_part(CURLU *url, CURLUPart what, unsigned flags)
{
	char *part = NULL, *copy;

	if (curl_url_get(url, what, &part, flags) != CURLUE_OK)
		return NULL;
	copy = strdup(part);
	curl_free(part);
	return copy;
}

static bool url_has(CURLU *url, CURLUPart what)
{
	char *part = url_part(url, what, 0);
	bool has = part != NULL;

	free(part);
	return has;
}

static bool split(CURLU *url, bool *tls, char **host, char **host_only, char **path)
{
	char *scheme = url_part(url, CURLUPART_SCHEME, 0);
	char *port = url_part(url, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
	char *name = url_part(url, CURLUPART_HOST, 0);
	bool good = false;

	if (scheme && name && (!strcmp(scheme, "http") || !strcmp(scheme, "https")) &&
	    !url_has(url, CURLUPART_USER)) {
		*tls = !strcmp(scheme, "https");
		*path = url_part(url, CURLUPART_PATH, 0);
		good = *path && asprintf(host, port ? "%s:%s" : "%s", name, port) >= 0;
		if (!good)
			free(*path);
	}
	if (good && host_only) {
		*host_only = *name == '[' ? strndup(name + 1, strlen(name) - 2) : strdup(name);
		good = *host_only != NULL;
		if (!good) {
			free(*path);
			free(*host);
		}
	}
	free(scheme);
	free(port);
	free(name);
	return good;
}

bool s3_url_split(const char *url, bool *tls, char **host, char **host_only, char **path)
{
	CURLU *parts = curl_url();
	bool good;

	if (!parts)
		return false;
	good = curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
	       split(parts, tls, host, host_only, path);
	curl_url_cleanup(parts);
	return good;
}
