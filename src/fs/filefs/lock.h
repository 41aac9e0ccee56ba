/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX (fcntl) and BSD (flock) locks, held on the host.
 *
 * A guest's lock owner has one descriptor for each inode it locks, and holds
 * its POSIX locks as open-file-description locks on it; flock is on the
 * handle's own descriptor. A request that has to wait holds neither a queue nor
 * a worker: it is parked in struct locks, and one thread tries it again when this
 * daemon unlocks something on the same inode, and from time to time for locks that
 * others on the host hold.
 *
 * Any thread. locks.lock is never held over a system call on a file.
 */
#ifndef OVFS_FS_FILEFS_LOCK_H
#define OVFS_FS_FILEFS_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct filefs;
struct filefs_session;
struct handle;

#define LOCKS_EARLY 16

struct locks {
	pthread_mutex_t lock; /* covers all below */
	pthread_cond_t wake;
	struct list waiters; /* in the order in which they came */
	_Atomic unsigned count;
	/* Interrupts that came before their request was parked. */
	struct {
		const struct filefs_session *s;
		uint64_t unique;
	} early[LOCKS_EARLY];
	unsigned early_next;
	bool started, stopping;
	pthread_t thread;
};

/* The descriptors of lock owners, by (inode index, owner). */
#define LOCK_BUCKETS 256

struct lock_table {
	pthread_mutex_t lock;
	_Atomic unsigned count;
	struct list buckets[LOCK_BUCKETS];
};

void locks_init(struct locks *l);
/* No request waits any more. */
void locks_fini(struct locks *l);

/* Completes waiting requests of @s with -EINTR: those of @unique, or all when it is 0. */
void locks_interrupt(struct filefs_session *s, uint64_t unique);

/* @s ends; none of its requests waits. */
void locks_forget(struct filefs_session *s);

void lock_table_init(struct lock_table *t);
void lock_table_fini(struct filefs_session *s);

/* FLUSH: @owner gave up what it held on inode @index. */
void lock_owner_release(struct filefs_session *s, uint32_t index, uint64_t owner);

/* RELEASE with FUSE_RELEASE_FLOCK_UNLOCK, and the end of a handle that was flocked. */
void lock_flock_release(struct filefs_session *s, struct handle *h);

#endif
