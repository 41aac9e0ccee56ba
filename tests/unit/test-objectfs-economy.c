/* SPDX-License-Identifier: Apache-2.0 */
/* How many requests operations cost: the table of issue 3. */
#include "objectfs-fixture.h"

#include <malloc.h>

#include "store/layers/fault.h"

static void make_objects(struct ox *ox, const char *prefix, unsigned count)
{
	char key[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "%sf%05u", prefix, i);
		ox_bucket_put(ox, key, "text");
	}
}

/* Reads all of a directory and stats each name, as ls -l does. Returns how many. */
static unsigned list_long(struct ox *ox, const char *path)
{
	char *buf = malloc(32768);
	struct fuse_entry_out e;
	uint64_t fh, offset = 0;
	unsigned count = 0;
	ssize_t n;

	assert_int_equal(ox_stat(ox, path, &e), 0);
	assert_int_equal(ox_opendir(ox, e.nodeid, &fh), 0);
	while ((n = ox_readdir(ox, FUSE_READDIRPLUS, fh, offset, buf, 32768)) > 0) {
		for (ssize_t pos = 0; pos < n;) {
			struct fuse_direntplus d;

			memcpy(&d, buf + pos, FUSE_NAME_OFFSET_DIRENTPLUS);
			pos += (ssize_t)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS +
							  d.dirent.namelen);
			offset = d.dirent.off;
			if (!d.entry_out.nodeid)
				continue;
			count++;
			assert_int_equal(ox_getattr(ox, d.entry_out.nodeid, NULL), 0);
			ox_forget(ox, d.entry_out.nodeid, 1);
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(ox_releasedir(ox, fh), 0);
	free(buf);
	return count;
}

static void test_ls(void **state)
{
	struct ox *ox = *state;

	make_objects(ox, "d/", 2500);
	assert_int_equal(ox_stat(ox, "d", NULL), 0);
	ox_spent(ox);
	assert_int_equal(list_long(ox, "d/"), 2500);
	assert_int_equal(ox_spent(ox), 3);
	assert_int_equal(cache_env_count(&ox->ce, STORE_STAT), 1); /* of LOOKUP d */
	/* Again, and names by LOOKUP: from memory. */
	assert_int_equal(list_long(ox, "d/"), 2500);
	assert_int_equal(ox_stat(ox, "d/f00007", NULL), 0);
	assert_int_equal(ox_stat(ox, "d/nothing", NULL), -ENOENT);
	assert_int_equal(ox_spent(ox), 0);
}

static void test_read_listed(void **state)
{
	struct ox *ox = *state;

	cache_env_object(&ox->ce, "d/file", 1, 4096);
	assert_string_equal(ox_list(ox, "d/"), "file");
	ox_spent(ox);
	{
		unsigned char buf[8192];
		uint64_t fh;

		assert_int_equal(ox_openat(ox, "d/file", O_RDONLY, &fh), 0);
		assert_int_equal(ox_read(ox, fh, buf, sizeof(buf), 0), 4096);
		pattern_check(1, 0, buf, 4096);
		assert_int_equal(ox_closeat(ox, fh), 0);
	}
	assert_int_equal(ox_spent(ox), 1);
}

static void test_read_unlisted(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "file", "some text");
	ox_expect(ox, "file", "some text");
	assert_in_range(ox_spent(ox), 1, 3);
}

/* Each open asks whether what is cached is still the same. */
static void test_read_again(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "file", "some text");
	ox_expect(ox, "file", "some text");
	ox_spent(ox);
	ox_expect(ox, "file", "some text");
	assert_int_equal(ox_spent(ox), 1);
	ox_bucket_put(ox, "file", "another text");
	ox_expect(ox, "file", "another text");
}

