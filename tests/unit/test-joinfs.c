/* SPDX-License-Identifier: Apache-2.0 */
/* joinfs over fake drivers: whose a request is, and children that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "fs/joinfs/joinfs.h"

#define TAG(n) ((uint64_t)(n) << 56)
#define TAG_BITS (UINT64_C(255) << 56)

/* ---- A driver that records and obeys ---- */

struct fake {
	struct fs fs;
	uint64_t flags;
	struct fs_req seen; /* the last request, as the driver got it */
	_Atomic int calls, sessions, interrupts;
	ssize_t result; /* of everything but LOOKUP and GETATTR */
	bool hold;	/* keep the next request pending */
	bool yields;	/* until it is interrupted */
	struct fs_req *held;
	uint64_t forgotten[8]; /* nodeids */
	int forgets;
};

struct fake_session {
	struct fs_session s;
};

static struct fake *fake_of(struct fs_session *s)
{
	return container_of(s->fs, struct fake, fs);
}

static ssize_t fake_op(struct fs_session *s, struct fs_req *req)
{
	struct fake *f = fake_of(s);

	atomic_fetch_add(&f->calls, 1);
	if (req->opcode == FUSE_FORGET) {
		f->forgotten[f->forgets++] = req->nodeid;
		return 0;
	}
	f->seen = *req;
	if (f->hold) {
		f->hold = false;
		f->held = req;
		return FS_PENDING;
	}
	switch (req->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_CREATE:
		req->out.entry.nodeid = 7 | 3ull << 32;
		return f->result;
	case FUSE_GETATTR:
		req->out.attr.attr.ino = 99;
		req->out.attr.attr.mode = S_IFDIR | 0700;
		req->out.attr.attr_valid = 5;
		return 0;
	default:
		return f->result;
	}
}

/* Only counts: for many threads. */
static ssize_t fake_count(struct fs_session *s, struct fs_req *req)
{
	(void)req;
	atomic_fetch_add(&fake_of(s)->calls, 1);
	return 0;
}

static ssize_t fake_readdirplus(struct fs_session *s, struct fs_req *req)
{
	static const struct fuse_entry_out known = { .nodeid = 12, .attr.ino = 40 }, unknown;
	size_t used = 0;

	(void)s;
	fs_direntplus_add(req, &used, &known, 40, 1, S_IFREG >> 12, "a", 1);
	fs_direntplus_add(req, &used, &unknown, 2, 2, S_IFREG >> 12, "b", 1);
	return (ssize_t)used;
}

static uint64_t fake_flags(const struct fs *fs)
{
	return container_of(fs, struct fake, fs)->flags;
}

static struct fs_session *fake_session_new(struct fs *fs, const struct fs_negotiated *negotiated)
{
	struct fake_session *s = calloc(1, sizeof(*s));

	(void)negotiated;
	s->s.fs = fs;
	atomic_fetch_add(&container_of(fs, struct fake, fs)->sessions, 1);
	return &s->s;
}

static void fake_session_free(struct fs_session *s)
{
	atomic_fetch_sub(&fake_of(s)->sessions, 1);
	free(container_of(s, struct fake_session, s));
}

static void fake_session_interrupt(struct fs_session *s, uint64_t unique)
{
	struct fake *f = fake_of(s);
	struct fs_req *req = f->yields ? f->held : NULL;

	(void)unique;
	atomic_fetch_add(&f->interrupts, 1);
	if (!req)
		return;
	f->held = NULL;
	fs_req_complete(req, -EINTR);
}

static bool fake_describe(struct fs_session *s, uint64_t nodeid, fs_tell_fn *tell, void *arg)
{
	(void)s;
	if (nodeid != 12)
		return false;
	tell(arg, "key", "file", 0);
	tell(arg, "ino", NULL, 99);
	return true;
}

