/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "fs/filefs/filefs.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"
#include "store/layers/switch.h"
#include "storage_side.h"
#include "store/services/s3/s3.h"

#define MS_NS 1000000u

/* For the answer of the first request, however patient the configuration is otherwise: a boot, and
 * the other directories of the mount, wait for it. */
#define STACK_CHECK_NS (5000ull * MS_NS)

/* Of another place: a person waits, and what is not there by then is refused. */
#define STACK_RELOAD_CHECK_NS (20000ull * MS_NS)

/* A service that does not answer is asked again. */
#define PROBE_FIRST_NS (1000ull * MS_NS)
#define PROBE_MAX_NS (10000ull * MS_NS)
#define PROBE_PATIENCE_NS (10000ull * MS_NS)

struct storage_stack {
	struct loop *loop;
	pthread_t thread;
	bool running;
	bool s3;
	struct filefs_data *files; /* of type fs */
	struct store *turn;	   /* the switch above the sides */
	struct store *health;	   /* above it; NULL: nothing can be wrong with it */
	struct store *top;	   /* the whole; metrics */
	struct stack_side *prepared;
	pthread_mutex_t lock; /* covers what follows */
	struct list sides;    /* the last one is current, others finish what they have */
	bool stopping;
	struct store_metrics_opcode gone[STORE_OPCODE_COUNT]; /* of sides that are no more */
	uint64_t gone_retries;
	char trouble[256]; /* at the last check that failed */
};

/* ---- The whole ---- */

static struct stack_side *stack_current(struct storage_stack *stack)
{
	return list_entry(stack->sides.prev, struct stack_side, link);
}

static void metrics_add(struct store_metrics_opcode *sum, const struct store_metrics_opcode *one)
{
	sum->in_flight += one->in_flight;
	sum->requests += one->requests;
	sum->bytes_read += one->bytes_read;
	sum->bytes_written += one->bytes_written;
	sum->entries += one->entries;
	for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++) {
		sum->results[r].count += one->results[r].count;
		sum->results[r].latency_ns += one->results[r].latency_ns;
		for (unsigned b = 0; b < STORE_METRICS_BUCKETS; b++)
			sum->results[r].buckets[b] += one->results[r].buckets[b];
	}
}

static uint64_t side_retries(const struct stack_side *side)
{
	return side->retry ? store_retry_stats(side->retry).repeated : 0;
}

/* A side that was replaced has nothing in flight any more. */
static void stack_side_released(void *arg, struct store *top)
{
	struct storage_stack *stack = arg;
	struct stack_side *side = NULL;
	struct list *link;

	pthread_mutex_lock(&stack->lock);
	list_for_each (link, &stack->sides) {
		side = list_entry(link, struct stack_side, link);
		if (side->top == top)
			break;
	}
	list_remove(&side->link);
	for (unsigned op = 0; op < STORE_OPCODE_COUNT; op++) {
		struct store_metrics_opcode one;

		store_metrics_read(side->requests, op, &one);
		metrics_add(&stack->gone[op], &one);
	}
	stack->gone_retries += side_retries(side);
	pthread_mutex_unlock(&stack->lock);
	side_free(side, stack->s3);
}

static struct err *stack_open(struct storage_stack *stack, const struct ovfs_backend *config)
{
	const struct store_switch_options turn = { .released = stack_side_released, .arg = stack };
	struct stack_side *side;
	struct err *e = side_new(&side, stack->loop, stack->files, config, NULL);

	if (e)
		return e;
	e = store_switch_new(&stack->turn, side->top, &turn);
	if (e) {
		side_free(side, true);
		return e;
	}
	list_push_back(&stack->sides, &side->link);
	stack->top = stack->turn;
	if (stack->s3) {
		const struct store_health_options health = {
			.name = config->storage.s3.bucket,
			.probe_first_ns = PROBE_FIRST_NS,
			.probe_max_ns = PROBE_MAX_NS,
			.probe_patience_ns = PROBE_PATIENCE_NS,
		};

		e = store_health_new(&stack->health, stack->top, &health);
		if (e)
			return e;
		stack->top = stack->health;
	}
	return store_metrics_new(&stack->top, stack->top);
}

static void *stack_run(void *arg)
{
	struct storage_stack *stack = arg;

	pthread_setname_np(pthread_self(), "ovfs-transfer");
	loop_run(stack->loop);
	return NULL;
}

