/* SPDX-License-Identifier: Apache-2.0 */
/* SETATTR, STATX, STATFS and extended attributes. */
#include "filefs-fixture.h"

#include <linux/fs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

static ssize_t setattr(struct fx *fx, struct fx_req *r, uint64_t nodeid,
		       const struct fuse_setattr_in *in)
{
	fx_req_init(r, FUSE_SETATTR, nodeid);
	r->req.in.setattr = *in;
	return fx_call(fx, r);
}

static void every_attribute_can_be_set(void **state)
{
	struct fx *fx = *state;
	struct fuse_setattr_in in = {
		.valid = FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME,
		.mode = S_IFREG | 04711,
		.size = 12345,
		.atime = 1000000000,
		.atimensec = 5,
		.mtime = 2000000000,
		.mtimensec = 999999999,
	};
	const struct fuse_attr *a;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	for (unsigned with_fh = 0; with_fh < 2; with_fh++) {
		if (with_fh) {
			in.valid |= FATTR_FH;
			in.fh = o.fh;
			in.size = 777;
		}
		if (!geteuid()) {
			in.valid |= FATTR_UID | FATTR_GID;
			in.uid = 1234;
			in.gid = 4321;
		} else {
			in.uid = geteuid();
			in.gid = getegid();
		}
		assert_int_equal(setattr(fx, &r, e.nodeid, &in), 0);
		a = &r.req.out.attr.attr;
		assert_int_equal(a->mode, S_IFREG | 04711);
		assert_int_equal(a->size, in.size);
		assert_int_equal(a->uid, in.uid);
		assert_int_equal(a->gid, in.gid);
		assert_int_equal(a->atime, 1000000000);
		assert_int_equal(a->atimensec, 5);
		assert_int_equal(a->mtime, 2000000000);
		assert_int_equal(a->mtimensec, 999999999);
	}
	in = (struct fuse_setattr_in){ .valid = FATTR_MTIME | FATTR_MTIME_NOW };
	assert_int_equal(setattr(fx, &r, e.nodeid, &in), 0);
	assert_int_not_equal(r.req.out.attr.attr.mtime, 2000000000);
	assert_int_equal(r.req.out.attr.attr.atime, 1000000000);
	in = (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = UINT64_MAX };
	assert_int_equal(setattr(fx, &r, e.nodeid, &in), -EFBIG);
	in = (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = 0 };
	assert_int_equal(setattr(fx, &r, 1, &in), -EISDIR);
	/* A handle of another file. */
	in = (struct fuse_setattr_in){ .valid = FATTR_SIZE | FATTR_FH, .fh = o.fh };
	assert_int_equal(setattr(fx, &r, 1, &in), -EBADF);
}

static void symlink_owner_and_times_are_its_own(void **state)
{
	struct fx *fx = *state;
	struct fuse_setattr_in in = { .valid = FATTR_MTIME, .mtime = 77 };
	struct fuse_entry_out e;
	struct fx_req r;
	struct stat st;

	close(openat(fx->dirfd, "f", O_CREAT | O_WRONLY, 0644));
	assert_int_equal(symlinkat("f", fx->dirfd, "l"), 0);
	assert_int_equal(fx_lookup(fx, 1, "l", &e), 0);
	if (!geteuid()) {
		in.valid |= FATTR_UID;
		in.uid = 55;
	}
	assert_int_equal(setattr(fx, &r, e.nodeid, &in), 0);
	assert_int_equal(r.req.out.attr.attr.mtime, 77);
	assert_int_equal(fstatat(fx->dirfd, "f", &st, 0), 0);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_not_equal(st.st_mtime, 77);
	in = (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 0777 };
	assert_int_equal(setattr(fx, &r, e.nodeid, &in), -EOPNOTSUPP);
}

