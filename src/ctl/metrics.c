/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics in Prometheus' text format (exposition formats, version 0.0.4).
 *
 * The samples of a family stand together, so what mounts and storages tell is gathered
 * first, and then written family by family. Every family is named with its help and type also
 * when there is no sample of it, for the sake of dashboards that are made elsewhere.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "ctl/internal.h"

struct mount_snapshot {
	struct mount_snapshot *next;
	char name[CTL_NAME_MAX];
	struct ctl_mount_stats stats;
	uint64_t in_flight, oldest_ns;
};

struct storage_snapshot {
	struct storage_snapshot *next;
	char name[CTL_NAME_MAX];
	struct ctl_storage_stats stats;
};

struct snapshot {
	const struct ctl *ctl;
	struct mount_snapshot *mounts;
	struct storage_snapshot *storages;
	bool has_pool, has_config;
	struct ctl_pool_stats pool;
	struct ctl_config_stats config;
};

/* ---- Writing ---- */

struct family {
	const char *name;
	const char *type;
	const char *help;
	void (*write)(FILE *out, const char *name, const struct snapshot *s);
};

/* A label's value, escaped. */
static void put_value(FILE *out, const char *value)
{
	for (; *value; value++) {
		switch (*value) {
		case '\\':
			fputs("\\\\", out);
			break;
		case '"':
			fputs("\\\"", out);
			break;
		case '\n':
			fputs("\\n", out);
			break;
		default:
			putc(*value, out);
		}
	}
}

/* name{key="value", with more labels to come. */
static void put_start(FILE *out, const char *name, const char *suffix, const char *key,
		      const char *value)
{
	fprintf(out, "%s%s{%s=\"", name, suffix, key);
	put_value(out, value);
	putc('"', out);
}

static void put_label(FILE *out, const char *key, const char *value)
{
	fprintf(out, ",%s=\"", key);
	put_value(out, value);
	putc('"', out);
}

static void put_number(FILE *out, uint64_t value)
{
	fprintf(out, "} %" PRIu64 "\n", value);
}

/* One sample for each mount (storage): of a member of its snapshot. */
#define FOR_MOUNTS(function, expression)                                                           \
	static void function(FILE *out, const char *name, const struct snapshot *s)                \
	{                                                                                          \
		for (const struct mount_snapshot *m = s->mounts; m; m = m->next) {                 \
			put_start(out, name, "", "mount", m->name);                                \
			put_number(out, expression);                                               \
		}                                                                                  \
	}

#define FOR_STORAGES(function, expression)                                                         \
	static void function(FILE *out, const char *name, const struct snapshot *s)                \
	{                                                                                          \
		for (const struct storage_snapshot *m = s->storages; m; m = m->next) {             \
			put_start(out, name, "", "storage", m->name);                              \
			put_number(out, expression);                                               \
		}                                                                                  \
	}

#define FOR_QUEUES(function, member)                                                               \
	static void function(FILE *out, const char *name, const struct snapshot *s)                \
	{                                                                                          \
		for (const struct mount_snapshot *m = s->mounts; m; m = m->next) {                 \
			for (unsigned i = 0; i < m->stats.queues; i++)                             \
				put_queue(out, name, m, &m->stats.queue[i],                        \
					  m->stats.queue[i].member);                               \
		}                                                                                  \
	}

#define FOR_OPERATIONS(function, expression)                                                       \
	static void function(FILE *out, const char *name, const struct snapshot *s)                \
	{                                                                                          \
		for (const struct storage_snapshot *m = s->storages; m; m = m->next) {             \
			for (unsigned i = 0; i < m->stats.operations.count; i++) {                 \
				const struct ctl_operation *op = &m->stats.operations.of[i];       \
                                                                                                   \
				put_start(out, name, "", "storage", m->name);                      \
				put_label(out, "operation", op->name);                             \
				put_number(out, expression);                                       \
			}                                                                          \
		}                                                                                  \
	}

