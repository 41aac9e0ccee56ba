/* SPDX-License-Identifier: Apache-2.0 */
#include "observe.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "fs/joinfs/joinfs.h"
#include "fuse/metrics.h"

_Static_assert(FUSE_RESULTS <= CTL_RESULTS_MAX, "room for all");
_Static_assert(HISTOGRAM_BUCKETS <= CTL_BUCKETS_MAX, "room for all");
_Static_assert(STORE_METRICS_RESULTS <= CTL_RESULTS_MAX, "room for all");
_Static_assert(STORE_METRICS_BUCKETS <= CTL_BUCKETS_MAX, "room for all");
_Static_assert(STORE_OPCODE_COUNT <= CTL_OPERATIONS_MAX, "room for all");
_Static_assert(FUSE_OPCODE_COUNT <= CTL_OPERATIONS_MAX, "room for all");

struct observer {
	struct ctl_mount *registered;
	pthread_mutex_t lock; /* covers what follows; held for moments */
	struct list ports;
	unsigned numbers;
	char error[sizeof(((struct ctl_mount_stats *)0)->error)];
	struct fs *join; /* of directories, or NULL */
	unsigned parts;
	struct {
		char path[CTL_NAME_MAX], storage[CTL_NAME_MAX];
	} part[CTL_PARTS_MAX];
	struct fuse_opcode_metrics gone[FUSE_OPCODE_COUNT]; /* of ports that are no more */
};

struct observer_port {
	struct list link;
	struct observer *observer;
	unsigned number;
	struct virtio_device *device;
	struct fuse_session *session;
	_Atomic bool guest;
};

struct observer_storage {
	struct ctl_storage *registered;
	char name[CTL_NAME_MAX];
	const char *type;
	struct storage_stack *stack;
	struct cache_storage *files;
};

/* ---- Mounts ---- */

