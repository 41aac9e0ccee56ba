/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/cache.h"
#include "fs/filefs/filefs.h"
#include "fs/objectfs/objectfs.h"
#include "storage_stack.h"

#define DAY_NS 86400000000000ull

struct storage {
	struct fs *fs;
	/* Of objects only. */
	struct storage_stack *stack;
	struct cache *cache;
	/* Commits in the background must not wait for those of the mount, who may be waiting
	 * for them. */
	struct workers *flushers;
	struct cache_storage *files;
	uint64_t drain_timeout_ns;
};

static struct err *storage_open_files(struct storage *storage, const struct ovfs_mount *mount,
				      struct workers *workers, int root_fd, int proc_self_fd)
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
		.fd_limit = mount->fuse.fd_limit,
	};

	return filefs_new(&storage->fs, &fs_config, root_fd, proc_self_fd, workers);
}

static struct err *storage_open_cache(struct storage *storage, const struct ovfs_config *config,
				      const struct ovfs_backend *backend)
{
	struct pool_config pool = {
		.size = config->pool.size,
		.huge_pages = (enum pool_huge_pages)config->pool.huge_pages,
	};
	const struct cache_storage_config files = {
		.store = storage_stack_store(storage->stack),
		.workers = storage->flushers,
		.write_back = backend->cache.write_back,
		.write_back_delay_ns = backend->cache.write_back_delay_ns,
		.dirty_percent = backend->cache.dirty_limit,
		.expiration = backend->cache.expiration,
		.expiration_ns = backend->cache.expiration_time_ns,
		.wait_timeout_ns = backend->cache.wait_timeout_ns,
		.read_ahead_max = backend->cache.read_ahead,
		.part_size = backend->cache.part_size,
		.parts_in_flight = backend->cache.parts_in_flight,
		.conflict = backend->cache.on_conflict == OVFS_CONFLICT_OVERWRITE
				    ? CACHE_CONFLICT_OVERWRITE
				    : CACHE_CONFLICT_FAIL,
	};
	struct err *e;

	for (unsigned bit = 0; bit < 32 && pool.classes < POOL_CLASSES_MAX; bit++) {
		if (config->pool.block_sizes & 1ull << bit)
			pool.block_sizes[pool.classes++] = 1u << bit;
	}
	e = cache_new(&storage->cache, &pool);
	if (!e)
		e = cache_storage_new(&storage->files, storage->cache, &files);
	return e ? err_wrap(e, "cache") : NULL;
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

static struct err *storage_open_objects(struct storage *storage, const struct ovfs_config *config,
					const struct ovfs_mount *mount, struct workers *workers)
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

	storage->drain_timeout_ns = backend->cache.drain_timeout_ns;
	e = storage_stack_new(&storage->stack, backend);
	if (!e)
		e = workers_new(&storage->flushers, "ovfs-flush", mount->worker.threads);
	if (!e)
		e = storage_open_cache(storage, config, backend);
	if (!e)
		e = objectfs_new(&storage->fs, &fs_config, storage_stack_store(storage->stack),
				 storage->files, workers);
	return e;
}

struct err *storage_new(struct storage **out, const struct ovfs_config *config,
			const struct ovfs_mount *mount, struct workers *workers, int root_fd,
			int proc_self_fd)
{
	struct storage *storage = calloc(1, sizeof(*storage));
	struct err *e;

	if (!storage) {
		if (root_fd >= 0)
			close(root_fd);
		return err_errno(ENOMEM, "storage");
	}
	if (mount->backend.storage.type == OVFS_STORAGE_FS)
		e = storage_open_files(storage, mount, workers, root_fd, proc_self_fd);
	else
		e = storage_open_objects(storage, config, mount, workers);
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

void storage_log(struct storage *storage)
{
	struct cache_storage_usage usage;

	if (!storage->stack)
		return;
	storage_stack_log(storage->stack);
	cache_storage_usage(storage->files, &usage);
	log_info("cache_usage",
		 "files=%llu bytes=%llu dirty_files=%llu dirty_bytes=%llu hits=%llu misses=%llu "
		 "fetched=%llu commits=%llu commit_failures=%llu",
		 (unsigned long long)usage.files, (unsigned long long)usage.bytes,
		 (unsigned long long)usage.dirty_files, (unsigned long long)usage.dirty_bytes,
		 (unsigned long long)usage.hits, (unsigned long long)usage.misses,
		 (unsigned long long)usage.fetched, (unsigned long long)usage.commits,
		 (unsigned long long)usage.commit_failures);
}

unsigned storage_settle(struct storage *storage)
{
	unsigned left;

	if (!storage->files)
		return 0;
	left = cache_storage_drain(storage->files, storage->drain_timeout_ns);
	if (left)
		storage_log(storage);
	else
		storage_stack_stop(storage->stack);
	return left;
}

unsigned storage_free(struct storage *storage)
{
	unsigned left = 0;

	if (!storage)
		return 0;
	/* The driver first: it lets go of its files, which are then the cache's alone. */
	if (storage->fs)
		storage->fs->ops->free(storage->fs);
	if (storage->files) {
		left = cache_storage_drain(storage->files, storage->drain_timeout_ns);
		storage_log(storage);
		cache_storage_free(storage->files);
	}
	workers_free(storage->flushers);
	cache_free(storage->cache);
	storage_stack_free(storage->stack);
	free(storage);
	return left;
}
