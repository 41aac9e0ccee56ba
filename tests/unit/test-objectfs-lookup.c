/* SPDX-License-Identifier: Apache-2.0 */
/* What is believed for how long, and what other clients do meanwhile. */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

#define TIMEOUT (100 * MSEC)

static int setup_short(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.attr_timeout_ns = TIMEOUT;
	ox->config.entry_timeout_ns = TIMEOUT;
	ox->config.negative_timeout_ns = TIMEOUT;
	ox_open(ox);
	*state = ox;
	return 0;
}

static void wait_timeout(void)
{
	sleep_ms(TIMEOUT / MSEC + 20);
}

static void test_changes_show(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e, was;
	struct fuse_attr attr;

	assert_int_equal(ox_stat(ox, "f", NULL), -ENOENT);
	ox_bucket_put(ox, "f", "text");
	wait_timeout();
	assert_int_equal(ox_stat(ox, "f", &was), 0);
	assert_true(was.attr_valid == 0 && was.attr_valid_nsec <= TIMEOUT);
	ox_bucket_put(ox, "f", "longer text");
	wait_timeout();
	assert_int_equal(ox_getattr(ox, was.nodeid, &attr), 0);
	assert_int_equal(attr.size, 11);
	ox_expect(ox, "f", "longer text");
	ox_bucket_remove(ox, "f");
	wait_timeout();
	assert_int_equal(ox_getattr(ox, was.nodeid, &attr), -ESTALE);
	assert_int_equal(ox_stat(ox, "f", NULL), -ENOENT);
	/* A directory in its place is another inode. */
	ox_bucket_put(ox, "f/x", "");
	wait_timeout();
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_true(S_ISDIR(e.attr.mode));
	assert_int_not_equal(e.nodeid, was.nodeid);
	ox_bucket_remove(ox, "f/x");
	ox_bucket_put(ox, "f", "file again");
	wait_timeout();
	ox_expect(ox, "f", "file again");
}

static void test_listing_ages(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "a", "");
	assert_string_equal(ox_list(ox, ""), "a");
	ox_bucket_put(ox, "b", "");
	ox_bucket_remove(ox, "a");
	wait_timeout();
	assert_string_equal(ox_list(ox, ""), "b");
	assert_int_equal(ox_stat(ox, "a", NULL), -ENOENT);
}

/* What we made and another client removed, before any listing showed it: none is asked for in a
 * directory that we have made ourselves just before. */
static void test_made_and_removed(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_mkdir(ox, "top"), 0);
	assert_int_equal(ox_mkdir(ox, "top/d"), 0);
	assert_int_equal(ox_mkdir(ox, "top/kept"), 0);
	ox_put(ox, "top/f", "text");
	assert_int_equal(ox_mkdir(ox, "top/full"), 0);
	assert_int_equal(ox_mkdir(ox, "top/full/sub"), 0);
	assert_int_equal(ox_create(ox, "top/full/sub/new", O_WRONLY, &fh), 0);
	ox_bucket_remove(ox, "top/d/");
	ox_bucket_remove(ox, "top/f");
	ox_bucket_remove(ox, "top/full/");
	ox_bucket_remove(ox, "top/full/sub/");
	wait_timeout();
	/* What has something that is not in the bucket yet stays. */
	assert_string_equal(ox_list(ox, "top/"), "kept/,full/");
	assert_string_equal(ox_list_as(ox, "top/", FUSE_READDIR, 4096), "kept/,full/");
	assert_int_equal(ox_closeat(ox, fh), 0);
	wait_timeout();
	assert_string_equal(ox_list(ox, "top/"), "full/,kept/");
	assert_int_equal(ox_stat(ox, "top/d", NULL), -ENOENT);
}

/* What is believed costs nothing, and no longer than it should. */
static void test_revalidate(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "f", "text");
	ox_bucket_put(ox, "d/x", "text");
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	assert_int_equal(ox_stat(ox, "d", NULL), 0);
	assert_int_equal(ox_spent(ox), 3); /* two for the one, a page for the other */
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	assert_int_equal(ox_stat(ox, "d", NULL), 0);
	assert_int_equal(ox_spent(ox), 0);
	wait_timeout();
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	assert_int_equal(ox_stat(ox, "d", NULL), 0);
	assert_int_equal(ox_spent(ox), 2);
}

