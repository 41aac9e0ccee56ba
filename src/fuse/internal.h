/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/fuse share; nobody else includes it.
 *
 *	decode.c	the bytes of a request -> struct fs_req, by an opcode table
 *	init.c		what FUSE_INIT agrees on
 *	session.c	who answers it
 *	conn.c		whose request it is: the life of an fs_session
 *	window*.c	what of files is mapped into the guest's memory
 *	reply.c		the outcome -> the bytes of the reply
 *	metrics.c	counting them
 *
 * A request is a struct fuse_req in storage that the transport lends. It
 * belongs to the thread that decodes it, then to the driver, then to whoever
 * completes it; no lock covers it.
 */
#ifndef OVFS_FUSE_INTERNAL_H
#define OVFS_FUSE_INTERNAL_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "fs/fs.h"
#include "fuse/metrics.h"
#include "fuse/session.h"

struct fuse_conn;

/* Who answers an opcode. */
enum fuse_handler {
	FUSE_HANDLER_NONE, /* nobody: refused with fuse_op.refusal */
	FUSE_HANDLER_DRIVER,
	FUSE_HANDLER_SESSION,
	FUSE_HANDLER_WINDOW,
};

/* The strings after the fixed part of a request. */
enum fuse_names {
	FUSE_NAMES_NONE,
	FUSE_NAMES_ENTRY,   /* a directory entry */
	FUSE_NAMES_ENTRIES, /* two of them */
	FUSE_NAMES_SYMLINK, /* a directory entry, then the text of the link */
	FUSE_NAMES_XATTR,   /* name of an extended attribute */
	FUSE_NAMES_UNUSED,  /* a string without a meaning */
};

/* What follows the strings. */
enum fuse_payload {
	FUSE_PAYLOAD_NONE,
	FUSE_PAYLOAD_WRITE,
	FUSE_PAYLOAD_SETXATTR,
	FUSE_PAYLOAD_BATCH_FORGET,
	FUSE_PAYLOAD_REMOVEMAPPING,
};

/* The reply after its header. */
enum fuse_reply_kind {
	FUSE_REPLY_EMPTY,   /* nothing */
	FUSE_REPLY_NONE,    /* not even a header: the request gets no reply */
	FUSE_REPLY_OUT,	    /* a structure of union fs_out */
	FUSE_REPLY_DATA,    /* what the driver put into guest memory */
	FUSE_REPLY_XATTR,   /* DATA, or struct fuse_getxattr_out when size 0 was asked */
	FUSE_REPLY_COUNT32, /* struct fuse_write_out */
	FUSE_REPLY_COUNT64, /* struct fuse_copy_file_range_out */
};

struct fuse_op {
	const char *name;    /* NULL: no such opcode */
	uint8_t handler;     /* enum fuse_handler */
	uint8_t names;	     /* enum fuse_names */
	uint8_t payload;     /* enum fuse_payload */
	uint8_t reply;	     /* enum fuse_reply_kind */
	uint8_t refusal;     /* errno, FUSE_HANDLER_NONE */
	bool creates;	     /* may carry FUSE_EXT_GROUPS */
	bool waits;	     /* may wait without bound */
	uint16_t in_size;    /* of the fixed part, bytes */
	uint16_t out_offset; /* FUSE_REPLY_OUT: where and how much of union fs_out */
	uint16_t out_size;
};

/* What others may see of a request under way; begun_ns is written last. */
struct fuse_label {
	_Atomic uint64_t begun_ns, unique, nodeid;
	_Atomic uint32_t opcode;
	_Atomic bool reported; /* that it takes very long was logged */
};

struct fuse_req {
	struct fs_req req;

	struct fuse_label label;
	const struct fuse_op *op;
	struct fuse_conn *conn; /* which this request keeps alive; NULL for none */
	unsigned shard;		/* with conn: where it is counted */

	/* Decoding: what of the request is not consumed yet. */
	struct iov_cursor body;
	size_t left;	 /* bytes up to the end that the header gives */
	bool has_excess; /* there are readable bytes after that end */
	uint16_t extlen; /* fuse_in_header.total_extlen, in units of 8 bytes */

	struct fuse_session *session;
	uint64_t begun_ns;
	const struct iovec *out;
	size_t out_count;
	fuse_done_fn *done;
	void *arg;
	uint64_t copies_begun; /* with a window: see window_before() */

	/* Last, as most requests touch little of it. */
	char names[NAME_MAX + 1 + PATH_MAX];
};

/* ---- decode.c ---- */

/* Reads the header at the start of @in, into r->req and the decoding state.
 * r->op is set in any case. Returns 0 or -EINVAL. */
int fuse_decode_header(struct fuse_req *r, const struct iovec *in, size_t in_count);

/* Reads @size bytes of the fixed part. Returns 0, or -EINVAL when there are less. */
int fuse_decode_struct(struct fuse_req *r, void *dst, size_t size);

/*
 * Reads the rest, for a driver: r->req is complete after it. @flags: what
 * FUSE_INIT agreed on. Returns 0 or -errno, and then the driver has not to see
 * the request.
 */
int fuse_decode_body(struct fuse_req *r, uint64_t flags);

/* ---- reply.c ---- */

/* Bytes that the guest has room for, counted up to @want. */
size_t fuse_reply_room(const struct fuse_req *r, size_t want);

/* Each returns the bytes written: the "written" of fuse_done_fn. */
size_t fuse_reply_result(struct fuse_req *r, ssize_t result);
size_t fuse_reply_error(struct fuse_req *r, int error); /* 0 or -errno */
size_t fuse_reply_struct(struct fuse_req *r, const void *body, size_t size);

/* ---- init.c ---- */

enum fuse_init_outcome {
	FUSE_INIT_AGREED,  /* *out is the reply, *negotiated is valid */
	FUSE_INIT_RETRY,   /* *out is the reply; the guest will try with our major */
	FUSE_INIT_TOO_OLD, /* -EPROTO is the reply */
};

enum fuse_init_outcome fuse_init_negotiate(const struct fuse_init_in *in, uint64_t driver_flags,
					   uint32_t max_write, struct fuse_init_out *out,
					   struct fs_negotiated *negotiated);

/* ---- metrics.c ---- */

struct fuse_metrics;

/* NULL for lack of memory. */
struct fuse_metrics *fuse_metrics_new(void);
void fuse_metrics_free(struct fuse_metrics *metrics);

/* @opcode: 0 for one that we do not know. @result: as an fs_op_fn returns it. */
void fuse_metrics_add(struct fuse_metrics *metrics, uint32_t opcode, ssize_t result,
		      uint64_t latency_ns);
bool fuse_metrics_read(const struct fuse_metrics *metrics, uint32_t opcode,
		       struct fuse_opcode_metrics *out);

/* @r took @latency_ns, and is about to end with @result. */
void fuse_log_slow(struct fuse_req *r, ssize_t result, uint64_t latency_ns);

/* ---- session.c ---- */

/* For log lines that a guest can cause at will. */
struct log_limit *fuse_session_log_limit(struct fuse_session *session);

#endif
