/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is changed in a directory while a LIST of it is under way: the listing is older than that
 * when it comes in, and must not bring back what was. Each LIST is held back by the storage after
 * it was answered.
 */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

#define DELAY (400 * MSEC)
#define NAMES 8
#define REPLY 400 /* bytes: two or three names */

/* A stream whose first READDIRPLUS waits for its LIST. */
struct late {
	struct ox *ox;
	struct ox_req req;
	struct iovec out;
	uint64_t dir;
	char buf[4096];
	char names[1024]; /* what was read, each with a comma behind it */
};

static void late_begin(struct late *l, struct ox *ox)
{
	const struct store_fault late = { .reply_delay_permille = 1000,
					  .delay_min_ns = DELAY,
					  .delay_max_ns = DELAY,
					  .count = 1 };
	uint64_t before = store_fault_stats(ox->ce.fault).delayed;

	l->ox = ox;
	l->names[0] = '\0';
	assert_int_equal(ox_opendir(ox, FUSE_ROOT_ID, &l->dir), 0);
	store_fault_set(ox->ce.fault, 1u << STORE_LIST, &late);
	ox_req_init(&l->req, FUSE_READDIRPLUS, FUSE_ROOT_ID);
	l->req.req.in.read = (struct fuse_read_in){ .fh = l->dir, .size = REPLY };
	l->out = (struct iovec){ l->buf, REPLY };
	l->req.req.reply = iov_cursor(&l->out, 1);
	l->req.req.reply_size = REPLY;
	ox_start(ox, &l->req);
	while (store_fault_stats(ox->ce.fault).delayed == before)
		sleep_ms(1);
}

/* Notes the names of a reply and forgets their nodes; the offset for the next one. */
static uint64_t late_names(struct late *l, const char *buf, ssize_t n)
{
	uint64_t offset = 0;

	for (const char *at = buf; at < buf + n;) {
		const struct fuse_direntplus *e = (const struct fuse_direntplus *)at;
		size_t used = strlen(l->names);

		offset = e->dirent.off;
		if (e->dirent.name[0] != '.')
			snprintf(l->names + used, sizeof(l->names) - used, "%.*s,",
				 (int)e->dirent.namelen, e->dirent.name);
		if (e->entry_out.nodeid)
			ox_forget(l->ox, e->entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(e);
	}
	return offset;
}

/* The rest of the stream, with @between called between its requests; may be NULL. */
static void late_end(struct late *l, void (*between)(struct ox *ox))
{
	ssize_t n = ox_wait(&l->req);
	uint64_t offset;

	assert_true(n > 0);
	offset = late_names(l, l->buf, n);
	for (;;) {
		if (between)
			between(l->ox);
		n = ox_readdir(l->ox, FUSE_READDIRPLUS, l->dir, offset, l->buf, REPLY);
		assert_true(n >= 0);
		if (!n)
			break;
		offset = late_names(l, l->buf, n);
	}
	assert_int_equal(ox_releasedir(l->ox, l->dir), 0);
}

/* How often @name was read. */
static unsigned late_count(const struct late *l, const char *name)
{
	size_t len = strlen(name);
	unsigned count = 0;

	for (const char *at = l->names; *at; at = strchr(at, ',') + 1)
		count += !strncmp(at, name, len) && at[len] == ',';
	return count;
}

static void files(struct ox *ox)
{
	char name[8];

	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ox_bucket_put(ox, name, "old");
	}
}

static void cache_forget(struct ox *ox)
{
	cache_storage_drop(container_of(ox->fs, struct objectfs, fs)->cache);
}

/* By a guest that knows nothing of it before or after, and by a cache that forgets. */
static void append_and_forget(struct ox *ox, const char *name, const char *text, uint64_t at)
{
	struct fuse_entry_out e;
	uint64_t fh;

	assert_int_equal(ox_stat(ox, name, &e), 0);
	assert_int_equal(e.attr.size, at);
	assert_int_equal(ox_openat(ox, name, O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, text, strlen(text), at), strlen(text));
	assert_int_equal(ox_closeat(ox, fh), 0);
	ox_forget(ox, e.nodeid, 1000);
	cache_forget(ox);
}

