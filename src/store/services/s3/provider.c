/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The provider's thread: when keys are looked for, and who is told.
 *
 * The thread sleeps until somebody waits or a renewal is due, looks the keys up without the
 * lock, and publishes what came of it. A failure is remembered for a while, so that a
 * thousand requests without keys are one look-up each second and not a thousand.
 *
 * #syscalls rseq set_robust_list futex exit madvise mmap mprotect munmap
 * #syscalls openat newfstatat fstat read close clock_gettime getrandom
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "store/random.h"
#include "store/services/s3/source.h"

#define NO_KEYS "no keys to sign requests with: "

#define SECOND_NS UINT64_C(1000000000)
#define RENEW_BEFORE_NS (300 * SECOND_NS) /* expiry */
#define RENEW_JITTER_NS (60 * SECOND_NS)  /* not all daemons of a host at once */
#define REREAD_NS (300 * SECOND_NS)	  /* files */
#define BACKOFF_FIRST_NS (1 * SECOND_NS)  /* after a failure, then doubled */
#define BACKOFF_LONGEST_NS (30 * SECOND_NS)

struct s3_provider {
	struct s3_sources sources; /* constant, but sources.stop */
	struct s3_lookup lookup;   /* the thread's, while it is busy */
	struct loop *loop;
	bool unsigned_only; /* skip_signature */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t wake;
	pthread_t thread;
	bool started, stopping;
	bool wanted;	/* somebody waits for a look-up that has not begun */
	bool busy;	/* one is under way, the thread has no lock */
	unsigned round; /* of the last one begun */

	struct s3_credentials *current; /* maybe expired; or NULL */
	struct list waiting;		/* s3_provider_wait.link */
	uint64_t renew_at_ns;		/* monotonic; 0: not by itself */
	uint64_t retry_at_ns;		/* monotonic: none before, after a failure */
	uint64_t backoff_ns;
	int error;     /* of the last failure */
	char *message; /* of the last look-up when that failed; or NULL */
	struct store_random random;
	unsigned failed; /* look-ups in a row */
	struct log_limit refusals;
};

/* ---- Snapshots. ---- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_keys(const struct s3_credentials *a, const struct s3_credentials *b)
{
	return a && b && a->anonymous == b->anonymous &&
	       same_text(a->access_key_id, b->access_key_id) &&
	       same_text(a->secret_access_key, b->secret_access_key) &&
	       same_text(a->session_token, b->session_token);
}

/* Nanoseconds that are left; 0 when expired. */
static uint64_t time_left(const struct s3_credentials *c)
{
	struct timespec now;
	int64_t left;

	if (c->expires_ns == 0)
		return UINT64_MAX;
	clock_gettime(CLOCK_REALTIME, &now);
	left = c->expires_ns - (now.tv_sec * (int64_t)SECOND_NS + now.tv_nsec);
	return left > 0 ? (uint64_t)left : 0;
}

static bool usable(const struct s3_credentials *c)
{
	return c && time_left(c) > 0;
}

/* ---- Waiters. ---- */

static void wait_deliver(struct loop_task *task)
{
	struct s3_provider_wait *wait = container_of(task, struct s3_provider_wait, task);

	s3_credentials_put(wait->refused);
	wait->ready(wait, wait->credentials, wait->error);
}

/* Lock held. */
static void wait_answer(struct s3_provider *p, struct s3_provider_wait *wait,
			struct s3_credentials *credentials, int error)
{
	list_remove(&wait->link);
	wait->credentials = error ? NULL : s3_credentials_get(credentials);
	wait->error = error;
	loop_post(p->loop, &wait->task);
}

/* Lock held; a look-up ended. */
static void wait_answer_all(struct s3_provider *p, int error)
{
	struct list *at, *next;

	list_for_each_safe (at, next, &p->waiting) {
		struct s3_provider_wait *wait = list_entry(at, struct s3_provider_wait, link);

		if (usable(p->current) && !same_keys(p->current, wait->refused))
			wait_answer(p, wait, p->current, 0);
		else if (error)
			wait_answer(p, wait, NULL, error);
		else if (wait->round == p->round)
			p->wanted = true; /* this one may have looked before the refusal */
		else
			wait_answer(p, wait, NULL, -EACCES);
	}
}

/* ---- What a look-up came to. All with the lock held. ---- */

static void back_off(struct s3_provider *p)
{
	p->backoff_ns =
		p->backoff_ns ? MIN(2 * p->backoff_ns, BACKOFF_LONGEST_NS) : BACKOFF_FIRST_NS;
	p->retry_at_ns =
		loop_now_ns() + p->backoff_ns + store_random_below(&p->random, p->backoff_ns / 4);
}

