/* SPDX-License-Identifier: Apache-2.0 */
/* READDIR and READDIRPLUS. */
#include "objectfs-fixture.h"

static void test_implicit(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "a/b/c", "text");
	ox_bucket_put(ox, "file", "text");
	ox_bucket_put(ox, "made/", "");
	assert_string_equal(ox_list(ox, ""), "a/,file,made/");
	assert_string_equal(ox_list(ox, "a/"), "b/");
	assert_string_equal(ox_list(ox, "a/b/"), "c");
	assert_string_equal(ox_list(ox, "made/"), "");
	ox_expect(ox, "a/b/c", "text");
}

static void test_plain_is_plus(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "a", "text");
	ox_bucket_put(ox, "b/c", "text");
	assert_string_equal(ox_list_as(ox, "", FUSE_READDIR, 4096), "a,b/");
	assert_string_equal(ox_list_as(ox, "", FUSE_READDIRPLUS, 4096), "a,b/");
	/* One entry in each reply. */
	assert_string_equal(ox_list_as(ox, "", FUSE_READDIR, 32), "a,b/");
	assert_string_equal(ox_list_as(ox, "", FUSE_READDIRPLUS, 160), "a,b/");
}

/* The order of keys is not that of names: "a-b" comes before "a/". */
static void test_order(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "a-b", "");
	ox_bucket_put(ox, "a/x", "");
	ox_bucket_put(ox, "a0", "");
	assert_string_equal(ox_list(ox, ""), "a-b,a/,a0");
	assert_int_equal(ox_stat(ox, "a", NULL), 0);
	assert_int_equal(ox_stat(ox, "a-b", NULL), 0);
	assert_int_equal(ox_stat(ox, "a.b", NULL), -ENOENT);
}

static void test_both(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;

	ox_bucket_put(ox, "a", "file");
	ox_bucket_put(ox, "a/b", "text");
	assert_string_equal(ox_list(ox, ""), "a/");
	assert_int_equal(ox_stat(ox, "a", &e), 0);
	assert_true(S_ISDIR(e.attr.mode));
	ox_expect(ox, "a/b", "text");
}

static void test_both_by_lookup(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;

	ox_bucket_put(ox, "a", "file");
	ox_bucket_put(ox, "a/b", "text");
	assert_int_equal(ox_stat(ox, "a", &e), 0);
	assert_true(S_ISDIR(e.attr.mode));
}

static void test_unnameable(void **state)
{
	struct ox *ox = *state;
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	char longest[257];

	memset(longest, 'n', 256);
	longest[256] = '\0';
	ox_bucket_put(ox, "/slash", "");
	ox_bucket_put(ox, "./x", "");
	ox_bucket_put(ox, "../x", "");
	ox_bucket_put(ox, "d//x", "");
	ox_bucket_put(ox, "d/.", "");
	ox_bucket_put(ox, longest, "");
	ox_bucket_put(ox, longest + 1, ""); /* 255 bytes are a name */
	ox_bucket_put(ox, "ok", "");
	ox_bucket_put(ox, "\xff\xfe", "");
	assert_string_equal(ox_list(ox, "d/"), "");
	assert_int_equal(fs->warned.skipped, 2);
	{
		char expected[300];

		snprintf(expected, sizeof(expected), "d/,%s,ok,\xff\xfe", longest + 1);
		assert_string_equal(ox_list(ox, ""), expected);
	}
	assert_int_equal(fs->warned.skipped, 6);
	assert_int_equal(ox_stat(ox, "\xff\xfe", NULL), 0);
}

static void test_ours(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	ox_bucket_put(ox, "b", "");
	ox_bucket_put(ox, "c", "");
	ox_bucket_put(ox, "d", "");
	assert_string_equal(ox_list(ox, ""), "b,c,d");
	assert_int_equal(ox_create(ox, "a", O_WRONLY, &fh), 0);
	assert_string_equal(ox_list(ox, ""), "b,c,d,a"); /* not in the bucket yet */
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_int_equal(ox_unlink(ox, "c"), 0);
	assert_int_equal(ox_mkdir(ox, "e"), 0);
	assert_int_equal(ox_rename(ox, "d", "f", 0), 0);
	assert_string_equal(ox_list(ox, ""), "b,f,e/,a");
	assert_int_equal(ox_unlink(ox, "a"), 0);
	assert_int_equal(ox_rmdir(ox, "e"), 0);
	assert_string_equal(ox_list(ox, ""), "b,f");
}

