/* SPDX-License-Identifier: Apache-2.0 */
/* See queue_pace.h. */
#include "virtio/queue_pace.h"

#include "base/util.h"

/* A look in vain weighs so much more than one that found something; this much ends it. */
#define PACE_VAIN_WEIGHT 4u
#define PACE_VAIN_MAX 12u

/* No turn counts for more, so that sums stay small enough to be multiplied. */
#define PACE_TURN_MAX_NS 1000000000ull

static void pace_enter(struct queue_pace *pace, enum queue_pace_phase phase)
{
	pace->phase = phase;
	pace->failed = false;
	pace->measured = 0;
	pace->sum = (struct pace_sum){ 0 };
}

/* To looking or holding, tried or settled on. */
static void pace_enter_looks(struct queue_pace *pace, enum queue_pace_phase phase)
{
	pace_enter(pace, phase);
	pace->vain = 0;
	pace->looks = 0;
}

static void pace_rest(struct queue_pace *pace)
{
	pace->rest = pace->rest_next;
	pace->rest_next = MIN(2 * pace->rest_next + 1, PACE_REST_MAX);
	pace_enter(pace, PACE_REST);
}

void queue_pace_init(struct queue_pace *pace, uint64_t limit_ns, enum virtio_poll poll)
{
	*pace = (struct queue_pace){ .limit_ns = limit_ns,
				     .poll = poll,
				     .rest_next = PACE_REST_MIN };
	pace_rest(pace);
}

/* Whether @a took at most @num / @den of the processor time of @b, for each request. */
static bool pace_costs_at_most(const struct pace_sum *a, const struct pace_sum *b, unsigned num,
			       unsigned den)
{
	return a->cost_ns * b->cost_requests * den <= b->cost_ns * a->cost_requests * num;
}

/* The same of the time that went by. */
static bool pace_takes_at_most(const struct pace_sum *a, const struct pace_sum *b, unsigned num,
			       unsigned den)
{
	return a->wall_ns * b->requests * den <= b->wall_ns * a->requests * num;
}

static bool pace_look_pays(const struct queue_pace *pace)
{
	return pace_costs_at_most(&pace->sum, &pace->sleep, 1, 1);
}

/* Half more of our processor time for a third more requests: what the driver saves is not in
 * the figures, but shows in what it gets done. */
static bool pace_hold_pays(const struct queue_pace *pace)
{
	return pace_costs_at_most(&pace->sum, &pace->sleep, 3, 2) &&
	       pace_takes_at_most(&pace->sum, &pace->sleep, 3, 4) &&
	       (!pace->look_pays || pace_takes_at_most(&pace->sum, &pace->look, 3, 4));
}

/* Not worth the rest of the window. */
static bool pace_hopeless(const struct queue_pace *pace)
{
	return pace->failed || pace->sum.cost_ns > 2 * pace->sleep.cost_ns;
}

static void pace_settle(struct queue_pace *pace)
{
	if (pace->look_pays)
		pace_enter_looks(pace, PACE_LOOKS);
	else
		pace_rest(pace);
}

static void pace_tried_look(struct queue_pace *pace)
{
	pace->look_pays = !pace_hopeless(pace) && pace_look_pays(pace);
	pace->look = pace->sum;
	if (pace->hold_rest > 0) {
		pace->hold_rest--;
		pace_settle(pace);
	} else {
		pace_enter_looks(pace, PACE_TRY_HOLD);
	}
}

static void pace_tried_hold(struct queue_pace *pace)
{
	if (!pace_hopeless(pace) && pace_hold_pays(pace)) {
		pace->hold_next = 0;
		pace_enter_looks(pace, PACE_HOLDS);
		return;
	}
	pace->hold_rest = pace->hold_next;
	pace->hold_next = MIN(2 * pace->hold_next + 1, PACE_HOLD_REST_MAX);
	pace_settle(pace);
}

/* A turn of a way that was settled on has passed. */
static void pace_go_on(struct queue_pace *pace, bool hold)
{
	pace->looks++;
	if (pace->looks == PACE_PROVEN)
		pace->rest_next = PACE_REST_MIN;
	if (pace->failed) {
		pace_rest(pace);
	} else if (pace->poll != VIRTIO_POLL_AUTO) {
		return;
	} else if (pace->looks == (hold ? PACE_RENEW_HOLD : PACE_RENEW)) {
		pace_enter(pace, PACE_SLEEPS);
	} else if (pace->measured == PACE_WINDOW) {
		if (hold ? pace_hold_pays(pace) : pace_look_pays(pace))
			pace_enter(pace, pace->phase);
		else
			pace_rest(pace);
	}
}

/* The turn before has been told of; goes on to the next phase where it is time. */
static void pace_advance(struct queue_pace *pace)
{
	bool over = pace->measured >= PACE_WINDOW;

	switch (pace->phase) {
	case PACE_REST:
		if (pace->rest > 0)
			pace->rest--;
		else if (pace->poll == VIRTIO_POLL_AUTO)
			pace_enter(pace, PACE_SLEEPS);
		else
			pace_enter_looks(pace, pace->poll == VIRTIO_POLL_LATENCY ? PACE_LOOKS
										 : PACE_HOLDS);
		break;
	case PACE_SLEEPS:
		if (over) {
			pace->sleep = pace->sum;
			pace_enter_looks(pace, PACE_TRY_LOOK);
		}
		break;
	case PACE_TRY_LOOK:
		if (over || pace_hopeless(pace))
			pace_tried_look(pace);
		break;
	case PACE_TRY_HOLD:
		if (over || pace_hopeless(pace))
			pace_tried_hold(pace);
		break;
	default:
		pace_go_on(pace, pace->phase == PACE_HOLDS);
	}
}

bool queue_pace_begin(struct queue_pace *pace, unsigned requests, uint64_t now_ns)
{
	if (!pace->limit_ns)
		return false;
	pace->sum.requests += requests;
	pace->sum.wall_ns += MIN(now_ns - pace->begun_ns, PACE_TURN_MAX_NS);
	if (pace->measuring)
		pace->sum.cost_requests += requests;
	pace->begun_ns = now_ns;
	pace_advance(pace);
	pace->measuring = pace->poll == VIRTIO_POLL_AUTO && pace->phase != PACE_REST &&
			  (pace->phase < PACE_LOOKS || pace->looks % PACE_SAMPLE == 0);
	return pace->measuring;
}

void queue_pace_end(struct queue_pace *pace, uint64_t cost_ns)
{
	pace->measured++;
	pace->sum.cost_ns += cost_ns;
}

uint64_t queue_pace_limit_ns(const struct queue_pace *pace)
{
	return pace->phase >= PACE_TRY_LOOK ? pace->limit_ns : 0;
}

void queue_pace_found(struct queue_pace *pace)
{
	if (pace->vain > 0)
		pace->vain--;
}

void queue_pace_vain(struct queue_pace *pace)
{
	pace->vain += PACE_VAIN_WEIGHT;
	if (pace->vain > PACE_VAIN_MAX)
		pace->failed = true;
}

void queue_pace_crowded(struct queue_pace *pace)
{
	pace->rest_next = PACE_REST_MAX;
	pace_rest(pace);
}
