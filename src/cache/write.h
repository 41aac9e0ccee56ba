/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the writing half of the cache: from dirty blocks to an object.
 *
 *	write.c		into blocks; dirty accounting, copies of blocks that are being sent
 *	truncate.c	size
 *	gather.c	the bytes of a range, held still, as an iovec array
 *	fill.c		those that have to be read first, and memory for that
 *	commit.c	one object in one request; which way a commit goes; what follows it
 *	upload.c	multipart: the session, its parts in flight, streaming
 *	plan.c		which bytes are sent, and which copied within the storage
 *	conflict.c	somebody else changed the object
 *	inplace.c	files that are no objects: commits that write into them
 *	cleaner.c	when, in the background; sweep.c all of a storage at once
 *	leftover.c	write sessions that are not committed: has them aborted
 *	life.c		unlink, rename, errors
 *
 * Threads: all functions on workers (they may block) or, where they say so, anywhere; all
 * "under the lock" is that of the file. file.committing makes one thread the only one
 * that commits a file, and is what keeps SEALED blocks SEALED: while it is false, no block of
 * the file is.
 */
#ifndef OVFS_CACHE_WRITE_H
#define OVFS_CACHE_WRITE_H

#include "cache/file.h"

/* ---- write.c; under the lock ---- */

/* [@from, @to) of @b is what the storage does not have. */
void block_make_dirty(struct cache_file *f, struct block *b, const struct map_place *place,
		      uint32_t from, uint32_t to);
/* The storage has all of @b. */
void block_make_clean(struct cache_file *f, struct block *b);

/* Something changed, now: the modification time and what is due follow. */
void file_changed(struct cache_file *f);

/* Whether a hole may end at @end, of a file that ends before that: it is not too much to send. */
bool file_may_have_hole(const struct cache_file *f, uint64_t end);

/* The largest size of a file that the storage can hold, bytes. Any thread. */
uint64_t storage_size_max(const struct cache_storage *s);

static inline const struct store_caps *file_caps(const struct cache_file *f)
{
	return store_caps(f->storage->config.store);
}

/* ---- gather.c ---- */

struct gather_block {
	struct block *block; /* pinned, SEALED */
	uint64_t offset;     /* of its first byte, in the file */
	bool dirty;	     /* and all that is dirty of it is in the range */
};

struct gather {
	struct iovec *iov;
	size_t segments, iov_room;
	struct gather_block *held;
	size_t count, held_room;
	uint64_t missing; /* bytes that GATHER_ZEROS made up */

	/* For GATHER_SPARE: the base's bytes [spare_start, spare_end). fill.c's */
	unsigned char *spare;
	uint64_t spare_start, spare_end;
};

enum gather_missing {
	/* Has missing bytes of the base fetched, dropping the lock meanwhile; -ENOBUFS when the
	 * pool has no memory for them: it is not waited for */
	GATHER_FETCH,
	GATHER_FAIL,  /* -ENODATA */
	GATHER_ZEROS, /* counts them, and takes zeros */
	GATHER_SPARE, /* takes them from gather.spare */
};

/*
 * Describes [@start, @end) of the file, as it is at one moment, in @g, which is empty, and
 * seals and pins the blocks. Under the lock. 0, or -ENOMEM, or what fetching said; then @g is
 * empty.
 */
int gather_range(struct cache_file *f, struct gather *g, uint64_t start, uint64_t end,
		 enum gather_missing how);

enum gather_end {
	GATHER_KEEP,  /* it failed, or is not known: what was dirty stays so */
	GATHER_CLEAN, /* the storage has it: what was not replaced since is clean */
};
/*
 * What is dirty from *@offset on, at most @room ranges of the file in @range, *@count of them, and
 * not much more than @max bytes: in @g, which is empty, one after the other, sealed and pinned.
 * Moves *@offset behind it. Under the lock. -ENOMEM: @g is empty.
 */
int gather_dirty(struct cache_file *f, struct gather *g, uint64_t *offset, uint64_t max,
		 struct store_range *range, size_t room, size_t *count);

/* Lets the blocks of @g go, and empties it. Under the lock. */
void gather_release(struct cache_file *f, struct gather *g, enum gather_end end);

/* Moves the blocks that are dirty from @g to @to (they stay sealed) and lets the others go.
 * On lack of memory returns -ENOMEM and has let all go, dirty still. Under the lock. */
int gather_retain(struct cache_file *f, struct gather *g, struct gather *to);

/* The arrays; the blocks were released. */
void gather_free(struct gather *g);

/* ---- commit.c ---- */

