/* SPDX-License-Identifier: Apache-2.0 */
#include "base/progress.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/loop.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* covers the list, and logged_ns */
static struct list all = { &all, &all };

void progress_begin(struct progress *p, const char *task, const char *unit, const char *subject,
		    ...)
{
	va_list ap;

	p->task = task;
	p->unit = unit;
	va_start(ap, subject);
	vsnprintf(p->subject, sizeof(p->subject), subject, ap);
	va_end(ap);
	p->started_ns = p->logged_ns = loop_now_ns();
	progress_set(p, 0, 0);
	pthread_mutex_lock(&lock);
	list_push_back(&all, &p->link);
	pthread_mutex_unlock(&lock);
}

void progress_end(struct progress *p)
{
	pthread_mutex_lock(&lock);
	list_remove(&p->link);
	pthread_mutex_unlock(&lock);
}

static struct progress_view progress_look(const struct progress *p, uint64_t now_ns)
{
	struct progress_view view = {
		.task = p->task,
		.unit = p->unit,
		.age_ns = now_ns - p->started_ns,
		.done = atomic_load_explicit(&p->done, memory_order_relaxed),
		.total = atomic_load_explicit(&p->total, memory_order_relaxed),
	};

	snprintf(view.subject, sizeof(view.subject), "%s", p->subject);
	return view;
}

unsigned progress_list(struct progress_view *out, unsigned max)
{
	unsigned count = 0;
	struct list *pos;
	uint64_t now_ns;

	pthread_mutex_lock(&lock);
	now_ns = loop_now_ns();
	list_for_each (pos, &all) {
		if (count == max)
			break;
		out[count++] = progress_look(list_entry(pos, struct progress, link), now_ns);
	}
	pthread_mutex_unlock(&lock);
	return count;
}

void progress_log(uint64_t every_ns)
{
	struct list *pos;
	uint64_t now_ns;

	pthread_mutex_lock(&lock);
	now_ns = loop_now_ns();
	list_for_each (pos, &all) {
		struct progress *p = list_entry(pos, struct progress, link);
		struct progress_view view = progress_look(p, now_ns);

		if (now_ns - p->logged_ns < every_ns)
			continue;
		p->logged_ns = now_ns;
		log_info("progress", "task=%s subject=\"%s\" %s=%llu total=%llu seconds=%llu",
			 view.task, view.subject, view.unit, (unsigned long long)view.done,
			 (unsigned long long)view.total,
			 (unsigned long long)(view.age_ns / 1000000000));
	}
	pthread_mutex_unlock(&lock);
}
