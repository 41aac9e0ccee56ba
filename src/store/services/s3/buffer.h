/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing buffer with a limit, for the header lines and XML bodies of requests. It keeps
 * its memory over resets, so that requests after the first allocate nothing. A failure
 * (-ENOMEM, or -EFBIG beyond the limit) sticks until the reset; additions after it do nothing.
 *
 * One thread at a time.
 */
#ifndef OVFS_STORE_SERVICES_S3_BUFFER_H
#define OVFS_STORE_SERVICES_S3_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"

struct s3_buffer {
	char *data; /* NUL-terminated behind len, once something was added */
	size_t len;
	size_t size; /* allocated */
	size_t max;  /* bytes at most, with the NUL */
	int error;   /* 0 or negative errno */
};

/* Allocates nothing yet. */
void s3_buffer_init(struct s3_buffer *buffer, size_t max);
void s3_buffer_free(struct s3_buffer *buffer);

/* Empty again. Gives memory back beyond what an ordinary request needs. */
void s3_buffer_reset(struct s3_buffer *buffer);

void s3_buffer_bytes(struct s3_buffer *buffer, const char *data, size_t len);
void s3_buffer_add(struct s3_buffer *buffer, const char *text);
void s3_buffer_printf(struct s3_buffer *buffer, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* @text as character data of XML. */
void s3_buffer_xml(struct s3_buffer *buffer, const char *text);

/* Whether XML 1.0 can carry @text at all: valid UTF-8 without control characters other
 * than tab, line feed, carriage return, and without U+FFFE and U+FFFF. */
bool s3_xml_can_carry(const char *text);

#endif
