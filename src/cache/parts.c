/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an upload on their way.
 *
 * The thread that commits keeps up to config.parts_in_flight of them going, and takes the answers
 * in the order in which the parts were begun, so that what is sent is always without gaps. The
 * answers themselves come on the transfer loop, which only notes them.
 *
 * There are two ways to go on after a part is sent. For a commit its dirty blocks stay as they are,
 * SEALED, until the whole object is there: should it fail, nothing has happened. A stream lets them
 * go at once: they are clean, though the base does not have them. base_limit moves behind
 * the part, so that nobody takes a block that is gone for a hole; and upload_holds() keeps those
 * who would fetch from there waiting for a commit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "cache/fill.h"
#include "cache/upload.h"

/* Parts in flight, so many times over, that a stream sends before others have their turn on
 * the worker. */
#define STREAM_TURNS 8

struct send_slot {
	struct store_op op;
	struct send *send;
	struct gather gather;
	struct upload_plan plan;
	uint32_t index;
	char etag[STORE_ETAG_MAX];
	struct fill fill;
	bool answered; /* send.lock */
};

struct send {
	struct cache_file *file;
	struct upload *upload;
	struct send_slot *slot; /* a ring */
	unsigned slots, head, count;
	uint64_t front;	     /* planned so far */
	uint32_t index;	     /* of the next part */
	struct gather *kept; /* NULL: a stream */
	int error;

	pthread_mutex_t lock;
	pthread_cond_t answer;
};

static void part_answered(struct store_op *op)
{
	struct send_slot *slot = container_of(op, struct send_slot, op);
	struct send *send = slot->send;

	pthread_mutex_lock(&send->lock);
	slot->answered = true;
	pthread_cond_signal(&send->answer); /* locked: the waiter frees it all */
	pthread_mutex_unlock(&send->lock);
}

static int send_init(struct send *send, struct cache_file *f, struct gather *kept)
{
	*send = (struct send){ .file = f,
			       .upload = f->upload,
			       .slots = MAX(f->storage->config.parts_in_flight, 1u),
			       .front = f->upload->front,
			       .index = f->upload->parts,
			       .kept = kept };
	send->slot = calloc(send->slots, sizeof(*send->slot));
	if (!send->slot)
		return -ENOMEM;
	pthread_mutex_init(&send->lock, NULL);
	pthread_cond_init(&send->answer, NULL);
	return 0;
}

static void send_exit(struct send *send)
{
	for (unsigned i = 0; i < send->slots; i++)
		gather_free(&send->slot[i].gather);
	free(send->slot);
	pthread_mutex_destroy(&send->lock);
	pthread_cond_destroy(&send->answer);
}

/* The bytes of a part that is sent, which may become a shorter one. -EAGAIN: not before another
 * part is through. */
static int send_gather(struct send *send, struct send_slot *slot, bool fetch)
{
	struct cache_file *f = send->file;
	uint64_t start = slot->plan.start, end = start + slot->plan.length;
	int ret = gather_range(f, &slot->gather, start, end, GATHER_FAIL);

	if (ret != -ENODATA || !fetch)
		return ret;
	/* Parts in flight hold memory that only this thread gives back: it may not wait for
	 * other memory now. But fetching may begin. */
	if (send->count > 0) {
		fill_ahead(f, start, end - start);
		return -EAGAIN;
	}
	ret = fill_gather(f, &slot->fill, &slot->gather, start, &end, true);
	if (ret == -EMSGSIZE) {
		end = start + fill_spare_bytes(f->storage);
		ret = fill_gather(f, &slot->fill, &slot->gather, start, &end, true);
	}
	slot->plan.length = end - start;
	return ret;
}

/* Begins part @index; a slot is free. Makes *@plan shorter when memory is short. -ENODATA: bytes of
 * it are nowhere but in the session. -EAGAIN: when another part is through. */
static int send_part(struct send *send, struct upload_plan *plan, uint32_t index, bool fetch)
{
	struct cache_file *f = send->file;
	struct send_slot *slot = &send->slot[(send->head + send->count) % send->slots];
	int ret = 0;

	*slot = (struct send_slot){
		.send = send, .gather = slot->gather, .plan = *plan, .index = index
	};
	if (!plan->copy)
		ret = send_gather(send, slot, fetch);
	if (ret < 0)
		return ret;
	*plan = slot->plan;
	slot->op.opcode = plan->copy ? STORE_COPY_PART : STORE_PART;
	slot->op.key = f->key;
	slot->op.session = send->upload->session;
	slot->op.part_number = index + 1;
	slot->op.length = plan->length;
	if (plan->copy) {
		memcpy(slot->etag, f->base.etag, sizeof(slot->etag));
		slot->op.source_key = f->key;
		slot->op.source_if_match = slot->etag;
		slot->op.offset = plan->start;
	} else {
		slot->op.data = iov_cursor(slot->gather.iov, slot->gather.segments);
	}
	slot->op.complete = part_answered;
	send->count++;
	store_submit(f->storage->config.store, &slot->op);
	return 0;
}

/* Waits for the answer to the oldest part. Drops the lock of the file. */
static struct send_slot *send_wait(struct send *send)
{
	struct send_slot *slot = &send->slot[send->head];

	pthread_mutex_unlock(&send->file->lock);
	pthread_mutex_lock(&send->lock);
	while (!slot->answered)
		pthread_cond_wait(&send->answer, &send->lock);
	pthread_mutex_unlock(&send->lock);
	pthread_mutex_lock(&send->file->lock);
	send->head = (send->head + 1) % send->slots;
	send->count--;
	return slot;
}

