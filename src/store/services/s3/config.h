/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keys of struct s3_config mean: copies, defaults, and what is refused, by name.
 * Start-up code of one thread.
 */
#ifndef OVFS_STORE_SERVICES_S3_CONFIG_H
#define OVFS_STORE_SERVICES_S3_CONFIG_H

#include "base/err.h"
#include "store/services/s3/checksum.h"
#include "store/services/s3/endpoint.h"
#include "store/services/s3/s3.h"

/* Strings are copied, "" becomes NULL, numbers that are 0 their defaults. After an error
 * s3_config_free(), too. */
struct err *s3_config_copy(struct s3_config *to, const struct s3_config *from)
	__attribute__((warn_unused_result));

/* Wipes and frees the strings of a copy. */
void s3_config_free(struct s3_config *config);

/* The configured endpoint, that of the environment, or NULL. */
const char *s3_config_endpoint(const struct s3_config *config);

/* Keys that contradict one another, and those that are refused. */
struct err *s3_config_check(const struct s3_config *config, const struct s3_endpoint *endpoint)
	__attribute__((warn_unused_result));

/* "/a/b/" and "a/b" as "a/b/"; "/" and NULL as "". */
struct err *s3_config_root(const char *text, char root[static STORE_KEY_MAX + 1])
	__attribute__((warn_unused_result));

struct err *s3_config_checksum(const struct s3_config *config, enum s3_checksum_kind *kind)
	__attribute__((warn_unused_result));

/* Checks the customer's key and computes, or compares, its MD5. */
struct err *s3_config_customer_key(const struct s3_config *config,
				   char md5[static S3_CHECKSUM_TEXT])
	__attribute__((warn_unused_result));

#endif
