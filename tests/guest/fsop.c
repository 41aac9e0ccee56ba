/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsop: the file system calls that shell commands do not make.
 *
 * One call (or a few that belong together) for each verb, for the cases in
 * cases/. Exit code 0 when it succeeded; else 1, and the errno's name on
 * stderr, so that a case can say which error it expects. Linked statically:
 * it also runs in a guest that has only busybox.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "fsop: %s: %s (%s)\n", what, strerrorname_np(errno), strerror(errno));
	exit(1);
}

static _Noreturn void wrong(const char *what)
{
	fprintf(stderr, "fsop: wrong: %s\n", what);
	exit(1);
}

static long long number(const char *text)
{
	char *end;
	long long value = strtoll(text, &end, 0);

	if (end == text || *end != '\0')
		wrong("not a number");
	return value;
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0666);

	if (fd < 0)
		fail(path);
	return fd;
}

struct word {
	const char *name;
	int value;
};

/* The value of each of the comma-separated words, or'd. */
static int words(const struct word *table, const char *text)
{
	char *copy = strdup(text);
	int value = 0;

	if (!copy)
		fail("strdup");
	for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
		const struct word *entry = table;

		while (entry->name && strcmp(entry->name, word) != 0)
			entry++;
		if (!entry->name)
			wrong(word);
		value |= entry->value;
	}
	free(copy);
	return value;
}

static const struct word open_words[] = {
	{ "read", O_RDONLY },	{ "write", O_WRONLY },	    { "rdwr", O_RDWR },
	{ "creat", O_CREAT },	{ "excl", O_EXCL },	    { "trunc", O_TRUNC },
	{ "append", O_APPEND }, { "nofollow", O_NOFOLLOW }, { "directory", O_DIRECTORY },
	{ "direct", O_DIRECT }, { "sync", O_SYNC },	    { NULL, 0 },
};

/* open FLAGS PATH */
static void do_open(char **args)
{
	close(must_open(args[1], words(open_words, args[0])));
}

/* as UID GID[,GROUP...] COMMAND...: run it as another user, without capabilities */
static void do_as(char **args)
{
	gid_t groups[64];
	size_t count = 0;
	uid_t uid = (uid_t)number(args[0]);

	for (char *word = strtok(args[1], ","); word; word = strtok(NULL, ",")) {
		if (count == sizeof(groups) / sizeof(groups[0]))
			wrong("too many groups");
		groups[count++] = (gid_t)number(word);
	}
	if (count == 0)
		wrong("no group");
	if (setgroups(count - 1, groups + 1) < 0 ||
	    setresgid(groups[0], groups[0], groups[0]) < 0 || setresuid(uid, uid, uid) < 0)
		fail("setresuid");
	execvp(args[2], args + 2);
	fail(args[2]);
}

/* rename2 noreplace|exchange FROM TO */
static void do_rename2(char **args)
{
	static const struct word flags[] = {
		{ "none", 0 },
		{ "noreplace", RENAME_NOREPLACE },
		{ "exchange", RENAME_EXCHANGE },
		{ "whiteout", RENAME_WHITEOUT },
		{ NULL, 0 },
	};

	if (renameat2(AT_FDCWD, args[1], AT_FDCWD, args[2], (unsigned int)words(flags, args[0])) <
	    0)
		fail("rename");
}

/* tmpfile FOLDER NAME|-: write to a file without a name, then give it one */
static void do_tmpfile(char **args)
{
	char link[64];
	char text[16] = "";
	int fd = must_open(args[0], O_TMPFILE | O_RDWR);

	if (write(fd, "unnamed\n", 8) != 8 || pread(fd, text, 8, 0) != 8)
		fail("write");
	if (strcmp(text, "unnamed\n") != 0)
		wrong("read back something else");
	if (strcmp(args[1], "-") == 0)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, link, AT_FDCWD, args[1], AT_SYMLINK_FOLLOW) < 0)
		fail("linkat");
}

/* seek data|hole PATH OFFSET: print where the next one begins */
static void do_seek(char **args)
{
	int whence = strcmp(args[0], "data") == 0 ? SEEK_DATA : SEEK_HOLE;
	off_t found = lseek(must_open(args[1], O_RDONLY), number(args[2]), whence);

	if (found < 0)
		fail("lseek");
	printf("%lld\n", (long long)found);
}

