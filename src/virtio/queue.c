/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls dup3 fcntl fstat newfstatat epoll_create1 epoll_ctl */
/* What the control thread does with a queue. See queue.h. */
#include "virtio/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/log.h"
#include "virtio/queue_priv.h"

#define NSEC_PER_SEC 1000000000l

static bool has_bit(uint64_t features, unsigned bit)
{
	return (features >> bit) & 1;
}

/* ---- Life ---- */

/* Signals are for the main thread, but those that an instruction raises must
 * reach their handler here (SIGBUS: shm_map.h). */
static int queue_start_thread(struct queue *q)
{
	static const int synchronous[] = {
		SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT
	};
	sigset_t block, old;
	int errnum;

	sigfillset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(synchronous); i++)
		sigdelset(&block, synchronous[i]);
	pthread_sigmask(SIG_SETMASK, &block, &old);
	errnum = pthread_create(&q->thread, NULL, queue_thread, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -errnum;
}

/* All that queue_new() made, but for the thread. */
static void queue_destroy(struct queue *q)
{
	request_pool_fini(&q->pool);
	loop_free(q->loop);
	if (q->call_fd >= 0)
		close(q->call_fd);
	virtq_fini(&q->vq);
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

struct err *queue_new(struct queue **out, const struct queue_params *params)
{
	struct queue *q = calloc(1, sizeof(*q));
	pthread_condattr_t attr;
	struct err *err;
	int errnum;

	if (!q)
		return err_errno(ENOMEM, "queue %u", params->index);
	q->params = *params;
	snprintf(q->context, sizeof(q->context), "mount=%s", params->name);
	q->err_fd = -1;
	q->log_fd = -1;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->changed, &attr);
	pthread_condattr_destroy(&attr);
	virtq_init(&q->vq);
	queue_serve_init(q);
	q->call_fd = fcntl(params->nobody_fd, F_DUPFD_CLOEXEC, 0);
	err = q->call_fd < 0 ? err_errno(errno, "call descriptor") : NULL;
	if (!err)
		err = loop_new(&q->loop);
	if (!err)
		err = request_pool_init(&q->pool, params->ops->priv_size);
	if (!err) {
		errnum = -queue_start_thread(q);
		if (errnum)
			err = err_errno(errnum, "thread");
	}
	if (err) {
		queue_destroy(q);
		return err_wrap(err, "queue %u", params->index);
	}
	*out = q;
	return NULL;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	loop_stop(q->loop);
	pthread_join(q->thread, NULL);
	while (atomic_load_explicit(&q->signals, memory_order_acquire))
		sched_yield();
	queue_destroy(q);
}

/* ---- Starting ---- */

static void queue_apply_format(struct queue *q)
{
	const uint64_t features = q->config.features;

	virtq_set_features(&q->vq, has_bit(features, VIRTIO_F_RING_PACKED),
			   has_bit(features, VIRTIO_RING_F_EVENT_IDX),
			   has_bit(features, VIRTIO_RING_F_INDIRECT_DESC));
}

static bool queue_enabled(const struct queue *q)
{
	return q->config.enabled || !has_bit(q->config.features, VHOST_USER_F_PROTOCOL_FEATURES);
}

/* Applies what the front end configured to the ring. Lock held. */
static int queue_start_ring(struct queue *q)
{
	const struct queue_config *config = &q->config;
	int err;

	queue_apply_format(q);
	err = virtq_set_size(&q->vq, config->size);
	if (!err && config->base_set)
		err = virtq_set_base(&q->vq, config->base);
	if (!err)
		err = virtq_set_inflight(&q->vq, q->inflight, q->params.index);
	if (err) {
		virtq_break(&q->vq, "size, base or inflight area does not fit the ring format");
		return err;
	}
	return virtq_start(&q->vq);
}

/* Starts the ring when it has all it needs. Lock held. */
static int queue_try_start(struct queue *q)
{
	const struct queue_config *config = &q->config;
	int err;

	if (q->vq.running || q->failed || !config->kick_set || !queue_enabled(q) || !config->size ||
	    !config->addr_set || !q->vq.view || !q->vq.view->mem->count)
		return 0;
	q->halted = false;
	q->starved = false;
	q->deferred = 0;
	q->faults = shm_map_faults() - 1; /* makes the first look a thorough one */
	err = queue_start_ring(q);
	if (err < 0) {
		queue_report_error(q);
		return err;
	}
	/* Whoever served the ring before may have died between a used element and
	 * its signal; nothing else would wake the driver. */
	if (virtq_should_notify(&q->vq) && q->call_set)
		queue_signal_fd(q->call_fd);
	log_debug("queue_started", "device=%s queue=%u size=%u base=%#x packed=%d event_idx=%d",
		  q->params.name, q->params.index, config->size, virtq_get_base(&q->vq),
		  q->vq.packed, q->vq.event_idx);
	return 0;
}

