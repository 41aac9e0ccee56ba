/* SPDX-License-Identifier: Apache-2.0 */
/* When a queue looks for requests instead of sleeping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "virtio/queue_pace.h"

#define LIMIT_NS 50000u
#define SLEEP_NS 20000u

/* A driver, and what it costs to wait for its next request. */
struct driver {
	unsigned sleep_ns; /* asleep */
	unsigned look_ns;  /* looking, when the look finds it */
	unsigned hold_ns;  /* the same with the signal held back; 0: it waits for that */
	unsigned vain;	   /* every how many looks in vain; 0: none */
	unsigned requests; /* in each turn that sleeps; looking finds one */
	unsigned wall_ns;  /* between two requests beyond that time, when it is signalled */
};

struct outcome {
	unsigned sleeps, looks, holds; /* turns; the last among the second */
	unsigned measured;
	uint64_t cost_ns, requests;
};

static uint64_t clock_ns;

/* One turn; its cost. */
static uint64_t play_turn(struct queue_pace *pace, const struct driver *d, struct outcome *o)
{
	uint64_t limit_ns = queue_pace_limit_ns(pace);
	bool hold = queue_pace_holds(pace);

	if (limit_ns == 0) {
		o->sleeps++;
		clock_ns += d->sleep_ns + d->wall_ns;
		return d->sleep_ns;
	}
	o->holds += hold;
	if ((d->vain && o->looks++ % d->vain == 0) || (hold && !d->hold_ns)) {
		queue_pace_vain(pace);
		clock_ns += limit_ns + d->sleep_ns + d->wall_ns;
		return limit_ns + d->sleep_ns;
	}
	o->looks += !d->vain;
	queue_pace_found(pace);
	clock_ns += hold ? d->hold_ns : d->look_ns + d->wall_ns;
	return hold ? d->hold_ns : d->look_ns;
}

static struct outcome play(struct queue_pace *pace, const struct driver *d, unsigned turns)
{
	unsigned requests = 1;
	struct outcome o = { 0 };

	for (unsigned i = 0; i < turns; i++) {
		bool measure = queue_pace_begin(pace, requests, clock_ns);
		unsigned sleeps = o.sleeps;
		uint64_t cost_ns = play_turn(pace, d, &o);

		requests = o.sleeps > sleeps && d->requests ? d->requests : 1;
		if (measure) {
			queue_pace_end(pace, cost_ns);
			o.measured++;
		}
		o.cost_ns += cost_ns;
		o.requests += requests;
	}
	return o;
}

static const struct driver quick = { .sleep_ns = SLEEP_NS, .look_ns = 5000 };
static const struct driver slow = { .sleep_ns = SLEEP_NS, .look_ns = 30000 };
static const struct driver absent = { .sleep_ns = SLEEP_NS, .vain = 1 };

/* Rests and measures until the first look. */
static unsigned sleeps_before_look(struct queue_pace *pace)
{
	unsigned n = 0;

	for (; n < 10 * PACE_REST_MAX; n++) {
		if (queue_pace_begin(pace, 1, clock_ns))
			queue_pace_end(pace, SLEEP_NS);
		if (queue_pace_limit_ns(pace))
			break;
	}
	return n;
}

static void test_none_when_off(void **state)
{
	struct queue_pace pace;

	(void)state;
	queue_pace_init(&pace, 0, VIRTIO_POLL_AUTO);
	assert_int_equal(play(&pace, &quick, 10000).looks, 0);
	queue_pace_init(&pace, 0, VIRTIO_POLL_LATENCY);
	assert_int_equal(play(&pace, &quick, 10000).looks, 0);
}

static void test_looks_while_that_is_cheaper(void **state)
{
	struct queue_pace pace;
	struct outcome o;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	o = play(&pace, &quick, 100 * PACE_RENEW);
	/* What it takes to measure what sleeping costs: once in a while. */
	assert_in_range(o.sleeps, PACE_WINDOW, PACE_REST_MIN + 1 + 101 * PACE_WINDOW);
	assert_in_range(o.measured, 1, o.looks / 25);
}

static void test_sleeps_while_that_is_cheaper(void **state)
{
	struct queue_pace pace;
	struct outcome o;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	play(&pace, &slow, 10000);
	o = play(&pace, &slow, 1000000);
	assert_in_range(o.looks, 1, 1000000 / PACE_REST_MAX * PACE_WINDOW);
	assert_in_range(o.cost_ns / o.requests, SLEEP_NS, SLEEP_NS + SLEEP_NS / 50);
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_LATENCY);
	assert_in_range(play(&pace, &slow, 10000).sleeps, 0, 2 * PACE_REST_MIN);
}

/* Each sleep gathers several requests, so a look that costs less than one sleep costs
 * more for each request. */
static void test_counts_requests(void **state)
{
	const struct driver d = { .sleep_ns = SLEEP_NS, .look_ns = 10000, .requests = 4 };
	struct queue_pace pace;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	play(&pace, &d, 10000);
	assert_in_range(play(&pace, &d, 100000).looks, 1, 100000 / PACE_REST_MAX * PACE_WINDOW * 2);
}

