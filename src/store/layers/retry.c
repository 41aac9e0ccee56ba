/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/retry.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/random.h"

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull

/* What store_retry_stop() leaves to an operation that comes later. */
#define STOPPING_TOTAL_NS (5 * NSEC_PER_SEC)

const struct store_retry_options store_retry_defaults = {
	.attempts_max = 8,
	.pause_first_ns = 100 * NSEC_PER_MSEC,
	.pause_max_ns = 20 * NSEC_PER_SEC,
	.total_ns = 300 * NSEC_PER_SEC,
};

enum { REPEATED, RESUMED, COMPARED, OURS, GIVEN_UP, STATS };

struct retry {
	struct store store;
	struct store_retry_options options;
	struct store_random random; /* transfer loop, as what follows */
	/* Operations by deadline, which is by arrival: all have the same time. One
	 * timer for the first of them is enough, however many there are. */
	struct list deadlines; /* store_frame.link; all operations */
	struct loop_timer timer;
	bool stopping;
	bool outage; /* somebody pauses long because the service was not reached */
	struct loop_task stop_task;
	_Atomic uint64_t stats[STATS]; /* written on the transfer loop */
};

/* Of a frame. */
struct retry_state {
	uint64_t deadline_ns; /* UINT64_MAX: none */
	uint64_t slot_end_ns; /* of the last pause, had it been as long as can be */
	const char *if_match; /* the caller's, while op->if_match is ours */
	int refused;	      /* COMPARING: how the write itself ended */
	int last;	      /* result of the attempt before */
	unsigned attempts;
	uint8_t opcode;	    /* the caller's, while op->opcode is STAT */
	bool if_absent : 1; /* likewise */
	bool comparing : 1; /* op is the STAT after a write that was refused */
	bool pinned : 1;    /* op->if_match is etag */
	bool ambiguous : 1; /* an attempt may have been done without our knowing */
	bool expired : 1;   /* the deadline has passed */
	char etag[STORE_ETAG_MAX];
};

static struct retry *retry_of(struct store *store)
{
	return container_of(store, struct retry, store);
}

static struct retry_state *state_of(struct store_op *op, struct store *store)
{
	return store_op_state(op, store, struct retry_state);
}

