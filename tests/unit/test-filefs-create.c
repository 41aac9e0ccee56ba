/* SPDX-License-Identifier: Apache-2.0 */
/* Making, linking, moving and removing entries, and as whom. */
#include "filefs-fixture.h"

#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static ssize_t make(struct fx *fx, struct fx_req *r, uint32_t opcode, uint64_t parent,
		    const char *name, const char *target)
{
	fx_req_init(r, opcode, parent);
	r->req.name = name;
	r->req.target = target;
	if (opcode == FUSE_MKDIR)
		r->req.in.mkdir.mode = 0755;
	return fx_call(fx, r);
}

static int rename_flags(struct fx *fx, uint64_t from, const char *name, uint64_t to,
			const char *newname, uint32_t flags)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_RENAME2, from);
	r.req.name = name;
	r.req.newname = newname;
	r.req.in.rename = (struct fuse_rename2_in){ .newdir = to, .flags = flags };
	return (int)fx_call(fx, &r);
}

static void every_type_can_be_made(void **state)
{
	struct fx *fx = *state;
	char buf[32];
	struct fx_req r;

	assert_int_equal(make(fx, &r, FUSE_MKDIR, 1, "dir", NULL), 0);
	assert_int_equal(r.req.out.entry.attr.mode, S_IFDIR | 0755);
	assert_int_equal(make(fx, &r, FUSE_MKDIR, 1, "dir", NULL), -EEXIST);

	assert_int_equal(make(fx, &r, FUSE_SYMLINK, 1, "link", "some where"), 0);
	assert_true(S_ISLNK(r.req.out.entry.attr.mode));
	struct fx_req rl;

	fx_req_init(&rl, FUSE_READLINK, r.req.out.entry.nodeid);
	rl.out = (struct iovec){ buf, sizeof(buf) };
	rl.req.reply = iov_cursor(&rl.out, 1);
	rl.req.reply_size = sizeof(buf);
	assert_int_equal(fx_call(fx, &rl), 10);
	assert_memory_equal(buf, "some where", 10);
	fx_req_init(&rl, FUSE_READLINK, 1);
	rl.req.reply_size = sizeof(buf);
	assert_int_equal(fx_call(fx, &rl), -EINVAL);

	static const unsigned types[] = { S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };

	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		char name[8];

		if ((types[i] == S_IFCHR || types[i] == S_IFBLK) && geteuid())
			continue;
		snprintf(name, sizeof(name), "n%u", i);
		fx_req_init(&r, FUSE_MKNOD, 1);
		r.req.name = name;
		r.req.in.mknod.mode = types[i] | 0600;
		r.req.in.mknod.rdev = 0x12345678;
		assert_int_equal(fx_call(fx, &r), 0);
		assert_int_equal(r.req.out.entry.attr.mode, types[i] | 0600);
		if (types[i] == S_IFCHR || types[i] == S_IFBLK)
			assert_int_equal(r.req.out.entry.attr.rdev, 0x12345678);
	}
}

static void hard_links_share_the_nodeid(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, l;
	struct fx_req r;

	assert_int_equal(fx_create(fx, 1, "a", O_RDWR, 0644, &a, NULL), 0);
	fx_req_init(&r, FUSE_LINK, 1);
	r.req.name = "b";
	r.req.in.link.oldnodeid = a.nodeid;
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.entry.nodeid, a.nodeid);
	assert_int_equal(r.req.out.entry.attr.nlink, 2);

	/* A symlink is linked itself, not what it points at. */
	assert_int_equal(make(fx, &r, FUSE_SYMLINK, 1, "l", "a"), 0);
	l = r.req.out.entry;
	fx_req_init(&r, FUSE_LINK, 1);
	r.req.name = "l2";
	r.req.in.link.oldnodeid = l.nodeid;
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.entry.nodeid, l.nodeid);
	assert_true(S_ISLNK(r.req.out.entry.attr.mode));
}

