/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storages of the daemon that are cached, and the cache that they have in common. That is
 * object storages, and directories that are configured so.
 *
 *	struct backends		all of them, with the one block pool of the process
 *	struct backend		one: transfer loop, stack of layers, threads for commits, and
 *				what is cached of it
 *
 * Mounts of the same storage, with the same settings, have one backend, so that what one of them
 * fetched is there for all, and what one wrote is seen by all. Of type memory each has its own.
 * Connections, requests in flight, commits and dirty data are bounded for each backend: one that
 * does not answer takes nothing from others.
 *
 * Threads: any, unless said otherwise.
 */
#ifndef OVFS_BACKEND_H
#define OVFS_BACKEND_H

#include "base/err.h"
#include "cache/cache.h"
#include "ctl/ctl.h"
#include "generation.h"
#include "store/operator.h"

struct backends;
struct backend;

struct err *backends_new(struct backends **out) __attribute__((warn_unused_result));
/* @ctl is told of each from now on. */
void backends_set_ctl(struct backends *backends, struct ctl *ctl);
/* All are put. Accepts NULL. */
void backends_free(struct backends *backends);

/* The pool, made as @config says when it is first asked for. */
struct err *backends_cache(struct backends *backends, const struct ovfs_config *config,
			   struct cache **out) __attribute__((warn_unused_result));

/* Another size for the pool, when there is one. */
struct err *backends_resize(struct backends *backends, uint64_t size)
	__attribute__((warn_unused_result));

/*
 * The backend for @config, which is part of @generation: one that there is, or a new one. Blocks
 * until its service has answered, or is known not to; @may_refuse as in storage_stack_new().
 * @threads: commits at one time.
 */
struct err *backend_get(struct backend **out, struct backends *backends,
			struct generation *generation, const struct ovfs_backend *config,
			unsigned threads, bool may_refuse) __attribute__((warn_unused_result));

/* How the pool is used, and the sizes of its blocks. The number of those; 0: there is no pool. */
unsigned backends_usage(struct backends *backends, struct pool_usage *out,
			uint32_t sizes[POOL_CLASSES_MAX]);

/* What ctl calls it; "" without a ctl. */
const char *backend_name(const struct backend *backend);

struct store *backend_store(struct backend *backend);
/* Of type fs: for filefs_new(); else NULL. */
struct filefs_data *backend_data(struct backend *backend);
struct cache_storage *backend_files(struct backend *backend);

/* Logs how often the service was asked for what, and how the cache did. */
void backend_log(struct backend *backend);

/*
 * This user's end is near. For the last one: brings what only the cache holds to the service, as
 * long as cache_settings.drain_timeout allows; afterwards requests under way end soon, well or
 * with an error. The number of files that could not be written (their keys are in the log); then
 * nobody puts the backend, for those who wait for the service go on to. Once for each user; may
 * block.
 */
unsigned backend_settle(struct backend *backend);

/* No request of this user is under way. For the last one: writes what came since, and frees. The
 * number of files that could not be written. May block. */
unsigned backend_put(struct backend *backend);

/* ---- Reload: one at a time, not on a thread that requests wait for ---- */

/*
 * Makes ready what @config (of @generation) asks for: every user says so of its own, and they must
 * agree. May block for an answer of the service. Nothing has changed until backend_commit().
 */
struct err *backend_prepare(struct backend *backend, struct generation *generation,
			    const struct ovfs_backend *config) __attribute__((warn_unused_result));

/* Once for each backend_prepare() that went well; the first takes effect. May block: turning
 * write-back off writes what is dirty. */
void backend_commit(struct backend *backend);
void backend_discard(struct backend *backend);

/* ---- Configurations ---- */

/* The same objects, wherever and however they are reached. */
bool backend_same_storage(const struct ovfs_backend *a, const struct ovfs_backend *b);
/* ... reached in the same place by the same way, whoever asks there for what; */
bool backend_same_place(const struct ovfs_backend *a, const struct ovfs_backend *b);
/* ... and in the same manner: what storage_stack.c makes of both is the same, */
bool backend_same_stack(const struct ovfs_backend *a, const struct ovfs_backend *b);
/* ... and what is cached of them is treated alike: one backend will do. */
bool backend_same_settings(const struct ovfs_backend *a, const struct ovfs_backend *b);

#endif
