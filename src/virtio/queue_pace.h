/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a queue's thread does when it has answered what there was. One of three ways:
 *
 *	sleep	until the driver kicks, after signalling what is done
 *	look	at the ring for a while before that, after signalling
 *	hold	the signal back, and look: the driver hears of several at once
 *
 * Sleeping costs the driver a kick, both sides a trip through the scheduler, and where
 * processors are idle the time that one takes to wake up, which may be more than all
 * the rest. Looking costs the processor for as long as it lasts. A signal interrupts the
 * driver, which may be in the middle of sending the next request; not to signal makes it
 * wait, if there is no next one. Which way is best depends on guest, host and load, so
 * it is measured. A turn is the time from an empty ring to the next request. After a rest
 * (of so many turns, all slept through) some turns are measured that sleep, then some
 * that look, then some that hold. Looking has to take no more processor time for each
 * request; holding hardly more, and make more requests in the same time. If neither
 * does, the next rest is twice as long; if one does, the thread goes on with it, and
 * goes on measuring.
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

#include "virtio/device.h"

/* Turns of a rest: the first, the longest. And how many times looking is tried, at most,
 * until holding is, when it was of no use. */
#define PACE_REST_MIN 15u
#define PACE_REST_MAX 1023u
#define PACE_HOLD_REST_MAX 15u

/* Turns that are measured to compare; while looking one in PACE_SAMPLE is. */
#define PACE_WINDOW 32u
#define PACE_SAMPLE 32u

/* Turns after which failures of the past do not count, and after which it is measured
 * anew what sleeping costs. */
#define PACE_PROVEN 64u
#define PACE_RENEW 16384u
#define PACE_RENEW_HOLD 4096u

/* Of several turns. */
struct pace_sum {
	uint64_t cost_ns, cost_requests; /* processor time, and requests, of those measured */
	uint64_t wall_ns, requests;	 /* of all */
};

enum queue_pace_phase {
	PACE_REST,
	PACE_SLEEPS,
	PACE_TRY_LOOK,
	PACE_TRY_HOLD,
	PACE_LOOKS,
	PACE_HOLDS,
};

struct queue_pace {
	uint64_t limit_ns;     /* the longest look; 0: never any. Constant. */
	enum virtio_poll poll; /* Constant. */
	enum queue_pace_phase phase;
	bool measuring;	     /* this turn */
	bool failed;	     /* this phase is to end with this turn */
	bool look_pays;	     /* as was tried last */
	unsigned rest;	     /* turns of it to come */
	unsigned rest_next;  /* of the rest after the next failure */
	unsigned hold_rest;  /* trials of looking until one of holding */
	unsigned hold_next;  /* the same after the next failure */
	unsigned looks;	     /* turns since looking or holding was settled on */
	unsigned vain;	     /* grows by those in vain, falls by others */
	unsigned measured;   /* turns of this phase */
	uint64_t begun_ns;   /* when this turn was */
	struct pace_sum sum; /* of this phase */
	struct pace_sum sleep, look;
};

void queue_pace_init(struct queue_pace *pace, uint64_t limit_ns, enum virtio_poll poll);

/*
 * A turn begins at @now_ns, @requests after the last one. True: tell queue_pace_end()
 * what processor time this one took.
 */
bool queue_pace_begin(struct queue_pace *pace, unsigned requests, uint64_t now_ns);
void queue_pace_end(struct queue_pace *pace, uint64_t cost_ns);

/* How many nanoseconds to look in this turn; 0: sleep at once. And how that ended: with
 * a request; without; because another thread wanted the processor. */
uint64_t queue_pace_limit_ns(const struct queue_pace *pace);
void queue_pace_found(struct queue_pace *pace);
void queue_pace_vain(struct queue_pace *pace);
void queue_pace_crowded(struct queue_pace *pace);

/* Whether to hold the signal back meanwhile. */
static inline bool queue_pace_holds(const struct queue_pace *pace)
{
	return pace->phase == PACE_TRY_HOLD || pace->phase == PACE_HOLDS;
}

#endif
