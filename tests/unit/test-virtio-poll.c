/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queue threads that look for requests before they sleep: no request is left lying
 * whenever it comes, and whatever the front end does to a ring meanwhile. That a kick was
 * lost shows as a wait that ends with WAIT_MS.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "toy_device.h"
#include "virtio/shm_map.h"

#define POLL_US 50u

static const struct vuc_config formats[] = {
	{ .queues = 4, .event_idx = true, .indirect = true },
	{ .queues = 4 },
	{ .queues = 4, .packed = true, .event_idx = true, .indirect = true },
	{ .queues = 4, .packed = true },
};

#define for_each_format(config)                                                                    \
	for (const struct vuc_config *config = formats; config < formats + ARRAY_SIZE(formats);    \
	     config++)

/* What a thread does of its own accord depends on the machine; told to, it does it. */
static const enum virtio_poll polls[] = { VIRTIO_POLL_AUTO, VIRTIO_POLL_LATENCY,
					  VIRTIO_POLL_THROUGHPUT };

#define for_each_poll(poll)                                                                        \
	for (const enum virtio_poll *poll = polls; poll < polls + ARRAY_SIZE(polls); poll++)

static unsigned random_below(unsigned *seed, unsigned below)
{
	*seed = *seed * 1103515245u + 12345u;
	return (*seed >> 16) % below;
}

/* Awake, because a sleep takes longer than what is asked for. */
static void pause_ns(uint64_t ns)
{
	const uint64_t end_ns = loop_now_ns() + ns;

	while (loop_now_ns() < end_ns)
		;
}

/* A thread that is proven right to look, then pauses around the time when it gives up. */
static void load_with_pauses(struct vuc *c, unsigned queue, unsigned rounds)
{
	struct vuc_queue *q = &c->queues[queue];
	unsigned seed = queue;
	struct echo e;

	echo_init(&e, c, 0);
	for (unsigned i = 0; i < rounds; i++) {
		if (i % 40 >= 20)
			pause_ns(random_below(&seed, 3 * POLL_US * 1000));
		echo_submit(&e, q, i % 5 ? 'e' : 'w', i);
		vuc_queue_kick(q);
		front_reap(q);
	}
}

static void test_pauses(void **state)
{
	(void)state;
	for_each_poll(poll)
	{
		struct toy toy;

		toy_start_poll(&toy, *poll, POLL_US, 1000);
		for_each_format(config)
		{
			struct vuc c;

			front_open(&c, &toy, config);
			load_with_pauses(&c, 1, 600);
			front_load(&c, 2, 16, 800, "eew");
			front_load(&c, 3, 30, 800, "e");
			front_close(&c, &toy);
		}
		toy_end(&toy);
	}
}

/* Several in flight whose number changes: what is held back is never kept. */
static void test_bursts(void **state)
{
	(void)state;
	for_each_poll(poll)
	{
		struct toy toy;

		toy_start_poll(&toy, *poll, POLL_US, 1000);
		for_each_format(config)
		{
			unsigned seed = 1;
			struct vuc c;

			front_open(&c, &toy, config);
			for (unsigned i = 0; i < 25; i++)
				front_load(&c, 1 + i % 3, 1 + random_below(&seed, 24), 60, "eeew");
			front_close(&c, &toy);
		}
		toy_end(&toy);
	}
}

/* From a look that lasts as good as for ever to the shortest. */
static void test_limits(void **state)
{
	static const unsigned limits[] = { 1, 2, 1000000 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		struct toy toy;

		toy_start(&toy, limits[i], 1000);
		for_each_format(config)
		{
			struct vuc c;

			front_open(&c, &toy, config);
			front_load(&c, 1, 1, 500, "e");
			front_load(&c, 2, 16, 500, "ew");
			front_close(&c, &toy);
		}
		toy_end(&toy);
	}
}

/* What a front end does to a ring while its thread looks at it: a look of a second is
 * the likely place to be caught in, and none of this may wait for its end. */
static void change_ring(struct vuc *c, unsigned queue, unsigned what)
{
	struct vuc_queue *q = &c->queues[queue];
	uint32_t base;

	switch (what) {
	case 0:
		assert_int_equal(vuc_queue_stop(c, queue, &base), 0);
		assert_int_equal(base, vuc_queue_base(q));
		assert_int_equal(vuc_queue_start(c, queue), 0);
		break;
	case 1:
		assert_int_equal(vuc_queue_enable(c, queue, false), 0);
		assert_int_equal(vuc_queue_enable(c, queue, true), 0);
		break;
	case 2:
		assert_int_equal(vuc_queue_send_fd(c, VUC_SET_VRING_KICK, queue, q->kick_fd), 0);
		break;
	case 3:
		assert_int_equal(vuc_mem_table(c), 0);
		break;
	default:
		assert_int_equal(vuc_request(c, VUC_RESET_DEVICE, NULL, 0, NULL, 0), 0);
		assert_int_equal(vuc_set_u64(c, VUC_SET_FEATURES, c->features), 0);
		for (unsigned i = 0; i < c->cfg.queues; i++) {
			vuc_queue_reset(&c->queues[i]);
			assert_int_equal(vuc_queue_start(c, i), 0);
		}
	}
}

