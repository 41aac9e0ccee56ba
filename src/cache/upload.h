/* SPDX-License-Identifier: Apache-2.0 */
/* Between upload.c (sessions), plan.c (what parts are) and parts.c (in flight). All
 * functions: under the lock of the file, by the thread that has file.committing. */
#ifndef OVFS_CACHE_UPLOAD_H
#define OVFS_CACHE_UPLOAD_H

#include "cache/write.h"

struct upload_part {
	uint64_t start, length;
	bool copied; /* from the base */
	/* Sent while it was being written, and its blocks may be gone: the session is the one
	 * that has these bytes. */
	bool let_go;
	struct store_part sent;
};

/* A write session. Its parts are those that are sent, without gaps from the beginning of
 * the file to front; between two commits none lies behind the last that was let go. */
struct upload {
	char session[STORE_SESSION_MAX];
	char write_id[STORE_WRITE_ID_MAX];
	struct upload_part *part;
	uint32_t parts, room;
	uint64_t front;
	uint64_t real_limit; /* base_limit, without the parts that were let go */
	bool set_mtime;	     /* as BEGIN said */
	int64_t mtime_ns;
};

/* ---- plan.c ---- */

struct upload_plan {
	uint64_t start, length;
	bool copy;
	bool partial; /* what is dirty in it is left for another commit */
};

/* What part number @index + 1, from @at on, is to be, of a file of @size bytes, @at < @size.
 * False: the object has to end before it, and what is left takes another commit. */
bool upload_plan_part(struct cache_file *f, uint64_t at, uint64_t size, uint32_t index,
		      struct upload_plan *plan);

/* Whether any block that begins in [@start, @end) is dirty. */
bool upload_is_dirty(struct cache_file *f, uint64_t start, uint64_t end);

/* Whether part @index + 1 of the stream may go: [@front, @front + *@length). */
bool upload_stream_ready(struct cache_file *f, uint64_t front, uint32_t index, uint64_t *length);
/* Without an upload: whether a stream should begin, and at which offset. What lies before is to be
 * copied. */
bool upload_stream_start(struct cache_file *f, uint64_t *start);

/* ---- parts.c ---- */

/* What sending the file has come to. */
struct upload_result {
	uint64_t size; /* of the object that the parts make */
	bool complete; /* all that was dirty at the beginning is in it */
};

/* Sends parts until the file, of @size bytes, is in the session. What was dirty stays sealed in
 * @kept, also after an error. 0 or negative errno. */
int upload_send_all(struct cache_file *f, uint64_t size, struct gather *kept,
		    struct upload_result *result);

/* Sends the parts of the stream that are ready, and lets them go. 0 or negative errno. */
int upload_send_ready(struct cache_file *f);

#endif
