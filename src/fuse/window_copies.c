/* SPDX-License-Identifier: Apache-2.0 */
/* The copies in a window, and what requests have to do with them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <linux/falloc.h>

#include "base/util.h"
#include "fuse/window_priv.h"

/* ---- The list; it and the references are under the lock ---- */

static struct list *copy_bucket(struct window *w, uint64_t nodeid)
{
	return &w->copies[nodeid % COPY_BUCKETS];
}

struct window_copy *copy_new(struct window *w, const void *owner, uint64_t nodeid, uint64_t offset,
			     struct window_memory *memory)
{
	struct window_copy *copy = calloc(1, sizeof(*copy));

	if (!copy) {
		window_memory_put(memory);
		return NULL;
	}
	copy->refs = 1;
	copy->owner = owner;
	copy->nodeid = nodeid;
	copy->offset = offset;
	copy->memory = memory;
	atomic_fetch_add(&w->copy_count, 1);
	pthread_mutex_lock(&w->lock);
	copy->seq = ++w->next_seq;
	list_push_back(copy_bucket(w, nodeid), &copy->entry);
	pthread_mutex_unlock(&w->lock);
	return copy;
}

static bool copy_is(const struct window_copy *copy, const void *owner, uint64_t nodeid)
{
	return copy->owner == owner && copy->nodeid == nodeid;
}

/*
 * The next copy of the file after @seq, with a reference; NULL when there is none. The list may
 * change between two calls.
 */
