/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Isolation of the daemon from the host it runs on.
 *
 * What a guest may achieve by taking over this process is limited in stages,
 * each of which can be turned off by name ([sandbox_settings] disable) and
 * fails with an error that says so when the host cannot give it:
 *
 *	user		a user namespace, only when not started as root
 *	mount		a mount namespace whose root is the shared directory; with several of
 *			them, or none, a tree that has nothing but a few paths, read-only, and
 *			each directory is a mount of its own that no path leads to or out of
 *	pid, net, ipc	namespaces in which nobody else lives; net not for a storage
 *			behind the network
 *	capabilities	those that file operations need, and no others; none at all
 *			without a shared directory
 *	no_new_privs	no gain through execve
 *	seccomp		the system calls listed beside their users (#syscalls)
 *
 * Called once, from the only thread, before any guest is spoken to and before
 * other threads exist; what is needed from outside (sockets, configuration)
 * has been opened by then.
 */
#ifndef OVFS_SANDBOX_SANDBOX_H
#define OVFS_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"

enum sandbox_stage {
	SANDBOX_USER,
	SANDBOX_MOUNT,
	SANDBOX_PID,
	SANDBOX_NET,
	SANDBOX_IPC,
	SANDBOX_CAPABILITIES,
	SANDBOX_NO_NEW_PRIVS,
	SANDBOX_SECCOMP,
	SANDBOX_STAGE_COUNT,
};

/* Names as configuration and the log write them. */
extern const char *const sandbox_stage_names[SANDBOX_STAGE_COUNT];

enum sandbox_seccomp {
	SANDBOX_SECCOMP_KILL, /* an unlisted call kills the process */
	SANDBOX_SECCOMP_LOG,  /* it is logged by the kernel (audit) and allowed */
};

/* A directory to be served. */
struct sandbox_root {
	const char *path;
	bool readonly; /* mounted so as well */
	int fd;	       /* out: O_PATH of it; the caller's */
};

/* What is still to be seen where the root is no shared directory. */
struct sandbox_path {
	const char *path; /* absolute; what does not exist is left out */
	/* A file that others replace: all of the folder that it is in (unless that is a
	 * directory like /etc, where too much lives). */
	bool folder;
};

/* The process that stays outside has a loop, and may do more than watch over the other. */
struct sandbox_outside {
	/* Once, when the loop exists and before it runs. @pid: the sandboxed process. */
	void (*start)(void *arg, struct loop *loop, pid_t pid);
	/* SIGHUP came; without this, it is passed on. */
	void (*hangup)(void *arg);
	/* SIGTERM or SIGINT came, and was passed on. */
	void (*stopping)(void *arg);
	void *arg;
};

struct sandbox_config {
	bool stage[SANDBOX_STAGE_COUNT];
	enum sandbox_seccomp seccomp;
	/* One alone becomes "/" with SANDBOX_MOUNT, unless @paths are to be seen, too. */
	struct sandbox_root *roots;
	size_t root_count;
	const struct sandbox_path *paths; /* ends with a NULL path. NULL: none */
	bool files;   /* directories are served, now or later: their capabilities and calls */
	bool network; /* a storage is behind the network: SANDBOX_NET is ignored */
	const char *modcaps; /* changes to the capability list, "+sys_admin:-mknod"; or NULL */
	bool chroot;	     /* in place of SANDBOX_MOUNT: chroot(2) into the root, if it is one */
	unsigned max_files;  /* RLIMIT_NOFILE to ask for; 0: as many as there may be */

	/* With SANDBOX_PID: a process that has not ended this long after SIGTERM or
	 * SIGINT hangs on its storage and is killed from outside. 0: never. Read when the
	 * signal comes. */
	unsigned stop_timeout_s;

	struct sandbox_outside outside;

	/* Runs in the process that stays outside, after the sandboxed one ended and
	 * before exiting; also runs when there is no such process. */
	void (*cleanup)(void *arg);
	void *cleanup_arg;
};

struct sandbox {
	int proc_self_fd;  /* O_PATH of /proc/self/fd, whose ".." leads nowhere; -1: no files */
	int supervisor_fd; /* end of file when the process outside died; -1: none */
	bool contained;	   /* cleanup is the supervisor's */
};

/*
 * Enters every stage up to capabilities, in order. With another root, a PID
 * namespace or the filter this forks: the caller goes on as a new process (with SANDBOX_PID as
 * process 1 of its namespace) while the original process waits outside, passes SIGTERM, SIGINT,
 * SIGHUP and SIGUSR1 on, and exits with the status of the inner one. Those signals are blocked
 * by the caller. The descriptors in *@out and in config->roots are the caller's.
 */
struct err *sandbox_enter(struct sandbox *out, const struct sandbox_config *config);

/*
 * Opens a directory that is to be served from later on, as sandbox_enter() does, to be handed to
 * the sandboxed process. For the process outside, or who has no sandbox.
 */
struct err *sandbox_open_root(struct sandbox_root *root, const struct sandbox_config *config);

/* The last two stages, no_new_privs and seccomp. */
struct err *sandbox_seal(const struct sandbox_config *config);

#endif
