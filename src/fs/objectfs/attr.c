/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes: GETATTR, SETATTR, STATFS.
 *
 * An object has a size and one time. Owner and permissions are the configuration's, links
 * are always one (none, when the name is gone). A directory has nothing that could
 * change, so GETATTR of one asks nobody; that it still exists is LOOKUP's to find out.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

#define ATTR_BLOCK 4096u
/* What df shows as number of files: nobody counts objects. */
#define STATFS_FILES 1000000000u

void attr_valid(uint64_t since_ns, uint64_t timeout_ns, uint64_t *sec, uint32_t *nsec)
{
	uint64_t now = loop_now_ns(), end = since_ns + timeout_ns;
	uint64_t left = since_ns && end > now && end > since_ns ? MIN(end - now, timeout_ns) : 0;

	*sec = left / NSEC_PER_SEC;
	*nsec = (uint32_t)(left % NSEC_PER_SEC);
}

uint64_t attr_since(const struct objectfs *fs)
{
	return objectfs_since(loop_now_ns(), fs->config.attr_timeout_ns);
}

bool attr_fresh(struct objectfs *fs, struct node *n, uint64_t since_ns)
{
	return node_is(n, NODE_DIR) || file_digest(fs, n) || n->fetched_ns >= since_ns;
}

static mode_t attr_mode(const struct objectfs *fs, const struct node *n)
{
	return node_is(n, NODE_DIR) ? S_IFDIR | (fs->config.dir_mode & 07777)
				    : S_IFREG | (fs->config.file_mode & 07777);
}

void attr_fill(struct objectfs *fs, struct node *n, struct fuse_attr *attr)
{
	int64_t sec = n->mtime_ns / (int64_t)NSEC_PER_SEC,
		nsec = n->mtime_ns % (int64_t)NSEC_PER_SEC;

	if (nsec < 0) {
		nsec += (int64_t)NSEC_PER_SEC;
		sec--;
	}
	*attr = (struct fuse_attr){
		.ino = n->ino,
		.size = node_is(n, NODE_DIR) ? 0 : n->size,
		.atime = (uint64_t)sec,
		.mtime = (uint64_t)sec,
		.ctime = (uint64_t)sec,
		.atimensec = (uint32_t)nsec,
		.mtimensec = (uint32_t)nsec,
		.ctimensec = (uint32_t)nsec,
		.mode = attr_mode(fs, n),
		.nlink = node_is(n, NODE_GONE) ? 0 : 1,
		.uid = fs->config.uid,
		.gid = fs->config.gid,
		.blksize = ATTR_BLOCK,
	};
	attr->blocks = (attr->size + 511) / 512;
}

void attr_reply(struct objectfs *fs, struct node *n, struct fuse_attr_out *out)
{
	uint64_t since = n->fetched_ns;

	if (node_is(n, NODE_DIR) || file_digest(fs, n))
		since = loop_now_ns();
	memset(out, 0, sizeof(*out));
	attr_fill(fs, n, &out->attr);
	attr_valid(since, fs->config.attr_timeout_ns, &out->attr_valid, &out->attr_valid_nsec);
}

/*
 * Whoever reads a file by its handle, and has seen data of a version that another client replaced
 * since: -ESTALE, as for a READ. His kernel would take the end of the new version for that of what
 * he reads.
 */
static int getattr_handle(struct objectfs_session *s, const struct fs_req *req)
{
	const struct fuse_getattr_in *in = &req->in.getattr;
	struct objectfs *fs = objectfs_of(s);
	struct cache_file_info info;
	struct cache_file *file;
	struct handle *h;
	int ret = 0;

	h = in->getattr_flags & FUSE_GETATTR_FH ? handle_get(s, in->fh, 0) : NULL;
	if (!h)
		return 0;
	if (atomic_load(&h->delivered) && node_id(h->node) == req->nodeid) {
		file = atomic_load(&h->file);
		cache_file_info(file, &info);
		tree_lock(&fs->tree);
		/* Not so what we removed or renamed over, or are about to. */
		if (info.stale && file != h->node->file && !node_is(h->node, NODE_GONE) &&
		    strcmp(info.etag, h->node->etag) != 0)
			ret = -ESTALE;
		tree_unlock(&fs->tree);
	}
	handle_put(s, h);
	return ret;
}

