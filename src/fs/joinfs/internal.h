/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of joinfs share.
 *
 *	joinfs.c	the tree of entries, children that come and go, sessions
 *	view.c		one session's share of one child, and who is inside of it
 *	ops.c		whose a request is; what is answered here
 *	tell.c		counters, and what is known of a node
 *	window.c	files of children that are mapped
 *
 * Locks: joinfs.lock covers entries, children, the list of sessions, and which views there are. It
 * is not held while a child is called. joinfs.close_lock, outside of it, is that of who ends the
 * views of a child, and held meanwhile: a request that ends by it may be the last one of a session
 * of ours, which then takes joinfs.lock to go.
 */
#ifndef OVFS_FS_JOINFS_INTERNAL_H
#define OVFS_FS_JOINFS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/counter.h"
#include "base/list.h"
#include "base/log.h"
#include "fs/joinfs/joinfs.h"

#define NODEID_TAG_SHIFT 56
#define NODEID_MASK ((UINT64_C(1) << NODEID_TAG_SHIFT) - 1)

/* How long a guest may keep what it knows of our own directories, seconds. */
#define JOINFS_VALID_S 1

struct joinfs;

/* Of one thread, see base/counter.h. */
struct child_counts {
	_Alignas(COUNTER_LINE) counter requests;
	counter errors;
};

struct child {
	struct child_counts *counts; /* COUNTER_SLOTS of them; as fs */
	struct fs *fs;		     /* NULL: the number is free. Not changed while views != 0 */
	bool removed;		     /* joinfs.lock */
	_Atomic unsigned views;	     /* that have not ended or are being made, and mapped files */
};

/* A name in one of our own directories. */
struct entry {
	struct list link; /* joinfs.entries, by id */
	uint64_t id;	  /* above FUSE_ROOT_ID, never the same twice; a directory's nodeid */
	uint64_t parent;  /* nodeid of the directory that it is in */
	unsigned child;	  /* number of the child whose root it is; 0: our own directory */
	char *name;
};

struct joinfs {
	struct fs fs;
	struct workers *workers;
	pthread_mutex_t close_lock;
	pthread_mutex_t lock;
	struct list entries;
	uint64_t last_id;
	struct child children[JOINFS_CHILDREN_MAX + 1]; /* 0 is nobody */
	unsigned last_child;
	struct list sessions;
	struct timespec changed;
	struct log_limit log_limit;
};

/* A session's share of a child. Lives until our session ends, and nobody is closing it. */
struct view {
	/* Requests inside, and VIEW_CLOSED when no more may come. The child's session is freed
	 * by whoever leaves a closed view as the last. */
	_Alignas(64) _Atomic uint64_t inside;
	struct fs_session *session;
	struct fs_session *outer; /* ours, whose share it is */
	struct child *child;
	_Atomic unsigned refs; /* our session's, and that of who closes it */
	struct view *closing;  /* the next one; close_lock */
};

struct joinfs_session {
	struct fs_session session;
	struct fs_negotiated negotiated;
	struct list link; /* joinfs.sessions */
	struct view *_Atomic views[JOINFS_CHILDREN_MAX + 1];
};

static inline struct joinfs *joinfs_of(const struct fs_session *session)
{
	return container_of(session->fs, struct joinfs, fs);
}

static inline struct joinfs_session *joinfs_session_of(struct fs_session *session)
{
	return container_of(session, struct joinfs_session, session);
}

static inline unsigned nodeid_child(uint64_t nodeid)
{
	return (unsigned)(nodeid >> NODEID_TAG_SHIFT);
}

/* ---- joinfs.c ---- */

/* Lock held. NULL when there is none. */
struct entry *joinfs_find(struct joinfs *join, uint64_t parent, const char *name, size_t len);

/* True for the root and our own directories that are still there. Lock held. */
bool joinfs_is_dir(const struct joinfs *join, uint64_t nodeid);

/* ---- view.c ---- */

/*
 * Makes this session's view of child @number, unless there is one by now. The caller has
 * counted it in child->views, which is taken over. May wait for the storage; takes the lock.
 * 0 or -errno: -ENOENT when the child has been removed, or cannot do what was agreed on with
 * this guest.
 */
int view_make(struct joinfs_session *s, unsigned number);

/* This session's view of child @number, entered; NULL when there is none or it is closed. */
struct view *view_enter(struct joinfs_session *s, unsigned number);
void view_leave(struct view *view);

/* Nobody enters any more. Unless it has ended: @view is entered, so that it does not yet, and
 * view_end() is to follow. Takes no lock and calls nobody. */
bool view_shut(struct view *view);
/* Ends what waits inside, and leaves. */
void view_end(struct view *view);

void view_get(struct view *view);
void view_put(struct view *view);

/* ---- tell.c ---- */

/* A request inside of @child has ended. */
void joinfs_count(struct child *child, ssize_t result);

bool joinfs_describe(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg);

/* ---- ops.c ---- */

extern const struct fs_ops joinfs_ops;

/* ---- window.c ---- */

extern const struct fs_window_ops joinfs_window_ops;

struct fs_session *joinfs_session_new(struct fs *fs, const struct fs_negotiated *negotiated);
void joinfs_session_free(struct fs_session *session);
void joinfs_session_interrupt(struct fs_session *session, uint64_t unique);
uint64_t joinfs_init_flags(const struct fs *fs);
void joinfs_free(struct fs *fs);

#endif
