/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of being operated: the sockets of ctl (ctl/ctl.h), opened while the host's file
 * system is still to be seen, what ctl asks of the daemon as a whole, and the log of slow requests.
 *
 * Threads: the main one; operate_loaded() any.
 */
#ifndef OVFS_OPERATE_H
#define OVFS_OPERATE_H

#include "backend.h"
#include "base/err.h"
#include "base/loop.h"
#include "conf/conf.h"
#include "ctl/ctl.h"

/* Listening; CTL_FD_NONE, and a NULL path, for what is not configured. */
struct operate_sockets {
	int control_fd, metrics_fd;
	char *control_path, *metrics_path; /* of files that are ours */
};

/* Outside of the sandbox. On failure nothing is left open. */
struct err *operate_open(struct operate_sockets *out, const struct ovfs_config *config)
	__attribute__((warn_unused_result));
/* Closes what is open, and leaves the files. */
void operate_close(struct operate_sockets *sockets);
/* Removes the files. */
void operate_remove(struct operate_sockets *sockets);

struct operate;

struct operate_config {
	struct operate_sockets *sockets; /* the descriptors are taken */
	const struct ovfs_config *config;
	gid_t gid; /* of ctl_settings.socket_group */
	struct loop *loop;
	struct backends *backends;
	/* Asks for a reload, of which operate_loaded() will tell. Any thread. False: there is
	 * nobody to be asked. */
	bool (*ask_reload)(void *ctx);
	void *ctx;
};

/* Inside. Serves from now on. */
struct err *operate_new(struct operate **out, const struct operate_config *config)
	__attribute__((warn_unused_result));
/* All mounts are gone. Accepts NULL. */
void operate_free(struct operate *operate);

/* For those who register. */
struct ctl *operate_ctl(struct operate *operate);

/* A configuration holds from now on (@generation, @config), or could not be applied (@error says
 * why; the rest is ignored). Level of the log and slow requests are as it says. */
void operate_loaded(struct operate *operate, unsigned generation, const struct ovfs_config *config,
		    const char *error);

#endif
