/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an operation to the method, query, headers and body of a request: Amazon S3 API
 * reference, one function for each of its actions that we use.
 */
#include "store/services/s3/actions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/services/s3/date.h"

/* ---- Pieces ---- */

static void fail(struct s3_build *b, int error)
{
	if (!b->error)
		b->error = error;
}

/* Text in the scratch space, "" when it does not fit. */
static const char *scratch_end(struct s3_build *b, size_t start)
{
	s3_text_byte(&b->scratch, '\0');
	if (b->scratch.full)
		fail(b, -ENAMETOOLONG);
	return b->scratch.full ? "" : b->scratch.buf + start;
}

const char *s3_build_join(struct s3_build *b, const char *left, const char *right)
{
	size_t start = b->scratch.len;

	s3_text_add(&b->scratch, left);
	s3_text_add(&b->scratch, right);
	return scratch_end(b, start);
}

static const char *format(struct s3_build *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
static const char *format(struct s3_build *b, const char *fmt, ...)
{
	char text[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return s3_build_join(b, text, "");
}

/* As the service knows it. */
const char *s3_build_key(struct s3_build *b, const char *key)
{
	if (strlen(b->s3->root) + strlen(key) > STORE_KEY_MAX)
		fail(b, -ENAMETOOLONG);
	return s3_build_join(b, b->s3->root, key);
}

static void add_query(struct s3_build *b, const char *name, const char *value)
{
	if (b->query_count == S3_SIGN_QUERY_MAX)
		fail(b, -E2BIG);
	else
		b->query[b->query_count++] = (struct s3_sign_pair){ name, value };
}

/* @name in lower case; without a value nothing is added. */
static void add_header(struct s3_build *b, const char *name, const char *value)
{
	if (!store_given(value))
		return;
	if (b->header_count == S3_SIGN_HEADERS_MAX)
		fail(b, -E2BIG);
	else
		b->headers[b->header_count++] = (struct s3_sign_pair){ name, value };
}

/* ---- Headers that several actions share ---- */

static const char *checksum_header(const struct s3 *s3)
{
	switch (s3->checksum) {
	case S3_CHECKSUM_CRC32C:
		return "x-amz-checksum-crc32c";
	case S3_CHECKSUM_CRC64NVME:
		return "x-amz-checksum-crc64nvme";
	case S3_CHECKSUM_MD5:
		return "content-md5";
	case S3_CHECKSUM_OFF:
		break;
	}
	return NULL;
}

static void add_customer_key(struct s3_build *b)
{
	const struct s3_config *config = &b->s3->config;

	if (!config->server_side_encryption_customer_key)
		return;
	add_header(b, "x-amz-server-side-encryption-customer-algorithm",
		   config->server_side_encryption_customer_algorithm);
	add_header(b, "x-amz-server-side-encryption-customer-key",
		   config->server_side_encryption_customer_key);
	add_header(b, "x-amz-server-side-encryption-customer-key-md5", b->s3->customer_key_md5);
}

static void add_copy_source(struct s3_build *b)
{
	const struct s3_config *config = &b->s3->config;
	const char *key = s3_build_key(b, b->op->source_key);
	size_t start = b->scratch.len;

	s3_text_byte(&b->scratch, '/');
	s3_text_encoded(&b->scratch, b->s3->endpoint.bucket, true);
	s3_text_byte(&b->scratch, '/');
	s3_text_encoded(&b->scratch, key, true);
	add_header(b, "x-amz-copy-source", scratch_end(b, start));
	add_header(b, "x-amz-copy-source-if-match",
		   b->request->kept_used ? b->request->source_etag : b->op->source_if_match);
	if (!config->server_side_encryption_customer_key)
		return;
	add_header(b, "x-amz-copy-source-server-side-encryption-customer-algorithm",
		   config->server_side_encryption_customer_algorithm);
	add_header(b, "x-amz-copy-source-server-side-encryption-customer-key",
		   config->server_side_encryption_customer_key);
	add_header(b, "x-amz-copy-source-server-side-encryption-customer-key-md5",
		   b->s3->customer_key_md5);
}

static void add_user_mtime(struct s3_build *b)
{
	char text[S3_MTIME_SIZE];

	if (!b->op->set_user_mtime)
		return;
	s3_mtime_format(text, b->op->user_mtime_ns);
	add_header(b, S3_HEADER_MTIME, s3_build_join(b, text, ""));
}

/* What a new object is like: PutObject, CreateMultipartUpload, CopyObject. */
static void add_object_properties(struct s3_build *b)
{
	const struct s3_config *config = &b->s3->config;

	add_header(b, "x-amz-server-side-encryption", config->server_side_encryption);
	add_header(b, "x-amz-server-side-encryption-aws-kms-key-id",
		   config->server_side_encryption_aws_kms_key_id);
	if (config->server_side_encryption_bucket_key_enabled)
		add_header(b, "x-amz-server-side-encryption-bucket-key-enabled", "true");
	add_customer_key(b);
	add_header(b, "x-amz-storage-class", config->default_storage_class);
	add_header(b, "x-amz-acl", config->default_acl);
}

/* What the version before had, see properties.c. */
static void add_properties(struct s3_build *b)
{
	const struct store_properties *p = b->op->properties;

	for (size_t at = 0; p && at < p->len;) {
		const char *name = p->text + at, *value = name + strlen(name) + 1;

		at += strlen(name) + 1 + strlen(value) + 1;
		if (!store_given(b->op->content_type) || strcmp(name, "content-type") != 0)
			add_header(b, name, value);
	}
}

static void add_described(struct s3_build *b)
{
	add_properties(b);
	add_header(b, "content-type", b->op->content_type);
	add_header(b, S3_HEADER_WRITE_ID, b->op->write_id);
	add_user_mtime(b);
}

static void add_new_metadata(struct s3_build *b)
{
	add_described(b);
	add_object_properties(b);
}

static void add_write_conditions(struct s3_build *b)
{
	add_header(b, "if-match", b->op->if_match);
	if (b->op->if_absent)
		add_header(b, "if-none-match", "*");
}

/* The checksum of the operation's data. PART: also for the commit. */
static void add_body_checksum(struct s3_build *b)
{
	struct store_op *op = b->request->op;
	const char *header = checksum_header(b->s3), *text = b->request->digest.text;
	char empty[S3_CHECKSUM_TEXT];

	if (!header)
		return;
	if (op->length == 0) {
		int err = s3_checksum_body(b->s3->checksum, op->data, 0, empty);

		if (err)
			fail(b, err);
		text = err ? "" : s3_build_join(b, empty, "");
	}
	add_header(b, header, text);
	if (op->opcode == STORE_PART && b->s3->checksum != S3_CHECKSUM_MD5)
		snprintf(op->checksum, sizeof(op->checksum), "%.*s", STORE_CHECKSUM_MAX - 1, text);
}

/* ---- Actions ---- */

static void build_head_object(struct s3_build *b)
{
	b->method = "HEAD";
	add_header(b, "if-match", b->op->if_match);
	add_customer_key(b);
}

static void build_get_object(struct s3_build *b)
{
	uint64_t begin = b->op->offset + b->op->done;

	b->method = "GET";
	add_header(
		b, "range",
		format(b, "bytes=%" PRIu64 "-%" PRIu64, begin, b->op->offset + b->op->length - 1));
	add_header(b, "if-match", b->op->if_match);
	add_customer_key(b);
	if (begin == 0 && checksum_header(b->s3) && b->s3->checksum != S3_CHECKSUM_MD5)
		add_header(b, "x-amz-checksum-mode", "ENABLED");
}

static void build_put_object(struct s3_build *b)
{
	b->method = "PUT";
	b->has_body = true;
	add_new_metadata(b);
	add_write_conditions(b);
	add_body_checksum(b);
}

static void build_create_upload(struct s3_build *b)
{
	b->method = "POST";
	add_query(b, "uploads", "");
	add_new_metadata(b);
	if (b->s3->checksum == S3_CHECKSUM_CRC32C)
		add_header(b, "x-amz-checksum-algorithm", "CRC32C");
	if (b->s3->checksum == S3_CHECKSUM_CRC64NVME) {
		add_header(b, "x-amz-checksum-algorithm", "CRC64NVME");
		add_header(b, "x-amz-checksum-type", "FULL_OBJECT");
	}
}

static void add_part_query(struct s3_build *b)
{
	add_query(b, "partNumber", format(b, "%" PRIu32, b->op->part_number));
	add_query(b, "uploadId", b->op->session);
}

static void build_upload_part(struct s3_build *b)
{
	b->method = "PUT";
	b->has_body = true;
	add_part_query(b);
	add_customer_key(b);
	add_body_checksum(b);
}

static void build_upload_part_copy(struct s3_build *b)
{
	b->method = "PUT";
	add_part_query(b);
	add_copy_source(b);
	add_header(b, "x-amz-copy-source-range",
		   format(b, "bytes=%" PRIu64 "-%" PRIu64, b->op->offset,
			  b->op->offset + b->op->length - 1));
	add_customer_key(b);
}

static void build_complete_upload(struct s3_build *b)
{
	static const char *const elements[] = { [S3_CHECKSUM_CRC32C] = "ChecksumCRC32C",
						[S3_CHECKSUM_CRC64NVME] = "ChecksumCRC64NVME",
						[S3_CHECKSUM_MD5] = NULL };
	const char *element = elements[b->s3->checksum];
	struct s3_buffer *body = &b->request->body;

	b->method = "POST";
	b->has_xml = true;
	add_query(b, "uploadId", b->op->session);
	add_write_conditions(b);
	add_customer_key(b); /* for the checksums at Amazon's, for conditions at MinIO's */
	s3_buffer_add(body, "<CompleteMultipartUpload "
			    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < b->op->part_count; i++) {
		const struct store_part *part = &b->op->parts[i];

		s3_buffer_add(body, "<Part><ETag>");
		s3_buffer_xml(body, part->etag);
		s3_buffer_add(body, "</ETag>");
		if (element && part->checksum[0]) {
			s3_buffer_printf(body, "<%s>", element);
			s3_buffer_xml(body, part->checksum);
			s3_buffer_printf(body, "</%s>", element);
		}
		s3_buffer_printf(body, "<PartNumber>%" PRIu32 "</PartNumber></Part>", part->number);
	}
	s3_buffer_add(body, "</CompleteMultipartUpload>");
}

static void build_abort_upload(struct s3_build *b)
{
	b->method = "DELETE";
	add_query(b, "uploadId", b->op->session);
}

static void build_delete_object(struct s3_build *b)
{
	b->method = "DELETE";
	add_header(b, "if-match", b->op->if_match);
}

static void build_delete_objects(struct s3_build *b)
{
	struct s3_buffer *body = &b->request->body;
	char md5[S3_CHECKSUM_TEXT];
	int err;

	b->method = "POST";
	b->key = NULL;
	b->has_xml = true;
	add_query(b, "delete", "");
	s3_buffer_add(body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
			    "<Quiet>true</Quiet>");
	for (size_t i = 0; i < b->op->key_count; i++) {
		const char *key = b->op->keys[i];

		if (!s3_delete_in_batch(b->s3, key))
			continue;
		s3_buffer_add(body, "<Object><Key>");
		s3_buffer_xml(body, b->s3->root);
		s3_buffer_xml(body, key);
		s3_buffer_add(body, "</Key></Object>");
	}
	s3_buffer_add(body, "</Delete>");
	if (body->error)
		return;
	/* The one action that insists on a checksum of its body. */
	err = s3_md5_text(body->data, body->len, md5);
	if (err)
		fail(b, err);
	add_header(b, "content-md5", s3_build_join(b, md5, ""));
}

/* x-amz-metadata-directive REPLACE, with what the source had but for what is new. */
static void add_kept_metadata(struct s3_build *b)
{
	const struct s3_buffer *kept = &b->request->kept;
	size_t at = 0;

	add_header(b, "x-amz-metadata-directive", "REPLACE");
	while (at < kept->len) {
		const char *name = kept->data + at, *value = name + strlen(name) + 1;

		at += strlen(name) + 1 + strlen(value) + 1;
		if (b->op->set_user_mtime && strcmp(name, S3_HEADER_MTIME) == 0)
			continue;
		if (store_given(b->op->content_type) && strcmp(name, "content-type") == 0)
			continue;
		add_header(b, name, value);
	}
	add_header(b, "content-type", b->op->content_type);
	add_user_mtime(b);
}

static void build_copy_object(struct s3_build *b)
{
	b->method = "PUT";
	add_copy_source(b);
	if (b->op->properties) {
		add_header(b, "x-amz-metadata-directive", "REPLACE");
		add_described(b);
	} else if (b->request->kept_used) {
		add_kept_metadata(b);
	}
	add_object_properties(b);
	if (b->op->if_absent)
		add_header(b, "if-none-match", "*");
}

static void build_list_objects(struct s3_build *b)
{
	const struct store_op *op = b->op;
	uint32_t limit = op->list.limit ? op->list.limit : b->s3->store.caps.list_max;
	bool old = b->s3->config.disable_list_objects_v2;
	const char *after =
		store_given(op->list.start_after) ? s3_build_key(b, op->list.start_after) : NULL;

	b->method = "GET";
	b->key = NULL;
	if (!old)
		add_query(b, "list-type", "2");
	add_query(b, "prefix", s3_build_key(b, op->key));
	if (store_given(op->list.delimiter))
		add_query(b, "delimiter", op->list.delimiter);
	add_query(b, "max-keys", format(b, "%" PRIu32, MIN(limit, b->s3->store.caps.list_max)));
	if (!b->s3->raw_listings)
		add_query(b, "encoding-type", "url");
	if (store_given(op->list.token))
		add_query(b, old ? "marker" : "continuation-token", op->list.token);
	else if (after)
		add_query(b, old ? "marker" : "start-after", after);
}

static void build_list_uploads(struct s3_build *b)
{
	const struct store_op *op = b->op;
	uint32_t limit = op->list.limit ? op->list.limit : b->s3->store.caps.list_max;
	const char *space;
	size_t start;

	b->method = "GET";
	b->key = NULL;
	add_query(b, "uploads", "");
	add_query(b, "prefix", s3_build_key(b, op->key));
	if (store_given(op->list.delimiter))
		add_query(b, "delimiter", op->list.delimiter);
	add_query(b, "max-uploads", format(b, "%" PRIu32, MIN(limit, b->s3->store.caps.list_max)));
	if (!b->s3->raw_listings)
		add_query(b, "encoding-type", "url");
	if (!store_given(op->list.token))
		return;
	/* "UPLOAD-ID KEY", as s3_list_end() made it. */
	space = strchr(op->list.token, ' ');
	if (!space) {
		fail(b, -EINVAL);
		return;
	}
	add_query(b, "key-marker", space + 1);
	if (space > op->list.token) {
		start = b->scratch.len;
		s3_text_bytes(&b->scratch, op->list.token, (size_t)(space - op->list.token));
		add_query(b, "upload-id-marker", scratch_end(b, start));
	}
}

static void (*const builders[STORE_OPCODE_COUNT])(struct s3_build *b) = {
	[STORE_STAT] = build_head_object,
	[STORE_READ] = build_get_object,
	[STORE_PUT] = build_put_object,
	[STORE_BEGIN] = build_create_upload,
	[STORE_PART] = build_upload_part,
	[STORE_COPY_PART] = build_upload_part_copy,
	[STORE_COMMIT] = build_complete_upload,
	[STORE_ABORT] = build_abort_upload,
	[STORE_LIST] = build_list_objects,
	[STORE_DELETE] = build_delete_object,
	[STORE_DELETE_BATCH] = build_delete_objects,
	[STORE_COPY] = build_copy_object,
	[STORE_LIST_SESSIONS] = build_list_uploads,
};

bool s3_request_needs_source(const struct store_op *op)
{
	if (op->opcode != STORE_COPY || op->properties)
		return false;
	/* A copy onto itself has to change something: so it replaces what is there by the
	 * same. */
	return op->set_user_mtime || store_given(op->content_type) ||
	       strcmp(op->key, op->source_key) == 0;
}

void s3_build(struct s3_build *b)
{
	switch (b->request->step) {
	case STEP_MAIN:
		b->key = b->op->key;
		builders[b->op->opcode](b);
		break;
	case STEP_SOURCE:
		b->key = b->op->source_key;
		b->method = "HEAD";
		add_header(b, "if-match", b->op->source_if_match);
		add_customer_key(b);
		break;
	case STEP_SINGLE:
		b->key = b->op->keys[b->request->key_index];
		b->method = "DELETE";
		break;
	}
	if (b->s3->config.enable_request_payer)
		add_header(b, "x-amz-request-payer", "requester");
	if (b->has_xml)
		add_header(b, "content-type", "application/xml");
	if (b->request->body.error)
		fail(b, b->request->body.error);
}