/* A directory that is read while what was read is removed. */
static void test_remove_while_reading(void **state)
{
	struct ox *ox = *state;
	char buf[200], path[16];
	unsigned seen = 0;
	uint64_t fh, offset = 0;
	ssize_t n;

	for (unsigned i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "f%02u", i);
		ox_bucket_put(ox, path, "");
	}
	assert_int_equal(ox_opendir(ox, 1, &fh), 0);
	while ((n = ox_readdir(ox, FUSE_READDIR, fh, offset, buf, sizeof(buf))) > 0) {
		for (ssize_t pos = 0; pos < n;) {
			struct fuse_dirent d;

			memcpy(&d, buf + pos, FUSE_NAME_OFFSET);
			offset = d.off;
			if (buf[pos + (ssize_t)FUSE_NAME_OFFSET] != '.') {
				snprintf(path, sizeof(path), "%.*s", (int)d.namelen,
					 buf + pos + FUSE_NAME_OFFSET);
				assert_int_equal(ox_unlink(ox, path), 0);
				seen++;
			}
			pos += (ssize_t)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(seen, 50);
	assert_int_equal(ox_releasedir(ox, fh), 0);
	assert_string_equal(ox_list(ox, ""), "");
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 0);
}

/* Reads one entry at @offset; its name into @name, the next position returned. */
static uint64_t read_one(struct ox *ox, uint64_t fh, uint64_t offset, char name[32])
{
	char buf[FUSE_NAME_OFFSET + 32];
	struct fuse_dirent d;

	name[0] = '\0';
	if (ox_readdir(ox, FUSE_READDIR, fh, offset, buf, 40) <= 0)
		return 0;
	memcpy(&d, buf, FUSE_NAME_OFFSET);
	memcpy(name, buf + FUSE_NAME_OFFSET, d.namelen);
	name[d.namelen] = '\0';
	return d.off;
}

/* Pages of 10 names, of which two are remembered. */
static struct ox *small_pages(void)
{
	struct store_memory_options options = store_memory_defaults;
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->ce.env.top->ops->free(ox->ce.env.top); /* another service */
	loop_free(ox->ce.env.loop);
	options.list_max = 10;
	env_memory(&ox->ce.env, &options);
	ox->config.listing_max = 20;
	ox_open(ox);
	return ox;
}

/* Positions lead back to the same entry, in a directory larger than what is remembered. */
static void test_seek(void **state)
{
	struct ox *ox = small_pages();
	uint64_t offsets[302], fh;
	char name[32], expected[32];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%03u", i);
		ox_bucket_put(ox, name, "");
	}
	assert_int_equal(ox_opendir(ox, 1, &fh), 0);
	offsets[0] = read_one(ox, fh, 0, name);
	offsets[1] = read_one(ox, fh, offsets[0], name);
	assert_string_equal(name, "..");
	for (unsigned i = 0; i < 300; i++) {
		offsets[i + 2 > 301 ? 301 : i + 2] = read_one(ox, fh, offsets[i + 1], name);
		snprintf(expected, sizeof(expected), "f%03u", i);
		assert_string_equal(name, expected);
	}
	assert_int_equal(read_one(ox, fh, offsets[301], name), 0);
	for (unsigned i = 0; i < 300; i += 37) {
		read_one(ox, fh, offsets[i + 1], name);
		snprintf(expected, sizeof(expected), "f%03u", i);
		assert_string_equal(name, expected);
	}
	/* Positions that nobody gave out. */
	assert_int_equal(ox_readdir(ox, FUSE_READDIR, fh, 12345, name, 32), -EINVAL);
	assert_int_equal(ox_readdir(ox, FUSE_READDIR, fh, 1ull << 40, name, 32), -EINVAL);
	assert_int_equal(ox_readdir(ox, FUSE_READDIR, fh, UINT64_MAX, name, 32), 0);
	assert_int_equal(ox_releasedir(ox, fh), 0);
	assert_in_range(container_of(ox->fs, struct objectfs, fs)->tree.page_rows, 0, 20);
	ox_close(ox);
	free(ox);
}

/* Streams that hold too much together find their pages again. */
static void test_many_streams(void **state)
{
	struct ox *ox = small_pages();
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	char name[32], expected[32];
	uint64_t fh[4], offset[4];

	(void)state;
	fs->stream_rows_max = 25;
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "f%03u", i);
		ox_bucket_put(ox, name, "");
	}
	for (unsigned s = 0; s < ARRAY_SIZE(fh); s++) {
		assert_int_equal(ox_opendir(ox, 1, &fh[s]), 0);
		offset[s] = 2;
	}
	for (unsigned i = 0; i < 50; i++) {
		for (unsigned s = 0; s < ARRAY_SIZE(fh); s++) {
			offset[s] = read_one(ox, fh[s], offset[s], name);
			snprintf(expected, sizeof(expected), "f%03u", i);
			assert_string_equal(name, expected);
			assert_in_range(fs->stream_rows, 0, 25);
		}
	}
	for (unsigned s = 0; s < ARRAY_SIZE(fh); s++) {
		assert_int_equal(read_one(ox, fh[s], offset[s], name), 0);
		assert_int_equal(ox_releasedir(ox, fh[s]), 0);
	}
	assert_int_equal(fs->stream_rows, 0);
	ox_close(ox);
	free(ox);
}