/* Not where nobody else changes the bucket; but who is to change it asks. */
static void test_read_again_believing(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "file", "some text");
	ox_expect(ox, "file", "some text");
	ox_spent(ox);
	for (unsigned i = 0; i < 3; i++)
		ox_expect(ox, "file", "some text");
	assert_int_equal(ox_spent(ox), 0);
	ox_bucket_put(ox, "file", "another text");
	ox_expect(ox, "file", "some text");
	ox_put(ox, "file", "ours");
	assert_int_equal(ox_spent(ox), 2); /* STAT, PUT */
	assert_string_equal(ox_bucket(ox, "file"), "ours");
	ox_expect(ox, "file", "ours");
	assert_int_equal(ox_spent(ox), 0);
}

static int setup_believing(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.open_timeout_ns = 60 * SEC;
	ox_open(ox);
	*state = ox;
	return 0;
}

static void test_create(void **state)
{
	struct ox *ox = *state;
	char data[4096];
	uint64_t fh;

	memset(data, 'x', sizeof(data));
	assert_int_equal(ox_stat(ox, "new", NULL), -ENOENT); /* as the guest does */
	assert_int_equal(ox_create(ox, "new", O_WRONLY | O_EXCL, &fh), 0);
	assert_int_equal(ox_write(ox, fh, data, sizeof(data), 0), sizeof(data));
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_in_range(ox_spent(ox), 1, 3);
	assert_int_equal(strlen(ox_bucket(ox, "new")), 4095); /* of its room */
}

static void test_missing(void **state)
{
	struct ox *ox = *state;

	assert_int_equal(ox_stat(ox, "nothing", NULL), -ENOENT);
	assert_int_equal(ox_spent(ox), 2);
	assert_int_equal(ox_stat(ox, "nothing", NULL), -ENOENT);
	assert_int_equal(ox_spent(ox), 0);
}

/* The seed table. */
static void test_table(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "xxx/yyy/", "");
	assert_int_equal(ox_stat(ox, "xxx/yyy", NULL), 0);
	ox_spent(ox);
	/* read directory: get the marker, list */
	assert_string_equal(ox_list(ox, "xxx/yyy/"), "");
	assert_in_range(ox_spent(ox), 0, 2);
	/* mkdir: two gets and an insert */
	assert_int_equal(ox_mkdir(ox, "xxx/zzz"), 0);
	assert_in_range(ox_spent(ox), 1, 3);
	/* create: three gets and an insert */
	ox_put(ox, "xxx/zzz/file", "text");
	assert_in_range(ox_spent(ox), 1, 4);
	/* remove a file: both gets, delete */
	assert_int_equal(ox_unlink(ox, "xxx/zzz/file"), 0);
	assert_in_range(ox_spent(ox), 1, 3);
	/* remove a directory: get, list, delete */
	assert_int_equal(ox_rmdir(ox, "xxx/zzz"), 0);
	assert_in_range(ox_spent(ox), 1, 3);
	assert_string_equal(ox_bucket(ox, "xxx/zzz/"), "(none)");
}

/* What we made ourselves we know. */
static void test_new_directory(void **state)
{
	struct ox *ox = *state;
	char path[32];

	assert_int_equal(ox_mkdir(ox, "new"), 0);
	ox_spent(ox);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "new/%u", i);
		assert_int_equal(ox_stat(ox, path, NULL), -ENOENT);
		ox_put(ox, path, "text");
	}
	assert_int_equal(ox_spent(ox), 20);
}

/* One after the other, long after they were listed: a page for all. */
static void test_burst(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out d;
	char name[32];

	make_objects(ox, "d/", 3000);
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	ox_spent(ox);
	for (unsigned i = 0; i < 3000; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "f%05u", i);
		assert_int_equal(ox_lookup(ox, d.nodeid, name, &e), 0);
		assert_int_equal(e.attr.size, 4);
	}
	assert_in_range(ox_spent(ox), 3, 30);
}