static void rename_honours_its_flags(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, b, d, e;

	assert_int_equal(fx_create(fx, 1, "a", O_RDWR, 0644, &a, NULL), 0);
	assert_int_equal(fx_create(fx, 1, "b", O_RDWR, 0644, &b, NULL), 0);
	assert_int_equal(fx_mkdir(fx, 1, "d", &d), 0);
	assert_int_equal(rename_flags(fx, 1, "a", 1, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(rename_flags(fx, 1, "a", 1, "b", RENAME_EXCHANGE), 0);
	assert_int_equal(fx_lookup(fx, 1, "a", &e), 0);
	assert_int_equal(e.nodeid, b.nodeid);
	assert_int_equal(rename_flags(fx, 1, "a", d.nodeid, "x", 0), 0);
	assert_int_equal(fx_lookup(fx, d.nodeid, "x", &e), 0);
	assert_int_equal(e.nodeid, b.nodeid);
	assert_int_equal(rename_flags(fx, 1, "b", 1, "c", 1u << 20), -EINVAL);
	assert_int_equal(rename_flags(fx, 1, "b", 77ull << 32, "c", 0), -ESTALE);
}

static void directories_are_removed_when_empty(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out d;
	struct fx_req r;

	assert_int_equal(fx_mkdir(fx, 1, "d", &d), 0);
	assert_int_equal(fx_mkdir(fx, d.nodeid, "e", NULL), 0);
	assert_int_equal(make(fx, &r, FUSE_RMDIR, 1, "d", NULL), -ENOTEMPTY);
	assert_int_equal(fx_unlink(fx, 1, "d"), -EISDIR);
	assert_int_equal(make(fx, &r, FUSE_RMDIR, d.nodeid, "e", NULL), 0);
	assert_int_equal(make(fx, &r, FUSE_RMDIR, 1, "d", NULL), 0);
}

static void create_takes_an_existing_file_unless_exclusive(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out a, b;
	struct fuse_open_out o;
	char buf[4];

	assert_int_equal(fx_create(fx, 1, "a", O_RDWR | O_EXCL, 0644, &a, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "abc", 3, 0), 3);
	assert_int_equal(fx_create(fx, 1, "a", O_RDWR | O_EXCL, 0644, NULL, NULL), -EEXIST);
	assert_int_equal(fx_create(fx, 1, "a", O_RDWR, 0644, &b, &o), 0);
	assert_int_equal(a.nodeid, b.nodeid);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 0), 3);
	assert_int_equal(b.attr.size, 3);
	assert_int_equal(fx_create(fx, 1, "a", O_RDWR | O_TRUNC, 0644, &b, &o), 0);
	assert_int_equal(b.attr.size, 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 0), 0);
	assert_int_equal(fx_mkdir(fx, 1, "d", NULL), 0);
	assert_int_equal(fx_create(fx, 1, "d", O_RDWR, 0644, NULL, NULL), -ESTALE);
}

static void tmpfile_can_be_linked(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;

	fx_req_init(&r, FUSE_TMPFILE, 1);
	r.req.in.create.flags = O_RDWR;
	r.req.in.create.mode = S_IFREG | 0600;
	assert_int_equal(fx_call(fx, &r), 0);
	e = r.req.out.entry;
	o = r.req.out.open;
	assert_int_equal(e.attr.nlink, 0);
	assert_int_equal(fx_write(fx, o.fh, "abc", 3, 0), 3);
	fx_req_init(&r, FUSE_LINK, 1);
	r.req.name = "kept";
	r.req.in.link.oldnodeid = e.nodeid;
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.entry.nodeid, e.nodeid);
	assert_int_equal(r.req.out.entry.attr.size, 3);
}

/* The identity tests need one to change. */
static bool not_root(void)
{
	if (geteuid() == 0)
		return false;
	print_message("   skipped: needs root\n");
	return true;
}

static int create_as(struct fx *fx, uint64_t parent, const char *name, uint32_t uid, uint32_t gid,
		     int64_t group, struct fuse_attr *attr)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_CREATE, parent);
	r.req.name = name;
	r.req.uid = uid;
	r.req.gid = gid;
	r.req.has_supp_group = group >= 0;
	r.req.supp_group = (uint32_t)group;
	r.req.in.create.flags = O_CREAT | O_RDWR;
	r.req.in.create.mode = S_IFREG | 0644;
	ret = (int)fx_call(fx, &r);
	*attr = r.req.out.entry.attr;
	return ret;
}

static void entries_belong_to_the_caller(void **state)
{
	struct fx *fx = *state;
	struct fuse_attr attr;
	struct fuse_entry_out d;

	if (not_root())
		return;
	assert_int_equal(fchmod(fx->dirfd, 0777), 0);
	assert_int_equal(create_as(fx, 1, "a", 1000, 1001, -1, &attr), 0);
	assert_int_equal(attr.uid, 1000);
	assert_int_equal(attr.gid, 1001);
	assert_int_equal(create_as(fx, 1, "b", 0, 1001, -1, &attr), 0);
	assert_int_equal(attr.uid, 0);
	assert_int_equal(attr.gid, 1001);
	/* And the thread is itself again. */
	assert_int_equal(geteuid(), 0);
	assert_int_equal(getegid(), 0);
	assert_int_equal(create_as(fx, 1, "c", 0, 0, -1, &attr), 0);
	assert_int_equal(attr.uid, 0);

	/* A directory only for a group that the caller has. */
	assert_int_equal(fx_mkdir(fx, 1, "d", &d), 0);
	assert_int_equal(fchownat(fx->dirfd, "d", 0, 555, 0), 0);
	assert_int_equal(fchmodat(fx->dirfd, "d", 02770, 0), 0);
	assert_int_equal(create_as(fx, d.nodeid, "x", 1000, 1000, 555, &attr), 0);
	assert_int_equal(attr.uid, 1000);
	assert_int_equal(attr.gid, 555);
	assert_int_equal(getgroups(0, NULL), 0);
	/* Without being told the group: the guest's kernel has permitted it. */
	assert_int_equal(create_as(fx, d.nodeid, "y", 1000, 1000, -1, &attr), 0);
	assert_int_equal(attr.uid, 1000);
	/* No uid or gid at all. */
	assert_int_equal(create_as(fx, 1, "z", UINT32_MAX, 0, -1, &attr), -EOVERFLOW);
	assert_int_equal(create_as(fx, 1, "z", 0, UINT32_MAX, -1, &attr), -EOVERFLOW);
	assert_int_equal(create_as(fx, 1, "z", 0, 0, UINT32_MAX, &attr), -EPERM);
	assert_int_equal(create_as(fx, 1, "z", UINT32_MAX - 1, 0, -1, &attr), 0);
	assert_int_equal(attr.uid, UINT32_MAX - 1);
}

