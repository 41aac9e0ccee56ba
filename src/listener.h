/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening Unix socket of a mount.
 *
 * A socket file that nobody listens on any more is replaced, one that is
 * served by a living process is not. Main thread.
 */
#ifndef OVFS_LISTENER_H
#define OVFS_LISTENER_H

#include <sys/types.h>

#include "base/err.h"

/* Binds and listens on @path; *@fd is the caller's. @gid other than -1 may
 * connect too (mode 0660 instead of 0600). */
struct err *listener_open(int *fd, const char *path, gid_t gid);

/* Checks that @fd, inherited, is a listening Unix stream socket. */
struct err *listener_adopt(int fd);

#endif
