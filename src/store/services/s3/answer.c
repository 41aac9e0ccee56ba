/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an answer to the result of an operation.
 *
 * What may go into the caller's memory is decided once, when the headers are complete: a
 * success status with a length and a range that fit the question. Everything else goes to the
 * parser or nowhere. The end of the body does not make a success either: CopyObject and
 * CompleteMultipartUpload send their status before they know.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/services/s3/date.h"
#include "store/services/s3/internal.h"

#define KEPT_MAX (16 << 10)	  /* bytes of metadata of a source */
#define ERROR_BODY_MAX (64 << 10) /* bytes of an error document that are read */
#define RETRY_AFTER_MAX 3600u	  /* seconds */

static bool is_success(unsigned status)
{
	return status / 100 == 2;
}

/* ---- Headers ---- */

static bool parse_number(const char **text, uint64_t *number)
{
	char *end;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	*number = strtoull(*text, &end, 10);
	*text = end;
	return errno == 0;
}

/* "bytes 0-9/100" or "bytes *" "/100" (RFC 9110 section 14.4). */
static void parse_content_range(struct s3_answer *answer, const char *value)
{
	uint64_t begin = 0, end = 0, size;
	bool star;

	if (strncmp(value, "bytes ", 6) != 0)
		return;
	value += 6;
	star = *value == '*';
	if (star)
		value++;
	else if (!parse_number(&value, &begin) || *value++ != '-' || !parse_number(&value, &end))
		return;
	if (*value++ != '/' || !parse_number(&value, &size) || *value)
		return;
	answer->range_size = size;
	answer->has_range_size = true;
	if (star || end < begin || end >= size)
		return;
	answer->range_begin = begin;
	answer->range_end = end;
	answer->has_range = true;
}

static void copy_text(char *dst, size_t size, const char *text)
{
	if (strlen(text) < size)
		memcpy(dst, text, strlen(text) + 1);
}

static void header_of_object(struct s3_answer *answer, const char *name, const char *value)
{
	struct store_meta *meta = &answer->meta;

	if (strcmp(name, "etag") == 0)
		s3_etag_copy(meta->etag, value);
	else if (strcmp(name, "last-modified") == 0)
		s3_time_parse_http(value, &meta->mtime_ns);
	else if (strcmp(name, S3_HEADER_MTIME) == 0)
		meta->has_user_mtime = s3_mtime_parse(value, &meta->user_mtime_ns);
	else if (strcmp(name, S3_HEADER_WRITE_ID) == 0)
		copy_text(meta->write_id, sizeof(meta->write_id), value);
}

static void header_of_checksum(struct s3_request *request, const char *name, const char *value)
{
	static const char *const names[] = { [S3_CHECKSUM_OFF] = "",
					     [S3_CHECKSUM_CRC32C] = "x-amz-checksum-crc32c",
					     [S3_CHECKSUM_CRC64NVME] = "x-amz-checksum-crc64nvme",
					     [S3_CHECKSUM_MD5] = "" };

	if (strcmp(name, "x-amz-checksum-type") == 0)
		request->answer.checksum_composite = strcmp(value, "COMPOSITE") == 0;
	else if (strcmp(name, names[request->s3->checksum]) == 0)
		copy_text(request->answer.checksum, sizeof(request->answer.checksum), value);
}

static void on_header(struct s3_transfer *transfer, const char *name, const char *value)
{
	struct s3_request *request = s3_request_of(transfer);
	struct s3_answer *answer = &request->answer;
	uint64_t number;

	s3_properties_header(request, name, value);
	if (strcmp(name, "content-length") == 0) {
		answer->has_length = parse_number(&value, &answer->length) && !*value;
	} else if (strcmp(name, "content-range") == 0) {
		parse_content_range(answer, value);
	} else if (strcmp(name, "date") == 0) {
		s3_time_parse_http(value, &answer->date_ns);
	} else if (strcmp(name, "retry-after") == 0) {
		if (parse_number(&value, &number) && !*value)
			answer->retry_after_ms =
				(uint32_t)MIN(number, (uint64_t)RETRY_AFTER_MAX) * 1000;
	} else if (strcmp(name, "x-amz-request-id") == 0) {
		copy_text(answer->request_id, sizeof(answer->request_id), value);
	} else if (strcmp(name, "x-amz-bucket-region") == 0) {
		copy_text(answer->region, sizeof(answer->region), value);
	} else {
		header_of_object(answer, name, value);
		header_of_checksum(request, name, value);
	}
}

