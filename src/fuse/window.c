/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/window.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "fuse/window_priv.h"

/* ---- Life ---- */

struct window *window_new(const struct fuse_window_config *config)
{
	const size_t count = (size_t)(config->size >> FUSE_WINDOW_SHIFT);
	struct window *w = calloc(1, sizeof(*w) + count * sizeof(w->slots[0]));

	if (!w)
		return NULL;
	w->config = *config;
	w->slot_count = count;
	pthread_mutex_init(&w->lock, NULL);
	for (unsigned i = 0; i < COPY_BUCKETS; i++)
		list_init(&w->copies[i]);
	return w;
}

void window_free(struct window *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w);
}

bool window_ready(const struct window *w)
{
	return w->config.ready(w->config.ctx);
}

/* ---- Mapping ---- */

static int front_map(struct window *w, int fd, uint64_t fd_offset, uint64_t window_offset,
		     uint64_t length, bool writable)
{
	return w->config.map(w->config.ctx, fd, fd_offset, window_offset, length, writable);
}

/* True when nothing is mapped there any more, or there is no front end. */
static bool front_unmap(struct window *w, size_t first, uint32_t span)
{
	int ret = w->config.unmap(w->config.ctx, first * FUSE_WINDOW_SLOT, span * FUSE_WINDOW_SLOT);

	return ret != -EAGAIN;
}

static int map_copy_once(struct window *w, struct window_slot *slot, size_t first,
			 struct fs_session *session, const struct fuse_setupmapping_in *in,
			 struct fs_window_file *file)
{
	const bool own = atomic_load(&w->refused.readonly);
	struct window_memory *memory;
	struct window_copy *copy;
	int ret = window_memory_get(&memory, file, in->foffset, in->len, own);

	/* It costs nothing to have it writable from the start. */
	slot->writable = true;
	if (ret < 0)
		return ret;
	copy = copy_new(w, slot->owner, slot->nodeid, in->foffset, memory);
	if (!copy)
		return -ENOMEM;
	ret = window_memory_fill(memory);
	if (ret == 0 && (in->flags & FUSE_SETUPMAPPING_FLAG_WRITE))
		ret = window_memory_make_writable(memory, session, slot->nodeid);
	if (ret == 0) {
		slot->writable = !window_memory_sealed(memory);
		ret = front_map(w, window_memory_fd(memory), 0, first * FUSE_WINDOW_SLOT, in->len,
				slot->writable);
	}
	if (ret < 0) {
		copy_put(w, copy);
		return ret;
	}
	slot->copy = copy;
	return 0;
}

static int map_copy(struct window *w, struct window_slot *slot, size_t first,
		    struct fs_session *session, const struct fuse_setupmapping_in *in,
		    struct fs_window_file *file)
{
	const bool write = in->flags & FUSE_SETUPMAPPING_FLAG_WRITE;
	int ret = map_copy_once(w, slot, first, session, in, file);

	if (ret != -EIO || slot->writable)
		return ret;
	/* A front end that has to be able to write gets memory that nobody else has. */
	ret = session->fs->ops->window->open(session, slot->nodeid, write, file);
	if (ret < 0)
		return ret;
	atomic_store(&w->refused.readonly, true);
	ret = map_copy_once(w, slot, first, session, in, file);
	if (ret < 0)
		atomic_store(&w->refused.readonly, false);
	return ret;
}

/* Maps what @in says into @slot, which is BUSY and says whose it is. */
static int map_range(struct window *w, struct window_slot *slot, size_t first,
		     struct fs_session *session, const struct fuse_setupmapping_in *in)
{
	const struct fs_window_ops *ops = session->fs->ops->window;
	const bool write = in->flags & FUSE_SETUPMAPPING_FLAG_WRITE;
	struct fs_window_file file;
	bool beyond_end;
	int ret;

	ret = ops->open(session, slot->nodeid, write, &file);
	if (ret < 0)
		return ret;
	beyond_end = in->foffset + in->len > file.size;
	if (w->config.copies || file.fd < 0 ||
	    (beyond_end && atomic_load(&w->refused.beyond_end)) ||
	    (!file.writable && atomic_load(&w->refused.readonly)))
		return map_copy(w, slot, first, session, in, &file);

	ret = front_map(w, file.fd, in->foffset, first * FUSE_WINDOW_SLOT, in->len, file.writable);
	if (ret == -EIO) {
		ret = map_copy(w, slot, first, session, in, &file);
		/* It was the file, then, that it did not want. */
		if (ret == 0 && beyond_end)
			atomic_store(&w->refused.beyond_end, true);
		else if (ret == 0 && !window_memory_writable(slot->copy->memory))
			atomic_store(&w->refused.readonly, true);
		return ret;
	}
	slot->copy = NULL;
	slot->writable = file.writable;
	ops->close(&file);
	return ret;
}

/* ---- Slots; these under the lock ---- */

static bool owner_dropped(const struct window *w, const void *owner)
{
	for (unsigned i = 0; i < FUSE_WINDOW_OWNERS_MAX; i++) {
		if (w->dropped[i] == owner)
			return true;
	}
	return false;
}

