/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's half of a reload (reload_host.h has the other).
 *
 * What came is read and checked once more, from the snapshot. Then, for each mount that stays, what
 * changes is made ready beside what there is; a service is asked whether it can be used so. When
 * all of them are ready, they change; else none does. Then mounts are added and removed. Requests
 * see nothing of it: those under way end with what they began with.
 *
 * A mount that becomes another one (type, bucket, root) is removed and added: its guests are
 * disconnected, for their tree is gone.
 *
 * Threads: all that may block is done by a thread of its own, one reload at a time; the daemon's
 * loop has the list of mounts, and is asked for it. No mount is stopped meanwhile, a SIGTERM waits;
 * and those that end by themselves, or did not begin, stay in the list until it is over.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "channel.h"
#include "conf/diff.h"
#include "daemon_priv.h"
#include "notify.h"
#include "options.h"

struct reload_item {
	struct daemon_mount *mount;    /* NULL: to be added */
	struct daemon_mount *ending;   /* ... when this one has ended, as was said before */
	const struct ovfs_mount *then; /* NULL: to be removed */
	bool other;		       /* removed and added */
	bool prepared;
	struct mount_fds fds;
};

struct reload {
	struct work work;
	struct daemon *daemon;
	struct channel_message message;
	int fds[CHANNEL_FDS_MAX];
	struct generation *next;
	struct reload_item *items;
	size_t count;
	struct err *error;
	unsigned added, removed, changed;
};

/* ---- What there is to be done ---- */

static struct daemon_mount *find_mount(struct daemon *d, const char *name)
{
	struct list *link;

	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (m->config && strcmp(m->config->name, name) == 0)
			return m;
	}
	return NULL;
}

/* One that ends, and whose place was to be taken by a mount of that name. */
static struct daemon_mount *find_ending(struct daemon *d, const char *name)
{
	struct list *link;

	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (m->next && strcmp(m->next->name, name) == 0)
			return m;
	}
	return NULL;
}

static bool wanted(const struct ovfs_config *config, const char *name)
{
	for (size_t i = 0; i < config->mount_count; i++) {
		if (strcmp(config->mounts[i].name, name) == 0)
			return true;
	}
	return false;
}

/* The descriptors that came for mount @index of the new configuration. */
static void take_fds(struct reload *r, size_t index, struct mount_fds *fds)
{
	const struct ovfs_mount *mount = &r->next->config.mounts[index];

	mount_fds_init(fds);
	for (unsigned i = 0; i < r->message.fd_count; i++) {
		const struct channel_fd *is = &r->message.fd[i];

		if (is->mount != index || is->what == CHANNEL_SNAPSHOT || r->fds[i] < 0)
			continue;
		if (is->what >= CHANNEL_ROOT &&
		    is->what - CHANNEL_ROOT <
			    MIN(storage_part_count(mount), (size_t)STORAGE_PARTS_MAX))
			fds->root[is->what - CHANNEL_ROOT] = r->fds[i];
		else if (is->what < mount->socket.path.count && fds->sockets < MOUNT_SOCKETS_MAX)
			fds->socket[fds->sockets++] =
				(struct mount_socket){ mount->socket.path.item[is->what],
						       r->fds[i] };
		else
			continue;
		r->fds[i] = -1;
	}
}

/* On the daemon's loop. */
static void reload_plan(void *arg)
{
	struct reload *r = arg;
	struct daemon *d = r->daemon;
	const struct ovfs_config *config = &r->next->config;
	struct list *link;
	size_t room = config->mount_count;

	list_for_each (link, &d->mounts)
		room++;
	r->items = calloc(room, sizeof(r->items[0]));
	if (!r->items) {
		r->error = err_errno(ENOMEM, "reload");
		return;
	}
	for (size_t i = 0; i < room; i++)
		mount_fds_init(&r->items[i].fds);
	for (size_t i = 0; i < config->mount_count; i++) {
		struct reload_item *item = &r->items[r->count++];

		item->then = &config->mounts[i];
		item->mount = find_mount(d, item->then->name);
		item->ending = item->mount ? NULL : find_ending(d, item->then->name);
		item->other = item->mount && mount_is_other(item->mount->config, item->then);
		take_fds(r, i, &item->fds);
	}
	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (m->config && !wanted(config, m->config->name))
			r->items[r->count++].mount = m;
	}
}

/* ---- Doing it ---- */

static bool item_stays(const struct reload_item *item)
{
	return item->mount && item->then && !item->other;
}

static struct err *reload_prepare(struct reload *r)
{
	struct err *e = NULL;