/* Made, committed and forgotten. */
static void make_and_forget(struct ox *ox, const char *name)
{
	struct fuse_entry_out e;

	ox_put(ox, name, "made");
	assert_int_equal(ox_stat(ox, name, &e), 0);
	ox_forget(ox, e.nodeid, 1000);
	cache_forget(ox);
}

static void look_up_all(struct ox *ox)
{
	char name[8];

	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ox_stat(ox, name, NULL);
	}
}

/* A file is changed. */
static void test_commit_overtakes_late_listing(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct late l;

	files(ox);
	late_begin(&l, ox);
	append_and_forget(ox, "f0", " and new", 3);
	append_and_forget(ox, "f7", " and new", 3);
	append_and_forget(ox, "f7", "er", 11);
	late_end(&l, NULL);
	assert_string_equal(l.names, "f0,f1,f2,f3,f4,f5,f6,f7,");
	assert_int_equal(ox_stat(ox, "f0", &e), 0);
	assert_int_equal(e.attr.size, 11);
	assert_int_equal(ox_stat(ox, "f7", &e), 0);
	assert_int_equal(e.attr.size, 13);
	ox_expect(ox, "f7", "old and newer");
	/* Who did not take part: he may not have to ask. */
	ox_spent(ox);
	assert_int_equal(ox_stat(ox, "f1", &e), 0);
	assert_int_equal(e.attr.size, 3);
	assert_int_equal(ox_spent(ox), 0);
}

/* A file is made. */
static void test_create_overtakes_late_listing(void **state)
{
	struct ox *ox = *state;
	struct late l;
	uint64_t fh;

	files(ox);
	/* Before the LIST, too: this one nobody may miss. */
	assert_int_equal(ox_create(ox, "a", O_WRONLY, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "made", 4, 0), 4);
	late_begin(&l, ox);
	assert_int_equal(ox_closeat(ox, fh), 0);
	{
		struct fuse_entry_out e;

		assert_int_equal(ox_stat(ox, "a", &e), 0);
		ox_forget(ox, e.nodeid, 1000);
		cache_forget(ox);
	}
	make_and_forget(ox, "b");
	late_end(&l, look_up_all);
	assert_int_equal(late_count(&l, "a"), 1);
	assert_true(late_count(&l, "b") <= 1);
	for (unsigned i = 0; i < NAMES; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(late_count(&l, name), 1);
	}
	ox_expect(ox, "a", "made");
	ox_expect(ox, "b", "made");
	assert_string_equal(ox_list(ox, ""), "a,b,f0,f1,f2,f3,f4,f5,f6,f7");
}

/* A file is removed: no other one is shown twice, or missed, for that. */
static void test_remove_overtakes_late_listing(void **state)
{
	struct ox *ox = *state;
	struct late l;

	files(ox);
	late_begin(&l, ox);
	assert_int_equal(ox_unlink(ox, "f1"), 0);
	assert_int_equal(ox_unlink(ox, "f6"), 0);
	assert_int_equal(ox_mkdir(ox, "f6"), 0);
	assert_int_equal(ox_rmdir(ox, "f6"), 0);
	late_end(&l, look_up_all);
	assert_string_equal(l.names, "f0,f2,f3,f4,f5,f7,");
	assert_int_equal(ox_stat(ox, "f1", NULL), -ENOENT);
	assert_int_equal(ox_stat(ox, "f6", NULL), -ENOENT);
	assert_string_equal(ox_list(ox, ""), "f0,f2,f3,f4,f5,f7");
}

/* A file is removed, and is there again, changed and forgotten. */
static void test_remake_overtakes_late_listing(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct late l;

	files(ox);
	late_begin(&l, ox);
	assert_int_equal(ox_unlink(ox, "f3"), 0);
	make_and_forget(ox, "f3");
	append_and_forget(ox, "f3", "!", 4);
	late_end(&l, look_up_all);
	for (unsigned i = 0; i < NAMES; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(late_count(&l, name), 1);
	}
	assert_int_equal(ox_stat(ox, "f3", &e), 0);
	assert_int_equal(e.attr.size, 5);
}

