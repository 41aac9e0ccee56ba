/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window: memory of the device (virtio 1.3, 5.11.5) into which a guest has ranges of files
 * mapped, by SETUPMAPPING and REMOVEMAPPING, to read and write them without further requests
 * (Linux: mount -o dax).
 *
 * This module keeps what is mapped where and by whom, in slots of FUSE_WINDOW_SLOT bytes: what
 * overlaps, passes the end, or was never mapped is answered with an errno and goes no further.
 *
 * A range is mapped in one of two ways.
 *
 *  - As it is: the front end maps the driver's descriptor. The guest then works on
 *    the same pages as everybody on the host.
 *
 *  - As a copy (window_memory.h), where that is configured, the driver has no descriptor to
 *    give, or the front end will not have it. QEMU 11.1 refuses a range that passes the end of
 *    the file, thus the last one of nearly every file, and a descriptor that cannot be written to.
 *    A copy is in a memfd of its own, so whoever gets the descriptor sees this range of this
 *    file and zeros after its end; guests that map the same have the same one. What the guest
 * writes to it goes to the file with FSYNC, FLUSH, SYNCFS, REMOVEMAPPING and the end of the
 * session; requests that change the file change its copies, too; an OPEN looks at the file again.
 *
 * A mapping that can be written to is made so at once, if only the driver can: to exchange
 * it later, when the guest first writes, would need a moment in which nothing is mapped.
 *
 * Threads: window_setup(), _remove(), _drop() and window_before() block, for the front end and
 * the storage: on workers. One lock covers the slots and the list of copies; it is not
 * held while anybody is waited for. A slot that somebody works on is BUSY.
 */
#ifndef OVFS_FUSE_WINDOW_H
#define OVFS_FUSE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/fs.h"
#include "fuse/session.h"

/* What Linux maps at a time (fs/fuse/dax.c), and the alignment of all there is. */
#define FUSE_WINDOW_SHIFT 21
#define FUSE_WINDOW_SLOT (1ull << FUSE_WINDOW_SHIFT)

/* Connections of one session that may have mappings at a time. */
#define FUSE_WINDOW_OWNERS_MAX 8

struct window;

/* NULL for lack of memory. @config is copied. */
struct window *window_new(const struct fuse_window_config *config);
/* Nothing is mapped. Accepts NULL. */
void window_free(struct window *w);

/* Whether the guest has one now. */
bool window_ready(const struct window *w);

/* @owner: whose mappings they are, one for each connection. */
int window_setup(struct window *w, const void *owner, struct fs_session *session, uint64_t nodeid,
		 const struct fuse_setupmapping_in *in);
int window_remove(struct window *w, const void *owner, uint64_t nodeid,
		  const struct fuse_removemapping_one *one);

/* Unmaps all of @owner, and saves what was written to it. What @owner maps from now on is refused,
 * what it is mapping at the moment unmapped as soon as it is there. */
void window_drop(struct window *w, const void *owner);

/*
 * The front end is gone, and with it what was mapped. The files' copies are set aside for
 * window_drop(), which is to follow. Does not block.
 */
void window_gone(struct window *w);

/* All of @owner's requests are done: its address may become another one's. */
void window_forget(struct window *w, const void *owner);

/* Writes back all copies of all owners; the first error. */
int window_save(struct window *w);

/* Whether there may be copies; a hint, for the hot path. */
bool window_has_copies(const struct window *w);

/* Whether @req needs window_before(). Does not block. */
bool window_concerns(struct window *w, const void *owner, const struct fs_req *req);

/* What the copies make necessary before the driver sees @req. Not 0: its outcome. *@begun is 0
 * on entry, and says which copies know of @req: for window_after(). */
ssize_t window_before(struct window *w, const void *owner, const struct fs_req *req,
		      uint64_t *begun);

/* An OPEN of the file succeeded: its copies are brought to what it has. Blocks. */
void window_refresh(struct window *w, const void *owner, uint64_t nodeid);

/* And after it, with its outcome, whether it was concerned then or not: it is now, perhaps. Waits
 * for a copy's lock at most. @data: the payload of a WRITE. */
void window_after(struct window *w, const void *owner, const struct fs_req *req,
		  struct iov_cursor data, ssize_t result, uint64_t begun);

#endif
