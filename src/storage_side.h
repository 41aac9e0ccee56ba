/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A side of a storage stack: what a reload exchanges, a service and its layers up to retry, made
 * from a configuration.
 *
 * Made by any one thread, nothing is sent. Freed on the transfer loop, or when that does not run.
 */
#ifndef OVFS_STORAGE_SIDE_H
#define OVFS_STORAGE_SIDE_H

#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"
#include "conf/conf.h"
#include "store/operator.h"

struct filefs_data;

struct stack_side {
	struct list link; /* storage_stack.sides */
	struct store *service;
	struct store *requests; /* metrics above the service */
	struct store *retry;	/* NULL: no layers; a disk has its own ways to be slow */
	struct store *top;
};

/*
 * A side for @config. A service in memory is its data, that of @files (of type fs, else NULL) their
 * table: all sides have the same, @current's, if there is one.
 */
struct err *side_new(struct stack_side **out, struct loop *loop, struct filefs_data *files,
		     const struct ovfs_backend *config, const struct stack_side *current)
	__attribute__((warn_unused_result));

/* Nothing is in flight in it. @service: it goes, too. */
void side_free(struct stack_side *side, bool service);

#endif
