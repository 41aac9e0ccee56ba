/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/timeout.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define NSEC_PER_SEC 1000000000ull
#define SAMPLES_MIN 8 /* before the estimate is trusted */
#define TAIL_FACTOR 8
#define BACKOFF_SHIFT_MAX 10

const struct store_timeout_options store_timeout_defaults = {
	.silence_min_ns = 5 * NSEC_PER_SEC,
	.silence_max_ns = 60 * NSEC_PER_SEC,
	.server_max_ns = 300 * NSEC_PER_SEC,
	.bytes_per_second_min = 4096,
};

/* Of one kind of operation; transfer loop only but for the last. */
struct estimate {
	unsigned samples; /* up to SAMPLES_MIN */
	unsigned backoff_shift;
	uint64_t mean_ns, deviation_ns;
	_Atomic uint64_t allowed_ns;
};

struct timeout {
	struct store store;
	struct store_timeout_options options;
	struct estimate estimates[STORE_OPCODE_COUNT];
};

/* Of a frame. */
struct timeout_state {
	uint64_t started_ns;
	uint64_t silence_ns;  /* allowed for this attempt */
	uint64_t deadline_ns; /* for all of it; UINT64_MAX: none */
	bool timed_out;
};

static struct timeout *timeout_of(struct store *store)
{
	return container_of(store, struct timeout, store);
}

static bool depends_on_size(enum store_opcode opcode)
{
	return opcode == STORE_COPY || opcode == STORE_COPY_PART || opcode == STORE_COMMIT;
}

static bool has_body(enum store_opcode opcode)
{
	return opcode == STORE_READ || opcode == STORE_PUT || opcode == STORE_PART;
}

/* The service has done its work, whatever came of it. */
static bool is_answer(int result)
{
	return result == 0 || result == -ENOENT || result == -ERANGE || result == -ESTALE ||
	       result == -EEXIST;
}

/* ---- The estimate ---- */

static void estimate_settle(const struct timeout *timeout, struct estimate *estimate)
{
	const struct store_timeout_options *options = &timeout->options;
	uint64_t allowed = options->silence_max_ns;

	if (estimate->samples >= SAMPLES_MIN) {
		allowed = TAIL_FACTOR * (estimate->mean_ns + 4 * estimate->deviation_ns);
		allowed = MAX(allowed, options->silence_min_ns) << estimate->backoff_shift;
		allowed = MIN(allowed, options->silence_max_ns);
	}
	atomic_store_explicit(&estimate->allowed_ns, allowed, memory_order_relaxed);
}

/* RFC 6298, section 2: gains of 1/8 for the mean and 1/4 for the deviation. */
static void estimate_sample(const struct timeout *timeout, struct estimate *estimate,
			    uint64_t silence_ns)
{
	uint64_t off;

	if (estimate->samples == 0) {
		estimate->mean_ns = silence_ns;
		estimate->deviation_ns = silence_ns / 2;
	} else {
		off = MAX(estimate->mean_ns, silence_ns) - MIN(estimate->mean_ns, silence_ns);
		estimate->deviation_ns = (3 * estimate->deviation_ns + off) / 4;
		estimate->mean_ns = (7 * estimate->mean_ns + silence_ns) / 8;
	}
	if (estimate->samples < SAMPLES_MIN)
		estimate->samples++;
	estimate->backoff_shift = 0;
	estimate_settle(timeout, estimate);
}

static void estimate_back_off(const struct timeout *timeout, struct estimate *estimate)
{
	if (estimate->backoff_shift < BACKOFF_SHIFT_MAX)
		estimate->backoff_shift++;
	estimate_settle(timeout, estimate);
}

static uint64_t estimate_allowed(const struct estimate *estimate)
{
	return atomic_load_explicit(&estimate->allowed_ns, memory_order_relaxed);
}

/* ---- Operations ---- */

