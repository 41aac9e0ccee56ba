/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mapping of memory that the front end shares with us: guest memory, the
 * dirty log, the inflight area. Whoever shares it can also truncate the file
 * under us, after which an access raises SIGBUS; the guard turns that into
 * zero pages and a mark on the mapping, so that one front end breaks its own
 * device and not the process.
 *
 * Every mapping made here is known to the guard from shm_map_init() to
 * shm_map_fini(). Both may be called from any thread, one at a time for each
 * object. The owner embeds the structure and keeps it in place meanwhile.
 */
#ifndef OVFS_VIRTIO_SHM_MAP_H
#define OVFS_VIRTIO_SHM_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct shm_map {
	char *base;	     /* what mmap returned */
	size_t length;	     /* of the mapping, a multiple of the file's page size */
	size_t page_size;    /* of the file: 4096, or a huge page for hugetlbfs */
	char *data;	     /* byte @offset of the file */
	uint64_t size;	     /* bytes from @data that were asked for */
	atomic_bool broken;  /* the guard has replaced a page */
	unsigned guard_slot; /* private */
};

/*
 * Maps @size bytes at @offset of @fd, shared, readable and writable, without
 * reserving swap; neither needs to be page-aligned. @fd stays the caller's.
 *
 * -EINVAL: zero size, overflow, or the range ends past the end of a file whose
 * size is known; -ENOSPC: too many mappings; otherwise mmap's or fstat's errno.
 */
int shm_map_init(struct shm_map *map, int fd, uint64_t offset, uint64_t size);
void shm_map_fini(struct shm_map *map);

/* True after an access found the file truncated. Any thread. */
static inline bool shm_map_broken(const struct shm_map *map)
{
	return atomic_load_explicit(&map->broken, memory_order_relaxed);
}

/* Counts the pages the guard has replaced, in all mappings of the process:
 * while it stands still, no mapping can have become broken. Any thread. */
unsigned shm_map_faults(void);

/*
 * Installs the SIGBUS handler of the process; calling it again does nothing.
 * A fault outside every mapping gets the default action. Negative errno.
 */
int shm_map_install_guard(void);

#endif
