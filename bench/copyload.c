/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copyload: what a READ of a block costs at least, one memcpy() by one thread.
 *
 *	copyload SIZE BLOCK BUFFERS MILLISECONDS
 *
 * Memory of the same kinds as a hit has: from a memfd of SIZE bytes in huge pages where they can be
 * had, as the pool, at random places, to BUFFERS blocks in turn of a memfd in small pages, as the
 * load generator has its guest's memory. All of it has been used before.
 *
 * Prints one JSON object: bytes, seconds, processor time.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGE (2ull << 20)

static double seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Of a memfd, filled, from an address that is a multiple of a huge page. */
static char *memory(uint64_t size, bool huge)
{
	uint64_t room = size + HUGE_PAGE;
	int fd = memfd_create("copyload", MFD_CLOEXEC);
	char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (fd < 0 || p == MAP_FAILED || ftruncate(fd, (off_t)size) < 0)
		return NULL;
	p += -(uintptr_t)p & (HUGE_PAGE - 1);
	p = mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return NULL;
	for (uint64_t at = 0; huge && at + HUGE_PAGE <= size; at += HUGE_PAGE) {
		*(volatile char *)(p + at) = 1;
		madvise(p + at, HUGE_PAGE, MADV_COLLAPSE); /* as far as it goes */
	}
	memset(p, 'x', size);
	return p;
}

int main(int argc, char **argv)
{
	uint64_t size, block, buffers, bytes = 0, random = 88172645463325252ull;
	double start, cpu, duration;
	char *from, *to;

	size = argc == 5 ? strtoull(argv[1], NULL, 10) : 0;
	block = argc == 5 ? strtoull(argv[2], NULL, 10) : 0;
	buffers = argc == 5 ? strtoull(argv[3], NULL, 10) : 0;
	if (!size || !block || block > size || !buffers) {
		fprintf(stderr, "usage: copyload SIZE BLOCK BUFFERS MILLISECONDS\n");
		return 2;
	}
	duration = atof(argv[4]) / 1e3;
	from = memory(size, true);
	to = memory(block * buffers, false);
	if (!from || !to)
		return 1;
	start = seconds(CLOCK_MONOTONIC);
	cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
	for (uint64_t i = 0; i % 16 || seconds(CLOCK_MONOTONIC) - start < duration; i++) {
		char *p = to + i % buffers * block;

		random ^= random >> 12;
		random ^= random << 25;
		random ^= random >> 27;
		memcpy(p, from + (random * 0x2545f4914f6cdd1dull >> 32) % (size / block) * block,
		       block);
		__asm__ volatile("" : : "r"(p) : "memory"); /* it is wanted */
		bytes += block;
	}
	printf("{\"bytes\": %llu, \"seconds\": %.6f, \"cpu_s\": %.6f}\n", (unsigned long long)bytes,
	       seconds(CLOCK_MONOTONIC) - start, seconds(CLOCK_THREAD_CPUTIME_ID) - cpu);
	return 0;
}
