/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls fstat newfstatat fstatfs */
/*
 * The registry that the SIGBUS handler looks into is an array of slots, each
 * with a sequence counter: the handler cannot take a lock and must not follow
 * a pointer to a structure that another thread may be freeing. It needs none
 * of that for the slot it is after, because whoever faults inside a mapping
 * also keeps it alive; the counters only protect it from a mixture of an old
 * and a new entry in a slot that changes hands meanwhile.
 */
#include "virtio/shm_map.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SLOTS_MAX 8192

struct slot {
	atomic_uint sequence; /* odd while it changes */
	_Atomic(uintptr_t) base;
	_Atomic(size_t) length;
	_Atomic(size_t) page_size;
	_Atomic(struct shm_map *) map; /* NULL: free */
};

static struct slot slots[SLOTS_MAX];
static atomic_uint slots_end; /* no slot from here on was ever used */
static unsigned slot_hint;    /* under slots_lock */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint faults;
static struct sigaction previous_action;

/* Under slots_lock. @map NULL empties the slot. */
static void slot_write(struct slot *s, struct shm_map *map)
{
	unsigned seq = atomic_load_explicit(&s->sequence, memory_order_relaxed);

	/* Sequentially consistent throughout: this is rare, and easier to be sure of. */
	atomic_store(&s->sequence, seq + 1);
	atomic_store(&s->base, map ? (uintptr_t)map->base : 0);
	atomic_store(&s->length, map ? map->length : 0);
	atomic_store(&s->page_size, map ? map->page_size : 0);
	atomic_store(&s->map, map);
	atomic_store(&s->sequence, seq + 2);
}

static int slot_take(struct shm_map *map)
{
	int ret = -ENOSPC;

	pthread_mutex_lock(&slots_lock);
	for (unsigned n = 0; n < SLOTS_MAX; n++) {
		unsigned i = (slot_hint + n) % SLOTS_MAX;

		if (atomic_load(&slots[i].map))
			continue;
		slot_hint = i + 1;
		if (i >= atomic_load(&slots_end))
			atomic_store(&slots_end, i + 1);
		map->guard_slot = i;
		slot_write(&slots[i], map);
		ret = 0;
		break;
	}
	pthread_mutex_unlock(&slots_lock);
	return ret;
}

static void slot_release(unsigned i)
{
	pthread_mutex_lock(&slots_lock);
	slot_write(&slots[i], NULL);
	/* Low slots first, so that the handler's search stays short. */
	if (i < slot_hint)
		slot_hint = i;
	pthread_mutex_unlock(&slots_lock);
}

/* True when @addr lies in the mapping of @s; then *@page is the page to replace. */
static bool slot_match(struct slot *s, uintptr_t addr, uintptr_t *page, size_t *page_size,
		       struct shm_map **map)
{
	for (;;) {
		unsigned seq = atomic_load(&s->sequence);
		uintptr_t base = atomic_load(&s->base);
		size_t length = atomic_load(&s->length);
		size_t psize = atomic_load(&s->page_size);

		*map = atomic_load(&s->map);
		if ((seq & 1) || atomic_load(&s->sequence) != seq)
			continue;
		if (!*map || addr - base >= length)
			return false;
		*page = addr - (addr - base) % psize;
		*page_size = psize;
		return true;
	}
}

/* Async-signal-safe. */
static bool replace_page(uintptr_t addr)
{
	unsigned end = atomic_load(&slots_end);

	for (unsigned i = 0; i < end; i++) {
		uintptr_t page;
		size_t page_size;
		struct shm_map *map;

		if (!slot_match(&slots[i], addr, &page, &page_size, &map))
			continue;
		/* The page only: the rest of the mapping may still be good, when the
		 * cause is not a truncated file but a lack of huge pages. */
		if (mmap((void *)page, page_size, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			return false;
		atomic_store(&map->broken, true);
		atomic_fetch_add(&faults, 1);
		return true;
	}
	return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)context;
	if (info->si_code > 0 && replace_page((uintptr_t)info->si_addr)) {
		errno = saved_errno;
		return;
	}
	/* Not ours. With the previous action back, a fault happens again as soon as
	 * we return; a signal that was sent has to be sent again. */
	sigaction(sig, &previous_action, NULL);
	if (info->si_code <= 0)
		raise(sig);
	errno = saved_errno;
}

static int install_result;

static void install_once(void)
{
	struct sigaction sa = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};

	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGBUS, &sa, &previous_action) < 0)
		install_result = -errno;
}

int shm_map_install_guard(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install_once);
	return install_result;
}

unsigned shm_map_faults(void)
{
	return atomic_load_explicit(&faults, memory_order_relaxed);
}

/* hugetlbfs wants offset and length in multiples of its own page size. 0: errno. */
static size_t file_page_size(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return 0;
	if (fs.f_type == HUGETLBFS_MAGIC)
		return (size_t)fs.f_bsize;
	return (size_t)sysconf(_SC_PAGESIZE);
}

int shm_map_init(struct shm_map *map, int fd, uint64_t offset, uint64_t size)
{
	uint64_t end, start, length;
	struct stat st;
	size_t page_size;
	void *base;
	int ret;

	if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > INT64_MAX)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* Of anything else than a file (a DAX device, say) the size is not known. */
	if (S_ISREG(st.st_mode) && end > (uint64_t)st.st_size)
		return -EINVAL;
	page_size = file_page_size(fd);
	if (page_size == 0)
		return -errno;

	start = offset - offset % page_size;
	if (__builtin_add_overflow(end - start, page_size - 1, &length) || length > PTRDIFF_MAX)
		return -EINVAL;
	length -= length % page_size;

	base = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		    (off_t)start);
	if (base == MAP_FAILED)
		return -errno;
	/* A core dump of ours is no place for the guest's memory. */
	madvise(base, (size_t)length, MADV_DONTDUMP);

	*map = (struct shm_map){
		.base = base,
		.length = (size_t)length,
		.page_size = page_size,
		.data = (char *)base + (offset - start),
		.size = size,
	};
	ret = slot_take(map);
	if (ret < 0)
		munmap(base, (size_t)length);
	return ret;
}

void shm_map_fini(struct shm_map *map)
{
	slot_release(map->guard_slot);
	munmap(map->base, map->length);
	map->base = map->data = NULL;
}
