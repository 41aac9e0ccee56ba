/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespaces of the sandbox.
 *
 * Order matters. The user namespace comes first, for it gives the right to make
 * the others. The PID namespace holds only children, hence the fork; its
 * first process dies with everything in it, so a queue thread can not outlive
 * the daemon. The mount namespace is last: after pivot_root() and the lazy
 * unmount of the old root no path outside the shared directory has a name any
 * more. Mounts that the host makes below that directory later still appear
 * (MS_SLAVE), those made here never reach the host.
 *
 * Several directories cannot all be the root. Each is then a detached copy of its tree of
 * mounts, known by its descriptor alone: ".." of its root is itself, and no path of another, nor
 * of our own root, comes there. Mounts that the host makes below it later do not appear.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/internal.h"

/* One name for what can be done about it, at the end of every message. */
static struct err *sandbox_refused(int errnum, enum sandbox_stage stage, const char *what)
{
	return err_errno(errnum,
			 "sandbox: cannot %s (start ovfs with the privilege, or turn the stage off "
			 "with sandbox_settings.disable = [\"%s\"])",
			 what, sandbox_stage_names[stage]);
}

static int write_proc(const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Ourselves as root of a namespace of one user (user_namespaces(7)). */
static struct err *sandbox_enter_user(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];
	int ret;

	if (unshare(CLONE_NEWUSER) < 0)
		return sandbox_refused(errno, SANDBOX_USER, "create a user namespace");
	ret = write_proc("/proc/self/setgroups", "deny");
	if (ret == 0 || ret == -ENOENT) {
		snprintf(map, sizeof(map), "0 %u 1\n", uid);
		ret = write_proc("/proc/self/uid_map", map);
	}
	if (ret == 0) {
		snprintf(map, sizeof(map), "0 %u 1\n", gid);
		ret = write_proc("/proc/self/gid_map", map);
	}
	return ret ? sandbox_refused(-ret, SANDBOX_USER, "map the user into its namespace") : NULL;
}

/*
 * Forks, into a new PID namespace if that is asked for; only the inner process
 * returns. Without the namespace the fork is for the cleanup, which an inner
 * process behind another root or the filter cannot do.
 */
static struct err *sandbox_enter_pid(struct sandbox *out, const struct sandbox_config *config)
{
	int alive[2];
	pid_t pid;

	if (config->stage[SANDBOX_PID] && unshare(CLONE_NEWPID) < 0)
		return sandbox_refused(errno, SANDBOX_PID, "create a PID namespace");
	if (pipe2(alive, O_CLOEXEC) < 0)
		return err_errno(errno, "sandbox: pipe");
	pid = fork();
	if (pid < 0)
		return err_errno(errno, "sandbox: fork");
	if (pid > 0) {
		close(alive[0]);
		sandbox_supervise(pid, config); /* keeps alive[1] to its end */
	}
	close(alive[1]);
	/* What the supervisor forks is in our PID namespace, too, so its orphans (base/apart.h)
	 * are ours. Nobody waits for them. */
	signal(SIGCHLD, SIG_IGN);
	out->supervisor_fd = alive[0];
	out->contained = true;
	return NULL;
}

/*
 * An O_PATH descriptor of /proc/self/fd. As the root of a detached mount of its
 * own its ".." is itself, so that it is no way back to the host's /proc.
 */
static struct err *sandbox_open_proc(struct sandbox *out, bool detach)
{
	int fd = -1;

	if (detach)
		fd = open_tree(AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0) {
		if (detach)
			log_warn("sandbox_proc_attached", "error=\"%s\"", strerror(errno));
		fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return err_errno(errno, "cannot open /proc/self/fd (is /proc mounted?)");
	out->proc_self_fd = fd;
	return NULL;
}

static struct mount_attr sandbox_attributes(bool readonly)
{
	return (struct mount_attr){ .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						MOUNT_ATTR_NOEXEC |
						(readonly ? MOUNT_ATTR_RDONLY : 0) };
}

/* A second line of defence, from Linux 5.12 on: the driver refuses on its own. */
static void sandbox_mount_attributes(int fd, const char *path, bool readonly)
{
	struct mount_attr attr = sandbox_attributes(readonly);

	if (mount_setattr(fd, path, AT_RECURSIVE | (path[0] ? 0u : AT_EMPTY_PATH), &attr,
			  sizeof(attr)) < 0)
		log_info("sandbox_mount_attributes_unavailable", "error=\"%s\"", strerror(errno));
}

/* The one directory that is to be "/"; NULL: a tree of its own is. */
static struct sandbox_root *sandbox_new_root(const struct sandbox_config *config)
{
	return config->root_count == 1 && !config->network ? &config->roots[0] : NULL;
}

struct err *sandbox_open_root(struct sandbox_root *root, const struct sandbox_config *config)
{
	if (config->stage[SANDBOX_MOUNT])
		root->fd = open_tree(AT_FDCWD, root->path,
				     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	else
		root->fd = open(root->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root->fd < 0 && errno == EPERM)
		return sandbox_refused(errno, SANDBOX_MOUNT, "detach a shared directory");
	if (root->fd < 0)
		return err_errno(errno, "cannot open %s", root->path);
	if (config->stage[SANDBOX_MOUNT])
		sandbox_mount_attributes(root->fd, "", root->readonly);
	return NULL;
}

static struct err *sandbox_open_roots(const struct sandbox_config *config)
{
	struct err *e = NULL;

