/* SPDX-License-Identifier: Apache-2.0 */
/* Names and attributes: every such opcode, on every kind of ring and layout. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define RENAME_NOREPLACE_FLAG 1u
#define RENAME_EXCHANGE_FLAG 2u

static struct fuc *fuse(void **state)
{
	return &((struct guest *)*state)->f;
}

static struct daemon *host(void **state)
{
	return ((struct guest *)*state)->d;
}

static void touch(void **state, const char *name)
{
	int fd = open(daemon_path(host(state), name), O_CREAT | O_RDWR, 0644);

	assert_true(fd >= 0);
	close(fd);
}

static void lookup_finds_what_the_host_made(void **state)
{
	struct fuse_entry_out e, again;

	touch(state, "made");
	assert_ok(fuc_lookup(fuse(state), FUSE_ROOT_ID, "made", &e));
	assert_true(e.nodeid > FUSE_ROOT_ID);
	assert_true(S_ISREG(e.attr.mode));
	assert_int_equal(e.attr.size, 0);
	assert_ok(fuc_lookup(fuse(state), FUSE_ROOT_ID, "made", &again));
	assert_int_equal(again.nodeid, e.nodeid);
	assert_int_equal(again.attr.ino, e.attr.ino);
	assert_ok(fuc_forget(fuse(state), e.nodeid, 2));
	assert_ok(unlink(daemon_path(host(state), "made")));
}

static void lookup_of_nothing_is_enoent(void **state)
{
	struct fuse_entry_out e = { 0 };
	int err = fuc_lookup(fuse(state), FUSE_ROOT_ID, "nothing", &e);

	/* With a negative timeout the answer is an entry of node 0 instead. */
	if (err)
		assert_int_equal(err, -ENOENT);
	else
		assert_int_equal(e.nodeid, 0);
}

static void names_have_their_limits(void **state)
{
	char longest[300];
	struct fuse_entry_out e;

	memset(longest, 'n', sizeof(longest));
	longest[255] = '\0';
	assert_ok(fuc_mkdir(fuse(state), FUSE_ROOT_ID, longest, 0700, &e));
	assert_ok(fuc_lookup(fuse(state), FUSE_ROOT_ID, longest, &e));
	assert_ok(fuc_rmdir(fuse(state), FUSE_ROOT_ID, longest));
	assert_ok(fuc_forget(fuse(state), e.nodeid, 2));
	longest[255] = 'n';
	longest[256] = '\0';
	assert_int_equal(fuc_mkdir(fuse(state), FUSE_ROOT_ID, longest, 0700, &e), -ENAMETOOLONG);
}

static void mkdir_and_rmdir(void **state)
{
	struct fuse_entry_out dir, sub;
	struct stat st;

	assert_ok(fuc_mkdir(fuse(state), FUSE_ROOT_ID, "dir", 0751, &dir));
	assert_true(S_ISDIR(dir.attr.mode));
	assert_ok(stat(daemon_path(host(state), "dir"), &st));
	assert_int_equal(st.st_mode, S_IFDIR | 0751);
	assert_int_equal(fuc_mkdir(fuse(state), FUSE_ROOT_ID, "dir", 0700, &sub), -EEXIST);
	assert_ok(fuc_mkdir(fuse(state), dir.nodeid, "sub", 0700, &sub));
	assert_int_equal(fuc_rmdir(fuse(state), FUSE_ROOT_ID, "dir"), -ENOTEMPTY);
	assert_int_equal(fuc_unlink(fuse(state), dir.nodeid, "sub"), -EISDIR);
	assert_ok(fuc_rmdir(fuse(state), dir.nodeid, "sub"));
	assert_ok(fuc_rmdir(fuse(state), FUSE_ROOT_ID, "dir"));
	assert_int_equal(stat(daemon_path(host(state), "dir"), &st), -1);
	assert_ok(fuc_forget(fuse(state), sub.nodeid, 1));
	assert_ok(fuc_forget(fuse(state), dir.nodeid, 1));
}

