/* SPDX-License-Identifier: Apache-2.0 */
/* mkdir, rmdir, unlink, create, rename: what the bucket has afterwards. */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

static void test_mkdir(void **state)
{
	struct ox *ox = *state;

	assert_int_equal(ox_mkdir(ox, "d"), 0);
	assert_string_equal(ox_bucket(ox, "d/"), "");
	assert_int_equal(ox_mkdir(ox, "d"), -EEXIST);
	ox_bucket_put(ox, "file", "");
	assert_int_equal(ox_mkdir(ox, "file"), -EEXIST);
	ox_bucket_put(ox, "implicit/x", "");
	assert_int_equal(ox_mkdir(ox, "implicit"), -EEXIST);
	assert_int_equal(ox_mkdir(ox, "implicit/y"), 0);
	assert_int_equal(ox_mkdir(ox, "file/x"), -ENOTDIR);
}

static void test_rmdir(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	ox_bucket_put(ox, "d/", "");
	ox_bucket_put(ox, "d/x", "");
	assert_int_equal(ox_rmdir(ox, "d"), -ENOTEMPTY);
	assert_int_equal(ox_rmdir(ox, "d/x"), -ENOTDIR);
	assert_int_equal(ox_unlink(ox, "d"), -EISDIR);
	assert_int_equal(ox_unlink(ox, "d/x"), 0);
	/* A file that no bucket knows yet is one. */
	assert_int_equal(ox_create(ox, "d/new", O_WRONLY, &fh), 0);
	assert_int_equal(ox_rmdir(ox, "d"), -ENOTEMPTY);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_int_equal(ox_unlink(ox, "d/new"), 0);
	assert_int_equal(ox_rmdir(ox, "d"), 0);
	assert_int_equal(ox_rmdir(ox, "d"), -ENOENT);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 0);
}

/* Another client has put something into a directory that we think is empty. */
static void test_rmdir_unknown(void **state)
{
	struct ox *ox = *state;

	assert_int_equal(ox_mkdir(ox, "d"), 0);
	ox_bucket_put(ox, "d/theirs", "text");
	ox_rmdir(ox, "d"); /* succeeds or not: nothing of theirs is lost */
	assert_string_equal(ox_bucket(ox, "d/theirs"), "text");
}

static void test_implicit_stays(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "a/b/c", "");
	ox_bucket_put(ox, "a/b/d", "");
	assert_int_equal(ox_unlink(ox, "a/b/c"), 0);
	assert_string_equal(ox_bucket(ox, "a/b/"), "(none)");
	assert_int_equal(ox_unlink(ox, "a/b/d"), 0);
	assert_string_equal(ox_bucket(ox, "a/b/"), "");
	assert_int_equal(ox_stat(ox, "a/b", NULL), 0);
	assert_int_equal(ox_rmdir(ox, "a/b"), 0);
	assert_string_equal(ox_bucket(ox, "a/"), "");
	assert_int_equal(ox_rmdir(ox, "a"), 0);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 0);
}

static void test_create(void **state)
{
	struct ox *ox = *state;
	uint64_t fh, again;

	assert_int_equal(ox_create(ox, "f", O_WRONLY | O_EXCL, &fh), 0);
	assert_int_equal(ox_create(ox, "f", O_WRONLY | O_EXCL, &again), -EEXIST);
	assert_int_equal(ox_create(ox, "f", O_WRONLY, &again), 0);
	assert_int_equal(ox_closeat(ox, again), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "");
	assert_int_equal(ox_mkdir(ox, "d"), 0);
	assert_int_equal(ox_create(ox, "d", O_WRONLY, &fh), -EISDIR);
	ox_bucket_put(ox, "theirs", "old text");
	ox_put(ox, "theirs", "new");
	assert_string_equal(ox_bucket(ox, "theirs"), "new");
}

/* The other host is first. */
static void test_create_race(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_WRONLY | O_EXCL, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "ours", 4, 0), 4);
	ox_bucket_put(ox, "f", "theirs");
	assert_int_equal(ox_closeat(ox, fh), -ESTALE);
	assert_string_equal(ox_bucket(ox, "f"), "theirs");
}

static void test_unlink_open(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	char buf[16] = "";
	struct fuse_attr attr;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "text", 4, 0), 4);
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(ox_unlink(ox, "f"), 0);
	assert_int_equal(ox_stat(ox, "f", NULL), -ENOENT);
	assert_int_equal(ox_write(ox, fh, "s", 1, 4), 1);
	assert_int_equal(ox_read(ox, fh, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "texts");
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(attr.size, 5);
	/* Another file of that name is another file. */
	ox_put(ox, "f", "other");
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "other");
	assert_int_equal(ox_getattr(ox, e.nodeid, &attr), -ESTALE);
	ox_expect(ox, "f", "other");
}

/* The storage does not let it go: what was written is there still, and gets there. */
static void test_unlink_refused(void **state)
{
	struct store_fault refused = { .error_permille = 1000, .error = -EACCES };
	struct ox *ox = *state;
	uint64_t fh;

	ox_bucket_put(ox, "f", "old");
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "newer", 5, 0), 5);
	assert_int_equal(ox_closeat(ox, fh), 0);
	store_fault_set(ox->ce.fault, 1u << STORE_DELETE, &refused);
	assert_int_equal(ox_unlink(ox, "f"), -EACCES);
	ox_expect(ox, "f", "newer");
	assert_int_equal(cache_storage_sync(ox->ce.storage), 0);
	assert_string_equal(ox_bucket(ox, "f"), "newer");
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_unlink(ox, "f"), 0);
	assert_string_equal(ox_bucket(ox, "f"), "(none)");
}

