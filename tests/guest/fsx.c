/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsx: random I/O on one file, checked against a model in memory.
 *
 *   fsx PATH SEED OPERATIONS [direct]
 *
 * Reads, writes, appends, mapped reads and writes, truncation both ways, holes,
 * allocation, copies within the file, fsync, and closing and opening it again,
 * in an order that SEED alone decides. After each of them the model says what
 * the file must hold; the first byte that differs ends the run with the last
 * operations, so that a failure can be repeated with the same seed. (The idea
 * is that of Apple's fsx; the program is not.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SIZE (512u << 10)
#define MAX_IO (96u << 10)
#define PAGE 4096u
#define HISTORY 24

static const char *path;
static bool direct;
static int fd = -1;
static uint8_t model[MAX_SIZE];
static uint8_t *io; /* MAX_SIZE bytes, page-aligned */
static uint32_t size;
static uint64_t state;
static char history[HISTORY][96];
static unsigned int step;

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...)
{
	char *line = history[step % HISTORY];
	va_list args;
	int used = snprintf(line, sizeof(history[0]), "%u: ", step);

	va_start(args, format);
	vsnprintf(line + used, sizeof(history[0]) - (size_t)used, format, args);
	va_end(args);
}

static _Noreturn void die(const char *what, uint32_t at)
{
	fprintf(stderr, "fsx: %s at byte %u, size %u, errno %s; the last operations:\n", what, at,
		size, strerrorname_np(errno));
	for (unsigned int i = step < HISTORY ? 0 : step - HISTORY + 1; i <= step; i++)
		fprintf(stderr, "  %s\n", history[i % HISTORY]);
	exit(1);
}

/* splitmix64: a seed gives the same numbers everywhere. */
static uint32_t random_below(uint32_t limit)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return limit == 0 ? 0 : (uint32_t)(z % limit);
}

static uint32_t minimum(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* A range of at least a byte inside of `limit` bytes (which is not 0). */
static void random_range(uint32_t limit, uint32_t align, uint32_t *at, uint32_t *length)
{
	*at = random_below(limit) / align * align;
	*length = 1 + random_below(minimum(MAX_IO, limit - *at));
	if (align > 1)
		*length = minimum((*length + align - 1) / align * align, limit - *at);
}

static void reopen(void)
{
	if (fd >= 0 && close(fd) < 0)
		die("close failed", 0);
	fd = open(path, O_RDWR | O_CREAT | (direct ? O_DIRECT : 0), 0644);
	if (fd < 0)
		die("open failed", 0);
}

static void compare(const uint8_t *got, uint32_t at, uint32_t length)
{
	if (memcmp(got, model + at, length) == 0)
		return;
	for (uint32_t i = 0; i < length; i++) {
		if (got[i] != model[at + i]) {
			fprintf(stderr, "fsx: found %02x, expected %02x\n", got[i], model[at + i]);
			die("wrong data", at + i);
		}
	}
}

static void grow_to(uint32_t end)
{
	if (end > size)
		size = end;
}

static void do_read(void)
{
	uint32_t at;
	uint32_t length;

	if (size == 0)
		return;
	random_range(MAX_SIZE, direct ? PAGE : 1, &at, &length);
	note("read %u at %u", length, at);

	ssize_t got = pread(fd, io, length, at);
	uint32_t expected = at >= size ? 0 : minimum(length, size - at);

	if (got != (ssize_t)expected)
		die("short or failed read", at);
	compare(io, at, expected);
}

static void do_write(void)
{
	uint32_t at;
	uint32_t length;

	random_range(MAX_SIZE, direct ? PAGE : 1, &at, &length);
	note("write %u at %u", length, at);
	for (uint32_t i = 0; i < length; i++)
		io[i] = (uint8_t)(step * 31 + i * 7 + 1);
	memcpy(model + at, io, length);
	if (pwrite(fd, io, length, at) != (ssize_t)length)
		die("short or failed write", at);
	grow_to(at + length);
}

static void do_truncate(void)
{
	uint32_t to = random_below(MAX_SIZE);

	/* O_DIRECT reads of the last page are simplest to compare when whole. */
	if (direct)
		to = to / PAGE * PAGE;
	note("truncate %u to %u", size, to);
	if (random_below(2) ? ftruncate(fd, to) < 0 : truncate(path, to) < 0)
		die("truncate failed", to);
	if (to < size)
		memset(model + to, 0, size - to);
	size = to;
}

static void do_map_read(void)
{
	uint32_t at;
	uint32_t length;

	if (size == 0)
		return;
	random_range(size, 1, &at, &length);
	note("map and read %u at %u", length, at);

	uint32_t start = at / PAGE * PAGE;
	uint8_t *map = mmap(NULL, at - start + length, PROT_READ, MAP_SHARED, fd, start);

	if (map == MAP_FAILED)
		die("mmap failed", at);
	compare(map + (at - start), at, length);
	munmap(map, at - start + length);
}

static void do_map_write(void)
{
	uint32_t at;
	uint32_t length;

	if (size == 0)
		return;
	random_range(size, 1, &at, &length);
	note("map and write %u at %u", length, at);

	uint32_t start = at / PAGE * PAGE;
	uint8_t *map =
		mmap(NULL, at - start + length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);

	if (map == MAP_FAILED)
		die("mmap failed", at);
	for (uint32_t i = 0; i < length; i++)
		map[at - start + i] = model[at + i] = (uint8_t)(step * 17 + i * 3 + 5);
	if (random_below(2) && msync(map, at - start + length, MS_SYNC) < 0)
		die("msync failed", at);
	munmap(map, at - start + length);
}

/* A file system of the host may lack it; then there is nothing to compare. */
static bool unsupported(void)
{
	return errno == EOPNOTSUPP;
}

static void do_punch(void)
{
	uint32_t at;
	uint32_t length;

	random_range(MAX_SIZE, 1, &at, &length);
	note("punch %u at %u", length, at);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length) < 0) {
		if (unsupported())
			return;
		die("punch failed", at);
	}
	memset(model + at, 0, length);
}

