/* SPDX-License-Identifier: Apache-2.0 */
/* Daemons in temporary directories, and guests. See harness.h. */
#include "harness.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ASan checks for leaks when the daemon ends, on a machine with better things to do. */
#define STOP_TIMEOUT_MS 30000
#define LOG_TIMEOUT_MS 30000

static void sleep_ms(int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

/* Whether our root is a mere directory, as after chroot(8) into a tree: the kernel allows
 * no pivot_root there. */
static bool __attribute__((unused)) in_chroot(void)
{
	struct statx stx;

	return statx(AT_FDCWD, "/", 0, 0, &stx) == 0 &&
	       !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static void write_sandbox(FILE *file)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/* The leak check wants /proc and a tracer, reports want the program's file. */
	fprintf(file, "[sandbox_settings]\nmode = \"none\"\n"
		      "disable = [\"capabilities\", \"no_new_privs\", \"seccomp\"]\n");
#else
	if (in_chroot())
		fprintf(file, "[sandbox_settings]\nmode = \"chroot\"\n");
#endif
}

static void write_text(const struct daemon *d, const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	for (const char *p = text; *p; p++) {
		if (p[0] == '%' && p[1] == 'D')
			fprintf(file, "%s", d->dir), p++;
		else
			putc(*p, file);
	}
	putc('\n', file);
	write_sandbox(file);
	assert_ok(fclose(file));
}

void daemon_configure(const struct daemon *d, const char *text, enum save_style style)
{
	char other[100];

	snprintf(other, sizeof(other), "%s~", d->config);
	if (style == SAVE_ASIDE)
		assert_ok(rename(d->config, other));
	write_text(d, style == SAVE_RENAMED ? other : d->config, text);
	if (style == SAVE_RENAMED)
		assert_ok(rename(other, d->config));
	if (style == SAVE_ASIDE)
		assert_ok(unlink(other));
}

static void write_config(const struct daemon *d, const struct daemon_options *o)
{
	FILE *file = fopen(d->config, "we");

	assert_non_null(file);
	fprintf(file, "[socket_settings]\nsocket_path = [\"%s\"", d->socket);
	for (unsigned int i = 1; o && i < o->sockets; i++)
		fprintf(file, ", \"%s.%u\"", d->socket, i);
	fprintf(file, "]\nnum_request_queues = %u\n",
		o && o->request_queues ? o->request_queues : 4);
	if (o && o->tag)
		fprintf(file, "tag = \"%s\"\n", o->tag);
	if (o && o->socket)
		fprintf(file, "%s\n", o->socket);
	if (o && o->memory)
		fprintf(file, "[storage_settings]\ntype = \"memory\"\n");
	else
		fprintf(file, "[storage_settings]\ntype = \"fs\"\nroot = \"%s\"\n", d->root);
	if (o && o->storage)
		fprintf(file, "%s\n", o->storage);
	if (getenv("OVFS_TEST_CACHE") && !(o && o->memory))
		fprintf(file, "[cache_settings]\nenabled_cache = true\nsize = \"32MiB\"\n");
	fprintf(file, "[log]\nlevel = \"%s\"\n", o && o->log_level ? o->log_level : "debug");
	if (o && o->extra)
		fprintf(file, "%s\n", o->extra);
	write_sandbox(file);
	fclose(file);
}

/* The shell command in `template`, with %S and %R filled in. */
static void expand(const struct daemon *d, const char *template, char *out, size_t size)
{
	size_t n = (size_t)snprintf(out, size, "exec ");

	for (const char *p = template; *p && n + 100 < size; p++) {
		if (p[0] == '%' && p[1] == 'S')
			n += (size_t)snprintf(out + n, size - n, "%s", d->socket);
		else if (p[0] == '%' && p[1] == 'R')
			n += (size_t)snprintf(out + n, size - n, "%s", d->root);
		else {
			out[n++] = *p;
			continue;
		}
		p++;
	}
	out[n] = '\0';
}

static void spawn(struct daemon *d)
{
	const char *binary = getenv("OVFS_BIN"), *command = getenv("OVFS_TEST_COMMAND");
	char option[128], shell[1024];
	int log;

	d->foreign = command != NULL;
	if (!command && !binary)
		fail_msg("OVFS_BIN is not set");
	log = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(log >= 0);
	snprintf(option, sizeof(option), "--config-file=%s", d->config);
	if (command)
		expand(d, command, shell, sizeof(shell));
	d->pid = fork();
	assert_true(d->pid >= 0);
	if (d->pid == 0) {
		/* A test that is killed takes its daemon along. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		if (command)
			execl("/bin/sh", "sh", "-c", shell, (char *)NULL);
		else
			execl(binary, binary, option, (char *)NULL);
		_exit(127);
	}
	close(log);
}

static void print_log(const struct daemon *d)
{
	char line[1024], tail[40][256];
	unsigned int n = 0;
	FILE *file = fopen(d->log, "re");

	if (!file)
		return;
	while (fgets(line, sizeof(line), file))
		snprintf(tail[n++ % 40], sizeof(tail[0]), "%.255s", line);
	fclose(file);
	for (unsigned int i = n > 40 ? n - 40 : 0; i < n; i++)
		fprintf(stderr, "daemon: %s%s", tail[i % 40],
			strchr(tail[i % 40], '\n') ? "" : "\n");
}

static void wait_until_listening(struct daemon *d)
{
	struct vuc c = { .sock = -1 };
	int err = vuc_connect(&c, d->socket, 10000);

	if (err) {
		print_log(d);
		fail_msg("the daemon does not listen: %s", strerror(-err));
	}
	/* A first guest that says nothing and goes is part of every test. */
	close(c.sock);
}

void daemon_make(struct daemon *d)
{
	const char *tmp = getenv("TMPDIR");

	memset(d, 0, sizeof(*d));
	snprintf(d->dir, sizeof(d->dir), "%.40s/ovfs-test.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(d->dir));
	snprintf(d->root, sizeof(d->root), "%s/root", d->dir);
	snprintf(d->socket, sizeof(d->socket), "%s/socket", d->dir);
	snprintf(d->config, sizeof(d->config), "%s/config", d->dir);
	snprintf(d->log, sizeof(d->log), "%s/log", d->dir);
	assert_ok(mkdir(d->root, 0755));
}

void daemon_start(struct daemon *d, const struct daemon_options *o)
{
	daemon_make(d);
	write_config(d, o);
	daemon_restart(d);
}

void daemon_restart(struct daemon *d)
{
	spawn(d);
	/* The C virtiofsd serves one connection in its life: no probing of that. */
	if (!d->foreign)
		wait_until_listening(d);
}

bool daemon_running(const struct daemon *d)
{
	siginfo_t info = { 0 };

	/* WNOWAIT: the status stays for daemon_stop. */
	return d->pid > 0 && waitid(P_PID, (id_t)d->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

/*
 * The process that serves, which has several threads. What the daemon has forked to look at a
 * directory for it is there for a moment and has one.
 */
static pid_t child_of(pid_t parent)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while (dir && !found && (e = readdir(dir))) {
		char path[300], line[512];
		const char *rest;
		size_t n;
		FILE *file;
		int ppid, threads;

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		n = fread(line, 1, sizeof(line) - 1, file);
		fclose(file);
		line[n] = '\0';
		rest = strrchr(line, ')');
		/* proc(5): state, ppid, ..., num_threads */
		if (rest &&
		    sscanf(rest + 1,
			   " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d",
			   &ppid, &threads) == 2 &&
		    ppid == parent && threads > 1)
			found = (pid_t)atoi(e->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

pid_t daemon_worker(const struct daemon *d)
{
	pid_t pid = d->pid, child;

	while ((child = child_of(pid)) > 0)
		pid = child;
	return pid;
}

unsigned int daemon_fd_count(const struct daemon *d)
{
	char path[64];
	unsigned int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)daemon_worker(d));
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

unsigned int daemon_fd_settle(const struct daemon *d, unsigned int limit)
{
	unsigned int n = daemon_fd_count(d);

	for (int i = 0; i < 200 && n > limit; i++) {
		sleep_ms(10);
		n = daemon_fd_count(d);
	}
	return n;
}

long daemon_rss_kib(const struct daemon *d)
{
	char path[64], line[256];
	long kib = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon_worker(d));
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

const char *daemon_path(const struct daemon *d, const char *name)
{
	static char path[4][512];
	static unsigned int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", d->root, name);
	return p;
}

bool daemon_logged(const struct daemon *d, const char *text)
{
	char line[2048];
	bool found = false;
	FILE *file = fopen(d->log, "re");

	while (file && !found && fgets(line, sizeof(line), file))
		found = strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return found;
}

unsigned int daemon_log_count(const struct daemon *d, const char *text)
{
	char line[2048];
	unsigned int n = 0;
	FILE *file = fopen(d->log, "re");

	while (file && fgets(line, sizeof(line), file))
		n += strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return n;
}

void daemon_log_wait(const struct daemon *d, const char *text, unsigned int count)
{
	for (int waited = 0; daemon_log_count(d, text) < count; waited += 10) {
		if (waited > LOG_TIMEOUT_MS) {
			print_log(d);
			fail_msg("not in the log %u times: %s", count, text);
		}
		sleep_ms(10);
	}
}

static bool wait_for_end(struct daemon *d, int timeout_ms, int *status)
{
	for (int waited = 0; waited <= timeout_ms; waited += 5) {
		if (waitpid(d->pid, status, WNOHANG) == d->pid) {
			d->pid = 0;
			return true;
		}
		sleep_ms(5);
	}
	return false;
}

/*
 * A daemon that is its own supervisor forks to look at directories; what it forked just before it
 * was killed has the listening socket for another moment, and who connects to that is lost.
 */
static void wait_until_deaf(const struct daemon *d)
{
	struct vuc c = { .sock = -1 };

	for (int i = 0; i < 500 && vuc_connect(&c, d->socket, 0) == 0; i++) {
		close(c.sock);
		sleep_ms(10);
	}
}

void daemon_kill(struct daemon *d)
{
	int status;

	kill(daemon_worker(d), SIGKILL);
	/* A supervisor notices and goes too; if it does not, that is a failure. */
	if (!wait_for_end(d, 10000, &status)) {
		kill(d->pid, SIGKILL);
		waitpid(d->pid, &status, 0);
		d->pid = 0;
		fail_msg("the supervisor outlived the process that serves");
	}
	wait_until_deaf(d);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int remove_below(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type;
	return ftw->level ? remove(path) : 0;
}

void daemon_wipe(const struct daemon *d)
{
	/* The directory itself is open in the daemon and must stay the same one. */
	nftw(d->root, remove_below, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *sanitizer_complaint(const struct daemon *d)
{
	static const char *const marks[] = {
		"ERROR: AddressSanitizer",  "ERROR: LeakSanitizer",	"runtime error:",
		"WARNING: ThreadSanitizer", "WARNING: MemorySanitizer",
	};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (daemon_logged(d, marks[i]))
			return marks[i];
	return NULL;
}

void daemon_stop(struct daemon *d)
{
	bool running = daemon_running(d);
	const char *complaint;
	int status = -1;

	if (!d->dir[0])
		return;
	if (d->pid) {
		kill(d->pid, SIGTERM);
		if (!wait_for_end(d, STOP_TIMEOUT_MS, &status)) {
			pid_t worker = daemon_worker(d);

			print_log(d);
			kill(worker, SIGKILL);
			kill(d->pid, SIGKILL);
			waitpid(d->pid, NULL, 0);
			fail_msg("the daemon does not end on SIGTERM");
		}
	}
	complaint = sanitizer_complaint(d);
	if (!running || complaint || (!d->foreign && status != 0)) {
		print_log(d);
		fprintf(stderr, "daemon: all of it in %s\n", d->log);
		d->dir[0] = '\0';
		fail_msg("the daemon %s (%s, status 0x%x)", running ? "misbehaved" : "had died",
			 complaint ? complaint : "no sanitizer report", (unsigned int)status);
	}
	nftw(d->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	d->dir[0] = '\0';
}