/* Who asks while a page is fetched waits for it, and fetches no other. */
static void test_burst_together(void **state)
{
	enum { FIRST = 1, NAMES = 24 };
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 300 * MSEC,
				    .delay_max_ns = 300 * MSEC,
				    .count = 1 };
	struct ox_req requests[NAMES];
	struct fuse_entry_out d;
	struct ox *ox = *state;
	char names[NAMES][16];

	make_objects(ox, "d/", NAMES);
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	for (unsigned i = 0; i < NAMES; i++)
		snprintf(names[i], sizeof(names[i]), "f%05u", i);
	ox_spent(ox);
	for (unsigned i = 0; i < FIRST; i++)
		assert_int_equal(ox_lookup(ox, d.nodeid, names[i], NULL), 0);
	assert_int_equal(ox_spent(ox), 2 * FIRST);
	store_fault_set(ox->ce.fault, 1u << STORE_LIST, &slow);
	for (unsigned i = FIRST; i < NAMES; i++) {
		ox_req_init(&requests[i], FUSE_LOOKUP, d.nodeid);
		requests[i].req.name = names[i];
		ox_start(ox, &requests[i]);
		while (!store_fault_stats(ox->ce.fault).delayed)
			usleep(1000); /* until the page of the first one is under way */
	}
	for (unsigned i = FIRST; i < NAMES; i++)
		assert_int_equal(ox_wait(&requests[i]), 0);
	assert_int_equal(ox_spent(ox), 1);
}

/* All of a directory, in an order that no page follows, however often it is forgotten. */
static void test_burst_small(void **state)
{
	enum { NAMES = 100, STEP = 63 };
	struct fuse_entry_out d, e;
	struct ox *ox = *state;
	char name[32];

	make_objects(ox, "d/", NAMES);
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	ox_spent(ox);
	for (unsigned i = 0, at = 0; i < NAMES; i++, at = (at + STEP) % NAMES) {
		snprintf(name, sizeof(name), "f%05u", at);
		assert_int_equal(ox_lookup(ox, d.nodeid, name, &e), 0);
		ox_forget(ox, e.nodeid, 1);
	}
	/* The first name, a page from the second on, and one from the front. */
	assert_int_equal(ox_spent(ox), 4);
}

/* A guest that forgets names has not changed them. Nor are all of them remembered for ever. */
static void test_forgotten(void **state)
{
	enum { DIRS = OBJECTFS_DIRS + 100 };
	struct objectfs *fs;
	struct fuse_entry_out d, e;
	struct ox *ox = *state;
	char key[32];

	fs = container_of(ox->fs, struct objectfs, fs);
	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(key, sizeof(key), "d%05u/f", i);
		ox_bucket_put(ox, key, "text");
	}
	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(key, sizeof(key), "d%05u", i);
		assert_int_equal(ox_lookup(ox, 1, key, &d), 0);
		assert_string_equal(ox_list(ox, key), "f");
		assert_int_equal(ox_lookup(ox, d.nodeid, "f", &e), 0);
		ox_forget(ox, e.nodeid, UINT64_MAX);
		ox_forget(ox, d.nodeid, UINT64_MAX);
	}
	assert_in_range(fs->tree.count, OBJECTFS_DIRS, OBJECTFS_DIRS + 1);
	ox_spent(ox);
	snprintf(key, sizeof(key), "d%05u/f", DIRS - 1);
	assert_int_equal(ox_stat(ox, key, NULL), 0);
	assert_int_equal(ox_spent(ox), 0);
	assert_int_equal(ox_stat(ox, "d00000/f", NULL), 0);
	assert_in_range(ox_spent(ox), 1, 4);
}

/* In a directory that is known to be small, a name that nobody knows is one LIST, also when it is
 * missing: of its guesses, that page alone proves it. */
