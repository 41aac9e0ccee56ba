/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that stays outside of the sandbox. It serves nobody: it passes signals on,
 * waits for the end, and removes the socket, whose path means nothing inside. What else it
 * does (sandbox_config.outside) runs on its loop.
 *
 * And it keeps shown files current. A file of a folder like /etc is bound alone, and
 * when another one is renamed over it, as DHCP clients do with resolv.conf, inside there is
 * still the old one. inotify tells of such a change; then the new file is bound
 * in its place, in the mount namespace of the other process. That takes the right to mount
 * on the host: started without it (in a user namespace), a change is only reported.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/internal.h"

struct supervisor {
	const struct sandbox_config *config;
	struct loop *loop;
	pid_t pid;
	int status; /* of waitpid() */
	struct loop_fd signals;
	struct loop_timer give_up;
	struct loop_fd shown;
};

static const char *supervisor_reason(int signum)
{
	switch (signum) {
	case SIGSYS:
		return " reason=\"system call not in the seccomp list\"";
	case SIGKILL:
		return " reason=\"did not stop in time, or killed from outside\"";
	default:
		return "";
	}
}

/* ---- Shown files ---- */

/* Whether @path is bound as a file alone although others replace it. */
static bool shown_alone(const struct sandbox_path *shown, char folder[PATH_MAX])
{
	char real[PATH_MAX];
	char *slash;

	if (!shown->folder || !realpath(shown->path, real))
		return false;
	slash = strrchr(real, '/');
	*slash = '\0';
	/* Of links it is the link that is replaced, or what it leads to: which is shown
	 * with its folder, or is this same file. */
	snprintf(folder, PATH_MAX, "%s", shown->path);
	slash = strrchr(folder, '/');
	*slash = '\0';
	return sandbox_is_broad(real) && sandbox_is_broad(folder);
}

/* An inotify descriptor for all of them; -1: there are none. */
static int shown_watch(const struct sandbox_config *config)
{
	char folder[PATH_MAX];
	int fd = -1;

	if (!config->stage[SANDBOX_MOUNT])
		return -1;
	for (const struct sandbox_path *p = config->paths; p && p->path; p++) {
		if (!shown_alone(p, folder))
			continue;
		if (fd < 0)
			fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (fd < 0 ||
		    inotify_add_watch(fd, folder[0] ? folder : "/", IN_MOVED_TO | IN_CREATE) < 0)
			log_warn("sandbox_watch_failed", "path=\"%s\" error=\"%s\"", p->path,
				 strerror(errno));
	}
	return fd;
}

/* In a child: from here into the other mount namespace there is no way back. */
static int shown_attach(int tree, pid_t pid, const char *path)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					       MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	char name[64];
	int ns;

	snprintf(name, sizeof(name), "/proc/%d/ns/mnt", (int)pid);
	ns = open(name, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
	    setns(ns, CLONE_NEWNS) < 0)
		return errno;
	/* Else they would pile up. */
	umount2(path, MNT_DETACH);
	return move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? errno : 0;
}

/* Binds what is now at @path over what it was. 0 or a positive errno. */
static int shown_bind(pid_t pid, const char *path)
{
	CLEANUP_CLOSE int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int status = 0;
	pid_t child;

	if (tree < 0)
		return errno;
	child = fork();
	if (child < 0)
		return errno;
	if (child == 0)
		_exit(shown_attach(tree, pid, path));
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

/* Something was put under @name into a folder that is watched. */
static void shown_changed(pid_t pid, const struct sandbox_config *config, const char *name)
{
	char folder[PATH_MAX];

	for (const struct sandbox_path *p = config->paths; p->path; p++) {
		int error;

		if (strcmp(strrchr(p->path, '/') + 1, name) != 0 || !shown_alone(p, folder))
			continue;
		error = shown_bind(pid, p->path);
		if (error)
			log_warn("sandbox_file_outdated",
				 "path=\"%s\" error=\"%s\" hint=\"restart ovfs to have it read\"",
				 p->path, strerror(error));
		else
			log_info("sandbox_file_replaced", "path=\"%s\"", p->path);
	}
}

static void shown_ready(struct loop_fd *entry, uint32_t events)
{
	struct supervisor *sv = container_of(entry, struct supervisor, shown);
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n = read(entry->fd, buf, sizeof(buf));

	(void)events;
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const void *)(buf + at);

		if (event->len > 0)
			shown_changed(sv->pid, sv->config, event->name);
		at += (ssize_t)sizeof(*event) + event->len;
	}
}

