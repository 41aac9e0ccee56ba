/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of inodes that the guest forgot: it helps, and never lies for long. */
#include "filefs-fixture.h"

static void host_file(struct fx *fx, const char *name, const char *text)
{
	int fd = openat(fx->dirfd, name, O_CREAT | O_EXCL | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void assert_reads(struct fx *fx, uint64_t nodeid, const char *text)
{
	struct fuse_open_out o;
	char buf[64] = "";

	assert_int_equal(fx_open(fx, nodeid, O_RDONLY, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, sizeof(buf), 0), (ssize_t)strlen(text));
	assert_string_equal(buf, text);
	assert_int_equal(fx_release(fx, nodeid, o.fh), 0);
}

static unsigned memos(struct fx *fx)
{
	unsigned n = 0;

	for (unsigned i = 0; i < INODE_SHARDS; i++)
		n += fx_inodes(fx)->shards[i].memo != NULL;
	return n;
}

/* It takes handles, and times of birth to tell numbers apart. */
static bool remembers(struct fx *fx)
{
	struct statx stx;

	assert_int_equal(filefs_stat_fd(fx->dirfd, &stx), 0);
	return fx_handles(fx) && (stx.stx_mask & STATX_BTIME);
}

/* Has the memo hold @handle_of's handle under @name's number, as if the host had given
 * the number to another file in the same tick of the clock. */
static void remember_wrong(struct fx *fx, const char *name, const char *handle_of, bool verified)
{
	struct inode_table *t = fx_inodes(fx);
	struct fuse_entry_out e, other;
	struct inode *inode, *from;

	assert_int_equal(fx_lookup(fx, 1, name, &e), 0);
	assert_int_equal(fx_lookup(fx, 1, handle_of, &other), 0);
	inode = inode_get(t, e.nodeid);
	from = inode_get(t, other.nodeid);
	memcpy(inode->handle, from->handle, from->handle_len);
	inode->handle_len = from->handle_len;
	inode->handle_type = from->handle_type;
	atomic_store(&inode->flags, (uint16_t)((atomic_load(&inode->flags) & ~INODE_VERIFIED) |
					       (verified ? INODE_VERIFIED : 0)));
	inode_put(t, inode);
	inode_put(t, from);
	fx_forget(fx, e.nodeid, 1);
	fx_forget(fx, other.nodeid, 1);
}

static void forgotten_inode_comes_back(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, b;

	host_file(fx, "a", "one");
	assert_int_equal(fx_lookup(fx, 1, "a", &a), 0);
	assert_reads(fx, a.nodeid, "one");
	assert_int_equal(memos(fx), 0);
	fx_forget(fx, a.nodeid, 1);
	assert_int_equal(memos(fx), remembers(fx));
	assert_int_equal(fx_lookup(fx, 1, "a", &b), 0);
	assert_int_not_equal(a.nodeid, b.nodeid);
	assert_int_equal(fx_getattr(fx, a.nodeid, NULL), -ESTALE);
	assert_int_equal(fx_getattr(fx, b.nodeid, NULL), 0);
	assert_reads(fx, b.nodeid, "one");
}

static void forgotten_inode_uses_what_is_remembered(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;

	host_file(fx, "a", "one");
	host_file(fx, "b", "two");
	remember_wrong(fx, "a", "b", true);
	if (!remembers(fx))
		return;
	/* That a false memory shows is how we see that it was used. */
	assert_int_equal(fx_lookup(fx, 1, "a", &e), 0);
	assert_reads(fx, e.nodeid, "two");
}

static void changed_file_of_a_forgotten_name_is_seen(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;

	for (unsigned i = 0; i < 10; i++) {
		char text[16];

		snprintf(text, sizeof(text), "text %u", i);
		host_file(fx, "a", text);
		assert_int_equal(fx_lookup(fx, 1, "a", &e), 0);
		assert_reads(fx, e.nodeid, text);
		fx_forget(fx, e.nodeid, 1);
		assert_int_equal(unlinkat(fx->dirfd, "a", 0), 0);
		assert_int_equal(fx_lookup(fx, 1, "a", NULL), -ENOENT);
		/* The next one is born in another tick of the clock. */
		usleep(12000);
	}
}

static void unverified_memory_is_held_against_the_inode(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e, again;

	host_file(fx, "a", "one");
	host_file(fx, "b", "two");
	remember_wrong(fx, "a", "b", false);
	if (!remembers(fx))
		return;
	assert_int_equal(fx_lookup(fx, 1, "a", &e), 0);
	assert_int_equal(fx_getattr(fx, e.nodeid, NULL), -ESTALE);
	assert_int_equal(fx_lookup(fx, 1, "a", &again), 0);
	assert_int_not_equal(e.nodeid, again.nodeid);
	assert_reads(fx, again.nodeid, "one");
	/* It does not come back with the next FORGET either. */
	fx_forget(fx, e.nodeid, 1);
	fx_forget(fx, again.nodeid, 1);
	assert_int_equal(fx_lookup(fx, 1, "a", &again), 0);
	assert_reads(fx, again.nodeid, "one");
}

static void dead_memory_is_dropped(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;

	host_file(fx, "a", "one");
	host_file(fx, "b", "two");
	remember_wrong(fx, "a", "b", true);
	if (!remembers(fx))
		return;
	assert_int_equal(unlinkat(fx->dirfd, "b", 0), 0);
	assert_int_equal(fx_lookup(fx, 1, "a", &e), 0);
	assert_int_equal(fx_getattr(fx, e.nodeid, NULL), -ESTALE);
	fx_forget(fx, e.nodeid, 1);
	assert_int_equal(fx_lookup(fx, 1, "a", &e), 0);
	assert_reads(fx, e.nodeid, "one");
}

static void made_files_are_not_remembered_ones(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;

	host_file(fx, "a", "one");
	host_file(fx, "b", "two");
	remember_wrong(fx, "a", "b", true);
	/* LINK and its like look a name up that was made just now. */
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(fx_create(fx, 1, "n", O_RDWR | O_EXCL, 0644, &e, &o), 0);
		assert_int_equal(fx_write(fx, o.fh, "new", 3, 0), 3);
		assert_reads(fx, e.nodeid, "new");
		assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
		assert_int_equal(fx_unlink(fx, 1, "n"), 0);
		fx_forget(fx, e.nodeid, 1);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)

static const struct CMUnitTest tests[] = {
	T(forgotten_inode_comes_back),
	T(forgotten_inode_uses_what_is_remembered),
	T(changed_file_of_a_forgotten_name_is_seen),
	T(unverified_memory_is_held_against_the_inode),
	T(dead_memory_is_dropped),
	T(made_files_are_not_remembered_ones),
};

FX_MAIN("filefs-memo", tests)
