/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache: file data between a driver and a storage service.
 *
 *	struct cache		the block pool and what serves it; one for the process
 *	struct cache_storage	the cached files of one storage: same endpoint, bucket and
 *				root. Every mount of that storage uses the same one
 *	struct cache_file	the content of one object, in one version, and what
 *				has been written over it since
 *	struct cache_stream	read-ahead of one open handle
 *
 * A cache_file is one line of versions: the version (ETag) that it was found in, then
 * our own changes on top of it, then, when these are committed, the version that the
 * commit made. When somebody else changes the object, there is a new cache_file for
 * the new version, and who holds the old one gets what is still cached of it
 * or -ESTALE. So nothing ever mixes two versions, and blocks carry none.
 *
 * Everything that was written shows at once to everybody who reads through the
 * same cache_storage. It is in the storage after cache_commit().
 *
 * Drivers share cached data by using one cache_storage: any number of objectfs, each with any
 * number of sessions; keys are the same for all, so their storage has to have one root. Each
 * session has a number of its own (cache_storage_session()). cache_storages of one cache share its
 * memory: each may hold all that nobody else wants, and keeps its part, size / storages, when
 * others do (test-cache-share.c).
 *
 * Waiting: functions that say so may block, for worker threads. cache_read() and
 * cache_write() do not: they are for queue threads.
 *
 * Threads: all functions, any thread. Locks: see cache/file.h.
 */
#ifndef OVFS_CACHE_CACHE_H
#define OVFS_CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/iov.h"
#include "base/list.h"
#include "base/workers.h"
#include "cache/pool.h"
#include "store/operator.h"

#define CACHE_PENDING ((ssize_t)INT32_MIN)

struct cache;
struct cache_storage;
struct cache_file;

/* ---- The cache ---- */

/* @config->size_max 0: what the host has. */
struct err *cache_new(struct cache **out, const struct pool_config *config)
	__attribute__((warn_unused_result));
/* All storages are freed. Accepts NULL. */
void cache_free(struct cache *cache);

/*
 * Another size for the pool, in bytes as pool_config.size, while it is in use: up to
 * pool_config.size_max. Growing takes effect at once. Shrinking evicts at once what is clean; what
 * is dirty is committed, since the share of it that is allowed is one of less, and goes then, which
 * the storages see to by themselves: cache_usage() says how far that is. The error says what is
 * wrong with @size; nothing has changed then. Some milliseconds for a gigabyte.
 */
struct err *cache_resize(struct cache *cache, uint64_t size) __attribute__((warn_unused_result));
void cache_usage(const struct cache *cache, struct pool_usage *out);
/* Bytes of memory that it takes to know which block of a file is where; not in the pool's size, but
 * bounded by it: cache/map.h. */
uint64_t cache_map_bytes(struct cache *cache);

/* ---- A storage ---- */

enum cache_conflict {
	CACHE_CONFLICT_FAIL,	  /* somebody else changed the object: -ESTALE */
	CACHE_CONFLICT_OVERWRITE, /* the last writer wins */
};

struct cache_storage_config {
	struct store *store;	 /* top of a stack; borrowed */
	struct workers *workers; /* background commits run here, and may block; borrowed */
	bool write_back;
	uint64_t write_back_delay_ns; /* age of dirty data that has it written */
	unsigned dirty_percent;	      /* of the pool, at most, may be dirty */
	bool expiration;
	uint64_t expiration_ns;	  /* how long a version is believed in without asking */
	uint64_t wait_timeout_ns; /* for memory, or for dirty data to be written: -ETIMEDOUT */
	uint64_t read_ahead_max;  /* bytes, of one stream */
	uint64_t sparse_max;	  /* bytes of holes in a file, which a commit has to send as
				   * zeros: -EFBIG for more. 0: no limit */
	uint32_t part_size;	  /* bytes, of uploads, the least; grows with the object */
	unsigned parts_in_flight; /* of one commit */
	enum cache_conflict conflict;
};

