/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of dirty guest pages for live migration (vhost-user, "Migration";
 * VHOST_USER_SET_LOG_BASE with VHOST_USER_PROTOCOL_F_LOG_SHMFD): a bitmap that
 * the front end shares, one bit for each 4 KiB of guest physical address.
 *
 * The front end clears bits and copies the pages while we write. So a page is
 * marked after it was written, never before: a mark that comes first can be
 * consumed before the data is there.
 *
 * Reference-counted; whoever marks holds a reference, so that the front end
 * can send a new log while requests run. Any thread.
 */
#ifndef OVFS_VIRTIO_DIRTY_LOG_H
#define OVFS_VIRTIO_DIRTY_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/guest_mem.h"

#define DIRTY_LOG_PAGE 4096u

struct dirty_log;

/* Maps @size bytes at @offset of @fd, which stays the caller's; one reference
 * for the caller. Negative errno as shm_map_init(). */
int dirty_log_new(struct dirty_log **out, int fd, uint64_t offset, uint64_t size);
struct dirty_log *dirty_log_ref(struct dirty_log *log);
void dirty_log_unref(struct dirty_log *log); /* accepts NULL */

/* Marks the pages of [@gpa, @gpa + @len). Pages past the end of the bitmap are
 * ignored: the front end does not want to know about them. */
void dirty_log_mark(struct dirty_log *log, uint64_t gpa, uint64_t len);

/* Marks the pages of the first @len bytes that @iov describes; they lie in
 * regions of @mem. */
void dirty_log_mark_iov(struct dirty_log *log, const struct guest_mem *mem, const struct iovec *iov,
			size_t count, uint64_t len);

/* The front end truncated the bitmap under us. */
bool dirty_log_broken(const struct dirty_log *log);

#endif
