/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system call filter.
 *
 * Each call is listed beside the code that makes it, in a comment line
 *
 *	#syscalls preadv2 pwritev2
 *
 * and the build collects those lines of src/ into tables (scripts/seccomp.sh): a
 * call whose code goes leaves the filter with it. What only the driver for
 * directories does, or only the services behind the network, has a table of its own, and is
 * allowed to mounts of that kind. The lines in this file are for what the C library
 * does on its own.
 *
 * #syscalls read write close futex brk mmap munmap mremap mprotect madvise
 * #syscalls rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
 * #syscalls clock_gettime clock_nanosleep nanosleep gettimeofday
 * #syscalls set_robust_list rseq sched_yield sched_getaffinity getpid gettid tgkill
 * #syscalls exit exit_group restart_syscall getrandom set_tid_address
 * #syscalls openat lseek -- the time zone, the processors there are; which files there are to be
 *	opened is the mount namespace's part
 *
 * Threads are the only thing to be cloned: clone3's flags lie in memory where a
 * filter cannot see them, so it does not exist here, and the C library falls
 * back to clone, whose flags must say CLONE_THREAD.
 */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "sandbox/internal.h"
#include "syscalls.h" /* generated: sandbox_syscalls[], _files[], _network[] */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANDBOX_SANITIZED 1
#endif
#endif

/*
 * Sockets to the network alone: in the host's network namespace there are abstract
 * Unix sockets, and whoever listens there may trust root. The C library asks nscd through
 * such a socket whether it is there, and takes no for an answer. Netlink tells getaddrinfo(3)
 * which families of addresses there are.
 */
static int sandbox_add_sockets(scmp_filter_ctx ctx)
{
	static const unsigned families[] = { AF_INET, AF_INET6, AF_NETLINK };
	int ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 1,
				   SCMP_A0(SCMP_CMP_EQ, AF_UNIX));

	for (size_t i = 0; i < ARRAY_SIZE(families) && ret == 0; i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				       SCMP_A0(SCMP_CMP_EQ, families[i]));
	return ret;
}

static int sandbox_add_table(scmp_filter_ctx ctx, const char *const *names, size_t count)
{
	int ret = 0;

	for (size_t i = 0; i < count && ret == 0; i++) {
		int nr = seccomp_syscall_resolve_name(names[i]);

		/* A name newer than this libseccomp: its user has a fallback. */
		if (nr == __NR_SCMP_ERROR)
			log_debug("seccomp_name_unknown", "name=%s", names[i]);
		else if (nr == SCMP_SYS(socket))
			ret = sandbox_add_sockets(ctx);
		else
			ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
	}
	return ret;
}

static int sandbox_add_rules(scmp_filter_ctx ctx, const struct sandbox_config *config)
{
	int ret = sandbox_add_table(ctx, sandbox_syscalls, ARRAY_SIZE(sandbox_syscalls));

	if (ret == 0 && config->files)
		ret = sandbox_add_table(ctx, sandbox_syscalls_files,
					ARRAY_SIZE(sandbox_syscalls_files));
	if (ret == 0 && config->network)
		ret = sandbox_add_table(ctx, sandbox_syscalls_network,
					ARRAY_SIZE(sandbox_syscalls_network));
	if (ret)
		return ret;
	ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (ret)
		return ret;
	return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

struct err *sandbox_load_seccomp(const struct sandbox_config *config)
{
	scmp_filter_ctx ctx;
	int ret;

#ifdef SANDBOX_SANITIZED
	/* The sanitizers' runtimes make calls of their own, which differ by version. */
	log_warn("seccomp_off", "reason=\"built with a sanitizer\"");
	return NULL;
#endif
	ctx = seccomp_init(config->seccomp == SANDBOX_SECCOMP_LOG ? SCMP_ACT_LOG
								  : SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return err_errno(ENOMEM, "seccomp filter");
	ret = sandbox_add_rules(ctx, config);
	/* capabilities were dropped before no_new_privs may have been skipped */
	if (ret == 0)
		ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	if (ret == 0)
		ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* binary tree */
	if (ret == 0)
		ret = seccomp_load(ctx);
	seccomp_release(ctx);
	if (ret == 0)
		return NULL;
	return err_errno(
		-ret,
		"cannot load the seccomp filter (needs a kernel with CONFIG_SECCOMP_FILTER and "
		"the stage no_new_privs; sandbox_settings.seccomp = \"none\" turns it off)");
}