static const struct fs_ops fake_ops = {
	.name = "fake",
	.init_flags = fake_flags,
	.session_new = fake_session_new,
	.session_free = fake_session_free,
	.session_interrupt = fake_session_interrupt,
	.describe = fake_describe,
	.op = {
		[FUSE_LOOKUP] = fake_op,
		[FUSE_FORGET] = fake_op,
		[FUSE_GETATTR] = fake_op,
		[FUSE_MKDIR] = fake_op,
		[FUSE_CREATE] = fake_op,
		[FUSE_RENAME2] = fake_op,
		[FUSE_LINK] = fake_op,
		[FUSE_READ] = fake_op,
		[FUSE_WRITE] = fake_op,
		[FUSE_SYNCFS] = fake_op,
		[FUSE_COPY_FILE_RANGE] = fake_op,
		[FUSE_READDIRPLUS] = fake_readdirplus,
		[FUSE_STATFS] = fake_count,
	},
};

/* ---- A guest ---- */

struct ground {
	struct workers *workers;
	struct fs *join;
	struct fs_session *session;
	struct fake a, b;
};

struct call {
	struct fs_req req;
	_Atomic bool done;
	ssize_t result;
	struct iovec iov;
	char buf[4096];
};

static void call_done(struct fs_req *req, ssize_t result)
{
	struct call *c = container_of(req, struct call, req);

	c->result = result;
	atomic_store(&c->done, true);
}

static void call_init(struct call *c, uint32_t opcode, uint64_t nodeid)
{
	memset(c, 0, sizeof(*c));
	c->req.opcode = opcode;
	c->req.nodeid = nodeid;
	c->req.complete = call_done;
	c->iov = (struct iovec){ c->buf, sizeof(c->buf) };
	c->req.reply = iov_cursor(&c->iov, 1);
	c->req.reply_size = sizeof(c->buf);
}

static ssize_t call_wait(struct call *c)
{
	while (!atomic_load(&c->done))
		usleep(100);
	return c->result;
}

static ssize_t call(struct ground *g, struct call *c)
{
	fs_submit(g->session, &c->req);
	return call_wait(c);
}

static uint64_t lookup(struct ground *g, uint64_t parent, const char *name, int expect)
{
	struct call c;

	call_init(&c, FUSE_LOOKUP, parent);
	c.req.name = name;
	assert_int_equal(call(g, &c), expect);
	return c.req.out.entry.nodeid;
}

static void add(struct ground *g, const char *path, struct fake *f)
{
	struct err *e = joinfs_add(g->join, path, &f->fs);

	if (e)
		fail_msg("%s", err_msg(e));
}

static void refuse(struct ground *g, const char *path, struct fake *f)
{
	struct err *e = joinfs_add(g->join, path, &f->fs);

	assert_non_null(e);
	err_free(e);
}

static void connect_guest(struct ground *g, uint64_t flags)
{
	const struct fs_negotiated negotiated = { .minor = 45, .flags = flags };

	g->session = g->join->ops->session_new(g->join, &negotiated);
	assert_non_null(g->session);
}

static int setup(void **state)
{
	struct ground *g = calloc(1, sizeof(*g));

	assert_null(workers_new(&g->workers, "test", 2));
	assert_null(joinfs_new(&g->join, g->workers));
	g->a.fs.ops = g->b.fs.ops = &fake_ops;
	add(g, "a", &g->a);
	add(g, "deep/b", &g->b);
	connect_guest(g, 0);
	*state = g;
	return 0;
}

static int teardown(void **state)
{
	struct ground *g = *state;

	if (g->session)
		g->join->ops->session_free(g->session);
	assert_int_equal(g->a.sessions, 0);
	assert_int_equal(g->b.sessions, 0);
	g->join->ops->free(g->join);
	workers_free(g->workers);
	free(g);
	return 0;
}

/* ---- Our own directories ---- */

static void names_of(struct call *c, char *out)
{
	size_t at = 0;

	*out = '\0';
	while (at < (size_t)c->result) {
		const struct fuse_dirent *d = (const void *)(c->buf + at);

		strncat(out, d->name, d->namelen);
		strcat(out, " ");
		at += FUSE_DIRENT_SIZE(d);
	}
}

