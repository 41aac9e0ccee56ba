/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding: every opcode good, cut at each byte, too long, in any segments. */
#include "fuse-fake.h"

#include <linux/limits.h>

#include <sys/xattr.h>

static void check_arrived(struct guest *g, const struct sample *s, const struct msg *m)
{
	const struct fs_req *req = &g->fake.copy;
	const struct fuse_in_header *h = (const void *)m->bytes;
	const unsigned char *fixed = m->bytes + sizeof(*h);
	size_t in_size = s->in_size;

	assert_int_equal(g->fake.calls, 1);
	assert_int_equal(req->opcode, s->opcode);
	assert_int_equal(req->unique, h->unique);
	assert_int_equal(req->nodeid, h->nodeid);
	assert_int_equal(req->uid, 1001);
	assert_int_equal(req->gid, 1002);
	assert_int_equal(req->pid, 1003);
	assert_false(req->has_supp_group);
	if (s->opcode == FUSE_COPY_FILE_RANGE) /* len is cut down */
		in_size = offsetof(struct fuse_copy_file_range_in, len);
	assert_memory_equal(&req->in, fixed, in_size);
	if (s->name && s->opcode != FUSE_TMPFILE)
		assert_string_equal(g->fake.name, s->name);
	else
		assert_false(g->fake.has_name);
	if (s->second)
		assert_string_equal(g->fake.newname, s->second);
	else
		assert_false(g->fake.has_newname);
	assert_int_equal(g->fake.data_len, s->payload);
	for (size_t i = 0; i < s->payload; i++)
		assert_int_equal(g->fake.data[i], 'd');
}

static void check_sample(struct guest *g, const struct sample *s)
{
	struct msg m;

	msg_sample(&m, s);
	g->fake.calls = 0;
	guest_send(g, &m, 1024);
	check_arrived(g, s, &m);
	if (s->reply == NO_REPLY)
		assert_int_equal(g->written, 0);
	else
		assert_reply_body(g, &m, s->data ? 0 : s->reply);
}

static void test_every_opcode(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
		check_sample(*state, &samples[i]);
}

static void test_every_opcode_in_segments(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 7, 15, 16, 17, 39, 40, 41, 56, 80 };
	struct guest *g = *state;

	for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
		g->in_seg = sizes[k];
		g->out_seg = sizes[ARRAY_SIZE(sizes) - 1 - k];
		for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
			check_sample(g, &samples[i]);
	}
}

static void check_refused(struct guest *g, const struct sample *s, const struct msg *m, size_t len,
			  int error)
{
	const struct fuse_out_header *h;

	g->fake.calls = 0;
	guest_call(g, m->bytes, len, 1024);
	assert_int_equal(g->fake.calls, 0);
	/* A request that does not say what it is is one that expects a reply. */
	if (s->reply == NO_REPLY && len >= 16) {
		assert_int_equal(g->written, 0);
		return;
	}
	h = guest_reply(g);
	assert_int_equal(g->written, sizeof(*h));
	assert_int_equal(h->error, error);
	if (len >= 16)
		assert_int_equal(h->unique, ((const struct fuse_in_header *)m->bytes)->unique);
}

/* The header promises more than there is. */
static void test_truncated_below_header_len(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		for (size_t len = 0; len < m.len; len++)
			check_refused(g, &samples[i], &m, len, -EINVAL);
	}
}

/* The header agrees with what there is, and that is too little. */
static void test_truncated_with_header_len(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		for (size_t len = 4; len < m.len; len++) {
			msg_header(&m)->len = (uint32_t)len;
			check_refused(g, &samples[i], &m, len, -EINVAL);
		}
	}
}

static void test_over_long(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		for (int more = 0; more < 40; more++) {
			msg_put(&m, "x", 1);
			check_refused(g, &samples[i], &m, m.len, -EINVAL);
		}
	}
}

/* More readable bytes than the header says: not looked at, unless there is a
 * payload whose end they would hide. */
static void test_excess_readable(void **state)
{
	struct guest *g = *state;
	struct msg m;
	size_t len;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		len = m.len;
		msg_put(&m, "excess", 6);
		msg_header(&m)->len = (uint32_t)len;
		if (samples[i].payload) {
			check_refused(g, &samples[i], &m, m.len, -EINVAL);
			continue;
		}
		g->fake.calls = 0;
		guest_send(g, &m, 1024);
		check_arrived(g, &samples[i], &m);
	}
}

