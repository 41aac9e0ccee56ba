/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a request is, and what is answered here.
 *
 * A request for a child goes the way it would go without us: the nodeids in it lose their
 * mark, the child's session gets it, and on its way back it passes join_complete(), which
 * marks the nodeid and inode number of the reply and counts the request out. (READDIR and
 * READDIRPLUS have some for each entry: fs_dirent_add() marks these.) No copy, no other thread.
 *
 * Our own directories are read-only, change only with the configuration, and are answered
 * at once.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/joinfs/internal.h"

/* ---- To a child and back ---- */

/* What the guest gets for an operation that its storage does not know. ENOSYS would have the
 * guest's kernel never ask any of the children again. */
static ssize_t join_unsupported(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_ACCESS: /* default_permissions has checked */
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
		return 0; /* what the kernel makes of it */
	case FUSE_LSEEK:
	case FUSE_STATX:
	case FUSE_COPY_FILE_RANGE_64:
		return -ENOSYS; /* there is another way, which serves all as well */
	default:
		return -EOPNOTSUPP;
	}
}

/* Nodeids and inode numbers of the reply become ours. */
static void join_mark(struct fs_req *req)
{
	switch (req->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		if (!req->out.entry.nodeid) /* a negative entry */
			return;
		req->out.entry.nodeid |= req->nodeid_tag;
		req->out.entry.attr.ino ^= req->nodeid_tag;
		return;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		req->out.attr.attr.ino ^= req->nodeid_tag;
		return;
	case FUSE_STATX:
		req->out.statx.stat.ino ^= req->nodeid_tag;
		return;
	default:
		return;
	}
}

/* Takes the request back from the child, as the caller of fs_submit() had it. */
static void join_take_back(struct fs_req *req)
{
	struct view *view = req->outer.ctx;

	req->nodeid |= req->nodeid_tag;
	req->nodeid_tag = 0;
	/* The child's may be gone as soon as we have left. */
	req->session = view->outer;
	req->complete = req->outer.complete;
	view_leave(view);
}

static void join_complete(struct fs_req *req, ssize_t result)
{
	if (result == -ENOSYS)
		result = join_unsupported(req->opcode);
	if (result >= 0)
		join_mark(req);
	joinfs_count(((struct view *)req->outer.ctx)->child, result);
	join_take_back(req);
	req->complete(req, result);
}

/* @view is entered. */
static ssize_t join_hand_over(struct view *view, struct fs_req *req,
			      void (*complete)(struct fs_req *req, ssize_t result))
{
	req->nodeid_tag = req->nodeid & ~NODEID_MASK;
	req->nodeid &= NODEID_MASK;
	req->outer.complete = req->complete;
	req->outer.ctx = view;
	req->complete = complete;
	fs_submit(view->session, req);
	return FS_PENDING;
}

/* The second nodeid of a request loses its mark. -EXDEV when it is another child's. */
static int join_second(const struct fs_req *req, uint64_t *nodeid)
{
	if (nodeid_child(*nodeid) != nodeid_child(req->nodeid))
		return -EXDEV;
	*nodeid &= NODEID_MASK;
	return 0;
}

static int join_translate(struct fs_req *req)
{
	switch (req->opcode) {
	case FUSE_RENAME:
	case FUSE_RENAME2:
		return join_second(req, &req->in.rename.newdir);
	case FUSE_LINK:
		return join_second(req, &req->in.link.oldnodeid);
	case FUSE_COPY_FILE_RANGE:
	case FUSE_COPY_FILE_RANGE_64:
		return join_second(req, &req->in.copy_file_range.nodeid_out);
	default:
		return 0;
	}
}

/* ---- LOOKUP of a child's root ---- */

/* GETATTR of the root becomes the reply to LOOKUP. */
static void lookup_complete(struct fs_req *req, ssize_t result)
{
	struct fuse_attr_out attr;

	req->opcode = FUSE_LOOKUP;
	if (result >= 0) {
		attr = req->out.attr;
		req->out.entry = (struct fuse_entry_out){
			.nodeid = req->nodeid_tag | FUSE_ROOT_ID,
			.entry_valid = JOINFS_VALID_S,
			.attr_valid = attr.attr_valid,
			.attr_valid_nsec = attr.attr_valid_nsec,
			.attr = attr.attr,
		};
		req->out.entry.attr.ino ^= req->nodeid_tag;
	}
	joinfs_count(((struct view *)req->outer.ctx)->child, result);
	join_take_back(req);
	req->complete(req, result);
}

/* @view is entered. */
static ssize_t lookup_root(struct view *view, unsigned child, struct fs_req *req)
{
	req->opcode = FUSE_GETATTR;
	req->nodeid = (uint64_t)child << NODEID_TAG_SHIFT | FUSE_ROOT_ID;
	req->in.getattr = (struct fuse_getattr_in){ 0 };
	return join_hand_over(view, req, lookup_complete);
}

