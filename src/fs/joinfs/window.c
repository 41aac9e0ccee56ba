/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of children in a guest's window: see struct fs_window_ops. A child is in use as long as a
 * file of it is open here, thus as long as a guest has a copy of it in its window.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "fs/joinfs/internal.h"

struct window_file {
	struct fs_window_file inner; /* the child's */
	struct child *child;
};

static struct window_file *window_file_of(const struct fs_window_file *file)
{
	return (struct window_file *)(uintptr_t)file->priv;
}

static const struct fs_window_ops *window_ops(const struct window_file *w)
{
	return w->inner.fs->ops->window;
}

/* What the outside is to know. */
static void window_show(struct fs_window_file *file)
{
	const struct window_file *w = window_file_of(file);

	file->fd = w->inner.fd;
	file->writable = w->inner.writable;
	file->size = w->inner.size;
	file->share = w->inner.share;
}

/* @view is entered. */
static int window_open_inner(struct view *view, uint64_t nodeid, bool write,
			     struct fs_window_file *file)
{
	const struct fs_window_ops *ops = view->session->fs->ops->window;
	struct window_file *w;
	int ret;

	if (!ops)
		return -EOPNOTSUPP;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	ret = ops->open(view->session, nodeid, write, &w->inner);
	if (ret < 0) {
		free(w);
		return ret;
	}
	w->child = view->child;
	atomic_fetch_add_explicit(&w->child->views, 1, memory_order_relaxed);
	file->priv = (uintptr_t)w;
	window_show(file);
	return 0;
}

static int window_open(struct fs_session *session, uint64_t nodeid, bool write,
		       struct fs_window_file *file)
{
	struct joinfs_session *s = joinfs_session_of(session);
	struct view *view;
	int ret;

	*file = (struct fs_window_file){ .fs = session->fs, .nodeid = nodeid, .fd = -1 };
	if (!nodeid_child(nodeid))
		return -EINVAL;
	view = view_enter(s, nodeid_child(nodeid));
	if (!view)
		return -ESTALE;
	ret = window_open_inner(view, nodeid & NODEID_MASK, write, file);
	view_leave(view);
	return ret;
}

static void window_close(struct fs_window_file *file)
{
	struct window_file *w = window_file_of(file);
	struct child *child = w->child;

	window_ops(w)->close(&w->inner);
	free(w);
	atomic_fetch_sub_explicit(&child->views, 1, memory_order_release);
}

static int window_reserve(struct fs_window_file *file, uint64_t length)
{
	struct window_file *w = window_file_of(file);

	return window_ops(w)->reserve ? window_ops(w)->reserve(&w->inner, length) : 0;
}

static void window_reopened(struct fs_window_file *file)
{
	struct window_file *w = window_file_of(file);

	if (!window_ops(w)->reopened)
		return;
	window_ops(w)->reopened(&w->inner);
	window_show(file);
}

static uint64_t window_version(struct fs_window_file *file)
{
	struct window_file *w = window_file_of(file);

	return window_ops(w)->version ? window_ops(w)->version(&w->inner) : 0;
}

static ssize_t window_read(struct fs_window_file *file, void *buf, size_t size, uint64_t offset)
{
	struct window_file *w = window_file_of(file);

	return window_ops(w)->read(&w->inner, buf, size, offset);
}

static ssize_t window_write(struct fs_window_file *file, const void *buf, size_t size,
			    uint64_t offset)
{
	struct window_file *w = window_file_of(file);

	return window_ops(w)->write(&w->inner, buf, size, offset);
}

const struct fs_window_ops joinfs_window_ops = {
	.open = window_open,
	.close = window_close,
	.reserve = window_reserve,
	.reopened = window_reopened,
	.version = window_version,
	.read = window_read,
	.write = window_write,
};
