/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that no kernel sends. Whatever the bytes: exactly one answer, an
 * errno where they cannot be meant, and the next request is served.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static struct daemon daemon_;
static struct guest guest_;
static uint64_t file_node, file_fh, dir_fh;

/* A well-formed body of each opcode, to be spoiled. */
struct body {
	const char *name;
	uint32_t opcode;
	uint32_t fixed;	    /* bytes of the argument structure */
	unsigned int names; /* NUL-terminated strings after it */
	uint32_t data;	    /* bytes after those */
	uint32_t reply;	    /* payload of a good reply; variable ones: room for it */
	bool variable;
	enum { ON_ROOT, ON_FILE } node;
	size_t fh_at;	/* where the handle is, plus one; 0: nowhere */
	bool dir;	/* the handle is a directory's */
	size_t size_at; /* where the size is, plus one */
	uint32_t size;
};

#define FH(type) .fh_at = offsetof(struct type, fh) + 1
#define SIZE(type, n) .size_at = offsetof(struct type, size) + 1, .size = (n)
#define ENTRY .reply = sizeof(struct fuse_entry_out)
#define ATTR .reply = sizeof(struct fuse_attr_out)

static const struct body bodies[] = {
	{ "LOOKUP", FUSE_LOOKUP, .names = 1, ENTRY },
	{ "GETATTR", FUSE_GETATTR, sizeof(struct fuse_getattr_in), ATTR, .node = ON_FILE },
	{ "SETATTR", FUSE_SETATTR, sizeof(struct fuse_setattr_in), ATTR, .node = ON_FILE },
	{ "READLINK", FUSE_READLINK, .reply = 4096, .variable = true, .node = ON_FILE },
	{ "SYMLINK", FUSE_SYMLINK, .names = 2, ENTRY },
	{ "MKNOD", FUSE_MKNOD, sizeof(struct fuse_mknod_in), .names = 1, ENTRY },
	{ "MKDIR", FUSE_MKDIR, sizeof(struct fuse_mkdir_in), .names = 1, ENTRY },
	{ "UNLINK", FUSE_UNLINK, .names = 1 },
	{ "RMDIR", FUSE_RMDIR, .names = 1 },
	{ "RENAME", FUSE_RENAME, sizeof(struct fuse_rename_in), .names = 2 },
	{ "RENAME2", FUSE_RENAME2, sizeof(struct fuse_rename2_in), .names = 2 },
	{ "LINK", FUSE_LINK, sizeof(struct fuse_link_in), .names = 1, ENTRY },
	{ "OPEN", FUSE_OPEN, sizeof(struct fuse_open_in), .reply = 16, .node = ON_FILE },
	{ "OPENDIR", FUSE_OPENDIR, sizeof(struct fuse_open_in), .reply = 16 },
	{ "CREATE", FUSE_CREATE, sizeof(struct fuse_create_in), .names = 1,
	  .reply = sizeof(struct fuse_entry_out) + 16 },
	{ "TMPFILE", FUSE_TMPFILE, sizeof(struct fuse_create_in), .names = 1,
	  .reply = sizeof(struct fuse_entry_out) + 16 },
	{ "READ", FUSE_READ, sizeof(struct fuse_read_in), .reply = 64, .variable = true,
	  .node = ON_FILE, FH(fuse_read_in), SIZE(fuse_read_in, 64) },
	{ "WRITE", FUSE_WRITE, sizeof(struct fuse_write_in), .data = 64, .reply = 8,
	  .node = ON_FILE, FH(fuse_write_in), SIZE(fuse_write_in, 64) },
	{ "FLUSH", FUSE_FLUSH, sizeof(struct fuse_flush_in), .node = ON_FILE, FH(fuse_flush_in) },
	{ "FSYNC", FUSE_FSYNC, sizeof(struct fuse_fsync_in), .node = ON_FILE, FH(fuse_fsync_in) },
	{ "FSYNCDIR", FUSE_FSYNCDIR, sizeof(struct fuse_fsync_in), FH(fuse_fsync_in), .dir = true },
	{ "READDIR", FUSE_READDIR, sizeof(struct fuse_read_in), .reply = 512, .variable = true,
	  FH(fuse_read_in), .dir = true, SIZE(fuse_read_in, 512) },
	{ "READDIRPLUS", FUSE_READDIRPLUS, sizeof(struct fuse_read_in), .reply = 512,
	  .variable = true, FH(fuse_read_in), .dir = true, SIZE(fuse_read_in, 512) },
	{ "STATFS", FUSE_STATFS, .reply = sizeof(struct fuse_statfs_out) },
	{ "STATX", FUC_STATX, sizeof(struct fuc_statx_in), .reply = sizeof(struct fuc_statx_out) },
	{ "SETXATTR", FUSE_SETXATTR, sizeof(struct fuse_setxattr_in), .names = 1, .data = 8,
	  .node = ON_FILE, SIZE(fuse_setxattr_in, 8) },
	{ "GETXATTR", FUSE_GETXATTR, sizeof(struct fuse_getxattr_in), .names = 1, .reply = 64,
	  .variable = true, .node = ON_FILE, SIZE(fuse_getxattr_in, 64) },
	{ "LISTXATTR", FUSE_LISTXATTR, sizeof(struct fuse_getxattr_in), .reply = 64,
	  .variable = true, .node = ON_FILE, SIZE(fuse_getxattr_in, 64) },
	{ "REMOVEXATTR", FUSE_REMOVEXATTR, .names = 1, .node = ON_FILE },
	{ "ACCESS", FUSE_ACCESS, sizeof(struct fuse_access_in), .node = ON_FILE },
	{ "GETLK", FUSE_GETLK, sizeof(struct fuse_lk_in), .reply = sizeof(struct fuse_lk_out),
	  .node = ON_FILE, FH(fuse_lk_in) },
	{ "SETLK", FUSE_SETLK, sizeof(struct fuse_lk_in), .node = ON_FILE, FH(fuse_lk_in) },
	{ "FALLOCATE", FUSE_FALLOCATE, sizeof(struct fuse_fallocate_in), .node = ON_FILE,
	  FH(fuse_fallocate_in) },
	{ "LSEEK", FUSE_LSEEK, sizeof(struct fuse_lseek_in), .reply = 8, .node = ON_FILE,
	  FH(fuse_lseek_in) },
	{ "COPY_FILE_RANGE", FUSE_COPY_FILE_RANGE, sizeof(struct fuse_copy_file_range_in),
	  .reply = 8, .node = ON_FILE },
	{ "COPY_FILE_RANGE_64", FUC_COPY_FILE_RANGE_64, sizeof(struct fuse_copy_file_range_in),
	  .reply = 8, .node = ON_FILE },
	{ "SYNCFS", FUSE_SYNCFS, sizeof(struct fuse_syncfs_in) },
};
#define NBODIES (sizeof(bodies) / sizeof(bodies[0]))

