/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls madvise */
/*
 * Huge pages for the arena, as it comes into use.
 *
 * Memory that is touched for the first time costs a page fault for each 4 KiB, which for a
 * stream through a new pool is as much work as fetching it (0.45 s for each 512 MiB). With
 * huge pages it is an eighth of that, and hits look fewer addresses up. But on nearly all
 * hosts shared memory, as the memfd is, does not get any by itself: shmem_enabled is "never".
 * MADV_COLLAPSE (Linux 6.1) makes them where they are asked for, whatever that says; an
 * administrator who does not want it sets "deny", or huge_pages = "never" here.
 *
 * It is done for a slab at a time, before that is carved: each call has all processors put down
 * what they have in hand, and zeroes the slab, about 0.2 ms for 2 MiB. It works on pages that are
 * there, so one of each huge page is read before. Slabs smaller than a huge page go without.
 *
 * Where it fails the pages are small, as without it. That they are found by moving others away
 * may take the kernel some time, so after a failure many slabs go without a try.
 */
#include <errno.h>
#include <sys/mman.h>

#include "cache/pool_priv.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGE (2ull << 20)
/* Slabs without a try after a failure. */
#define SKIP 64u

/* Whether it is to be tried now. Several threads may lose a step of the countdown. */
static bool is_due(struct pool *pool)
{
	uint32_t skip = atomic_load_explicit(&pool->huge_skip, memory_order_relaxed);

	if (skip > 0 && skip < UINT32_MAX)
		atomic_store_explicit(&pool->huge_skip, skip - 1, memory_order_relaxed);
	return skip == 0;
}

void pool_huge_back(struct pool *pool, uint32_t slab)
{
	uint64_t size = 1ull << pool->slab_shift;
	unsigned char *data = pool->arena.base + slab * size;

	if (size < HUGE_PAGE || !is_due(pool))
		return;
	for (uint64_t at = 0; at < size; at += HUGE_PAGE)
		(void)*(volatile unsigned char *)(data + at);
	if (madvise(data, size, MADV_COLLAPSE) == 0)
		return;
	/* EINVAL: the kernel does not know it, or may not. */
	atomic_store_explicit(&pool->huge_skip, errno == EINVAL ? UINT32_MAX : SKIP,
			      memory_order_relaxed);
}
