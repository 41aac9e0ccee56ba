/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window of a front end: shared memory region 0, as a range of this process'
 * addresses, and a thread that answers the back end's SHMEM_MAP and SHMEM_UNMAP
 * by really mapping what came with them. What is not mapped is PROT_NONE, so that
 * a test which touches it ends.
 *
 * As QEMU 11.1 does, it refuses what overlaps, passes the end of the region, or is
 * to be unmapped and is not mapped exactly so. Every refusal is counted: the back end should
 * not ask for such things.
 *
 * The functions belong to the thread of the test; the counters may be read at any time.
 */
#ifndef TESTS_FRONTEND_VUC_WINDOW_H
#define TESTS_FRONTEND_VUC_WINDOW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "vuc.h"

#define VUC_WINDOW_MAPS_MAX 512

/* How it behaves; may be changed while it runs. */
enum vuc_window_mode {
	VUC_WINDOW_WELL,
	/* As QEMU 11.1: nothing that reaches beyond the end of a file, nor what cannot be
	 * mapped for writing. */
	VUC_WINDOW_QEMU,
	VUC_WINDOW_REFUSES,
	VUC_WINDOW_SILENT, /* acts, but never answers */
	VUC_WINDOW_LONG,   /* the size in the answer's header is wrong */
	VUC_WINDOW_OTHER,  /* answers what was not asked */
	VUC_WINDOW_HALF,   /* half an answer, then nothing */
	VUC_WINDOW_HANGS_UP,
	VUC_WINDOW_WITH_FD, /* answers, with a descriptor that nobody asked for */
};

struct vuc_window_map {
	uint64_t offset, length;
	bool writable;	/* as was asked for */
	bool can_write; /* whatever was asked for */
	dev_t dev;
	ino_t ino;
	uint64_t file_size; /* of what was mapped: a front end could map all of it */
};

struct vuc_window {
	int sock; /* the front end's backend_sock, from now on ours */
	uint8_t *base;
	uint64_t size;
	_Atomic int mode;

	_Atomic unsigned int maps, unmaps, refused;
	_Atomic unsigned int live;
	_Atomic unsigned int asked; /* messages, answered or not */

	pthread_mutex_t lock; /* covers table */
	struct vuc_window_map table[VUC_WINDOW_MAPS_MAX];
	pthread_t thread;
	bool running;
};

/* A guest that knows what to do with a window. */
extern const struct vuc_config vuc_with_window;

/* Asks for the size of region 0 and serves the channel of @c. -ENODEV: there is no region. */
int vuc_window_open(struct vuc_window *w, struct vuc *c);
/* Ends the thread, which closes the channel, and unmaps everything. */
void vuc_window_close(struct vuc_window *w);

/* The mapping that holds @offset; false when there is none. */
bool vuc_window_find(struct vuc_window *w, uint64_t offset, struct vuc_window_map *map);

#endif
