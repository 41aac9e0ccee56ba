/* SPDX-License-Identifier: Apache-2.0 */
/* What INIT agrees on, and the life of a session, on one thread. */
#include "base/loop.h"
#include "fuse-fake.h"

#define BASE                                                                                       \
	((uint64_t)(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |    \
		    FUSE_MAX_PAGES))

static const struct fuse_init_out *init(struct guest *g, uint32_t minor, uint64_t flags)
{
	guest_say_init(g, minor, flags);
	return guest_body(g);
}

static uint64_t out_flags(const struct fuse_init_out *out)
{
	return out->flags | (uint64_t)out->flags2 << 32;
}

static int init_error(struct guest *g, uint32_t major, uint32_t minor)
{
	struct msg m;

	msg_init(&m, major, minor, FUSE_INIT_EXT);
	guest_send(g, &m, 256);
	return guest_reply(g)->error;
}

static int statfs_error(struct guest *g)
{
	struct msg m;

	msg_begin(&m, FUSE_STATFS);
	guest_send(g, &m, 256);
	return guest_reply(g)->error;
}

static void test_versions(void **state)
{
	struct guest *g = *state;
	const struct fuse_init_out *out;

	for (uint32_t minor = 0; minor < 27; minor++)
		assert_int_equal(init_error(g, 7, minor), -EPROTO);
	for (uint32_t major = 0; major < 7; major++)
		assert_int_equal(init_error(g, major, 40), -EPROTO);
	assert_int_equal(g->fake.sessions_new, 0);
	for (uint32_t minor = 27; minor < 100; minor++) {
		out = init(g, minor, FUSE_MAX_PAGES);
		assert_int_equal(out->major, 7);
		assert_int_equal(out->minor, MIN(minor, 45u));
		assert_int_equal(g->fake.negotiated.minor, MIN(minor, 45u));
		assert_int_equal(g->fake.sessions_new - g->fake.sessions_freed, 1);
	}
}

/* A guest of a later major is told ours, and comes again with it. */
static void test_newer_major(void **state)
{
	struct guest *g = *state;
	const struct fuse_init_out *out;
	struct msg m;

	msg_init(&m, 8, 3, GUEST_ALL_FLAGS);
	guest_send(g, &m, 256);
	assert_reply_body(g, &m, sizeof(*out));
	out = guest_body(g);
	assert_int_equal(out->major, 7);
	assert_int_equal(out->minor, 45);
	assert_int_equal(out->flags, 0);
	assert_int_equal(g->fake.sessions_new, 0);
	assert_int_equal(statfs_error(g), -EIO);
	init(g, 45, 0);
	assert_int_equal(statfs_error(g), 0);
}

static void test_limits(void **state)
{
	static const struct {
		uint32_t max_write, sent, pages;
	} cases[] = {
		{ 0, 4096, 1 },
		{ 4096, 4096, 1 },
		{ 4097, 4097, 2 },
		{ 131072, 131072, 32 },
		{ 1 << 20, 1 << 20, 256 },
		{ 4 << 20, 4 << 20, 1024 },
		{ 1u << 30, 1u << 30, 65535 },
	};
	struct guest *g = *state;
	const struct fuse_init_out *out;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fuse_session_free(g->session);
		g->session = fuse_session_new(&g->fake.fs, cases[i].max_write);
		out = init(g, 38, BASE);
		assert_int_equal(out->max_write, cases[i].sent);
		assert_int_equal(out->max_pages, cases[i].pages);
		assert_int_equal(g->fake.negotiated.max_write, cases[i].sent);
		assert_int_equal(out->max_readahead, 131072);
		assert_int_equal(out->time_gran, 1);
		assert_int_equal(out->map_alignment, 0);
		assert_true(out->max_background > out->congestion_threshold);
		assert_true(out->congestion_threshold > 0);
		for (size_t k = 0; k < ARRAY_SIZE(out->unused); k++)
			assert_int_equal(out->unused[k], 0);
		/* Not agreed on: not mentioned. */
		out = init(g, 38, BASE & ~(uint64_t)FUSE_MAX_PAGES);
		assert_int_equal(out->max_pages, 0);
	}
}

