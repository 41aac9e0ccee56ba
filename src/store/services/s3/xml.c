/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The elements that matter form a tree, the table below; the parser walks it as elements
 * open and close, and counts the depth inside those that it does not know. Text is collected
 * in leaves of the table only, in one buffer for the row that is being read: rows are few
 * short texts, and their keys have to stand until the row is complete.
 */
#include "store/services/s3/xml.h"

#include <errno.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>

#include "store/services/s3/date.h"

#define XML_DEPTH_MAX 32
#define XML_LENGTH_MAX (32u << 20) /* a page of 1000 keys of 1 KiB, encoded, is 4 MiB */
#define XML_TOKEN_MAX (64u << 10)  /* a tag or a stretch of text without its end */
#define XML_FEED_STEP (16u << 10)  /* so that the limit above is seen in time */
#define XML_VALUE_MAX (STORE_KEY_MAX * 3 + 1024)

enum node {
	NODE_NONE, /* above the root */
	NODE_ERROR,
	NODE_LIST,
	NODE_SESSIONS,
	NODE_DELETED,
	NODE_BEGUN,
	NODE_COMMITTED,
	NODE_COPIED,
	NODE_COPIED_PART,
	/* Rows. */
	NODE_OBJECT,
	NODE_PREFIX,
	NODE_UPLOAD,
	NODE_DELETE_ERROR,
	NODE_DELETE_DONE,
	/* Leaves. */
	NODE_LEAVES,
	ERROR_CODE = NODE_LEAVES,
	ERROR_MESSAGE,
	ERROR_REGION,
	ERROR_SIZE,
	LIST_TRUNCATED,
	LIST_ENCODING,
	LIST_TOKEN,
	LIST_MARKER,
	SESSIONS_TRUNCATED,
	SESSIONS_ENCODING,
	SESSIONS_KEY,
	SESSIONS_ID,
	OBJECT_KEY,
	OBJECT_SIZE,
	OBJECT_MTIME,
	OBJECT_ETAG,
	PREFIX_PREFIX,
	UPLOAD_KEY,
	UPLOAD_ID,
	UPLOAD_BEGUN,
	DELETE_ERROR_KEY,
	DELETE_ERROR_CODE,
	DELETE_DONE_KEY,
	BEGUN_ID,
	COMMITTED_ETAG,
	COPIED_ETAG,
	COPIED_MTIME,
	PART_ETAG,
	PART_CRC32C,
	PART_CRC64NVME,
	NODE_COUNT,
};

static const struct {
	enum node parent;
	const char *name;
} nodes[NODE_COUNT] = {
	[NODE_ERROR] = { NODE_NONE, "Error" },
	[NODE_LIST] = { NODE_NONE, "ListBucketResult" },
	[NODE_SESSIONS] = { NODE_NONE, "ListMultipartUploadsResult" },
	[NODE_DELETED] = { NODE_NONE, "DeleteResult" },
	[NODE_BEGUN] = { NODE_NONE, "InitiateMultipartUploadResult" },
	[NODE_COMMITTED] = { NODE_NONE, "CompleteMultipartUploadResult" },
	[NODE_COPIED] = { NODE_NONE, "CopyObjectResult" },
	[NODE_COPIED_PART] = { NODE_NONE, "CopyPartResult" },
	[NODE_OBJECT] = { NODE_LIST, "Contents" },
	[NODE_PREFIX] = { NODE_LIST, "CommonPrefixes" },
	[NODE_UPLOAD] = { NODE_SESSIONS, "Upload" },
	[NODE_DELETE_ERROR] = { NODE_DELETED, "Error" },
	[NODE_DELETE_DONE] = { NODE_DELETED, "Deleted" },
	[ERROR_CODE] = { NODE_ERROR, "Code" },
	[ERROR_MESSAGE] = { NODE_ERROR, "Message" },
	[ERROR_REGION] = { NODE_ERROR, "Region" },
	[ERROR_SIZE] = { NODE_ERROR, "ActualObjectSize" },
	[LIST_TRUNCATED] = { NODE_LIST, "IsTruncated" },
	[LIST_ENCODING] = { NODE_LIST, "EncodingType" },
	[LIST_TOKEN] = { NODE_LIST, "NextContinuationToken" },
	[LIST_MARKER] = { NODE_LIST, "NextMarker" },
	[SESSIONS_TRUNCATED] = { NODE_SESSIONS, "IsTruncated" },
	[SESSIONS_ENCODING] = { NODE_SESSIONS, "EncodingType" },
	[SESSIONS_KEY] = { NODE_SESSIONS, "NextKeyMarker" },
	[SESSIONS_ID] = { NODE_SESSIONS, "NextUploadIdMarker" },
	[OBJECT_KEY] = { NODE_OBJECT, "Key" },
	[OBJECT_SIZE] = { NODE_OBJECT, "Size" },
	[OBJECT_MTIME] = { NODE_OBJECT, "LastModified" },
	[OBJECT_ETAG] = { NODE_OBJECT, "ETag" },
	[PREFIX_PREFIX] = { NODE_PREFIX, "Prefix" },
	[UPLOAD_KEY] = { NODE_UPLOAD, "Key" },
	[UPLOAD_ID] = { NODE_UPLOAD, "UploadId" },
	[UPLOAD_BEGUN] = { NODE_UPLOAD, "Initiated" },
	[DELETE_ERROR_KEY] = { NODE_DELETE_ERROR, "Key" },
	[DELETE_ERROR_CODE] = { NODE_DELETE_ERROR, "Code" },
	[DELETE_DONE_KEY] = { NODE_DELETE_DONE, "Key" },
	[BEGUN_ID] = { NODE_BEGUN, "UploadId" },
	[COMMITTED_ETAG] = { NODE_COMMITTED, "ETag" },
	[COPIED_ETAG] = { NODE_COPIED, "ETag" },
	[COPIED_MTIME] = { NODE_COPIED, "LastModified" },
	[PART_ETAG] = { NODE_COPIED_PART, "ETag" },
	[PART_CRC32C] = { NODE_COPIED_PART, "ChecksumCRC32C" },
	[PART_CRC64NVME] = { NODE_COPIED_PART, "ChecksumCRC64NVME" },
};

