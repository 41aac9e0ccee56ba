/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/metrics.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef _Atomic uint64_t counter;

/* The same shape as the structs of the header, readable while written. */
struct cell {
	counter count, latency_ns, buckets[STORE_METRICS_BUCKETS];
};

struct by_opcode {
	counter in_flight, requests, bytes_read, bytes_written, entries;
	struct cell results[STORE_METRICS_RESULTS];
};

struct metrics {
	struct store store;
	struct by_opcode opcodes[STORE_OPCODE_COUNT];
};

/* Of a frame: as it was on the way down. */
struct metrics_state {
	uint64_t started_ns;
	uint64_t done;
	unsigned attempts;
	enum store_opcode opcode;
};

static const char *const result_names[] = {
	[STORE_METRICS_OK] = "ok",
	[STORE_METRICS_ABSENT] = "absent",
	[STORE_METRICS_CONDITION] = "condition",
	[STORE_METRICS_REFUSED] = "refused",
	[STORE_METRICS_SLOW_DOWN] = "slow_down",
	[STORE_METRICS_TIMEOUT] = "timeout",
	[STORE_METRICS_CANCELLED] = "cancelled",
	[STORE_METRICS_ERROR] = "error",
};
_Static_assert(ARRAY_SIZE(result_names) == STORE_METRICS_RESULTS, "one name for each result");

const char *store_metrics_result_name(enum store_metrics_result result)
{
	return result_names[result];
}

uint64_t store_metrics_bound_ns(unsigned bucket)
{
	if (bucket >= STORE_METRICS_BUCKETS - 1)
		return UINT64_MAX;
	return 1ull << (STORE_METRICS_FIRST_SHIFT + bucket);
}

static unsigned bucket_of(uint64_t latency_ns)
{
	uint64_t above = latency_ns >> STORE_METRICS_FIRST_SHIFT;
	unsigned bucket = above ? 64 - (unsigned)__builtin_clzll(above) : 0;

	return MIN(bucket, STORE_METRICS_BUCKETS - 1u);
}

static enum store_metrics_result result_of(int result)
{
	switch (result) {
	case 0:
		return STORE_METRICS_OK;
	case -ENOENT:
	case -ERANGE:
		return STORE_METRICS_ABSENT;
	case -ESTALE:
	case -EEXIST:
		return STORE_METRICS_CONDITION;
	case -EACCES:
		return STORE_METRICS_REFUSED;
	case -EAGAIN:
		return STORE_METRICS_SLOW_DOWN;
	case -ETIMEDOUT:
		return STORE_METRICS_TIMEOUT;
	case -ECANCELED:
		return STORE_METRICS_CANCELLED;
	default:
		return STORE_METRICS_ERROR;
	}
}

/* One writer: no locked instruction. */
static void add(counter *c, uint64_t n)
{
	uint64_t value = atomic_load_explicit(c, memory_order_relaxed);

	atomic_store_explicit(c, value + n, memory_order_relaxed);
}

static uint64_t get(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static struct metrics *metrics_of(struct store *store)
{
	return container_of(store, struct metrics, store);
}

static void metrics_complete(struct store *store, struct store_op *op)
{
	struct metrics_state *state = store_op_state(op, store, struct metrics_state);
	struct by_opcode *by = &metrics_of(store)->opcodes[state->opcode];
	struct cell *cell = &by->results[result_of(op->result)];
	uint64_t latency_ns = loop_now_ns() - state->started_ns;

	add(&by->in_flight, (uint64_t)-1);
	add(&by->requests, op->attempts - state->attempts);
	if (state->opcode == STORE_READ && op->done > state->done)
		add(&by->bytes_read, op->done - state->done);
	if ((state->opcode == STORE_PUT || state->opcode == STORE_PART ||
	     state->opcode == STORE_WRITE) &&
	    op->result == 0)
		add(&by->bytes_written, op->length);
	if (op->result == 0)
		add(&by->entries, op->entries);
	add(&cell->count, 1);
	add(&cell->latency_ns, latency_ns);
	add(&cell->buckets[bucket_of(latency_ns)], 1);
	store_op_complete(op, op->result);
}

static void metrics_submit(struct store *store, struct store_op *op)
{
	struct metrics_state *state = store_op_state(op, store, struct metrics_state);

	*state = (struct metrics_state){ .started_ns = loop_now_ns(),
					 .done = op->done,
					 .attempts = op->attempts,
					 .opcode = op->opcode };
	add(&metrics_of(store)->opcodes[op->opcode].in_flight, 1);
	store_op_forward(store, op, metrics_complete);
}

static void metrics_free(struct store *store)
{
	free(metrics_of(store));
}

static const struct store_ops metrics_ops = {
	.name = "metrics",
	.submit = metrics_submit,
	.free = metrics_free,
};

struct err *store_metrics_new(struct store **out, struct store *next)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	struct err *e;

	if (!metrics)
		return err_errno(ENOMEM, "storage metrics");
	e = store_init_layer(&metrics->store, &metrics_ops, next);
	if (e) {
		free(metrics);
		return e;
	}
	*out = &metrics->store;
	return NULL;
}

void store_metrics_read(const struct store *layer, enum store_opcode opcode,
			struct store_metrics_opcode *out)
{
	const struct metrics *metrics = container_of(layer, struct metrics, store);
	const struct by_opcode *by = &metrics->opcodes[opcode];

	out->in_flight = get(&by->in_flight);
	out->requests = get(&by->requests);
	out->bytes_read = get(&by->bytes_read);
	out->bytes_written = get(&by->bytes_written);
	out->entries = get(&by->entries);
	for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++) {
		const struct cell *cell = &by->results[r];
		struct store_metrics_cell *to = &out->results[r];

		to->count = get(&cell->count);
		to->latency_ns = get(&cell->latency_ns);
		for (unsigned b = 0; b < STORE_METRICS_BUCKETS; b++)
			to->buckets[b] = get(&cell->buckets[b]);
	}
}

uint64_t store_metrics_requests(const struct store *layer)
{
	const struct metrics *metrics = container_of(layer, struct metrics, store);
	uint64_t sum = 0;

	for (unsigned i = 0; i < STORE_OPCODE_COUNT; i++)
		sum += get(&metrics->opcodes[i].requests);
	return sum;
}
