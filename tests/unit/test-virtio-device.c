/* SPDX-License-Identifier: Apache-2.0 */
/* The device from its socket to ops->request() and back. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "toy_device.h"
#include "virtio/shm_map.h"

static const struct vuc_config both_formats[] = {
	{ .queues = 4, .event_idx = true, .indirect = true },
	{ .queues = 4, .packed = true, .event_idx = true, .indirect = true },
};

#define for_each_format(config)                                                                    \
	for (const struct vuc_config *config = both_formats;                                       \
	     config < both_formats + ARRAY_SIZE(both_formats); config++)

static void test_echo(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for (unsigned bits = 0; bits < 32; bits++) {
		const struct vuc_config config = {
			.queues = 4,
			.queue_size = bits & 1 ? 64 : 256,
			.packed = bits & 2,
			.event_idx = bits & 4,
			.indirect = bits & 8,
			.mem_slots = bits & 16,
			.status = bits & 16,
			.backend_req = bits & 16,
		};
		struct vuc c;

		front_open(&c, &toy, &config);
		for (unsigned q = 0; q < config.queues; q++)
			front_echo(&c, q, 'e');
		front_load(&c, 1, 1, 200, "e");
		front_load(&c, 2, 16, 1000, "e");
		front_load(&c, 3, 16, 1000, "w");
		front_load(&c, 1, 15, 1000, "eww");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_busy_polling(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 200, 1000);
	for_each_format(config)
	{
		struct vuc c;

		front_open(&c, &toy, config);
		front_load(&c, 1, 1, 2000, "e");
		front_load(&c, 2, 16, 2000, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

/* Signals so far that nobody has read; at least @least, for which it waits. */
static unsigned signals_of(struct vuc_queue *q, unsigned least)
{
	struct pollfd p = { .fd = q->call_fd, .events = POLLIN };
	uint64_t count, sum = 0;

	while (sum < least) {
		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		assert_int_equal(read(q->call_fd, &count, sizeof(count)), sizeof(count));
		sum += count;
	}
	if (read(q->call_fd, &count, sizeof(count)) == sizeof(count))
		sum += count;
	return (unsigned)sum;
}

#define LARGE_REPLY (128u << 10)

/*
 * Of large requests two are signalled together, while there are two more to go on with. What was
 * small before them is signalled at once. A packed ring does not know how many there are.
 */
