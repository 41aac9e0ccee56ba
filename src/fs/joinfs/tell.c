/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of the tree, its children, and nodes in them, to who operates the daemon. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "fs/joinfs/internal.h"

/* Lock held. */
static const struct entry *entry_by_id(const struct joinfs *join, uint64_t id)
{
	struct list *pos;

	list_for_each (pos, &join->entries) {
		const struct entry *e = list_entry(pos, struct entry, link);

		if (e->id == id)
			return e;
	}
	return NULL;
}

/* Lock held. */
static const struct entry *entry_by_child(const struct joinfs *join, unsigned child)
{
	struct list *pos;

	list_for_each (pos, &join->entries) {
		const struct entry *e = list_entry(pos, struct entry, link);

		if (e->child == child)
			return e;
	}
	return NULL;
}

/* "a/b", cut at the front if it is longer than @path. Lock held. */
static const char *entry_path(const struct joinfs *join, const struct entry *e, char *path,
			      size_t size)
{
	char *start = path + size - 1;

	*start = '\0';
	for (; e; e = entry_by_id(join, e->parent)) {
		size_t len = strlen(e->name);

		if ((size_t)(start - path) < len + 1)
			break;
		if (*start)
			*--start = '/';
		start -= len;
		memcpy(start, e->name, len);
	}
	return start;
}

/* ---- Counters ---- */

/* Requests of all guests that are inside of it. Lock held. */
static unsigned child_inside(const struct joinfs *join, unsigned number)
{
	unsigned sum = 0;
	struct list *pos;

	list_for_each (pos, &join->sessions) {
		struct joinfs_session *s = list_entry(pos, struct joinfs_session, link);
		const struct view *view = atomic_load(&s->views[number]);

		if (view)
			sum += (unsigned)atomic_load(&view->inside);
	}
	return sum;
}

void joinfs_each(struct fs *fs, joinfs_tell_fn *tell, void *arg)
{
	struct joinfs *join = container_of(fs, struct joinfs, fs);
	struct list *pos;

	pthread_mutex_lock(&join->lock);
	list_for_each (pos, &join->entries) {
		const struct entry *e = list_entry(pos, struct entry, link);
		struct joinfs_usage usage = { 0 };
		const struct child *child = &join->children[e->child];
		char path[JOINFS_PATH_MAX];

		if (!e->child)
			continue;
		usage.path = entry_path(join, e, path, sizeof(path));
		usage.in_flight = child_inside(join, e->child);
		for (unsigned i = 0; i < COUNTER_SLOTS; i++) {
			usage.requests += counter_get(&child->counts[i].requests);
			usage.errors += counter_get(&child->counts[i].errors);
		}
		tell(arg, &usage);
	}
	pthread_mutex_unlock(&join->lock);
}

void joinfs_count(struct child *child, ssize_t result)
{
	unsigned slot = counter_slot();
	struct child_counts *counts = &child->counts[slot];

	counter_add(&counts->requests, 1, slot);
	if (unlikely(result == -EIO || result == -ETIMEDOUT))
		counter_add(&counts->errors, 1, slot);
}

/* ---- Nodes ---- */

struct inside_tell {
	fs_tell_fn *tell;
	void *arg;
	uint64_t tag;
};

/* The number that the guest knows. */
static void tell_inside(void *arg, const char *name, const char *text, uint64_t number)
{
	const struct inside_tell *t = arg;

	t->tell(t->arg, name, text, strcmp(name, "ino") == 0 ? number ^ t->tag : number);
}

/* One of our own. */
static bool describe_dir(struct joinfs *join, uint64_t nodeid, fs_tell_fn *tell, void *arg)
{
	char path[JOINFS_PATH_MAX];
	const struct entry *e;
	const char *found = NULL;

	pthread_mutex_lock(&join->lock);
	e = entry_by_id(join, nodeid);
	if (joinfs_is_dir(join, nodeid))
		found = entry_path(join, e, path, sizeof(path));
	pthread_mutex_unlock(&join->lock);
	if (!found)
		return false;
	tell(arg, "type", "directory", 0);
	tell(arg, "path", found, 0);
	tell(arg, "ino", NULL, nodeid);
	return true;
}

bool joinfs_describe(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg)
{
	struct joinfs_session *s = joinfs_session_of(session);
	struct joinfs *join = joinfs_of(session);
	struct inside_tell inside = { tell, arg, nodeid & ~NODEID_MASK };
	char path[JOINFS_PATH_MAX];
	const char *found;
	struct view *view;
	bool known;

	if (!nodeid_child(nodeid))
		return describe_dir(join, nodeid, tell, arg);
	view = view_enter(s, nodeid_child(nodeid));
	if (!view)
		return false;
	known = view->session->fs->ops->describe &&
		view->session->fs->ops->describe(view->session, nodeid & NODEID_MASK, tell_inside,
						 &inside);
	view_leave(view);
	if (!known)
		return false;
	pthread_mutex_lock(&join->lock);
	found = entry_path(join, entry_by_child(join, nodeid_child(nodeid)), path, sizeof(path));
	pthread_mutex_unlock(&join->lock);
	tell(arg, "directory", found, 0);
	return true;
}
