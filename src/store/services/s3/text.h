/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text into buffers of known size, and percent-encoding (UriEncode of the Signature
 * Version 4 specification; the same serves for form bodies). Any thread.
 */
#ifndef OVFS_STORE_SERVICES_S3_TEXT_H
#define OVFS_STORE_SERVICES_S3_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Always NUL-terminated. Once something did not fit, @full stays set. */
struct s3_text {
	char *buf;
	size_t size; /* with the NUL */
	size_t len;
	bool full;
};

/* @size > 0. */
void s3_text_init(struct s3_text *t, char *buf, size_t size);

/* These add all or nothing, but s3_text_encoded(), which may leave a beginning. */
void s3_text_byte(struct s3_text *t, char c);
void s3_text_bytes(struct s3_text *t, const char *s, size_t len);
void s3_text_add(struct s3_text *t, const char *s);

/* Every byte but letters, digits, "-._~" and, with @keep_slash, '/' as %XX. */
void s3_text_encoded(struct s3_text *t, const char *s, bool keep_slash);

/* strcmp() of the encoded forms (without kept slashes). */
int s3_encoded_compare(const char *left, const char *right);

/* A letter, a digit, or one of "-._~". */
bool s3_byte_unreserved(unsigned char c);

/* @len bytes as 2 * @len lowercase digits and a NUL. */
void s3_hex_encode(char *dst, const unsigned char *src, size_t len);

#endif