static void add_metrics(struct fuse_opcode_metrics *to, const struct fuse_opcode_metrics *from)
{
	for (unsigned i = 0; i < FUSE_RESULTS; i++)
		to->results[i] += from->results[i];
	to->bytes += from->bytes;
	to->latency_ns += from->latency_ns;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

/* All that there was of @opcode; false: nothing. Under the lock. */
static bool observer_metrics(const struct observer *w, uint32_t opcode,
			     struct fuse_opcode_metrics *out)
{
	struct list *pos;
	uint64_t count = 0;

	*out = w->gone[opcode];
	list_for_each (pos, &w->ports) {
		const struct observer_port *port = list_entry(pos, struct observer_port, link);
		struct fuse_opcode_metrics one;

		if (fuse_session_metrics(port->session, opcode, &one))
			add_metrics(out, &one);
	}
	for (unsigned i = 0; i < FUSE_RESULTS; i++)
		count += out->results[i];
	return count > 0;
}

static void tell_operations(const struct observer *w, struct ctl_operations *out)
{
	out->histogram = (struct ctl_histogram){ .first_shift = HISTOGRAM_FIRST_SHIFT,
						 .buckets = HISTOGRAM_BUCKETS };
	out->results.count = FUSE_RESULTS;
	for (unsigned i = 0; i < FUSE_RESULTS; i++)
		out->results.name[i] = fuse_result_name((enum fuse_result)i);
	for (uint32_t opcode = 0; opcode < FUSE_OPCODE_COUNT; opcode++) {
		struct ctl_operation *op = &out->of[out->count];
		struct fuse_opcode_metrics m;

		if (!fuse_opcode_name(opcode) || !observer_metrics(w, opcode, &m))
			continue;
		out->count++;
		op->name = fuse_opcode_name(opcode);
		memcpy(op->results, m.results, sizeof(m.results));
		memcpy(op->buckets, m.buckets, sizeof(m.buckets));
		op->latency_ns = m.latency_ns;
		if (opcode == FUSE_READ)
			op->bytes_read = m.bytes;
		else
			op->bytes_written = m.bytes;
	}
}

static void tell_queues(const struct observer_port *port, struct ctl_mount_stats *out)
{
	unsigned count = virtio_device_queue_count(port->device);

	for (unsigned i = 0; i < count && out->queues < CTL_QUEUES_MAX; i++) {
		struct virtio_queue_info info;

		virtio_device_queue_info(port->device, i, &info);
		out->queue[out->queues++] = (struct ctl_queue_stats){
			.port = port->number,
			.queue = i,
			.started = info.started,
			.size = info.size,
			.waiting = info.waiting,
			.in_flight = info.in_flight,
			.orphans = info.orphans,
		};
	}
}

static void tell_directory(void *arg, const struct joinfs_usage *usage)
{
	struct ctl_mount_stats *out = arg;

	for (unsigned i = 0; i < out->parts; i++) {
		struct ctl_part *part = &out->part[i];

		if (strncmp(part->path, usage->path, sizeof(part->path) - 1) != 0)
			continue;
		part->requests = usage->requests;
		part->errors = usage->errors;
		part->in_flight = usage->in_flight;
		break;
	}
}

static void tell_parts(const struct observer *w, struct ctl_mount_stats *out)
{
	out->parts = w->parts;
	for (unsigned i = 0; i < w->parts; i++) {
		memcpy(out->part[i].path, w->part[i].path, sizeof(out->part[i].path));
		memcpy(out->part[i].storage, w->part[i].storage, sizeof(out->part[i].storage));
	}
	if (w->join)
		joinfs_each(w->join, tell_directory, out);
}

static void mount_stats(void *ctx, struct ctl_mount_stats *out)
{
	struct observer *w = ctx;
	struct list *pos;

	pthread_mutex_lock(&w->lock);
	memcpy(out->error, w->error, sizeof(out->error));
	tell_parts(w, out);
	tell_operations(w, &out->operations);
	list_for_each (pos, &w->ports) {
		const struct observer_port *port = list_entry(pos, struct observer_port, link);

		out->ports++;
		out->guests += atomic_load(&port->guest);
		tell_queues(port, out);
	}
	pthread_mutex_unlock(&w->lock);
}

struct request_look {
	const struct observer_port *port;
	uint64_t now_ns, hang_ns;
	ctl_request_fn *emit;
	void *arg;
};

/* With the lock of its queue. */
static void look_at_request(void *arg, const struct virtio_req *req)
{
	const struct request_look *look = arg;
	struct fuse_request_info info;
	struct ctl_request r = { .place = "begun" };

	r.port = look->port->number;
	r.queue = req->queue;
	r.age_ns = look->now_ns > req->begun_ns ? look->now_ns - req->begun_ns : 0;
	if (look->hang_ns && r.age_ns < look->hang_ns)
		return;
	if (fuse_request_look(req->priv, req->begun_ns, &info)) {
		r.operation = fuse_opcode_name(info.opcode);
		r.unique = info.unique;
		r.nodeid = info.nodeid;
		r.waits = info.waits;
		r.place = span_place_name(info.times.place);
		r.driver_ns = info.times.spent_ns[SPAN_DRIVER];
		r.queued_ns = info.times.spent_ns[SPAN_QUEUED];
		r.storage_ns = info.times.spent_ns[SPAN_STORAGE];
		r.lock_ns = info.times.spent_ns[SPAN_LOCK];
		if (look->hang_ns && !fuse_request_report(req->priv))
			return;
	} else if (look->hang_ns) {
		return;
	}
	look->emit(look->arg, &r);
}

static void mount_requests(void *ctx, uint64_t hang_ns, ctl_request_fn *emit, void *arg)
{
	struct request_look look = {
		.now_ns = loop_now_ns(), .hang_ns = hang_ns, .emit = emit, .arg = arg
	};
	struct observer *w = ctx;
	struct list *pos;

	pthread_mutex_lock(&w->lock);
	list_for_each (pos, &w->ports) {
		look.port = list_entry(pos, struct observer_port, link);
		virtio_device_each_request(look.port->device, look_at_request, &look);
	}
	pthread_mutex_unlock(&w->lock);
}

struct inode_look {
	struct ctl_fields *fields;
	unsigned port;
	bool begun;
};

static void tell_fact(void *arg, const char *name, const char *text, uint64_t number)
{
	struct inode_look *look = arg;

	if (!look->begun) {
		ctl_record_begin(look->fields);
		ctl_field_number(look->fields, "socket", look->port);
		look->begun = true;
	}
	if (text)
		ctl_field_string(look->fields, name, text);
	else
		ctl_field_number(look->fields, name, number);
}

static void mount_inode(void *ctx, uint64_t nodeid, struct ctl_fields *fields)
{
	struct observer *w = ctx;
	struct list *pos;

	pthread_mutex_lock(&w->lock);
	list_for_each (pos, &w->ports) {
		const struct observer_port *port = list_entry(pos, struct observer_port, link);
		struct inode_look look = { .fields = fields, .port = port->number };

		fuse_session_describe(port->session, nodeid, tell_fact, &look);
	}
	pthread_mutex_unlock(&w->lock);
}

static const struct ctl_mount_ops mount_ops = {
	.stats = mount_stats,
	.requests = mount_requests,
	.inode = mount_inode,
};

struct observer *observer_new(struct ctl *ctl, const char *name)
{
	struct observer *w = ctl ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return NULL;
	pthread_mutex_init(&w->lock, NULL);
	list_init(&w->ports);
	w->registered = ctl_mount_add(ctl, name, &mount_ops, w);
	return w;
}

void observer_free(struct observer *w)
{
	if (!w)
		return;
	ctl_mount_remove(w->registered);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void observer_begin_parts(struct observer *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->parts = 0;
	pthread_mutex_unlock(&w->lock);
}

void observer_add_part(struct observer *w, const char *path, const char *storage)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	if (w->parts < CTL_PARTS_MAX) {
		snprintf(w->part[w->parts].path, CTL_NAME_MAX, "%s", path ? path : "");
		snprintf(w->part[w->parts].storage, CTL_NAME_MAX, "%s", storage);
		w->parts++;
	}
	pthread_mutex_unlock(&w->lock);
}

void observer_set_error(struct observer *w, const char *error)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	snprintf(w->error, sizeof(w->error), "%s", error ? error : "");
	pthread_mutex_unlock(&w->lock);
}

