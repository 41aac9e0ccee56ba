/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files of the S3 service. Everything belongs to the transfer loop.
 *
 * One s3_request carries one operation through one or more requests: the one it is about
 * (STEP_MAIN), the look at the source before a copy that changes some of its metadata, and
 * the keys of a batch that XML cannot carry. Each may be sent twice, when the service
 * says that it lives in another region or wants other keys.
 */
#ifndef OVFS_STORE_SERVICES_S3_INTERNAL_H
#define OVFS_STORE_SERVICES_S3_INTERNAL_H

#include "base/log.h"
#include "store/services/s3/buffer.h"
#include "store/services/s3/checksum.h"
#include "store/services/s3/credentials.h"
#include "store/services/s3/digest.h"
#include "store/services/s3/endpoint.h"
#include "store/services/s3/s3.h"
#include "store/services/s3/sign.h"
#include "store/services/s3/text.h"
#include "store/services/s3/transfer.h"
#include "store/services/s3/xml.h"

#define S3_LINES_MAX (S3_SIGN_HEADERS_MAX + 8)
#define S3_SCRATCH (8 << 10)

#define S3_HEADER_MTIME "x-amz-meta-mtime"
#define S3_HEADER_WRITE_ID "x-amz-meta-ovfs-write-id"

/* Why an operation failed, for s3_check(). */
struct s3_failure {
	unsigned status; /* 0: no answer */
	CURLcode curl_code;
	char curl_text[CURL_ERROR_SIZE];
	struct s3_error error;
	int64_t date_ns;     /* the service's clock; 0: not told */
	bool no_credentials; /* there are none to sign with */
};

struct s3 {
	struct store store;
	struct s3_config config; /* own copies of the strings; NULL for not given */
	struct s3_endpoint endpoint;
	char root[STORE_KEY_MAX + 1]; /* "" or "a/b/" */
	enum s3_checksum_kind checksum;
	char customer_key_md5[S3_CHECKSUM_TEXT];

	struct s3_tls *tls;
	struct s3_wire *wire;
	struct s3_signer *signer;
	struct s3_digests *digests;
	struct s3_sign_result signature; /* of the request that is being prepared */
	struct s3_provider *provider;

	struct list idle; /* s3_request.link */
	unsigned idle_count;

	bool raw_listings;  /* the service does not percent-encode keys */
	bool unconditional; /* ... does not know conditional writes */
	/* refused.c's: when, and with which keys, a HEAD was refused that may be their fault. */
	uint64_t suspected_ns;
	char suspected_id[64];

	struct store_op *watched; /* whose failure goes to: */
	struct s3_failure failure;
	struct log_limit log_limit;
};

enum s3_step {
	STEP_MAIN,
	STEP_SOURCE, /* COPY: HEAD of the source */
	STEP_SINGLE, /* DELETE_BATCH: DELETE of keys[key_index] */
};

/* Headers of an answer, as far as they matter. */
struct s3_answer {
	uint64_t length; /* Content-Length */
	bool has_length;
	uint64_t range_begin, range_end, range_size; /* Content-Range; the end included */
	bool has_range;
	bool has_range_size; /* alone: of status 416 */
	int64_t date_ns;
	uint32_t retry_after_ms;
	char region[S3_REGION_MAX];
	char request_id[64];
	char checksum[S3_CHECKSUM_TEXT]; /* of the whole object, in our algorithm */
	bool checksum_composite;	 /* ... or rather of its parts */
	struct store_meta meta;
};

struct s3_request {
	struct s3_transfer transfer;
	struct list link; /* s3->idle */
	struct s3 *s3;
	struct store_op *op;
	enum s3_step step;

	struct s3_credentials *credentials; /* a reference */
	struct s3_provider_wait wait;
	bool waiting; /* for credentials */
	bool begun;   /* something of it was sent */
	bool region_tried, credentials_tried;
	char region[S3_REGION_MAX]; /* that it was signed for */

	/* Of the operation's data, before it is sent. */
	struct s3_digest digest;
	bool digesting, digested;

	/* What is sent. */
	struct s3_buffer url, lines, body;
	struct curl_slist headers[S3_LINES_MAX];
	struct iovec body_iov;
	char scratch[S3_SCRATCH];

	/* What comes. */
	struct s3_answer answer;
	struct s3_xml *xml;
	bool xml_used;	   /* the body goes there */
	int xml_error;	   /* of the parser */
	uint64_t expected; /* READ: bytes of data */
	uint64_t received;
	bool cut;    /* READ: more than that will come */
	bool verify; /* READ: compare crc with answer.checksum at the end */
	struct s3_crc crc;

	/* LIST, LIST_SESSIONS */
	bool decoded; /* a key was changed by percent-decoding */
	int list_error;
	char last_key[STORE_KEY_MAX + 1];

	struct s3_buffer kept; /* COPY, STAT: "name\0value\0"... of the object: properties.c's */
	bool kept_used;
	uint64_t source_size;
	char source_etag[STORE_ETAG_MAX];
	size_t key_index; /* DELETE_BATCH */
};

static inline struct s3_request *s3_request_of(struct s3_transfer *transfer)
{
	return container_of(transfer, struct s3_request, transfer);
}

static inline struct s3 *s3_of(struct store *store)
{
	return container_of(store, struct s3, store);
}

/* request.c: s3_transfer_ops.prepare. */
int s3_request_prepare(struct s3_transfer *transfer);

/* actions.c: whether a COPY has to look at its source. */
bool s3_request_needs_source(const struct store_op *op);

/* answer.c: the other operations of transfers. */
extern const struct s3_transfer_ops s3_transfer_ops;

/* properties.c: what other clients stored with objects. Whether answers are to be looked through
 * for it; a header of one; the outcome of a STAT. */
bool s3_properties_wanted(const struct s3_request *request);
void s3_properties_header(struct s3_request *request, const char *name, const char *value);
void s3_properties_tell(const struct s3_request *request, struct store_properties *out);

/* answer.c: for s3_check(). */
void s3_note_failure(struct s3_request *request, const struct s3_error *error);

/* refused.c: the service said that it does not take the keys, or may have meant that: true when
 * the request is on its way again, with others, or will end. */
bool s3_refused_keys(struct s3_request *request, const struct s3_error *error);
bool s3_suspected_keys(struct s3_request *request, const struct s3_error *error);

/* list.c: the rows of a listing, and its end: 0 or negative errno. */
void s3_list_row(void *arg, const struct s3_row *row);
int s3_list_end(struct s3_request *request);

/* delete.c: batches. Whether a key can go with others; what the service says about one;
 * the results of all before the first request, true when there is one for many; the next single
 * one, 1 when it is on its way, 0 when all are done; the end of a single one. */
bool s3_delete_in_batch(const struct s3 *s3, const char *key);
void s3_delete_row(void *arg, const struct s3_row *row);
bool s3_delete_begin(struct s3_request *request);
int s3_delete_next(struct s3_request *request);
void s3_delete_single_end(struct s3_request *request, int result);

/* s3.c: sends the step that is set, or ends the operation; @request is gone then. */
void s3_request_send(struct s3_request *request);
/* With other credentials; @suspected: if there are others, or -EACCES. */
void s3_request_renew(struct s3_request *request, bool suspected);
void s3_request_finish(struct s3_request *request, int result);

#endif
