/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the sandbox, for sandbox.c alone. */
#ifndef OVFS_SANDBOX_INTERNAL_H
#define OVFS_SANDBOX_INTERNAL_H

#include <sys/types.h>

#include "sandbox/sandbox.h"

/* Fills root_fd, proc_self_fd and, when it forked, supervisor_fd. */
struct err *sandbox_enter_namespaces(struct sandbox *out, const struct sandbox_config *config);

/* The rest of the process that stays outside: passes signals on, keeps shown files current,
 * waits for @pid, cleans up and exits as it did. */
_Noreturn void sandbox_supervise(pid_t pid, const struct sandbox_config *config);

/* Whether so much lives in @folder (absolute; "" for /) that it is not shown whole. */
bool sandbox_is_broad(const char *folder);

/* Where sandbox_build_tree() builds. */
#define SANDBOX_TREE "/proc"

/* Mounts the future root there: the paths and nothing else, not yet read-only. The mount
 * namespace is our own. */
struct err *sandbox_build_tree(const struct sandbox_path *paths);

/* Loads the filter for the whole process. */
struct err *sandbox_load_seccomp(const struct sandbox_config *config);

#endif
