/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All dirty files of a storage at once: syncfs, and the drain at the end.
 *
 * A sweep is a list of the files that were dirty at its beginning, and threads that take one after
 * the other off it and commit it: workers, as many as are free, and for a sync the caller
 * himself. He may be a worker, and all other workers may be doing just the same: so he never waits
 * for one that has not begun, only for those who are at a file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/progress.h"
#include "base/util.h"
#include "cache/write.h"

#define NSEC_PER_SEC 1000000000ull
#define SWEEP_HELPERS 8

/* cache_file.writer: several sessions, or one that has ended. */
#define WRITER_SEVERAL UINT32_MAX

/* Between two sweeps of a drain, when some files failed. */
#define DRAIN_PAUSE_NS (NSEC_PER_SEC / 2)

struct sweep {
	struct cache_storage *storage;
	pthread_mutex_t lock; /* covers what follows */
	pthread_cond_t ended; /* CLOCK_MONOTONIC: somebody is done with a file */
	unsigned references;  /* caller and helpers */
	unsigned busy;	      /* at a file */
	bool stop;
	int error; /* the first */
	unsigned failed;
	size_t next, count;
	struct cache_file *file[];
};

struct sweep_helper {
	struct work work;
	struct sweep *sweep;
};

static bool sweep_wants(struct cache_file *f, uint32_t session)
{
	uint32_t writer = atomic_load_explicit(&f->writer, memory_order_acquire);

	return session == 0 || writer == session || writer == 0 || writer == WRITER_SEVERAL;
}

/* Of all files that are dirty, or of those that @session is concerned with. NULL without memory. */
static struct sweep *sweep_new(struct cache_storage *s, uint32_t session)
{
	pthread_condattr_t attr;
	struct sweep *sweep;
	struct list *pos;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	list_for_each (pos, &s->dirty)
		n++;
	sweep = calloc(1, sizeof(*sweep) + n * sizeof(sweep->file[0]));
	if (sweep) {
		list_for_each (pos, &s->dirty) {
			struct cache_file *f = list_entry(pos, struct cache_file, dirty_link);

			if (sweep_wants(f, session))
				sweep->file[sweep->count++] = file_ref(f);
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (!sweep)
		return NULL;
	sweep->storage = s;
	sweep->references = 1;
	pthread_mutex_init(&sweep->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&sweep->ended, &attr);
	pthread_condattr_destroy(&attr);
	return sweep;
}

static void sweep_put(struct sweep *sweep)
{
	bool last;

	pthread_mutex_lock(&sweep->lock);
	last = --sweep->references == 0;
	pthread_mutex_unlock(&sweep->lock);
	if (!last)
		return;
	while (sweep->next < sweep->count)
		file_put(sweep->file[sweep->next++]);
	pthread_cond_destroy(&sweep->ended);
	pthread_mutex_destroy(&sweep->lock);
	free(sweep);
}

/* Commits file after file until none is left. */
static void sweep_files(struct sweep *sweep)
{
	pthread_mutex_lock(&sweep->lock);
	while (!sweep->stop && sweep->next < sweep->count) {
		struct cache_file *f = sweep->file[sweep->next++];
		int ret;

		sweep->busy++;
		pthread_mutex_unlock(&sweep->lock);
		ret = cache_commit(f);
		file_put(f);
		pthread_mutex_lock(&sweep->lock);
		if (ret < 0 && sweep->error == 0)
			sweep->error = ret;
		sweep->failed += ret < 0;
		sweep->busy--;
		pthread_cond_broadcast(&sweep->ended);
	}
	pthread_mutex_unlock(&sweep->lock);
}

static void sweep_help(struct work *work)
{
	struct sweep_helper *helper = container_of(work, struct sweep_helper, work);
	struct sweep *sweep = helper->sweep;
	struct cache_storage *s = sweep->storage;

	free(helper);
	sweep_files(sweep);
	sweep_put(sweep);
	storage_end(s);
}

static void sweep_call_helpers(struct sweep *sweep)
{
	struct cache_storage *s = sweep->storage;

	for (size_t i = 0; i < MIN(sweep->count, (size_t)SWEEP_HELPERS); i++) {
		struct sweep_helper *helper = malloc(sizeof(*helper));

		if (!helper)
			return;
		helper->sweep = sweep;
		helper->work.run = sweep_help;
		pthread_mutex_lock(&sweep->lock);
		sweep->references++;
		pthread_mutex_unlock(&sweep->lock);
		storage_begin(s);
		workers_submit(s->config.workers, &helper->work);
	}
}

/* ---- Who made what dirty ---- */

uint32_t cache_storage_session(struct cache_storage *s)
{
	uint32_t number;

	do
		number = atomic_fetch_add_explicit(&s->sessions, 1, memory_order_relaxed) + 1;
	while (number == 0 || number == WRITER_SEVERAL);
	return number;
}

void cache_file_wrote(struct cache_file *f, uint32_t session)
{
	uint32_t writer = atomic_load_explicit(&f->writer, memory_order_relaxed);

	while (writer != session && writer != WRITER_SEVERAL &&
	       !atomic_compare_exchange_weak_explicit(&f->writer, &writer,
						      writer ? WRITER_SEVERAL : session,
						      memory_order_release, memory_order_relaxed))
		;
}

void cache_storage_session_end(struct cache_storage *s, uint32_t session)
{
	struct list *pos;

	pthread_mutex_lock(&s->lock);
	list_for_each (pos, &s->dirty) {
		struct cache_file *f = list_entry(pos, struct cache_file, dirty_link);
		uint32_t writer = session;

		atomic_compare_exchange_strong_explicit(&f->writer, &writer, WRITER_SEVERAL,
							memory_order_release, memory_order_relaxed);
	}
	pthread_mutex_unlock(&s->lock);
}

int cache_storage_sync_session(struct cache_storage *s, uint32_t session)
{
	struct sweep *sweep = sweep_new(s, session);
	int error;

	if (!sweep)
		return -ENOMEM;
	if (sweep->count > 1)
		sweep_call_helpers(sweep);
	sweep_files(sweep);
	pthread_mutex_lock(&sweep->lock);
	while (sweep->busy > 0)
		pthread_cond_wait(&sweep->ended, &sweep->lock);
	error = sweep->error;
	pthread_mutex_unlock(&sweep->lock);
	sweep_put(sweep);
	return error;
}

int cache_storage_sync(struct cache_storage *s)
{
	return cache_storage_sync_session(s, 0);
}

/* ---- Drain ---- */

static struct timespec drain_time(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NSEC_PER_SEC),
				  .tv_nsec = (long)(ns % NSEC_PER_SEC) };
}

