/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two guests at one name at the same moment, each moment made by a delay in the storage: a change
 * comes between a question and its answer, or a question into a change.
 */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

#define DELAY (400 * MSEC)

/* The next operation of each kind in @opcodes is held back; its answer is with @reply. */
static void slow(struct ox *ox, uint32_t opcodes, bool reply)
{
	struct store_fault fault = {
		.delay_permille = reply ? 0 : 1000,
		.reply_delay_permille = reply ? 1000 : 0,
		.delay_min_ns = DELAY,
		.delay_max_ns = DELAY,
		.count = 1,
	};

	store_fault_set(ox->ce.fault, opcodes, &fault);
}

/* Until a delay has begun that was asked for. */
static void wait_delayed(struct ox *ox, uint64_t delays)
{
	while (store_fault_stats(ox->ce.fault).delayed < delays)
		sleep_ms(1);
}

/* A request with a name, which is not waited for. */
static void start_name(struct ox *ox, struct ox_req *r, uint32_t opcode, uint64_t parent,
		       const char *name)
{
	ox_req_init(r, opcode, parent);
	r->req.name = name;
	ox_start(ox, r);
}

static void start_rename(struct ox *ox, struct ox_req *r, const char *from, uint64_t to_dir,
			 const char *to)
{
	ox_req_init(r, FUSE_RENAME2, FUSE_ROOT_ID);
	r->req.name = from;
	r->req.newname = to;
	r->req.in.rename.newdir = to_dir;
	ox_start(ox, r);
}

/* The guest goes, and with it the nodes that only it knew. */
static void reboot(struct ox *ox)
{
	ox->fs->ops->session_free(ox->session);
	ox->session = ox_session(ox);
}

/*
 * A guest asks for a name that is not there; before the answer is here, another makes it, and all
 * of them forget it. That it was missing is not to be believed then.
 */
static void late_answer(struct ox *ox, bool dir)
{
	struct ox other = *ox;
	struct ox_req lookup;
	uint64_t fh;

	other.session = ox_session(ox);
	slow(ox, 1u << STORE_STAT | 1u << STORE_LIST, true);
	start_name(ox, &lookup, FUSE_LOOKUP, FUSE_ROOT_ID, "x");
	wait_delayed(ox, 2);
	if (dir)
		assert_int_equal(ox_mkdir(&other, "x"), 0);
	else
		ox_put(&other, "x", "text");
	other.fs->ops->session_free(other.session);
	assert_int_equal(ox_wait(&lookup), 0);
	reboot(ox);
	assert_int_equal(ox_create(ox, "x", O_WRONLY | O_EXCL, &fh), -EEXIST);
	assert_int_equal(ox_mkdir(ox, "x"), -EEXIST);
	assert_int_equal(ox_stat(ox, "x", NULL), 0);
}

static void test_late_answer_file(void **state)
{
	late_answer(*state, false);
}

static void test_late_answer_dir(void **state)
{
	late_answer(*state, true);
}

/* A file that is being deleted is not found again while the storage has it still. */
static void test_unlink_found(void **state)
{
	struct ox *ox = *state;
	struct ox_req unlink;
	uint64_t fh;

	ox_bucket_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "f", NULL), 0);
	slow(ox, 1u << STORE_DELETE, false);
	start_name(ox, &unlink, FUSE_UNLINK, FUSE_ROOT_ID, "f");
	wait_delayed(ox, 1);
	assert_int_equal(ox_stat(ox, "f", NULL), -ENOENT);
	/* A listing may show it, not to be believed afterwards. */
	ox_list(ox, "");
	assert_string_equal(ox_bucket(ox, "f"), "text");
	assert_int_equal(ox_wait(&unlink), 0);
	assert_int_equal(ox_stat(ox, "f", NULL), -ENOENT);
	assert_string_equal(ox_list(ox, ""), "");
	assert_int_equal(ox_create(ox, "f", O_WRONLY | O_EXCL, &fh), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
}

