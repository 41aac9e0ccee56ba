/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mount shows, from its configuration: a directory, or objects with all that
 * stands between them and the file system driver.
 *
 *	fs		filefs
 *	s3, memory	objectfs -> cache -> stack of layers -> service
 *
 * Made and freed by one thread.
 */
#ifndef OVFS_STORAGE_H
#define OVFS_STORAGE_H

#include "base/err.h"
#include "base/workers.h"
#include "conf/conf.h"
#include "fs/fs.h"

struct storage;

/*
 * @workers: for the driver; borrowed, outlives the storage. @root_fd: of type fs, the directory,
 * owned from now on, also on failure; else -1. @mount is one of @config. @proc_self_fd: see
 * filefs_new(). @config is not kept. Asks the service whether it can be used, and blocks until it
 * knows.
 */
struct err *storage_new(struct storage **out, const struct ovfs_config *config,
			const struct ovfs_mount *mount, struct workers *workers, int root_fd,
			int proc_self_fd) __attribute__((warn_unused_result));

/* The driver, borrowed. */
struct fs *storage_fs(struct storage *storage);

/* Logs how often the service was asked for what, and how the cache did. Any thread. */
void storage_log(struct storage *storage);

/*
 * The end is near: brings what only the cache holds to the service, as long as
 * cache_settings.drain_timeout allows; afterwards requests under way end soon, well or with
 * an error. The number of files that could not be written (their keys are in the log): then
 * whoever still waits for the service does so for longer, and storage_free() would, too.
 */
unsigned storage_settle(struct storage *storage);

/* No request is under way. Writes what came since storage_settle(), as it does, and frees. The
 * number of files that could not be written. Accepts NULL. */
unsigned storage_free(struct storage *storage);

#endif
