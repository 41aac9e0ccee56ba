/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls inotify_init1 inotify_add_watch inotify_rm_watch readlink */
#include "watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"

#define QUIET_NS 200000000ull	  /* of a burst's end */
#define PATIENCE_NS 2000000000ull /* of a burst that does not end */
#define LINKS_MAX 40		  /* as the kernel's */

#define EVENTS                                                                                     \
	(IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF |   \
	 IN_MOVE_SELF | IN_ONLYDIR)

/* A name in a watched folder that matters; "": all of them. */
struct name {
	struct list link;
	int wd;
	bool stale; /* since watch_begin() */
	char name[NAME_MAX + 1];
};

struct watch {
	struct loop *loop;
	struct loop_fd entry;
	struct list names;
	struct loop_timer quiet;
	uint64_t first_ns; /* of a burst; 0: there is none */
	bool complained, grown;
	void (*changed)(void *arg);
	void *arg;
};

static void watch_settled(struct loop_timer *timer)
{
	struct watch *w = container_of(timer, struct watch, quiet);

	w->first_ns = 0;
	w->changed(w->arg);
}

static void watch_touch(struct watch *w)
{
	uint64_t now = loop_now_ns();

	if (!w->first_ns)
		w->first_ns = now;
	if (now - w->first_ns < PATIENCE_NS)
		loop_timer_arm(w->loop, &w->quiet, QUIET_NS);
}

static bool watch_cares(const struct watch *w, const struct inotify_event *event)
{
	const struct list *link;

	if (event->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF))
		return true;
	if (event->len == 0)
		return false;
	list_for_each (link, &w->names) {
		const struct name *n = list_entry(link, struct name, link);

		if (n->wd == event->wd && (!n->name[0] || strcmp(n->name, event->name) == 0))
			return true;
	}
	return false;
}

static void watch_ready(struct loop_fd *entry, uint32_t events)
{
	struct watch *w = container_of(entry, struct watch, entry);
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n = read(entry->fd, buf, sizeof(buf));

	(void)events;
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const void *)(buf + at);

		if (watch_cares(w, event))
			watch_touch(w);
		at += (ssize_t)sizeof(*event) + event->len;
	}
}

struct err *watch_new(struct watch **out, struct loop *loop, void (*changed)(void *arg), void *arg)
{
	struct watch *w = calloc(1, sizeof(*w));
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int ret = w && fd >= 0 ? 0 : w ? -errno : -ENOMEM;

	if (ret == 0)
		ret = loop_fd_add(loop, &w->entry, fd, EPOLLIN, watch_ready);
	if (ret < 0) {
		if (fd >= 0)
			close(fd);
		free(w);
		return err_errno(-ret, "inotify");
	}
	w->loop = loop;
	list_init(&w->names);
	loop_timer_init(&w->quiet, watch_settled);
	w->changed = changed;
	w->arg = arg;
	*out = w;
	return NULL;
}

void watch_begin(struct watch *w)
{
	struct list *link;

	w->grown = false;
	list_for_each (link, &w->names)
		list_entry(link, struct name, link)->stale = true;
}

static bool watch_uses(const struct watch *w, int wd)
{
	const struct list *link;

	list_for_each (link, &w->names) {
		if (list_entry(link, struct name, link)->wd == wd)
			return true;
	}
	return false;
}

void watch_end(struct watch *w)
{
	struct list *link, *next;

	list_for_each_safe (link, next, &w->names) {
		struct name *n = list_entry(link, struct name, link);

		if (!n->stale)
			continue;
		list_remove(link);
		if (!watch_uses(w, n->wd))
			inotify_rm_watch(w->entry.fd, n->wd);
		free(n);
	}
	if (w->grown)
		watch_touch(w);
}

/* The same name in the same folder as before. */
static bool watch_keep(struct watch *w, int wd, const char *name)
{
	struct list *link;

	list_for_each (link, &w->names) {
		struct name *n = list_entry(link, struct name, link);

		if (n->wd == wd && strcmp(n->name, name) == 0) {
			n->stale = false;
			return true;
		}
	}
	return false;
}

static void watch_name(struct watch *w, const char *folder, const char *name)
{
	int wd = inotify_add_watch(w->entry.fd, folder[0] ? folder : "/", EVENTS);
	struct name *n;

	if (wd >= 0 && watch_keep(w, wd, name))
		return;
	n = calloc(1, sizeof(*n));
	if (!n || wd < 0) {
		if (!w->complained)
			log_warn("watch_failed", "path=\"%s\" error=\"%s\" hint=\"SIGHUP reloads\"",
				 folder, n ? strerror(errno) : "out of memory");
		w->complained = true;
		free(n);
		return;
	}
	n->wd = wd;
	snprintf(n->name, sizeof(n->name), "%s", name);
	list_push_back(&w->names, &n->link);
	w->grown = true;
}

/* What is left of a path after a component is known to be a link. */
static bool follow(char rest[PATH_MAX], char done[PATH_MAX], const char *link)
{
	char target[PATH_MAX], joined[PATH_MAX];
	ssize_t len = readlink(link, target, sizeof(target) - 1);

	if (len <= 0)
		return false;
	target[len] = '\0';
	if (snprintf(joined, sizeof(joined), "%s/%s", target, rest) >= (int)sizeof(joined))
		return false;
	memcpy(rest, joined, sizeof(joined));
	if (target[0] == '/')
		done[0] = '\0';
	return true;
}

/* Takes the first component off @rest. False at the end. */
static bool next_component(char rest[PATH_MAX], char name[NAME_MAX + 1])
{
	char *start = rest + strspn(rest, "/");
	size_t len = strcspn(start, "/");

	if (len == 0 || len > NAME_MAX)
		return false;
	memcpy(name, start, len);
	name[len] = '\0';
	memmove(rest, start + len, strlen(start + len) + 1);
	return true;
}

void watch_add(struct watch *w, const char *path, bool folder)
{
	char done[PATH_MAX] = "", rest[PATH_MAX], full[PATH_MAX], name[NAME_MAX + 1];
	unsigned links = 0;

	if (snprintf(rest, sizeof(rest), "%s", path) >= (int)sizeof(rest))
		return;
	while (next_component(rest, name)) {
		bool last = rest[strspn(rest, "/")] == '\0';

		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			char *slash = strrchr(done, '/');

			if (slash)
				*slash = '\0';
			continue;
		}
		if (snprintf(full, sizeof(full), "%s/%s", done, name) >= (int)sizeof(full))
			return;
		if (follow(rest, done, full)) {
			char *slash = strrchr(full, '/');

			*slash = '\0';
			watch_name(w, full, name);
			if (++links > LINKS_MAX)
				return;
			continue;
		}
		if (last)
			watch_name(w, done, name);
		memcpy(done, full, sizeof(full));
	}
	if (folder)
		watch_name(w, done, "");
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	watch_begin(w);
	watch_end(w);
	loop_timer_disarm(&w->quiet);
	loop_fd_remove(w->loop, &w->entry);
	close(w->entry.fd);
	free(w);
}
