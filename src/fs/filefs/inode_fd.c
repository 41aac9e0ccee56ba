/* SPDX-License-Identifier: Apache-2.0 */
/*
 * O_PATH descriptors of inodes: opened by file handle when needed, kept in a
 * ring of bounded size, closed by a clock hand when the ring is full.
 *
 * fd_pin makes the common case one atomic operation: taking a pin on an open
 * descriptor and finding none open are the same compare-and-swap, and the hand
 * can only take a descriptor away by exchanging "open, no pins" for 0.
 */
/* #syscalls open_by_handle_at openat statx close */
#include "fs/filefs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/filefs/internal.h"

#define PIN_ONE (1ull << 32)
#define PIN_FD(pin) ((int)(uint32_t)(pin)-1)

static bool inode_pin(struct inode *inode, struct inode_fd *out)
{
	uint64_t pin = atomic_load_explicit(&inode->fd_pin, memory_order_relaxed);

	do {
		if (!(uint32_t)pin)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&inode->fd_pin, &pin, pin + PIN_ONE, memory_order_acquire, memory_order_relaxed));
	if (!(atomic_load_explicit(&inode->flags, memory_order_relaxed) & INODE_USED))
		atomic_fetch_or_explicit(&inode->flags, INODE_USED, memory_order_relaxed);
	out->inode = inode;
	out->fd = PIN_FD(pin);
	return true;
}

static int inode_open_handle(struct inode_table *t, struct inode *inode, int flags)
{
	union {
		struct file_handle h;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	const struct mount *mount = &t->fs->mounts.table[atomic_load(&inode->mount)];
	int fd;

	if (!inode->handle_len)
		return -ESTALE;
	u.h.handle_bytes = inode->handle_len;
	u.h.handle_type = inode->handle_type;
	memcpy(u.h.f_handle, inode->handle, inode->handle_len);
	fd = open_by_handle_at(mount->fd, &u.h, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	/* What ext4 says while the number is being made another file (an inode that is
	 * I_CREATING is not found, and that comes out as this): ours is gone. */
	if (errno == ENOMEM)
		return -ESTALE;
	if (errno == ESTALE) {
		log_limited(&t->fs->stale_log, LOG_LEVEL_DEBUG, "inode_stale", "ino=%llu",
			    (unsigned long long)inode->ino);
		inode_mark_stale(t, inode);
	}
	return -errno;
}

/*
 * LOOKUP takes a file's attributes and its handle with two calls, between which the
 * name may have come to mean another file. The first descriptor of a handle
 * is held against the inode that the guest was told of.
 */
static int inode_verify(struct inode_table *t, struct inode *inode, int fd)
{
	const struct mount *mount = &t->fs->mounts.table[atomic_load(&inode->mount)];
	struct statx stx;
	int ret;

	if (atomic_load(&inode->flags) & INODE_VERIFIED)
		return 0;
	ret = filefs_stat_fd(fd, &stx);
	if (ret < 0)
		return ret;
	if (stx.stx_ino != inode->ino || (stx.stx_mode & S_IFMT) != inode->type ||
	    makedev(stx.stx_dev_major, stx.stx_dev_minor) != mount->dev) {
		inode_mark_stale(t, inode);
		return -ESTALE;
	}
	atomic_fetch_or(&inode->flags, INODE_VERIFIED);
	return 0;
}

/*
 * A place in the ring, its former descriptor in *@victim (-1 for none). NULL
 * when all are pinned. Called with the ring's lock held.
 */
static uint32_t *inode_ring_place(struct inode_table *t, int *victim)
{
	*victim = -1;
	for (unsigned step = 0; step < 2 * t->ring_size; step++) {
		uint32_t *place = &t->ring[t->ring_hand];
		struct inode *inode = slot_peek(&t->slots, *place);
		uint64_t pin;

		t->ring_hand = (t->ring_hand + 1) % t->ring_size;
		/* The inode may be long gone and its element another's: then either
		 * that one has no descriptor, or the place does as well for it. */
		if (!inode || (atomic_load(&inode->flags) & INODE_FD_TAKEN))
			return place;
		pin = atomic_load(&inode->fd_pin);
		if (!(uint32_t)pin)
			return place;
		if (pin >> 32)
			continue;
		if (atomic_fetch_and(&inode->flags, (uint16_t)~INODE_USED) & INODE_USED)
			continue;
		if (!atomic_compare_exchange_strong(&inode->fd_pin, &pin, 0))
			continue;
		*victim = PIN_FD(pin);
		return place;
	}
	return NULL;
}

/* Keeps @fd for @inode and pins it; or leaves it to the one request in @out when
 * there is no room, or closes it when another thread was faster. */
static void inode_fd_keep(struct inode_table *t, struct inode *inode, int fd, struct inode_fd *out)
{
	uint32_t *place;
	uint64_t none = 0;
	int victim = -1, closing = -1;

	pthread_mutex_lock(&t->ring_lock);
	if (inode_pin(inode, out)) {
		closing = fd;
	} else if ((place = inode_ring_place(t, &victim)) != NULL) {
		/* All descriptors of the ring are installed under its lock. */
		*place = inode->slot.index;
		atomic_compare_exchange_strong(&inode->fd_pin, &none, (uint64_t)fd + 1 + PIN_ONE);
		atomic_fetch_or(&inode->flags, INODE_USED);
		*out = (struct inode_fd){ .inode = inode, .fd = fd };
	} else {
		*out = (struct inode_fd){ .fd = fd };
	}
	pthread_mutex_unlock(&t->ring_lock);
	if (victim >= 0)
		close(victim);
	if (closing >= 0)
		close(closing);
}

int inode_fd_get(struct inode_table *t, struct inode *inode, struct inode_fd *out)
{
	int fd, ret;

	if (likely(inode_pin(inode, out)))
		return 0;
	fd = inode_open_handle(t, inode, O_PATH);
	if (fd < 0)
		return fd;
	ret = inode_verify(t, inode, fd);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	inode_fd_keep(t, inode, fd, out);
	return 0;
}

void inode_fd_put(struct inode_fd *fd)
{
	if (fd->inode)
		atomic_fetch_sub_explicit(&fd->inode->fd_pin, PIN_ONE, memory_order_release);
	else
		close(fd->fd);
}

int inode_open(struct inode_table *t, struct inode *inode, int flags)
{
	struct inode_fd path;
	char name[16];
	int fd, ret;

	/* Opening a device or a FIFO does things; the guest's kernel opens those
	 * itself and never asks. */
	if (inode->type != S_IFREG && inode->type != S_IFDIR)
		return inode->type == S_IFLNK ? -ELOOP : -ENXIO;
	flags |= O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	if (inode->handle_len && (atomic_load(&inode->flags) & INODE_VERIFIED))
		return inode_open_handle(t, inode, flags);
	ret = inode_fd_get(t, inode, &path);
	if (ret < 0)
		return ret;
	snprintf(name, sizeof(name), "%d", path.fd);
	fd = openat(t->fs->proc_self_fd, name, flags);
	ret = fd < 0 ? -errno : fd;
	inode_fd_put(&path);
	return ret;
}
