/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver's hands in the rings: raw descriptors, and what must follow. Shared
 * by the tests of rings that lie and of rings that change. Header-only: each
 * test program has a daemon and a guest of its own.
 */
#ifndef TESTS_FRONTEND_HOSTILE_RING_H
#define TESTS_FRONTEND_HOSTILE_RING_H

#include <poll.h>
#include <stdio.h>

#include "hostile.h"

#define SLOT 8192u /* one request: header, arguments, reply */

static struct daemon daemon_;
static struct guest guest_;
static struct vuc_buf room, tables;

static inline int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){ .log_level = "warn" });
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static inline void the_daemon_ends_well(void **state)
{
	(void)state;
	guest_probe(&daemon_);
	daemon_stop(&daemon_);
}

static inline void open_it(bool packed)
{
	struct vuc_config cfg = guest_default;

	cfg.packed = packed;
	cfg.event_idx = false;
	cfg.queue_size = 64;
	cfg.mem_slots = true;
	guest_connect(&guest_, &daemon_, &cfg);
	guest_.f.timeout_ms = 2000;
	/* The ring to be spoiled has not been used yet. */
	guest_.f.queue = 3;
	assert_ok(fuc_init_default(&guest_.f));
	guest_.f.queue = 1;
	assert_ok(vuc_mem_alloc(&guest_.c, 0, 16 * SLOT, 4096, &room));
	assert_ok(vuc_mem_alloc(&guest_.c, 0, 2 << 20, 4096, &tables));
}

/* After a failure in the middle of a test: the next one has to find the daemon free. */
static inline int hang_up(void **state)
{
	(void)state;
	if (guest_.d)
		guest_close(&guest_);
	return 0;
}

static inline void close_it(void)
{
	guest_close(&guest_);
	assert_true(daemon_running(&daemon_));
}

/* A GETATTR of the root in a slot of `room`: where a good chain would point. */
static inline void write_request(unsigned int slot)
{
	uint8_t *p = room.p + slot * SLOT;
	struct fuse_in_header h = {
		.len = sizeof(h) + sizeof(struct fuse_getattr_in),
		.opcode = FUSE_GETATTR,
		.unique = 1000 + slot,
		.nodeid = FUSE_ROOT_ID,
	};

	memset(p, 0, SLOT);
	memcpy(p, &h, sizeof(h));
}

#define IN_LEN ((uint32_t)(sizeof(struct fuse_in_header) + sizeof(struct fuse_getattr_in)))
#define OUT_LEN ((uint32_t)(sizeof(struct fuse_out_header) + sizeof(struct fuse_attr_out)))

static inline uint64_t in_gpa(unsigned int slot)
{
	return room.gpa + slot * SLOT;
}

static inline uint64_t out_gpa(unsigned int slot)
{
	return in_gpa(slot) + SLOT / 2;
}

static inline struct vuc_queue *queue(void)
{
	return &guest_.c.queues[1];
}

struct raw_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static inline void put_split(unsigned int i, struct raw_desc d)
{
	queue()->s.desc[i] = (struct vring_desc){ d.addr, d.len, d.flags, d.next };
}

static inline void publish_split(uint16_t head)
{
	struct vuc_queue *q = queue();

	q->s.avail->ring[q->s.avail->idx & (q->size - 1)] = head;
	__atomic_store_n(&q->s.avail->idx, (uint16_t)(q->s.avail->idx + 1), __ATOMIC_RELEASE);
	vuc_queue_kick_always(q);
}

/* From slot 0 of a fresh packed ring on; the wrap counter is still 1. */
static inline void put_packed(unsigned int i, struct raw_desc d, uint16_t id)
{
	struct vring_packed_desc *p = &queue()->p.desc[i];

	p->addr = d.addr;
	p->len = d.len;
	p->id = id;
	__atomic_store_n(&p->flags, (uint16_t)(d.flags | 1u << VRING_PACKED_DESC_F_AVAIL),
			 __ATOMIC_RELEASE);
}

/* The daemon gives the queue up, and says so. */
static inline void assert_broken(const char *what)
{
	struct pollfd p[2] = { { .fd = queue()->err_fd, .events = POLLIN },
			       { .fd = guest_.c.sock, .events = POLLRDHUP } };

	if (poll(p, 2, 3000) <= 0)
		fail_msg("%s: neither an error nor a hang-up", what);
	if (p[1].revents)
		return;
	/* The other queues are not concerned. */
	guest_.f.queue = 2;
	assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
	guest_.f.queue = 1;
}

/* A chain that can be read, be it odd: it comes back, and the queue goes on. */
static inline void assert_returned(const char *what)
{
	struct vuc_queue *q = queue();

	for (int i = 0; i < 3000; i++) {
		bool back = q->packed ? vuc_packed_pending(q)
				      : __atomic_load_n(&q->s.used->idx, __ATOMIC_ACQUIRE) != 0;

		if (back)
			return;
		usleep(1000);
	}
	fail_msg("%s: the chain did not come back", what);
}

enum verdict { BROKEN, RETURNED, EITHER };

static inline void assert_verdict(enum verdict v, const char *what)
{
	if (v == BROKEN)
		assert_broken(what);
	else if (v == RETURNED)
		assert_returned(what);
	else
		usleep(20000);
	/* Whatever it was: the control socket is served. */
	hostile_talks(&guest_.c);
}

#define NEXT ((uint16_t)VRING_DESC_F_NEXT)
#define WRITE ((uint16_t)VRING_DESC_F_WRITE)
#define INDIRECT ((uint16_t)VRING_DESC_F_INDIRECT)

#endif
