/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When files are committed without anybody asking for it.
 *
 * The dirty files of a storage are a list, those first that nobody has looked at for
 * longest. A thread of its own looks at the first ones: each has a time at which it is due, and
 * is handed to the workers then, a few at a time. A worker looks closer, under the lock of the
 * file:
 *
 *	with write-back, a file is committed when it has been dirty for write_back_delay; one
 *	that is being streamed, when nothing was written to it for that long: its data is on the
 *	way, and a commit would mean to copy it all for the next one;
 *
 *	without, the same when nothing was written for that long: whoever wrote has
 *	not closed it, and may never do so;
 *
 *	when memory is short, at once, but not what a stream is sending already, as long as it
 *	goes on: when the dirty share is near its limit, and as long as somebody, of whichever
 *	storage, finds no memory, be ever so little of it dirty (one dirty block keeps a slab
 *	what it is);
 *
 *	after a failure not before its pause is over, which is the first thing to look at.
 *
 * Who was looked at goes to the end of the list. One look goes over some files only, and the next
 * one on from there, so that thousands of files that fail do not hide one that could be
 * written. Nor may files that are long on their way, for they are mostly zeros that have to be
 * sent, take all workers: some are for others.
 *
 * The same thread sees to what leftover.c has to try again, and to a pool that got smaller.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/loop.h"
#include "base/util.h"
#include "cache/write.h"

#define NSEC_PER_SEC 1000000000ull

/* Files that are committed in the background at one time; workers are left for others. */
#define CLEANER_JOBS 8

/* Files that one look goes over. */
#define CLEANER_SCAN 256

/* Until the next look, when there are more files. */
#define CLEANER_PACE_NS (NSEC_PER_SEC / 500)

/* Jobs for files with so many bytes to send that were never in memory. */
#define CLEANER_LONG_JOBS 2
#define CLEANER_LONG (1ull << 30)

/* Until the next look at what is being streamed, when memory is short. */
#define CLEANER_SHORT_NS (NSEC_PER_SEC / 20)

/* Who finds no memory says so again before that is over. */
#define CLEANER_STARVED_NS (NSEC_PER_SEC / 10)

/* A stream that nothing was written to for so long, when memory is short, may be waiting for
 * memory that only its commit gives back. */
#define CLEANER_STREAM_NS (NSEC_PER_SEC / 5)

/* Until the next look at what a smaller pool could not give back yet. */
#define CLEANER_TRIM_NS (NSEC_PER_SEC / 10)

struct cleaner {
	struct cache_storage *storage;
	pthread_t thread;
	pthread_cond_t wake; /* CLOCK_MONOTONIC, with storage.lock, which covers what follows */
	bool urgent, stop;
	uint64_t starved_ns; /* when somebody found no memory, the last time */
	unsigned jobs, long_jobs;
	uint64_t until;	    /* it sleeps, at most so long */
	uint64_t pass;	    /* files that have not been looked at since all were */
	uint64_t pass_next; /* when the first of the others is due */
};

/* ---- The list ---- */

/* A file is due then, which a look at the list may have missed. With storage.lock. */
static void cleaner_note_due(struct cache_storage *s, uint64_t due_ns)
{
	struct cleaner *c = s->cleaner;

	if (!c)
		return;
	c->pass_next = MIN(c->pass_next, due_ns);
	if (due_ns < c->until)
		cleaner_wake(s);
}

void file_dirty_begin(struct cache_file *f)
{
	struct cache_storage *s = f->storage;

	if (atomic_load_explicit(&f->dirty, memory_order_relaxed))
		return;
	f->dirty_since_ns = loop_now_ns();
	atomic_store_explicit(&f->dirty, true, memory_order_release);
	file_ref(f);
	pthread_mutex_lock(&s->lock);
	f->due_ns = f->dirty_since_ns + s->config.write_back_delay_ns;
	list_push_back(&s->dirty, &f->dirty_link);
	atomic_fetch_add_explicit(&s->dirty_files, 1, memory_order_relaxed);
	cleaner_note_due(s, f->due_ns);
	pthread_mutex_unlock(&s->lock);
}

