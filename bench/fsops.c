/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsops: times file system work inside a benchmark guest and prints it as one
 * line of JSON. It is linked statically, so that it runs in any root.
 *
 *   fsops create|stat|read|readdir|unlink DIR COUNT
 *       One phase over COUNT files of FILE_BYTES spread over directories of FILES_PER_DIR
 *       below DIR. The phases are meant to be run in this order; each is a process
 *       of its own, so that caches can be dropped between them.
 *   fsops mktree|rmtree DIR COUNT
 *       COUNT directories below DIR, TREE_WIDTH in each, and their removal.
 *   fsops time CMD [ARG]...
 *       Runs a command and prints how long it took.
 *
 * Exit code: 0, or 1 with a message when an operation fails.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILES_PER_DIR 1000u
/* What mdtest writes into a file, by its documentation's example. */
#define FILE_BYTES 3901u
#define TREE_WIDTH 10u
/* A pass over all directories takes but some milliseconds: go round for so long. */
#define READDIR_SECONDS 0.3

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void report(const char *phase, unsigned long ops, double seconds)
{
	printf("{\"phase\": \"%s\", \"ops\": %lu, \"seconds\": %.6f}\n", phase, ops, seconds);
}

static void path_of(char *buf, size_t size, const char *dir, unsigned long i)
{
	snprintf(buf, size, "%s/d%03lu/file-%06lu", dir, i / FILES_PER_DIR, i);
}

static void dir_of(char *buf, size_t size, const char *dir, unsigned long i)
{
	snprintf(buf, size, "%s/d%03lu", dir, i / FILES_PER_DIR);
}

static unsigned long do_create(const char *dir, unsigned long count)
{
	static const char data[FILE_BYTES];
	char path[4096];

	for (unsigned long i = 0; i < count; i++) {
		int fd;

		if (i % FILES_PER_DIR == 0) {
			dir_of(path, sizeof(path), dir, i);
			if (mkdir(path, 0755) < 0)
				err(1, "mkdir %s", path);
		}
		path_of(path, sizeof(path), dir, i);
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, data, sizeof(data)) != sizeof(data) || close(fd) < 0)
			err(1, "create %s", path);
	}
	return count;
}

static unsigned long gcd(unsigned long a, unsigned long b)
{
	return b ? gcd(b, a % b) : a;
}

/* Every file once, in an order that no read-ahead of names follows. */
static unsigned long do_stat(const char *dir, unsigned long count)
{
	unsigned long step = count * 5 / 8 + 1, at = 0;
	char path[4096];
	struct stat st;

	while (gcd(step, count) != 1)
		step++;
	for (unsigned long i = 0; i < count; i++) {
		path_of(path, sizeof(path), dir, at);
		if (lstat(path, &st) < 0)
			err(1, "stat %s", path);
		at = (at + step) % count;
	}
	return count;
}

static unsigned long do_read(const char *dir, unsigned long count)
{
	char path[4096], data[FILE_BYTES];

	for (unsigned long i = 0; i < count; i++) {
		int fd;

		path_of(path, sizeof(path), dir, i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, data, sizeof(data)) != sizeof(data) || close(fd) < 0)
			err(1, "read %s", path);
	}
	return count;
}

/* Directory 0 is DIR itself; the parent of i is (i - 1) / TREE_WIDTH. */
static void tree_path(char *buf, size_t size, const char *dir, unsigned long i)
{
	size_t used;

	if (i == 0) {
		snprintf(buf, size, "%s", dir);
		return;
	}
	tree_path(buf, size, dir, (i - 1) / TREE_WIDTH);
	used = strlen(buf);
	snprintf(buf + used, size - used, "/t%lu", i);
}

static unsigned long do_mktree(const char *dir, unsigned long count)
{
	char path[4096];

	for (unsigned long i = 1; i <= count; i++) {
		tree_path(path, sizeof(path), dir, i);
		if (mkdir(path, 0755) < 0)
			err(1, "mkdir %s", path);
	}
	return count;
}

static unsigned long do_rmtree(const char *dir, unsigned long count)
{
	char path[4096];

	for (unsigned long i = count; i >= 1; i--) {
		tree_path(path, sizeof(path), dir, i);
		if (rmdir(path) < 0)
			err(1, "rmdir %s", path);
	}
	return count;
}

static unsigned long readdir_pass(const char *dir, unsigned long count)
{
	unsigned long seen = 0;
	char path[4096];

	for (unsigned long i = 0; i < count; i += FILES_PER_DIR) {
		struct dirent *de;
		DIR *d;

		dir_of(path, sizeof(path), dir, i);
		d = opendir(path);
		if (!d)
			err(1, "opendir %s", path);
		while (errno = 0, (de = readdir(d)) != NULL)
			seen += de->d_name[0] != '.';
		if (errno)
			err(1, "readdir %s", path);
		closedir(d);
	}
	if (seen != count)
		errx(1, "readdir: %lu names instead of %lu", seen, count);
	return seen;
}

static unsigned long do_readdir(const char *dir, unsigned long count)
{
	double start = now_s();
	unsigned long seen = 0;

	do {
		seen += readdir_pass(dir, count);
	} while (now_s() - start < READDIR_SECONDS);
	return seen;
}

static unsigned long do_unlink(const char *dir, unsigned long count)
{
	char path[4096];

	for (unsigned long i = 0; i < count; i++) {
		path_of(path, sizeof(path), dir, i);
		if (unlink(path) < 0)
			err(1, "unlink %s", path);
		if (i % FILES_PER_DIR == FILES_PER_DIR - 1 || i == count - 1) {
			dir_of(path, sizeof(path), dir, i);
			if (rmdir(path) < 0)
				err(1, "rmdir %s", path);
		}
	}
	return count;
}

static int do_time(char **argv)
{
	double start = now_s();
	int status;
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		execvp(argv[0], argv);
		err(127, "%s", argv[0]);
	}
	if (waitpid(pid, &status, 0) < 0)
		err(1, "waitpid");
	report("time", 1, now_s() - start);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static const struct {
	const char *name;
	unsigned long (*run)(const char *dir, unsigned long count);
} phases[] = {
	{ "create", do_create },   { "stat", do_stat },	    { "read", do_read },
	{ "readdir", do_readdir }, { "unlink", do_unlink }, { "mktree", do_mktree },
	{ "rmtree", do_rmtree },
};

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "time") == 0)
		return do_time(argv + 2);
	for (size_t i = 0; argc == 4 && i < sizeof(phases) / sizeof(phases[0]); i++) {
		double start;
		unsigned long ops;

		if (strcmp(argv[1], phases[i].name) != 0)
			continue;
		start = now_s();
		ops = phases[i].run(argv[2], strtoul(argv[3], NULL, 10));
		report(argv[1], ops, now_s() - start);
		return 0;
	}
	fprintf(stderr, "usage: fsops create|stat|read|readdir|unlink|mktree|rmtree DIR COUNT | "
			"time CMD...\n");
	return 2;
}
