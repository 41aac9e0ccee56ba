/* SPDX-License-Identifier: Apache-2.0 */
/* Open files: data, versions, commits, attributes that follow. */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

static void test_write(void **state)
{
	struct ox *ox = *state;
	char buf[64] = "";
	uint64_t a, b, c;

	ox_put(ox, "f", "0123456789");
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &a), 0);
	assert_int_equal(ox_openat(ox, "f", O_RDONLY, &b), 0);
	assert_int_equal(ox_openat(ox, "f", O_WRONLY | O_APPEND, &c), 0);
	assert_int_equal(ox_write(ox, a, "ab", 2, 3), 2);
	assert_int_equal(ox_write(ox, c, "end", 3, 0), 3);
	/* Two handles on one file see each other's writes. */
	assert_int_equal(ox_read(ox, b, buf, sizeof(buf), 0), 13);
	assert_string_equal(buf, "012ab56789end");
	assert_int_equal(ox_read(ox, c, buf, sizeof(buf), 0), -EBADF);
	assert_int_equal(ox_write(ox, b, "x", 1, 0), -EBADF);
	assert_string_equal(ox_bucket(ox, "f"), "0123456789");
	assert_int_equal(ox_fsync(ox, a), 0);
	assert_string_equal(ox_bucket(ox, "f"), "012ab56789end");
	assert_int_equal(ox_write(ox, a, "X", 1, 0), 1);
	assert_int_equal(ox_closeat(ox, a), 0);
	assert_string_equal(ox_bucket(ox, "f"), "X12ab56789end");
	assert_int_equal(ox_closeat(ox, b), 0);
	assert_int_equal(ox_closeat(ox, c), 0);
}

static void test_sizes(void **state)
{
	struct ox *ox = *state;
	struct fuse_setattr_in in = { .valid = FATTR_SIZE | FATTR_FH, .size = 2 };
	struct fuse_entry_out e;
	struct fuse_attr attr;
	char buf[64];
	uint64_t fh;

	ox_put(ox, "f", "text");
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	in.fh = fh;
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, &attr), 0);
	assert_int_equal(attr.size, 2);
	assert_int_equal(ox_write(ox, fh, "z", 1, 5), 1); /* a hole */
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 6);
	assert_int_equal(ox_read(ox, fh, buf, sizeof(buf), 0), 6);
	assert_memory_equal(buf, "te\0\0\0z", 6);
	assert_int_equal(ox_closeat(ox, fh), 0);
	/* Without a handle: at once. */
	assert_int_equal(ox_truncate(ox, "f", 1), 0);
	assert_string_equal(ox_bucket(ox, "f"), "t");
	assert_int_equal(ox_openat(ox, "f", O_WRONLY | O_TRUNC, &fh), 0);
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "");
}

/* Somebody asks for attributes just between the two steps of OPEN, when the node counts as closed.
 */
static void test_looked_at_while_opened(void **state)
{
	struct ox *ox = *state;
	struct objectfs_session *s = objectfs_session_of(ox->session);
	struct objectfs *fs = objectfs_of(s);
	struct fuse_entry_out e;
	struct fuse_attr attr;
	struct cache_file *file;
	struct node *n;
	uint64_t fh;

	ox_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	tree_lock(&fs->tree);
	n = node_get(&fs->tree, e.nodeid);
	assert_int_equal(file_get(fs, n, &file), 0);
	tree_unlock(&fs->tree);
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(handle_add(s, n, file, NULL, HANDLE_READ | HANDLE_WRITE, &fh), 0);
	node_put_unlocked(&fs->tree, n);
	assert_int_equal(ox_write(ox, fh, "more text", 9, 0), 9);
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 9);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 9);
}

static void test_sync_flag(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_WRONLY | O_SYNC, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "text", 4, 0), 4);
	assert_string_equal(ox_bucket(ox, "f"), "text");
	assert_int_equal(ox_closeat(ox, fh), 0);
}

