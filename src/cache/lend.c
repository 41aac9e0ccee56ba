/* SPDX-License-Identifier: Apache-2.0 */
/* For who copies content out of the cache, to show it elsewhere (a guest's window). */
#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "base/util.h"
#include "cache/cache.h"

/* The times of files move in steps: what was changed so short a time ago may change again and be
 * of the same time. */
#define SETTLED_S 2

uint64_t cache_file_content(struct cache_file *file)
{
	uint64_t number = 0xcbf29ce484222325ull;
	struct cache_file_info info;
	struct timespec now;

	cache_file_info(file, &info);
	clock_gettime(CLOCK_REALTIME, &now);
	if (info.dirty || info.created || info.stale || !*info.etag ||
	    info.mtime_ns / 1000000000 > now.tv_sec - SETTLED_S)
		return 0;
	for (const char *p = info.etag; *p; p++)
		number = (number ^ (unsigned char)*p) * 0x100000001b3ull;
	return number | 1;
}

struct read_wait {
	struct cache_wait wait;
	sem_t done;
	ssize_t result;
};

static void read_wait_done(struct cache_wait *wait, ssize_t result)
{
	struct read_wait *w = container_of(wait, struct read_wait, wait);

	w->result = result;
	sem_post(&w->done);
}

ssize_t cache_read_wait(struct cache_file *file, uint64_t offset, void *buf, size_t size)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	const struct iov_cursor to = iov_cursor(&iov, 1);
	struct read_wait w = { .result = 0 };
	ssize_t n;

	sem_init(&w.done, 0, 0);
	n = cache_read(file, NULL, offset, size, &to, &w.wait, read_wait_done);
	if (n == CACHE_PENDING) {
		while (sem_wait(&w.done) < 0 && errno == EINTR)
			;
		n = w.result;
	}
	sem_destroy(&w.done);
	return n;
}
