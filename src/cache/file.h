/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the cache: a file, its storage, and what the parts of the cache share.
 *
 *	table.c		key -> file, life of files, versions
 *	map.c		offset -> block
 *	read.c		hits
 *	fetch.c		misses: one GET for many blocks, waiters
 *	revalidate.c	whether what is cached is what there is
 *	readahead.c	what to fetch before it is asked for
 *	write.h		the other half: write.c, truncate.c, commit.c, upload.c, cleaner.c, ...
 *	storage.c	putting it together
 *
 * Locks, outermost first:
 *
 *	cache_file.lock		all of a file but what is atomic in it, the descriptors of its
 *				blocks (cache/block.h), its fetches and their waiters. Never
 *				held during a request to the storage, nor while done() of
 *				a waiter runs. Held for the copy of one write.
 *	table_shard.lock	key -> file, and reaching 0 references
 *	cache_storage.lock	dirty files, those who wait for room
 *	the pool's
 *
 * Readers that hit take none of them.
 */
#ifndef OVFS_CACHE_FILE_H
#define OVFS_CACHE_FILE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "cache/cache.h"
#include "cache/leftover.h"
#include "cache/map.h"
#include "cache/pool.h"

#define TABLE_SHARDS 64
#define STORAGE_HIT_SHARDS 16

struct cache {
	struct pool *pool;
	struct map_memory maps;
	struct map_layout layout;
	pthread_mutex_t lock;	   /* outside of cache_storage.lock */
	struct list storages;	   /* lock; cache_storage.link */
	_Atomic uint64_t reserved; /* bytes; reserve.c */
	/* On a cache line of its own: hits read the layout. */
	_Alignas(64) _Atomic uint64_t dirty_bytes; /* those of all storages */
};

/* cache_storage_config; what can be changed while it is used is atomic, and each value a matter
 * of its own. */
struct storage_config {
	struct store *store;
	struct workers *workers;
	_Atomic uint32_t part_size; /* of the next part: those of one upload may differ */
	_Atomic unsigned parts_in_flight;
	_Atomic bool write_back, expiration;
	_Atomic unsigned dirty_percent;
	_Atomic uint64_t write_back_delay_ns, expiration_ns, wait_timeout_ns, read_ahead_max;
	_Atomic uint64_t sparse_max;
	_Atomic enum cache_conflict conflict;
};

struct table_shard {
	pthread_mutex_t lock;
	struct cache_file **bucket; /* chains of next_in_bucket */
	size_t buckets, files;
	struct list all; /* cache_file.all_link: also those that no key leads to any more */
	size_t all_count;
};

struct cache_storage {
	struct cache *cache;
	struct list link; /* cache.lock */
	struct storage_config config;
	/* The service has turned out not to know conditional writes, whatever its capabilities
	 * (layers have copied them) say. */
	_Atomic bool unconditional;
	_Atomic uint64_t distance_ns; /* from a GET to the first of its answer; 0: unknown */
	struct pool_owner owner;
	struct table_shard shard[TABLE_SHARDS];
	uint64_t hash_seed;
	_Atomic uint64_t version;  /* the last cache_file_info.version given */
	_Atomic uint32_t sessions; /* the last number given by cache_storage_session() */