static struct window_copy *copy_next(struct window *w, const void *owner, uint64_t nodeid,
				     uint64_t seq)
{
	struct window_copy *found = NULL;
	struct list *pos;

	pthread_mutex_lock(&w->lock);
	list_for_each (pos, copy_bucket(w, nodeid)) {
		struct window_copy *copy = list_entry(pos, struct window_copy, entry);

		if (copy->seq > seq && copy_is(copy, owner, nodeid)) {
			copy->refs++;
			found = copy;
			break;
		}
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

void copy_put(struct window *w, struct window_copy *copy)
{
	bool last;

	pthread_mutex_lock(&w->lock);
	last = --copy->refs == 0;
	if (last)
		list_remove(&copy->entry);
	pthread_mutex_unlock(&w->lock);
	if (!last)
		return;
	window_memory_end_changes(copy->memory, copy->begun);
	window_memory_put(copy->memory);
	free(copy);
	atomic_fetch_sub(&w->copy_count, 1);
}

#define for_each_copy(copy, w, owner, nodeid)                                                      \
	for (uint64_t seq_ = 0; ((copy) = copy_next(w, owner, nodeid, seq_)) != NULL;              \
	     seq_ = (copy)->seq, copy_put(w, copy))

struct window_copy *copy_of_all_next(struct window *w, const void *owner, uint64_t *seq)
{
	struct window_copy *found = NULL;
	struct list *pos;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < COPY_BUCKETS; i++) {
		list_for_each (pos, &w->copies[i]) {
			struct window_copy *copy = list_entry(pos, struct window_copy, entry);

			if ((!owner || copy->owner == owner) && copy->seq > *seq &&
			    (!found || copy->seq < found->seq))
				found = copy;
		}
	}
	if (found) {
		found->refs++;
		*seq = found->seq;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

static int copies_write_back_all(struct window *w, const void *owner)
{
	struct window_copy *copy;
	uint64_t seq = 0;
	int ret = 0;

	while ((copy = copy_of_all_next(w, owner, &seq)) != NULL) {
		int err = window_memory_write_back(copy->memory);

		copy_put(w, copy);
		if (ret == 0)
			ret = err;
	}
	return ret;
}

int window_save(struct window *w)
{
	return copies_write_back_all(w, NULL);
}

/* ---- Requests that a copy has to know of ---- */

bool window_has_copies(const struct window *w)
{
	return atomic_load_explicit(&w->copy_count, memory_order_relaxed) > 0;
}

enum concern {
	CONCERN_NONE,
	CONCERN_WRITE_BACK, /* the file has to have what was written to its copies */
	CONCERN_ALL,	    /* all files' copies are written back */
	CONCERN_CHANGE,	    /* they change with it */
	CONCERN_TARGET,	    /* it reads one file and changes another */
};

static enum concern concern_of(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_READ:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
	case FUSE_LSEEK:
	case FUSE_OPEN:
		return CONCERN_WRITE_BACK;
	case FUSE_SYNCFS:
		return CONCERN_ALL;
	case FUSE_WRITE:
	case FUSE_SETATTR:
	case FUSE_FALLOCATE:
		return CONCERN_CHANGE;
	case FUSE_COPY_FILE_RANGE:
	case FUSE_COPY_FILE_RANGE_64:
		return CONCERN_TARGET;
	default:
		return CONCERN_NONE;
	}
}

static bool node_has_copies(struct window *w, const void *owner, uint64_t nodeid)
{
	struct window_copy *copy = copy_next(w, owner, nodeid, 0);

	if (copy)
		copy_put(w, copy);
	return copy != NULL;
}

bool window_concerns(struct window *w, const void *owner, const struct fs_req *req)
{
	switch (concern_of(req->opcode)) {
	case CONCERN_NONE:
		return false;
	case CONCERN_ALL:
		return true;
	case CONCERN_TARGET:
		return node_has_copies(w, owner, req->nodeid) ||
		       node_has_copies(w, owner, req->in.copy_file_range.nodeid_out);
	case CONCERN_WRITE_BACK:
	case CONCERN_CHANGE:
		break;
	}
	return node_has_copies(w, owner, req->nodeid);
}

static ssize_t node_write_back(struct window *w, const void *owner, uint64_t nodeid)
{
	struct window_copy *copy;
	int ret = 0;

	for_each_copy(copy, w, owner, nodeid)
	{
		int err = window_memory_write_back(copy->memory);

		if (ret == 0)
			ret = err;
	}
	return ret;
}

void window_refresh(struct window *w, const void *owner, uint64_t nodeid)
{
	struct window_copy *copy;

	/* A copy that cannot be refreshed stays what it is. */
	for_each_copy(copy, w, owner, nodeid) window_memory_refresh(copy->memory);
}

/* Modes of fallocate that do to a copy what zeros would. */
static bool fallocate_is_simple(uint32_t mode)
{
	return !(mode &
		 ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE));
}

ssize_t window_before(struct window *w, const void *owner, const struct fs_req *req,
		      uint64_t *begun)
{
	struct window_copy *copy;
	ssize_t ret;

	switch (concern_of(req->opcode)) {
	case CONCERN_NONE:
		return 0;
	case CONCERN_WRITE_BACK:
		ret = node_write_back(w, owner, req->nodeid);
		/* An OPEN does not fail for what is wrong with a mapping. */
		return req->opcode == FUSE_OPEN ? 0 : ret;
	case CONCERN_ALL:
		return copies_write_back_all(w, owner);
	case CONCERN_TARGET:
		/* The guest's kernel then copies by itself. */
		if (node_has_copies(w, owner, req->in.copy_file_range.nodeid_out))
			return -EOPNOTSUPP;
		return node_write_back(w, owner, req->nodeid);
	case CONCERN_CHANGE:
		break;
	}
	if (req->opcode == FUSE_FALLOCATE && !fallocate_is_simple(req->in.fallocate.mode))
		return -EOPNOTSUPP;
	/* The times that are set are to stay; and what is cut off need not be saved later. */
	if (req->opcode == FUSE_SETATTR)
		node_write_back(w, owner, req->nodeid);
	/* All of the file's copies up to the last one: none is put between others later. */
	for_each_copy(copy, w, owner, req->nodeid)
	{
		window_memory_begin_change(copy->memory, &copy->begun);
		*begun = copy->seq;
	}
	return 0;
}

void window_after(struct window *w, const void *owner, const struct fs_req *req,
		  struct iov_cursor data, ssize_t result, uint64_t begun)
{
	uint64_t offset = 0, size = 0;
	struct window_copy *copy;

	if (concern_of(req->opcode) != CONCERN_CHANGE)
		return;
	if (req->opcode == FUSE_WRITE && result > 0) {
		offset = req->in.write.offset;
		size = (uint64_t)result;
	} else if (req->opcode == FUSE_SETATTR && result == 0 &&
		   (req->in.setattr.valid & FATTR_SIZE)) {
		offset = req->out.attr.attr.size;
		size = UINT64_MAX;
	} else if (req->opcode == FUSE_FALLOCATE && result == 0 &&
		   (req->in.fallocate.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		offset = req->in.fallocate.offset;
		size = req->in.fallocate.length;
	}
	for_each_copy(copy, w, owner, req->nodeid)
		window_memory_end_change(copy->memory, copy->seq <= begun ? &copy->begun : NULL,
					 offset, size, req->opcode == FUSE_WRITE ? &data : NULL);
}
