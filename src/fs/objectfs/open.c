/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files: OPEN, CREATE, FLUSH, RELEASE, FSYNC, and the table of handles.
 *
 * OPEN sees what other clients did before it: where data of the object is cached, or it is
 * opened to be changed, a STAT asks whether it is still the same (where nobody else changes the
 * bucket, what is cached is believed for open_timeout_ns). Where nothing is cached, and what
 * is known is not older than the attribute time-out, it costs nothing: there the first GET asks,
 * being conditional on the version. An old belief makes it fail, and READ sorts that out
 * (io.c). Files with changes of ours are what they are; and when the storage does not answer,
 * what is cached of a file is opened as it was last seen.
 *
 * A handle through which something was changed has its file committed at FLUSH, that is before
 * close() returns, and tells the error; with write-back FLUSH only tells what went wrong in the
 * background since.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

/* known.version: what the cache counts, and above it what node.writes counts. */
#define VERSION_BITS 44
#define WRITES_MASK ((1u << (64 - VERSION_BITS)) - 1)

/* ---- Handles ---- */

int handle_add(struct objectfs_session *s, struct node *node, struct cache_file *file,
	       struct dirstream *dir, unsigned flags, uint64_t *fh)
{
	struct tree *t = &objectfs_of(s)->tree;
	struct handle *h = slot_alloc(&s->handles);

	if (!h)
		return -ENFILE;
	h->stream = NULL;
	if (flags & HANDLE_READ) {
		h->stream = cache_stream_new();
		if (!h->stream) {
			slot_free(&s->handles, h);
			return -ENOMEM;
		}
	}
	h->flags = flags;
	h->node = node;
	atomic_store(&h->file, file);
	h->former = NULL;
	h->dir = dir;
	h->error_seen = 0;
	atomic_store(&h->changed, false);
	atomic_store(&h->delivered, false);
	if (file)
		cache_file_error(file, &h->error_seen); /* what is old news */
	tree_lock(t);
	node_hold(node);
	node->opens++;
	/* Since the caller got the file, somebody may have looked at the node, found it closed and
	 * clean, and let go of it: file_digest(). */
	if (file && !node->file)
		node->file = cache_file_ref(file);
	tree_unlock(t);
	*fh = slot_id(h);
	slot_publish(h);
	return 0;
}

struct handle *handle_get(struct objectfs_session *s, uint64_t fh, unsigned flags)
{
	struct handle *h = slot_get(&s->handles, fh);

	if (!h)
		return NULL;
	if ((h->flags & flags) != flags || (h->flags & HANDLE_DIR) != (flags & HANDLE_DIR)) {
		handle_put(s, h);
		return NULL;
	}
	return h;
}

/* Gives back what a handle holds. Nobody else uses it. */
static void handle_teardown(struct objectfs_session *s, struct handle *h)
{
	struct objectfs *fs = objectfs_of(s);
	struct cache_file *file = atomic_load(&h->file);

	cache_stream_free(h->stream);
	if (h->dir)
		dirstream_free(fs, h->dir);
	tree_lock(&fs->tree);
	h->node->opens--;
	if (!node_is(h->node, NODE_DIR))
		file_settle(fs, h->node);
	node_put(&fs->tree, h->node);
	tree_unlock(&fs->tree);
	if (file)
		cache_file_put(file);
	if (h->former)
		cache_file_put(h->former);
}

void handle_put(struct objectfs_session *s, struct handle *h)
{
	if (slot_put(h)) {
		handle_teardown(s, h);
		slot_free(&s->handles, h);
	}
}

bool handle_release(struct objectfs_session *s, uint64_t fh, bool dir)
{
	struct handle *h = handle_get(s, fh, dir ? HANDLE_DIR : 0);
	bool killed;

	if (!h)
		return false;
	killed = slot_kill(h, fh);
	if (killed)
		handle_put(s, h);
	handle_put(s, h);
	return killed;
}

void handles_fini(struct objectfs_session *s)
{
	uint32_t used = atomic_load(&s->handles.used);

	for (uint32_t i = 1; i < used; i++) {
		struct handle *h = slot_peek(&s->handles, i);

		if (slot_live(h))
			handle_teardown(s, h);
	}
	slots_fini(&s->handles);
}