/* A directory gets another name while it is read: its pages go on where they were. */
static void test_renamed_while_reading(void **state)
{
	struct ox *ox = small_pages();
	char name[32], expected[32];
	uint64_t fh, offset = 2;
	struct fuse_entry_out e;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "d/f%03u", i);
		ox_bucket_put(ox, name, "");
	}
	assert_int_equal(ox_stat(ox, "d", &e), 0);
	assert_int_equal(ox_opendir(ox, e.nodeid, &fh), 0);
	for (unsigned i = 0; i < 50; i++) {
		if (i == 15)
			assert_int_equal(ox_rename(ox, "d", "c", 0), 0);
		offset = read_one(ox, fh, offset, name);
		snprintf(expected, sizeof(expected), "f%03u", i);
		assert_string_equal(name, expected);
	}
	assert_int_equal(read_one(ox, fh, offset, name), 0);
	assert_int_equal(ox_releasedir(ox, fh), 0);
	ox_close(ox);
	free(ox);
}

/* rewinddir() sees what is there now. */
static void test_rewind(void **state)
{
	struct ox *ox = *state;
	char name[32];
	uint64_t fh, offset = 2;

	ox_bucket_put(ox, "a", "");
	assert_int_equal(ox_opendir(ox, 1, &fh), 0);
	offset = read_one(ox, fh, offset, name);
	assert_string_equal(name, "a");
	assert_int_equal(read_one(ox, fh, offset, name), 0);
	ox_put(ox, "b", "");
	offset = read_one(ox, fh, 0, name);
	offset = read_one(ox, fh, offset, name);
	offset = read_one(ox, fh, offset, name);
	assert_string_equal(name, "a");
	read_one(ox, fh, offset, name);
	assert_string_equal(name, "b");
	assert_int_equal(ox_releasedir(ox, fh), 0);
}

static void test_removed_while_open(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	char buf[512];
	uint64_t fh;

	assert_int_equal(ox_mkdir(ox, "d"), 0);
	assert_int_equal(ox_stat(ox, "d", &e), 0);
	assert_int_equal(ox_opendir(ox, e.nodeid, &fh), 0);
	assert_int_equal(ox_rmdir(ox, "d"), 0);
	assert_true(ox_readdir(ox, FUSE_READDIR, fh, 2, buf, sizeof(buf)) == 0);
	assert_int_equal(ox_releasedir(ox, fh), 0);
	assert_int_equal(ox_lookup(ox, e.nodeid, "x", NULL), -ESTALE);
}

/* st_ino is made of the key. */
static void test_ino(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out before, after;

	ox_bucket_put(ox, "a/b/c", "");
	assert_int_equal(ox_stat(ox, "a/b/c", &before), 0);
	ox->fs->ops->session_free(ox->session);
	ox->fs->ops->free(ox->fs);
	env_ok(objectfs_new(&ox->fs, &ox->config, ox->ce.env.top, ox->ce.storage, ox->ce.workers));
	ox->session = ox_session(ox);
	assert_int_equal(ox_stat(ox, "a/b/c", &after), 0);
	assert_int_equal(before.attr.ino, after.attr.ino);
	/* On every host, for ever. */
	assert_int_equal(before.attr.ino, name_ino(name_ino(name_ino(1, "a", 1), "b", 1), "c", 1));
	assert_int_equal(name_ino(1, "datasets", 8), 0x2d35c91d915083fc);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_implicit),
		TEST(test_plain_is_plus),
		TEST(test_order),
		TEST(test_both),
		TEST(test_both_by_lookup),
		TEST(test_unnameable),
		TEST(test_ours),
		TEST(test_remove_while_reading),
		cmocka_unit_test(test_seek),
		cmocka_unit_test(test_many_streams),
		cmocka_unit_test(test_renamed_while_reading),
		TEST(test_rewind),
		TEST(test_removed_while_open),
		TEST(test_ino),
	};

	return cmocka_run_group_tests_name("objectfs-dir", tests, NULL, NULL);
}