struct err *cache_storage_new(struct cache_storage **out, struct cache *cache,
			      const struct cache_storage_config *config)
	__attribute__((warn_unused_result));

/*
 * From now on what @config says, but for store and workers. Requests under way may see a part of
 * the change.
 *
 * When write_back goes off, everything that was dirty at the call is brought to the storage before
 * it returns, for which it tries for @drain_ns. Returns the number of files that this failed with
 * (they are tried again in the background, as always), 0 in all other cases. The driver stops to
 * rely on write-back before the call, and begins to after it. May block, with that.
 */
unsigned cache_storage_reconfigure(struct cache_storage *storage,
				   const struct cache_storage_config *config, uint64_t drain_ns);

/* Commits everything dirty, trying for @timeout_ns; says what could not be written, by
 * key, in the log. Returns the number of files left dirty. May block. */
unsigned cache_storage_drain(struct cache_storage *storage, uint64_t timeout_ns);

/* All files are put. What is still dirty is lost. May block for requests in flight. */
void cache_storage_free(struct cache_storage *storage);

/*
 * Sessions of writers, so that syncfs of one does not wait for the data of another. Numbers are
 * not 0, and are given once. cache_file_wrote() says, after a change and before it is answered,
 * who made it; what nobody said it of is everybody's, as is what sessions made that have ended.
 */
uint32_t cache_storage_session(struct cache_storage *storage);
void cache_storage_session_end(struct cache_storage *storage, uint32_t session);
void cache_file_wrote(struct cache_file *file, uint32_t session);

/* Commits all that @session, or anybody, had made dirty at the call (syncfs). 0 or the first
 * error. May block. */
int cache_storage_sync_session(struct cache_storage *storage, uint32_t session);
int cache_storage_sync(struct cache_storage *storage);

struct cache_storage_usage {
	uint64_t files, bytes, dirty_files, dirty_bytes;
	uint64_t apart_bytes;  /* written to files that are removed, and open still */
	uint64_t hits, misses; /* blocks */
	uint64_t fetched;      /* bytes of GETs */
	uint64_t commits, commit_failures;
};
void cache_storage_usage(const struct cache_storage *storage, struct cache_storage_usage *out);

/* A file that the storage does not have all of. */
struct cache_dirty_file {
	const char *key;
	uint64_t size, dirty_bytes; /* of dirty blocks, whole blocks counted */
	uint64_t age_ns;	    /* since it began to be dirty */
	bool committing;
	int error; /* of the last commit in the background, negative errno, or 0 */
};

/* Calls @look for the first @max dirty files, the oldest first, each as it is at that moment. @look
 * must not block. */
void cache_storage_dirty(struct cache_storage *storage, unsigned max,
			 void (*look)(void *arg, const struct cache_dirty_file *file), void *arg);

/* Drops what is cached and clean: what is read next is fetched. May block for moments. */
void cache_storage_drop(struct cache_storage *storage);

/* ---- Memory outside of the pool ---- */

/*
 * Counts @bytes that somebody uses elsewhere as used here: the pool holds that much less, until
 * cache_reserve_free(). Half of the pool can go so. -ENOMEM when there is no more, or when it
 * could not be spared within wait_timeout_ns. May block. The storage outlives it.
 */
struct cache_reserve;
int cache_reserve_new(struct cache_reserve **out, struct cache_storage *storage, uint64_t bytes);
void cache_reserve_free(struct cache_reserve *reserve);

/* ---- Files: life and version ---- */

/*
 * The file for the object at @key, which was found (STAT, LIST, the answer to a GET) to be
 * @meta by a request that was sent at @seen_ns (loop_now_ns()): what is cached, when it is
 * of that version, or has changes of ours on it, or is known to be newer than @seen_ns (a
 * listing is older than the commit that came after it); else a new one, empty of data, and
 * the former one is stale. NULL for lack of memory. The caller puts it.
 */
struct cache_file *cache_file_get(struct cache_storage *storage, const char *key,
				  const struct store_meta *meta, uint64_t seen_ns);

/* What is cached under @key whatever its version, or NULL. To see whether there are
 * changes of ours that the storage does not know. */
