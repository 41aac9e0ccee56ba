/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel on which we ask the front end (vhost-user, "Back-end
 * communication"): one request at a time, each answered before the next.
 *
 * It carries SHMEM_MAP and SHMEM_UNMAP. A front end that does not answer within
 * the time-out, or answers something else, has broken the channel:
 * every further exchange fails with -EIO until the front end sets another one.
 *
 * Interrupting. The thread of the front end that would answer may be waiting for
 * us, because it stops a queue and one of the queue's requests waits here.
 * backend_channel_hold() ends what waits. The answer is still due then: the next
 * exchange takes it first, and undoes a mapping that was made after all. So
 * to the caller an interrupted SHMEM_MAP did not happen, and an interrupted
 * SHMEM_UNMAP did.
 *
 * Threads: backend_channel_map() and _unmap() on any thread that may block, the
 * rest on the control thread.
 */
#ifndef OVFS_VIRTIO_BACKEND_CHANNEL_H
#define OVFS_VIRTIO_BACKEND_CHANNEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "virtio/vhost_user.h"

#define BACKEND_CHANNEL_TIMEOUT_MS 20000u

/* The body of a reply is a u64: 0 for done. */
#define BACKEND_REPLY_SIZE (sizeof(struct vhost_user_header) + sizeof(uint64_t))

struct backend_channel {
	const char *name; /* of the device, for the log */
	unsigned timeout_ms;
	pthread_mutex_t lock; /* covers all but the next two; held during an exchange */
	int wake_fd;	      /* an eventfd, readable while held */
	_Atomic bool held;

	int fd; /* -1: none */
	bool broken;
	unsigned char reply[BACKEND_REPLY_SIZE];
	size_t received; /* bytes of reply */
	bool owed;	 /* the reply to this one has not come yet */
	uint32_t owed_request;
	struct vhost_user_mmap owed_mmap;
	bool undo; /* that one was mapped, and has to be unmapped before anything else */
	struct log_limit log_limit;
};

/* @name is borrowed. @timeout_ms 0: BACKEND_CHANNEL_TIMEOUT_MS. 0 or negative errno. */
int backend_channel_init(struct backend_channel *ch, const char *name, unsigned timeout_ms);
void backend_channel_fini(struct backend_channel *ch);

/* Takes @fd for the channel, in place of the former one. -EINVAL, and @fd stays the
 * caller's, when it is no stream socket. */
int backend_channel_open(struct backend_channel *ch, int fd);
/* Ends what waits, with -ENOTCONN or -EAGAIN, and closes. */
void backend_channel_close(struct backend_channel *ch);

/* From hold to release, exchanges end at once with -EAGAIN. They nest no deeper. */
void backend_channel_hold(struct backend_channel *ch);
void backend_channel_release(struct backend_channel *ch);

/* Asks the front end to map @length bytes at @fd_offset of @fd. 0, -EIO (refused, or the
 * channel is broken), -ENOTCONN (no channel), -EAGAIN (held: not mapped). */
int backend_channel_map(struct backend_channel *ch, int fd, uint64_t fd_offset, uint64_t shm_offset,
			uint64_t length, bool writable);

/* The reverse, of a range exactly as it was mapped. 0, -EIO, -ENOTCONN, -EAGAIN (held: not
 * asked). */
int backend_channel_unmap(struct backend_channel *ch, uint64_t shm_offset, uint64_t length);

#endif