static void test_burst_missing(void **state)
{
	struct fuse_entry_out d, e;
	struct ox *ox = *state;
	char name[32];

	make_objects(ox, "d/", 10);
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "f%05u", i);
		assert_int_equal(ox_lookup(ox, d.nodeid, name, &e), 0);
	}
	ox_spent(ox);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "d/none%u", i);
		assert_int_equal(ox_stat(ox, name, NULL), -ENOENT);
		assert_int_equal(ox_stat(ox, name, NULL), -ENOENT);
		assert_int_equal(ox_spent(ox), 1);
		/* It came since the last page, which must not hide it. */
		snprintf(name, sizeof(name), "d/later%u", i);
		ox_bucket_put(ox, name, "text");
		assert_int_equal(ox_lookup(ox, d.nodeid, name + 2, &e), 0);
		assert_int_equal(ox_spent(ox), 1);
	}
}

/* Names in no order in a directory that no page can hold: pages are soon given up. */
static void test_burst_useless(void **state)
{
	enum { NAMES = 20000, ASKED = 200, STEP = 7919 };
	struct fuse_entry_out d, e;
	struct ox *ox = *state;
	uint64_t spent;
	char name[32];

	make_objects(ox, "d/", NAMES);
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	ox_spent(ox);
	for (unsigned i = 0, at = 0; i < ASKED; i++, at = (at + STEP) % NAMES) {
		snprintf(name, sizeof(name), "f%05u", at);
		assert_int_equal(ox_lookup(ox, d.nodeid, name, &e), 0);
	}
	spent = ox_spent(ox);
	assert_in_range(spent, ASKED, 2 * ASKED + 10);
	/* Each question has its LIST, too. */
	assert_in_range(spent - cache_env_count(&ox->ce, STORE_STAT), ASKED / 2, ASKED + 10);
}

static unsigned pages_of(struct ox *ox, uint64_t nodeid)
{
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	struct list *pos;
	unsigned count = 0;
	struct node *n;

	tree_lock(&fs->tree);
	n = node_get(&fs->tree, nodeid);
	if (n->pages) {
		list_for_each (pos, &n->pages->pages)
			count++;
	}
	node_put(&fs->tree, n);
	tree_unlock(&fs->tree);
	return count;
}

/* Names that are missing, each another one, in a directory that no page shows for the price of a
 * name; the guesses that they bring show none or one. */
static void look_up_missing(struct ox *ox, const char *prefix, unsigned count, unsigned pause_ms,
			    unsigned pages_max)
{
	struct fuse_entry_out d, e;
	char name[32];

	make_objects(ox, "d/", 200);
	assert_int_equal(ox_stat(ox, "d", &d), 0);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s%04u", prefix, i);
		assert_int_equal(ox_lookup(ox, d.nodeid, name, &e), 0);
		assert_int_equal(e.nodeid, 0);
		if (pause_ms)
			sleep_ms(pause_ms);
	}
	assert_in_range(pages_of(ox, d.nodeid), 0, pages_max);
}

static void test_pages_empty(void **state)
{
	look_up_missing(*state, "zz", 3000, 0, 20);
}

static void test_pages_short(void **state)
{
	look_up_missing(*state, "f00198x", 3000, 0, 41);
}

static void test_pages_old(void **state)
{
	look_up_missing(*state, "f00198x", 60, 2, 4);
}

static int setup_forgetting(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.entry_timeout_ns = 1 * MSEC;
	ox->config.negative_timeout_ns = 1 * MSEC;
	ox_open(ox);
	*state = ox;
	return 0;
}

/* What is remembered of a small directory takes as much memory as it is worth. */
static void test_page_size(void **state)
{
	struct ox *ox = *state;
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	struct page *p;

	make_objects(ox, "", 4);
	assert_string_equal(ox_list(ox, ""), "f00000,f00001,f00002,f00003");
	assert_non_null(fs->tree.root->pages);
	p = list_entry(fs->tree.root->pages->pages.next, struct page, link);
	assert_int_equal(p->count, 4);
	assert_in_range(malloc_usable_size(p->rows), 1, 8 * sizeof(*p->rows));
	assert_in_range(malloc_usable_size(p->text), 1, 1024);
}

