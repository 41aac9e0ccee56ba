/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls memfd_create ftruncate fallocate fcntl mmap munmap madvise close */
/*
 * The pool's memory: address space for all that it may ever have is taken at the start, memory
 * itself when a slab is carved for the first time, and given back, a slab at a time, when
 * the pool gets smaller. The memfd has its full length from the start, too, and is sealed.
 *
 * Slab 0 is a hole, so that block number 0 can mean none: of the memfd it takes
 * nothing, and its addresses are not accessible.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cache/pool_priv.h"

/* Huge pages want it, and it costs only addresses. */
#define ARENA_ALIGN (2ull << 20)

static size_t links_of(const struct pool *pool)
{
	/* and one for each list's sentinel, in a cache line of its own */
	return slab_first(pool, pool->slabs_max + 1) + 8u * (POOL_CLASSES_MAX + 1);
}

static uint32_t ghost_size(const struct pool *pool, unsigned class)
{
	uint64_t blocks = (uint64_t)pool->slabs_max * pool->class[class].per_slab;
	uint32_t size = 64;

	while (size < blocks && size < 1u << 31)
		size *= 2;
	return size;
}

uint64_t pool_arena_slab_cost(const struct pool *pool)
{
	uint64_t units = 1ull << (pool->slab_shift - pool->arena.shift);
	uint64_t cost = (1ull << pool->slab_shift) + sizeof(struct pool_slab) +
			units * (sizeof(struct block) + sizeof(pool_link));

	/* at most twice as many entries as blocks */
	for (unsigned i = 0; i < pool->classes; i++)
		cost += 2 * sizeof(uint32_t) * pool->class[i].per_slab;
	return cost;
}

static struct err *map_zeroed(void **out, size_t *len_out, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_errno(errno, "cannot map %zu bytes for the cache's tables", len);
	*out = p;
	*len_out = len;
	return NULL;
}

static struct err *map_tables(struct pool *pool)
{
	size_t blocks = slab_first(pool, pool->slabs_max + 1), ghosts = 0;
	uint32_t *print;
	struct err *e;

	for (unsigned i = 0; i < pool->classes; i++)
		ghosts += ghost_size(pool, i);
	e = map_zeroed(&pool->map_block, &pool->map_block_len, blocks * sizeof(struct block));
	if (!e)
		e = map_zeroed(&pool->map_link, &pool->map_link_len,
			       links_of(pool) * sizeof(pool_link));
	if (!e)
		e = map_zeroed(&pool->map_ghost, &pool->map_ghost_len, ghosts * sizeof(*print));
	if (!e)
		e = map_zeroed(&pool->map_slab, &pool->map_slab_len,
			       (pool->slabs_max + 1) * sizeof(struct pool_slab));
	if (e)
		return e;
	pool->slab = pool->map_slab;
	pool->arena.block = pool->map_block;
	pool->link = pool->map_link;
	print = pool->map_ghost;
	for (unsigned i = 0; i < pool->classes; i++) {
		pool->class[i].ghost = (struct lru_ghost){ print, ghost_size(pool, i) };
		print += ghost_size(pool, i);
	}
	return NULL;
}

static struct err *map_memfd(struct pool *pool, unsigned char *base, bool hugetlb)
{
	size_t slab = (size_t)1 << pool->slab_shift, len = (size_t)pool_arena_bytes(pool);
	size_t max = (size_t)pool->slabs_max << pool->slab_shift;
	CLEANUP_CLOSE int fd = memfd_create("ovfs-cache", MFD_CLOEXEC | MFD_ALLOW_SEALING |
								  (hugetlb ? MFD_HUGETLB : 0u));
	void *p;

	if (fd < 0)
		return err_errno(errno, "cannot create the cache's memory%s",
				 hugetlb ? " from huge pages" : "");
	if (ftruncate(fd, (off_t)(slab + max)) < 0)
		return err_errno(errno, "cannot make the cache's memory %zu bytes large", max);
	/* Whoever is given the descriptor cannot pull the memory from under us. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_errno(errno, "cannot seal the cache's memory");
	p = mmap(base + slab, max, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		 fd, (off_t)slab);
	/* Huge pages are reserved here and now: without, touching one that the host does
	 * not have would kill us. Later ones are, by pool_arena_provide(). */
	if (p != MAP_FAILED && hugetlb)
		p = mmap(base + slab, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 (off_t)slab);
	if (p == MAP_FAILED && hugetlb)
		return err_errno(errno,
				 "the host has no %zu MiB in huge pages for the cache "
				 "(see /proc/sys/vm/nr_hugepages)",
				 len >> 20);
	if (p == MAP_FAILED)
		return err_errno(errno, "cannot map %zu bytes for the cache", max);
	pool->arena.memfd = STEAL_FD(fd);
	pool->hugetlb = hugetlb;
	pool->slabs_reserved = atomic_load_explicit(&pool->slabs, memory_order_relaxed);
	return NULL;
}

struct err *pool_arena_init(struct pool *pool, enum pool_huge_pages huge_pages)
{
	size_t len = (size_t)(pool->slabs_max + 1ull) << pool->slab_shift;
	unsigned char *base;
	struct err *e = map_tables(pool);

	if (e)
		return e;
	base = mmap(NULL, len + ARENA_ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (base == MAP_FAILED)
		return err_errno(errno, "cannot reserve %zu bytes of addresses for the cache", len);
	pool->map_arena = base;
	pool->map_arena_len = len + ARENA_ALIGN;
	base += -(uintptr_t)base & (ARENA_ALIGN - 1);
	e = map_memfd(pool, base, huge_pages == POOL_HUGE_ALWAYS);
	if (e)
		return e;
	/* As soon as they are touched, if the host's shmem_enabled says so; pool_huge.c else. */
	pool->huge_skip = huge_pages == POOL_HUGE_AUTO ? 0 : UINT32_MAX;
	if (huge_pages == POOL_HUGE_AUTO)
		madvise(base + ((size_t)1 << pool->slab_shift),
			(size_t)pool->slabs_max << pool->slab_shift, MADV_HUGEPAGE);
	pool->arena.base = base;
	return NULL;
}

void pool_arena_release(struct pool *pool, uint32_t slab)
{
	off_t size = (off_t)1 << pool->slab_shift;

	/* Of huge pages those go that are wholly in it. Fails where the host runs out of memory
	 * for itself: then the pages stay until the slab is used again. */
	fallocate(pool->arena.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, slab * size, size);
}

bool pool_arena_provide(struct pool *pool, uint32_t slab)
{
	off_t size = (off_t)1 << pool->slab_shift;

	/* Of other memory the host has, or makes, some, as for anybody. */
	return !pool->hugetlb || fallocate(pool->arena.memfd, 0, slab * size, size) == 0;
}

void pool_arena_exit(struct pool *pool)
{
	if (pool->map_arena)
		munmap(pool->map_arena, pool->map_arena_len);
	if (pool->map_block)
		munmap(pool->map_block, pool->map_block_len);
	if (pool->map_link)
		munmap(pool->map_link, pool->map_link_len);
	if (pool->map_ghost)
		munmap(pool->map_ghost, pool->map_ghost_len);
	if (pool->map_slab)
		munmap(pool->map_slab, pool->map_slab_len);
	if (pool->arena.memfd >= 0)
		close(pool->arena.memfd);
}
