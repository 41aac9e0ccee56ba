/* SPDX-License-Identifier: Apache-2.0 */
#include "store/services/s3/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_FIRST 1024
#define BUFFER_KEEP (64 << 10) /* kept over a reset */

void s3_buffer_init(struct s3_buffer *buffer, size_t max)
{
	*buffer = (struct s3_buffer){ .max = max };
}

void s3_buffer_free(struct s3_buffer *buffer)
{
	free(buffer->data);
	s3_buffer_init(buffer, buffer->max);
}

void s3_buffer_reset(struct s3_buffer *buffer)
{
	buffer->len = 0;
	buffer->error = 0;
	if (buffer->size > BUFFER_KEEP)
		s3_buffer_free(buffer);
}

/* Makes room for @len bytes more and the NUL. */
static bool buffer_grow(struct s3_buffer *buffer, size_t len)
{
	size_t size = MAX(buffer->size, (size_t)BUFFER_FIRST);
	char *data;

	if (buffer->error)
		return false;
	if (len >= buffer->max - buffer->len) {
		buffer->error = -EFBIG;
		return false;
	}
	while (size < buffer->len + len + 1)
		size *= 2;
	if (size == buffer->size)
		return true;
	data = realloc(buffer->data, size);
	if (!data) {
		buffer->error = -ENOMEM;
		return false;
	}
	buffer->data = data;
	buffer->size = size;
	return true;
}

void s3_buffer_bytes(struct s3_buffer *buffer, const char *data, size_t len)
{
	if (!buffer_grow(buffer, len))
		return;
	memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	buffer->data[buffer->len] = '\0';
}

void s3_buffer_add(struct s3_buffer *buffer, const char *text)
{
	s3_buffer_bytes(buffer, text, strlen(text));
}

void s3_buffer_printf(struct s3_buffer *buffer, const char *fmt, ...)
{
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0 || !buffer_grow(buffer, (size_t)len))
		return;
	va_start(ap, fmt);
	vsnprintf(buffer->data + buffer->len, (size_t)len + 1, fmt, ap);
	va_end(ap);
	buffer->len += (size_t)len;
}

void s3_buffer_xml(struct s3_buffer *buffer, const char *text)
{
	size_t plain;

	/* White space as references, too: parsers make line feeds of carriage returns. */
	for (; *text; text += plain) {
		plain = strcspn(text, "&<>\"\r\n\t");
		if (plain) {
			s3_buffer_bytes(buffer, text, plain);
			continue;
		}
		s3_buffer_printf(buffer, "&#%d;", *text);
		plain = 1;
	}
}

/* The bytes of the UTF-8 sequence at @text, 0 when there is none of a character that XML
 * allows. */
static size_t xml_char_len(const unsigned char *text)
{
	unsigned c = text[0], len, code;

	if (c < 0x80)
		return c >= 0x20 || c == '\t' || c == '\n' || c == '\r';
	if (c < 0xc2 || c > 0xf4)
		return 0;
	len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	code = c & (0xffu >> (len + 1));
	for (unsigned i = 1; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80) /* the NUL, too */
			return 0;
		code = code << 6 | (text[i] & 0x3f);
	}
	if ((len == 3 && code < 0x800) || (len == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	if ((code >= 0xd800 && code < 0xe000) || code == 0xfffe || code == 0xffff)
		return 0;
	return len;
}

bool s3_xml_can_carry(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t len;

	for (; *at; at += len) {
		len = xml_char_len(at);
		if (!len)
			return false;
	}
	return true;
}