/* Something is to be put into a directory that is being removed. */
static void test_removed_dir(void **state)
{
	struct ox *ox = *state;
	struct ox_req rmdir, rename, mkdir;
	struct fuse_entry_out d;

	ox_bucket_put(ox, "d/", "");
	ox_bucket_put(ox, "f", "text");
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	slow(ox, 1u << STORE_DELETE, false);
	start_name(ox, &rmdir, FUSE_RMDIR, FUSE_ROOT_ID, "d");
	wait_delayed(ox, 1);
	start_name(ox, &mkdir, FUSE_MKDIR, d.nodeid, "sub");
	start_rename(ox, &rename, "f", d.nodeid, "f");
	assert_int_equal(ox_wait(&rmdir), 0);
	assert_int_equal(ox_wait(&mkdir), -ENOENT);
	assert_int_equal(ox_wait(&rename), -ENOENT);
	assert_string_equal(ox_bucket(ox, "f"), "text");
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 1);
}

/* A directory without a marker is there while its last entry goes and the marker is on its way. */
static void test_emptied(void **state)
{
	struct ox *ox = *state;
	struct ox_req unlink;
	struct fuse_entry_out d, e;
	uint64_t fh;

	ox_bucket_put(ox, "d/f", "text");
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	slow(ox, 1u << STORE_PUT, false);
	start_name(ox, &unlink, FUSE_UNLINK, d.nodeid, "f");
	wait_delayed(ox, 1);
	/* Nothing is in the bucket now. What is known of the directory is too old. */
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 0);
	sleep_ms(10);
	assert_int_equal(ox_stat(ox, "d", &e), 0);
	assert_int_equal(e.nodeid, d.nodeid);
	assert_int_equal(ox_create(ox, "d", O_WRONLY, &fh), -EISDIR);
	assert_int_equal(ox_wait(&unlink), 0);
	assert_string_equal(ox_bucket(ox, "d/"), "");
	assert_string_equal(ox_bucket(ox, "d"), "(none)");
}

/* A directory that nobody knows is found empty and removed; meanwhile somebody puts a file there.
 */
static void test_rmdir_stirred(void **state)
{
	struct ox *ox = *state;
	struct ox other = *ox;
	struct ox_req rmdir;
	uint64_t fh;

	other.session = ox_session(ox);
	ox_bucket_put(ox, "d/", "");
	slow(ox, 1u << STORE_LIST, true);
	start_name(ox, &rmdir, FUSE_RMDIR, FUSE_ROOT_ID, "d");
	wait_delayed(ox, 1);
	ox_put(&other, "d/f", "text");
	other.fs->ops->session_free(other.session);
	assert_int_equal(ox_wait(&rmdir), -ENOTEMPTY);
	assert_string_equal(ox_bucket(ox, "d/"), "");
	assert_int_equal(ox_create(ox, "d", O_WRONLY, &fh), -EISDIR);
	ox_expect(ox, "d/f", "text");
}

/* A file is opened, and changed, while it is copied to its new name: the change goes there. */
static void test_rename_opened(void **state)
{
	struct ox *ox = *state;
	struct fuse_open_out open;
	struct fuse_entry_out a;
	struct ox_req rename;

	ox_bucket_put(ox, "a", "early");
	assert_int_equal(ox_stat(ox, "a", &a), 0);
	slow(ox, 1u << STORE_COPY, true);
	start_rename(ox, &rename, "a", FUSE_ROOT_ID, "b");
	wait_delayed(ox, 1);
	assert_int_equal(ox_open_node(ox, a.nodeid, O_RDWR, &open), 0);
	assert_int_equal(ox_write(ox, open.fh, "later", 5, 0), 5);
	assert_int_equal(ox_fsync(ox, open.fh), 0);
	assert_int_equal(ox_wait(&rename), 0);
	assert_string_equal(ox_bucket(ox, "b"), "later");
	assert_int_equal(ox_write(ox, open.fh, "latest", 6, 0), 6);
	assert_int_equal(ox_closeat(ox, open.fh), 0);
	assert_string_equal(ox_bucket(ox, "b"), "latest");
	assert_string_equal(ox_bucket(ox, "a"), "(none)");
	ox_expect(ox, "b", "latest");
}

