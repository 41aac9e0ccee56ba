/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE layer: from the bytes of a request to a call of the driver and back
 * to the bytes of its reply. It knows nothing of virtio or of threads: it is
 * given a pair of iovecs and a place to work in, on whatever thread, and calls
 * back when the reply is in place.
 *
 * One fuse_session is one guest connection. FUSE_INIT makes its fs_session,
 * FUSE_DESTROY, another INIT or fuse_session_reset() end it.
 *
 * Every request that expects a reply gets exactly one, whatever its bytes;
 * FORGET and BATCH_FORGET get none (their done() has written = 0).
 */
#ifndef OVFS_FUSE_SESSION_H
#define OVFS_FUSE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fs/fs.h"

struct fuse_session;

/* The reply is in @out's memory, @written bytes of it. Called exactly once for
 * each fuse_session_request(), from the thread that completed it. */
typedef void fuse_done_fn(void *arg, size_t written);

/* @fs outlives the session. @max_write in bytes (the guest may allow less).
 * NULL for lack of memory. */
struct fuse_session *fuse_session_new(struct fs *fs, uint32_t max_write);

/* The transport's part of a window, see fuse/window.h. @ctx is passed to each. */
struct fuse_window_config {
	uint64_t size; /* bytes, whole slots of 2 MiB */
	bool copies;   /* nothing is mapped as it is: a file that is cut hurts no front end */
	void *ctx;
	/* Whether the guest has one now. */
	bool (*ready)(void *ctx);
	/* As virtio_device_shmem_map() and _unmap(). */
	int (*map)(void *ctx, int fd, uint64_t fd_offset, uint64_t window_offset, uint64_t length,
		   bool writable);
	int (*unmap)(void *ctx, uint64_t window_offset, uint64_t length);
};

/* Offers the guest a window, if the driver can fill one. Before the first request. @workers: for
 * what blocks; it outlives the session. -ENOMEM. */
int fuse_session_set_window(struct fuse_session *session, const struct fuse_window_config *config,
			    struct workers *workers);

/* Brings what the guest wrote through its window to the driver. Blocks. */
void fuse_session_save_window(struct fuse_session *session);

/* False while something is done for a guest that was there: then fuse_session_free() blocks. */
bool fuse_session_idle(const struct fuse_session *session);

/* All requests are completed. */
void fuse_session_free(struct fuse_session *session);

/* Bytes of storage a request needs; 16-byte aligned. */
size_t fuse_request_size(void);

/*
 * Handles one request, which came at @begun_ns (loop_now_ns()). @storage, the two iovec arrays
 * and the memory that they describe stay valid until done(@arg). The request's bytes may change
 * while they are looked at: each is fetched once. Any thread, many at once.
 */
void fuse_session_request(struct fuse_session *session, void *storage, uint64_t begun_ns,
			  const struct iovec *in, size_t in_count, const struct iovec *out,
			  size_t out_count, fuse_done_fn *done, void *arg);

/* Ends waiting requests (blocking locks) with EINTR, soon. Any thread. */
void fuse_session_interrupt(struct fuse_session *session);

/* Tells what the driver knows of a node of the guest's; false: nothing. Any thread. */
bool fuse_session_describe(struct fuse_session *session, uint64_t nodeid, fs_tell_fn *tell,
			   void *arg);

/* The guest is gone and all requests are completed: drops the fs_session. */
void fuse_session_reset(struct fuse_session *session);

#endif
