/* SPDX-License-Identifier: Apache-2.0 */
/* Aborts of write sessions, until they succeed. */
#include "cache/leftover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cache/file.h"

#define NSEC_PER_SEC 1000000000ull

/* After a failure; doubled by each further one, up to a minute. */
#define BACKOFF_FIRST_NS (NSEC_PER_SEC / 2)
#define BACKOFF_SHIFT_MAX 7u

/* Nobody's data is lost with a leftover: not worth a longer wait at the end. */
#define DRAIN_WAIT_NS (3 * NSEC_PER_SEC)

struct leftover {
	struct store_op op;
	struct cache_storage *storage;
	struct list link; /* leftovers.waiting or .trying */
	bool failed;	  /* before: */
	int error;	  /* like this, the last time */
	char session[STORE_SESSION_MAX];
	char key[];
};

void leftover_init(struct cache_storage *s)
{
	list_init(&s->leftovers.waiting);
	list_init(&s->leftovers.trying);
}

static void leftover_give_up(struct leftover *l)
{
	log_warn("upload_left_over", "key=\"%s\" session=\"%s\" error=\"%s\"", l->key, l->session,
		 strerror(-l->error));
	free(l);
}

void leftover_exit(struct cache_storage *s)
{
	struct list *pos;

	while ((pos = list_pop_front(&s->leftovers.waiting)))
		leftover_give_up(list_entry(pos, struct leftover, link));
}

/* It will not be different the next time. Being refused (-EACCES) may be: keys expire. */
static bool is_final(int error)
{
	return error == -EINVAL || error == -EOPNOTSUPP || error == -ENAMETOOLONG ||
	       error == -EFBIG;
}

/* Puts @l, that failed, with those that wait. Returns who has to go for it, or NULL. With
 * storage.lock. */
static struct leftover *leftover_keep(struct leftovers *all, struct leftover *l)
{
	/* Of many that fail at the same time, only tries tell how long it lasts. */
	if (l->failed || list_empty(&all->waiting)) {
		all->failures = l->failed ? all->failures + 1 : 1;
		all->due_ns = loop_now_ns() +
			      (BACKOFF_FIRST_NS << MIN(all->failures - 1, BACKOFF_SHIFT_MAX));
	}
	if (!l->failed)
		all->count++;
	l->failed = true;
	list_push_back(&all->waiting, &l->link);
	if (all->count <= LEFTOVER_MAX)
		return NULL;
	all->count--;
	return list_entry(list_pop_front(&all->waiting), struct leftover, link);
}

static void leftover_done(struct store_op *op)
{
	struct leftover *l = container_of(op, struct leftover, op), *dropped = NULL;
	struct cache_storage *s = l->storage;
	bool done = op->result == 0 || op->result == -ENOENT;
	bool keep = !done && !is_final(op->result);

	l->error = op->result;
	if (keep && !l->failed)
		log_warn("upload_abort_failed", "key=\"%s\" session=\"%s\" error=\"%s\"", l->key,
			 l->session, strerror(-l->error));
	else if (done && l->failed)
		log_info("upload_aborted", "key=\"%s\" session=\"%s\"", l->key, l->session);

	pthread_mutex_lock(&s->lock);
	list_remove(&l->link);
	if (keep)
		dropped = leftover_keep(&s->leftovers, l);
	else if (l->failed)
		s->leftovers.count--;
	if (done) { /* the service answers */
		s->leftovers.failures = 0;
		s->leftovers.due_ns = 0;
	}
	if (!list_empty(&s->leftovers.waiting))
		cleaner_wake(s);
	if (list_empty(&s->leftovers.trying))
		pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->lock);

	if (dropped)
		leftover_give_up(dropped);
	if (done)
		free(l);
	else if (!keep)
		leftover_give_up(l);
	storage_end(s);
}

/* With storage.lock. */
static void leftover_try(struct cache_storage *s, struct leftover *l)
{
	l->op = (struct store_op){ .opcode = STORE_ABORT,
				   .key = l->key,
				   .session = l->session,
				   .complete = leftover_done };
	list_push_back(&s->leftovers.trying, &l->link);
	s->in_flight++;
	store_submit(s->config.store, &l->op);
}

/* The first of those that wait; there is one. With storage.lock. */
static void leftover_try_first(struct cache_storage *s)
{
	leftover_try(s, list_entry(list_pop_front(&s->leftovers.waiting), struct leftover, link));
}

void leftover_abort(struct cache_storage *s, const char *key, const char *session)
{
	size_t key_size = strlen(key) + 1;
	struct leftover *l = calloc(1, sizeof(*l) + key_size);

	if (!l) {
		log_warn("upload_left_over", "key=\"%s\" session=\"%s\" error=\"%s\"", key, session,
			 strerror(ENOMEM));
		return;
	}
	l->storage = s;
	memcpy(l->key, key, key_size);
	memcpy(l->session, session, strnlen(session, sizeof(l->session) - 1));
	pthread_mutex_lock(&s->lock);
	leftover_try(s, l);
	pthread_mutex_unlock(&s->lock);
}

uint64_t leftover_look(struct cache_storage *s)
{
	struct leftovers *all = &s->leftovers;

	/* The end of the one under way wakes us. */
	if (list_empty(&all->waiting) || !list_empty(&all->trying))
		return UINT64_MAX;
	if (all->due_ns > loop_now_ns())
		return all->due_ns;
	leftover_try_first(s);
	return UINT64_MAX;
}

void leftover_drain(struct cache_storage *s, uint64_t deadline_ns)
{
	uint64_t now = loop_now_ns(), until = MIN(now + DRAIN_WAIT_NS, deadline_ns);
	struct timespec ts = { .tv_sec = (time_t)(until / NSEC_PER_SEC),
			       .tv_nsec = (long)(until % NSEC_PER_SEC) };
	struct list *pos;

	/* Then the service is down, and has been tried in vain meanwhile. */
	if (now >= deadline_ns)
		return;
	pthread_mutex_lock(&s->lock);
	while (!list_empty(&s->leftovers.waiting))
		leftover_try_first(s);
	while (!list_empty(&s->leftovers.trying))
		if (pthread_cond_timedwait(&s->idle, &s->lock, &ts) == ETIMEDOUT)
			break;
	/* None of them can go meanwhile: leftover_done() takes the lock. */
	list_for_each (pos, &s->leftovers.trying)
		store_cancel(&list_entry(pos, struct leftover, link)->op);
	pthread_mutex_unlock(&s->lock);
}
