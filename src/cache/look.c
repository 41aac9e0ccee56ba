/* SPDX-License-Identifier: Apache-2.0 */
/* For whoever operates the daemon: which files are dirty, and dropping what is clean. */
#include <stdlib.h>

#include "base/loop.h"
#include "base/util.h"
#include "cache/file.h"

static void dirty_look(struct cache_file *f,
		       void (*look)(void *arg, const struct cache_dirty_file *file), void *arg)
{
	uint64_t now_ns = loop_now_ns();

	pthread_mutex_lock(&f->lock);
	if (atomic_load_explicit(&f->dirty, memory_order_relaxed)) {
		struct cache_dirty_file file = {
			.key = f->key,
			.size = atomic_load_explicit(&f->size, memory_order_relaxed),
			.dirty_bytes = f->dirty_bytes,
			.age_ns = now_ns > f->dirty_since_ns ? now_ns - f->dirty_since_ns : 0,
			.committing = atomic_load_explicit(&f->committing, memory_order_relaxed),
			.error = f->error,
		};

		look(arg, &file);
	}
	pthread_mutex_unlock(&f->lock);
}

void cache_storage_dirty(struct cache_storage *s, unsigned max,
			 void (*look)(void *arg, const struct cache_dirty_file *file), void *arg)
{
	struct cache_file **files = calloc(max + 1u, sizeof(*files));
	struct list *pos;
	unsigned count = 0;

	if (!files)
		return;
	/* A file's lock comes before the storage's. */
	pthread_mutex_lock(&s->lock);
	list_for_each (pos, &s->dirty) {
		if (count == max)
			break;
		files[count++] = file_ref(list_entry(pos, struct cache_file, dirty_link));
	}
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < count; i++) {
		dirty_look(files[i], look, arg);
		file_put(files[i]);
	}
	free(files);
}

static void drop_clean(struct cache_file *f, void *arg)
{
	(void)arg;
	file_purge(f, false);
	file_put(f);
}

void cache_storage_drop(struct cache_storage *s)
{
	table_each(s, drop_clean, NULL);
}
