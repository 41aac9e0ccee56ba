/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for the tests of src/virtio: memory in a memfd, described to the code
 * under test as regions, and a second mapping of it in which the test plays
 * the driver.
 *
 *	gpa 0x000000 .. 0x100000	file 0 MiB	ring, tables, buffers
 *	gpa 0x100000 .. 0x200000	file 2 MiB	adjacent above, not in the file
 *	gpa 4 GiB .. + 1 MiB		file 1 MiB	after a hole
 */
#ifndef OVFS_TESTS_RING_ENV_H
#define OVFS_TESTS_RING_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "virtio/virtqueue.h"

#define MIB 0x100000ull
#define HIGH_GPA 0x100000000ull
#define UVA_OFFSET 0x7f0000000000ull

#define DESC_GPA 0x10000ull
#define DRIVER_GPA 0x20000ull
#define DEVICE_GPA 0x30000ull
#define TABLE_GPA 0x40000ull
#define DATA_GPA 0x80000ull

struct ring_env {
	int fd;
	char *file; /* the driver's mapping */
	struct guest_mem *mem;
	struct virtqueue vq;
	struct virtq_chain chain;
	struct iovec iov[VIRTQ_IOV_MAX];

	/* The driver's positions. */
	uint16_t avail, seen;
	bool avail_wrap, seen_wrap;
};

static inline void *guest(struct ring_env *env, uint64_t gpa)
{
	if (gpa < MIB)
		return env->file + gpa;
	if (gpa < 2 * MIB)
		return env->file + 2 * MIB + (gpa - MIB);
	return env->file + MIB + (gpa - HIGH_GPA);
}

static inline void ring_env_init(struct ring_env *env)
{
	const struct guest_region_desc desc[] = {
		{ .gpa = HIGH_GPA, .size = MIB, .uva = HIGH_GPA + UVA_OFFSET, .offset = MIB },
		{ .gpa = 0, .size = MIB, .uva = UVA_OFFSET, .offset = 0 },
		{ .gpa = MIB, .size = MIB, .uva = MIB + UVA_OFFSET, .offset = 2 * MIB },
	};

	memset(env, 0, sizeof(*env));
	env->fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(env->fd >= 0);
	assert_int_equal(ftruncate(env->fd, 4 * MIB), 0);
	env->file = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, env->fd, 0);
	assert_ptr_not_equal(env->file, MAP_FAILED);
	assert_int_equal(guest_mem_new(&env->mem, desc, (int[]){ env->fd, env->fd, env->fd }, 3),
			 0);
	virtq_init(&env->vq);
	env->avail_wrap = env->seen_wrap = true;
}

static inline void ring_env_fini(struct ring_env *env)
{
	virtq_fini(&env->vq);
	guest_mem_unref(env->mem);
	munmap(env->file, 4 * MIB);
	close(env->fd);
}

/* Everything but virtq_start(). */
static inline void ring_env_setup(struct ring_env *env, bool packed, bool event_idx, unsigned size)
{
	const struct virtq_addr addr = {
		.desc = DESC_GPA + UVA_OFFSET,
		.driver = DRIVER_GPA + UVA_OFFSET,
		.device = DEVICE_GPA + UVA_OFFSET,
		.log_gpa = DEVICE_GPA,
	};

	virtq_set_features(&env->vq, packed, event_idx, true);
	assert_int_equal(virtq_set_size(&env->vq, size), 0);
	assert_int_equal(virtq_set_mem(&env->vq, env->mem), 0);
	assert_int_equal(virtq_set_addr(&env->vq, &addr), 0);
}

static inline int pop(struct ring_env *env)
{
	return virtq_pop(&env->vq, &env->chain, env->iov, VIRTQ_IOV_MAX);
}

/* A buffer element. */
struct elem {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags; /* VRING_DESC_F_WRITE, _INDIRECT */
};

/* ---- The driver of a split ring ---- */

static inline struct vring_desc *split_desc(struct ring_env *env, unsigned i)
{
	return (struct vring_desc *)guest(env, DESC_GPA) + i;
}

static inline struct vring_avail *split_avail(struct ring_env *env)
{
	return guest(env, DRIVER_GPA);
}

static inline struct vring_used *split_used(struct ring_env *env)
{
	return guest(env, DEVICE_GPA);
}

