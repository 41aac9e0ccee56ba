/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fscheck: behaviours that take many calls of one process to see.
 *
 * One verb for each behaviour, for the cases in cases/. Every step is checked;
 * exit code 0 when all was as a local file system does it, else 1 and a line
 * that says which step was not.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "fscheck: line %d: not so: %s (errno %s)\n", __LINE__,     \
				#condition, strerrorname_np(errno));                               \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define PAGE 4096

/* A byte that depends on its place, so that misplaced data shows. */
static uint8_t pattern(size_t place, unsigned int seed)
{
	return (uint8_t)((place * 2654435761u + seed) >> 13);
}

static void fill(uint8_t *buf, size_t length, size_t place, unsigned int seed)
{
	for (size_t i = 0; i < length; i++)
		buf[i] = pattern(place + i, seed);
}

static bool filled(const uint8_t *buf, size_t length, size_t place, unsigned int seed)
{
	for (size_t i = 0; i < length; i++)
		if (buf[i] != pattern(place + i, seed))
			return false;
	return true;
}

static bool zeroes(const uint8_t *buf, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (buf[i] != 0)
			return false;
	return true;
}

static int create(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	return fd;
}

/* direct PATH: O_DIRECT writes and reads, against what the page cache shows */
static void check_direct(char **args)
{
	const size_t size = 64 * PAGE;
	uint8_t *buf;
	struct stat st;
	int cached = create(args[0]);
	int fd = open(args[0], O_RDWR | O_DIRECT);

	CHECK(fd >= 0);
	CHECK(posix_memalign((void **)&buf, PAGE, size) == 0);
	fill(buf, size, 0, 1);
	CHECK(pwrite(fd, buf, size, 0) == (ssize_t)size);
	memset(buf, 0, size);
	CHECK(pread(cached, buf, size, 0) == (ssize_t)size);
	CHECK(filled(buf, size, 0, 1));

	/* One page in the middle through the cache: a direct read must see it. */
	fill(buf, PAGE, 8 * PAGE, 2);
	CHECK(pwrite(cached, buf, PAGE, 8 * PAGE) == PAGE);
	memset(buf, 0, size);
	CHECK(pread(fd, buf, 4 * PAGE, 6 * PAGE) == 4 * PAGE);
	CHECK(filled(buf, 2 * PAGE, 6 * PAGE, 1));
	CHECK(filled(buf + 2 * PAGE, PAGE, 8 * PAGE, 2));
	CHECK(filled(buf + 3 * PAGE, PAGE, 9 * PAGE, 1));

	/* And the other way round, where the cache already has the page. */
	fill(buf, PAGE, 8 * PAGE, 3);
	CHECK(pwrite(fd, buf, PAGE, 8 * PAGE) == PAGE);
	CHECK(pread(cached, buf, PAGE, 8 * PAGE) == PAGE);
	CHECK(filled(buf, PAGE, 8 * PAGE, 3));

	/* A read over the end is short, one past it is empty. */
	CHECK(pread(fd, buf, 8 * PAGE, (off_t)size - PAGE) == PAGE);
	CHECK(pread(fd, buf, PAGE, (off_t)size) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == (off_t)size);
	free(buf);
}