static void the_root_lists_children_and_what_leads_to_them(void **state)
{
	struct ground *g = *state;
	struct call c;
	char names[64];
	uint64_t first;

	call_init(&c, FUSE_READDIR, FUSE_ROOT_ID);
	assert_true(call(g, &c) > 0);
	names_of(&c, names);
	assert_string_equal(names, "a deep ");
	first = ((struct fuse_dirent *)(void *)c.buf)->off;
	call_init(&c, FUSE_READDIR, FUSE_ROOT_ID);
	c.req.in.read.offset = first;
	call(g, &c);
	names_of(&c, names);
	assert_string_equal(names, "deep ");
	call_init(&c, FUSE_READDIR, lookup(g, FUSE_ROOT_ID, "deep", 0));
	call(g, &c);
	names_of(&c, names);
	assert_string_equal(names, "b ");
	call_init(&c, FUSE_READDIR, FUSE_ROOT_ID);
	c.req.reply_size = 8;
	assert_int_equal(call(g, &c), -EINVAL);
	assert_int_equal(g->a.calls + g->b.calls, 0);
}

static void our_directories_do_not_change(void **state)
{
	static const uint32_t changes[] = { FUSE_MKDIR, FUSE_CREATE, FUSE_SETATTR, FUSE_RENAME2 };
	struct ground *g = *state;
	struct call c;

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		call_init(&c, changes[i], FUSE_ROOT_ID);
		c.req.name = "x";
		assert_int_equal(call(g, &c), -EROFS);
	}
	call_init(&c, FUSE_RMDIR, FUSE_ROOT_ID);
	c.req.name = "a";
	assert_int_equal(call(g, &c), -EBUSY);
	c.req.name = "x";
	atomic_store(&c.done, false);
	assert_int_equal(call(g, &c), -ENOENT);
	assert_int_equal(lookup(g, FUSE_ROOT_ID, "x", -ENOENT), 0);
	call_init(&c, FUSE_GETATTR, 12345);
	assert_int_equal(call(g, &c), -ESTALE);
	call_init(&c, FUSE_GETATTR, FUSE_ROOT_ID);
	assert_int_equal(call(g, &c), 0);
	assert_true(S_ISDIR(c.req.out.attr.attr.mode));
}

static void paths_that_collide_are_refused(void **state)
{
	struct ground *g = *state;
	struct fake other = { .fs.ops = &fake_ops };

	refuse(g, "a", &other);
	refuse(g, "deep", &other);
	refuse(g, "deep/b", &other);
	refuse(g, "a/below", &other);
	refuse(g, "", &other);
	refuse(g, "/x", &other);
	refuse(g, "x//y", &other);
	refuse(g, "new/a//b", &other);
	/* what was begun for it is not left behind */
	assert_int_equal(lookup(g, FUSE_ROOT_ID, "new", -ENOENT), 0);
	assert_int_equal(lookup(g, FUSE_ROOT_ID, "x", -ENOENT), 0);
}

/* ---- To a child and back ---- */

static void the_root_of_a_child_has_its_attributes(void **state)
{
	struct ground *g = *state;
	struct call c;

	call_init(&c, FUSE_LOOKUP, FUSE_ROOT_ID);
	c.req.name = "a";
	assert_int_equal(call(g, &c), 0);
	assert_int_equal(c.req.opcode, FUSE_LOOKUP);
	assert_int_equal(c.req.nodeid, FUSE_ROOT_ID | TAG(1));
	assert_int_equal(c.req.out.entry.nodeid, FUSE_ROOT_ID | TAG(1));
	assert_int_equal(c.req.out.entry.attr.ino, 99 ^ TAG(1));
	assert_int_equal(c.req.out.entry.attr_valid, 5);
	assert_int_equal(g->a.seen.opcode, FUSE_GETATTR);
	assert_int_equal(g->a.seen.nodeid, FUSE_ROOT_ID);
}

static void requests_reach_the_child_in_its_own_numbers(void **state)
{
	struct ground *g = *state;
	uint64_t root = lookup(g, FUSE_ROOT_ID, "a", 0);
	uint64_t file = lookup(g, root, "file", 0);
	struct call c;

	assert_int_equal(g->a.seen.nodeid, FUSE_ROOT_ID);
	assert_string_equal(g->a.seen.name, "file");
	assert_int_equal(file, TAG(1) | 3ull << 32 | 7);
	g->a.result = 4096;
	call_init(&c, FUSE_GETATTR, file);
	assert_int_equal(call(g, &c), 0);
	assert_int_equal(c.req.out.attr.attr.ino, 99 ^ TAG(1));
	call_init(&c, FUSE_READ, file);
	c.req.in.read.fh = 77;
	assert_int_equal(call(g, &c), 4096);
	assert_int_equal(g->a.seen.nodeid, file & ~TAG_BITS);
	assert_int_equal(g->a.seen.in.read.fh, 77);
	assert_int_equal(c.req.nodeid, file);
	assert_int_equal(g->b.calls, 0);
}

