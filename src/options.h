/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: ovfs's own options and those of virtiofsd, so that libvirt
 * and Kata can start ovfs in its place. The command line overrides the file.
 *
 * main's whole part:
 *
 *	struct options options;
 *	int status = options_load(&options, argc, argv, stdout, stderr);
 *
 *	if (status != OPTIONS_RUN)
 *		return status;
 *	log_set_level(options.config.log.level);
 *	options_log_notes(&options);
 *	options_log_warnings(&options);
 *	... run options.config ...
 *	options_free(&options);
 *
 * Called by the main thread before it starts any other.
 */
#ifndef OVFS_OPTIONS_H
#define OVFS_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "conf/conf.h"
#include "conf/files.h"

#define OPTIONS_RUN (-1)
#define OPTIONS_EXIT_USAGE 2 /* a wrong command line or configuration */

/* An option that was accepted for virtiofsd's sake, without effect. */
struct options_note {
	char *option;
	const char *why; /* static */
};

struct options {
	char *config_file; /* NULL: none, everything came from the command line */
	struct ovfs_config config;
	struct options_note *note;
	size_t note_count;
	char **warning; /* about the configuration */
	size_t warning_count;
	struct conf_files *files; /* what the configuration was loaded from */
	int argc;		  /* the command line, borrowed */
	char **argv;
};

/*
 * Parses the command line, loads the file, checks everything. OPTIONS_RUN when
 * the daemon is to run with @options->config; otherwise the exit status: 0
 * after --help, --version, --print-capabilities, --print-config-reference or a
 * good --check-config (their text is on @out), OPTIONS_EXIT_USAGE with every
 * problem on @err. Only after OPTIONS_RUN does @options own anything.
 */
int options_load(struct options *options, int argc, char **argv, FILE *out, FILE *err);

/*
 * Loads the configuration of @old again, with the same command line, from @files (an open
 * snapshot to look at the host as it is now, a sealed one for what another process has looked at):
 * @fresh's from now on. On failure that is all it has, for who watches them. The error says what is
 * wrong first, and how much more there is. @old is not changed. Any one thread, but not two at a
 * time (getopt(3)).
 */
struct err *options_reload(struct options *fresh, const struct options *old,
			   struct conf_files *files) __attribute__((warn_unused_result));

/* Logs the options that were accepted for virtiofsd's sake and do nothing. */
void options_log_notes(const struct options *options);

/* Logs the warnings about the configuration. */
void options_log_warnings(const struct options *options);

void options_free(struct options *options);

#endif