static uint32_t body_make(const struct body *b, uint8_t *out)
{
	static const char *const names[] = { "user.one", "user.two" };
	uint32_t n = b->fixed;

	memset(out, 0, b->fixed);
	if (b->fh_at)
		memcpy(out + b->fh_at - 1, b->dir ? &dir_fh : &file_fh, sizeof(uint64_t));
	if (b->size_at)
		memcpy(out + b->size_at - 1, &b->size, sizeof(uint32_t));
	if (b->opcode == FUSE_RENAME || b->opcode == FUSE_RENAME2)
		out[0] = FUSE_ROOT_ID;
	if (b->opcode == FUSE_LINK)
		memcpy(out, &file_node, sizeof(file_node));
	for (unsigned int i = 0; i < b->names; i++) {
		memcpy(out + n, names[i], strlen(names[i]) + 1);
		n += (uint32_t)strlen(names[i]) + 1;
	}
	memset(out + n, 'd', b->data);
	return n + b->data;
}

static struct fuc_call body_call(const struct body *b, const void *bytes, uint32_t len)
{
	return (struct fuc_call){
		.opcode = b->opcode,
		.nodeid = b->node == ON_FILE ? file_node : FUSE_ROOT_ID,
		.in = { { len ? (void *)(uintptr_t)bytes : NULL, len } },
		.out_cap = b->reply,
	};
}

