/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assembly: options and configuration, what is to be had of the host, the sandbox, and then
 * the daemon until a signal ends it.
 *
 * Exit status: 0 after SIGTERM or SIGINT, 1 when something failed at start, 2
 * for a wrong command line or configuration, 3 when data was left that could not be
 * written. SIGUSR1 has what the storages were asked for so far logged.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "daemon.h"
#include "host.h"
#include "options.h"
#include "sandbox/sandbox.h"

/* Signals arrive in loops and nowhere else. */
static struct err *signals_block(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? err_errno(errno, "sigprocmask") : NULL;
}

static void outside_started(void *arg, struct loop *loop, pid_t pid)
{
	(void)loop, (void)pid;
	host_close(arg);
}

static void cleanup(void *arg)
{
	host_remove_sockets(arg);
}

/* Inside, where nothing is to be cleaned up. */
static void cleanup_nothing(void *arg)
{
	(void)arg;
}

/* From the sandbox to the end of the daemon. */
static struct err *run(struct host *host, struct generation *generation, int *status)
{
	struct sandbox_config *isolation = &host->isolation;
	struct sandbox sandbox = { 0 };
	struct daemon *daemon = NULL;
	struct err *e;

	isolation->cleanup = cleanup;
	isolation->cleanup_arg = host;
	isolation->outside = (struct sandbox_outside){ .start = outside_started, .arg = host };
	e = signals_block();
	if (!e)
		e = sandbox_enter(&sandbox, isolation);
	umask(0); /* the guest's kernel has applied the caller's */
	if (!e) {
		struct daemon_config config = { .generation = generation,
						.host = host,
						.proc_self_fd = sandbox.proc_self_fd,
						.supervisor_fd = sandbox.supervisor_fd };

		e = daemon_new(&daemon, &config);
	}
	if (!e)
		e = sandbox_seal(isolation);
	if (!e)
		e = daemon_run(daemon, status, sandbox.contained ? cleanup_nothing : cleanup, host);
	daemon_free(daemon);
	if (!sandbox.contained)
		host_remove_sockets(host);
	return e;
}

static struct err *serve(struct ovfs_config *config, int *status)
{
	struct generation *generation = generation_new(config, 1);
	struct host host;
	struct err *e;

	if (!generation)
		return err_errno(ENOMEM, "configuration");
	e = host_init(&host, &generation->config);
	if (!e) {
		e = run(&host, generation, status);
		host_destroy(&host);
	}
	generation_put(generation);
	return e;
}

int main(int argc, char **argv)
{
	struct options options;
	int status;
	struct err *e;

	status = options_load(&options, argc, argv, stdout, stderr);
	if (status != OPTIONS_RUN)
		return status;
	log_set_level(options.config.log.level);
	if (options.config.log.target != OVFS_LOG_AUTO)
		log_set_journal(options.config.log.target == OVFS_LOG_JOURNAL);
	options_log_notes(&options);

	status = EXIT_SUCCESS;
	e = serve(&options.config, &status);
	if (e) {
		fprintf(stderr, "ovfs: %s\n", err_msg(e));
		status = EXIT_FAILURE;
	}
	err_free(e);
	options_free(&options);
	return status;
}
