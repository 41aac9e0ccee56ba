/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stack of storage layers on a transfer loop with its own thread, and operations
 * that look like function calls. The bottom is a memory service, or one that holds
 * every operation until the test lets it go.
 */
#ifndef OVFS_TESTS_STORE_FIXTURE_H
#define OVFS_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "store/operator.h"
#include "store/services/memory.h"

#define MSEC 1000000ull
#define SEC 1000000000ull

struct env {
	struct loop *loop;
	pthread_t thread;
	struct store *memory; /* or NULL */
	struct store *hold;   /* or NULL */
	struct store *top;    /* where tests push layers and submit */
};

/* Small limits, so that tests reach them: parts of 4 .. 64 bytes but 8 parts,
 * 100 bytes in a PUT or COPY, pages of 5 rows. */
extern const struct store_memory_options env_small;

/* Builds loop and service; the layers come next, then env_run(). @options: NULL for
 * the defaults. */
void env_memory(struct env *env, const struct store_memory_options *options);
void env_hold(struct env *env);
void env_run(struct env *env);
/* Ends the loop, frees the stack. */
void env_end(struct env *env);

/* Dies of an error. */
void env_ok(struct err *e);

/* Makes @layer the top: env_push(&env, store_limit_new(&env.top, env.top, &options)). */
#define env_push(env, make)                                                                        \
	do {                                                                                       \
		env_ok(make);                                                                      \
		assert_non_null((env)->top);                                                       \
	} while (0)

/* Runs @run(@arg) on the loop's thread and waits for it. */
void env_on_loop(struct env *env, void (*run)(void *arg), void *arg);

/* ---- The holding service ---- */

/* Waits until it holds @count operations; fails after 10 s. */
void hold_wait(struct env *env, unsigned count);
/* How many it holds, how many it ever got, the most at one time. */
unsigned hold_count(struct env *env);
unsigned hold_total(struct env *env);
unsigned hold_peak(struct env *env);
/* Ends the operation that has waited longest. */
void hold_release(struct env *env, int result);
/* Reports bytes of the body of the operation that has waited longest. */
void hold_move(struct env *env, uint64_t bytes);
/* From now on cancelled operations end all the same in @result; 1: -ECANCELED. */
void hold_cancel_result(struct env *env, int result);

/* ---- Operations as calls; env->top, not on the loop's thread ---- */

/* @op with its data in one buffer, to be submitted by hand. */
struct call {
	struct store_op op;
	struct iovec iov;
	_Atomic bool completed;
};

/* Sets up a READ, PUT or PART body. */
void call_body(struct call *call, const void *data, size_t len);
/* store_submit() to the top; completed is set at the end. */
void call_submit(struct env *env, struct call *call);
/* Waits for it, fails after 20 s; op.result. */
int call_wait(struct call *call);

int env_put(struct env *env, const char *key, const void *data, size_t len);
int env_put_if(struct env *env, const char *key, const void *data, size_t len, const char *if_match,
	       bool if_absent, struct store_meta *meta);
/* Bytes read, or negative errno. */
ssize_t env_read(struct env *env, const char *key, uint64_t offset, void *buf, size_t len,
		 const char *if_match, struct store_meta *meta);
int env_stat(struct env *env, const char *key, struct store_meta *meta);
int env_delete(struct env *env, const char *key);
int env_begin(struct env *env, const char *key, char session[STORE_SESSION_MAX]);
int env_part(struct env *env, const char *key, const char *session, uint32_t number,
	     const void *data, size_t len, struct store_part *part);
int env_commit(struct env *env, const char *key, const char *session,
	       const struct store_part *parts, size_t count, struct store_meta *meta);
int env_abort(struct env *env, const char *key, const char *session);

/* All pages of a listing, as "a,b/,c", pages separated by "|". */
struct env_list {
	const char *prefix, *delimiter, *start_after;
	uint32_t limit;
	char text[4096];
	size_t page_start; /* of text */
	struct call call;
	struct store_page page;
	char token[STORE_TOKEN_MAX];
};
int env_list(struct env *env, struct env_list *list);
/* The same, for a test that knows that it works. */
const char *env_list_text(struct env *env, struct env_list *list);

void sleep_ms(unsigned ms);

#endif
