/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at something that may not answer: a directory of a file server, say, where even stat(2)
 * can hang, and nothing ends it. A process apart does it, and is left alone with it.
 *
 * Any thread, of a process that may fork.
 */
#ifndef OVFS_BASE_APART_H
#define OVFS_BASE_APART_H

/*
 * Calls @run in a process of its own and returns what it returned, or -ETIMEDOUT after @timeout_ms.
 * That process has a copy of our memory but none of our descriptors; @run may only do what a signal
 * handler may. Negative errno when there is no such process, too.
 */
int apart_run(int (*run)(void *arg), void *arg, int timeout_ms);

/* 0: @path is a directory that can be listed. -ENOTDIR, -EACCES, ...; -ETIMEDOUT: nobody knows. */
int apart_look_at_directory(const char *path, int timeout_ms);

#endif