ssize_t objectfs_getattr(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *n;
	ssize_t ret = 0;

	tree_lock(&fs->tree);
	n = node_get(&fs->tree, req->nodeid);
	if (!n || (node_is(n, NODE_GONE) && !n->opens && !node_is(n, NODE_DIR))) {
		ret = -ESTALE;
	} else if (node_is(n, NODE_GONE) || attr_fresh(fs, n, attr_since(fs))) {
		file_digest(fs, n);
		attr_reply(fs, n, &req->out.attr);
	} else {
		ret = OP_DEFER;
	}
	if (n)
		node_put(&fs->tree, n);
	tree_unlock(&fs->tree);
	return ret ? ret : getattr_handle(s, req);
}

/* The attributes as they are now. An open file whose object is gone has those it had. */
static int getattr_asking(struct objectfs *fs, struct node *n, struct fuse_attr_out *out)
{
	int ret = objectfs_refresh(fs, n, attr_since(fs), NULL);

	tree_lock(&fs->tree);
	if (ret == -ENOENT)
		ret = n->opens ? 0 : -ESTALE;
	if (!ret)
		attr_reply(fs, n, out);
	tree_unlock(&fs->tree);
	return ret;
}

ssize_t objectfs_getattr_slow(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *n = node_get_unlocked(&fs->tree, req->nodeid);
	int ret;

	if (!n)
		return -ESTALE;
	ret = getattr_asking(fs, n, &req->out.attr);
	node_put_unlocked(&fs->tree, n);
	return ret ? ret : getattr_handle(s, req);
}

/* ---- SETATTR ---- */

#define SETATTR_MTIME (FATTR_MTIME | FATTR_MTIME_NOW)

/* Whether what @in asks for beside size and times can be had, and what is left to do:
 * 0 or -EOPNOTSUPP. */
static int setattr_check(const struct objectfs *fs, const struct fuse_setattr_in *in,
			 const struct node *n)
{
	bool changes = false;

	/* A change to what it is already is none: install(1) and tar make many of these. */
	if (in->valid & FATTR_MODE)
		changes |= (in->mode & 07777) != (attr_mode(fs, n) & 07777);
	if (in->valid & FATTR_UID)
		changes |= in->uid != fs->config.uid;
	if (in->valid & FATTR_GID)
		changes |= in->gid != fs->config.gid;
	/* Nothing keeps the times of a directory. */
	if (node_is(n, NODE_DIR))
		changes |= in->valid & SETATTR_MTIME;
	return changes && !fs->config.ignore_unsupported ? -EOPNOTSUPP : 0;
}

