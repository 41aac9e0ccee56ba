/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls close */
#include "fs/filefs/handle.h"

#include <errno.h>
#include <unistd.h>

#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

int filefs_handle_add(struct filefs_session *s, struct inode *inode, int fd, uint32_t flags,
		      uint32_t dir, uint64_t *fh)
{
	struct handle *h = slot_alloc(&s->handles);

	if (!h)
		return -ENFILE;
	h->fd = fd;
	h->inode = inode->slot.index;
	h->mount = atomic_load(&inode->mount);
	h->dir = dir;
	atomic_store(&h->flags, flags);
	atomic_store(&h->data, NULL);
	h->stream = NULL;
	h->error_seen = 0;
	slot_hold(inode);
	*fh = slot_id(h);
	slot_publish(h);
	return 0;
}

struct handle *filefs_handle_get(struct filefs_session *s, uint64_t fh, bool dir)
{
	struct handle *h = slot_get(&s->handles, fh);

	if (!h)
		return NULL;
	if (dir != !!(atomic_load_explicit(&h->flags, memory_order_relaxed) & HANDLE_DIR)) {
		filefs_handle_put(s, h);
		return NULL;
	}
	return h;
}

/* Gives back what a handle holds. Nobody else uses it. */
static void handle_teardown(struct filefs_session *s, struct handle *h)
{
	data_close(h);
	if (h->dir)
		filefs_dir_free(s, h->dir);
	if (atomic_load(&h->flags) & HANDLE_LOCKED)
		lock_flock_release(s, h);
	close(h->fd);
	filefs_fd_release(filefs_of(s));
	inode_put(&s->inodes, slot_peek(&s->inodes.slots, h->inode));
}

void filefs_handle_put(struct filefs_session *s, struct handle *h)
{
	if (slot_put(h)) {
		handle_teardown(s, h);
		slot_free(&s->handles, h);
	}
}

bool filefs_handle_release(struct filefs_session *s, uint64_t fh, bool dir)
{
	struct handle *h = filefs_handle_get(s, fh, dir);
	bool killed;

	if (!h)
		return false;
	killed = slot_kill(h, fh);
	if (killed)
		filefs_handle_put(s, h);
	filefs_handle_put(s, h);
	return killed;
}

void filefs_handles_fini(struct filefs_session *s)
{
	uint32_t used = atomic_load(&s->handles.used);

	for (uint32_t i = 1; i < used; i++) {
		struct handle *h = slot_peek(&s->handles, i);

		if (slot_live(h))
			handle_teardown(s, h);
	}
	slots_fini(&s->handles);
}
