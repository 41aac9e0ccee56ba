/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the version that a file has as its base is what the storage has: one STAT for all who
 * want to know, when it has been believed in for long enough; and what follows when it is not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "cache/file.h"

struct revalidation {
	struct store_op op;
	struct cache_file *file;
	struct list waiters;
	uint64_t sent_ns;
	char etag[STORE_ETAG_MAX];
	char key[];
};

int fetch_base_lost(struct cache_file *f, const char *etag, const char *key)
{
	/* A version of ours may be there already, though we do not know its name yet. */
	if (strcmp(f->base.etag, etag) != 0 || strcmp(f->key, key) != 0 || f->replacing)
		return 0;
	if (f->doubt[0].write_id[0])
		return -EIO;
	if (file_is(f, FILE_UNLINKED | FILE_REPLACED) || file_in_place(f))
		return -ESTALE;
	log_info("object_changed", "key=\"%s\" version=%s", f->key, etag);
	/* With changes of ours on top it stays, for the commit to find the conflict. */
	if (!atomic_load_explicit(&f->dirty, memory_order_relaxed)) {
		atomic_fetch_or_explicit(&f->flags, FILE_REPLACED, memory_order_release);
		table_remove(f);
	}
	return -ESTALE;
}

bool fetch_expired(const struct cache_file *f)
{
	const struct storage_config *config = &f->storage->config;

	if (!config->expiration || atomic_load_explicit(&f->dirty, memory_order_relaxed) ||
	    file_is(f, FILE_CREATED | FILE_UNLINKED | FILE_REPLACED))
		return false;
	return loop_now_ns() - atomic_load_explicit(&f->validated_ns, memory_order_relaxed) >
	       config->expiration_ns;
}

static void revalidated(struct store_op *op)
{
	struct revalidation *r = container_of(op, struct revalidation, op);
	struct cache_file *f = r->file;
	struct cache_storage *s = f->storage;
	int result = op->result == -EAGAIN ? -EIO : op->result; /* as fetch_complete() */

	pthread_mutex_lock(&f->lock);
	if (result == 0 && file_in_place(f))
		inplace_found(f, r->etag, &op->meta);
	else if (result == -ENOENT || (result == 0 && strcmp(op->meta.etag, r->etag) != 0))
		result = fetch_base_lost(f, r->etag, r->key);
	if (result == 0 && !strcmp(f->base.etag, op->meta.etag))
		atomic_store_explicit(&f->validated_ns, r->sent_ns, memory_order_relaxed);
	f->revalidation = NULL;
	pthread_mutex_unlock(&f->lock);
	fetch_wake(&r->waiters, result); /* nobody else gets there any more */
	free(r);
	file_put(f);
	storage_end(s);
}

int fetch_revalidate(struct cache_file *f, struct cache_wait *w)
{
	struct revalidation *r = f->revalidation;
	size_t key_size = strlen(f->key) + 1;

	if (!r) {
		r = calloc(1, sizeof(*r) + key_size);
		if (!r)
			return -ENOMEM;
		memcpy(r->key, f->key, key_size);
		memcpy(r->etag, f->base.etag, sizeof(r->etag));
		list_init(&r->waiters);
		r->file = file_ref(f);
		r->sent_ns = loop_now_ns();
		r->op.opcode = STORE_STAT;
		r->op.key = r->key;
		r->op.complete = revalidated;
		f->revalidation = r;
		storage_begin(f->storage);
		store_submit(f->storage->config.store, &r->op);
	}
	list_push_back(&r->waiters, &w->link);
	return 0;
}

void cache_file_validated(struct cache_file *f, const struct store_meta *meta)
{
	pthread_mutex_lock(&f->lock);
	if (!strcmp(f->base.etag, meta->etag))
		atomic_store_explicit(&f->validated_ns, loop_now_ns(), memory_order_relaxed);
	pthread_mutex_unlock(&f->lock);
}