/* A guest whose requests are far apart: next to no looks, at any price. */
static void test_gives_up_in_vain(void **state)
{
	struct queue_pace pace;

	(void)state;
	for (unsigned any = 0; any < 2; any++) {
		struct outcome o;

		queue_pace_init(&pace, LIMIT_NS, any ? VIRTIO_POLL_LATENCY : VIRTIO_POLL_AUTO);
		o = play(&pace, &absent, 100);
		assert_in_range(o.looks, 1, 16);
		play(&pace, &absent, 10000);
		o = play(&pace, &absent, 1000000);
		assert_in_range(o.looks, 1, 1000000 / PACE_REST_MAX * 5);
		/* And it is tried again when the guest wakes up. */
		assert_in_range(play(&pace, &quick, 10000).looks, 5000, 10000);
	}
}

static void test_bears_a_pause(void **state)
{
	const struct driver pausing = { .sleep_ns = SLEEP_NS, .look_ns = 2000, .vain = 20 };
	struct queue_pace pace;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	play(&pace, &quick, 1000);
	assert_in_range(play(&pace, &pausing, 10000).looks, 9500, 10000);
	/* But not for long when they become many. */
	for (unsigned n = 0; n < 20 && queue_pace_limit_ns(&pace); n++) {
		queue_pace_begin(&pace, 1, clock_ns);
		queue_pace_vain(&pace);
		assert_in_range(n, 0, 5);
	}
}

static void test_rests_longer_each_time(void **state)
{
	struct queue_pace pace;
	unsigned last = 0;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	for (unsigned i = 0; i < 20; i++) {
		unsigned n = sleeps_before_look(&pace);

		assert_true(n > last || n >= PACE_REST_MAX);
		assert_in_range(n, PACE_REST_MIN, PACE_REST_MAX + PACE_WINDOW + 1);
		last = n;
		/* Looking in vain, then holding. */
		play(&pace, &absent, 9);
	}
	/* What proves right makes up for it. */
	assert_in_range(sleeps_before_look(&pace), PACE_REST_MAX / 2, 2 * PACE_REST_MAX);
	play(&pace, &quick, 2 * PACE_PROVEN);
	for (unsigned i = 0; queue_pace_limit_ns(&pace); i++) {
		assert_in_range(i, 0, 10);
		play(&pace, &absent, 1);
	}
	assert_in_range(sleeps_before_look(&pace), 0, PACE_REST_MIN + PACE_WINDOW + 1);
}

/* An interrupted driver takes 80 us for a request, one that is not 30 us. */
static void test_holds_what_interrupts(void **state)
{
	struct driver d = {
		.sleep_ns = SLEEP_NS, .look_ns = 45000, .hold_ns = 28000, .wall_ns = 60000
	};
	struct queue_pace pace;
	struct outcome o;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	play(&pace, &d, 5000);
	o = play(&pace, &d, 100000);
	assert_in_range(o.holds, 90000, 100000);
	/* Not when that brings too little, ... */
	d.wall_ns = 10000;
	play(&pace, &d, 50000);
	assert_in_range(play(&pace, &d, 100000).holds, 0, 1000);
	/* ... or costs too much. */
	d.wall_ns = 60000;
	d.hold_ns = 32000;
	assert_in_range(play(&pace, &d, 100000).holds, 0, 1000);
	/* One that waits for its answer is not kept waiting for long. */
	d.hold_ns = 0;
	assert_in_range(play(&pace, &d, 1000000).holds, 1, 2000);
	/* And it is found out when it does not any more. */
	d.hold_ns = 28000;
	assert_in_range(play(&pace, &d, 100000).holds, 50000, 100000);
}

static void test_holds_when_told_to(void **state)
{
	const struct driver d = { .sleep_ns = SLEEP_NS, .look_ns = 5000, .hold_ns = 5000 };
	struct queue_pace pace;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_THROUGHPUT);
	assert_in_range(play(&pace, &d, 10000).holds, 9900, 10000);
	assert_in_range(play(&pace, &quick, 1000000).holds, 1, 10000);
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_LATENCY);
	assert_int_equal(play(&pace, &d, 10000).holds, 0);
}

static void test_makes_room(void **state)
{
	struct queue_pace pace;

	(void)state;
	queue_pace_init(&pace, LIMIT_NS, VIRTIO_POLL_AUTO);
	play(&pace, &quick, 1000);
	assert_true(queue_pace_limit_ns(&pace) > 0);
	queue_pace_crowded(&pace);
	assert_in_range(sleeps_before_look(&pace), PACE_REST_MAX, PACE_REST_MAX + PACE_WINDOW + 1);
	assert_in_range(play(&pace, &quick, 10000).looks, 9000, 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none_when_off),
		cmocka_unit_test(test_looks_while_that_is_cheaper),
		cmocka_unit_test(test_sleeps_while_that_is_cheaper),
		cmocka_unit_test(test_counts_requests),
		cmocka_unit_test(test_gives_up_in_vain),
		cmocka_unit_test(test_bears_a_pause),
		cmocka_unit_test(test_rests_longer_each_time),
		cmocka_unit_test(test_holds_what_interrupts),
		cmocka_unit_test(test_holds_when_told_to),
		cmocka_unit_test(test_makes_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
