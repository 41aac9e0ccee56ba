/* SPDX-License-Identifier: Apache-2.0 */
/* What goes through a connection: libcurl's callbacks for headers and bodies of one transfer. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "store/services/s3/transfer.h"

#define HEADER_MAX 8192 /* bytes of one header line; longer ones are ignored */

/* ---- Answers ---- */

static size_t write_body(char *data, size_t size, size_t count, void *arg)
{
	struct s3_transfer *transfer = arg;
	size_t len = size * count;

	if (transfer->cancelled)
		return len + 1;
	if (!transfer->answered) {
		transfer->verdict = -EIO;
		return len + 1;
	}
	transfer->verdict = transfer->ops->data(transfer, data, len);
	return transfer->verdict ? len + 1 : len;
}

/* "HTTP/1.1 200 OK" */
static unsigned parse_status(const char *line, size_t len)
{
	const char *space = memchr(line, ' ', len);
	unsigned status = 0;

	if (!space || len - (size_t)(space - line) < 4)
		return 0;
	for (int i = 1; i <= 3; i++) {
		if (!isdigit((unsigned char)space[i]))
			return 0;
		status = status * 10 + (unsigned)(space[i] - '0');
	}
	return status;
}

static void header_line(struct s3_transfer *transfer, const char *line, size_t len)
{
	char text[HEADER_MAX], *value;
	const char *colon = memchr(line, ':', len);
	size_t name_len;

	if (!colon || len >= sizeof(text))
		return;
	memcpy(text, line, len);
	name_len = (size_t)(colon - line);
	text[name_len] = '\0';
	for (size_t i = 0; i < name_len; i++)
		text[i] = (char)tolower((unsigned char)text[i]);
	while (len > name_len + 1 && isspace((unsigned char)text[len - 1]))
		len--;
	text[len] = '\0';
	for (value = text + name_len + 1; isspace((unsigned char)*value); value++)
		;
	transfer->ops->header(transfer, text, value);
}

static size_t write_header(char *line, size_t size, size_t count, void *arg)
{
	struct s3_transfer *transfer = arg;
	size_t len = size * count;

	if (transfer->cancelled)
		return len + 1;
	if (transfer->answered) /* a trailer */
		return len;
	if (transfer->status == 0 || transfer->status / 100 == 1) {
		if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
			transfer->status = parse_status(line, len);
		return len;
	}
	if (len > 2) {
		header_line(transfer, line, len);
		return len;
	}
	transfer->answered = true;
	transfer->verdict = transfer->ops->headers_done(transfer);
	return transfer->verdict ? len + 1 : len;
}

/* ---- Bodies of requests ---- */

static size_t read_body(char *buffer, size_t size, size_t count, void *arg)
{
	struct s3_transfer *transfer = arg;
	uint64_t left, position;
	size_t len;

	if (transfer->cancelled)
		return CURL_READFUNC_ABORT;
	left = iov_len(&transfer->unsent);
	left -= MIN(left, iov_len(&transfer->body) - transfer->body_len);
	len = iov_read(&transfer->unsent, buffer, (size_t)MIN(left, (uint64_t)size * count));
	position = transfer->body_len - (left - len);
	if (position > transfer->sent) {
		transfer->sent = position;
		transfer->ops->sent(transfer, position);
	}
	return len;
}

/* libcurl begins again: the connection that it reused was dead. */
static int seek_body(void *arg, curl_off_t offset, int origin)
{
	struct s3_transfer *transfer = arg;

	if (origin != SEEK_SET || offset < 0)
		return CURL_SEEKFUNC_CANTSEEK;
	transfer->unsent = transfer->body;
	iov_skip(&transfer->unsent, (size_t)offset);
	return CURL_SEEKFUNC_OK;
}

/* A connection is ready for the request; libcurl does so again by itself when a kept one
 * was dead. */
static int before_request(void *arg, char *remote, char *local, int remote_port, int local_port)
{
	struct s3_transfer *transfer = arg;
	bool again = transfer->begun;

	(void)remote;
	(void)local;
	(void)remote_port;
	(void)local_port;
	transfer->begun = true;
	return again && !transfer->repeatable ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

void s3_transfer_callbacks(CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_body);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, write_header);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_body);
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek_body);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
}
