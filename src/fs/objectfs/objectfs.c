/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * ===================
 *
 * A bucket has no directories, only objects under keys. The tree that a guest sees is made of
 * these: the key of a file is its path without the leading slash; a directory is what keys
 * have in common up to a slash, or an empty object (marker) whose key ends in one. What this
 * driver keeps in memory is what the storage said, with the time at which it said so, and what
 * the guests changed and the storage does not have yet. Nothing of it is stored.
 *
 *	node.c		the tree: names, attributes, nodeids; who may change what at one time
 *	claim.c		names that are being changed while others ask for them
 *	names.c		which keys a path can name; inode numbers
 *	listing.c	pages of listings, and what they answer; listing_fetch.c makes them
 *	lookup.c	from names to nodes, asking as little as possible
 *	file.c		nodes and the cached files (cache/cache.h) behind them
 *	session.c	lookup counts of a guest
 *	dir.c attr.c open.c io.c change*.c rename*.c move.c	the operations
 *
 * Semantics
 * ---------
 * - A directory without a marker is one as long as something is below it. When its last entry is
 *   removed through us it gets a marker.
 * - An object "a" beside keys "a/...": the directory is shown, once, and the log says so.
 * - Keys that no path can name (empty component, ".", "..", longer than NAME_MAX) are not shown,
 *   counted, and named in the log once.
 * - Another client's changes show when what is known gets older than the time-outs, and at open.
 *   The guest is told to believe for the rest of that time only. An open file keeps its
 *   version: a READ of what is not cached of it, when it has been replaced or
 *   removed, is ESTALE. So is GETATTR by a handle that has read of a version that was replaced, and
 *   the commit of changes to a file that somebody else changed.
 * - A new file is there for everybody who mounts through this host at once, and in the storage
 *   when it was committed: at close, or some time later with write-back, then by fsync at the
 * latest. O_EXCL excludes others on this host; between hosts the first commit wins, and the other
 *   gets an error when it commits.
 * - A file that is unlinked while it is open can be read as far as it is cached; what was written
 *   and not committed is.
 * - Modification times are the object's x-amz-meta-mtime where it is known (from a STAT, or
 *   because it was set through us), otherwise its Last-Modified. Listings tell only the latter.
 *   Owner, group and mode are the configuration's.
 * - rename is not atomic in the storage: for a moment, both are there. Not so for its
 *   callers on this host. More than rename_max objects: EXDEV, upon which mv(1) copies.
 * - When the storage does not answer, requests fail with EIO or ETIMEDOUT after its time-outs; but
 *   what is cached can be looked up, opened and read, and written with write-back.
 * - No link, symlink, device, xattr, chmod, chown: EOPNOTSUPP (chmod, chown and times of
 *   directories: success without effect where the configuration says ignore_unsupported).
 *
 * Requests
 * --------
 * What is fresh in memory costs nothing. Otherwise:
 *
 *	LOOKUP		STAT and LIST (1 row) in parallel; one of them for what was known before;
 *			many in one directory: a LIST for a thousand (burst.h)
 *	GETATTR		STAT
 *	OPEN		STAT when something of the file is cached, or it is opened to be written;
 *			else its first GET is the question (open.c)
 *	READDIR(PLUS)	LIST for each 1000 entries
 *	SETATTR		of the time: COPY, after a STAT, unless an OPEN has just made it
 *	CREATE		none; the commit: one PUT up to two parts, else a session
 *	MKDIR		PUT
 *	UNLINK		DELETE; LIST once in a while in a directory without a marker
 *	RMDIR		LIST, DELETE
 *	RENAME		COPY and DELETE for each object, deletes in batches; none for a file that
 *			was never committed
 *
 * Threads
 * -------
 * An operation first runs on the queue's thread and answers if it can from memory. What
 * asks the storage returns OP_DEFER and runs on a worker, as straight-line code over
 * store_call(), which returns, with an error if need be, after the time-outs of the store's
 * layers: so no request waits for ever, and there is nothing to interrupt. There are four pools,
 * so that none can use up the threads of another: the mount's workers for questions (ls goes
 * on whatever the others wait for), changers for changes of names, which may wait for a directory
 * that is being renamed, writers for WRITEs that wait for room, syncers for commits.
 *
 * Locks, outermost first: tree.rename_lock (renames of directories, during all of it); the right to
 * change in a directory (tree_names_begin(), tree_change_begin()); dirstream.lock (one READDIR at a
 * time of one handle); tree.lock; the cache's. Only the first three are held during requests to the
 * storage. Who only asks takes none of them; claim.h says how a question gets along with a change
 * that is under way at the same time.
 */
#include "fs/objectfs/objectfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

/* Threads start when they are needed. */
#define CHANGERS_MAX 16u
#define WRITERS_MAX 16u
#define SYNCERS_MAX 32u