/* fallocate MODE PATH OFFSET LENGTH */
static void do_fallocate(char **args)
{
	static const struct word modes[] = {
		{ "alloc", 0 },
		{ "keep", FALLOC_FL_KEEP_SIZE },
		{ "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
		{ "zero", FALLOC_FL_ZERO_RANGE },
		{ NULL, 0 },
	};

	if (fallocate(must_open(args[1], O_RDWR), words(modes, args[0]), number(args[2]),
		      number(args[3])) < 0)
		fail("fallocate");
}

/* copyrange FROM OFFSET TO OFFSET LENGTH: all of it, in as many calls as it takes */
static void do_copyrange(char **args)
{
	int from = must_open(args[0], O_RDONLY);
	int to = must_open(args[2], O_WRONLY | O_CREAT);
	off64_t from_at = number(args[1]);
	off64_t to_at = number(args[3]);
	size_t left = (size_t)number(args[4]);

	while (left > 0) {
		ssize_t got = copy_file_range(from, &from_at, to, &to_at, left, 0);

		if (got < 0)
			fail("copy_file_range");
		if (got == 0)
			wrong("copy_file_range copied less");
		left -= (size_t)got;
	}
}

/* truncate PATH SIZE, through an open descriptor */
static void do_ftruncate(char **args)
{
	if (ftruncate(must_open(args[0], O_RDWR), number(args[1])) < 0)
		fail("ftruncate");
}

/* write PATH OFFSET TEXT */
static void do_write(char **args)
{
	size_t length = strlen(args[2]);
	int fd = must_open(args[0], O_WRONLY);

	if (pwrite(fd, args[2], length, number(args[1])) != (ssize_t)length)
		fail("pwrite");
	if (close(fd) < 0)
		fail("close");
}

/* append PATH COUNT WORD: that many lines `WORD 000123`, each with one O_APPEND write */
static void do_append(char **args)
{
	int fd = must_open(args[0], O_WRONLY | O_APPEND | O_CREAT);
	long long count = number(args[1]);

	for (long long i = 0; i < count; i++) {
		char line[64];
		int length = snprintf(line, sizeof(line), "%.40s %06lld\n", args[2], i);

		if (write(fd, line, (size_t)length) != length)
			fail("write");
	}
}

/* sync fsync|fdatasync|syncfs PATH */
static void do_sync(char **args)
{
	int fd = open(args[1], O_RDONLY);
	int rc;

	if (fd < 0)
		fail(args[1]);
	if (strcmp(args[0], "fsync") == 0)
		rc = fsync(fd);
	else if (strcmp(args[0], "fdatasync") == 0)
		rc = fdatasync(fd);
	else
		rc = syncfs(fd);
	if (rc < 0)
		fail(args[0]);
}

/* socket PATH: leave a socket file there */
static void do_socket(char **args)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", args[0]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("bind");
}

/* types FOLDER: `NAME TYPE` of each entry, by d_type alone */
static void do_types(char **args)
{
	static const char *const names[] = {
		[DT_UNKNOWN] = "unknown", [DT_FIFO] = "fifo", [DT_CHR] = "chr", [DT_DIR] = "dir",
		[DT_BLK] = "blk",	  [DT_REG] = "reg",   [DT_LNK] = "lnk", [DT_SOCK] = "sock",
	};
	DIR *dir = opendir(args[0]);
	struct dirent *entry;

	if (!dir)
		fail(args[0]);
	while ((entry = readdir(dir)))
		printf("%s %s\n", entry->d_name, names[entry->d_type & 15]);
}

/* stat PATH: `MODE UID GID NLINK SIZE`, the mode in octal */
static void do_stat(char **args)
{
	struct stat st;

	if (lstat(args[0], &st) < 0)
		fail(args[0]);
	printf("%o %u %u %lu %lld\n", st.st_mode, st.st_uid, st.st_gid, (unsigned long)st.st_nlink,
	       (long long)st.st_size);
}

/* statvfs PATH: `BLOCKS FREE BLOCKSIZE NAMEMAX` */
static void do_statvfs(char **args)
{
	struct statvfs st;

	if (statvfs(args[0], &st) < 0)
		fail(args[0]);
	printf("%lu %lu %lu %lu\n", (unsigned long)st.f_blocks, (unsigned long)st.f_bfree,
	       st.f_frsize, st.f_namemax);
}

/* access PATH rwx */
static void do_access(char **args)
{
	int mode = (strchr(args[1], 'r') ? R_OK : 0) | (strchr(args[1], 'w') ? W_OK : 0) |
		   (strchr(args[1], 'x') ? X_OK : 0);

	/* Of the effective user, as every other call checks it. */
	if (faccessat(AT_FDCWD, args[0], mode, AT_EACCESS) < 0)
		fail("access");
}

/* chattr PATH: an ioctl; files of a host need not support it, but must answer */
static void do_ioctl(char **args)
{
	int flags;

	if (ioctl(must_open(args[0], O_RDONLY), FS_IOC_GETFLAGS, &flags) < 0)
		fail("ioctl");
}

/* The name of the file that tells a case that a lock is held. */
static void touch(const char *path)
{
	if (path && strcmp(path, "-") != 0)
		close(must_open(path, O_WRONLY | O_CREAT));
}

