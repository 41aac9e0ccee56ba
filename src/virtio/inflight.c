/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls memfd_create ftruncate fcntl */
/*
 * What can kill us between two stores is the end of the process, not of the
 * machine: the stores that were executed are in the shared memory. So it is
 * enough to keep the compiler from reordering them, which barrier() does.
 */
#include "virtio/inflight.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio/device.h"

#define VERSION 1
#define REGION_ALIGN 64u

#define barrier() __asm__ volatile("" ::: "memory")

/* A single load of something the front end can change at any time. */
#define load_once(x) (*(const volatile __typeof__(x) *)&(x))

_Static_assert(sizeof(struct inflight_desc_split) == 16, "vhost-user, DescStateSplit");
_Static_assert(sizeof(struct inflight_region_split) == 16, "vhost-user, QueueRegionSplit");
_Static_assert(sizeof(struct inflight_desc_packed) == 32, "vhost-user, DescStatePacked");
_Static_assert(sizeof(struct inflight_region_packed) == 32, "vhost-user, QueueRegionPacked");

struct inflight {
	struct shm_map map;
	atomic_uint refs;
	bool packed;
	unsigned num_queues;
	unsigned queue_size;
};

static size_t region_size(bool packed, unsigned queue_size)
{
	size_t size;

	if (packed)
		size = sizeof(struct inflight_region_packed) +
		       queue_size * sizeof(struct inflight_desc_packed);
	else
		size = sizeof(struct inflight_region_split) +
		       queue_size * sizeof(struct inflight_desc_split);
	return (size + REGION_ALIGN - 1) & ~(size_t)(REGION_ALIGN - 1);
}

static bool geometry_valid(unsigned num_queues, unsigned queue_size)
{
	return num_queues >= 1 && num_queues <= VIRTIO_FS_QUEUES_MAX && queue_size >= 1 &&
	       queue_size <= VIRTIO_QUEUE_SIZE_MAX;
}

