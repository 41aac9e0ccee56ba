/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cursor over an array of iovecs: reads, writes and cuts without ever
 * making the data contiguous.
 *
 * The cursor owns neither the array nor the memory; both outlive it. One
 * thread at a time. The memory may be guest memory, which changes at any
 * moment: whatever is validated must first be copied out with iov_read().
 */
#ifndef OVFS_BASE_IOV_H
#define OVFS_BASE_IOV_H

#include <stddef.h>
#include <sys/uio.h>

struct iov_cursor {
	const struct iovec *iov; /* current segment */
	size_t count;		 /* segments left, the current one included */
	size_t offset;		 /* bytes of the current segment already consumed */
};

static inline struct iov_cursor iov_cursor(const struct iovec *iov, size_t count)
{
	return (struct iov_cursor){ .iov = iov, .count = count };
}

/* Bytes left, saturating at SIZE_MAX. */
size_t iov_len(const struct iov_cursor *c);

/* Copies up to @len bytes out and advances; returns the bytes copied. */
size_t iov_read(struct iov_cursor *c, void *dst, size_t len);

/* Copies up to @len bytes in and advances; returns the bytes copied. */
size_t iov_write(struct iov_cursor *c, const void *src, size_t len);

/* Writes up to @len zero bytes and advances; returns the bytes written. */
size_t iov_zero(struct iov_cursor *c, size_t len);

/* Advances by up to @len bytes; returns the bytes skipped. */
size_t iov_skip(struct iov_cursor *c, size_t len);

/*
 * Describes the next up to @len bytes in @out, at most @max segments, and
 * advances over them. Returns the segments filled in; *@bytes (may be NULL)
 * is their total length. Empty segments are left out.
 */
size_t iov_take(struct iov_cursor *c, size_t len, struct iovec *out, size_t max, size_t *bytes);

#endif