static void hold(const char *seconds)
{
	usleep((useconds_t)(strtod(seconds, NULL) * 1e6));
}

/*
 * lock PATH read|write START LENGTH now|wait SECONDS [MARK]: take a POSIX
 * lock, touch MARK, and hold the lock for SECONDS.
 */
static void do_lock(char **args)
{
	struct flock lock = {
		.l_type = (short)(strcmp(args[1], "read") == 0 ? F_RDLCK : F_WRLCK),
		.l_whence = SEEK_SET,
		.l_start = number(args[2]),
		.l_len = number(args[3]),
	};
	int fd = must_open(args[0], O_RDWR | O_CREAT);

	if (fcntl(fd, strcmp(args[4], "wait") == 0 ? F_SETLKW : F_SETLK, &lock) < 0)
		fail("lock");
	touch(args[6]);
	hold(args[5]);
}

/* getlk PATH read|write START LENGTH: `free`, or `read|write START LENGTH` of a conflict */
static void do_getlk(char **args)
{
	struct flock lock = {
		.l_type = (short)(strcmp(args[1], "read") == 0 ? F_RDLCK : F_WRLCK),
		.l_whence = SEEK_SET,
		.l_start = number(args[2]),
		.l_len = number(args[3]),
	};

	if (fcntl(must_open(args[0], O_RDWR), F_GETLK, &lock) < 0)
		fail("getlk");
	if (lock.l_type == F_UNLCK)
		puts("free");
	else
		printf("%s %lld %lld\n", lock.l_type == F_RDLCK ? "read" : "write",
		       (long long)lock.l_start, (long long)lock.l_len);
}

/* flock PATH shared|exclusive now|wait SECONDS [MARK] */
static void do_flock(char **args)
{
	int operation = (strcmp(args[1], "shared") == 0 ? LOCK_SH : LOCK_EX) |
			(strcmp(args[2], "wait") == 0 ? 0 : LOCK_NB);

	if (flock(must_open(args[0], O_RDWR | O_CREAT), operation) < 0)
		fail("flock");
	touch(args[4]);
	hold(args[3]);
}

/* many FOLDER FROM COUNT: create that many empty files f000000 ... */
static void do_many(char **args)
{
	int dir = must_open(args[0], O_RDONLY | O_DIRECTORY);
	long long from = number(args[1]);
	long long count = number(args[2]);

	for (long long i = from; i < from + count; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "f%06lld", i);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0)
			fail(name);
		close(fd);
	}
}

/* count FOLDER: how many entries, `.` and `..` not counted; each name once or it is wrong */
static void do_count(char **args)
{
	static uint8_t seen[1000000];
	DIR *dir = opendir(args[0]);
	struct dirent *entry;
	long count = 0;

	if (!dir)
		fail(args[0]);
	errno = 0;
	while ((entry = readdir(dir))) {
		unsigned int index;

		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (sscanf(entry->d_name, "f%6u", &index) == 1 && seen[index]++)
			wrong("an entry came twice");
	}
	if (errno)
		fail("readdir");
	printf("%ld\n", count);
}

/* killed SECONDS COMMAND...: start it, SIGTERM it after SECONDS; wrong if it ended before */
static void do_killed(char **args)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		execvp(args[1], args + 1);
		fail(args[1]);
	}
	hold(args[0]);
	if (kill(pid, SIGTERM) < 0)
		fail("kill");
	for (int i = 0; i < 100; i++) {
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (!WIFSIGNALED(status))
				wrong("it had ended by itself");
			return;
		}
		usleep(50000);
	}
	wrong("it cannot be killed");
}

static const struct {
	const char *verb;
	int min_args;
	void (*run)(char **args);
} verbs[] = {
	{ "access", 2, do_access },   { "append", 3, do_append },
	{ "as", 3, do_as },	      { "copyrange", 5, do_copyrange },
	{ "count", 1, do_count },     { "fallocate", 4, do_fallocate },
	{ "flock", 4, do_flock },     { "ftruncate", 2, do_ftruncate },
	{ "getlk", 4, do_getlk },     { "ioctl", 1, do_ioctl },
	{ "killed", 2, do_killed },   { "lock", 6, do_lock },
	{ "many", 3, do_many },	      { "open", 2, do_open },
	{ "rename2", 3, do_rename2 }, { "seek", 3, do_seek },
	{ "socket", 1, do_socket },   { "stat", 1, do_stat },
	{ "statvfs", 1, do_statvfs }, { "sync", 2, do_sync },
	{ "tmpfile", 2, do_tmpfile }, { "types", 1, do_types },
	{ "write", 3, do_write },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].verb, argv[1]) != 0)
			continue;
		if (argc - 2 < verbs[i].min_args)
			wrong("too few arguments");
		verbs[i].run(argv + 2);
		return 0;
	}
	wrong("no such verb");
}