void file_dirty_end(struct cache_file *f)
{
	struct cache_storage *s = f->storage;

	if (!atomic_load_explicit(&f->dirty, memory_order_relaxed))
		return;
	pthread_mutex_lock(&s->lock);
	list_remove(&f->dirty_link);
	atomic_fetch_sub_explicit(&s->dirty_files, 1, memory_order_relaxed);
	/* Who writes from now on says so after that. */
	atomic_store_explicit(&f->writer, 0, memory_order_relaxed);
	pthread_mutex_unlock(&s->lock);
	atomic_store_explicit(&f->dirty, false, memory_order_release);
	file_put(f);
}

/* ---- On a worker ---- */

/* Whether to commit @f now; else *@due is when to look again. Under its lock. */
static bool cleaner_is_due(const struct cache_file *f, bool urgent, uint64_t *due)
{
	const struct storage_config *config = &f->storage->config;
	uint64_t now = loop_now_ns();

	/* Nobody may commit it until it is known whether its object goes. */
	if (file_is(f, FILE_UNLINKED)) {
		*due = now + CLEANER_SHORT_NS;
		return false;
	}
	if (f->commit_wanted)
		return true;
	*due = MAX(file_retry_ns(f, urgent), f->starved_ns);
	if (*due > now)
		return false;
	if (urgent && f->upload && f->failures == 0) {
		/* A commit would mean to copy it all for the next one. */
		*due = MAX(f->write_ns + CLEANER_STREAM_NS, now + CLEANER_SHORT_NS);
		return !f->streaming && now - f->write_ns >= CLEANER_STREAM_NS;
	}
	if (urgent)
		return true;
	if (config->write_back && !f->upload)
		*due = f->dirty_since_ns + config->write_back_delay_ns;
	else
		*due = f->write_ns + config->write_back_delay_ns;
	return *due <= now;
}

static void cleaner_run(struct work *work)
{
	struct cache_file *f = container_of(work, struct cache_file, cleaner_job.work);
	struct cache_storage *s = f->storage;
	uint64_t due = 0;
	bool commit;

	/* Renamed over just when it became dirty. */
	if (file_is(f, FILE_RENAMED_OVER)) {
		cache_file_unlink(f);
		if (atomic_load_explicit(&f->holders, memory_order_acquire) == 0)
			file_abandon(f);
	}
	pthread_mutex_lock(&f->lock);
	commit = cleaner_is_due(f, f->cleaner_job.urgent, &due);
	pthread_mutex_unlock(&f->lock);
	if (commit) {
		cache_commit_background(f);
		pthread_mutex_lock(&f->lock);
		cleaner_is_due(f, false, &due);
		pthread_mutex_unlock(&f->lock);
	}
	pthread_mutex_lock(&s->lock);
	f->cleaning = false;
	f->due_ns = due;
	if (!list_empty(&f->dirty_link)) {
		list_remove(&f->dirty_link);
		list_push_back(&s->dirty, &f->dirty_link);
		cleaner_note_due(s, due);
	}
	s->cleaner->jobs--;
	s->cleaner->long_jobs -= f->cleaner_job.is_long;
	pthread_cond_signal(&s->cleaner->wake);
	pthread_mutex_unlock(&s->lock);
	file_put(f);
	storage_end(s);
}

/* Whether a commit of @f takes much longer than what is in memory of it says. A guess. */
static bool cleaner_is_long(const struct cache_file *f)
{
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	uint64_t base = atomic_load_explicit(&f->base_limit, memory_order_relaxed);

	return size > base && size - base > CLEANER_LONG + f->storage->dirty_max;
}