static void test_header_len_too_small(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		msg_sample(&m, &samples[i]);
		for (uint32_t len = 0; len < sizeof(struct fuse_in_header); len++) {
			msg_header(&m)->len = len;
			check_refused(g, &samples[i], &m, m.len, -EINVAL);
		}
		msg_header(&m)->len = UINT32_MAX;
		check_refused(g, &samples[i], &m, m.len, -EINVAL);
	}
}

static void test_no_segments(void **state)
{
	struct guest *g = *state;

	guest_call(g, NULL, 0, 1024);
	assert_int_equal(g->written, sizeof(struct fuse_out_header));
	assert_int_equal(guest_reply(g)->error, -EINVAL);
	guest_call(g, NULL, 0, 0);
	assert_int_equal(g->written, 0);
}

static int lookup(struct guest *g, const void *name, size_t len)
{
	struct msg m;

	msg_begin(&m, FUSE_LOOKUP);
	msg_put(&m, name, len);
	guest_send(g, &m, 1024);
	return guest_reply(g)->error;
}

static void test_entry_names(void **state)
{
	struct guest *g = *state;
	char name[NAME_MAX + 10];

	assert_int_equal(lookup(g, "ok", 3), 0);
	assert_int_equal(lookup(g, "...", 4), 0);
	assert_int_equal(lookup(g, ".a", 3), 0);
	assert_int_equal(lookup(g, "..a", 4), 0);
	assert_int_equal(lookup(g, "\xff\x01\n", 4), 0);
	g->fake.calls = 0;
	assert_int_equal(lookup(g, "", 0), -EINVAL);
	assert_int_equal(lookup(g, "", 1), -EINVAL);
	assert_int_equal(lookup(g, ".", 2), -EINVAL);
	assert_int_equal(lookup(g, "..", 3), -EINVAL);
	assert_int_equal(lookup(g, "/", 2), -EINVAL);
	assert_int_equal(lookup(g, "a/b", 4), -EINVAL);
	assert_int_equal(lookup(g, "/a", 3), -EINVAL);
	assert_int_equal(lookup(g, "a/", 3), -EINVAL);
	assert_int_equal(lookup(g, "../x", 5), -EINVAL);
	assert_int_equal(lookup(g, "no nul", 6), -EINVAL);
	assert_int_equal(lookup(g, "two\0names", 10), -EINVAL);
	assert_int_equal(g->fake.calls, 0);

	memset(name, 'x', sizeof(name));
	name[NAME_MAX] = '\0';
	assert_int_equal(lookup(g, name, NAME_MAX + 1), 0);
	assert_int_equal(strlen(g->fake.name), NAME_MAX);
	name[NAME_MAX] = 'x';
	name[NAME_MAX + 1] = '\0';
	assert_int_equal(lookup(g, name, NAME_MAX + 2), -ENAMETOOLONG);
}

static void test_second_name(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int error;
	} cases[] = {
		{ "a\0b", 4, 0 },	   { "a\0", 2, -EINVAL },    { "a\0\0", 3, -EINVAL },
		{ "a\0..", 5, -EINVAL },   { "a\0x/y", 6, -EINVAL }, { "a\0b", 3, -EINVAL },
		{ "a\0b\0c", 6, -EINVAL }, { "..\0b", 5, -EINVAL },
	};
	struct fuse_rename2_in in = { .newdir = 7, .flags = 3 };
	struct guest *g = *state;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		msg_begin(&m, FUSE_RENAME2);
		msg_put(&m, &in, sizeof(in));
		msg_put(&m, cases[i].bytes, cases[i].len);
		guest_send(g, &m, 64);
		assert_reply_error(g, &m, cases[i].error);
	}
	for (size_t len = NAME_MAX - 1; len <= NAME_MAX + 1; len++) {
		msg_begin(&m, FUSE_RENAME2);
		msg_put(&m, &in, sizeof(in));
		msg_long_str(&m, NAME_MAX);
		msg_long_str(&m, len);
		guest_send(g, &m, 64);
		assert_reply_error(g, &m, len > NAME_MAX ? -ENAMETOOLONG : 0);
	}
	assert_int_equal(g->fake.copy.in.rename.flags, 3);
}