/* Files are renamed, one of them to where another one was. */
static void test_rename_overtakes_late_listing(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out e;
	struct late l;

	files(ox);
	ox_bucket_put(ox, "f2", "moved");
	ox_bucket_put(ox, "f4", "moved far");
	late_begin(&l, ox);
	assert_int_equal(ox_rename(ox, "f2", "f0", 0), 0);
	assert_int_equal(ox_rename(ox, "f4", "x", 0), 0);
	assert_int_equal(ox_stat(ox, "f0", &e), 0);
	ox_forget(ox, e.nodeid, 1000);
	assert_int_equal(ox_stat(ox, "x", &e), 0);
	ox_forget(ox, e.nodeid, 1000);
	cache_forget(ox);
	late_end(&l, look_up_all);
	assert_string_equal(l.names, "f0,f1,f3,f5,f6,f7,x,");
	assert_int_equal(ox_stat(ox, "f0", &e), 0);
	assert_int_equal(e.attr.size, 5);
	assert_int_equal(ox_stat(ox, "x", &e), 0);
	assert_int_equal(e.attr.size, 9);
	assert_int_equal(ox_stat(ox, "f2", NULL), -ENOENT);
	assert_int_equal(ox_stat(ox, "f4", NULL), -ENOENT);
}

/* More is changed than a LIST under way keeps account of: it is done again. */
static void test_much_overtakes_late_listing(void **state)
{
	struct ox *ox = *state;
	char name[16];
	struct late l;

	files(ox);
	for (unsigned i = 0; i < LISTING_NOTES_MAX; i++) {
		snprintf(name, sizeof(name), "a%u", i);
		ox_bucket_put(ox, name, "old");
	}
	assert_int_equal(ox_stat(ox, "f0", NULL), 0);
	late_begin(&l, ox);
	for (unsigned i = 0; i < LISTING_NOTES_MAX; i++) {
		snprintf(name, sizeof(name), "a%u", i);
		assert_int_equal(ox_unlink(ox, name), 0);
	}
	append_and_forget(ox, "f5", " and new", 3);
	late_end(&l, look_up_all);
	/* Of the others some may have been shown before they went. */
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(late_count(&l, name), 1);
	}
}

/*
 * A directory is read slowly, plainly, and what was read is looked up when the listing is too old
 * to be believed: the storage is asked, and a node made that no listing told of.
 */
static void test_looked_up_while_reading(void **state)
{
	struct ox *ox = *state;
	char buf[4096], seen[NAMES + 1] = "";
	uint64_t dir, offset = 0;
	struct fuse_entry_out e;

	files(ox);
	assert_int_equal(ox_opendir(ox, FUSE_ROOT_ID, &dir), 0);
	for (;;) {
		ssize_t n = ox_readdir(ox, FUSE_READDIR, dir, offset, buf, 64);
		const struct fuse_dirent *d = (const struct fuse_dirent *)buf;

		assert_true(n >= 0 && strlen(seen) < NAMES + (n == 0));
		if (!n)
			break;
		for (; (const char *)d < buf + n;
		     d = (const struct fuse_dirent *)((const char *)d + FUSE_DIRENT_SIZE(d))) {
			char name[8];

			offset = d->off;
			if (d->name[0] == '.')
				continue;
			snprintf(name, sizeof(name), "%.*s", (int)d->namelen, d->name);
			seen[strlen(seen)] = name[1]; /* NULs follow */
			sleep_ms(3);
			assert_int_equal(ox_stat(ox, name, &e), 0);
		}
	}
	assert_int_equal(ox_releasedir(ox, dir), 0);
	assert_string_equal(seen, "01234567");
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_commit_overtakes_late_listing),
		TEST(test_create_overtakes_late_listing),
		TEST(test_remove_overtakes_late_listing),
		TEST(test_remake_overtakes_late_listing),
		TEST(test_rename_overtakes_late_listing),
		TEST(test_much_overtakes_late_listing),
		cmocka_unit_test_setup_teardown(test_looked_up_while_reading, setup_short,
						ox_teardown),
	};

	return cmocka_run_group_tests_name("objectfs-listing", tests, NULL, NULL);
}
