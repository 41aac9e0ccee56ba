/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mounts and storages tell the operating side (ctl/ctl.h) of themselves, in its terms.
 *
 * An observer is of a mount, and is told of its ports; an observer_storage of a storage. Without a
 * ctl there is none: NULL, which all functions accept.
 *
 * Threads: ports are added and removed by the mount's control loop; the rest by whoever makes and
 * frees. What is watched stays until it is removed here, which waits for who looks at it.
 */
#ifndef OVFS_OBSERVE_H
#define OVFS_OBSERVE_H

#include <stdbool.h>

#include "cache/cache.h"
#include "conf/conf.h"
#include "ctl/ctl.h"
#include "fuse/session.h"
#include "storage_stack.h"
#include "virtio/device.h"

struct observer;
struct observer_port;
struct observer_storage;

/* @name is copied. */
struct observer *observer_new(struct ctl *ctl, const char *name);
/* All ports are removed. */
void observer_free(struct observer *observer);

/* What the mount shows, anew: parts are told one by one after observer_begin_parts(). @path: of a
 * directory, else NULL; @storage: its name, or "". */
void observer_begin_parts(struct observer *observer);
void observer_add_part(struct observer *observer, const char *path, const char *storage);

/* Why the mount is not served; NULL: it is. At first it is. */
void observer_set_error(struct observer *observer, const char *error);

/* The driver of a mount with directories, which outlives the observer. */
void observer_set_join(struct observer *observer, struct fs *join);

/* A number for a port, which it keeps when its device is made anew. */
unsigned observer_take_number(struct observer *observer);

/* Both are watched until observer_port_remove(), which comes before they are freed. */
struct observer_port *observer_port_add(struct observer *observer, unsigned number,
					struct virtio_device *device, struct fuse_session *session);
void observer_port_remove(struct observer_port *port);

/* A guest has come, or gone. */
void observer_port_guest(struct observer_port *port, bool connected);

/* Likewise. It is called after its bucket, or what it is, and a number when there are several. */
struct observer_storage *observer_storage_new(struct ctl *ctl, const struct ovfs_backend *config,
					      struct storage_stack *stack,
					      struct cache_storage *files);
/* Waits for a job that is at it. */
void observer_storage_free(struct observer_storage *storage);
/* "" for NULL. */
const char *observer_storage_name(const struct observer_storage *storage);

#endif
