/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers for jitter and faults: fast, repeatable from a seed, not secret
 * (xorshift64*). One thread at a time. */
#ifndef OVFS_STORE_RANDOM_H
#define OVFS_STORE_RANDOM_H

#include <stdint.h>
#include <sys/random.h>

struct store_random {
	uint64_t state; /* never 0 */
};

/* @seed 0: from the system. */
static inline void store_random_seed(struct store_random *random, uint64_t seed)
{
	if (seed == 0 && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		seed = (uint64_t)(uintptr_t)random;
	random->state = seed ? seed : 1;
}

static inline uint64_t store_random_next(struct store_random *random)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * 0x2545f4914f6cdd1dull;
}

/* 0 .. @bound - 1; 0 for a @bound of 0. */
static inline uint64_t store_random_below(struct store_random *random, uint64_t bound)
{
	return (uint64_t)(((unsigned __int128)store_random_next(random) * bound) >> 64);
}

#endif
