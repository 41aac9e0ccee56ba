/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: from a chain to an object, and back. See queue_priv.h. */
#include "virtio/queue_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

#define REQUEST_ALIGN 64 /* a cache line: requests are completed by several threads */
#define PAGE_ALIGN 4096

static size_t align_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* Where priv begins: after the object, 16-byte aligned. */
static size_t request_head_size(void)
{
	return align_up(sizeof(struct request), 16);
}

struct err *request_pool_init(struct request_pool *pool, size_t priv_size)
{
	const size_t iov_bytes = VIRTQ_IOV_MAX * sizeof(struct iovec);
	size_t objects;

	memset(pool, 0, sizeof(*pool));
	pool->object_size = align_up(request_head_size() + priv_size, REQUEST_ALIGN);
	objects = align_up(pool->object_size * VIRTIO_QUEUE_SIZE_MAX, PAGE_ALIGN);
	pool->map_size = objects + iov_bytes * (VIRTIO_QUEUE_SIZE_MAX + 1);
	pool->base = mmap(NULL, pool->map_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool->base == MAP_FAILED) {
		pool->base = NULL;
		return err_errno(errno, "memory for requests");
	}
	pool->scratch = (struct iovec *)(pool->base + objects);
	pool->large_iov = pool->scratch + VIRTQ_IOV_MAX;
	return NULL;
}

void request_pool_fini(struct request_pool *pool)
{
	if (pool->base)
		munmap(pool->base, pool->map_size);
}

void request_pool_trim(struct request_pool *pool)
{
	pool->free = NULL;
	pool->made = 0;
	madvise(pool->base, pool->map_size, MADV_DONTNEED);
}

static struct request *pool_object(const struct request_pool *pool, unsigned i)
{
	return (struct request *)(pool->base + i * pool->object_size);
}

/* Last in, first out, so that few requests in flight stay in the cache. */
static struct request *pool_get(struct request_pool *pool)
{
	struct request *req = pool->free;

	if (likely(req != NULL)) {
		pool->free = req->next_free;
		return req;
	}
	if (pool->made == VIRTIO_QUEUE_SIZE_MAX)
		return NULL;
	req = pool_object(pool, pool->made);
	req->large_iov = pool->large_iov + (size_t)pool->made * VIRTQ_IOV_MAX;
	req->pub.priv = (char *)req + request_head_size();
	pool->made++;
	return req;
}

static void pool_put(struct request_pool *pool, struct request *req)
{
	req->state = REQUEST_FREE;
	req->next_free = pool->free;
	pool->free = req;
}

struct request *queue_pop(struct queue *q)
{
	struct request *req;
	struct iovec *iov = q->pool.scratch;
	size_t count;

	queue_check_memory(q);
	req = pool_get(&q->pool);
	if (unlikely(!req)) {
		q->starved = true;
		return NULL;
	}
	if (virtq_pop(&q->vq, &req->chain, iov, VIRTQ_IOV_MAX) <= 0) {
		pool_put(&q->pool, req);
		return NULL;
	}
	count = (size_t)req->chain.in_count + req->chain.out_count;
	req->pub.in = count <= REQUEST_INLINE_IOV ? req->inline_iov : req->large_iov;
	memcpy(req->pub.in, iov, count * sizeof(*iov));
	req->pub.in_count = req->chain.in_count;
	req->pub.out = req->pub.in + req->chain.in_count;
	req->pub.out_count = req->chain.out_count;
	req->pub.queue = q->params.index;
	req->queue = q;
	req->view = guest_view_ref(q->vq.view);
	req->state = REQUEST_ACTIVE;
	q->in_flight++;
	return req;
}

void queue_info(struct queue *q, struct virtio_queue_info *out)
{
	pthread_mutex_lock(&q->lock);
	*out = (struct virtio_queue_info){
		.started = q->vq.running,
		.size = q->config.size,
		.in_flight = q->in_flight,
		.orphans = q->orphans,
	};
	if (queue_serving(q))
		out->waiting = virtq_waiting(&q->vq);
	pthread_mutex_unlock(&q->lock);
}

void queue_each_request(struct queue *q, void (*look)(void *arg, const struct virtio_req *req),
			void *arg)
{
	pthread_mutex_lock(&q->lock);
	for (unsigned i = 0; i < q->pool.made && q->in_flight + q->orphans > 0; i++) {
		const struct request *req = pool_object(&q->pool, i);

		if (req->state != REQUEST_FREE)
			look(arg, &req->pub);
	}
	pthread_mutex_unlock(&q->lock);
}

unsigned queue_orphan_requests(struct queue *q)
{
	unsigned found = 0;

	for (unsigned i = 0; i < q->pool.made; i++) {
		struct request *req = pool_object(&q->pool, i);

		if (req->state == REQUEST_ACTIVE) {
			req->state = REQUEST_ORPHAN;
			found++;
		}
	}
	q->in_flight -= found;
	q->orphans += found;
	return found;
}

/* Puts @req into the used ring; true when the driver is to be signalled. */
static bool queue_push(struct queue *q, struct request *req, size_t written)
{
	queue_check_memory(q);
	virtq_log_written(&q->vq, req->view, req->pub.out, req->pub.out_count, written);
	virtq_push(&q->vq, &req->chain, (uint32_t)written);
	q->in_flight--;
	if (unlikely(q->vq.log && q->log_fd >= 0))
		queue_signal_fd(q->log_fd);
	if (unlikely(q->vq.error != NULL))
		queue_report_error(q);
	if (pthread_equal(pthread_self(), q->thread)) {
		/* queue_serve() signals for the whole batch. */
		q->deferred++;
		return false;
	}
	/* This covers what the queue's thread has deferred, too. */
	q->deferred = 0;
	return virtq_should_notify(&q->vq) && q->call_set;
}

void virtio_req_complete(struct virtio_req *vreq, size_t written)
{
	struct request *req = container_of(vreq, struct request, pub);
	struct queue *q = req->queue;
	bool notify = false;

	pthread_mutex_lock(&q->lock);
	if (likely(req->state == REQUEST_ACTIVE))
		notify = queue_push(q, req, written);
	else
		q->orphans--;
	guest_view_unref(req->view);
	pool_put(&q->pool, req);
	if (unlikely(q->starved)) {
		q->starved = false;
		queue_poke(q);
	}
	if (unlikely(q->waiting))
		pthread_cond_broadcast(&q->changed);
	/* Outside the lock the write does not hold up other completions; the
	 * counter keeps queue_free() from closing the descriptor before it. */
	if (notify)
		atomic_fetch_add_explicit(&q->signals, 1, memory_order_relaxed);
	pthread_mutex_unlock(&q->lock);
	if (notify) {
		queue_signal_fd(q->call_fd);
		atomic_fetch_sub_explicit(&q->signals, 1, memory_order_release);
	}
}
