/* SPDX-License-Identifier: Apache-2.0 */
/* Names, nodeids, lookup counts; what a stale or made-up number does. */
#include "filefs-fixture.h"

static void host_file(struct fx *fx, const char *name)
{
	int fd = openat(fx->dirfd, name, O_CREAT | O_EXCL | O_WRONLY, 0644);

	assert_true(fd >= 0);
	close(fd);
}

static void lookup_of_one_name_gives_one_nodeid(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, b;
	struct stat st;

	host_file(fx, "a");
	assert_int_equal(linkat(fx->dirfd, "a", fx->dirfd, "b", 0), 0);
	assert_int_equal(fx_lookup(fx, 1, "a", &a), 0);
	assert_int_equal(fx_lookup(fx, 1, "b", &b), 0);
	assert_int_not_equal(a.nodeid, 1);
	assert_int_equal(a.nodeid, b.nodeid);
	assert_int_equal(fstatat(fx->dirfd, "a", &st, 0), 0);
	assert_int_equal(a.attr.ino, st.st_ino);
	assert_int_equal(a.attr.nlink, 2);
	assert_int_equal(a.attr.mode, st.st_mode);
	assert_int_equal(a.entry_valid, 1);
	assert_int_equal(fx_lookup(fx, 1, "none", NULL), -ENOENT);
	assert_int_equal(fx_lookup(fx, a.nodeid, "x", NULL), -ENOTDIR);
}

static void forgotten_nodeid_is_stale(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, b;

	host_file(fx, "a");
	assert_int_equal(fx_lookup(fx, 1, "a", &a), 0);
	assert_int_equal(fx_lookup(fx, 1, "a", &a), 0);
	fx_forget(fx, a.nodeid, 1);
	assert_int_equal(fx_getattr(fx, a.nodeid, NULL), 0);
	fx_forget(fx, a.nodeid, UINT64_MAX); /* more than there are */
	assert_int_equal(fx_getattr(fx, a.nodeid, NULL), -ESTALE);
	fx_forget(fx, a.nodeid, 1);
	assert_int_equal(slots_live(&fx_inodes(fx)->slots), 1);

	/* The element is used again under another id. */
	assert_int_equal(fx_lookup(fx, 1, "a", &b), 0);
	assert_int_not_equal(a.nodeid, b.nodeid);
	assert_int_equal((uint32_t)a.nodeid, (uint32_t)b.nodeid);
	assert_int_equal(fx_getattr(fx, a.nodeid, NULL), -ESTALE);
	assert_int_equal(fx_getattr(fx, b.nodeid, NULL), 0);
}

static void root_is_never_forgotten(void **state)
{
	struct fx *fx = *state;

	fx_forget(fx, 1, UINT64_MAX);
	assert_int_equal(fx_getattr(fx, 1, NULL), 0);
}

static void made_up_numbers_are_refused(void **state)
{
	struct fx *fx = *state;
	uint64_t x = 88172645463325252ull;
	char buf[16];

	for (unsigned i = 0; i < 20000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint64_t id = i % 3 ? x : x % 200 + 2;

		assert_int_equal(fx_getattr(fx, id, NULL), -ESTALE);
		assert_int_equal(fx_read(fx, id, buf, sizeof(buf), 0), -EBADF);
		assert_int_equal(fx_release(fx, 1, id), -EBADF);
		assert_int_equal(fx_releasedir(fx, 1, id), -EBADF);
		fx_forget(fx, id, x);
	}
}

static void batch_forget_takes_all(void **state)
{
	struct fx *fx = *state;
	struct fuse_forget_one one[40];
	struct fx_req r;
	char name[16];

	for (unsigned i = 0; i < 40; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "f%u", i);
		host_file(fx, name);
		assert_int_equal(fx_lookup(fx, 1, name, &e), 0);
		one[i] = (struct fuse_forget_one){ e.nodeid, 1 };
	}
	assert_int_equal(slots_live(&fx_inodes(fx)->slots), 41);
	fx_req_init(&r, FUSE_BATCH_FORGET, 0);
	r.req.in.batch_forget.count = 40;
	r.in = (struct iovec){ one, sizeof(one) };
	r.req.data = iov_cursor(&r.in, 1);
	fx_call(fx, &r);
	assert_int_equal(slots_live(&fx_inodes(fx)->slots), 1);
}

/* The host frees an inode number and uses it again: another nodeid. */
static void reused_inode_number_is_another_inode(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out first, e;
	struct fuse_open_out o;
	struct fuse_attr attr;
	unsigned reused = 0;

	host_file(fx, "a");
	assert_int_equal(fx_lookup(fx, 1, "a", &first), 0);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(unlinkat(fx->dirfd, "a", 0), 0);
		assert_int_equal(fx_create(fx, 1, "a", O_RDWR | O_EXCL, 0644, &e, &o), 0);
		reused += e.attr.ino == first.attr.ino;
		assert_int_not_equal(e.nodeid, first.nodeid);
		if (fx_handles(fx)) {
			int ret = fx_getattr(fx, first.nodeid, &attr);

			/* Dead, and noticed; the cache may have it open for a moment longer. */
			if (ret == 0 && fx->cache.data)
				assert_int_equal(attr.nlink, 0);
			else
				assert_int_equal(ret, -ESTALE);
			first = e;
			/* An open file keeps its number. */
			assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
		}
	}
	print_message("   number reused %u times\n", reused);
}