	pthread_mutex_t lock;
	pthread_cond_t room; /* CLOCK_MONOTONIC. Signalled when blocks became clean or free, by
			      * storage_room() */
	_Atomic unsigned room_waiters;
	struct list dirty;	      /* cache_file.dirty_link, the oldest first */
	_Atomic uint64_t dirty_bytes; /* of dirty blocks, whole blocks counted, but for */
	_Atomic uint64_t apart_bytes; /* those of files that were removed: life.c */
	_Atomic uint64_t dirty_max;   /* bytes; storage_set_limits(). Alone: storage_dirty_max() */
	_Atomic uint64_t dirty_all;   /* likewise, with others, beyond that each has only this: */
	_Atomic uint64_t dirty_least;
	_Atomic uint64_t apart_max; /* likewise */
	uint64_t fill_max;	    /* likewise: of what commits read, fill.c */
	uint64_t filling;
	struct {
		void *memory; /* constant; pages only while it is taken */
		uint64_t bytes;
		bool taken;
		unsigned waiters;
		uint64_t turns; /* times that it was filled */
	} spare;		/* fill.c's */
	_Atomic uint64_t dirty_files;
	unsigned in_flight;  /* fetches, revalidations, background commits */
	pthread_cond_t idle; /* in_flight reached 0 */
	bool stopping;

	struct cleaner *cleaner; /* cleaner.c's */
	struct leftovers leftovers;
	struct {
		_Atomic uint64_t fetched, files, commits, commit_failures;
	} count;
	/* Hits are counted apart, by threads: they share nothing else. */
	struct storage_hits {
		_Alignas(64) _Atomic uint64_t hits, misses;
	} hits[STORAGE_HIT_SHARDS];
};

enum {
	/* Another client's version took the place of ours: nothing is served any more. */
	FILE_REPLACED = 1,
	/* Removed or renamed over by us: serves what is cached, is never committed. */
	FILE_UNLINKED = 2,
	/* There is no object yet. Under the lock. */
	FILE_CREATED = 4,
	/* Renamed over: FILE_UNLINKED for good, while a removal may be taken back. */
	FILE_RENAMED_OVER = 8,
};

struct upload; /* an unfinished multipart upload: upload.c's */

struct cache_file {
	struct cache_storage *storage;
	struct cache_file *next_in_bucket; /* shard lock */
	_Atomic uint64_t hash;		   /* of key; under the locks that key has */
	bool in_table;			   /* shard lock */
	struct list all_link;		   /* shard lock */
	_Atomic uint32_t refs;		   /* holders, blocks, being dirty, fetches */
	_Atomic uint32_t holders;	   /* cache_file_ref(), cache_file_put() */
	_Atomic uint32_t flags;
	struct map map;

	/* Written under the lock, read by anybody. */
	_Atomic uint64_t size;	     /* bytes, as everybody sees it */
	_Atomic uint64_t base_limit; /* bytes of the base version that still show: what is not in
				      * a block and lies beyond is zero */
	_Atomic uint64_t
		validated_ns;	 /* loop_now_ns() when the base was last found to be current */
	_Atomic bool dirty;	 /* a commit is due: dirty blocks, size, mtime, or creation */
	_Atomic uint32_t writer; /* session that made it dirty; 0: see cache_file_wrote() */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a commit or a fetch ended */
	char *key;		/* changes under both locks, this and the shard's */
	struct store_meta base; /* the version below our changes; etag "" with FILE_CREATED; changes
				 * by table_set_base() */
	int64_t mtime_ns;	/* as shown */
	bool mtime_set;		/* it was set by somebody, not by a write: stored at commit */
	bool attr_dirty;	/* mtime must be committed, and nothing else changed */
	uint64_t version;

	/* What other clients stored with the object; of the base and all that follows it. Never
	 * changes once it is known: commits send from it without the lock. */
	bool properties_known;
	struct store_properties properties;

	/* Reading: fetch.c's. */
	struct list fetches;		   /* cache_fetch.file_link */
	struct revalidation *revalidation; /* under way, or NULL */

