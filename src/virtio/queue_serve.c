/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls poll ppoll prctl epoll_wait epoll_pwait fstat newfstatat sched_yield clock_gettime */
/*
 * The thread of a queue.
 *
 * It sleeps in epoll_wait() until the driver kicks. The kick descriptor is an
 * eventfd with every known front end, and is watched edge-triggered and never
 * read: each write to an eventfd wakes its waiters, whatever its count was, so
 * the count need not go back to zero, and a wake-up costs one system call less.
 * (The count overflows after 2^64 kicks.) Any other kind of descriptor is
 * watched level-triggered and read.
 *
 * Woken, it turns kicks off, pops until the ring is empty, looks for a while whether
 * more comes if that is worth it (queue_pace.h), turns kicks on and looks once more,
 * since a chain may have come just before; then it sleeps.
 */
#include "virtio/queue_priv.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

/*
 * Looking instead of sleeping: pauses between looks; after how long the processor is
 * offered to others, and how often from then on; what that takes when nobody else wants
 * it, at most; and when somebody has kept it for so long that there is more to do than
 * to send us a request.
 */
#define POLL_SPINS 16
#define POLL_YIELD_FIRST_NS 2000u
#define POLL_YIELD_EVERY_NS 10000u
#define POLL_ALONE_NS 2000u
#define POLL_CROWDED_NS 50000u

/* Threads of queues that have something to do, of all devices, and the processors for them: when
 * they are as many, drivers are likely to have none. */
static _Alignas(64) atomic_uint serving;
static _Alignas(64) atomic_uint processors;

static void serving_add(unsigned n)
{
	atomic_fetch_add_explicit(&serving, n, memory_order_relaxed);
}

static bool processors_are_taken(void)
{
	return atomic_load_explicit(&serving, memory_order_relaxed) >=
	       atomic_load_explicit(&processors, memory_order_relaxed);
}

static unsigned count_processors(void)
{
	cpu_set_t set;

	/* Fails when there are more than fit into it. */
	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : UINT_MAX;
}