static struct err *stack_start(struct storage_stack *stack)
{
	int error = pthread_create(&stack->thread, NULL, stack_run, stack);

	if (error)
		return err_errno(error, "transfer thread");
	stack->running = true;
	return NULL;
}

/* How long a check may take that is to end after @ns. */
static uint32_t stack_check_ms(const struct ovfs_backend *config, uint64_t ns)
{
	ns = MIN(ns, config->storage.s3.connect_timeout_ns + config->timeout.silence_max_ns);
	if (config->retry.total_ns)
		ns = MIN(ns, config->retry.total_ns);
	return (uint32_t)MAX(ns / MS_NS, 1u);
}

static void stack_close_run(void *arg)
{
	struct storage_stack *stack = arg;

	store_health_close(stack->health, stack->trouble);
}

static void stack_trouble(struct storage_stack *stack, const struct err *e)
{
	pthread_mutex_lock(&stack->lock);
	snprintf(stack->trouble, sizeof(stack->trouble), "%s", err_msg(e));
	pthread_mutex_unlock(&stack->lock);
}

static struct err *stack_check(struct storage_stack *stack, const struct ovfs_backend *config,
			       bool may_refuse)
{
	bool absent;
	struct err *e = s3_check(stack_current(stack)->service,
				 stack_check_ms(config, STACK_CHECK_NS), &absent);

	if (!e || (!absent && !may_refuse))
		return e;
	stack_trouble(stack, e);
	err_free(e);
	loop_call(stack->loop, stack_close_run, stack);
	return NULL;
}

struct err *storage_stack_new(struct storage_stack **out, const struct ovfs_backend *config,
			      bool may_refuse)
{
	struct storage_stack *stack = calloc(1, sizeof(*stack));
	struct err *e;

	if (!stack)
		return err_errno(ENOMEM, "storage");
	list_init(&stack->sides);
	pthread_mutex_init(&stack->lock, NULL);
	stack->s3 = config->storage.type == OVFS_STORAGE_S3;
	e = loop_new(&stack->loop);
	if (!e && config->storage.type == OVFS_STORAGE_FS)
		e = filefs_data_new(&stack->files, stack->loop);
	if (!e)
		e = stack_open(stack, config);
	if (!e)
		e = stack_start(stack);
	if (!e && stack->s3)
		e = stack_check(stack, config, may_refuse);
	if (e) {
		storage_stack_free(stack);
		return e;
	}
	*out = stack;
	return NULL;
}

struct filefs_data *storage_stack_files(struct storage_stack *stack)
{
	return stack->files;
}

struct store *storage_stack_store(struct storage_stack *stack)
{
	return stack->top;
}

void storage_stack_asked(struct storage_stack *stack, enum store_opcode opcode,
			 struct store_metrics_opcode *out)
{
	store_metrics_read(stack->top, opcode, out);
}

void storage_stack_sent(struct storage_stack *stack, enum store_opcode opcode,
			struct store_metrics_opcode *out)
{
	struct list *link;