/* Whether the object was made is not known: it does not stay behind. */
static void test_doubtful(void **state)
{
	struct store_fault lost = { .lost_permille = 1000, .count = 1 };
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	store_fault_set(ox->ce.fault, 1u << STORE_PUT, &lost);
	assert_int_equal(ox_closeat(ox, fh), -EIO);
	assert_string_equal(ox_bucket(ox, "f"), "");
	assert_int_equal(ox_unlink(ox, "f"), 0);
	assert_string_equal(ox_bucket(ox, "f"), "(none)");
	assert_int_equal(ox_create(ox, "g", O_RDWR, &fh), 0);
	store_fault_set(ox->ce.fault, 1u << STORE_PUT, &lost);
	assert_int_equal(ox_closeat(ox, fh), -EIO);
	assert_int_equal(ox_rename(ox, "g", "h", 0), 0);
	assert_int_equal(cache_storage_sync(ox->ce.storage), 0);
	assert_string_equal(ox_bucket(ox, "g"), "(none)");
	assert_string_equal(ox_bucket(ox, "h"), "");
}

static void test_unsupported(void **state)
{
	struct ox *ox = *state;
	static const uint32_t ops[] = { FUSE_LINK, FUSE_SYMLINK, FUSE_COPY_FILE_RANGE };
	static const uint32_t never_again[] = { FUSE_SETXATTR, FUSE_GETXATTR, FUSE_LISTXATTR,
						FUSE_REMOVEXATTR };
	struct fuse_setattr_in in = { .valid = FATTR_MODE, .mode = 0600 };
	struct fuse_entry_out e;
	struct ox_req r;

	ox_bucket_put(ox, "f", "");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		ox_req_init(&r, ops[i], e.nodeid);
		r.req.name = "x";
		assert_int_equal(ox_call(ox, &r), -EOPNOTSUPP);
	}
	/* The kernel makes EOPNOTSUPP of it, and does not ask once more for each write. */
	for (unsigned i = 0; i < ARRAY_SIZE(never_again); i++) {
		ox_req_init(&r, never_again[i], e.nodeid);
		r.req.name = "x";
		assert_int_equal(ox_call(ox, &r), -ENOSYS);
	}
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, NULL), -EOPNOTSUPP);
	in.mode = S_IFREG | 0644; /* as it is */
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, NULL), 0);
	in = (struct fuse_setattr_in){ .valid = FATTR_UID | FATTR_GID, .uid = 0, .gid = 0 };
	assert_int_equal(ox_setattr(ox, e.nodeid, &in, NULL), -EOPNOTSUPP);
	ox_req_init(&r, FUSE_MKNOD, 1);
	r.req.name = "fifo";
	r.req.in.mknod.mode = S_IFIFO | 0644;
	assert_int_equal(ox_call(ox, &r), -EOPNOTSUPP);
	ox_req_init(&r, FUSE_MKNOD, 1);
	r.req.name = "regular";
	r.req.in.mknod.mode = S_IFREG | 0644;
	assert_int_equal(ox_call(ox, &r), 0);
	assert_string_equal(ox_bucket(ox, "regular"), "");
}

static void test_readonly(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));
	uint64_t fh;

	(void)state;
	ox_init(ox);
	ox->config.readonly = true;
	ox_open(ox);
	ox_bucket_put(ox, "f", "text");
	ox_expect(ox, "f", "text");
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), -EROFS);
	assert_int_equal(ox_openat(ox, "f", O_RDONLY | O_TRUNC, &fh), -EROFS);
	assert_int_equal(ox_create(ox, "g", O_WRONLY, &fh), -EROFS);
	assert_int_equal(ox_mkdir(ox, "d"), -EROFS);
	assert_int_equal(ox_unlink(ox, "f"), -EROFS);
	assert_int_equal(ox_rename(ox, "f", "g", 0), -EROFS);
	assert_int_equal(ox_truncate(ox, "f", 0), -EROFS);
	ox_close(ox);
	free(ox);
}

/* A key may have 1024 bytes. */
static void test_long(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e = { .nodeid = 1 };
	char name[201];
	struct ox_req r;

	memset(name, 'n', 200);
	name[200] = '\0';
	for (unsigned i = 0; i < 5; i++) {
		ox_req_init(&r, FUSE_MKDIR, e.nodeid);
		r.req.name = name;
		assert_int_equal(ox_call(ox, &r), 0);
		e = r.req.out.entry;
	}
	ox_req_init(&r, FUSE_MKDIR, e.nodeid);
	r.req.name = name;
	assert_int_equal(ox_call(ox, &r), -ENAMETOOLONG);
	name[18] = '\0'; /* 1005 + 18 = 1023 */
	assert_int_equal(ox_lookup(ox, e.nodeid, name, &e), 0);
	assert_int_equal(e.nodeid, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_mkdir),
		TEST(test_rmdir),
		TEST(test_rmdir_unknown),
		TEST(test_implicit_stays),
		TEST(test_create),
		TEST(test_create_race),
		TEST(test_unlink_open),
		TEST(test_unsupported),
		cmocka_unit_test(test_readonly),
		TEST(test_long),
		TEST(test_doubtful),
		cmocka_unit_test_setup_teardown(test_unlink_refused, ox_setup_write_back,
						ox_teardown),
	};

	return cmocka_run_group_tests_name("objectfs-change", tests, NULL, NULL);
}
