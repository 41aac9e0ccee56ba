/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/throttle.h"

#include <errno.h>
#include <stdlib.h>

#define NSEC_PER_SEC 1e9
#define WAIT_MAX_NS (3600 * NSEC_PER_SEC) /* then it looks again */

/* Transfer loop only. */
struct bucket {
	struct store *store;
	double rate;   /* bytes a nanosecond; 0: no limit */
	double burst;  /* bytes */
	double tokens; /* bytes, below 0: debt; as of filled_ns */
	uint64_t filled_ns;
	struct list queue; /* store_frame.link, in the order of arrival */
	struct loop_timer timer;
	bool starting; /* bucket_start() is under way */
};

struct throttle {
	struct store store;
	struct bucket up, down;
};

/* Of a frame. */
struct throttle_state {
	uint64_t taken; /* tokens */
};

static struct throttle *throttle_of(struct store *store)
{
	return container_of(store, struct throttle, store);
}

/* NULL: the operation has no body, or its direction no limit. */
static struct bucket *throttle_bucket(struct store *store, const struct store_op *op)
{
	struct bucket *bucket;

	if (op->opcode == STORE_READ)
		bucket = &throttle_of(store)->down;
	else if (op->opcode == STORE_PUT || op->opcode == STORE_PART)
		bucket = &throttle_of(store)->up;
	else
		return NULL;
	return bucket->rate > 0 ? bucket : NULL;
}

static void bucket_add(struct bucket *bucket, double tokens)
{
	bucket->tokens = MIN(bucket->tokens + tokens, bucket->burst);
}

static void bucket_fill(struct bucket *bucket)
{
	uint64_t now = loop_now_ns();

	bucket_add(bucket, (double)(now - bucket->filled_ns) * bucket->rate);
	bucket->filled_ns = now;
}

static void throttle_complete(struct store *store, struct store_op *op);

/* Starts what may go and sets the timer for the rest. No recursion over what
 * completes from within: see limit.c. */
static void bucket_start(struct bucket *bucket)
{
	double wait_ns;

	if (bucket->starting)
		return;
	bucket->starting = true;
	bucket_fill(bucket);
	while (!list_empty(&bucket->queue) && bucket->tokens > 0) {
		struct list *first = list_pop_front(&bucket->queue);
		struct store_op *op = list_entry(first, struct store_frame, link)->op;
		struct throttle_state *state =
			store_op_state(op, bucket->store, struct throttle_state);

		state->taken = op->length - op->done;
		bucket->tokens -= (double)state->taken;
		store_op_forward(bucket->store, op, throttle_complete);
	}
	bucket->starting = false;
	if (list_empty(&bucket->queue)) {
		loop_timer_disarm(&bucket->timer);
		return;
	}
	/* One byte more than the debt, else the timer could find it just paid. */
	wait_ns = (1 - bucket->tokens) / bucket->rate + 1;
	loop_timer_arm(bucket->store->loop, &bucket->timer, (uint64_t)MIN(wait_ns, WAIT_MAX_NS));
}

static void bucket_expired(struct loop_timer *timer)
{
	bucket_start(container_of(timer, struct bucket, timer));
}

static void throttle_complete(struct store *store, struct store_op *op)
{
	struct throttle_state *state = store_op_state(op, store, struct throttle_state);
	struct bucket *bucket = throttle_bucket(store, op);

	if (op->moved < state->taken) {
		bucket_fill(bucket);
		bucket_add(bucket, (double)(state->taken - op->moved));
		bucket_start(bucket);
	}
	store_op_complete(op, op->result);
}

static void throttle_submit(struct store *store, struct store_op *op)
{
	struct bucket *bucket = throttle_bucket(store, op);

	if (!bucket) {
		store_op_forward(store, op, NULL);
		return;
	}
	list_push_back(&bucket->queue, &store_op_frame(op, store)->link);
	bucket_start(bucket);
}

static void throttle_cancel(struct store *store, struct store_op *op)
{
	struct bucket *bucket = throttle_bucket(store, op);

	list_remove(&store_op_frame(op, store)->link);
	if (list_empty(&bucket->queue))
		loop_timer_disarm(&bucket->timer);
	store_op_complete(op, -ECANCELED);
}

static void throttle_free(struct store *store)
{
	free(throttle_of(store));
}

static const struct store_ops throttle_ops = {
	.name = "throttle",
	.submit = throttle_submit,
	.cancel = throttle_cancel,
	.free = throttle_free,
};

static void bucket_init(struct bucket *bucket, struct store *store,
			const struct store_throttle_rate *rate)
{
	uint64_t burst = rate->burst ? rate->burst : rate->bytes_per_second / 10;

	bucket->store = store;
	bucket->rate = (double)rate->bytes_per_second / NSEC_PER_SEC;
	bucket->burst = (double)MAX(burst, (uint64_t)1);
	bucket->tokens = bucket->burst;
	bucket->filled_ns = loop_now_ns();
	list_init(&bucket->queue);
	loop_timer_init(&bucket->timer, bucket_expired);
}

struct err *store_throttle_new(struct store **out, struct store *next,
			       const struct store_throttle_options *options)
{
	struct throttle *throttle = calloc(1, sizeof(*throttle));
	struct err *e;

	if (!throttle)
		return err_errno(ENOMEM, "bandwidth throttle");
	e = store_init_layer(&throttle->store, &throttle_ops, next);
	if (e) {
		free(throttle);
		return e;
	}
	bucket_init(&throttle->up, &throttle->store, &options->up);
	bucket_init(&throttle->down, &throttle->store, &options->down);
	*out = &throttle->store;
	return NULL;
}
