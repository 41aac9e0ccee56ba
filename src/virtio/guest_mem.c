/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls sysinfo -- the C library's qsort() of a large table asks for the memory there is */
#include "virtio/guest_mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct guest_region {
	struct shm_map map;
	atomic_uint refs; /* one for each table */
};

static struct guest_region *region_ref(struct guest_region *region)
{
	atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
	return region;
}

static void region_unref(struct guest_region *region)
{
	if (atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) != 1)
		return;
	shm_map_fini(&region->map);
	free(region);
}

static int region_new(struct guest_mem_entry *entry, const struct guest_region_desc *desc, int fd)
{
	uint64_t end;
	struct guest_region *region;
	int ret;

	/* The last byte has to have an address; that the one behind it has one
	 * too makes every later "address + length" safe. */
	if (desc->size == 0 || __builtin_add_overflow(desc->gpa, desc->size, &end) ||
	    __builtin_add_overflow(desc->uva, desc->size, &end))
		return -EINVAL;
	region = calloc(1, sizeof(*region));
	if (!region)
		return -ENOMEM;
	ret = shm_map_init(&region->map, fd, desc->offset, desc->size);
	if (ret < 0) {
		free(region);
		return ret;
	}
	atomic_init(&region->refs, 1);
	*entry = (struct guest_mem_entry){
		.gpa = desc->gpa,
		.size = desc->size,
		.uva = desc->uva,
		.hva = region->map.data,
		.region = region,
	};
	return 0;
}

/* Room for @count rows; they are filled by the caller, by_hva by table_index(). */
static struct guest_mem *table_alloc(unsigned count)
{
	size_t rows = sizeof(struct guest_mem_entry) * count;
	struct guest_mem *mem = calloc(1, sizeof(*mem) + rows + sizeof(uint16_t) * count);

	if (!mem)
		return NULL;
	atomic_init(&mem->refs, 1);
	mem->by_hva = (uint16_t *)((char *)mem->entry + rows);
	return mem;
}

