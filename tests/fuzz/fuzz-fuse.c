/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the FUSE layer from the bytes of requests to the bytes of replies,
 * with a driver that checks what fs.h promises to drivers and uses all it is
 * given: names to their NUL, payloads and reply space to their last byte.
 *
 * The input is a list of requests of one session, each
 *
 *	u8 in_seg, u8 out_seg	segment sizes, 0 for one segment
 *	u8 how			HOW_*
 *	u8 unused
 *	u16 room		writable bytes
 *	u16 len			bytes of the request, which follow
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/loop.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/session.h"

#define HOW_FIX_LEN 1 /* make the header's length true */
#define HOW_LATER 2   /* the driver completes it after the next ones */
#define HOW_FAIL 4    /* the driver fails it */

#define SEGMENTS_MAX 512
#define REQUESTS_MAX 32

#define check(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			abort();                                                                   \
	} while (0)

struct record {
	uint8_t in_seg, out_seg, how, unused;
	uint16_t room, len;
};

struct fuzz_req {
	struct iovec in[SEGMENTS_MAX], out[SEGMENTS_MAX];
	size_t in_count, out_count, room;
	uint8_t how;
	bool done;
	struct fs_req *pending;
	ssize_t result;
	void *storage;
};

static struct fuzz_req *fuzz_now; /* what is being submitted */
static int fuzz_sessions;

/* ---- the driver ---- */