	/* Writing: write.c's, commit.c's. */
	uint64_t dirty_blocks;	/* their number, */
	uint64_t dirty_bytes;	/* and size */
	bool apart;		/* ... counted in storage.apart_bytes */
	uint64_t write_seq;	/* counts changes; dirty when > committed_seq */
	uint64_t committed_seq; /* all up to here is in the storage */
	uint64_t write_start;	/* the last run of sequential writes: where it began, */
	uint64_t write_end;	/* and how far it has come */
	uint64_t write_ns;	/* loop_now_ns() of the last write */
	uint64_t dirty_since_ns;
	struct list dirty_link;	 /* storage lock */
	_Atomic bool committing; /* by one thread at a time */
	bool replacing;		 /* the request that makes a new version is under way */
	bool streaming;		 /* upload_stream() is queued or runs */
	bool commit_wanted;	 /* at once, by somebody who needs what an upload holds */
	/* The commit is one in the background: it gives up when memory is short, and lets others
	 * go first, that may need none. With committing. */
	bool background;
	uint64_t starved_ns;	 /* not before that it is tried again, then */
	uint64_t scarce_ns;	 /* when a block of a growing region was not to be had; or 0 */
	bool cleaning;		 /* the cleaner has handed it to a worker; storage lock */
	uint64_t due_ns;	 /* when the cleaner looks at it; storage lock */
	uint64_t urgent_ns;	 /* ... when memory is short */
	unsigned commit_waiters; /* in cache_commit() for a commit that runs */
	struct upload *upload;	 /* or NULL */
	bool lost; /* it went with bytes that are nowhere else: nothing can be fetched any more */
	int error; /* of the last commit in the background */
	uint32_t error_count; /* for cache_file_error() */
	int failure;	      /* the error of the last commit that failed, whoever asked for it */
	unsigned failures;    /* commits that failed in a row: the backoff, */
	uint64_t failed_ns;   /* counted from the last; see file_retry_ns() */
	/* Writes of ours of which is not known whether they were done: the last two. */
	struct {
		char write_id[STORE_WRITE_ID_MAX];
		int64_t mtime_ns; /* that it was to store */
	} doubt[2];

	/* With cleaning, from then on constant. */
	struct {
		struct work work;
		bool urgent, is_long;
	} cleaner_job;
};

/* ---- table.c ---- */

static inline bool file_is(const struct cache_file *f, uint32_t flag)
{
	return atomic_load_explicit(&f->flags, memory_order_acquire) & flag;
}

/* A reference that is not a holder's: of the cache itself. */
struct cache_file *file_ref(struct cache_file *f);
void file_put(struct cache_file *f);

int table_init(struct cache_storage *s);
void table_exit(struct cache_storage *s);
/* Every file there is, referenced, one after the other: @fn puts it. */
void table_each(struct cache_storage *s, void (*fn)(struct cache_file *f, void *arg), void *arg);
/* Takes @f out, so that its key leads elsewhere. Lock of the file not needed. */
void table_remove(struct cache_file *f);
/* Undoes it. When its key leads to another file by now, that is replaced, *@former, for
 * table_forget(); unless it has changes: false. */
bool table_restore(struct cache_file *f, struct cache_file **former);
/* What is cached of a file that was replaced serves nobody; puts it. Accepts NULL. No lock held. */
void table_forget(struct cache_file *f);
/* Moves @f to @key (taken over), replacing whoever is there. Under the file's lock. */
void table_rename(struct cache_file *f, char *key);

/* A commit or a revalidation gave @f another base. Under the file's lock. */
void table_set_base(struct cache_file *f, const struct store_meta *meta);

/* ---- Blocks of a file; under its lock. read.c ---- */

static inline struct pool *file_pool(const struct cache_file *f)
{
	return f->storage->cache->pool;
}

static inline void storage_count_dirty(struct cache_storage *s, int64_t bytes)
{
	atomic_fetch_add_explicit(&s->dirty_bytes, (uint64_t)bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->cache->dirty_bytes, (uint64_t)bytes, memory_order_relaxed);
}

/* What may be dirty of @s by now, bytes: less when others have much that is. Any thread. */
uint64_t storage_dirty_max(const struct cache_storage *s);

