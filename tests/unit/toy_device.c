/* SPDX-License-Identifier: Apache-2.0 */
/* See toy_device.h. */
#include "toy_device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/iov.h"

struct toy_priv {
	struct work work;
	struct virtio_req *req;
	uint64_t canary[2];
};

/* ---- The toy file system ---- */

static size_t toy_echo(struct virtio_req *req)
{
	struct iov_cursor in = iov_cursor(req->in, req->in_count);
	struct iov_cursor out = iov_cursor(req->out, req->out_count);
	char buf[512];
	size_t n, total = 0;

	while ((n = iov_read(&in, buf, sizeof(buf))) != 0)
		total += iov_write(&out, buf, n);
	return total;
}

static void toy_work(struct work *work)
{
	struct toy_priv *priv = container_of(work, struct toy_priv, work);

	if (priv->canary[0] != 0x1234 || priv->canary[1] != 0x5678)
		abort();
	virtio_req_complete(priv->req, toy_echo(priv->req));
}

static void toy_hold(struct toy *toy, struct virtio_req *req, bool deaf)
{
	unsigned i;

	pthread_mutex_lock(&toy->lock);
	for (i = 0; toy->held[i]; i++)
		;
	toy->held[i] = req;
	toy->deaf[i] = deaf;
	pthread_mutex_unlock(&toy->lock);
}

unsigned toy_release(struct toy *toy, bool all)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HELD_MAX; i++) {
		struct virtio_req *req = NULL;

		pthread_mutex_lock(&toy->lock);
		if (toy->held[i] && (all || !toy->deaf[i])) {
			req = toy->held[i];
			toy->held[i] = NULL;
		}
		pthread_mutex_unlock(&toy->lock);
		if (req) {
			virtio_req_complete(req, toy_echo(req));
			n++;
		}
	}
	return n;
}

static void toy_request(void *ctx, struct virtio_req *req)
{
	struct toy *toy = ctx;
	struct toy_priv *priv = req->priv;
	struct iov_cursor in = iov_cursor(req->in, req->in_count);
	char command = 0;

	atomic_fetch_add(&toy->requests, 1);
	iov_read(&in, &command, 1);
	switch (command) {
	case 'w':
		priv->req = req;
		priv->work.run = toy_work;
		priv->canary[0] = 0x1234;
		priv->canary[1] = 0x5678;
		workers_submit(toy->workers, &priv->work);
		break;
	case 'h':
	case 's':
		toy_hold(toy, req, command == 's');
		break;
	case 'p':
		for (uint64_t end_ns = loop_now_ns() + TOY_PAUSE_NS; loop_now_ns() < end_ns;)
			;
		virtio_req_complete(req, toy_echo(req));
		break;
	case 'b':
		sem_wait(&toy->gate);
		virtio_req_complete(req, toy_echo(req));
		break;
	default:
		virtio_req_complete(req, toy_echo(req));
	}
}

static void toy_interrupt(void *ctx)
{
	struct toy *toy = ctx;

	atomic_fetch_add(&toy->interrupts, 1);
	toy_release(toy, false);
}

static void toy_detached(void *ctx)
{
	struct toy *toy = ctx;

	atomic_fetch_add(&toy->detached, 1);
}

static const struct virtio_device_ops toy_ops = {
	.priv_size = sizeof(struct toy_priv),
	.request = toy_request,
	.interrupt = toy_interrupt,
	.detached = toy_detached,
};

/* ---- Its control thread ---- */

static void *toy_thread(void *arg)
{
	loop_run(((struct toy *)arg)->loop);
	return NULL;
}

void toy_start_poll(struct toy *toy, enum virtio_poll poll, unsigned poll_us,
		    unsigned drain_timeout_ms)
{
	const struct virtio_device_config config = {
		.name = "toy",
		.tag = "toytag",
		.num_request_queues = 3,
		.poll_us = poll_us,
		.poll = poll,
		.drain_timeout_ms = drain_timeout_ms,
		.window_size = TOY_WINDOW,
		.answer_timeout_ms = 1000,
	};

	memset(toy, 0, sizeof(*toy));
	pthread_mutex_init(&toy->lock, NULL);
	sem_init(&toy->done, 0, 0);
	sem_init(&toy->gate, 0, 0);
	assert_null(loop_new(&toy->loop));
	assert_null(workers_new(&toy->workers, "toy", 4));
	assert_null(virtio_device_new(&toy->device, &config, &toy_ops, toy, toy->loop));
	pthread_create(&toy->thread, NULL, toy_thread, toy);
}

void toy_start(struct toy *toy, unsigned poll_us, unsigned drain_timeout_ms)
{
	toy_start_poll(toy, VIRTIO_POLL_LATENCY, poll_us, drain_timeout_ms);
}