int inflight_create(bool packed, unsigned num_queues, unsigned queue_size, int *fd, uint64_t *size)
{
	size_t length;
	int memfd;

	if (!geometry_valid(num_queues, queue_size))
		return -EINVAL;
	length = region_size(packed, queue_size) * num_queues;
	memfd = memfd_create("ovfs-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0)
		return -errno;
	/* Zero memory is a valid, unused area (version 0). Its size is nobody's to
	 * change; where sealing fails, the SIGBUS guard is still there. */
	if (ftruncate(memfd, (off_t)length) < 0) {
		int ret = -errno;

		close(memfd);
		return ret;
	}
	(void)fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	*fd = memfd;
	*size = length;
	return 0;
}

int inflight_open(struct inflight **out, int fd, uint64_t offset, uint64_t size, bool packed,
		  unsigned num_queues, unsigned queue_size)
{
	struct inflight *area;
	int ret;

	if (!geometry_valid(num_queues, queue_size) ||
	    size < region_size(packed, queue_size) * num_queues || offset % sizeof(uint64_t) != 0)
		return -EINVAL;
	area = calloc(1, sizeof(*area));
	if (!area)
		return -ENOMEM;
	ret = shm_map_init(&area->map, fd, offset, size);
	if (ret < 0) {
		free(area);
		return ret;
	}
	atomic_init(&area->refs, 1);
	area->packed = packed;
	area->num_queues = num_queues;
	area->queue_size = queue_size;
	*out = area;
	return 0;
}

struct inflight *inflight_ref(struct inflight *area)
{
	atomic_fetch_add_explicit(&area->refs, 1, memory_order_relaxed);
	return area;
}

void inflight_unref(struct inflight *area)
{
	if (!area || atomic_fetch_sub_explicit(&area->refs, 1, memory_order_acq_rel) != 1)
		return;
	shm_map_fini(&area->map);
	free(area);
}

bool inflight_broken(const struct inflight *area)
{
	return shm_map_broken(&area->map);
}

bool inflight_get_queue(const struct inflight *area, unsigned index, bool packed,
			unsigned queue_size, struct inflight_queue *out)
{
	char *region;

	if (index >= area->num_queues || packed != area->packed || queue_size > area->queue_size)
		return false;
	region = area->map.data + index * region_size(packed, area->queue_size);
	*out = (struct inflight_queue){ .size = (uint16_t)area->queue_size };
	if (packed)
		out->packed = (struct inflight_region_packed *)region;
	else
		out->split = (struct inflight_region_split *)region;
	return true;
}

static int compare_counter(const void *a, const void *b)
{
	const struct inflight_resubmit *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* Sorts the list and continues counting behind its last entry. */
static int finish_list(struct inflight_queue *q, struct inflight_resubmit *list, unsigned count)
{
	qsort(list, count, sizeof(list[0]), compare_counter);
	q->counter = count ? list[count - 1].counter + 1 : 0;
	return (int)count;
}

/* ---- Split ---- */

/* The process died between publishing the used idx and noting so: takes the
 * marks off the last batch. */
static void split_finish_batch(struct inflight_queue *q, uint16_t used_idx)
{
	struct inflight_region_split *r = q->split;
	uint16_t batch = (uint16_t)(used_idx - load_once(r->used_idx));

	if (batch > q->size) {
		/* No batch: the driver has set up the ring afresh, and what is recorded
		 * belongs to the one before. */
		for (unsigned i = 0; i < q->size; i++)
			r->desc[i].inflight = 0;
	} else {
		uint16_t i = load_once(r->last_batch_head);

		for (; batch > 0 && i < q->size; batch--) {
			r->desc[i].inflight = 0;
			i = load_once(r->desc[i].next);
		}
	}
	barrier();
	r->used_idx = used_idx;
}

int inflight_split_recover(struct inflight_queue *q, uint16_t used_idx,
			   struct inflight_resubmit *list, bool *fresh)
{
	struct inflight_region_split *r = q->split;
	uint16_t version = load_once(r->version);
	unsigned count = 0;

	*fresh = version == 0;
	if (version == 0) {
		memset(r, 0, sizeof(*r) + q->size * sizeof(r->desc[0]));
		r->desc_num = q->size;
		r->used_idx = used_idx;
		barrier();
		r->version = VERSION;
		return finish_list(q, list, 0);
	}
	if (version != VERSION || load_once(r->desc_num) != q->size)
		return -EPROTO;
	if (load_once(r->used_idx) != used_idx)
		split_finish_batch(q, used_idx);
	for (unsigned i = 0; i < q->size; i++) {
		if (load_once(r->desc[i].inflight) == 1) {
			list[count].counter = load_once(r->desc[i].counter);
			list[count++].index = (uint16_t)i;
		}
	}
	return finish_list(q, list, count);
}

void inflight_split_begin(struct inflight_queue *q, uint16_t head)
{
	struct inflight_desc_split *d = &q->split->desc[head];

	d->counter = q->counter++;
	barrier();
	d->inflight = 1;
}

void inflight_split_commit(struct inflight_queue *q, uint16_t head)
{
	struct inflight_region_split *r = q->split;

	r->desc[head].next = r->last_batch_head;
	barrier();
	r->last_batch_head = head;
	barrier();
}

void inflight_split_end(struct inflight_queue *q, uint16_t head, uint16_t used_idx)
{
	struct inflight_region_split *r = q->split;

	barrier();
	r->desc[head].inflight = 0;
	barrier();
	r->used_idx = used_idx;
}

/* ---- Packed ---- */

static void packed_reset(struct inflight_queue *q, struct inflight_packed_pos used)
{
	struct inflight_region_packed *r = q->packed;

	memset(r, 0, sizeof(*r) + q->size * sizeof(r->desc[0]));
	r->desc_num = q->size;
	r->used_idx = r->old_used_idx = used.idx;
	r->used_wrap_counter = r->old_used_wrap_counter = used.wrap;
	for (unsigned i = 0; i < q->size; i++)
		r->desc[i].next = (uint16_t)(i + 1); /* the last one: the end of the list */
	barrier();
	r->version = VERSION;
}

/* The flags that the driver gives a slot: AVAIL as the wrap counter, USED not. */
static bool slot_available(uint16_t flags, bool wrap)
{
	bool avail = flags & (1 << VRING_PACKED_DESC_F_AVAIL);
	bool used = flags & (1 << VRING_PACKED_DESC_F_USED);

	return avail == wrap && used != wrap;
}

/*
 * used_idx, old_used_idx and the two wrap counters are eight bytes in a row and
 * are stored as one. Stored one by one, as the specification leaves open, there
 * would be moments in which an index goes with the wrap counter of another lap,
 * and recovery would take the flags of a slot for something they are not.
 */
union packed_positions {
	struct {
		uint16_t used_idx;
		uint16_t old_used_idx;
		uint8_t used_wrap_counter;
		uint8_t old_used_wrap_counter;
		uint8_t padding[2];
	};
	uint64_t word;
};

#define POSITIONS_OFFSET offsetof(struct inflight_region_packed, used_idx)
_Static_assert(POSITIONS_OFFSET % sizeof(uint64_t) == 0, "can be stored at once");
_Static_assert(offsetof(struct inflight_region_packed, old_used_wrap_counter) ==
		       POSITIONS_OFFSET + offsetof(union packed_positions, old_used_wrap_counter),
	       "same order");

static union packed_positions positions_load(const struct inflight_region_packed *r)
{
	const void *p = (const char *)r + POSITIONS_OFFSET;

	return (union packed_positions){ .word = *(const volatile uint64_t *)p };
}

static void positions_store(struct inflight_region_packed *r, union packed_positions pos)
{
	void *p = (char *)r + POSITIONS_OFFSET;

	barrier();
	*(volatile uint64_t *)p = pos.word;
	barrier();
}

/* Commits or rolls back the completion that was under way. */
static int packed_settle(struct inflight_region_packed *r, const struct vring_packed_desc *ring,
			 uint16_t ring_size)
{
	union packed_positions pos = positions_load(r);
	/* A chain as long as the ring changes the wrap counter only. */
	bool pending = pos.used_idx != pos.old_used_idx ||
		       pos.used_wrap_counter != pos.old_used_wrap_counter;
	uint16_t flags;

	if (pos.old_used_idx >= ring_size)
		return -EPROTO;
	flags = le16toh(load_once(ring[pos.old_used_idx].flags));
	if (pending && !slot_available(flags, pos.old_used_wrap_counter)) {
		/* The driver has it. */
		r->old_free_head = load_once(r->free_head);
		pos.old_used_idx = pos.used_idx;
		pos.old_used_wrap_counter = pos.used_wrap_counter;
	} else {
		r->free_head = load_once(r->old_free_head);
		pos.used_idx = pos.old_used_idx;
		pos.used_wrap_counter = pos.old_used_wrap_counter;
	}
	positions_store(r, pos);
	return 0;
}

int inflight_packed_recover(struct inflight_queue *q, const struct vring_packed_desc *ring,
			    uint16_t ring_size, struct inflight_resubmit *list, bool *fresh,
			    struct inflight_packed_pos *used, struct inflight_packed_pos *avail)
{
	struct inflight_region_packed *r = q->packed;
	uint16_t version = load_once(r->version), idx;
	unsigned count = 0, slots = 0;

	*fresh = version == 0;
	if (version == 0) {
		packed_reset(q, *used);
		return finish_list(q, list, 0);
	}
	if (version != VERSION || load_once(r->desc_num) != q->size ||
	    packed_settle(r, ring, ring_size) < 0)
		return -EPROTO;

	/* Entries on the free list may still carry a mark. */
	idx = load_once(r->free_head);
	for (unsigned n = 0; n < q->size && idx < q->size; n++) {
		r->desc[idx].inflight = 0;
		idx = load_once(r->desc[idx].next);
	}
	for (unsigned i = 0; i < q->size; i++) {
		if (load_once(r->desc[i].inflight) != 1)
			continue;
		list[count].counter = load_once(r->desc[i].counter);
		list[count++].index = (uint16_t)i;
		slots += load_once(r->desc[i].num);
	}
	used->idx = load_once(r->used_idx);
	used->wrap = load_once(r->used_wrap_counter) & 1;
	if (slots > ring_size || used->idx >= ring_size)
		return -EPROTO;

	/* Everything between the used position and the next chain is in flight. */
	*avail = *used;
	inflight_packed_advance(avail, slots, ring_size);
	return finish_list(q, list, count);
}

int inflight_packed_begin(struct inflight_queue *q, const struct inflight_packed_desc *desc,
			  unsigned num)
{
	struct inflight_region_packed *r = q->packed;
	uint16_t head = load_once(r->old_free_head), idx = head, last = head;

	/* At rest free_head and old_free_head are equal. */
	if (head >= q->size)
		return -EPROTO;
	r->desc[head].num = 0;
	r->desc[head].counter = q->counter++;
	barrier();
	r->desc[head].inflight = 1;
	for (unsigned i = 0; i < num; i++) {
		struct inflight_desc_packed *d;

		if (idx >= q->size)
			return -EPROTO;
		d = &r->desc[idx];
		d->addr = desc[i].addr;
		d->len = desc[i].len;
		d->id = desc[i].id;
		d->flags = desc[i].flags;
		last = idx;
		idx = load_once(d->next);
	}
	r->desc[head].last = last;
	r->desc[head].num = (uint16_t)num;
	r->free_head = idx;
	barrier();
	r->old_free_head = idx; /* from here on the chain counts as taken */
	return head;
}

int inflight_packed_read(const struct inflight_queue *q, uint16_t entry,
			 struct inflight_packed_desc *desc, unsigned max)
{
	const struct inflight_region_packed *r = q->packed;
	unsigned num = load_once(r->desc[entry].num);

	if (num == 0 || num > max)
		return -EPROTO;
	for (unsigned i = 0; i < num; i++) {
		const struct inflight_desc_packed *d;

		if (entry >= q->size)
			return -EPROTO;
		d = &r->desc[entry];
		desc[i] = (struct inflight_packed_desc){
			.addr = load_once(d->addr),
			.len = load_once(d->len),
			.id = load_once(d->id),
			.flags = load_once(d->flags),
		};
		entry = load_once(d->next);
	}
	return (int)num;
}

int inflight_packed_commit(struct inflight_queue *q, uint16_t entry,
			   struct inflight_packed_pos used)
{
	struct inflight_region_packed *r = q->packed;
	uint16_t last = load_once(r->desc[entry].last);
	union packed_positions pos;

	if (last >= q->size)
		return -EPROTO;
	r->desc[last].next = load_once(r->free_head);
	barrier();
	r->free_head = entry;
	pos = positions_load(r);
	pos.used_idx = used.idx;
	pos.used_wrap_counter = used.wrap;
	positions_store(r, pos);
	return 0;
}

void inflight_packed_end(struct inflight_queue *q, uint16_t entry)
{
	struct inflight_region_packed *r = q->packed;
	union packed_positions pos = positions_load(r);

	barrier();
	r->desc[entry].inflight = 0;
	barrier();
	r->old_free_head = load_once(r->free_head);
	pos.old_used_idx = pos.used_idx;
	pos.old_used_wrap_counter = pos.used_wrap_counter;
	positions_store(r, pos);
}