static int compare_gpa(const void *a, const void *b)
{
	const struct guest_mem_entry *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static int compare_hva(const void *a, const void *b, void *arg)
{
	const struct guest_mem *mem = arg;
	const char *x = mem->entry[*(const uint16_t *)a].hva;
	const char *y = mem->entry[*(const uint16_t *)b].hva;

	return x < y ? -1 : x > y;
}

/* Sorts the rows; -EEXIST when they overlap. */
static int table_index(struct guest_mem *mem)
{
	uint16_t *by_hva = (uint16_t *)(uintptr_t)mem->by_hva;

	qsort(mem->entry, mem->count, sizeof(mem->entry[0]), compare_gpa);
	for (unsigned i = 1; i < mem->count; i++) {
		const struct guest_mem_entry *prev = &mem->entry[i - 1];

		if (mem->entry[i].gpa - prev->gpa < prev->size)
			return -EEXIST;
	}
	for (unsigned i = 0; i < mem->count; i++)
		by_hva[i] = (uint16_t)i;
	qsort_r(by_hva, mem->count, sizeof(by_hva[0]), compare_hva, mem);
	return 0;
}

int guest_mem_new(struct guest_mem **out, const struct guest_region_desc *desc, const int *fds,
		  unsigned count)
{
	struct guest_mem *mem;
	int ret = 0;

	if (count > GUEST_MEM_REGIONS_MAX)
		return -ENOSPC;
	mem = table_alloc(count);
	if (!mem)
		return -ENOMEM;
	for (unsigned i = 0; i < count && ret == 0; i++) {
		ret = region_new(&mem->entry[i], &desc[i], fds[i]);
		if (ret == 0)
			mem->count++;
	}
	if (ret == 0)
		ret = table_index(mem);
	if (ret < 0) {
		guest_mem_unref(mem);
		return ret;
	}
	*out = mem;
	return 0;
}

int guest_mem_add(struct guest_mem **out, const struct guest_mem *old,
		  const struct guest_region_desc *desc, int fd)
{
	struct guest_mem *mem;
	int ret;

	if (old->count >= GUEST_MEM_REGIONS_MAX)
		return -ENOSPC;
	mem = table_alloc(old->count + 1);
	if (!mem)
		return -ENOMEM;
	for (unsigned i = 0; i < old->count; i++) {
		mem->entry[i] = old->entry[i];
		region_ref(mem->entry[i].region);
	}
	mem->count = old->count;
	ret = region_new(&mem->entry[mem->count], desc, fd);
	if (ret == 0) {
		mem->count++;
		ret = table_index(mem);
	}
	if (ret < 0) {
		guest_mem_unref(mem);
		return ret;
	}
	*out = mem;
	return 0;
}

int guest_mem_remove(struct guest_mem **out, const struct guest_mem *old,
		     const struct guest_region_desc *desc)
{
	struct guest_mem *mem;
	unsigned victim;

	for (victim = 0; victim < old->count; victim++) {
		const struct guest_mem_entry *e = &old->entry[victim];

		if (e->gpa == desc->gpa && e->uva == desc->uva && e->size == desc->size)
			break;
	}
	if (victim == old->count)
		return -ENOENT;
	mem = table_alloc(old->count - 1);
	if (!mem)
		return -ENOMEM;
	for (unsigned i = 0; i < old->count; i++) {
		if (i == victim)
			continue;
		mem->entry[mem->count] = old->entry[i];
		region_ref(mem->entry[mem->count++].region);
	}
	table_index(mem); /* a part of a disjoint table is disjoint */
	*out = mem;
	return 0;
}

struct guest_mem *guest_mem_ref(struct guest_mem *mem)
{
	atomic_fetch_add_explicit(&mem->refs, 1, memory_order_relaxed);
	return mem;
}

void guest_mem_unref(struct guest_mem *mem)
{
	if (!mem || atomic_fetch_sub_explicit(&mem->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < mem->count; i++)
		region_unref(mem->entry[i].region);
	free(mem);
}

bool guest_mem_broken(const struct guest_mem *mem)
{
	if (likely(shm_map_faults() == 0))
		return false;
	for (unsigned i = 0; i < mem->count; i++) {
		if (shm_map_broken(&mem->entry[i].region->map))
			return true;
	}
	return false;
}

/* Few regions and no hot path: a linear search will do for uva. */
static const struct guest_mem_entry *find_uva(const struct guest_mem *mem, uint64_t uva)
{
	for (unsigned i = 0; i < mem->count; i++) {
		if (uva - mem->entry[i].uva < mem->entry[i].size)
			return &mem->entry[i];
	}
	return NULL;
}

void *guest_mem_from_uva(const struct guest_mem *mem, uint64_t uva, uint64_t len)
{
	const struct guest_mem_entry *e = find_uva(mem, uva);

	if (!e || len > e->size - (uva - e->uva))
		return NULL;
	return e->hva + (uva - e->uva);
}

bool guest_mem_uva_to_gpa(const struct guest_mem *mem, uint64_t uva, uint64_t *gpa)
{
	const struct guest_mem_entry *e = find_uva(mem, uva);

	if (!e)
		return false;
	*gpa = e->gpa + (uva - e->uva);
	return true;
}

bool guest_mem_hva_to_gpa(const struct guest_mem *mem, const void *hva, uint64_t *gpa,
			  uint64_t *len)
{
	uintptr_t addr = (uintptr_t)hva;
	unsigned low = 0, high = mem->count;

	/* The last row that begins at or below hva. */
	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if ((uintptr_t)mem->entry[mem->by_hva[mid]].hva <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return false;

	const struct guest_mem_entry *e = &mem->entry[mem->by_hva[low - 1]];
	uint64_t off = addr - (uintptr_t)e->hva;

	if (off >= e->size)
		return false;
	*gpa = e->gpa + off;
	*len = e->size - off;
	return true;
}

struct guest_view *guest_view_new(struct guest_mem *mem)
{
	struct guest_view *view = aligned_alloc(_Alignof(struct guest_view), sizeof(*view));

	if (!view)
		return NULL;
	*view = (struct guest_view){ .mem = guest_mem_ref(mem), .refs = 1 };
	return view;
}

void guest_view_free(struct guest_view *view)
{
	guest_mem_unref(view->mem);
	free(view);
}

const struct guest_mem_entry *guest_view_search(struct guest_view *view, uint64_t gpa)
{
	const struct guest_mem *mem = view->mem;
	unsigned low = 0, high = mem->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		const struct guest_mem_entry *e = &mem->entry[mid];

		if (gpa < e->gpa) {
			high = mid;
		} else if (gpa - e->gpa >= e->size) {
			low = mid + 1;
		} else {
			view->hint = mid;
			return e;
		}
	}
	return NULL;
}

int guest_view_translate_slow(struct guest_view *view, uint64_t gpa, uint64_t len,
			      struct iovec *iov, unsigned count, unsigned merge_from, unsigned max)
{
	while (len > 0) {
		const struct guest_mem_entry *e = guest_view_find(view, gpa);
		uint64_t off, part;
		int ret;

		if (!e)
			return -EFAULT;
		off = gpa - e->gpa;
		part = MIN(len, e->size - off);
		ret = guest_iov_append(iov, count, merge_from, max, e->hva + off, (size_t)part);
		if (ret < 0)
			return ret;
		count = (unsigned)ret;
		/* No overflow: the end of a region has an address (region_new()). */
		gpa += part;
		len -= part;
	}
	return (int)count;
}
