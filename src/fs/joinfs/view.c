/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session's share of one child.
 *
 * Entering and leaving is a count with a closing bit, as in src/fuse/conn.c: the count
 * of a closed view only falls, so it reaches zero exactly once, and whoever takes it there
 * frees the child's session. The view itself stays until our session ends, so that a
 * thread that was overtaken finds it closed and not gone.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "fs/joinfs/internal.h"

#define VIEW_CLOSED (UINT64_C(1) << 63)

/* What a guest's kernel does differently for all of a connection, and a driver that has not
 * agreed to it would get wrong. */
#define VIEW_BINDING                                                                               \
	((uint64_t)(FUSE_WRITEBACK_CACHE | FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_ATOMIC_O_TRUNC | \
		    FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_SETXATTR_EXT |                      \
		    FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT))

static void child_drop(struct child *child)
{
	atomic_fetch_sub_explicit(&child->views, 1, memory_order_release);
}

/* Has the child make a session. NULL when there is no memory. */
static struct view *view_new(struct child *child, const struct fs_negotiated *negotiated)
{
	struct view *view = aligned_alloc(_Alignof(struct view), sizeof(*view));

	if (!view)
		return NULL;
	atomic_init(&view->inside, 0);
	atomic_init(&view->refs, 1);
	view->child = child;
	view->session = child->fs->ops->session_new(child->fs, negotiated);
	if (!view->session) {
		free(view);
		return NULL;
	}
	return view;
}

int view_make(struct joinfs_session *s, unsigned number)
{
	struct joinfs *join = joinfs_of(&s->session);
	struct child *child = &join->children[number];
	uint64_t missing =
		s->negotiated.flags & VIEW_BINDING & ~child->fs->ops->init_flags(child->fs);
	struct view *view;
	bool removed, used;

	if (missing) {
		log_limited(&join->log_limit, LOG_LEVEL_WARN, "directory_not_shown",
			    "child=%u missing_flags=0x%llx hint=\"the guest sees it when it "
			    "mounts again\"",
			    number, (unsigned long long)missing);
		child_drop(child);
		return -ENOENT;
	}
	view = view_new(child, &s->negotiated);
	if (!view) {
		child_drop(child);
		return -ENOMEM;
	}
	view->session->inode_dax = s->session.inode_dax;
	view->outer = &s->session;
	pthread_mutex_lock(&join->lock);
	removed = child->removed;
	used = !removed && !atomic_load_explicit(&s->views[number], memory_order_relaxed);
	if (used)
		atomic_store_explicit(&s->views[number], view, memory_order_release);
	pthread_mutex_unlock(&join->lock);
	if (!used) {
		child->fs->ops->session_free(view->session);
		free(view);
		child_drop(child);
	}
	return removed ? -ENOENT : 0;
}

struct view *view_enter(struct joinfs_session *s, unsigned number)
{
	struct view *view = atomic_load_explicit(&s->views[number], memory_order_acquire);
	uint64_t inside;

	if (!view)
		return NULL;
	inside = atomic_load_explicit(&view->inside, memory_order_relaxed);
	do {
		if (inside & VIEW_CLOSED)
			return NULL;
	} while (!atomic_compare_exchange_weak_explicit(
		&view->inside, &inside, inside + 1, memory_order_acquire, memory_order_relaxed));
	return view;
}

void view_leave(struct view *view)
{
	struct child *child = view->child;

	if (atomic_fetch_sub_explicit(&view->inside, 1, memory_order_acq_rel) != VIEW_CLOSED + 1)
		return;
	view->session->fs->ops->session_free(view->session);
	child_drop(child);
}

bool view_shut(struct view *view)
{
	uint64_t inside = atomic_load_explicit(&view->inside, memory_order_relaxed);

	do {
		if (inside == VIEW_CLOSED)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&view->inside, &inside, (inside + 1) | VIEW_CLOSED, memory_order_acquire,
		memory_order_relaxed));
	return true;
}

void view_end(struct view *view)
{
	if (atomic_load_explicit(&view->inside, memory_order_relaxed) != VIEW_CLOSED + 1)
		view->session->fs->ops->session_interrupt(view->session, 0);
	view_leave(view);
}

void view_get(struct view *view)
{
	atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
}

void view_put(struct view *view)
{
	if (atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) == 1)
		free(view);
}
