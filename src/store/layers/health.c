/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/health.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Operations without an answer, in a row, of which a single one may have its own reasons. */
#define FAILURES_MANY 3

/* A question that was cut off may take twice as long the next time, up to this: a service that is
 * slow has to be heard in the end. */
#define PATIENCE_MAX_NS (60 * 1000000000ull)

struct health {
	struct store store;
	struct store_health_options options;
	char *name;
	_Atomic int state; /* written on the transfer loop */
	_Atomic uint64_t since_ns;

	/* ---- Transfer loop ---- */
	unsigned failures; /* in a row */
	uint64_t pause_ns, patience_ns;
	struct loop_timer next, patience;
	struct store_op probe;
	struct store_page page;

	pthread_mutex_t lock; /* covers what follows */
	pthread_cond_t idle;
	bool asking, stopped;
};

static struct health *health_of(const struct store *store)
{
	return container_of(store, struct health, store);
}

static void health_set(struct health *h, enum store_health_state state)
{
	atomic_store(&h->since_ns, loop_now_ns());
	atomic_store(&h->state, state);
}

/* ---- Questions ---- */

static void probe_entry(struct store_op *op, const struct store_entry *entry)
{
	(void)op, (void)entry;
}

static void health_answered(struct health *h);

static void probe_complete(struct store_op *op)
{
	struct health *h = container_of(op, struct health, probe);
	bool stopped;

	loop_timer_disarm(&h->patience);
	if (op->result == 0)
		health_answered(h);
	pthread_mutex_lock(&h->lock);
	h->asking = false;
	stopped = h->stopped;
	pthread_cond_broadcast(&h->idle); /* locked: who waits may free it all */
	if (!stopped && atomic_load(&h->state) != STORE_HEALTH_WELL) {
		loop_timer_arm(h->store.loop, &h->next, h->pause_ns);
		h->pause_ns = MIN(h->pause_ns * 2, h->options.probe_max_ns);
	}
	pthread_mutex_unlock(&h->lock);
}

static void probe_begin(struct loop_timer *timer)
{
	struct health *h = container_of(timer, struct health, next);
	bool stopped;

	if (atomic_load(&h->state) == STORE_HEALTH_WELL)
		return;
	pthread_mutex_lock(&h->lock);
	stopped = h->stopped;
	h->asking = !stopped;
	pthread_mutex_unlock(&h->lock);
	if (stopped)
		return;
	h->probe = (struct store_op){
		.opcode = STORE_LIST,
		.key = "",
		.list = { .limit = 1, .entry = probe_entry, .page = &h->page },
		.complete = probe_complete,
	};
	loop_timer_arm(h->store.loop, &h->patience, h->patience_ns);
	store_submit(h->store.next, &h->probe);
}

static void probe_expired(struct loop_timer *timer)
{
	struct health *h = container_of(timer, struct health, patience);
	uint64_t most = MAX(PATIENCE_MAX_NS, h->options.probe_patience_ns);

	h->patience_ns = MIN(h->patience_ns * 2, most);
	store_cancel(&h->probe);
}

static void probe_soon(struct health *h)
{
	bool asking;

	h->pause_ns = h->options.probe_first_ns;
	pthread_mutex_lock(&h->lock);
	asking = h->asking || h->stopped;
	pthread_mutex_unlock(&h->lock);
	if (!asking)
		loop_timer_arm(h->store.loop, &h->next, h->pause_ns);
}

/* ---- States ---- */

static void health_answered(struct health *h)
{
	enum store_health_state state = (enum store_health_state)atomic_load(&h->state);
	uint64_t since_ns = atomic_load(&h->since_ns);

	h->failures = 0;
	if (state == STORE_HEALTH_WELL)
		return;
	h->patience_ns = h->options.probe_patience_ns;
	health_set(h, STORE_HEALTH_WELL);
	log_info("storage_answers", "storage=\"%s\" after_ms=%llu", h->name,
		 (unsigned long long)((loop_now_ns() - since_ns) / 1000000));
}

