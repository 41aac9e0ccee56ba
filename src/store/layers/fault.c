/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/random.h"

struct fault {
	struct store store;
	pthread_mutex_t lock; /* covers what follows */
	struct store_random random;
	struct store_fault faults[STORE_OPCODE_COUNT];
	struct store_fault_stats stats;
};

enum fault_kind { FAULT_NONE, FAULT_ERROR, FAULT_LOST, FAULT_CUT };

/* Of a frame: what was decided on the way down. */
struct fault_state {
	enum fault_kind kind;
	int error;
	uint32_t retry_after_ms;
	uint64_t delay_ns, reply_delay_ns; /* 0: none */
	bool replied;			   /* it waits on the way up */
	int result;			   /* ... with this */
	uint64_t length;		   /* READ that is cut: the caller's */
	uint32_t limit;			   /* LIST that is cut: the caller's */
};

static struct fault *fault_of(struct store *store)
{
	return container_of(store, struct fault, store);
}

static struct fault_state *state_of(struct store_op *op, struct store *store)
{
	return store_op_state(op, store, struct fault_state);
}

/* ---- Drawing; the lock is held ---- */

static bool fault_hits(struct fault *fault, unsigned permille)
{
	return store_random_below(&fault->random, 1000) < permille;
}

static uint64_t fault_draw_delay(struct fault *fault, const struct store_fault *rule)
{
	fault->stats.delayed++;
	if (rule->delay_min_ns == STORE_FAULT_FOREVER)
		return STORE_FAULT_FOREVER;
	return rule->delay_min_ns + 1 +
	       store_random_below(&fault->random, rule->delay_max_ns > rule->delay_min_ns
							  ? rule->delay_max_ns - rule->delay_min_ns
							  : 1);
}

static enum fault_kind fault_draw_kind(struct fault *fault, const struct store_fault *rule,
				       enum store_opcode opcode)
{
	bool streams =
		opcode == STORE_READ || opcode == STORE_LIST || opcode == STORE_LIST_SESSIONS;
	unsigned drawn = (unsigned)store_random_below(&fault->random, 1000);

	if (drawn < rule->error_permille) {
		fault->stats.errors++;
		return FAULT_ERROR;
	}
	drawn -= rule->error_permille;
	if (drawn < rule->lost_permille) {
		fault->stats.lost++;
		return streams ? FAULT_CUT : FAULT_LOST;
	}
	drawn -= rule->lost_permille;
	if (drawn < rule->cut_permille) {
		fault->stats.cut++;
		return streams ? FAULT_CUT : FAULT_ERROR;
	}
	return FAULT_NONE;
}

/* Whether @rule has an operation to treat; counts it. */
static bool fault_is_due(struct store_fault *rule)
{
	if (rule->skip) {
		rule->skip--;
		return false;
	}
	if (rule->count == UINT32_MAX)
		return false;
	if (rule->count && --rule->count == 0)
		rule->count = UINT32_MAX; /* this was the last */
	return true;
}

static void fault_draw(struct fault *fault, const struct store_op *op, struct fault_state *state)
{
	struct store_fault *rule = &fault->faults[op->opcode];

	*state = (struct fault_state){ .kind = FAULT_NONE };
	if (!fault_is_due(rule))
		return;
	state->kind = fault_draw_kind(fault, rule, op->opcode);
	state->error = rule->error && state->kind == FAULT_ERROR ? rule->error : -EIO;
	state->retry_after_ms = rule->retry_after_ms;
	if (fault_hits(fault, rule->delay_permille))
		state->delay_ns = fault_draw_delay(fault, rule);
	if (fault_hits(fault, rule->reply_delay_permille))
		state->reply_delay_ns = fault_draw_delay(fault, rule);
}

/* ---- Doing ---- */

/* Forgets what an answer brought. */
static void fault_lose_answer(struct store_op *op)
{
	memset(&op->meta, 0, sizeof(op->meta));
	op->checksum[0] = '\0';
	op->session_out[0] = '\0';
}

static void fault_hold(struct store *store, struct store_op *op, uint64_t delay_ns,
		       void (*expired)(struct loop_timer *timer))
{
	struct store_frame *frame = store_op_frame(op, store);

	loop_timer_init(&frame->timer, expired);
	if (delay_ns != STORE_FAULT_FOREVER)
		loop_timer_arm(store->loop, &frame->timer, delay_ns);
}