static void mknod_makes_all_kinds(void **state)
{
	static const uint32_t modes[] = { S_IFREG | 0640, S_IFIFO | 0600, S_IFSOCK | 0600,
					  S_IFCHR | 0600 };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct fuse_entry_out e;
		struct stat st;

		assert_ok(fuc_mknod(fuse(state), FUSE_ROOT_ID, "node", modes[i],
				    S_ISCHR(modes[i]) ? (uint32_t)makedev(1, 3) : 0, &e));
		assert_int_equal(e.attr.mode, modes[i]);
		assert_ok(lstat(daemon_path(host(state), "node"), &st));
		assert_int_equal(st.st_mode, modes[i]);
		if (S_ISCHR(modes[i])) {
			assert_int_equal(st.st_rdev, makedev(1, 3));
			assert_int_equal(e.attr.rdev, makedev(1, 3));
		}
		guest_remove(*state, e.nodeid, "node");
	}
}

static void symlink_and_readlink(void **state)
{
	static const char target[] = "../somewhere/that/is/not";
	char buf[4096];
	struct fuse_entry_out e;
	ssize_t n;

	assert_ok(fuc_symlink(fuse(state), FUSE_ROOT_ID, "link", target, &e));
	assert_true(S_ISLNK(e.attr.mode));
	assert_int_equal(fuc_readlink(fuse(state), e.nodeid, buf, sizeof(buf)), strlen(target));
	assert_memory_equal(buf, target, strlen(target));
	n = readlink(daemon_path(host(state), "link"), buf, sizeof(buf));
	assert_int_equal(n, strlen(target));
	assert_true(fuc_readlink(fuse(state), FUSE_ROOT_ID, buf, sizeof(buf)) < 0);
	guest_remove(*state, e.nodeid, "link");
}

static void link_adds_a_name(void **state)
{
	struct fuse_entry_out e;
	struct fuse_attr attr;
	uint64_t fh, node = guest_create(*state, "one", &fh);

	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_link(fuse(state), node, FUSE_ROOT_ID, "two", &e));
	assert_int_equal(e.nodeid, node);
	assert_int_equal(e.attr.nlink, 2);
	assert_int_equal(fuc_link(fuse(state), node, FUSE_ROOT_ID, "two", &e), -EEXIST);
	assert_ok(fuc_unlink(fuse(state), FUSE_ROOT_ID, "one"));
	assert_ok(fuc_getattr(fuse(state), node, &attr));
	assert_int_equal(attr.nlink, 1);
	assert_ok(fuc_unlink(fuse(state), FUSE_ROOT_ID, "two"));
	assert_ok(fuc_forget(fuse(state), node, 2));
}

static void rename_moves(void **state)
{
	struct fuse_entry_out dir, e;
	uint64_t fh, node = guest_create(*state, "from", &fh);

	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_mkdir(fuse(state), FUSE_ROOT_ID, "to", 0700, &dir));
	assert_ok(fuc_rename(fuse(state), FUSE_ROOT_ID, "from", dir.nodeid, "name"));
	assert_ok(access(daemon_path(host(state), "to/name"), F_OK));
	assert_ok(fuc_lookup(fuse(state), dir.nodeid, "name", &e));
	assert_int_equal(e.nodeid, node);
	assert_true(fuc_rename(fuse(state), FUSE_ROOT_ID, "from", dir.nodeid, "other") < 0);
	assert_ok(fuc_unlink(fuse(state), dir.nodeid, "name"));
	assert_ok(fuc_rmdir(fuse(state), FUSE_ROOT_ID, "to"));
	assert_ok(fuc_forget(fuse(state), node, 2));
	assert_ok(fuc_forget(fuse(state), dir.nodeid, 1));
}

