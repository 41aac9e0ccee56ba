/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon tells of itself, as JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ctl/internal.h"

#define REQUESTS_MAX 1000u

/* Names of files and mounts need not be UTF-8, JSON's strings have to be. */
static json_t *text(const char *s)
{
	json_t *string = json_string(s ? s : "");
	json_t *masked;
	char *copy;

	if (string)
		return string;
	copy = strdup(s);
	for (char *c = copy; c && *c; c++) {
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	}
	masked = json_string(copy ? copy : "?");
	free(copy);
	return masked;
}

static void set(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void set_seconds(json_t *object, const char *key, uint64_t ns)
{
	json_object_set_new(object, key, json_real((double)ns / 1e9));
}

/* ---- Operations ---- */

/* Below what the fastest @fraction of @count took, as well as the buckets tell. */
static double quantile_s(const struct ctl_histogram *h, const struct ctl_operation *op,
			 uint64_t count, double fraction)
{
	uint64_t below = 0, want = (uint64_t)((double)count * fraction);
	unsigned i;

	for (i = 0; i < h->buckets - 1; i++) {
		below += op->buckets[i];
		if (below > want)
			break;
	}
	return (double)(1ull << (h->first_shift + i)) / 1e9;
}

static json_t *operation(const struct ctl_operations *all, const struct ctl_operation *op)
{
	json_t *object = json_object(), *results = json_object();
	uint64_t count = 0;

	for (unsigned i = 0; i < all->results.count; i++) {
		count += op->results[i];
		if (op->results[i])
			set(results, all->results.name[i], op->results[i]);
	}
	set(object, "count", count);
	json_object_set_new(object, "results", results);
	set(object, "in_flight", op->in_flight);
	if (count > 0) {
		json_object_set_new(object, "mean_seconds",
				    json_real((double)op->latency_ns / 1e9 / (double)count));
		json_object_set_new(object, "p50_seconds",
				    json_real(quantile_s(&all->histogram, op, count, 0.5)));
		json_object_set_new(object, "p99_seconds",
				    json_real(quantile_s(&all->histogram, op, count, 0.99)));
	}
	set(object, "bytes_read", op->bytes_read);
	set(object, "bytes_written", op->bytes_written);
	if (op->attempts || op->requests) {
		set(object, "attempts", op->attempts);
		set(object, "requests", op->requests);
	}
	return object;
}

static json_t *operations(const struct ctl_operations *all)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < all->count; i++)
		json_object_set_new(object, all->of[i].name, operation(all, &all->of[i]));
	return object;
}

/* ---- Requests under way ---- */

struct listing {
	const char *mount;
	json_t *array;
	uint64_t count;
};

static void list_request(void *arg, const struct ctl_request *r)
{
	struct listing *l = arg;
	json_t *object;

	if (l->count++ >= REQUESTS_MAX)
		return;
	object = json_object();
	json_object_set_new(object, "mount", text(l->mount));
	json_object_set_new(object, "operation", text(r->operation ? r->operation : "UNKNOWN"));
	set(object, "socket", r->port);
	set(object, "queue", r->queue);
	set(object, "unique", r->unique);
	set(object, "nodeid", r->nodeid);
	set_seconds(object, "age_seconds", r->age_ns);
	json_object_set_new(object, "in", text(r->place));
	set_seconds(object, "driver_seconds", r->driver_ns);
	set_seconds(object, "queued_seconds", r->queued_ns);
	set_seconds(object, "storage_seconds", r->storage_ns);
	set_seconds(object, "lock_seconds", r->lock_ns);
	json_array_append_new(l->array, object);
}

static int older_first(const void *a, const void *b)
{
	double x = json_real_value(json_object_get(*(json_t *const *)a, "age_seconds"));
	double y = json_real_value(json_object_get(*(json_t *const *)b, "age_seconds"));

	return (x < y) - (x > y);
}

/* @array sorted; it is given up. */
static json_t *sorted(json_t *array)
{
	size_t n = json_array_size(array);
	json_t **items = calloc(n + 1, sizeof(*items)), *out;

	if (!items)
		return array;
	out = json_array();
	for (size_t i = 0; i < n; i++)
		items[i] = json_array_get(array, i);
	qsort(items, n, sizeof(items[0]), older_first);
	for (size_t i = 0; i < n; i++)
		json_array_append(out, items[i]);
	json_decref(array);
	free(items);
	return out;
}