struct s3_xml {
	XML_Parser parser;
	void (*row_ready)(void *arg, const struct s3_row *row);
	void *arg;
	struct s3_document document;
	int error;
	uint64_t fed; /* bytes */

	enum node node;	  /* the innermost open element that is known */
	unsigned depth;	  /* of open elements */
	unsigned unknown; /* elements open inside of node that are not known */

	struct s3_row row;
	char value[XML_VALUE_MAX]; /* text of the open leaf */
	size_t value_len;
	bool value_cut;
	char key[XML_VALUE_MAX]; /* what row points to */
	char session[STORE_SESSION_MAX];
	char code[sizeof(((struct s3_error *)0)->code)];
};

static void xml_fail(struct s3_xml *xml, int error)
{
	if (!xml->error)
		xml->error = error;
	XML_StopParser(xml->parser, XML_FALSE);
}

/* ---- Values ---- */

void s3_etag_copy(char etag[static STORE_ETAG_MAX], const char *text)
{
	size_t len = strlen(text);
	bool quoted = len >= 2 && text[len - 1] == '"';

	etag[0] = '\0';
	if (len == 0 || len + (quoted ? 0 : 2) >= STORE_ETAG_MAX)
		return;
	if (quoted) {
		memcpy(etag, text, len + 1);
		return;
	}
	etag[0] = '"';
	memcpy(etag + 1, text, len);
	memcpy(etag + 1 + len, "\"", 2);
}

/* For people: cut when too long. */
static void copy_cut(char *dst, size_t size, const char *text)
{
	size_t len = MIN(strlen(text), size - 1);

	memcpy(dst, text, len);
	dst[len] = '\0';
}

/* For the service or the caller: whole or not at all. */
static void xml_copy_whole(struct s3_xml *xml, char *dst, size_t size, const char *text)
{
	if (strlen(text) >= size)
		xml_fail(xml, -EIO);
	else
		copy_cut(dst, size, text);
}