/* ---- READ ---- */

/* Whether the body is what was asked for, and how much of it. */
static int read_accept(struct s3_request *request)
{
	struct store_op *op = request->op;
	struct s3_answer *answer = &request->answer;
	uint64_t begin = op->offset + op->done, wanted = op->length - op->done, sent;

	if (request->transfer.status == 206) {
		if (!answer->has_range || answer->range_begin != begin)
			return -EIO;
		answer->meta.size = answer->range_size;
		sent = answer->range_end - begin + 1;
	} else {
		/* The range was not looked at: the whole object comes. What has no ETag
		 * is no object, but the page of somebody between us and the service. */
		if (request->transfer.status != 200 || !answer->has_length || !answer->meta.etag[0])
			return -EIO;
		answer->meta.size = answer->length;
		if (op->offset >= answer->length) {
			op->meta = answer->meta;
			return -ERANGE;
		}
		if (begin != 0)
			return -EIO;
		sent = answer->length;
	}
	if (store_given(op->if_match) && strcmp(op->if_match, answer->meta.etag) != 0)
		return -ESTALE;
	op->meta = answer->meta;
	request->expected = MIN(sent, wanted);
	request->cut = sent > wanted;
	request->verify = begin == 0 && request->expected == answer->meta.size &&
			  answer->checksum[0] && !answer->checksum_composite &&
			  !strchr(answer->checksum, '-');
	request->crc = (struct s3_crc){ .kind = request->s3->checksum };
	return 0;
}

static int read_data(struct s3_request *request, const char *data, size_t len)
{
	struct store_op *op = request->op;
	struct iov_cursor to = store_op_cursor(op);
	uint64_t left = request->expected - request->received;
	size_t step = (size_t)MIN(left, (uint64_t)len);

	if (step) {
		iov_write(&to, data, step);
		if (request->verify)
			s3_crc_add(&request->crc, data, step);
		request->received += step;
		store_op_moved(op, step);
	}
	if (request->received < request->expected)
		return 0;
	return request->cut || step < len ? S3_TRANSFER_ENOUGH : 0;
}

static int read_end(struct s3_request *request)
{
	struct store_op *op = request->op;
	char text[S3_CHECKSUM_TEXT];

	if (request->received < request->expected)
		return -EIO;
	if (!request->verify)
		return 0;
	s3_crc_text(&request->crc, text);
	if (strcmp(text, request->answer.checksum) == 0)
		return 0;
	log_limited(&request->s3->log_limit, LOG_LEVEL_ERROR, "s3_checksum_mismatch",
		    "bucket=%s key=\"%s\"", request->s3->endpoint.bucket, op->key);
	op->done = 0; /* nothing of it may be built upon */
	if (op->progress)
		op->progress(op, 0);
	return -EIO;
}

/* ---- As the answer comes ---- */

static int on_headers_done(struct s3_transfer *transfer)
{
	struct s3_request *request = s3_request_of(transfer);
	struct store_op *op = request->op;

	store_op_moved(op, 0);
	if (is_success(transfer->status) && op->opcode == STORE_READ)
		return read_accept(request);
	if (strcmp(transfer->method, "HEAD") == 0)
		return 0;
	if (!request->xml)
		request->xml = s3_xml_new();
	if (!request->xml)
		return -ENOMEM;
	s3_xml_begin(request->xml,
		     op->opcode == STORE_LIST || op->opcode == STORE_LIST_SESSIONS ? s3_list_row
										   : s3_delete_row,
		     request);
	request->xml_used = true;
	return 0;
}

