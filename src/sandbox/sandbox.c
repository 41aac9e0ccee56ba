/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "sandbox/internal.h"

const char *const sandbox_stage_names[SANDBOX_STAGE_COUNT] = {
	[SANDBOX_USER] = "user",
	[SANDBOX_MOUNT] = "mount",
	[SANDBOX_PID] = "pid",
	[SANDBOX_NET] = "net",
	[SANDBOX_IPC] = "ipc",
	[SANDBOX_CAPABILITIES] = "capabilities",
	[SANDBOX_NO_NEW_PRIVS] = "no_new_privs",
	[SANDBOX_SECCOMP] = "seccomp",
};

/* What serving files as somebody else takes, each with its use. */
static const unsigned sandbox_capabilities[] = {
	CAP_CHOWN,	     /* SETATTR of uid and gid */
	CAP_DAC_OVERRIDE,    /* the guest kernel has checked modes (default_permissions) */
	CAP_DAC_READ_SEARCH, /* open_by_handle_at, linkat(AT_EMPTY_PATH) */
	CAP_FOWNER,	     /* chmod, utimens, xattrs of others' files */
	CAP_FSETID,	     /* keep set-id bits when the guest's caller may */
	CAP_SETGID,	     /* create files as the caller's group */
	CAP_SETUID,	     /* and user */
	CAP_MKNOD,	     /* MKNOD of devices */
	CAP_SETFCAP,	     /* security.capability xattrs */
};

static int sandbox_update_capability(capng_act_t action, unsigned capability)
{
	return capng_update(action, CAPNG_PERMITTED | CAPNG_EFFECTIVE, capability);
}

/* @modcaps: "+name:-name", as virtiofsd's --modcaps. */
static struct err *sandbox_modify_capabilities(const char *modcaps)
{
	while (modcaps && *modcaps) {
		size_t len = strcspn(modcaps, ":");
		char name[32];
		int capability;

		snprintf(name, sizeof(name), "%.*s", (int)(len ? len - 1 : 0), modcaps + 1);
		capability = capng_name_to_capability(name);
		if ((*modcaps != '+' && *modcaps != '-') || capability < 0)
			return err_new("modcaps: \"%.*s\" is not +NAME or -NAME of a capability "
				       "(as in \"+sys_admin:-mknod\")",
				       (int)len, modcaps);
		if (sandbox_update_capability(*modcaps == '+' ? CAPNG_ADD : CAPNG_DROP,
					      (unsigned)capability) < 0)
			return err_new("modcaps: cannot change %s", name);
		modcaps += len + (modcaps[len] == ':');
	}
	return NULL;
}

/* Those of file operations only when there is a directory to serve. */
static struct err *sandbox_drop_capabilities(bool files, const char *modcaps)
{
	bool have[CAP_LAST_CAP + 1];
	struct err *e;

	capng_get_caps_process();
	for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
		have[cap] = capng_have_capability(CAPNG_PERMITTED, cap);
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < ARRAY_SIZE(sandbox_capabilities); i++) {
		if (files && have[sandbox_capabilities[i]])
			sandbox_update_capability(CAPNG_ADD, sandbox_capabilities[i]);
	}
	e = sandbox_modify_capabilities(modcaps);
	if (e)
		return e;
	/* The bounding set takes CAP_SETPCAP, which an unprivileged start lacks; with
	 * no set-id program to run it bounds nothing then. */
	if (capng_apply(have[CAP_SETPCAP] ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) < 0)
		return err_new(
			"sandbox: cannot reduce the capabilities (sandbox_settings.disable = "
			"[\"capabilities\"] turns this off)");
	return NULL;
}

/* Every guest-visible open file and cached inode is a descriptor. */
static void sandbox_raise_file_limit(unsigned wanted)
{
	struct rlimit limit;
	rlim_t want = wanted ? wanted : 1000000;
	FILE *f;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	f = fopen("/proc/sys/fs/nr_open", "re");
	if (f) {
		unsigned long long nr_open;

		if (fscanf(f, "%llu", &nr_open) == 1)
			want = MIN(want, (rlim_t)nr_open);
		fclose(f);
	}
	limit.rlim_cur = want;
	if (want > limit.rlim_max) {
		struct rlimit higher = { .rlim_cur = want, .rlim_max = want };

		if (setrlimit(RLIMIT_NOFILE, &higher) == 0)
			return;
		limit.rlim_cur = limit.rlim_max;
	}
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("file_limit_failed", "wanted=%llu error=\"%s\"",
			 (unsigned long long)limit.rlim_cur, strerror(errno));
}

struct err *sandbox_enter(struct sandbox *out, const struct sandbox_config *config)
{
	struct err *e;

	*out = (struct sandbox){ .proc_self_fd = -1, .supervisor_fd = -1 };
	for (size_t i = 0; i < config->root_count; i++)
		config->roots[i].fd = -1;
	sandbox_raise_file_limit(config->max_files);
	e = sandbox_enter_namespaces(out, config);
	if (!e && config->stage[SANDBOX_CAPABILITIES])
		e = sandbox_drop_capabilities(config->files, config->modcaps);
	return e;
}

struct err *sandbox_seal(const struct sandbox_config *config)
{
	char off[128] = "";
	struct err *e;

	if (config->stage[SANDBOX_NO_NEW_PRIVS] && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(errno, "sandbox: no_new_privs");
	if (config->stage[SANDBOX_SECCOMP]) {
		e = sandbox_load_seccomp(config);
		if (e)
			return e;
	}
	for (size_t i = 0; i < SANDBOX_STAGE_COUNT; i++) {
		if (i == SANDBOX_USER || (i == SANDBOX_NET && config->network))
			continue;
		if (!config->stage[i])
			snprintf(off + strlen(off), sizeof(off) - strlen(off), "%s%s",
				 off[0] ? "," : "", sandbox_stage_names[i]);
	}
	if (off[0])
		log_warn("sandbox_reduced", "off=%s", off);
	else
		log_info("sandbox_entered", "stages=all");
	return NULL;
}
