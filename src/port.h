/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port: one socket of a mount, and the guest behind it.
 *
 *	virtio_device  --request-->  fuse_session  --fs_submit-->  fs (driver)
 *
 * It owns the listening socket, the device and the session; the driver is the mount's, and
 * shared by its ports. One front end at a time is attached, the next one waits in the backlog.
 *
 * Control loop's thread of the mount.
 */
#ifndef OVFS_PORT_H
#define OVFS_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/workers.h"
#include "fs/fs.h"
#include "observe.h"
#include "virtio/device.h"

struct port;

struct port_config {
	const char *mount; /* name, for the log and names of threads */
	const char *tag;   /* NULL: not told */
	unsigned num_request_queues;
	unsigned poll_us;
	enum virtio_poll poll;
	uint32_t max_write;
	uint64_t window_size;	   /* of the DAX window, whole slots of 2 MiB; 0: none */
	bool window_copies;	   /* nothing is mapped as it is: fuse/window.h */
	struct workers *workers;   /* for what blocks in a session; they outlive the port */
	struct observer *observer; /* outlives the port; NULL: none */
};

struct port_ops {
	/* A port that was retired has no guest any more: to be freed. */
	void (*retired)(void *ctx, struct port *port);
};

/*
 * @path: of the socket, NULL for an inherited one. @listen_fd is the port's from now on, also
 * on failure. @config's strings are copied. @fs outlives the port. Serves at once.
 */
struct err *port_new(struct port **out, const struct port_config *config, const char *path,
		     int listen_fd, struct fs *fs, struct loop *loop, const struct port_ops *ops,
		     void *ctx) __attribute__((warn_unused_result));

/* NULL: an inherited one. */
const char *port_path(const struct port *port);
int port_listen_fd(const struct port *port); /* -1: it was retired */
bool port_retired(const struct port *port);

/* How the next connection is to be served: at once when there is none. */
void port_reconfigure(struct port *port, const struct port_config *config);

/* Takes no further connection; ops->retired when its guest is gone, perhaps from within. */
void port_retire(struct port *port);

/* Takes no further request, nor connection; those in flight go on. For good. */
void port_halt(struct port *port);

/* Disconnects the guest when its requests are done, and frees. Accepts NULL. */
void port_free(struct port *port);

/* The mount's list of them. */
struct list *port_link(struct port *port);
struct port *port_of_link(struct list *link);

#endif