static inline uint16_t *split_used_event(struct ring_env *env)
{
	return &split_avail(env)->ring[env->vq.size];
}

static inline uint16_t *split_avail_event(struct ring_env *env)
{
	return (uint16_t *)&split_used(env)->ring[env->vq.size];
}

static inline void split_make_available(struct ring_env *env, uint16_t head)
{
	split_avail(env)->ring[env->avail % env->vq.size] = head;
	split_avail(env)->idx = ++env->avail;
}

/* Writes @count elements to descriptors @head, @head + 1, ..., chained. */
static inline void split_write(struct ring_env *env, uint16_t head, const struct elem *e,
			       unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		*split_desc(env, head + i) = (struct vring_desc){
			.addr = e[i].gpa,
			.len = e[i].len,
			.flags = (uint16_t)(e[i].flags | (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
			.next = (uint16_t)(head + i + 1),
		};
	}
}

static inline void split_add(struct ring_env *env, uint16_t head, const struct elem *e,
			     unsigned count)
{
	split_write(env, head, e, count);
	split_make_available(env, head);
}

/* Makes a chain available that is one descriptor, which refers to a table. */
static inline void split_add_indirect(struct ring_env *env, uint64_t gpa, uint32_t len,
				      uint16_t flags)
{
	split_add(env, 0, (struct elem[]){ { gpa, len, VRING_DESC_F_INDIRECT | flags } }, 1);
}

/* @count readable descriptors at TABLE_GPA, chained. */
static inline void split_fill_table(struct ring_env *env, unsigned count, uint32_t len,
				    unsigned stride)
{
	struct vring_desc *t = guest(env, TABLE_GPA);

	for (unsigned i = 0; i < count; i++) {
		t[i] = (struct vring_desc){
			.addr = DATA_GPA + i * stride,
			.len = len,
			.flags = i + 1 < count ? VRING_DESC_F_NEXT : 0,
			.next = (uint16_t)(i + 1),
		};
	}
}

/* ---- The driver of a packed ring ---- */

static inline struct vring_packed_desc *packed_slot(struct ring_env *env, unsigned i)
{
	return (struct vring_packed_desc *)guest(env, DESC_GPA) + i;
}

static inline struct vring_packed_desc_event *packed_driver_event(struct ring_env *env)
{
	return guest(env, DRIVER_GPA);
}

static inline struct vring_packed_desc_event *packed_device_event(struct ring_env *env)
{
	return guest(env, DEVICE_GPA);
}

static inline void packed_add(struct ring_env *env, uint16_t id, const struct elem *e,
			      unsigned count)
{
	uint16_t first = env->avail, first_flags = 0;

	for (unsigned i = 0; i < count; i++) {
		struct vring_packed_desc *d = packed_slot(env, env->avail);
		uint16_t flags = e[i].flags;

		if (i + 1 < count)
			flags |= VRING_DESC_F_NEXT;
		flags |= env->avail_wrap ? 1u << VRING_PACKED_DESC_F_AVAIL
					 : 1u << VRING_PACKED_DESC_F_USED;
		d->addr = e[i].gpa;
		d->len = e[i].len;
		d->id = id;
		if (i == 0)
			first_flags = flags;
		else
			d->flags = flags;
		if (++env->avail == env->vq.size) {
			env->avail = 0;
			env->avail_wrap = !env->avail_wrap;
		}
	}
	packed_slot(env, first)->flags = first_flags;
}

/* Takes a used descriptor of a chain that had @slots; false when there is none. */
static inline bool packed_take_used(struct ring_env *env, unsigned slots, uint16_t *id,
				    uint32_t *len)
{
	const struct vring_packed_desc *d = packed_slot(env, env->seen);
	bool avail = d->flags & (1u << VRING_PACKED_DESC_F_AVAIL);
	bool used = d->flags & (1u << VRING_PACKED_DESC_F_USED);

	if (avail != env->seen_wrap || used != env->seen_wrap)
		return false;
	*id = d->id;
	*len = d->flags & VRING_DESC_F_WRITE ? d->len : 0;
	env->seen = (uint16_t)(env->seen + slots);
	if (env->seen >= env->vq.size) {
		env->seen = (uint16_t)(env->seen - env->vq.size);
		env->seen_wrap = !env->seen_wrap;
	}
	return true;
}

#endif