/* The same in a directory. */
static void test_rename_dir_opened(void **state)
{
	struct ox *ox = *state;
	struct fuse_open_out open;
	struct fuse_entry_out f;
	struct ox_req rename;

	ox_bucket_put(ox, "d/f", "early");
	assert_int_equal(ox_stat(ox, "d/f", &f), 0);
	slow(ox, 1u << STORE_COPY, true);
	start_rename(ox, &rename, "d", FUSE_ROOT_ID, "e");
	wait_delayed(ox, 1);
	assert_int_equal(ox_open_node(ox, f.nodeid, O_RDWR, &open), 0);
	assert_int_equal(ox_write(ox, open.fh, "later", 5, 0), 5);
	assert_int_equal(ox_wait(&rename), 0);
	assert_int_equal(ox_fsync(ox, open.fh), 0);
	assert_string_equal(ox_bucket(ox, "e/f"), "later");
	assert_string_equal(ox_bucket(ox, "d/f"), "(none)");
	assert_int_equal(ox_closeat(ox, open.fh), 0);
	ox_expect(ox, "e/f", "later");
}

/* A file with changes of ours is to be replaced, and that fails: it is what it was, though somebody
 * looked at it meanwhile. */
static void rename_over_fails(struct ox *ox, bool created)
{
	const struct store_fault fails = {
		.error_permille = 1000,
		.error = -EACCES,
		.delay_permille = 1000,
		.delay_min_ns = DELAY,
		.delay_max_ns = DELAY,
		.count = 1,
	};
	struct fuse_entry_out d, b, e;
	struct fuse_attr attr;
	struct ox_req rename;
	uint64_t fh;

	ox_bucket_put(ox, "a", "another");
	ox_bucket_put(ox, "d/", "");
	if (!created)
		ox_bucket_put(ox, "d/b", "old");
	ox_put(ox, "d/b", "longer than it was");
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	assert_int_equal(ox_stat(ox, "d/b", &b), 0);
	store_fault_set(ox->ce.fault, 1u << STORE_COPY, &fails);
	start_rename(ox, &rename, "a", d.nodeid, "b");
	/* It is delayed from the moment on at which it is sent. */
	while (!store_fault_stats(ox->ce.fault).errors)
		sleep_ms(1);
	sleep_ms(10); /* what was known of it is too old */
	assert_int_equal(ox_getattr(ox, b.nodeid, &attr), 0);
	assert_int_equal(attr.size, 18);
	assert_string_equal(ox_list(ox, "d/"), "b");
	assert_int_equal(ox_wait(&rename), -EACCES);
	assert_int_equal(ox_stat(ox, "d/b", &e), 0);
	assert_int_equal(e.nodeid, b.nodeid);
	assert_int_equal(e.attr.size, 18);
	assert_int_equal(ox_rmdir(ox, "d"), -ENOTEMPTY);
	assert_int_equal(ox_rename(ox, "d", "e", 0), 0);
	assert_int_equal(ox_openat(ox, "e/b", O_RDWR, &fh), 0);
	assert_int_equal(ox_fsync(ox, fh), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "e/b"), "longer than it was");
	assert_string_equal(ox_bucket(ox, "d/b"), "(none)");
	assert_string_equal(ox_bucket(ox, "a"), "another");
}

static void test_rename_over_fails(void **state)
{
	rename_over_fails(*state, false);
}

static void test_rename_over_created_fails(void **state)
{
	rename_over_fails(*state, true);
}

