/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assembly: options and configuration, the socket, the sandbox, the mount, and
 * then the control loop until a signal ends it.
 *
 * Exit status: 0 after SIGTERM or SIGINT, 1 when something failed at start, 2
 * for a wrong command line or configuration, 3 when data was left that could not be
 * written. SIGUSR1 has what the storage was asked for so far logged.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "listener.h"
#include "mount.h"
#include "options.h"
#include "sandbox/sandbox.h"
#include "storage_paths.h"

/* From SIGTERM to the end, when a storage does not answer: longer than a queue waits
 * for its requests. */
#define STOP_TIMEOUT_S 30

#define EXIT_UNWRITTEN 3

struct daemon {
	struct loop *loop;
	struct mount *mount;
	bool contained; /* the socket is removed from outside */
	int signal_fd;
	struct loop_fd signal_entry;
	struct loop_fd supervisor_entry;
};

/* Removes the socket that we made; outside the sandbox when there is one. */
static void remove_socket(void *arg)
{
	const struct ovfs_config *config = arg;
	const struct ovfs_mount *mount = &config->mounts[0];
	const char *path = mount->socket.path.count > 0 ? mount->socket.path.item[0] : NULL;

	if (mount->socket.fd == OVFS_SOCKET_FD_NONE && unlink(path) < 0 && errno != ENOENT)
		log_warn("socket_not_removed", "path=\"%s\" error=\"%s\"", path, strerror(errno));
}

static struct sandbox_config sandbox_config(const struct ovfs_config *config,
					    const struct storage_paths *paths)
{
	const struct ovfs_mount *mount = &config->mounts[0];
	const struct ovfs_backend *backend = &mount->backend;
	bool namespaces = config->sandbox.mode == OVFS_SANDBOX_NAMESPACE;
	bool files = backend->storage.type == OVFS_STORAGE_FS;
	uint64_t drain_s = files ? 0 : backend->cache.drain_timeout_ns / 1000000000;
	uint64_t off = config->sandbox.disable;

	return (struct sandbox_config){
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
		.readonly = backend->storage.readonly,
		.root = files ? backend->storage.root : NULL,
		.paths = paths->path,
		.network = backend->storage.type == OVFS_STORAGE_S3,
		.modcaps = config->sandbox.modcaps,
		.chroot = config->sandbox.mode == OVFS_SANDBOX_CHROOT,
		.max_files = mount->fuse.fd_limit,
		.stop_timeout_s = STOP_TIMEOUT_S + (unsigned)drain_s,
		.cleanup = remove_socket,
		.cleanup_arg = (void *)config,
	};
}

static void signal_ready(struct loop_fd *entry, uint32_t events)
{
	struct daemon *d = container_of(entry, struct daemon, signal_entry);
	struct signalfd_siginfo info;

	(void)events;
	if (read(entry->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP) {
		log_warn("reload_unsupported",
			 "hint=\"restart ovfs to apply a new configuration\"");
		return;
	}
	if (info.ssi_signo == SIGUSR1) {
		mount_log(d->mount);
		return;
	}
	log_info("stopping", "signal=%u", info.ssi_signo);
	loop_stop(d->loop);
}

static void supervisor_gone(struct loop_fd *entry, uint32_t events)
{
	struct daemon *d = container_of(entry, struct daemon, supervisor_entry);

	(void)events;
	log_error("supervisor_died", "action=stopping");
	loop_fd_remove(d->loop, entry);
	loop_stop(d->loop);
}

/* Signals arrive in the control loop and nowhere else. */
static struct err *signals_block(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, set, NULL) < 0 ? err_errno(errno, "sigprocmask") : NULL;
}

static struct err *daemon_watch(struct daemon *d, const sigset_t *set, int supervisor_fd)
{
	int ret;

