/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/dirty_log.h"

#include <stdatomic.h>
#include <stdlib.h>

struct dirty_log {
	struct shm_map map;
	atomic_uint refs;
};

int dirty_log_new(struct dirty_log **out, int fd, uint64_t offset, uint64_t size)
{
	struct dirty_log *log = calloc(1, sizeof(*log));
	int ret;

	if (!log)
		return -ENOMEM;
	ret = shm_map_init(&log->map, fd, offset, size);
	if (ret < 0) {
		free(log);
		return ret;
	}
	atomic_init(&log->refs, 1);
	*out = log;
	return 0;
}

struct dirty_log *dirty_log_ref(struct dirty_log *log)
{
	atomic_fetch_add_explicit(&log->refs, 1, memory_order_relaxed);
	return log;
}

void dirty_log_unref(struct dirty_log *log)
{
	if (!log || atomic_fetch_sub_explicit(&log->refs, 1, memory_order_acq_rel) != 1)
		return;
	shm_map_fini(&log->map);
	free(log);
}

/*
 * Sets bits [@first, @last] of one byte. Always the locked operation, even when
 * the bits are set already: it is also the barrier between the data written
 * before and the mark. To look first and skip it would miss a front end that
 * clears the bit between our store of the data and its arrival in memory.
 */
static void mark_byte(struct dirty_log *log, uint64_t byte, unsigned first, unsigned last)
{
	unsigned bits = (0xffu << first) & (0xffu >> (7 - last));

	if (byte < log->map.size)
		__atomic_fetch_or((uint8_t *)log->map.data + byte, (uint8_t)bits, __ATOMIC_SEQ_CST);
}

void dirty_log_mark(struct dirty_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t first, last, end;

	if (len == 0)
		return;
	if (__builtin_add_overflow(gpa, len - 1, &end))
		end = UINT64_MAX;
	first = gpa / DIRTY_LOG_PAGE;
	last = end / DIRTY_LOG_PAGE;
	for (uint64_t byte = first / 8; byte <= last / 8 && byte < log->map.size; byte++) {
		mark_byte(log, byte, byte == first / 8 ? (unsigned)(first % 8) : 0,
			  byte == last / 8 ? (unsigned)(last % 8) : 7);
	}
}

void dirty_log_mark_iov(struct dirty_log *log, const struct guest_mem *mem, const struct iovec *iov,
			size_t count, uint64_t len)
{
	for (size_t i = 0; i < count && len > 0; i++) {
		char *hva = iov[i].iov_base;
		uint64_t left = MIN((uint64_t)iov[i].iov_len, len);

		len -= left;
		/* A merged segment may span regions. */
		while (left > 0) {
			uint64_t gpa, room, part;

			if (!guest_mem_hva_to_gpa(mem, hva, &gpa, &room))
				return;
			part = MIN(left, room);
			dirty_log_mark(log, gpa, part);
			hva += part;
			left -= part;
		}
	}
}

bool dirty_log_broken(const struct dirty_log *log)
{
	return shm_map_broken(&log->map);
}