enum op_pool { POOL_WORKERS, POOL_CHANGERS, POOL_WRITERS, POOL_SYNCERS };

struct objectfs_op {
	objectfs_op_fn *fast; /* on the queue's thread; NULL: only slow */
	objectfs_op_fn *slow; /* on a worker, after OP_DEFER */
	enum op_pool pool;
	bool changes; /* EROFS when readonly */
};

/* For what objects cannot do: the guest's kernel is told each time, the user gets this. */
static ssize_t objectfs_unsupported(struct objectfs_session *s, struct fs_req *req)
{
	(void)s, (void)req;
	return -EOPNOTSUPP;
}

/* There is no symlink that one could be asked of. */
static ssize_t objectfs_readlink(struct objectfs_session *s, struct fs_req *req)
{
	(void)s, (void)req;
	return -EINVAL;
}

static const struct objectfs_op objectfs_op_table[FUSE_OPCODE_COUNT] = {
	[FUSE_LOOKUP] = { .fast = objectfs_lookup, .slow = objectfs_lookup_slow },
	[FUSE_FORGET] = { .fast = objectfs_forget },
	[FUSE_BATCH_FORGET] = { .fast = objectfs_batch_forget },
	[FUSE_GETATTR] = { .fast = objectfs_getattr, .slow = objectfs_getattr_slow },
	[FUSE_SETATTR] = { .slow = objectfs_setattr, .pool = POOL_SYNCERS, .changes = true },
	[FUSE_READLINK] = { .fast = objectfs_readlink },
	[FUSE_SYMLINK] = { .fast = objectfs_unsupported, .changes = true },
	[FUSE_LINK] = { .fast = objectfs_unsupported, .changes = true },
	[FUSE_MKNOD] = { .slow = objectfs_mknod, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_MKDIR] = { .slow = objectfs_mkdir, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_UNLINK] = { .slow = objectfs_unlink, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_RMDIR] = { .slow = objectfs_rmdir, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_RENAME] = { .slow = objectfs_rename, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_RENAME2] = { .slow = objectfs_rename, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_OPEN] = { .fast = objectfs_open, .slow = objectfs_open_slow },
	[FUSE_CREATE] = { .slow = objectfs_create, .pool = POOL_CHANGERS, .changes = true },
	[FUSE_READ] = { .fast = objectfs_read },
	[FUSE_WRITE] = { .fast = objectfs_write,
			 .slow = objectfs_write_slow,
			 .pool = POOL_WRITERS,
			 .changes = true },
	[FUSE_FLUSH] = { .fast = objectfs_flush,
			 .slow = objectfs_flush_slow,
			 .pool = POOL_SYNCERS },
	[FUSE_RELEASE] = { .fast = objectfs_release,
			   .slow = objectfs_release_slow,
			   .pool = POOL_SYNCERS },
	[FUSE_FSYNC] = { .slow = objectfs_fsync, .pool = POOL_SYNCERS },
	[FUSE_FSYNCDIR] = { .fast = objectfs_fsyncdir },
	[FUSE_OPENDIR] = { .fast = objectfs_opendir },
	[FUSE_READDIR] = { .fast = objectfs_readdir, .slow = objectfs_readdir_slow },
	[FUSE_READDIRPLUS] = { .fast = objectfs_readdir, .slow = objectfs_readdir_slow },
	[FUSE_RELEASEDIR] = { .fast = objectfs_releasedir },
	[FUSE_STATFS] = { .fast = objectfs_statfs },
	[FUSE_FALLOCATE] = { .slow = objectfs_fallocate, .pool = POOL_WRITERS, .changes = true },
	[FUSE_LSEEK] = { .fast = objectfs_lseek },
	[FUSE_COPY_FILE_RANGE] = { .fast = objectfs_unsupported, .changes = true },
	[FUSE_COPY_FILE_RANGE_64] = { .fast = objectfs_unsupported, .changes = true },
	[FUSE_SYNCFS] = { .slow = objectfs_syncfs, .pool = POOL_SYNCERS },
	/* Left out, so ENOSYS and never asked again: xattr (the user gets EOPNOTSUPP; a guest's
	 * kernel would ask for one each time it writes to a file), ACCESS (default_permissions has
	 * the guest's kernel check), STATX (it takes GETATTR), TMPFILE, locks (which are the
	 * guest's own business as POSIX_LOCKS and FLOCK_LOCKS are not agreed on). */
};

static void objectfs_run(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);
	ssize_t result =
		objectfs_op_table[req->opcode].slow(objectfs_session_of(req->session), req);

	/* A service that was too busy all the time; to a guest, EAGAIN means something else. */
	if (result == -EAGAIN)
		result = -EIO;
	if (result != FS_PENDING)
		fs_req_complete(req, result);
}