/* That a name is missing is believed as long as it says, by us and the guest together. */
static void test_missing_ages(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out d, e;

	ox_bucket_put(ox, "d/x", "text");
	assert_string_equal(ox_list(ox, "d/"), "x");
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	assert_int_equal(ox_lookup(ox, FUSE_ROOT_ID, "nothing", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_in_range(e.entry_valid, 30, 60);
	sleep_ms(1100);
	ox_spent(ox);
	assert_int_equal(ox_lookup(ox, FUSE_ROOT_ID, "nothing", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_in_range(e.entry_valid, 30, 58);
	assert_int_equal(ox_lookup(ox, d.nodeid, "nothing", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_in_range(e.entry_valid, 30, 58);
	assert_int_equal(ox_spent(ox), 0);
}

/* A file of ours is there whatever listings say. */
static void test_ours_stays(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_create(ox, "f", O_WRONLY, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "text", 4, 0), 4);
	wait_timeout();
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	assert_string_equal(ox_list(ox, ""), "f");
	wait_timeout();
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
}

/* Errors are errors, not missing files. */
static void test_errors(void **state)
{
	struct ox *ox = *state;
	struct store_fault fault = { .error_permille = 1000, .error = -ETIMEDOUT };
	struct fuse_entry_out e;
	char buf[256];
	uint64_t fh;

	ox_bucket_put(ox, "f", "text");
	ox_bucket_put(ox, "d/x", "text");
	assert_int_equal(ox_stat(ox, "d", &e), 0);
	wait_timeout();
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, &fault);
	assert_int_equal(ox_stat(ox, "f", NULL), -ETIMEDOUT);
	assert_int_equal(ox_lookup(ox, e.nodeid, "x", NULL), -ETIMEDOUT);
	assert_int_equal(ox_opendir(ox, e.nodeid, &fh), 0);
	assert_int_equal(ox_readdir(ox, FUSE_READDIR, fh, 2, buf, sizeof(buf)), -ETIMEDOUT);
	assert_int_equal(ox_mkdir(ox, "new"), -ETIMEDOUT);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_true(ox_readdir(ox, FUSE_READDIR, fh, 2, buf, sizeof(buf)) > 0);
	ox_releasedir(ox, fh);
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	/* Half a failure is one, too. */
	fault.error = -EACCES;
	store_fault_set(ox->ce.fault, 1u << STORE_LIST, &fault);
	assert_int_equal(ox_stat(ox, "a-missing", NULL), -EACCES);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_stat(ox, "a-missing", NULL), -ENOENT);
}

static uint64_t errors_since(struct ox *ox, uint64_t *last)
{
	uint64_t now = store_fault_stats(ox->ce.fault).errors, before = *last;

	*last = now;
	return now - before;
}

/* A service that is too busy is asked once, not as if what was asked for had been changed. */
static void test_busy(void **state)
{
	const struct store_fault busy = { .error_permille = 1000, .error = -EAGAIN };
	struct ox *ox = *state;
	struct fuse_entry_out e;
	uint64_t fh, last = 0;
	char buf[256];

	ox_bucket_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(ox_opendir(ox, FUSE_ROOT_ID, &fh), 0);
	wait_timeout();
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, &busy);
	assert_int_equal(ox_stat(ox, "f", NULL), -EIO);
	assert_in_range(errors_since(ox, &last), 1, 2); /* a STAT; a page may have been tried */
	assert_int_equal(ox_getattr(ox, e.nodeid, NULL), -EIO);
	assert_in_range(errors_since(ox, &last), 1, 2);
	assert_int_equal(ox_readdir(ox, FUSE_READDIR, fh, 2, buf, sizeof(buf)), -EIO);
	assert_int_equal(errors_since(ox, &last), 1);
	assert_int_equal(ox_rmdir(ox, "d"), -EIO);
	assert_int_equal(errors_since(ox, &last), 1);
	assert_int_equal(ox_releasedir(ox, fh), 0);
}

/* Objects of another client, each asked for as soon as it is there. */
static void test_one_by_one(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));
	char name[16];

	(void)state;
	ox_init(ox); /* with long time-outs */
	ox_open(ox);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "f%02u", i * 7 % 50);
		ox_bucket_put(ox, name, name);
		ox_expect(ox, name, name);
	}
	ox_close(ox);
	free(ox);
}