json_t *status_requests(struct ctl *ctl)
{
	struct listing l = { .array = json_array() };

	ctl_for_each (entry, ctl, &ctl->mounts) {
		l.mount = entry->name;
		ctl_mount_of(entry)->ops->requests(entry->ctx, 0, list_request, &l);
	}
	return json_pack("{s:o, s:I}", "requests", sorted(l.array), "count", (json_int_t)l.count);
}

/* ---- Dirty files ---- */

static void list_dirty(void *arg, const struct ctl_dirty_file *f)
{
	struct listing *l = arg;
	json_t *object = json_object();

	l->count++;
	json_object_set_new(object, "storage", text(l->mount));
	json_object_set_new(object, "key", text(f->key));
	set(object, "size", f->size);
	set(object, "dirty_bytes", f->dirty_bytes);
	set_seconds(object, "age_seconds", f->age_ns);
	json_object_set_new(object, "committing", json_boolean(f->committing));
	if (f->error)
		json_object_set_new(object, "error", text(strerror(-f->error)));
	json_array_append_new(l->array, object);
}

json_t *status_dirty(struct ctl *ctl, unsigned max)
{
	struct listing l = { .array = json_array() };

	ctl_for_each (entry, ctl, &ctl->storages) {
		l.mount = entry->name;
		ctl_storage_of(entry)->ops->dirty(entry->ctx, max, list_dirty, &l);
	}
	return sorted(l.array);
}

/* ---- Mounts, storages, the pool ---- */

static json_t *queue(const struct ctl_queue_stats *q)
{
	json_t *object = json_object();

	set(object, "socket", q->port);
	set(object, "queue", q->queue);
	set(object, "size", q->size);
	set(object, "waiting", q->waiting);
	set(object, "in_flight", q->in_flight);
	set(object, "abandoned", q->orphans);
	return object;
}

/* Names of storages, and directories with what they are asked for. */
static void set_parts(json_t *object, const struct ctl_mount_stats *stats)
{
	json_t *storages = json_array(), *directories = json_array();

	for (unsigned i = 0; i < stats->parts; i++) {
		const struct ctl_part *part = &stats->part[i];
		json_t *directory;

		if (part->storage[0])
			json_array_append_new(storages, text(part->storage));
		if (!part->path[0])
			continue;
		directory = json_object();
		json_object_set_new(directory, "path", text(part->path));
		json_object_set_new(directory, "storage",
				    part->storage[0] ? text(part->storage) : json_null());
		set(directory, "requests", part->requests);
		set(directory, "errors", part->errors);
		set(directory, "in_flight", part->in_flight);
		json_array_append_new(directories, directory);
	}
	json_object_set_new(object, "storages", storages);
	json_object_set_new(object, "directories", directories);
}

static json_t *mount(struct ctl_entry *entry, struct ctl_mount_stats *stats)
{
	struct listing l = { .mount = entry->name, .array = json_array() };
	json_t *object = json_object(), *queues = json_array();

	memset(stats, 0, sizeof(*stats));
	ctl_mount_of(entry)->ops->stats(entry->ctx, stats);
	ctl_mount_of(entry)->ops->requests(entry->ctx, 0, list_request, &l);
	json_object_set_new(object, "name", text(entry->name));
	if (stats->error[0])
		json_object_set_new(object, "error", text(stats->error));
	set(object, "sockets", stats->ports);
	set(object, "guests", stats->guests);
	set_parts(object, stats);
	for (unsigned i = 0; i < stats->queues; i++) {
		if (stats->queue[i].started || stats->queue[i].orphans)
			json_array_append_new(queues, queue(&stats->queue[i]));
	}
	json_object_set_new(object, "queues", queues);
	set(object, "in_flight", l.count);
	json_object_set_new(object, "requests", sorted(l.array));
	json_object_set_new(object, "operations", operations(&stats->operations));
	return object;
}

static json_t *storage(struct ctl_entry *entry, struct ctl_storage_stats *stats)
{
	json_t *object = json_object();

	memset(stats, 0, sizeof(*stats));
	ctl_storage_of(entry)->ops->stats(entry->ctx, stats);
	json_object_set_new(object, "name", text(entry->name));
	json_object_set_new(object, "type", text(stats->type));
	json_object_set_new(object, "state", text(stats->state));
	set_seconds(object, "state_seconds", stats->state_age_ns);
	json_object_set_new(object, "error", stats->error[0] ? text(stats->error) : json_null());
	set(object, "files", stats->files);
	set(object, "cached_bytes", stats->bytes);
	set(object, "dirty_files", stats->dirty_files);
	set(object, "dirty_bytes", stats->dirty_bytes);
	set(object, "hits", stats->hits);
	set(object, "misses", stats->misses);
	set(object, "fetched_bytes", stats->fetched_bytes);
	set(object, "commits", stats->commits);
	set(object, "commit_failures", stats->commit_failures);
	set(object, "retries", stats->retries);
	set(object, "connections", stats->connections);
	set(object, "connections_busy", stats->connections_busy);
	json_object_set_new(object, "operations", operations(&stats->operations));
	return object;
}

