/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trusted certificates are one X509_STORE for all connections, put in place by libcurl's
 * hook for the SSL context: libcurl itself would parse a bundle in memory anew for each
 * connection.
 */
#include "store/services/s3/tls.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/cleanup.h"
#include "base/util.h"

#define TLS_FILE_MAX (1 << 20) /* bytes of a client certificate or key */

struct file_text {
	char *data;
	size_t len;
};

struct s3_tls {
	X509_STORE *trusted; /* NULL: nobody */
	struct file_text certificate, key;
};

/* ---- Files ---- */

static void file_free(struct file_text *file)
{
	if (file->data)
		OPENSSL_cleanse(file->data, file->len);
	free(file->data);
}

static struct err *file_read(struct file_text *file, const char *what, const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(errno, "%s %s", what, path);
	if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > TLS_FILE_MAX)
		return err_new("%s %s: not a file of at most 1 MiB", what, path);
	file->data = malloc((size_t)st.st_size);
	if (!file->data)
		return err_errno(ENOMEM, "%s", what);
	file->len = (size_t)st.st_size;
	n = read(fd, file->data, file->len);
	if (n != (ssize_t)file->len)
		return err_errno(n < 0 ? errno : EIO, "%s %s", what, path);
	return NULL;
}

static const char *system_bundle(void)
{
	static const char *const places[] = {
		"/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch */
		"/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
		"/etc/ssl/ca-bundle.pem",	      /* SUSE */
		"/etc/ssl/cert.pem",
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (access(places[i], R_OK) == 0)
			return places[i];
	}
	return NULL;
}

static struct err *trust(struct s3_tls *tls, const char *ca_bundle, bool required)
{
	bool chosen = ca_bundle && *ca_bundle;
	const char *path = chosen ? ca_bundle : system_bundle();

	if (!path)
		return required ? err_new("ca_bundle: this system has none where it is looked for; "
					  "install ca-certificates, or name a file")
				: NULL;
	tls->trusted = X509_STORE_new();
	if (!tls->trusted)
		return err_errno(ENOMEM, "ca_bundle");
	if (X509_STORE_load_file(tls->trusted, path) != 1) {
		ERR_clear_error();
		if (required || chosen)
			return err_new("ca_bundle %s: no certificates in PEM form to be read",
				       path);
	}
	/* As libcurl does: a trusted intermediate is enough. */
	X509_STORE_set_flags(tls->trusted, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	return NULL;
}

struct err *s3_tls_new(struct s3_tls **out, const char *ca_bundle, const char *client_certificate,
		       const char *client_key, bool required)
{
	struct s3_tls *tls = calloc(1, sizeof(*tls));
	struct err *e;

	if (!tls)
		return err_errno(ENOMEM, "certificates");
	e = trust(tls, ca_bundle, required);
	if (!e && client_certificate && *client_certificate)
		e = file_read(&tls->certificate, "client_certificate", client_certificate);
	if (!e && client_key && *client_key)
		e = file_read(&tls->key, "client_key", client_key);
	if (!e && tls->key.data && !tls->certificate.data)
		e = err_new("client_key: there is no client_certificate that it belongs to");
	if (e) {
		s3_tls_free(tls);
		return e;
	}
	*out = tls;
	return NULL;
}

void s3_tls_free(struct s3_tls *tls)
{
	if (!tls)
		return;
	X509_STORE_free(tls->trusted);
	file_free(&tls->certificate);
	file_free(&tls->key);
	free(tls);
}

/* ---- Connections ---- */

static CURLcode tls_context(CURL *easy, void *ssl_ctx, void *arg)
{
	struct s3_tls *tls = arg;

	(void)easy;
	if (tls->trusted)
		SSL_CTX_set1_cert_store(ssl_ctx, tls->trusted);
	return CURLE_OK;
}

bool s3_tls_apply(struct s3_tls *tls, void *curl_easy)
{
	const struct file_text *key = tls->key.data ? &tls->key : &tls->certificate;
	struct curl_blob certificate = { .data = tls->certificate.data,
					 .len = tls->certificate.len,
					 .flags = CURL_BLOB_NOCOPY };
	struct curl_blob private = { .data = key->data,
				     .len = key->len,
				     .flags = CURL_BLOB_NOCOPY };
	CURL *easy = curl_easy;

	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, tls);
	if (curl_easy_setopt(easy, CURLOPT_CAINFO, NULL) ||
	    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, tls_context))
		return false;
	if (!certificate.data)
		return true;
	return curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &certificate) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &private) == CURLE_OK;
}