static void a_negative_entry_stays_one(void **state)
{
	struct ground *g = *state;
	uint64_t root = lookup(g, FUSE_ROOT_ID, "a", 0);

	g->a.result = -ENOENT;
	lookup(g, root, "no", -ENOENT);
}

static void entries_of_readdirplus_are_marked(void **state)
{
	struct ground *g = *state;
	const struct fuse_direntplus *d;
	struct call c;

	call_init(&c, FUSE_READDIRPLUS, lookup(g, FUSE_ROOT_ID, "a", 0));
	assert_true(call(g, &c) > 0);
	d = (const void *)c.buf;
	assert_int_equal(d->entry_out.nodeid, TAG(1) | 12);
	assert_int_equal(d->entry_out.attr.ino, 40 ^ TAG(1));
	assert_int_equal(d->dirent.ino, 40 ^ TAG(1));
	d = (const void *)(c.buf + FUSE_DIRENTPLUS_SIZE(d));
	assert_int_equal(d->entry_out.nodeid, 0);
}

static void two_children_are_two_devices(void **state)
{
	struct ground *g = *state;
	uint64_t a = lookup(g, FUSE_ROOT_ID, "a", 0);
	uint64_t b = lookup(g, lookup(g, FUSE_ROOT_ID, "deep", 0), "b", 0);
	struct call c;

	call_init(&c, FUSE_RENAME2, a);
	c.req.in.rename.newdir = b;
	assert_int_equal(call(g, &c), -EXDEV);
	call_init(&c, FUSE_LINK, a);
	c.req.in.link.oldnodeid = b | 8;
	assert_int_equal(call(g, &c), -EXDEV);
	call_init(&c, FUSE_COPY_FILE_RANGE, a | 8);
	c.req.in.copy_file_range.nodeid_out = FUSE_ROOT_ID;
	assert_int_equal(call(g, &c), -EXDEV);
	call_init(&c, FUSE_RENAME2, b | 4);
	c.req.in.rename.newdir = b | 8;
	assert_int_equal(call(g, &c), 0);
	assert_int_equal(g->b.seen.nodeid, 5);
	assert_int_equal(g->b.seen.in.rename.newdir, 9);
}

static void forgets_go_to_whose_they_are(void **state)
{
	struct ground *g = *state;
	uint64_t a = lookup(g, FUSE_ROOT_ID, "a", 0);
	uint64_t b = lookup(g, lookup(g, FUSE_ROOT_ID, "deep", 0), "b", 0);
	struct fuse_forget_one list[] = {
		{ a | 4, 1 },	     { b | 8, 2 }, { a, 1 },
		{ FUSE_ROOT_ID, 1 }, { 3, 1 },	   { TAG(9) | 2, 1 },
	};
	struct iovec iov = { list, sizeof(list) };
	struct call c;

	call_init(&c, FUSE_BATCH_FORGET, 0);
	c.req.in.batch_forget.count = ARRAY_SIZE(list);
	c.req.data = iov_cursor(&iov, 1);
	assert_int_equal(call(g, &c), 0);
	assert_int_equal(g->a.forgets, 1);
	assert_int_equal(g->a.forgotten[0], 5);
	assert_int_equal(g->b.forgets, 1);
	assert_int_equal(g->b.forgotten[0], 9);
	call_init(&c, FUSE_FORGET, a | 16);
	assert_int_equal(call(g, &c), 0);
	assert_int_equal(g->a.forgotten[1], 17);
}

static void what_one_child_does_not_know_is_not_lost_to_others(void **state)
{
	struct ground *g = *state;
	uint64_t a = lookup(g, FUSE_ROOT_ID, "a", 0);
	struct call c;

	call_init(&c, FUSE_GETXATTR, a);
	assert_int_equal(call(g, &c), -EOPNOTSUPP);
	call_init(&c, FUSE_FLUSH, a);
	assert_int_equal(call(g, &c), 0);
	call_init(&c, FUSE_LSEEK, a);
	assert_int_equal(call(g, &c), -ENOSYS);
	g->a.result = -ENOSYS;
	call_init(&c, FUSE_WRITE, a);
	assert_int_equal(call(g, &c), -EOPNOTSUPP);
}