static void test_signals_of_large_requests(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for (unsigned packed = 0; packed < 2; packed++) {
		const struct vuc_config config = {
			.queues = 2, .packed = packed, .indirect = true, .mem_size = 4u << 20
		};
		unsigned wanted = packed ? 7 : 5, signals;
		struct vuc_buf in, out;
		struct echo first;
		struct vuc_queue *q;
		uint32_t len, base;
		void *cookie;
		struct vuc c;

		front_open(&c, &toy, &config);
		q = &c.queues[1];
		atomic_store(&toy.requests, 0);
		echo_init(&first, &c, 0);
		echo_submit(&first, q, 'b', 0);
		vuc_queue_kick(q);
		wait_for(&toy.requests, 1);
		signals_of(q, 0); /* of the start */
		assert_int_equal(vuc_mem_alloc(&c, 0, 64, 64, &in), 0);
		assert_int_equal(vuc_mem_alloc(&c, 0, LARGE_REPLY, 4096, &out), 0);
		memset(in.p, 'e', 64);
		for (unsigned i = 0; i < 6; i++) {
			const struct vuc_seg segs[2] = { { in.gpa, 64 }, { out.gpa, LARGE_REPLY } };

			assert_true(vuc_queue_submit(q, segs, 1, 1, &in) >= 0);
		}
		sem_post(&toy.gate);
		signals = signals_of(q, wanted);
		assert_int_equal(vuc_queue_stop(&c, 1, &base), 0);
		signals += signals_of(q, 0);
		assert_int_equal(signals, wanted);
		for (unsigned i = 0; i < 7; i++)
			assert_int_equal(vuc_queue_reap(q, &cookie, &len), 1);
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_stop_waits_for_requests(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 10000);
	for_each_format(config)
	{
		struct echo echoes[5];
		struct vuc_queue *q;
		uint32_t base;
		struct vuc c;

		front_open(&c, &toy, config);
		q = &c.queues[1];
		atomic_store(&toy.requests, 0);
		atomic_store(&toy.interrupts, 0);
		for (unsigned i = 0; i < 5; i++) {
			echo_init(&echoes[i], &c, 0);
			echo_submit(&echoes[i], q, i < 3 ? 'h' : 'w', i);
		}
		vuc_queue_kick(q);
		wait_for(&toy.requests, 5);
		/* They are completed by interrupt(), before the reply comes. */
		assert_int_equal(vuc_queue_stop(&c, 1, &base), 0);
		assert_true(atomic_load(&toy.interrupts) > 0);
		for (unsigned i = 0; i < 5; i++)
			front_reap(q);
		assert_int_equal(base, vuc_queue_base(q));
		/* A stopped queue takes nothing, and goes on where it was. */
		echo_submit(&echoes[0], q, 'e', 7);
		vuc_queue_kick_always(q);
		usleep(20000);
		assert_true(front_nothing_to_reap(q));
		assert_int_equal(vuc_queue_start(&c, 1), 0);
		front_reap(q);
		front_load(&c, 1, 8, 100, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

struct seen {
	unsigned queue, count;
	uint64_t not_before_ns;
};

static void see(void *arg, const struct virtio_req *req)
{
	struct seen *seen = arg;

	seen->count++;
	if (req->queue != seen->queue || req->begun_ns < seen->not_before_ns ||
	    req->begun_ns > loop_now_ns())
		seen->queue = UINT32_MAX; /* a lock is held: the test fails below */
}

static void test_look(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 10000);
	for_each_format(config)
	{
		struct seen seen = { .queue = 2, .not_before_ns = loop_now_ns() };
		struct virtio_queue_info info;
		struct echo echoes[3];
		struct vuc c;

		front_open(&c, &toy, config);
		assert_int_equal(virtio_device_queue_count(toy.device), 4);
		atomic_store(&toy.requests, 0);
		for (unsigned i = 0; i < 3; i++) {
			echo_init(&echoes[i], &c, 0);
			echo_submit(&echoes[i], &c.queues[2], 's', i);
		}
		vuc_queue_kick(&c.queues[2]);
		wait_for(&toy.requests, 3);
		virtio_device_each_request(toy.device, see, &seen);
		assert_int_equal(seen.count, 3);
		assert_int_equal(seen.queue, 2);
		virtio_device_queue_info(toy.device, 2, &info);
		assert_true(info.started);
		assert_int_equal(info.size, c.queues[2].size);
		assert_int_equal(info.in_flight, 3);
		assert_int_equal(info.waiting, 0);
		virtio_device_queue_info(toy.device, 1, &info);
		assert_int_equal(info.in_flight, 0);
		toy_release(&toy, true);
		for (unsigned i = 0; i < 3; i++)
			front_reap(&c.queues[2]);
		seen.count = 0;
		virtio_device_each_request(toy.device, see, &seen);
		assert_int_equal(seen.count, 0);
		front_close(&c, &toy);
		virtio_device_queue_info(toy.device, 2, &info);
		assert_false(info.started);
	}
	toy_end(&toy);
}

static void test_stop_gives_up(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 50);
	for_each_format(config)
	{
		struct echo late;
		struct vuc_queue *q;
		struct vuc c;

		front_open(&c, &toy, config);
		q = &c.queues[2];
		atomic_store(&toy.requests, 0);
		echo_init(&late, &c, 0);
		echo_submit(&late, q, 's', 1);
		vuc_queue_kick(q);
		wait_for(&toy.requests, 1);
		assert_int_equal(vuc_queue_stop(&c, 2, NULL), 0);
		/* The queue starts anew while the request is still out. */
		vuc_queue_reset(q);
		assert_int_equal(vuc_queue_start(&c, 2), 0);
		front_load(&c, 2, 8, 100, "ew");
		assert_int_equal(toy_release(&toy, true), 1);
		usleep(10000);
		assert_true(front_nothing_to_reap(q));
		front_load(&c, 2, 8, 100, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_disconnect_waits_for_requests(void **state)
{
	struct echo late;
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 20);
	front_open(&c, &toy, NULL);
	echo_init(&late, &c, 0);
	echo_submit(&late, &c.queues[1], 's', 1);
	vuc_queue_kick(&c.queues[1]);
	wait_for(&toy.requests, 1);
	vuc_close(&c);
	usleep(100000);
	assert_int_equal(atomic_load(&toy.detached), 0);
	assert_int_equal(toy_release(&toy, true), 1);
	wait_for(&toy.detached, 1);
	front_open(&c, &toy, NULL);
	front_echo(&c, 1, 'e');
	front_close(&c, &toy);
	toy_end(&toy);
}

static void test_memory_changes_while_requests_run(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 10000);
	for_each_format(base)
	{
		struct vuc_config config = *base;
		struct echo held;
		struct vuc c;
		int extra;

		config.mem_slots = true;
		front_open(&c, &toy, &config);
		extra = vuc_region_create(&c, 1 << 20, 0);
		assert_true(extra > 0);
		assert_int_equal(vuc_region_add(&c, (unsigned)extra), 0);
		atomic_store(&toy.requests, 0);
		echo_init(&held, &c, (unsigned)extra);
		echo_submit(&held, &c.queues[1], 's', 3);
		vuc_queue_kick(&c.queues[1]);
		wait_for(&toy.requests, 1);
		/* The region goes; the request that uses it keeps it. */
		assert_int_equal(vuc_region_remove(&c, (unsigned)extra), 0);
		front_load(&c, 1, 4, 100, "ew");
		assert_int_equal(toy_release(&toy, true), 1);
		front_reap(&c.queues[1]);
		for (unsigned i = 0; i < 50; i++) {
			front_load(&c, 2, 8, 20, "w");
			assert_int_equal(vuc_region_add(&c, (unsigned)extra), 0);
			front_load(&c, 1, 8, 20, "ew");
			assert_int_equal(vuc_region_remove(&c, (unsigned)extra), 0);
		}
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

/* A front end has the same open file: no thread but the queue's waits for room in it. */
static void test_full_call_descriptor_holds_up_nobody(void **state)
{
	const struct vuc_config config = { .queues = 2 };
	const uint64_t full = UINT64_MAX - 1;
	struct echo echoes[8];
	struct vuc_queue *q;
	unsigned done = 0;
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, &config);
	q = &c.queues[1];
	signals_of(q, 0); /* of the start */
	assert_int_equal(fcntl(q->call_fd, F_SETFL, 0), 0);
	assert_int_equal(write(q->call_fd, &full, sizeof(full)), sizeof(full));
	/* More than there are workers. */
	for (unsigned i = 0; i < ARRAY_SIZE(echoes); i++) {
		echo_init(&echoes[i], &c, 0);
		echo_submit(&echoes[i], q, 'w', i);
	}
	vuc_queue_kick(q);
	for (unsigned ms = 0; done < ARRAY_SIZE(echoes); ms++) {
		void *cookie;
		uint32_t len;

		assert_true(ms < WAIT_MS);
		if (vuc_queue_reap(q, &cookie, &len) == 1)
			done++;
		else
			usleep(1000);
	}
	assert_int_equal(fcntl(q->call_fd, F_SETFL, O_NONBLOCK), 0);
	front_close(&c, &toy);
	toy_end(&toy);
}

static void test_broken_ring_stops_its_queue(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for_each_format(config)
	{
		const struct vuc_seg outside = { 1ull << 50, 64 };
		struct vuc_queue *q;
		uint64_t errors;
		struct vuc c;

		front_open(&c, &toy, config);
		q = &c.queues[1];
		assert_true(vuc_queue_submit(q, &outside, 1, 0, NULL) >= 0);
		vuc_queue_kick_always(q);
		assert_int_equal(vuc_queue_wait(q, WAIT_MS), -ECONNRESET);
		assert_int_equal(read(q->err_fd, &errors, sizeof(errors)), sizeof(errors));
		assert_int_equal(errors, 1);
		/* The others do not notice, and a new set-up cures it. */
		front_load(&c, 2, 8, 100, "ew");
		assert_int_equal(vuc_queue_stop(&c, 1, NULL), 0);
		vuc_queue_reset(q);
		assert_int_equal(vuc_queue_start(&c, 1), 0);
		front_load(&c, 1, 8, 100, "ew");
		front_close(&c, &toy);
		front_open(&c, &toy, config);
		front_load(&c, 1, 8, 100, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

/* cmocka puts its own handler in place of the guard's before each test. */
static struct sigaction guard_action;

static void test_truncated_memory_breaks_its_queue(void **state)
{
	struct vuc_config config = { .queues = 4 };
	struct toy toy;
	struct vuc c;

	(void)state;
	sigaction(SIGBUS, &guard_action, NULL);
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, &config);
	front_echo(&c, 1, 'e');
	/* The ring itself lies in what is cut off, so the other side faults too, and
	 * is not asked any more. */
	assert_int_equal(ftruncate(c.regions[0].fd, 0), 0);
	vuc_queue_kick_always(&c.queues[1]);
	assert_int_equal(poll(&(struct pollfd){ c.queues[1].err_fd, POLLIN, 0 }, 1, WAIT_MS), 1);
	assert_true(vuc_alive(&c));
	front_close(&c, &toy);
	front_open(&c, &toy, &config);
	front_load(&c, 1, 8, 100, "ew");
	front_close(&c, &toy);
	toy_end(&toy);
}

/* A back end dies with requests in flight; the next one does them. */
static void test_inflight_requests_are_resubmitted(void **state)
{
	struct toy dead, next;

	(void)state;
	for_each_format(base)
	{
		struct vuc_config config = *base;
		struct echo echoes[3];
		struct vuc c;

		toy_start(&dead, 0, 10);
		toy_start(&next, 0, 1000);
		config.inflight = true;
		front_open(&c, &dead, &config);
		front_load(&c, 1, 8, 100, "ew");
		atomic_store(&dead.requests, 0);
		for (unsigned i = 0; i < 3; i++) {
			echo_init(&echoes[i], &c, 0);
			echo_submit(&echoes[i], &c.queues[1], 's', i);
		}
		vuc_queue_kick(&c.queues[1]);
		wait_for(&dead.requests, 3);
		/* Giving up on them is as near to dying as a thread gets. */
		assert_int_equal(vuc_queue_stop(&c, 1, NULL), 0);
		vuc_disconnect(&c);

		front_attach(&c, &next);
		assert_int_equal(vuc_negotiate(&c), 0);
		assert_int_equal(vuc_start(&c), 0);
		wait_for(&next.requests, 3);
		front_load(&c, 2, 8, 100, "ew");
		assert_int_equal(toy_release(&next, true), 3);
		for (unsigned i = 0; i < 3; i++)
			front_reap(&c.queues[1]);
		front_load(&c, 1, 8, 100, "ew");
		assert_int_equal(toy_release(&dead, true), 3);
		wait_for(&dead.detached, 1);
		front_close(&c, &next);
		toy_end(&dead);
		toy_end(&next);
	}
}

static void test_written_pages_are_logged(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for_each_format(base)
	{
		struct vuc_config config = *base;
		struct echo quiet, e;
		struct vuc c;

		config.log_all = true;
		front_open(&c, &toy, &config);
		echo_init(&quiet, &c, 0);
		echo_init(&e, &c, 0);
		assert_int_equal(vuc_log_start(&c), 0);
		assert_int_equal(vuc_log_enable(&c, false), 0);
		echo_submit(&quiet, &c.queues[1], 'e', 1);
		vuc_queue_kick(&c.queues[1]);
		front_reap(&c.queues[1]);
		assert_false(vuc_log_test(&c, quiet.out.gpa));

		assert_int_equal(vuc_log_enable(&c, true), 0);
		echo_submit(&e, &c.queues[1], 'w', 1);
		vuc_queue_kick(&c.queues[1]);
		front_reap(&c.queues[1]);
		assert_true(vuc_log_test(&c, e.out.gpa));
		assert_false(vuc_log_test(&c, e.in.gpa));
		assert_false(vuc_log_test(&c, quiet.out.gpa));

		/* A new log while requests run: what completes later is in it. */
		atomic_store(&toy.requests, 0);
		echo_submit(&e, &c.queues[1], 's', 1);
		vuc_queue_kick(&c.queues[1]);
		wait_for(&toy.requests, 1);
		assert_int_equal(vuc_log_start(&c), 0);
		assert_false(vuc_log_test(&c, e.out.gpa));
		assert_int_equal(toy_release(&toy, true), 1);
		front_reap(&c.queues[1]);
		assert_true(vuc_log_test(&c, e.out.gpa));
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

/* Rings and features go, the memory table stays: QEMU does not send it again. */
static void test_reset_keeps_memory(void **state)
{
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for (unsigned round = 0; round < 4; round++) {
		struct vuc_config config = both_formats[round & 1];
		struct echo e;
		struct vuc c;
		uint64_t status;

		config.status = true;
		config.mem_slots = true;
		front_open(&c, &toy, &config);
		front_load(&c, 1, 8, 100, "ew");
		echo_init(&e, &c, 0);
		atomic_store(&toy.requests, 0);
		echo_submit(&e, &c.queues[1], 'h', 1);
		vuc_queue_kick(&c.queues[1]);
		wait_for(&toy.requests, 1);
		if (round & 2)
			assert_int_equal(vuc_request(&c, VUC_RESET_DEVICE, NULL, 0, NULL, 0), 0);
		else
			assert_int_equal(vuc_set_u64(&c, VUC_SET_STATUS, 0), 0);
		front_reap(&c.queues[1]);
		assert_int_equal(vuc_query_u64(&c, VUC_GET_STATUS, &status), 0);
		assert_int_equal(status, 0);
		assert_int_equal(atomic_load(&toy.detached), round);
		assert_int_equal(vuc_set_u64(&c, VUC_SET_FEATURES, c.features), 0);
		for (unsigned q = 0; q < 4; q++) {
			vuc_queue_reset(&c.queues[q]);
			assert_int_equal(vuc_queue_start(&c, q), 0);
		}
		front_load(&c, 1, 8, 100, "ew");
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

static void test_disabled_ring_takes_nothing(void **state)
{
	struct echo e;
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, NULL);
	echo_init(&e, &c, 0);
	front_echo(&c, 1, 'e');
	assert_int_equal(vuc_queue_enable(&c, 1, false), 0);
	echo_submit(&e, &c.queues[1], 'e', 1);
	vuc_queue_kick_always(&c.queues[1]);
	usleep(20000);
	assert_true(front_nothing_to_reap(&c.queues[1]));
	assert_int_equal(vuc_queue_enable(&c, 1, true), 0);
	front_reap(&c.queues[1]);
	front_close(&c, &toy);
	toy_end(&toy);
}

/* User-mode Linux never stops a ring: it disables it and sets it up again. */
static void test_ring_is_set_up_again_without_a_stop(void **state)
{
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, NULL);
	for (unsigned round = 0; round < 3; round++) {
		front_load(&c, 1, 8, 50, "ew");
		assert_int_equal(vuc_queue_enable(&c, 1, false), 0);
		vuc_queue_reset(&c.queues[1]);
		assert_int_equal(vuc_mem_table(&c), 0);
		assert_int_equal(vuc_queue_start(&c, 1), 0);
	}
	front_load(&c, 1, 8, 50, "ew");
	front_close(&c, &toy);
	toy_end(&toy);
}

static void test_rings_without_protocol_features(void **state)
{
	const struct vuc_config config = { .no_protocol_features = true };
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, &config);
	front_load(&c, 1, 8, 100, "ew");
	front_close(&c, &toy);
	toy_end(&toy);
}

/* A kick that is a pipe, then none at all. */
static void test_kinds_of_kick(void **state)
{
	struct toy toy;
	struct vuc c;
	int ends[2];

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, NULL);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, 1, ends[0]), 0);
	close(ends[0]);
	close(c.queues[1].kick_fd);
	c.queues[1].kick_fd = ends[1];
	front_load(&c, 1, 1, 100, "e");
	front_load(&c, 1, 8, 100, "ew");

	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, 1, -1), 0);
	close(c.queues[1].kick_fd);
	c.queues[1].kick_fd = eventfd(0, EFD_NONBLOCK);
	front_load(&c, 1, 1, 20, "e");
	front_close(&c, &toy);
	toy_end(&toy);
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void test_reconnects_leak_nothing(void **state)
{
	const struct vuc_config config = { .queues = 4, .inflight = true, .backend_req = true };
	unsigned before;
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	before = count_fds();
	for (unsigned i = 0; i < 1000; i++) {
		struct vuc c;

		front_open(&c, &toy, &config);
		front_load(&c, 1 + i % 3, 4, 8, "ew");
		front_close(&c, &toy);
	}
	assert_int_equal(count_fds(), before);
	toy_end(&toy);
}

static void test_one_front_end_at_a_time(void **state)
{
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, NULL);
	assert_int_equal(toy_attach(&toy, dup(0)), -EBUSY);
	front_echo(&c, 1, 'e');
	front_close(&c, &toy);
	toy_end(&toy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_busy_polling),
		cmocka_unit_test(test_signals_of_large_requests),
		cmocka_unit_test(test_stop_waits_for_requests),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_stop_gives_up),
		cmocka_unit_test(test_disconnect_waits_for_requests),
		cmocka_unit_test(test_memory_changes_while_requests_run),
		cmocka_unit_test(test_full_call_descriptor_holds_up_nobody),
		cmocka_unit_test(test_broken_ring_stops_its_queue),
		cmocka_unit_test(test_truncated_memory_breaks_its_queue),
		cmocka_unit_test(test_inflight_requests_are_resubmitted),
		cmocka_unit_test(test_written_pages_are_logged),
		cmocka_unit_test(test_reset_keeps_memory),
		cmocka_unit_test(test_disabled_ring_takes_nothing),
		cmocka_unit_test(test_ring_is_set_up_again_without_a_stop),
		cmocka_unit_test(test_rings_without_protocol_features),
		cmocka_unit_test(test_kinds_of_kick),
		cmocka_unit_test(test_reconnects_leak_nothing),
		cmocka_unit_test(test_one_front_end_at_a_time),
	};

	signal(SIGPIPE, SIG_IGN);
	shm_map_install_guard();
	sigaction(SIGBUS, NULL, &guard_action);
	log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