/* More files may become dirty meanwhile. */
static void drain_tell(struct progress *progress, const struct cache_storage *s)
{
	uint64_t left = atomic_load(&s->dirty_files), total = atomic_load(&progress->total);

	total = MAX(total, left);
	progress_set(progress, total - left, total);
}

/* Waits for the workers, saying each second how far they are. */
static void drain_wait(struct sweep *sweep, uint64_t deadline, struct progress *progress)
{
	struct cache_storage *s = sweep->storage;
	uint64_t next_ns = loop_now_ns() + NSEC_PER_SEC;

	pthread_mutex_lock(&sweep->lock);
	while (sweep->next < sweep->count || sweep->busy > 0) {
		struct timespec ts = drain_time(MIN(next_ns, deadline));
		uint64_t now;

		pthread_cond_timedwait(&sweep->ended, &sweep->lock, &ts);
		drain_tell(progress, s);
		now = loop_now_ns();
		if (now >= deadline)
			break;
		if (now < next_ns)
			continue;
		next_ns = now + NSEC_PER_SEC;
		log_info("drain", "files=%llu bytes=%llu seconds_left=%llu",
			 (unsigned long long)atomic_load(&s->dirty_files),
			 (unsigned long long)atomic_load(&s->dirty_bytes),
			 (unsigned long long)((deadline - now) / NSEC_PER_SEC));
	}
	sweep->stop = true;
	pthread_mutex_unlock(&sweep->lock);
}

static void drain_pause(uint64_t deadline)
{
	uint64_t now = loop_now_ns(), left = deadline > now ? deadline - now : 0;
	struct timespec pause = drain_time(MIN(DRAIN_PAUSE_NS, left));

	nanosleep(&pause, NULL);
}

unsigned storage_write_out(struct cache_storage *s, uint64_t timeout_ns)
{
	uint64_t deadline = loop_now_ns() + timeout_ns;
	struct progress progress;

	for (;;) {
		struct sweep *sweep = sweep_new(s, 0);
		size_t left;

		if (!sweep)
			return (unsigned)atomic_load(&s->dirty_files);
		progress_begin(&progress, "write out", "files", "all that is dirty");
		sweep_call_helpers(sweep);
		drain_wait(sweep, deadline, &progress);
		progress_end(&progress);
		pthread_mutex_lock(&sweep->lock);
		left = sweep->count - sweep->next + sweep->busy + sweep->failed;
		pthread_mutex_unlock(&sweep->lock);
		sweep_put(sweep);
		if (left == 0 || loop_now_ns() >= deadline)
			return (unsigned)left;
		drain_pause(deadline);
	}
}

/* Tells what is left. */
static unsigned drain_report(struct cache_storage *s)
{
	struct sweep *left = sweep_new(s, 0);
	unsigned count = 0;

	if (!left)
		return (unsigned)atomic_load(&s->dirty_files);
	while (left->next < left->count) {
		struct cache_file *f = left->file[left->next++];

		pthread_mutex_lock(&f->lock);
		if (atomic_load_explicit(&f->dirty, memory_order_relaxed)) {
			/* Without a failure it did not get that far. */
			int error = f->failures ? -f->failure : ETIMEDOUT;

			log_error("not_written", "key=\"%s\" size=%llu error=\"%s\"", f->key,
				  (unsigned long long)atomic_load(&f->size), strerror(error));
			count++;
		}
		pthread_mutex_unlock(&f->lock);
		file_put(f);
	}
	sweep_put(left);
	return count;
}

unsigned cache_storage_drain(struct cache_storage *s, uint64_t timeout_ns)
{
	uint64_t deadline = loop_now_ns() + timeout_ns;
	struct progress progress;

	progress_begin(&progress, "drain", "files", "all that is dirty");
	for (;;) {
		struct sweep *sweep = sweep_new(s, 0);
		bool clean;

		if (!sweep)
			break;
		clean = sweep->count == 0;
		if (!clean) {
			sweep_call_helpers(sweep);
			drain_wait(sweep, deadline, &progress);
		}
		sweep_put(sweep);
		if (clean || loop_now_ns() >= deadline)
			break;
		if (atomic_load(&s->dirty_files) > 0)
			drain_pause(deadline);
	}
	leftover_drain(s, deadline);
	progress_end(&progress);
	return drain_report(s);
}