static void check_entry_name(const char *name)
{
	check(name && *name && strlen(name) <= NAME_MAX && !strchr(name, '/'));
	check(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

static void check_names(const struct fs_req *req)
{
	switch (req->opcode) {
	case FUSE_SYMLINK:
		check(*req->target && strlen(req->target) < PATH_MAX);
		check_entry_name(req->name);
		break;
	case FUSE_RENAME:
		check(req->in.rename.flags == 0);
		/* fallthrough */
	case FUSE_RENAME2:
		check_entry_name(req->newname);
		/* fallthrough */
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_LINK:
	case FUSE_CREATE:
		check_entry_name(req->name);
		break;
	case FUSE_SETXATTR:
	case FUSE_GETXATTR:
	case FUSE_REMOVEXATTR:
		check(*req->name && strlen(req->name) <= XATTR_NAME_MAX);
		break;
	default:
		check(!req->name && !req->newname);
	}
}

static size_t payload_size(const struct fs_req *req)
{
	switch (req->opcode) {
	case FUSE_WRITE:
		return req->in.write.size;
	case FUSE_SETXATTR:
		check(req->in.setxattr.size <= XATTR_SIZE_MAX);
		return req->in.setxattr.size;
	case FUSE_BATCH_FORGET:
		return req->in.batch_forget.count * sizeof(struct fuse_forget_one);
	}
	return 0;
}

static void use_payload(struct fs_req *req)
{
	size_t size = payload_size(req);
	unsigned char *copy;

	if (!size)
		return;
	check(iov_len(&req->data) == size);
	copy = malloc(size);
	check(copy && iov_read(&req->data, copy, size) == size);
	free(copy);
}

static ssize_t fill_reply(struct fs_req *req)
{
	static const char name[] = "some entry";
	struct fuse_entry_out entry = { .nodeid = 3 };
	size_t used = 0;

	check(iov_len(&req->reply) >= req->reply_size);
	if (req->opcode == FUSE_READDIR) {
		while (fs_dirent_add(req, &used, 2, 3, 4, name, strlen(name)))
			;
		return (ssize_t)used;
	}
	if (req->opcode == FUSE_READDIRPLUS) {
		while (fs_direntplus_add(req, &used, &entry, 2, 3, 4, name, strlen(name)))
			;
		return (ssize_t)used;
	}
	check(iov_zero(&req->reply, req->reply_size) == req->reply_size);
	return (ssize_t)req->reply_size;
}

static ssize_t outcome(struct fs_req *req)
{
	switch (req->opcode) {
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		if (!req->in.getxattr.size) {
			req->out.xattr_size = 9;
			return 0;
		}
		/* fallthrough */
	case FUSE_READ:
	case FUSE_READLINK:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return fill_reply(req);
	case FUSE_WRITE:
		return req->in.write.size;
	case FUSE_COPY_FILE_RANGE:
	case FUSE_COPY_FILE_RANGE_64:
		return (ssize_t)(req->in.copy_file_range.len & INT64_MAX);
	}
	return 0;
}

static ssize_t fuzz_op(struct fs_session *session, struct fs_req *req)
{
	ssize_t result;

	(void)session;
	check(req->opcode < FUSE_OPCODE_COUNT);
	check_names(req);
	use_payload(req);
	result = fuzz_now->how & HOW_FAIL ? -ENOENT : outcome(req);
	if (!(fuzz_now->how & HOW_LATER))
		return result;
	fuzz_now->pending = req;
	fuzz_now->result = result;
	return FS_PENDING;
}

static uint64_t fuzz_init_flags(const struct fs *fs)
{
	(void)fs;
	return UINT64_MAX;
}

static struct fs_session *fuzz_session_new(struct fs *fs, const struct fs_negotiated *negotiated)
{
	struct fs_session *session = malloc(sizeof(*session));

	(void)negotiated;
	check(session);
	session->fs = fs;
	fuzz_sessions++;
	return session;
}

static void fuzz_session_free(struct fs_session *session)
{
	fuzz_sessions--;
	free(session);
}

static void fuzz_session_interrupt(struct fs_session *session, uint64_t unique)
{
	(void)session;
	(void)unique;
}

static struct fs_ops fuzz_ops = {
	.name = "fuzz",
	.init_flags = fuzz_init_flags,
	.session_new = fuzz_session_new,
	.session_free = fuzz_session_free,
	.session_interrupt = fuzz_session_interrupt,
};

/* ---- the guest ---- */

static bool expects_no_reply(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT ||
	       opcode == FUSE_NOTIFY_REPLY;
}

/* Allocations of exact size, for AddressSanitizer. */
static size_t cut(struct iovec *iov, const uint8_t *data, size_t len, size_t seg)
{
	size_t n = 0, part;

	for (size_t done = 0; done < len; done += part, n++) {
		part = seg && n < SEGMENTS_MAX - 1 ? MIN(seg, len - done) : len - done;
		iov[n].iov_base = malloc(part);
		iov[n].iov_len = part;
		check(iov[n].iov_base);
		if (data)
			memcpy(iov[n].iov_base, data + done, part);
		else
			memset(iov[n].iov_base, 0, part);
	}
	return n;
}

static void fuzz_done(void *arg, size_t written)
{
	struct fuzz_req *r = arg;
	struct iov_cursor in = iov_cursor(r->in, r->in_count);
	struct iov_cursor out = iov_cursor(r->out, r->out_count);
	struct fuse_in_header ih = { 0 };
	struct fuse_out_header oh = { 0 };

	check(!r->done);
	r->done = true;
	check(written <= r->room);
	if (iov_read(&in, &ih, sizeof(ih)) < offsetof(struct fuse_in_header, nodeid))
		memset(&ih, 0, sizeof(ih)); /* it does not say which request it is */
	if (expects_no_reply(ih.opcode)) {
		check(written == 0);
		return;
	}
	iov_read(&out, &oh, sizeof(oh));
	if (r->room < sizeof(oh)) {
		check(written == 0);
		return;
	}
	check(written >= sizeof(oh) && oh.len == written);
	check(oh.error <= 0 && oh.error > -512);
	check(!oh.error || written == sizeof(oh));
	check(oh.unique == ih.unique);
}

static struct fuzz_req *fuzz_start(struct fuse_session *session, const struct record *rec,
				   uint8_t *bytes)
{
	struct fuzz_req *r = calloc(1, sizeof(*r));
	uint32_t len = rec->len;

	check(r);
	if (rec->how & HOW_FIX_LEN && len >= sizeof(len))
		memcpy(bytes, &len, sizeof(len));
	r->how = rec->how;
	r->room = rec->room;
	r->in_count = cut(r->in, bytes, rec->len, rec->in_seg);
	r->out_count = cut(r->out, NULL, rec->room, rec->out_seg);
	r->storage = malloc(fuse_request_size());
	check(r->storage);
	memset(r->storage, 0xa5, fuse_request_size());
	fuzz_now = r;
	fuse_session_request(session, r->storage, loop_now_ns(), r->in, r->in_count, r->out,
			     r->out_count, fuzz_done, r);
	return r;
}

static void fuzz_finish(struct fuzz_req *r)
{
	if (r->pending)
		fs_req_complete(r->pending, r->result);
	check(r->done);
	for (size_t i = 0; i < r->in_count; i++)
		free(r->in[i].iov_base);
	for (size_t i = 0; i < r->out_count; i++)
		free(r->out[i].iov_base);
	free(r->storage);
	free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fs fs = { &fuzz_ops };
	struct fuse_session *session = fuse_session_new(&fs, 1 << 20);
	struct fuzz_req *reqs[REQUESTS_MAX];
	uint8_t *copy = malloc(size + 1);
	size_t n = 0, at = 0;
	struct record rec;

	check(session && copy);
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < FUSE_OPCODE_COUNT; i++)
		fuzz_ops.op[i] = fuzz_op;
	if (size)
		memcpy(copy, data, size);
	while (n < REQUESTS_MAX && size - at >= sizeof(rec)) {
		memcpy(&rec, copy + at, sizeof(rec));
		at += sizeof(rec);
		rec.len = (uint16_t)MIN((size_t)rec.len, size - at);
		reqs[n++] = fuzz_start(session, &rec, copy + at);
		at += rec.len;
	}
	while (n)
		fuzz_finish(reqs[--n]);
	fuse_session_free(session);
	check(fuzz_sessions == 0);
	free(copy);
	return 0;
}
