/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A stream of requests, each of which begins about where one before it ended, is a
 * sequential reader. A handle has up to READAHEAD_SLOTS of them: threads of one process,
 * the columns of a table. A request belongs to the reader that it continues:
 *
 *	behind		ends a bit back from where he is: reads again, or comes late,
 *			because several queues carry one guest's requests
 *	on		where he is, or a bit further: skips something, or comes early
 *
 * "A bit" is twice the request, or a fourth of what he has read, up to 1 MiB. What belongs
 * to nobody is a new reader, in the place of the one unheard of for longest, those with a
 * single request first: random accesses do not push out a stream. Nothing is fetched ahead of
 * his first request, except at the start of the file, or in what was fetched for another:
 * then he may be that one, who skipped, and the rest of it is his too.
 *
 * The window is how far ahead of him things are fetched. It grows with his run, which is
 * what he read, less what he skipped and did not come back for: 4 times that up to 256 KiB,
 * then twice that, up to what the configuration allows. So whoever stops early has caused at
 * most a few times what he read to be fetched in vain, and yet the window of a long reader
 * grows by a factor of three for each window that he passes. Who had to wait for what was
 * already on its way to him is faster than the storage, or far away from it: then it is 4 times
 * his run all the time, and the factor is five. He waits for one round trip of each window.
 *
 *	          offset
 *	    run     |  request |         window          |
 *	============|##########|============|............|
 *	                                  ahead       new ahead
 *
 * Fetching begins with a miss: the same GET fetches a window behind the request. From then on
 * ahead says how far fetching got, and each time that less than three fourths of a window
 * are left, the window, as it is by now, is filled up again: so that a fast reader finds
 * his requests done, or at least under way, and several GETs run in parallel. Who hits
 * without anything fetched for him (ahead is behind him) is left alone, takes no lock of the
 * file, and costs nothing.
 *
 * Blocks are small (random) as long as the window is: the head of a large file is looked at
 * more often than all of it.
 *
 * Ends are rounded up, to a power of two of about a fourth of the window, at most 8 MiB, so
 * that blocks are fetched whole and GETs have the sizes they should have.
 *
 * When a request misses what was fetched ahead, memory is too short for the windows that there
 * are: fetching was given up or the blocks are evicted again. The reader's limit becomes
 * half of his window, and grows back by a sixteenth with each time that it is filled.
 *
 * Files up to 256 KiB are fetched from where they are first touched to their end, and files up
 * to 1 MiB when they are read from the start.
 *
 * Requests that are nobody's and hit are not even noted (readahead_is_stray()): queues that read
 * one file at random all write to its stream otherwise, and wait for its lock. Where readers are is
 * kept a second time for that, to be looked at without the lock; what is seen there may be a
 * mixture of old and new, upon which a request is noted in vain or missing in a run. A new reader
 * of what is cached is noted with his second request on one queue, by what each thread remembers
 * of its last stray request.
 */
#include "cache/readahead.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

#define WINDOW_SLOW (256 * KIB) /* up to here the window is 4 times the run */
#define WINDOW_MIN (16 * KIB)	/* no GET for less */
#define NEAR_MAX (1 * MIB)
#define ALIGN_MIN (4 * KIB)
#define ALIGN_MAX (8 * MIB)
#define SMALL_FILE (256 * KIB)
#define SMALL_FILE_FROM_START (1 * MIB)
/* Requests and windows from here on are worth large blocks. */
#define LARGE (1 * MIB)

struct reader {
	uint64_t position; /* end of his furthest request */
	uint64_t run;	   /* bytes read, less those skipped */
	uint64_t skipped;
	uint64_t from;	/* fetched for him from here ... */
	uint64_t ahead; /* ... up to here; 0: nothing */
	uint64_t limit; /* of the window, as memory is short */
	uint64_t used;	/* clock of the stream; 0: free */
	unsigned requests;
	bool waited; /* for what was fetched for him */
};

/* Of a reader, for who has no lock. */
struct reader_hint {
	_Atomic uint64_t position, ahead; /* NOWHERE: there is no reader */
	_Atomic uint64_t bit;		  /* of what near() says, what comes from his run */
};
#define NOWHERE UINT64_MAX

struct cache_stream {
	/* On cache lines of their own: random hits only read them. */
	_Alignas(64) struct reader_hint hint[READAHEAD_SLOTS]; /* written with the lock */
	_Alignas(64) pthread_mutex_t lock;
	/* lock */
	uint64_t clock;
	struct reader reader[READAHEAD_SLOTS];
};

