/* SPDX-License-Identifier: Apache-2.0 */
/*
 * s3load: the counterpart of s3bare, through a daemon. Works on what is in the bucket already,
 * in the root of the mount, with DEPTH requests in flight.
 *
 *	s3load SOCKET read NAME SIZE BLOCK DEPTH	from front to back
 *	s3load SOCKET write NAME SIZE BLOCK DEPTH	a new file, front to back, and close
 *	s3load SOCKET random NAME SIZE BYTES DEPTH COUNT
 *	s3load SOCKET small PREFIX BYTES - DEPTH COUNT	LOOKUP, OPEN, READ, RELEASE of each of
 *							PREFIX0000000 ...
 *	s3load SOCKET known PREFIX - - DEPTH COUNT	LOOKUP of each; nothing is forgotten
 *	s3load SOCKET streams PREFIX SIZE BLOCK DEPTH	DEPTH files at a time: all even ones of
 *							PREFIX0000000 ... read, the others
 *							written anew, and closed
 *
 * PREFIX may begin with one directory, "d/f-". Prints one JSON object: bytes, requests (of ours, to
 * the daemon), seconds. `known` and `streams` then hold what they have until their input ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuc.h"

#define DEPTH_MAX 64u
#define BLOCK_MAX (1u << 20)

enum verb { READ, WRITE, RANDOM, SMALL, KNOWN, STREAMS };
enum step { STEP_DATA, STEP_LOOKUP, STEP_OPEN, STEP_READ, STEP_RELEASE };

/* One of DEPTH that go on side by side. */
struct lane {
	struct fuc_req *req;
	enum step step;
	uint64_t node, fh, offset;
	uint64_t done; /* of STREAMS: bytes of its file */
	bool writes;   /* likewise */
	uint32_t want;
	char name[256];
};

static struct {
	struct vuc c;
	struct fuc f;
	enum verb verb;
	const char *name;
	uint64_t size, block, count, next, bytes, requests;
	unsigned int depth;
	uint64_t node, fh, dir;
	struct lane lanes[DEPTH_MAX];
	char data[BLOCK_MAX];
} load;

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "s3load: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static void submit(struct lane *l, struct fuc_call *call)
{
	l->req = fuc_submit(&load.f, call);
	load.requests++;
	if (!l->req)
		die("submit", ENOSPC);
}

static void submit_read(struct lane *l, enum step step, uint64_t node, uint64_t fh)
{
	struct fuse_read_in in = { .fh = fh, .offset = l->offset, .size = l->want };
	struct fuc_call call = {
		.opcode = FUSE_READ,
		.nodeid = node,
		.in = { { &in, sizeof(in) } },
		.out_cap = l->want,
	};

	l->step = step;
	submit(l, &call);
}

static void submit_write(struct lane *l)
{
	struct fuse_write_in in = { .fh = l->fh, .offset = l->offset, .size = l->want };
	struct fuc_call call = {
		.opcode = FUSE_WRITE,
		.nodeid = l->node,
		.in = { { &in, sizeof(in) }, { load.data, l->want } },
		.out_cap = sizeof(struct fuse_write_out),
	};

	l->step = STEP_DATA;
	submit(l, &call);
}

static void submit_lookup(struct lane *l)
{
	struct fuc_call call = {
		.opcode = FUSE_LOOKUP,
		.nodeid = load.dir,
		.in = { { l->name, strlen(l->name) + 1 } },
		.out_cap = sizeof(struct fuse_entry_out),
	};

	l->step = STEP_LOOKUP;
	submit(l, &call);
}

static void submit_open(struct lane *l)
{
	struct fuse_open_in in = { .flags = O_RDONLY };
	struct fuc_call call = {
		.opcode = FUSE_OPEN,
		.nodeid = l->node,
		.in = { { &in, sizeof(in) } },
		.out_cap = sizeof(struct fuse_open_out),
	};

	l->step = STEP_OPEN;
	submit(l, &call);
}

