/* SPDX-License-Identifier: Apache-2.0 */
#include "mount_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Between two attempts with a service that refuses. */
#define RETRY_MAX_NS 30000000000ull

const char *mount_state_name(enum mount_state state)
{
	static const char *const names[] = {
		[MOUNT_STARTING] = "starting",	 [MOUNT_WAITING] = "waiting",
		[MOUNT_READY] = "ready",	 [MOUNT_FAILED] = "failed",
		[MOUNT_STOPPING] = "stopping",	 [MOUNT_ENDED] = "ended",
		[MOUNT_UNWRITTEN] = "unwritten",
	};

	return names[state];
}

static void mount_destroy(struct mount *m);

/* ---- States ---- */

static void mount_event(struct loop_task *task)
{
	struct mount *m = container_of(task, struct mount, event_task);
	bool freed;

	pthread_mutex_lock(&m->lock);
	m->event_posted = false;
	freed = m->freed;
	pthread_mutex_unlock(&m->lock);
	if (freed)
		mount_destroy(m);
	else
		m->env->event(m->env->ctx, m); /* which may free */
}

/* @error is the mount's from now on. */
static void mount_set(struct mount *m, enum mount_state state, struct err *error)
{
	bool post;

	pthread_mutex_lock(&m->lock);
	if (m->state != MOUNT_STOPPING || (state != MOUNT_READY && state != MOUNT_WAITING))
		m->state = state;
	err_free(m->error);
	m->error = error;
	post = !m->event_posted;
	m->event_posted = true;
	pthread_mutex_unlock(&m->lock);
	if (post)
		loop_post(m->env->loop, &m->event_task);
}

enum mount_state mount_state(struct mount *m)
{
	enum mount_state state;

	pthread_mutex_lock(&m->lock);
	state = m->state;
	pthread_mutex_unlock(&m->lock);
	return state;
}

unsigned mount_unwritten(struct mount *m)
{
	return m->unwritten;
}

const char *mount_error(struct mount *m)
{
	return m->error ? err_msg(m->error) : NULL;
}

const char *mount_name(const struct mount *m)
{
	return m->name;
}

/* ---- Sockets that are not served yet ---- */

static void closed_accepted(struct acceptor *closed, int fd)
{
	static struct log_limit limit;

	(void)closed;
	close(fd);
	log_limited(&limit, LOG_LEVEL_WARN, "guest_turned_away",
		    "reason=\"its storage refuses, see mount_waits\"");
}

void mount_turn_away(struct mount *m)
{
	if (m->closed_count)
		return;
	for (size_t i = 0; i < m->fds.sockets; i++)
		acceptor_start(&m->closed[m->closed_count++], m->loop, m->fds.socket[i].fd,
			       closed_accepted);
}

void mount_let_in(struct mount *m)
{
	while (m->closed_count)
		acceptor_stop(&m->closed[--m->closed_count]);
}

/* ---- Ports ---- */

static void mount_port_retired(void *ctx, struct port *port)
{
	(void)ctx;
	port_free(port);
}

static const enum virtio_poll virtio_poll_of[] = {
	[OVFS_POLL_AUTO] = VIRTIO_POLL_AUTO,
	[OVFS_POLL_LATENCY] = VIRTIO_POLL_LATENCY,
	[OVFS_POLL_THROUGHPUT] = VIRTIO_POLL_THROUGHPUT,
};

static const struct port_ops mount_port_ops = { .retired = mount_port_retired };

struct port_config mount_port_config(struct mount *m, const struct ovfs_mount *config)
{
	return (struct port_config){
		.mount = config->name,
		.tag = config->socket.tag,
		.num_request_queues = config->socket.num_request_queues,
		.poll_us = config->socket.poll_us,
		.poll = virtio_poll_of[config->socket.poll],
		.max_write = config->fuse.max_write,
		.window_size = config->dax.enabled ? config->dax.window_size : 0,
		.window_copies = config->dax.map == OVFS_MAP_COPY,
		.workers = m->workers,
		.observer = m->observer,
	};
}

struct err *mount_open_ports(struct mount *m)
{
	struct port_config config = mount_port_config(m, m->config);
	struct err *e = NULL;