static int on_data(struct s3_transfer *transfer, const char *data, size_t len)
{
	struct s3_request *request = s3_request_of(transfer);
	struct store_op *op = request->op;

	if (!request->xml_used)
		return op->opcode == STORE_READ ? read_data(request, data, len) : 0;
	store_op_moved(op, 0);
	request->received += len;
	if (is_success(transfer->status)) {
		request->xml_error = s3_xml_feed(request->xml, data, len);
		return request->xml_error;
	}
	/* Whatever it is, the status has said enough; a page of some proxy, for instance. */
	if (request->received > ERROR_BODY_MAX)
		return S3_TRANSFER_ENOUGH;
	if (!request->xml_error)
		request->xml_error = s3_xml_feed(request->xml, data, len);
	return 0;
}

static void on_sent(struct s3_transfer *transfer, uint64_t bytes)
{
	struct store_op *op = s3_request_of(transfer)->op;

	/* Of XML, and of a second attempt: signs of life only. */
	if (op->opcode == STORE_PUT || op->opcode == STORE_PART)
		store_op_moved(op, bytes > op->moved ? bytes - op->moved : 0);
	else
		store_op_moved(op, 0);
}

/* ---- The end of a request ---- */

static void log_failure(const struct s3_request *request, int result, const struct s3_error *error)
{
	const struct s3_transfer *transfer = &request->transfer;
	struct s3 *s3 = request->s3;

	if (s3->watched == request->op)
		return; /* s3_check() has better words */
	log_limited(&s3->log_limit, LOG_LEVEL_WARN, "s3_request_failed",
		    "op=%s bucket=%s key=\"%s%s\" errno=%d status=%u code=\"%s\" message=\"%s\" "
		    "request_id=\"%s\"",
		    store_opcode_name(request->op->opcode), s3->endpoint.bucket, s3->root,
		    request->op->key ? request->op->key : "", -result, transfer->status,
		    error->code, error->message[0] ? error->message : transfer->error_text,
		    request->answer.request_id);
}

void s3_note_failure(struct s3_request *request, const struct s3_error *error)
{
	struct s3_failure *failure = &request->s3->failure;

	if (request->s3->watched != request->op)
		return;
	failure->status = request->transfer.status;
	failure->curl_code = request->transfer.curl_code;
	failure->date_ns = request->answer.date_ns;
	failure->error = *error;
	snprintf(failure->curl_text, sizeof(failure->curl_text), "%s",
		 request->transfer.error_text);
}

/* Another region was named: true when the request is on its way again. */
static bool follow_region(struct s3_request *request, const struct s3_error *error)
{
	struct s3_endpoint *endpoint = &request->s3->endpoint;
	const char *region = request->answer.region[0] ? request->answer.region : error->region;

	if (request->region_tried || !region[0] || strcmp(region, request->region) == 0)
		return false;
	request->region_tried = true;
	if (strcmp(region, endpoint->region) != 0) {
		if (!s3_endpoint_set_region(endpoint, region))
			return false;
		log_at(request->s3->config.region ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
		       "s3_region_learnt", "bucket=%s region=%s instead_of=%s", endpoint->bucket,
		       region, request->region);
	}
	s3_request_send(request);
	return true;
}

/* The service does not know conditional writes. */
static int refuse_conditions(struct s3_request *request, int result)
{
	const struct store_op *op = request->op;
	bool write = op->opcode == STORE_PUT || op->opcode == STORE_COMMIT;

	if (result != -EOPNOTSUPP || !write || (!store_given(op->if_match) && !op->if_absent))
		return result;
	if (!request->s3->unconditional)
		log_warn("s3_conditional_writes_unsupported",
			 "bucket=%s hint=\"set disable_write_with_if_match\"",
			 request->s3->endpoint.bucket);
	request->s3->unconditional = true;
	return result;
}

/* What to do about an answer that is an error. 1: the request is on its way again. */
static int answer_failed(struct s3_request *request, const struct s3_error *error)
{
	const struct store_op *op = request->op;
	unsigned status = request->transfer.status;
	struct s3_verdict verdict = s3_error_judge(error, status, op);

	if (verdict.remedy == S3_REMEDY_REGION && follow_region(request, error))
		return 1;
	if (verdict.remedy == S3_REMEDY_CREDENTIALS && s3_refused_keys(request, error))
		return 1;
	if ((op->opcode == STORE_STAT || request->step == STEP_SOURCE) &&
	    verdict.remedy == S3_REMEDY_NONE && s3_suspected_keys(request, error))
		return 1;
	/* MinIO says a minute, and is there after a moment. */
	if (!verdict.starting)
		request->op->retry_after_ms = request->answer.retry_after_ms;
	s3_note_failure(request, error);
	if (!verdict.expected)
		log_failure(request, verdict.result, error);
	return refuse_conditions(request, verdict.result);
}