	for (size_t i = 0; i < r->count && !e; i++) {
		struct reload_item *item = &r->items[i];

		if (!item_stays(item))
			continue;
		e = mount_prepare(item->mount->mount, r->next, item->then, &item->fds);
		item->prepared = !e;
	}
	/* 0: nobody uses it any more. */
	if (!e && r->next->config.pool.size)
		e = backends_resize(r->daemon->env.backends, r->next->config.pool.size);
	for (size_t i = 0; i < r->count && e; i++) {
		if (r->items[i].prepared)
			mount_discard(r->items[i].mount->mount);
	}
	return e;
}

static const char *when_name(enum conf_change when)
{
	switch (when) {
	case CONF_CHANGE_RESTART:
		return "at_restart";
	case CONF_CHANGE_CONNECTION:
		return "at_next_connection";
	case CONF_CHANGE_REPLACE:
		return "now_disconnecting";
	default:
		return "now";
	}
}

/* How many changes there are. */
static unsigned log_changes(const struct reload *r)
{
	struct ovfs_diff diff;
	unsigned count;
	char text[256];

	ovfs_config_diff(&diff, &r->daemon->generation->config, &r->next->config);
	for (size_t i = 0; i < diff.count; i++)
		log_info("setting_changed", "what=\"%s\" applies=%s",
			 ovfs_change_text(&diff.change[i], text, sizeof(text)),
			 when_name(diff.change[i].when));
	count = (unsigned)diff.count;
	ovfs_diff_free(&diff);
	return count;
}

static void reload_commit(struct reload *r)
{
	r->changed = log_changes(r);
	for (size_t i = 0; i < r->count; i++) {
		struct reload_item *item = &r->items[i];

		if (item->other)
			mount_copy_sockets(item->mount->mount, item->then, &item->fds);
		if (!item_stays(item))
			continue;
		mount_commit(item->mount->mount, r->next, item->then, &item->fds);
	}
}

/* ---- After it, on the daemon's loop ---- */

/* What was to come after a mount that ends, and is not wanted any more. */
static void forget_next(struct reload *r)
{
	struct list *link;

	list_for_each (link, &r->daemon->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (!m->next || wanted(&r->next->config, m->next->name))
			continue;
		mount_fds_close(&m->next_fds);
		m->next = NULL;
	}
}

static void reload_swap(struct reload *r)
{
	struct daemon *d = r->daemon;
	struct generation *old = d->generation;

	d->generation = generation_get(r->next);
	forget_next(r);
	for (size_t i = 0; i < r->count; i++) {
		struct reload_item *item = &r->items[i];
		struct daemon_mount *m = item->mount;
		struct err *e = NULL;

		if (item_stays(item)) {
			m->config = item->then;
			continue;
		}
		r->added += item->then != NULL;
		r->removed += m != NULL;
		if (m) {
			m->config = NULL;
			m->next = item->then; /* starts when this one has ended */
			m->next_fds = item->fds;
			log_info("mount_removed", "mount=%s", mount_name(m->mount));
			daemon_stop_mount(m);
		} else if (item->ending) {
			mount_fds_change(&item->ending->next_fds, item->ending->next, item->then,
					 &item->fds);
			item->ending->next = item->then;
		} else {
			e = daemon_add(d, item->then, &item->fds, MOUNT_STAYS);
		}
		mount_fds_init(&item->fds);
		if (e)
			log_error("mount_failed", "error=\"%s\"", err_msg(e));
		err_free(e);
	}
	generation_put(old);
}

static void reload_answer(struct reload *r)
{
	struct channel_message answer = {
		.type = CHANNEL_RESULT,
		.number = r->message.number,
		.good = r->error == NULL,
	};
	int ret;

	operate_loaded(r->daemon->operate, r->next ? r->next->number : 0,
		       r->next ? &r->next->config : NULL, r->error ? err_msg(r->error) : NULL);
	if (r->error) {
		r->daemon->reload_failures++;
		snprintf(answer.text, sizeof(answer.text), "reload failed: %s", err_msg(r->error));
		log_error("reload_failed", "error=\"%s\" effect=\"the daemon goes on as it is\"",
			  err_msg(r->error));
	} else {
		r->daemon->reloads++;
		snprintf(answer.text, sizeof(answer.text), "%zu mounts",
			 r->next->config.mount_count);
		log_info("reloaded", "mounts=%zu changed=%u added=%u removed=%u",
			 r->next->config.mount_count, r->changed, r->added, r->removed);
	}
	ret = channel_send(r->daemon->channel, &answer, NULL);
	if (ret < 0)
		log_error("reload_answer_failed", "error=\"%s\"", strerror(-ret));
}

