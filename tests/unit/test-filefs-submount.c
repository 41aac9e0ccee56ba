/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts of the host below the shared directory. Needs root: a mount namespace of its own. */
#include "filefs-fixture.h"

#include <sched.h>
#include <sys/mount.h>

/* Before the fixture: its descriptors are to be of the new namespace's mounts. */
static bool may_mount(void)
{
	if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return true;
	print_message("   skipped: cannot mount\n");
	return false;
}

/* tmpfs on "sub" with a file in it; the bind mount "bind" shows directory "real". */
static void mounts_set_up(struct fx *fx)
{
	char path[96], real[96];
	int fd;

	assert_int_equal(mkdirat(fx->dirfd, "sub", 0755), 0);
	assert_int_equal(mkdirat(fx->dirfd, "real", 0755), 0);
	assert_int_equal(mkdirat(fx->dirfd, "bind", 0755), 0);
	snprintf(path, sizeof(path), "%s/sub", fx->path);
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, NULL), 0);
	snprintf(path, sizeof(path), "%s/bind", fx->path);
	snprintf(real, sizeof(real), "%s/real", fx->path);
	assert_int_equal(mount(real, path, NULL, MS_BIND, NULL), 0);
	fd = openat(fx->dirfd, "sub/file", O_CREAT | O_RDWR, 0644);
	assert_int_equal(write(fd, "in sub", 6), 6);
	close(fd);
	close(openat(fx->dirfd, "real/file", O_CREAT | O_RDWR, 0644));
}

/* Not lazily: fails while anything holds the mount. */
static void mounts_take_down(struct fx *fx)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/sub", fx->path);
	assert_int_equal(umount(path), 0);
	snprintf(path, sizeof(path), "%s/bind", fx->path);
	assert_int_equal(umount(path), 0);
}

static void submounts(bool announce)
{
	struct filefs_config config = fx_config();
	struct fuse_entry_out sub, bind, real, in_sub, in_bind, in_real, made;
	struct fuse_open_out o;
	struct stat st;
	struct fx *fx;
	char buf[8];

	if (!may_mount())
		return;
	config.announce_submounts = announce;
	fx = fx_new(&config, 0);
	mounts_set_up(fx);
	assert_int_equal(fx_lookup(fx, 1, "sub", &sub), 0);
	assert_int_equal(fx_lookup(fx, 1, "bind", &bind), 0);
	assert_int_equal(fx_lookup(fx, 1, "real", &real), 0);
	assert_int_equal(!!(sub.attr.flags & FUSE_ATTR_SUBMOUNT), announce);
	assert_int_equal(!!(bind.attr.flags & FUSE_ATTR_SUBMOUNT), announce);
	assert_false(real.attr.flags & FUSE_ATTR_SUBMOUNT);
	assert_int_not_equal(bind.nodeid, real.nodeid);

	assert_int_equal(fx_lookup(fx, sub.nodeid, "file", &in_sub), 0);
	assert_int_equal(fx_lookup(fx, bind.nodeid, "file", &in_bind), 0);
	assert_int_equal(fx_lookup(fx, real.nodeid, "file", &in_real), 0);
	assert_false(in_sub.attr.flags & FUSE_ATTR_SUBMOUNT);
	assert_int_not_equal(in_bind.nodeid, in_real.nodeid);
	assert_int_equal(fstatat(fx->dirfd, "sub/file", &st, 0), 0);
	if (announce)
		assert_int_equal(in_sub.attr.ino, st.st_ino);
	else
		assert_int_not_equal(in_sub.attr.ino >> 48, 0);
	assert_int_equal(in_bind.attr.ino, in_real.attr.ino);

	/* Open by whatever names the inode there. */
	assert_int_equal(fx_getattr(fx, in_sub.nodeid, NULL), 0);
	assert_int_equal(fx_open(fx, in_sub.nodeid, O_RDWR, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 8, 0), 6);
	assert_memory_equal(buf, "in sub", 6);
	assert_int_equal(fx_release(fx, in_sub.nodeid, o.fh), 0);
	assert_int_equal(fx_create(fx, sub.nodeid, "made", O_RDWR, 0644, &made, &o), 0);
	assert_int_equal(fx_release(fx, made.nodeid, o.fh), 0);

	fx_forget(fx, in_sub.nodeid, 1);
	fx_forget(fx, made.nodeid, 1);
	fx_forget(fx, in_bind.nodeid, 1);
	fx_forget(fx, sub.nodeid, 1);
	fx_forget(fx, bind.nodeid, 1);
	mounts_take_down(fx);
	assert_int_equal(fx_getattr(fx, in_real.nodeid, NULL), 0);
	fx_free(fx);
}

static void submounts_are_announced(void **state)
{
	(void)state;
	submounts(true);
}

static void inode_numbers_stay_unique_when_not_announced(void **state)
{
	(void)state;
	submounts(false);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(submounts_are_announced),
	cmocka_unit_test(inode_numbers_stay_unique_when_not_announced),
};

FX_MAIN("filefs-submount", tests)
