/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest and a driver for the tests of src/fuse.
 *
 * struct msg		the bytes of a request, put together piece by piece
 * struct fake_fs	a driver: records what it is given, does what it is told
 * struct guest		sends a msg in segments of any size and keeps the reply
 *
 * Each segment is an allocation of its own and exact size, so that a byte
 * too far shows under AddressSanitizer. One thread, except the atomics.
 */
#ifndef OVFS_TEST_FUSE_FAKE_H
#define OVFS_TEST_FUSE_FAKE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/loop.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/session.h"

#define UNUSED __attribute__((unused))

/* ---- the bytes of a request ---- */

struct msg {
	size_t len;
	unsigned char bytes[16384];
};

static inline struct fuse_in_header *msg_header(struct msg *m)
{
	return (struct fuse_in_header *)(void *)m->bytes;
}

static inline void msg_put(struct msg *m, const void *data, size_t len)
{
	assert_true(m->len + len <= sizeof(m->bytes));
	if (len)
		memcpy(m->bytes + m->len, data, len);
	m->len += len;
	msg_header(m)->len = (uint32_t)m->len;
}

static inline void msg_str(struct msg *m, const char *s)
{
	msg_put(m, s, strlen(s) + 1);
}

/* A string of @len bytes and its NUL. */
static inline void msg_long_str(struct msg *m, size_t len)
{
	for (size_t i = 0; i < len; i++)
		msg_put(m, "n", 1);
	msg_put(m, "", 1);
}

static inline void msg_begin(struct msg *m, uint32_t opcode)
{
	struct fuse_in_header h = {
		.opcode = opcode,
		.unique = 0x1122334455667700u + opcode,
		.nodeid = 0xabcd0000u + opcode,
		.uid = 1001,
		.gid = 1002,
		.pid = 1003,
	};

	memset(m, 0, sizeof(*m));
	msg_put(m, &h, sizeof(h));
}

static inline void msg_init(struct msg *m, uint32_t major, uint32_t minor, uint64_t flags)
{
	struct fuse_init_in in = {
		.major = major,
		.minor = minor,
		.max_readahead = 131072,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
	};

	msg_begin(m, FUSE_INIT);
	/* Before 7.36 the structure ended before flags2. */
	msg_put(m, &in, minor < 36 ? offsetof(struct fuse_init_in, flags2) : sizeof(in));
}

/* Appends FUSE_EXT_GROUPS and counts it in the header. */
static inline void msg_ext_group(struct msg *m, uint32_t type, uint32_t nr, uint32_t group)
{
	struct fuse_ext_header ext = { .size = 16, .type = type };
	uint32_t body[2] = { nr, group };

	msg_put(m, &ext, sizeof(ext));
	msg_put(m, body, sizeof(body));
	msg_header(m)->total_extlen = (uint16_t)(msg_header(m)->total_extlen + 2);
}

/* ---- the driver ---- */

struct fake_fs {
	struct fs fs;
	uint64_t flags;	     /* for init_flags() */
	bool no_memory;	     /* session_new() fails */
	ssize_t result;	     /* of every operation */
	fs_op_fn *handler;   /* if set: decides instead, after recording */
	struct fs_req *last; /* the request itself; what it holds may be gone */
	struct fs_negotiated negotiated;
	char name[256], newname[4096]; /* of the last request; "" for none */
	bool has_name, has_newname;
	unsigned char data[8192]; /* its payload */
	size_t data_len;
	struct fs_req copy;
	int calls;
	_Atomic int sessions_new, sessions_freed, interrupts;
	_Atomic uint64_t interrupted; /* the unique of the last one */
};

struct fake_session {
	struct fs_session s;
	_Atomic int in_flight; /* kept by handlers that want it checked */
};

static inline struct fake_fs *fake_of(struct fs_session *s)
{
	return container_of(s->fs, struct fake_fs, fs);
}

static uint64_t fake_init_flags(const struct fs *fs)
{
	return container_of(fs, struct fake_fs, fs)->flags;
}

static struct fs_session *fake_session_new(struct fs *fs, const struct fs_negotiated *negotiated)
{
	struct fake_fs *fake = container_of(fs, struct fake_fs, fs);
	struct fake_session *s;