/* The first of this guest into the child. On a worker: the storage may not answer. */
static void lookup_first(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);
	struct joinfs_session *s = joinfs_session_of(req->session);
	unsigned child = *(const unsigned *)(const void *)req->driver;
	int ret = view_make(s, child);
	struct view *view = ret < 0 ? NULL : view_enter(s, child);

	if (view)
		lookup_root(view, child, req);
	else
		fs_req_complete(req, ret < 0 ? ret : -ENOENT);
}

/* ---- Our own directories ---- */

static void dir_attr(struct joinfs *join, uint64_t nodeid, struct fuse_attr *attr)
{
	uint64_t sec = (uint64_t)join->changed.tv_sec;
	uint32_t nsec = (uint32_t)join->changed.tv_nsec;

	*attr = (struct fuse_attr){
		.ino = nodeid,
		.atime = sec,
		.mtime = sec,
		.ctime = sec,
		.atimensec = nsec,
		.mtimensec = nsec,
		.ctimensec = nsec,
		.mode = S_IFDIR | 0755,
		.nlink = 2,
		.blksize = 4096,
	};
}

static ssize_t dir_lookup(struct joinfs_session *s, struct fs_req *req)
{
	struct joinfs *join = joinfs_of(&s->session);
	struct entry *e;
	struct view *view;
	unsigned child;

	pthread_mutex_lock(&join->lock);
	e = joinfs_find(join, req->nodeid, req->name, strlen(req->name));
	child = e ? e->child : 0;
	if (child) /* stays while we look */
		atomic_fetch_add_explicit(&join->children[child].views, 1, memory_order_relaxed);
	if (e && !child) {
		req->out.entry.nodeid = e->id;
		req->out.entry.entry_valid = req->out.entry.attr_valid = JOINFS_VALID_S;
		dir_attr(join, e->id, &req->out.entry.attr);
	}
	pthread_mutex_unlock(&join->lock);
	if (!child)
		return e ? 0 : -ENOENT;
	view = view_enter(s, child);
	if (!view) {
		memcpy(req->driver, &child, sizeof(child));
		fs_req_defer(req, join->workers, lookup_first);
		return FS_PENDING;
	}
	atomic_fetch_sub_explicit(&join->children[child].views, 1, memory_order_release);
	return lookup_root(view, child, req);
}

static bool dir_put(struct fs_req *req, size_t *used, const struct entry *e)
{
	static const struct fuse_entry_out unknown;
	size_t len = strlen(e->name);

	if (req->opcode == FUSE_READDIR)
		return fs_dirent_add(req, used, e->id, e->id, S_IFDIR >> 12, e->name, len);
	return fs_direntplus_add(req, used, &unknown, e->id, e->id, S_IFDIR >> 12, e->name, len);
}

/* The cookie of an entry is its id: they grow, and are never the same twice. */
static ssize_t dir_readdir(struct joinfs_session *s, struct fs_req *req)
{
	struct joinfs *join = joinfs_of(&s->session);
	size_t used = 0;
	struct list *pos;
	bool full = false;

	pthread_mutex_lock(&join->lock);
	list_for_each (pos, &join->entries) {
		struct entry *e = list_entry(pos, struct entry, link);

		if (e->parent != req->nodeid || e->id <= req->in.read.offset)
			continue;
		full = !dir_put(req, &used, e);
		if (full)
			break;
	}
	pthread_mutex_unlock(&join->lock);
	return full && !used ? -EINVAL : (ssize_t)used;
}

static ssize_t dir_getattr(struct joinfs_session *s, struct fs_req *req)
{
	struct joinfs *join = joinfs_of(&s->session);
	bool there;

	pthread_mutex_lock(&join->lock);
	there = joinfs_is_dir(join, req->nodeid);
	if (there)
		dir_attr(join, req->nodeid, &req->out.attr.attr);
	pthread_mutex_unlock(&join->lock);
	req->out.attr.attr_valid = JOINFS_VALID_S;
	return there ? 0 : -ESTALE;
}

/* A name in one of ours is to be changed. */
static ssize_t dir_change(struct joinfs_session *s, struct fs_req *req)
{
	struct joinfs *join = joinfs_of(&s->session);
	bool there;

	pthread_mutex_lock(&join->lock);
	there = joinfs_find(join, req->nodeid, req->name, strlen(req->name)) != NULL;
	pthread_mutex_unlock(&join->lock);
	return there ? -EBUSY : -ENOENT;
}

/* What ends when all children have been told to write what they hold back. */
struct sync_all {
	struct fs_req *req;
	atomic_uint left;
	atomic_int error;
	struct fs_req subs[];
};

static void sync_one_done(struct sync_all *all)
{
	struct fs_req *req = all->req;
	int error;

	if (atomic_fetch_sub(&all->left, 1) != 1)
		return;
	error = atomic_load(&all->error);
	free(all);
	fs_req_complete(req, error);
}

static void sync_complete(struct fs_req *sub, ssize_t result)
{
	struct sync_all *all = sub->outer.arg;
	int none = 0;

	if (result < 0 && result != -ENOSYS)
		atomic_compare_exchange_strong(&all->error, &none, (int)result);
	view_leave(sub->outer.ctx);
	sync_one_done(all);
}