void observer_set_join(struct observer *w, struct fs *join)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->join = join;
	pthread_mutex_unlock(&w->lock);
}

unsigned observer_take_number(struct observer *w)
{
	unsigned number;

	if (!w)
		return 0;
	pthread_mutex_lock(&w->lock);
	number = w->numbers++;
	pthread_mutex_unlock(&w->lock);
	return number;
}

struct observer_port *observer_port_add(struct observer *w, unsigned number,
					struct virtio_device *device, struct fuse_session *session)
{
	struct observer_port *port = w ? calloc(1, sizeof(*port)) : NULL;

	if (!port)
		return NULL;
	port->observer = w;
	port->number = number;
	port->device = device;
	port->session = session;
	pthread_mutex_lock(&w->lock);
	list_push_back(&w->ports, &port->link);
	pthread_mutex_unlock(&w->lock);
	return port;
}

void observer_port_remove(struct observer_port *port)
{
	struct fuse_opcode_metrics m;
	struct observer *w;

	if (!port)
		return;
	w = port->observer;
	pthread_mutex_lock(&w->lock);
	list_remove(&port->link);
	for (uint32_t opcode = 0; opcode < FUSE_OPCODE_COUNT; opcode++) {
		if (fuse_session_metrics(port->session, opcode, &m))
			add_metrics(&w->gone[opcode], &m);
	}
	pthread_mutex_unlock(&w->lock);
	free(port);
}

void observer_port_guest(struct observer_port *port, bool connected)
{
	if (port)
		atomic_store(&port->guest, connected);
}

/* ---- Storages ---- */

static void tell_store(const struct observer_storage *ws, struct ctl_operations *out)
{
	out->histogram = (struct ctl_histogram){ .first_shift = STORE_METRICS_FIRST_SHIFT,
						 .buckets = STORE_METRICS_BUCKETS };
	out->results.count = STORE_METRICS_RESULTS;
	for (unsigned i = 0; i < STORE_METRICS_RESULTS; i++)
		out->results.name[i] = store_metrics_result_name((enum store_metrics_result)i);
	for (unsigned opcode = 0; opcode < STORE_OPCODE_COUNT; opcode++) {
		struct ctl_operation *op = &out->of[out->count];
		struct store_metrics_opcode asked, sent;
		uint64_t count = 0;

		storage_stack_asked(ws->stack, (enum store_opcode)opcode, &asked);
		storage_stack_sent(ws->stack, (enum store_opcode)opcode, &sent);
		for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++) {
			op->results[r] = asked.results[r].count;
			op->latency_ns += asked.results[r].latency_ns;
			op->attempts += sent.results[r].count;
			count += asked.results[r].count + sent.results[r].count;
			for (unsigned b = 0; b < STORE_METRICS_BUCKETS; b++)
				op->buckets[b] += asked.results[r].buckets[b];
		}
		if (count + asked.in_flight == 0)
			continue;
		out->count++;
		op->name = store_opcode_name((enum store_opcode)opcode);
		op->in_flight = asked.in_flight;
		op->requests = sent.requests;
		op->bytes_read = sent.bytes_read;
		op->bytes_written = sent.bytes_written;
	}
}