/* ---- Signals ---- */

static void supervisor_give_up(struct loop_timer *timer)
{
	kill(container_of(timer, struct supervisor, give_up)->pid, SIGKILL);
}

static void supervisor_stop(struct supervisor *sv, int signum)
{
	const struct sandbox_config *config = sv->config;

	kill(sv->pid, signum);
	if (config->stop_timeout_s)
		loop_timer_arm(sv->loop, &sv->give_up, config->stop_timeout_s * 1000000000ull);
	if (config->outside.stopping)
		config->outside.stopping(config->outside.arg);
}

static void supervisor_signal(struct loop_fd *entry, uint32_t events)
{
	struct supervisor *sv = container_of(entry, struct supervisor, signals);
	const struct sandbox_outside *outside = &sv->config->outside;
	struct signalfd_siginfo info;

	(void)events;
	if (read(entry->fd, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGCHLD:
		if (waitpid(sv->pid, &sv->status, WNOHANG) == sv->pid)
			loop_stop(sv->loop);
		break;
	case SIGTERM:
	case SIGINT:
		supervisor_stop(sv, (int)info.ssi_signo);
		break;
	case SIGHUP:
		if (outside->hangup) {
			outside->hangup(outside->arg);
			break;
		}
		/* fall through */
	default:
		kill(sv->pid, (int)info.ssi_signo);
	}
}

/* Blocked, and read from a descriptor: nothing is missed between looking and waiting. */
static int supervisor_watch_signals(struct supervisor *sv)
{
	sigset_t all, ours;
	int fd;

	sigfillset(&all);
	sigdelset(&all, SIGABRT); /* a watchdog's, when nothing is read from there any more */
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGUSR1);
	sigaddset(&ours, SIGCHLD);
	fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	return loop_fd_add(sv->loop, &sv->signals, fd, EPOLLIN, supervisor_signal);
}

/* ---- The whole of it ---- */

/* Without a loop nobody could be told to stop. */
static _Noreturn void supervisor_fail(struct supervisor *sv, const char *reason)
{
	log_error("supervisor_failed", "error=\"%s\"", reason);
	kill(sv->pid, SIGKILL);
	while (waitpid(sv->pid, &sv->status, 0) < 0 && errno == EINTR)
		;
	if (sv->config->cleanup)
		sv->config->cleanup(sv->config->cleanup_arg);
	_exit(EXIT_FAILURE);
}

static void supervisor_run(struct supervisor *sv)
{
	const struct sandbox_outside *outside = &sv->config->outside;
	struct err *e = loop_new(&sv->loop);
	int ret, fd;

	if (e)
		supervisor_fail(sv, err_msg(e));
	loop_timer_init(&sv->give_up, supervisor_give_up);
	ret = supervisor_watch_signals(sv);
	if (ret < 0)
		supervisor_fail(sv, strerror(-ret));
	fd = shown_watch(sv->config);
	if (fd >= 0)
		loop_fd_add(sv->loop, &sv->shown, fd, EPOLLIN, shown_ready);
	/* It may have ended before its signal was asked for. */
	if (waitpid(sv->pid, &sv->status, WNOHANG) == sv->pid)
		return;
	if (outside->start)
		outside->start(outside->arg, sv->loop, sv->pid);
	loop_run(sv->loop);
}

_Noreturn void sandbox_supervise(pid_t pid, const struct sandbox_config *config)
{
	struct supervisor sv = { .config = config, .pid = pid };
	int status;

	supervisor_run(&sv);
	status = sv.status;
	if (config->cleanup)
		config->cleanup(config->cleanup_arg);
	if (WIFSIGNALED(status)) {
		log_error("daemon_killed", "signal=%d core=%d%s", WTERMSIG(status),
			  WCOREDUMP(status) != 0, supervisor_reason(WTERMSIG(status)));
		_exit(128 + WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}