static void test_flags_need_guest_and_driver(void **state)
{
	static const uint64_t ours = FUSE_POSIX_LOCKS | FUSE_AUTO_INVAL_DATA | FUSE_SETXATTR_EXT |
				     FUSE_CREATE_SUPP_GROUP | FUSE_DIRECT_IO_ALLOW_MMAP |
				     FUSE_ALLOW_IDMAP;
	struct guest *g = *state;
	uint64_t flags;

	g->fake.flags = 0;
	assert_int_equal(out_flags(init(g, 45, GUEST_ALL_FLAGS)), BASE | FUSE_INIT_EXT);
	assert_int_equal(g->fake.negotiated.flags, BASE | FUSE_INIT_EXT);
	g->fake.flags = ours;
	assert_int_equal(out_flags(init(g, 45, 0)), 0);
	assert_int_equal(out_flags(init(g, 45, GUEST_ALL_FLAGS)), BASE | FUSE_INIT_EXT | ours);
	assert_int_equal(g->fake.negotiated.flags, BASE | FUSE_INIT_EXT | ours);
	for (unsigned bit = 0; bit < 63; bit++) {
		flags = FUSE_INIT_EXT | (uint64_t)1 << bit;
		assert_int_equal(out_flags(init(g, 45, flags)),
				 flags & (BASE | FUSE_INIT_EXT | ours));
	}
}

/* Nothing that this layer cannot do, even when both others would. */
static void test_flags_never_agreed(void **state)
{
	static const uint64_t never = FUSE_EXPORT_SUPPORT | FUSE_FILE_OPS | FUSE_SPLICE_READ |
				      FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE | FUSE_HAS_IOCTL_DIR |
				      FUSE_ABORT_ERROR | FUSE_MAP_ALIGNMENT | FUSE_SECURITY_CTX |
				      FUSE_HAS_INODE_DAX | FUSE_HAS_EXPIRE_ONLY | FUSE_HAS_RESEND;
	struct guest *g = *state;

	assert_int_equal(out_flags(init(g, 45, GUEST_ALL_FLAGS)) & never, 0);
}

/* The second word is there only if the first says so. */
static void test_flags2_without_init_ext(void **state)
{
	struct guest *g = *state;
	const struct fuse_init_out *out = init(g, 45, GUEST_ALL_FLAGS & ~(uint64_t)FUSE_INIT_EXT);

	assert_int_equal(out->flags2, 0);
	assert_int_equal(out->flags & FUSE_INIT_EXT, 0);
	assert_int_equal(g->fake.negotiated.flags >> 32, 0);
}

static void test_readdirplus_auto_needs_readdirplus(void **state)
{
	struct guest *g = *state;

	assert_int_equal(init(g, 45, FUSE_READDIRPLUS_AUTO)->flags, 0);
	assert_int_equal(init(g, 45, FUSE_READDIRPLUS_AUTO | FUSE_DO_READDIRPLUS)->flags,
			 FUSE_READDIRPLUS_AUTO | FUSE_DO_READDIRPLUS);
	g->fake.flags = FUSE_READDIRPLUS_AUTO;
	assert_int_equal(init(g, 45, GUEST_ALL_FLAGS)->flags & FUSE_READDIRPLUS_AUTO, 0);
}

/* Any length from the oldest structure on, known or not. */
static void test_init_lengths(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t len = 0; len < 200; len++) {
		struct fuse_init_in in = { .major = 7, .minor = 45 };
		unsigned char bytes[200] = { 0 };

		memcpy(bytes, &in, sizeof(in));
		msg_begin(&m, FUSE_INIT);
		msg_put(&m, bytes, len);
		g->in_seg = len % 9;
		guest_send(g, &m, 256);
		if (len < 16)
			assert_reply_error(g, &m, -EINVAL);
		else
			assert_reply_body(g, &m, sizeof(struct fuse_init_out));
	}
}

/* No session is made when there is no room to tell of it. */
static void test_init_room(void **state)
{
	struct guest *g = *state;
	struct msg m;

	msg_init(&m, 7, 45, 0);
	for (size_t room = 0; room < 16 + sizeof(struct fuse_init_out); room++) {
		guest_send(g, &m, room);
		if (room < 16)
			assert_int_equal(g->written, 0);
		else
			assert_reply_error(g, &m, -EINVAL);
	}
	assert_int_equal(g->fake.sessions_new, 0);
}

static void test_init_without_memory(void **state)
{
	struct guest *g = *state;

	g->fake.no_memory = true;
	assert_int_equal(init_error(g, 7, 45), -ENOMEM);
	assert_int_equal(statfs_error(g), -EIO);
	g->fake.no_memory = false;
	assert_int_equal(init_error(g, 7, 45), 0);
	assert_int_equal(statfs_error(g), 0);
}

