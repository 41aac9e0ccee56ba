/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mounts, storages and the cache tell of themselves: plain numbers, with names that are
 * constants of whoever fills them in. `ovfsctl status` and /metrics are two forms of these.
 *
 * The filler gets everything zeroed. Counters never fall for as long as the owner lives.
 */
#ifndef OVFS_CTL_STATS_H
#define OVFS_CTL_STATS_H

#include <stdbool.h>
#include <stdint.h>

#define CTL_NAME_MAX 128 /* bytes with the NUL */
#define CTL_RESULTS_MAX 12
#define CTL_BUCKETS_MAX 32
#define CTL_OPERATIONS_MAX 64
#define CTL_QUEUES_MAX 256
#define CTL_PARTS_MAX 64

/* Results of operations of one kind of owner: "ok" is the first. */
struct ctl_results {
	unsigned count;
	const char *name[CTL_RESULTS_MAX];
};

/* Bucket i counts what took less than 2^(first_shift + i) ns; the last one has no bound. */
struct ctl_histogram {
	unsigned first_shift, buckets;
};

struct ctl_operation {
	const char *name; /* an opcode, or an operation of a storage */
	uint64_t results[CTL_RESULTS_MAX];
	uint64_t latency_ns; /* sum */
	uint64_t buckets[CTL_BUCKETS_MAX];
	uint64_t bytes_read, bytes_written;
	/* Of storages only. */
	uint64_t in_flight, attempts, requests;
};

struct ctl_operations {
	struct ctl_results results;
	struct ctl_histogram histogram;
	unsigned count;
	struct ctl_operation of[CTL_OPERATIONS_MAX];
};

struct ctl_queue_stats {
	unsigned port, queue; /* the mount's sockets are numbered from 0 */
	bool started;
	unsigned size, waiting, in_flight, orphans;
};

/* What a mount shows: its storage, or a directory of several. */
struct ctl_part {
	char path[CTL_NAME_MAX];    /* of the directory, "": it is all there is */
	char storage[CTL_NAME_MAX]; /* that is behind it, as it is registered; "": none is */
	/* Of directories only. */
	uint64_t requests, errors;
	unsigned in_flight;
};

struct ctl_mount_stats {
	char error[256];	/* why it is not served; "" when it is */
	unsigned ports, guests; /* sockets; those with a guest on them */
	unsigned parts;
	struct ctl_part part[CTL_PARTS_MAX];
	struct ctl_operations operations;
	unsigned queues;
	struct ctl_queue_stats queue[CTL_QUEUES_MAX];
};

struct ctl_storage_stats {
	const char *type;      /* "s3", "memory", "fs" */
	const char *state;     /* "well", "failing", "silent": it has not answered yet */
	uint64_t state_age_ns; /* unless it is well, for so long */
	char error[256];       /* ... and why; "" when nobody knows */
	uint64_t files, bytes, dirty_files, dirty_bytes;
	uint64_t hits, misses, fetched_bytes, commits, commit_failures;
	uint64_t retries;
	unsigned connections, connections_busy;
	struct ctl_operations operations;
};

struct ctl_pool_class {
	uint32_t block_size;
	uint64_t used, free; /* blocks */
};

struct ctl_pool_stats {
	uint64_t arena, free; /* bytes; free: not carved into blocks of any size */
	uint64_t evicted;     /* blocks */
	unsigned classes;
	struct ctl_pool_class class[8];
};

struct ctl_config_stats {
	uint64_t generation;	    /* of the configuration in force; 1 is the start's */
	uint64_t reloads, failures; /* since the start */
	int64_t loaded_s;	    /* seconds since 1970, of that configuration */
	char error[512];	    /* of the last reload; "" when it went well */
};

/* A request under way. */
struct ctl_request {
	const char *operation; /* NULL: only just begun */
	unsigned port, queue;
	uint64_t unique, nodeid, age_ns;
	const char *place; /* where it is: "driver", "queued", "storage", "lock" */
	uint64_t driver_ns, queued_ns, storage_ns, lock_ns;
	bool waits; /* for a lock: may take for ever */
};

/* A file that the storage does not have all of. */
struct ctl_dirty_file {
	const char *key;
	uint64_t size, dirty_bytes, age_ns;
	bool committing;
	int error; /* of the last try: negative errno, or 0 */
};

#endif