static void statx_and_statfs_are_the_hosts(void **state)
{
	struct fx *fx = *state;
	struct statvfs vfs;
	struct statx stx;
	struct fx_req r;

	fx_req_init(&r, FUSE_STATX, 1);
	r.req.in.statx.sx_mask = STATX_BASIC_STATS | STATX_BTIME;
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(statx(fx->dirfd, "", AT_EMPTY_PATH, STATX_ALL, &stx), 0);
	assert_int_equal(r.req.out.statx.stat.ino, stx.stx_ino);
	assert_int_equal(r.req.out.statx.stat.btime.tv_sec, stx.stx_btime.tv_sec);
	assert_int_equal(r.req.out.statx.stat.btime.tv_nsec, stx.stx_btime.tv_nsec);
	assert_int_equal(r.req.out.statx.stat.mode, stx.stx_mode);
	assert_int_equal(r.req.out.statx.attr_valid, 1);

	fx_req_init(&r, FUSE_STATFS, 1);
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(fstatvfs(fx->dirfd, &vfs), 0);
	assert_int_equal(r.req.out.statfs.blocks, vfs.f_blocks);
	assert_int_equal(r.req.out.statfs.namelen, vfs.f_namemax);
	assert_int_equal(r.req.out.statfs.frsize, vfs.f_frsize);
}

static ssize_t xattr_set(struct fx *fx, uint64_t nodeid, const char *name, const void *value,
			 size_t size, uint32_t flags)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_SETXATTR, nodeid);
	r.req.name = name;
	r.req.in.setxattr = (struct fuse_setxattr_in){ .size = (uint32_t)size, .flags = flags };
	r.in = (struct iovec){ (void *)(uintptr_t)value, size };
	r.req.data = iov_cursor(&r.in, 1);
	return fx_call(fx, &r);
}

static ssize_t xattr_get(struct fx *fx, uint32_t opcode, uint64_t nodeid, const char *name,
			 void *buf, size_t size)
{
	struct fx_req r;
	ssize_t n;

	fx_req_init(&r, opcode, nodeid);
	r.req.name = name;
	r.req.in.getxattr.size = (uint32_t)size;
	r.out = (struct iovec){ buf, size };
	r.req.reply = iov_cursor(&r.out, 1);
	r.req.reply_size = size;
	n = fx_call(fx, &r);
	return n == 0 && !size ? (ssize_t)r.req.out.xattr_size : n;
}

static ssize_t xattr_remove(struct fx *fx, uint64_t nodeid, const char *name)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_REMOVEXATTR, nodeid);
	r.req.name = name;
	return fx_call(fx, &r);
}

