/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What S3 says went wrong (REST error responses: an HTTP status and an XML document), and
 * which errno of store/operator.h it is. Pure functions.
 */
#ifndef OVFS_STORE_SERVICES_S3_ERROR_H
#define OVFS_STORE_SERVICES_S3_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "store/operator.h"

/* The document; "" for what it did not say. Fields that were too long are cut. */
struct s3_error {
	char code[64]; /* "NoSuchKey" */
	char message[256];
	char region[64];
	uint64_t object_size; /* of InvalidRange; valid with has_object_size */
	bool has_object_size;
};

/* What can be done about it by us. */
enum s3_remedy {
	S3_REMEDY_NONE,
	S3_REMEDY_REGION,      /* sign for the region that the answer names */
	S3_REMEDY_CREDENTIALS, /* ask for other keys */
};

struct s3_verdict {
	int result; /* negative errno */
	enum s3_remedy remedy;
	bool expected; /* part of ordinary work: no line in the log */
	bool starting; /* the server is not up yet; what it says for how long is not known to it */
};

/* @status: of HTTP, not 2xx unless the document is an error all the same. @op: what was
 * asked for, its conditions in particular. */
struct s3_verdict s3_error_judge(const struct s3_error *error, unsigned status,
				 const struct store_op *op);

/* The errno for one key of a DeleteObjects answer. */
int s3_error_of_key(const char *code);

#endif