/* touch of what is listed: the names are known, the version is asked for once, and a copy. */
static void test_touch(void **state)
{
	struct fuse_setattr_in in = { .valid = FATTR_MTIME, .mtime = 1000000000 };
	struct ox *ox = *state;
	struct fuse_open_out open;
	struct fuse_entry_out f;
	struct fuse_attr attr;
	uint64_t stats, spent = 0;

	ox_bucket_put(ox, "f", "text");
	assert_string_equal(ox_list(ox, ""), "f");
	assert_int_equal(ox_stat(ox, "f", &f), 0);
	ox_spent(ox);
	stats = cache_env_count(&ox->ce, STORE_STAT);
	assert_int_equal(ox_setattr(ox, f.nodeid, &in, &attr), 0);
	assert_int_equal(attr.mtime, 1000000000);
	assert_int_equal(ox_spent(ox), 2);
	assert_int_equal(cache_env_count(&ox->ce, STORE_STAT), stats + 1);
	assert_int_equal(cache_env_count(&ox->ce, STORE_COPY), 1);
	/* As touch(1) does it; but it may take a second to get from one line to the next. */
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(ox_open_node(ox, f.nodeid, O_WRONLY, &open), 0);
		assert_int_equal(ox_setattr(ox, f.nodeid, &in, &attr), 0);
		assert_int_equal(attr.mtime, in.mtime);
		in.mtime++;
		assert_int_equal(ox_closeat(ox, open.fh), 0);
		spent = ox_spent(ox);
		if (spent == 2)
			break;
	}
	assert_int_equal(spent, 2);
	/* Another client comes between the two. */
	assert_int_equal(ox_open_node(ox, f.nodeid, O_WRONLY, &open), 0);
	ox_bucket_put(ox, "f", "theirs");
	assert_int_equal(ox_setattr(ox, f.nodeid, &in, &attr), 0);
	assert_int_equal(attr.mtime, in.mtime);
	ox_release(ox, open.fh);
	assert_string_equal(ox_bucket(ox, "f"), "theirs");
	assert_int_equal(ox_stat(ox, "f", &f), 0);
	assert_int_equal(f.attr.size, 6);
}

/* rm -r of a directory without a marker. */
static void test_remove_all(void **state)
{
	struct ox *ox = *state;
	char path[32];

	make_objects(ox, "top/d/", 1500);
	assert_int_equal(list_long(ox, "top/d/"), 1500);
	ox_spent(ox);
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(path, sizeof(path), "top/d/f%05u", i);
		assert_int_equal(ox_unlink(ox, path), 0);
	}
	/* Each one's DELETE, a look whether that was the last, the marker. */
	assert_in_range(ox_spent(ox), 1500, 1503);
	assert_string_equal(ox_bucket(ox, "top/d/"), "");
	assert_int_equal(ox_rmdir(ox, "top/d"), 0);
	assert_string_equal(ox_bucket(ox, "top/d/"), "(none)");
	/* And so its parent has one now. */
	assert_string_equal(ox_bucket(ox, "top/"), "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_ls),
		TEST(test_read_listed),
		TEST(test_read_unlisted),
		TEST(test_read_again),
		cmocka_unit_test_setup_teardown(test_read_again_believing, setup_believing,
						ox_teardown),
		TEST(test_create),
		TEST(test_missing),
		TEST(test_table),
		TEST(test_new_directory),
		TEST(test_burst),
		TEST(test_burst_together),
		TEST(test_burst_small),
		TEST(test_forgotten),
		TEST(test_burst_missing),
		TEST(test_burst_useless),
		TEST(test_pages_empty),
		TEST(test_pages_short),
		cmocka_unit_test_setup_teardown(test_pages_old, setup_forgetting, ox_teardown),
		TEST(test_page_size),
		TEST(test_remove_all),
		TEST(test_touch),
	};

	return cmocka_run_group_tests_name("objectfs-economy", tests, NULL, NULL);
}