	if (fake->no_memory)
		return NULL;
	s = calloc(1, sizeof(*s));
	assert_non_null(s);
	s->s.fs = fs;
	fake->negotiated = *negotiated;
	fake->sessions_new++;
	return &s->s;
}

static void fake_session_free(struct fs_session *session)
{
	struct fake_session *s = container_of(session, struct fake_session, s);

	if (s->in_flight)
		abort(); /* any thread: cmocka's assertions are not for that */
	fake_of(session)->sessions_freed++;
	free(s);
}

static void fake_session_interrupt(struct fs_session *session, uint64_t unique)
{
	struct fake_fs *fake = fake_of(session);

	fake->interrupts++;
	fake->interrupted = unique;
}

static ssize_t fake_op(struct fs_session *session, struct fs_req *req)
{
	struct fake_fs *fake = fake_of(session);
	struct iov_cursor data = req->data;

	fake->calls++;
	fake->last = req;
	fake->copy = *req;
	fake->has_name = req->name != NULL;
	fake->has_newname = req->newname != NULL;
	fake->name[0] = fake->newname[0] = '\0';
	if (req->name) {
		assert_true(strlen(req->name) < sizeof(fake->name));
		memcpy(fake->name, req->name, strlen(req->name) + 1);
	}
	if (req->newname) {
		assert_true(strlen(req->newname) < sizeof(fake->newname));
		memcpy(fake->newname, req->newname, strlen(req->newname) + 1);
	}
	fake->data_len = 0;
	if (req->opcode == FUSE_WRITE || req->opcode == FUSE_SETXATTR ||
	    req->opcode == FUSE_BATCH_FORGET) {
		assert_true(iov_len(&data) <= sizeof(fake->data));
		fake->data_len = iov_read(&data, fake->data, sizeof(fake->data));
	}
	return fake->handler ? fake->handler(session, req) : fake->result;
}

/* The operations that a driver of ours has; INIT and its like never arrive. */
static const struct fs_ops *fake_ops(void)
{
	static struct fs_ops ops = {
		.name = "fake",
		.init_flags = fake_init_flags,
		.session_new = fake_session_new,
		.session_free = fake_session_free,
		.session_interrupt = fake_session_interrupt,
	};

	for (unsigned i = 0; i < FUSE_OPCODE_COUNT; i++)
		ops.op[i] = fake_op;
	return &ops;
}

/* ---- the guest ---- */

struct guest {
	struct fake_fs fake;
	struct fuse_session *session;
	void *storage;
	size_t in_seg, out_seg; /* segment sizes, bytes; 0: one for all */
	size_t out_first;	/* size of the first writable segment; 0: as the others */
	int done;
	size_t written;
	unsigned char reply[1 << 16]; /* gathered after each call */
	struct iovec in[4096], out[4096];
	size_t in_count, out_count, room;
};

static inline size_t guest_cut(struct iovec *iov, size_t len, size_t first, size_t seg)
{
	size_t n = 0, part;

	while (len) {
		part = n == 0 && first ? first : seg ? seg : len;
		part = MIN(part, len);
		iov[n].iov_base = malloc(part);
		iov[n].iov_len = part;
		assert_non_null(iov[n].iov_base);
		memset(iov[n].iov_base, 0xee, part);
		len -= part;
		n++;
	}
	return n;
}

static inline void guest_uncut(struct iovec *iov, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(iov[i].iov_base);
}

static void guest_done(void *arg, size_t written)
{
	struct guest *g = arg;

	g->done++;
	g->written = written;
}

/* Starts a request with @room writable bytes; guest_finish() ends it. */
static inline void guest_start(struct guest *g, const void *bytes, size_t len, size_t room)
{
	struct iov_cursor c;

	g->in_count = guest_cut(g->in, len, 0, g->in_seg);
	g->out_count = guest_cut(g->out, room, g->out_first, g->out_seg);
	g->room = room;
	c = iov_cursor(g->in, g->in_count);
	iov_write(&c, bytes, len);
	g->done = 0;
	fuse_session_request(g->session, g->storage, loop_now_ns(), g->in, g->in_count, g->out,
			     g->out_count, guest_done, g);
}

