/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of the operating side, what is registered with it, and what it looks at by itself: requests
 * that hang, what takes long, the control loop.
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/progress.h"
#include "ctl/internal.h"

/* How often it looks. */
#define WATCH_NS (1 * NSEC_PER_SEC)

/* The log says how far long tasks are. */
#define PROGRESS_NS (5 * NSEC_PER_SEC)

/* ---- What is registered ---- */

static void entry_init(struct ctl_entry *entry, struct ctl *ctl, const char *name, void *ctx)
{
	entry->ctl = ctl;
	entry->ctx = ctx;
	snprintf(entry->name, sizeof(entry->name), "%s", name);
}

/* Under the lock. */
static bool entry_known(const struct list *list, const char *name)
{
	struct list *pos;

	list_for_each (pos, list) {
		if (strcmp(list_entry(pos, struct ctl_entry, link)->name, name) == 0)
			return true;
	}
	return false;
}

static void entry_remove(struct ctl_entry *entry)
{
	struct ctl *ctl = entry->ctl;

	pthread_mutex_lock(&ctl->lock);
	entry->leaving = true;
	while (entry->users > 0)
		pthread_cond_wait(&ctl->changed, &ctl->lock);
	list_remove(&entry->link);
	pthread_mutex_unlock(&ctl->lock);
}

/* Under the lock. */
static void entry_put_locked(struct ctl_entry *entry)
{
	if (--entry->users == 0 && entry->leaving)
		pthread_cond_broadcast(&entry->ctl->changed);
}

struct ctl_entry *ctl_entry_next(struct ctl *ctl, struct list *list, struct ctl_entry *prev)
{
	struct ctl_entry *found = NULL;
	struct list *pos;

	pthread_mutex_lock(&ctl->lock);
	for (pos = prev ? prev->link.next : list->next; pos != list && !found; pos = pos->next) {
		struct ctl_entry *entry = list_entry(pos, struct ctl_entry, link);

		if (!entry->leaving)
			found = entry;
	}
	if (found)
		found->users++;
	if (prev)
		entry_put_locked(prev);
	pthread_mutex_unlock(&ctl->lock);
	return found;
}

struct ctl_entry *ctl_entry_find(struct ctl *ctl, struct list *list, const char *name)
{
	ctl_for_each (entry, ctl, list) {
		if (strcmp(entry->name, name) == 0)
			return entry;
	}
	return NULL;
}

void ctl_entry_put(struct ctl_entry *entry)
{
	struct ctl *ctl = entry->ctl;

	pthread_mutex_lock(&ctl->lock);
	entry_put_locked(entry);
	pthread_mutex_unlock(&ctl->lock);
}

struct ctl_mount *ctl_mount_add(struct ctl *ctl, const char *name, const struct ctl_mount_ops *ops,
				void *ctx)
{
	struct ctl_mount *mount = ctl ? calloc(1, sizeof(*mount)) : NULL;

	if (!mount)
		return NULL;
	mount->ops = ops;
	entry_init(&mount->entry, ctl, name, ctx);
	pthread_mutex_lock(&ctl->lock);
	list_push_back(&ctl->mounts, &mount->entry.link);
	pthread_mutex_unlock(&ctl->lock);
	return mount;
}

void ctl_mount_remove(struct ctl_mount *mount)
{
	if (!mount)
		return;
	entry_remove(&mount->entry);
	free(mount);
}

struct ctl_storage *ctl_storage_add(struct ctl *ctl, const char *name,
				    const struct ctl_storage_ops *ops, void *ctx)
{
	struct ctl_storage *storage = ctl ? calloc(1, sizeof(*storage)) : NULL;

	if (!storage)
		return NULL;
	storage->ops = ops;
	entry_init(&storage->entry, ctl, name, ctx);
	pthread_mutex_lock(&ctl->lock);
	for (unsigned n = 2; entry_known(&ctl->storages, storage->entry.name); n++)
		snprintf(storage->entry.name, sizeof(storage->entry.name), "%.100s#%u", name, n);
	list_push_back(&ctl->storages, &storage->entry.link);
	pthread_mutex_unlock(&ctl->lock);
	return storage;
}

const char *ctl_storage_name(const struct ctl_storage *storage)
{
	return storage->entry.name;
}

void ctl_storage_remove(struct ctl_storage *storage)
{
	if (!storage)
		return;
	entry_remove(&storage->entry);
	free(storage);
}

/* ---- What hangs ---- */

static void watch_report(void *arg, const struct ctl_request *r)
{
	const struct ctl_entry *entry = arg;

	if (r->waits)
		return;
	log_warn("request_hangs",
		 "mount=%s op=%s unique=%llu nodeid=%llu socket=%u queue=%u seconds=%llu in=%s "
		 "driver_ms=%llu queued_ms=%llu storage_ms=%llu",
		 entry->name, r->operation ? r->operation : "unknown",
		 (unsigned long long)r->unique, (unsigned long long)r->nodeid, r->port, r->queue,
		 (unsigned long long)(r->age_ns / NSEC_PER_SEC), r->place,
		 (unsigned long long)(r->driver_ns / NSEC_PER_MSEC),
		 (unsigned long long)(r->queued_ns / NSEC_PER_MSEC),
		 (unsigned long long)(r->storage_ns / NSEC_PER_MSEC));
}