/* What is cached can be worked with while the storage is away. */
static void test_offline(void **state)
{
	struct ox *ox = *state;
	struct store_fault fault = { .error_permille = 1000, .error = -EIO };
	uint64_t fh;

	ox_bucket_put(ox, "f", "text");
	ox_bucket_put(ox, "cold", "text");
	ox_expect(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "cold", NULL), 0);
	wait_timeout();
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, &fault);
	ox_expect(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "cold", NULL), -EIO);
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "T", 1, 0), 1);
	assert_int_equal(ox_flush(ox, fh), -EIO);
	ox_expect(ox, "f", "Text");
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_fsync(ox, fh), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "Text");
}

/* ... also by who would have made it, were it not there. */
static void test_offline_create(void **state)
{
	struct ox *ox = *state;
	struct store_fault fault = { .error_permille = 1000, .error = -EIO };
	uint64_t fh;

	ox_bucket_put(ox, "f", "text");
	ox_expect(ox, "f", "text");
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, &fault);
	assert_int_equal(ox_create(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "T", 1, 0), 1);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "Text");
}

static void test_hostile(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct fuse_open_out out;
	char buf[16];
	uint64_t fh;

	ox_bucket_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(ox_lookup(ox, 0, "f", NULL), -ESTALE);
	assert_int_equal(ox_lookup(ox, UINT64_MAX, "f", NULL), -ESTALE);
	assert_int_equal(ox_lookup(ox, e.nodeid + (1ull << 32), "f", NULL), -ESTALE);
	assert_int_equal(ox_lookup(ox, e.nodeid, "f", NULL), -ENOTDIR);
	assert_int_equal(ox_opendir(ox, e.nodeid, &fh), -ENOTDIR);
	assert_int_equal(ox_open_node(ox, 1, O_RDONLY, &out), -EISDIR);
	assert_int_equal(ox_open_node(ox, e.nodeid, O_RDWR, &out), 0);
	assert_int_equal(ox_readdir(ox, FUSE_READDIR, out.fh, 0, buf, sizeof(buf)), -EBADF);
	assert_int_equal(ox_releasedir(ox, out.fh), -EBADF);
	assert_int_equal(ox_opendir(ox, 1, &fh), 0);
	assert_int_equal(ox_read(ox, fh, buf, sizeof(buf), 0), -EBADF);
	assert_int_equal(ox_flush(ox, fh), -EBADF);
	assert_int_equal(ox_release(ox, fh), -EBADF);
	/* More FORGETs than LOOKUPs, of a file that is open, of the root. */
	ox_forget(ox, e.nodeid, UINT64_MAX);
	ox_forget(ox, e.nodeid, 1);
	ox_forget(ox, 1, UINT64_MAX);
	ox_forget(ox, 777, 1);
	assert_int_equal(ox_read(ox, out.fh, buf, sizeof(buf), 0), 4);
	assert_int_equal(ox_release(ox, out.fh), 0);
	assert_int_equal(ox_release(ox, out.fh), -EBADF);
	assert_int_equal(ox_getattr(ox, e.nodeid, NULL), -ESTALE);
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	/* The rest is left open, for the end of the session to clear up. */
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
}

static int getattr_by(struct ox *ox, uint64_t nodeid, uint64_t fh, uint64_t *size)
{
	struct ox_req r;
	int ret;

	ox_req_init(&r, FUSE_GETATTR, nodeid);
	r.req.in.getattr = (struct fuse_getattr_in){ .getattr_flags = FUSE_GETATTR_FH, .fh = fh };
	ret = (int)ox_call(ox, &r);
	*size = r.req.out.attr.attr.size;
	return ret;
}