void toy_end(struct toy *toy)
{
	loop_stop(toy->loop);
	pthread_join(toy->thread, NULL);
	virtio_device_free(toy->device);
	loop_free(toy->loop);
	workers_free(toy->workers);
	pthread_mutex_destroy(&toy->lock);
	sem_destroy(&toy->done);
	sem_destroy(&toy->gate);
}

static void attach_task(struct loop_task *task)
{
	struct toy *toy = container_of(task, struct toy, task);

	toy->result = virtio_device_attach(toy->device, toy->fd);
	sem_post(&toy->done);
}

int toy_attach(struct toy *toy, int fd)
{
	toy->fd = fd;
	toy->task.run = attach_task;
	loop_post(toy->loop, &toy->task);
	sem_wait(&toy->done);
	if (toy->result == 0)
		toy->attached++;
	return toy->result;
}

void wait_for(atomic_uint *counter, unsigned value)
{
	for (unsigned ms = 0; atomic_load(counter) < value; ms++) {
		assert_true(ms < WAIT_MS);
		usleep(1000);
	}
}

/* ---- The front end ---- */

void front_attach(struct vuc *c, struct toy *toy)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(toy_attach(toy, pair[0]), 0);
	vuc_attach(c, pair[1]);
}

void front_open(struct vuc *c, struct toy *toy, const struct vuc_config *config)
{
	assert_int_equal(vuc_init(c, config), 0);
	front_attach(c, toy);
	assert_int_equal(vuc_negotiate(c), 0);
	assert_int_equal(vuc_start(c), 0);
}

void front_close(struct vuc *c, struct toy *toy)
{
	vuc_close(c);
	/* The device may have ended the connection on its own, long before. */
	wait_for(&toy->detached, toy->attached);
}

void echo_init(struct echo *e, struct vuc *c, unsigned region)
{
	assert_int_equal(vuc_mem_alloc(c, region, ECHO_LEN, 4096, &e->in), 0);
	assert_int_equal(vuc_mem_alloc(c, region, ECHO_LEN, 4096, &e->out), 0);
}

/* Two segments each way. */
void echo_submit(struct echo *e, struct vuc_queue *q, char command, unsigned seed)
{
	const struct vuc_seg segs[4] = {
		{ e->in.gpa, 40 },
		{ e->in.gpa + 40, ECHO_LEN - 40 },
		{ e->out.gpa, 16 },
		{ e->out.gpa + 16, ECHO_LEN - 16 },
	};

	memset(e->in.p, (int)(seed & 0xff), ECHO_LEN);
	memset(e->out.p, 0, ECHO_LEN);
	e->in.p[0] = (uint8_t)command;
	e->pending = true;
	assert_true(vuc_queue_submit(q, segs, 2, 2, e) >= 0);
}

void echo_check(struct echo *e, uint32_t len)
{
	assert_true(e->pending);
	assert_int_equal(len, ECHO_LEN);
	assert_memory_equal(e->in.p, e->out.p, ECHO_LEN);
	e->pending = false;
}

struct echo *front_reap(struct vuc_queue *q)
{
	void *cookie;
	uint32_t len;

	assert_int_equal(vuc_queue_wait(q, WAIT_MS), 0);
	assert_int_equal(vuc_queue_reap(q, &cookie, &len), 1);
	echo_check(cookie, len);
	return cookie;
}

void front_echo(struct vuc *c, unsigned queue, char command)
{
	struct vuc_queue *q = &c->queues[queue];
	struct echo e;

	echo_init(&e, c, 0);
	echo_submit(&e, q, command, queue);
	vuc_queue_kick(q);
	front_reap(q);
}

bool front_nothing_to_reap(struct vuc_queue *q)
{
	void *cookie;
	uint32_t len;

	return vuc_queue_reap(q, &cookie, &len) == 0;
}

/* Keeps @depth requests in flight until @total are done. */
void front_load(struct vuc *c, unsigned queue, unsigned depth, unsigned total, const char *commands)
{
	struct vuc_queue *q = &c->queues[queue];
	struct echo *echoes = calloc(depth, sizeof(*echoes));
	unsigned sent;

	assert_non_null(echoes);
	for (unsigned i = 0; i < depth; i++)
		echo_init(&echoes[i], c, 0);
	for (sent = 0; sent < depth && sent < total; sent++)
		echo_submit(&echoes[sent], q, commands[sent % strlen(commands)], sent);
	vuc_queue_kick(q);
	for (unsigned done = 0; done < total; done++) {
		struct echo *e = front_reap(q);

		if (sent < total) {
			echo_submit(e, q, commands[sent % strlen(commands)], sent);
			vuc_queue_kick(q);
			sent++;
		}
	}
	free(echoes);
}
