/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/apart.h"
#include "base/log.h"
#include "listener.h"

/* From SIGTERM to the end, when a storage does not answer: longer than a queue waits
 * for its requests. */
#define STOP_TIMEOUT_S 30

unsigned host_stop_timeout_s(const struct ovfs_config *config)
{
	uint64_t longest = 0;

	for (size_t i = 0; i < config->mount_count; i++) {
		const struct ovfs_mount *m = &config->mounts[i];

		for (size_t p = 0; p < storage_part_count(m) && ovfs_mount_has_cache(m); p++)
			longest = MAX(longest, storage_part(m, p)->cache.drain_timeout_ns);
	}
	return STOP_TIMEOUT_S + (unsigned)(longest / 1000000000);
}

/* ---- The sandbox ---- */

static size_t files_parts(const struct ovfs_mount *mount)
{
	size_t count = 0;

	for (size_t p = 0; p < storage_part_count(mount); p++)
		count += storage_part(mount, p)->storage.type == OVFS_STORAGE_FS;
	return count;
}

/* Descriptors for all guests' files; 0: as many as there may be. */
static unsigned host_files(const struct ovfs_config *config)
{
	unsigned sum = 0;

	for (size_t i = 0; i < config->mount_count; i++) {
		const struct ovfs_mount *m = &config->mounts[i];

		unsigned parts = (unsigned)files_parts(m);

		if (parts == 0)
			continue;
		if (m->fuse.fd_limit == 0 || m->fuse.fd_limit > (UINT32_MAX - sum) / parts)
			return 0;
		sum += m->fuse.fd_limit * parts;
	}
	return sum;
}

static void host_isolate(struct host *host, const struct ovfs_config *config)
{
	bool namespaces = config->sandbox.mode == OVFS_SANDBOX_NAMESPACE;
	uint64_t off = config->sandbox.disable;

	host->isolation = (struct sandbox_config){
		.stage = {
			[SANDBOX_USER] = namespaces && !(off & OVFS_STAGE_USER),
			[SANDBOX_MOUNT] = namespaces && !(off & OVFS_STAGE_MOUNT),
			[SANDBOX_PID] = namespaces && !(off & OVFS_STAGE_PID),
			[SANDBOX_NET] = namespaces && !(off & OVFS_STAGE_NET),
			[SANDBOX_IPC] = namespaces && !(off & OVFS_STAGE_IPC),
			[SANDBOX_CAPABILITIES] = !(off & OVFS_STAGE_CAPABILITIES),
			[SANDBOX_NO_NEW_PRIVS] = !(off & OVFS_STAGE_NO_NEW_PRIVS),
			[SANDBOX_SECCOMP] = config->sandbox.seccomp != OVFS_SECCOMP_NONE,
		},
		.seccomp = config->sandbox.seccomp == OVFS_SECCOMP_LOG ? SANDBOX_SECCOMP_LOG
								       : SANDBOX_SECCOMP_KILL,
		.roots = host->roots,
		.root_count = host->root_count,
		.paths = host->paths.path,
		.files = host->root_count > 0,
		.modcaps = config->sandbox.modcaps,
		.chroot = config->sandbox.mode == OVFS_SANDBOX_CHROOT,
		.max_files = host_files(config),
		.stop_timeout_s = host_stop_timeout_s(config),
	};
	for (size_t i = 0; i < config->mount_count; i++) {
		const struct ovfs_mount *m = &config->mounts[i];

		for (size_t p = 0; p < storage_part_count(m); p++)
			host->isolation.network |=
				storage_part(m, p)->storage.type == OVFS_STORAGE_S3;
	}
}

/* Of host->sealed; sealed_count when it is none. */
static size_t find_sealed(const struct host *host, const char *mount, const char *path)
{
	const size_t len = strlen(mount);
	size_t i;

	for (i = 0; i < host->sealed_count; i++) {
		const char *s = host->sealed[i];

		if (strncmp(s, mount, len) == 0 && s[len] == ':' && strcmp(s + len + 1, path) == 0)
			break;
	}
	return i;
}

bool host_is_sealed(const struct host *host, const char *mount, const char *path)
{
	return find_sealed(host, mount, path) < host->sealed_count;
}