static void rename2_has_flags(void **state)
{
	struct fuse_entry_out e;
	uint64_t fh, a = guest_create(*state, "a", &fh), b;

	assert_ok(fuc_release(fuse(state), a, fh));
	b = guest_create(*state, "b", &fh);
	assert_ok(fuc_release(fuse(state), b, fh));
	assert_int_equal(fuc_rename2(fuse(state), FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b",
				     RENAME_NOREPLACE_FLAG),
			 -EEXIST);
	assert_ok(fuc_rename2(fuse(state), FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b",
			      RENAME_EXCHANGE_FLAG));
	assert_ok(fuc_lookup(fuse(state), FUSE_ROOT_ID, "a", &e));
	assert_int_equal(e.nodeid, b);
	assert_ok(fuc_rename2(fuse(state), FUSE_ROOT_ID, "a", FUSE_ROOT_ID, "b", 0));
	assert_int_equal(access(daemon_path(host(state), "a"), F_OK), -1);
	assert_ok(fuc_unlink(fuse(state), FUSE_ROOT_ID, "b"));
	assert_ok(fuc_forget(fuse(state), b, 2));
	assert_ok(fuc_forget(fuse(state), a, 1));
}

static void setattr_changes_all(void **state)
{
	struct fuse_attr attr;
	struct fuse_setattr_in in = {
		.valid =
			FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME,
		.mode = S_IFREG | 0604,
		.uid = 1234,
		.gid = 4321,
		.size = 5000,
		.atime = 1000000000,
		.mtime = 1100000000,
		.mtimensec = 123456789,
	};
	struct stat st;
	uint64_t fh, node = guest_create(*state, "file", &fh);

	assert_ok(fuc_setattr(fuse(state), node, &in, &attr));
	assert_int_equal(attr.mode, S_IFREG | 0604);
	assert_int_equal(attr.uid, 1234);
	assert_int_equal(attr.gid, 4321);
	assert_int_equal(attr.size, 5000);
	assert_int_equal(attr.mtime, 1100000000);
	assert_int_equal(attr.mtimensec, 123456789);
	assert_ok(stat(daemon_path(host(state), "file"), &st));
	assert_int_equal(st.st_mode, S_IFREG | 0604);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_size, 5000);
	assert_int_equal(st.st_atime, 1000000000);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	/* Truncation through the handle; "now" for the times. */
	in = (struct fuse_setattr_in){
		.valid = FATTR_SIZE | FATTR_FH | FATTR_MTIME | FATTR_MTIME_NOW,
		.fh = fh,
		.size = 7,
	};
	assert_ok(fuc_setattr(fuse(state), node, &in, &attr));
	assert_int_equal(attr.size, 7);
	assert_true(attr.mtime > 1100000000);
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void getattr_tells_what_the_host_sees(void **state)
{
	struct fuse_attr attr;
	struct stat st;

	assert_ok(fuc_getattr(fuse(state), FUSE_ROOT_ID, &attr));
	assert_ok(stat(host(state)->root, &st));
	assert_int_equal(attr.ino, st.st_ino);
	assert_int_equal(attr.mode, st.st_mode);
	assert_int_equal(attr.mtime, st.st_mtim.tv_sec);
	assert_int_equal(attr.mtimensec, st.st_mtim.tv_nsec);
	assert_int_equal(fuc_getattr(fuse(state), 0x123456789abcdef, &attr) < 0, 1);
}

static void statx_tells_birth_and_all(void **state)
{
	struct fuc_statx_out out;
	struct stat st;

	skip_if_foreign(host(state));
	assert_ok(fuc_statx(fuse(state), FUSE_ROOT_ID, 0xfffu, &out));
	assert_ok(stat(host(state)->root, &st));
	assert_int_equal(out.stat.mask & 0x7ffu, 0x7ffu);
	assert_int_equal(out.stat.mode, st.st_mode);
	assert_int_equal(out.stat.ino, st.st_ino);
	assert_int_equal(out.stat.mtime.tv_sec, st.st_mtim.tv_sec);
	assert_int_equal(out.stat.mtime.tv_nsec, st.st_mtim.tv_nsec);
	assert_int_equal(out.stat.nlink, st.st_nlink);
}