/* After any change: starts, reports, wakes the thread. Lock held. */
static int queue_changed(struct queue *q, int err)
{
	if (q->vq.running && q->vq.error)
		queue_report_error(q);
	if (err >= 0)
		err = queue_try_start(q);
	queue_poke(q);
	return err;
}

/* A ring that could not start may try again; one that broke while it ran has to
 * be stopped first. Lock held. */
static void queue_retry(struct queue *q)
{
	if (!q->vq.running)
		q->failed = false;
}

/* ---- What the front end tells ---- */

int queue_set_features(struct queue *q, uint64_t features)
{
	int err;

	pthread_mutex_lock(&q->lock);
	q->config.features = features;
	virtq_set_log(&q->vq, has_bit(features, VHOST_F_LOG_ALL) ? q->log : NULL);
	err = queue_changed(q, 0);
	pthread_mutex_unlock(&q->lock);
	return err;
}

int queue_set_size(struct queue *q, uint32_t size)
{
	int err;

	if (!size || size > VIRTIO_QUEUE_SIZE_MAX)
		return -EINVAL;
	pthread_mutex_lock(&q->lock);
	q->config.size = size;
	err = queue_changed(q, 0);
	pthread_mutex_unlock(&q->lock);
	return err;
}

int queue_set_base(struct queue *q, uint32_t base)
{
	int err;

	pthread_mutex_lock(&q->lock);
	if (!has_bit(q->config.features, VIRTIO_F_RING_PACKED) && base > UINT16_MAX) {
		err = -EINVAL;
	} else {
		q->config.base = base;
		q->config.base_set = true;
		err = queue_changed(q, 0);
	}
	pthread_mutex_unlock(&q->lock);
	return err;
}

int queue_set_addr(struct queue *q, const struct virtq_addr *addr)
{
	int err;

	pthread_mutex_lock(&q->lock);
	queue_retry(q);
	q->config.addr_set = true;
	err = queue_changed(q, virtq_set_addr(&q->vq, addr));
	pthread_mutex_unlock(&q->lock);
	return err;
}

/* What can tell that bytes have come, and does not block the thread. */
static bool kick_fd_usable(int fd)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0)
		return false;
	switch (st.st_mode & S_IFMT) {
	case 0: /* eventfd */
		return true;
	case S_IFIFO:
	case S_IFSOCK:
		flags = fcntl(fd, F_GETFL);
		return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
	default:
		return false;
	}
}

/* Hands @fd (-1: none) to the thread. Lock held. */
static void queue_change_kick(struct queue *q, int fd)
{
	if (q->kick_changed && q->kick_new >= 0)
		close(q->kick_new);
	q->kick_changed = true;
	q->kick_new = fd;
	queue_poke(q);
}

int queue_set_kick(struct queue *q, int fd)
{
	int err;

	if (fd >= 0 && !kick_fd_usable(fd)) {
		close(fd);
		return -EINVAL;
	}
	pthread_mutex_lock(&q->lock);
	queue_retry(q);
	q->config.kick_set = true;
	q->config.kick_nofd = fd < 0;
	queue_change_kick(q, fd);
	err = queue_changed(q, 0);
	pthread_mutex_unlock(&q->lock);
	return err;
}

int queue_prepare_signal_fd(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || flags & O_PATH)
		return -EINVAL;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/*
 * Writers use the number call_fd without the lock, so the number stays open for
 * the queue's life and only what it refers to changes, which is atomic. It needs
 * no free descriptor and cannot fail. Lock held.
 */
static void queue_replace_call(struct queue *q, int fd)
{
	q->call_set = fd >= 0;
	dup3(fd >= 0 ? fd : q->params.nobody_fd, q->call_fd, O_CLOEXEC);
}

int queue_set_call(struct queue *q, int fd)
{
	int err = fd >= 0 ? queue_prepare_signal_fd(fd) : 0;

	if (err < 0) {
		close(fd);
		return err;
	}
	pthread_mutex_lock(&q->lock);
	queue_replace_call(q, fd);
	if (fd >= 0 && q->vq.running)
		queue_signal_fd(q->call_fd);
	pthread_mutex_unlock(&q->lock);
	if (fd >= 0)
		close(fd);
	return 0;
}

int queue_set_err(struct queue *q, int fd)
{
	int err = fd >= 0 ? queue_prepare_signal_fd(fd) : 0;

	if (err < 0) {
		close(fd);
		return err;
	}
	pthread_mutex_lock(&q->lock);
	if (q->err_fd >= 0)
		close(q->err_fd);
	q->err_fd = fd;
	if (fd >= 0 && q->failed)
		queue_signal_fd(fd);
	pthread_mutex_unlock(&q->lock);
	return 0;
}

int queue_set_enabled(struct queue *q, bool enabled)
{
	int err;

	pthread_mutex_lock(&q->lock);
	q->config.enabled = enabled;
	err = queue_changed(q, 0);
	pthread_mutex_unlock(&q->lock);
	return err;
}

