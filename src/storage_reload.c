/* SPDX-License-Identifier: Apache-2.0 */
/* A storage under a new configuration: see storage.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "fs/filefs/filefs.h"
#include "fs/joinfs/joinfs.h"
#include "fs/objectfs/objectfs.h"
#include "storage_priv.h"

/* How long requests inside of a directory that goes are waited for. */
#define UNUSED_WAIT_NS 60000000000ull
#define UNUSED_POLL_NS 5000000

const struct ovfs_backend *storage_part_before(const struct ovfs_mount *now,
					       const struct ovfs_mount *then, size_t index)
{
	const struct ovfs_backend *wanted = storage_part(then, index);

	if (!now->directory_count || !then->directory_count)
		return now->directory_count == then->directory_count ? &now->backend : NULL;
	for (size_t i = 0; i < now->directory_count; i++) {
		if (strcmp(now->directories[i].path, then->directories[index].path) == 0)
			return backend_same_storage(&now->directories[i].backend, wanted)
				       ? &now->directories[i].backend
				       : NULL;
	}
	return NULL;
}

/* The part that the @index-th of @config is by now, NULL: it is a new one. @now: what is. */
static struct part *find_part(struct storage *storage, const struct ovfs_mount *now,
			      const struct ovfs_mount *config, size_t index)
{
	if (!storage->join)
		return storage->parts[0];
	if (!storage_part_before(now, config, index))
		return NULL;
	for (size_t i = 0; i < storage->count; i++) {
		if (strcmp(storage->parts[i]->path, config->directories[index].path) == 0)
			return storage->parts[i];
	}
	return NULL;
}

struct err *storage_prepare(struct storage *storage, struct generation *generation,
			    const struct ovfs_mount *now, const struct ovfs_mount *config,
			    const int *roots)
{
	struct err *e = NULL;

	if (storage_part_count(config) > STORAGE_PARTS_MAX)
		return err_new("a mount has %d directories at most", STORAGE_PARTS_MAX);
	for (size_t i = 0; i < storage_part_count(config) && !e; i++) {
		struct part *part = find_part(storage, now, config, i);

		if (!part) {
			e = part_new(&storage->fresh[storage->fresh_count], generation, config, i,
				     &storage->env, roots[i], false);
			storage->fresh_count += !e;
			continue;
		}
		if (part->backend)
			e = backend_prepare(part->backend, generation, storage_part(config, i));
		if (!e)
			part->then = storage_part(config, i);
	}
	if (!e && storage->fresh_count && storage->fresh_count > joinfs_room(storage->join))
		e = err_new("so many directories were removed while guests were connected that "
			    "there is no room for another one until these have gone");
	if (e)
		storage_discard(storage);
	return e;
}

void storage_discard(struct storage *storage)
{
	for (size_t i = 0; i < storage->count; i++) {
		struct part *part = storage->parts[i];

		if (part->then && part->backend)
			backend_discard(part->backend);
		part->then = NULL;
	}
	while (storage->fresh_count)
		part_free(storage->fresh[--storage->fresh_count]);
}

static void part_set_write_back(struct part *part, bool write_back)
{
	struct filefs_data *files = backend_data(part->backend);

	if (files)
		filefs_data_set_write_back(files, write_back);
	else
		objectfs_set_write_back(part->fs, write_back);
}

static void part_change(struct part *part)
{
	bool write_back = part->then->cache.write_back;

	if (part->fs->ops->set_readonly)
		part->fs->ops->set_readonly(part->fs, part->then->storage.readonly);
	if (!part->backend)
		return;
	/* Before the cache stops to take it, and after it has begun to. */
	if (!write_back)
		part_set_write_back(part, false);
	backend_commit(part->backend);
	if (write_back)
		part_set_write_back(part, true);
}

static void part_let_go(struct part *part)
{
	unsigned left;

	log_info("directory_removed", "path=\"%s\"", part->path);
	left = part_free(part);
	if (left)
		log_error("directory_unwritten", "files=%u", left);
}

/* Waits, not for ever, until nobody is inside of a directory that is hidden, and lets go of it. */
static void part_remove(struct storage *storage, struct part *part)
{
	const struct timespec pause = { .tv_nsec = UNUSED_POLL_NS };
	uint64_t give_up_ns = loop_now_ns() + UNUSED_WAIT_NS;

	while (!joinfs_unused(storage->join, part->fs)) {
		if (loop_now_ns() > give_up_ns) {
			log_error("directory_in_use", "path=\"%s\" effect=\"it is kept, hidden\"",
				  part->path);
			part->next = storage->hidden;
			storage->hidden = part;
			return;
		}
		nanosleep(&pause, NULL);
	}
	part_let_go(part);
}

/* What was in use when it was removed may not be by now. */
static void storage_look_at_hidden(struct storage *storage)
{
	struct part **link = &storage->hidden, *part;

	while ((part = *link)) {
		if (!joinfs_unused(storage->join, part->fs)) {
			link = &part->next;
			continue;
		}
		*link = part->next;
		part_let_go(part);
	}
}

/* Takes the parts that go out of the list. */
static size_t storage_take_out(struct storage *storage, struct part *gone[STORAGE_PARTS_MAX])
{
	size_t kept = 0, count = 0;

	pthread_mutex_lock(&storage->lock);
	for (size_t i = 0; i < storage->count; i++) {
		struct part *part = storage->parts[i];

		if (part->then)
			storage->parts[kept++] = part;
		else
			gone[count++] = part;
	}
	storage->count = kept;
	pthread_mutex_unlock(&storage->lock);
	return count;
}

static void storage_show(struct storage *storage, struct part *part)
{
	struct err *e = joinfs_add(storage->join, part->path, part->fs);

	if (e) {
		log_error("directory_not_shown", "path=\"%s\" error=\"%s\"", part->path,
			  err_msg(e));
		err_free(e);
		part_free(part);
		return;
	}
	log_info("directory_added", "path=\"%s\"", part->path);
	pthread_mutex_lock(&storage->lock);
	storage->parts[storage->count++] = part;
	pthread_mutex_unlock(&storage->lock);
}

void storage_commit(struct storage *storage)
{
	struct part *gone[STORAGE_PARTS_MAX];
	size_t count;

	storage_look_at_hidden(storage);
	count = storage_take_out(storage, gone);
	for (size_t i = 0; i < count; i++)
		joinfs_remove(storage->join, gone[i]->fs);
	for (size_t i = 0; i < count; i++)
		part_remove(storage, gone[i]);
	for (size_t i = 0; i < storage->count; i++) {
		part_change(storage->parts[i]);
		storage->parts[i]->then = NULL;
	}
	for (size_t i = 0; i < storage->fresh_count; i++)
		storage_show(storage, storage->fresh[i]);
	storage->fresh_count = 0;
}
