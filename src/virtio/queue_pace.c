/* SPDX-License-Identifier: Apache-2.0 */
/* See queue_pace.h. */
#include "virtio/queue_pace.h"

#include "base/util.h"

/* A look in vain weighs so much more than one that found something; this much ends it. */
#define PACE_VAIN_WEIGHT 4u
#define PACE_VAIN_MAX 12u

static void pace_enter(struct queue_pace *pace, int phase)
{
	pace->phase = phase;
	pace->turns = 0;
	pace->cost_ns = 0;
	pace->requests = 0;
}

static void pace_rest(struct queue_pace *pace)
{
	pace->rest = pace->rest_next;
	pace->rest_next = MIN(2 * pace->rest_next + 1, PACE_REST_MAX);
	pace_enter(pace, PACE_REST);
}

static void pace_try(struct queue_pace *pace)
{
	pace->failed = false;
	pace->vain = 0;
	pace->looks = 0;
	pace_enter(pace, PACE_TRIAL);
}

void queue_pace_init(struct queue_pace *pace, uint64_t limit_ns, bool at_any_price)
{
	*pace = (struct queue_pace){ .limit_ns = limit_ns,
				     .at_any_price = at_any_price,
				     .rest_next = PACE_REST_MIN };
	pace_rest(pace);
}

/* Of the turns measured, was looking the dearer way, for each request? */
static bool pace_too_dear(const struct queue_pace *pace)
{
	if (pace->turns < PACE_WINDOW) /* it may be clear before */
		return pace->cost_ns > 2 * pace->sleep_cost_ns;
	return pace->cost_ns * pace->sleep_requests > pace->sleep_cost_ns * pace->requests;
}

/* The turn before has been told of; goes on to the next phase where it is time. */
static void pace_advance(struct queue_pace *pace)
{
	switch (pace->phase) {
	case PACE_REST:
		if (pace->rest > 0)
			pace->rest--;
		else if (pace->at_any_price)
			pace_try(pace);
		else
			pace_enter(pace, PACE_SLEEPS);
		break;
	case PACE_SLEEPS:
		if (pace->turns < PACE_WINDOW)
			break;
		pace->sleep_cost_ns = pace->cost_ns;
		pace->sleep_requests = pace->requests;
		pace_try(pace);
		break;
	default:
		pace->looks++;
		if (pace->failed || (pace->turns > 0 && pace_too_dear(pace))) {
			pace_rest(pace);
			break;
		}
		if (pace->looks == PACE_PROVEN)
			pace->rest_next = PACE_REST_MIN;
		if (pace->looks == PACE_RENEW && !pace->at_any_price)
			pace_enter(pace, PACE_SLEEPS);
		else if (pace->turns == PACE_WINDOW)
			pace_enter(pace, PACE_LOOKS);
	}
}

bool queue_pace_begin(struct queue_pace *pace, unsigned requests)
{
	if (!pace->limit_ns)
		return false;
	if (pace->measuring)
		pace->requests += requests;
	pace_advance(pace);
	pace->measuring = !pace->at_any_price &&
			  (pace->phase == PACE_SLEEPS || pace->phase == PACE_TRIAL ||
			   (pace->phase == PACE_LOOKS && pace->looks % PACE_SAMPLE == 0));
	return pace->measuring;
}

void queue_pace_end(struct queue_pace *pace, uint64_t cost_ns)
{
	pace->turns++;
	pace->cost_ns += cost_ns;
}

uint64_t queue_pace_limit_ns(const struct queue_pace *pace)
{
	return pace->phase == PACE_TRIAL || pace->phase == PACE_LOOKS ? pace->limit_ns : 0;
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
	pace->failed = true;
	pace->rest_next = PACE_REST_MAX;
}