static struct workers *objectfs_pool(const struct objectfs *fs, enum op_pool pool)
{
	switch (pool) {
	case POOL_CHANGERS:
		return fs->changers;
	case POOL_WRITERS:
		return fs->writers;
	case POOL_SYNCERS:
		return fs->syncers;
	case POOL_WORKERS:
		break;
	}
	return fs->workers;
}

static ssize_t objectfs_dispatch(struct fs_session *session, struct fs_req *req)
{
	struct objectfs_session *s = objectfs_session_of(session);
	const struct objectfs_op *op = &objectfs_op_table[req->opcode];
	struct objectfs *fs = objectfs_of(s);
	ssize_t result = OP_DEFER;

	if (!op->fast && !op->slow)
		return -ENOSYS;
	if (op->changes && fs->config.readonly)
		return -EROFS;
	if (op->fast)
		result = op->fast(s, req);
	if (result != OP_DEFER)
		return result;
	fs_req_defer(req, objectfs_pool(fs, op->pool), objectfs_run);
	return FS_PENDING;
}

/*
 * READDIRPLUS always, not when the guest thinks fit (READDIRPLUS_AUTO): attributes come
 * with a listing for nothing, and to ask for them one by one is what costs. No
 * WRITEBACK_CACHE: writes are gathered by our cache, which others on this host see,
 * and the guest's would not be told that a file has changed. HANDLE_KILLPRIV_V2: objects have
 * neither set-id bits nor capabilities to be dropped, and the guest need not look before each
 * write.
 */
static uint64_t objectfs_init_flags(const struct fs *base)
{
	const struct objectfs *fs = container_of(base, struct objectfs, fs);
	uint64_t flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_ASYNC_DIO |
			 FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_AUTO_INVAL_DATA |
			 FUSE_DIRECT_IO_ALLOW_MMAP;

	if (fs->config.readdirplus)
		flags |= FUSE_DO_READDIRPLUS;
	return flags;
}

/* Nothing waits but for the storage, and that ends by itself. */
static void objectfs_session_interrupt(struct fs_session *session, uint64_t unique)
{
	(void)session, (void)unique;
}

static void objectfs_set_readonly(struct fs *base, bool readonly)
{
	atomic_store(&container_of(base, struct objectfs, fs)->config.readonly, readonly);
}

void objectfs_set_write_back(struct fs *base, bool write_back)
{
	atomic_store(&container_of(base, struct objectfs, fs)->config.write_back, write_back);
}

static void objectfs_free(struct fs *base)
{
	struct objectfs *fs = container_of(base, struct objectfs, fs);

	workers_free(fs->syncers);
	workers_free(fs->writers);
	workers_free(fs->changers);
	tree_fini(&fs->tree);
	free(fs->tree.negative);
	free(fs->kept);
	free(fs);
}

#define OBJECTFS_OPS                                                                               \
	{                                                                                          \
		[0 ... FUSE_OPCODE_COUNT - 1] = objectfs_dispatch                                  \
	}

static const struct fs_ops objectfs_ops = {
	.name = "objectfs",
	.window = &objectfs_window_ops,
	.sync_at_unmount = true,
	.init_flags = objectfs_init_flags,
	.session_new = session_new,
	.session_free = session_free,
	.session_interrupt = objectfs_session_interrupt,
	.describe = objectfs_describe,
	.op = OBJECTFS_OPS,
	.set_readonly = objectfs_set_readonly,
	.free = objectfs_free,
};

struct err *objectfs_new(struct fs **out, const struct objectfs_config *config, struct store *store,
			 struct cache_storage *cache, struct workers *workers)
{
	struct objectfs *fs = calloc(1, sizeof(*fs));
	struct timespec now;
	struct err *e = NULL;

	if (!fs)
		return err_errno(ENOMEM, "object storage");
	clock_gettime(CLOCK_REALTIME, &now);
	fs->fs.ops = &objectfs_ops;
	fs->config = *config;
	fs->store = store;
	fs->cache = cache;
	fs->workers = workers;
	fs->stream_rows_max = OBJECTFS_STREAM_ROWS;
	if (tree_init(&fs->tree, now.tv_sec * (int64_t)NSEC_PER_SEC + now.tv_nsec) < 0 ||
	    !(fs->tree.negative = negative_new()))
		e = err_errno(ENOMEM, "object storage");
	if (!e)
		e = workers_new(&fs->changers, "ovfs-change", CHANGERS_MAX);
	if (!e)
		e = workers_new(&fs->writers, "ovfs-write", WRITERS_MAX);
	if (!e)
		e = workers_new(&fs->syncers, "ovfs-sync", SYNCERS_MAX);
	if (e) {
		objectfs_free(&fs->fs);
		return e;
	}
	*out = &fs->fs;
	return NULL;
}
