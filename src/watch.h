/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells when files may have changed (inotify).
 *
 * It is folders that are watched, since files are replaced more often than changed: editors
 * write another file and rename it over the old one, or move the old one away first; Kubernetes
 * has the file be a link through a link ("..data") that is replaced. So each link on the way
 * to a file is followed, and the folder of each one watched. What need not exist yet may come.
 *
 * Changes come in bursts: one call says that there was one, a moment after the last.
 *
 * The loop's thread.
 */
#ifndef OVFS_WATCH_H
#define OVFS_WATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"

struct watch;

struct err *watch_new(struct watch **out, struct loop *loop, void (*changed)(void *arg), void *arg)
	__attribute__((warn_unused_result));

/*
 * What is watched: all that is added between the two, and nothing else. What was before and
 * still is goes on without a gap; for what is new there is a call, since it may have changed
 * before it was watched.
 */
void watch_begin(struct watch *watch);
/* @path is absolute; a folder: whatever happens in it. Where it can not be had the log says
 * so, once. */
void watch_add(struct watch *watch, const char *path, bool folder);
void watch_end(struct watch *watch);

/* Accepts NULL. */
void watch_free(struct watch *watch);

#endif
