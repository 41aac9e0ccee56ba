/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ovfsctl: asks a running daemon, over its control socket.
 *
 * A line of JSON goes there, lines of JSON come back (docs/operating.md); this program shows
 * them to a person. It shares nothing with the daemon but that protocol.
 *
 * Exit status: 0; 1 when the daemon says no; 2 for a wrong command line; 3 when there is no daemon,
 * or it does not answer.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "ovfsctl_show.h"

#define DEFAULT_SOCKET "/run/ovfs/ctl.sock"

/* The daemon answers at once, or says each second that it is at it. */
#define ANSWER_S 20

enum exit_status { EXIT_OK, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_DAEMON };

struct options {
	const char *socket;
	bool json;
	double timeout;
	bool has_timeout;
};

/* What one command sends and shows. */
struct command {
	const char *name, *arguments, *help;
	int min, max; /* arguments */
	bool (*request)(json_t *request, int argc, char **argv, const struct options *options);
	void (*show)(const json_t *result);
};

/* ---- Asking ---- */

static bool ask_plain(json_t *request, int argc, char **argv, const struct options *options)
{
	(void)request, (void)argc, (void)argv, (void)options;
	return true;
}

static bool ask_names(json_t *request, int argc, char **argv, const struct options *options)
{
	json_t *names = json_array();

	(void)options;
	for (int i = 0; i < argc; i++) {
		if (json_array_append_new(names, json_string(argv[i])) < 0) {
			fprintf(stderr, "ovfsctl: a name is no UTF-8\n");
			json_decref(names);
			return false;
		}
	}
	return json_object_set_new(request, "names", names) == 0;
}

static bool ask_drain(json_t *request, int argc, char **argv, const struct options *options)
{
	if (options->has_timeout)
		json_object_set_new(request, "timeout", json_real(options->timeout));
	return ask_names(request, argc, argv, options);
}

static bool ask_inode(json_t *request, int argc, char **argv, const struct options *options)
{
	char *end;
	unsigned long long nodeid;

	(void)argc, (void)options;
	errno = 0;
	nodeid = strtoull(argv[1], &end, 0);
	if (errno || *end || end == argv[1] || argv[1][0] == '-' || nodeid == 0) {
		fprintf(stderr, "ovfsctl: \"%s\" is no number of a node\n", argv[1]);
		return false;
	}
	return json_object_set_new(request, "mount", json_string(argv[0])) == 0 &&
	       json_object_set_new(request, "nodeid", json_integer((json_int_t)nodeid)) == 0;
}

static bool ask_level(json_t *request, int argc, char **argv, const struct options *options)
{
	(void)options;
	return argc == 0 || json_object_set_new(request, "level", json_string(argv[0])) == 0;
}

static const struct command commands[] = {
	{ "status", "", "mounts, guests, queues, cache, storages, what is under way", 0, 0,
	  ask_plain, show_status },
	{ "requests", "", "requests of guests under way, with their age", 0, 0, ask_plain,
	  show_all_requests },
	{ "dirty", "", "files that the storage does not have all of", 0, 0, ask_plain, show_dirty },
	{ "inode", "MOUNT NODE", "what is known of a node (its number is in the log)", 2, 2,
	  ask_inode, show_records },
	{ "reload", "", "load the configuration anew", 0, 0, ask_plain, show_done },
	{ "flush", "[NAME]...", "write what is dirty now", 0, 64, ask_names, show_done },
	{ "drain", "[NAME]...", "write until nothing is dirty (--timeout, 60 s)", 0, 64, ask_drain,
	  show_done },
	{ "drop-cache", "[NAME]...", "forget what is cached and clean", 0, 64, ask_names,
	  show_dropped },
	{ "log-level", "[LEVEL]", "error, warn, info, debug, trace", 0, 1, ask_level, show_level },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
	fputs("Usage: ovfsctl [OPTION]... COMMAND [ARGUMENT]...\n"
	      "Ask a running ovfs, or have it do something.\n\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-10s %-12s %s\n", commands[i].name, commands[i].arguments,
			commands[i].help);
	fputs("\nNAME is that of a mount or of a storage; without one, all are meant.\n\n"
	      "  --socket=PATH       of the daemon's [ctl_settings]; else $OVFS_CTL_SOCKET, else\n"
	      "                      " DEFAULT_SOCKET "\n"
	      "  --json              the answer as it came\n"
	      "  --timeout=SECONDS   of drain\n"
	      "  --help, --version\n",
	      out);
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* ---- The socket ---- */

static FILE *dial(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = ANSWER_S };
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "ovfsctl: %s: too long for a socket\n", path);
		return NULL;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		fprintf(stderr, "ovfsctl: cannot connect to %s: %s (%s)\n", path, strerror(errno),
			errno == EACCES ? "root, the daemon's user and socket_group may"
					: "does ovfs run, and has it socket_path in "
					  "[ctl_settings]?");
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	return fdopen(fd, "r+");
}

