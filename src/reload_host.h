/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's half of a reload: it watches the files of the configuration, reads and checks a new
 * one, opens the sockets and directories that it adds, and hands all of that inside (channel.h,
 * reload.h). When the other half has put it into effect, sockets that nobody wants any more are
 * removed; when it could not, those that were added are.
 *
 * A configuration with an error goes no further than here: the log says what and where, the daemon
 * goes on with the one that it has. So with one that needs what this process can not give.
 *
 * It also tells systemd how the daemon is, which knows this process.
 *
 * It runs on the loop of the process outside of the sandbox, or, when there is none, of the
 * daemon. One thread.
 */
#ifndef OVFS_RELOAD_HOST_H
#define OVFS_RELOAD_HOST_H

#include "base/err.h"
#include "base/loop.h"
#include "host.h"
#include "options.h"

struct reload_host;

/* @options (whose config has been taken out), @config and @host are borrowed, and outlive it; the
 * end of a channel is its own. */
struct err *reload_host_new(struct reload_host **out, const struct options *options,
			    const struct ovfs_config *config, struct host *host, int channel)
	__attribute__((warn_unused_result));

/* From now on. */
void reload_host_start(struct reload_host *reload, struct loop *loop);

/* Reads the configuration, and puts it into effect when it has changed; SIGHUP. */
void reload_host_ask(struct reload_host *reload);

/* The daemon is ending: nothing is reloaded any more. */
void reload_host_stopping(struct reload_host *reload);

/* Accepts NULL. */
void reload_host_free(struct reload_host *reload);

#endif
