/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a range of a file, in memory that front ends can map: see window.h.
 *
 * The memory is a memfd of exactly its length, which nobody can shrink, so that no front end
 * can take it away under us; what lies beyond the end of the file is zero. Of other files there is
 * nothing in it.
 *
 * Sharing. Guests that map the same range of the same version of a file (fs_window_file.share)
 * get the same memory, when what one of them could do to it does the others no wrong:
 *
 *  - Guests that may write to the file. What one stores shows to the others at once, like what
 *    they WRITE. From the second guest on there are checksums, whether anybody asked for a
 *    mapping to write to or not, so what is stored without asking is in the file in the end, too:
 *    nobody is shown what is not the file's.
 *
 *  - Guests that may not write. Their memory is sealed (F_SEAL_FUTURE_WRITE): only this process
 *    can write to it, whatever front ends and guests do with the descriptor. QEMU 11.1 maps
 *    nothing that it cannot write to; then each guest has memory of its own.
 *
 * A guest that may write and one that may not never share.
 *
 * What was written since is found by comparing each page with a checksum of what it was. Memory
 * that nobody has asked to write to, and one guest alone has, has none and is never written back.
 *
 * Locks: a registry's lock, inside of this module, covers who has which memory. The memory's lock
 * covers the checksums, and is held while the storage is read or written.
 */
#ifndef OVFS_FUSE_WINDOW_MEMORY_H
#define OVFS_FUSE_WINDOW_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/iov.h"
#include "fs/fs.h"

#define WINDOW_MEMORY_PAGE 4096u

struct window_memory;

/*
 * Memory for [@offset, @offset + @length) of @file: what others have, if it can be shared, else
 * new. @file is the memory's from now on, also on failure. @own: not to be shared, nor
 * sealed. To be given back; and window_memory_fill() comes next. Negative errno.
 */
int window_memory_get(struct window_memory **out, struct fs_window_file *file, uint64_t offset,
		      uint64_t length, bool own);
void window_memory_put(struct window_memory *m);

/* Reads what the file has, unless somebody has done so. Changes of the file have to be told from
 * before on. Blocks. Negative errno. */
int window_memory_fill(struct window_memory *m);

/* For the front end: a descriptor, and whether it can be mapped for writing. Constant. */
int window_memory_fd(const struct window_memory *m);
bool window_memory_sealed(const struct window_memory *m);
/* Whether what is written to it can be brought to the file. */
bool window_memory_writable(struct window_memory *m);

/* A guest will write to it. -EROFS, -EACCES, ...: it may not; -ENOMEM. Not for what is sealed. */
int window_memory_make_writable(struct window_memory *m, struct fs_session *session,
				uint64_t nodeid);

/* Brings what was written to the file. Negative errno: some of it is not there. */
int window_memory_write_back(struct window_memory *m);

/* A guest has opened the file anew: takes what it has now, but for what was written and is not
 * there yet. */
int window_memory_refresh(struct window_memory *m);

/*
 * A WRITE, or another change of the file, begins and ends; if the memory is written back between,
 * and with it what the file had before, it is written back again. @begun counts the changes under
 * way of one of those who have the memory, and is covered by its lock. Who came after a change had
 * begun tells of its end only, with @begun NULL.
 */
void window_memory_begin_change(struct window_memory *m, unsigned *begun);
/* The file has got @size bytes of @data at @offset; @data NULL for zeros. 0: none. */
void window_memory_end_change(struct window_memory *m, unsigned *begun, uint64_t offset,
			      uint64_t size, const struct iov_cursor *data);
/* Whose count that is has the memory no more. */
void window_memory_end_changes(struct window_memory *m, unsigned begun);

#endif