static void setid_bits_go_only_when_asked(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;
	struct stat st;

	if (not_root())
		return;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0755, &e, &o), 0);
	for (unsigned round = 0; round < 3; round++) {
		bool kill = round == 1;

		assert_int_equal(fchmodat(fx->dirfd, "f", 06755, 0), 0);
		fx_req_init(&r, FUSE_WRITE, e.nodeid);
		r.in = (struct iovec){ "x", 1 };
		r.req.in.write = (struct fuse_write_in){
			.fh = o.fh, .size = 1, .write_flags = kill ? FUSE_WRITE_KILL_SUIDGID : 0
		};
		r.req.data = iov_cursor(&r.in, 1);
		assert_int_equal(fx_call(fx, &r), 1);
		assert_int_equal(fstatat(fx->dirfd, "f", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, kill ? 0755 : 06755);
	}
	for (unsigned kill = 0; kill < 2; kill++) {
		assert_int_equal(fchmodat(fx->dirfd, "f", 06755, 0), 0);
		fx_req_init(&r, FUSE_SETATTR, e.nodeid);
		r.req.in.setattr.valid = FATTR_SIZE | (kill ? FATTR_KILL_SUIDGID : 0);
		r.req.in.setattr.size = 100 + kill;
		assert_int_equal(fx_call(fx, &r), 0);
		assert_int_equal(r.req.out.attr.attr.mode & 07777, kill ? 0755 : 06755);
	}
}

/* Dropping the capability for one caller's write must not cost another a chmod. */
static void setgid_bit_can_be_set_after_a_killing_write(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;

	if (not_root())
		return;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0755, &e, &o), 0);
	assert_int_equal(fchownat(fx->dirfd, "f", 0, 777, 0), 0);
	fx_req_init(&r, FUSE_WRITE, e.nodeid);
	r.in = (struct iovec){ "x", 1 };
	r.req.in.write = (struct fuse_write_in){ .fh = o.fh,
						 .size = 1,
						 .write_flags = FUSE_WRITE_KILL_SUIDGID };
	r.req.data = iov_cursor(&r.in, 1);
	assert_int_equal(fx_call(fx, &r), 1);
	fx_req_init(&r, FUSE_SETATTR, e.nodeid);
	r.req.in.setattr = (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 02755 };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.attr.attr.mode & 07777, 02755);
}

static int create_umask(struct fx *fx, const char *name, unsigned mask, unsigned *mode)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_CREATE, 1);
	r.req.name = name;
	r.req.in.create.flags = O_CREAT | O_RDWR;
	r.req.in.create.mode = S_IFREG | 0666;
	r.req.in.create.umask = mask;
	ret = (int)fx_call(fx, &r);
	*mode = r.req.out.entry.attr.mode & 07777;
	return ret;
}

static void umask_counts_when_not_masked_by_the_guest(void **state)
{
	struct filefs_config config = fx_config();
	unsigned mode;
	struct fx *fx;

	(void)state;
	config.posix_acl = true;
	fx = fx_new(&config, 0);
	assert_int_equal(create_umask(fx, "a", 027, &mode), 0);
	assert_int_equal(mode, 0640);
	assert_int_equal(create_umask(fx, "b", 0, &mode), 0);
	assert_int_equal(mode, 0666);
	fx_free(fx);

	fx = fx_new(&config, FUSE_DONT_MASK);
	assert_int_equal(create_umask(fx, "a", 027, &mode), 0);
	assert_int_equal(mode, 0666);
	fx_free(fx);
}

static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)
	T(every_type_can_be_made),
	T(hard_links_share_the_nodeid),
	T(rename_honours_its_flags),
	T(directories_are_removed_when_empty),
	T(create_takes_an_existing_file_unless_exclusive),
	T(tmpfile_can_be_linked),
	T(entries_belong_to_the_caller),
	T(setid_bits_go_only_when_asked),
	T(setgid_bit_can_be_set_after_a_killing_write),
	cmocka_unit_test(umask_counts_when_not_masked_by_the_guest),
};

FX_MAIN("filefs-create", tests)
