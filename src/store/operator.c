/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk of an operation down and up a stack.
 *
 * Frames lie in the operation at the height of their layer, so that a layer
 * finds its own without a search and keeps it over several attempts. op->at is
 * the store that has the operation in its hands: the one that a cancellation
 * has to reach, without the layers above taking part.
 *
 * Cancellation from another thread meets completion in op->phase: whoever
 * changes it from PHASE_LIVE first wins. If it is store_cancel(), its task is on
 * the way to the loop and refers to the operation, so that complete() waits for
 * that task.
 */
#include "store/operator.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/span.h"

enum { PHASE_LIVE, PHASE_CANCELLED, PHASE_DONE };

#define STOP_CANCELLED UINT_MAX

static const char *const opcode_names[] = {
	[STORE_STAT] = "stat",
	[STORE_READ] = "read",
	[STORE_PUT] = "put",
	[STORE_BEGIN] = "begin",
	[STORE_PART] = "part",
	[STORE_COPY_PART] = "copy_part",
	[STORE_COMMIT] = "commit",
	[STORE_ABORT] = "abort",
	[STORE_LIST] = "list",
	[STORE_DELETE] = "delete",
	[STORE_DELETE_BATCH] = "delete_batch",
	[STORE_COPY] = "copy",
	[STORE_LIST_SESSIONS] = "list_sessions",
	[STORE_WRITE] = "write",
};
_Static_assert(ARRAY_SIZE(opcode_names) == STORE_OPCODE_COUNT, "one name for each opcode");

const char *store_opcode_name(enum store_opcode opcode)
{
	return (unsigned)opcode < STORE_OPCODE_COUNT ? opcode_names[opcode] : "unknown";
}

/* ---- Preconditions ---- */

static int check_key(const char *key, bool may_be_empty)
{
	if (!key || (!*key && !may_be_empty))
		return -EINVAL;
	return strnlen(key, STORE_KEY_MAX + 1) > STORE_KEY_MAX ? -ENAMETOOLONG : 0;
}

/* Conditions that the operation does not have, or the service cannot keep. */
static int check_conditions(const struct store_caps *caps, const struct store_op *op)
{
	bool can_match, can_absent;

	if (store_given(op->if_match) && op->if_absent)
		return -EINVAL;
	switch (op->opcode) {
	case STORE_STAT:
	case STORE_READ:
		can_match = caps->if_match;
		can_absent = false;
		break;
	case STORE_PUT:
	case STORE_COMMIT:
		can_match = caps->write_if_match;
		can_absent = caps->if_absent;
		break;
	case STORE_DELETE:
		can_match = caps->delete_if_match;
		can_absent = false;
		break;
	case STORE_COPY:
		can_match = false;
		can_absent = caps->copy_if_absent;
		break;
	default:
		can_match = can_absent = false;
	}
	if ((store_given(op->if_match) && !can_match) || (op->if_absent && !can_absent))
		return -EOPNOTSUPP;
	return 0;
}

/* What a PUT, BEGIN or COPY stores beside the data. */
static int check_metadata(const struct store_caps *caps, const struct store_op *op)
{
	if (op->set_user_mtime && !caps->user_mtime)
		return -EOPNOTSUPP;
	if (op->write_id && strnlen(op->write_id, STORE_WRITE_ID_MAX) == STORE_WRITE_ID_MAX)
		return -EINVAL;
	return 0;
}

/* PART and COPY_PART. */
static int check_part(const struct store_caps *caps, const struct store_op *op)
{
	if (!store_given(op->session) || op->part_number == 0)
		return -EINVAL;
	return op->part_number > caps->parts_max || op->length > caps->part_max ? -EFBIG : 0;
}

static int check_commit(const struct store_caps *caps, const struct store_op *op)
{
	if (!store_given(op->session) || !op->parts || op->part_count == 0)
		return -EINVAL;
	if (op->part_count > caps->parts_max)
		return -EFBIG;
	for (size_t i = 0; i < op->part_count; i++) {
		if (op->parts[i].number <= (i ? op->parts[i - 1].number : 0))
			return -EINVAL;
	}
	return 0;
}