static void put_results(FILE *out, const char *name, const char *owner, const char *owner_name,
			const char *kind, const struct ctl_operations *all)
{
	for (unsigned i = 0; i < all->count; i++) {
		const struct ctl_operation *op = &all->of[i];

		for (unsigned r = 0; r < all->results.count; r++) {
			/* Errors begin to exist with the first; "ok" is always there. */
			if (r > 0 && op->results[r] == 0)
				continue;
			put_start(out, name, "", owner, owner_name);
			put_label(out, kind, op->name);
			put_label(out, "result", all->results.name[r]);
			put_number(out, op->results[r]);
		}
	}
}

static void put_histogram(FILE *out, const char *name, const char *owner, const char *owner_name,
			  const char *kind, const struct ctl_histogram *h,
			  const struct ctl_operation *op)
{
	uint64_t below = 0;

	for (unsigned i = 0; i < h->buckets; i++) {
		below += op->buckets[i];
		put_start(out, name, "_bucket", owner, owner_name);
		put_label(out, kind, op->name);
		if (i < h->buckets - 1)
			fprintf(out, ",le=\"%.9g\"", (double)(1ull << (h->first_shift + i)) / 1e9);
		else
			put_label(out, "le", "+Inf");
		put_number(out, below);
	}
	put_start(out, name, "_sum", owner, owner_name);
	put_label(out, kind, op->name);
	fprintf(out, "} %.9f\n", (double)op->latency_ns / 1e9);
	put_start(out, name, "_count", owner, owner_name);
	put_label(out, kind, op->name);
	put_number(out, below);
}

/* ---- Families ---- */

static void write_build(FILE *out, const char *name, const struct snapshot *s)
{
	put_start(out, name, "", "version", s->ctl->config.version);
	put_number(out, 1);
}

static void write_start(FILE *out, const char *name, const struct snapshot *s)
{
	fprintf(out, "%s %" PRId64 "\n", name, s->ctl->started_s);
}

static void write_cpu(FILE *out, const char *name, const struct snapshot *s)
{
	struct timespec ts = { 0 };

	(void)s;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	fprintf(out, "%s %lld.%09ld\n", name, (long long)ts.tv_sec, ts.tv_nsec);
}

static void write_requests(FILE *out, const char *name, const struct snapshot *s)
{
	for (const struct mount_snapshot *m = s->mounts; m; m = m->next)
		put_results(out, name, "mount", m->name, "opcode", &m->stats.operations);
}

static void write_request_seconds(FILE *out, const char *name, const struct snapshot *s)
{
	for (const struct mount_snapshot *m = s->mounts; m; m = m->next) {
		const struct ctl_operations *all = &m->stats.operations;

		for (unsigned i = 0; i < all->count; i++)
			put_histogram(out, name, "mount", m->name, "opcode", &all->histogram,
				      &all->of[i]);
	}
}

static void write_oldest(FILE *out, const char *name, const struct snapshot *s)
{
	for (const struct mount_snapshot *m = s->mounts; m; m = m->next) {
		put_start(out, name, "", "mount", m->name);
		fprintf(out, "} %.9f\n", (double)m->oldest_ns / 1e9);
	}
}

static uint64_t bytes_read(const struct ctl_operations *all)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < all->count; i++)
		sum += all->of[i].bytes_read;
	return sum;
}

static uint64_t bytes_written(const struct ctl_operations *all)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < all->count; i++)
		sum += all->of[i].bytes_written;
	return sum;
}

static void put_queue(FILE *out, const char *name, const struct mount_snapshot *m,
		      const struct ctl_queue_stats *queue, uint64_t value)
{
	if (!queue->started && !queue->orphans)
		return;
	put_start(out, name, "", "mount", m->name);
	fprintf(out, ",socket=\"%u\",queue=\"%u\"", queue->port, queue->queue);
	put_number(out, value);
}

/* One sample for each directory of a mount. */
#define FOR_DIRECTORIES(function, member)                                                          \
	static void function(FILE *out, const char *name, const struct snapshot *s)                \
	{                                                                                          \
		for (const struct mount_snapshot *m = s->mounts; m; m = m->next) {                 \
			for (unsigned i = 0; i < m->stats.parts; i++) {                            \
				if (!m->stats.part[i].path[0])                                     \
					continue;                                                  \
				put_start(out, name, "", "mount", m->name);                        \
				put_label(out, "directory", m->stats.part[i].path);                \
				put_number(out, m->stats.part[i].member);                          \
			}                                                                          \
		}                                                                                  \
	}