/* Sends it, asserts the one answer, returns its error. */
static int answer(const struct fuc_call *call, const struct body *b, uint32_t detail,
		  size_t *payload)
{
	struct fuc_req *r = fuc_submit(&guest_.f, call);
	int err, error;
	size_t len;

	assert_non_null(r);
	err = fuc_wait(r, 5000);
	if (err)
		fail_msg("%s (%u): no answer: %s", b ? b->name : "request", detail, strerror(-err));
	error = r->error;
	fuc_payload(r, &len);
	if (payload)
		*payload = len;
	fuc_done(r);
	return error;
}

static void assert_refused(int error, const struct body *b, uint32_t detail)
{
	if (error >= 0)
		fail_msg("%s (%u): accepted", b->name, detail);
}

static int set_up(void **state)
{
	struct daemon_options o = { .log_level = "info" };

	(void)state;
	daemon_start(&daemon_, &o);
	guest_open(&guest_, &daemon_, NULL);
	file_node = guest_create(&guest_, "file", &file_fh);
	assert_ok(fuc_opendir(&guest_.f, FUSE_ROOT_ID, &dir_fh));
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	assert_int_equal(guest_.f.violations, 0);
	guest_close(&guest_);
	guest_probe(&daemon_);
	daemon_stop(&daemon_);
}

static int still_served(void **state)
{
	struct fuse_attr attr;

	(void)state;
	assert_ok(fuc_getattr(&guest_.f, file_node, &attr));
	return 0;
}

static void bodies_cut_short_anywhere(void **state)
{
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < NBODIES; i++) {
		uint32_t full = body_make(&bodies[i], bytes);

		for (uint32_t len = 0; len < full; len++) {
			struct fuc_call call = body_call(&bodies[i], bytes, len);
			int error = answer(&call, &bodies[i], len, NULL);

			/* COMPAT_SETXATTR and the like aside, what is cut is refused. */
			if (bodies[i].names || bodies[i].data || bodies[i].opcode == FUSE_READ)
				assert_refused(error, &bodies[i], len);
		}
	}
}

static void bodies_that_are_whole_and_longer(void **state)
{
	uint8_t bytes[1024] = { 0 };

	(void)state;
	for (size_t i = 0; i < NBODIES; i++) {
		uint32_t full = body_make(&bodies[i], bytes);

		for (uint32_t more = 0; more < 24; more++) {
			struct fuc_call call = body_call(&bodies[i], bytes, full + more);

			memset(bytes + full, 0xee, more);
			answer(&call, &bodies[i], more, NULL);
		}
	}
}

static void length_fields_that_lie(void **state)
{
	static const uint32_t lies[] = { 1, 15, 16, 39, 40, 41, 0x7fffffff, UINT32_MAX };
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < NBODIES; i++) {
		uint32_t full = body_make(&bodies[i], bytes);
		struct fuc_call call = body_call(&bodies[i], bytes, full);

		for (size_t k = 0; k < sizeof(lies) / sizeof(lies[0]); k++) {
			int error;

			call.len_field = lies[k];
			error = answer(&call, &bodies[i], lies[k], NULL);
			if (lies[k] < sizeof(struct fuse_in_header) || lies[k] > 1u << 20)
				assert_refused(error, &bodies[i], lies[k]);
		}
		call.len_field = (uint32_t)sizeof(struct fuse_in_header) + full + 1;
		assert_refused(answer(&call, &bodies[i], call.len_field, NULL), &bodies[i],
			       call.len_field);
		if (full) {
			call.len_field -= 2;
			answer(&call, &bodies[i], call.len_field, NULL);
		}
	}
}

