/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the sandbox, for sandbox.c alone. */
#ifndef OVFS_SANDBOX_INTERNAL_H
#define OVFS_SANDBOX_INTERNAL_H

#include "sandbox/sandbox.h"

/* Fills root_fd, proc_self_fd and, when it forked, supervisor_fd. */
struct err *sandbox_enter_namespaces(struct sandbox *out, const struct sandbox_config *config);

/* Where sandbox_build_tree() builds. */
#define SANDBOX_TREE "/proc"

/* Mounts the future root there: the paths and nothing else, not yet read-only. The mount
 * namespace is our own. */
struct err *sandbox_build_tree(const struct sandbox_path *paths);

/* Loads the filter for the whole process. */
struct err *sandbox_load_seccomp(const struct sandbox_config *config);

#endif