	for (size_t i = 0; i < m->fds.sockets; i++) {
		struct mount_socket *s = &m->fds.socket[i];
		struct port *port;

		if (e) {
			close(s->fd);
			continue;
		}
		e = port_new(&port, &config, s->path, s->fd, storage_fs(m->storage), m->loop,
			     &mount_port_ops, m);
		if (!e)
			list_push_back(&m->ports, port_link(port));
	}
	m->fds.sockets = 0;
	return e;
}

void mount_fds_close(struct mount_fds *fds)
{
	for (size_t i = 0; i < fds->sockets; i++)
		close(fds->socket[i].fd);
	fds->sockets = 0;
	for (size_t i = 0; i < STORAGE_PARTS_MAX; i++) {
		if (fds->root[i] >= 0)
			close(fds->root[i]);
		fds->root[i] = -1;
	}
}

void mount_fds_init(struct mount_fds *fds)
{
	fds->sockets = 0;
	for (size_t i = 0; i < STORAGE_PARTS_MAX; i++)
		fds->root[i] = -1;
}

/* ---- The thread ---- */

_Static_assert(STORAGE_PARTS_MAX <= CTL_PARTS_MAX, "all are told");

void mount_tell_parts(struct mount *m)
{
	struct backend *backend;
	const char *path;

	observer_begin_parts(m->observer);
	for (size_t i = 0; storage_tell(m->storage, i, &path, &backend); i++)
		observer_add_part(m->observer, path, backend ? backend_name(backend) : "");
}

static struct err *mount_open(struct mount *m)
{
	struct storage_env env = {
		.workers = m->workers,
		.context = m->context,
		.backends = m->env->backends,
		.proc_self_fd = m->env->proc_self_fd,
		.files_max = m->env->files_max,
		.patient = m->patience != MOUNT_IMPATIENT,
	};
	struct err *e = storage_new(&m->storage, m->generation, m->config, &env, m->fds.root);

	if (e)
		return e;
	observer_set_join(m->observer, storage_join(m->storage));
	mount_tell_parts(m);
	mount_let_in(m);
	e = mount_open_ports(m);
	mount_fds_close(&m->fds); /* the drivers have their own */
	return e;
}

/* Whether an error of mount_open() may pass. */
static bool mount_may_pass(const struct mount *m)
{
	bool network = false;

	for (size_t i = 0; i < storage_part_count(m->config); i++)
		network |= storage_part(m->config, i)->storage.type == OVFS_STORAGE_S3;
	if (m->storage)
		return false;
	return m->patience == MOUNT_STAYS || (m->patience == MOUNT_PATIENT && network);
}

static void mount_attempt(struct mount *m)
{
	struct err *e;

	if (!m->observer)
		m->observer = observer_new(m->env->ctl, m->name);
	e = mount_open(m);
	observer_set_error(m->observer, e ? err_msg(e) : NULL);
	if (!e) {
		mount_set(m, MOUNT_READY, NULL);
		return;
	}
	if (!mount_may_pass(m)) {
		mount_set(m, MOUNT_FAILED, e); /* until mount_free() */
		return;
	}
	log_warn("mount_waits", "retry_in_ms=%llu error=\"%s\"",
		 (unsigned long long)(m->retry_ns / 1000000), err_msg(e));
	mount_turn_away(m);
	mount_set(m, MOUNT_WAITING, e);
	loop_timer_arm(m->loop, &m->retry, m->retry_ns);
	m->retry_ns = MIN(m->retry_ns * 2, RETRY_MAX_NS);
}

static void mount_start_run(struct loop_task *task)
{
	mount_attempt(container_of(task, struct mount, start_task));
}

static void mount_retry(struct loop_timer *timer)
{
	mount_attempt(container_of(timer, struct mount, retry));
}

static void mount_stop_run(struct loop_task *task)
{
	loop_stop(container_of(task, struct mount, stop_task)->loop);
}

static void mount_end_run(struct loop_task *task)
{
	loop_stop(container_of(task, struct mount, end_task)->loop);
}

static void mount_log_run(struct loop_task *task)
{
	struct mount *m = container_of(task, struct mount, log_task);

	pthread_mutex_lock(&m->lock);
	m->log_posted = false;
	pthread_mutex_unlock(&m->lock);
	if (m->storage)
		storage_log(m->storage);
}