static bool parse_size(const char *text, uint64_t *size)
{
	char *end;

	errno = 0;
	*size = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

static void xml_time(struct s3_xml *xml, const char *text, int64_t *ns)
{
	if (!s3_time_parse_iso(text, ns))
		xml_fail(xml, -EIO);
}

static void xml_row_value(struct s3_xml *xml, enum node node, const char *text)
{
	struct s3_row *row = &xml->row;

	switch (node) {
	case OBJECT_KEY:
	case PREFIX_PREFIX:
	case UPLOAD_KEY:
	case DELETE_ERROR_KEY:
	case DELETE_DONE_KEY:
		xml_copy_whole(xml, xml->key, sizeof(xml->key), text);
		break;
	case OBJECT_SIZE:
		if (!parse_size(text, &row->size))
			xml_fail(xml, -EIO);
		break;
	case OBJECT_MTIME:
	case UPLOAD_BEGUN:
		xml_time(xml, text, &row->mtime_ns);
		break;
	case OBJECT_ETAG:
		s3_etag_copy(row->etag, text);
		break;
	case UPLOAD_ID:
		xml_copy_whole(xml, xml->session, sizeof(xml->session), text);
		break;
	case DELETE_ERROR_CODE:
		copy_cut(xml->code, sizeof(xml->code), text);
		break;
	default:
		break;
	}
}

static void xml_error_value(struct s3_error *error, enum node node, const char *text)
{
	switch (node) {
	case ERROR_CODE:
		copy_cut(error->code, sizeof(error->code), text);
		break;
	case ERROR_MESSAGE:
		copy_cut(error->message, sizeof(error->message), text);
		break;
	case ERROR_REGION:
		copy_cut(error->region, sizeof(error->region), text);
		break;
	default: /* ERROR_SIZE */
		error->has_object_size = parse_size(text, &error->object_size);
	}
}

static void xml_value(struct s3_xml *xml, enum node node)
{
	struct s3_document *document = &xml->document;
	const char *text = xml->value;

	if (xml->value_cut && node != ERROR_MESSAGE) {
		xml_fail(xml, -EIO);
		return;
	}
	switch (node) {
	case ERROR_CODE ... ERROR_SIZE:
		xml_error_value(&document->error, node, text);
		break;
	case LIST_TRUNCATED:
	case SESSIONS_TRUNCATED:
		document->truncated = strcmp(text, "true") == 0;
		break;
	case LIST_ENCODING:
	case SESSIONS_ENCODING:
		document->url_encoded = strcmp(text, "url") == 0;
		break;
	case LIST_TOKEN:
	case LIST_MARKER:
	case SESSIONS_KEY:
		xml_copy_whole(xml, document->marker, sizeof(document->marker), text);
		break;
	case SESSIONS_ID:
		xml_copy_whole(xml, document->session_marker, sizeof(document->session_marker),
			       text);
		break;
	case BEGUN_ID:
		xml_copy_whole(xml, document->session, sizeof(document->session), text);
		break;
	case COMMITTED_ETAG:
	case COPIED_ETAG:
	case PART_ETAG:
		s3_etag_copy(document->etag, text);
		break;
	case COPIED_MTIME:
		xml_time(xml, text, &document->mtime_ns);
		break;
	case PART_CRC32C:
	case PART_CRC64NVME:
		copy_cut(document->checksum, sizeof(document->checksum), text);
		break;
	default:
		xml_row_value(xml, node, text);
	}
}

/* ---- Elements ---- */

static enum s3_xml_kind kind_of(enum node node)
{
	switch (node) {
	case NODE_ERROR:
		return S3_XML_ERROR;
	case NODE_LIST:
		return S3_XML_LIST;
	case NODE_SESSIONS:
		return S3_XML_SESSIONS;
	case NODE_DELETED:
		return S3_XML_DELETED;
	case NODE_BEGUN:
		return S3_XML_BEGUN;
	case NODE_COMMITTED:
		return S3_XML_COMMITTED;
	case NODE_COPIED:
	case NODE_COPIED_PART:
		return S3_XML_COPIED;
	default:
		return S3_XML_NONE;
	}
}

static bool is_row(enum node node)
{
	return node >= NODE_OBJECT && node < NODE_LEAVES;
}

static enum node node_find(enum node parent, const char *name)
{
	for (enum node node = NODE_NONE + 1; node < NODE_COUNT; node++) {
		if (nodes[node].parent == parent && strcmp(nodes[node].name, name) == 0)
			return node;
	}
	return NODE_NONE;
}

static void XMLCALL xml_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
	struct s3_xml *xml = arg;
	const char *colon = strrchr(name, ':');
	enum node node;

	(void)attributes;
	if (xml->error)
		return;
	if (++xml->depth > XML_DEPTH_MAX) {
		xml_fail(xml, -EIO);
		return;
	}
	if (xml->unknown) {
		xml->unknown++;
		return;
	}
	node = node_find(xml->node, colon ? colon + 1 : name);
	if (node == NODE_NONE) {
		xml->unknown = 1;
		return;
	}
	if (xml->node == NODE_NONE)
		xml->document.kind = kind_of(node);
	if (is_row(node)) {
		memset(&xml->row, 0, sizeof(xml->row));
		xml->key[0] = xml->session[0] = xml->code[0] = '\0';
	}
	xml->node = node;
	xml->value_len = 0;
	xml->value_cut = false;
}