/* RENAME is the older, shorter form: what the driver reads as flags is 0. */
static void test_rename_has_no_flags(void **state)
{
	struct fuse_rename_in in = { .newdir = 7 };
	struct guest *g = *state;
	struct msg m;

	memset(g->storage, 0xff, fuse_request_size());
	msg_begin(&m, FUSE_RENAME);
	msg_put(&m, &in, sizeof(in));
	msg_str(&m, "a");
	msg_str(&m, "b");
	guest_send(g, &m, 64);
	assert_reply_error(g, &m, 0);
	assert_int_equal(g->fake.copy.in.rename.newdir, 7);
	assert_int_equal(g->fake.copy.in.rename.flags, 0);
}

/* The one of TMPFILE means nothing, and is "/" from Linux. */
static void test_unused_name(void **state)
{
	struct fuse_create_in in = { .mode = 0600 };
	struct guest *g = *state;
	struct msg m;

	for (size_t len = 0; len <= NAME_MAX + 1; len++) {
		msg_begin(&m, FUSE_TMPFILE);
		msg_put(&m, &in, sizeof(in));
		msg_long_str(&m, len);
		guest_send(g, &m, 256);
		if (len == 0 || len > NAME_MAX)
			assert_reply_error(g, &m, len ? -ENAMETOOLONG : -EINVAL);
		else
			assert_reply_body(g, &m, 144);
	}
	assert_false(g->fake.has_name);
}

static void test_symlink_target(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t len = PATH_MAX - 2; len <= PATH_MAX + 1; len++) {
		msg_begin(&m, FUSE_SYMLINK);
		msg_long_str(&m, NAME_MAX);
		msg_long_str(&m, len);
		guest_send(g, &m, 1024);
		if (len < PATH_MAX) {
			assert_reply_body(g, &m, sizeof(struct fuse_entry_out));
			assert_int_equal(strlen(g->fake.newname), len);
		} else {
			assert_reply_error(g, &m, -ENAMETOOLONG);
		}
	}
	msg_begin(&m, FUSE_SYMLINK);
	msg_str(&m, "link");
	msg_str(&m, "");
	guest_send(g, &m, 1024);
	assert_reply_error(g, &m, -EINVAL);
	msg_begin(&m, FUSE_SYMLINK);
	msg_str(&m, "link");
	msg_str(&m, "/../.");
	guest_send(g, &m, 1024);
	assert_reply_body(g, &m, sizeof(struct fuse_entry_out));
}

static void test_xattr_names(void **state)
{
	struct guest *g = *state;
	struct msg m;

	for (size_t len = 0; len <= XATTR_NAME_MAX + 2; len++) {
		msg_begin(&m, FUSE_REMOVEXATTR);
		msg_long_str(&m, len);
		guest_send(g, &m, 1024);
		assert_reply_error(g, &m, len == 0 ? -EINVAL : len > XATTR_NAME_MAX ? -ERANGE : 0);
	}
	msg_begin(&m, FUSE_REMOVEXATTR);
	msg_str(&m, "user.with/slash");
	guest_send(g, &m, 1024);
	assert_reply_error(g, &m, 0);
}

