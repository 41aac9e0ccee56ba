/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A streaming parser for the documents that S3 answers with: listings of any length row by
 * row, the results of writes, and errors. What a document may take is bounded: depth, length of
 * each value, length in all, length of a single token; document types (thus entities) are
 * refused.
 *
 * Unknown elements are skipped, whatever their names; namespaces are not looked at.
 *
 * A parser belongs to one thread at a time, and serves one document after the other.
 */
#ifndef OVFS_STORE_SERVICES_S3_XML_H
#define OVFS_STORE_SERVICES_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/operator.h"
#include "store/services/s3/checksum.h"
#include "store/services/s3/error.h"

enum s3_xml_kind {
	S3_XML_NONE,	  /* no root element yet, or an unknown one */
	S3_XML_ERROR,	  /* Error */
	S3_XML_LIST,	  /* ListBucketResult, of either version */
	S3_XML_SESSIONS,  /* ListMultipartUploadsResult */
	S3_XML_DELETED,	  /* DeleteResult */
	S3_XML_BEGUN,	  /* InitiateMultipartUploadResult */
	S3_XML_COMMITTED, /* CompleteMultipartUploadResult */
	S3_XML_COPIED,	  /* CopyObjectResult, CopyPartResult */
};

enum s3_row_kind {
	S3_ROW_OBJECT,
	S3_ROW_PREFIX,
	S3_ROW_SESSION,
	S3_ROW_DELETE_ERROR, /* a key that DeleteObjects did not delete */
	S3_ROW_DELETED,
};

/* Texts are as the XML has them (percent-encoded where asked for), NUL-terminated, valid
 * during the callback. */
struct s3_row {
	enum s3_row_kind kind;
	const char *key;
	uint64_t size;
	int64_t mtime_ns;
	char etag[STORE_ETAG_MAX]; /* quotes included */
	const char *session;
	const char *code; /* S3_ROW_DELETE_ERROR */
};

/* Of the document up to here. */
struct s3_document {
	enum s3_xml_kind kind;
	struct s3_error error;
	bool truncated;
	bool url_encoded;	      /* EncodingType is url */
	char marker[STORE_TOKEN_MAX]; /* NextContinuationToken, NextMarker, NextKeyMarker */
	char session_marker[STORE_SESSION_MAX]; /* NextUploadIdMarker */
	char session[STORE_SESSION_MAX];	/* UploadId */
	char etag[STORE_ETAG_MAX];
	int64_t mtime_ns;		 /* LastModified of a copy; 0: none */
	char checksum[S3_CHECKSUM_TEXT]; /* of a part that was copied */
};

struct s3_xml;

/* NULL when out of memory. */
struct s3_xml *s3_xml_new(void);

/* Accepts NULL. */
void s3_xml_free(struct s3_xml *xml);

/* Forgets the document before. @row may be NULL; it is called within s3_xml_feed(). */
void s3_xml_begin(struct s3_xml *xml, void (*row)(void *arg, const struct s3_row *row), void *arg);

/* The next @len bytes. 0; -EIO when this is no document of ours or too much of one; -ENOMEM.
 * An error sticks. */
int s3_xml_feed(struct s3_xml *xml, const void *data, size_t len);

/* The document was all: 0, or -EIO when its end is missing. */
int s3_xml_end(struct s3_xml *xml);

const struct s3_document *s3_xml_document(const struct s3_xml *xml);

/* Copies an ETag, with quotes added when they are missing; "" when it is too long or empty. */
void s3_etag_copy(char etag[static STORE_ETAG_MAX], const char *text);

#endif