static bool send_line(FILE *daemon, const json_t *request)
{
	char *line = json_dumps(request, JSON_COMPACT);
	bool sent = line && send(fileno(daemon), line, strlen(line), MSG_NOSIGNAL) >= 0 &&
		    send(fileno(daemon), "\n", 1, MSG_NOSIGNAL) == 1;

	free(line);
	return sent;
}

/* The last answer; those before it tell how far it is. NULL after a message. */
static json_t *receive(FILE *daemon)
{
	char *line = NULL;
	size_t size = 0;
	json_t *answer;

	for (;;) {
		errno = 0;
		if (getline(&line, &size, daemon) <= 0) {
			fprintf(stderr, "ovfsctl: %s\n",
				errno == EAGAIN ? "the daemon does not answer"
						: "the daemon closed the connection (it lets "
						  "in root, its own user and socket_group, 32 "
						  "at a time; or it is ending)");
			free(line);
			return NULL;
		}
		answer = json_loads(line, 0, NULL);
		if (!json_object_get(answer, "progress"))
			break;
		if (isatty(STDERR_FILENO))
			show_tasks(stderr, json_object_get(answer, "progress"));
		json_decref(answer);
	}
	if (!answer)
		fprintf(stderr, "ovfsctl: the answer is no JSON\n");
	free(line);
	return answer;
}

static enum exit_status show(const struct command *command, const json_t *answer, bool json)
{
	const json_t *left = json_object_get(answer, "left");
	bool ok = json_is_true(json_object_get(answer, "ok"));
	const json_t *value;
	const char *name;

	if (json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		printf("\n");
		return ok ? EXIT_OK : EXIT_REFUSED;
	}
	if (ok) {
		command->show(json_object_get(answer, "result"));
		return EXIT_OK;
	}
	fprintf(stderr, "ovfsctl: %s\n", printable(string_at(answer, "error")));
	json_object_foreach((json_t *)left, name, value)
		fprintf(stderr, "  %s: %" PRId64 " files\n", printable(name),
			(int64_t)json_integer_value(value));
	json_object_foreach(json_object_get(answer, "failed"), name, value)
		fprintf(stderr, "  %s: %s\n", printable(name),
			printable(json_string_value(value) ? json_string_value(value) : ""));
	return EXIT_REFUSED;
}

static enum exit_status run(const struct command *command, const struct options *options, int argc,
			    char **argv)
{
	json_t *request = json_pack("{s:s}", "command", command->name), *answer;
	enum exit_status status = EXIT_NO_DAEMON;
	FILE *daemon;

	if (!command->request(request, argc, argv, options)) {
		json_decref(request);
		return EXIT_USAGE;
	}
	daemon = dial(options->socket);
	if (daemon && !send_line(daemon, request)) {
		fprintf(stderr, "ovfsctl: cannot send: %s\n", strerror(errno));
	} else if (daemon) {
		answer = receive(daemon);
		if (answer)
			status = show(command, answer, options->json);
		json_decref(answer);
	}
	json_decref(request);
	if (daemon)
		fclose(daemon);
	return status;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "socket", required_argument, NULL, 's' },  { "json", no_argument, NULL, 'j' },
		{ "timeout", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },	     { 0 },
	};
	struct options options = { .socket = getenv("OVFS_CTL_SOCKET") };
	const struct command *command;
	char *end;
	int id;

	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (id) {
		case 's':
			options.socket = optarg;
			break;
		case 'j':
			options.json = true;
			break;
		case 't':
			options.timeout = strtod(optarg, &end);
			options.has_timeout = true;
			if (*end || end == optarg || !(options.timeout >= 0)) {
				fprintf(stderr, "ovfsctl: --timeout takes a number of seconds\n");
				return EXIT_USAGE;
			}
			break;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case 'v':
			printf("ovfsctl %s\n", OVFS_VERSION);
			return EXIT_OK;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (!options.socket || !*options.socket)
		options.socket = DEFAULT_SOCKET;
	argc -= optind;
	argv += optind;
	command = argc > 0 ? command_find(argv[0]) : NULL;
	if (!command || argc - 1 < command->min || argc - 1 > command->max) {
		usage(stderr);
		return EXIT_USAGE;
	}
	return (int)run(command, &options, argc - 1, argv + 1);
}
