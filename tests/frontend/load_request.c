/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the load generator, built in place in guest memory. See load.h. */
#include "load.h"

#include <errno.h>
#include <string.h>

/* Places within a task's `small` buffer of two pages. */
#define ARGS_AT sizeof(struct fuse_in_header)
#define REPLY_AT 4096u
#define FORGET_SLOT 4096u

static void add_seg(struct load_task *t, uint64_t gpa, size_t len)
{
	t->segs[t->nout + t->nin] = (struct vuc_seg){ .gpa = gpa, .len = (uint32_t)len };
}

static void add_data(struct load_task *t, uint32_t len, unsigned int *count)
{
	uint32_t piece = t->th->load->o.segment ? t->th->load->o.segment : len;

	for (uint32_t at = 0; at < len; at += piece) {
		add_seg(t, t->data.gpa + at, piece < len - at ? piece : len - at);
		++*count;
	}
}

/* Header and arguments; the kernel gives each a segment of its own. */
static void begin(struct load_task *t, uint32_t opcode, uint64_t node, size_t args_len,
		  size_t data_len)
{
	struct load *l = t->th->load;
	struct fuse_in_header *h = (void *)t->small.p;

	*h = (struct fuse_in_header){
		.len = (uint32_t)(sizeof(*h) + args_len + data_len),
		.opcode = opcode,
		.unique = 2 * atomic_fetch_add_explicit(&l->unique, 1, memory_order_relaxed),
		.nodeid = node,
		.pid = 1,
	};
	t->nout = t->nin = 0;
	add_seg(t, t->small.gpa, sizeof(*h));
	t->nout++;
	if (args_len) {
		add_seg(t, t->small.gpa + ARGS_AT, args_len);
		t->nout++;
	}
}

static void add_reply(struct load_task *t, size_t payload)
{
	add_seg(t, t->small.gpa + REPLY_AT, sizeof(struct fuse_out_header));
	t->nin++;
	if (payload) {
		add_seg(t, t->small.gpa + REPLY_AT + sizeof(struct fuse_out_header), payload);
		t->nin++;
	}
}

void load_request(struct load_task *t, uint32_t opcode, uint64_t node, const void *args,
		  size_t args_len, const char *name, size_t reply_len)
{
	size_t name_len = name ? strlen(name) + 1 : 0;

	if (args_len)
		memcpy(t->small.p + ARGS_AT, args, args_len);
	if (name)
		memcpy(t->small.p + ARGS_AT + args_len, name, name_len);
	begin(t, opcode, node, args_len + name_len, 0);
	add_reply(t, reply_len);
}

void load_request_read(struct load_task *t, uint32_t opcode, uint64_t node, uint64_t fh,
		       uint64_t off, uint32_t len)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = len };

	memcpy(t->small.p + ARGS_AT, &in, sizeof(in));
	begin(t, opcode, node, sizeof(in), 0);
	add_reply(t, 0);
	add_data(t, len, &t->nin);
}

void load_request_write(struct load_task *t, uint64_t node, uint64_t fh, uint64_t off, uint32_t len)
{
	struct fuse_write_in in = { .fh = fh, .offset = off, .size = len };

	memcpy(t->small.p + ARGS_AT, &in, sizeof(in));
	begin(t, FUSE_WRITE, node, sizeof(in), len);
	add_data(t, len, &t->nout);
	add_reply(t, sizeof(struct fuse_write_out));
}

const void *load_reply(struct load_task *t, size_t *len)
{
	const struct fuse_out_header *h = (const void *)(t->small.p + REPLY_AT);
	const struct fuse_in_header *in = (const void *)t->small.p;

	if (t->used_len < sizeof(*h) || h->len != t->used_len || h->unique != in->unique ||
	    h->error) {
		t->th->errors++;
		return NULL;
	}
	*len = t->used_len - sizeof(*h);
	/* The payload of the reading operations went to the data buffer instead. */
	return t->small.p + REPLY_AT + sizeof(*h);
}

void load_forget(struct load_thread *th, uint64_t node)
{
	th->forgets[th->nforgets++] = (struct fuse_forget_one){ .nodeid = node, .nlookup = 1 };
	if (th->nforgets == sizeof(th->forgets) / sizeof(th->forgets[0]))
		load_forget_flush(th);
}

/* A free slot of the forgets' buffer; waits for one. Negative: the queue is dead. */
static int forget_slot(struct load *l, struct vuc_queue *q)
{
	for (;;) {
		void *cookie;
		uint32_t len;
		int n;

		while ((n = vuc_queue_reap(q, &cookie, &len)) == 1)
			l->hiprio_free |= 1ull << ((uintptr_t)cookie - 1);
		if (n < 0)
			return n;
		if (l->hiprio_free)
			return __builtin_ctzll(l->hiprio_free);
		n = vuc_queue_wait(q, 5000);
		if (n)
			return n;
	}
}

void load_forget_flush(struct load_thread *th)
{
	struct load *l = th->load;
	struct vuc_queue *q = &l->c.queues[FUC_HIPRIO];
	struct fuse_batch_forget_in in = { .count = th->nforgets };
	size_t list = th->nforgets * sizeof(th->forgets[0]);
	struct fuse_in_header h = {
		.len = (uint32_t)(sizeof(h) + sizeof(in) + list),
		.opcode = FUSE_BATCH_FORGET,
	};
	struct vuc_seg seg = { .len = h.len };
	int slot;

	if (!th->nforgets)
		return;
	th->nforgets = 0;
	pthread_mutex_lock(&l->hiprio_lock);
	h.unique = 2 * atomic_fetch_add(&l->unique, 1);
	slot = forget_slot(l, q);
	if (slot >= 0) {
		uint8_t *p = l->hiprio_buf.p + (unsigned int)slot * FORGET_SLOT;

		memcpy(p, &h, sizeof(h));
		memcpy(p + sizeof(h), &in, sizeof(in));
		memcpy(p + sizeof(h) + sizeof(in), th->forgets, list);
		seg.gpa = l->hiprio_buf.gpa + (unsigned int)slot * FORGET_SLOT;
		vuc_queue_calls_off(q);
		if (vuc_queue_submit(q, &seg, 1, 0, (void *)((uintptr_t)slot + 1)) < 0) {
			th->failure = -EPROTO;
		} else {
			l->hiprio_free &= ~(1ull << slot);
			vuc_queue_kick(q);
		}
	} else {
		th->failure = slot;
	}
	pthread_mutex_unlock(&l->hiprio_lock);
}

void load_stamp(uint8_t *p, uint64_t off, uint32_t len)
{
	for (uint32_t at = 0; at + 8 <= len; at += LOAD_BLOCK) {
		uint64_t mark = ~(off + at);

		memcpy(p + at, &mark, sizeof(mark));
	}
}

bool load_stamp_ok(const uint8_t *p, uint64_t off, uint32_t len, bool all)
{
	for (uint32_t at = 0; at + 8 <= len; at += LOAD_BLOCK) {
		uint64_t mark;

		memcpy(&mark, p + at, sizeof(mark));
		if (mark != ~(off + at))
			return false;
		if (!all)
			break;
	}
	return true;
}