static void test_times(void **state)
{
	struct ox *ox = *state;
	struct fuse_setattr_in in = { .valid = FATTR_MTIME, .mtime = 1000000000, .mtimensec = 5 };
	struct fuse_entry_out e;
	struct fuse_attr attr;
	struct store_meta meta;

	ox_bucket_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, &attr), 0);
	assert_int_equal(attr.mtime, 1000000000);
	assert_int_equal(store_memory_read(ox->ce.env.memory, "f", &meta, 0, &meta), 0);
	assert_true(meta.has_user_mtime);
	assert_int_equal(meta.user_mtime_ns, 1000000000000000005);
	assert_string_equal(ox_bucket(ox, "f"), "text");
	/* What a listing tells is the time of the upload: what is known is better. */
	assert_string_equal(ox_list(ox, ""), "f");
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(attr.mtime, 1000000000);
	in.valid = FATTR_ATIME;
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, &attr), 0);
	/* More than there is: as far as can be told. */
	in = (struct fuse_setattr_in){ .valid = FATTR_MTIME,
				       .mtime = 1ull << 62,
				       .mtimensec = UINT32_MAX };
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, &attr), 0);
	assert_int_equal(attr.mtime, INT64_MAX / 1000000000 - 1);
	assert_int_equal(attr.mtimensec, 999999999);
	in.mtime = 1ull << 63;
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, &attr), 0);
	assert_true((int64_t)attr.mtime < -9000000000);
}

/* Guests keep their pages of what has not changed. */
static void test_keep_cache(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct fuse_open_out out;

	ox_bucket_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(ox_open_node(ox, e.nodeid, O_RDONLY, &out), 0);
	assert_int_equal(out.open_flags & FOPEN_KEEP_CACHE, 0);
	ox_release(ox, out.fh);
	assert_int_equal(ox_open_node(ox, e.nodeid, O_RDWR, &out), 0);
	assert_true(out.open_flags & FOPEN_KEEP_CACHE);
	assert_int_equal(ox_write(ox, out.fh, "TEXT", 4, 0), 4);
	assert_int_equal(ox_closeat(ox, out.fh), 0);
	/* Its own writes are no news to it, */
	assert_int_equal(ox_open_node(ox, e.nodeid, O_RDWR, &out), 0);
	assert_true(out.open_flags & FOPEN_KEEP_CACHE);
	assert_int_equal(ox_closeat(ox, out.fh), 0);
	{ /* but those of another guest of the same mount, every time. */
		struct fs_session *first = ox->session, *second = ox_session(ox);

		for (unsigned i = 0; i < 2; i++) {
			ox->session = second;
			assert_int_equal(ox_stat(ox, "f", NULL), 0);
			assert_int_equal(ox_open_node(ox, e.nodeid, O_RDWR, &out), 0);
			assert_int_equal(ox_write(ox, out.fh, "Text", 4, 0), 4);
			assert_int_equal(ox_closeat(ox, out.fh), 0);
			ox->session = first;
			assert_int_equal(ox_open_node(ox, e.nodeid, O_RDONLY, &out), 0);
			assert_int_equal(out.open_flags & FOPEN_KEEP_CACHE, 0);
			ox_release(ox, out.fh);
			assert_int_equal(ox_open_node(ox, e.nodeid, O_RDONLY, &out), 0);
			assert_true(out.open_flags & FOPEN_KEEP_CACHE);
			ox_release(ox, out.fh);
		}
		ox->fs->ops->session_free(second);
	}
}

/* Replaced by another client within the time-outs, just before it is read. */
static void test_replaced_before_read(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "f", "old text");
	assert_string_equal(ox_list(ox, ""), "f");
	ox_bucket_put(ox, "f", "new");
	ox_expect(ox, "f", "new");
}