static inline size_t guest_finish(struct guest *g)
{
	struct iov_cursor c = iov_cursor(g->out, g->out_count);

	assert_int_equal(g->done, 1);
	assert_true(g->written <= g->room);
	memset(g->reply, 0, sizeof(g->reply));
	iov_read(&c, g->reply, sizeof(g->reply));
	guest_uncut(g->in, g->in_count);
	guest_uncut(g->out, g->out_count);
	if (g->written) {
		struct fuse_out_header *h = (struct fuse_out_header *)(void *)g->reply;

		assert_true(g->written >= sizeof(*h));
		assert_int_equal(h->len, g->written);
	}
	return g->written;
}

static inline size_t guest_call(struct guest *g, const void *bytes, size_t len, size_t room)
{
	guest_start(g, bytes, len, room);
	return guest_finish(g);
}

static inline size_t guest_send(struct guest *g, const struct msg *m, size_t room)
{
	return guest_call(g, m->bytes, m->len, room);
}

static inline const struct fuse_out_header *guest_reply(const struct guest *g)
{
	return (const struct fuse_out_header *)(const void *)g->reply;
}

static inline const void *guest_body(const struct guest *g)
{
	return g->reply + sizeof(struct fuse_out_header);
}

/* The reply is a header alone, with this error (0 or -errno). */
#define assert_reply_error(g, m, err)                                                              \
	do {                                                                                       \
		assert_int_equal((g)->written, sizeof(struct fuse_out_header));                    \
		assert_int_equal(guest_reply(g)->error, (err));                                    \
		assert_int_equal(guest_reply(g)->unique, msg_header(m)->unique);                   \
	} while (0)

#define assert_reply_body(g, m, size)                                                              \
	do {                                                                                       \
		assert_int_equal((g)->written, sizeof(struct fuse_out_header) + (size));           \
		assert_int_equal(guest_reply(g)->error, 0);                                        \
		assert_int_equal(guest_reply(g)->unique, msg_header(m)->unique);                   \
	} while (0)

#define GUEST_ALL_FLAGS (~((uint64_t)1 << 63))

static inline void guest_say_init(struct guest *g, uint32_t minor, uint64_t flags)
{
	struct msg m;

	msg_init(&m, FUSE_KERNEL_VERSION, minor, flags);
	guest_send(g, &m, 256);
	assert_reply_body(g, &m, sizeof(struct fuse_init_out));
}

static int UNUSED guest_setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return -1;
	/* The logs that malformed requests cause are not what is tested. */
	log_set_level(LOG_LEVEL_ERROR);
	g->fake.fs.ops = fake_ops();
	g->fake.flags = GUEST_ALL_FLAGS;
	g->session = fuse_session_new(&g->fake.fs, 1 << 20);
	g->storage = aligned_alloc(16, fuse_request_size());
	*state = g;
	return g->session && g->storage ? 0 : -1;
}

static int UNUSED guest_setup_ready(void **state)
{
	int err = guest_setup(state);

	if (!err)
		guest_say_init(*state, FUSE_ABI_MINOR, GUEST_ALL_FLAGS);
	return err;
}

static int UNUSED guest_teardown(void **state)
{
	struct guest *g = *state;
	int leaked;

	fuse_session_free(g->session);
	leaked = g->fake.sessions_new - g->fake.sessions_freed;
	free(g->storage);
	free(g);
	return leaked;
}

/* ---- one good request of each kind ---- */

struct sample {
	uint32_t opcode;
	uint16_t in_size;   /* fixed part */
	const char *name;   /* may be NULL */
	const char *second; /* likewise */
	size_t payload;	    /* bytes of 'd' at the end */
	size_t reply;	    /* bytes after the header; SIZE_MAX: no reply at all */
	bool data;	    /* reply is as long as the driver says */
};

#define NO_REPLY SIZE_MAX