/* Without FUSE_SETXATTR_EXT the structure is the short one of before 7.33. */
static void test_setxattr_compat(void **state)
{
	struct fuse_setxattr_in in = { .size = 5, .flags = XATTR_CREATE };
	struct guest *g = *state;
	struct msg m;

	guest_say_init(g, FUSE_ABI_MINOR, GUEST_ALL_FLAGS & ~(uint64_t)FUSE_SETXATTR_EXT);
	memset(g->storage, 0xff, fuse_request_size());
	msg_begin(&m, FUSE_SETXATTR);
	msg_put(&m, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
	msg_str(&m, "user.a");
	msg_put(&m, "value", 5);
	guest_send(g, &m, 64);
	assert_reply_error(g, &m, 0);
	assert_int_equal(g->fake.copy.in.setxattr.flags, XATTR_CREATE);
	assert_int_equal(g->fake.copy.in.setxattr.setxattr_flags, 0);
	assert_string_equal(g->fake.name, "user.a");
	assert_int_equal(g->fake.data_len, 5);
	assert_memory_equal(g->fake.data, "value", 5);
}

static void test_setxattr_too_big(void **state)
{
	struct fuse_setxattr_in in = { .size = XATTR_SIZE_MAX + 1 };
	static unsigned char
		big[sizeof(struct fuse_in_header) + sizeof(in) + 2 + XATTR_SIZE_MAX + 1];
	struct guest *g = *state;
	struct msg m;

	msg_begin(&m, FUSE_SETXATTR);
	msg_put(&m, &in, sizeof(in));
	msg_str(&m, "a");
	msg_header(&m)->len = sizeof(big);
	memcpy(big, m.bytes, m.len);
	guest_call(g, big, sizeof(big), 64);
	assert_reply_error(g, &m, -E2BIG);
}

/* Sizes that lie: what is promised and what is there differ. */
static void test_payload_sizes(void **state)
{
	static const uint32_t writes[] = { 0, 1, 99, 101, 1 << 20, UINT32_MAX };
	static const uint32_t counts[] = { 0, 1, 2, 4, 1 << 28, (1 << 28) + 3, UINT32_MAX };
	struct guest *g = *state;
	unsigned char data[100] = { 0 };
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		struct fuse_write_in in = { .size = writes[i] };

		msg_begin(&m, FUSE_WRITE);
		msg_put(&m, &in, sizeof(in));
		msg_put(&m, data, sizeof(data));
		guest_send(g, &m, 64);
		assert_reply_error(g, &m, -EINVAL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct fuse_batch_forget_in in = { .count = counts[i] };

		g->fake.calls = 0;
		msg_begin(&m, FUSE_BATCH_FORGET);
		msg_put(&m, &in, sizeof(in));
		msg_put(&m, data, 48); /* three */
		guest_send(g, &m, 64);
		assert_int_equal(g->written, 0);
		assert_int_equal(g->fake.calls, 0);
	}
}

static uint32_t forgets;

static ssize_t count_forgets(struct fs_session *session, struct fs_req *req)
{
	(void)session;
	forgets += req->in.batch_forget.count;
	return 0;
}

/* As many as a reader of /dev/fuse has room for, libfuse the most; not as many as a guest likes. */
static void test_batch_forget_most(void **state)
{
	const uint32_t most = ((1 << 20) + 4096) / sizeof(struct fuse_forget_one);
	struct guest *g = *state;
	struct fs_ops ops = *fake_ops();

	ops.op[FUSE_BATCH_FORGET] = count_forgets;
	g->fake.fs.ops = &ops;
	for (uint32_t count = most - 1; count <= most + 1; count++) {
		const struct fuse_batch_forget_in in = { .count = count };
		const size_t list = count * sizeof(struct fuse_forget_one);
		unsigned char *bytes;
		struct msg m;

		msg_begin(&m, FUSE_BATCH_FORGET);
		msg_put(&m, &in, sizeof(in));
		msg_header(&m)->len += (uint32_t)list;
		bytes = calloc(1, m.len + list);
		assert_non_null(bytes);
		memcpy(bytes, m.bytes, m.len);
		forgets = 0;
		guest_call(g, bytes, m.len + list, 0);
		assert_int_equal(g->written, 0);
		assert_int_equal(forgets, count <= most ? count : 0);
		free(bytes);
	}
	g->fake.fs.ops = fake_ops();
}

static int mkdir_ext(struct guest *g, struct msg *m)
{
	guest_send(g, m, 1024);
	return guest_reply(g)->error;
}

static void begin_mkdir(struct msg *m)
{
	struct fuse_mkdir_in in = { .mode = 0755 };

	msg_begin(m, FUSE_MKDIR);
	msg_put(m, &in, sizeof(in));
	msg_str(m, "dir");
}

static void test_supp_group(void **state)
{
	struct guest *g = *state;
	struct msg m;

	begin_mkdir(&m);
	msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4242);
	for (g->in_seg = 0; g->in_seg < 20; g->in_seg++) {
		assert_int_equal(mkdir_ext(g, &m), 0);
		assert_true(g->fake.copy.has_supp_group);
		assert_int_equal(g->fake.copy.supp_group, 4242);
		assert_string_equal(g->fake.name, "dir");
	}
	/* Among kinds that we do not know. */
	begin_mkdir(&m);
	msg_ext_group(&m, 77, 0, 0);
	msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4243);
	msg_ext_group(&m, 78, 0, 0);
	assert_int_equal(mkdir_ext(g, &m), 0);
	assert_int_equal(g->fake.copy.supp_group, 4243);
	/* A request without any is not given the last one's. */
	begin_mkdir(&m);
	assert_int_equal(mkdir_ext(g, &m), 0);
	assert_false(g->fake.copy.has_supp_group);
}