struct cache_stream *cache_stream_new(void)
{
	struct cache_stream *stream = aligned_alloc(_Alignof(struct cache_stream), sizeof(*stream));

	if (!stream)
		return NULL;
	memset(stream, 0, sizeof(*stream));
	pthread_mutex_init(&stream->lock, NULL);
	for (unsigned i = 0; i < READAHEAD_SLOTS; i++)
		atomic_init(&stream->hint[i].position, NOWHERE);
	return stream;
}

void cache_stream_free(struct cache_stream *stream)
{
	if (!stream)
		return;
	pthread_mutex_destroy(&stream->lock);
	free(stream);
}

static uint64_t sub_to_0(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t near(const struct reader *r, uint64_t length)
{
	uint64_t bit = MAX(2 * length, r->run / 4);

	return MIN(bit, NEAR_MAX);
}

/* How far the request is from continuing @r, or UINT64_MAX. */
static uint64_t reader_distance(const struct reader *r, uint64_t offset, uint64_t end)
{
	uint64_t bit = near(r, end - offset);

	if (!r->used)
		return UINT64_MAX;
	if (offset >= r->position)
		return offset - r->position <= bit ? offset - r->position : UINT64_MAX;
	return r->position - offset <= end - offset + bit ? r->position - offset : UINT64_MAX;
}

/* What is @r by now. With the lock. */
static void reader_show(struct cache_stream *stream, const struct reader *r)
{
	struct reader_hint *hint = &stream->hint[r - stream->reader];

	atomic_store_explicit(&hint->position, r->position, memory_order_relaxed);
	atomic_store_explicit(&hint->ahead, r->ahead, memory_order_relaxed);
	atomic_store_explicit(&hint->bit, near(r, 0), memory_order_relaxed);
}

/* As reader_distance(), or in what was fetched for him. */
static bool hint_is_near(const struct reader_hint *hint, uint64_t offset, uint64_t length)
{
	uint64_t position = atomic_load_explicit(&hint->position, memory_order_relaxed);
	uint64_t bit = MAX(2 * length, atomic_load_explicit(&hint->bit, memory_order_relaxed));

	bit = MIN(bit, NEAR_MAX);
	if (position == NOWHERE)
		return false;
	if (offset < position)
		return position - offset <= length + bit;
	return offset - position <= bit ||
	       offset < atomic_load_explicit(&hint->ahead, memory_order_relaxed);
}

bool readahead_is_stray(const struct cache_stream *stream, uint64_t offset, uint64_t length)
{
	/* The stream may be gone and another in its place: then a request is noted in vain. */
	static _Thread_local struct {
		const struct cache_stream *stream;
		uint64_t end;
	} last;
	uint64_t distance;

	if (offset == 0)
		return false;
	for (unsigned i = 0; i < READAHEAD_SLOTS; i++)
		if (hint_is_near(&stream->hint[i], offset, length))
			return false;
	distance = offset > last.end ? offset - last.end : last.end - offset;
	if (stream == last.stream && distance <= 2 * length)
		return false;
	last.stream = stream;
	last.end = offset + length;
	return true;
}

static struct reader *reader_find(struct cache_stream *stream, uint64_t offset, uint64_t end)
{
	uint64_t least = UINT64_MAX;
	struct reader *best = NULL;

	for (unsigned i = 0; i < READAHEAD_SLOTS; i++) {
		struct reader *r = &stream->reader[i];
		uint64_t distance = reader_distance(r, offset, end);

		if (distance < least) {
			best = r;
			least = distance;
		}
	}
	return best;
}

static struct reader *reader_new(struct cache_stream *stream, uint64_t offset)
{
	struct reader *best = &stream->reader[0];
	uint64_t ahead = 0;

	for (unsigned i = 0; i < READAHEAD_SLOTS; i++) {
		struct reader *r = &stream->reader[i];
		bool single = r->requests <= 1, best_single = best->requests <= 1;

		if (single != best_single ? single : r->used < best->used)
			best = r;
		if (offset >= r->position && offset < r->ahead)
			ahead = r->ahead;
	}
	*best = (struct reader){
		.position = offset, .from = offset, .ahead = ahead, .limit = UINT64_MAX
	};
	/* Who begins at the start is likely to go on. */
	if (offset == 0)
		best->run = WINDOW_SLOW / 4;
	return best;
}

/* The request is @r's. */
static void reader_advance(struct reader *r, uint64_t offset, uint64_t end)
{
	uint64_t gap = sub_to_0(offset, r->position), late = sub_to_0(r->position, offset);

	r->requests++;
	/* What was skipped is being read after all. */
	late = MIN(late, end - offset);
	late = MIN(late, r->skipped);
	r->skipped -= late;
	r->run += 2 * late;
	if (end <= r->position)
		return;
	r->skipped += MIN(gap, r->run);
	r->run -= MIN(gap, r->run);
	r->run += end - MAX(offset, r->position);
	r->position = end;
}

static uint64_t reader_window(const struct reader *r, uint64_t max)
{
	uint64_t run = MIN(r->run, UINT64_MAX / 4);
	uint64_t window = 4 * run;

	if (!r->waited && window > WINDOW_SLOW)
		window = MAX(2 * run, WINDOW_SLOW);
	window = MIN(window, r->limit);
	return MIN(window, max);
}

/* Where a window that begins at @from ends. */
static uint64_t window_end(uint64_t from, uint64_t window, uint64_t file_size)
{
	uint64_t align = ALIGN_MIN, end;

	if (window >= sub_to_0(file_size, from))
		return file_size;
	while (align * 8 <= window && align < ALIGN_MAX)
		align *= 2;
	end = (from + window + align - 1) & ~(align - 1);
	return MIN(end, file_size);
}

/* What to do for @r, after his request at @offset. */
static void reader_plan(struct reader *r, uint64_t offset, uint64_t file_size, uint64_t max,
			struct readahead_plan *out)
{
	uint64_t window = reader_window(r, max);

	if (window < WINDOW_MIN)
		return;
	out->end = window_end(r->position, window, file_size);
	if (r->ahead < r->position) {
		/* Only if the request misses: what was fetched for him is behind him. */
		out->start = offset;
	} else if (r->ahead >= file_size || r->ahead - r->position > window / 4 * 3) {
		out->start = out->end = 0;
	} else {
		out->start = r->ahead;
		r->ahead = MAX(out->end, r->ahead);
		if (r->limit < max)
			r->limit += r->limit / 16;
	}
}

void readahead_next(struct cache_stream *stream, uint64_t offset, uint64_t length,
		    uint64_t file_size, uint64_t max, struct readahead_plan *out)
{
	uint64_t end = offset + MIN(length, sub_to_0(file_size, offset));
	struct reader *r;
	bool known = true;

	*out = (struct readahead_plan){ .random = false };
	if (end <= offset)
		return;
	pthread_mutex_lock(&stream->lock);
	r = reader_find(stream, offset, end);
	if (!r) {
		r = reader_new(stream, offset);
		known = offset == 0 || r->ahead > 0;
	}
	r->used = ++stream->clock;
	reader_advance(r, offset, end);
	if (file_size <= MIN(max, offset == 0 ? SMALL_FILE_FROM_START : SMALL_FILE)) {
		*out = (struct readahead_plan){ .start = offset, .end = file_size };
	} else {
		out->random = length < LARGE && reader_window(r, UINT64_MAX) < LARGE;
		if (known)
			reader_plan(r, offset, file_size, max, out);
	}
	reader_show(stream, r);
	pthread_mutex_unlock(&stream->lock);
}

/* Whose request for the byte at @offset is, one that was judged before: his position is the end of
 * it, or a bit beyond. With the lock. */
static struct reader *reader_of(struct cache_stream *stream, uint64_t offset)
{
	struct reader *r = NULL;

	for (unsigned i = 0; i < READAHEAD_SLOTS; i++) {
		struct reader *other = &stream->reader[i];

		if (other->used && other->position > offset &&
		    (!r || other->position < r->position))
			r = other;
	}
	return r;
}

void readahead_waited(struct cache_stream *stream, uint64_t offset)
{
	struct reader *r;

	pthread_mutex_lock(&stream->lock);
	r = reader_of(stream, offset);
	if (r && offset > r->from && offset < r->ahead)
		r->waited = true;
	pthread_mutex_unlock(&stream->lock);
}

void readahead_missed(struct cache_stream *stream, uint64_t offset, uint64_t end)
{
	struct reader *r;

	pthread_mutex_lock(&stream->lock);
	r = reader_of(stream, offset);
	if (r && offset >= r->from) {
		if (offset < r->ahead)
			r->limit = MAX(reader_window(r, UINT64_MAX) / 2, WINDOW_MIN);
		else
			r->from = offset;
		r->ahead = end;
		reader_show(stream, r);
	}
	pthread_mutex_unlock(&stream->lock);
}
