/* SPDX-License-Identifier: Apache-2.0 */
/* A mount under a new configuration: see mount.h and reload.c. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "mount_priv.h"

bool mount_is_other(const struct ovfs_mount *now, const struct ovfs_mount *then)
{
	if (now->directory_count && then->directory_count)
		return false;
	return now->directory_count || then->directory_count ||
	       !backend_same_storage(&now->backend, &then->backend);
}

/* Nobody opens or closes the storage meanwhile. */
static void mount_hold_run(void *arg)
{
	struct mount *m = arg;

	loop_timer_disarm(&m->retry);
}

static void mount_release_run(void *arg)
{
	struct mount *m = arg;

	if (!m->storage && mount_state(m) == MOUNT_WAITING)
		loop_timer_arm(m->loop, &m->retry, 0);
}

struct err *mount_prepare(struct mount *m, struct generation *generation,
			  const struct ovfs_mount *config, const struct mount_fds *fds)
{
	struct err *e = NULL;

	loop_call(m->loop, mount_hold_run, m);
	log_set_thread_context(m->context);
	if (m->storage)
		e = storage_prepare(m->storage, generation, m->config, config, fds->root);
	log_set_thread_context(NULL);
	if (!e)
		return NULL;
	loop_call(m->loop, mount_release_run, m);
	return err_wrap(e, "mount %s", m->name);
}

void mount_discard(struct mount *m)
{
	if (m->storage)
		storage_discard(m->storage);
	loop_call(m->loop, mount_release_run, m);
}

struct mount_change {
	struct mount *mount;
	struct generation *generation;
	const struct ovfs_mount *config;
	struct mount_fds *fds;
};

static bool wants_socket(const struct ovfs_mount *config, const char *path)
{
	for (size_t i = 0; path && i < config->socket.path.count; i++) {
		if (strcmp(config->socket.path.item[i], path) == 0)
			return true;
	}
	return !path && config->socket.fd != OVFS_SOCKET_FD_NONE;
}

/* Those that are new, and those of directories that stay. */
static void keep_roots(struct mount_fds *kept, struct mount_fds *fds, const struct ovfs_mount *now,
		       const struct ovfs_mount *then, struct mount_fds *fresh)
{
	for (size_t i = 0; i < storage_part_count(then) && i < STORAGE_PARTS_MAX; i++) {
		const struct ovfs_backend *before = storage_part_before(now, then, i);

		kept->root[i] = fresh->root[i];
		fresh->root[i] = -1;
		for (size_t k = 0; before && k < storage_part_count(now); k++) {
			if (storage_part(now, k) != before || kept->root[i] >= 0)
				continue;
			kept->root[i] = fds->root[k];
			fds->root[k] = -1;
		}
	}
}

static void keep_socket(struct mount_fds *kept, const struct mount_socket *s)
{
	if (kept->sockets < MOUNT_SOCKETS_MAX)
		kept->socket[kept->sockets++] = *s;
	else
		close(s->fd);
}

void mount_fds_change(struct mount_fds *fds, const struct ovfs_mount *now,
		      const struct ovfs_mount *then, struct mount_fds *fresh)
{
	const struct conf_list *paths = &then->socket.path;
	struct mount_fds kept;

	mount_fds_init(&kept);
	keep_roots(&kept, fds, now, then, fresh);
	for (size_t i = 0; i < fds->sockets; i++) {
		struct mount_socket *s = &fds->socket[i];

		if (!wants_socket(then, s->path)) {
			close(s->fd);
			continue;
		}
		/* The path of the configuration that will be there. */
		for (size_t p = 0; s->path && p < paths->count; p++) {
			if (strcmp(paths->item[p], s->path) == 0)
				s->path = paths->item[p];
		}
		keep_socket(&kept, s);
	}
	for (size_t i = 0; i < fresh->sockets; i++)
		keep_socket(&kept, &fresh->socket[i]);
	fresh->sockets = 0;
	fds->sockets = 0;
	mount_fds_close(fds);
	mount_fds_close(fresh);
	*fds = kept;
}

/* Of a mount that waits: sockets without ports. */
static void mount_change_fds(struct mount *m, const struct mount_change *change)
{
	mount_let_in(m);
	mount_fds_change(&m->fds, m->config, change->config, change->fds);
	if (mount_state(m) == MOUNT_WAITING)
		mount_turn_away(m);
}

static void mount_change_ports(struct mount *m, const struct mount_change *change)
{
	struct port_config config = mount_port_config(m, change->config);
	struct list *link, *next;
	struct err *e;

	list_for_each_safe (link, next, &m->ports) {
		struct port *port = port_of_link(link);

		if (port_retired(port))
			continue;
		if (wants_socket(change->config, port_path(port)))
			port_reconfigure(port, &config);
		else
			port_retire(port);
	}
	m->fds.sockets = change->fds->sockets;
	memcpy(m->fds.socket, change->fds->socket, sizeof(m->fds.socket));
	change->fds->sockets = 0;
	e = mount_open_ports(m);
	if (e)
		log_error("socket_not_served", "error=\"%s\"", err_msg(e));
	err_free(e);
}

static void mount_change_run(void *arg)
{
	struct mount_change *change = arg;
	struct mount *m = change->mount;
	struct generation *old = m->generation;

	if (!m->storage)
		mount_change_fds(m, change);
	m->generation = generation_get(change->generation);
	m->config = change->config;
	if (m->storage) {
		mount_tell_parts(m);
		mount_change_ports(m, change);
	}
	mount_fds_close(change->fds);
	generation_put(old);
	m->retry_ns = RETRY_FIRST_NS;
	mount_release_run(m);
}

void mount_commit(struct mount *m, struct generation *generation, const struct ovfs_mount *config,
		  struct mount_fds *fds)
{
	struct mount_change change = { m, generation, config, fds };

	log_set_thread_context(m->context);
	if (m->storage)
		storage_commit(m->storage);
	log_set_thread_context(NULL);
	loop_call(m->loop, mount_change_run, &change);
}

static void mount_copy_run(void *arg)
{
	struct mount_change *change = arg;
	struct mount *m = change->mount;

	for (size_t i = 0; i < change->config->socket.path.count; i++) {
		const char *path = change->config->socket.path.item[i];
		struct list *link;
		int fd = -1;

		list_for_each (link, &m->ports) {
			struct port *port = port_of_link(link);

			if (!port_retired(port) && port_path(port) &&
			    strcmp(port_path(port), path) == 0)
				fd = port_listen_fd(port);
		}
		for (size_t k = 0; k < m->fds.sockets; k++) {
			if (m->fds.socket[k].path && strcmp(m->fds.socket[k].path, path) == 0)
				fd = m->fds.socket[k].fd;
		}
		if (fd >= 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd >= 0 && change->fds->sockets < MOUNT_SOCKETS_MAX)
			change->fds->socket[change->fds->sockets++] =
				(struct mount_socket){ path, fd };
	}
}

void mount_copy_sockets(struct mount *m, const struct ovfs_mount *config, struct mount_fds *fds)
{
	struct mount_change change = { m, NULL, config, fds };

	loop_call(m->loop, mount_copy_run, &change);
}