static void retry_count(struct store *store, unsigned stat)
{
	_Atomic uint64_t *counter = &retry_of(store)->stats[stat];
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

static void retry_complete(struct store *store, struct store_op *op);

/* ---- What a failure means ---- */

static bool is_passing(int result)
{
	return result == -EAGAIN || result == -EIO || result == -ETIMEDOUT;
}

/* Keys of a batch that was answered, but failed for a passing reason. */
static bool has_passing_keys(const struct store_op *op)
{
	if (op->opcode != STORE_DELETE_BATCH || op->result != 0)
		return false;
	for (size_t i = 0; i < op->key_count; i++) {
		if (is_passing(op->key_results[i]))
			return true;
	}
	return false;
}

/* A READ that failed at the very end of what there is. */
static bool is_whole(const struct store_op *op)
{
	if (op->opcode != STORE_READ || op->done == 0)
		return false;
	return op->done == op->length ||
	       (op->meta.etag[0] && op->offset + op->done == op->meta.size);
}

/* After an attempt of which nothing is known, the next one finds no object or
 * session: the first has done it. */
static bool is_done_already(const struct store_op *op)
{
	return op->result == -ENOENT && (op->opcode == STORE_DELETE || op->opcode == STORE_ABORT);
}

/* The write may have been refused because of what it did itself, unnoticed. */
static bool is_worth_comparing(struct store *store, const struct store_op *op)
{
	if (!op->write_id || !*op->write_id || !store->caps.write_id)
		return false;
	if (op->opcode == STORE_PUT)
		return op->result == -ESTALE || op->result == -EEXIST;
	if (op->opcode == STORE_COMMIT)
		return op->result == -ESTALE || op->result == -EEXIST || op->result == -ENOENT;
	return false;
}

/* ---- The operation in other clothes ---- */

static void retry_restore(struct store_op *op, struct retry_state *state)
{
	if (state->comparing) {
		op->opcode = state->opcode;
		op->if_absent = state->if_absent;
	}
	if (state->comparing || state->pinned)
		op->if_match = state->if_match;
	state->comparing = state->pinned = false;
}

static void retry_finish(struct store *store, struct store_op *op, int result)
{
	struct retry_state *state = state_of(op, store);
	struct retry *retry = retry_of(store);

	list_remove(&store_op_frame(op, store)->link);
	if (list_empty(&retry->deadlines))
		loop_timer_disarm(&retry->timer);
	retry_restore(op, state);
	/* -EAGAIN says that nothing was done; of another attempt that is not known. */
	if (result == -EAGAIN && state->ambiguous)
		result = -EIO;
	store_op_complete(op, result);
}

/* Asks whose write it is that stands there. */
static void retry_compare(struct store *store, struct store_op *op)
{
	struct retry_state *state = state_of(op, store);

	state->comparing = true;
	state->refused = op->result;
	state->opcode = (uint8_t)op->opcode;
	state->if_match = op->if_match;
	state->if_absent = op->if_absent;
	op->opcode = STORE_STAT;
	op->if_match = NULL;
	op->if_absent = false;
	retry_count(store, COMPARED);
	store_op_forward(store, op, retry_complete);
}

static void retry_compared(struct store *store, struct store_op *op)
{
	struct retry_state *state = state_of(op, store);
	bool ours = op->result == 0 && strcmp(op->meta.write_id, op->write_id) == 0;
	/* The session of a commit has gone, and what stands there is not of it: lost
	 * to somebody else after all. */
	int refused = state->refused == -ENOENT ? -ESTALE : state->refused;

	if (ours)
		retry_count(store, OURS);
	else
		memset(&op->meta, 0, sizeof(op->meta));
	retry_finish(store, op, ours ? 0 : refused);
}

/* ---- READ half-way ---- */

static void read_restart(struct store_op *op, struct retry_state *state)
{
	retry_restore(op, state);
	if (op->done == 0)
		return;
	op->done = 0;
	if (op->progress)
		op->progress(op, 0);
}

/* Before another attempt of a READ: from where, and of which version. */
static void read_resume(struct store *store, struct store_op *op, struct retry_state *state)
{
	if (op->done == 0)
		return;
	if (!op->if_match || !*op->if_match) {
		if (!op->meta.etag[0] || !store->caps.if_match) {
			read_restart(op, state);
			return;
		}
		memcpy(state->etag, op->meta.etag, sizeof(state->etag));
		state->if_match = op->if_match;
		state->pinned = true;
		op->if_match = state->etag;
	}
	retry_count(store, RESUMED);
}

/* ---- Attempts ---- */

static void retry_again(struct store *store, struct store_op *op)
{
	struct retry_state *state = state_of(op, store);

	retry_count(store, REPEATED);
	state->attempts++;
	if (op->opcode == STORE_READ)
		read_resume(store, op, state);
	if (op->opcode == STORE_LIST || op->opcode == STORE_LIST_SESSIONS) {
		if (op->list.restart)
			op->list.restart(op);
	}
	store_op_forward(store, op, retry_complete);
}

static void pause_expired(struct loop_timer *timer)
{
	struct store_frame *frame = store_timer_frame(timer);

	retry_again(frame->layer, frame->op);
}

/* Its time is up, and it is no longer in the list. */
static void retry_expire(struct retry *retry, struct store_frame *frame)
{
	struct retry_state *state = state_of(frame->op, &retry->store);

	state->expired = true;
	if (frame->op->at != &retry->store) {
		store_op_recall(&retry->store, frame->op);
		return;
	}
	/* In a pause: there is a result of the attempt before. */
	loop_timer_disarm(&frame->timer);
	retry_count(&retry->store, GIVEN_UP);
	retry_finish(&retry->store, frame->op, state->last);
}

static void deadlines_expired(struct loop_timer *timer)
{
	struct retry *retry = container_of(timer, struct retry, timer);

	while (!list_empty(&retry->deadlines)) {
		struct store_frame *frame =
			list_entry(retry->deadlines.next, struct store_frame, link);
		uint64_t deadline_ns = state_of(frame->op, &retry->store)->deadline_ns;
		uint64_t now = loop_now_ns();

		if (deadline_ns > now) {
			loop_timer_arm(retry->store.loop, timer, deadline_ns - now);
			return;
		}
		list_remove(&frame->link);
		retry_expire(retry, frame);
	}
}

static void retry_stop(struct loop_task *task)
{
	struct retry *retry = container_of(task, struct retry, stop_task);

	retry->stopping = true;
	loop_timer_disarm(&retry->timer);
	while (!list_empty(&retry->deadlines)) {
		struct list *first = list_pop_front(&retry->deadlines);

		retry_expire(retry, list_entry(first, struct store_frame, link));
	}
}

/* The length of the pause after the attempt that just failed: full jitter in a slot of its
 * own. The slots follow one another, so that short pauses do not add up to all attempts
 * being made in a moment, while a server that restarts takes some seconds. */
static uint64_t retry_pause_ns(struct retry *retry, const struct store_op *op,
			       struct retry_state *state)
{
	const struct store_retry_options *options = &retry->options;
	unsigned shift = MIN(state->attempts - 1, 30u);
	uint64_t bound = options->pause_first_ns, now = loop_now_ns();
	uint64_t slot = MAX(state->slot_end_ns, now), pause;

	if (bound < options->pause_max_ns >> shift)
		bound <<= shift;
	else
		bound = options->pause_max_ns;
	pause = slot - now + store_random_below(&retry->random, bound + 1);
	state->slot_end_ns = slot + bound;
	/* Those who are told the same time do not come back at the same moment. */
	if (op->retry_after_ms)
		pause = op->retry_after_ms * NSEC_PER_MSEC +
			store_random_below(&retry->random, options->pause_first_ns + 1);
	return pause;
}

static bool may_repeat(const struct retry *retry, const struct store_op *op,
		       const struct retry_state *state)
{
	if (state->attempts >= retry->options.attempts_max)
		return false;
	if ((op->opcode == STORE_LIST || op->opcode == STORE_LIST_SESSIONS) && op->entries)
		return op->list.restart != NULL;
	return true;
}

static void retry_pause(struct store *store, struct store_op *op)
{
	struct retry *retry = retry_of(store);
	struct retry_state *state = state_of(op, store);
	struct store_frame *frame = store_op_frame(op, store);
	uint64_t pause = retry_pause_ns(retry, op, state);

	if (state->expired || !may_repeat(retry, op, state) ||
	    loop_now_ns() + pause > state->deadline_ns) {
		retry_count(store, GIVEN_UP);
		retry_finish(store, op, op->result);
		return;
	}
	log_debug("storage_retry", "op=%s attempt=%u error=%d pause_ms=%llu",
		  store_opcode_name(op->opcode), state->attempts, -op->result,
		  (unsigned long long)(pause / NSEC_PER_MSEC));
	state->last = op->result;
	if (op->result != -EAGAIN && pause > retry->options.pause_first_ns)
		retry->outage = true;
	loop_timer_init(&frame->timer, pause_expired);
	loop_timer_arm(store->loop, &frame->timer, pause);
}

/* The service answers again: who pauses because it did not has paused long enough. Those
 * whom it asked to slow down go on pausing. */
static void retry_outage_over(struct retry *retry)
{
	uint64_t now = loop_now_ns(), first_ns = retry->options.pause_first_ns;
	struct list *pos;

	retry->outage = false;
	list_for_each (pos, &retry->deadlines) {
		struct store_frame *frame = list_entry(pos, struct store_frame, link);
		struct retry_state *state = state_of(frame->op, &retry->store);

		if (frame->op->at != &retry->store || state->last == -EAGAIN ||
		    frame->timer.deadline_ns <= now + first_ns || list_empty(&frame->timer.link))
			continue; /* not in a pause, or not in a long one */
		loop_timer_arm(retry->store.loop, &frame->timer,
			       store_random_below(&retry->random, first_ns + 1));
	}
}

/* What came is not an answer to the caller's question: it takes another one. */
static bool is_preliminary(struct store *store, const struct store_op *op,
			   const struct retry_state *state)
{
	return (state->pinned && op->result == -ESTALE) ||
	       (state->ambiguous && is_worth_comparing(store, op));
}

/* Nothing more may be begun for it. */
static void retry_end(struct store *store, struct store_op *op)
{
	struct retry_state *state = state_of(op, store);
	int result = is_preliminary(store, op, state) ? -ECANCELED : op->result;

	if (result == -ECANCELED && !store_op_stopped(op)) {
		retry_count(store, GIVEN_UP);
		/* It was cut off on its way: whether it was done is not known. */
		state->ambiguous = true;
		result = state->last ? state->last : -ETIMEDOUT;
	}
	retry_finish(store, op, result);
}

static void retry_complete(struct store *store, struct store_op *op)
{
	struct retry_state *state = state_of(op, store);

	if (op->result == 0 && retry_of(store)->outage)
		retry_outage_over(retry_of(store));
	if (state->comparing && (op->result == 0 || op->result == -ENOENT)) {
		retry_compared(store, op);
	} else if (store_op_stopped(op) || (state->expired && !is_passing(op->result))) {
		retry_end(store, op);
	} else if (is_passing(op->result) && is_whole(op)) {
		retry_finish(store, op, 0);
	} else if (is_passing(op->result) || has_passing_keys(op)) {
		if (op->result != -EAGAIN)
			state->ambiguous = true;
		retry_pause(store, op);
	} else if (state->comparing) {
		retry_finish(store, op, -EIO); /* whose write it is cannot be told */
	} else if (state->pinned && op->result == -ESTALE) {
		/* Not the caller's condition: the object changed between two attempts. */
		read_restart(op, state);
		store_op_forward(store, op, retry_complete);
	} else if (state->ambiguous && is_done_already(op)) {
		retry_finish(store, op, 0);
	} else if (state->ambiguous && is_worth_comparing(store, op)) {
		retry_compare(store, op);
	} else {
		retry_finish(store, op, op->result);
	}
}

static void retry_submit(struct store *store, struct store_op *op)
{
	struct retry *retry = retry_of(store);
	struct retry_state *state = state_of(op, store);
	uint64_t total = retry->options.total_ns;

	if (retry->stopping && (!total || total > STOPPING_TOTAL_NS))
		total = STOPPING_TOTAL_NS;
	memset(state, 0, sizeof(*state));
	state->attempts = 1;
	state->deadline_ns = UINT64_MAX;
	if (total) {
		if (list_empty(&retry->deadlines))
			loop_timer_arm(store->loop, &retry->timer, total);
		state->deadline_ns = loop_now_ns() + total;
	}
	list_push_back(&retry->deadlines, &store_op_frame(op, store)->link);
	store_op_forward(store, op, retry_complete);
}

/* In a pause. */
static void retry_cancel(struct store *store, struct store_op *op)
{
	loop_timer_disarm(&store_op_frame(op, store)->timer);
	retry_finish(store, op, -ECANCELED);
}

static void retry_free(struct store *store)
{
	free(retry_of(store));
}

static const struct store_ops retry_ops = {
	.name = "retry",
	.submit = retry_submit,
	.cancel = retry_cancel,
	.free = retry_free,
};

struct err *store_retry_new(struct store **out, struct store *next,
			    const struct store_retry_options *options)
{
	struct retry *retry = calloc(1, sizeof(*retry));
	struct err *e;

	if (!retry)
		return err_errno(ENOMEM, "storage retries");
	e = store_init_layer(&retry->store, &retry_ops, next);
	if (e) {
		free(retry);
		return e;
	}
	retry->options = options ? *options : store_retry_defaults;
	store_random_seed(&retry->random, retry->options.seed);
	list_init(&retry->deadlines);
	loop_timer_init(&retry->timer, deadlines_expired);
	retry->stop_task.run = retry_stop;
	*out = &retry->store;
	return NULL;
}

void store_retry_stop(struct store *layer)
{
	struct retry *retry = retry_of(layer);

	assert(layer->ops == &retry_ops);
	loop_post(layer->loop, &retry->stop_task);
}

struct store_retry_stats store_retry_stats(const struct store *layer)
{
	struct retry *retry = container_of(layer, struct retry, store);
	uint64_t stats[STATS];

	for (unsigned i = 0; i < STATS; i++)
		stats[i] = atomic_load_explicit(&retry->stats[i], memory_order_relaxed);
	return (struct store_retry_stats){
		.repeated = stats[REPEATED],
		.resumed = stats[RESUMED],
		.compared = stats[COMPARED],
		.ours = stats[OURS],
		.given_up = stats[GIVEN_UP],
	};
}
