/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/slots.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_REFS(state) ((uint32_t)(state))
#define SLOT_GEN_ONE (1ull << 32)
/* What of the generation is in the id: 24 bits, so that ids stay below 2^56. */
#define SLOT_GEN_ID(state) ((state) >> 32 & 0xffffff)

void slots_init(struct slots *t, size_t elem_size, uint32_t max)
{
	memset(t, 0, sizeof(*t));
	t->elem_size = elem_size;
	t->max = max;
	atomic_init(&t->used, 1);
	pthread_mutex_init(&t->lock, NULL);
}

void slots_fini(struct slots *t)
{
	for (unsigned i = 0; i < SLOTS_CHUNKS; i++)
		free(atomic_load(&t->chunks[i]));
	pthread_mutex_destroy(&t->lock);
}

/* Which chunk, and which element of it, has @index. */
static unsigned slots_locate(uint32_t index, size_t *offset)
{
	uint64_t n = (uint64_t)index + SLOTS_FIRST;
	unsigned top = 63u - (unsigned)__builtin_clzll(n);

	*offset = (size_t)(n - (1ull << top));
	return top - (unsigned)__builtin_ctz(SLOTS_FIRST);
}

void *slot_peek(const struct slots *t, uint32_t index)
{
	size_t offset;
	unsigned chunk;

	if (!index || index >= atomic_load_explicit(&t->used, memory_order_acquire))
		return NULL;
	chunk = slots_locate(index, &offset);
	return (char *)atomic_load_explicit(&t->chunks[chunk], memory_order_acquire) +
	       offset * t->elem_size;
}

/* The next index that never had memory. Called with the lock held. */
static struct slot *slots_grow(struct slots *t)
{
	uint32_t index = atomic_load_explicit(&t->used, memory_order_relaxed);
	struct slot *slot;
	size_t offset;
	unsigned chunk;
	char *base;

	if (index > t->max)
		return NULL;
	chunk = slots_locate(index, &offset);
	if (chunk >= SLOTS_CHUNKS)
		return NULL;
	base = atomic_load_explicit(&t->chunks[chunk], memory_order_relaxed);
	if (!base) {
		base = calloc((size_t)SLOTS_FIRST << chunk, t->elem_size);
		if (!base)
			return NULL;
		atomic_store_explicit(&t->chunks[chunk], base, memory_order_release);
	}
	slot = (struct slot *)(base + offset * t->elem_size);
	slot->index = index;
	atomic_store_explicit(&t->used, index + 1, memory_order_release);
	return slot;
}

void *slot_alloc(struct slots *t)
{
	struct slot *slot;

	pthread_mutex_lock(&t->lock);
	if (t->free_head) {
		slot = slot_peek(t, t->free_head);
		t->free_head = slot->next_free;
	} else {
		slot = slots_grow(t);
	}
	if (slot)
		t->live++;
	pthread_mutex_unlock(&t->lock);
	return slot;
}

void slot_publish(void *elem)
{
	struct slot *slot = elem;

	atomic_fetch_add_explicit(&slot->state, 1, memory_order_release);
}

void *slot_get(struct slots *t, uint64_t id)
{
	struct slot *slot = slot_peek(t, (uint32_t)id);
	uint64_t state;

	if (!slot)
		return NULL;
	state = atomic_load_explicit(&slot->state, memory_order_relaxed);
	do {
		if (SLOT_GEN_ID(state) != id >> 32 || !SLOT_REFS(state))
			return NULL;
	} while (!atomic_compare_exchange_weak_explicit(
		&slot->state, &state, state + 1, memory_order_acquire, memory_order_relaxed));
	return slot;
}

void slot_hold(void *elem)
{
	struct slot *slot = elem;

	atomic_fetch_add_explicit(&slot->state, 1, memory_order_relaxed);
}

bool slot_kill(void *elem, uint64_t id)
{
	struct slot *slot = elem;
	uint64_t state = atomic_load_explicit(&slot->state, memory_order_relaxed);

	do {
		if (SLOT_GEN_ID(state) != id >> 32 || !SLOT_REFS(state))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&slot->state, &state, state + SLOT_GEN_ONE,
							memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

bool slot_put(void *elem)
{
	struct slot *slot = elem;

	return SLOT_REFS(atomic_fetch_sub_explicit(&slot->state, 1, memory_order_acq_rel)) == 1;
}

void slot_free(struct slots *t, void *elem)
{
	struct slot *slot = elem;

	pthread_mutex_lock(&t->lock);
	slot->next_free = t->free_head;
	t->free_head = slot->index;
	t->live--;
	pthread_mutex_unlock(&t->lock);
}

uint64_t slot_id(const void *elem)
{
	const struct slot *slot = elem;

	return SLOT_GEN_ID(atomic_load_explicit(&slot->state, memory_order_relaxed)) << 32 |
	       slot->index;
}

bool slot_live(const void *elem)
{
	const struct slot *slot = elem;

	return SLOT_REFS(atomic_load_explicit(&slot->state, memory_order_acquire)) != 0;
}

uint32_t slots_live(struct slots *t)
{
	uint32_t live;

	pthread_mutex_lock(&t->lock);
	live = t->live;
	pthread_mutex_unlock(&t->lock);
	return live;
}