/* The document of a success: 0, negative errno, or 1 as above. */
static int answer_document(struct s3_request *request, enum s3_xml_kind wanted)
{
	static const struct s3_error nothing;
	const struct s3_document *document;
	int err = request->xml_used ? s3_xml_end(request->xml) : -EIO;

	if (err) {
		s3_note_failure(request, &nothing);
		log_failure(request, err, &nothing);
		return err;
	}
	document = s3_xml_document(request->xml);
	if (document->kind == wanted)
		return 0;
	if (document->kind == S3_XML_ERROR)
		return answer_failed(request, &document->error);
	log_failure(request, -EIO, &nothing);
	return -EIO;
}

/* Without a version nothing can be built upon it. */
static int no_etag(struct s3_request *request)
{
	static const struct s3_error error = { .message = "a success without an ETag" };

	s3_note_failure(request, &error);
	log_failure(request, -EIO, &error);
	return -EIO;
}

/* What a PUT or a COMMIT stored, as far as is known. */
static void meta_of_write(struct s3_request *request, const char *etag)
{
	struct store_op *op = request->op;

	memcpy(op->meta.etag, etag, sizeof(op->meta.etag));
	op->meta.mtime_ns = request->answer.date_ns;
	if (op->opcode == STORE_PUT)
		op->meta.size = op->length;
	op->meta.has_user_mtime = op->set_user_mtime;
	op->meta.user_mtime_ns = op->set_user_mtime ? op->user_mtime_ns : 0;
	if (op->write_id)
		snprintf(op->meta.write_id, sizeof(op->meta.write_id), "%s", op->write_id);
}

static int end_begin(struct s3_request *request)
{
	int err = answer_document(request, S3_XML_BEGUN);

	if (!err)
		memcpy(request->op->session_out, s3_xml_document(request->xml)->session,
		       sizeof(request->op->session_out));
	return err;
}

/* Whoever answers a PUT with a success and nothing else need not be the service. MinIO gives no
 * ETag for keys that end in a slash: nothing is lost with those that are empty. */
static int end_put(struct s3_request *request)
{
	const struct store_op *op = request->op;
	size_t len = strlen(op->key);

	if (request->xml_used && s3_xml_document(request->xml)->kind == S3_XML_ERROR)
		return answer_failed(request, &s3_xml_document(request->xml)->error);
	meta_of_write(request, request->answer.meta.etag);
	if (op->meta.etag[0] || (op->length == 0 && len > 0 && op->key[len - 1] == '/'))
		return 0;
	return no_etag(request);
}

static int end_commit(struct s3_request *request)
{
	int err = answer_document(request, S3_XML_COMMITTED);

	if (err)
		return err;
	meta_of_write(request, s3_xml_document(request->xml)->etag);
	return request->op->meta.etag[0] ? 0 : no_etag(request);
}

static int end_copy(struct s3_request *request)
{
	struct store_op *op = request->op;
	const struct s3_document *document;
	int err = answer_document(request, S3_XML_COPIED);

	if (err)
		return err;
	document = s3_xml_document(request->xml);
	memcpy(op->meta.etag, document->etag, sizeof(op->meta.etag));
	if (op->opcode == STORE_COPY_PART) {
		snprintf(op->checksum, sizeof(op->checksum), "%.*s", STORE_CHECKSUM_MAX - 1,
			 document->checksum);
		return 0;
	}
	op->meta.mtime_ns = document->mtime_ns - document->mtime_ns % 1000000000;
	op->meta.size = request->source_size;
	if (op->properties && op->write_id)
		snprintf(op->meta.write_id, sizeof(op->meta.write_id), "%s", op->write_id);
	op->meta.has_user_mtime = op->set_user_mtime;
	op->meta.user_mtime_ns = op->set_user_mtime ? op->user_mtime_ns : 0;
	return 0;
}

