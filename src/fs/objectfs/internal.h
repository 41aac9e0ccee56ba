/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of objectfs share: the driver instance, a session, its handles, and the
 * operations. See objectfs.c for the theory of operation.
 */
#ifndef OVFS_FS_OBJECTFS_INTERNAL_H
#define OVFS_FS_OBJECTFS_INTERNAL_H

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/log.h"
#include "base/loop.h"
#include "fs/fs.h"
#include "fs/objectfs/listing.h"
#include "fs/objectfs/names.h"
#include "fs/objectfs/node.h"
#include "fs/objectfs/objectfs.h"

/* Rows asked for in one LIST; services give at most 1000. */
#define OBJECTFS_LIST_ROWS 1000u
/* Full directories (of listing_max rows) whose pages are remembered at one time. */
#define OBJECTFS_LISTINGS 16u
/* Rows of the pages that directory streams may hold between their requests; each page is counted
 * for each of them. */
#define OBJECTFS_STREAM_ROWS (1u << 20)
/* Directories that guests have forgotten whose pages are remembered. */
#define OBJECTFS_DIRS 1024u

#define NSEC_PER_SEC 1000000000ull

struct objectfs {
	struct fs fs;
	struct objectfs_config config;
	struct store *store;
	struct cache_storage *cache;
	struct workers *workers;  /* questions; borrowed */
	struct workers *changers; /* changes of names, which may wait for one another */
	struct workers *writers;  /* data that must wait for room or for a piece of a block */
	struct workers *syncers;  /* commits */
	struct tree tree;
	struct names_warned warned;
	_Atomic bool windowed; /* a guest has written through its window */

	/* Nodes that are NODE_KEPT; tree.lock. */
	uint32_t *kept;
	uint32_t kept_count, kept_room;
	uint64_t kept_scan_ns;

	/* Directories that are NODE_LISTED, the oldest is next; tree.lock. */
	struct node *listed[OBJECTFS_DIRS];
	uint32_t listed_next;

	/* Rows of the pages that directory streams hold; tree.lock. */
	uint64_t stream_rows;
	uint64_t stream_rows_max; /* OBJECTFS_STREAM_ROWS, but for tests */

	struct log_limit rename_log;
};

/* What a session knows of a node. */
struct known {
	uint64_t nlookup; /* of its guest */
	uint64_t version; /* of the content when its guest opened it last */
	uint64_t etag;	  /* a hash of it, 0: there was none */
};

struct objectfs_session {
	struct fs_session session;
	uint32_t number;
	struct slots handles;
	struct known *known[SLOTS_CHUNKS]; /* by index of the node; tree.lock */
};

static inline struct objectfs *objectfs_of(const struct objectfs_session *s)
{
	return container_of(s->session.fs, struct objectfs, fs);
}

static inline struct objectfs_session *objectfs_session_of(struct fs_session *session)
{
	return container_of(session, struct objectfs_session, session);
}

/*
 * An operation. Those that run on the queue's thread answer from memory or return OP_DEFER, and
 * then run once more, in their other form, on a worker. objectfs.c has the table.
 */
typedef ssize_t objectfs_op_fn(struct objectfs_session *s, struct fs_req *req);
#define OP_DEFER ((ssize_t)INT32_MIN + 1)

/* What the store says. With -EAGAIN it has given up on a service that is busy; here that would mean
 * that a name was changed meanwhile, and have who gets it ask once more. */
static inline int objectfs_result(int result)
{
	return result == -EAGAIN ? -EIO : result;
}

/* store_call(), with that. */
static inline int objectfs_call(struct objectfs *fs, struct store_op *op)
{
	store_call(fs->store, op);
	op->result = objectfs_result(op->result);
	return op->result;
}

/* Since when something must be known to be believed at @now_ns for @timeout_ns. */
static inline uint64_t objectfs_since(uint64_t now_ns, uint64_t timeout_ns)
{
	return now_ns > timeout_ns ? now_ns - timeout_ns + 1 : 1;
}

/* ---- session.c ---- */

/* One more lookup for @n by the session's guest. tree.lock held. -ENOMEM. */
int session_count(struct objectfs_session *s, struct node *n);
void session_forget(struct objectfs_session *s, uint64_t nodeid, uint64_t n);
/* NULL: it was never looked up. tree.lock held. */
struct known *session_known(struct objectfs_session *s, const struct node *n);
struct fs_session *session_new(struct fs *fs, const struct fs_negotiated *negotiated);
void session_free(struct fs_session *session);

/* ---- describe.c: fs_ops.describe ---- */

bool objectfs_describe(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg);
objectfs_op_fn objectfs_forget, objectfs_batch_forget;

/* ---- file.c: nodes and what the cache has of them. tree.lock held ---- */

