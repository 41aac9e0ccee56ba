/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each stage of the sandbox takes away what it says and leaves what serving
 * files needs. Every case runs in a process of its own; as root, as CI does.
 */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "sandbox/sandbox.h"

static char root[] = "/tmp/ovfs-sandbox-XXXXXX";
/* Shared with the children. */
static int *cleaned;
static int *reached;

static void count_cleanup(void *arg)
{
	(void)arg;
	(*cleaned)++;
}

/* In a chroot the kernel allows no pivot_root: there, chroot mode is what can be had. */
static bool in_chroot(void)
{
	struct statx stx;

	return statx(AT_FDCWD, "/", 0, 0, &stx) == 0 &&
	       !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* Of the process that calls all_stages(). */
static struct sandbox_root served[3];

static struct sandbox_config all_stages(void)
{
	struct sandbox_config config = {
		.roots = served, .root_count = 1, .files = true, .cleanup = count_cleanup
	};

	served[0] = (struct sandbox_root){ .path = root };

	for (int i = 0; i < SANDBOX_STAGE_COUNT; i++)
		config.stage[i] = true;
	config.chroot = in_chroot();
	config.stage[SANDBOX_MOUNT] = !config.chroot;
	return config;
}

/* Runs @body in a child; returns its wait status. */
static int in_child(void (*body)(void))
{
	int status;
	pid_t pid;

	*cleaned = 0;
	pid = fork();
	if (pid == 0) {
		log_set_level(LOG_LEVEL_ERROR);
		body();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_exit(int status, int code)
{
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

/* In the children: the line that failed is the exit status' meaning. */
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond,              \
				strerror(errno));                                                  \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

static void enter(struct sandbox *sandbox, const struct sandbox_config *config)
{
	struct err *e = sandbox_enter(sandbox, config);

	if (e) {
		fprintf(stderr, "%s\n", err_msg(e));
		_exit(98);
	}
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

static void body_hide(void)
{
	struct sandbox_config config = all_stages();
	struct if_nameindex *names;
	struct sandbox sandbox;
	int up;

	enter(&sandbox, &config);
	CHECK(getpid() == 1);
	CHECK(sandbox.contained && sandbox.supervisor_fd >= 0);
	CHECK(access("/inside", F_OK) == 0);
	CHECK(access("/etc", F_OK) < 0 && access("/../etc", F_OK) < 0);
	CHECK(faccessat(served[0].fd, "inside", F_OK, 0) == 0);
	CHECK(faccessat(served[0].fd, "../etc", F_OK, 0) < 0);
	up = openat(sandbox.proc_self_fd, "..", O_PATH);
	CHECK(up >= 0 && (config.chroot || same_file(up, sandbox.proc_self_fd)));
	CHECK(faccessat(sandbox.proc_self_fd, "0", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	names = if_nameindex();
	CHECK(names &&
	      (!names[0].if_name || (!strcmp(names[0].if_name, "lo") && !names[1].if_name)));
}

static void namespaces_hide_the_host(void **state)
{
	(void)state;
	assert_exit(in_child(body_hide), 0);
	assert_int_equal(*cleaned, 1);
}

static void body_capabilities(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;

	config.modcaps = "-mknod";
	enter(&sandbox, &config);
	CHECK(capng_get_caps_process() == 0);
	CHECK(capng_have_capability(CAPNG_EFFECTIVE, CAP_CHOWN));
	CHECK(capng_have_capability(CAPNG_EFFECTIVE, CAP_DAC_READ_SEARCH));
	CHECK(!capng_have_capability(CAPNG_PERMITTED, CAP_SYS_ADMIN));
	CHECK(!capng_have_capability(CAPNG_PERMITTED, CAP_MKNOD));
	CHECK(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 0);
	CHECK(mkdir("/d", 0700) == 0 && chown("/d", 1, 1) == 0 && rmdir("/d") == 0);
}

static void capabilities_are_those_of_file_operations(void **state)
{
	(void)state;
	assert_exit(in_child(body_capabilities), 0);
}

/* Without a shared directory: the paths, read-only, and nothing else. */
static struct sandbox_path shown[6];
static char in_link[64], in_single[64], in_secret[64], in_late[64];

static struct sandbox_config no_directory(void)
{
	struct sandbox_config config = all_stages();

	config.root_count = 0;
	config.files = false;
	config.paths = shown;
	return config;
}

/* ROOT/links/link -> ROOT/shown/file, ROOT/single/{one,two}; as Kubernetes makes secrets
 * ROOT/secret/token -> now/token, now -> one; ROOT/shown/late, which is not there yet. */
static void make_paths(void)
{
	char path[64], target[64];

	snprintf(path, sizeof(path), "%s/secret", root);
	CHECK(mkdir(path, 0755) == 0 && chdir(path) == 0);
	CHECK(mkdir("one", 0755) == 0 && mkdir("two", 0755) == 0);
	CHECK(mknod("one/token", S_IFREG | 0644, 0) == 0 && truncate("one/token", 1) == 0);
	CHECK(mknod("two/token", S_IFREG | 0644, 0) == 0 && truncate("two/token", 2) == 0);
	CHECK(symlink("one", "now") == 0 && symlink("now/token", "token") == 0);
	snprintf(in_secret, sizeof(in_secret), "%s/secret/token", root);
	snprintf(in_late, sizeof(in_late), "%s/shown/late", root);
	CHECK(chdir("/") == 0);

	snprintf(path, sizeof(path), "%s/shown", root);
	CHECK(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/single", root);
	CHECK(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/single/two", root);
	CHECK(mknod(path, S_IFREG | 0644, 0) == 0);
	snprintf(in_single, sizeof(in_single), "%s/single/one", root);
	CHECK(mknod(in_single, S_IFREG | 0644, 0) == 0);
	snprintf(target, sizeof(target), "%s/shown/file", root);
	CHECK(mknod(target, S_IFREG | 0644, 0) == 0);
	snprintf(path, sizeof(path), "%s/links", root);
	CHECK(mkdir(path, 0755) == 0);
	snprintf(in_link, sizeof(in_link), "%s/links/link", root);
	CHECK(symlink(target, in_link) == 0);
	shown[0] = (struct sandbox_path){ in_link, true };
	shown[1] = (struct sandbox_path){ in_single, false };
	shown[2] = (struct sandbox_path){ "/none/at/all", false };
	shown[3] = (struct sandbox_path){ in_secret, true };
	shown[4] = (struct sandbox_path){ in_late, true };
}

static void remove_paths(void)
{
	static const char *const names[] = { "links/link", "links",
					     "shown/new",  "shown/file",
					     "shown",	   "single/one",
					     "single/two", "single",
					     "shown/late", "secret/token",
					     "secret/now", "secret/one/token",
					     "secret/one", "secret/two/token",
					     "secret/two", "secret",
					     "shown" };
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, names[i]);
		remove(path);
	}
}

static bool exists(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return access(path, F_OK) == 0;
}

static bool is_readonly(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0644);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EROFS;
}

/* Replaces the shown file a while later, as those do who write resolv.conf. */
static void replace_later(void)
{
	char from[64], to[64], path[64];
	int fd;

	if (fork() != 0)
		return;
	usleep(200000);
	snprintf(from, sizeof(from), "%s/shown/new", root);
	snprintf(to, sizeof(to), "%s/shown/file", root);
	fd = open(from, O_CREAT | O_WRONLY, 0644);
	CHECK(fd >= 0 && write(fd, "new", 3) == 3 && close(fd) == 0);
	CHECK(mknod(in_late, S_IFREG | 0644, 0) == 0);
	snprintf(path, sizeof(path), "%s/secret", root);
	CHECK(chdir(path) == 0 && symlink("two", "next") == 0 && rename("next", "now") == 0);
	CHECK(rename(from, to) == 0);
	_exit(0);
}

static void body_paths(void)
{
	struct sandbox_config config = no_directory();
	struct sandbox sandbox;
	struct stat st = { 0 };
	char path[64];

	make_paths();
	replace_later();
	enter(&sandbox, &config);
	CHECK(sandbox.proc_self_fd == -1);
	CHECK(access("/etc", F_OK) < 0 && access("/../etc", F_OK) < 0 && access("/proc", F_OK) < 0);
	CHECK(exists("links/link") && exists("shown/file") && exists("single/one"));
	CHECK(!exists("single/two") && !exists("inside"));
	snprintf(path, sizeof(path), "%s/x", root);
	CHECK(is_readonly("/x") && is_readonly(path));
	snprintf(path, sizeof(path), "%s/shown/x", root);
	CHECK(is_readonly(path) && is_readonly(in_single));
	CHECK(stat(in_secret, &st) == 0 && st.st_size == 1 && !exists("shown/late"));
	st.st_size = 0;
	for (int i = 0; i < 1500 && st.st_size == 0; i++) {
		CHECK(stat(in_link, &st) == 0);
		usleep(20000);
	}
	CHECK(st.st_size == 3 && exists("shown/late"));
	CHECK(stat(in_secret, &st) == 0 && st.st_size == 2);
}

static void without_a_directory_there_is_an_empty_tree(void **state)
{
	int status;

	(void)state;
	if (in_chroot())
		return;
	status = in_child(body_paths);
	remove_paths();
	assert_exit(status, 0);
}

#if !defined(__SANITIZE_THREAD__)
/* As /etc/resolv.conf: bound alone, for its folder is the home folder here, and replaced. */
static void body_replaced(void)
{
	struct sandbox_path alone[2] = { { in_single, true } };
	struct sandbox_config config = no_directory();
	struct sandbox sandbox;
	struct stat st = { 0 };
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/single", root);
	snprintf(in_single, sizeof(in_single), "%s/single/one", root);
	CHECK(mkdir(path, 0755) == 0 && mknod(in_single, S_IFREG | 0644, 0) == 0);
	setenv("HOME", path, 1);
	config.paths = alone;
	if (fork() == 0) {
		usleep(200000);
		snprintf(path, sizeof(path), "%s/single/two", root);
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		CHECK(fd >= 0 && write(fd, "new", 3) == 3 && close(fd) == 0);
		CHECK(rename(path, in_single) == 0);
		_exit(0);
	}
	enter(&sandbox, &config);
	for (int i = 0; i < 1500 && st.st_size == 0; i++) {
		CHECK(stat(in_single, &st) == 0);
		usleep(20000);
	}
	CHECK(st.st_size == 3 && is_readonly(in_single));
}

static void file_that_is_bound_alone_is_kept_current(void **state)
{
	int status;

	(void)state;
	if (in_chroot())
		return;
	status = in_child(body_replaced);
	remove_paths();
	assert_exit(status, 0);
}
#endif

/* ROOT/one and ROOT/two, each with a file that is called as its directory. */
static char several[2][64];

static void make_several(void)
{
	char path[160];
	int fd;

	for (int i = 0; i < 2; i++) {
		const char *name = i ? "two" : "one";

		snprintf(several[i], sizeof(several[i]), "%s/%s", root, name);
		snprintf(path, sizeof(path), "%s/%s", several[i], name);
		CHECK(mkdir(several[i], 0755) == 0);
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		CHECK(fd >= 0 && close(fd) == 0);
	}
}

static void remove_several(void)
{
	char path[80];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s/%s", root, i ? "two" : "one",
			 i ? "two" : "one");
		unlink(path);
		snprintf(path, sizeof(path), "%s/%s", root, i ? "two" : "one");
		rmdir(path);
	}
}

static void body_several(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;
	int up;

	make_several();
	served[0] = (struct sandbox_root){ .path = several[0] };
	served[1] = (struct sandbox_root){ .path = several[1], .readonly = true };
	config.root_count = 2;
	enter(&sandbox, &config);
	CHECK(faccessat(served[0].fd, "one", F_OK, 0) == 0);
	CHECK(faccessat(served[1].fd, "two", F_OK, 0) == 0);
	CHECK(openat(served[0].fd, "new", O_CREAT | O_WRONLY, 0644) >= 0);
	CHECK(unlinkat(served[0].fd, "new", 0) == 0);
	if (config.chroot)
		return;
	CHECK(openat(served[1].fd, "new", O_CREAT | O_WRONLY, 0644) < 0 && errno == EROFS);
	/* Neither from one to another, nor from the root to any, nor out. */
	CHECK(access("/etc", F_OK) < 0 && access(several[0], F_OK) < 0 && access("/one", F_OK) < 0);
	for (int i = 0; i < 2; i++) {
		up = openat(served[i].fd, "..", O_PATH);
		CHECK(up >= 0 && same_file(up, served[i].fd));
	}
	CHECK(faccessat(served[0].fd, "../two", F_OK, 0) < 0);
	CHECK(openat(AT_FDCWD, "/x", O_CREAT | O_WRONLY, 0644) < 0 && errno == EROFS);
}

static void several_directories_are_apart(void **state)
{
	int status;

	(void)state;
	status = in_child(body_several);
	remove_several();
	assert_exit(status, 0);
}

static void body_no_capabilities(void)
{
	struct sandbox_config config = no_directory();
	struct sandbox sandbox;

	enter(&sandbox, &config);
	CHECK(capng_get_caps_process() == 0);
	CHECK(capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE);
	/* The library reads this set in /proc, which in a chroot is another namespace's. */
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		CHECK(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) <= 0);
}

static void without_a_directory_there_are_no_capabilities(void **state)
{
	(void)state;
	assert_exit(in_child(body_no_capabilities), 0);
}

/* The number of network interfaces. */
static int interfaces(void)
{
	struct if_nameindex *names = if_nameindex();
	int n = 0;

	while (names && names[n].if_name)
		n++;
	if_freenameindex(names);
	return n;
}

static void body_network(void)
{
	struct sandbox_config config = no_directory();
	int before = interfaces(), fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	struct sandbox sandbox;

	CHECK(bind(fd, (struct sockaddr *)&addr, len) == 0 && listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
	config.network = true;
	enter(&sandbox, &config);
	CHECK(interfaces() == before);
	CHECK(sandbox_seal(&config) == NULL);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&addr, len) == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* Not those of the host's abstract Unix sockets. */
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EACCES);
#endif
}

static void storage_behind_the_network_is_reached(void **state)
{
	(void)state;
	assert_exit(in_child(body_network), 0);
}

static void *nothing(void *arg)
{
	return arg;
}

static void body_seccomp_allowed(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;
	pthread_t thread;

	enter(&sandbox, &config);
	CHECK(sandbox_seal(&config) == NULL);
	CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	*reached = 1;
}

static void body_seccomp_socket(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;

	enter(&sandbox, &config);
	CHECK(sandbox_seal(&config) == NULL);
	(void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void body_seccomp_exec(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;

	enter(&sandbox, &config);
	CHECK(sandbox_seal(&config) == NULL);
	execl("/inside", "inside", NULL);
}

static void body_seccomp_packet(void)
{
	struct sandbox_config config = no_directory();
	struct sandbox sandbox;

	config.network = true;
	enter(&sandbox, &config);
	CHECK(sandbox_seal(&config) == NULL);
	(void)!socket(AF_PACKET, SOCK_RAW, 0);
}

static void body_seccomp_mkdir(void)
{
	struct sandbox_config config = no_directory();
	struct sandbox sandbox;

	config.network = true;
	enter(&sandbox, &config);
	CHECK(sandbox_seal(&config) == NULL);
	mkdirat(AT_FDCWD, "/d", 0700);
}

static void unlisted_system_calls_kill(void **state)
{
	(void)state;
	assert_exit(in_child(body_seccomp_allowed), 0);
	assert_int_equal(*reached, 1);
	assert_exit(in_child(body_seccomp_socket), 128 + SIGSYS);
	assert_exit(in_child(body_seccomp_exec), 128 + SIGSYS);
	assert_exit(in_child(body_seccomp_mkdir), 128 + SIGSYS);
	assert_exit(in_child(body_seccomp_packet), 128 + SIGSYS);
	assert_int_equal(*cleaned, 1);
}

static void body_status(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;

	enter(&sandbox, &config);
	_exit(7);
}

static void supervisor_exits_with_the_status(void **state)
{
	(void)state;
	assert_exit(in_child(body_status), 7);
	assert_int_equal(*cleaned, 1);
}

static void body_signal(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;
	sigset_t set;
	int signum;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (fork() == 0) { /* whose parent becomes the supervisor */
		usleep(100000);
		kill(getppid(), SIGTERM);
		_exit(0);
	}
	enter(&sandbox, &config);
	CHECK(sigwait(&set, &signum) == 0 && signum == SIGTERM);
	_exit(3);
}

static void supervisor_passes_signals_on(void **state)
{
	(void)state;
	assert_exit(in_child(body_signal), 3);
}

static void body_stuck(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;
	sigset_t set;

	config.stop_timeout_s = 1;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (fork() == 0) {
		usleep(100000);
		kill(getppid(), SIGTERM);
		_exit(0);
	}
	enter(&sandbox, &config);
	for (;;)
		pause(); /* as a storage that hangs: SIGTERM stays pending */
}

static void supervisor_ends_what_does_not_stop(void **state)
{
	(void)state;
	assert_exit(in_child(body_stuck), 128 + SIGKILL);
	assert_int_equal(*cleaned, 1);
}

static void body_refused(void)
{
	struct sandbox_config config = all_stages();
	struct sandbox sandbox;
	struct err *e;

	config.stage[SANDBOX_USER] = false;
	config.stage[SANDBOX_NET] = false;
	config.stage[SANDBOX_IPC] = false;
	CHECK(setuid(65534) == 0);
	e = sandbox_enter(&sandbox, &config);
	CHECK(e && strstr(err_msg(e), "disable = [\"pid\"]"));
}

static void body_mount(void)
{
	struct sandbox_config config = all_stages();
	bool refused = config.chroot;
	struct sandbox sandbox;
	struct err *e;

	config.chroot = false;
	config.stage[SANDBOX_MOUNT] = true;
	e = sandbox_enter(&sandbox, &config);
	CHECK(refused == (e != NULL));
	CHECK(!e || strstr(err_msg(e), "disable = [\"mount\"]"));
}

static void refused_stage_names_itself(void **state)
{
	(void)state;
	assert_exit(in_child(body_refused), 0);
	assert_exit(in_child(body_mount), 0);
}

static int make_root(void **state)
{
	char path[64];
	int fd;

	(void)state;
	cleaned = mmap(NULL, 2 * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (cleaned == MAP_FAILED || !mkdtemp(root))
		return -1;
	reached = cleaned + 1;
	snprintf(path, sizeof(path), "%s/inside", root);
	fd = open(path, O_CREAT | O_WRONLY, 0755);
	return fd < 0 ? -1 : close(fd);
}

static int remove_root(void **state)
{
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/inside", root);
	unlink(path);
	return rmdir(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(namespaces_hide_the_host),
		cmocka_unit_test(capabilities_are_those_of_file_operations),
		cmocka_unit_test(without_a_directory_there_is_an_empty_tree),
		cmocka_unit_test(several_directories_are_apart),
#if !defined(__SANITIZE_THREAD__)
		/* The supervisor enters a namespace, for which it must have one thread;
		 * ThreadSanitizer has one of its own. */
		cmocka_unit_test(file_that_is_bound_alone_is_kept_current),
#endif
		cmocka_unit_test(without_a_directory_there_are_no_capabilities),
		cmocka_unit_test(storage_behind_the_network_is_reached),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		/* Sanitized builds have no filter: sandbox/seccomp.c says why. */
		cmocka_unit_test(unlisted_system_calls_kill),
#endif
		cmocka_unit_test(supervisor_exits_with_the_status),
		cmocka_unit_test(supervisor_passes_signals_on),
		cmocka_unit_test(supervisor_ends_what_does_not_stop),
		cmocka_unit_test(refused_stage_names_itself),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
