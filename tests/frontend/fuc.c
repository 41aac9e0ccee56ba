/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and the checks of their replies. See fuc.h. */
#include "fuc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GAP 16u
#define PAGE 4096u
#define POISON 0xa5

const struct fuc_layout fuc_layout_linux = {
	"linux",
	{ 40, 40, 4096 },
	{ 16, 4096 },
};
const struct fuc_layout fuc_layout_flat = { .name = "flat" };

const struct fuc_layout fuc_layouts[] = {
	{ "linux", { 40, 40, 4096 }, { 16, 4096 } },
	{ "flat", { 0 }, { 0 } },
	{ "header with payload", { 41, 4096 }, { 17, 4096 } },
	{ "header cut", { 1, 38, 3, 4000 }, { 1, 14, 4, 5000 } },
	{ "small pieces", { 7, 7, 7, 7, 7, 7, 7, 509 }, { 5, 13, 1, 1, 100, 997 } },
	{ "big first", { 8000, 1, 1, 512 }, { 8000, 1, 1, 512 } },
	{ NULL, { 0 }, { 0 } },
};

static void violation(struct fuc_req *r, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void violation(struct fuc_req *r, const char *format, ...)
{
	va_list ap;

	r->f->violations++;
	fprintf(stderr, "fuc: request %" PRIu64 " (%s): ", r->unique, r->f->layout.name);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int fuc_open(struct fuc *f, struct vuc *c, const struct fuc_options *o)
{
	uint64_t mem = o && o->request_mem ? o->request_mem : 64 << 10;
	int err = 0;

	memset(f, 0, sizeof(*f));
	f->c = c;
	f->nreqs = o && o->requests ? o->requests : 32;
	f->queue = 1;
	f->layout = fuc_layout_linux;
	f->next_unique = 2;
	f->pid = 4711;
	f->timeout_ms = 10000;
	f->reqs = calloc(f->nreqs, sizeof(*f->reqs));
	if (!f->reqs)
		return -ENOMEM;
	for (unsigned int i = 0; !err && i < f->nreqs; i++) {
		f->reqs[i].f = f;
		err = vuc_mem_alloc(c, o ? o->region : 0, mem, 4096, &f->reqs[i].arena);
	}
	if (err)
		fuc_close(f);
	return err;
}

void fuc_close(struct fuc *f)
{
	for (unsigned int i = 0; f->reqs && i < f->nreqs; i++)
		free(f->reqs[i].reply);
	free(f->reqs);
	f->reqs = NULL;
}

/*
 * A free slot, one that served the same queue before if there is one: then each
 * piece of guest memory is written by one thread of the daemon, and what orders
 * its accesses is in the daemon, where a race detector sees it.
 */
static struct fuc_req *take_req(struct fuc *f, unsigned int queue)
{
	struct fuc_req *other = NULL;

	for (unsigned int i = 0; i < f->nreqs; i++) {
		struct fuc_req *r = &f->reqs[i];

		if (r->busy)
			continue;
		if (!r->unique || r->queue == queue)
			return r;
		other = r;
	}
	return other;
}

/*
 * Lays `len` bytes out in the arena from `*at` on, cut as told, and counts the
 * segments in `*count`, which is r->nout or r->nin. 0 or -ENOSPC.
 */
static int cut(struct fuc_req *r, const uint32_t *cuts, size_t len, uint64_t *at,
	       unsigned int *count)
{
	unsigned int i = 0;

	*count = 0;
	while (len) {
		size_t n = cuts[i] && cuts[i] < len ? cuts[i] : len;
		unsigned int slot = r->nout + r->nin, gap = r->f->light ? 0 : GAP;

		if (r->f->light && n >= PAGE) /* as in a guest's page cache */
			*at += -(r->arena.gpa + *at) & (PAGE - 1);
		if (slot == VUC_MAX_SEGS || *at + n + gap > r->arena.len)
			return -ENOSPC;
		r->segs[slot] = (struct vuc_seg){ .gpa = r->arena.gpa + *at, .len = (uint32_t)n };
		memset(r->arena.p + *at + n, POISON, gap);
		/* An odd distance: nothing may rely on alignment. */
		*at += n + gap;
		len -= n;
		++*count;
		if (i + 1 < FUC_MAX_CUTS && cuts[i + 1])
			i++;
	}
	return 0;
}

static uint8_t *seg_ptr(struct fuc_req *r, unsigned int i)
{
	return r->arena.p + (r->segs[i].gpa - r->arena.gpa);
}

static size_t call_in_len(const struct fuc_call *call)
{
	size_t len = call->raw ? 0 : sizeof(struct fuse_in_header);

	for (unsigned int i = 0; i < FUC_MAX_IN && call->in[i].iov_base; i++)
		len += call->in[i].iov_len;
	return len;
}

/* Writes bytes through the readable segments, from position `*pos` of the request. */
static void put(struct fuc_req *r, size_t *pos, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t start = 0;

	for (unsigned int i = 0; i < r->nout && len; i++) {
		size_t seg_end = start + r->segs[i].len;

		if (*pos < seg_end) {
			size_t n = seg_end - *pos < len ? seg_end - *pos : len;

			memcpy(seg_ptr(r, i) + (*pos - start), p, n);
			*pos += n;
			p += n;
			len -= n;
		}
		start = seg_end;
	}
}

static void fill(struct fuc_req *r, const struct fuc_call *call)
{
	struct fuse_in_header h = {
		.len = call->len_field ? call->len_field : (uint32_t)r->in_len,
		.opcode = call->opcode,
		.unique = r->unique,
		.nodeid = call->nodeid,
		.uid = r->f->uid,
		.gid = r->f->gid,
		.pid = r->f->pid,
		.total_extlen = call->ext_len,
	};
	size_t pos = 0;

	if (!call->raw)
		put(r, &pos, &h, sizeof(h));
	for (unsigned int i = 0; i < FUC_MAX_IN && call->in[i].iov_base; i++)
		put(r, &pos, call->in[i].iov_base, call->in[i].iov_len);
	for (unsigned int i = r->nout; i < r->nout + r->nin && !r->f->light; i++)
		memset(seg_ptr(r, i), POISON, r->segs[i].len);
}

struct fuc_req *fuc_submit(struct fuc *f, const struct fuc_call *call)
{
	unsigned int qi = call->hiprio ? FUC_HIPRIO : call->queue ? call->queue : f->queue;
	struct fuc_req *r = take_req(f, qi);
	struct vuc_queue *q = &f->c->queues[qi];
	uint64_t at = 0;

	if (!r)
		return NULL;
	r->queue = qi;
	r->unique = call->unique ? call->unique : f->next_unique;
	f->next_unique += 2;
	r->in_len = call_in_len(call);
	r->out_len = sizeof(struct fuse_out_header) + call->out_cap;
	if (call->out_total || call->no_reply)
		r->out_len = call->no_reply ? 0 : call->out_total;
	r->no_reply = call->no_reply;
	r->lenient = call->lenient;
	r->nout = r->nin = 0;
	r->done = false;
	r->blind = false;
	r->error = 0;
	r->used_len = 0;
	if (cut(r, f->layout.in, r->in_len, &at, &r->nout) ||
	    cut(r, f->layout.out, r->out_len, &at, &r->nin))
		return NULL;
	if (r->reply_room < r->out_len) {
		free(r->reply);
		r->reply = malloc(r->out_len);
		r->reply_room = r->reply ? r->out_len : 0;
		if (!r->reply)
			return NULL;
	}
	fill(r, call);
	if (vuc_queue_submit(q, r->segs, r->nout, r->nin, r) < 0)
		return NULL;
	r->busy = true;
	if (!call->no_kick)
		vuc_queue_kick(q);
	return r;
}

static bool gaps_are_whole(struct fuc_req *r)
{
	for (unsigned int i = 0; i < r->nout + r->nin; i++)
		for (unsigned int k = 0; k < GAP; k++)
			if (seg_ptr(r, i)[r->segs[i].len + k] != POISON) {
				violation(r, "wrote past segment %u", i);
				return false;
			}
	return true;
}

/* Copies the reply out and holds it against what the protocol promises. */
static void receive(struct fuc_req *r, uint32_t used_len)
{
	size_t pos = 0, copied;
	struct fuse_out_header h;

	r->done = true;
	r->used_len = used_len;
	if (r->blind || (!r->f->light && !gaps_are_whole(r)))
		return;
	if (used_len > r->out_len) {
		violation(r, "used length %u of %zu", used_len, r->out_len);
		r->used_len = 0;
		return;
	}
	copied = r->f->light && used_len > FUC_LIGHT_REPLY ? FUC_LIGHT_REPLY : used_len;
	for (unsigned int i = r->nout; i < r->nout + r->nin && pos < copied; i++) {
		size_t n = r->segs[i].len < copied - pos ? r->segs[i].len : copied - pos;

		memcpy(r->reply + pos, seg_ptr(r, i), n);
		pos += n;
	}
	/* A chain that cannot hold a reply comes back without one. */
	if (r->out_len < sizeof(h)) {
		if (used_len)
			violation(r, "%u bytes for a reply that has no room", used_len);
		return;
	}
	if (used_len < sizeof(h)) {
		/* What may be a FORGET has none. */
		if (used_len || !r->lenient)
			violation(r, "no reply: used length %u", used_len);
		return;
	}
	memcpy(&h, r->reply, sizeof(h));
	r->error = h.error;
	if (h.len != used_len)
		violation(r, "header says %u bytes, ring says %u", h.len, used_len);
	if (h.unique != r->unique && !r->lenient)
		violation(r, "reply to %" PRIu64, (uint64_t)h.unique);
	if (h.error > 0 || h.error <= -512)
		violation(r, "error %d is no errno", h.error);
	if (h.error && used_len != sizeof(h))
		violation(r, "error %d with a payload of %zu", h.error, used_len - sizeof(h));
}

static int reap(struct fuc *f, unsigned int queue)
{
	void *cookie;
	uint32_t len;
	int n;

	while ((n = vuc_queue_reap(&f->c->queues[queue], &cookie, &len)) > 0)
		receive(cookie, len);
	return n;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

int fuc_wait(struct fuc_req *r, int timeout_ms)
{
	struct fuc *f = r->f;
	struct vuc_queue *q = &f->c->queues[r->queue];
	int64_t end = now_ms() + timeout_ms;
	uint64_t before = f->violations;

	for (;;) {
		int64_t left = end - now_ms();
		int err = reap(f, r->queue);

		if (err)
			return err;
		if (r->done)
			return f->violations == before ? 0 : -EPROTO;
		if (left <= 0)
			return -ETIMEDOUT;
		if (f->poll) {
			vuc_queue_calls_off(q);
			continue;
		}
		err = vuc_queue_wait(q, (int)left);
		if (err)
			return err;
	}
}

bool fuc_test(struct fuc_req *r)
{
	reap(r->f, r->queue);
	return r->done;
}

const void *fuc_payload(const struct fuc_req *r, size_t *len)
{
	*len = r->used_len < sizeof(struct fuse_out_header)
		       ? 0
		       : r->used_len - sizeof(struct fuse_out_header);
	return r->reply + sizeof(struct fuse_out_header);
}

void fuc_done(struct fuc_req *r)
{
	r->busy = false;
}

void fuc_forget_all_requests(struct fuc *f)
{
	for (unsigned int i = 0; i < f->nreqs; i++)
		f->reqs[i].busy = false;
}

int fuc_call(struct fuc *f, const struct fuc_call *call, void *out, size_t cap, size_t *got)
{
	struct fuc_req *r = fuc_submit(f, call);
	const void *payload;
	size_t len;
	int err;

	if (!r)
		return -ENOSPC;
	err = fuc_wait(r, f->timeout_ms);
	/* What never came back keeps its slot: the device may still write there. */
	if (err && !r->done)
		return err;
	if (!err)
		err = r->error;
	payload = fuc_payload(r, &len);
	if (!err && !got && len != cap) {
		violation(r, "opcode %u: payload of %zu instead of %zu", call->opcode, len, cap);
		err = -EPROTO;
	}
	if (!err && len > cap)
		len = cap;
	if (!err && len)
		memcpy(out, payload, len);
	if (got)
		*got = err ? 0 : len;
	fuc_done(r);
	return err;
}
