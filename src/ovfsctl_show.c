/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon answered, for a person. */
#include "ovfsctl_show.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

const char *string_at(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

int64_t number_at(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static double seconds_at(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

const char *printable(const char *s)
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
		printf("  %-12s %-14s %6" PRId64 " %6" PRId64 " %20" PRIu64
		       " %8s  %-8s %8s %8s %8s\n",
		       printable(string_at(r, "mount")), printable(string_at(r, "operation")),
		       number_at(r, "socket"), number_at(r, "queue"),
		       (uint64_t)number_at(r, "nodeid"), time_text(seconds_at(r, "age_seconds")),
		       printable(string_at(r, "in")), time_text(seconds_at(r, "queued_seconds")),
		       time_text(seconds_at(r, "driver_seconds")),
		       time_text(seconds_at(r, "storage_seconds")));
	}
}

void show_all_requests(const json_t *result)
{
	const json_t *requests = json_object_get(result, "requests");
	int64_t count = number_at(result, "count");

	printf("requests in flight: %" PRId64 "\n", count);
	show_requests(requests);
	if (count > (int64_t)json_array_size(requests))
		printf("  ... and %" PRId64 " more\n", count - (int64_t)json_array_size(requests));
}

void show_dirty(const json_t *files)
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

void show_tasks(FILE *out, const json_t *tasks)
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

static void show_directories(const json_t *directories)
{
	const json_t *d;
	size_t i;

	json_array_foreach(directories, i, d)
	{
		if (i == 0)
			printf("  %-24s %10s %8s %8s  %s\n", "DIRECTORY", "REQUESTS", "FLIGHT",
			       "ERRORS", "STORAGE");
		printf("  %-24s %10" PRId64 " %8" PRId64 " %8" PRId64 "  %s\n",
		       printable(string_at(d, "path")), number_at(d, "requests"),
		       number_at(d, "in_flight"), number_at(d, "errors"),
		       printable(string_at(d, "storage")));
	}
}

static void show_mount(const json_t *m)
{
	const json_t *storages = json_object_get(m, "storages"), *item;
	size_t i;

	if (json_object_get(m, "error")) {
		printf("\nmount %s is not served: %s\n", printable(string_at(m, "name")),
		       printable(string_at(m, "error")));
		return;
	}
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
	show_directories(json_object_get(m, "directories"));
	show_requests(json_object_get(m, "requests"));
	show_operations(json_object_get(m, "operations"));
}

static void show_storage(const json_t *s)
{
	int64_t hits = number_at(s, "hits"), misses = number_at(s, "misses");
	const char *state = string_at(s, "state"), *error = string_at(s, "error");

	printf("\nstorage %s (%s): %" PRId64 " files, %s cached, %s dirty in %" PRId64 " files\n",
	       printable(string_at(s, "name")), printable(string_at(s, "type")),
	       number_at(s, "files"), size_text(number_at(s, "cached_bytes")),
	       size_text(number_at(s, "dirty_bytes")), number_at(s, "dirty_files"));
	if (strcmp(state, "well") != 0 && state[0])
		printf("  %s for %s%s%s\n",
		       strcmp(state, "silent") == 0 ? "has not answered yet," : "does not answer,",
		       time_text(seconds_at(s, "state_seconds")), error[0] ? ": " : "",
		       printable(error));
	printf("  hits %" PRId64 ", misses %" PRId64 " (%.1f %% hits), fetched %s, commits %" PRId64
	       " (%" PRId64 " failed), retries %" PRId64 ", connections %" PRId64 " of %" PRId64
	       "\n",
	       hits, misses, hits + misses ? 100.0 * (double)hits / (double)(hits + misses) : 0.0,
	       size_text(number_at(s, "fetched_bytes")), number_at(s, "commits"),
	       number_at(s, "commit_failures"), number_at(s, "retries"),
	       number_at(s, "connections_busy"), number_at(s, "connections"));
	show_operations(json_object_get(s, "operations"));
}

void show_status(const json_t *s)
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

void show_records(const json_t *records)
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

void show_level(const json_t *result)
{
	printf("%s\n", printable(string_at(result, "level")));
}

void show_dropped(const json_t *result)
{
	printf("dropped %s, %s are left\n", size_text(number_at(result, "dropped_bytes")),
	       size_text(number_at(result, "left_bytes")));
}

void show_done(const json_t *result)
{
	(void)result;
	printf("done\n");
}
