/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a commit has to read before it can send: fill.c.
 *
 * All functions but init and exit: under the lock of the file, by the thread that has
 * file.committing, on a worker.
 */
#ifndef OVFS_CACHE_FILL_H
#define OVFS_CACHE_FILL_H

#include "cache/write.h"

/* Memory for what is read, from fill_gather() to fill_end(): zeroed in between. */
struct fill {
	uint64_t reserved; /* bytes of the pool, in storage.filling */
	bool spare;	   /* has the storage's spare memory */
	/* The range ends where the file does, wherever that is by the time it is all there. */
	bool whole;
};

/*
 * gather_range() of a range of which something is not here: reads it, which drops the lock, and
 * keeps what it was read into for as long as @fill has it. @g is empty. 0, or negative errno, then
 * @g and @fill are empty:
 *
 *	-EMSGSIZE	there is no room for it in the pool, and the spare memory is too small:
 *			ask again for a range of fill_spare_bytes() at most
 *	-ENOBUFS	not @patient, and there is no memory now
 *	-ETIMEDOUT	patient, and for wait_timeout nobody has got on
 *	-ECANCELED	the file is removed
 */
int fill_gather(struct cache_file *f, struct fill *fill, struct gather *g, uint64_t start,
		uint64_t *end, bool patient);

/* What was gathered is sent, or given up. */
void fill_end(struct cache_file *f, struct fill *fill);

/* Has the pool read what is missing of a range, without waiting for it, when there is memory. */
void fill_ahead(struct cache_file *f, uint64_t start, uint64_t length);

/* Bytes of the spare memory: whole regions, and at least what the service takes as a part. */
uint64_t fill_spare_bytes(const struct cache_storage *s);

#endif