static void stale_inode_gets_a_new_nodeid(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, b;
	struct fuse_attr attr;

	host_file(fx, "a");
	assert_int_equal(fx_lookup(fx, 1, "a", &a), 0);
	assert_int_equal(unlinkat(fx->dirfd, "a", 0), 0);
	if (fx_handles(fx)) {
		assert_int_equal(fx_getattr(fx, a.nodeid, NULL), -ESTALE);
	} else {
		assert_int_equal(fx_getattr(fx, a.nodeid, &attr), 0);
		assert_int_equal(attr.nlink, 0);
	}
	host_file(fx, "a");
	assert_int_equal(fx_lookup(fx, 1, "a", &b), 0);
	assert_int_not_equal(a.nodeid, b.nodeid);
	assert_int_equal(fx_getattr(fx, b.nodeid, NULL), 0);
}

static void renamed_file_keeps_its_nodeid(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, d, b;

	host_file(fx, "a");
	assert_int_equal(fx_lookup(fx, 1, "a", &a), 0);
	assert_int_equal(fx_mkdir(fx, 1, "d", &d), 0);
	assert_int_equal(renameat(fx->dirfd, "a", fx->dirfd, "d/b"), 0);
	assert_int_equal(fx_getattr(fx, a.nodeid, NULL), 0);
	assert_int_equal(fx_lookup(fx, d.nodeid, "b", &b), 0);
	assert_int_equal(a.nodeid, b.nodeid);
}

static void negative_entries_are_announced(void **state)
{
	struct filefs_config config = fx_config();
	struct fuse_entry_out e;
	struct fx *fx;

	(void)state;
	config.negative_timeout_ns = 2500000000ull;
	fx = fx_new(&config, 0);
	assert_int_equal(fx_lookup(fx, 1, "none", &e), 0);
	assert_int_equal(e.nodeid, 0);
	assert_int_equal(e.entry_valid, 2);
	assert_int_equal(e.entry_valid_nsec, 500000000);
	fx_free(fx);
}

static void many_inodes_need_few_descriptors(void **state)
{
	struct filefs_config config = fx_config();
	struct fuse_entry_out e[300];
	struct fx *fx;
	char name[16];
	unsigned known = 0;

	(void)state;
	config.fd_limit = 64;
	fx = fx_new(&config, 0);
	for (unsigned i = 0; i < 300; i++) {
		int ret;

		snprintf(name, sizeof(name), "f%u", i);
		host_file(fx, name);
		ret = fx_lookup(fx, 1, name, &e[known]);
		if (ret == 0)
			known++;
		else
			assert_int_equal(ret, -ENFILE);
	}
	if (fx_handles(fx))
		assert_int_equal(known, 300);
	else
		assert_true(known > 20 && known < 64);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < known; i++) {
			struct fuse_attr attr;

			assert_int_equal(fx_getattr(fx, e[i].nodeid, &attr), 0);
			assert_int_equal(attr.ino, e[i].attr.ino);
		}
	assert_true(fx_filefs(fx)->fds <= 64);
	fx_free(fx);
}

static void symlinks_are_not_followed(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	uint64_t fh;

	assert_int_equal(symlinkat("/etc", fx->dirfd, "link"), 0);
	assert_int_equal(fx_lookup(fx, 1, "link", &e), 0);
	assert_true(S_ISLNK(e.attr.mode));
	assert_int_equal(fx_lookup(fx, e.nodeid, "passwd", NULL), -ENOTDIR);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, NULL), -ELOOP);
	assert_int_equal(fx_opendir(fx, e.nodeid, &fh), -ENOTDIR);
	assert_int_equal(fx_create(fx, 1, "link", O_RDWR, 0644, NULL, NULL), -ESTALE);
}

static void special_files_are_not_opened(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;

	assert_int_equal(mkfifoat(fx->dirfd, "fifo", 0644), 0);
	assert_int_equal(fx_lookup(fx, 1, "fifo", &e), 0);
	assert_true(S_ISFIFO(e.attr.mode));
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, NULL), -ENXIO);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDWR, NULL), -ENXIO);
}

static void inode_is_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct inode) <= 128);
}

static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)
	T(lookup_of_one_name_gives_one_nodeid),
	T(forgotten_nodeid_is_stale),
	T(root_is_never_forgotten),
	T(made_up_numbers_are_refused),
	T(batch_forget_takes_all),
	T(reused_inode_number_is_another_inode),
	T(stale_inode_gets_a_new_nodeid),
	T(renamed_file_keeps_its_nodeid),
	T(symlinks_are_not_followed),
	T(special_files_are_not_opened),
	cmocka_unit_test(negative_entries_are_announced),
	cmocka_unit_test(many_inodes_need_few_descriptors),
	cmocka_unit_test(inode_is_small),
};

FX_MAIN("filefs-lookup", tests)
