/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/joinfs/joinfs.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/joinfs/internal.h"

/* ---- The tree of entries ---- */

struct entry *joinfs_find(struct joinfs *join, uint64_t parent, const char *name, size_t len)
{
	struct list *pos;

	list_for_each (pos, &join->entries) {
		struct entry *e = list_entry(pos, struct entry, link);

		if (e->parent == parent && strlen(e->name) == len && !memcmp(e->name, name, len))
			return e;
	}
	return NULL;
}

bool joinfs_is_dir(const struct joinfs *join, uint64_t nodeid)
{
	struct list *pos;

	if (nodeid == FUSE_ROOT_ID)
		return true;
	list_for_each (pos, &join->entries) {
		struct entry *e = list_entry(pos, struct entry, link);

		if (e->id == nodeid)
			return e->child == 0;
	}
	return false;
}

static struct entry *entry_add(struct joinfs *join, uint64_t parent, const char *name, size_t len,
			       unsigned child)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (e)
		e->name = strndup(name, len);
	if (!e || !e->name) {
		free(e);
		return NULL;
	}
	e->id = ++join->last_id;
	e->parent = parent;
	e->child = child;
	list_push_back(&join->entries, &e->link);
	return e;
}

static void entry_drop(struct entry *e)
{
	list_remove(&e->link);
	free(e->name);
	free(e);
}

static bool dir_is_empty(const struct joinfs *join, uint64_t nodeid)
{
	struct list *pos;

	list_for_each (pos, &join->entries) {
		if (list_entry(pos, struct entry, link)->parent == nodeid)
			return false;
	}
	return true;
}

/* Drops our own directories that nothing is in any more. Those above have smaller ids, so
 * going backwards is enough. */
static void entries_prune(struct joinfs *join)
{
	struct list *pos = join->entries.prev;

	while (pos != &join->entries) {
		struct entry *e = list_entry(pos, struct entry, link);

		pos = pos->prev;
		if (!e->child && dir_is_empty(join, e->id))
			entry_drop(e);
	}
}

/* Makes what of @path is missing, the last component being the child. */
static struct err *path_add(struct joinfs *join, const char *path, unsigned child)
{
	const char *name = path, *end;
	uint64_t parent = FUSE_ROOT_ID;

	for (;; name = end + 1) {
		size_t len = strcspn(name, "/");
		struct entry *e = joinfs_find(join, parent, name, len);
		bool last = !name[len];

		end = name + len;
		if (len == 0 || len > NAME_MAX)
			return err_new("\"%s\" is no path of a directory", path);
		if (e && (last || e->child))
			return err_new("\"%s\": \"%.*s\" is there already", path, (int)(end - path),
				       path);
		if (!e)
			e = entry_add(join, parent, name, len, last ? child : 0);
		if (!e)
			return err_errno(ENOMEM, "directory \"%s\"", path);
		if (last)
			return NULL;
		parent = e->id;
	}
}

/* ---- Children ---- */

/* Whether no session has a view of it: an old nodeid must not name something new. Lock held. */
static bool number_is_free(const struct joinfs *join, unsigned n)
{
	const struct list *pos;

	if (join->children[n].fs)
		return false;
	list_for_each (pos, &join->sessions) {
		if (atomic_load(&list_entry(pos, struct joinfs_session, link)->views[n]))
			return false;
	}
	return true;
}

static unsigned child_number(const struct joinfs *join)
{
	for (unsigned i = 1; i <= JOINFS_CHILDREN_MAX; i++) {
		unsigned n = (join->last_child + i - 1) % JOINFS_CHILDREN_MAX + 1;

		if (number_is_free(join, n))
			return n;
	}
	return 0;
}

unsigned joinfs_room(struct fs *fs)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	unsigned room = 0;

	pthread_mutex_lock(&join->lock);
	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++)
		room += number_is_free(join, n);
	pthread_mutex_unlock(&join->lock);
	return room;
}

struct err *joinfs_add(struct fs *fs, const char *path, struct fs *child)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	struct child_counts *counts =
		aligned_alloc(_Alignof(struct child_counts), COUNTER_SLOTS * sizeof(*counts));
	struct err *e;
	unsigned n;

	if (!counts)
		return err_errno(ENOMEM, "directory \"%s\"", path);
	memset(counts, 0, COUNTER_SLOTS * sizeof(*counts));
	pthread_mutex_lock(&join->lock);
	n = child_number(join);
	e = n ? path_add(join, path, n)
	      : err_new("directory \"%s\": there are %d already", path, JOINFS_CHILDREN_MAX);
	if (e) {
		entries_prune(join);
		free(counts);
	} else {
		join->last_child = n;
		join->children[n].fs = child;
		join->children[n].counts = counts;
		join->children[n].removed = false;
		clock_gettime(CLOCK_REALTIME, &join->changed);
	}
	pthread_mutex_unlock(&join->lock);
	return e;
}

/* Lock held. 0: it is not one of ours. */
static unsigned child_find(const struct joinfs *join, const struct fs *child)
{
	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++) {
		if (join->children[n].fs == child)
			return n;
	}
	return 0;
}

static void child_clear(struct child *child)
{
	free(child->counts);
	child->counts = NULL;
	child->fs = NULL;
}