void handle_changed(struct objectfs_session *s, struct handle *h)
{
	struct tree *t = &objectfs_of(s)->tree;

	cache_file_wrote(atomic_load_explicit(&h->file, memory_order_relaxed), s->number);
	if (atomic_load_explicit(&h->changed, memory_order_relaxed))
		return;
	atomic_store(&h->changed, true);
	tree_lock(t);
	if (h->node->writer != s->number) {
		struct known *k = session_known(s, h->node);

		/* To its own guest it is no news. */
		if (k && k->version >> VERSION_BITS == (h->node->writes & WRITES_MASK))
			k->version += 1ull << VERSION_BITS;
		h->node->writer = s->number;
		h->node->writes++;
	}
	tree_unlock(t);
}

/* ---- OPEN ---- */

static unsigned open_handle_flags(uint32_t flags)
{
	unsigned h = 0;

	if ((flags & O_ACCMODE) != O_WRONLY)
		h |= HANDLE_READ;
	if ((flags & O_ACCMODE) != O_RDONLY)
		h |= HANDLE_WRITE;
	if (flags & O_APPEND)
		h |= HANDLE_APPEND;
	if (flags & (O_SYNC | O_DSYNC))
		h |= HANDLE_SYNC;
	return h;
}

static bool open_changes(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/*
 * May the guest keep the pages that it has of this file? If it is the same version that it opened
 * last, or has no other changes on it than the guest's own. tree.lock is held.
 */
static bool open_version_same(struct objectfs_session *s, struct node *n,
			      const struct cache_file_info *info)
{
	struct known *k = session_known(s, n);
	uint64_t etag = 0, version;
	bool same;

	if (!k)
		return false;
	if (!info->dirty && *info->etag)
		etag = name_hash(info->etag, strlen(info->etag), 1) | 1;
	version = (uint64_t)n->writes << VERSION_BITS | info->version;
	same = k->version == version || (etag && k->etag == etag);
	k->version = version;
	k->etag = etag;
	/* Whoever writes next makes it another one for this session, if he is not of it. */
	if (n->writer != s->number)
		n->writer = 0;
	return same;
}

/* A handle for @n, which is a file that is there: as it was @seen, or NULL. *@reply is filled in.
 */
static int open_node(struct objectfs_session *s, struct node *n, uint32_t flags,
		     const struct objectfs_seen *seen, struct fuse_open_out *reply,
		     struct cache_file **opened)
{
	struct objectfs *fs = objectfs_of(s);
	struct cache_file_info info;
	struct cache_file *file;
	int ret, failed = 0;

	tree_lock(&fs->tree);
	ret = file_get(fs, n, &file);
	if (!ret) {
		cache_file_info(file, &info);
		*reply = (struct fuse_open_out){ 0 };
		if (open_version_same(s, n, &info))
			reply->open_flags |= FOPEN_KEEP_CACHE;
		/* FLUSH is there to commit. */
		if (!open_changes(flags))
			reply->open_flags |= FOPEN_NOFLUSH;
		if (fs->config.write_back && open_changes(flags))
			failed = cache_file_error(file, &n->error_seen);
	}
	tree_unlock(&fs->tree);
	if (ret)
		return ret;
	if (seen)
		cache_file_properties(file, seen->etag, &seen->properties);
	ret = failed;
	if (!ret)
		ret = handle_add(s, n, file, NULL, open_handle_flags(flags), &reply->fh);
	if (ret) {
		tree_lock(&fs->tree);
		file_settle(fs, n);
		tree_unlock(&fs->tree);
		cache_file_put(file);
		return ret;
	}
	*opened = file;
	return 0;
}

/* Since when what is known of @n must be known, to open it. tree.lock is held. */
static uint64_t open_since(struct objectfs *fs, struct node *n, uint32_t flags)
{
	if (open_changes(flags))
		return loop_now_ns();
	return file_cached(fs, n) ? objectfs_since(loop_now_ns(), fs->config.open_timeout_ns)
				  : attr_since(fs);
}

ssize_t objectfs_open(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	uint32_t flags = req->in.open.flags;
	struct cache_file *file;
	struct node *n;
	ssize_t ret = 0;

	if (fs->config.readonly && open_changes(flags))
		return -EROFS;
	tree_lock(&fs->tree);
	n = node_get(&fs->tree, req->nodeid);
	if (!n || node_is(n, NODE_GONE))
		ret = -ESTALE;
	else if (node_is(n, NODE_DIR))
		ret = -EISDIR;
	else if ((flags & O_TRUNC) || !attr_fresh(fs, n, open_since(fs, n, flags)))
		ret = OP_DEFER;
	tree_unlock(&fs->tree);
	if (!ret)
		ret = open_node(s, n, flags, NULL, &req->out.open, &file);
	if (n)
		node_put_unlocked(&fs->tree, n);
	return ret;
}

/* Opens and cuts. */
static int open_truncating(struct objectfs_session *s, struct node *n, uint32_t flags,
			   const struct objectfs_seen *seen, struct fuse_open_out *reply)
{
	struct cache_file *file;
	struct handle *h;
	int ret = open_node(s, n, flags, seen, reply, &file);

	if (ret || !(flags & O_TRUNC))
		return ret;
	h = handle_get(s, reply->fh, 0);
	if (!h)
		return -EIO;
	ret = cache_truncate(file, 0);
	if (!ret)
		handle_changed(s, h);
	handle_put(s, h);
	if (ret)
		handle_release(s, reply->fh, false);
	return ret;
}

/* objectfs_refresh(); when the storage does not answer, what is cached is as it was last seen. */
static int open_refresh(struct objectfs *fs, struct node *n, uint64_t since,
			struct objectfs_seen *seen)
{
	int ret = objectfs_refresh(fs, n, since, seen);

	if (ret == -EIO || ret == -ETIMEDOUT) {
		tree_lock(&fs->tree);
		ret = file_cached(fs, n) ? 0 : ret;
		tree_unlock(&fs->tree);
	}
	return ret;
}

ssize_t objectfs_open_slow(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *n = node_get_unlocked(&fs->tree, req->nodeid);
	struct objectfs_seen seen;
	uint64_t since;
	int ret;

	if (!n)
		return -ESTALE;
	tree_lock(&fs->tree);
	since = node_is(n, NODE_GONE) ? 0 : open_since(fs, n, req->in.open.flags);
	tree_unlock(&fs->tree);
	ret = open_refresh(fs, n, since, &seen);
	if (!ret)
		ret = open_truncating(s, n, req->in.open.flags, &seen, &req->out.open);
	else if (ret == -ENOENT)
		ret = -ESTALE; /* the guest looks the name up once more, then */
	node_put_unlocked(&fs->tree, n);
	return ret;
}

/* ---- CREATE ---- */

static int create_existing(struct objectfs_session *s, struct fs_req *req, struct node *n)
{
	struct objectfs *fs = objectfs_of(s);
	uint32_t flags = req->in.create.flags;
	struct objectfs_seen seen;
	bool dir;
	int ret;

	tree_lock(&fs->tree);
	dir = node_is(n, NODE_DIR);
	tree_unlock(&fs->tree);
	if (flags & O_EXCL)
		return -EEXIST;
	if (dir)
		return -EISDIR;
	ret = open_refresh(fs, n, loop_now_ns(), &seen);
	return ret ? ret : open_truncating(s, n, flags, &seen, &req->out.open);
}

static int create_new(struct objectfs_session *s, struct fs_req *req, struct node *parent,
		      struct node **out)
{
	struct objectfs *fs = objectfs_of(s);
	struct cache_file *file;
	struct handle *h;
	int ret = change_create(fs, parent, req->name, out, &file);

	if (ret)
		return ret;
	req->out.open = (struct fuse_open_out){ 0 };
	ret = handle_add(s, *out, file, NULL, open_handle_flags(req->in.create.flags),
			 &req->out.open.fh);
	if (ret) {
		cache_file_put(file);
		tree_lock(&fs->tree);
		file_settle(fs, *out);
		node_put(&fs->tree, *out);
		tree_unlock(&fs->tree);
		return ret;
	}
	h = handle_get(s, req->out.open.fh, 0);
	if (h) {
		handle_changed(s, h); /* that it exists is to be committed */
		handle_put(s, h);
	}
	return 0;
}

static int create_in(struct objectfs_session *s, struct fs_req *req, struct node *parent,
		     struct node **out)
{
	struct objectfs *fs = objectfs_of(s);
	int ret = -EEXIST;

	/* Twice: it may appear, or go, between question and answer. */
	for (unsigned i = 0; i < 2; i++) {
		ret = objectfs_find(fs, parent, req->name, lookup_create_ns(fs), out);
		if (!ret) {
			ret = create_existing(s, req, *out);
			if (ret)
				node_put_unlocked(&fs->tree, *out);
			if (ret != -ENOENT)
				return ret;
		} else if (ret == -ENOENT) {
			ret = create_new(s, req, parent, out);
			if (ret != -EEXIST)
				return ret;
		} else {
			return ret;
		}
	}
	return ret;
}

ssize_t objectfs_create(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *parent = node_get_unlocked(&fs->tree, req->nodeid), *n;
	int ret;

	if (!parent)
		return -ESTALE;
	ret = tree_names_begin(&fs->tree, parent, NULL);
	if (!ret) {
		ret = create_in(s, req, parent, &n);
		tree_names_end(&fs->tree, parent, NULL);
	}
	if (!ret) {
		tree_lock(&fs->tree);
		ret = lookup_reply(s, n, &req->out.entry);
		node_put(&fs->tree, n);
		tree_unlock(&fs->tree);
		if (ret)
			handle_release(s, req->out.open.fh, false);
	}
	node_put_unlocked(&fs->tree, parent);
	return ret;
}

/* ---- FLUSH, RELEASE, FSYNC ---- */

ssize_t objectfs_flush(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct handle *h = handle_get(s, req->in.flush.fh, 0);
	ssize_t ret = 0;

	if (!h)
		return -EBADF;
	if (fs->config.write_back && (h->flags & HANDLE_WRITE)) {
		tree_lock(&fs->tree);
		ret = cache_file_error(atomic_load(&h->file), &h->error_seen);
		tree_unlock(&fs->tree);
		atomic_store(&h->changed, false);
	} else if (atomic_load(&h->changed) || window_left_dirty(s, h)) {
		ret = OP_DEFER;
	}
	handle_put(s, h);
	return ret;
}

/* Commits what was changed through @h, while its directory is not being renamed. */
static int handle_commit(struct objectfs_session *s, struct handle *h)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *parent;
	int ret;

	tree_lock(&fs->tree);
	parent = node_peek(&fs->tree, h->node->parent);
	node_hold(parent);
	tree_unlock(&fs->tree);
	tree_change_begin(&fs->tree, parent);
	atomic_store(&h->changed, false); /* what is written from now on counts again */
	ret = io_commit(fs, h->node, atomic_load(&h->file));
	tree_change_end(&fs->tree, parent);
	node_put_unlocked(&fs->tree, parent);
	return ret;
}