static int check_list(const struct store_caps *caps, const struct store_op *op)
{
	if (!op->list.entry || !op->list.page)
		return -EINVAL;
	if (store_given(op->list.start_after) && !caps->start_after)
		return -EOPNOTSUPP;
	return 0;
}

static int check_delete_batch(const struct store_caps *caps, const struct store_op *op)
{
	if (!caps->delete_batch_max)
		return -EOPNOTSUPP;
	if (!op->keys || !op->key_results || op->key_count == 0)
		return -EINVAL;
	if (op->key_count > caps->delete_batch_max)
		return -EFBIG;
	for (size_t i = 0; i < op->key_count; i++) {
		int err = check_key(op->keys[i], false);

		if (err)
			return err;
	}
	return 0;
}

/* What the ranges of a WRITE come to is what is written. */
static int check_write(const struct store_caps *caps, const struct store_op *op)
{
	uint64_t sum = 0;

	if (!caps->write_range)
		return -EOPNOTSUPP;
	if (!op->ranges || op->range_count == 0)
		return -EINVAL;
	for (size_t i = 0; i < op->range_count; i++) {
		const struct store_range *range = &op->ranges[i];

		if (range->length == 0 || range->length > op->length - sum ||
		    range->offset + range->length < range->offset)
			return -EINVAL;
		sum += range->length;
	}
	return sum == op->length ? check_metadata(caps, op) : -EINVAL;
}

static int check_copy_source(const struct store_op *op)
{
	return check_key(op->source_key, false);
}

static int check_by_opcode(const struct store_caps *caps, const struct store_op *op)
{
	int err;

	switch (op->opcode) {
	case STORE_STAT:
	case STORE_DELETE:
		return 0;
	case STORE_READ:
		return op->length ? 0 : -EINVAL;
	case STORE_PUT:
		return op->length > caps->put_max ? -EFBIG : check_metadata(caps, op);
	case STORE_BEGIN:
		return check_metadata(caps, op);
	case STORE_COPY_PART:
		if (!caps->copy_part)
			return -EOPNOTSUPP;
		err = check_copy_source(op);
		if (!err && op->length == 0)
			err = -EINVAL;
		return err ? err : check_part(caps, op);
	case STORE_PART:
		return check_part(caps, op);
	case STORE_COMMIT:
		return check_commit(caps, op);
	case STORE_ABORT:
		return store_given(op->session) ? 0 : -EINVAL;
	case STORE_LIST:
	case STORE_LIST_SESSIONS:
		return check_list(caps, op);
	case STORE_DELETE_BATCH:
		return check_delete_batch(caps, op);
	case STORE_COPY:
		if (!caps->copy)
			return -EOPNOTSUPP;
		err = check_copy_source(op);
		return err ? err : check_metadata(caps, op);
	case STORE_WRITE:
		return check_write(caps, op);
	case STORE_OPCODE_COUNT:
		break;
	}
	return -EINVAL;
}

static bool is_session_opcode(enum store_opcode opcode)
{
	return opcode == STORE_BEGIN || opcode == STORE_PART || opcode == STORE_COPY_PART ||
	       opcode == STORE_COMMIT || opcode == STORE_ABORT || opcode == STORE_LIST_SESSIONS;
}

/* Settles op->length; 0 or why the operation cannot be done. */
static int store_op_check(const struct store_caps *caps, struct store_op *op)
{
	bool prefix = op->opcode == STORE_LIST || op->opcode == STORE_LIST_SESSIONS;
	int err;

	if (op->opcode == STORE_READ || op->opcode == STORE_PUT || op->opcode == STORE_PART ||
	    op->opcode == STORE_WRITE) {
		size_t room = iov_len(&op->data);

		if (op->length == 0) {
			op->length_open = true; /* until store_op_deliver() */
			op->length = room;
		}
		if (op->length > room || op->offset + op->length < op->offset)
			return -EINVAL;
	}
	if (is_session_opcode(op->opcode) && !caps->sessions)
		return -EOPNOTSUPP;
	if (op->opcode != STORE_DELETE_BATCH) {
		err = check_key(op->key, prefix);
		if (err)
			return err;
	}
	err = check_conditions(caps, op);
	return err ? err : check_by_opcode(caps, op);
}