/* Lock held. All views of child @n, for views_end(). */
static struct view *views_shut(struct joinfs *join, unsigned n)
{
	struct view *views = NULL;
	struct list *pos;

	list_for_each (pos, &join->sessions) {
		struct view *view =
			atomic_load(&list_entry(pos, struct joinfs_session, link)->views[n]);

		if (!view || !view_shut(view))
			continue;
		view_get(view);
		view->closing = views;
		views = view;
	}
	return views;
}

/* Lock not held. */
static void views_end(struct view *views)
{
	while (views) {
		struct view *view = views;

		views = view->closing;
		view_end(view);
		view_put(view);
	}
}

void joinfs_remove(struct fs *fs, struct fs *child)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	struct view *views = NULL;
	struct list *pos, *tmp;
	unsigned n;

	pthread_mutex_lock(&join->close_lock);
	pthread_mutex_lock(&join->lock);
	n = child_find(join, child);
	if (n) {
		join->children[n].removed = true;
		list_for_each_safe (pos, tmp, &join->entries) {
			struct entry *e = list_entry(pos, struct entry, link);

			if (e->child == n)
				entry_drop(e);
		}
		entries_prune(join);
		views = views_shut(join, n);
		clock_gettime(CLOCK_REALTIME, &join->changed);
	}
	pthread_mutex_unlock(&join->lock);
	views_end(views);
	pthread_mutex_unlock(&join->close_lock);
}

bool joinfs_unused(struct fs *fs, struct fs *child)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	struct view *views = NULL;
	bool unused = true;
	unsigned n;

	pthread_mutex_lock(&join->close_lock);
	pthread_mutex_lock(&join->lock);
	n = child_find(join, child);
	/* Again: a request that was inside may have begun to wait since. */
	if (n && join->children[n].removed)
		views = views_shut(join, n);
	pthread_mutex_unlock(&join->lock);
	views_end(views);
	pthread_mutex_lock(&join->lock);
	if (n) {
		unused = join->children[n].removed &&
			 atomic_load_explicit(&join->children[n].views, memory_order_acquire) == 0;
		if (unused)
			child_clear(&join->children[n]);
	}
	pthread_mutex_unlock(&join->lock);
	pthread_mutex_unlock(&join->close_lock);
	return unused;
}

/* ---- Sessions ---- */

uint64_t joinfs_init_flags(const struct fs *fs)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	uint64_t flags = ~UINT64_C(0);
	bool any = false;

	pthread_mutex_lock(&join->lock);
	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++) {
		struct fs *child = join->children[n].fs;

		if (!child || join->children[n].removed)
			continue;
		flags &= child->ops->init_flags(child);
		any = true;
	}
	pthread_mutex_unlock(&join->lock);
	return any ? flags : 0;
}

struct fs_session *joinfs_session_new(struct fs *fs, const struct fs_negotiated *negotiated)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	struct joinfs_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->session.fs = fs;
	s->negotiated = *negotiated;
	pthread_mutex_lock(&join->lock);
	list_push_back(&join->sessions, &s->link);
	pthread_mutex_unlock(&join->lock);
	return &s->session;
}

void joinfs_session_free(struct fs_session *session)
{
	struct joinfs_session *s = joinfs_session_of(session);
	struct joinfs *join = joinfs_of(session);

	pthread_mutex_lock(&join->lock);
	list_remove(&s->link);
	pthread_mutex_unlock(&join->lock);
	/* Nobody else knows the session now, and no request is under way: each view ends. */
	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++) {
		struct view *view = atomic_load(&s->views[n]);

		if (!view)
			continue;
		if (view_shut(view))
			view_end(view);
		view_put(view);
	}
	free(s);
}

void joinfs_session_interrupt(struct fs_session *session, uint64_t unique)
{
	struct joinfs_session *s = joinfs_session_of(session);

	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++) {
		struct view *view = view_enter(s, n);

		if (!view)
			continue;
		view->session->fs->ops->session_interrupt(view->session, unique);
		view_leave(view);
	}
}

/* ---- Life ---- */

struct err *joinfs_new(struct fs **out, struct workers *workers)
{
	struct joinfs *join = calloc(1, sizeof(*join));

	if (!join)
		return err_errno(ENOMEM, "tree of directories");
	join->fs.ops = &joinfs_ops;
	join->workers = workers;
	pthread_mutex_init(&join->close_lock, NULL);
	pthread_mutex_init(&join->lock, NULL);
	list_init(&join->entries);
	list_init(&join->sessions);
	join->last_id = FUSE_ROOT_ID;
	clock_gettime(CLOCK_REALTIME, &join->changed);
	*out = &join->fs;
	return NULL;
}

void joinfs_free(struct fs *fs)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);

	assert(list_empty(&join->sessions));
	while (!list_empty(&join->entries))
		entry_drop(list_entry(join->entries.next, struct entry, link));
	for (unsigned n = 1; n <= JOINFS_CHILDREN_MAX; n++)
		child_clear(&join->children[n]);
	pthread_mutex_destroy(&join->close_lock);
	pthread_mutex_destroy(&join->lock);
	free(join);
}