	for (size_t i = 0; i < config->root_count && !e; i++)
		e = sandbox_open_root(&config->roots[i], config);
	return e;
}

/* Whether our root is a directory below the root of its mount. */
static bool sandbox_in_chroot(void)
{
	struct statx stx;

	return statx(AT_FDCWD, "/", 0, 0, &stx) == 0 &&
	       (stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
	       !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* Puts what is to be the root there, and ourselves into it. */
static struct err *sandbox_mount_root(const struct sandbox_config *config)
{
	const struct sandbox_root *new_root = sandbox_new_root(config);
	const char *root = new_root ? new_root->path : SANDBOX_TREE;
	struct err *e = NULL;

	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return sandbox_refused(errno, SANDBOX_MOUNT, "cut mount propagation to the host");
	if (!new_root) {
		e = sandbox_open_roots(config);
		if (!e)
			e = sandbox_build_tree(config->paths);
	} else if (mount(root, root, NULL, MS_BIND | MS_REC, NULL) < 0) {
		e = sandbox_refused(errno, SANDBOX_MOUNT, "bind the shared directory");
	}
	if (e)
		return e;
	return chdir(root) < 0 ? err_errno(errno, "sandbox: %s", root) : NULL;
}

/* Makes the shared directory, or the tree, the root of a mount namespace of our own. */
static struct err *sandbox_enter_mount(const struct sandbox_config *config)
{
	CLEANUP_CLOSE int old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const struct sandbox_root *new_root = sandbox_new_root(config);
	struct err *e;

	if (sandbox_in_chroot())
		return err_new("sandbox: ovfs was started in a chroot, where the kernel allows no "
			       "pivot_root: set sandbox_settings.mode = \"chroot\", or "
			       "sandbox_settings.disable = [\"mount\"]");
	if (old_root < 0)
		return err_errno(errno, "sandbox: open /");
	e = sandbox_mount_root(config);
	if (e)
		return e;
	sandbox_mount_attributes(AT_FDCWD, ".", !new_root || new_root->readonly);
	/* pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the
	 * new one and is taken off again. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return sandbox_refused(errno, SANDBOX_MOUNT, "pivot_root into the new root");
	if (fchdir(old_root) < 0 || mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return sandbox_refused(errno, SANDBOX_MOUNT, "detach the host's root");
	return NULL;
}

static struct err *sandbox_enter_chroot(const char *root)
{
	if (chroot(root) < 0 || chdir("/") < 0)
		return err_errno(errno,
				 "sandbox: cannot chroot to %s (needs CAP_SYS_CHROOT; or set "
				 "sandbox_settings.mode = \"none\")",
				 root);
	return NULL;
}

struct err *sandbox_enter_namespaces(struct sandbox *out, const struct sandbox_config *config)
{
	struct sandbox_root *root = sandbox_new_root(config);
	struct err *e = NULL;

	if (config->stage[SANDBOX_USER] && geteuid() != 0)
		e = sandbox_enter_user();
	if (!e && config->stage[SANDBOX_NET] && !config->network && unshare(CLONE_NEWNET) < 0)
		e = sandbox_refused(errno, SANDBOX_NET, "create a network namespace");
	if (!e && config->stage[SANDBOX_IPC] && unshare(CLONE_NEWIPC) < 0)
		e = sandbox_refused(errno, SANDBOX_IPC, "create an IPC namespace");
	if (!e && (config->stage[SANDBOX_PID] || config->stage[SANDBOX_MOUNT] || config->chroot ||
		   config->stage[SANDBOX_SECCOMP]))
		e = sandbox_enter_pid(out, config);
	if (!e && config->stage[SANDBOX_MOUNT] && unshare(CLONE_NEWNS) < 0)
		e = sandbox_refused(errno, SANDBOX_MOUNT, "create a mount namespace");
	if (!e && config->files)
		e = sandbox_open_proc(out, config->stage[SANDBOX_MOUNT]);
	if (!e && config->stage[SANDBOX_MOUNT])
		e = sandbox_enter_mount(config);
	else if (!e && !root)
		e = sandbox_open_roots(config);
	else if (!e && config->chroot)
		e = sandbox_enter_chroot(root->path);
	if (e || !root)
		return e;

	root->fd = open(config->stage[SANDBOX_MOUNT] || config->chroot ? "/" : root->path,
			O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root->fd < 0 ? err_errno(errno, "cannot open %s", root->path) : NULL;
}
