/* SPDX-License-Identifier: Apache-2.0 */
/* ovfs-load: command line and report. See load.h. */
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_id {
	OPT_SOCKET = 256,
	OPT_QUEUES,
	OPT_DEPTH,
	OPT_OP,
	OPT_SIZE,
	OPT_SEGMENT,
	OPT_FILE_SIZE,
	OPT_FILES,
	OPT_DIR,
	OPT_SECONDS,
	OPT_COUNT,
	OPT_WARMUP,
	OPT_RING,
	OPT_WAIT,
	OPT_QUEUE_SIZE,
	OPT_NO_INDIRECT,
	OPT_NO_EVENT_IDX,
	OPT_PID,
	OPT_VERIFY,
	OPT_PRIME,
	OPT_KEEP,
	OPT_JSON,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "queues", required_argument, NULL, OPT_QUEUES },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "op", required_argument, NULL, OPT_OP },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "segment", required_argument, NULL, OPT_SEGMENT },
	{ "file-size", required_argument, NULL, OPT_FILE_SIZE },
	{ "files", required_argument, NULL, OPT_FILES },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "count", required_argument, NULL, OPT_COUNT },
	{ "warmup", required_argument, NULL, OPT_WARMUP },
	{ "ring", required_argument, NULL, OPT_RING },
	{ "wait", required_argument, NULL, OPT_WAIT },
	{ "queue-size", required_argument, NULL, OPT_QUEUE_SIZE },
	{ "no-indirect", no_argument, NULL, OPT_NO_INDIRECT },
	{ "no-event-idx", no_argument, NULL, OPT_NO_EVENT_IDX },
	{ "pid", required_argument, NULL, OPT_PID },
	{ "verify", no_argument, NULL, OPT_VERIFY },
	{ "prime", no_argument, NULL, OPT_PRIME },
	{ "keep", no_argument, NULL, OPT_KEEP },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static void usage(FILE *out)
{
	fputs("usage: ovfs-load --socket=PATH --op=OP [options]\n"
	      "Load a vhost-user-fs daemon through its socket, without a virtual machine.\n\n"
	      "  --queues=N          request queues, one thread each (1)\n"
	      "  --depth=N           operations in flight in each queue (1)\n"
	      "  --size=BYTES        of one read or write; K, M, G suffixes\n"
	      "  --segment=BYTES     of one piece of guest memory; 0: one for all (4096)\n"
	      "  --file-size=BYTES   of each queue's data file (256M)\n"
	      "  --files=N           in the directory for name operations (1000)\n"
	      "  --dir=NAME          of f000000 and so on, which are there; for lookup, readdir*\n"
	      "  --seconds=S         to count (5); --warmup=S before that (0.5)\n"
	      "  --count=N           operations of each queue, instead of --seconds\n"
	      "  --ring=split|packed --queue-size=N (1024)\n"
	      "  --wait=event|poll   sleep on the call eventfd, or spin on the ring (event)\n"
	      "  --no-indirect, --no-event-idx\n"
	      "  --pid=PID           of the daemon: report its CPU time\n"
	      "  --verify            check every block that is read, not the first only\n"
	      "  --prime             read each data file once before\n"
	      "  --keep              leave the files\n"
	      "  --json              one JSON object instead of text\n\noperations:\n",
	      out);
	for (const struct load_op *op = load_ops; op->name; op++)
		fprintf(out, "  %-14s %s\n", op->name, op->help);
}

static uint64_t parse_number(const char *text)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 0);
	switch (*end) {
	case 'G':
		n <<= 10; /* fall through */
	case 'M':
		n <<= 10; /* fall through */
	case 'K':
		n <<= 10;
		end++;
	}
	if (errno || end == text || *end || text[0] == '-') {
		fprintf(stderr, "ovfs-load: '%s' is not a number\n", text);
		exit(2);
	}
	return n;
}

static bool one_of(const char *text, const char *yes, const char *no)
{
	if (strcmp(text, yes) == 0)
		return true;
	if (strcmp(text, no) == 0)
		return false;
	fprintf(stderr, "ovfs-load: '%s' is neither %s nor %s\n", text, yes, no);
	exit(2);
}