static void submit_release(struct lane *l)
{
	struct fuse_release_in in = { .fh = l->fh };
	struct fuc_call call = {
		.opcode = FUSE_RELEASE,
		.nodeid = l->node,
		.in = { { &in, sizeof(in) } },
	};

	l->step = STEP_RELEASE;
	submit(l, &call);
}

/* The next block of the lane's own file. */
static bool stream_on(struct lane *l)
{
	if (l->done >= load.size)
		return false;
	l->offset = l->done;
	l->want =
		(uint32_t)(load.block < load.size - l->offset ? load.block : load.size - l->offset);
	l->done += l->want;
	if (l->writes)
		submit_write(l);
	else
		submit_read(l, STEP_DATA, l->node, l->fh);
	return true;
}

/* Begins what comes next. False: there is nothing left. */
static bool begin(struct lane *l)
{
	uint64_t i = load.next;

	if (load.verb == STREAMS)
		return stream_on(l);
	if (load.verb == READ || load.verb == WRITE) {
		if (i * load.block >= load.size)
			return false;
		l->offset = i * load.block;
	} else if (i >= load.count) {
		return false;
	} else {
		l->offset = load.verb == RANDOM ? (i * 2654435761u + 12345) %
							  (load.size / load.block) * load.block
						: 0;
	}
	load.next++;
	l->want =
		(uint32_t)(load.block < load.size - l->offset ? load.block : load.size - l->offset);
	l->node = load.node;
	l->fh = load.fh;
	if (load.verb == WRITE) {
		submit_write(l);
	} else if (load.verb == SMALL || load.verb == KNOWN) {
		snprintf(l->name, sizeof(l->name), "%s%07llu", load.name, (unsigned long long)i);
		submit_lookup(l);
	} else {
		submit_read(l, STEP_DATA, l->node, l->fh);
	}
	return true;
}

/* Takes the reply, and goes a step further. False: this lane is at its end. */
static bool go_on(struct lane *l)
{
	const void *payload;
	size_t len;

	if (l->req->error)
		die("a request failed", l->req->error);
	payload = fuc_payload(l->req, &len);
	fuc_done(l->req);
	l->req = NULL;
	switch (l->step) {
	case STEP_LOOKUP:
		if (load.verb == KNOWN)
			break;
		l->node = ((const struct fuse_entry_out *)payload)->nodeid;
		submit_open(l);
		return true;
	case STEP_OPEN:
		l->fh = ((const struct fuse_open_out *)payload)->fh;
		submit_read(l, STEP_READ, l->node, l->fh);
		return true;
	case STEP_READ:
		if (len != l->want)
			die("a short read", EIO);
		load.bytes += len;
		submit_release(l);
		return true;
	case STEP_DATA:
		if (load.verb != WRITE && !l->writes && len != l->want)
			die("a short read", EIO);
		load.bytes += l->want;
		/* fall through */
	case STEP_RELEASE:
		break;
	}
	return begin(l);
}

