/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's memory as the front end describes it (VHOST_USER_SET_MEM_TABLE,
 * _ADD_MEM_REG, _REM_MEM_REG): a table of regions, each with three addresses:
 *
 *	gpa	guest physical, what descriptors carry
 *	uva	the front end's own virtual address, what VHOST_USER_SET_VRING_ADDR
 *		carries
 *	hva	where we have mapped it
 *
 * A table never changes. The control thread makes a new one from the old one,
 * sharing the regions that stay; tables and regions are reference-counted, so
 * memory stays mapped until the last request that uses it is completed.
 *
 * Requests do not count references on the table, which all queues share, but
 * on a view: one small object for each queue and table, on a cache line of its
 * own, which also remembers the region of the last hit.
 *
 * Threads: guest_mem_ref(), _unref() and everything that only reads a table:
 * any. A view is covered by the lock of its queue, the count included.
 */
#ifndef OVFS_VIRTIO_GUEST_MEM_H
#define OVFS_VIRTIO_GUEST_MEM_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/shm_map.h"

/* What VHOST_USER_GET_MAX_MEM_SLOTS answers: as many as QEMU can ever use. */
#define GUEST_MEM_REGIONS_MAX 509

/* A region as the messages describe it. */
struct guest_region_desc {
	uint64_t gpa;
	uint64_t size; /* bytes */
	uint64_t uva;
	uint64_t offset; /* of the first byte in the file; ignored by _remove() */
};

struct guest_region;

/* One row, with what translation needs and no pointer to follow. */
struct guest_mem_entry {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	char *hva;
	struct guest_region *region;
};

struct guest_mem {
	atomic_uint refs;
	unsigned count;
	const uint16_t *by_hva;		/* rows in order of hva */
	struct guest_mem_entry entry[]; /* in order of gpa, disjoint */
};

/*
 * New tables, with one reference for the caller. Descriptors stay the
 * caller's. On failure *@out is untouched, nothing is mapped, and the result is
 *	-EINVAL	 zero size, an address that overflows, a range past the end of the file
 *	-EEXIST	 overlap in guest addresses with another region
 *	-ENOSPC	 more than GUEST_MEM_REGIONS_MAX
 *	-ENOENT	 (_remove) no region with this gpa, uva and size
 *	-ENOMEM, or the errno of mmap or fstat
 * _new() with @count 0 is the empty table.
 */
int guest_mem_new(struct guest_mem **out, const struct guest_region_desc *desc, const int *fds,
		  unsigned count);
int guest_mem_add(struct guest_mem **out, const struct guest_mem *old,
		  const struct guest_region_desc *desc, int fd);
int guest_mem_remove(struct guest_mem **out, const struct guest_mem *old,
		     const struct guest_region_desc *desc);

struct guest_mem *guest_mem_ref(struct guest_mem *mem);
void guest_mem_unref(struct guest_mem *mem); /* accepts NULL */

/* True when the front end truncated a file below a region: nothing read from
 * it can be trusted and the device is to be broken. Cheap while none is. */
bool guest_mem_broken(const struct guest_mem *mem);

/* The first @len bytes at front-end address @uva, within one region; NULL. */
void *guest_mem_from_uva(const struct guest_mem *mem, uint64_t uva, uint64_t len);

/* Guest address of front-end address @uva; false when no region has it. */
bool guest_mem_uva_to_gpa(const struct guest_mem *mem, uint64_t uva, uint64_t *gpa);

/* Guest address of @hva, and in *@len the bytes to the end of its region;
 * false when no region has it. */
bool guest_mem_hva_to_gpa(const struct guest_mem *mem, const void *hva, uint64_t *gpa,
			  uint64_t *len);

struct guest_view {
	struct guest_mem *mem;
	unsigned refs;
	unsigned hint; /* row of the last hit */
} __attribute__((aligned(64)));

/* A view with one reference, which holds one on @mem; NULL: out of memory. */
struct guest_view *guest_view_new(struct guest_mem *mem);

static inline struct guest_view *guest_view_ref(struct guest_view *view)
{
	view->refs++;
	return view;
}

void guest_view_free(struct guest_view *view); /* private to the next */

/* Accepts NULL. */
static inline void guest_view_unref(struct guest_view *view)
{
	if (view && --view->refs == 0)
		guest_view_free(view);
}

/* The row that contains @gpa, NULL. */
const struct guest_mem_entry *guest_view_search(struct guest_view *view, uint64_t gpa);

static inline const struct guest_mem_entry *guest_view_find(struct guest_view *view, uint64_t gpa)
{
	if (likely(view->hint < view->mem->count)) {
		const struct guest_mem_entry *e = &view->mem->entry[view->hint];

		if (likely(gpa - e->gpa < e->size))
			return e;
	}
	return guest_view_search(view, gpa);
}

/* Appends one segment, or lengthens the last one (never one before
 * @merge_from); the new count, or -E2BIG. */
static inline int guest_iov_append(struct iovec *iov, unsigned count, unsigned merge_from,
				   unsigned max, char *base, size_t len)
{
	if (count > merge_from) {
		struct iovec *last = &iov[count - 1];

		if ((char *)last->iov_base + last->iov_len == base) {
			last->iov_len += len;
			return (int)count;
		}
	}
	if (unlikely(count >= max))
		return -E2BIG;
	iov[count] = (struct iovec){ .iov_base = base, .iov_len = len };
	return (int)count + 1;
}

/* The general case of the next function. */
int guest_view_translate_slow(struct guest_view *view, uint64_t gpa, uint64_t len,
			      struct iovec *iov, unsigned count, unsigned merge_from, unsigned max);

/*
 * Appends guest range [@gpa, @gpa + @len), @len > 0, to the @count segments in
 * @iov, which has room for @max. It may span regions that are adjacent in gpa;
 * a segment that continues the previous one in our address space is merged
 * with it, but never with the segments before @merge_from. Returns the new
 * count, or
 *	-EFAULT	 part of the range is in no region
 *	-E2BIG	 no room
 */
static inline int guest_view_translate(struct guest_view *view, uint64_t gpa, uint64_t len,
				       struct iovec *iov, unsigned count, unsigned merge_from,
				       unsigned max)
{
	const struct guest_mem_entry *e = guest_view_find(view, gpa);

	if (likely(e && len <= e->size - (gpa - e->gpa)))
		return guest_iov_append(iov, count, merge_from, max, e->hva + (gpa - e->gpa),
					(size_t)len);
	return guest_view_translate_slow(view, gpa, len, iov, count, merge_from, max);
}

#endif