	pthread_mutex_lock(&stack->lock);
	*out = stack->gone[opcode];
	list_for_each (link, &stack->sides) {
		struct store_metrics_opcode one;

		store_metrics_read(list_entry(link, struct stack_side, link)->requests, opcode,
				   &one);
		metrics_add(out, &one);
	}
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_health(struct storage_stack *stack, struct storage_stack_health *out)
{
	*out = (struct storage_stack_health){ .state = STORE_HEALTH_WELL };
	if (!stack->health)
		return;
	out->state = store_health_read(stack->health, &out->since_ns);
	if (out->state != STORE_HEALTH_CLOSED)
		return;
	pthread_mutex_lock(&stack->lock);
	memcpy(out->error, stack->trouble, sizeof(out->error));
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_usage(struct storage_stack *stack, struct storage_stack_usage *out)
{
	struct list *link;

	*out = (struct storage_stack_usage){ 0 };
	pthread_mutex_lock(&stack->lock);
	out->retries = stack->gone_retries;
	list_for_each (link, &stack->sides) {
		const struct stack_side *side = list_entry(link, struct stack_side, link);
		unsigned busy = 0, max = 0;

		out->retries += side_retries(side);
		if (stack->s3)
			s3_connections(side->service, &busy, &max);
		out->connections = max; /* the last one is current */
		out->connections_busy += busy;
	}
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_log(struct storage_stack *stack)
{
	for (unsigned op = 0; op < STORE_OPCODE_COUNT; op++) {
		struct store_metrics_opcode asked, sent;
		uint64_t operations = 0, attempts = 0;

		storage_stack_asked(stack, op, &asked);
		storage_stack_sent(stack, op, &sent);
		for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++) {
			operations += asked.results[r].count;
			attempts += sent.results[r].count;
		}
		if (operations + attempts + asked.in_flight == 0)
			continue;
		log_info("storage_requests",
			 "operation=%s operations=%llu ok=%llu in_flight=%llu attempts=%llu "
			 "requests=%llu bytes_read=%llu bytes_written=%llu entries=%llu",
			 store_opcode_name(op), (unsigned long long)operations,
			 (unsigned long long)asked.results[STORE_METRICS_OK].count,
			 (unsigned long long)asked.in_flight, (unsigned long long)attempts,
			 (unsigned long long)sent.requests, (unsigned long long)sent.bytes_read,
			 (unsigned long long)sent.bytes_written, (unsigned long long)sent.entries);
	}
}

static void side_stop(struct stack_side *side)
{
	if (side->retry)
		store_retry_stop(side->retry);
}

void storage_stack_stop(struct storage_stack *stack)
{
	struct list *link;

	pthread_mutex_lock(&stack->lock);
	stack->stopping = true;
	list_for_each (link, &stack->sides)
		side_stop(list_entry(link, struct stack_side, link));
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_free(struct storage_stack *stack)
{
	struct stack_side *current = NULL;

	if (!stack)
		return;
	filefs_data_free(stack->files);
	if (stack->running) {
		if (stack->health)
			store_health_stop(stack->health);
		loop_stop(stack->loop);
		pthread_join(stack->thread, NULL);
	}
	if (!list_empty(&stack->sides)) {
		current = stack_current(stack);
		list_remove(&current->link);
	}
	store_free(stack->top);
	free(current);
	loop_free(stack->loop); /* releases what else there was */
	pthread_mutex_destroy(&stack->lock);
	free(stack);
}

/* ---- Reload ---- */

/* Whether what is prepared can be used. */
static struct err *stack_check_prepared(struct storage_stack *stack,
					const struct ovfs_backend *config, bool same_place)
{
	bool absent;
	uint64_t ns = same_place ? STACK_CHECK_NS : STACK_RELOAD_CHECK_NS;
	struct err *e = s3_check(stack->prepared->service, stack_check_ms(config, ns), &absent);

	if (!e || !absent || !same_place)
		return e;
	log_warn("storage_unchecked",
		 "storage=\"%s\" error=\"%s\" effect=\"the new settings are taken unseen\"",
		 config->storage.s3.bucket, err_msg(e));
	err_free(e);
	return NULL;
}

struct err *storage_stack_prepare(struct storage_stack *stack, const struct ovfs_backend *config,
				  bool same_place)
{
	struct err *e;

	e = side_new(&stack->prepared, stack->loop, stack->files, config, stack_current(stack));
	if (e)
		return e;
	if (!store_switch_fits(stack->turn, stack->prepared->top))
		e = err_new("the service can do other things with these settings: they take a "
			    "restart");
	if (!e && stack->s3)
		e = stack_check_prepared(stack, config, same_place);
	if (e)
		storage_stack_discard(stack);
	return e;
}

static void stack_discard_run(void *arg)
{
	struct storage_stack *stack = arg;

	side_free(stack->prepared, stack->s3);
	stack->prepared = NULL;
}

void storage_stack_discard(struct storage_stack *stack)
{
	loop_call(stack->loop, stack_discard_run, stack);
}

static void stack_commit_run(void *arg)
{
	struct storage_stack *stack = arg;
	struct stack_side *side = stack->prepared;

	stack->prepared = NULL;
	if (store_switch_to(stack->turn, side->top) < 0) {
		log_error("storage_not_changed", "error=\"out of memory\"");
		side_free(side, stack->s3);
		return;
	}
	pthread_mutex_lock(&stack->lock);
	list_push_back(&stack->sides, &side->link);
	if (stack->stopping)
		side_stop(side);
	pthread_mutex_unlock(&stack->lock);
	if (stack->health)
		store_health_look(stack->health);
}

void storage_stack_commit(struct storage_stack *stack)
{
	loop_call(stack->loop, stack_commit_run, stack);
}