/* ---- Down and up ---- */

static void store_op_deliver(struct store_op *op)
{
	int live = PHASE_LIVE;

	op->at = NULL;
	if (op->length_open)
		op->length = 0;
	if (!atomic_compare_exchange_strong(&op->phase, &live, PHASE_DONE) && !op->cancel_ran) {
		op->finished = true; /* cancel_run() is on its way, and delivers */
		return;
	}
	op->complete(op);
}

static void store_op_enter(struct store *store, struct store_op *op)
{
	op->at = store;
	if (store->next)
		store_op_frame(op, store)->layer = store;
	op->result = 0;
	if (store_op_stopped(op)) {
		store_op_complete(op, -ECANCELED);
		return;
	}
	op->retry_after_ms = 0;
	op->entries = 0;
	op->moved = 0;
	op->silence_ns = 0;
	if (!store->next) {
		op->attempts++;
		op->moved_ns = loop_now_ns();
	}
	store->ops->submit(store, op);
}

static void submit_run(struct loop_task *task)
{
	struct store_op *op = container_of(task, struct store_op, task);
	int err = store_op_check(&op->top->caps, op);

	if (err) {
		op->result = err;
		store_op_deliver(op);
		return;
	}
	store_op_enter(op->top, op);
}

/* Those of the lowest @count layers. */
static void frames_init(struct store_op *op, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct store_frame *frame = &op->frame[i];

		memset(frame, 0, sizeof(*frame));
		frame->op = op;
		list_init(&frame->link);
		loop_timer_init(&frame->timer, NULL);
	}
}

void store_op_renew(struct store *layer, struct store_op *op)
{
	assert(op->at == layer);
	frames_init(op, layer->height - 1);
}

void store_submit(struct store *store, struct store_op *op)
{
	op->result = 0;
	memset(&op->meta, 0, sizeof(op->meta));
	op->checksum[0] = op->session_out[0] = op->former[0] = '\0';
	op->done = 0;
	op->entries = 0;
	op->retry_after_ms = 0;
	op->attempts = 0;
	op->moved = op->moved_ns = op->silence_ns = 0;
	op->top = op->at = store;
	op->stop = 0;
	op->finished = op->cancel_ran = op->length_open = false;
	op->service = NULL;
	/* By number: a layer may exchange what is below it meanwhile. */
	frames_init(op, store->height);
	atomic_store(&op->phase, PHASE_LIVE);
	op->task.run = submit_run;
	loop_post(store->loop, &op->task);
}

void store_op_forward(struct store *layer, struct store_op *op,
		      void (*complete)(struct store *layer, struct store_op *op))
{
	assert(op->at == layer);
	store_op_frame(op, layer)->complete = complete;
	store_op_enter(layer->next, op);
}

/* What a service calls a success has to be one: no short body, no nameless session. */
static int store_op_settle(const struct store_op *op)
{
	switch (op->opcode) {
	case STORE_READ:
		return op->done < op->length && op->offset + op->done < op->meta.size ? -EIO : 0;
	case STORE_BEGIN:
		return op->session_out[0] ? 0 : -EIO;
	default:
		return 0;
	}
}

void store_op_complete(struct store_op *op, int result)
{
	unsigned height = op->at->height;

	assert(result <= 0);
	op->result = result == 0 && height == 0 ? store_op_settle(op) : result;
	while (height < op->top->height) {
		struct store_frame *frame = &op->frame[height++];
		void (*complete)(struct store * layer, struct store_op * op) = frame->complete;

		if (!complete)
			continue;
		frame->complete = NULL;
		op->at = frame->layer;
		if (op->stop == height)
			op->stop = 0; /* back at who recalled it */
		complete(frame->layer, op);
		return;
	}
	store_op_deliver(op);
}

/* ---- Cancellation ---- */

static void store_op_stop(struct store_op *op, unsigned height)
{
	if (op->stop < height)
		op->stop = height;
	if (op->at->ops->cancel)
		op->at->ops->cancel(op->at, op);
}