/* As queue_signal_fd(), on the queue's own thread, where no other guest waits for it. */
static void queue_signal_own(int fd)
{
	const uint64_t one = 1;
	ssize_t n;

	/* EAGAIN: a full pipe or socket, the other side has enough to wake up for.
	 * EPIPE: there is no other side. */
	do {
		n = write(fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

void queue_signal_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int n;

	/* The front end has the same open file, and can make it one that blocks, and fill it. */
	do {
		n = poll(&p, 1, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0 || (p.revents & POLLOUT))
		queue_signal_own(fd);
}

void queue_check_memory(struct queue *q)
{
	unsigned faults = shm_map_faults();

	if (likely(faults == q->faults))
		return;
	q->faults = faults;
	if (guest_mem_broken(q->vq.view->mem))
		virtq_break(&q->vq, "guest memory was truncated");
	else if (q->vq.log && dirty_log_broken(q->vq.log))
		virtq_break(&q->vq, "dirty page log was truncated");
	else if (q->inflight && inflight_broken(q->inflight))
		virtq_break(&q->vq, "inflight area was truncated");
}

void queue_report_error(struct queue *q)
{
	if (q->failed)
		return;
	q->failed = true;
	log_limited(&q->log_limit, LOG_LEVEL_ERROR, "queue_broken",
		    "device=%s queue=%u reason=\"%s\"", q->params.name, q->params.index,
		    q->vq.error ? q->vq.error : "unknown");
	if (q->err_fd >= 0)
		queue_signal_fd(q->err_fd);
}

void queue_poke(struct queue *q)
{
	q->update_want++;
	if (q->update_posted)
		return;
	q->update_posted = true;
	loop_post(q->loop, &q->update);
}

/* Signals what was completed on this thread. Lock held; let go for the write. */
static void queue_flush(struct queue *q)
{
	if (!q->deferred)
		return;
	q->deferred = 0;
	if (!virtq_should_notify(&q->vq) || !q->call_set)
		return;
	pthread_mutex_unlock(&q->lock);
	queue_signal_own(q->call_fd);
	pthread_mutex_lock(&q->lock);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The ring is empty, after @requests: from here to the next one is a turn. */
static void queue_turn_begin(struct queue *q, unsigned requests)
{
	if (!requests)
		return;
	q->turn_measured = queue_pace_begin(&q->pace, requests, loop_last_ns());
	if (unlikely(q->turn_measured))
		q->turn_cpu_ns = thread_cpu_ns();
}

static void queue_turn_end(struct queue *q)
{
	if (likely(!q->turn_measured))
		return;
	q->turn_measured = false;
	queue_pace_end(&q->pace, thread_cpu_ns() - q->turn_cpu_ns);
}

/* True when what is held back cannot be any longer. Lock held. */
static bool queue_held_enough(const struct queue *q, uint64_t now_ns)
{
	return q->deferred >= QUEUE_HOLD_REQUESTS || now_ns - q->deferred_ns >= QUEUE_HOLD_NS;
}

/*
 * Whether the driver is to hear of what was completed before @req is begun. @large: all of it
 * was. Lock held.
 *
 * The driver takes in a batch while we make the next one, if it has a processor to do so. If it
 * has none, it is better told of more.
 *
 * A large request takes as long as waking the driver up takes several times, so it is told of two
 * together, as long as we have two more, after @req, to go on with: what the first one waits is not
 * more than it took by itself, and the driver still fills the ring before it is empty. Who sends
 * one at a time, or two, waits for none.
 */
static bool queue_flush_due(struct queue *q, const struct request *req, uint64_t now_ns, bool large)
{
	uint64_t waited_ns = now_ns - q->deferred_ns;

	if (!q->deferred)
		return false;
	if (request_bytes(req) < QUEUE_NOTIFY_BYTES && queue_pace_holds(&q->pace))
		return queue_held_enough(q, now_ns);
	if (request_bytes(req) < QUEUE_NOTIFY_BYTES && q->params.poll != VIRTIO_POLL_LATENCY &&
	    processors_are_taken())
		return waited_ns >= QUEUE_CROWDED_NS;
	if (request_bytes(req) < QUEUE_NOTIFY_BYTES)
		return waited_ns >= QUEUE_NOTIFY_NS;
	return !large || q->deferred > 1 || virtq_waiting(&q->vq) < 2;
}

/*
 * Hands out requests until the ring is empty. Lock held; let go for each.
 *
 * What is completed meanwhile is signalled together, but not for long (see
 * QUEUE_NOTIFY_NS): if the driver heard of all at the end, the two would take turns. But where
 * that pays it is held back beyond the end.
 */
static void queue_drain(struct queue *q)
{
	const struct virtio_device_ops *ops = q->params.ops;
	struct request *req;
	uint64_t before_ns = loop_last_ns();
	unsigned requests = 0;
	bool large = false;

	while (queue_serving(q) && (req = queue_pop(q)) != NULL) {
		/* The last request read the clock when it ended, if it did so on this thread:
		 * one reading for each, not two. */
		uint64_t now_ns = loop_last_ns() != before_ns ? loop_last_ns() : loop_now_ns();

		if (!requests++)
			queue_turn_end(q);
		before_ns = req->pub.begun_ns = now_ns;
		if (queue_flush_due(q, req, now_ns, large))
			queue_flush(q);
		if (!q->deferred) {
			q->deferred_ns = now_ns;
			large = true;
		}
		large = large && request_bytes(req) >= QUEUE_NOTIFY_BYTES;
		pthread_mutex_unlock(&q->lock);
		ops->request(q->params.ctx, &req->pub);
		pthread_mutex_lock(&q->lock);
	}
	queue_turn_begin(q, requests);
	if (large || !queue_pace_holds(&q->pace))
		queue_flush(q);
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Offers the processor to others; how long until we had it back. */
static uint64_t queue_yield(uint64_t *now_ns)
{
	uint64_t before_ns = *now_ns;

	sched_yield();
	*now_ns = loop_now_ns();
	return *now_ns - before_ns;
}

/*
 * Looks at the ring instead of sleeping, when and for as long as queue_pace.h says; true
 * when a chain came. Lock held; let go between looks. Kicks are off all the while: a
 * driver whose request is found in this way need not kick either.
 *
 * What is found only after another thread had the processor is no success: that may
 * have been the driver, which a sleep would have let go ahead sooner.
 */
static bool queue_busy_poll(struct queue *q)
{
	uint64_t limit_ns = queue_pace_limit_ns(&q->pace), begin_ns, now_ns, yield_ns;
	bool alone = true, crowded = false, found = false;

	if (!limit_ns || !queue_serving(q))
		return false;
	/* Here before we looked: says nothing for or against looking. */
	if (virtq_has_chain(&q->vq))
		return true;
	serving_add(-1u); /* it gives way */
	begin_ns = now_ns = loop_now_ns();
	yield_ns = begin_ns + POLL_YIELD_FIRST_NS;
	while (queue_serving(q) && !q->update_posted) {
		found = virtq_has_chain(&q->vq);
		if (!found && q->deferred && queue_held_enough(q, now_ns))
			queue_flush(q);
		if (found || crowded || now_ns - begin_ns >= limit_ns)
			break;
		pthread_mutex_unlock(&q->lock);
		for (unsigned i = 0; i < POLL_SPINS; i++)
			cpu_relax();
		now_ns = loop_now_ns();
		if (now_ns >= yield_ns) {
			uint64_t away_ns = queue_yield(&now_ns);

			alone = alone && away_ns <= POLL_ALONE_NS;
			crowded = away_ns > POLL_CROWDED_NS;
			yield_ns = now_ns + POLL_YIELD_EVERY_NS;
		}
		pthread_mutex_lock(&q->lock);
	}
	serving_add(1);
	if (crowded)
		queue_pace_crowded(&q->pace);
	else if (found && alone)
		queue_pace_found(&q->pace);
	else
		queue_pace_vain(&q->pace);
	return found;
}

static void queue_serve(struct queue *q)
{
	bool more, nofd;

	serving_add(1);
	pthread_mutex_lock(&q->lock);
	for (more = true; more && queue_serving(q);) {
		virtq_disable_kicks(&q->vq);
		do {
			queue_drain(q);
		} while (!q->starved && queue_busy_poll(q));
		queue_flush(q);
		if (!queue_serving(q))
			break;
		/* Starved: the chain that is there waits for a free object, whose
		 * completion pokes. */
		more = virtq_enable_kicks(&q->vq) && !q->starved;
	}
	if (q->vq.running && q->vq.error)
		queue_report_error(q);
	nofd = q->config.kick_nofd && queue_serving(q);
	pthread_mutex_unlock(&q->lock);
	serving_add(-1u);
	if (nofd)
		loop_timer_arm(q->loop, &q->poll_timer, QUEUE_NOFD_POLL_NS);
}

static void queue_unwatch(struct queue *q)
{
	if (q->kick_fd < 0)
		return;
	loop_fd_remove(q->loop, &q->kick);
	close(q->kick_fd);
	q->kick_fd = -1;
}

/* Empties what is not an eventfd; false at its end. */
static bool queue_read_kick(struct queue *q)
{
	char buf[512];
	ssize_t n;

	do {
		n = read(q->kick_fd, buf, sizeof(buf));
	} while (n < 0 && errno == EINTR);
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static void queue_kicked(struct loop_fd *entry, uint32_t events)
{
	struct queue *q = container_of(entry, struct queue, kick);

	(void)events;
	if (!q->kick_is_event && !queue_read_kick(q)) {
		log_warn("queue_kick_closed", "device=%s queue=%u", q->params.name,
			 q->params.index);
		queue_unwatch(q);
	}
	queue_serve(q);
}

static void queue_watch(struct queue *q, int fd)
{
	struct stat st;
	int err;

	/* Anonymous inodes have no file type: an eventfd, or something whose wake-ups
	 * are as good as its. */
	q->kick_is_event = fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
	q->kick_fd = fd;
	err = loop_fd_add(q->loop, &q->kick, fd, EPOLLIN | (q->kick_is_event ? EPOLLET : 0),
			  queue_kicked);
	if (err < 0) {
		q->kick_fd = -1;
		close(fd);
		pthread_mutex_lock(&q->lock);
		virtq_break(&q->vq, "kick descriptor cannot be waited for");
		pthread_mutex_unlock(&q->lock);
	}
}

/* The control thread changed something. */
static void queue_update(struct loop_task *task)
{
	struct queue *q = container_of(task, struct queue, update);
	unsigned want;
	int fd = -1;
	bool changed;

	pthread_mutex_lock(&q->lock);
	q->update_posted = false;
	want = q->update_want;
	changed = q->kick_changed;
	if (changed) {
		q->kick_changed = false;
		fd = q->kick_new;
		q->kick_new = -1;
	}
	pthread_mutex_unlock(&q->lock);

	if (changed) {
		loop_timer_disarm(&q->poll_timer);
		queue_unwatch(q);
		if (fd >= 0)
			queue_watch(q, fd);
	}
	queue_serve(q);

	pthread_mutex_lock(&q->lock);
	q->update_done = want;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

static void queue_poll_expired(struct loop_timer *timer)
{
	queue_serve(container_of(timer, struct queue, poll_timer));
}

void queue_serve_init(struct queue *q)
{
	atomic_store_explicit(&processors, count_processors(), memory_order_relaxed);
	q->update.run = queue_update;
	q->kick_fd = -1;
	q->kick_new = -1;
	queue_pace_init(&q->pace, q->params.poll_us * 1000ull, q->params.poll);
	loop_timer_init(&q->poll_timer, queue_poll_expired);
}

void *queue_thread(void *arg)
{
	struct queue *q = arg;
	char name[16]; /* the kernel's limit */

	/* By the thread itself: for another's name /proc would be needed. */
	snprintf(name, sizeof(name), "vq%u-%.9s", q->params.index, q->params.name);
	pthread_setname_np(pthread_self(), name);
	log_set_thread_context(q->context);
	loop_run(q->loop);
	queue_unwatch(q);
	return NULL;
}