static void do_zero(void)
{
	uint32_t at;
	uint32_t length;

	random_range(MAX_SIZE, 1, &at, &length);
	note("zero %u at %u", length, at);
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, at, length) < 0) {
		if (unsupported())
			return;
		die("zero range failed", at);
	}
	memset(model + at, 0, length);
	grow_to(at + length);
}

static void do_allocate(void)
{
	uint32_t at;
	uint32_t length;

	random_range(MAX_SIZE, direct ? PAGE : 1, &at, &length);
	note("allocate %u at %u", length, at);
	if (fallocate(fd, 0, at, length) < 0) {
		if (unsupported())
			return;
		die("fallocate failed", at);
	}
	grow_to(at + length);
}

static void do_copy(void)
{
	uint32_t from;
	uint32_t length;

	if (size < 2)
		return;
	random_range(size, 1, &from, &length);

	/* Behind the source, else before it; ranges of one file must not overlap. */
	off64_t in = from;
	uint32_t to = from + length + random_below(PAGE);

	if (to + length > MAX_SIZE)
		to = 0;
	if (to < from + length && from < to + length)
		return;
	note("copy %u from %u to %u", length, from, to);

	off64_t out = to;

	for (uint32_t left = length; left > 0;) {
		ssize_t got = copy_file_range(fd, &in, fd, &out, left, 0);

		if (got <= 0)
			die("copy failed", from);
		left -= (uint32_t)got;
	}
	memcpy(model + to, model + from, length);
	grow_to(to + length);
}

static void do_sync(void)
{
	note("fsync");
	if (random_below(2) ? fsync(fd) < 0 : fdatasync(fd) < 0)
		die("fsync failed", 0);
}

static void do_reopen(void)
{
	note("close and open");
	reopen();
}

static void check_size(void)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size != (off_t)size) {
		fprintf(stderr, "fsx: fstat says %lld\n", (long long)st.st_size);
		die("wrong size", size);
	}
}

static void check_all(void)
{
	ssize_t got = pread(fd, io, MAX_SIZE, 0);

	note("compare everything");
	if (got != (ssize_t)size)
		die("short or failed read", 0);
	compare(io, 0, size);
}

/* Each operation as often as its weight. */
static const struct {
	void (*run)(void);
	uint32_t weight;
	bool with_direct;
} operations[] = {
	{ do_read, 20, true },	    { do_write, 25, true },	 { do_truncate, 8, true },
	{ do_map_read, 10, false }, { do_map_write, 12, false }, { do_punch, 6, true },
	{ do_zero, 4, false },	    { do_allocate, 4, true },	 { do_copy, 6, false },
	{ do_sync, 2, true },	    { do_reopen, 3, true },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static void run_one(void)
{
	uint32_t total = 0;

	for (size_t i = 0; i < N_OPERATIONS; i++)
		total += operations[i].weight;

	uint32_t pick = random_below(total);
	size_t chosen = 0;

	while (pick >= operations[chosen].weight)
		pick -= operations[chosen++].weight;
	if (direct && !operations[chosen].with_direct)
		chosen = 0;
	note("nothing to do");
	operations[chosen].run();
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: fsx PATH SEED OPERATIONS [direct]\n");
		return 1;
	}
	path = argv[1];
	state = strtoull(argv[2], NULL, 10);
	direct = argc > 4;

	unsigned int count = (unsigned int)strtoul(argv[3], NULL, 10);

	if (posix_memalign((void **)&io, PAGE, MAX_SIZE) != 0)
		return 1;
	reopen();
	if (ftruncate(fd, 0) < 0)
		die("truncate failed", 0);
	for (step = 0; step < count; step++) {
		run_one();
		check_size();
		if (step % 64 == 63)
			check_all();
	}
	reopen();
	check_all();
	return 0;
}