FOR_DIRECTORIES(write_directory_requests, requests)
FOR_DIRECTORIES(write_directory_errors, errors)
FOR_DIRECTORIES(write_directory_in_flight, in_flight)

FOR_MOUNTS(write_mount_up, !m->stats.error[0])
FOR_MOUNTS(write_guests, m->stats.guests)
FOR_MOUNTS(write_sockets, m->stats.ports)
FOR_MOUNTS(write_read_bytes, bytes_read(&m->stats.operations))
FOR_MOUNTS(write_written_bytes, bytes_written(&m->stats.operations))
FOR_MOUNTS(write_in_flight, m->in_flight)
FOR_QUEUES(write_queue_size, size)
FOR_QUEUES(write_queue_waiting, waiting)
FOR_QUEUES(write_queue_in_flight, in_flight)
FOR_QUEUES(write_queue_orphans, orphans)

FOR_STORAGES(write_up, strcmp(m->stats.state, "well") == 0)
FOR_STORAGES(write_hits, m->stats.hits)
FOR_STORAGES(write_misses, m->stats.misses)
FOR_STORAGES(write_fetched, m->stats.fetched_bytes)
FOR_STORAGES(write_cached_bytes, m->stats.bytes)
FOR_STORAGES(write_cached_files, m->stats.files)
FOR_STORAGES(write_dirty_bytes, m->stats.dirty_bytes)
FOR_STORAGES(write_dirty_files, m->stats.dirty_files)
FOR_STORAGES(write_commits, m->stats.commits)
FOR_STORAGES(write_commit_failures, m->stats.commit_failures)
FOR_STORAGES(write_retries, m->stats.retries)
FOR_STORAGES(write_connections, m->stats.connections)
FOR_STORAGES(write_connections_busy, m->stats.connections_busy)
FOR_STORAGES(write_received, bytes_read(&m->stats.operations))
FOR_STORAGES(write_sent, bytes_written(&m->stats.operations))
FOR_OPERATIONS(write_attempts, op->attempts)
FOR_OPERATIONS(write_service_requests, op->requests)
FOR_OPERATIONS(write_operations_in_flight, op->in_flight)

static void write_operations(FILE *out, const char *name, const struct snapshot *s)
{
	for (const struct storage_snapshot *m = s->storages; m; m = m->next)
		put_results(out, name, "storage", m->name, "operation", &m->stats.operations);
}

static void write_operation_seconds(FILE *out, const char *name, const struct snapshot *s)
{
	for (const struct storage_snapshot *m = s->storages; m; m = m->next) {
		const struct ctl_operations *all = &m->stats.operations;

		for (unsigned i = 0; i < all->count; i++)
			put_histogram(out, name, "storage", m->name, "operation", &all->histogram,
				      &all->of[i]);
	}
}

#define ONE(function, condition, expression)                                                       \
	static void function(FILE *out, const char *name, const struct snapshot *s)                \
	{                                                                                          \
		if (condition)                                                                     \
			fprintf(out, "%s %" PRIu64 "\n", name, (uint64_t)(expression));            \
	}

ONE(write_pool_bytes, s->has_pool, s->pool.arena)
ONE(write_pool_free, s->has_pool, s->pool.free)
ONE(write_evictions, s->has_pool, s->pool.evicted)
ONE(write_generation, s->has_config, s->config.generation)
ONE(write_reloads, s->has_config, s->config.reloads)
ONE(write_reload_failures, s->has_config, s->config.failures)
ONE(write_reload_ok, s->has_config, s->config.error[0] == '\0')
ONE(write_loaded, s->has_config, s->config.loaded_s)

static void write_pool_blocks(FILE *out, const char *name, const struct snapshot *s)
{
	for (unsigned i = 0; i < s->pool.classes; i++) {
		const struct ctl_pool_class *c = &s->pool.class[i];

		fprintf(out, "%s{block_size=\"%u\",state=\"used\"} %" PRIu64 "\n", name,
			c->block_size, c->used);
		fprintf(out, "%s{block_size=\"%u\",state=\"free\"} %" PRIu64 "\n", name,
			c->block_size, c->free);
	}
}