/* An extension on what creates nothing, or that was not agreed on: skipped. */
static void test_supp_group_not_wanted(void **state)
{
	struct guest *g = *state;
	struct msg m;

	msg_begin(&m, FUSE_UNLINK);
	msg_str(&m, "x");
	msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4242);
	assert_int_equal(mkdir_ext(g, &m), 0);
	assert_false(g->fake.copy.has_supp_group);

	guest_say_init(g, FUSE_ABI_MINOR, GUEST_ALL_FLAGS & ~FUSE_CREATE_SUPP_GROUP);
	begin_mkdir(&m);
	msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4242);
	assert_int_equal(mkdir_ext(g, &m), 0);
	assert_false(g->fake.copy.has_supp_group);
}

static void test_malformed_extensions(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 7, 8, 9, 12, 15, 17, 20, 24, 32, UINT32_MAX };
	struct guest *g = *state;
	struct fuse_ext_header *ext;
	struct msg m;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		begin_mkdir(&m);
		ext = (void *)(m.bytes + m.len);
		msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4242);
		memcpy(&ext->size, &sizes[i], 4);
		assert_int_equal(mkdir_ext(g, &m), -EINVAL);
	}
	for (uint32_t nr = 0; nr < 5; nr++) {
		begin_mkdir(&m);
		msg_ext_group(&m, FUSE_EXT_GROUPS, nr, 4242);
		assert_int_equal(mkdir_ext(g, &m), nr == 1 ? 0 : -EINVAL);
	}
	/* Longer, in the header, than what they are or than there is. */
	for (uint16_t len = 1; len < 100; len++) {
		begin_mkdir(&m);
		msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4242);
		msg_header(&m)->total_extlen = len;
		assert_int_equal(mkdir_ext(g, &m), len == 2 ? 0 : -EINVAL);
	}
	begin_mkdir(&m);
	for (unsigned i = 0; i < 100; i++)
		msg_ext_group(&m, 77, 0, 0);
	assert_int_equal(mkdir_ext(g, &m), -EINVAL);
	/* A payload has nothing after it. */
	msg_sample(&m, &(struct sample){ FUSE_WRITE, 40, .payload = 16 });
	msg_ext_group(&m, FUSE_EXT_GROUPS, 1, 4242);
	guest_send(g, &m, 64);
	assert_reply_error(g, &m, -EINVAL);
}

static void test_refused_opcodes(void **state)
{
	struct guest *g = *state;
	struct msg m;

	g->fake.calls = 0;
	for (uint32_t op = 0; op < 10000; op++) {
		bool driver = false;

		for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
			driver |= samples[i].opcode == op;
		if (driver || op == FUSE_INIT || op == FUSE_DESTROY)
			continue;
		msg_begin(&m, op);
		msg_long_str(&m, 100);
		guest_send(g, &m, 1024);
		if (op == FUSE_INTERRUPT || op == FUSE_NOTIFY_REPLY)
			assert_int_equal(g->written, 0);
		else
			assert_reply_error(g, &m, op == FUSE_IOCTL ? -ENOTTY : -ENOSYS);
	}
	msg_begin(&m, FUSE_INIT_BSWAP_RESERVED);
	guest_send(g, &m, 1024);
	assert_reply_error(g, &m, -ENOSYS);
	msg_begin(&m, UINT32_MAX);
	guest_send(g, &m, 1024);
	assert_reply_error(g, &m, -ENOSYS);
	assert_int_equal(g->fake.calls, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, guest_setup_ready, guest_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_every_opcode),
		T(test_every_opcode_in_segments),
		T(test_truncated_below_header_len),
		T(test_truncated_with_header_len),
		T(test_over_long),
		T(test_excess_readable),
		T(test_header_len_too_small),
		T(test_no_segments),
		T(test_entry_names),
		T(test_second_name),
		T(test_rename_has_no_flags),
		T(test_unused_name),
		T(test_symlink_target),
		T(test_xattr_names),
		T(test_setxattr_compat),
		T(test_setxattr_too_big),
		T(test_payload_sizes),
		T(test_batch_forget_most),
		T(test_supp_group),
		T(test_supp_group_not_wanted),
		T(test_malformed_extensions),
		T(test_refused_opcodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
