/* SPDX-License-Identifier: Apache-2.0 */
/* Signs what actions.c has put together, and gives it the form that libcurl wants. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "store/services/s3/actions.h"

static void fail(struct s3_build *b, int error)
{
	if (!b->error)
		b->error = error;
}

static const char *payload_hash(struct s3_build *b)
{
	struct s3_request *request = b->request;
	struct s3_transfer *transfer = &request->transfer;
	int err;

	if (request->credentials->anonymous)
		return S3_UNSIGNED_PAYLOAD;
	if (!transfer->has_body || transfer->body_len == 0)
		return S3_EMPTY_PAYLOAD;
	if (b->has_body && b->s3->endpoint.tls && !b->s3->config.sign_payload)
		return S3_UNSIGNED_PAYLOAD;
	if (b->has_body && request->digested && request->digest.hash[0])
		return request->digest.hash;
	err = s3_sign_payload_hash(b->s3->signer, transfer->body, (size_t)transfer->body_len,
				   b->hash);
	if (err)
		fail(b, err);
	return b->hash;
}

static int sign(struct s3_build *b)
{
	struct s3_request *request = b->request;
	struct s3_endpoint *endpoint = &b->s3->endpoint;
	char path[sizeof(endpoint->path)];
	struct s3_sign_request wanted = {
		.method = b->method,
		.host = endpoint->host,
		.service = "s3",
		.region = endpoint->region,
		.query = b->query,
		.query_count = b->query_count,
		.headers = b->headers,
		.header_count = b->header_count,
		.payload_hash = payload_hash(b),
		.now = time(NULL),
	};

	snprintf(path, sizeof(path), "%s", endpoint->path);
	if (b->key) {
		wanted.path = s3_build_join(b, path, s3_build_key(b, b->key));
	} else {
		/* The bucket itself goes without the slash, unless it is all there is. */
		if (strlen(path) > 1)
			path[strlen(path) - 1] = '\0';
		wanted.path = path;
	}
	snprintf(request->region, sizeof(request->region), "%s", endpoint->region);
	if (b->error)
		return b->error;
	return s3_sign(b->s3->signer, request->credentials, &wanted, &b->s3->signature);
}

static void add_line(struct s3_request *request, size_t *starts, size_t *count, const char *name,
		     const char *value)
{
	starts[(*count)++] = request->lines.len;
	s3_buffer_add(&request->lines, name);
	s3_buffer_add(&request->lines, ":");
	if (value) {
		s3_buffer_add(&request->lines, " ");
		s3_buffer_add(&request->lines, value);
	}
	s3_buffer_bytes(&request->lines, "", 1);
}

static int write_lines(struct s3_build *b)
{
	struct s3_request *request = b->request;
	const struct s3_sign_result *signature = &b->s3->signature;
	size_t starts[S3_LINES_MAX], count = 0;

	s3_buffer_reset(&request->lines);
	for (size_t i = 0; i < b->header_count; i++)
		add_line(request, starts, &count, b->headers[i].name, b->headers[i].value);
	if (!request->credentials->anonymous) {
		add_line(request, starts, &count, "x-amz-date", signature->date);
		add_line(request, starts, &count, "x-amz-content-sha256",
			 signature->content_sha256);
		if (signature->security_token)
			add_line(request, starts, &count, "x-amz-security-token",
				 signature->security_token);
		add_line(request, starts, &count, "Authorization", signature->authorization);
	}
	/* Without a value: what libcurl adds by itself is left out. */
	add_line(request, starts, &count, "Expect", NULL);
	add_line(request, starts, &count, "Accept", NULL);
	if (request->lines.error)
		return request->lines.error;
	for (size_t i = 0; i < count; i++) {
		request->headers[i].data = request->lines.data + starts[i];
		request->headers[i].next = i + 1 < count ? &request->headers[i + 1] : NULL;
	}
	request->transfer.headers = request->headers;
	return 0;
}

/* Not what refuses itself when it is done twice, as if somebody else had been faster. */
static bool is_repeatable(const struct s3_request *request)
{
	const struct store_op *op = request->op;

	if (request->step != STEP_MAIN)
		return true;
	switch (op->opcode) {
	case STORE_COMMIT:
	case STORE_ABORT:
		return false;
	case STORE_PUT:
	case STORE_DELETE:
	case STORE_COPY:
		return !op->if_absent && !store_given(op->if_match);
	default:
		return true;
	}
}

int s3_request_prepare(struct s3_transfer *transfer)
{
	struct s3_request *request = s3_request_of(transfer);
	struct s3 *s3 = request->s3;
	struct s3_build b = { .request = request, .s3 = s3, .op = request->op };
	int err;

	s3_text_init(&b.scratch, request->scratch, sizeof(request->scratch));
	s3_buffer_reset(&request->body);
	s3_build(&b);
	if (b.error)
		return b.error;
	transfer->method = b.method;
	transfer->repeatable = is_repeatable(request);
	transfer->has_body = b.has_body || b.has_xml;
	/* A POST without a body says so. */
	if (strcmp(b.method, "POST") == 0 || strcmp(b.method, "PUT") == 0)
		transfer->has_body = true;
	transfer->body_len = 0;
	transfer->body = (struct iov_cursor){ 0 };
	if (b.has_body) {
		transfer->body = store_op_cursor(request->op);
		transfer->body_len = request->op->length;
	} else if (b.has_xml) {
		request->body_iov = (struct iovec){ request->body.data, request->body.len };
		transfer->body = iov_cursor(&request->body_iov, 1);
		transfer->body_len = request->body.len;
	}
	err = sign(&b);
	if (!err)
		err = b.error ? b.error : write_lines(&b);
	if (err)
		return err;
	s3_buffer_reset(&request->url);
	s3_buffer_printf(&request->url, "%s://%s", s3->endpoint.tls ? "https" : "http",
			 s3->endpoint.host);
	s3_buffer_add(&request->url, s3->signature.target);
	transfer->url = request->url.data;
	return request->url.error;
}