/* Well before the end; what does not live long, half-way. */
static uint64_t renew_delay(struct s3_provider *p, const struct s3_lookup *l)
{
	uint64_t left = time_left(p->current);

	if (left == UINT64_MAX)
		return l->from_file ? REREAD_NS : 0;
	if (left > 2 * RENEW_BEFORE_NS)
		return left - RENEW_BEFORE_NS - store_random_below(&p->random, RENEW_JITTER_NS);
	return MAX(left / 2, SECOND_NS);
}

static void publish_found(struct s3_provider *p, const struct s3_lookup *l)
{
	struct s3_credentials *old = p->current;
	bool refused = false;
	struct list *at;
	uint64_t delay;

	if (!same_keys(old, l->found) || old->expires_ns != l->found->expires_ns) {
		log_info("credentials_found",
			 "source=\"%s\" access_key_id=%s expires_in_s=%" PRId64, l->found->source,
			 l->found->anonymous ? "none" : l->found->access_key_id,
			 l->found->expires_ns ? (int64_t)(time_left(l->found) / SECOND_NS) : -1);
		p->current = s3_credentials_get(l->found);
		s3_credentials_put(old);
	}
	delay = renew_delay(p, l);
	p->renew_at_ns = delay ? loop_now_ns() + delay : 0;
	free(p->message);
	p->message = NULL;
	p->failed = 0;

	list_for_each (at, &p->waiting) {
		const struct s3_provider_wait *wait = list_entry(at, struct s3_provider_wait, link);

		if (!wait->suspected && same_keys(p->current, wait->refused))
			refused = true;
	}
	if (refused) {
		log_limited(&p->refusals, LOG_LEVEL_ERROR, "credentials_refused",
			    "source=\"%s\" access_key_id=%s hint=\"the service refuses these keys "
			    "and their source has no others\"",
			    p->current->source, p->current->access_key_id);
		back_off(p);
	} else {
		p->backoff_ns = 0;
		p->retry_at_ns = 0;
	}
	wait_answer_all(p, 0);
}

/* At the first, the second, the fourth, ... failure in a row: what lasts for days is still
 * said, but seldom. */
static bool is_power_of_two(unsigned n)
{
	return (n & (n - 1)) == 0;
}

static void log_failure(const struct s3_provider *p, const struct s3_lookup *l, bool still)
{
	uint64_t left = still ? time_left(p->current) : 0;

	if (!still)
		log_error("credentials_missing", "failures=%u tried=\"%s\"", p->failed,
			  l->report.buf);
	else if (left == UINT64_MAX)
		log_warn("credentials_not_renewed", "failures=%u tried=\"%s\"", p->failed,
			 l->report.buf);
	else
		log_warn("credentials_not_renewed",
			 "failures=%u valid_for_s=%" PRIu64 " tried=\"%s\"", p->failed,
			 left / SECOND_NS, l->report.buf);
}

static void publish_failed(struct s3_provider *p, const struct s3_lookup *l)
{
	bool still = usable(p->current);

	p->error = l->error;
	free(p->message);
	p->message = strdup(l->report.buf);
	back_off(p);
	p->renew_at_ns = still ? p->retry_at_ns : 0;
	p->failed++;
	if (l->error != -ECANCELED && is_power_of_two(p->failed))
		log_failure(p, l, still);
	wait_answer_all(p, l->error);
}

/* ---- The thread. ---- */

/* Lock held; sleeps without it. True when it is time to look. */
static bool provider_sleep(struct s3_provider *p)
{
	uint64_t now = loop_now_ns(), until = p->renew_at_ns;
	struct timespec deadline;

	if (p->wanted || (until && now >= until))
		return true;
	if (!until) {
		pthread_cond_wait(&p->wake, &p->lock);
		return false;
	}
	deadline.tv_sec = (time_t)(until / SECOND_NS);
	deadline.tv_nsec = (long)(until % SECOND_NS);
	pthread_cond_timedwait(&p->wake, &p->lock, &deadline);
	return false;
}