static void headers_cut_short(void **state)
{
	struct fuse_in_header h = {
		.len = sizeof(h), .opcode = FUSE_STATFS, .unique = 77, .nodeid = FUSE_ROOT_ID
	};

	(void)state;
	for (uint32_t len = 0; len < sizeof(h); len++) {
		struct fuc_call call = {
			.in = { { len ? &h : NULL, len } },
			.raw = true,
			.lenient = true,
			.unique = 77,
			.out_cap = sizeof(struct fuse_statfs_out),
		};

		if (answer(&call, NULL, len, NULL) >= 0)
			fail_msg("a header of %u bytes was accepted", len);
	}
}

static void names_that_are_none(void **state)
{
	static const struct {
		const char *p;
		uint32_t len;
	} bad[] = {
		{ "", 1 },    { ".", 2 },	{ "..", 3 },	{ "/", 2 },
		{ "a/b", 4 }, { "../file", 8 }, { "/file", 6 }, { "file/", 6 },
	};
	char longer[5000];

	(void)state;
	memset(longer, 'x', sizeof(longer));
	for (size_t i = 0; i < NBODIES; i++) {
		const struct body *b = &bodies[i];
		bool xattr = b->opcode == FUSE_GETXATTR || b->opcode == FUSE_SETXATTR ||
			     b->opcode == FUSE_REMOVEXATTR;
		uint8_t bytes[6000];
		struct fuc_call call;

		if (!b->names)
			continue;
		body_make(b, bytes);
		for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			/* The kernel invents the name of a TMPFILE; any will do. */
			if ((xattr && k) || b->opcode == FUSE_TMPFILE)
				break;
			memcpy(bytes + b->fixed, bad[k].p, bad[k].len);
			memcpy(bytes + b->fixed + bad[k].len, "target\0dddddddd", 15);
			call = body_call(b, bytes, b->fixed + bad[k].len + (b->names > 1 ? 7 : 0));
			assert_refused(answer(&call, b, (uint32_t)k, NULL), b, (uint32_t)k);
		}
		/* 256 and 4999 bytes, with and without an end. */
		for (uint32_t n = 256; n < 5000; n += 4743) {
			memcpy(bytes + b->fixed, longer, n);
			call = body_call(b, bytes, b->fixed + n);
			assert_refused(answer(&call, b, n, NULL), b, n);
			memcpy(bytes + b->fixed + n, "\0target\0dddddddd", 16);
			call = body_call(b, bytes, b->fixed + n + 16);
			if (b->opcode != FUSE_TMPFILE)
				assert_refused(answer(&call, b, n, NULL), b, n);
		}
	}
}

static void opcodes_that_are_none(void **state)
{
	static const uint32_t opcodes[] = {
		0,
		7,
		19,
		54,
		55,
		60,
		63,
		64,
		100,
		127,
		128,
		255,
		256,
		1000,
		4095,
		CUSE_INIT,
		4097,
		65535,
		65536 + FUSE_LOOKUP,
		CUSE_INIT_BSWAP_RESERVED,
		FUSE_INIT_BSWAP_RESERVED,
		0x7fffffff,
		0x80000000,
		UINT32_MAX,
	};
	uint8_t bytes[200] = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++)
		for (uint32_t len = 0; len <= sizeof(bytes); len += 40) {
			struct fuc_call call = {
				.opcode = opcodes[i],
				.nodeid = FUSE_ROOT_ID,
				.in = { { len ? bytes : NULL, len } },
				.out_cap = 200,
			};

			assert_int_equal(answer(&call, NULL, opcodes[i], NULL), -ENOSYS);
		}
}

