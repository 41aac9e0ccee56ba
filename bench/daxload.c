/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daxload SOCKET FILE COUNT [qemu]: what SETUPMAPPING and REMOVEMAPPING cost at the front end.
 *
 * Maps the ranges of FILE (whole ones of 2 MiB) into the window in turn, and unmaps each again;
 * prints the medians in microseconds: request until reply, with the mapping made by our own front
 * end, which takes what mmap() takes. "qemu" behaves like QEMU 11.1: what it does not take
 * becomes a copy.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuc.h"
#include "vuc_window.h"

#define SLOT (2ull << 20)

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

static void check(int err, const char *what)
{
	if (err) {
		fprintf(stderr, "daxload: %s: %s\n", what, strerror(-err));
		exit(1);
	}
}

int main(int argc, char **argv)
{
	static const struct vuc_config config = { .queues = 2,
						  .indirect = true,
						  .event_idx = true,
						  .window = true,
						  .mem_size = 32 << 20 };
	unsigned count = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	double *map = calloc(count + 1, sizeof(*map)), *unmap = calloc(count + 1, sizeof(*unmap));
	static struct vuc_window window;
	struct fuse_entry_out entry;
	static struct vuc c;
	static struct fuc f;

	if (!count || !map || !unmap) {
		fprintf(stderr, "usage: daxload SOCKET FILE COUNT [qemu]\n");
		return 2;
	}
	check(vuc_open(&c, argv[1], &config), "connect");
	check(fuc_open(&f, &c, &(struct fuc_options){ .requests = 4 }), "memory");
	check(vuc_window_open(&window, &c), "window");
	if (argc > 4 && strcmp(argv[4], "qemu") == 0)
		atomic_store(&window.mode, VUC_WINDOW_QEMU);
	check(fuc_init(&f, 45, fuc_default_init_flags() | FUSE_MAP_ALIGNMENT), "INIT");
	check(fuc_lookup(&f, FUSE_ROOT_ID, argv[2], &entry), argv[2]);
	for (unsigned i = 0; i < count; i++) {
		uint64_t ranges = (entry.attr.size + SLOT - 1) / SLOT;
		double begin = now_us(), middle;

		check(fuc_map(&f, entry.nodeid, i % ranges * SLOT, SLOT,
			      FUSE_SETUPMAPPING_FLAG_READ, 0),
		      "SETUPMAPPING");
		middle = now_us();
		check(fuc_unmap(&f, entry.nodeid, 0, SLOT), "REMOVEMAPPING");
		map[i] = middle - begin;
		unmap[i] = now_us() - middle;
	}
	printf("setup %.0f remove %.0f\n", median(map, count), median(unmap, count));
	fuc_close(&f);
	vuc_close(&c);
	vuc_window_close(&window);
	return 0;
}