static void reply_expired(struct loop_timer *timer)
{
	struct store_frame *frame = store_timer_frame(timer);

	store_op_complete(frame->op, state_of(frame->op, frame->layer)->result);
}

static void fault_complete(struct store *store, struct store_op *op)
{
	struct fault_state *state = state_of(op, store);
	int result = op->result;

	if (state->kind == FAULT_CUT) {
		op->length = state->length;
		op->list.limit = state->limit;
	}
	if (result == 0 && (state->kind == FAULT_CUT || state->kind == FAULT_LOST)) {
		result = -EIO;
		if (op->opcode != STORE_READ) /* its headers had come */
			fault_lose_answer(op);
	}
	if (state->reply_delay_ns) {
		state->replied = true;
		state->result = result;
		fault_hold(store, op, state->reply_delay_ns, reply_expired);
		return;
	}
	store_op_complete(op, result);
}

/* Makes the service answer less than was asked for. */
static void fault_cut(struct fault *fault, struct store_op *op, struct fault_state *state)
{
	uint64_t rows = op->list.limit ? op->list.limit : fault->store.caps.list_max;

	state->length = op->length;
	state->limit = op->list.limit;
	pthread_mutex_lock(&fault->lock);
	if (op->opcode == STORE_READ)
		op->length = op->done + store_random_below(&fault->random, op->length - op->done);
	else
		op->list.limit = (uint32_t)(1 + store_random_below(&fault->random, rows));
	pthread_mutex_unlock(&fault->lock);
}

static void fault_do(struct store *store, struct store_op *op)
{
	struct fault_state *state = state_of(op, store);

	if (state->kind == FAULT_ERROR) {
		op->retry_after_ms = state->retry_after_ms;
		store_op_complete(op, state->error);
		return;
	}
	if (state->kind == FAULT_CUT)
		fault_cut(fault_of(store), op, state);
	if (state->kind == FAULT_CUT && op->opcode == STORE_READ && op->length == op->done) {
		op->length = state->length;
		store_op_complete(op, -EIO); /* cut before its first byte */
		return;
	}
	store_op_forward(store, op, fault_complete);
}

static void delay_expired(struct loop_timer *timer)
{
	struct store_frame *frame = store_timer_frame(timer);

	fault_do(frame->layer, frame->op);
}

static void fault_submit(struct store *store, struct store_op *op)
{
	struct fault *fault = fault_of(store);
	struct fault_state *state = state_of(op, store);

	pthread_mutex_lock(&fault->lock);
	fault_draw(fault, op, state);
	pthread_mutex_unlock(&fault->lock);
	if (state->delay_ns)
		fault_hold(store, op, state->delay_ns, delay_expired);
	else
		fault_do(store, op);
}

/* Held back: not done yet, or its answer is not known yet. */
static void fault_cancel(struct store *store, struct store_op *op)
{
	loop_timer_disarm(&store_op_frame(op, store)->timer);
	if (state_of(op, store)->replied)
		fault_lose_answer(op);
	store_op_complete(op, -ECANCELED);
}

static void fault_free(struct store *store)
{
	struct fault *fault = fault_of(store);

	pthread_mutex_destroy(&fault->lock);
	free(fault);
}

static const struct store_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.cancel = fault_cancel,
	.free = fault_free,
};

struct err *store_fault_new(struct store **out, struct store *next, uint64_t seed)
{
	struct fault *fault = calloc(1, sizeof(*fault));
	struct err *e;

	if (!fault)
		return err_errno(ENOMEM, "fault injection");
	e = store_init_layer(&fault->store, &fault_ops, next);
	if (e) {
		free(fault);
		return e;
	}
	pthread_mutex_init(&fault->lock, NULL);
	store_random_seed(&fault->random, seed);
	*out = &fault->store;
	return NULL;
}

void store_fault_set(struct store *layer, uint32_t opcodes, const struct store_fault *rule)
{
	static const struct store_fault none;
	struct fault *fault = fault_of(layer);

	pthread_mutex_lock(&fault->lock);
	for (unsigned i = 0; i < STORE_OPCODE_COUNT; i++) {
		if (opcodes & 1u << i)
			fault->faults[i] = rule ? *rule : none;
	}
	pthread_mutex_unlock(&fault->lock);
}

struct store_fault_stats store_fault_stats(struct store *layer)
{
	struct fault *fault = fault_of(layer);
	struct store_fault_stats stats;

	pthread_mutex_lock(&fault->lock);
	stats = fault->stats;
	pthread_mutex_unlock(&fault->lock);
	return stats;
}
