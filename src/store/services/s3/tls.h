/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates: what we trust and who we are, read once, so that later no file has to be
 * within reach (the sandbox has none) and no connection pays for parsing the system's bundle.
 *
 * Certificates and host names are always verified. Made and freed by one thread; s3_tls_apply()
 * from any while nothing else changes it.
 */
#ifndef OVFS_STORE_SERVICES_S3_TLS_H
#define OVFS_STORE_SERVICES_S3_TLS_H

#include <stdbool.h>

#include "base/err.h"

struct s3_tls;

/* NULL or "": the system's bundle; no certificate; the key is in the certificate's file.
 * @required: it is an error when there is no bundle at all. */
struct err *s3_tls_new(struct s3_tls **out, const char *ca_bundle, const char *client_certificate,
		       const char *client_key, bool required) __attribute__((warn_unused_result));

/* Accepts NULL. */
void s3_tls_free(struct s3_tls *tls);

/* Sets up a CURL easy handle, which @tls outlives. False when out of memory. */
bool s3_tls_apply(struct s3_tls *tls, void *curl_easy);

#endif