/* ---- The control loop's sign of life ---- */

static void heart_put(struct heart *heart)
{
	if (heart && atomic_fetch_sub(&heart->refs, 1) == 1)
		free(heart);
}

/* On the control loop; perhaps when that is freed. */
static void heart_beats(struct loop_task *task)
{
	struct heart *heart = container_of(task, struct heart, task);

	atomic_store(&heart->seen_ns, loop_now_ns());
	atomic_store(&heart->asked, false);
	heart_put(heart);
}

static void heart_ask(struct ctl *ctl)
{
	struct heart *heart = ctl->heart;

	if (!heart || atomic_load(&heart->asked))
		return;
	atomic_store(&heart->asked, true);
	atomic_fetch_add(&heart->refs, 1);
	loop_post(ctl->config.loop, &heart->task);
}

uint64_t ctl_silent_ns(const struct ctl *ctl)
{
	uint64_t seen_ns, now_ns;

	if (!ctl->heart || !atomic_load(&ctl->heart->asked))
		return 0;
	seen_ns = atomic_load(&ctl->heart->seen_ns);
	now_ns = loop_now_ns();
	return now_ns > seen_ns ? now_ns - seen_ns : 0;
}

static void watch(struct loop_timer *timer)
{
	struct ctl *ctl = container_of(timer, struct ctl, watch);

	heart_ask(ctl);
	progress_log(PROGRESS_NS);
	if (ctl->config.hang_ns) {
		ctl_for_each (entry, ctl, &ctl->mounts)
			ctl_mount_of(entry)->ops->requests(entry->ctx, ctl->config.hang_ns,
							   watch_report, entry);
	}
	loop_timer_arm(ctl->loop, timer, WATCH_NS);
}

/* ---- Life ---- */

static void *ctl_run(void *arg)
{
	struct ctl *ctl = arg;

	pthread_setname_np(pthread_self(), "ovfs-ctl");
	loop_run(ctl->loop);
	return NULL;
}

static struct err *ctl_start(struct ctl *ctl)
{
	int error;

	loop_timer_arm(ctl->loop, &ctl->watch, WATCH_NS);
	error = pthread_create(&ctl->thread, NULL, ctl_run, ctl);
	if (error)
		return err_errno(error, "control thread");
	ctl->running = true;
	return NULL;
}

static struct err *ctl_open(struct ctl *ctl)
{
	int control_fd = ctl->config.control_fd, metrics_fd = ctl->config.metrics_fd;
	struct err *e;

	if (ctl->config.loop) {
		ctl->heart = calloc(1, sizeof(*ctl->heart));
		if (ctl->heart) {
			ctl->heart->task.run = heart_beats;
			atomic_init(&ctl->heart->refs, 1);
			atomic_init(&ctl->heart->seen_ns, ctl->started_ns);
		}
	}
	e = loop_new(&ctl->loop);
	if (!e && control_fd != CTL_FD_NONE) {
		ctl->config.control_fd = CTL_FD_NONE;
		e = server_new(&ctl->server, ctl, control_fd);
	}
	if (!e && metrics_fd != CTL_FD_NONE) {
		ctl->config.metrics_fd = CTL_FD_NONE;
		e = http_new(&ctl->http, ctl, metrics_fd);
	}
	return e ? e : ctl_start(ctl);
}

struct err *ctl_new(struct ctl **out, const struct ctl_config *config,
		    const struct ctl_hooks *hooks)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	struct err *e;

	if (!ctl) {
		if (config->control_fd != CTL_FD_NONE)
			close(config->control_fd);
		if (config->metrics_fd != CTL_FD_NONE)
			close(config->metrics_fd);
		return err_errno(ENOMEM, "control");
	}
	ctl->config = *config;
	ctl->hooks = *hooks;
	ctl->started_ns = loop_now_ns();
	ctl->started_s = time(NULL);
	list_init(&ctl->mounts);
	list_init(&ctl->storages);
	pthread_mutex_init(&ctl->lock, NULL);
	pthread_cond_init(&ctl->changed, NULL);
	loop_timer_init(&ctl->watch, watch);
	e = ctl_open(ctl);
	if (e) {
		ctl_free(ctl);
		return err_wrap(e, "control");
	}
	*out = ctl;
	return NULL;
}

void ctl_free(struct ctl *ctl)
{
	if (!ctl)
		return;
	/* Its end is posted to the loop before it stops to count. */
	pthread_mutex_lock(&ctl->lock);
	while (ctl->jobs_running > 0)
		pthread_cond_wait(&ctl->changed, &ctl->lock);
	pthread_mutex_unlock(&ctl->lock);
	if (ctl->running) {
		loop_stop(ctl->loop);
		pthread_join(ctl->thread, NULL);
	}
	loop_timer_disarm(&ctl->watch);
	http_free(ctl->http);
	server_free(ctl->server);
	loop_free(ctl->loop); /* with the ends of jobs, for which nobody waits any more */
	if (ctl->config.control_fd != CTL_FD_NONE)
		close(ctl->config.control_fd);
	if (ctl->config.metrics_fd != CTL_FD_NONE)
		close(ctl->config.metrics_fd);
	heart_put(ctl->heart);
	pthread_cond_destroy(&ctl->changed);
	pthread_mutex_destroy(&ctl->lock);
	free(ctl);
}