static void test_before_init(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		guest_send(g, &m, 1024);
		if (samples[i].reply == NO_REPLY)
			assert_int_equal(g->written, 0);
		else
			assert_reply_error(g, &m, -EIO);
	}
	assert_int_equal(g->fake.calls, 0);
	msg_begin(&m, FUSE_DESTROY);
	guest_send(g, &m, 256);
	assert_reply_error(g, &m, 0);
	fuse_session_interrupt(g->session);
	fuse_session_reset(g->session);
	assert_int_equal(g->fake.interrupts, 0);
}

static void test_destroy(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (int i = 1; i < 100; i++) {
		init(g, 45, 0);
		assert_int_equal(statfs_error(g), 0);
		msg_begin(&m, FUSE_DESTROY);
		guest_send(g, &m, 256);
		assert_reply_error(g, &m, 0);
		assert_int_equal(g->fake.sessions_new, i);
		assert_int_equal(g->fake.sessions_freed, i);
		assert_int_equal(statfs_error(g), -EIO);
	}
}

static void test_destroy_syncs(void **state)
{
	struct guest *g = *state;
	struct fs_ops ops = *g->fake.fs.ops;
	const struct fs_ops *plain = g->fake.fs.ops;
	struct msg m;

	ops.sync_at_unmount = true;
	g->fake.fs.ops = &ops;
	init(g, 45, 0);
	for (int i = 1; i < 3; i++) {
		g->fake.calls = 0;
		g->fake.result = i == 1 ? 0 : -EIO;
		msg_begin(&m, FUSE_DESTROY);
		guest_send(g, &m, 256);
		assert_reply_error(g, &m, i == 1 ? 0 : -EIO);
		assert_int_equal(g->fake.calls, 1);
		assert_int_equal(g->fake.copy.opcode, FUSE_SYNCFS);
		assert_int_equal(g->fake.copy.nodeid, FUSE_ROOT_ID);
		assert_int_equal(g->fake.sessions_freed, i);
		init(g, 45, 0);
	}
	/* Without a session there is nothing to sync. */
	fuse_session_reset(g->session);
	g->fake.calls = 0;
	guest_send(g, &m, 256);
	assert_reply_error(g, &m, 0);
	assert_int_equal(g->fake.calls, 0);
	g->fake.result = 0;
	g->fake.fs.ops = plain;
}

static void test_reset(void **state)
{
	struct guest *g = *state;

	init(g, 45, 0);
	fuse_session_reset(g->session);
	assert_int_equal(g->fake.sessions_freed, 1);
	assert_int_equal(statfs_error(g), -EIO);
	init(g, 45, 0);
	assert_int_equal(statfs_error(g), 0);
}

static void test_interrupt(void **state)
{
	struct fuse_interrupt_in in = { .unique = 4711 };
	struct guest *g = *state;
	struct msg m;

	init(g, 45, 0);
	msg_begin(&m, FUSE_INTERRUPT);
	msg_put(&m, &in, sizeof(in));
	guest_send(g, &m, 256);
	assert_int_equal(g->written, 0);
	assert_int_equal(g->fake.interrupts, 1);
	assert_int_equal(g->fake.interrupted, 4711);
	/* Without any room, as Linux sends it. */
	guest_send(g, &m, 0);
	assert_int_equal(g->fake.interrupts, 2);
	/* 0 would be "all" to the driver. */
	in.unique = 0;
	msg_begin(&m, FUSE_INTERRUPT);
	msg_put(&m, &in, sizeof(in));
	guest_send(g, &m, 256);
	assert_int_equal(g->fake.interrupts, 2);
	msg_begin(&m, FUSE_INTERRUPT);
	msg_put(&m, &in, 7);
	guest_send(g, &m, 256);
	assert_int_equal(g->written, 0);
	assert_int_equal(g->fake.interrupts, 2);
	fuse_session_interrupt(g->session);
	assert_int_equal(g->fake.interrupts, 3);
	assert_int_equal(g->fake.interrupted, 0);
}

static ssize_t pend(struct fs_session *session, struct fs_req *req)
{
	(void)session;
	(void)req;
	return FS_PENDING;
}

/* One guest for each request that stays in flight, all on the first's session. */
#define STUCK 20