struct cache_file *cache_file_peek(struct cache_storage *storage, const char *key);

/* A new file: no object, nothing written, to be created (if_absent) by the first
 * commit, which is due. -EEXIST (in *@error) when there is one of ours already. */
struct cache_file *cache_file_create(struct cache_storage *storage, const char *key, int *error);

struct cache_file *cache_file_ref(struct cache_file *file);
void cache_file_put(struct cache_file *file);

struct cache_file_info {
	uint64_t size;		   /* bytes, changes of ours included */
	int64_t mtime_ns;	   /* user_mtime where there is one */
	bool dirty;		   /* the storage does not have all of it yet */
	uint64_t dirty_blocks;	   /* that hold something of that */
	bool created;		   /* there is no object yet, */
	bool doubtful;		   /* or, of a commit that failed, it is not known */
	bool stale;		   /* somebody else's version took its place, or it is removed */
	int error;		   /* of the last commit in the background, negative errno, or 0 */
	char etag[STORE_ETAG_MAX]; /* of the version below our changes; "" when created */
	uint64_t validated_ns; /* loop_now_ns() when that version was last known to be current */
	uint64_t version;      /* grows whenever content was replaced other than by the writes of
				* this host: same number, same data: FOPEN_KEEP_CACHE */
};
void cache_file_info(struct cache_file *file, struct cache_file_info *out);

/* Size alone, without a lock. */
uint64_t cache_file_size(struct cache_file *file);

/* Takes the error that a background commit left behind: 0 or negative errno, once
 * for each caller that asks with its own *@seen (starts at 0). */
int cache_file_error(struct cache_file *file, uint32_t *seen);

/* The object was just found unchanged at that version: cached data may be believed anew. */
void cache_file_validated(struct cache_file *file, const struct store_meta *meta);

/*
 * What other clients stored with the object, as a STAT found it in the version @etag: goes with the
 * next versions that commits make. Nothing happens when @file has another version below its
 * changes, or knows already. Where nobody has said it, a commit asks first.
 */
void cache_file_properties(struct cache_file *file, const char *etag,
			   const struct store_properties *properties);

/*
 * The object is to go: its file is not committed from now on, nor found by key. Call before
 * deleting the object. May block for a commit under way. Then either cache_file_unlink(), when it
 * is gone: the file holds its data for whoever has it open, and unfinished uploads are aborted.
 * @file is stale. (Also at once, when nothing can fail any more.)
 */
void cache_file_unlink_begin(struct cache_file *file);
void cache_file_unlink(struct cache_file *file);

/* Or this, when the object could not be deleted: what was not committed of @file is to be, as
 * before, and its key leads to it. Who opened the object meanwhile has a version that is replaced;
 * if he changed it, his changes stay, and those of @file come to a conflict, as if another
 * client had been faster. */
void cache_file_restore(struct cache_file *file);

/*
 * The object is now at @key. @meta: as the copy made it, of the version @source; NULL: nothing was
 * copied, because the file was created and never committed, and its first commit will go to
 * the new key. Whatever was cached under @key becomes stale. Changes that are not committed go
 * along. -EBUSY: the version is not @source any more (a commit has made another), or a part of
 * the file is in an upload to the old key already: commit, copy, and try again. -EINVAL: no
 * @meta, but there is an object. May block.
 */
int cache_file_rename(struct cache_file *file, const char *key, const struct store_meta *meta,
		      const char *source);

/* ---- Files that are changed in place (caps.write_range). inplace.c ---- */

/*
 * There cache_file_get() gives the file of @key whatever its version: this says what it was found
 * to be, by a request sent at @seen_ns. If that is another version than what is cached, what is
 * clean is dropped; what is dirty will be written over it. False: a commit is under way, so that it
 * cannot be told; only without @wait. May block with it.
 */
bool cache_file_seen(struct cache_file *file, const struct store_meta *meta, uint64_t seen_ns,
		     bool wait);

