/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a queue's thread, having answered what there was, looks at the ring for a
 * while before it sleeps.
 *
 * Sleeping costs the driver a kick, both sides a trip through the scheduler, and where
 * processors are idle the time that one takes to wake up, which may be more than all
 * the rest. Looking costs the processor for as long as it lasts. Which of the two is
 * cheaper depends on guest, host and load, so it is measured. A turn is the time from an
 * empty ring to the next request. After a rest (of so many turns, all slept through)
 * some turns are measured that sleep, then some that look: if they took no more
 * processor time for each request, the thread goes on looking, and goes on measuring
 * now and then. If they did, the next rest is twice as long.
 *
 * Two things end it at once, whatever was measured: looks in vain, one in five or so;
 * and somebody else who wants the processor, perhaps the driver itself, after which the
 * rest is the longest. So a guest whose requests are far apart costs some looks in
 * PACE_REST_MAX turns, and an idle one nothing.
 *
 * Nothing here reads a clock or knows of rings. One thread uses a pace, its queue's.
 */
#ifndef OVFS_VIRTIO_QUEUE_PACE_H
#define OVFS_VIRTIO_QUEUE_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Turns of a rest: the first, the longest. */
#define PACE_REST_MIN 15u
#define PACE_REST_MAX 1023u

/* Turns that are measured to compare; while looking one in PACE_SAMPLE is. */
#define PACE_WINDOW 16u
#define PACE_SAMPLE 32u

/* Looks after which failures of the past do not count, and after which it is measured
 * anew what sleeping costs. */
#define PACE_PROVEN 64u
#define PACE_RENEW 16384u

struct queue_pace {
	uint64_t limit_ns; /* the longest look; 0: never any. Constant. */
	bool at_any_price; /* look whatever it costs. Constant. */
	enum { PACE_REST, PACE_SLEEPS, PACE_TRIAL, PACE_LOOKS } phase;
	bool measuring;	    /* this turn */
	bool failed;	    /* looking is to end with this turn */
	unsigned rest;	    /* turns of it to come */
	unsigned rest_next; /* of the rest after the next failure */
	unsigned looks;	    /* turns since the trial began */
	unsigned vain;	    /* grows by those in vain, falls by others */

	/* Of the turns that were measured in this phase, and of those that slept. */
	unsigned turns;
	uint64_t cost_ns, requests;
	uint64_t sleep_cost_ns, sleep_requests;
};

void queue_pace_init(struct queue_pace *pace, uint64_t limit_ns, bool at_any_price);

/*
 * A turn begins, @requests after the last one. True: tell queue_pace_end() what
 * processor time this one took.
 */
bool queue_pace_begin(struct queue_pace *pace, unsigned requests);
void queue_pace_end(struct queue_pace *pace, uint64_t cost_ns);

/* How many nanoseconds to look in this turn; 0: sleep at once. And how that ended: with
 * a request; without; because another thread wanted the processor. */
uint64_t queue_pace_limit_ns(const struct queue_pace *pace);
void queue_pace_found(struct queue_pace *pace);
void queue_pace_vain(struct queue_pace *pace);
void queue_pace_crowded(struct queue_pace *pace);

#endif
