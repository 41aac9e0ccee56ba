/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/cache.h"
#include "fs/filefs/filefs.h"
#include "fs/joinfs/joinfs.h"
#include "fs/objectfs/objectfs.h"
#include "storage_priv.h"

#define DAY_NS 86400000000000ull

/* ---- A part ---- */

static struct workers *part_workers(const struct part *part, const struct storage_env *env)
{
	return part->workers ? part->workers : env->workers;
}

/* @root stays the caller's, who may need it for another attempt. */
static struct err *part_open_files(struct part *part, struct generation *generation,
				   const struct ovfs_mount *mount,
				   const struct ovfs_backend *backend,
				   const struct storage_env *env, int root)
{
	struct filefs_config fs_config = {
		.readonly = backend->storage.readonly,
		.cache = (enum filefs_cache)mount->fuse.cache,
		.attr_timeout_ns = mount->fuse.attr_timeout_ns,
		.entry_timeout_ns = mount->fuse.entry_timeout_ns,
		.negative_timeout_ns = mount->fuse.negative_timeout_ns,
		.writeback = mount->fuse.writeback,
		.xattr = mount->fuse.xattr,
		.posix_acl = mount->fuse.posix_acl,
		.posix_locks = mount->fuse.posix_locks,
		.announce_submounts = mount->fuse.announce_submounts,
		.allow_direct_io = mount->fuse.allow_direct_io,
		.readdirplus = mount->fuse.readdirplus,
		.inode_file_handles = mount->fuse.inode_file_handles,
		.fd_limit = mount->fuse.fd_limit ? mount->fuse.fd_limit : env->files_max,
	};
	struct err *e;
	int fd;

	if (backend->cache.enabled) {
		e = backend_get(&part->backend, env->backends, generation, backend,
				mount->worker.threads, false);
		if (e)
			return e;
		fs_config.data = backend_data(part->backend);
	}
	fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(errno, "cannot open the shared directory");
	return filefs_new(&part->fs, &fs_config, fd, env->proc_self_fd, part_workers(part, env));
}

/* A time-out that the guest's, and our own, knowledge of the tree has. */
static uint64_t storage_timeout(const struct ovfs_mount *mount, uint64_t configured)
{
	switch (mount->fuse.cache) {
	case OVFS_CACHE_ALWAYS:
		return DAY_NS;
	case OVFS_CACHE_NEVER:
		return 0;
	default:
		return configured;
	}
}

static struct err *part_open_objects(struct part *part, struct generation *generation,
				     const struct ovfs_mount *mount,
				     const struct ovfs_backend *backend,
				     const struct storage_env *env, bool may_refuse)
{
	const struct objectfs_config fs_config = {
		.readonly = backend->storage.readonly,
		.uid = backend->object.uid,
		.gid = backend->object.gid,
		.file_mode = backend->object.file_mode,
		.dir_mode = backend->object.dir_mode,
		.ignore_unsupported = backend->object.on_unsupported == OVFS_UNSUPPORTED_IGNORE,
		.write_back = backend->cache.write_back,
		.attr_timeout_ns = storage_timeout(mount, mount->fuse.attr_timeout_ns),
		.open_timeout_ns = storage_timeout(mount, 0),
		.entry_timeout_ns = storage_timeout(mount, mount->fuse.entry_timeout_ns),
		.negative_timeout_ns = storage_timeout(mount, mount->fuse.negative_timeout_ns),
		.readdirplus = mount->fuse.readdirplus,
		.listing_max = backend->object.listing_max,
		.rename_max = backend->object.rename_max,
		.statfs_size = backend->object.statfs_size,
	};
	struct err *e;

	e = backend_get(&part->backend, env->backends, generation, backend, mount->worker.threads,
			may_refuse);
	if (!e)
		e = objectfs_new(&part->fs, &fs_config, backend_store(part->backend),
				 backend_files(part->backend), part_workers(part, env));
	return e;
}

static unsigned part_settle(struct part *part)
{
	if (!part->backend || part->settled)
		return 0;
	part->settled = true;
	return backend_settle(part->backend);
}

unsigned part_free(struct part *part)
{
	unsigned left = part_settle(part);

	if (left)
		return left;
	workers_free(part->workers);
	/* The driver first: it lets go of its files, which are then the cache's alone. */
	if (part->fs)
		part->fs->ops->free(part->fs);
	if (part->backend)
		left = backend_put(part->backend);
	free(part->path);
	free(part);
	return left;
}

struct err *part_new(struct part **out, struct generation *generation,
		     const struct ovfs_mount *mount, size_t index, const struct storage_env *env,
		     int root, bool may_refuse)
{
	const struct ovfs_backend *backend = storage_part(mount, index);
	struct part *part = calloc(1, sizeof(*part));
	struct err *e = NULL;

	if (!part)
		return err_errno(ENOMEM, "storage");
	if (mount->directory_count) {
		part->path = strdup(mount->directories[index].path);
		if (!part->path) {
			free(part);
			return err_errno(ENOMEM, "storage");
		}
		e = workers_new(&part->workers, "ovfs", mount->worker.threads);
	}
	if (!e && backend->storage.type == OVFS_STORAGE_FS)
		e = part_open_files(part, generation, mount, backend, env, root);
	else if (!e)
		e = part_open_objects(part, generation, mount, backend, env, may_refuse);
	if (e && part->path)
		e = err_wrap(e, "directory %s", part->path);
	if (e)
		part_free(part);
	else
		*out = part;
	return e;
}