/* When the attempt last showed life. op->moved_ns may be of an earlier one. */
static uint64_t last_sign_ns(const struct store_op *op, const struct timeout_state *state)
{
	return MAX(state->started_ns, op->moved_ns);
}

static void timeout_expired(struct loop_timer *timer)
{
	struct store_frame *frame = store_timer_frame(timer);
	struct store *store = frame->layer;
	struct timeout_state *state = store_op_state(frame->op, store, struct timeout_state);
	uint64_t due = MIN(last_sign_ns(frame->op, state) + state->silence_ns, state->deadline_ns);
	uint64_t now = loop_now_ns();

	if (now < due) {
		loop_timer_arm(store->loop, timer, due - now);
		return;
	}
	state->timed_out = true;
	store_op_recall(store, frame->op);
}

static void timeout_complete(struct store *store, struct store_op *op)
{
	struct timeout_state *state = store_op_state(op, store, struct timeout_state);
	struct timeout *timeout = timeout_of(store);
	struct estimate *estimate = &timeout->estimates[op->opcode];
	int result = op->result;

	loop_timer_disarm(&store_op_frame(op, store)->timer);
	if (state->timed_out && result == -ECANCELED && !store_op_stopped(op)) {
		result = -ETIMEDOUT;
		if (!depends_on_size(op->opcode))
			estimate_back_off(timeout, estimate);
	} else if (is_answer(result) && !depends_on_size(op->opcode)) {
		uint64_t last = loop_now_ns() - last_sign_ns(op, state);

		estimate_sample(timeout, estimate, MAX(op->silence_ns, last));
	}
	store_op_complete(op, result);
}

static void timeout_submit(struct store *store, struct store_op *op)
{
	const struct store_timeout_options *options = &timeout_of(store)->options;
	struct timeout_state *state = store_op_state(op, store, struct timeout_state);
	struct store_frame *frame = store_op_frame(op, store);

	*state = (struct timeout_state){
		.started_ns = loop_now_ns(),
		.silence_ns = estimate_allowed(&timeout_of(store)->estimates[op->opcode]),
		.deadline_ns = UINT64_MAX,
	};
	if (options->bytes_per_second_min && has_body(op->opcode)) {
		/* A double is exact enough, and does not overflow. */
		double body_ns = (double)op->length / (double)options->bytes_per_second_min * 1e9;

		if (body_ns < 1e18)
			state->deadline_ns =
				state->started_ns + options->silence_max_ns + (uint64_t)body_ns;
	}
	loop_timer_init(&frame->timer, timeout_expired);
	loop_timer_arm(store->loop, &frame->timer, state->silence_ns);
	store_op_forward(store, op, timeout_complete);
}

static void timeout_free(struct store *store)
{
	free(timeout_of(store));
}

static const struct store_ops timeout_ops = {
	.name = "timeout",
	.submit = timeout_submit,
	.free = timeout_free,
};

struct err *store_timeout_new(struct store **out, struct store *next,
			      const struct store_timeout_options *options)
{
	struct timeout *timeout = calloc(1, sizeof(*timeout));
	struct err *e;

	if (!timeout)
		return err_errno(ENOMEM, "storage time-outs");
	e = store_init_layer(&timeout->store, &timeout_ops, next);
	if (e) {
		free(timeout);
		return e;
	}
	timeout->options = options ? *options : store_timeout_defaults;
	for (enum store_opcode i = 0; i < STORE_OPCODE_COUNT; i++)
		atomic_init(&timeout->estimates[i].allowed_ns,
			    depends_on_size(i) ? timeout->options.server_max_ns
					       : timeout->options.silence_max_ns);
	*out = &timeout->store;
	return NULL;
}

uint64_t store_timeout_allowed_ns(const struct store *layer, enum store_opcode opcode)
{
	const struct timeout *timeout = container_of(layer, struct timeout, store);

	return estimate_allowed(&timeout->estimates[opcode]);
}