/* Of the root: all that this guest has looked into, at the same time, so that a storage which
 * does not answer holds up no other. */
static ssize_t dir_syncfs(struct joinfs_session *s, struct fs_req *req)
{
	struct view *views[JOINFS_CHILDREN_MAX];
	struct sync_all *all;
	unsigned count = 0;

	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++) {
		views[count] = view_enter(s, n);
		count += views[count] != NULL;
	}
	all = calloc(1, sizeof(*all) + count * sizeof(struct fs_req));
	if (!all) {
		while (count)
			view_leave(views[--count]);
		return -ENOMEM;
	}
	all->req = req;
	atomic_init(&all->left, count + 1);
	for (unsigned i = 0; i < count; i++) {
		struct fs_req *sub = &all->subs[i];

		sub->opcode = FUSE_SYNCFS;
		sub->nodeid = FUSE_ROOT_ID;
		sub->uid = req->uid;
		sub->gid = req->gid;
		sub->pid = req->pid;
		sub->complete = sync_complete;
		sub->outer.ctx = views[i];
		sub->outer.arg = all;
		fs_submit(views[i]->session, sub);
	}
	sync_one_done(all);
	return FS_PENDING;
}

static ssize_t dir_op(struct joinfs_session *s, struct fs_req *req)
{
	switch (req->opcode) {
	case FUSE_LOOKUP:
		return dir_lookup(s, req);
	case FUSE_GETATTR:
		return dir_getattr(s, req);
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return dir_readdir(s, req);
	case FUSE_STATFS:
		req->out.statfs.bsize = req->out.statfs.frsize = 4096;
		req->out.statfs.namelen = NAME_MAX;
		return 0;
	case FUSE_SYNCFS:
		return dir_syncfs(s, req);
	case FUSE_OPENDIR:
	case FUSE_RELEASEDIR:
	case FUSE_RELEASE:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_ACCESS:
		return 0;
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		return dir_change(s, req);
	case FUSE_SETATTR:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
	case FUSE_RENAME:
	case FUSE_RENAME2:
		return -EROFS;
	case FUSE_OPEN:
	case FUSE_READ:
	case FUSE_WRITE:
		return -EISDIR;
	default:
		return join_unsupported(req->opcode);
	}
}

/* ---- FORGET ---- */

static void forgotten(struct fs_req *req, ssize_t result)
{
	(void)req;
	(void)result;
}

/* Our own directories and the roots of children are not counted. */
static void join_forget_one(struct joinfs_session *s, uint64_t nodeid, uint64_t nlookup)
{
	struct view *view;
	struct fs_req sub;

	if ((nodeid & NODEID_MASK) == FUSE_ROOT_ID || !nodeid_child(nodeid))
		return;
	view = view_enter(s, nodeid_child(nodeid));
	if (!view)
		return;
	memset(&sub, 0, sizeof(sub));
	sub.opcode = FUSE_FORGET;
	sub.nodeid = nodeid & NODEID_MASK;
	sub.in.forget.nlookup = nlookup;
	sub.complete = forgotten;
	fs_submit(view->session, &sub); /* at once: fs.h */
	view_leave(view);
}

static ssize_t join_batch_forget(struct joinfs_session *s, struct fs_req *req)
{
	struct iov_cursor c = req->data;
	struct fuse_forget_one one;

	for (uint32_t i = 0; i < req->in.batch_forget.count; i++) {
		if (iov_read(&c, &one, sizeof(one)) != sizeof(one))
			break;
		join_forget_one(s, one.nodeid, one.nlookup);
	}
	return 0;
}

/* ---- The driver ---- */

static ssize_t joinfs_any(struct fs_session *session, struct fs_req *req)
{
	struct joinfs_session *s = joinfs_session_of(session);
	unsigned child = nodeid_child(req->nodeid);
	struct view *view;
	int ret;

	/* A batch has nodeids of all children, and none of its own. */
	if (req->opcode == FUSE_BATCH_FORGET)
		return join_batch_forget(s, req);
	if (req->opcode == FUSE_FORGET) {
		join_forget_one(s, req->nodeid, req->in.forget.nlookup);
		return 0;
	}
	if (!child)
		return dir_op(s, req);
	ret = join_translate(req);
	if (ret < 0)
		return ret;
	view = view_enter(s, child);
	if (!view)
		return -ESTALE;
	return join_hand_over(view, req, join_complete);
}

const struct fs_ops joinfs_ops = {
	.name = "joinfs",
	.sync_at_unmount = true,
	.window = &joinfs_window_ops,
	.init_flags = joinfs_init_flags,
	.session_new = joinfs_session_new,
	.session_free = joinfs_session_free,
	.session_interrupt = joinfs_session_interrupt,
	.describe = joinfs_describe,
	.op = {
		[FUSE_LOOKUP ... FUSE_OPCODE_COUNT - 1] = joinfs_any,
	},
	.free = joinfs_free,
};
