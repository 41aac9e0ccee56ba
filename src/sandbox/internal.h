/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the sandbox, for sandbox.c alone. */
#ifndef OVFS_SANDBOX_INTERNAL_H
#define OVFS_SANDBOX_INTERNAL_H

#include "sandbox/sandbox.h"

/* Fills root_fd, proc_self_fd and, when it forked, supervisor_fd. */
struct err *sandbox_enter_namespaces(struct sandbox *out, const struct sandbox_config *config);

/* Loads the filter for the whole process. */
struct err *sandbox_load_seccomp(enum sandbox_seccomp action);

#endif