/*
 * The caller is going to do something with the file in the storage himself: returns when all that
 * was dirty is written, with nobody else in such a section. Or the error of writing it, and then
 * there is no section. May block.
 */
int cache_bypass_begin(struct cache_file *file);

/* It is done. The file was @former and is @meta now, and its bytes [@start, @end) are others; NULL:
 * not known. Reads that begin from now on see it. */
void cache_bypass_end(struct cache_file *file, const struct store_meta *former,
		      const struct store_meta *meta, uint64_t start, uint64_t end);

/* cache_file_info.dirty, without a lock. */
bool cache_file_dirty(const struct cache_file *file);

/* ---- Data ---- */

/* Read-ahead of one open handle: several sequential streams in it. readahead.c. */
struct cache_stream;
struct cache_stream *cache_stream_new(void);
void cache_stream_free(struct cache_stream *stream);

/* A request that waits. Embedded in it; all fields are the cache's. @done is called once
 * when CACHE_PENDING was returned, on any thread, and must not block. */
struct cache_wait {
	void (*done)(struct cache_wait *wait, ssize_t result);
	void (*wake)(struct cache_wait *wait, int error);
	struct cache_file *file;
	struct cache_stream *stream;
	struct iov_cursor cursor;
	uint64_t offset, length; /* of what is left */
	size_t copied;
	uint64_t deadline_ns;
	struct list link;
	struct work work;
};

/*
 * Reads up to @length bytes at @offset into @dst. Returns bytes, fewer at the end
 * of the file only, CACHE_PENDING, or -ESTALE, -EIO, -ETIMEDOUT, ... The caller
 * holds @file, and @stream (may be NULL), until done.
 */
ssize_t cache_read(struct cache_file *file, struct cache_stream *stream, uint64_t offset,
		   size_t length, const struct iov_cursor *dst, struct cache_wait *wait,
		   void (*done)(struct cache_wait *wait, ssize_t result));
/* The same, waiting. May block. */
ssize_t cache_read_wait(struct cache_file *file, uint64_t offset, void *buf, size_t size);

/* The same number, and not 0, at two times: content was the same all the time between, as far as
 * versions tell. 0 while something is dirty, or so young that they do not tell. */
uint64_t cache_file_content(struct cache_file *file);

/*
 * Writes @length bytes from @src at @offset, or at the end of the file when @append. All
 * or nothing is seen by the return value, but memory that changes while it is copied is
 * copied as it was at some moment. Returns @length, or a negative errno. -EAGAIN: it can
 * not be done without waiting (for memory, for a missing piece of a block, for an
 * upload); nothing was written; call cache_write_wait() on a worker. -EFBIG: beyond what the
 * storage can hold, or a hole larger than sparse_max. -ENOSPC: the file is removed, so that its
 * data has no other place than memory, of which such files may have a share only.
 */
ssize_t cache_write(struct cache_file *file, uint64_t offset, size_t length,
		    const struct iov_cursor *src, bool append);
/* The same, waiting. May block: -ETIMEDOUT, or the error of what it waited for. */
ssize_t cache_write_wait(struct cache_file *file, uint64_t offset, size_t length,
			 const struct iov_cursor *src, bool append);

/* Both ways; what is new is zero. 0 or negative errno; -EFBIG as above. May block. */
int cache_truncate(struct cache_file *file, uint64_t size);

/* Upwards only: a file that is as long, maybe since a moment ago, stays as it is. The same errors.
 */
int cache_extend(struct cache_file *file, uint64_t size);

/* To be stored with the object at the next commit, which is due from now on. */
void cache_set_mtime(struct cache_file *file, int64_t mtime_ns);

/*
 * Brings everything that was written before the call to the storage; nothing to do
 * when the file is clean. 0; -ESTALE when somebody else changed the object (unless
 * configured otherwise); or what the storage said. On failure the data stays, dirty, and
 * is tried again in the background. May block.
 */
int cache_commit(struct cache_file *file);

/* The same when nobody waits for it: a failure is left for cache_file_error(). */
int cache_commit_background(struct cache_file *file);

#endif