static int upload_note_part(struct upload *u, const struct send_slot *slot, bool let_go)
{
	struct upload_part *part;

	if (slot->index == u->parts) {
		if (u->parts == u->room) {
			uint32_t room = u->room ? u->room * 2 : 16;
			struct upload_part *more = reallocarray(u->part, room, sizeof(*more));

			if (!more)
				return -ENOMEM;
			u->part = more;
			u->room = room;
		}
		u->part[u->parts++] = (struct upload_part){ .let_go = let_go };
		u->front = slot->plan.start + slot->plan.length;
	}
	part = &u->part[slot->index];
	part->start = slot->plan.start;
	part->length = slot->plan.length;
	part->copied = slot->plan.copy;
	part->sent.number = slot->index + 1;
	memcpy(part->sent.etag, slot->op.meta.etag, sizeof(part->sent.etag));
	memcpy(part->sent.checksum, slot->op.checksum, sizeof(part->sent.checksum));
	return 0;
}

/* The source of a copy that is gone is a base that is not what it was. */
static int part_error(const struct send_slot *slot)
{
	return slot->plan.copy && slot->op.result == -ENOENT ? -ESTALE : slot->op.result;
}

static void stream_let_go(struct send *send, struct send_slot *slot)
{
	struct cache_file *f = send->file;
	uint64_t end = slot->plan.start + slot->plan.length;

	/* Before the blocks may go. */
	if (atomic_load_explicit(&f->base_limit, memory_order_relaxed) < end)
		atomic_store_explicit(&f->base_limit, end, memory_order_release);
	gather_release(f, &slot->gather, GATHER_CLEAN);
	storage_room(f->storage);
}

/* Takes the answer to the oldest part. */
static void send_retire(struct send *send)
{
	struct send_slot *slot = send_wait(send);
	bool let_go = !send->kept && !slot->plan.copy;
	int ret = send->error ? send->error : part_error(slot);

	if (ret == 0)
		ret = upload_note_part(send->upload, slot, let_go);
	if (ret == 0 && let_go) {
		stream_let_go(send, slot);
	} else if (ret == 0 && send->kept) {
		ret = gather_retain(send->file, &slot->gather, send->kept);
	} else {
		gather_release(send->file, &slot->gather, GATHER_KEEP);
	}
	fill_end(send->file, &slot->fill);
	send->error = ret;
}

/* send_part(), and on with the next when that has worked. */
static void send_next(struct send *send, struct upload_plan *plan)
{
	int ret = send_part(send, plan, send->index, true);

	if (ret == -EAGAIN && send->count > 0) {
		send_retire(send);
		return;
	}
	send->error = ret;
	send->front += plan->length;
	send->index++;
}

/* ---- All of a file ---- */

/* What was sent before and changed since: again, when it is all there. */
static void send_again(struct send *send, struct upload_result *result)
{
	const struct upload *u = send->upload;
	uint32_t parts = u->parts;

	for (uint32_t i = 0; i < parts && send->error == 0; i++) {
		struct upload_plan plan = { .start = u->part[i].start,
					    .length = u->part[i].length };
		int ret = -ENODATA;

		if (!upload_is_dirty(send->file, plan.start, plan.start + plan.length))
			continue;
		if (send->count == send->slots)
			send_retire(send);
		if (!u->part[i].copied && send->error == 0)
			ret = send_part(send, &plan, i, false);
		if (ret == -ENODATA)
			result->complete = false;
		else if (ret < 0 && send->error == 0)
			send->error = ret;
	}
}

int upload_send_all(struct cache_file *f, uint64_t size, struct gather *kept,
		    struct upload_result *result)
{
	struct send send;
	int ret = send_init(&send, f, kept);

	if (ret < 0)
		return ret;
	*result = (struct upload_result){ .size = size, .complete = true };
	send_again(&send, result);
	while (send.front < size && send.error == 0) {
		struct upload_plan plan;

		if (send.count == send.slots) {
			send_retire(&send);
			continue;
		}
		if (file_is(f, FILE_UNLINKED)) {
			send.error = -ECANCELED;
			break;
		}
		if (!upload_plan_part(f, send.front, size, send.index, &plan)) {
			result->complete = false;
			result->size = send.front;
			break;
		}
		if (plan.partial && upload_is_dirty(f, plan.start, plan.start + plan.length))
			result->complete = false;
		send_next(&send, &plan);
	}
	while (send.count > 0)
		send_retire(&send);
	send_exit(&send);
	return send.error;
}

/* ---- A stream ---- */

/* The next part, when it may go and nobody waits for the file. */
static bool stream_next(struct send *send, struct upload_plan *plan)
{
	struct cache_file *f = send->file;
	if (send->error || f->commit_waiters || file_is(f, FILE_UNLINKED | FILE_REPLACED) ||
	    !upload_stream_ready(f, send->front, send->index, &plan->length))
		return false;
	plan->start = send->front;
	plan->copy = plan->partial = false;
	return true;
}

int upload_send_ready(struct cache_file *f)
{
	struct upload_plan plan;
	struct send send;
	unsigned turns = 0, max;
	int ret = send_init(&send, f, NULL);

	if (ret < 0)
		return ret;
	max = send.slots * STREAM_TURNS;
	for (;;) {
		if (turns < max && send.count < send.slots && stream_next(&send, &plan)) {
			turns++;
			send_next(&send, &plan);
		} else if (send.count > 0) {
			send_retire(&send);
		} else {
			break;
		}
	}
	send_exit(&send);
	return send.error;
}
