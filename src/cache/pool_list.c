/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The list starts at a sentinel, a number that is no block's, and goes on through
 * one word for each block, link[id]; the last one's says NONE. tail names the last block,
 * or one before it, or the sentinel when the list is empty:
 *
 *	link[S] -> a -> b -> c -> NONE		tail: c, or a moment ago b
 *
 * Every word holds a number and a tag that grows by one with each change of the word.
 *
 * push	writes link[last] = c by compare-and-swap from NONE, then tail = c. Whoever finds
 *	that tail's block has a successor moves tail on first (help), so nobody waits for a
 *	thread that sleeps between the two. This is Michael and Scott's queue.
 *
 * pop	takes the first block out: link[S] = link[first]. In Michael and Scott's queue what
 *	leaves is the former dummy, and the block that was taken stays as the new one;
 *	with blocks of 2 MiB that are nodes themselves, this would keep one of each class from
 *	ever being used, and its slab from ever being returned. Hence the fixed
 *	sentinel. The danger is the last block: while pop sets link[S] = NONE, a push
 *	may hang a new block onto the one that leaves, and it is lost. So pop first
 *	closes the last block's link, NONE to CLOSED. From there on no push can use it, and
 *	the block is the closer's: this is where the pop happens. Then link[S] = NONE and
 *	tail = S, in this order, again by whoever comes along.
 *
 * Why it is right
 *
 * (1) A block leaves only while tail is beyond it, or is it with its link closed, for
 *     pop helps tail on first. tail never goes back but to S, in (CLOSED). So as long as
 *     tail has not changed (same tag), the block that it names is in the list, and
 *     as long as link[S] has not changed, the first one is.
 * (2) pop reads link[S], tail, link[first], and link[S] again: when it is unchanged, first
 *     was first all the time, and if tail was neither first nor S, it was beyond it and
 *     still is when the final compare-and-swap on link[S] succeeds.
 * (3) push reads tail, link[tail], and tail again: when it is unchanged, the link was
 *     that of a block in the list. A link that says NONE is the last one's.
 * (4) ABA: a block may leave and come back between the reading of a word and the
 *     compare-and-swap. The link of a block outside of the list never says NONE
 *     (pop leaves it with a successor or CLOSED), push sets it to NONE with a tag that it
 *     never had before, and every change after that counts on. tail and link[S] count in
 *     the same way. A stale compare-and-swap fails, unless the tag came round exactly
 *     between: 2^32 changes of this very word while one thread stands still between two
 *     instructions. Link words are in an array of their own because of this: in a
 *     descriptor they would share memory with fields of blocks in use, and lose count.
 * (5) Memory is never unmapped: reading a word of a block that left long ago is harmless.
 *
 * Each compare-and-swap that fails does so since another one succeeded: lock-free.
 *
 * tests/spin/freelist.pml is this file as a model, with slabs that drain; spin visits all
 * interleavings of a small instance, and finds the error in copies that lack the tags, the
 * closing, or the help.
 */
#include "cache/pool_list.h"

#include <stdbool.h>

static inline uint64_t word_read(_Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

static inline bool word_change(_Atomic uint64_t *word, uint64_t old, uint32_t id)
{
	return atomic_compare_exchange_strong_explicit(word, &old, pool_list_link(old, id),
						       memory_order_acq_rel, memory_order_acquire);
}

void pool_list_init(struct pool_list *list, pool_link *link, uint32_t sentinel)
{
	list->sentinel = sentinel;
	atomic_store(&list->tail, (uint64_t)sentinel);
	atomic_store(&link[sentinel], (uint64_t)BLOCK_NONE);
}

/* Empties a list whose only block, named by @tail, is closed. Harmless when that is
 * done already: @tail has changed then. */
static void list_unlink_closed(struct pool_list *list, pool_link *link, uint64_t tail)
{
	uint64_t head = word_read(&link[list->sentinel]);

	if (word_read(&list->tail) != tail)
		return;
	/* Now head was read while that block was the closed one. */
	if (pool_list_link_id(head) == pool_list_link_id(tail))
		word_change(&link[list->sentinel], head, BLOCK_NONE);
	word_change(&list->tail, tail, list->sentinel);
}

void pool_list_push(struct pool_list *list, pool_link *link, block_id id, uint32_t step,
		    uint32_t count)
{
	block_id last = id + (count - 1) * step;

	for (block_id b = id; count > 0; b += step, count--)
		atomic_store_explicit(
			&link[b],
			pool_list_link(atomic_load_explicit(&link[b], memory_order_relaxed),
				       b == last ? BLOCK_NONE : b + step),
			memory_order_release);
	for (;;) {
		uint64_t tail = word_read(&list->tail);
		uint64_t next = word_read(&link[pool_list_link_id(tail)]);

		if (word_read(&list->tail) != tail)
			continue;
		if (pool_list_link_id(next) == POOL_LINK_CLOSED) {
			list_unlink_closed(list, link, tail);
		} else if (pool_list_link_id(next) != BLOCK_NONE) {
			word_change(&list->tail, tail, pool_list_link_id(next));
		} else if (word_change(&link[pool_list_link_id(tail)], next, id)) {
			word_change(&list->tail, tail, last);
			return;
		}
	}
}

block_id pool_list_pop(struct pool_list *list, pool_link *link)
{
	pool_link *head = &link[list->sentinel];

	for (;;) {
		uint64_t first = word_read(head);
		block_id id = pool_list_link_id(first);

		if (id == BLOCK_NONE)
			return BLOCK_NONE;

		uint64_t tail = word_read(&list->tail);
		uint64_t next = word_read(&link[id]);

		if (word_read(head) != first)
			continue;
		if (pool_list_link_id(tail) == list->sentinel) {
			word_change(&list->tail, tail, id);
		} else if (pool_list_link_id(next) == POOL_LINK_CLOSED) {
			list_unlink_closed(list, link, tail);
		} else if (pool_list_link_id(tail) != id) {
			if (word_change(head, first, pool_list_link_id(next)))
				return id;
		} else if (pool_list_link_id(next) != BLOCK_NONE) {
			word_change(&list->tail, tail, pool_list_link_id(next));
		} else if (word_change(&link[id], next, POOL_LINK_CLOSED)) {
			list_unlink_closed(list, link, tail);
			return id;
		}
	}
}