static void replies_without_room(void **state)
{
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < NBODIES; i++) {
		const struct body *b = &bodies[i];
		uint32_t full = body_make(b, bytes);
		struct fuc_call call = body_call(b, bytes, full);
		size_t payload;

		/* Not even a header fits: the chain comes back, with nothing in it. */
		for (size_t room = 1; room < 16; room += 7) {
			call.out_total = room;
			answer(&call, b, (uint32_t)room, NULL);
		}
		call.out_total = 0;
		call.no_reply = true;
		answer(&call, b, 0, NULL);
		call.no_reply = false;
		if (b->variable || !b->reply)
			continue;
		/* One byte short: no half answers. */
		for (size_t room = 16; room < 16 + b->reply; room += b->reply - 1) {
			call.out_total = room;
			assert_refused(answer(&call, b, (uint32_t)room, &payload), b,
				       (uint32_t)room);
			if (b->reply < 2)
				break;
		}
	}
}

static void sizes_beyond_all_bounds(void **state)
{
	static const uint32_t sizes[] = { 65,	     4096,	1 << 20,
					  1 << 30,   INT32_MAX, UINT32_MAX - 15,
					  UINT32_MAX };
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < NBODIES; i++) {
		const struct body *b = &bodies[i];
		uint32_t full = body_make(b, bytes);

		for (size_t k = 0; b->size_at && k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			struct fuc_call call = body_call(b, bytes, full);
			size_t payload;
			int error;

			memcpy(bytes + b->size_at - 1, &sizes[k], sizeof(sizes[k]));
			error = answer(&call, b, sizes[k], &payload);
			assert_true(payload <= b->reply);
			/* The data of a WRITE or SETXATTR is not there. */
			if (b->data)
				assert_refused(error, b, sizes[k]);
		}
	}
}

static void forgets_that_lie(void **state)
{
	static const uint32_t counts[] = { 0, 1, 2, 1000, 1u << 28, UINT32_MAX };
	struct fuse_forget_one one[2] = { { UINT64_MAX, UINT64_MAX }, { 12345, 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct fuse_batch_forget_in in = { .count = counts[i] };
		struct fuc_call call = {
			.opcode = FUSE_BATCH_FORGET,
			.hiprio = true,
			.no_reply = true,
			.in = { { &in, sizeof(in) }, { one, sizeof(one) } },
		};

		answer(&call, NULL, counts[i], NULL);
		call.in[1].iov_len = 7;
		answer(&call, NULL, counts[i], NULL);
	}
	for (uint32_t len = 0; len < 8; len++) {
		struct fuc_call call = { .opcode = FUSE_FORGET,
					 .hiprio = true,
					 .no_reply = true,
					 .nodeid = file_node,
					 .in = { { len ? one : NULL, len } } };

		answer(&call, NULL, len, NULL);
	}
	/* More than there were: the node must not go below nothing, nor others suffer. */
	assert_ok(fuc_forget(&guest_.f, 0xdeadbeefdeadbeef, UINT64_MAX));
	assert_ok(fuc_forget(&guest_.f, FUSE_ROOT_ID, UINT64_MAX));
	assert_ok(fuc_forget(&guest_.f, 0, 1));
}

static void extensions_that_lie(void **state)
{
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < NBODIES; i++) {
		uint32_t full = body_make(&bodies[i], bytes);
		struct fuc_call call = body_call(&bodies[i], bytes, full);

		for (uint32_t units = 1; units < 0x10000; units *= 3) {
			call.ext_len = (uint16_t)units;
			answer(&call, &bodies[i], units, NULL);
		}
	}
}

#define malformed_test(f) cmocka_unit_test_teardown(f, still_served)

int main(void)
{
	const struct CMUnitTest tests[] = {
		malformed_test(bodies_cut_short_anywhere),
		malformed_test(bodies_that_are_whole_and_longer),
		malformed_test(length_fields_that_lie),
		malformed_test(headers_cut_short),
		malformed_test(names_that_are_none),
		malformed_test(opcodes_that_are_none),
		malformed_test(replies_without_room),
		malformed_test(sizes_beyond_all_bounds),
		malformed_test(forgets_that_lie),
		malformed_test(extensions_that_lie),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("malformed requests", tests, set_up, NULL);
}