/* So many bytes of @f more are dirty, or less. */
static inline void file_count_dirty(struct cache_file *f, int64_t bytes)
{
	struct cache_storage *s = f->storage;

	f->dirty_bytes += (uint64_t)bytes;
	if (f->apart) {
		atomic_fetch_add_explicit(&s->apart_bytes, (uint64_t)bytes, memory_order_relaxed);
	} else {
		storage_count_dirty(s, bytes);
	}
}

/* pool_get() for @f, under its lock. */
struct block *file_block_get(struct cache_file *f, unsigned class);

/*
 * A new block for @place, in the map, pinned once, clean, with nothing valid in it: its bytes
 * are whatever they were. NULL: no memory now.
 */
struct block *file_block_new(struct cache_file *f, const struct map_place *place);

/* The block at @offset, pinned, or NULL; *@place as map_find(). Also without the lock. */
struct block *file_block_find(struct cache_file *f, uint64_t offset, struct map_place *place);

/* Bytes of the base version in the block at @place: the rest of it is zero unless written. */
uint32_t file_base_in(const struct cache_file *f, const struct map_place *place);

/* Makes valid, as zeros, what lies beyond the base and was not written, where that is next to
 * what is valid (or all of the block). Not while FILLING. */
void file_block_zero_tail(struct cache_file *f, struct block *b, const struct map_place *place);

/* Drops a block that is pinned once (by the caller) and not SEALED or FILLING: out of the map
 * and back to the pool, or later, by the evictor, when others have it pinned still (it is out
 * of the map in any case). Dirty accounting is the caller's. */
void file_block_drop(struct cache_file *f, struct block *b);

/* Drops all blocks that may be: not those being filled or sent, and dirty ones only when
 * @dirty, whose accounting ends with that, also of those being filled. Takes the lock. */
void file_purge(struct cache_file *f, bool dirty);

/*
 * When every slab has something dirty in it, of a storage that is dead perhaps, there are small
 * blocks, but none of the larger ones, for as long as that lasts: a region is to be in small blocks
 * then. Both under the lock.
 *
 * The shape for a block at @offset that is not there, as map_choose().
 */
enum map_shape file_shape(struct cache_file *f, uint64_t offset, uint64_t size, bool random);
/* There was no block at @offset. Whether its region is empty now, and can begin anew in small
 * blocks: what is clean in it goes, but not if something has to stay. */
bool file_region_renew(struct cache_file *f, uint64_t offset);

/* pool_evict_fn */
struct pool_owner *file_evict(void *arg, struct block *b);

/* The size of a region, cache/map.h; parts are aligned to it: no block is in two of them. */
static inline uint64_t file_region(const struct cache_file *f)
{
	return 1ull << f->storage->cache->layout.region_shift;
}

static inline uint64_t file_region_floor(const struct cache_file *f, uint64_t offset)
{
	return offset & ~(file_region(f) - 1);
}

/* Of a storage whose files are changed in place: inplace.c. */
static inline bool file_in_place(const struct cache_file *f)
{
	return store_caps(f->storage->config.store)->write_range;
}

/* ---- fetch.c ---- */

/*
 * Has what is missing of [@start, @end) fetched, under the lock of the file. @must: bytes
 * from @start that somebody waits for; the rest is read-ahead, given up when memory is short.
 * @random: small blocks where a region has none yet. 0, also when nothing was missing;
 * -EAGAIN when there is no memory for the first of it.
 */
int fetch_range(struct cache_file *f, uint64_t start, uint64_t end, uint64_t must, bool random);

/* Has @wait woken (wait->wake(), without the lock, on the transfer loop) when the fetch that
 * fills @b, which is FILLING, has the bytes that it is for, or failed. Under the file's lock. */
void fetch_park(struct block *b, struct cache_wait *wait);

/*
 * Returns with the bytes [@start, @end) valid in blocks, or holes, at this moment: for writers
 * and commits, on workers. The lock is held at the call and on return, and dropped in
 * between; other things may have changed meanwhile. 0 or negative errno; when there is no memory
 * for them, @patient waits for that up to wait_timeout, else -ENOBUFS.
 */