/* Hands @f, which is not being cleaned, to a worker. With storage.lock. */
static void cleaner_submit(struct cache_storage *s, struct cache_file *f, bool urgent)
{
	file_ref(f);
	f->cleaning = true;
	f->cleaner_job.urgent = urgent;
	f->cleaner_job.is_long = cleaner_is_long(f);
	f->cleaner_job.work.run = cleaner_run;
	s->cleaner->jobs++;
	s->cleaner->long_jobs += f->cleaner_job.is_long;
	s->in_flight++;
	workers_submit(s->config.workers, &f->cleaner_job.work);
}

/* ---- The thread ---- */

/* Memory is short until it is half-way good again. With storage.lock. */
static bool cleaner_is_urgent(struct cleaner *c, uint64_t now)
{
	struct cache_storage *s = c->storage;
	uint64_t dirty = atomic_load_explicit(&s->dirty_bytes, memory_order_relaxed);
	uint64_t max = storage_dirty_max(s);

	if (dirty >= max / 4 * 3)
		c->urgent = true;
	else if (dirty < max / 2)
		c->urgent = false;
	return c->urgent || (c->starved_ns && now < c->starved_ns + CLEANER_STARVED_NS);
}

/* Whether @f was handed out; else c->pass_next follows. With storage.lock. */
static bool cleaner_offer(struct cleaner *c, struct cache_file *f, bool urgent, uint64_t now)
{
	if (f->cleaning || (c->long_jobs >= CLEANER_LONG_JOBS && cleaner_is_long(f)))
		return false; /* the end of a job wakes us */
	if (f->due_ns > now && !(urgent && f->urgent_ns <= now)) {
		uint64_t next = urgent ? f->urgent_ns : f->due_ns;

		c->pass_next = MIN(c->pass_next, next);
		return false;
	}
	f->urgent_ns = now + CLEANER_SHORT_NS;
	cleaner_submit(c->storage, f, urgent);
	return true;
}

/* Hands out what is due; returns when to look again. With storage.lock. */
static uint64_t cleaner_look(struct cleaner *c)
{
	struct cache_storage *s = c->storage;
	uint64_t now = loop_now_ns();
	bool urgent = cleaner_is_urgent(c, now);

	if (c->pass == 0) {
		c->pass = atomic_load_explicit(&s->dirty_files, memory_order_relaxed);
		c->pass_next = UINT64_MAX;
	}
	for (unsigned i = 0; i < CLEANER_SCAN && c->pass > 0; i++) {
		struct list *pos = s->dirty.next;

		if (c->jobs >= CLEANER_JOBS)
			return UINT64_MAX; /* the end of one wakes us */
		if (pos == &s->dirty) {
			c->pass = 0;
			break;
		}
		c->pass--;
		list_remove(pos);
		list_push_back(&s->dirty, pos);
		cleaner_offer(c, list_entry(pos, struct cache_file, dirty_link), urgent, now);
	}
	return c->pass > 0 ? now + CLEANER_PACE_NS : c->pass_next;
}

/* Has the pool give memory back that it is not to have any more; returns when to try again. With
 * storage.lock, which it drops meanwhile. */
static uint64_t cleaner_trim(struct cleaner *c)
{
	struct cache_storage *s = c->storage;
	uint64_t left;

	pthread_mutex_unlock(&s->lock);
	left = pool_trim(s->cache->pool);
	pthread_mutex_lock(&s->lock);
	return left ? loop_now_ns() + CLEANER_TRIM_NS : UINT64_MAX;
}

static void cleaner_sleep(struct cleaner *c, uint64_t until)
{
	struct timespec ts = {
		.tv_sec = (time_t)(until / NSEC_PER_SEC),
		.tv_nsec = (long)(until % NSEC_PER_SEC),
	};

	c->until = until;
	if (until == UINT64_MAX)
		pthread_cond_wait(&c->wake, &c->storage->lock);
	else
		pthread_cond_timedwait(&c->wake, &c->storage->lock, &ts);
	c->until = 0;
}

