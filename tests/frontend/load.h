/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ovfs-load: the load generator. One thread drives each request queue with
 * `depth` tasks in flight. A task is one operation as a user would count it,
 * made of one or more requests that follow one another (open, then release).
 *
 * It talks to any vhost-user-fs daemon and makes its own files through FUSE.
 *
 * Ownership: the main thread prepares and cleans up with a `struct fuc`; while
 * the threads run, each touches only its own queue, tasks and counters, and the
 * hiprio queue under `struct load.hiprio_lock`.
 */
#ifndef TESTS_FRONTEND_LOAD_H
#define TESTS_FRONTEND_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "fuc.h"

/* --- latency histogram (load_hist.c) -------------------------------------- */

/* 64 linear steps within each power of two: values are right to 1.6 %. */
#define HIST_STEPS 64u
#define HIST_BUCKETS ((64u - 5u) * HIST_STEPS)

struct load_hist {
	uint64_t count[HIST_BUCKETS];
	uint64_t total, max, sum;
};

void load_hist_add(struct load_hist *h, uint64_t ns);
void load_hist_merge(struct load_hist *to, const struct load_hist *from);
/* The value, in ns, that `fraction` (0..1) of the samples do not exceed. */
uint64_t load_hist_quantile(const struct load_hist *h, double fraction);

/* --- CPU time of a process tree (load_cpu.c) ------------------------------- */

/*
 * User and system time, in us, of `pid`, its threads and descendants, ended ones
 * included. The clock ticks at 10 ms. Negative errno when `pid` is not there.
 */
int64_t load_cpu_us(pid_t pid);

/* --- the run --------------------------------------------------------------- */

struct load_options {
	const char *socket;
	const char *op;
	const char *dir;     /* of --files files f000000 ... that is there; NULL: make one */
	unsigned int queues; /* request queues */
	unsigned int depth;
	unsigned int queue_size;
	uint32_t size;	  /* bytes of one read or write; 0: as the operation has it */
	uint32_t segment; /* bytes of one data segment; 0: one for all */
	uint64_t file_size;
	unsigned int files;
	double seconds;
	uint64_t count; /* operations for each queue; 0: until time is up */
	double warmup;	/* seconds not counted */
	bool packed, indirect, event_idx, poll, verify, prime, json, keep;
	pid_t pid;
};

struct load;
struct load_thread;
struct load_task;

/*
 * One kind of operation. `step` builds the next request of the task with
 * load_request_*() and returns true, or returns false: this operation is over.
 * It is called with task->stage 0 first, and once after each reply.
 */
struct load_op {
	const char *name;
	const char *help;
	uint32_t size;	 /* default of --size; 0: moves no data */
	bool data_files; /* needs a file of --file-size for each queue */
	bool tree;	 /* needs the directory of --files files */
	bool nodes;	 /* and their nodes looked up */
	bool (*step)(struct load_task *t);
};

extern const struct load_op load_ops[];
const struct load_op *load_op_find(const char *name);

struct load_task {
	struct load_thread *th;
	const struct load_op *op;
	unsigned int choice; /* of `mixed`: which operation it does now */
	unsigned int stage;
	uint64_t start_ns;
	/* The request being built or in flight. */
	struct vuc_buf small; /* header and arguments, reply header and payload */
	struct vuc_buf data;
	struct vuc_seg *segs;
	unsigned int nout, nin;
	uint32_t used_len;
	/* State an operation keeps between its stages. */
	uint64_t node, fh, off;
	uint32_t data_len;
	char name[32];
};

struct load_thread {
	struct load *load;
	unsigned int queue;
	pthread_t thread;
	struct vuc_queue *q;
	struct load_task *tasks;
	uint64_t rng;
	uint64_t seq;		     /* next sequential block, next file name */
	uint64_t data_node, data_fh; /* this queue's file */
	struct fuse_forget_one forgets[64];
	unsigned int nforgets;
	/* Results. */
	struct load_hist hist;
	uint64_t started, ops, requests, items, bytes, errors;
	uint64_t kicks, calls; /* while counting */
	bool counting;
	int failure; /* negative errno that ended this thread */
};

enum load_phase { LOAD_WARMUP, LOAD_COUNT, LOAD_OVER };

struct load {
	struct load_options o;
	const struct load_op *op;
	struct vuc c;
	struct fuc f;
	uint64_t dir; /* the directory that everything is in */
	char dir_name[64];
	uint64_t *nodes; /* [files] */
	struct load_thread threads[VUC_MAX_QUEUES];
	pthread_mutex_t hiprio_lock;
	struct vuc_buf hiprio_buf; /* 64 slots of one BATCH_FORGET each */
	uint64_t hiprio_free;	   /* a bit for each slot; under hiprio_lock */
	_Atomic uint64_t unique;
	pthread_barrier_t barrier;
	_Atomic int phase; /* enum load_phase */
	double elapsed;
	int64_t cpu_us; /* of the daemon, while counting; -1: not asked */
};

/* load_tree.c: what the run works on, through FUSE. Negative errno after a message. */
int load_tree_make(struct load *l);
void load_tree_remove(struct load *l);

/* load_run.c */
int load_run(struct load *l);

/* load_request.c: building requests in place, as a Linux guest lays them out. */
void load_request(struct load_task *t, uint32_t opcode, uint64_t node, const void *args,
		  size_t args_len, const char *name, size_t reply_len);
/* READ, READDIR, READDIRPLUS: `len` bytes into the task's data buffer. */
void load_request_read(struct load_task *t, uint32_t opcode, uint64_t node, uint64_t fh,
		       uint64_t off, uint32_t len);
void load_request_write(struct load_task *t, uint64_t node, uint64_t fh, uint64_t off,
			uint32_t len);
/* The reply's payload; its length in `*len`. NULL (and an error counted) if it failed. */
const void *load_reply(struct load_task *t, size_t *len);
/* Gives a lookup count back, in batches over the hiprio queue. */
void load_forget(struct load_thread *th, uint64_t node);
void load_forget_flush(struct load_thread *th);

/* The first bytes of each block of 4 KiB in the data files say where they belong. */
#define LOAD_BLOCK 4096u
void load_stamp(uint8_t *p, uint64_t off, uint32_t len);
bool load_stamp_ok(const uint8_t *p, uint64_t off, uint32_t len, bool all);

#endif