static void *provider_main(void *arg)
{
	struct s3_provider *p = arg;
	struct s3_lookup *l = &p->lookup;
	enum s3_outcome outcome;

	pthread_setname_np(pthread_self(), "s3-keys");
	pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		if (!provider_sleep(p))
			continue;
		p->wanted = false;
		p->busy = true;
		p->round++;
		pthread_mutex_unlock(&p->lock);
		s3_lookup_init(l, &p->sources);
		outcome = s3_lookup_run(l);
		pthread_mutex_lock(&p->lock);
		p->busy = false;
		if (outcome == S3_FOUND)
			publish_found(p, l);
		else
			publish_failed(p, l);
		s3_credentials_put(l->found);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Lock held. The signals are for the control loop. */
static int provider_start(struct s3_provider *p)
{
	sigset_t all, before;
	int ret;

	if (p->started)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&p->thread, NULL, provider_main, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	p->started = ret == 0;
	return -ret;
}

/* ---- The interface. ---- */

const char *s3_provider_region(const struct s3_provider *p)
{
	return p->sources.region;
}

struct s3_credentials *s3_provider_get(struct s3_provider *p)
{
	struct s3_credentials *credentials = NULL;

	pthread_mutex_lock(&p->lock);
	if (usable(p->current))
		credentials = s3_credentials_get(p->current);
	pthread_mutex_unlock(&p->lock);
	return credentials;
}

bool s3_provider_has_others(struct s3_provider *p, const struct s3_credentials *than)
{
	bool others;

	pthread_mutex_lock(&p->lock);
	others = usable(p->current) && !same_keys(p->current, than);
	pthread_mutex_unlock(&p->lock);
	return others;
}

void s3_provider_wait(struct s3_provider *p, struct s3_provider_wait *wait,
		      struct s3_credentials *refused)
{
	list_init(&wait->link);
	wait->task.run = wait_deliver;
	wait->refused = refused ? s3_credentials_get(refused) : NULL;

	pthread_mutex_lock(&p->lock);
	wait->round = p->busy ? p->round : p->round - 1;
	if (usable(p->current) && !same_keys(p->current, refused)) {
		wait_answer(p, wait, p->current, 0);
	} else if (p->unsigned_only) {
		wait_answer(p, wait, NULL, -EACCES);
	} else if (!p->busy && loop_now_ns() < p->retry_at_ns) {
		wait_answer(p, wait, NULL, p->message ? p->error : -EACCES);
	} else if (provider_start(p) < 0) {
		wait_answer(p, wait, NULL, -ENOMEM);
	} else {
		list_push_back(&p->waiting, &wait->link);
		p->wanted = p->wanted || !p->busy;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
}

void s3_provider_cancel(struct s3_provider *p, struct s3_provider_wait *wait)
{
	pthread_mutex_lock(&p->lock);
	/* Out of the list, its answer is on the way. */
	if (!list_empty(&wait->link))
		wait_answer(p, wait, NULL, -ECANCELED);
	pthread_mutex_unlock(&p->lock);
}

struct err *s3_provider_error(struct s3_provider *p)
{
	struct err *e = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->message)
		e = err_new(NO_KEYS "%s", p->message);
	pthread_mutex_unlock(&p->lock);
	return e;
}

static void lock_init(struct s3_provider *p)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->wake, &attr);
	pthread_condattr_destroy(&attr);
}

/* Keys that are at hand need no thread. */
static struct err *provider_fill(struct s3_provider *p)
{
	struct s3_lookup *l = &p->lookup;

	if (p->unsigned_only) {
		p->current = s3_credentials_new(NULL, NULL, NULL, 0, "anonymous");
		return p->current ? NULL : err_errno(ENOMEM, "credentials");
	}
	s3_lookup_init(l, &p->sources);
	if (s3_lookup_at_hand(l) == S3_FAILED)
		return err_new(NO_KEYS "%s", l->report.buf);
	p->current = l->found;
	return NULL;
}

struct err *s3_provider_new(struct s3_provider **out, const struct s3_provider_config *config,
			    struct loop *loop)
{
	struct s3_provider *p = calloc(1, sizeof(*p));
	struct err *e;

	if (!p)
		return err_errno(ENOMEM, "credentials");
	p->loop = loop;
	p->unsigned_only = config->skip_signature;
	store_random_seed(&p->random, 0);
	list_init(&p->waiting);
	lock_init(p);
	e = s3_sources_init(&p->sources, config);
	if (!e)
		e = provider_fill(p);
	if (e) {
		s3_provider_free(p);
		return e;
	}
	*out = p;
	return NULL;
}

void s3_provider_free(struct s3_provider *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	atomic_store(&p->sources.stop, true);
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	if (p->started)
		pthread_join(p->thread, NULL);
	s3_credentials_put(p->current);
	s3_sources_destroy(&p->sources);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->message);
	free(p);
}
