/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listings: from the rows of the document to those of the operator.
 *
 * Keys are asked for percent-encoded (encoding-type=url), since XML cannot carry all bytes of a
 * key. Whether the service did so is said by an element that may come after the rows; a page
 * that turns out to be plain fails, and the next one is asked for and read plainly.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/services/s3/internal.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Undoes percent-encoding, '+' being a blank as in forms. False when the result has more than
 * STORE_KEY_MAX bytes. */
static bool decode(char out[static STORE_KEY_MAX + 1], size_t *out_len, const char *text)
{
	size_t len = 0;

	for (; *text; text++) {
		char c = *text;

		if (c == '+') {
			c = ' ';
		} else if (c == '%' && hex_digit(text[1]) >= 0 && hex_digit(text[2]) >= 0) {
			c = (char)(hex_digit(text[1]) << 4 | hex_digit(text[2]));
			text += 2;
		}
		if (len == STORE_KEY_MAX)
			return false;
		out[len++] = c;
	}
	out[len] = '\0';
	*out_len = len;
	return true;
}

static bool row_key(struct s3_request *request, const struct s3_row *row,
		    char key[static STORE_KEY_MAX + 1], size_t *len)
{
	if (request->s3->raw_listings) {
		*len = strlen(row->key);
		if (*len > STORE_KEY_MAX)
			return false;
		memcpy(key, row->key, *len + 1);
		return true;
	}
	request->decoded |= strpbrk(row->key, "%+") != NULL;
	return decode(key, len, row->key);
}

static bool is_row_of(const struct store_op *op, const struct s3_row *row)
{
	if (op->opcode == STORE_LIST)
		return row->kind == S3_ROW_OBJECT || row->kind == S3_ROW_PREFIX;
	return row->kind == S3_ROW_SESSION;
}

void s3_list_row(void *arg, const struct s3_row *row)
{
	struct s3_request *request = arg;
	struct store_op *op = request->op;
	size_t root_len = strlen(request->s3->root), len;
	struct store_entry entry = { .is_prefix = row->kind == S3_ROW_PREFIX };
	char key[STORE_KEY_MAX + 1];

	if (request->list_error || request->transfer.cancelled || !is_row_of(op, row))
		return;
	if (!row_key(request, row, key, &len) || len < root_len ||
	    memcmp(key, request->s3->root, root_len) != 0) {
		request->list_error = -EIO;
		return;
	}
	if (strcmp(key, request->last_key) > 0)
		memcpy(request->last_key, key, len + 1);
	if (len == root_len)
		return; /* the object that is the root itself */
	entry.key = key + root_len;
	entry.key_len = len - root_len;
	if (row->kind == S3_ROW_SESSION) {
		entry.session = row->session;
		entry.meta.mtime_ns = row->mtime_ns;
	} else if (row->kind == S3_ROW_OBJECT) {
		entry.meta.size = row->size;
		/* Whole seconds, as in the headers of an object: one object, one time. */
		entry.meta.mtime_ns = row->mtime_ns - row->mtime_ns % 1000000000;
		memcpy(entry.meta.etag, row->etag, sizeof(entry.meta.etag));
	}
	store_op_entry(op, &entry);
}

/* A marker is a key or prefix, in the encoding of the others. */
static int list_marker(struct s3_request *request, const struct s3_document *document,
		       char key[static STORE_KEY_MAX + 1])
{
	struct s3_row row = { .key = document->marker };
	size_t len;

	if (!row_key(request, &row, key, &len))
		return -EIO;
	if (len == 0 && request->op->opcode == STORE_LIST) /* version 1 without delimiter */
		memcpy(key, request->last_key, sizeof(request->last_key));
	return key[0] ? 0 : -EIO;
}

static int list_token(struct s3_request *request, const struct s3_document *document,
		      char token[static STORE_TOKEN_MAX])
{
	char key[STORE_KEY_MAX + 1];
	int err;

	if (request->op->opcode == STORE_LIST && !request->s3->config.disable_list_objects_v2) {
		if (!document->marker[0])
			return -EIO;
		memcpy(token, document->marker, sizeof(document->marker));
		return 0;
	}
	err = list_marker(request, document, key);
	if (err)
		return err;
	if (request->op->opcode == STORE_LIST)
		snprintf(token, STORE_TOKEN_MAX, "%s", key);
	else
		snprintf(token, STORE_TOKEN_MAX, "%s %s", document->session_marker, key);
	return 0;
}

int s3_list_end(struct s3_request *request)
{
	const struct s3_document *document = s3_xml_document(request->xml);
	struct store_op *op = request->op;
	struct store_page *page = op->list.page;
	char token[STORE_TOKEN_MAX];
	int err;

	if (request->list_error)
		return request->list_error;
	if (request->decoded && !document->url_encoded) {
		log_warn("s3_listing_not_encoded", "bucket=%s", request->s3->endpoint.bucket);
		request->s3->raw_listings = true;
		return -EIO;
	}
	page->truncated = document->truncated;
	if (!document->truncated)
		return 0;
	err = list_token(request, document, token);
	/* The same page for ever? */
	if (!err && op->list.token && strcmp(token, op->list.token) == 0)
		err = -EIO;
	if (!err)
		memcpy(page->token, token, strlen(token) + 1);
	return err;
}