/* Seconds that fit into nanoseconds, up to the year 2262: what lies beyond is as far as can be. */
static int64_t setattr_mtime(const struct fuse_setattr_in *in)
{
	const int64_t max = INT64_MAX / (int64_t)NSEC_PER_SEC - 1;
	struct timespec now;
	int64_t sec = (int64_t)in->mtime;

	if (!(in->valid & FATTR_MTIME_NOW)) {
		sec = MAX(MIN(sec, max), -max);
		return sec * (int64_t)NSEC_PER_SEC + MIN(in->mtimensec, 999999999u);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * (int64_t)NSEC_PER_SEC + now.tv_nsec;
}

/* touch(1) opens a file and then sets its time: what was found by the one will do for the other.
 * Longer ago than this, another client may well have changed it. */
#define SETATTR_SEEN_NS NSEC_PER_SEC

static bool setattr_seen(struct objectfs *fs, const struct fuse_setattr_in *in, struct node *n)
{
	bool seen;

	tree_lock(&fs->tree);
	seen = !(in->valid & FATTR_SIZE) && n->opens && n->file &&
	       attr_fresh(fs, n, objectfs_since(loop_now_ns(), SETATTR_SEEN_NS));
	tree_unlock(&fs->tree);
	return seen;
}

/* The cached file that @in is for, with a reference; *@h is its handle or NULL. */
static int setattr_file(struct objectfs_session *s, const struct fuse_setattr_in *in,
			struct node *n, bool known, struct cache_file **file, struct handle **h)
{
	struct objectfs *fs = objectfs_of(s);
	struct objectfs_seen seen;
	int ret;

	*h = NULL;
	if (in->valid & FATTR_FH) {
		*h = handle_get(s, in->fh, HANDLE_WRITE);
		if (!*h)
			return -EBADF;
		*file = cache_file_ref((*h)->file);
		return 0;
	}
	/* What is changed must be what is there, or the commit would fail. */
	ret = known ? 0 : objectfs_refresh(fs, n, loop_now_ns(), &seen);
	if (ret)
		return ret == -ENOENT ? -ESTALE : ret;
	tree_lock(&fs->tree);
	ret = file_get(fs, n, file);
	tree_unlock(&fs->tree);
	if (!ret && !known)
		cache_file_properties(*file, seen.etag, &seen.properties);
	return ret;
}

static int setattr_apply(struct objectfs_session *s, const struct fuse_setattr_in *in,
			 struct node *n, bool known)
{
	struct objectfs *fs = objectfs_of(s);
	struct cache_file *file;
	struct handle *h;
	int ret = setattr_file(s, in, n, known, &file, &h);

	if (ret)
		return ret;
	if (in->valid & FATTR_SIZE)
		ret = cache_truncate(file, in->size);
	if (!ret && (in->valid & SETATTR_MTIME))
		cache_set_mtime(file, setattr_mtime(in));
	cache_file_wrote(file, s->number);
	if (h) {
		handle_changed(s, h);
		handle_put(s, h);
	} else if (!ret && !fs->config.write_back) {
		ret = io_commit(fs, n, file);
	}
	cache_file_put(file);
	tree_lock(&fs->tree);
	file_settle(fs, n);
	tree_unlock(&fs->tree);
	return ret;
}

static int setattr_node(struct objectfs_session *s, struct fs_req *req, struct node *n)
{
	const struct fuse_setattr_in *in = &req->in.setattr;
	struct objectfs *fs = objectfs_of(s);
	struct node *parent;
	bool dir, gone;
	int ret;

	tree_lock(&fs->tree);
	dir = node_is(n, NODE_DIR);
	gone = node_is(n, NODE_GONE);
	ret = setattr_check(fs, in, n);
	parent = node_peek(&fs->tree, n->parent);
	if (parent)
		node_hold(parent);
	tree_unlock(&fs->tree);
	if (!ret && dir && (in->valid & FATTR_SIZE))
		ret = -EISDIR;
	if (!ret && gone && !(in->valid & FATTR_FH))
		ret = -ESTALE;
	if (!ret && !dir && (in->valid & (FATTR_SIZE | SETATTR_MTIME))) {
		bool known;

		tree_change_begin(&fs->tree, parent);
		known = setattr_seen(fs, in, n);
		ret = setattr_apply(s, in, n, known);
		if (ret == -ESTALE && known)
			ret = setattr_apply(s, in, n, false);
		tree_change_end(&fs->tree, parent);
	}
	if (parent)
		node_put_unlocked(&fs->tree, parent);
	return ret;
}

ssize_t objectfs_setattr(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *n = node_get_unlocked(&fs->tree, req->nodeid);
	int ret;

	if (!n)
		return -ESTALE;
	ret = setattr_node(s, req, n);
	if (!ret)
		ret = getattr_asking(fs, n, &req->out.attr);
	node_put_unlocked(&fs->tree, n);
	return ret;
}

ssize_t objectfs_statfs(struct objectfs_session *s, struct fs_req *req)
{
	const struct objectfs *fs = objectfs_of(s);
	uint64_t blocks = fs->config.statfs_size / ATTR_BLOCK;

	req->out.statfs = (struct fuse_kstatfs){
		.blocks = blocks,
		.bfree = blocks,
		.bavail = blocks,
		.files = STATFS_FILES,
		.ffree = STATFS_FILES,
		.bsize = ATTR_BLOCK,
		.frsize = ATTR_BLOCK,
		.namelen = NAME_MAX,
	};
	return 0;
}