static void test_reinit_with_requests_in_flight(void **state)
{
	struct guest *g = *state, *stuck[STUCK] = { NULL };
	struct fs_req *reqs[STUCK] = { NULL };
	int refused = 0, made, freed;
	struct msg m;

	msg_begin(&m, FUSE_STATFS);
	for (int i = 0; i < STUCK; i++) {
		g->fake.handler = NULL;
		if (init_error(g, 7, 45)) {
			assert_int_equal(guest_reply(g)->error, -EBUSY);
			refused++;
			continue;
		}
		stuck[i] = calloc(1, sizeof(*stuck[i]));
		assert_non_null(stuck[i]);
		stuck[i]->session = g->session;
		stuck[i]->storage = aligned_alloc(16, fuse_request_size());
		g->fake.handler = pend;
		guest_start(stuck[i], m.bytes, m.len, 256);
		reqs[i] = g->fake.last;
		assert_int_equal(g->fake.sessions_freed, 0);
	}
	/* Bounded, and the last INIT that was refused has ended its predecessor. */
	assert_true(refused > 0);
	made = g->fake.sessions_new;
	assert_true(made > 1);
	g->fake.handler = NULL;
	assert_int_equal(statfs_error(g), -EIO);
	/* Each retired session goes with its own request, in whatever order. */
	freed = 0;
	for (int i = STUCK - 1; i >= 0; i--) {
		if (!reqs[i])
			continue;
		assert_int_equal(g->fake.sessions_freed, freed);
		fs_req_complete(reqs[i], 0);
		assert_int_equal(g->fake.sessions_freed, ++freed);
		guest_finish(stuck[i]);
		assert_reply_body(stuck[i], &m, sizeof(struct fuse_kstatfs));
		free(stuck[i]->storage);
		free(stuck[i]);
	}
	assert_int_equal(freed, made);
	init(g, 45, 0);
	assert_int_equal(statfs_error(g), 0);
}

/* Retiring a session interrupts what waits in it; an interrupt from outside
 * reaches retired ones too. */
static void test_retired_sessions_are_interrupted(void **state)
{
	struct guest *g = *state, *other = calloc(1, sizeof(*other));
	struct fs_req *waiting;
	struct msg m;

	assert_non_null(other);
	other->session = g->session;
	other->storage = aligned_alloc(16, fuse_request_size());
	init(g, 45, 0);
	g->fake.handler = pend;
	msg_sample(&m, &(struct sample){ FUSE_SETLKW, 48 });
	guest_start(other, m.bytes, m.len, 16);
	waiting = g->fake.last;
	g->fake.handler = NULL;
	assert_int_equal(g->fake.interrupts, 0);
	init(g, 45, 0);
	assert_int_equal(g->fake.interrupts, 1);
	fuse_session_interrupt(g->session);
	assert_int_equal(g->fake.interrupts, 3); /* the live one and the retired one */
	fs_req_complete(waiting, -EINTR);
	guest_finish(other);
	assert_reply_error(other, &m, -EINTR);
	fuse_session_interrupt(g->session);
	assert_int_equal(g->fake.interrupts, 4);
	free(other->storage);
	free(other);
}

static void reset_when_done(void *arg, size_t written)
{
	struct guest *g = arg;

	assert_int_equal(written, 96);
	fuse_session_reset(g->session);
}

/* Once done() is called the request no longer holds its session. */
static void test_done_is_the_end(void **state)
{
	struct guest *g = *state;
	unsigned char reply[256];
	struct iovec in, out = { reply, sizeof(reply) };
	struct msg m;

	init(g, 45, 0);
	msg_begin(&m, FUSE_STATFS);
	in = (struct iovec){ m.bytes, m.len };
	fuse_session_request(g->session, g->storage, loop_now_ns(), &in, 1, &out, 1,
			     reset_when_done, g);
	assert_int_equal(g->fake.sessions_freed, 1);

	init(g, 45, 0);
	g->fake.handler = pend;
	fuse_session_request(g->session, g->storage, loop_now_ns(), &in, 1, &out, 1,
			     reset_when_done, g);
	assert_int_equal(g->fake.sessions_freed, 1);
	fs_req_complete(g->fake.last, 0);
	assert_int_equal(g->fake.sessions_freed, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_versions),
		T(test_newer_major),
		T(test_limits),
		T(test_flags_need_guest_and_driver),
		T(test_flags_never_agreed),
		T(test_flags2_without_init_ext),
		T(test_readdirplus_auto_needs_readdirplus),
		T(test_init_lengths),
		T(test_init_room),
		T(test_init_without_memory),
		T(test_before_init),
		T(test_destroy),
		T(test_destroy_syncs),
		T(test_reset),
		T(test_interrupt),
		T(test_reinit_with_requests_in_flight),
		T(test_retired_sessions_are_interrupted),
		T(test_done_is_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
