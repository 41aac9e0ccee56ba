/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/limit.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

const struct store_limit_options store_limit_defaults = {
	.in_flight_max = { [STORE_LIMIT_DATA] = 64, [STORE_LIMIT_METADATA] = 64 },
};

/* Written on the transfer loop only; the counts are read by others. */
struct limit_class {
	unsigned in_flight_max;
	_Atomic unsigned in_flight, queued;
	struct list queue; /* store_frame.link */
	bool starting;	   /* limit_start() is under way */
};

struct limit {
	struct store store;
	struct limit_class classes[STORE_LIMIT_CLASSES];
};

static struct limit *limit_of(struct store *store)
{
	return container_of(store, struct limit, store);
}

static struct limit_class *limit_class(struct store *store, const struct store_op *op)
{
	switch (op->opcode) {
	case STORE_READ:
	case STORE_PUT:
	case STORE_PART:
	case STORE_COPY:
	case STORE_COPY_PART:
		return &limit_of(store)->classes[STORE_LIMIT_DATA];
	default:
		return &limit_of(store)->classes[STORE_LIMIT_METADATA];
	}
}

static void count(_Atomic unsigned *counter, int change)
{
	unsigned value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + (unsigned)change, memory_order_relaxed);
}

static unsigned counted(const _Atomic unsigned *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void limit_complete(struct store *store, struct store_op *op);

/*
 * Sends what may go. What is sent may complete from within, which comes back here:
 * the flag makes a loop of what would be a recursion as deep as the queue.
 */
static void limit_start(struct store *store, struct limit_class *class)
{
	if (class->starting)
		return;
	class->starting = true;
	while (!list_empty(&class->queue) && counted(&class->in_flight) < class->in_flight_max) {
		struct list *first = list_pop_front(&class->queue);
		struct store_op *op = list_entry(first, struct store_frame, link)->op;

		count(&class->queued, -1);
		count(&class->in_flight, 1);
		store_op_forward(store, op, limit_complete);
	}
	class->starting = false;
}

static void limit_complete(struct store *store, struct store_op *op)
{
	struct limit_class *class = limit_class(store, op);

	count(&class->in_flight, -1);
	limit_start(store, class);
	store_op_complete(op, op->result);
}

static void limit_submit(struct store *store, struct store_op *op)
{
	struct limit_class *class = limit_class(store, op);

	list_push_back(&class->queue, &store_op_frame(op, store)->link);
	count(&class->queued, 1);
	limit_start(store, class);
}

static void limit_cancel(struct store *store, struct store_op *op)
{
	list_remove(&store_op_frame(op, store)->link);
	count(&limit_class(store, op)->queued, -1);
	store_op_complete(op, -ECANCELED);
}

static void limit_free(struct store *store)
{
	free(limit_of(store));
}

static const struct store_ops limit_ops = {
	.name = "limit",
	.submit = limit_submit,
	.cancel = limit_cancel,
	.free = limit_free,
};

struct err *store_limit_new(struct store **out, struct store *next,
			    const struct store_limit_options *options)
{
	struct limit *limit = calloc(1, sizeof(*limit));
	struct err *e;

	if (!limit)
		return err_errno(ENOMEM, "concurrency limit");
	e = store_init_layer(&limit->store, &limit_ops, next);
	if (e) {
		free(limit);
		return e;
	}
	if (!options)
		options = &store_limit_defaults;
	for (unsigned i = 0; i < STORE_LIMIT_CLASSES; i++) {
		unsigned max = options->in_flight_max[i];

		limit->classes[i].in_flight_max = max ? max : (unsigned)-1;
		list_init(&limit->classes[i].queue);
	}
	*out = &limit->store;
	return NULL;
}

struct store_limit_usage store_limit_usage(const struct store *layer, enum store_limit_class class)
{
	const struct limit *limit = container_of(layer, struct limit, store);

	return (struct store_limit_usage){
		.in_flight = counted(&limit->classes[class].in_flight),
		.queued = counted(&limit->classes[class].queued),
	};
}