int fetch_wait(struct cache_file *f, uint64_t start, uint64_t end, bool patient);

/* Waits until no fetch is under way at @start or beyond; the lock as above. */
void fetch_settle(struct cache_file *f, uint64_t start);

/* Wakes all of @list, cache_wait.link, which is the caller's. No lock held. */
void fetch_wake(struct list *list, int error);
/* What is being fetched of [@start, @end) is not what is there any more: it is dropped when it
 * arrives, and who waits for it looks again. Under the lock. */
void fetch_obsolete(struct cache_file *f, uint64_t start, uint64_t end);

/* ---- revalidate.c ---- */

/* As fetch_park(), when the base may be another by now: asks the storage, and wakes @wait. Under
 * the lock. -ENOMEM. */
int fetch_revalidate(struct cache_file *f, struct cache_wait *w);
/* Whether the time that the base is believed in has run out. */
bool fetch_expired(const struct cache_file *f);
/* The storage does not have the base, @etag under @key, any more: 0 when that is our own doing, so
 * that it is worth to look again; -EIO when it may be, and the next commit will know; or -ESTALE.
 * Under the lock. */
int fetch_base_lost(struct cache_file *f, const char *etag, const char *key);

/* ---- inplace.c ---- */

/* The file was found to be @meta, by somebody who knew it as @etag. Under the lock. */
void inplace_found(struct cache_file *f, const char *etag, const struct store_meta *meta);

/* ---- fill.c ---- */

/* The spare memory of @s, whose configuration is there. 0 or negative errno. */
int fill_init(struct cache_storage *s);
void fill_exit(struct cache_storage *s);

/* ---- storage.c ---- */

/* Counts what must end before the storage can go. */
void storage_begin(struct cache_storage *s);
void storage_end(struct cache_storage *s);

/* There may be room for who waits for it. Any thread, cheap when nobody does. */
void storage_room(struct cache_storage *s);
/* Waits for storage_room() or some milliseconds. False when @deadline_ns has passed. No lock
 * held. */
bool storage_room_wait(struct cache_storage *s, uint64_t deadline_ns);

/* ---- sweep.c ---- */

/* Commits all that was dirty at the call, trying for @timeout_ns; returns the number of files with
 * which that did not succeed. May block. */
unsigned storage_write_out(struct cache_storage *s, uint64_t timeout_ns);

/* ---- cleaner.c ---- */

struct err *cleaner_start(struct cache_storage *s);
void cleaner_stop(struct cache_storage *s);
/* Look at the dirty files now: too much is dirty of @s, or somebody is @starved: he found no
 * memory, however little of it is dirty, and of whichever storage. Any thread, no lock held. */
void cleaner_kick(struct cache_storage *s, bool starved);
/* What is dirty may be due at other times than it was. Any thread. */
void cleaner_look_anew(struct cache_storage *s);
/* There is something to look at. With storage.lock. */
void cleaner_wake(struct cache_storage *s);
/* Commit @f now, in the background. Under its lock. */
void cleaner_commit(struct cache_file *f);

/* @f has changes from now on (holds a reference as long), or none any more. Under its lock. */
void file_dirty_begin(struct cache_file *f);
void file_dirty_end(struct cache_file *f);

/* ---- life.c ---- */

/* Nobody holds the file any more, and it is unlinked: what is dirty of it goes, too, which
 * no eviction would take. Takes the lock. */
void file_abandon(struct cache_file *f);

/* ---- upload.c ---- */

/*
 * Whether what is in no block of [@start, @end) may be in an unfinished upload of ours only, so
 * that nothing can be fetched there until that is committed; asks for this to be done, for
 * those who then try again. Under the lock.
 */
bool upload_holds(struct cache_file *f, uint64_t start, uint64_t end);

#endif