/* The version of a commit is in the storage, and the answer is not here yet. */
static void test_rename_committing(void **state)
{
	struct ox *ox = *state;
	struct ox_req fsync;
	uint64_t fh;

	ox_bucket_put(ox, "a", "old");
	assert_int_equal(ox_openat(ox, "a", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "newer", 5, 0), 5);
	slow(ox, 1u << STORE_PUT, true);
	ox_req_init(&fsync, FUSE_FSYNC, 1);
	fsync.req.in.fsync.fh = fh;
	ox_start(ox, &fsync);
	while (strcmp(ox_bucket(ox, "a"), "newer") != 0)
		sleep_ms(1);
	assert_int_equal(ox_rename(ox, "a", "b", 0), 0);
	assert_int_equal(ox_wait(&fsync), 0);
	assert_string_equal(ox_bucket(ox, "b"), "newer");
	assert_int_equal(ox_write(ox, fh, "newest", 6, 0), 6);
	assert_int_equal(ox_fsync(ox, fh), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "b"), "newest");
	assert_string_equal(ox_bucket(ox, "a"), "(none)");
}

/* A new file below gets its object after the directory was listed. */
static void test_rename_dir_committed(void **state)
{
	struct ox *ox = *state;
	struct ox_req rename;

	assert_int_equal(ox_mkdir(ox, "d"), 0);
	ox_put(ox, "d/f", "text");
	assert_string_equal(ox_bucket(ox, "d/f"), "(none)");
	slow(ox, 1u << STORE_COPY, false);
	start_rename(ox, &rename, "d", FUSE_ROOT_ID, "e");
	wait_delayed(ox, 1);
	assert_int_equal(cache_storage_sync(ox->ce.storage), 0);
	assert_string_equal(ox_bucket(ox, "d/f"), "text");
	assert_int_equal(ox_wait(&rename), 0);
	assert_string_equal(ox_bucket(ox, "d/f"), "(none)");
	assert_string_equal(ox_bucket(ox, "e/f"), "text");
	assert_int_equal(ox_stat(ox, "d", NULL), -ENOENT);
	ox_expect(ox, "e/f", "text");
}

/* ... or it is read from when its object is there: nothing holds its cached file then. */
static void test_rename_dir_seen(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out f;
	struct ox_req rename;

	assert_int_equal(ox_mkdir(ox, "d"), 0);
	ox_put(ox, "d/f", "text");
	assert_int_equal(ox_stat(ox, "d/f", &f), 0);
	slow(ox, 1u << STORE_COPY, false);
	start_rename(ox, &rename, "d", FUSE_ROOT_ID, "e");
	wait_delayed(ox, 1);
	assert_int_equal(cache_storage_sync(ox->ce.storage), 0);
	assert_int_equal(ox_getattr(ox, f.nodeid, NULL), 0);
	assert_int_equal(ox_wait(&rename), 0);
	assert_string_equal(ox_bucket(ox, "d/f"), "(none)");
	assert_string_equal(ox_bucket(ox, "e/f"), "text");
}

static int setup_short(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.attr_timeout_ns = 1 * MSEC;
	ox->config.entry_timeout_ns = 1 * MSEC;
	ox->config.negative_timeout_ns = 1 * MSEC;
	ox_open(ox);
	*state = ox;
	return 0;
}

static int setup_short_write_back(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.attr_timeout_ns = 1 * MSEC;
	ox->config.entry_timeout_ns = 1 * MSEC;
	ox->config.write_back = true;
	ox_open(ox);
	*state = ox;
	return 0;
}

int main(void)
{
#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_late_answer_file, ox_setup),
		TEST(test_late_answer_dir, ox_setup),
		TEST(test_unlink_found, ox_setup),
		TEST(test_unlink_found, setup_short),
		TEST(test_removed_dir, ox_setup),
		TEST(test_emptied, setup_short),
		TEST(test_rmdir_stirred, ox_setup),
		TEST(test_rename_opened, ox_setup),
		TEST(test_rename_dir_opened, ox_setup),
		TEST(test_rename_over_fails, ox_setup_write_back),
		TEST(test_rename_over_fails, setup_short_write_back),
		TEST(test_rename_over_created_fails, ox_setup_write_back),
		TEST(test_rename_over_created_fails, setup_short_write_back),
		TEST(test_rename_committing, ox_setup),
		TEST(test_rename_dir_committed, ox_setup_write_back),
		TEST(test_rename_dir_seen, ox_setup_write_back),
	};

	return cmocka_run_group_tests_name("objectfs-overtaken", tests, NULL, NULL);
}