/* ---- All of them ---- */

struct opening {
	pthread_t thread;
	bool started;
	const struct storage *storage;
	struct generation *generation;
	const struct ovfs_mount *config;
	size_t index;
	int root;
	struct part *part;
	struct err *error;
};

static void *opening_run(void *arg)
{
	struct opening *o = arg;
	const struct storage_env *env = &o->storage->env;

	log_set_thread_context(env->context);
	o->error = part_new(&o->part, o->generation, o->config, o->index, env, o->root,
			    env->patient && o->config->directory_count);
	return NULL;
}

/* All at once: none has to wait for one whose service is silent. */
static void storage_open_parts(struct opening *opening, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct opening *o = &opening[i];

		o->started = i + 1 < count && pthread_create(&o->thread, NULL, opening_run, o) == 0;
		if (!o->started)
			opening_run(o);
	}
	for (size_t i = 0; i < count; i++) {
		if (opening[i].started)
			pthread_join(opening[i].thread, NULL);
	}
}

/* The first error; the others are like it, or follow from it. */
static struct err *storage_open(struct storage *storage, struct generation *generation,
				const struct ovfs_mount *config, const int *roots)
{
	struct opening opening[STORAGE_PARTS_MAX] = { 0 };
	size_t count = storage_part_count(config);
	struct err *e = NULL;

	if (count > STORAGE_PARTS_MAX)
		return err_new("a mount has %d directories at most", STORAGE_PARTS_MAX);
	if (config->directory_count)
		e = joinfs_new(&storage->join, storage->env.workers);
	if (e)
		return e;
	for (size_t i = 0; i < count; i++)
		opening[i] = (struct opening){ .storage = storage,
					       .generation = generation,
					       .config = config,
					       .index = i,
					       .root = roots[i] };
	storage_open_parts(opening, count);
	for (size_t i = 0; i < count; i++) {
		struct part *part = opening[i].part;

		if (part)
			storage->parts[storage->count++] = part;
		if (part && storage->join && !e)
			e = joinfs_add(storage->join, part->path, part->fs);
		if (e)
			err_free(opening[i].error);
		else
			e = opening[i].error;
	}
	return e;
}

struct err *storage_new(struct storage **out, struct generation *generation,
			const struct ovfs_mount *config, const struct storage_env *env,
			const int *roots)
{
	struct storage *storage = calloc(1, sizeof(*storage));
	struct err *e;

	if (!storage)
		return err_errno(ENOMEM, "storage");
	storage->env = *env;
	pthread_mutex_init(&storage->lock, NULL);
	e = storage_open(storage, generation, config, roots);
	if (e) {
		storage_free(storage);
		return e;
	}
	*out = storage;
	return NULL;
}

struct fs *storage_fs(struct storage *storage)
{
	return storage->join ? storage->join : storage->parts[0]->fs;
}

struct fs *storage_join(struct storage *storage)
{
	return storage->join;
}

bool storage_tell(struct storage *storage, size_t index, const char **path,
		  struct backend **backend)
{
	if (index >= storage->count)
		return false;
	*path = storage->parts[index]->path;
	*backend = storage->parts[index]->backend;
	return true;
}

void storage_log(struct storage *storage)
{
	pthread_mutex_lock(&storage->lock);
	for (size_t i = 0; i < storage->count; i++) {
		if (storage->parts[i]->backend)
			backend_log(storage->parts[i]->backend);
	}
	pthread_mutex_unlock(&storage->lock);
}

struct settling {
	pthread_t thread;
	bool started;
	struct part *part;
	const char *context;
	unsigned left;
};

static void *settle_run(void *arg)
{
	struct settling *s = arg;

	log_set_thread_context(s->context);
	s->left = part_settle(s->part);
	return NULL;
}

/* All at once: none has to wait for one that hangs. */
unsigned storage_settle(struct storage *storage)
{
	struct settling settling[STORAGE_PARTS_MAX] = { 0 };
	unsigned left = 0;

	for (size_t i = 0; i < storage->count; i++) {
		settling[i].part = storage->parts[i];
		settling[i].context = storage->env.context;
		settling[i].started =
			storage->count > 1 &&
			pthread_create(&settling[i].thread, NULL, settle_run, &settling[i]) == 0;
		if (!settling[i].started)
			settle_run(&settling[i]);
	}
	for (size_t i = 0; i < storage->count; i++) {
		if (settling[i].started)
			pthread_join(settling[i].thread, NULL);
		left += settling[i].left;
	}
	for (struct part *part = storage->hidden; part; part = part->next)
		left += part_settle(part);
	return left;
}

unsigned storage_free(struct storage *storage)
{
	unsigned left = 0;

	if (!storage)
		return 0;
	left = storage_settle(storage);
	if (storage->join)
		storage->join->ops->free(storage->join);
	for (size_t i = 0; i < storage->count; i++)
		left += part_free(storage->parts[i]);
	while (storage->hidden) {
		struct part *part = storage->hidden;

		storage->hidden = part->next;
		left += part_free(part);
	}
	pthread_mutex_destroy(&storage->lock);
	free(storage);
	return left;
}
