/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls setresuid setresgid setgroups capget capset unshare umask fchdir */
#include "fs/filefs/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/filefs/internal.h"

/* What the kernel holds for the calling thread, as we left it. */
static _Thread_local struct {
	bool unshared, unshare_failed; /* has its own umask and working directory */
	bool umask_known;
	mode_t umask;
	int cwd; /* descriptor + 1 of the working directory, 0 for none of ours */
	bool fsetid_dropped;
	bool groups_dropped; /* the supplementary groups the daemon was started with */
} thread_state;

static bool creds_unshare(void)
{
	if (thread_state.unshared)
		return true;
	if (thread_state.unshare_failed)
		return false;
	if (unshare(CLONE_FS) < 0) {
		thread_state.unshare_failed = true;
		return false;
	}
	thread_state.unshared = true;
	return true;
}

int creds_chdir(int dirfd)
{
	if (thread_state.cwd == dirfd + 1)
		return 0;
	if (!creds_unshare())
		return -EPERM;
	if (fchdir(dirfd) < 0)
		return -errno;
	thread_state.cwd = dirfd + 1;
	return 0;
}

mode_t creds_umask(mode_t mode, mode_t mask)
{
	if (!creds_unshare())
		return mode & ~mask;
	if (!thread_state.umask_known || thread_state.umask != mask) {
		umask(mask);
		thread_state.umask = mask;
		thread_state.umask_known = true;
	}
	return mode;
}

/* Sets or clears one of the first 32 capabilities in the effective set. False when it is
 * not permitted. */
static bool creds_cap(unsigned cap, bool on)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	uint32_t bit = 1u << cap;

	if (syscall(SYS_capget, &head, data) < 0)
		return false;
	if (on && !(data[0].permitted & bit))
		return false;
	if (on)
		data[0].effective |= bit;
	else
		data[0].effective &= ~bit;
	return syscall(SYS_capset, &head, data) == 0;
}

void creds_kill_suidgid(bool kill)
{
	if (likely(thread_state.fsetid_dropped == kill))
		return;
	creds_cap(CAP_FSETID, !kill);
	/* Also when it could not be done: then it never can, and asking for each write
	 * again would not change it. */
	thread_state.fsetid_dropped = kill;
}

/* There is no way on with a thread that acts as somebody else. */
static void creds_restore_failed(const char *what)
{
	log_error("creds_restore_failed", "what=%s error=\"%s\"", what, strerror(errno));
	abort();
}

void creds_leave(struct creds *c)
{
	if (c->uid) {
		if (syscall(SYS_setresuid, -1, 0, -1) < 0)
			creds_restore_failed("uid");
		/* Back to 0: the kernel made all permitted capabilities effective. */
		thread_state.fsetid_dropped = false;
	}
	if (c->gid && syscall(SYS_setresgid, -1, 0, -1) < 0)
		creds_restore_failed("gid");
	if (c->groups && syscall(SYS_setgroups, 0, NULL) < 0)
		creds_restore_failed("groups");
	*c = (struct creds){ 0 };
}

static int creds_refuse(struct filefs *fs, const struct fs_req *req, int errnum)
{
	log_limited(&fs->creds_log, LOG_LEVEL_WARN, "identity_refused",
		    "uid=%u gid=%u error=\"%s\"", req->uid, req->gid, strerror(errnum));
	return -EPERM;
}

int creds_enter(struct filefs *fs, const struct fs_req *req, struct creds *c)
{
	*c = (struct creds){ 0 };
	/* To setresuid(2) it means "as before", which is root. */
	if (req->uid == FUSE_INVALID_UIDGID || req->gid == FUSE_INVALID_UIDGID)
		return -EOVERFLOW;
	if (!fs->root_user) {
		if (req->uid == geteuid() && req->gid == getegid())
			return 0;
		return creds_refuse(fs, req, EPERM);
	}
	/* A new file keeps a set-gid bit only for who is in its group, or may. */
	if (req->uid == 0)
		creds_kill_suidgid(false);
	/* Tried once: where it is denied (some user namespaces) there is no way to do it. */
	if (!thread_state.groups_dropped && (req->uid != 0 || req->gid != 0)) {
		syscall(SYS_setgroups, 0, NULL);
		thread_state.groups_dropped = true;
	}
	/* Groups and gid first: they need the capabilities that go with the uid. */
	if (req->has_supp_group && req->supp_group != req->gid) {
		gid_t group = req->supp_group;

		if (syscall(SYS_setgroups, 1, &group) < 0)
			goto refused;
		c->groups = true;
	}
	if (req->gid != 0) {
		if (syscall(SYS_setresgid, -1, req->gid, -1) < 0)
			goto refused;
		c->gid = true;
	}
	if (req->uid != 0) {
		if (syscall(SYS_setresuid, -1, req->uid, -1) < 0)
			goto refused;
		c->uid = true;
	}
	return 0;

refused : {
	int errnum = errno;

	creds_leave(c);
	return creds_refuse(fs, req, errnum);
}
}

bool creds_override(const struct creds *c)
{
	return c->uid && creds_cap(CAP_DAC_OVERRIDE, true);
}