#define COUNTER "counter"
#define GAUGE "gauge"
#define HISTOGRAM "histogram"

static const struct family families[] = {
	{ "ovfs_build_info", GAUGE, "The version that runs, as a label.", write_build },
	{ "process_start_time_seconds", GAUGE, "When the daemon started, since the epoch.",
	  write_start },
	{ "process_cpu_seconds_total", COUNTER, "Processor time of the daemon.", write_cpu },

	{ "ovfs_mount_up", GAUGE, "0: it is not served, for its storage refuses, or is missing.",
	  write_mount_up },
	{ "ovfs_sockets", GAUGE, "Sockets of the mount that guests can connect to.",
	  write_sockets },
	{ "ovfs_guests", GAUGE, "Guests that are connected.", write_guests },
	{ "ovfs_requests_total", COUNTER, "Requests of guests that were answered.",
	  write_requests },
	{ "ovfs_request_duration_seconds", HISTOGRAM,
	  "From taking a request out of its queue to its answer.", write_request_seconds },
	{ "ovfs_read_bytes_total", COUNTER, "Bytes that guests read.", write_read_bytes },
	{ "ovfs_written_bytes_total", COUNTER, "Bytes that guests wrote.", write_written_bytes },
	{ "ovfs_requests_in_flight", GAUGE, "Requests of guests that are under way.",
	  write_in_flight },
	{ "ovfs_oldest_request_age_seconds", GAUGE,
	  "For how long the oldest request under way has been; without waits for locks.",
	  write_oldest },
	{ "ovfs_directory_requests_total", COUNTER,
	  "Requests that a directory of the mount answered.", write_directory_requests },
	{ "ovfs_directory_errors_total", COUNTER, "Those of them that ended in an I/O error.",
	  write_directory_errors },
	{ "ovfs_directory_requests_in_flight", GAUGE, "Requests under way in a directory.",
	  write_directory_in_flight },
	{ "ovfs_queue_size", GAUGE, "Entries of the virtqueue's ring.", write_queue_size },
	{ "ovfs_queue_waiting", GAUGE,
	  "Requests in the ring that were not taken yet; of a packed ring whether there are any.",
	  write_queue_waiting },
	{ "ovfs_queue_in_flight", GAUGE, "Requests of the queue that are under way.",
	  write_queue_in_flight },
	{ "ovfs_queue_abandoned", GAUGE, "Requests under way whose ring was stopped without them.",
	  write_queue_orphans },

	{ "ovfs_cache_hits_total", COUNTER, "Blocks that a read found in the cache.", write_hits },
	{ "ovfs_cache_misses_total", COUNTER, "Blocks that a read did not find.", write_misses },
	{ "ovfs_cache_fetched_bytes_total", COUNTER, "Bytes fetched into the cache.",
	  write_fetched },
	{ "ovfs_cache_bytes", GAUGE, "Bytes of blocks that the storage's files hold.",
	  write_cached_bytes },
	{ "ovfs_cache_files", GAUGE, "Files that the cache knows.", write_cached_files },
	{ "ovfs_cache_dirty_bytes", GAUGE, "Bytes of blocks that are not in the storage yet.",
	  write_dirty_bytes },
	{ "ovfs_cache_dirty_files", GAUGE, "Files that are not in the storage yet.",
	  write_dirty_files },
	{ "ovfs_cache_commits_total", COUNTER, "Files written to the storage.", write_commits },
	{ "ovfs_cache_commit_failures_total", COUNTER, "Tries to write a file that failed.",
	  write_commit_failures },

	{ "ovfs_pool_bytes", GAUGE, "Size of the cache's memory.", write_pool_bytes },
	{ "ovfs_pool_free_bytes", GAUGE, "What of it is carved into no blocks.", write_pool_free },
	{ "ovfs_pool_blocks", GAUGE, "Blocks by size, in use and free.", write_pool_blocks },
	{ "ovfs_pool_evictions_total", COUNTER, "Blocks given up for others.", write_evictions },

	{ "ovfs_storage_up", GAUGE,
	  "0: it has not answered yet, or several operations in a row failed.", write_up },
	{ "ovfs_storage_operations_total", COUNTER,
	  "What the storage was asked for, retries not counted.", write_operations },
	{ "ovfs_storage_operation_duration_seconds", HISTOGRAM,
	  "How long that took, with retries and waiting for a turn.", write_operation_seconds },
	{ "ovfs_storage_operations_in_flight", GAUGE, "Operations under way.",
	  write_operations_in_flight },
	{ "ovfs_storage_attempts_total", COUNTER, "Tries of operations.", write_attempts },
	{ "ovfs_storage_requests_total", COUNTER, "Requests sent to the service.",
	  write_service_requests },
	{ "ovfs_storage_retries_total", COUNTER, "Tries after one that failed.", write_retries },
	{ "ovfs_storage_received_bytes_total", COUNTER, "Bytes of objects received.",
	  write_received },
	{ "ovfs_storage_sent_bytes_total", COUNTER, "Bytes of objects stored.", write_sent },
	{ "ovfs_storage_connections", GAUGE, "Connections that may be open to the service.",
	  write_connections },
	{ "ovfs_storage_connections_busy", GAUGE, "Connections with a request on them.",
	  write_connections_busy },

	{ "ovfs_config_generation", GAUGE, "Number of the configuration in force.",
	  write_generation },
	{ "ovfs_config_loaded_timestamp_seconds", GAUGE, "When it was loaded, since the epoch.",
	  write_loaded },
	{ "ovfs_config_reloads_total", COUNTER, "Times that the configuration was loaded anew.",
	  write_reloads },
	{ "ovfs_config_reload_failures_total", COUNTER, "Times that it had errors.",
	  write_reload_failures },
	{ "ovfs_config_last_reload_successful", GAUGE,
	  "1: the last one went well, or there was none.", write_reload_ok },
};

