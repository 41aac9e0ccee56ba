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
				mount->worker.threads);
		if (e)
			return e;
		fs_config.data = backend_data(part->backend);
	}
	fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(errno, "cannot open the shared directory");
	return filefs_new(&part->fs, &fs_config, fd, env->proc_self_fd, env->workers);
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
				     const struct storage_env *env)
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
		.entry_timeout_ns = storage_timeout(mount, mount->fuse.entry_timeout_ns),
		.negative_timeout_ns = storage_timeout(mount, mount->fuse.negative_timeout_ns),
		.readdirplus = mount->fuse.readdirplus,
		.listing_max = backend->object.listing_max,
		.rename_max = backend->object.rename_max,
		.statfs_size = backend->object.statfs_size,
	};
	struct err *e;

	e = backend_get(&part->backend, env->backends, generation, backend, mount->worker.threads);
	if (!e)
		e = objectfs_new(&part->fs, &fs_config, backend_store(part->backend),
				 backend_files(part->backend), env->workers);
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
		     int root)
{
	const struct ovfs_backend *backend = storage_part(mount, index);
	struct part *part = calloc(1, sizeof(*part));
	struct err *e;

	if (!part)
		return err_errno(ENOMEM, "storage");
	if (mount->directory_count) {
		part->path = strdup(mount->directories[index].path);
		if (!part->path) {
			free(part);
			return err_errno(ENOMEM, "storage");
		}
	}
	if (backend->storage.type == OVFS_STORAGE_FS)
		e = part_open_files(part, generation, mount, backend, env, root);
	else
		e = part_open_objects(part, generation, mount, backend, env);
	if (e && part->path)
		e = err_wrap(e, "directory %s", part->path);
	if (e)
		part_free(part);
	else
		*out = part;
	return e;
}

/* ---- All of them ---- */

static struct err *storage_open(struct storage *storage, struct generation *generation,
				const struct ovfs_mount *config, const int *roots)
{
	struct err *e = NULL;

	if (storage_part_count(config) > STORAGE_PARTS_MAX)
		return err_new("a mount has %d directories at most", STORAGE_PARTS_MAX);
	if (config->directory_count)
		e = joinfs_new(&storage->join, storage->env.workers);
	for (size_t i = 0; i < storage_part_count(config) && !e; i++) {
		struct part *part;

		e = part_new(&part, generation, config, i, &storage->env, roots[i]);
		if (e)
			break;
		storage->parts[storage->count++] = part;
		if (storage->join)
			e = joinfs_add(storage->join, part->path, part->fs);
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

struct backend *storage_backend(struct storage *storage, size_t index)
{
	for (size_t i = 0; i < storage->count; i++) {
		if (storage->parts[i]->backend && index-- == 0)
			return storage->parts[i]->backend;
	}
	return NULL;
}

void storage_log(struct storage *storage)
{
	for (size_t i = 0; i < storage->count; i++) {
		if (storage->parts[i]->backend)
			backend_log(storage->parts[i]->backend);
	}
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
	free(storage);
	return left;
}