/* Replaced while it is read: never a mix. */
static void test_replaced_while_read(void **state)
{
	struct ox *ox = *state;
	unsigned char *buf = malloc(1 << 20);
	uint64_t fh;

	cache_env_object(&ox->ce, "f", 1, 16 << 20);
	assert_int_equal(ox_openat(ox, "f", O_RDONLY, &fh), 0);
	assert_int_equal(ox_read(ox, fh, buf, 4096, 0), 4096);
	cache_env_object(&ox->ce, "f", 2, 16 << 20);
	for (uint64_t at = 0; at < 16 << 20; at += 1 << 20) {
		ssize_t n = ox_read(ox, fh, buf, 1 << 20, at);

		if (n == -ESTALE)
			continue;
		assert_int_equal(n, 1 << 20);
		pattern_check(1, at, buf, 1 << 20);
	}
	assert_int_equal(ox_read(ox, fh, buf, 4096, (16 << 20) - 4096), -ESTALE);
	assert_int_equal(ox_release(ox, fh), 0);
	free(buf);
}

/* Somebody else's version is never overwritten silently. */
static void test_conflict(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	ox_bucket_put(ox, "f", "first");
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "FIRST", 5, 0), 5);
	ox_bucket_put(ox, "f", "theirs");
	assert_int_equal(ox_flush(ox, fh), -ESTALE);
	assert_string_equal(ox_bucket(ox, "f"), "theirs");
	assert_int_equal(ox_release(ox, fh), 0);
}

static void test_fallocate_lseek(void **state)
{
	struct ox *ox = *state;
	struct ox_req r;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	ox_req_init(&r, FUSE_FALLOCATE, 0);
	r.req.in.fallocate = (struct fuse_fallocate_in){ .fh = fh, .offset = 10, .length = 20 };
	assert_int_equal(ox_call(ox, &r), 0);
	ox_req_init(&r, FUSE_FALLOCATE, 0);
	r.req.in.fallocate = (struct fuse_fallocate_in){ .fh = fh, .length = 20, .mode = 3 };
	assert_int_equal(ox_call(ox, &r), -EOPNOTSUPP);
	ox_req_init(&r, FUSE_FALLOCATE, 0);
	r.req.in.fallocate =
		(struct fuse_fallocate_in){ .fh = fh, .offset = INT64_MAX, .length = 1 };
	assert_int_equal(ox_call(ox, &r), -EFBIG);
	ox_req_init(&r, FUSE_LSEEK, 0);
	r.req.in.lseek = (struct fuse_lseek_in){ .fh = fh, .offset = 7, .whence = SEEK_HOLE };
	assert_int_equal(ox_call(ox, &r), 0);
	assert_int_equal(r.req.out.lseek.offset, 30);
	ox_req_init(&r, FUSE_LSEEK, 0);
	r.req.in.lseek = (struct fuse_lseek_in){ .fh = fh, .offset = 30, .whence = SEEK_DATA };
	assert_int_equal(ox_call(ox, &r), -ENXIO);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).bytes, 30);
}

/* One guest makes room for a little more while another one writes much. */
static void test_fallocate_writing(void **state)
{
	enum { SIZE = 512 << 10, TIMES = 100 };
	struct fuse_setattr_in cut = { .valid = FATTR_SIZE | FATTR_FH };
	char *data = calloc(1, SIZE);
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct fuse_attr attr;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	cut.fh = fh;
	for (unsigned i = 0; i < TIMES; i++) {
		struct ox_req r;

		assert_int_equal(ox_setattr(ox, e.nodeid, &cut, &attr), 0);
		ox_req_init(&r, FUSE_FALLOCATE, 0);
		r.req.in.fallocate = (struct fuse_fallocate_in){ .fh = fh, .length = 1 };
		ox_start(ox, &r);
		assert_int_equal(ox_write(ox, fh, data, SIZE, 0), SIZE);
		assert_int_equal(ox_wait(&r), 0);
		assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
		assert_int_equal(attr.size, SIZE);
	}
	assert_int_equal(ox_closeat(ox, fh), 0);
	free(data);
}

/* The service fails at close: close says so, nothing is lost. */
static void test_close_fails(void **state)
{
	struct ox *ox = *state;
	struct store_fault fault = { .error_permille = 1000, .error = -EACCES };
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "text", 4, 0), 4);
	store_fault_set(ox->ce.fault, 1u << STORE_PUT, &fault);
	assert_int_equal(ox_closeat(ox, fh), -EACCES);
	assert_string_equal(ox_list(ox, ""), "f"); /* still ours */
	ox_expect(ox, "f", "text");
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_fsync(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "text");
	assert_int_equal(ox_closeat(ox, fh), 0);
}