static void sync_of_the_root_is_sync_of_all(void **state)
{
	struct ground *g = *state;
	struct call c;

	lookup(g, FUSE_ROOT_ID, "a", 0);
	lookup(g, lookup(g, FUSE_ROOT_ID, "deep", 0), "b", 0);
	g->a.hold = true;
	g->b.result = -EIO;
	call_init(&c, FUSE_SYNCFS, FUSE_ROOT_ID);
	fs_submit(g->session, &c.req);
	assert_int_equal(g->b.seen.opcode, FUSE_SYNCFS); /* does not wait for the other */
	assert_false(c.done);
	fs_req_complete(g->a.held, 0);
	assert_int_equal(call_wait(&c), -EIO);
}

/* ---- Coming and going ---- */

static void a_removed_child_goes_when_its_last_request_has(void **state)
{
	struct ground *g = *state;
	uint64_t a = lookup(g, FUSE_ROOT_ID, "a", 0);
	struct call c, d;

	g->a.hold = true;
	call_init(&c, FUSE_READ, a | 4);
	fs_submit(g->session, &c.req);
	assert_false(joinfs_unused(g->join, &g->a.fs));
	joinfs_remove(g->join, &g->a.fs);
	assert_int_equal(g->a.interrupts, 1);
	assert_false(joinfs_unused(g->join, &g->a.fs));
	assert_int_equal(g->a.interrupts, 2);
	lookup(g, FUSE_ROOT_ID, "a", -ENOENT);
	call_init(&d, FUSE_READ, a | 4);
	assert_int_equal(call(g, &d), -ESTALE);
	fs_req_complete(g->a.held, 10);
	assert_int_equal(call_wait(&c), 10);
	assert_int_equal(g->a.sessions, 0);
	assert_true(joinfs_unused(g->join, &g->a.fs));
	/* the other one is as it was */
	lookup(g, lookup(g, FUSE_ROOT_ID, "deep", 0), "b", 0);
}

static void directories_of_ours_go_with_the_last_child_in_them(void **state)
{
	struct ground *g = *state;

	joinfs_remove(g->join, &g->b.fs);
	assert_true(joinfs_unused(g->join, &g->b.fs));
	lookup(g, FUSE_ROOT_ID, "deep", -ENOENT);
	add(g, "deep", &g->b);
	assert_int_equal(lookup(g, FUSE_ROOT_ID, "deep", 0) & ~TAG_BITS, FUSE_ROOT_ID);
}

static void an_old_nodeid_never_names_a_new_child(void **state)
{
	struct ground *g = *state;
	uint64_t old = lookup(g, FUSE_ROOT_ID, "a", 0), root;
	struct call c;

	for (int i = 0; i < 2 * JOINFS_CHILDREN_MAX; i++) {
		joinfs_remove(g->join, &g->a.fs);
		assert_true(joinfs_unused(g->join, &g->a.fs));
		add(g, "a", &g->a);
		if (i == 0) {
			root = lookup(g, FUSE_ROOT_ID, "a", 0);
			assert_int_not_equal(root, old);
		}
		call_init(&c, FUSE_GETATTR, old);
		assert_int_equal(call(g, &c), -ESTALE);
	}
}

static void there_is_room_for_so_many(void **state)
{
	struct ground *g = *state;
	struct fake *many = calloc(JOINFS_CHILDREN_MAX, sizeof(*many));
	char path[16];

	assert_int_equal(joinfs_room(g->join), JOINFS_CHILDREN_MAX - 2);
	for (int i = 0; i < JOINFS_CHILDREN_MAX - 2; i++) {
		many[i].fs.ops = &fake_ops;
		snprintf(path, sizeof(path), "m%d", i);
		add(g, path, &many[i]);
	}
	refuse(g, "more", &g->a);
	assert_int_equal(lookup(g, FUSE_ROOT_ID, "m252", 0), TAG(255) | FUSE_ROOT_ID);
	/* What a guest used is free when that has gone. */
	joinfs_remove(g->join, &many[252].fs);
	assert_true(joinfs_unused(g->join, &many[252].fs));
	assert_int_equal(joinfs_room(g->join), 0);
	g->join->ops->session_free(g->session);
	g->session = NULL;
	assert_int_equal(joinfs_room(g->join), 1);
	free(many);
}

