/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inflight I/O tracking (vhost-user, "Inflight I/O tracking";
 * VHOST_USER_GET_INFLIGHT_FD and _SET_INFLIGHT_FD): which chains have been
 * taken from a queue and not yet given back, in memory that survives the
 * process in the front end's hands. A restarted daemon takes them up again.
 *
 * struct inflight is the whole area, reference-counted, any thread. struct
 * inflight_queue is the part of one queue; it lives inside its virtqueue,
 * which is the only user, under the lock of the queue. The area is shared with
 * the front end: indices read from it are checked before use.
 *
 * The order of the stores is the protocol. Each is a point at which the process
 * may die; inflight_*_recover() puts the area right from any of them.
 */
#ifndef OVFS_VIRTIO_INFLIGHT_H
#define OVFS_VIRTIO_INFLIGHT_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "virtio/shm_map.h"

/* As in the specification; all fields in host byte order. */
struct inflight_desc_split {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct inflight_region_split {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_desc_split desc[];
};

struct inflight_desc_packed {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

struct inflight_region_packed {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	uint16_t used_idx;
	uint16_t old_used_idx;
	uint8_t used_wrap_counter;
	uint8_t old_used_wrap_counter;
	uint8_t padding[7];
	struct inflight_desc_packed desc[];
};

struct inflight;

/*
 * GET_INFLIGHT_FD: a new area for @num_queues queues of @queue_size entries.
 * *@fd is the memfd to send, the caller's to close; *@size the bytes in it.
 * The front end sends it back with SET_INFLIGHT_FD before it is used.
 * -EINVAL for sizes out of range, or the errno of memfd_create, ftruncate, mmap.
 */
int inflight_create(bool packed, unsigned num_queues, unsigned queue_size, int *fd, uint64_t *size);

/* SET_INFLIGHT_FD: maps the area; @fd stays the caller's. -EINVAL when @size
 * does not hold the queues; otherwise as shm_map_init(). */
int inflight_open(struct inflight **out, int fd, uint64_t offset, uint64_t size, bool packed,
		  unsigned num_queues, unsigned queue_size);
struct inflight *inflight_ref(struct inflight *area);
void inflight_unref(struct inflight *area); /* accepts NULL */

/* The front end truncated the area under us. */
bool inflight_broken(const struct inflight *area);

/* The part of one queue, all zero for "not tracked". */
struct inflight_queue {
	struct inflight_region_split *split;
	struct inflight_region_packed *packed;
	uint16_t size;
	uint64_t counter; /* of the next chain */
};

/* False when @area has no queue @index, or is of the other format or of a
 * queue size smaller than @queue_size. */
bool inflight_get_queue(const struct inflight *area, unsigned index, bool packed,
			unsigned queue_size, struct inflight_queue *out);

/* What the queue takes up again after a restart. */
struct inflight_resubmit {
	uint64_t counter;
	uint16_t index; /* split: head descriptor; packed: head entry of the area */
};

/*
 * Split: called before the first pop with the idx of the used ring. Puts the
 * area right and fills @list (room for the queue size) with what has to be
 * done again, in order. Returns the entries, or -EPROTO when the area lies.
 * *@fresh: the area has never been used, the front end's base is to be believed.
 */
int inflight_split_recover(struct inflight_queue *q, uint16_t used_idx,
			   struct inflight_resubmit *list, bool *fresh);
void inflight_split_begin(struct inflight_queue *q, uint16_t head);
/* The used element is written, its idx not yet published. */
void inflight_split_commit(struct inflight_queue *q, uint16_t head);
/* The idx is published: @used_idx. */
void inflight_split_end(struct inflight_queue *q, uint16_t head, uint16_t used_idx);

/* One descriptor of the packed ring. */
struct inflight_packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};

/* Packed ring position with wrap counter. */
struct inflight_packed_pos {
	uint16_t idx;
	bool wrap;
};

static inline void inflight_packed_advance(struct inflight_packed_pos *pos, unsigned slots,
					   unsigned ring_size)
{
	unsigned idx = pos->idx + slots; /* at most one lap */

	if (idx >= ring_size) {
		idx -= ring_size;
		pos->wrap = !pos->wrap;
	}
	pos->idx = (uint16_t)idx;
}

/*
 * Packed: as for split, with the ring in place of its used idx. *@used goes in
 * as the front end's base and becomes the device's used position; *@avail the
 * position behind the last descriptor taken (both untouched when *@fresh).
 */
int inflight_packed_recover(struct inflight_queue *q, const struct vring_packed_desc *ring,
			    uint16_t ring_size, struct inflight_resubmit *list, bool *fresh,
			    struct inflight_packed_pos *used, struct inflight_packed_pos *avail);
/* Takes entries for a chain of @num ring descriptors; returns the head entry,
 * or -EPROTO when the area's free list is broken. */
int inflight_packed_begin(struct inflight_queue *q, const struct inflight_packed_desc *desc,
			  unsigned num);
/* Reads a chain back: at most @max descriptors; their number, or -EPROTO. */
int inflight_packed_read(const struct inflight_queue *q, uint16_t entry,
			 struct inflight_packed_desc *desc, unsigned max);
/* The used descriptor is prepared, its flags not yet published. @used: the
 * position after it. -EPROTO when the area lies. */
int inflight_packed_commit(struct inflight_queue *q, uint16_t entry,
			   struct inflight_packed_pos used);
/* The flags are published. */
void inflight_packed_end(struct inflight_queue *q, uint16_t entry);

#endif