static void tell_health(const struct observer_storage *ws, struct ctl_storage_stats *out)
{
	static const char *const names[] = { [STORE_HEALTH_WELL] = "well",
					     [STORE_HEALTH_FAILING] = "failing",
					     [STORE_HEALTH_CLOSED] = "silent" };
	struct storage_stack_health health;

	storage_stack_health(ws->stack, &health);
	out->state = names[health.state];
	if (health.state != STORE_HEALTH_WELL)
		out->state_age_ns = loop_now_ns() - health.since_ns;
	snprintf(out->error, sizeof(out->error), "%s", health.error);
}

static void storage_stats(void *ctx, struct ctl_storage_stats *out)
{
	const struct observer_storage *ws = ctx;
	struct storage_stack_usage stack;
	struct cache_storage_usage usage;

	cache_storage_usage(ws->files, &usage);
	out->type = ws->type;
	tell_health(ws, out);
	out->files = usage.files;
	out->bytes = usage.bytes;
	out->dirty_files = usage.dirty_files;
	out->dirty_bytes = usage.dirty_bytes;
	out->hits = usage.hits;
	out->misses = usage.misses;
	out->fetched_bytes = usage.fetched;
	out->commits = usage.commits;
	out->commit_failures = usage.commit_failures;
	storage_stack_usage(ws->stack, &stack);
	out->retries = stack.retries;
	out->connections = stack.connections;
	out->connections_busy = stack.connections_busy;
	tell_store(ws, &out->operations);
}

struct dirty_look {
	ctl_dirty_fn *emit;
	void *arg;
};

static void look_at_dirty(void *arg, const struct cache_dirty_file *file)
{
	const struct dirty_look *look = arg;
	const struct ctl_dirty_file told = {
		.key = file->key,
		.size = file->size,
		.dirty_bytes = file->dirty_bytes,
		.age_ns = file->age_ns,
		.committing = file->committing,
		.error = file->error,
	};

	look->emit(look->arg, &told);
}

static void storage_dirty(void *ctx, unsigned max, ctl_dirty_fn *emit, void *arg)
{
	const struct observer_storage *ws = ctx;
	struct dirty_look look = { .emit = emit, .arg = arg };

	cache_storage_dirty(ws->files, max, look_at_dirty, &look);
}

static int storage_flush(void *ctx)
{
	const struct observer_storage *ws = ctx;

	return cache_storage_sync(ws->files);
}

static unsigned storage_drain(void *ctx, uint64_t timeout_ns)
{
	const struct observer_storage *ws = ctx;

	return cache_storage_drain(ws->files, timeout_ns);
}

static void storage_drop(void *ctx)
{
	const struct observer_storage *ws = ctx;

	cache_storage_drop(ws->files);
}

static const struct ctl_storage_ops storage_ops = {
	.stats = storage_stats,
	.dirty = storage_dirty,
	.flush = storage_flush,
	.drain = storage_drain,
	.drop = storage_drop,
};

static void storage_describe(struct observer_storage *ws, const struct ovfs_backend *config)
{
	const char *root = config->storage.root;

	switch (config->storage.type) {
	case OVFS_STORAGE_S3:
		ws->type = "s3";
		snprintf(ws->name, sizeof(ws->name), "%s%s%s", config->storage.s3.bucket,
			 root && root[0] && root[0] != '/' ? "/" : "", root ? root : "");
		break;
	case OVFS_STORAGE_MEMORY:
		ws->type = "memory";
		snprintf(ws->name, sizeof(ws->name), "memory");
		break;
	default:
		ws->type = "fs";
		snprintf(ws->name, sizeof(ws->name), "%s", root ? root : "fs");
	}
}

struct observer_storage *observer_storage_new(struct ctl *ctl, const struct ovfs_backend *config,
					      struct storage_stack *stack,
					      struct cache_storage *files)
{
	struct observer_storage *ws = ctl ? calloc(1, sizeof(*ws)) : NULL;

	if (!ws)
		return NULL;
	storage_describe(ws, config);
	ws->stack = stack;
	ws->files = files;
	ws->registered = ctl_storage_add(ctl, ws->name, &storage_ops, ws);
	if (ws->registered)
		snprintf(ws->name, sizeof(ws->name), "%s", ctl_storage_name(ws->registered));
	return ws;
}

void observer_storage_free(struct observer_storage *ws)
{
	if (!ws)
		return;
	ctl_storage_remove(ws->registered);
	free(ws);
}

const char *observer_storage_name(const struct observer_storage *ws)
{
	return ws ? ws->name : "";
}