static void run(void)
{
	struct vuc_queue *q = &load.c.queues[1];
	unsigned int busy = 0;

	for (unsigned int i = 0; i < load.depth && begin(&load.lanes[i]); i++)
		busy++;
	while (busy) {
		unsigned int moved = 0;

		for (unsigned int i = 0; i < load.depth; i++) {
			struct lane *l = &load.lanes[i];

			if (!l->req || !fuc_test(l->req))
				continue;
			moved++;
			if (!go_on(l))
				busy--;
		}
		if (!moved) {
			int err = vuc_queue_wait(q, 300000);

			if (err)
				die("wait", err);
		}
	}
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void open_file(const char *name, bool create, uint64_t *node, uint64_t *fh)
{
	struct fuse_entry_out e;
	int err;

	if (create)
		err = fuc_create(&load.f, load.dir, name, O_WRONLY | O_CREAT, 0100644, &e, fh);
	else if (!(err = fuc_lookup(&load.f, load.dir, name, &e)))
		err = fuc_open_file(&load.f, e.nodeid, O_RDONLY, fh);
	if (err)
		die(name, err);
	*node = e.nodeid;
}

/* What is needed before the first request of a lane. */
static void open_all(void)
{
	const char *slash = strchr(load.name, '/');

	load.dir = FUSE_ROOT_ID;
	if (slash) {
		struct fuse_entry_out e;
		char name[256];
		int err;

		snprintf(name, sizeof(name), "%.*s", (int)(slash - load.name), load.name);
		err = fuc_lookup(&load.f, FUSE_ROOT_ID, name, &e);
		if (err)
			die(name, err);
		load.dir = e.nodeid;
		load.name = slash + 1;
	}
	for (unsigned int i = 0; load.verb == STREAMS && i < load.depth; i++) {
		struct lane *l = &load.lanes[i];

		l->writes = i % 2 == 1;
		snprintf(l->name, sizeof(l->name), "%s%07u", load.name, i);
		open_file(l->name, l->writes, &l->node, &l->fh);
	}
	if (load.verb <= RANDOM)
		open_file(load.name, load.verb == WRITE, &load.node, &load.fh);
}

static void close_all(void)
{
	int err = 0;

	if (load.verb == WRITE)
		err = fuc_flush(&load.f, load.node, load.fh, 0);
	for (unsigned int i = 0; !err && load.verb == STREAMS && i < load.depth; i++)
		if (load.lanes[i].writes)
			err = fuc_flush(&load.f, load.lanes[i].node, load.lanes[i].fh, 0);
	if (err)
		die("close", err);
}

int main(int argc, char **argv)
{
	static const char *const verbs[] = {
		"read", "write", "random", "small", "known", "streams"
	};
	struct vuc_config config = { .queues = 2,
				     .queue_size = 1024,
				     .indirect = true,
				     .event_idx = true,
				     .indirect_max = 600,
				     .mem_size = 256u << 20,
				     .timeout_ms = 30000 };
	struct fuc_options options = { .requests = DEPTH_MAX + 4, .request_mem = 1200u << 10 };
	double start;
	int err;

	while (argc > 2 && load.verb <= STREAMS && strcmp(argv[2], verbs[load.verb]) != 0)
		load.verb++;
	if (argc < 7 || load.verb > STREAMS) {
		fprintf(stderr, "usage: s3load SOCKET read|write|random|small|known|streams NAME "
				"SIZE BLOCK DEPTH [COUNT]; see its source\n");
		return 2;
	}
	load.name = argv[3];
	load.size = load.verb == KNOWN ? 1 : strtoull(argv[4], NULL, 10);
	load.block =
		load.verb == SMALL || load.verb == KNOWN ? load.size : strtoull(argv[5], NULL, 10);
	load.depth = (unsigned int)atoi(argv[6]);
	load.count = argc > 7 ? strtoull(argv[7], NULL, 10) : 0;
	if (!load.size || !load.block || load.block > BLOCK_MAX || load.depth - 1 >= DEPTH_MAX)
		return 2;
	for (size_t i = 0; i < sizeof(load.data); i++)
		load.data[i] = (char)(i * 2654435761u >> 13);
	err = vuc_open(&load.c, argv[1], &config);
	if (!err)
		err = fuc_open(&load.f, &load.c, &options);
	if (!err)
		err = fuc_init_default(&load.f);
	if (err)
		die("mount", err);
	load.f.queue = 1;
	load.f.timeout_ms = 600000;
	load.f.light = true;
	start = now();
	open_all();
	run();
	close_all();
	printf("{\"bytes\": %llu, \"requests\": %llu, \"seconds\": %.6f}\n",
	       (unsigned long long)load.bytes, (unsigned long long)load.requests, now() - start);
	fflush(stdout);
	while (load.verb >= KNOWN && getchar() != EOF)
		;
	return 0;
}