static void changes_meanwhile_with(enum virtio_poll poll)
{
	struct toy toy;

	toy_start_poll(&toy, poll, 1000000, 1000);
	for_each_format(base)
	{
		struct vuc_config config = *base;
		struct vuc c;

		config.status = true;
		front_open(&c, &toy, &config);
		for (unsigned i = 0; i < 50; i++) {
			front_load(&c, 1 + i % 3, 1, 20, "e");
			change_ring(&c, 1 + i % 3, i % 5);
		}
		front_load(&c, 1, 8, 100, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_changes_meanwhile(void **state)
{
	(void)state;
	for_each_poll(poll) changes_meanwhile_with(*poll);
}

/* A ring that breaks says so, whether its thread is looking at it or not. */
static void breaks_meanwhile_with(enum virtio_poll poll)
{
	struct toy toy;

	toy_start_poll(&toy, poll, 1000000, 1000);
	for_each_format(config)
	{
		struct vuc c;

		front_open(&c, &toy, config);
		for (unsigned i = 0; i < 10; i++) {
			const struct vuc_seg outside = { 1ull << 50, 64 };
			struct vuc_queue *q = &c.queues[1 + i % 3];
			uint64_t errors;

			front_load(&c, q->index, 1, 20 + 10 * i, "e");
			assert_true(vuc_queue_submit(q, &outside, 1, 0, NULL) >= 0);
			vuc_queue_kick(q);
			assert_int_equal(vuc_queue_wait(q, WAIT_MS), -ECONNRESET);
			assert_int_equal(read(q->err_fd, &errors, sizeof(errors)), sizeof(errors));
			assert_int_equal(vuc_queue_stop(&c, q->index, NULL), 0);
			vuc_queue_reset(q);
			assert_int_equal(vuc_queue_start(&c, q->index), 0);
		}
		front_load(&c, 1, 8, 100, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_breaks_meanwhile(void **state)
{
	(void)state;
	for_each_poll(poll) breaks_meanwhile_with(*poll);
}

/* A front end that goes while the thread looks, and the next one. */
static void reconnects_meanwhile_with(enum virtio_poll poll)
{
	struct toy toy;

	toy_start_poll(&toy, poll, 1000000, 1000);
	for (unsigned i = 0; i < 50; i++) {
		struct vuc c;

		front_open(&c, &toy, &formats[i % ARRAY_SIZE(formats)]);
		front_load(&c, 1, 1, 20, "e");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_reconnects_meanwhile(void **state)
{
	(void)state;
	for_each_poll(poll) reconnects_meanwhile_with(*poll);
}

/* How often a driver is signalled whose requests, 10 us each, all wait when the thread wakes up. */
static uint64_t signals_of_requests(enum virtio_poll poll)
{
	enum { REQUESTS = 16 };
	const struct vuc_config config = { .queues = 2 };
	struct echo e[REQUESTS];
	uint64_t signals = 0;
	struct vuc_queue *q;
	struct toy toy;
	struct vuc c;

	toy_start_poll(&toy, poll, 0, 1000);
	front_open(&c, &toy, &config);
	q = &c.queues[1];
	for (unsigned i = 0; i < REQUESTS; i++) {
		echo_init(&e[i], &c, 0);
		echo_submit(&e[i], q, 'p', i);
	}
	while (read(q->call_fd, &signals, sizeof(signals)) < 0)
		; /* the one that a new descriptor gets */
	vuc_queue_kick(q);
	wait_for(&toy.requests, REQUESTS);
	usleep(50000); /* the last one is done and told of */
	assert_int_equal(read(q->call_fd, &signals, sizeof(signals)), sizeof(signals));
	for (unsigned i = 0; i < REQUESTS; i++)
		front_reap(q);
	front_close(&c, &toy);
	toy_end(&toy);
	return signals;
}

/* The least of some tries: who is kept from the processor for a while signals in between. */
static uint64_t least_signals(enum virtio_poll poll)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 5; i++) {
		uint64_t signals = signals_of_requests(poll);

		least = MIN(least, signals);
	}
	return least;
}

/* A driver that has no processor to take in answers with is told of several together. */
static void test_one_processor(void **state)
{
	cpu_set_t all, one;
	size_t cpu = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_in_range(least_signals(VIRTIO_POLL_AUTO), 1, 12);
	assert_in_range(least_signals(VIRTIO_POLL_LATENCY), 14, 16);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses),
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_changes_meanwhile),
		cmocka_unit_test(test_breaks_meanwhile),
		cmocka_unit_test(test_reconnects_meanwhile),
		cmocka_unit_test(test_one_processor),
	};

	signal(SIGPIPE, SIG_IGN);
	shm_map_install_guard();
	log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