	d->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return err_errno(errno, "signalfd");
	ret = loop_fd_add(d->loop, &d->signal_entry, d->signal_fd, EPOLLIN, signal_ready);
	if (ret == 0 && supervisor_fd >= 0)
		ret = loop_fd_add(d->loop, &d->supervisor_entry, supervisor_fd, EPOLLIN,
				  supervisor_gone);
	return ret < 0 ? err_errno(-ret, "epoll_ctl") : NULL;
}

/* What there is to be served, for the log. */
static const char *storage_name(const struct ovfs_backend *config)
{
	switch (config->storage.type) {
	case OVFS_STORAGE_S3:
		return config->storage.s3.bucket;
	case OVFS_STORAGE_MEMORY:
		return "memory";
	default:
		return config->storage.root;
	}
}

/* Serves until a signal. Does not return when data was left. */
static void daemon_serve(struct daemon *d, const struct ovfs_config *config)
{
	const struct ovfs_mount *mount = &config->mounts[0];
	unsigned unwritten;

	log_info("ready", "socket=\"%s\" root=\"%s\"",
		 mount->socket.path.count > 0 ? mount->socket.path.item[0] : "inherited",
		 storage_name(&mount->backend));
	loop_run(d->loop);
	unwritten = mount_free(d->mount);
	if (!unwritten) {
		log_info("stopped", "status=0");
		return;
	}
	log_error("stopped", "status=%d unwritten=%u", EXIT_UNWRITTEN, unwritten);
	if (!d->contained)
		remove_socket((void *)config);
	_exit(EXIT_UNWRITTEN);
}

/* From the open socket to the end of the daemon. */
static struct err *daemon_run(struct daemon *d, const struct ovfs_config *config,
			      const struct sandbox_config *isolation, int listen_fd)
{
	struct sandbox sandbox;
	struct err *e;
	sigset_t set;

	e = signals_block(&set);
	if (!e)
		e = sandbox_enter(&sandbox, isolation);
	if (e)
		return e;
	d->contained = sandbox.contained;
	umask(0); /* the guest's kernel has applied the caller's */

	e = loop_new(&d->loop);
	if (!e)
		e = daemon_watch(d, &set, sandbox.supervisor_fd);
	if (!e)
		e = sandbox_seal(isolation);
	if (!e)
		e = mount_new(&d->mount, config, &config->mounts[0], d->loop, listen_fd,
			      sandbox.root_fd, sandbox.proc_self_fd);
	if (!e)
		daemon_serve(d, config);
	loop_free(d->loop);
	return e;
}

/* The socket, the sandbox, and all that is inside of it. */
static struct err *daemon_start(struct daemon *d, const struct ovfs_config *config)
{
	struct storage_paths paths;
	struct sandbox_config isolation;
	const struct ovfs_mount *mount = &config->mounts[0];
	int listen_fd = mount->socket.fd;
	struct err *e;

	e = storage_paths_init(&paths, &mount->backend);
	if (e)
		return e;
	if (listen_fd != OVFS_SOCKET_FD_NONE)
		e = listener_adopt(listen_fd);
	else
		e = listener_open(&listen_fd, mount->socket.path.item[0], mount->socket.gid);
	if (!e) {
		isolation = sandbox_config(config, &paths);
		e = daemon_run(d, config, &isolation, listen_fd);
		if (!d->contained)
			remove_socket((void *)config);
	}
	storage_paths_destroy(&paths);
	return e;
}

int main(int argc, char **argv)
{
	struct daemon d = { .signal_fd = -1 };
	struct options options;
	int status;
	struct err *e;

	status = options_load(&options, argc, argv, stdout, stderr);
	if (status != OPTIONS_RUN)
		return status;
	log_set_level(options.config.log.level);
	if (options.config.log.target != OVFS_LOG_AUTO)
		log_set_journal(options.config.log.target == OVFS_LOG_JOURNAL);
	options_log_notes(&options);

	e = daemon_start(&d, &options.config);
	if (e)
		fprintf(stderr, "ovfs: %s\n", err_msg(e));
	status = e ? EXIT_FAILURE : EXIT_SUCCESS;
	err_free(e);
	options_free(&options);
	return status;
}