static void set_option(struct load_options *o, int id, const char *arg)
{
	switch (id) {
	case OPT_SOCKET:
		o->socket = arg;
		break;
	case OPT_OP:
		o->op = arg;
		break;
	case OPT_QUEUES:
		o->queues = (unsigned int)parse_number(arg);
		break;
	case OPT_DEPTH:
		o->depth = (unsigned int)parse_number(arg);
		break;
	case OPT_SIZE:
		o->size = (uint32_t)parse_number(arg);
		break;
	case OPT_SEGMENT:
		o->segment = (uint32_t)parse_number(arg);
		break;
	case OPT_FILE_SIZE:
		o->file_size = parse_number(arg);
		break;
	case OPT_FILES:
		o->files = (unsigned int)parse_number(arg);
		break;
	case OPT_DIR:
		o->dir = arg;
		break;
	case OPT_SECONDS:
		o->seconds = atof(arg);
		break;
	case OPT_COUNT:
		o->count = parse_number(arg);
		break;
	case OPT_WARMUP:
		o->warmup = atof(arg);
		break;
	case OPT_RING:
		o->packed = one_of(arg, "packed", "split");
		break;
	case OPT_WAIT:
		o->poll = one_of(arg, "poll", "event");
		break;
	case OPT_QUEUE_SIZE:
		o->queue_size = (unsigned int)parse_number(arg);
		break;
	case OPT_NO_INDIRECT:
		o->indirect = false;
		break;
	case OPT_NO_EVENT_IDX:
		o->event_idx = false;
		break;
	case OPT_PID:
		o->pid = (pid_t)parse_number(arg);
		break;
	case OPT_VERIFY:
		o->verify = true;
		break;
	case OPT_PRIME:
		o->prime = true;
		break;
	case OPT_KEEP:
		o->keep = true;
		break;
	case OPT_JSON:
		o->json = true;
		break;
	case OPT_HELP:
		usage(stdout);
		exit(0);
	default:
		usage(stderr);
		exit(2);
	}
}

static void parse(struct load_options *o, int argc, char **argv)
{
	int id;

	*o = (struct load_options){
		.queues = 1,
		.depth = 1,
		.queue_size = 1024,
		.segment = 4096,
		.file_size = 256 << 20,
		.files = 1000,
		.seconds = 5,
		.warmup = 0.5,
		.indirect = true,
		.event_idx = true,
	};
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		set_option(o, id, optarg);
	if (optind < argc || !o->socket || !o->op || !o->queues || !o->depth || !o->files ||
	    o->queues >= VUC_MAX_QUEUES || !o->queue_size || o->queue_size > 32768 ||
	    (!o->packed && (o->queue_size & (o->queue_size - 1)))) {
		usage(stderr);
		exit(2);
	}
}

/* Guest memory: rings, a slot for each task, and the main thread's client. */
static uint64_t memory_needed(const struct load_options *o, uint32_t size, unsigned int chain)
{
	uint64_t ring = (uint64_t)o->queue_size * (64 + (uint64_t)chain * 16) + 65536;
	uint64_t task = 8192 + ((size + 4095ull) & ~4095ull);

	return (o->queues + 1) * ring + (uint64_t)o->queues * o->depth * task + (8u << 20);
}

static int set_up(struct load *l)
{
	struct load_options *o = &l->o;
	uint32_t size = o->size ? o->size : l->op->size;
	unsigned int chain = (o->segment ? (size + o->segment - 1) / o->segment : 1) + 4;
	struct vuc_config cfg = {
		.queues = o->queues + 1,
		.queue_size = o->queue_size,
		.packed = o->packed,
		.indirect = o->indirect,
		.event_idx = o->event_idx,
		.indirect_max = chain,
		.mem_size = memory_needed(o, size, chain),
		.timeout_ms = 10000,
	};
	struct fuc_options fo = { .requests = 4, .request_mem = 256 << 10 };
	uint64_t flags = fuc_default_init_flags() & ~(uint64_t)FUSE_WRITEBACK_CACHE;
	int err;

	if (chain > VUC_MAX_SEGS) {
		fprintf(stderr, "ovfs-load: --segment is too small for %u bytes\n", size);
		return -EINVAL;
	}
	err = vuc_open(&l->c, o->socket, &cfg);
	if (err) {
		fprintf(stderr, "ovfs-load: %s: %s\n", o->socket,
			err == -ENODEV ? "the daemon has fewer queues" : strerror(-err));
		return err;
	}
	if (o->dir && (l->op->nodes || l->op->data_files || !l->op->tree)) {
		fprintf(stderr, "ovfs-load: --dir is not for this operation\n");
		return -EINVAL;
	}
	if (o->packed && !(l->c.features & VUC_BIT(VIRTIO_F_RING_PACKED))) {
		fprintf(stderr, "ovfs-load: the daemon has no packed rings\n");
		return -ENOTSUP;
	}
	err = fuc_open(&l->f, &l->c, &fo);
	/* A virtio-fs guest of the oldest kernel in use would say 7.31 or so; say 7.38. */
	if (!err)
		err = fuc_init(&l->f, 38, flags);
	if (err)
		fprintf(stderr, "ovfs-load: INIT: %s\n", strerror(-err));
	if (!err && size > l->f.init.max_write && l->op->data_files)
		fprintf(stderr, "ovfs-load: note: %u bytes is more than max_write, %u\n", size,
			l->f.init.max_write);
	return err;
}

struct totals {
	struct load_hist hist;
	uint64_t ops, requests, items, bytes, errors, kicks, calls;
};

static double us(uint64_t ns)
{
	return (double)ns / 1e3;
}

