/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that writes replies: struct fuse_out_header, then what the
 * opcode table says, into whatever segments the guest gave. A header may be
 * split over segments, or share one with the body.
 *
 * That there is room for the largest reply of the operation was checked
 * before the driver saw the request (decode.c): an operation that has been
 * carried out never fails for lack of room.
 */
#include <errno.h>

#include "base/util.h"
#include "fuse/internal.h"

/* Linux takes a reply with an errno outside this for a broken server. */
#define FUSE_ERRNO_MAX 511

size_t fuse_reply_room(const struct fuse_req *r, size_t want)
{
	size_t room = 0;

	for (size_t i = 0; i < r->out_count; i++) {
		if (r->out[i].iov_len >= want - room)
			return want;
		room += r->out[i].iov_len;
	}
	return room;
}

/* @data_size: bytes of the reply that are in place already, after the header;
 * else @body of @body_size is to be put there. */
static size_t fuse_reply_write(struct fuse_req *r, int error, const void *body, size_t body_size,
			       size_t data_size)
{
	struct iov_cursor c = iov_cursor(r->out, r->out_count);
	size_t fixed = sizeof(struct fuse_out_header) + body_size;
	struct fuse_out_header header = {
		.len = (uint32_t)(fixed + data_size),
		.error = error,
		.unique = r->req.unique,
	};

	/* Only a request that never got to its operation can be without. */
	if (unlikely(fuse_reply_room(r, fixed) < fixed)) {
		log_limited(fuse_session_log_limit(r->session), LOG_LEVEL_WARN,
			    "fuse_reply_no_room", "opcode=%u unique=%llu len=%zu", r->req.opcode,
			    (unsigned long long)r->req.unique, fixed);
		return 0;
	}
	iov_write(&c, &header, sizeof(header));
	if (body_size)
		iov_write(&c, body, body_size);
	return header.len;
}

size_t fuse_reply_error(struct fuse_req *r, int error)
{
	if (r->op->reply == FUSE_REPLY_NONE)
		return 0;
	return fuse_reply_write(r, error, NULL, 0, 0);
}

size_t fuse_reply_struct(struct fuse_req *r, const void *body, size_t size)
{
	return fuse_reply_write(r, 0, body, size, 0);
}

/* A driver that claims more than it was asked for would make us tell the
 * guest of bytes that nobody wrote. */
static uint64_t fuse_reply_clamp(struct fuse_req *r, ssize_t result, uint64_t limit)
{
	if (likely((uint64_t)result <= limit))
		return (uint64_t)result;
	log_limited(fuse_session_log_limit(r->session), LOG_LEVEL_ERROR, "fuse_driver_bug",
		    "op=%s unique=%llu result=%zd limit=%llu", r->op->name,
		    (unsigned long long)r->req.unique, result, (unsigned long long)limit);
	return limit;
}

static size_t fuse_reply_count(struct fuse_req *r, ssize_t result)
{
	uint64_t limit =
		r->req.opcode == FUSE_WRITE ? r->req.in.write.size : r->req.in.copy_file_range.len;
	uint64_t count = fuse_reply_clamp(r, result, limit);
	struct fuse_copy_file_range_out out64 = { .bytes_copied = count };
	struct fuse_write_out out32 = { .size = (uint32_t)count };

	if (r->op->reply == FUSE_REPLY_COUNT64)
		return fuse_reply_struct(r, &out64, sizeof(out64));
	return fuse_reply_struct(r, &out32, sizeof(out32));
}

/* What the guest may map is said in a file's attributes. */
static void fuse_reply_mark(struct fuse_req *r)
{
	if (likely(!r->req.session->inode_dax))
		return;
	switch (r->req.opcode) {
	case FUSE_LOOKUP:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		fs_attr_mark(r->req.session, &r->req.out.entry.attr);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		fs_attr_mark(r->req.session, &r->req.out.attr.attr);
		break;
	}
}

static size_t fuse_reply_success(struct fuse_req *r, ssize_t result)
{
	struct fuse_getxattr_out xattr;

	switch ((enum fuse_reply_kind)r->op->reply) {
	case FUSE_REPLY_XATTR:
		if (r->req.in.getxattr.size == 0) {
			xattr = (struct fuse_getxattr_out){ .size = r->req.out.xattr_size };
			return fuse_reply_struct(r, &xattr, sizeof(xattr));
		}
		/* fallthrough */
	case FUSE_REPLY_DATA:
		return fuse_reply_write(r, 0, NULL, 0,
					fuse_reply_clamp(r, result, r->req.reply_size));
	case FUSE_REPLY_OUT:
		fuse_reply_mark(r);
		return fuse_reply_struct(r, (const char *)&r->req.out + r->op->out_offset,
					 r->op->out_size);
	case FUSE_REPLY_COUNT32:
	case FUSE_REPLY_COUNT64:
		return fuse_reply_count(r, result);
	case FUSE_REPLY_EMPTY:
	case FUSE_REPLY_NONE:
		break;
	}
	return fuse_reply_error(r, 0);
}

size_t fuse_reply_result(struct fuse_req *r, ssize_t result)
{
	if (unlikely(log_enabled(LOG_LEVEL_TRACE)))
		log_event(LOG_LEVEL_TRACE, "fuse_request",
			  "op=%s unique=%llu nodeid=%llu uid=%u gid=%u result=%zd", r->op->name,
			  (unsigned long long)r->req.unique, (unsigned long long)r->req.nodeid,
			  r->req.uid, r->req.gid, result);
	if (result >= 0)
		return fuse_reply_success(r, result);
	if (unlikely(result < -FUSE_ERRNO_MAX)) {
		log_limited(fuse_session_log_limit(r->session), LOG_LEVEL_ERROR, "fuse_driver_bug",
			    "op=%s unique=%llu result=%zd", r->op->name,
			    (unsigned long long)r->req.unique, result);
		result = -EIO;
	}
	return fuse_reply_error(r, (int)result);
}