/* ---- With write-back ---- */

static void test_write_back(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct ox_req r;

	ox_put(ox, "d", "text");
	assert_string_equal(ox_bucket(ox, "d"), "(none)");
	assert_int_equal(ox_stat(ox, "d", &e), 0);
	assert_int_equal(e.attr.size, 4);
	ox_forget(ox, e.nodeid, 4); /* all that it was given */
	assert_string_equal(ox_list(ox, ""), "d");
	ox_expect(ox, "d", "text");
	ox_req_init(&r, FUSE_SYNCFS, 1);
	assert_int_equal(ox_call(ox, &r), 0);
	assert_string_equal(ox_bucket(ox, "d"), "text");
	/* Removed, renamed before anything was sent. */
	ox_spent(ox);
	ox_put(ox, "a", "text");
	ox_put(ox, "b", "text");
	assert_int_equal(ox_rename(ox, "a", "c", 0), 0);
	assert_int_equal(ox_unlink(ox, "b"), 0);
	assert_string_equal(ox_list(ox, ""), "c,d");
	assert_int_equal(cache_env_count(&ox->ce, STORE_PUT), 1);
	assert_int_equal(cache_env_count(&ox->ce, STORE_DELETE), 0);
	ox_req_init(&r, FUSE_SYNCFS, 1);
	assert_int_equal(ox_call(ox, &r), 0);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 2);
}

static void test_write_back_fsync(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "text", 4, 0), 4);
	assert_int_equal(ox_fsync(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "text");
	assert_int_equal(ox_write(ox, fh, "TEXT", 4, 0), 4);
	assert_int_equal(ox_closeat(ox, fh), 0);
	ox_expect(ox, "f", "TEXT");
	assert_string_equal(ox_bucket(ox, "f"), "text");
}

/* What went wrong in the background is told by close, and by an open that is to change the file. */
static void test_write_back_fails(void **state)
{
	const struct store_fault fault = { .error_permille = 1000, .error = -EACCES };
	struct cache_storage_usage usage = { 0 };
	uint64_t fh, other;
	struct ox ox;

	(void)state;
	ox_init(&ox);
	ox.config.write_back = true;
	ox.ce.config.write_back_delay_ns = 10 * MSEC;
	ox_open(&ox);
	store_fault_set(ox.ce.fault, 1u << STORE_PUT, &fault);
	assert_int_equal(ox_create(&ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(&ox, fh, "text", 4, 0), 4);
	while (!usage.commit_failures) {
		sleep_ms(1);
		cache_storage_usage(ox.ce.storage, &usage);
	}
	assert_int_equal(ox_flush(&ox, fh), -EACCES);
	assert_int_equal(ox_openat(&ox, "f", O_RDWR, &other), -EACCES);
	ox_expect(&ox, "f", "text");
	store_fault_set(ox.ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_fsync(&ox, fh), 0);
	assert_int_equal(ox_release(&ox, fh), 0);
	assert_string_equal(ox_bucket(&ox, "f"), "text");
	ox_close(&ox);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
#define TEST_WB(name) cmocka_unit_test_setup_teardown(name, ox_setup_write_back, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_write),
		TEST(test_sizes),
		TEST(test_looked_at_while_opened),
		TEST(test_sync_flag),
		TEST(test_times),
		TEST(test_keep_cache),
		TEST(test_replaced_before_read),
		TEST(test_replaced_while_read),
		TEST(test_conflict),
		TEST(test_fallocate_lseek),
		TEST(test_fallocate_writing),
		TEST(test_close_fails),
		TEST_WB(test_write_back),
		TEST_WB(test_write_back_fsync),
		cmocka_unit_test(test_write_back_fails),
	};

	return cmocka_run_group_tests_name("objectfs-io", tests, NULL, NULL);
}