static void what_a_later_child_cannot_do_is_not_asked_of_it(void **state)
{
	struct ground *g = *state;
	struct fake later = { .fs.ops = &fake_ops };

	g->a.flags = g->b.flags = FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS;
	g->join->ops->session_free(g->session);
	assert_int_equal(g->join->ops->init_flags(g->join),
			 FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS);
	connect_guest(g, FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS);
	add(g, "later", &later);
	lookup(g, FUSE_ROOT_ID, "later", -ENOENT);
	assert_int_equal(later.calls, 0);
	/* connected again */
	assert_int_equal(g->join->ops->init_flags(g->join), 0);
	g->join->ops->session_free(g->session);
	connect_guest(g, 0);
	assert_int_not_equal(lookup(g, FUSE_ROOT_ID, "later", 0), 0);
	g->join->ops->session_free(g->session);
	g->session = NULL;
}

/* ---- Threads ---- */

struct race {
	struct ground *g;
	_Atomic bool stop;
	_Atomic unsigned served;
};

static void *race_guest(void *arg)
{
	struct race *r = arg;
	struct call *c = calloc(1, sizeof(*c));

	while (!atomic_load(&r->stop)) {
		uint64_t root;

		call_init(c, FUSE_LOOKUP, FUSE_ROOT_ID);
		c->req.name = "a";
		fs_submit(r->g->session, &c->req);
		if (call_wait(c) < 0)
			continue;
		root = c->req.out.entry.nodeid;
		for (int i = 0; i < 20; i++) {
			call_init(c, FUSE_STATFS, root);
			fs_submit(r->g->session, &c->req);
			if (call_wait(c) == 0)
				atomic_fetch_add(&r->served, 1);
			else if (c->result != -ESTALE)
				abort();
		}
	}
	free(c);
	return NULL;
}

static ssize_t race_getattr(struct fs_session *s, struct fs_req *req)
{
	(void)s;
	req->out.attr.attr.mode = S_IFDIR | 0755;
	return 0;
}

static void children_come_and_go_under_requests(void **state)
{
	struct ground *g = *state;
	struct race r = { .g = g };
	struct fs_ops ops = fake_ops;
	pthread_t threads[3];

	ops.op[FUSE_GETATTR] = race_getattr;
	g->a.fs.ops = &ops;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, race_guest, &r);
	for (int round = 0; round < 200; round++) {
		unsigned before = atomic_load(&r.served);

		/* numbers run out, as guests that are connected keep them */
		while (atomic_load(&r.served) == before)
			usleep(50);
		joinfs_remove(g->join, &g->a.fs);
		while (!joinfs_unused(g->join, &g->a.fs))
			usleep(50);
		assert_int_equal(g->a.sessions, 0);
		add(g, "a", &g->a);
	}
	atomic_store(&r.stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_true(r.served > 0);
	g->join->ops->session_free(g->session);
	g->session = NULL;
}

/* As the FUSE layer does when a guest has left: the last of its requests takes the session along.
 */
static struct fs_session *leaving;

static void last_done(struct fs_req *req, ssize_t result)
{
	leaving->fs->ops->session_free(leaving);
	leaving = NULL;
	call_done(req, result);
}