/* unlinked PATH: an open file without a name goes on as before */
static void check_unlinked(char **args)
{
	char path[4096];
	uint8_t buf[PAGE];
	struct stat st;
	int fd = create(args[0]);

	fill(buf, sizeof(buf), 0, 1);
	CHECK(write(fd, buf, sizeof(buf)) == sizeof(buf));
	CHECK(unlink(args[0]) == 0);
	CHECK(access(args[0], F_OK) < 0 && errno == ENOENT);

	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == PAGE);
	fill(buf, sizeof(buf), PAGE, 1);
	CHECK(pwrite(fd, buf, sizeof(buf), PAGE) == sizeof(buf));
	CHECK(pread(fd, buf, sizeof(buf), 0) == sizeof(buf) && filled(buf, sizeof(buf), 0, 1));
	CHECK(pread(fd, buf, sizeof(buf), PAGE) == sizeof(buf));
	CHECK(filled(buf, sizeof(buf), PAGE, 1));
	CHECK(ftruncate(fd, 100) == 0 && fstat(fd, &st) == 0 && st.st_size == 100);
	CHECK(fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0600);
	CHECK(fsync(fd) == 0);

	/* A new file of that name is another one. */
	int other = create(args[0]);

	CHECK(fstat(other, &st) == 0 && st.st_size == 0);
	CHECK(pread(fd, buf, sizeof(buf), 0) == 100);

	/* Taken over by a rename instead of removed. */
	snprintf(path, sizeof(path), "%s.new", args[0]);
	int third = create(path);

	CHECK(write(other, "old", 3) == 3 && write(third, "new", 3) == 3);
	CHECK(rename(path, args[0]) == 0);
	CHECK(pread(other, buf, 3, 0) == 3 && memcmp(buf, "old", 3) == 0);
	CHECK(fstat(other, &st) == 0 && st.st_nlink == 0);
	CHECK(pread(third, buf, 3, 0) == 3 && memcmp(buf, "new", 3) == 0);
	CHECK(unlink(args[0]) == 0);
}