static void slots_set(struct window *w, size_t first, uint32_t span, enum slot_state head,
		      enum slot_state tail)
{
	w->slots[first].state = (uint8_t)head;
	w->slots[first].span = span;
	for (uint32_t i = 1; i < span; i++)
		w->slots[first + i].state = (uint8_t)tail;
}

static bool same_mapping(const struct window_slot *slot, const void *owner, uint64_t nodeid,
			 uint64_t offset, uint32_t span)
{
	return slot->state == SLOT_MAPPED && slot->owner == owner && slot->nodeid == nodeid &&
	       slot->offset == offset && slot->span == span;
}

/* Makes @span slots from @first on BUSY, for us. 1: they were one mapping, of exactly this. */
static int slots_take(struct window *w, const void *owner, uint64_t nodeid, uint64_t offset,
		      size_t first, uint32_t span)
{
	struct window_slot *head = &w->slots[first];
	bool same = same_mapping(head, owner, nodeid, offset, span);

	if (owner_dropped(w, owner))
		return -ENOTCONN;
	for (uint32_t i = 0; i < span && !same;) {
		const struct window_slot *slot = &w->slots[first + i];

		if (slot->state != SLOT_FREE && (slot->state != SLOT_LEFT || slot->left > span - i))
			return -EBUSY;
		i += MAX(slot->left, 1u);
	}
	slots_set(w, first, span, SLOT_BUSY, SLOT_BUSY);
	head->owner = owner;
	head->nodeid = nodeid;
	head->offset = offset;
	return same;
}

/* The BUSY slots are nobody's again. */
static void slots_release(struct window *w, size_t first, uint32_t span)
{
	for (uint32_t i = 0; i < span;) {
		struct window_slot *slot = &w->slots[first + i];
		const uint32_t left = slot->left;

		if (left)
			slots_set(w, first + i, left, SLOT_LEFT, SLOT_TAIL);
		else
			slot->state = SLOT_FREE;
		i += MAX(left, 1u);
	}
}

/* ---- SETUPMAPPING ---- */

static int setup_check(const struct window *w, const struct fuse_setupmapping_in *in)
{
	const uint64_t size = w->slot_count * FUSE_WINDOW_SLOT;
	const uint64_t mask = FUSE_WINDOW_SLOT - 1;

	if (in->flags & ~(FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE))
		return -EINVAL;
	if (!in->len || ((in->len | in->moffset | in->foffset) & mask))
		return -EINVAL;
	if (in->len > size || in->moffset > size - in->len ||
	    in->foffset > (uint64_t)INT64_MAX - in->len)
		return -EINVAL;
	return 0;
}

/* Unmaps what was LEFT in the BUSY slots. */
static int setup_clear(struct window *w, size_t first, uint32_t span)
{
	for (size_t i = first; i < first + span; i++) {
		if (w->slots[i].left && !front_unmap(w, i, w->slots[i].left))
			return -EAGAIN;
		w->slots[i].left = 0;
	}
	return 0;
}

/* What the guest has mapped already, and now wants to write to as well. */
static int setup_upgrade(struct window *w, struct window_slot *slot, size_t first,
			 struct fs_session *session, const struct fuse_setupmapping_in *in,
			 bool *mapped)
{
	struct window_copy *copy = slot->copy;
	struct fs_window_file file;
	int ret;

	*mapped = true;
	if (!(in->flags & FUSE_SETUPMAPPING_FLAG_WRITE))
		return 0;
	if (slot->writable)
		return copy ? window_memory_make_writable(copy->memory, session, slot->nodeid) : 0;
	/* What it has stays, if it may not. */
	ret = session->fs->ops->window->open(session, slot->nodeid, true, &file);
	if (ret < 0)
		return ret;
	file.fs->ops->window->close(&file);
	if (!front_unmap(w, first, slot->span))
		return -EAGAIN;
	slot->copy = NULL;
	if (copy)
		copy_put(w, copy);
	*mapped = false;
	return map_range(w, slot, first, session, in);
}

int window_setup(struct window *w, const void *owner, struct fs_session *session, uint64_t nodeid,
		 const struct fuse_setupmapping_in *in)
{
	const size_t first = (size_t)(in->moffset >> FUSE_WINDOW_SHIFT);
	const uint32_t span = (uint32_t)(in->len >> FUSE_WINDOW_SHIFT);
	struct window_slot *slot;
	bool mapped = false, dropped;
	int ret = setup_check(w, in);

	if (ret < 0)
		return ret;
	slot = &w->slots[first];
	pthread_mutex_lock(&w->lock);
	ret = slots_take(w, owner, nodeid, in->foffset, first, span);
	pthread_mutex_unlock(&w->lock);
	if (ret < 0)
		return ret;

	if (ret == 1) {
		ret = setup_upgrade(w, slot, first, session, in, &mapped);
	} else {
		ret = setup_clear(w, first, span);
		if (ret == 0)
			ret = map_range(w, slot, first, session, in);
	}
	mapped |= ret == 0;

	pthread_mutex_lock(&w->lock);
	if (mapped)
		slots_set(w, first, span, SLOT_MAPPED, SLOT_TAIL);
	else
		slots_release(w, first, span);
	dropped = owner_dropped(w, owner);
	pthread_mutex_unlock(&w->lock);
	if (dropped)
		window_drop(w, owner);
	return ret;
}