static int end_list(struct s3_request *request)
{
	int err = answer_document(request, request->op->opcode == STORE_LIST ? S3_XML_LIST
									     : S3_XML_SESSIONS);

	return err ? err : s3_list_end(request);
}

static int end_delete_batch(struct s3_request *request)
{
	int err = answer_document(request, S3_XML_DELETED);

	return err ? err : s3_delete_next(request);
}

static int end_main(struct s3_request *request)
{
	struct store_op *op = request->op;

	switch (op->opcode) {
	case STORE_STAT:
		/* Without an ETag it is no object: see read_accept(). */
		if (!request->answer.has_length || !request->answer.meta.etag[0])
			return -EIO;
		op->meta = request->answer.meta;
		op->meta.size = request->answer.length;
		if (op->properties_out)
			s3_properties_tell(request, op->properties_out);
		return 0;
	case STORE_READ:
		return read_end(request);
	case STORE_PUT:
		return end_put(request);
	case STORE_PART:
		memcpy(op->meta.etag, request->answer.meta.etag, sizeof(op->meta.etag));
		return op->meta.etag[0] ? 0 : -EIO;
	case STORE_BEGIN:
		return end_begin(request);
	case STORE_COMMIT:
		return end_commit(request);
	case STORE_COPY:
	case STORE_COPY_PART:
		return end_copy(request);
	case STORE_LIST:
	case STORE_LIST_SESSIONS:
		return end_list(request);
	case STORE_DELETE_BATCH:
		return end_delete_batch(request);
	default: /* ABORT, DELETE */
		return 0;
	}
}

/* The source of a COPY is known: the copy itself can follow. */
static void end_source(struct s3_request *request)
{
	if (!request->answer.has_length || request->kept.error) {
		s3_request_finish(request, request->kept.error ? request->kept.error : -EIO);
		return;
	}
	request->kept_used = true;
	request->source_size = request->answer.length;
	memcpy(request->source_etag, request->answer.meta.etag, sizeof(request->source_etag));
	request->step = STEP_MAIN;
	s3_request_send(request);
}

/* The answer was an error: 0, negative errno, or 1 when it is on its way again. */
static int end_failed(struct s3_request *request)
{
	struct s3_error error = { 0 };
	struct store_op *op = request->op;
	int result;

	if (request->xml_used && s3_xml_document(request->xml)->kind == S3_XML_ERROR)
		error = s3_xml_document(request->xml)->error;
	result = answer_failed(request, &error);
	if (result == -ERANGE && op->opcode == STORE_READ) {
		if (request->answer.has_range_size)
			op->meta.size = request->answer.range_size;
		else if (error.has_object_size)
			op->meta.size = error.object_size;
	}
	if (result == -ENOENT && op->opcode == STORE_DELETE && !store_given(op->if_match))
		return 0; /* gone is what was wanted */
	if (result == -ENOENT && op->opcode == STORE_DELETE_BATCH && request->step == STEP_MAIN)
		return -EIO; /* whatever is missing there */
	return result;
}

static void on_done(struct s3_transfer *transfer, int error)
{
	static const struct s3_error nothing;
	struct s3_request *request = s3_request_of(transfer);
	int result = error;

	if (error == 0)
		result = is_success(transfer->status) ? 0 : end_failed(request);
	if (result > 0)
		return;
	if (error && error != -ECANCELED && error != -ERANGE && error != -ESTALE) {
		s3_note_failure(request, &nothing);
		log_failure(request, error, &nothing);
	}
	if (request->step == STEP_SINGLE && error == 0) {
		s3_delete_single_end(request, result);
		return;
	}
	if (result == 0 && request->step == STEP_SOURCE) {
		end_source(request);
		return;
	}
	if (result == 0 && is_success(transfer->status)) {
		result = end_main(request);
		if (result > 0)
			return;
	}
	s3_request_finish(request, result);
}

const struct s3_transfer_ops s3_transfer_ops = {
	.prepare = s3_request_prepare,
	.header = on_header,
	.headers_done = on_headers_done,
	.data = on_data,
	.sent = on_sent,
	.done = on_done,
};
