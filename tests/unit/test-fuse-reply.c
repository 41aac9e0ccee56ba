/* SPDX-License-Identifier: Apache-2.0 */
/* Replies: each kind, any segments, too little room, drivers that lie. */
#include "fuse-fake.h"

#include <linux/limits.h>

#include <sys/xattr.h>

#define HEADER sizeof(struct fuse_out_header)

/* Writes a pattern into what there is, tells fake.result or all of it. */
static ssize_t fill_reply(struct fs_session *session, struct fs_req *req)
{
	struct iov_cursor c = req->reply;

	for (size_t i = 0; i < req->reply_size; i++) {
		unsigned char byte = (unsigned char)(i * 7 + 1);

		assert_int_equal(iov_write(&c, &byte, 1), 1);
	}
	(void)session;
	return (ssize_t)req->reply_size;
}

static void check_filled(const struct guest *g, size_t size)
{
	const unsigned char *body = guest_body(g);

	for (size_t i = 0; i < size; i++)
		assert_int_equal(body[i], (unsigned char)(i * 7 + 1));
}

static void begin_read(struct msg *m, uint32_t opcode, uint32_t size)
{
	struct fuse_read_in in = { .fh = 1, .size = size };

	msg_begin(m, opcode);
	msg_put(m, &in, sizeof(in));
}

static void test_read_any_segments(void **state)
{
	struct guest *g = *state;
	struct msg m;

	g->fake.handler = fill_reply;
	begin_read(&m, FUSE_READ, 300);
	for (g->out_first = 0; g->out_first < 40; g->out_first++) {
		for (g->out_seg = 0; g->out_seg < 40; g->out_seg++) {
			guest_send(g, &m, 16 + 300);
			assert_reply_body(g, &m, 300);
			check_filled(g, 300);
		}
	}
}

static void test_read_limits(void **state)
{
	static const uint32_t ops[] = { FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS };
	struct guest *g = *state;
	struct msg m;

	g->fake.handler = fill_reply;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		begin_read(&m, ops[i], 100);
		guest_send(g, &m, 16 + 1000); /* more room than asked */
		assert_reply_body(g, &m, 100);
		guest_send(g, &m, 16 + 99); /* less */
		assert_reply_body(g, &m, 99);
		check_filled(g, 99);
		guest_send(g, &m, 16); /* none */
		assert_reply_body(g, &m, 0);
		begin_read(&m, ops[i], 0);
		guest_send(g, &m, 16 + 10);
		assert_reply_body(g, &m, 0);
		begin_read(&m, ops[i], UINT32_MAX);
		guest_send(g, &m, 16 + 50);
		assert_reply_body(g, &m, 50);
	}
}

/* A driver may use less than there is. */
static void test_short_read(void **state)
{
	struct guest *g = *state;
	struct msg m;

	begin_read(&m, FUSE_READ, 100);
	for (g->fake.result = 0; g->fake.result <= 100; g->fake.result++) {
		guest_send(g, &m, 16 + 100);
		assert_reply_body(g, &m, (size_t)g->fake.result);
	}
}

static void test_readlink(void **state)
{
	struct guest *g = *state;
	struct msg m;

	g->fake.handler = fill_reply;
	msg_begin(&m, FUSE_READLINK);
	guest_send(g, &m, 16 + 200);
	assert_reply_body(g, &m, 200);
	guest_send(g, &m, 16 + 10000);
	assert_reply_body(g, &m, PATH_MAX);
}

static ssize_t give_xattr_size(struct fs_session *session, struct fs_req *req)
{
	assert_int_equal(req->in.getxattr.size, 0);
	req->out.xattr_size = 1234;
	(void)session;
	return 0;
}

static void begin_xattr(struct msg *m, uint32_t opcode, uint32_t size)
{
	struct fuse_getxattr_in in = { .size = size };

	msg_begin(m, opcode);
	msg_put(m, &in, sizeof(in));
	if (opcode == FUSE_GETXATTR)
		msg_str(m, "user.a");
}

static void test_xattr(void **state)
{
	static const uint32_t ops[] = { FUSE_GETXATTR, FUSE_LISTXATTR };
	const struct fuse_getxattr_out *out;
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		g->fake.handler = give_xattr_size;
		begin_xattr(&m, ops[i], 0);
		guest_send(g, &m, 100);
		assert_reply_body(g, &m, sizeof(*out));
		out = guest_body(g);
		assert_int_equal(out->size, 1234);
		assert_int_equal(out->padding, 0);
		guest_send(g, &m, HEADER + 7);
		assert_reply_error(g, &m, -EINVAL);

		g->fake.handler = fill_reply;
		begin_xattr(&m, ops[i], 77);
		guest_send(g, &m, 200);
		assert_reply_body(g, &m, 77);
		check_filled(g, 77);

		/* No attribute is larger, whatever is asked. */
		g->fake.handler = NULL;
		begin_xattr(&m, ops[i], UINT32_MAX);
		guest_send(g, &m, 100000);
		assert_reply_body(g, &m, 0);
		assert_int_equal(g->fake.copy.reply_size, XATTR_SIZE_MAX);
	}
}

static ssize_t fill_out(struct fs_session *session, struct fs_req *req)
{
	unsigned char *out = (unsigned char *)&req->out;

	for (size_t i = 0; i < sizeof(req->out); i++)
		out[i] = (unsigned char)(i + 3);
	(void)session;
	return 0;
}

