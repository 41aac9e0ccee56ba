/* SPDX-License-Identifier: Apache-2.0 */
#include "store/layers/switch.h"

#include <errno.h>
#include <stdlib.h>

/* What is, or was, below. All of it on the transfer loop. */
struct side {
	struct list link; /* switch_layer.sides, until its release is posted */
	struct switch_layer *owner;
	struct store *top;
	unsigned in_flight;
	bool replaced;
	struct loop_task task;
	struct store_switch_options options; /* at the release the switch may be gone */
};

struct switch_layer {
	struct store store;
	struct store_switch_options options;
	struct list sides;
	struct side *current;
};

struct switch_state {
	struct side *side;
	bool repeated;
};

static struct switch_layer *switch_of(struct store *store)
{
	return container_of(store, struct switch_layer, store);
}

static struct side *side_new(struct switch_layer *s, struct store *top)
{
	struct side *side = calloc(1, sizeof(*side));

	if (!side)
		return NULL;
	side->owner = s;
	side->top = top;
	list_push_back(&s->sides, &side->link);
	return side;
}

static void side_release(struct loop_task *task)
{
	struct side *side = container_of(task, struct side, task);

	side->options.released(side->options.arg, side->top);
	free(side);
}

/* Later: those who are below may be the ones who call. */
static void side_settle(struct side *side)
{
	if (!side->replaced || side->in_flight)
		return;
	list_remove(&side->link);
	side->options = side->owner->options;
	side->task.run = side_release;
	loop_post(side->owner->store.loop, &side->task);
}

static void switch_complete(struct store *store, struct store_op *op);

static void switch_send(struct store *store, struct store_op *op)
{
	struct side *side = switch_of(store)->current;

	store_op_state(op, store, struct switch_state)->side = side;
	side->in_flight++;
	store_op_forward(store, op, switch_complete);
}

/* Whether the new side may be asked as if nothing had happened. */
static bool switch_repeats(const struct store_op *op)
{
	bool changes = op->opcode != STORE_STAT && op->opcode != STORE_READ &&
		       op->opcode != STORE_LIST && op->opcode != STORE_LIST_SESSIONS;

	/* A second attempt may be the refused one, and the first have happened. */
	return op->result == -EACCES && !store_op_stopped(op) && op->done == 0 &&
	       op->entries == 0 && (!changes || op->attempts <= 1);
}

static void switch_complete(struct store *store, struct store_op *op)
{
	struct switch_state *state = store_op_state(op, store, struct switch_state);
	struct side *side = state->side;
	bool again = side->replaced && !state->repeated && switch_repeats(op);

	side->in_flight--;
	side_settle(side);
	if (!again) {
		store_op_complete(op, op->result);
		return;
	}
	state->repeated = true;
	store_op_renew(store, op);
	switch_send(store, op);
}

static void switch_free(struct store *store)
{
	struct switch_layer *s = switch_of(store);
	struct list *link;

	/* Nothing is in flight: what was replaced is released, or its task is on the way. */
	while ((link = list_pop_front(&s->sides)) != NULL)
		free(list_entry(link, struct side, link));
	free(s);
}

static const struct store_ops switch_ops = {
	.name = "switch",
	.submit = switch_send,
	.free = switch_free,
};

struct err *store_switch_new(struct store **out, struct store *next,
			     const struct store_switch_options *options)
{
	struct switch_layer *s = calloc(1, sizeof(*s));
	struct err *e;

	if (!s)
		return err_errno(ENOMEM, "storage switch");
	list_init(&s->sides);
	s->options = *options;
	e = store_init_layer(&s->store, &switch_ops, next);
	if (!e) {
		s->current = side_new(s, next);
		e = s->current ? NULL : err_errno(ENOMEM, "storage switch");
	}
	if (e) {
		free(s);
		return e;
	}
	*out = &s->store;
	return NULL;
}

bool store_switch_fits(const struct store *layer, const struct store *next)
{
	const struct store_caps *a = &layer->caps, *b = &next->caps;

	return layer->loop == next->loop && layer->height == next->height + 1 &&
	       a->if_match == b->if_match && a->write_if_match == b->write_if_match &&
	       a->delete_if_match == b->delete_if_match && a->if_absent == b->if_absent &&
	       a->copy_if_absent == b->copy_if_absent && a->sessions == b->sessions &&
	       a->copy == b->copy && a->copy_part == b->copy_part &&
	       a->start_after == b->start_after && a->user_mtime == b->user_mtime &&
	       a->write_id == b->write_id && a->part_min == b->part_min &&
	       a->part_max == b->part_max && a->parts_max == b->parts_max &&
	       a->put_max == b->put_max && a->copy_max == b->copy_max &&
	       a->delete_batch_max == b->delete_batch_max && a->list_max == b->list_max;
}

int store_switch_to(struct store *layer, struct store *next)
{
	struct switch_layer *s = switch_of(layer);
	struct side *side = side_new(s, next), *old = s->current;

	if (!side)
		return -ENOMEM;
	s->current = side;
	layer->next = next;
	old->replaced = true;
	side_settle(old);
	return 0;
}
