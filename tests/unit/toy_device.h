/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device for tests: src/virtio with a toy in place of the file system, its
 * control thread, and a front end (tests/frontend) attached to it through a
 * socket pair. The first byte of a request is a command:
 *
 *	'e'	copy the readable part to the writable one, at once
 *	'w'	the same, on another thread
 *	'h'	keep until ops->interrupt() or toy_release()
 *	's'	keep until toy_release(), deaf to ops->interrupt()
 *	'b'	block the queue's thread until toy.gate is posted, then as 'e'
 *	'p'	the same for TOY_PAUSE_NS, awake
 *
 * Every function fails the cmocka test when something goes wrong. The front end
 * belongs to the test's thread.
 */
#ifndef TESTS_UNIT_TOY_DEVICE_H
#define TESTS_UNIT_TOY_DEVICE_H

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/loop.h"
#include "base/workers.h"
#include "virtio/device.h"
#include "vuc.h"

#define HELD_MAX 64
#define ECHO_LEN 200
#define WAIT_MS 10000
#define TOY_WINDOW (8ull << 20)
#define TOY_PAUSE_NS 10000

struct toy {
	struct loop *loop;
	pthread_t thread;
	struct virtio_device *device;
	struct workers *workers;
	sem_t done; /* a posted call has run */
	sem_t gate;
	int fd; /* for attach */
	int result;
	unsigned attached; /* front ends so far */
	struct loop_task task;

	atomic_uint requests, detached, interrupts;
	pthread_mutex_t lock; /* covers the two below */
	struct virtio_req *held[HELD_MAX];
	bool deaf[HELD_MAX];
};

/* A request of the front end: ECHO_LEN bytes each way. */
struct echo {
	struct vuc_buf in, out;
	bool pending;
};

/* Three request queues, tag "toytag", a window of TOY_WINDOW bytes whose front end has a
 * second for an answer. */
void toy_start(struct toy *toy, unsigned poll_us, unsigned drain_timeout_ms);
void toy_start_poll(struct toy *toy, enum virtio_poll poll, unsigned poll_us,
		    unsigned drain_timeout_ms);
void toy_end(struct toy *toy);

/* Completes what is held ('s' only with @all); returns how many. */
unsigned toy_release(struct toy *toy, bool all);

/* virtio_device_attach() on the control thread. */
int toy_attach(struct toy *toy, int fd);

/* Fails after WAIT_MS. */
void wait_for(atomic_uint *counter, unsigned value);

/* Connects @c, which is initialised. */
void front_attach(struct vuc *c, struct toy *toy);
/* Initialises, connects, negotiates, starts. */
void front_open(struct vuc *c, struct toy *toy, const struct vuc_config *config);
/* Disconnects and waits until the device is free again. */
void front_close(struct vuc *c, struct toy *toy);

/* Buffers in region @region, each on pages of its own. */
void echo_init(struct echo *e, struct vuc *c, unsigned region);
void echo_submit(struct echo *e, struct vuc_queue *q, char command, unsigned seed);
void echo_check(struct echo *e, uint32_t len);

/* Waits for a completion and checks it. */
struct echo *front_reap(struct vuc_queue *q);
bool front_nothing_to_reap(struct vuc_queue *q);
void front_echo(struct vuc *c, unsigned queue, char command);
/* Keeps @depth requests in flight until @total are done, with @commands in turn. */
void front_load(struct vuc *c, unsigned queue, unsigned depth, unsigned total,
		const char *commands);

#endif
