/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "store/services/s3/text.h"

void s3_text_init(struct s3_text *t, char *buf, size_t size)
{
	*t = (struct s3_text){ .buf = buf, .size = size };
	buf[0] = '\0';
}

void s3_text_byte(struct s3_text *t, char c)
{
	s3_text_bytes(t, &c, 1);
}

void s3_text_bytes(struct s3_text *t, const char *s, size_t len)
{
	if (len >= t->size - t->len) {
		t->full = true;
		return;
	}
	memcpy(t->buf + t->len, s, len);
	t->len += len;
	t->buf[t->len] = '\0';
}

void s3_text_add(struct s3_text *t, const char *s)
{
	s3_text_bytes(t, s, strlen(s));
}

bool s3_byte_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* Hands out the encoded form of a string byte by byte, so that strings can also be
 * compared in it. */
struct encoder {
	const unsigned char *src;
	unsigned digits; /* of *src still to come */
	bool keep_slash;
};

static struct encoder encoder(const char *src, bool keep_slash)
{
	return (struct encoder){ .src = (const unsigned char *)src, .keep_slash = keep_slash };
}

/* The next byte, 0 at the end. */
static char encoder_next(struct encoder *e)
{
	static const char digits[] = "0123456789ABCDEF";
	unsigned char c = *e->src;

	if (e->digits == 2) {
		e->digits = 1;
		return digits[c >> 4];
	}
	if (e->digits == 1) {
		e->digits = 0;
		e->src++;
		return digits[c & 15];
	}
	if (c == '\0')
		return '\0';
	if (s3_byte_unreserved(c) || (c == '/' && e->keep_slash)) {
		e->src++;
		return (char)c;
	}
	e->digits = 2;
	return '%';
}

void s3_text_encoded(struct s3_text *t, const char *s, bool keep_slash)
{
	struct encoder e = encoder(s, keep_slash);
	char c;

	while ((c = encoder_next(&e)) != '\0' && !t->full)
		s3_text_byte(t, c);
}

int s3_encoded_compare(const char *left, const char *right)
{
	struct encoder a = encoder(left, false), b = encoder(right, false);
	char x, y;

	do {
		x = encoder_next(&a);
		y = encoder_next(&b);
	} while (x == y && x != '\0');
	return x - y; /* all ASCII */
}

void s3_hex_encode(char *dst, const unsigned char *src, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		dst[2 * i] = digits[src[i] >> 4];
		dst[2 * i + 1] = digits[src[i] & 15];
	}
	dst[2 * len] = '\0';
}