static void statfs_counts_blocks(void **state)
{
	struct fuse_kstatfs st;

	assert_ok(fuc_statfs(fuse(state), FUSE_ROOT_ID, &st));
	assert_true(st.bsize > 0);
	assert_true(st.blocks >= st.bfree && st.bfree >= st.bavail);
	assert_true(st.namelen >= 255);
}

/* The guest's kernel checks permissions; told once that nobody else does, it asks no more. */
static void access_is_the_kernels_business(void **state)
{
	skip_if_foreign(host(state));
	assert_int_equal(fuc_access(fuse(state), FUSE_ROOT_ID, R_OK), -ENOSYS);
}

static void xattrs_come_and_go(void **state)
{
	static const char name[] = "user.colour", value[] = "blue and\0green";
	char buf[1000];
	uint64_t fh, node;
	int n;

	skip_if_foreign(host(state)); /* it has them off by default */
	node = guest_create(*state, "file", &fh);
	assert_ok(fuc_release(fuse(state), node, fh));
	assert_int_equal(fuc_getxattr(fuse(state), node, name, buf, sizeof(buf)), -ENODATA);
	assert_ok(fuc_setxattr(fuse(state), node, name, value, sizeof(value), XATTR_CREATE));
	assert_int_equal(fuc_setxattr(fuse(state), node, name, value, 2, XATTR_CREATE), -EEXIST);
	assert_int_equal(fuc_getxattr(fuse(state), node, name, NULL, 0), sizeof(value));
	assert_int_equal(fuc_getxattr(fuse(state), node, name, buf, sizeof(buf)), sizeof(value));
	assert_memory_equal(buf, value, sizeof(value));
	assert_int_equal(fuc_getxattr(fuse(state), node, name, buf, 3), -ERANGE);
	n = fuc_listxattr(fuse(state), node, buf, sizeof(buf));
	assert_true(n >= (int)sizeof(name));
	assert_non_null(memmem(buf, (size_t)n, name, sizeof(name)));
	assert_int_equal(fuc_listxattr(fuse(state), node, NULL, 0), n);
	assert_int_equal(fuc_listxattr(fuse(state), node, buf, 2), -ERANGE);
	assert_int_equal(getxattr(daemon_path(host(state), "file"), name, buf, sizeof(buf)),
			 sizeof(value));
	assert_ok(fuc_setxattr(fuse(state), node, name, NULL, 0, XATTR_REPLACE));
	assert_int_equal(fuc_getxattr(fuse(state), node, name, NULL, 0), 0);
	assert_ok(fuc_removexattr(fuse(state), node, name));
	assert_int_equal(fuc_removexattr(fuse(state), node, name), -ENODATA);
	guest_remove(*state, node, "file");
}

static void create_can_be_exclusive(void **state)
{
	struct fuse_entry_out e;
	uint64_t fh, other, node = guest_create(*state, "file", &fh);
	struct stat st;

	assert_ok(stat(daemon_path(host(state), "file"), &st));
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(fuc_create(fuse(state), FUSE_ROOT_ID, "file", O_RDWR | O_CREAT | O_EXCL,
				    S_IFREG | 0600, &e, &other),
			 -EEXIST);
	assert_ok(fuc_create(fuse(state), FUSE_ROOT_ID, "file", O_RDWR | O_CREAT, S_IFREG | 0600,
			     &e, &other));
	assert_int_equal(e.nodeid, node);
	assert_int_equal(e.attr.mode, S_IFREG | 0644);
	assert_ok(fuc_release(fuse(state), node, other));
	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_forget(fuse(state), node, 1));
	guest_remove(*state, node, "file");
}