static void xattrs_of_every_type(void **state)
{
	struct fx *fx = *state;
	static const char *const names[] = { "f", "d", "l", "p" };
	char big[3000], buf[4096];
	struct fuse_entry_out e;

	close(openat(fx->dirfd, "f", O_CREAT | O_WRONLY, 0644));
	assert_int_equal(mkdirat(fx->dirfd, "d", 0755), 0);
	assert_int_equal(symlinkat("f", fx->dirfd, "l"), 0);
	assert_int_equal(mkfifoat(fx->dirfd, "p", 0644), 0);
	memset(big, 'b', sizeof(big));
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		/* user.* is for files and directories, trusted.* for all, by root. */
		const char *attr = i < 2 && geteuid() ? "user.t" : "trusted.t";

		if (i >= 2 && geteuid())
			continue;
		assert_int_equal(fx_lookup(fx, 1, names[i], &e), 0);
		assert_int_equal(xattr_get(fx, FUSE_GETXATTR, e.nodeid, attr, buf, 100), -ENODATA);
		assert_int_equal(xattr_set(fx, e.nodeid, attr, "value", 5, XATTR_CREATE), 0);
		assert_int_equal(xattr_set(fx, e.nodeid, attr, "value", 5, XATTR_CREATE), -EEXIST);
		assert_int_equal(xattr_get(fx, FUSE_GETXATTR, e.nodeid, attr, NULL, 0), 5);
		assert_int_equal(xattr_get(fx, FUSE_GETXATTR, e.nodeid, attr, buf, 100), 5);
		assert_memory_equal(buf, "value", 5);
		assert_int_equal(xattr_get(fx, FUSE_GETXATTR, e.nodeid, attr, buf, 3), -ERANGE);
		assert_int_equal(xattr_set(fx, e.nodeid, attr, big, sizeof(big), 0), 0);
		assert_int_equal(xattr_get(fx, FUSE_GETXATTR, e.nodeid, attr, buf, sizeof(buf)),
				 sizeof(big));
		assert_memory_equal(buf, big, sizeof(big));
		assert_true(xattr_get(fx, FUSE_LISTXATTR, e.nodeid, NULL, NULL, 0) >= 7);
		assert_true(xattr_get(fx, FUSE_LISTXATTR, e.nodeid, NULL, buf, sizeof(buf)) >= 7);
		assert_int_equal(xattr_get(fx, FUSE_LISTXATTR, e.nodeid, NULL, buf, 2), -ERANGE);
		assert_int_equal(xattr_remove(fx, e.nodeid, attr), 0);
		assert_int_equal(xattr_remove(fx, e.nodeid, attr), -ENODATA);
	}
	if (!geteuid()) {
		/* The symlink's went to the symlink. */
		assert_int_equal(fx_lookup(fx, 1, "l", &e), 0);
		assert_int_equal(xattr_set(fx, e.nodeid, "trusted.x", "1", 1, 0), 0);
		assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
		assert_int_equal(xattr_get(fx, FUSE_GETXATTR, e.nodeid, "trusted.x", buf, 9),
				 -ENODATA);
	}
	assert_int_equal(xattr_set(fx, 1, "trusted.t", big, 70000, 0), -E2BIG);
}

static void acls_are_hidden_unless_agreed_on(void **state)
{
	struct filefs_config config = fx_config();
	/* An ACL of version 2: user::rwx, user 1000 r--, group::r-x, mask r-x, other::--- */
	static const unsigned char acl[] = {
		2, 0,	0,   0,	  1,   0,   7,	0, 255, 255, 255, 255, 2,   0,	 4,
		0, 232, 3,   0,	  0,   4,   0,	5, 0,	255, 255, 255, 255, 16,	 0,
		5, 0,	255, 255, 255, 255, 32, 0, 0,	0,   255, 255, 255, 255,
	};
	struct fuse_entry_out e;
	struct fx *fx;
	char buf[256];

	(void)state;
	config.posix_acl = true;
	fx = fx_new(&config, 0);
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0750, &e, NULL), 0);
	assert_int_equal(xattr_set(fx, e.nodeid, "system.posix_acl_access", acl, sizeof(acl), 0),
			 0);
	assert_int_equal(
		xattr_get(fx, FUSE_GETXATTR, e.nodeid, "system.posix_acl_access", buf, 256),
		sizeof(acl));
	fx_free(fx);

	fx = fx_new(&config, FUSE_POSIX_ACL);
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0750, &e, NULL), 0);
	assert_int_equal(xattr_set(fx, e.nodeid, "system.posix_acl_access", acl, sizeof(acl), 0),
			 -EOPNOTSUPP);
	fx_free(fx);
}

static void xattrs_can_be_off(void **state)
{
	struct filefs_config config = fx_config();
	char buf[8];
	struct fx *fx;

	(void)state;
	config.xattr = false;
	fx = fx_new(&config, 0);
	assert_int_equal(xattr_get(fx, FUSE_GETXATTR, 1, "user.a", buf, 8), -ENOSYS);
	assert_int_equal(xattr_set(fx, 1, "user.a", "1", 1, 0), -ENOSYS);
	fx_free(fx);
}

static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)
	T(every_attribute_can_be_set),
	T(symlink_owner_and_times_are_its_own),
	T(statx_and_statfs_are_the_hosts),
	T(xattrs_of_every_type),
	cmocka_unit_test(acls_are_hidden_unless_agreed_on),
	cmocka_unit_test(xattrs_can_be_off),
};

FX_MAIN("filefs-attr", tests)