static void *cleaner_thread(void *arg)
{
	struct cleaner *c = arg;

	pthread_mutex_lock(&c->storage->lock);
	while (!c->stop) {
		uint64_t trim = cleaner_trim(c);
		uint64_t leftover = leftover_look(c->storage);
		uint64_t dirty = cleaner_look(c);
		uint64_t next = MIN(leftover, dirty);

		if (!c->stop)
			cleaner_sleep(c, MIN(next, trim));
	}
	pthread_mutex_unlock(&c->storage->lock);
	return NULL;
}

static void cleaner_urge(struct cache_storage *s, bool starved)
{
	pthread_mutex_lock(&s->lock);
	if (s->cleaner) {
		if (starved)
			s->cleaner->starved_ns = loop_now_ns();
		else
			s->cleaner->urgent = true;
		pthread_cond_signal(&s->cleaner->wake);
	}
	pthread_mutex_unlock(&s->lock);
}

void cleaner_kick(struct cache_storage *s, bool starved)
{
	struct cache *cache = s->cache;
	struct list *pos;

	if (!starved) {
		cleaner_urge(s, false);
		return;
	}
	/* What holds the slabs may be anybody's. */
	pthread_mutex_lock(&cache->lock);
	list_for_each (pos, &cache->storages) {
		struct cache_storage *other = list_entry(pos, struct cache_storage, link);

		if (atomic_load_explicit(&other->dirty_files, memory_order_relaxed))
			cleaner_urge(other, true);
	}
	pthread_mutex_unlock(&cache->lock);
}

void cleaner_look_anew(struct cache_storage *s)
{
	struct list *pos;

	pthread_mutex_lock(&s->lock);
	list_for_each (pos, &s->dirty)
		list_entry(pos, struct cache_file, dirty_link)->due_ns = 0;
	s->cleaner->pass = 0;
	cleaner_wake(s);
	pthread_mutex_unlock(&s->lock);
}

void cleaner_wake(struct cache_storage *s)
{
	if (s->cleaner)
		pthread_cond_signal(&s->cleaner->wake);
}

void cleaner_commit(struct cache_file *f)
{
	struct cache_storage *s = f->storage;

	pthread_mutex_lock(&s->lock);
	if (s->cleaner && !f->cleaning && !list_empty(&f->dirty_link))
		cleaner_submit(s, f, true);
	pthread_mutex_unlock(&s->lock);
}

struct err *cleaner_start(struct cache_storage *s)
{
	struct cleaner *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;
	int ret;

	if (!c)
		return err_errno(ENOMEM, "cleaner of a cached storage");
	c->storage = s;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->wake, &attr);
	pthread_condattr_destroy(&attr);
	s->cleaner = c;
	ret = pthread_create(&c->thread, NULL, cleaner_thread, c);
	if (ret) {
		s->cleaner = NULL;
		pthread_cond_destroy(&c->wake);
		free(c);
		return err_errno(ret, "cannot start the cleaner of a cached storage");
	}
	pthread_setname_np(c->thread, "cleaner");
	return NULL;
}

/* What was sent of it is of no use any more. */
static void cleaner_end_upload(struct cache_file *f, void *arg)
{
	(void)arg;
	pthread_mutex_lock(&f->lock);
	while (atomic_load_explicit(&f->committing, memory_order_relaxed))
		pthread_cond_wait(&f->changed, &f->lock);
	upload_discard(f, true);
	pthread_mutex_unlock(&f->lock);
	file_put(f);
}

void cleaner_stop(struct cache_storage *s)
{
	struct cleaner *c = s->cleaner;

	pthread_mutex_lock(&s->lock);
	c->stop = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(c->thread, NULL);
	table_each(s, cleaner_end_upload, NULL);
	pthread_mutex_lock(&s->lock);
	while (c->jobs > 0)
		pthread_cond_wait(&c->wake, &s->lock);
	/* Nobody wakes it from now on: an ABORT may be under way still. */
	s->cleaner = NULL;
	pthread_mutex_unlock(&s->lock);
	pthread_cond_destroy(&c->wake);
	free(c);
}