static void tmpfile_has_no_name(void **state)
{
	struct fuse_entry_out e, linked;
	char buf[16];
	uint64_t fh;

	skip_if_foreign(host(state));
	assert_ok(fuc_tmpfile(fuse(state), FUSE_ROOT_ID, O_RDWR, S_IFREG | 0600, &e, &fh));
	assert_int_equal(e.attr.nlink, 0);
	assert_int_equal(fuc_write(fuse(state), e.nodeid, fh, 0, "unnamed", 7), 7);
	assert_int_equal(fuc_read(fuse(state), e.nodeid, fh, 0, buf, sizeof(buf)), 7);
	assert_ok(fuc_link(fuse(state), e.nodeid, FUSE_ROOT_ID, "named", &linked));
	assert_int_equal(linked.nodeid, e.nodeid);
	assert_ok(fuc_release(fuse(state), e.nodeid, fh));
	assert_ok(fuc_forget(fuse(state), e.nodeid, 1));
	guest_remove(*state, e.nodeid, "named");
}

static void files_belong_to_the_caller(void **state)
{
	struct fuse_entry_out e;
	struct stat st;

	fuse(state)->uid = 1001;
	fuse(state)->gid = 1002;
	/* The root directory is not theirs: that they may, the guest's kernel has found. */
	assert_ok(fuc_mkdir(fuse(state), FUSE_ROOT_ID, "theirs", 0700, &e));
	fuse(state)->uid = fuse(state)->gid = 0;
	assert_int_equal(e.attr.uid, 1001);
	assert_ok(stat(daemon_path(host(state), "theirs"), &st));
	assert_int_equal(st.st_uid, 1001);
	assert_int_equal(st.st_gid, 1002);
	assert_ok(fuc_rmdir(fuse(state), FUSE_ROOT_ID, "theirs"));
	assert_ok(fuc_forget(fuse(state), e.nodeid, 1));
}

static void what_is_not_served_says_so(void **state)
{
	struct fuse_ioctl_in ioctl_in = { .cmd = 0x5401 };
	struct fuse_poll_in poll_in = { 0 };
	struct fuse_bmap_in bmap_in = { .blocksize = 4096 };
	uint64_t fh, node = guest_create(*state, "file", &fh);
	char out[64];
	int err;

	ioctl_in.fh = poll_in.fh = fh;
	err = fuc_call(fuse(state),
		       &(struct fuc_call){ .opcode = FUSE_IOCTL,
					   .nodeid = node,
					   .in = { { &ioctl_in, sizeof(ioctl_in) } },
					   .out_cap = sizeof(out) },
		       out, sizeof(out), NULL);
	assert_true(err == -ENOSYS || err == -ENOTTY);
	assert_int_equal(fuc_call(fuse(state),
				  &(struct fuc_call){ .opcode = FUSE_POLL,
						      .nodeid = node,
						      .in = { { &poll_in, sizeof(poll_in) } },
						      .out_cap = 8 },
				  out, 8, NULL),
			 -ENOSYS);
	assert_int_equal(fuc_call(fuse(state),
				  &(struct fuc_call){ .opcode = FUSE_BMAP,
						      .nodeid = node,
						      .in = { { &bmap_in, sizeof(bmap_in) } },
						      .out_cap = 8 },
				  out, 8, NULL),
			 -ENOSYS);
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		matrix_test(lookup_finds_what_the_host_made),
		matrix_test(lookup_of_nothing_is_enoent),
		matrix_test(names_have_their_limits),
		matrix_test(mkdir_and_rmdir),
		matrix_test(mknod_makes_all_kinds),
		matrix_test(symlink_and_readlink),
		matrix_test(link_adds_a_name),
		matrix_test(rename_moves),
		matrix_test(rename2_has_flags),
		matrix_test(setattr_changes_all),
		matrix_test(getattr_tells_what_the_host_sees),
		matrix_test(statx_tells_birth_and_all),
		matrix_test(statfs_counts_blocks),
		matrix_test(access_is_the_kernels_business),
		matrix_test(xattrs_come_and_go),
		matrix_test(create_can_be_exclusive),
		matrix_test(tmpfile_has_no_name),
		matrix_test(files_belong_to_the_caller),
		matrix_test(what_is_not_served_says_so),
	};

	return run_matrix("names and attributes", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