int host_note_root(struct host *host, const char *mount, const char *path, bool readonly)
{
	size_t at = find_sealed(host, mount, path);
	char **grown;

	if (!readonly && at < host->sealed_count) {
		free(host->sealed[at]);
		host->sealed[at] = host->sealed[--host->sealed_count];
	}
	if (!readonly || at < host->sealed_count)
		return 0;
	grown = reallocarray(host->sealed, host->sealed_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	host->sealed = grown;
	if (asprintf(&host->sealed[host->sealed_count], "%s:%s", mount, path) < 0)
		return -ENOMEM;
	host->sealed_count++;
	return 0;
}

struct err *host_check_root(const struct ovfs_mount *mount, const char *path)
{
	int ret = apart_look_at_directory(path, OVFS_ROOT_TIMEOUT_MS);

	return ret < 0 ? err_errno(-ret, "mount %s: directory %s", mount->name, path) : NULL;
}

static struct err *host_add_root(struct host *host, const struct ovfs_mount *mount,
				 const struct ovfs_backend *backend)
{
	const bool readonly = backend->storage.readonly;
	struct err *e = NULL;

	if (backend->storage.type == OVFS_STORAGE_FS) {
		e = host_check_root(mount, backend->storage.root);
		if (e)
			return e;
		host->roots[host->root_count++] = (struct sandbox_root){
			.path = backend->storage.root,
			.readonly = readonly,
			.fd = -1,
		};
		if (host_note_root(host, mount->name, backend->storage.root, readonly) < 0)
			return err_errno(ENOMEM, "sandbox");
	}
	return storage_paths_add(&host->paths, backend);
}

static struct err *host_add_roots(struct host *host, const struct ovfs_config *config)
{
	struct err *e = NULL;
	size_t parts = 0;

	for (size_t i = 0; i < config->mount_count; i++)
		parts += storage_part_count(&config->mounts[i]);
	host->roots = calloc(parts + 1, sizeof(host->roots[0]));
	host->paths.path = calloc(1, sizeof(host->paths.path[0]));
	if (!host->roots || !host->paths.path)
		return err_errno(ENOMEM, "sandbox");
	for (size_t i = 0; i < config->mount_count && !e; i++) {
		const struct ovfs_mount *m = &config->mounts[i];

		for (size_t p = 0; p < storage_part_count(m) && !e; p++)
			e = host_add_root(host, m, storage_part(m, p));
	}
	return e;
}

/* ---- Sockets ---- */

/* Room for one more; NULL for lack of memory. */
static struct host_socket *socket_add(struct host *host, const char *mount, const char *path)
{
	struct host_socket *grown =
		reallocarray(host->sockets, host->socket_count + 1, sizeof(*grown));
	struct host_socket *s;

	if (!grown)
		return NULL;
	host->sockets = grown;
	s = &grown[host->socket_count];
	*s = (struct host_socket){ .mount = strdup(mount),
				   .path = path ? strdup(path) : NULL,
				   .fd = -1 };
	if (!s->mount || (path && !s->path)) {
		free(s->mount);
		free(s->path);
		return NULL;
	}
	host->socket_count++;
	return s;
}

/* Out of the list, and its file out of the way if it is ours. */
static void socket_remove(struct host *host, struct host_socket *s)
{
	if (s->path && unlink(s->path) < 0 && errno != ENOENT)
		log_warn("socket_not_removed", "path=\"%s\" error=\"%s\"", s->path,
			 strerror(errno));
	if (s->fd >= 0)
		close(s->fd);
	free(s->mount);
	free(s->path);
	*s = host->sockets[--host->socket_count];
}

static struct err *socket_open(struct host *host, const struct ovfs_mount *mount, const char *path,
			       int *fd)
{
	struct host_socket *s;
	int opened = -1;
	struct err *e = listener_open(&opened, path, mount->socket.gid);

	if (e)
		return e;
	s = socket_add(host, mount->name, path);
	if (!s) {
		close(opened);
		unlink(path);
		return err_errno(ENOMEM, "socket");
	}
	s->fd = *fd = opened;
	return NULL;
}

static struct err *host_open_sockets(struct host *host, const struct ovfs_mount *mount)
{
	struct err *e = NULL;
	int fd;

	if (mount->socket.fd != OVFS_SOCKET_FD_NONE) {
		struct host_socket *s = socket_add(host, mount->name, NULL);

		if (!s)
			return err_errno(ENOMEM, "socket");
		s->fd = mount->socket.fd;
		return listener_adopt(s->fd);
	}
	for (size_t i = 0; i < mount->socket.path.count && !e; i++)
		e = socket_open(host, mount, mount->socket.path.item[i], &fd);
	return e;
}

/* ---- Start and end ---- */

struct err *host_init(struct host *host, const struct ovfs_config *config)
{
	struct err *e;

	*host = (struct host){
		.operate = { .control_fd = CTL_FD_NONE, .metrics_fd = CTL_FD_NONE },
	};
	e = host_add_roots(host, config);
	if (!e)
		e = operate_open(&host->operate, config);
	for (size_t i = 0; i < config->mount_count && !e; i++) {
		if (storage_part_count(&config->mounts[i]) > STORAGE_PARTS_MAX)
			e = err_new("mount %s: %d directories at most", config->mounts[i].name,
				    STORAGE_PARTS_MAX);
		else
			e = host_open_sockets(host, &config->mounts[i]);
	}
	if (e) {
		host_remove_sockets(host);
		host_destroy(host);
		return e;
	}
	host_isolate(host, config);
	return NULL;
}

void host_take(struct host *host, const struct ovfs_config *config, size_t index,
	       struct mount_fds *fds)
{
	const struct ovfs_mount *mount = &config->mounts[index];
	size_t root = 0;

	mount_fds_init(fds);
	for (size_t i = 0; i < host->socket_count && fds->sockets < MOUNT_SOCKETS_MAX; i++) {
		struct host_socket *s = &host->sockets[i];

		if (strcmp(s->mount, mount->name) != 0)
			continue;
		fds->socket[fds->sockets++] = (struct mount_socket){ s->path, s->fd };
		s->fd = -1;
	}
	for (size_t i = 0; i < index; i++)
		root += files_parts(&config->mounts[i]);
	for (size_t p = 0; p < storage_part_count(mount); p++) {
		if (storage_part(mount, p)->storage.type != OVFS_STORAGE_FS)
			continue;
		fds->root[p] = host->roots[root].fd;
		host->roots[root++].fd = -1;
	}
}

void host_close(struct host *host)
{
	for (size_t i = 0; i < host->socket_count; i++) {
		if (host->sockets[i].fd >= 0)
			close(host->sockets[i].fd);
		host->sockets[i].fd = -1;
	}
	operate_close(&host->operate);
}

void host_remove_sockets(struct host *host)
{
	operate_remove(&host->operate);
	while (host->socket_count)
		socket_remove(host, &host->sockets[0]);
}

void host_destroy(struct host *host)
{
	for (size_t i = 0; i < host->socket_count; i++) {
		if (host->sockets[i].fd >= 0)
			close(host->sockets[i].fd);
		free(host->sockets[i].mount);
		free(host->sockets[i].path);
	}
	for (size_t i = 0; i < host->root_count; i++) {
		if (host->roots[i].fd >= 0)
			close(host->roots[i].fd);
	}
	operate_close(&host->operate);
	free(host->operate.control_path);
	free(host->operate.metrics_path);
	for (size_t i = 0; i < host->sealed_count; i++)
		free(host->sealed[i]);
	free(host->sealed);
	free(host->sockets);
	free(host->roots);
	storage_paths_destroy(&host->paths);
	*host = (struct host){ 0 };
}

/* ---- Reload ---- */

struct err *host_want_socket(struct host *host, const struct ovfs_mount *mount, const char *path,
			     int *fd)
{
	struct err *e;

	*fd = -1;
	for (size_t i = 0; i < host->socket_count; i++) {
		struct host_socket *s = &host->sockets[i];

		if (!s->path || strcmp(s->path, path) != 0)
			continue;
		if (strcmp(s->mount, mount->name) != 0)
			return err_new("socket %s goes from mount %s to %s: remove it first, then "
				       "add it",
				       path, s->mount, mount->name);
		s->wanted = true;
		return NULL;
	}
	e = socket_open(host, mount, path, fd);
	if (e)
		return e;
	host->sockets[host->socket_count - 1].wanted = true;
	host->sockets[host->socket_count - 1].fresh = true;
	return NULL;
}

static void host_settle(struct host *host)
{
	for (size_t i = 0; i < host->socket_count; i++)
		host->sockets[i].wanted = host->sockets[i].fresh = false;
	host_close(host);
}

void host_keep(struct host *host)
{
	for (size_t i = host->socket_count; i-- > 0;) {
		struct host_socket *s = &host->sockets[i];

		if (!s->wanted && s->path) {
			log_info("socket_removed", "mount=%s path=\"%s\"", s->mount, s->path);
			socket_remove(host, s);
		}
	}
	host_settle(host);
}

void host_drop(struct host *host)
{
	for (size_t i = host->socket_count; i-- > 0;) {
		if (host->sockets[i].fresh)
			socket_remove(host, &host->sockets[i]);
	}
	host_settle(host);
}