static void xml_row_end(struct s3_xml *xml, enum node node)
{
	xml->row.kind = (enum s3_row_kind)(node - NODE_OBJECT);
	xml->row.key = xml->key;
	xml->row.session = xml->session;
	xml->row.code = xml->code;
	if (xml->row_ready)
		xml->row_ready(xml->arg, &xml->row);
}
_Static_assert(NODE_PREFIX - NODE_OBJECT == S3_ROW_PREFIX &&
		       NODE_UPLOAD - NODE_OBJECT == S3_ROW_SESSION &&
		       NODE_DELETE_ERROR - NODE_OBJECT == S3_ROW_DELETE_ERROR &&
		       NODE_DELETE_DONE - NODE_OBJECT == S3_ROW_DELETED,
	       "rows in one order");

static void XMLCALL xml_end(void *arg, const XML_Char *name)
{
	struct s3_xml *xml = arg;

	(void)name;
	if (xml->error)
		return;
	xml->depth--;
	if (xml->unknown) {
		xml->unknown--;
		return;
	}
	if (is_row(xml->node)) {
		xml_row_end(xml, xml->node);
	} else if (xml->node >= NODE_LEAVES) {
		xml->value[xml->value_len] = '\0';
		xml_value(xml, xml->node);
	}
	xml->node = nodes[xml->node].parent;
}

static void XMLCALL xml_text(void *arg, const XML_Char *text, int len)
{
	struct s3_xml *xml = arg;
	size_t room = sizeof(xml->value) - 1 - xml->value_len;

	if (xml->error || xml->unknown || xml->node < NODE_LEAVES)
		return;
	xml->value_cut |= (size_t)len > room;
	room = MIN(room, (size_t)len);
	memcpy(xml->value + xml->value_len, text, room);
	xml->value_len += room;
}

static void XMLCALL xml_doctype(void *arg, const XML_Char *name, const XML_Char *sysid,
				const XML_Char *pubid, int has_internal_subset)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)has_internal_subset;
	xml_fail(arg, -EIO);
}

/* ---- Outside ---- */

struct s3_xml *s3_xml_new(void)
{
	struct s3_xml *xml = calloc(1, sizeof(*xml));

	if (!xml)
		return NULL;
	xml->parser = XML_ParserCreate(NULL);
	if (!xml->parser) {
		free(xml);
		return NULL;
	}
	return xml;
}

void s3_xml_free(struct s3_xml *xml)
{
	if (!xml)
		return;
	XML_ParserFree(xml->parser);
	free(xml);
}

void s3_xml_begin(struct s3_xml *xml, void (*row)(void *arg, const struct s3_row *row), void *arg)
{
	XML_ParserReset(xml->parser, NULL);
	XML_SetUserData(xml->parser, xml);
	XML_SetElementHandler(xml->parser, xml_start, xml_end);
	XML_SetCharacterDataHandler(xml->parser, xml_text);
	XML_SetStartDoctypeDeclHandler(xml->parser, xml_doctype);
	xml->row_ready = row;
	xml->arg = arg;
	memset(&xml->document, 0, sizeof(xml->document));
	xml->error = 0;
	xml->fed = 0;
	xml->node = NODE_NONE;
	xml->depth = xml->unknown = 0;
	xml->value_len = 0;
	xml->value_cut = false;
}

static void xml_feed(struct s3_xml *xml, const char *data, size_t len, bool final)
{
	enum XML_Status status = XML_Parse(xml->parser, data, (int)len, final);
	XML_Index at = XML_GetCurrentByteIndex(xml->parser);

	xml->fed += len;
	if (xml->error)
		return;
	if (status != XML_STATUS_OK)
		xml->error = XML_GetErrorCode(xml->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EIO;
	else if (xml->fed > XML_LENGTH_MAX || (at >= 0 && xml->fed - (uint64_t)at > XML_TOKEN_MAX))
		xml->error = -EIO;
}

int s3_xml_feed(struct s3_xml *xml, const void *data, size_t len)
{
	const char *at = data;

	while (len && !xml->error) {
		size_t step = MIN(len, (size_t)XML_FEED_STEP);

		xml_feed(xml, at, step, false);
		at += step;
		len -= step;
	}
	return xml->error;
}

int s3_xml_end(struct s3_xml *xml)
{
	if (!xml->error)
		xml_feed(xml, NULL, 0, true);
	return xml->error;
}

const struct s3_document *s3_xml_document(const struct s3_xml *xml)
{
	return &xml->document;
}