/* ---- Gathering ---- */

static void see_request(void *arg, const struct ctl_request *r)
{
	struct mount_snapshot *m = arg;

	m->in_flight++;
	if (!r->waits)
		m->oldest_ns = MAX(m->oldest_ns, r->age_ns);
}

static void gather(struct snapshot *s, struct ctl *ctl)
{
	struct mount_snapshot **mount = &s->mounts;
	struct storage_snapshot **storage = &s->storages;

	s->ctl = ctl;
	ctl_for_each (entry, ctl, &ctl->mounts) {
		struct mount_snapshot *m = calloc(1, sizeof(*m));

		if (!m)
			continue;
		memcpy(m->name, entry->name, sizeof(m->name));
		ctl_mount_of(entry)->ops->stats(entry->ctx, &m->stats);
		ctl_mount_of(entry)->ops->requests(entry->ctx, 0, see_request, m);
		*mount = m;
		mount = &m->next;
	}
	ctl_for_each (entry, ctl, &ctl->storages) {
		struct storage_snapshot *m = calloc(1, sizeof(*m));

		if (!m)
			continue;
		memcpy(m->name, entry->name, sizeof(m->name));
		ctl_storage_of(entry)->ops->stats(entry->ctx, &m->stats);
		*storage = m;
		storage = &m->next;
	}
	s->has_pool = ctl->hooks.pool_stats != NULL;
	if (s->has_pool)
		ctl->hooks.pool_stats(ctl->hooks.ctx, &s->pool);
	s->has_config = ctl->hooks.config_stats != NULL;
	if (s->has_config)
		ctl->hooks.config_stats(ctl->hooks.ctx, &s->config);
}

static void release(struct snapshot *s)
{
	while (s->mounts) {
		struct mount_snapshot *next = s->mounts->next;

		free(s->mounts);
		s->mounts = next;
	}
	while (s->storages) {
		struct storage_snapshot *next = s->storages->next;

		free(s->storages);
		s->storages = next;
	}
}

char *metrics_text(struct ctl *ctl, size_t *len)
{
	struct snapshot s = { 0 };
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (!out)
		return NULL;
	gather(&s, ctl);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];

		fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, f->type);
		f->write(out, f->name, &s);
	}
	release(&s);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