static void test_structures(void **state)
{
	const unsigned char *body;
	struct guest *g = *state;
	struct msg m;
	size_t skip;

	g->fake.handler = fill_out;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];

		if (s->reply == NO_REPLY || !s->reply || s->data || s->opcode == FUSE_WRITE ||
		    s->opcode == FUSE_COPY_FILE_RANGE || s->opcode == FUSE_COPY_FILE_RANGE_64)
			continue;
		skip = s->opcode == FUSE_OPEN || s->opcode == FUSE_OPENDIR
			       ? offsetof(union fs_out, open)
			       : 0;
		msg_sample(&m, s);
		for (g->out_seg = 0; g->out_seg < 50; g->out_seg++) {
			guest_send(g, &m, HEADER + s->reply);
			assert_reply_body(g, &m, s->reply);
			body = guest_body(g);
			for (size_t k = 0; k < s->reply; k++)
				assert_int_equal(body[k], (unsigned char)(skip + k + 3));
		}
	}
}

/* What a driver leaves alone is zero to the guest, not our memory. */
static void test_structures_start_zeroed(void **state)
{
	struct guest *g = *state;
	const unsigned char *body;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		if (samples[i].reply == NO_REPLY || samples[i].data)
			continue;
		memset(g->storage, 0xff, fuse_request_size());
		msg_sample(&m, &samples[i]);
		guest_send(g, &m, 1024);
		body = guest_body(g);
		for (size_t k = 0; k < samples[i].reply; k++)
			assert_int_equal(body[k], 0);
	}
}

/* An operation is not carried out when there is no room to tell of it. */
static void test_too_little_room(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];

		msg_sample(&m, s);
		if (s->reply == NO_REPLY) {
			guest_send(g, &m, 0);
			assert_int_equal(g->written, 0);
			continue;
		}
		g->fake.calls = 0;
		for (size_t room = 0; room < HEADER + s->reply; room++) {
			g->out_seg = room % 5;
			guest_send(g, &m, room);
			if (room < HEADER)
				assert_int_equal(g->written, 0);
			else
				assert_reply_error(g, &m, -EINVAL);
		}
		assert_int_equal(g->fake.calls, 0);
		guest_send(g, &m, HEADER + s->reply);
		assert_int_equal(g->fake.calls, 1);
	}
}

static void test_errors(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		for (int error = 1; error < 512; error += 17) {
			g->fake.result = -error;
			g->out_seg = (size_t)error % 19;
			guest_send(g, &m, 1024);
			if (samples[i].reply == NO_REPLY)
				assert_int_equal(g->written, 0);
			else
				assert_reply_error(g, &m, -error);
		}
	}
}

static ssize_t pend(struct fs_session *session, struct fs_req *req)
{
	(void)session;
	(void)req;
	return FS_PENDING;
}

static void test_pending(void **state)
{
	struct guest *g = *state;
	struct msg m;

	g->fake.handler = pend;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		guest_start(g, m.bytes, m.len, 1024);
		assert_int_equal(g->done, 0);
		fs_req_complete(g->fake.last, -ESTALE);
		guest_finish(g);
		if (samples[i].reply != NO_REPLY)
			assert_reply_error(g, &m, -ESTALE);
	}
}

static void test_counts(void **state)
{
	const struct fuse_copy_file_range_out *out64;
	struct fuse_copy_file_range_in copy = { .len = 10000000000 };
	const struct fuse_write_out *out;
	struct guest *g = *state;
	struct msg m;

	msg_sample(&m, &(struct sample){ FUSE_WRITE, 40, .payload = 100 });
	g->fake.result = 60;
	guest_send(g, &m, 100);
	assert_reply_body(g, &m, sizeof(*out));
	out = guest_body(g);
	assert_int_equal(out->size, 60);
	assert_int_equal(out->padding, 0);

	/* More than fits 32 bits: the older opcode never asks for that. */
	g->fake.result = 5000000000;
	msg_begin(&m, FUSE_COPY_FILE_RANGE_64);
	msg_put(&m, &copy, sizeof(copy));
	guest_send(g, &m, 100);
	assert_reply_body(g, &m, sizeof(*out64));
	out64 = guest_body(g);
	assert_int_equal(out64->bytes_copied, 5000000000);

	g->fake.result = 0;
	msg_begin(&m, FUSE_COPY_FILE_RANGE);
	msg_put(&m, &copy, sizeof(copy));
	guest_send(g, &m, 100);
	assert_true(g->fake.copy.in.copy_file_range.len <= UINT32_MAX);
}

/* Results that no driver may give become something that a guest can bear. */
static void test_driver_bugs(void **state)
{
	static const ssize_t bad[] = { FS_PENDING - 1, -512, -4096, INT32_MIN + 1 };
	struct guest *g = *state;
	const struct fuse_write_out *out;
	struct msg m;

	log_set_level((enum log_level) - 1); /* it is an error in the log, rightly */
	g->fake.result = 101;
	begin_read(&m, FUSE_READ, 100);
	guest_send(g, &m, 16 + 1000);
	assert_reply_body(g, &m, 100);

	msg_sample(&m, &(struct sample){ FUSE_WRITE, 40, .payload = 100 });
	guest_send(g, &m, 1000);
	assert_reply_body(g, &m, sizeof(*out));
	out = guest_body(g);
	assert_int_equal(out->size, 100);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		g->fake.result = bad[i];
		guest_send(g, &m, 1000);
		assert_reply_error(g, &m, -EIO);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, guest_setup_ready, guest_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_read_any_segments),
		T(test_read_limits),
		T(test_short_read),
		T(test_readlink),
		T(test_xattr),
		T(test_structures),
		T(test_structures_start_zeroed),
		T(test_too_little_room),
		T(test_errors),
		T(test_pending),
		T(test_counts),
		T(test_driver_bugs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
