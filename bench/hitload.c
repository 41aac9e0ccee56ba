/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hitload: what READs of 4 KiB that hit cost the driver of a bucket and the cache, with nothing
 * before them: no guest, queue or FUSE layer. Threads as those of queues, each on a processor of
 * its own as far as there are some, read at random from a file of 64 MiB that is in the pool.
 *
 *	hitload THREADS one|own MILLISECONDS
 *
 * one: all through one handle of one file, as the threads of a guest's process do. own: each has a
 * file of its own, so that no data is shared but what the cache itself shares.
 *
 * When threads write to cache lines of each other, an operation costs more processor time with
 * two of them than with one; that needs no quiet machine to be seen. Prints one JSON object:
 * operations, seconds, and processor time for each operation of all threads.
 */
#include "objectfs-fixture.h"

#include <sched.h>
#include <time.h>

#define THREADS_MAX 64u
#define FILE_SIZE (64u << 20)
#define READ_SIZE 4096u

/* Neighbours share no cache line. */
struct thread {
	_Alignas(128) pthread_t thread;
	unsigned number;
	uint64_t fh, ops, cpu_ns, random;
	struct fs_req req;
	struct iovec out;
	ssize_t result;
	bool done;
	unsigned char data[READ_SIZE];
};

static struct {
	struct ox ox;
	_Atomic bool over;
	pthread_barrier_t barrier;
	_Alignas(128) struct thread thread[THREADS_MAX];
} hits;

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void read_done(struct fs_req *req, ssize_t result)
{
	struct thread *t = container_of(req, struct thread, req);

	t->result = result;
	t->done = true;
}

static uint64_t next_offset(struct thread *t)
{
	t->random ^= t->random >> 12;
	t->random ^= t->random << 25;
	t->random ^= t->random >> 27;
	return (t->random * 0x2545f4914f6cdd1dull >> 40) % (FILE_SIZE / READ_SIZE) * READ_SIZE;
}

/* It has to be answered on this thread, or it was no hit. */
static void read_one(struct thread *t, uint64_t offset)
{
	t->done = false;
	t->req.opcode = FUSE_READ;
	t->req.in.read = (struct fuse_read_in){ .fh = t->fh, .offset = offset, .size = READ_SIZE };
	t->req.reply = iov_cursor(&t->out, 1);
	t->req.reply_size = READ_SIZE;
	t->req.complete = read_done;
	fs_submit(hits.ox.session, &t->req);
	if (!t->done || t->result != READ_SIZE) {
		fprintf(stderr, "hitload: a READ was no hit\n");
		exit(1);
	}
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	cpu_set_t cpus;
	uint64_t start;

	CPU_ZERO(&cpus);
	CPU_SET(t->number % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &cpus);
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus); /* as well as it goes */
	pthread_barrier_wait(&hits.barrier);
	start = now_ns(CLOCK_THREAD_CPUTIME_ID);
	while (!atomic_load_explicit(&hits.over, memory_order_relaxed)) {
		for (unsigned i = 0; i < 64; i++)
			read_one(t, next_offset(t));
		t->ops += 64;
	}
	t->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
	return NULL;
}

/* A file that is written, committed, and read once. */
static uint64_t make_file(const char *name)
{
	static unsigned char data[1u << 20];
	uint64_t fh;

	memset(data, 'x', sizeof(data));
	assert_int_equal(ox_create(&hits.ox, name, O_RDWR, &fh), 0);
	for (uint64_t at = 0; at < FILE_SIZE; at += sizeof(data))
		assert_int_equal(ox_write(&hits.ox, fh, data, sizeof(data), at), sizeof(data));
	assert_int_equal(ox_flush(&hits.ox, fh), 0);
	for (uint64_t at = 0; at < FILE_SIZE; at += sizeof(data))
		assert_int_equal(ox_read(&hits.ox, fh, data, sizeof(data), at), sizeof(data));
	return fh;
}

int main(int argc, char **argv)
{
	struct timespec duration = { 0 };
	unsigned threads, milliseconds;
	uint64_t ops = 0, cpu_ns = 0, start, elapsed;
	bool own;

	threads = argc == 4 ? (unsigned)atoi(argv[1]) : 0;
	milliseconds = argc == 4 ? (unsigned)atoi(argv[3]) : 0;
	if (threads - 1 >= THREADS_MAX || !milliseconds) {
		fprintf(stderr, "usage: hitload THREADS one|own MILLISECONDS; see its source\n");
		return 2;
	}
	own = strcmp(argv[2], "own") == 0;
	ox_init(&hits.ox);
	hits.ox.ce.pool.size = ((own ? threads : 1) * 2ull * FILE_SIZE) + (64u << 20);
	hits.ox.ce.pool.size_max = 0;
	ox_open(&hits.ox);
	pthread_barrier_init(&hits.barrier, NULL, threads + 1);
	for (unsigned i = 0; i < threads; i++) {
		struct thread *t = &hits.thread[i];
		char name[16];

		snprintf(name, sizeof(name), "file%u", i);
		t->number = i;
		t->random = 0x9e3779b97f4a7c15ull * (i + 1);
		t->out = (struct iovec){ t->data, sizeof(t->data) };
		t->fh = own || i == 0 ? make_file(name) : hits.thread[0].fh;
		pthread_create(&t->thread, NULL, thread_main, t);
	}
	pthread_barrier_wait(&hits.barrier);
	start = now_ns(CLOCK_MONOTONIC);
	duration.tv_sec = milliseconds / 1000;
	duration.tv_nsec = milliseconds % 1000 * 1000000l;
	nanosleep(&duration, NULL);
	atomic_store(&hits.over, true);
	elapsed = now_ns(CLOCK_MONOTONIC) - start;
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(hits.thread[i].thread, NULL);
		ops += hits.thread[i].ops;
		cpu_ns += hits.thread[i].cpu_ns;
	}
	printf("{\"threads\": %u, \"ops\": %llu, \"seconds\": %.6f, \"cpu_s\": %.6f}\n", threads,
	       (unsigned long long)ops, (double)elapsed / 1e9, (double)cpu_ns / 1e9);
	return 0;
}