/* Brings the attributes of @n up to those of its cached file, if it has one. True: the file
 * has changes of ours, and what the storage says does not count. */
bool file_digest(struct objectfs *fs, struct node *n);
/* The object of @n was found to be @meta at @seen_ns. */
void objectfs_file_seen(struct objectfs *fs, struct node *n, const struct store_meta *meta,
			uint64_t seen_ns);
/* An operation on @n, or its last handle, is done: lets go of the cached file, or keeps @n as
 * long as it has changes. */
void file_settle(struct objectfs *fs, struct node *n);
/* Lets go of kept nodes that have been committed; at most once a second. */
void file_reap(struct objectfs *fs);
/* The cached file of @n, as it is known by its attributes, with a reference for the caller:
 * -ESTALE when there is none any more, or -ENOMEM. */
int file_get(struct objectfs *fs, struct node *n, struct cache_file **out);
/* Whether the cache has something of the file @n. When the storage does not answer, that can be
 * looked up and opened as it was last seen: commits are conditional on its version. */
bool file_cached(struct objectfs *fs, struct node *n);
/* @n was made from a listing, which may be older than a commit of ours that nobody asked about
 * since: then it is as the cache knows it. */
void file_overtakes(struct objectfs *fs, struct node *n);
/* A file that the cache has changes of, under @key: a node for it, or NULL. */
struct node *file_find_ours(struct objectfs *fs, struct node *parent, const char *name, size_t len);

/* ---- lookup.c ---- */

struct negative;
struct negative *negative_new(void);
/* tree.lock held for all three. */
void negative_add(struct tree *t, const struct node *parent, const char *name, size_t len,
		  uint64_t ns);
void negative_clear(struct tree *t, const struct node *parent, const char *name, size_t len);

enum lookup_state {
	LOOKUP_ASK,    /* memory does not know */
	LOOKUP_NODE,   /* it is there */
	LOOKUP_ABSENT, /* it is not */
};
/* What memory knows; tree.lock held; *@out without a reference. @negative_ns: how
 * long a name is believed to be missing. */
enum lookup_state lookup_known(struct objectfs *fs, struct node *parent, const char *name,
			       size_t len, uint64_t negative_ns, struct node **out);
/* A node for @row of a page of @parent, which has none yet; without a reference. tree.lock held.
 * NULL: no memory. */
struct node *lookup_from_row(struct objectfs *fs, struct node *parent, struct page *p,
			     const struct page_row *row);
/* The same, asking the storage when need be, with a reference to *@out. 0, -ENOENT or what
 * went wrong. Blocks. */
int objectfs_find(struct objectfs *fs, struct node *parent, const char *name, uint64_t negative_ns,
		  struct node **out);
/* What a STAT told of an object, for who opens it to change it. */
struct objectfs_seen {
	char etag[STORE_ETAG_MAX]; /* "": nobody was asked */
	struct store_properties properties;
	char text[STORE_PROPERTIES_MAX];
};
/*
 * Has the attributes of a file found anew, unless they are not older than @since_ns (or are ours).
 * 0; -ENOENT: it is gone, and its node, too. @seen may be NULL. Blocks.
 */
int objectfs_refresh(struct objectfs *fs, struct node *n, uint64_t since_ns,
		     struct objectfs_seen *seen);
/* Fills in the reply of LOOKUP and its like and counts. tree.lock held. -ENOMEM. */
int lookup_reply(struct objectfs_session *s, struct node *n, struct fuse_entry_out *out);
objectfs_op_fn objectfs_lookup, objectfs_lookup_slow;

/* How long a name is believed to be missing by an operation that makes it: LOOKUP
 * came just before, and the storage has the last word (if_absent). */
uint64_t lookup_create_ns(const struct objectfs *fs);

/* ---- attr.c ---- */

/* tree.lock held. */
void attr_fill(struct objectfs *fs, struct node *n, struct fuse_attr *attr);
/* How long the guest may believe what is known since @since_ns: the rest of @timeout_ns. */
void attr_valid(uint64_t since_ns, uint64_t timeout_ns, uint64_t *sec, uint32_t *nsec);
void attr_reply(struct objectfs *fs, struct node *n, struct fuse_attr_out *out);
/* Since when attributes must be known to be shown. */
uint64_t attr_since(const struct objectfs *fs);
/* Whether what is known of @n is of @since_ns or newer, or ours. tree.lock held. */
bool attr_fresh(struct objectfs *fs, struct node *n, uint64_t since_ns);
objectfs_op_fn objectfs_getattr, objectfs_getattr_slow, objectfs_setattr, objectfs_statfs;

/* ---- dir.c ---- */

struct dirstream;
void dirstream_free(struct objectfs *fs, struct dirstream *d);
objectfs_op_fn objectfs_opendir, objectfs_readdir, objectfs_readdir_slow, objectfs_releasedir;