/* ---- REMOVEMAPPING, and the end ---- */

static void log_lost(struct window *w, uint64_t nodeid, uint64_t offset, int err)
{
	log_limited(&w->log_limit, LOG_LEVEL_ERROR, "window_data_lost",
		    "nodeid=%llu offset=%llu error=\"%s\"", (unsigned long long)nodeid,
		    (unsigned long long)offset, strerror(-err));
}

/* Ends the mapping in BUSY slots. Negative errno: what was written to it is lost. */
static int slots_unmap(struct window *w, size_t first)
{
	struct window_slot *slot = &w->slots[first];
	const uint32_t span = slot->span;
	bool unmapped = front_unmap(w, first, span);
	int ret = 0;

	if (slot->copy) {
		ret = window_memory_write_back(slot->copy->memory);
		if (ret < 0)
			log_lost(w, slot->nodeid, slot->offset, ret);
		copy_put(w, slot->copy);
	}
	pthread_mutex_lock(&w->lock);
	slot->copy = NULL;
	slot->left = unmapped ? 0 : span;
	slots_release(w, first, span);
	pthread_mutex_unlock(&w->lock);
	return ret;
}

int window_remove(struct window *w, const void *owner, uint64_t nodeid,
		  const struct fuse_removemapping_one *one)
{
	const size_t first = (size_t)(one->moffset >> FUSE_WINDOW_SHIFT);
	struct window_slot *slot;
	bool found;

	if (!one->len || ((one->len | one->moffset) & (FUSE_WINDOW_SLOT - 1)) ||
	    first >= w->slot_count)
		return -EINVAL;
	slot = &w->slots[first];
	pthread_mutex_lock(&w->lock);
	found = slot->state == SLOT_MAPPED && slot->owner == owner && slot->nodeid == nodeid &&
		slot->span == one->len >> FUSE_WINDOW_SHIFT;
	if (found)
		slots_set(w, first, slot->span, SLOT_BUSY, SLOT_BUSY);
	pthread_mutex_unlock(&w->lock);
	return found ? slots_unmap(w, first) : -EINVAL;
}

/* Saves what was written to mappings that are gone. */
static void orphans_save(struct window *w, const void *owner)
{
	struct window_copy *copy;
	uint64_t seq = 0;

	while ((copy = copy_of_all_next(w, owner, &seq)) != NULL) {
		bool orphan;
		int ret;

		/* Ours to save, and to let go of: window_gone() may make one of it any time. */
		pthread_mutex_lock(&w->lock);
		orphan = copy->orphan;
		copy->orphan = false;
		pthread_mutex_unlock(&w->lock);
		ret = orphan ? window_memory_write_back(copy->memory) : 0;
		if (ret < 0)
			log_lost(w, copy->nodeid, copy->offset, ret);
		if (orphan)
			copy_put(w, copy);
		copy_put(w, copy);
	}
}

/* Under the lock. */
static void owner_mark_dropped(struct window *w, const void *owner)
{
	for (unsigned i = 0; i < FUSE_WINDOW_OWNERS_MAX && !owner_dropped(w, owner); i++) {
		if (!w->dropped[i])
			w->dropped[i] = owner;
	}
}

void window_drop(struct window *w, const void *owner)
{
	pthread_mutex_lock(&w->lock);
	owner_mark_dropped(w, owner);
	for (size_t i = 0; i < w->slot_count; i++) {
		struct window_slot *slot = &w->slots[i];

		if (slot->state != SLOT_MAPPED || slot->owner != owner)
			continue;
		slots_set(w, i, slot->span, SLOT_BUSY, SLOT_BUSY);
		pthread_mutex_unlock(&w->lock);
		slots_unmap(w, i);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	orphans_save(w, owner);
}

void window_gone(struct window *w)
{
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->slot_count; i++) {
		struct window_slot *slot = &w->slots[i];

		slot->left = 0;
		if (slot->state == SLOT_BUSY)
			continue;
		if (slot->state == SLOT_MAPPED && slot->copy) {
			/* The slot's reference becomes window_drop()'s. */
			slot->copy->orphan = true;
			slot->copy = NULL;
		}
		slot->state = SLOT_FREE;
	}
	atomic_store(&w->refused.beyond_end, false);
	atomic_store(&w->refused.readonly, false);
	pthread_mutex_unlock(&w->lock);
}

void window_forget(struct window *w, const void *owner)
{
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < FUSE_WINDOW_OWNERS_MAX; i++) {
		if (w->dropped[i] == owner)
			w->dropped[i] = NULL;
	}
	pthread_mutex_unlock(&w->lock);
}