static void report_text(const struct load *l, const struct totals *t)
{
	double s = l->elapsed;

	printf("%-12s queues %u depth %u %s: %.0f ops/s", l->op->name, l->o.queues, l->o.depth,
	       l->o.packed ? "packed" : "split", (double)t->ops / s);
	if (t->bytes)
		printf(", %.1f MiB/s", (double)t->bytes / s / 1048576.0);
	if (t->items)
		printf(", %.0f entries/s", (double)t->items / s);
	printf("\n  requests %" PRIu64 " in %.2f s, errors %" PRIu64
	       ", kicks/request %.3f, interrupts/request %.3f\n",
	       t->requests, s, t->errors, (double)t->kicks / (double)(t->requests | !t->requests),
	       (double)t->calls / (double)(t->requests | !t->requests));
	printf("  latency us: mean %.1f p50 %.1f p90 %.1f p99 %.1f p99.9 %.1f max %.1f\n",
	       us(t->hist.sum) / (double)(t->hist.total | !t->hist.total),
	       us(load_hist_quantile(&t->hist, 0.5)), us(load_hist_quantile(&t->hist, 0.9)),
	       us(load_hist_quantile(&t->hist, 0.99)), us(load_hist_quantile(&t->hist, 0.999)),
	       us(t->hist.max));
	if (l->cpu_us >= 0 && t->ops)
		printf("  daemon CPU: %.2f us/op, %.1f %% of one CPU\n",
		       (double)l->cpu_us / (double)t->ops, (double)l->cpu_us / s / 1e4);
}

static void report_json(const struct load *l, const struct totals *t)
{
	double s = l->elapsed;

	printf("{\"op\":\"%s\",\"queues\":%u,\"depth\":%u,\"ring\":\"%s\",\"wait\":\"%s\","
	       "\"size\":%u,\"files\":%u,\"seconds\":%.3f,\"ops\":%" PRIu64 ",\"requests\":%" PRIu64
	       ",\"errors\":%" PRIu64 ",\"ops_per_s\":%.1f,\"mib_per_s\":%.2f,"
	       "\"entries_per_s\":%.1f,\"kicks\":%" PRIu64 ",\"interrupts\":%" PRIu64 ","
	       "\"latency_us\":{\"mean\":%.2f,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,"
	       "\"p99.9\":%.2f,\"max\":%.2f}",
	       l->op->name, l->o.queues, l->o.depth, l->o.packed ? "packed" : "split",
	       l->o.poll ? "poll" : "event", l->o.size ? l->o.size : l->op->size, l->o.files, s,
	       t->ops, t->requests, t->errors, (double)t->ops / s, (double)t->bytes / s / 1048576.0,
	       (double)t->items / s, t->kicks, t->calls,
	       us(t->hist.sum) / (double)(t->hist.total | !t->hist.total),
	       us(load_hist_quantile(&t->hist, 0.5)), us(load_hist_quantile(&t->hist, 0.9)),
	       us(load_hist_quantile(&t->hist, 0.99)), us(load_hist_quantile(&t->hist, 0.999)),
	       us(t->hist.max));
	if (l->cpu_us >= 0 && t->ops)
		printf(",\"cpu_us_per_op\":%.3f,\"cpu_percent\":%.1f",
		       (double)l->cpu_us / (double)t->ops, (double)l->cpu_us / s / 1e4);
	printf("}\n");
}

static void sum_up(const struct load *l, struct totals *t)
{
	for (unsigned int i = 0; i < l->o.queues; i++) {
		const struct load_thread *th = &l->threads[i];

		load_hist_merge(&t->hist, &th->hist);
		t->ops += th->ops;
		t->requests += th->requests;
		t->items += th->items;
		t->bytes += th->bytes;
		t->errors += th->errors;
		t->kicks += th->kicks;
		t->calls += th->calls;
	}
}

int main(int argc, char **argv)
{
	static struct load l;
	static struct totals totals;
	int err;

	parse(&l.o, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	l.op = load_op_find(l.o.op);
	if (!l.op) {
		fprintf(stderr, "ovfs-load: no operation '%s'\n", l.o.op);
		usage(stderr);
		return 2;
	}
	if (l.o.pid && load_cpu_us(l.o.pid) < 0) {
		fprintf(stderr, "ovfs-load: no process %d\n", (int)l.o.pid);
		return 2;
	}
	atomic_init(&l.unique, 1u << 20);
	err = set_up(&l);
	if (!err)
		err = load_tree_make(&l);
	if (!err)
		err = load_run(&l);
	if (!err) {
		sum_up(&l, &totals);
		(l.o.json ? report_json : report_text)(&l, &totals);
	}
	if (!err && !l.o.keep)
		load_tree_remove(&l);
	if (!err)
		fuc_destroy(&l.f);
	fuc_close(&l.f);
	vuc_close(&l.c);
	return err || totals.errors || !totals.ops ? 1 : 0;
}
