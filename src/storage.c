/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <errno.h>
#include <stdlib.h>

#include "cache/cache.h"
#include "fs/filefs/filefs.h"
#include "fs/objectfs/objectfs.h"

#define DAY_NS 86400000000000ull

struct storage {
	struct fs *fs;
	struct backend *backend; /* of objects only */
	bool settled;
};

static struct err *storage_open_files(struct storage *storage, const struct ovfs_mount *mount,
				      const struct storage_env *env, int *root_fd)
{
	struct filefs_config fs_config = {
		.readonly = mount->backend.storage.readonly,
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
	int fd = *root_fd;

	*root_fd = -1;
	return filefs_new(&storage->fs, &fs_config, fd, env->proc_self_fd, env->workers);
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

static struct err *storage_open_objects(struct storage *storage, struct generation *generation,
					const struct ovfs_mount *mount,
					const struct storage_env *env)
{
	const struct ovfs_backend *backend = &mount->backend;
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

	e = backend_get(&storage->backend, env->backends, generation, backend,
			mount->worker.threads);
	if (!e)
		e = objectfs_new(&storage->fs, &fs_config, backend_store(storage->backend),
				 backend_files(storage->backend), env->workers);
	return e;
}

struct err *storage_new(struct storage **out, struct generation *generation,
			const struct ovfs_mount *config, const struct storage_env *env,
			int *root_fd)
{
	struct storage *storage = calloc(1, sizeof(*storage));
	struct err *e;

	if (!storage)
		return err_errno(ENOMEM, "storage");
	if (config->backend.storage.type == OVFS_STORAGE_FS)
		e = storage_open_files(storage, config, env, root_fd);
	else
		e = storage_open_objects(storage, generation, config, env);
	if (e) {
		storage_free(storage);
		return e;
	}
	*out = storage;
	return NULL;
}

struct fs *storage_fs(struct storage *storage)
{
	return storage->fs;
}

struct backend *storage_backend(struct storage *storage)
{
	return storage->backend;
}

void storage_log(struct storage *storage)
{
	if (storage->backend)
		backend_log(storage->backend);
}

unsigned storage_settle(struct storage *storage)
{
	if (!storage->backend || storage->settled)
		return 0;
	storage->settled = true;
	return backend_settle(storage->backend);
}

unsigned storage_free(struct storage *storage)
{
	unsigned left = 0;

	if (!storage)
		return 0;
	left = storage_settle(storage);
	/* The driver first: it lets go of its files, which are then the cache's alone. */
	if (storage->fs)
		storage->fs->ops->free(storage->fs);
	if (storage->backend)
		left = backend_put(storage->backend);
	free(storage);
	return left;
}

/* ---- Reload ---- */

struct err *storage_prepare(struct storage *storage, struct generation *generation,
			    const struct ovfs_mount *config)
{
	if (!storage->backend)
		return NULL;
	return backend_prepare(storage->backend, generation, &config->backend);
}

void storage_commit(struct storage *storage, const struct ovfs_mount *config)
{
	bool write_back = config->backend.cache.write_back;

	if (storage->fs->ops->set_readonly)
		storage->fs->ops->set_readonly(storage->fs, config->backend.storage.readonly);
	if (!storage->backend)
		return;
	/* Before the cache stops to take it, and after it has begun to. */
	if (!write_back)
		objectfs_set_write_back(storage->fs, false);
	backend_commit(storage->backend);
	if (write_back)
		objectfs_set_write_back(storage->fs, true);
}

void storage_discard(struct storage *storage)
{
	if (storage->backend)
		backend_discard(storage->backend);
}
