/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-ahead: what to fetch before it is asked for. Policy alone: it looks at requests and
 * says what to do; fetching is the caller's (read.c). readahead.c explains it.
 *
 * The state is a struct cache_stream, one for each open handle. Threads: any, a mutex in the
 * stream covers it, the innermost of all locks, held for some tens of nanoseconds.
 */
#ifndef OVFS_CACHE_READAHEAD_H
#define OVFS_CACHE_READAHEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/cache.h"

/* How many sequential readers of one handle are told apart. */
#define READAHEAD_SLOTS 8

/*
 * [@start, @end) is to be fetched besides the request; nothing when @end <= @start.
 * With @start beyond the request's offset: now, whether the request hits or not. With @start
 * at the offset: only if it misses, and then in one with what is missing of it.
 */
struct readahead_plan {
	uint64_t start, end; /* bytes in the file, within its size */
	bool random;	     /* small blocks: too little of what lies around will be read soon */
};

/*
 * Whether the request continues nobody, as far as can be seen without the lock. If it hits, too, it
 * need not be noted: neither readahead_next() nor anything else is called for it. Writes to nothing
 * that threads share.
 */
bool readahead_is_stray(const struct cache_stream *stream, uint64_t offset, uint64_t length);

/*
 * A request for @length bytes at @offset of a file of @file_size bytes. @max: bytes that
 * may be fetched ahead of the reader; 0: none, *@out only says whether it is random.
 */
void readahead_next(struct cache_stream *stream, uint64_t offset, uint64_t length,
		    uint64_t file_size, uint64_t max, struct readahead_plan *out);

/*
 * The byte at @offset, of a request that was judged before, was neither there nor on its way, and
 * the caller is going to fetch [@offset, @end). When it should have been there, as it was fetched
 * ahead, then it has been given up or evicted since: memory is short.
 */
void readahead_missed(struct cache_stream *stream, uint64_t offset, uint64_t end);

/* The byte at @offset, of a request that was judged before, is on its way: whoever asked has to
 * wait for it. */
void readahead_waited(struct cache_stream *stream, uint64_t offset);

#endif