void store_op_recall(struct store *layer, struct store_op *op)
{
	assert(op->at->height < layer->height);
	store_op_stop(op, layer->height);
}

static void cancel_run(struct loop_task *task)
{
	struct store_op *op = container_of(task, struct store_op, cancel_task);

	op->cancel_ran = true;
	if (op->finished)
		op->complete(op);
	else
		store_op_stop(op, STOP_CANCELLED);
}

void store_cancel(struct store_op *op)
{
	struct loop *loop = op->top->loop;
	int live = PHASE_LIVE;

	if (!atomic_compare_exchange_strong(&op->phase, &live, PHASE_CANCELLED))
		return;
	op->cancel_task.run = cancel_run;
	loop_post(loop, &op->cancel_task);
}

/* ---- Body and rows ---- */

struct iov_cursor store_op_cursor(const struct store_op *op)
{
	struct iov_cursor cursor = op->data;

	if (op->opcode == STORE_READ)
		iov_skip(&cursor, op->done);
	return cursor;
}

void store_op_moved(struct store_op *op, uint64_t bytes)
{
	uint64_t now = loop_now_ns();

	op->silence_ns = MAX(op->silence_ns, now - op->moved_ns);
	op->moved_ns = now;
	op->moved += bytes;
	if (op->opcode != STORE_READ || bytes == 0)
		return;
	op->done += bytes;
	assert(op->done <= op->length);
	if (op->progress)
		op->progress(op, op->done);
}

void store_op_entry(struct store_op *op, const struct store_entry *entry)
{
	op->entries++;
	op->list.entry(op, entry);
}

/* ---- Waiting ---- */

struct store_waiter {
	pthread_mutex_t lock; /* covers done */
	pthread_cond_t cond;
	bool done;
};

static void call_complete(struct store_op *op)
{
	struct store_waiter *waiter = op->waiter;

	pthread_mutex_lock(&waiter->lock);
	waiter->done = true;
	pthread_cond_signal(&waiter->cond); /* locked: the waiter frees it all */
	pthread_mutex_unlock(&waiter->lock);
}

int store_call(struct store *store, struct store_op *op)
{
	struct store_waiter waiter = { .lock = PTHREAD_MUTEX_INITIALIZER,
				       .cond = PTHREAD_COND_INITIALIZER };
	enum span_place before;

	op->waiter = &waiter;
	op->complete = call_complete;
	before = span_mark(SPAN_STORAGE);
	store_submit(store, op);
	pthread_mutex_lock(&waiter.lock);
	while (!waiter.done)
		pthread_cond_wait(&waiter.cond, &waiter.lock);
	pthread_mutex_unlock(&waiter.lock);
	pthread_cond_destroy(&waiter.cond);
	pthread_mutex_destroy(&waiter.lock);
	op->waiter = NULL;
	span_mark(before);
	return op->result;
}

/* ---- Building stacks ---- */

void store_init(struct store *store, const struct store_ops *ops, struct loop *loop)
{
	*store = (struct store){ .ops = ops, .loop = loop };
}

struct err *store_init_layer(struct store *store, const struct store_ops *ops, struct store *next)
{
	if (next->height == STORE_LAYERS_MAX)
		return err_new("storage stack: no room for layer %s above %u others", ops->name,
			       STORE_LAYERS_MAX);
	*store = (struct store){ .ops = ops,
				 .next = next,
				 .loop = next->loop,
				 .height = next->height + 1,
				 .caps = next->caps };
	return NULL;
}

void store_free(struct store *store)
{
	while (store) {
		struct store *next = store->next;

		store->ops->free(store);
		store = next;
	}
}

void store_write_id(char id[static STORE_WRITE_ID_MAX])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char raw[(STORE_WRITE_ID_MAX - 1) / 2];

	/* At most 256 bytes: neither short nor interrupted once the pool is ready. */
	while (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		;
	for (size_t i = 0; i < sizeof(raw); i++) {
		id[2 * i] = digits[raw[i] >> 4];
		id[2 * i + 1] = digits[raw[i] & 15];
	}
	id[STORE_WRITE_ID_MAX - 1] = '\0';
}
