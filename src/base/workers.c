/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls prctl */
#include "base/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct workers {
	char name[12];
	pthread_mutex_t lock; /* covers all below */
	pthread_cond_t wake;
	struct work *head, **tail;
	unsigned queued;
	unsigned idle;	  /* threads waiting for work */
	unsigned started; /* threads[0 .. started) exist */
	unsigned max_threads;
	bool stopping;
	pthread_t threads[];
};

static void *workers_thread(void *arg)
{
	struct workers *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct work *work;

		while (!w->head && !w->stopping) {
			w->idle++;
			pthread_cond_wait(&w->wake, &w->lock);
			w->idle--;
		}
		work = w->head;
		if (!work)
			break;
		w->head = work->next;
		if (!w->head)
			w->tail = &w->head;
		w->queued--;
		pthread_mutex_unlock(&w->lock);
		work->run(work);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Called with the lock held. */
static int workers_start_thread(struct workers *w)
{
	char name[16];
	int errnum;

	errnum = pthread_create(&w->threads[w->started], NULL, workers_thread, w);
	if (errnum)
		return -errnum;
	snprintf(name, sizeof(name), "%s-w%u", w->name, w->started);
	pthread_setname_np(w->threads[w->started], name);
	w->started++;
	return 0;
}

struct err *workers_new(struct workers **out, const char *name, unsigned max_threads)
{
	struct workers *w = calloc(1, sizeof(*w) + max_threads * sizeof(w->threads[0]));
	int ret;

	if (!w)
		return err_errno(ENOMEM, "worker pool of %u threads", max_threads);
	snprintf(w->name, sizeof(w->name), "%s", name);
	w->max_threads = max_threads;
	w->tail = &w->head;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);

	/* The first one now: a pool without a thread would lose requests later, when
	 * there is nobody left to tell. */
	pthread_mutex_lock(&w->lock);
	ret = workers_start_thread(w);
	pthread_mutex_unlock(&w->lock);
	if (ret) {
		workers_free(w);
		return err_errno(-ret, "cannot start a worker thread");
	}
	*out = w;
	return NULL;
}

void workers_submit(struct workers *w, struct work *work)
{
	work->next = NULL;
	pthread_mutex_lock(&w->lock);
	*w->tail = work;
	w->tail = &work->next;
	w->queued++;
	if (w->queued > w->idle && w->started < w->max_threads) {
		int ret = workers_start_thread(w);

		if (ret) {
			static struct log_limit limit;

			log_limited(&limit, LOG_LEVEL_WARN, "worker_start_failed",
				    "pool=%s threads=%u error=\"%s\"", w->name, w->started,
				    strerror(-ret));
		}
	}
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->started; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
