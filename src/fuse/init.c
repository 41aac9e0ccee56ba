/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE_INIT: which version and which features (linux/fuse.h, "Version
 * negotiation").
 *
 * A feature is agreed on when the guest has it and either this layer provides
 * it alone, or the driver asks for it and this layer does not stand in the way.
 */
#include <string.h>

#include "base/util.h"
#include "fuse/internal.h"
#include "fuse/window.h"

/* max_pages counts the guest's pages. They may be larger than this, never
 * smaller, and then the guest's own limits come first. */
#define FUSE_GUEST_PAGE 4096u

/* Below this a guest ignores max_write (fs/fuse/inode.c). */
#define FUSE_MAX_WRITE_MIN 4096u

/*
 * How many background requests (read-ahead, write-back, asynchronous direct
 * I/O) a guest keeps in flight: the size of the largest virtqueue, so that it
 * is the ring which limits and not this. Linux' own default of 12 starves
 * several queues. Congestion from three quarters on, as Linux has it.
 */
#define FUSE_MAX_BACKGROUND 1024
#define FUSE_CONGESTION_THRESHOLD (FUSE_MAX_BACKGROUND * 3 / 4)

/* What this layer and the transport do for any driver. */
#define FUSE_FLAGS_SESSION                                                                         \
	((uint64_t)(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |    \
		    FUSE_MAX_PAGES | FUSE_INIT_EXT))

/*
 * What a driver may ask for. Left out is what would need more of this layer:
 * EXPORT_SUPPORT (names "." and ".." are refused), SECURITY_CTX (its extension
 * is not decoded), HAS_RESEND and HAS_EXPIRE_ONLY (no notifications over virtio), SPLICE_* and
 * OVER_IO_URING (no /dev/fuse).
 */
#define FUSE_FLAGS_DRIVER                                                                          \
	((uint64_t)(FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_DONT_MASK | FUSE_FLOCK_LOCKS |   \
		    FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |           \
		    FUSE_WRITEBACK_CACHE | FUSE_NO_OPEN_SUPPORT | FUSE_HANDLE_KILLPRIV |           \
		    FUSE_POSIX_ACL | FUSE_CACHE_SYMLINKS | FUSE_NO_OPENDIR_SUPPORT |               \
		    FUSE_EXPLICIT_INVAL_DATA | FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 |          \
		    FUSE_SETXATTR_EXT | FUSE_MAP_ALIGNMENT) |                                      \
	 FUSE_CREATE_SUPP_GROUP | FUSE_DIRECT_IO_ALLOW_MMAP | FUSE_NO_EXPORT_SUPPORT |             \
	 FUSE_ALLOW_IDMAP | FUSE_HAS_INODE_DAX)

enum fuse_init_outcome fuse_init_negotiate(const struct fuse_init_in *in, uint64_t driver_flags,
					   uint32_t max_write, struct fuse_init_out *out,
					   struct fs_negotiated *negotiated)
{
	uint64_t offered = in->flags, flags;
	uint32_t pages;

	memset(out, 0, sizeof(*out));
	out->major = FUSE_KERNEL_VERSION;
	out->minor = FUSE_ABI_MINOR;
	if (in->major > FUSE_KERNEL_VERSION)
		return FUSE_INIT_RETRY;
	if (in->major < FUSE_KERNEL_VERSION || in->minor < FUSE_ABI_MINOR_MIN)
		return FUSE_INIT_TOO_OLD;

	/* The second word counts only when the first says so: before 7.36 there was none. */
	if (in->flags & FUSE_INIT_EXT)
		offered |= (uint64_t)in->flags2 << 32;
	flags = offered & (FUSE_FLAGS_SESSION | (driver_flags & FUSE_FLAGS_DRIVER));
	if (!(flags & FUSE_DO_READDIRPLUS))
		flags &= ~(uint64_t)FUSE_READDIRPLUS_AUTO;
	if (!(flags & FUSE_MAP_ALIGNMENT))
		flags &= ~FUSE_HAS_INODE_DAX;
	else
		out->map_alignment = FUSE_WINDOW_SHIFT;

	max_write = MAX(max_write, FUSE_MAX_WRITE_MIN);
	out->minor = MIN(in->minor, (uint32_t)FUSE_ABI_MINOR);
	out->max_readahead = in->max_readahead;
	out->flags = (uint32_t)flags;
	out->flags2 = (uint32_t)(flags >> 32);
	out->max_background = FUSE_MAX_BACKGROUND;
	out->congestion_threshold = FUSE_CONGESTION_THRESHOLD;
	out->max_write = max_write;
	out->time_gran = 1;
	if (flags & FUSE_MAX_PAGES) {
		pages = (max_write - 1) / FUSE_GUEST_PAGE + 1;
		out->max_pages = (uint16_t)MIN(pages, (uint32_t)UINT16_MAX);
	}

	negotiated->minor = out->minor;
	negotiated->flags = flags;
	negotiated->max_write = max_write;
	return FUSE_INIT_AGREED;
}
