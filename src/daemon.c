/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "channel.h"
#include "daemon_priv.h"
#include "operate.h"

/* For mounts that were told to end, when another one could not write all it had: they may wait
 * for the same storage. */
#define GRACE_NS 3000000000ull

/* Descriptors for the rest of the process, when mounts share what there is. */
#define FILES_RESERVED 512u

/* ---- Mounts ---- */

static struct daemon_mount *daemon_find(struct daemon *d, const struct mount *mount)
{
	struct list *link;

	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (m->mount == mount)
			return m;
	}
	return NULL;
}

static void daemon_forget(struct daemon_mount *m)
{
	list_remove(&m->link);
	if (m->next)
		mount_fds_close(&m->next_fds);
	mount_free(m->mount);
	free(m);
}

void daemon_stop_mount(struct daemon_mount *m)
{
	if (m->told)
		return;
	m->told = true;
	mount_stop(m->mount);
}

/* What there is to be served, for the log. */
static const char *storage_name(const struct ovfs_mount *mount)
{
	const struct ovfs_backend *config = &mount->backend;

	if (mount->directory_count)
		return "directories";
	switch (config->storage.type) {
	case OVFS_STORAGE_S3:
		return config->storage.s3.bucket;
	case OVFS_STORAGE_MEMORY:
		return "memory";
	default:
		return config->storage.root;
	}
}

static void log_ready(const struct ovfs_mount *config)
{
	const struct conf_list *path = &config->socket.path;

	for (size_t i = 0; i < path->count; i++)
		log_info("ready", "mount=%s socket=\"%s\" root=\"%s\"", config->name, path->item[i],
			 storage_name(config));
	if (path->count == 0)
		log_info("ready", "mount=%s socket=\"inherited\" root=\"%s\"", config->name,
			 storage_name(config));
}

/* ---- The end ---- */

static void daemon_check_end(struct daemon *d)
{
	struct list *link;
	bool all_said = true;

	if (!d->stopping)
		return;
	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (mount_state(m->mount) != MOUNT_UNWRITTEN)
			all_said = false;
	}
	/* Empty, or all that is left are those that cannot be freed. */
	if (all_said)
		loop_stop(d->loop);
}

void daemon_begin_end(struct daemon *d)
{
	struct list *link;

	if (d->stopping)
		return;
	d->stop_wanted = true;
	if (d->reloading)
		return;
	d->stopping = true;
	channel_tell(d->channel, CHANNEL_STOPPING, NULL);
	loop_timer_arm(d->loop, &d->deadline,
		       host_stop_timeout_s(&d->generation->config) * 1000000000ull);
	list_for_each (link, &d->mounts)
		daemon_stop_mount(list_entry(link, struct daemon_mount, link));
	daemon_check_end(d);
}

/* Who has not ended by now will not. */
static void daemon_deadline(struct loop_timer *timer)
{
	struct daemon *d = container_of(timer, struct daemon, deadline);
	struct list *link;

	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (mount_state(m->mount) != MOUNT_UNWRITTEN)
			log_error("mount_hangs", "mount=%s", mount_name(m->mount));
	}
	d->stuck = true;
	loop_stop(d->loop);
}

/* @m has ended; another one may take its place. */
static void start_next(struct daemon *d, struct daemon_mount *m)
{
	const struct ovfs_mount *next = d->stopping ? NULL : m->next;
	struct err *e;

	if (!next)
		return;
	m->next = NULL;
	e = daemon_add(d, next, &m->next_fds, MOUNT_STAYS);
	if (e)
		log_error("mount_failed", "error=\"%s\"", err_msg(e));
	err_free(e);
}

/* Nothing of it is freed, but its sockets. */
static void mount_is_unwritten(struct daemon *d, struct daemon_mount *m)
{
	unsigned left = mount_unwritten(m->mount);

	if (m->unwritten)
		return;
	m->unwritten = true;
	log_error("mount_unwritten", "mount=%s files=%u", mount_name(m->mount), left);
	d->unwritten += left;
	d->stuck = true;
	if (d->stopping)
		loop_timer_arm(d->loop, &d->deadline, GRACE_NS);
	start_next(d, m);
}

static void mount_has_failed(struct daemon *d, struct daemon_mount *m)
{
	if (!d->started && !d->error)
		d->error = d->alone ? err_new("%s", mount_error(m->mount))
				    : err_new("mount %s: %s", mount_name(m->mount),
					      mount_error(m->mount));
	else
		log_error("mount_failed", "mount=%s error=\"%s\"", mount_name(m->mount),
			  mount_error(m->mount));
	start_next(d, m);
	daemon_forget(m);
	if (!d->started)
		daemon_begin_end(d);
}

