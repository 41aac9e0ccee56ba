/* SPDX-License-Identifier: Apache-2.0 */
/* Directory streams: completeness, positions, lookup counts. */
#include "filefs-fixture.h"

enum { FILES = 1000 };

static void fill(struct fx *fx)
{
	char name[16];

	for (unsigned i = 0; i < FILES; i++) {
		int fd;

		snprintf(name, sizeof(name), "file%u", i);
		fd = openat(fx->dirfd, name, O_CREAT | O_WRONLY, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
}

/* Reads to the end; counts each name in @seen. @lookups counts the nodeids. */
static unsigned read_all(struct fx *fx, uint64_t fh, bool plus, uint64_t offset, size_t size,
			 unsigned char *seen, uint64_t *lookups, uint64_t *cookies)
{
	char *buf = malloc(size);
	unsigned n = 0;
	ssize_t got;

	while ((got = fx_readdir(fx, plus ? FUSE_READDIRPLUS : FUSE_READDIR, 1, fh, offset, buf,
				 size)) > 0) {
		char *p = buf;

		while (p < buf + got) {
			struct fuse_direntplus *dp = (void *)p;
			struct fuse_dirent *d = plus ? &dp->dirent : (void *)p;
			unsigned index;
			char name[32] = { 0 };

			assert_true(d->namelen < sizeof(name));
			memcpy(name, d->name, d->namelen);
			if (cookies)
				cookies[n] = d->off;
			n++;
			if (sscanf(name, "file%u", &index) == 1) {
				assert_true(index < FILES);
				seen[index]++;
				assert_int_equal(d->type, DT_REG);
				if (plus) {
					assert_int_not_equal(dp->entry_out.nodeid, 0);
					assert_int_equal(dp->entry_out.attr.ino, d->ino);
					(*lookups)++;
				}
			} else {
				assert_true(!strcmp(name, ".") || !strcmp(name, ".."));
				if (plus)
					assert_int_equal(dp->entry_out.nodeid, 0);
			}
			offset = d->off;
			p += plus ? FUSE_DIRENTPLUS_SIZE(dp) : FUSE_DIRENT_SIZE(d);
		}
		assert_ptr_equal(p, buf + got);
	}
	assert_int_equal(got, 0);
	free(buf);
	return n;
}

static void every_entry_comes_once(void **state)
{
	struct fx *fx = *state;
	uint64_t fh, lookups = 0;

	fill(fx);
	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	for (size_t size = 512; size <= 65536; size *= 4)
		for (unsigned plus = 0; plus < 2; plus++) {
			unsigned char seen[FILES] = { 0 };

			assert_int_equal(read_all(fx, fh, plus, 0, size, seen, &lookups, NULL),
					 FILES + 2);
			for (unsigned i = 0; i < FILES; i++)
				assert_int_equal(seen[i], 1);
		}
	assert_int_equal(fx_releasedir(fx, 1, fh), 0);
}

/* All that READDIRPLUS counted is given back by as many FORGETs: not one more is held. */
static void readdirplus_counts_what_it_gives_out(void **state)
{
	struct fx *fx = *state;
	unsigned char seen[FILES] = { 0 };
	uint64_t fh, lookups = 0;
	char name[16];

	fill(fx);
	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	read_all(fx, fh, true, 0, 700, seen, &lookups, NULL);
	assert_int_equal(lookups, FILES);
	assert_int_equal(slots_live(&fx_inodes(fx)->slots), FILES + 1);
	for (unsigned i = 0; i < FILES; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "file%u", i);
		assert_int_equal(fx_lookup(fx, 1, name, &e), 0);
		fx_forget(fx, e.nodeid, 2);
	}
	assert_int_equal(slots_live(&fx_inodes(fx)->slots), 1);
}

static void any_position_can_be_sought(void **state)
{
	struct fx *fx = *state;
	static uint64_t cookies[FILES + 2];
	unsigned char seen[FILES] = { 0 };
	uint64_t fh, lookups = 0;

	fill(fx);
	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	assert_int_equal(read_all(fx, fh, false, 0, 4096, seen, &lookups, cookies), FILES + 2);
	for (unsigned i = 0; i < FILES + 2; i += 97)
		assert_int_equal(read_all(fx, fh, false, cookies[i], 4096, seen, &lookups, NULL),
				 FILES + 2 - 1 - i);
}

/* Entries that stay are seen exactly once although others go and come. */
static void changes_do_not_disturb_what_stays(void **state)
{
	struct fx *fx = *state;
	unsigned char seen[FILES + 16] = { 0 };
	uint64_t fh, offset = 0;
	char buf[600], name[32];
	unsigned step = 0;
	ssize_t got;

	fill(fx);
	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	while ((got = fx_readdir(fx, FUSE_READDIR, 1, fh, offset, buf, sizeof(buf))) > 0) {
		for (char *p = buf; p < buf + got;) {
			struct fuse_dirent *d = (void *)p;
			unsigned index;

			memset(name, 0, sizeof(name));
			memcpy(name, d->name, MIN(d->namelen, 31u));
			if (sscanf(name, "file%u", &index) == 1 && index < FILES)
				seen[index]++;
			offset = d->off;
			p += FUSE_DIRENT_SIZE(d);
		}
		/* The odd ones go as we walk, new ones come. */
		snprintf(name, sizeof(name), "file%u", step * 2 + 1);
		if (step * 2 + 1 < FILES)
			assert_int_equal(unlinkat(fx->dirfd, name, 0), 0);
		snprintf(name, sizeof(name), "new%u", step++);
		close(openat(fx->dirfd, name, O_CREAT | O_WRONLY, 0644));
	}
	assert_int_equal(got, 0);
	for (unsigned i = 0; i < FILES; i += 2)
		assert_int_equal(seen[i], 1);
	for (unsigned i = 1; i < FILES; i += 2)
		assert_true(seen[i] <= 1);
}

static void rewind_sees_new_entries(void **state)
{
	struct fx *fx = *state;
	char buf[4096];
	uint64_t fh;
	ssize_t before;

	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	before = fx_readdir(fx, FUSE_READDIR, 1, fh, 0, buf, sizeof(buf));
	close(openat(fx->dirfd, "new", O_CREAT | O_WRONLY, 0644));
	assert_true(fx_readdir(fx, FUSE_READDIR, 1, fh, 0, buf, sizeof(buf)) > before);
}

static void no_room_for_one_entry_is_an_error(void **state)
{
	struct fx *fx = *state;
	char buf[16];
	uint64_t fh;

	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	assert_int_equal(fx_readdir(fx, FUSE_READDIR, 1, fh, 0, buf, sizeof(buf)), -EINVAL);
}

static void parent_of_the_root_is_the_root(void **state)
{
	struct fx *fx = *state;
	struct stat st;
	char buf[4096];
	uint64_t fh;
	ssize_t got;

	assert_int_equal(fstat(fx->dirfd, &st), 0);
	assert_int_equal(fx_opendir(fx, 1, &fh), 0);
	got = fx_readdir(fx, FUSE_READDIR, 1, fh, 0, buf, sizeof(buf));
	for (char *p = buf; p < buf + got;) {
		struct fuse_dirent *d = (void *)p;

		assert_int_equal(d->ino, st.st_ino);
		p += FUSE_DIRENT_SIZE(d);
	}
}

static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)
	T(every_entry_comes_once),	   T(readdirplus_counts_what_it_gives_out),
	T(any_position_can_be_sought),	   T(changes_do_not_disturb_what_stays),
	T(rewind_sees_new_entries),	   T(no_room_for_one_entry_is_an_error),
	T(parent_of_the_root_is_the_root),
};

FX_MAIN("filefs-dir", tests)