ssize_t objectfs_flush_slow(struct objectfs_session *s, struct fs_req *req)
{
	struct handle *h = handle_get(s, req->in.flush.fh, 0);
	int ret = 0;

	if (!h)
		return -EBADF;
	if (atomic_load(&h->changed) || window_left_dirty(s, h))
		ret = handle_commit(s, h);
	handle_put(s, h);
	return ret;
}

ssize_t objectfs_release(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct handle *h = handle_get(s, req->in.release.fh, 0);
	bool commit;

	if (!h)
		return -EBADF;
	/* Written after the last FLUSH: a shared mapping. */
	commit = !fs->config.write_back && atomic_load(&h->changed);
	handle_put(s, h);
	if (commit)
		return OP_DEFER;
	file_reap(fs);
	return handle_release(s, req->in.release.fh, false) ? 0 : -EBADF;
}

ssize_t objectfs_release_slow(struct objectfs_session *s, struct fs_req *req)
{
	struct handle *h = handle_get(s, req->in.release.fh, 0);

	if (h) {
		/* Nobody hears of an error; the data stays, and the cache keeps trying. */
		handle_commit(s, h);
		handle_put(s, h);
	}
	return handle_release(s, req->in.release.fh, false) ? 0 : -EBADF;
}

ssize_t objectfs_fsync(struct objectfs_session *s, struct fs_req *req)
{
	struct handle *h = handle_get(s, req->in.fsync.fh, 0);
	int ret;

	if (!h)
		return -EBADF;
	ret = handle_commit(s, h);
	handle_put(s, h);
	return ret;
}

/* Names are in the storage when the operation that made them returned; those of files, when the
 * file is. */
ssize_t objectfs_fsyncdir(struct objectfs_session *s, struct fs_req *req)
{
	struct handle *h = handle_get(s, req->in.fsync.fh, HANDLE_DIR);

	if (!h)
		return -EBADF;
	handle_put(s, h);
	return 0;
}