/* Every mount is ready, or has been told apart. */
static void daemon_check_started(struct daemon *d)
{
	struct list *link;

	if (d->started || d->stopping)
		return;
	list_for_each (link, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (mount_state(m->mount) == MOUNT_STARTING)
			return;
	}
	d->started = true;
	/* virtiofsd's sentence, for which Kata Containers' runtime in Rust waits. */
	log_info("started", "mounts=%zu note=\"Waiting for vhost-user socket connection\"",
		 d->generation->config.mount_count);
	reload_started(d);
}

static void mount_has_ended(struct daemon *d, struct daemon_mount *m)
{
	d->unwritten += mount_unwritten(m->mount);
	log_info("mount_ended", "mount=%s unwritten=%u", mount_name(m->mount),
		 mount_unwritten(m->mount));
	start_next(d, m);
	daemon_forget(m);
}

/* @m may be gone afterwards. */
static void daemon_look(struct daemon *d, struct daemon_mount *m)
{
	enum mount_state state = mount_state(m->mount);

	/* A reload knows the mounts that there are, by their addresses. */
	m->missed = d->reloading && state != MOUNT_READY;
	if (m->missed)
		return;
	switch (state) {
	case MOUNT_READY:
		if (!m->was_ready && !d->stopping && m->config)
			log_ready(m->config);
		m->was_ready = true;
		break;
	case MOUNT_FAILED:
		mount_has_failed(d, m);
		break;
	case MOUNT_ENDED:
		mount_has_ended(d, m);
		break;
	case MOUNT_UNWRITTEN:
		mount_is_unwritten(d, m);
		break;
	default:
		break;
	}
}

static void daemon_event(void *ctx, struct mount *mount)
{
	struct daemon *d = ctx;

	daemon_look(d, daemon_find(d, mount));
	daemon_check_started(d);
	daemon_check_end(d);
}

void daemon_catch_up(struct daemon *d)
{
	struct list *link, *next;

	list_for_each_safe (link, next, &d->mounts) {
		struct daemon_mount *m = list_entry(link, struct daemon_mount, link);

		if (m->missed)
			daemon_look(d, m);
	}
	daemon_check_end(d);
}

struct err *daemon_add(struct daemon *d, const struct ovfs_mount *config, struct mount_fds *fds,
		       enum mount_patience patience)
{
	struct daemon_mount *m = calloc(1, sizeof(*m));
	struct err *e;

	if (!m) {
		mount_fds_close(fds);
		return err_errno(ENOMEM, "mount %s", config->name);
	}
	e = mount_start(&m->mount, &d->env, d->generation, config, fds, patience);
	if (e) {
		free(m);
		return e;
	}
	m->config = config;
	list_push_back(&d->mounts, &m->link);
	return NULL;
}

/* ---- Signals ---- */

