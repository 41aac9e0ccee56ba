/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The retry layer over faults over metrics over a memory service, with another client
 * that does something behind its back at a moment of choice.
 */
#ifndef OVFS_TESTS_STORE_RETRY_STACK_H
#define OVFS_TESTS_STORE_RETRY_STACK_H

#include "store-fixture.h"

#include "store/layers/fault.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"

/* 8 attempts, pauses up to 4 ms, a fixed seed. */
extern const struct store_retry_options quick;

struct meddler {
	struct store store;
	struct env *env;
	unsigned after; /* operations; 0: never */
	void (*meddle)(struct env *env);
};

struct stack {
	struct env env;
	struct meddler *meddler;
	struct store *metrics, *fault, *retry;
};

void stack_begin(struct stack *s, const struct store_retry_options *options);

/* Calls @meddle on the loop's thread after the next @after operations that reach the
 * service, before their answers leave it. */
void stack_meddle(struct stack *s, unsigned after, void (*meddle)(struct env *env));

/* What to meddle with: "k" becomes "theirs!!!!", or goes. */
void overwrite(struct env *env);
void vanish(struct env *env);

/* Done, but the answer lost; the first times only. */
extern const struct store_fault lost_once, lost_thrice;

#endif
