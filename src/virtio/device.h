/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-fs device (virtio 1.3, 5.11) behind a vhost-user connection: what
 * the rest of ovfs sees of src/virtio.
 *
 * A device outlives its connections: one front end at a time attaches a
 * socket, the device serves it on its own queue threads, and when it goes
 * away the device is ready for the next.
 *
 * It knows nothing of FUSE. Each descriptor chain becomes a struct virtio_req
 * with the device-readable and the device-writable parts as iovecs over guest
 * memory, handed to ops->request on the thread of its queue and ended by
 * virtio_req_complete() from any thread.
 *
 * Threads: virtio_device_new(), _attach(), _shutdown() and _free() on the
 * control loop's thread, where the vhost-user messages are handled too.
 */
#ifndef OVFS_VIRTIO_DEVICE_H
#define OVFS_VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

/* Queue 0 is hiprio, 1 .. n are request queues (virtio 1.3, 5.11.2). */
#define VIRTIO_FS_QUEUES_MAX 64 /* hiprio included */
#define VIRTIO_FS_TAG_MAX 36
#define VIRTIO_QUEUE_SIZE_MAX 1024

struct virtio_device;

/*
 * One request. The iovecs point into guest memory, which the guest may change
 * at any moment; their lengths are fixed and inside a mapped region until
 * completion, even when the front end removes the region meanwhile. Adjacent
 * descriptors that are contiguous are merged. Empty ones are left out.
 */
struct virtio_req {
	struct iovec *in; /* device-readable */
	size_t in_count;
	struct iovec *out; /* device-writable */
	size_t out_count;
	unsigned queue;
	uint64_t begun_ns; /* loop_now_ns() when it was taken from the ring */
	void *priv;	   /* ops->priv_size bytes, 16-byte aligned, content undefined */
};

struct virtio_device_ops {
	size_t priv_size;

	/* A request came. Queue thread. Exactly one virtio_req_complete() must follow,
	 * now or later, or the queue cannot be stopped. */
	void (*request)(void *ctx, struct virtio_req *req);

	/* A queue is being stopped: requests that wait for something of unbounded
	 * duration (a lock) are to be completed soon. Control thread. */
	void (*interrupt)(void *ctx);

	/* The front end disconnected and every request is completed: the guest is gone
	 * with all its state. Control thread. */
	void (*detached)(void *ctx);
};

/* When a queue's thread looks at the ring before it sleeps (queue_pace.h). */
enum virtio_poll {
	VIRTIO_POLL_AUTO,	/* when that is measured to pay */
	VIRTIO_POLL_LATENCY,	/* while it finds something, whatever it costs */
	VIRTIO_POLL_THROUGHPUT, /* the same, and signals several requests together */
};

struct virtio_device_config {
	const char *name;	     /* for thread names and the log; outlives the device */
	const char *tag;	     /* NULL: no PROTOCOL_F_CONFIG (QEMU 7.1 crashes on it) */
	unsigned num_request_queues; /* 1 .. VIRTIO_FS_QUEUES_MAX - 1: the most we offer */
	unsigned poll_us; /* longest look at the ring before a queue thread sleeps; 0: none */
	enum virtio_poll poll;
	unsigned drain_timeout_ms;  /* how long a stopping queue waits for its requests */
	uint64_t window_size;	    /* bytes of shared memory region 0, whole pages; 0: none */
	unsigned answer_timeout_ms; /* for an answer of the front end; 0: 20 s */
};

/* @loop: the control loop. @ctx is passed to every op. */
struct err *virtio_device_new(struct virtio_device **out, const struct virtio_device_config *config,
			      const struct virtio_device_ops *ops, void *ctx, struct loop *loop);

/* Serves the front end on connected socket @fd, which the device owns from now
 * on, also on failure. One at a time: -EBUSY when one is attached. */
int virtio_device_attach(struct virtio_device *device, int fd);
bool virtio_device_attached(const struct virtio_device *device);

/* Takes no further request from the front end; those in flight go on. For good: until
 * the connection ends. Control thread. */
void virtio_device_halt(struct virtio_device *device);

/* Stops the queues (waiting for requests in flight, see drain_timeout_ms) and
 * closes the connection; detached() is called before it returns. */
void virtio_device_detach(struct virtio_device *device);

/* Detaches and frees. */
void virtio_device_free(struct virtio_device *device);

/*
 * The window: shared memory region 0 (virtio 1.3, 5.11.5), which the guest sees as memory of the
 * device and the front end backs by mapping what we tell it to (vhost-user, SHMEM_MAP).
 *
 * Whether the front end has agreed to it. Any thread.
 */
bool virtio_device_has_window(const struct virtio_device *device);

/*
 * Maps @length bytes at @fd_offset of @fd at @window_offset, where nothing is mapped; whole
 * pages all. The front end gets a duplicate of @fd. Waits for its answer, for a bounded time:
 * on a thread that may block, and only while a request of the guest is in flight, since a front
 * end may not expect it of a device that is stopped.
 *
 * 0. -EIO: it refused, or does not answer. -ENOTCONN: there is no channel for it.
 * -EAGAIN: the device is being stopped. Nothing is mapped then.
 */
int virtio_device_shmem_map(struct virtio_device *device, int fd, uint64_t fd_offset,
			    uint64_t window_offset, uint64_t length, bool writable);

/* The reverse, of exactly what was mapped. 0; with nothing to be done about it -EIO or -ENOTCONN;
 * -EAGAIN: the device is being stopped, try again later. */
int virtio_device_shmem_unmap(struct virtio_device *device, uint64_t window_offset,
			      uint64_t length);

/* ---- What there is to see, for any thread while the device is not being freed ---- */

struct virtio_queue_info {
	bool started;	    /* the front end has set it up */
	unsigned size;	    /* of the ring */
	unsigned waiting;   /* chains in the ring that were not taken yet; of a packed ring
			     * only whether there are any */
	unsigned in_flight; /* taken, not completed */
	unsigned orphans;   /* likewise, of a ring that was stopped without them */
};

/* Hiprio included. */
unsigned virtio_device_queue_count(const struct virtio_device *device);
void virtio_device_queue_info(const struct virtio_device *device, unsigned queue,
			      struct virtio_queue_info *out);

/* Calls @look for each request under way, with the lock of its queue: it stays what it is
 * meanwhile, and no other goes on or off. @look only looks. */
void virtio_device_each_request(const struct virtio_device *device,
				void (*look)(void *arg, const struct virtio_req *req), void *arg);

/* Returns the chain to the driver; the first @written bytes of the
 * device-writable part have been filled. @req is gone. Any thread. */
void virtio_req_complete(struct virtio_req *req, size_t written);

#endif