static void signal_ready(struct loop_fd *entry, uint32_t events)
{
	struct daemon *d = container_of(entry, struct daemon, signal_entry);
	struct signalfd_siginfo info;
	struct list *link;

	(void)events;
	if (read(entry->fd, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGHUP:
		/* The process outside has it, if there is one. */
		if (d->hangup)
			d->hangup(d->hangup_arg);
		break;
	case SIGUSR1:
		list_for_each (link, &d->mounts)
			mount_log(list_entry(link, struct daemon_mount, link)->mount);
		break;
	default:
		log_info("stopping", "signal=%u", info.ssi_signo);
		daemon_begin_end(d);
	}
}

static void supervisor_gone(struct loop_fd *entry, uint32_t events)
{
	struct daemon *d = container_of(entry, struct daemon, supervisor_entry);

	(void)events;
	log_error("supervisor_died", "action=stopping");
	loop_fd_remove(d->loop, entry);
	daemon_begin_end(d);
}

static struct err *daemon_watch(struct daemon *d, int supervisor_fd)
{
	sigset_t set;
	int ret;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return err_errno(errno, "signalfd");
	ret = loop_fd_add(d->loop, &d->signal_entry, d->signal_fd, EPOLLIN, signal_ready);
	if (ret == 0 && supervisor_fd >= 0)
		ret = loop_fd_add(d->loop, &d->supervisor_entry, supervisor_fd, EPOLLIN,
				  supervisor_gone);
	return ret < 0 ? err_errno(-ret, "epoll_ctl") : NULL;
}

/* ---- Life ---- */

/* Each directory's part of the descriptors; 0: it has them for itself. */
static unsigned files_share(const struct ovfs_config *config)
{
	unsigned directories = 0;
	struct rlimit limit;

	for (size_t i = 0; i < config->mount_count; i++)
		for (size_t p = 0; p < storage_part_count(&config->mounts[i]); p++)
			directories += storage_part(&config->mounts[i], p)->storage.type ==
				       OVFS_STORAGE_FS;
	if (directories < 2 || getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
	    limit.rlim_cur <= FILES_RESERVED)
		return 0;
	return (unsigned)(MIN(limit.rlim_cur - FILES_RESERVED, (rlim_t)INT32_MAX) / directories);
}

struct err *daemon_new(struct daemon **out, const struct daemon_config *config)
{
	struct daemon *d = calloc(1, sizeof(*d));
	struct err *e;

	if (!d)
		return err_errno(ENOMEM, "daemon");
	list_init(&d->mounts);
	loop_timer_init(&d->deadline, daemon_deadline);
	d->signal_fd = -1;
	d->generation = generation_get(config->generation);
	d->host = config->host;
	d->options = config->options;
	d->hangup = config->hangup;
	d->hangup_arg = config->hangup_arg;
	d->channel = config->channel;
	d->alone = d->generation->config.mount_count == 1;
	e = loop_new(&d->loop);
	if (!e)
		e = daemon_watch(d, config->supervisor_fd);
	if (!e)
		e = reload_init(d);
	if (!e)
		e = backends_new(&d->env.backends);
	if (e) {
		daemon_free(d);
		return e;
	}
	d->env.loop = d->loop;
	d->env.proc_self_fd = config->proc_self_fd;
	d->env.files_max = files_share(&d->generation->config);
	d->env.event = daemon_event;
	d->env.ctx = d;
	*out = d;
	return NULL;
}

struct loop *daemon_loop(struct daemon *d)
{
	return d->loop;
}

static bool daemon_ask_reload(void *ctx)
{
	struct daemon *d = ctx;

	return d->channel >= 0 && channel_tell(d->channel, CHANNEL_ASK, NULL) == 0;
}

/* Those who look at what there is can, from now on. */
static struct err *daemon_open(struct daemon *d)
{
	const struct operate_config config = {
		.sockets = &d->host->operate,
		.config = &d->generation->config,
		.gid = d->generation->config.ctl.gid,
		.loop = d->loop,
		.backends = d->env.backends,
		.ask_reload = daemon_ask_reload,
		.ctx = d,
	};
	struct err *e = operate_new(&d->operate, &config);

	if (e)
		return e;
	d->env.ctl = operate_ctl(d->operate);
	backends_set_ctl(d->env.backends, d->env.ctl);
	return NULL;
}

static struct err *daemon_start(struct daemon *d)
{
	const struct ovfs_config *config = &d->generation->config;
	struct err *e = daemon_open(d);

	for (size_t i = 0; i < config->mount_count && !e; i++) {
		struct mount_fds fds;

		host_take(d->host, config, i, &fds);
		e = daemon_add(d, &config->mounts[i], &fds,
			       d->alone ? MOUNT_IMPATIENT : MOUNT_PATIENT);
	}
	return e;
}

struct err *daemon_run(struct daemon *d, int *status, void (*cleanup)(void *arg), void *arg)
{
	struct err *e;

	d->error = daemon_start(d);
	if (d->error)
		daemon_begin_end(d);
	loop_run(d->loop);
	e = d->error;
	d->error = NULL;
	*status = e ? EXIT_FAILURE : d->unwritten ? DAEMON_UNWRITTEN : EXIT_SUCCESS;
	if (!e && d->unwritten)
		log_error("stopped", "status=%d unwritten=%u", *status, d->unwritten);
	else if (!e)
		log_info("stopped", "status=%d", *status);
	if (!d->stuck)
		return e;
	if (e)
		log_error("start_failed", "error=\"%s\"", err_msg(e));
	cleanup(arg);
	_exit(*status ? *status : DAEMON_UNWRITTEN); /* as far as anybody knows */
}

void daemon_free(struct daemon *d)
{
	if (!d)
		return;
	reload_exit(d);
	operate_free(d->operate);
	backends_free(d->env.backends);
	loop_free(d->loop);
	if (d->signal_fd >= 0)
		close(d->signal_fd);
	generation_put(d->generation);
	free(d);
}