/* A request that made a new version of the object has succeeded. */
struct commit_done {
	const struct store_meta *meta; /* as the service told it */
	uint64_t size;
	uint64_t seq;	/* what write_seq was when all of it was taken; 0: it was not all */
	bool set_mtime; /* stored with it */
	int64_t mtime_ns;
	const char *write_id;
};
/* It is the base from now on. Blocks were released before. Under the lock. */
void commit_settle(struct cache_file *f, const struct commit_done *done);

/* store_call() for @f, whose lock is dropped meanwhile. @replaces: makes a new version. */
int commit_call(struct cache_file *f, struct store_op *op, bool replaces);
/* For the PUT or BEGIN @op: what other clients stored with the object, asked for when nobody has
 * said it yet. 0, or what went wrong with that. */
int commit_properties(struct cache_file *f, struct store_op *op);
/* life.c: of the version @etag. Under the lock. */
void file_set_properties(struct cache_file *f, const char *etag, const struct store_properties *p);

/* The condition of a PUT or COMMIT of @f, as its base and the service have it. @etag is
 * what op->if_match points to. Under the lock. */
void commit_condition(struct cache_file *f, struct store_op *op, char etag[static STORE_ETAG_MAX]);

/* Remembers the write @op, which has ended, when it is not known whether it was done. Under the
 * lock. */
void commit_doubt(struct cache_file *f, const struct store_op *op, const char *write_id);

/* A commit, or a part of a stream, failed: negative errno. Under the lock. */
void file_failed(struct cache_file *f, int error);
/* When the next attempt in the background may begin: after a pause that doubles with each failure;
 * @urgent: when writers wait for memory, a short one. Under the lock. */
uint64_t file_retry_ns(const struct cache_file *f, bool urgent);

/* A commit of @f failed, which is noted, and logged; in the @background left for
 * cache_file_error(). What a guest is told. Under the lock. */
int commit_failed(struct cache_file *f, int error, bool background);

/* ---- inplace.c ---- */

/* All that is dirty, by WRITEs. 0 or negative errno. Under the lock, with committing. */
int inplace_commit(struct cache_file *f);

/* ---- upload.c ---- */

/* Brings all of the file to the storage with a write session, going on with what was streamed.
 * Under the lock, with committing. 1: a round succeeded, what remains takes another. */
int upload_finish(struct cache_file *f, bool conditional);

/* After a write, before which the run ended at @former_end: begins to stream when a part is
 * complete. Under the lock, any thread. */
void upload_poke(struct cache_file *f, uint64_t former_end);

/* Without write-back: whether more is waiting to be sent than a stream is to take of memory. Under
 * the lock. */
bool upload_is_behind(const struct cache_file *f);

/* Bytes. How far apart, at most, requests of one sequential writer are that are under way at one
 * time. */
#define UPLOAD_RUN_SLACK (64ull << 20)

/* Whether a write up to @end may fill a gap that the stream waits for: not to be held up by those
 * who overtook it. Under the lock. */
bool upload_waits_for(const struct cache_file *f, uint64_t end);

/* The file is cut off at @size: parts behind it go. Under the lock, not while committing. False
 * when what is left cannot be had any more but by committing first. */
bool upload_cut(struct cache_file *f, uint64_t size);

/* Ends the upload: nothing of it will be committed. @abort: its session goes, too; else that
 * has ended. Under the lock, not while somebody else is committing. */
void upload_discard(struct cache_file *f, bool abort);

/* Whether bytes that are in no block are in the upload only. Under the lock. */
bool upload_let_go(const struct cache_file *f);

/* Whether there is none, or nothing in it. Under the lock. */
bool upload_is_empty(const struct cache_file *f);

/* Whether @write_id is that of the upload. Under the lock. */
bool upload_is(const struct cache_file *f, const char *write_id);

/* Bytes of a part with @index, at least; whole regions. */
uint64_t upload_part_size(const struct cache_storage *s, uint32_t index);

/* ---- conflict.c ---- */

#define CONFLICT_ATTR "-" /* commit_doubt() of a COPY that was to set the time */

/* A condition of a commit did not hold (-ESTALE, -EEXIST). Finds out whose version it is. Under the
 * lock, with committing. 0: try again, *@conditional says how. Else the error of the commit; the
 * file may be FILE_REPLACED by then. */
int conflict_resolve(struct cache_file *f, bool *conditional);

/* His version stays, nothing of ours is left, and whoever asks gets @error. Under the lock,
 * which it drops for a moment, with committing. */
void conflict_give_up(struct cache_file *f, int error);

/* Another version took the place of ours, which has changes: they are kept beside it where that is
 * due, and the file is given up. -ESTALE, or why they could not be kept, and then it is to be tried
 * again. Under the lock, with committing. */
int conflict_lost(struct cache_file *f);

/* Before a commit: settles what commit_doubt() left. 0 or negative errno. */
int conflict_settle_doubt(struct cache_file *f);

#endif