/* ---- change.c, change_dir.c, change_file.c ---- */

/* How long an entry that was seen is taken as proof that it, and a directory without a marker
 * around it, is there. Other clients may be removing it meanwhile; then it is they who removed the
 * last. */
#define CHANGE_WITNESS_NS (60 * NSEC_PER_SEC)

objectfs_op_fn objectfs_mkdir, objectfs_rmdir, objectfs_unlink, objectfs_mknod;
/* A name went from @dir, through us: should that have been the last one and it has no marker,
 * it gets one. 0 or what went wrong. Blocks. */
int change_keep_dir(struct objectfs *fs, struct node *dir, const char *gone, size_t len);
/* The same for who has done what he was asked for: the log hears of errors. */
void change_keep_or_log(struct objectfs *fs, struct node *dir, const char *gone);
/* Puts the marker of @dir at @key. */
int change_put_marker(struct objectfs *fs, const char *key, bool if_absent);
/* 0, -ENOTEMPTY or what went wrong; @marker: whether there is one. Blocks. */
int change_dir_empty(struct objectfs *fs, struct node *dir, bool *marker);
/* A file of ours: node and cached file, not in the storage yet. */
int change_create(struct objectfs *fs, struct node *parent, const char *name, struct node **out,
		  struct cache_file **file);
int change_delete(struct objectfs *fs, const char *key);
/* The name leads to nothing any more; its node is gone. tree.lock held. */
void change_forget(struct objectfs *fs, struct node *n);
/* The name was removed from the storage, by who has a claim on it: whatever was listed, or is being
 * listed, may have shown it still. tree.lock held. */
void change_removed(struct objectfs *fs, struct node *parent, const char *name, size_t len);
/* A change of the name failed: what is there now has to be asked for. tree.lock held. */
void change_uncertain(struct objectfs *fs, struct node *parent, const char *name, size_t len);
/* Replies with the entry @n, whose reference is consumed. */
int change_reply(struct objectfs_session *s, struct fs_req *req, struct node *n);

/* ---- rename.c, move.c ---- */

objectfs_op_fn objectfs_rename;

/* ---- open.c ---- */

enum {
	HANDLE_DIR = 1 << 0,
	HANDLE_WRITE = 1 << 1,
	HANDLE_READ = 1 << 2,
	HANDLE_APPEND = 1 << 3,
	HANDLE_SYNC = 1 << 4, /* O_SYNC, O_DSYNC */
};

/* Of one session. Each takes about 1000 bytes, most of it for read-ahead. */
#define HANDLES_MAX (1u << 20)

struct handle {
	struct slot slot;
	uint32_t flags;
	struct node *node;
	struct cache_file *_Atomic file; /* NULL for a directory; changes once at most, see io.c */
	struct cache_file *former;	 /* what it was before, or NULL; tree.lock */
	struct cache_stream *stream;	 /* NULL for a directory, or when it does not read */
	struct dirstream *dir;		 /* NULL for a file */
	uint32_t error_seen;		 /* cache_file_error()'s; tree.lock */
	_Atomic bool changed;		 /* something was written through it since the last FLUSH */
	_Atomic bool delivered;		 /* data was read through it */
};

/* NULL, for EBADF, unless @fh is a handle with @flags. */
struct handle *handle_get(struct objectfs_session *s, uint64_t fh, unsigned flags);
void handle_put(struct objectfs_session *s, struct handle *h);
/* Ends the number @fh. False when it was none. */
bool handle_release(struct objectfs_session *s, uint64_t fh, bool dir);
/* Takes references of its own to @node; @file, @stream and @dir become its own, but on failure. */
int handle_add(struct objectfs_session *s, struct node *node, struct cache_file *file,
	       struct dirstream *dir, unsigned flags, uint64_t *fh);
void handles_fini(struct objectfs_session *s);
/* Something was changed through @h. */
void handle_changed(struct objectfs_session *s, struct handle *h);
objectfs_op_fn objectfs_open, objectfs_open_slow, objectfs_create, objectfs_flush,
	objectfs_flush_slow, objectfs_release, objectfs_release_slow, objectfs_fsync,
	objectfs_fsyncdir;

/* ---- io.c ---- */

objectfs_op_fn objectfs_read, objectfs_write, objectfs_write_slow, objectfs_fallocate,
	objectfs_lseek, objectfs_syncfs;
/* ---- window.c ---- */

extern const struct fs_window_ops objectfs_window_ops;
/* The guest has written to @h's file by its window, which says so to no handle. */
bool window_left_dirty(struct objectfs_session *s, struct handle *h);

/* Commits @file and tells @n. Blocks. */
int io_commit(struct objectfs *fs, struct node *n, struct cache_file *file);

#endif