/* renamed FOLDER: an open file and an open folder keep working under new names */
static void check_renamed(char **args)
{
	char buf[16];
	int dir;
	int fd;

	CHECK(chdir(args[0]) == 0);
	CHECK(mkdir("dir", 0755) == 0 && mkdir("elsewhere", 0755) == 0);
	fd = create("dir/file");
	dir = open("dir", O_RDONLY | O_DIRECTORY);
	CHECK(dir >= 0);
	CHECK(write(fd, "one", 3) == 3);
	CHECK(rename("dir/file", "elsewhere/other") == 0);
	CHECK(write(fd, "two", 3) == 3);
	CHECK(rename("dir", "elsewhere/dir") == 0);
	CHECK(write(fd, "six", 3) == 3);
	CHECK(pread(fd, buf, sizeof(buf), 0) == 9 && memcmp(buf, "onetwosix", 9) == 0);

	int again = open("elsewhere/other", O_RDONLY);

	CHECK(again >= 0 && read(again, buf, sizeof(buf)) == 9);
	/* Through the folder's descriptor: it is elsewhere/dir by now. */
	CHECK(close(openat(dir, "new", O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
	CHECK(access("elsewhere/dir/new", F_OK) == 0);
	CHECK(access("dir/new", F_OK) < 0 && errno == ENOENT);
}

/* mmap PATH: shared and private mappings, against read and write */
static void check_mmap(char **args)
{
	const size_t size = 64 * PAGE;
	uint8_t buf[PAGE];
	int fd = create(args[0]);
	uint8_t *shared;
	uint8_t *private;

	CHECK(ftruncate(fd, (off_t)size) == 0);
	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(shared != MAP_FAILED);
	private = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(private != MAP_FAILED);
	CHECK(zeroes(shared, size));

	/* What goes into the mapping comes out of read, and the other way round. */
	fill(shared, size, 0, 1);
	CHECK(pread(fd, buf, PAGE, 5 * PAGE) == PAGE && filled(buf, PAGE, 5 * PAGE, 1));
	fill(buf, PAGE, 5 * PAGE, 2);
	CHECK(pwrite(fd, buf, PAGE, 5 * PAGE) == PAGE);
	CHECK(filled(shared + 5 * PAGE, PAGE, 5 * PAGE, 2));

	/* A private page is its own from the first write on. */
	CHECK(filled(private + 6 * PAGE, PAGE, 6 * PAGE, 1));
	fill(private + 6 * PAGE, PAGE, 6 * PAGE, 3);
	CHECK(filled(shared + 6 * PAGE, PAGE, 6 * PAGE, 1));
	CHECK(pread(fd, buf, PAGE, 6 * PAGE) == PAGE && filled(buf, PAGE, 6 * PAGE, 1));

	CHECK(msync(shared, size, MS_SYNC) == 0);
	CHECK(munmap(shared, size) == 0 && munmap(private, size) == 0 && close(fd) == 0);

	fd = open(args[0], O_RDONLY);
	CHECK(fd >= 0);
	for (size_t at = 0; at < size; at += PAGE) {
		CHECK(pread(fd, buf, PAGE, (off_t)at) == PAGE);
		CHECK(filled(buf, PAGE, at, at == 5 * PAGE ? 2 : 1));
	}
}

/* sparse PATH: holes read as zeroes, and take no space; truncation both ways */
static void check_sparse(char **args)
{
	static uint8_t buf[16 * PAGE];
	struct stat st;
	int fd = create(args[0]);

	CHECK(pwrite(fd, "x", 1, (off_t)1 << 30) == 1);
	CHECK(fstat(fd, &st) == 0 && st.st_size == ((off_t)1 << 30) + 1);
	CHECK(st.st_blocks * 512 < 1 << 20);
	CHECK(pread(fd, buf, sizeof(buf), 1 << 20) == sizeof(buf) && zeroes(buf, sizeof(buf)));

	/* Cut inside of a page, grow again: what was cut off must not come back. */
	CHECK(ftruncate(fd, 0) == 0);
	fill(buf, sizeof(buf), 0, 1);
	CHECK(pwrite(fd, buf, sizeof(buf), 0) == sizeof(buf));
	CHECK(ftruncate(fd, 5000) == 0);
	CHECK(ftruncate(fd, sizeof(buf)) == 0);
	CHECK(pread(fd, buf, sizeof(buf), 0) == sizeof(buf));
	CHECK(filled(buf, 5000, 0, 1) && zeroes(buf + 5000, sizeof(buf) - 5000));
	CHECK(fsync(fd) == 0);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* How often `name` is among the sorted names. */
static unsigned int occurrences(char **names, size_t count, const char *name)
{
	unsigned int found = 0;

	for (size_t i = 0; i < count; i++)
		found += strcmp(names[i], name) == 0;
	return found;
}

/*
 * telldir FOLDER: go back to a position in a folder that has changed since.
 * What was there before and still is must come exactly once after it.
 */
static void check_telldir(char **args)
{
	enum { FILES = 1000, HALF = 500 };
	static char *before[FILES + 2];
	static char *after[2 * FILES + 2];
	static char *again[2 * FILES + 2];
	size_t befores = 0;
	size_t afters = 0;
	size_t agains = 0;
	struct dirent *entry;
	long position;
	DIR *dir;

	CHECK(chdir(args[0]) == 0);
	for (int i = 0; i < FILES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%04d", i);
		CHECK(close(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
	}
	dir = opendir(".");
	CHECK(dir);
	while (befores < HALF && (entry = readdir(dir)))
		before[befores++] = strdup(entry->d_name);
	position = telldir(dir);
	while ((entry = readdir(dir)))
		after[afters++] = strdup(entry->d_name);
	CHECK(befores + afters == FILES + 2);

	/* The same place again without a change: the same rest in the same order. */
	seekdir(dir, position);
	for (agains = 0; (entry = readdir(dir)); agains++)
		CHECK(agains < afters && strcmp(entry->d_name, after[agains]) == 0);
	CHECK(agains == afters);

	/* Remove every other one that had been read, and one of the rest; add some. */
	for (size_t i = 0; i < befores; i += 2)
		if (before[i][0] == 'f')
			CHECK(unlink(before[i]) == 0);
	for (size_t i = 0; i < 50; i++) {
		char name[32];

		snprintf(name, sizeof(name), "new-%04zu", i);
		CHECK(close(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
	}
	seekdir(dir, position);
	for (agains = 0; (entry = readdir(dir)); agains++) {
		CHECK(agains < sizeof(again) / sizeof(again[0]));
		again[agains] = strdup(entry->d_name);
	}
	for (size_t i = 0; i < afters; i++)
		CHECK(occurrences(again, agains, after[i]) == 1);
	for (size_t i = 0; i < befores; i++)
		CHECK(occurrences(again, agains, before[i]) == 0);

	/* From the start: no name twice, and each that is there. */
	rewinddir(dir);
	for (agains = 0; (entry = readdir(dir)); agains++) {
		CHECK(agains < sizeof(again) / sizeof(again[0]));
		again[agains] = strdup(entry->d_name);
	}
	qsort(again, agains, sizeof(again[0]), compare_names);
	for (size_t i = 1; i < agains; i++)
		CHECK(strcmp(again[i - 1], again[i]) != 0);
	for (size_t i = 0; i < agains; i++)
		CHECK(access(again[i], F_OK) == 0);
	CHECK(occurrences(again, agains, "new-0049") == 1);
	CHECK(closedir(dir) == 0);
}

/* removing FOLDER: delete while reading, as `rm -r` does; nothing may be left */
static void check_removing(char **args)
{
	enum { FILES = 1500 };
	struct dirent *entry;
	int removed = 0;
	DIR *dir;

	CHECK(chdir(args[0]) == 0);
	for (int i = 0; i < FILES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%d", i);
		CHECK(close(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644)) == 0);
	}
	dir = opendir(".");
	CHECK(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		CHECK(unlink(entry->d_name) == 0);
		removed++;
	}
	CHECK(removed == FILES);
	rewinddir(dir);
	while ((entry = readdir(dir)))
		CHECK(entry->d_name[0] == '.');
	CHECK(closedir(dir) == 0);
}

/* vectors PATH: readv and writev of odd lengths at odd offsets */
static void check_vectors(char **args)
{
	enum { PARTS = 37 };
	static uint8_t buf[PARTS][5003];
	struct iovec iov[PARTS];
	size_t total = 0;
	int fd = create(args[0]);

	for (size_t i = 0; i < PARTS; i++) {
		iov[i].iov_base = buf[i];
		iov[i].iov_len = 1 + (i * 997) % sizeof(buf[i]);
		fill(buf[i], iov[i].iov_len, 13 + total, 1);
		total += iov[i].iov_len;
	}
	CHECK(pwritev(fd, iov, PARTS, 13) == (ssize_t)total);
	memset(buf, 0, sizeof(buf));
	CHECK(preadv(fd, iov, PARTS, 13) == (ssize_t)total);
	for (size_t i = 0, at = 13; i < PARTS; at += iov[i].iov_len, i++)
		CHECK(filled(buf[i], iov[i].iov_len, at, 1));
	CHECK(pread(fd, buf[0], 13, 0) == 13 && zeroes(buf[0], 13));
}

/* pattern write|check PATH MEBIBYTES: a big file whose every byte is known */
static void check_pattern(char **args)
{
	static uint8_t buf[1 << 20];
	bool writing = strcmp(args[0], "write") == 0;
	size_t size = (size_t)strtoul(args[2], NULL, 10) << 20;
	int fd = writing ? create(args[1]) : open(args[1], O_RDONLY);

	CHECK(fd >= 0 && size > 0);
	for (size_t at = 0; at < size; at += sizeof(buf)) {
		if (writing) {
			fill(buf, sizeof(buf), at, 7);
			CHECK(write(fd, buf, sizeof(buf)) == sizeof(buf));
		} else {
			CHECK(read(fd, buf, sizeof(buf)) == sizeof(buf));
			CHECK(filled(buf, sizeof(buf), at, 7));
		}
	}
	CHECK(writing || read(fd, buf, 1) == 0);
	CHECK(close(fd) == 0);
}

static const struct {
	const char *verb;
	int args;
	void (*run)(char **args);
} verbs[] = {
	{ "direct", 1, check_direct },	 { "mmap", 1, check_mmap },
	{ "pattern", 3, check_pattern }, { "removing", 1, check_removing },
	{ "renamed", 1, check_renamed }, { "sparse", 1, check_sparse },
	{ "telldir", 1, check_telldir }, { "unlinked", 1, check_unlinked },
	{ "vectors", 1, check_vectors },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].verb, argv[1]) != 0)
			continue;
		CHECK(argc - 2 == verbs[i].args);
		verbs[i].run(argv + 2);
		return 0;
	}
	fprintf(stderr, "fscheck: no such verb\n");
	return 1;
}