static json_t *pool(const struct ctl *ctl)
{
	struct ctl_pool_stats stats = { 0 };
	json_t *object = json_object(), *classes = json_array();

	ctl->hooks.pool_stats(ctl->hooks.ctx, &stats);
	set(object, "bytes", stats.arena);
	set(object, "free_bytes", stats.free);
	set(object, "evicted_blocks", stats.evicted);
	for (unsigned i = 0; i < stats.classes; i++)
		json_array_append_new(classes, json_pack("{s:I, s:I, s:I}", "block_size",
							 (json_int_t)stats.class[i].block_size,
							 "used", (json_int_t)stats.class[i].used,
							 "free", (json_int_t)stats.class[i].free));
	json_object_set_new(object, "classes", classes);
	return object;
}

static json_t *configuration(const struct ctl *ctl)
{
	struct ctl_config_stats stats = { 0 };
	json_t *object = json_object();

	ctl->hooks.config_stats(ctl->hooks.ctx, &stats);
	set(object, "generation", stats.generation);
	set(object, "reloads", stats.reloads);
	set(object, "failures", stats.failures);
	json_object_set_new(object, "loaded", json_integer(stats.loaded_s));
	json_object_set_new(object, "error", stats.error[0] ? text(stats.error) : json_null());
	return object;
}

json_t *status_all(struct ctl *ctl)
{
	json_t *object = json_object(), *mounts = json_array(), *storages = json_array();
	struct ctl_mount_stats *m = malloc(sizeof(*m));
	struct ctl_storage_stats *s = malloc(sizeof(*s));

	json_object_set_new(object, "version", text(ctl->config.version));
	set_seconds(object, "uptime_seconds", loop_now_ns() - ctl->started_ns);
	json_object_set_new(object, "log_level", text(log_level_name(log_get_level())));
	set_seconds(object, "silent_seconds", ctl_silent_ns(ctl));
	if (ctl->hooks.config_stats)
		json_object_set_new(object, "configuration", configuration(ctl));
	if (ctl->hooks.pool_stats)
		json_object_set_new(object, "pool", pool(ctl));
	ctl_for_each (entry, ctl, &ctl->mounts) {
		if (m)
			json_array_append_new(mounts, mount(entry, m));
	}
	ctl_for_each (entry, ctl, &ctl->storages) {
		if (s)
			json_array_append_new(storages, storage(entry, s));
	}
	json_object_set_new(object, "mounts", mounts);
	json_object_set_new(object, "storages", storages);
	json_object_set_new(object, "dirty", status_dirty(ctl, 20));
	json_object_set_new(object, "tasks", job_progress());
	free(m);
	free(s);
	return object;
}

/* ---- Nodes ---- */

struct ctl_fields {
	json_t *records; /* an array */
	json_t *last;	 /* of them, borrowed */
};

void ctl_record_begin(struct ctl_fields *fields)
{
	fields->last = json_object();
	json_array_append_new(fields->records, fields->last);
}

void ctl_field_string(struct ctl_fields *fields, const char *name, const char *value)
{
	json_object_set_new(fields->last, name, text(value));
}

void ctl_field_number(struct ctl_fields *fields, const char *name, uint64_t value)
{
	set(fields->last, name, value);
}

void ctl_field_flag(struct ctl_fields *fields, const char *name, bool value)
{
	json_object_set_new(fields->last, name, json_boolean(value));
}

json_t *status_inode(struct ctl *ctl, const char *name, uint64_t nodeid)
{
	struct ctl_entry *entry = ctl_entry_find(ctl, &ctl->mounts, name);
	struct ctl_fields fields = { 0 };

	if (!entry)
		return NULL;
	fields.records = json_array();
	if (ctl_mount_of(entry)->ops->inode)
		ctl_mount_of(entry)->ops->inode(entry->ctx, nodeid, &fields);
	ctl_entry_put(entry);
	return fields.records;
}