int queue_set_mem(struct queue *q, struct guest_mem *mem)
{
	int err;

	pthread_mutex_lock(&q->lock);
	err = queue_changed(q, virtq_set_mem(&q->vq, mem));
	pthread_mutex_unlock(&q->lock);
	return err;
}

void queue_set_log(struct queue *q, struct dirty_log *log)
{
	pthread_mutex_lock(&q->lock);
	dirty_log_unref(q->log);
	q->log = log ? dirty_log_ref(log) : NULL;
	virtq_set_log(&q->vq, has_bit(q->config.features, VHOST_F_LOG_ALL) ? q->log : NULL);
	pthread_mutex_unlock(&q->lock);
}

void queue_set_log_fd(struct queue *q, int fd)
{
	pthread_mutex_lock(&q->lock);
	q->log_fd = fd;
	pthread_mutex_unlock(&q->lock);
}

int queue_set_inflight(struct queue *q, struct inflight *area)
{
	int err = 0;

	pthread_mutex_lock(&q->lock);
	if (q->vq.running) {
		err = -EBUSY;
	} else {
		inflight_unref(q->inflight);
		q->inflight = area ? inflight_ref(area) : NULL;
	}
	pthread_mutex_unlock(&q->lock);
	return err;
}

/* ---- Stopping ---- */

bool queue_started(struct queue *q)
{
	bool started;

	pthread_mutex_lock(&q->lock);
	started = q->vq.running || q->failed;
	pthread_mutex_unlock(&q->lock);
	return started;
}

void queue_halt(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->halted = true;
	pthread_mutex_unlock(&q->lock);
}

static struct timespec deadline_after(unsigned ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000l;
	if (ts.tv_nsec >= NSEC_PER_SEC) {
		ts.tv_sec++;
		ts.tv_nsec -= NSEC_PER_SEC;
	}
	return ts;
}

unsigned queue_wait_idle(struct queue *q, unsigned timeout_ms, bool orphans)
{
	const struct timespec deadline = deadline_after(timeout_ms);
	unsigned left;

	pthread_mutex_lock(&q->lock);
	q->waiting++;
	while ((left = q->in_flight + (orphans ? q->orphans : 0)) != 0) {
		if (pthread_cond_timedwait(&q->changed, &q->lock, &deadline) == ETIMEDOUT)
			break;
	}
	q->waiting--;
	left = q->in_flight + (orphans ? q->orphans : 0);
	pthread_mutex_unlock(&q->lock);
	return left;
}

unsigned queue_stop(struct queue *q)
{
	unsigned orphaned = 0;

	pthread_mutex_lock(&q->lock);
	if (q->in_flight)
		orphaned = queue_orphan_requests(q);
	if (q->vq.running) {
		/* A batch whose signal the thread still holds back. */
		if (q->deferred && virtq_should_notify(&q->vq) && q->call_set)
			queue_signal_fd(q->call_fd);
		virtq_stop(&q->vq);
		q->config.base = virtq_get_base(&q->vq);
		q->config.base_set = true;
	}
	q->deferred = 0;
	q->failed = false;
	q->config.kick_set = false;
	q->config.kick_nofd = false;
	queue_change_kick(q, -1);
	pthread_mutex_unlock(&q->lock);
	return orphaned;
}

uint32_t queue_get_base(struct queue *q)
{
	uint32_t base;

	pthread_mutex_lock(&q->lock);
	if (q->config.base_set) {
		base = q->config.base;
	} else {
		queue_apply_format(q);
		base = virtq_get_base(&q->vq);
	}
	pthread_mutex_unlock(&q->lock);
	return base;
}

/* Lock held. */
static void queue_forget(struct queue *q)
{
	q->config = (struct queue_config){ 0 };
	q->vq.stopped_at = 0;
	inflight_unref(q->inflight);
	q->inflight = NULL;
	virtq_set_log(&q->vq, NULL); /* comes back with VHOST_F_LOG_ALL */
}

void queue_reset(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	queue_forget(q);
	pthread_mutex_unlock(&q->lock);
}

void queue_detach(struct queue *q)
{
	unsigned want;

	pthread_mutex_lock(&q->lock);
	queue_forget(q);
	dirty_log_unref(q->log);
	q->log = NULL;
	q->log_fd = -1;
	if (q->err_fd >= 0)
		close(q->err_fd);
	q->err_fd = -1;
	queue_replace_call(q, -1);
	virtq_fini(&q->vq);
	virtq_init(&q->vq);
	request_pool_trim(&q->pool);

	/* The thread closes the kick; its answer also says that it is at rest. */
	queue_change_kick(q, -1);
	want = q->update_want;
	while ((int)(q->update_done - want) < 0)
		pthread_cond_wait(&q->changed, &q->lock);
	pthread_mutex_unlock(&q->lock);
}
