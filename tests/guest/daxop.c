/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daxop: what a program in a guest does with mapped files, on a mount with dax.
 *
 *	daxop check FILE SIZE STRIDE SALT	each STRIDE bytes of the mapping stands what fill.py
 *						(the harness) wrote there; behind the end are zeros
 *	daxop put FILE OFFSET VALUE		store 8 bytes through a mapping, and msync
 *	daxop get FILE OFFSET			print 8 bytes of a mapping
 *	daxop cut FILE SIZE			map, cut the file to SIZE, touch what is gone:
 *prints what came of it, "signal 7" or "value N" daxop wait FILE OFFSET SECONDS		map,
 *touch, create FILE.ready, wait for FILE.go, touch again: prints as cut daxop random FILE COUNT
 *COUNT reads of 4 KiB at random: nanoseconds for each, mapped and by pread
 *
 * A word at offset is offset + SALT. Exit code 1 and a line when something is not so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull

struct mapping {
	int fd;
	uint64_t size;
	volatile unsigned char *p;
};

static sigjmp_buf caught;

static void fail(const char *what, const char *name)
{
	fprintf(stderr, "daxop: %s %s: %s\n", what, name, strerror(errno));
	exit(1);
}

static uint64_t number(const char *text)
{
	return strtoull(text, NULL, 0);
}

static struct mapping map_file(const char *name, int write)
{
	struct mapping m = { .fd = open(name, write ? O_RDWR : O_RDONLY) };
	struct stat st;

	if (m.fd < 0 || fstat(m.fd, &st) < 0)
		fail("open", name);
	m.size = (uint64_t)st.st_size;
	m.p = mmap(NULL, m.size + PAGE, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		   m.fd, 0);
	if (m.p == MAP_FAILED)
		fail("mmap", name);
	return m;
}

static uint64_t load(const struct mapping *m, uint64_t offset)
{
	return *(volatile uint64_t *)(m->p + offset);
}

static void on_bus_error(int signal)
{
	siglongjmp(caught, signal);
}

/* Prints what a load gives: a value or a signal. */
static void touch(const struct mapping *m, uint64_t offset)
{
	struct sigaction action = { .sa_handler = on_bus_error };
	int signal;

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	signal = sigsetjmp(caught, 1);
	if (signal)
		printf("signal %d\n", signal);
	else
		printf("value %llu\n", (unsigned long long)load(m, offset));
	fflush(stdout);
}

static int do_check(char **args)
{
	struct mapping m = map_file(args[0], 0);
	uint64_t size = number(args[1]), stride = number(args[2]), salt = number(args[3]);
	uint64_t end = (size + PAGE - 1) / PAGE * PAGE, words = 0;

	if (m.size != size) {
		printf("size is %llu\n", (unsigned long long)m.size);
		return 1;
	}
	for (uint64_t offset = 0; offset + 8 <= size; offset += stride, words++) {
		if (load(&m, offset) != offset + salt) {
			printf("at %llu: %llx\n", (unsigned long long)offset,
			       (unsigned long long)load(&m, offset));
			return 1;
		}
	}
	for (uint64_t offset = size; offset < end; offset++) {
		if (m.p[offset]) {
			printf("%x behind the end, at %llu\n", m.p[offset],
			       (unsigned long long)offset);
			return 1;
		}
	}
	printf("%llu words\n", (unsigned long long)words);
	return 0;
}

static int do_put(char **args)
{
	struct mapping m = map_file(args[0], 1);
	uint64_t offset = number(args[1]);

	*(volatile uint64_t *)(m.p + offset) = number(args[2]);
	if (msync((void *)(uintptr_t)(m.p + offset / PAGE * PAGE), PAGE, MS_SYNC) < 0)
		fail("msync", args[0]);
	return 0;
}

static int do_get(char **args)
{
	struct mapping m = map_file(args[0], 0);

	printf("%llu\n", (unsigned long long)load(&m, number(args[1])));
	return 0;
}

static int do_cut(char **args)
{
	struct mapping m = map_file(args[0], 1);

	load(&m, m.size - 8);
	if (ftruncate(m.fd, (off_t)number(args[1])) < 0)
		fail("ftruncate", args[0]);
	touch(&m, (m.size - 8) / 8 * 8);
	return 0;
}

static int do_wait(char **args)
{
	struct mapping m = map_file(args[0], 0);
	uint64_t offset = number(args[1]);
	char name[4096];
	int fd;

	load(&m, offset);
	snprintf(name, sizeof(name), "%s.ready", args[0]);
	fd = open(name, O_CREAT | O_WRONLY, 0644);
	if (fd < 0)
		fail("create", name);
	close(fd);
	snprintf(name, sizeof(name), "%s.go", args[0]);
	for (uint64_t i = number(args[2]) * 20; i && access(name, F_OK) < 0; i--)
		usleep(50000);
	touch(&m, offset);
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int do_random(char **args)
{
	struct mapping m = map_file(args[0], 0);
	uint64_t count = number(args[1]), pages = m.size / PAGE, x = 88172645463325252ull, begin;
	static char buf[PAGE];

	for (int way = 0; way < 2; way++) {
		begin = now_ns();
		for (uint64_t i = 0; i < count; i++) {
			uint64_t offset;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			offset = x % pages * PAGE;
			if (way == 0)
				memcpy(buf, (const void *)(uintptr_t)(m.p + offset), PAGE);
			else if (pread(m.fd, buf, PAGE, (off_t)offset) != (ssize_t)PAGE)
				fail("pread", args[0]);
		}
		printf("%s %llu\n", way ? "pread" : "mapped",
		       (unsigned long long)((now_ns() - begin) / count));
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		int (*run)(char **args);
	} commands[] = {
		{ "check", 4, do_check }, { "cut", 2, do_cut },	      { "get", 2, do_get },
		{ "put", 3, do_put },	  { "random", 2, do_random }, { "wait", 3, do_wait },
	};

	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (argc == commands[i].args + 2 && strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argv + 2);
	}
	fprintf(stderr, "daxop: see the top of daxop.c\n");
	return 2;
}