/* Of the requests that reach a driver. */
static const struct sample samples[] UNUSED = {
	{ FUSE_LOOKUP, 0, "entry", .reply = 128 },
	{ FUSE_FORGET, 8, .reply = NO_REPLY },
	{ FUSE_GETATTR, 16, .reply = 104 },
	{ FUSE_SETATTR, 88, .reply = 104 },
	{ FUSE_READLINK, 0, .data = true },
	{ FUSE_SYMLINK, 0, "entry", "../some where/else", .reply = 128 },
	{ FUSE_MKNOD, 16, "entry", .reply = 128 },
	{ FUSE_MKDIR, 8, "entry", .reply = 128 },
	{ FUSE_UNLINK, 0, "entry" },
	{ FUSE_RMDIR, 0, "entry" },
	{ FUSE_RENAME, 8, "entry", "renamed" },
	{ FUSE_LINK, 8, "entry", .reply = 128 },
	{ FUSE_OPEN, 8, .reply = 16 },
	{ FUSE_READ, 40, .data = true },
	{ FUSE_WRITE, 40, .payload = 777, .reply = 8 },
	{ FUSE_STATFS, 0, .reply = 80 },
	{ FUSE_RELEASE, 24 },
	{ FUSE_FSYNC, 16 },
	{ FUSE_SETXATTR, 16, "user.attr", .payload = 99 },
	{ FUSE_GETXATTR, 8, "user.attr", .data = true },
	{ FUSE_LISTXATTR, 8, .data = true },
	{ FUSE_REMOVEXATTR, 0, "user.attr" },
	{ FUSE_FLUSH, 24 },
	{ FUSE_OPENDIR, 8, .reply = 16 },
	{ FUSE_READDIR, 40, .data = true },
	{ FUSE_RELEASEDIR, 24 },
	{ FUSE_FSYNCDIR, 16 },
	{ FUSE_GETLK, 48, .reply = 24 },
	{ FUSE_SETLK, 48 },
	{ FUSE_SETLKW, 48 },
	{ FUSE_ACCESS, 8 },
	{ FUSE_CREATE, 16, "entry", .reply = 144 },
	{ FUSE_BATCH_FORGET, 8, .payload = 48, .reply = NO_REPLY },
	{ FUSE_FALLOCATE, 32 },
	{ FUSE_READDIRPLUS, 40, .data = true },
	{ FUSE_RENAME2, 16, "entry", "renamed" },
	{ FUSE_LSEEK, 24, .reply = 8 },
	{ FUSE_COPY_FILE_RANGE, 56, .reply = 8 },
	{ FUSE_SYNCFS, 8 },
	{ FUSE_TMPFILE, 16, "/", .reply = 144 },
	{ FUSE_STATX, 24, .reply = 288 },
	{ FUSE_COPY_FILE_RANGE_64, 56, .reply = 8 },
};

/* Where the size field of the fixed part is that has to fit what follows. */
static inline void sample_set_size(const struct sample *s, unsigned char *fixed)
{
	uint32_t size = 200;

	switch (s->opcode) {
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		memcpy(fixed + offsetof(struct fuse_read_in, size), &size, 4);
		break;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		memcpy(fixed, &size, 4);
		break;
	case FUSE_WRITE:
		size = (uint32_t)s->payload;
		memcpy(fixed + offsetof(struct fuse_write_in, size), &size, 4);
		break;
	case FUSE_SETXATTR:
		size = (uint32_t)s->payload;
		memcpy(fixed, &size, 4);
		break;
	case FUSE_BATCH_FORGET:
		size = (uint32_t)s->payload / 16;
		memcpy(fixed, &size, 4);
		break;
	}
}

/* The fixed part has a pattern of its own in each byte, sizes excepted. */
static inline void msg_sample(struct msg *m, const struct sample *s)
{
	unsigned char fixed[128];

	for (size_t i = 0; i < sizeof(fixed); i++)
		fixed[i] = (unsigned char)(i + 1);
	sample_set_size(s, fixed);
	msg_begin(m, s->opcode);
	msg_put(m, fixed, s->in_size);
	if (s->name)
		msg_str(m, s->name);
	if (s->second)
		msg_str(m, s->second);
	for (size_t i = 0; i < s->payload; i++)
		msg_put(m, "d", 1);
}

#endif
