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

/* ---- Showing ---- */

static const char *string_at(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static int64_t number_at(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static double seconds_at(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* What a terminal could take for a command of its own is not passed on. */
static const char *printable(const char *s)
{
	static char buffers[4][1100];
	static unsigned next;
	char *out = buffers[next++ % 4];
	size_t n = 0;

	for (; *s && n < sizeof(buffers[0]) - 1; s++) {
		unsigned char c = (unsigned char)*s;

		out[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	out[n] = '\0';
	return out;
}

static const char *size_text(int64_t bytes)
{
	static const char units[] = "BKMGTPE";
	static char buffers[8][16];
	static unsigned next;
	char *out = buffers[next++ % 8];
	double value = (double)bytes;
	unsigned unit = 0;

	for (; value >= 1024 && units[unit + 1]; unit++)
		value /= 1024;
	snprintf(out, sizeof(buffers[0]), unit && value < 100 ? "%.1f%c" : "%.0f%c", value,
		 units[unit]);
	return out;
}

static const char *time_text(double seconds)
{
	static char buffers[8][32];
	static unsigned next;
	char *out = buffers[next++ % 8];

	if (seconds < 1e-3)
		snprintf(out, sizeof(buffers[0]), "%.0fus", seconds * 1e6);
	else if (seconds < 1)
		snprintf(out, sizeof(buffers[0]), "%.1fms", seconds * 1e3);
	else if (seconds < 120)
		snprintf(out, sizeof(buffers[0]), "%.1fs", seconds);
	else if (seconds < 7200)
		snprintf(out, sizeof(buffers[0]), "%.0fmin", seconds / 60);
	else if (seconds < 172800)
		snprintf(out, sizeof(buffers[0]), "%.0fh", seconds / 3600);
	else
		snprintf(out, sizeof(buffers[0]), "%.0fd", seconds / 86400);
	return out;
}

static void show_requests(const json_t *requests)
{
	const json_t *r;
	size_t i;

	json_array_foreach(requests, i, r)
	{
		if (i == 0)
			printf("  %-12s %-14s %6s %6s %20s %8s  %-8s %8s %8s %8s\n", "MOUNT",
			       "REQUEST", "SOCKET", "QUEUE", "NODE", "AGE", "IN", "QUEUED",
			       "DRIVER", "STORAGE");
		printf("  %-12s %-14s %6" PRId64 " %6" PRId64 " %20" PRId64
		       " %8s  %-8s %8s %8s %8s\n",
		       printable(string_at(r, "mount")), printable(string_at(r, "operation")),
		       number_at(r, "socket"), number_at(r, "queue"), number_at(r, "nodeid"),
		       time_text(seconds_at(r, "age_seconds")), printable(string_at(r, "in")),
		       time_text(seconds_at(r, "queued_seconds")),
		       time_text(seconds_at(r, "driver_seconds")),
		       time_text(seconds_at(r, "storage_seconds")));
	}
}

static void show_all_requests(const json_t *result)
{
	const json_t *requests = json_object_get(result, "requests");
	int64_t count = number_at(result, "count");

	printf("requests in flight: %" PRId64 "\n", count);
	show_requests(requests);
	if (count > (int64_t)json_array_size(requests))
		printf("  ... and %" PRId64 " more\n", count - (int64_t)json_array_size(requests));
}

static void show_dirty(const json_t *files)
{
	const json_t *f;
	size_t i;

	if (json_array_size(files) == 0)
		printf("nothing is dirty\n");
	json_array_foreach(files, i, f)
	{
		if (i == 0)
			printf("  %-16s %8s %8s %8s  %-10s %s\n", "STORAGE", "DIRTY", "SIZE", "AGE",
			       "STATE", "KEY");
		printf("  %-16s %8s %8s %8s  %-10s %s%s%s\n", printable(string_at(f, "storage")),
		       size_text(number_at(f, "dirty_bytes")), size_text(number_at(f, "size")),
		       time_text(seconds_at(f, "age_seconds")),
		       json_is_true(json_object_get(f, "committing")) ? "committing" : "waiting",
		       printable(string_at(f, "key")), json_object_get(f, "error") ? ": " : "",
		       printable(string_at(f, "error")));
	}
}

static void show_tasks(FILE *out, const json_t *tasks)
{
	const json_t *t;
	size_t i;

	json_array_foreach(tasks, i, t)
	{
		int64_t total = number_at(t, "total");

		fprintf(out, "task %s %s: %" PRId64, printable(string_at(t, "task")),
			printable(string_at(t, "subject")), number_at(t, "done"));
		if (total)
			fprintf(out, " of %" PRId64, total);
		fprintf(out, " %s, for %s\n", printable(string_at(t, "unit")),
			time_text(seconds_at(t, "seconds")));
	}
}

static void show_operations(const json_t *operations)
{
	const char *name, *result;
	const json_t *op, *count;
	bool head = false;

	json_object_foreach((json_t *)operations, name, op)
	{
		if (!head)
			printf("  %-20s %10s %8s %8s %8s %8s  %s\n", "OPERATION", "COUNT", "FLIGHT",
			       "MEAN", "P50<", "P99<", "NOT OK");
		head = true;
		printf("  %-20s %10" PRId64 " %8" PRId64 " %8s %8s %8s ", printable(name),
		       number_at(op, "count"), number_at(op, "in_flight"),
		       time_text(seconds_at(op, "mean_seconds")),
		       time_text(seconds_at(op, "p50_seconds")),
		       time_text(seconds_at(op, "p99_seconds")));
		json_object_foreach(json_object_get(op, "results"), result, count)
		{
			if (strcmp(result, "ok") != 0)
				printf(" %s=%" PRId64, printable(result),
				       (int64_t)json_integer_value(count));
		}
		printf("\n");
	}
}

static void show_mount(const json_t *m)
{
	const json_t *storages = json_object_get(m, "storages"), *item;
	size_t i;

	printf("\nmount %s: %" PRId64 " of %" PRId64 " sockets with a guest, %" PRId64
	       " requests in flight",
	       printable(string_at(m, "name")), number_at(m, "guests"), number_at(m, "sockets"),
	       number_at(m, "in_flight"));
	json_array_foreach(storages, i, item)
		printf("%s%s", i ? ", " : ", on ", printable(json_string_value(item)));
	printf("\n");
	json_array_foreach(json_object_get(m, "queues"), i, item)
	{
		if (number_at(item, "in_flight") || number_at(item, "waiting") ||
		    number_at(item, "abandoned"))
			printf("  socket %" PRId64 " queue %" PRId64 ": %" PRId64
			       " in flight, %" PRId64 " waiting in the ring of %" PRId64
			       ", %" PRId64 " abandoned\n",
			       number_at(item, "socket"), number_at(item, "queue"),
			       number_at(item, "in_flight"), number_at(item, "waiting"),
			       number_at(item, "size"), number_at(item, "abandoned"));
	}
	show_requests(json_object_get(m, "requests"));
	show_operations(json_object_get(m, "operations"));
}

static void show_storage(const json_t *s)
{
	int64_t hits = number_at(s, "hits"), misses = number_at(s, "misses");

	printf("\nstorage %s (%s): %" PRId64 " files, %s cached, %s dirty in %" PRId64 " files\n",
	       printable(string_at(s, "name")), printable(string_at(s, "type")),
	       number_at(s, "files"), size_text(number_at(s, "cached_bytes")),
	       size_text(number_at(s, "dirty_bytes")), number_at(s, "dirty_files"));
	printf("  hits %" PRId64 ", misses %" PRId64 " (%.1f %% hits), fetched %s, commits %" PRId64
	       " (%" PRId64 " failed), retries %" PRId64 ", connections %" PRId64 " of %" PRId64
	       "\n",
	       hits, misses, hits + misses ? 100.0 * (double)hits / (double)(hits + misses) : 0.0,
	       size_text(number_at(s, "fetched_bytes")), number_at(s, "commits"),
	       number_at(s, "commit_failures"), number_at(s, "retries"),
	       number_at(s, "connections_busy"), number_at(s, "connections"));
	show_operations(json_object_get(s, "operations"));
}

static void show_status(const json_t *s)
{
	const json_t *config = json_object_get(s, "configuration"), *item;
	const json_t *pool = json_object_get(s, "pool");
	size_t i;

	printf("ovfs %s, up %s, log level %s\n", printable(string_at(s, "version")),
	       time_text(seconds_at(s, "uptime_seconds")), printable(string_at(s, "log_level")));
	if (seconds_at(s, "silent_seconds") > 1.5)
		printf("the control loop has not turned for %s\n",
		       time_text(seconds_at(s, "silent_seconds")));
	if (config) {
		printf("configuration %" PRId64 ", %" PRId64 " reloads, %" PRId64 " failed\n",
		       number_at(config, "generation"), number_at(config, "reloads"),
		       number_at(config, "failures"));
		if (json_is_string(json_object_get(config, "error")))
			printf("  the last failed: %s\n", printable(string_at(config, "error")));
	}
	if (pool && number_at(pool, "bytes"))
		printf("cache: %s, %s of it unused, %" PRId64 " blocks evicted\n",
		       size_text(number_at(pool, "bytes")),
		       size_text(number_at(pool, "free_bytes")), number_at(pool, "evicted_blocks"));
	show_tasks(stdout, json_object_get(s, "tasks"));
	json_array_foreach(json_object_get(s, "mounts"), i, item) show_mount(item);
	json_array_foreach(json_object_get(s, "storages"), i, item) show_storage(item);
	if (json_array_size(json_object_get(s, "dirty")) > 0) {
		printf("\nwaiting to be written, the oldest first:\n");
		show_dirty(json_object_get(s, "dirty"));
	}
}

/* Names and values, one a line; records apart. */
static void show_records(const json_t *records)
{
	const json_t *record, *value;
	const char *name;
	size_t i;

	if (json_array_size(records) == 0)
		printf("no guest knows such a node\n");
	json_array_foreach(records, i, record)
	{
		if (i)
			printf("\n");
		json_object_foreach((json_t *)record, name, value)
		{
			if (json_is_string(value))
				printf("%-14s %s\n", printable(name),
				       printable(json_string_value(value)));
			else if (json_is_boolean(value))
				printf("%-14s %s\n", printable(name),
				       json_is_true(value) ? "yes" : "no");
			else
				printf("%-14s %" PRId64 "\n", printable(name),
				       (int64_t)json_integer_value(value));
		}
	}
}

static void show_level(const json_t *result)
{
	printf("%s\n", printable(string_at(result, "level")));
}

static void show_dropped(const json_t *result)
{
	printf("dropped %s, %s are left\n", size_text(number_at(result, "dropped_bytes")),
	       size_text(number_at(result, "left_bytes")));
}

static void show_done(const json_t *result)
{
	(void)result;
	printf("done\n");
}

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
	long long nodeid;

	(void)argc, (void)options;
	errno = 0;
	nodeid = strtoll(argv[1], &end, 0);
	if (errno || *end || end == argv[1] || nodeid <= 0) {
		fprintf(stderr, "ovfsctl: \"%s\" is no number of a node\n", argv[1]);
		return false;
	}
	return json_object_set_new(request, "mount", json_string(argv[0])) == 0 &&
	       json_object_set_new(request, "nodeid", json_integer(nodeid)) == 0;
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
		fprintf(stderr,
			"ovfsctl: cannot connect to %s: %s (does ovfs run, and has it "
			"socket_path in [ctl_settings]?)\n",
			path, strerror(errno));
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
						  "its own user and root in)");
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