static void a_session_ends_by_the_removal_of_a_child(void **state)
{
	struct ground *g = *state;
	struct call c;
	uint64_t a;

	alarm(60); /* a deadlock, else */
	a = lookup(g, FUSE_ROOT_ID, "a", 0);
	g->a.yields = g->a.hold = true;
	call_init(&c, FUSE_WRITE, a);
	c.req.complete = last_done;
	leaving = g->session;
	g->session = NULL;
	fs_submit(leaving, &c.req);
	assert_false(c.done);
	joinfs_remove(g->join, &g->a.fs);
	assert_int_equal(call_wait(&c), -EINTR);
	assert_null(leaving);
	assert_true(joinfs_unused(g->join, &g->a.fs));
	assert_int_equal(g->a.sessions, 0);
	alarm(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- What is told ---- */

struct told {
	char text[512];
};

static void hear_fact(void *arg, const char *name, const char *text, uint64_t number)
{
	char *to = ((struct told *)arg)->text;
	size_t len = strlen(to);

	if (text)
		snprintf(to + len, 512 - len, "%s=%s ", name, text);
	else
		snprintf(to + len, 512 - len, "%s=%#llx ", name, (unsigned long long)number);
}

static void nodes_are_described_by_whose_they_are(void **state)
{
	struct ground *g = *state;
	struct told told = { "" };
	uint64_t deep = lookup(g, FUSE_ROOT_ID, "deep", 0), b = lookup(g, deep, "b", 0);
	uint64_t tag = b & ~UINT64_C(0xffffffffffffff);
	char expected[128];

	assert_true(g->join->ops->describe(g->session, deep, hear_fact, &told));
	assert_non_null(strstr(told.text, "path=deep "));
	told.text[0] = '\0';
	assert_true(g->join->ops->describe(g->session, tag | 12, hear_fact, &told));
	snprintf(expected, sizeof(expected), "key=file ino=%#llx directory=deep/b ",
		 (unsigned long long)(tag ^ 99));
	assert_string_equal(told.text, expected);
	assert_false(g->join->ops->describe(g->session, tag | 13, hear_fact, &told));
	assert_false(g->join->ops->describe(g->session, 12345, hear_fact, &told));
	assert_false(g->join->ops->describe(g->session, UINT64_C(99) << 56 | 12, hear_fact, &told));
}

static void hear_usage(void *arg, const struct joinfs_usage *usage)
{
	char *to = ((struct told *)arg)->text;
	size_t len = strlen(to);

	snprintf(to + len, 512 - len, "%s %llu %llu %u,", usage->path,
		 (unsigned long long)usage->requests, (unsigned long long)usage->errors,
		 usage->in_flight);
}

static void children_count_what_they_are_asked(void **state)
{
	struct ground *g = *state;
	uint64_t a = lookup(g, FUSE_ROOT_ID, "a", 0);
	struct told told = { "" };
	struct call c, held;

	g->a.result = -ENOENT;
	call_init(&c, FUSE_WRITE, a);
	call(g, &c);
	g->a.result = -EIO;
	call_init(&c, FUSE_WRITE, a);
	call(g, &c);
	g->a.hold = true;
	call_init(&held, FUSE_WRITE, a);
	fs_submit(g->session, &held.req);
	joinfs_each(g->join, hear_usage, &told);
	assert_string_equal(told.text, "a 3 1 1,deep/b 0 0 0,");
	fs_req_complete(g->a.held, 0);
	call_wait(&held);
	joinfs_remove(g->join, &g->b.fs);
	told.text[0] = '\0';
	joinfs_each(g->join, hear_usage, &told);
	assert_string_equal(told.text, "a 4 1 0,");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_session_ends_by_the_removal_of_a_child),
		TEST(the_root_lists_children_and_what_leads_to_them),
		TEST(our_directories_do_not_change),
		TEST(paths_that_collide_are_refused),
		TEST(the_root_of_a_child_has_its_attributes),
		TEST(requests_reach_the_child_in_its_own_numbers),
		TEST(a_negative_entry_stays_one),
		TEST(entries_of_readdirplus_are_marked),
		TEST(two_children_are_two_devices),
		TEST(forgets_go_to_whose_they_are),
		TEST(what_one_child_does_not_know_is_not_lost_to_others),
		TEST(sync_of_the_root_is_sync_of_all),
		TEST(a_removed_child_goes_when_its_last_request_has),
		TEST(directories_of_ours_go_with_the_last_child_in_them),
		TEST(an_old_nodeid_never_names_a_new_child),
		TEST(there_is_room_for_so_many),
		TEST(what_a_later_child_cannot_do_is_not_asked_of_it),
		TEST(children_come_and_go_under_requests),
		TEST(nodes_are_described_by_whose_they_are),
		TEST(children_count_what_they_are_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