/* Another client's version is shorter: who has read of the former one must not find his end. */
static void test_replaced_under_reader(void **state)
{
	struct ox *ox = *state;
	uint64_t reader, opened, writer, size;
	struct fuse_entry_out e;
	char buf[64];

	ox_bucket_put(ox, "f", "a long text");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(ox_openat(ox, "f", O_RDONLY, &reader), 0);
	assert_int_equal(ox_read(ox, reader, buf, 6, 0), 6);
	assert_int_equal(ox_openat(ox, "f", O_RDONLY, &opened), 0);
	ox_bucket_put(ox, "f", "short");
	wait_timeout();
	assert_int_equal(getattr_by(ox, e.nodeid, reader, &size), -ESTALE); /* asked just now */
	assert_int_equal(getattr_by(ox, e.nodeid, reader, &size), -ESTALE);
	assert_int_equal(ox_read(ox, reader, buf, sizeof(buf), 6), -ESTALE);
	/* Who has read nothing yet reads that one. */
	assert_int_equal(getattr_by(ox, e.nodeid, opened, &size), 0);
	assert_int_equal(size, 5);
	assert_int_equal(ox_read(ox, opened, buf, sizeof(buf), 0), 5);
	assert_memory_equal(buf, "short", 5);
	assert_int_equal(getattr_by(ox, e.nodeid, opened, &size), 0);
	/* What is removed, or becomes another version through us, is what it was for its readers.
	 */
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &writer), 0);
	assert_int_equal(ox_write(ox, writer, "S", 1, 0), 1);
	assert_int_equal(ox_closeat(ox, writer), 0);
	assert_int_equal(getattr_by(ox, e.nodeid, opened, &size), 0);
	assert_int_equal(ox_unlink(ox, "f"), 0);
	assert_int_equal(getattr_by(ox, e.nodeid, opened, &size), 0);
	assert_int_equal(size, 5);
	assert_int_equal(ox_release(ox, reader), 0);
	assert_int_equal(ox_release(ox, opened), 0);
}

/* A listing is older than what was written since, though nobody remembers the file. */
static void test_commit_overtakes_listing(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	uint64_t fh;

	ox_bucket_put(ox, "f", "old");
	assert_string_equal(ox_list(ox, ""), "f");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(e.attr.size, 3);
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "newer", 5, 0), 5);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "f"), "newer");
	ox_forget(ox, e.nodeid, 1000);
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(e.attr.size, 5);
	ox_forget(ox, e.nodeid, 1000);
	ox_expect(ox, "f", "newer");
	/* Nor does READDIRPLUS say so. */
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	ox_forget(ox, e.nodeid, 1000);
	ox_list_as(ox, "", FUSE_READDIRPLUS, 4096);
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(e.attr.size, 5);
	/* Somebody else's version, that is seen later, is newer. */
	ox_bucket_put(ox, "f", "other's");
	ox_forget(ox, e.nodeid, 1000);
	assert_int_equal(ox_openat(ox, "f", O_RDONLY, &fh), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	ox_expect(ox, "f", "other's");
}

/* Of "f", by a guest that knows nothing of it before or after, and by a cache that forgets. */
static void append_and_forget(struct ox *ox, const char *text, uint64_t at)
{
	struct fuse_entry_out e;
	uint64_t fh;

	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(e.attr.size, at);
	assert_int_equal(ox_openat(ox, "f", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, text, strlen(text), at), strlen(text));
	assert_int_equal(ox_closeat(ox, fh), 0);
	ox_forget(ox, e.nodeid, 1000);
	cache_storage_drop(container_of(ox->fs, struct objectfs, fs)->cache);
}

/* A listing is older than what was written since, though not even the cache remembers the file. */
static void test_commit_outlives_memory(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;

	ox_bucket_put(ox, "f", "old");
	assert_string_equal(ox_list(ox, ""), "f");
	append_and_forget(ox, " and new", 3);
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(e.attr.size, 11);
	ox_forget(ox, e.nodeid, 1000);
	append_and_forget(ox, "er", 11);
	assert_string_equal(ox_list(ox, ""), "f");
	assert_int_equal(ox_stat(ox, "f", &e), 0);
	assert_int_equal(e.attr.size, 13);
	ox_expect(ox, "f", "old and newer");
	/* Nor does it make a difference to whom reads the directory by then. */
	append_and_forget(ox, "!", 13);
	assert_string_equal(ox_list(ox, ""), "f");
	ox_expect(ox, "f", "old and newer!");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_short, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_changes_show),
		TEST(test_listing_ages),
		TEST(test_made_and_removed),
		TEST(test_revalidate),
		cmocka_unit_test_setup_teardown(test_missing_ages, ox_setup, ox_teardown),
		TEST(test_ours_stays),
		TEST(test_errors),
		TEST(test_busy),
		TEST(test_hostile),
		cmocka_unit_test(test_one_by_one),
		TEST(test_offline),
		cmocka_unit_test_setup_teardown(test_offline_create, ox_setup, ox_teardown),
		TEST(test_replaced_under_reader),
		cmocka_unit_test_setup_teardown(test_commit_overtakes_listing, ox_setup,
						ox_teardown),
		cmocka_unit_test_setup_teardown(test_commit_outlives_memory, ox_setup, ox_teardown),
	};

	return cmocka_run_group_tests_name("objectfs-lookup", tests, NULL, NULL);
}
