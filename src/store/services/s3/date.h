/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four ways in which S3 writes times. Nanoseconds since the epoch; pure functions.
 */
#ifndef OVFS_STORE_SERVICES_S3_DATE_H
#define OVFS_STORE_SERVICES_S3_DATE_H

#include <stdbool.h>
#include <stdint.h>

#define S3_MTIME_SIZE 32 /* the longest value of x-amz-meta-mtime, with the NUL */

/* "Wed, 21 Oct 2015 07:28:00 GMT" (RFC 9110 section 5.6.7, the preferred form). */
bool s3_time_parse_http(const char *text, int64_t *ns);

/* "2015-10-21T07:28:00.000Z", the fraction optional. */
bool s3_time_parse_iso(const char *text, int64_t *ns);

/* Seconds, maybe negative, maybe with a fraction: "1445412480.25". Digits beyond the
 * nanosecond are dropped, values beyond int64_t are refused. */
bool s3_mtime_parse(const char *text, int64_t *ns);
void s3_mtime_format(char text[static S3_MTIME_SIZE], int64_t ns);

#endif