static void health_failed(struct health *h, int result)
{
	if (++h->failures < FAILURES_MANY || atomic_load(&h->state) != STORE_HEALTH_WELL)
		return;
	health_set(h, STORE_HEALTH_FAILING);
	log_warn("storage_fails", "storage=\"%s\" operations=%u error=\"%s\"", h->name, h->failures,
		 strerror(-result));
	probe_soon(h);
}

void store_health_close(struct store *layer, const char *why)
{
	struct health *h = health_of(layer);

	health_set(h, STORE_HEALTH_CLOSED);
	log_warn("storage_does_not_answer",
		 "storage=\"%s\" error=\"%s\" effect=\"requests fail until it does\"", h->name,
		 why);
	probe_soon(h);
}

void store_health_look(struct store *layer)
{
	struct health *h = health_of(layer);

	if (atomic_load(&h->state) != STORE_HEALTH_WELL)
		probe_soon(h);
}

enum store_health_state store_health_read(const struct store *layer, uint64_t *since_ns)
{
	const struct health *h = health_of(layer);

	*since_ns = atomic_load(&h->since_ns);
	return (enum store_health_state)atomic_load(&h->state);
}

/* ---- Operations ---- */

static void health_complete(struct store *store, struct store_op *op)
{
	struct health *h = health_of(store);

	/* -EAGAIN and refusals are answers, if not the wanted ones; the end of one that was
	 * cancelled says nothing. */
	if (op->result == -EIO || op->result == -ETIMEDOUT)
		health_failed(h, op->result);
	else if (op->result == 0)
		health_answered(h);
	else if (op->result != -ECANCELED)
		h->failures = 0;
	store_op_complete(op, op->result);
}

static void health_submit(struct store *store, struct store_op *op)
{
	if (atomic_load(&health_of(store)->state) == STORE_HEALTH_CLOSED)
		store_op_complete(op, -EIO);
	else
		store_op_forward(store, op, health_complete);
}

static void health_free(struct store *store)
{
	struct health *h = health_of(store);

	pthread_cond_destroy(&h->idle);
	pthread_mutex_destroy(&h->lock);
	free(h->name);
	free(h);
}

static const struct store_ops health_ops = {
	.name = "health",
	.submit = health_submit,
	.free = health_free,
};

/* ---- Life ---- */

struct err *store_health_new(struct store **out, struct store *next,
			     const struct store_health_options *options)
{
	struct health *h = calloc(1, sizeof(*h));
	struct err *e;

	if (h)
		h->name = strdup(options->name);
	if (!h || !h->name) {
		free(h);
		return err_errno(ENOMEM, "storage health");
	}
	e = store_init_layer(&h->store, &health_ops, next);
	if (e) {
		free(h->name);
		free(h);
		return e;
	}
	h->options = *options;
	h->options.name = h->name;
	h->patience_ns = options->probe_patience_ns;
	atomic_init(&h->since_ns, loop_now_ns());
	loop_timer_init(&h->next, probe_begin);
	loop_timer_init(&h->patience, probe_expired);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->idle, NULL);
	*out = &h->store;
	return NULL;
}

static void health_stop_run(void *arg)
{
	struct health *h = arg;
	bool asking;

	loop_timer_disarm(&h->next);
	pthread_mutex_lock(&h->lock);
	h->stopped = true;
	asking = h->asking;
	pthread_mutex_unlock(&h->lock);
	if (asking)
		store_cancel(&h->probe);
}

void store_health_stop(struct store *layer)
{
	struct health *h = health_of(layer);

	loop_call(layer->loop, health_stop_run, h);
	pthread_mutex_lock(&h->lock);
	while (h->asking)
		pthread_cond_wait(&h->idle, &h->lock);
	pthread_mutex_unlock(&h->lock);
}
