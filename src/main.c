/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assembly: options and configuration, what is to be had of the host, the sandbox, and then
 * the daemon until a signal ends it.
 *
 * Exit status: 0 after SIGTERM or SIGINT, 1 when something failed at start, 2
 * for a wrong command line or configuration, 3 when data was left that could not be
 * written, 128 + N when signal N ended the process in the sandbox. SIGUSR1 has what the storages
 * were asked for so far logged, SIGHUP reloads.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "channel.h"
#include "daemon.h"
#include "host.h"
#include "notify.h"
#include "options.h"
#include "reload_host.h"
#include "sandbox/sandbox.h"

/* Requests to a daemon that is not one yet: they wait until there is a loop. */
static void signals_defer(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Signals arrive in loops and nowhere else. */
static struct err *signals_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? err_errno(errno, "sigprocmask") : NULL;
}

/* ---- The process outside ---- */

struct outside {
	struct host *host;
	struct reload_host *reload;
	int inner; /* the other end of the channel */
};

static void outside_start(void *arg, struct loop *loop, pid_t pid)
{
	struct outside *o = arg;

	(void)pid;
	host_close(o->host);
	close(o->inner);
	reload_host_start(o->reload, loop);
}

static void outside_hangup(void *arg)
{
	reload_host_ask(((struct outside *)arg)->reload);
}

static void outside_stopping(void *arg)
{
	reload_host_stopping(((struct outside *)arg)->reload);
}

static void remove_sockets(void *arg)
{
	host_remove_sockets(((struct outside *)arg)->host);
}

/* ---- Inside ---- */

/* There, somebody else cleans up. */
static void cleanup_nothing(void *arg)
{
	(void)arg;
}

static struct err *serve_inside(struct outside *o, struct generation *generation,
				const struct options *options, const struct sandbox *sandbox,
				int *status)
{
	struct daemon_config config = {
		.generation = generation,
		.host = o->host,
		.options = options,
		.channel = o->inner,
		.proc_self_fd = sandbox->proc_self_fd,
		.supervisor_fd = sandbox->supervisor_fd,
	};
	struct daemon *daemon = NULL;
	struct err *e;

	if (sandbox->contained) {
		reload_host_free(o->reload); /* these are the other process's */
		o->reload = NULL;
		notify_close();
	} else {
		config.hangup = outside_hangup;
		config.hangup_arg = o;
	}
	e = daemon_new(&daemon, &config);
	if (!e)
		e = sandbox_seal(&o->host->isolation);
	if (!e && o->reload)
		reload_host_start(o->reload, daemon_loop(daemon));
	if (!e)
		e = daemon_run(daemon, status,
			       sandbox->contained ? cleanup_nothing : remove_sockets, o);
	/* Before the loop that it is on. */
	reload_host_free(o->reload);
	o->reload = NULL;
	daemon_free(daemon);
	return e;
}

/* From the sandbox to the end of the daemon. */
static struct err *run(struct host *host, struct generation *generation,
		       const struct options *options, int *status)
{
	struct outside outside = { .host = host };
	struct sandbox_config *isolation = &host->isolation;
	struct sandbox sandbox = { 0 };
	struct err *e;
	int ends[2];

	isolation->cleanup = remove_sockets;
	isolation->cleanup_arg = &outside;
	isolation->outside = (struct sandbox_outside){ .start = outside_start,
						       .hangup = outside_hangup,
						       .stopping = outside_stopping,
						       .arg = &outside };
	e = channel_new(ends);
	if (e)
		return e;
	outside.inner = ends[1];
	e = reload_host_new(&outside.reload, options, &generation->config, host, ends[0]);
	if (!e)
		e = sandbox_enter(&sandbox, isolation);
	umask(0); /* the guest's kernel has applied the caller's */
	if (!e)
		e = serve_inside(&outside, generation, options, &sandbox, status);
	if (!sandbox.contained)
		host_remove_sockets(host);
	return e;
}

static struct err *serve(struct options *options, int *status)
{
	struct generation *generation = generation_new(&options->config, 1);
	struct host host;
	struct err *e;

	if (!generation)
		return err_errno(ENOMEM, "configuration");
	notify_open();
	e = signals_block();
	if (!e)
		e = host_init(&host, &generation->config);
	if (!e) {
		e = run(&host, generation, options, status);
		host_destroy(&host);
	}
	notify_close();
	generation_put(generation);
	return e;
}

int main(int argc, char **argv)
{
	struct options options;
	int status;
	struct err *e;

	signals_defer();
	status = options_load(&options, argc, argv, stdout, stderr);
	if (status != OPTIONS_RUN)
		return status;
	log_set_level(options.config.log.level);
	if (options.config.log.target != OVFS_LOG_AUTO)
		log_set_journal(options.config.log.target == OVFS_LOG_JOURNAL);
	options_log_notes(&options);
	options_log_warnings(&options);

	status = EXIT_SUCCESS;
	e = serve(&options, &status);
	if (e) {
		fprintf(stderr, "ovfs: %s\n", err_msg(e));
		status = EXIT_FAILURE;
	}
	err_free(e);
	options_free(&options);
	return status;
}
