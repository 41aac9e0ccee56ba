/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP transfers: one libcurl multi handle on the transfer loop, with a bounded number of
 * connections that are kept.
 *
 * A transfer is embedded in its owner. It waits for a free connection in the order of
 * s3_wire_start(), and ends exactly once, with ->done(). Handles are recycled; what a transfer
 * allocates beyond that is libcurl's.
 *
 * Everything here belongs to the transfer loop. The callbacks of a transfer may start and
 * cancel transfers, this one included; what must not happen inside libcurl is put off.
 */
#ifndef OVFS_STORE_SERVICES_S3_TRANSFER_H
#define OVFS_STORE_SERVICES_S3_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/iov.h"
#include "base/list.h"
#include "base/loop.h"
#include "store/services/s3/tls.h"

struct s3_wire;
struct s3_wire_slot;
struct s3_transfer;

struct s3_wire_options {
	uint32_t connections_max;
	uint32_t connect_timeout_ms;
	const char *proxy;  /* NULL: none */
	struct s3_tls *tls; /* outlives the wire */
};

/* 1: the body is as long as is wanted; the transfer ends well, the rest is not waited for. */
#define S3_TRANSFER_ENOUGH 1

struct s3_transfer_ops {
	/* A connection is free: sets the fields "of the request". 0 or negative errno,
	 * which goes to done(). */
	int (*prepare)(struct s3_transfer *transfer);

	/* A header of the final answer; @name in lower case, both NUL-terminated. */
	void (*header)(struct s3_transfer *transfer, const char *name, const char *value);

	/* transfer->status and all headers are known. 0 or negative errno to end it. */
	int (*headers_done)(struct s3_transfer *transfer);

	/* Bytes of the body. 0, S3_TRANSFER_ENOUGH, or negative errno to end it. */
	int (*data)(struct s3_transfer *transfer, const char *data, size_t len);

	/* That many bytes of the body have been handed to the connection, in all. */
	void (*sent)(struct s3_transfer *transfer, uint64_t bytes);

	/* 0: an answer came, whole. Negative errno: it did not; also what other callbacks
	 * gave, or -ECANCELED. transfer->error_text says more. */
	void (*done)(struct s3_transfer *transfer, int error);
};

struct s3_transfer {
	const struct s3_transfer_ops *ops;

	/* Of the request; they stand until done(). */
	const char *method;
	const char *url;
	struct curl_slist *headers;
	struct iov_cursor body;
	uint64_t body_len;
	bool has_body; /* send one, maybe of 0 bytes */
	/* May be sent again when a kept connection turns out to be dead. What must not be
	 * done twice ends in an error then: it may have been done. */
	bool repeatable;

	/* Of the answer. */
	unsigned status; /* 0: none yet */
	CURLcode curl_code;
	const char *error_text; /* libcurl's, valid in done(); "" for none */

	/* The wire's. */
	struct list link;
	struct s3_wire *wire;
	struct s3_wire_slot *slot; /* NULL: not on a connection */
	struct iov_cursor unsent;
	uint64_t sent; /* the furthest of all attempts of libcurl */
	int verdict;   /* what a callback ended it with */
	bool busy;     /* between start and done */
	bool cancelled;
	bool answered; /* all headers of the final answer came */
	bool begun;    /* libcurl has gone to a connection with it */
	bool repeated;
};

struct err *s3_wire_new(struct s3_wire **out, struct loop *loop,
			const struct s3_wire_options *options) __attribute__((warn_unused_result));

/* Nothing is under way. On the loop, or when it has ended. Accepts NULL. */
void s3_wire_free(struct s3_wire *wire);

/* transfer->ops is set. */
void s3_wire_start(struct s3_wire *wire, struct s3_transfer *transfer);

/* done() comes soon, with -ECANCELED unless it is over already. */
void s3_wire_cancel(struct s3_wire *wire, struct s3_transfer *transfer);

/* Connections with a transfer on them, of those that there may be. Any thread. */
void s3_wire_usage(const struct s3_wire *wire, unsigned *busy, unsigned *max);

/* transfer_data.c: has libcurl take bodies from, and give answers to, the transfer that is the
 * argument of the handle's callbacks. */
void s3_transfer_callbacks(CURL *easy);

/* Proxy, certificates and protocols for a handle that is not of this wire. Any thread. */
bool s3_wire_configure(const struct s3_wire *wire, CURL *easy);

#endif