/* On the daemon's loop: the last of a reload. */
static void reload_finish(void *arg)
{
	struct reload *r = arg;
	struct daemon *d = r->daemon;

	if (!r->error)
		reload_swap(r);
	reload_answer(r);
	for (unsigned i = 0; i < r->message.fd_count; i++) {
		if (r->fds[i] >= 0)
			close(r->fds[i]);
	}
	for (size_t i = 0; i < r->count; i++)
		mount_fds_close(&r->items[i].fds);
	d->reloading = false;
	if (d->stop_wanted)
		daemon_begin_end(d);
	daemon_catch_up(d);
}

/* ---- The thread ---- */

/* The configuration in the snapshot that came. */
static struct err *reload_read(struct reload *r)
{
	struct conf_files *files = NULL;
	struct options fresh = { 0 };
	struct err *e = err_new("there is no snapshot");

	for (unsigned i = 0; i < r->message.fd_count; i++) {
		if (r->message.fd[i].what != CHANNEL_SNAPSHOT)
			continue;
		err_free(e);
		e = conf_files_receive(&files, r->fds[i]);
		break;
	}
	if (!e)
		e = options_reload(&fresh, r->daemon->options, files);
	if (!e)
		r->next = generation_new(&fresh.config, r->daemon->generation->number + 1);
	options_free(&fresh);
	if (!e && !r->next)
		e = err_errno(ENOMEM, "reload");
	return e;
}

static void reload_run(struct work *work)
{
	struct reload *r = container_of(work, struct reload, work);
	struct loop *loop = r->daemon->loop;

	r->error = reload_read(r);
	if (!r->error)
		loop_call(loop, reload_plan, r);
	if (!r->error)
		r->error = reload_prepare(r);
	if (!r->error)
		reload_commit(r);
	loop_call(loop, reload_finish, r);
	generation_put(r->next);
	err_free(r->error);
	free(r->items);
	free(r);
}

static void reload_begin(struct daemon *d, struct reload *r)
{
	struct err *e = NULL;

	if (!d->reloader)
		e = workers_new(&d->reloader, "ovfs-reload", 1);
	r->daemon = d;
	r->work.run = reload_run;
	if (e || d->stopping || d->reloading) {
		r->error = e ? e : err_new("the daemon is ending, or busy with another reload");
		reload_answer(r);
		for (unsigned i = 0; i < r->message.fd_count; i++)
			close(r->fds[i]);
		err_free(r->error);
		free(r);
		return;
	}
	d->reloading = true;
	workers_submit(d->reloader, &r->work);
}

/* ---- The channel ---- */

static void channel_ready(struct loop_fd *entry, uint32_t events)
{
	struct daemon *d = container_of(entry, struct daemon, channel_entry);
	struct reload *r = calloc(1, sizeof(*r));
	int ret;

	(void)events;
	if (!r)
		return; /* level-triggered: again */
	ret = channel_receive(d->channel, &r->message, r->fds);
	if (ret == 0 && r->message.type == CHANNEL_RELOAD) {
		reload_begin(d, r);
		return;
	}
	if (ret == 0 && r->message.type == CHANNEL_REJECTED) {
		d->reload_failures++;
		operate_loaded(d->operate, 0, NULL, r->message.text);
	} else if (ret < 0 && ret != -EAGAIN)
		loop_fd_remove(d->loop, entry); /* whoever watches the other process will know */
	for (unsigned i = 0; ret == 0 && i < r->message.fd_count; i++)
		close(r->fds[i]);
	free(r);
}

static void alive_expired(struct loop_timer *timer)
{
	struct daemon *d = container_of(timer, struct daemon, alive);

	channel_tell(d->channel, CHANNEL_ALIVE, NULL);
	loop_timer_arm(d->loop, timer, notify_interval_ns());
}

struct err *reload_init(struct daemon *d)
{
	int ret;

	loop_timer_init(&d->alive, alive_expired);
	if (d->channel < 0)
		return NULL;
	ret = loop_fd_add(d->loop, &d->channel_entry, d->channel, EPOLLIN, channel_ready);
	if (ret < 0)
		return err_errno(-ret, "epoll_ctl");
	if (notify_interval_ns())
		loop_timer_arm(d->loop, &d->alive, notify_interval_ns());
	return NULL;
}

void reload_started(struct daemon *d)
{
	char text[64];

	snprintf(text, sizeof(text), "%zu mounts", d->generation->config.mount_count);
	channel_tell(d->channel, CHANNEL_STARTED, text);
}

void reload_exit(struct daemon *d)
{
	workers_free(d->reloader);
	d->reloader = NULL;
	if (d->channel >= 0)
		close(d->channel);
	d->channel = -1;
}