/* Files that could not be written: then nothing was freed. */
static unsigned mount_close(struct mount *m)
{
	struct list *link;
	unsigned left;

	mount_let_in(m);
	loop_timer_disarm(&m->retry);
	mount_fds_close(&m->fds);
	list_for_each (link, &m->ports)
		port_halt(port_of_link(link));
	left = m->storage ? storage_settle(m->storage) : 0;
	if (left)
		return left;
	while (!list_empty(&m->ports))
		port_free(port_of_link(m->ports.next));
	observer_free(m->observer);
	m->observer = NULL;
	workers_free(m->workers);
	m->workers = NULL;
	left = storage_free(m->storage);
	m->storage = NULL;
	return left;
}

static void *mount_run(void *arg)
{
	struct mount *m = arg;
	bool failed;
	unsigned left;

	log_set_thread_context(m->context);
	loop_run(m->loop);
	failed = mount_state(m) == MOUNT_FAILED;
	if (!failed)
		log_info("mount_stopping", "state=%s", mount_state_name(mount_state(m)));
	left = mount_close(m);
	if (failed)
		return NULL;
	m->unwritten = left;
	mount_set(m, left ? MOUNT_UNWRITTEN : MOUNT_ENDED, NULL);
	return NULL;
}

/* ---- Life ---- */

static void mount_destroy(struct mount *m)
{
	mount_fds_close(&m->fds);
	workers_free(m->workers);
	loop_free(m->loop);
	generation_put(m->generation);
	err_free(m->error);
	pthread_mutex_destroy(&m->lock);
	free(m->name);
	free(m);
}

struct err *mount_start(struct mount **out, const struct mount_env *env,
			struct generation *generation, const struct ovfs_mount *config,
			struct mount_fds *fds, enum mount_patience patience)
{
	struct mount *m = calloc(1, sizeof(*m));
	struct err *e;
	int error;

	if (!m) {
		mount_fds_close(fds);
		return err_errno(ENOMEM, "mount");
	}
	m->env = env;
	m->patience = patience;
	m->generation = generation_get(generation);
	m->config = config;
	m->fds = *fds;
	m->retry_ns = RETRY_FIRST_NS;
	list_init(&m->ports);
	loop_timer_init(&m->retry, mount_retry);
	m->start_task.run = mount_start_run;
	m->stop_task.run = mount_stop_run;
	m->end_task.run = mount_end_run;
	m->log_task.run = mount_log_run;
	m->event_task.run = mount_event;
	pthread_mutex_init(&m->lock, NULL);
	m->name = strdup(config->name);
	e = m->name ? loop_new(&m->loop) : err_errno(ENOMEM, "mount");
	if (!e)
		e = workers_new(&m->workers, "ovfs", config->worker.threads);
	if (!e) {
		snprintf(m->context, sizeof(m->context), "mount=%s", m->name);
		loop_post(m->loop, &m->start_task);
		error = pthread_create(&m->thread, NULL, mount_run, m);
		if (error)
			e = err_errno(error, "thread of mount %s", m->name);
	}
	if (e) {
		mount_destroy(m);
		return e;
	}
	pthread_setname_np(m->thread, "ovfs-mount");
	*out = m;
	return NULL;
}

void mount_stop(struct mount *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->state != MOUNT_FAILED)
		m->state = MOUNT_STOPPING;
	pthread_mutex_unlock(&m->lock);
	loop_post(m->loop, &m->stop_task);
}

void mount_log(struct mount *m)
{
	bool post;

	pthread_mutex_lock(&m->lock);
	post = !m->log_posted;
	m->log_posted = true;
	pthread_mutex_unlock(&m->lock);
	if (post)
		loop_post(m->loop, &m->log_task);
}

void mount_free(struct mount *m)
{
	bool posted;

	loop_post(m->loop, &m->end_task); /* of one that has failed */
	pthread_join(m->thread, NULL);
	/* Its last event may still be on its way to this thread, behind the one that we are in. */
	pthread_mutex_lock(&m->lock);
	posted = m->event_posted;
	m->freed = true;
	pthread_mutex_unlock(&m->lock);
	if (!posted)
		mount_destroy(m);
}
