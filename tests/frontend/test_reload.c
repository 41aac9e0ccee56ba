/* SPDX-License-Identifier: Apache-2.0 */
/* Another configuration under connected guests: what changes at once, what waits for the next
 * connection, what is refused; and every way in which a file is saved. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MOUNT(name, socket, rest)                                                                  \
	"[[mount]]\nname = \"" name "\"\n[mount.socket_settings]\nsocket_path = " socket "\n"      \
	"[mount.storage_settings]\ntype = \"memory\"\n" rest
#define FILES(name, socket, root, rest)                                                            \
	"[[mount]]\nname = \"" name "\"\n[mount.socket_settings]\nsocket_path = " socket "\n"      \
	"[mount.storage_settings]\ntype = \"fs\"\nroot = \"%D/" root "\"\n" rest

#define TREE "[[mount]]\nname = \"tree\"\n[mount.socket_settings]\nsocket_path = \"%D/socket\"\n"
#define DIRECTORY(path, rest)                                                                      \
	"[[mount.directory]]\npath = \"" path "\"\n[mount.directory.storage_settings]\n" rest

#define ONE MOUNT("one", "\"%D/socket\"", "")
#define ONE_READONLY MOUNT("one", "\"%D/socket\"", "readonly = true\n")
#define TWO MOUNT("two", "\"%D/two\"", "")
#define ROOT FILES("root", "\"%D/files\"", "root", "")

static struct daemon daemon_;
static unsigned int reloads;

/* The same daemon by another socket. */
static struct daemon by(const char *socket)
{
	struct daemon d = daemon_;

	snprintf(d.socket, sizeof(d.socket), "%.60s/%.15s", daemon_.dir, socket);
	return d;
}

static void begin(const char *text)
{
	daemon_make(&daemon_);
	daemon_configure(&daemon_, text, SAVE_IN_PLACE);
	daemon_restart(&daemon_);
	daemon_log_wait(&daemon_, " started ", 1);
	reloads = 0;
}

/* @text is in effect when this returns. */
static void reload(const char *text, enum save_style style)
{
	daemon_configure(&daemon_, text, style);
	daemon_log_wait(&daemon_, " reloaded ", ++reloads);
}

/* The process outside removes sockets when it hears that the other one has reloaded. */
static void gone(const char *path)
{
	for (unsigned int ms = 0; access(path, F_OK) == 0; ms += 10) {
		if (ms >= 60000)
			fail_msg("%s is still there", path);
		usleep(10000);
	}
}

static int make(struct guest *g, const char *name)
{
	struct fuse_entry_out e;
	uint64_t fh;
	int ret = fuc_create(&g->f, FUSE_ROOT_ID, name, O_RDWR, 0644, &e, &fh);

	if (ret == 0)
		assert_ok(fuc_release(&g->f, e.nodeid, fh));
	return ret;
}

static void every_way_to_save_a_file(void **state)
{
	static const enum save_style styles[] = { SAVE_IN_PLACE, SAVE_RENAMED, SAVE_ASIDE };
	char name[16];
	struct guest g;

	(void)state;
	begin(ONE);
	guest_open(&g, &daemon_, NULL);
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		assert_ok(make(&g, name));
		reload(ONE_READONLY, styles[i]);
		assert_int_equal(make(&g, "no"), -EROFS);
		reload(ONE, styles[i]);
	}
	assert_ok(make(&g, "last"));
	guest_close(&g);
	daemon_stop(&daemon_);
}

/* In the sandbox it is mounted as it was at start, or when it came. */
static void a_directory_is_readonly_for_a_while(void **state)
{
	static const char sealed[] = FILES("sealed", "\"%D/sealed\"", "root", "readonly = true\n");
	struct daemon files;
	struct guest g;
	char text[1000];

	(void)state;
	begin(ONE ROOT);
	files = by("files");
	guest_open(&g, &files, NULL);
	assert_ok(make(&g, "before"));
	reload(ONE FILES("root", "\"%D/files\"", "root", "readonly = true\n"), SAVE_RENAMED);
	assert_int_equal(make(&g, "no"), -EROFS);
	reload(ONE ROOT, SAVE_RENAMED);
	assert_ok(make(&g, "after"));
	snprintf(text, sizeof(text), "%s%s", ONE, sealed);
	reload(text, SAVE_RENAMED);
	/* Under sanitizers and in a chroot nothing was mounted. */
	if (!daemon_logged(&daemon_, "sandbox_reduced off=mount")) {
		daemon_configure(&daemon_, ONE FILES("sealed", "\"%D/sealed\"", "root", ""),
				 SAVE_RENAMED);
		daemon_log_wait(&daemon_, " reload_failed ", 1);
		daemon_log_wait(&daemon_, "takes a restart", 1);
	}
	guest_close(&g);
	daemon_stop(&daemon_);
}

static void in_dir(char path[200], const char *name)
{
	snprintf(path, 200, "%s/%s", daemon_.dir, name);
}

/* config -> ..data/config, ..data -> ..1, which is replaced by a link to ..2. */
static void as_kubernetes_swaps_its_folders(void **state)
{
	char path[200], other[200];
	struct guest g;

	(void)state;
	daemon_make(&daemon_);
	for (int i = 1; i <= 2; i++) {
		struct daemon d = daemon_;

		snprintf(path, sizeof(path), "%s/..%d", daemon_.dir, i);
		assert_ok(mkdir(path, 0755));
		snprintf(d.config, sizeof(d.config), "%.60s/..%d/config", daemon_.dir, i);
		daemon_configure(&d, i == 1 ? ONE : ONE_READONLY, SAVE_IN_PLACE);
	}
	in_dir(path, "..data");
	assert_ok(symlink("..1", path));
	assert_ok(symlink("..data/config", daemon_.config));
	daemon_restart(&daemon_);
	daemon_log_wait(&daemon_, " started ", 1);
	guest_open(&g, &daemon_, NULL);
	assert_ok(make(&g, "file"));
	in_dir(other, "..data_tmp");
	assert_ok(symlink("..2", other));
	assert_ok(rename(other, path));
	daemon_log_wait(&daemon_, " reloaded ", 1);
	assert_int_equal(make(&g, "no"), -EROFS);
	guest_close(&g);
	daemon_stop(&daemon_);
}

static void an_error_changes_nothing(void **state)
{
	struct guest g;

	(void)state;
	begin(ONE);
	guest_open(&g, &daemon_, NULL);
	daemon_configure(&daemon_, ONE_READONLY "wrong = 1\n" TWO, SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reload_failed ", 1);
	assert_true(daemon_logged(&daemon_, "storage_settings.wrong: unknown key"));
	assert_ok(make(&g, "file"));
	daemon_configure(&daemon_, "not TOML at all", SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reload_failed ", 2);
	/* A socket that cannot be had: the others are not kept. */
	daemon_configure(&daemon_, ONE_READONLY TWO MOUNT("three", "\"%D/config\"", ""),
			 SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reload_failed ", 3);
	assert_int_equal(access(by("two").socket, F_OK), -1);
	assert_ok(make(&g, "other"));
	/* Back to what there is: nothing changes, but it is good again. */
	daemon_configure(&daemon_, ONE, SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reloaded ", 1);
	reloads = 1;
	reload(ONE_READONLY, SAVE_RENAMED);
	assert_int_equal(make(&g, "no"), -EROFS);
	guest_close(&g);
	daemon_stop(&daemon_);
}

/* The error is in a file that is new, and mended there alone. */
static void a_new_file_with_an_error_is_watched(void **state)
{
	struct daemon two;
	char path[200];
	FILE *f;

	(void)state;
	begin(ONE);
	two = by("two");
	in_dir(path, "more.toml");
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("[[mount]]\nname = \"two\"\n", f);
	fclose(f);
	daemon_configure(&daemon_, "include = \"more.toml\"\n" ONE, SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reload_failed ", 1);
	f = fopen(path, "a");
	assert_non_null(f);
	fprintf(f, "[mount.socket_settings]\nsocket_path = \"%s\"\n", two.socket);
	fputs("[mount.storage_settings]\ntype = \"memory\"\n", f);
	fclose(f);
	daemon_log_wait(&daemon_, " reloaded ", 1);
	assert_ok(access(two.socket, F_OK));
	daemon_stop(&daemon_);
}

/* Works until told to stop; nothing may fail. */
static atomic_bool working;

static void *work(void *arg)
{
	struct guest *g = arg;
	char buf[4096], back[4096];
	struct fuse_entry_out e;
	uint64_t fh, n = 0;

	assert_ok(fuc_create(&g->f, FUSE_ROOT_ID, "work", O_RDWR, 0644, &e, &fh));
	while (working) {
		memset(buf, (int)('a' + n++ % 26), sizeof(buf));
		assert_int_equal(fuc_write(&g->f, e.nodeid, fh, n % 8 * 4096, buf, 4096), 4096);
		assert_int_equal(fuc_read(&g->f, e.nodeid, fh, n % 8 * 4096, back, 4096), 4096);
		assert_memory_equal(buf, back, 4096);
		if (n % 50 == 0)
			assert_ok(fuc_flush(&g->f, e.nodeid, fh, 1));
	}
	assert_ok(fuc_release(&g->f, e.nodeid, fh));
	return NULL;
}

/* Everything that changes under a guest, while it works. */
static void a_guest_at_work_notices_nothing(void **state)
{
	static const char *const settings[] = {
		"[mount.cache_settings]\nenabled_cache_write_back = true\n",
		"[mount.limit_settings]\ndata_requests = 2\nmetadata_requests = 2\n",
		"[mount.retry_settings]\nattempts = 3\n",
		"[mount.cache_settings]\nenabled_cache_write_back = false\n"
		"cache_expiration_time = \"5s\"\n",
		"[mount.timeout_settings]\nsilence_min = \"9s\"\n",
		"[log]\nlevel = \"info\"\n",
		"[cache_settings]\nsize = \"40MiB\"\n",
		"[cache_settings]\nsize = \"80MiB\"\n",
		TWO,
		ROOT,
		"",
	};
	char text[2000];
	struct guest g;
	pthread_t thread;

	(void)state;
	begin("[cache_settings]\nsize = \"64MiB\"\n" ONE);
	guest_open(&g, &daemon_, NULL);
	working = true;
	assert_ok(pthread_create(&thread, NULL, work, &g));
	for (size_t i = 0; i < 11; i++) {
		bool top =
			settings[i][0] == '[' && (settings[i][1] == 'l' || settings[i][1] == 'c');

		/* Directories take a daemon that was started with one. */
		if (strcmp(settings[i], ROOT) == 0)
			continue;
		snprintf(text, sizeof(text), "%s%s%s", top ? settings[i] : "", ONE,
			 top ? "" : settings[i]);
		reload(text, SAVE_RENAMED);
	}
	working = false;
	pthread_join(thread, NULL);
	assert_int_equal(g.f.violations, 0);
	guest_close(&g);
	daemon_stop(&daemon_);
}

static void mounts_come_and_go(void **state)
{
	struct daemon two, files;
	struct guest one, other;
	struct fuse_entry_out e;

	(void)state;
	begin(ONE ROOT);
	two = by("two");
	files = by("files");
	guest_open(&one, &daemon_, NULL);
	assert_ok(make(&one, "here"));
	for (int i = 0; i < 3; i++) {
		reload(ONE ROOT TWO FILES("more", "\"%D/more\"", "root", "readonly = true\n"),
		       SAVE_RENAMED);
		daemon_log_wait(&daemon_, " ready mount=two", (unsigned int)i + 1);
		guest_open(&other, &two, NULL);
		assert_ok(make(&other, "there"));
		reload(ONE ROOT, SAVE_RENAMED);
		daemon_log_wait(&daemon_, " mount_ended mount=two", (unsigned int)i + 1);
		gone(two.socket);
		guest_close(&other);
		assert_ok(fuc_lookup(&one.f, FUSE_ROOT_ID, "here", &e));
	}
	guest_open(&other, &files, NULL);
	assert_ok(make(&other, "file"));
	assert_ok(access(daemon_path(&daemon_, "file"), F_OK));
	guest_close(&other);
	guest_close(&one);
	daemon_stop(&daemon_);
}

/* Looks up two names in a row. 0 and *@node, or the error. */
static int walk(struct guest *g, const char *first, const char *second, uint64_t *node)
{
	struct fuse_entry_out e;
	int ret = fuc_lookup(&g->f, FUSE_ROOT_ID, first, &e);

	if (ret == 0 && e.nodeid && second)
		ret = fuc_lookup(&g->f, e.nodeid, second, &e);
	*node = e.nodeid;
	return ret ? ret : e.nodeid ? 0 : -ENOENT;
}

static int make_in(struct guest *g, uint64_t parent, const char *name)
{
	struct fuse_entry_out e;
	uint64_t fh;
	int ret = fuc_create(&g->f, parent, name, O_RDWR, 0644, &e, &fh);

	if (ret == 0)
		assert_ok(fuc_release(&g->f, e.nodeid, fh));
	return ret;
}

static void directories_of_one_mount_come_and_go(void **state)
{
	uint64_t files, memory, more;
	struct guest g;

	(void)state;
	begin(TREE DIRECTORY("memory", "type = \"memory\"\n")
		      DIRECTORY("on/disk", "type = \"fs\"\nroot = \"%D/root\"\n"));
	guest_open(&g, &daemon_, NULL);
	assert_ok(walk(&g, "memory", NULL, &memory));
	assert_ok(walk(&g, "on", "disk", &files));
	assert_ok(make_in(&g, memory, "object"));
	assert_ok(make_in(&g, files, "file"));
	assert_ok(access(daemon_path(&daemon_, "file"), F_OK));
	assert_int_equal(make_in(&g, FUSE_ROOT_ID, "no"), -EROFS);
	for (int i = 0; i < 2; i++) {
		reload(TREE DIRECTORY("memory", "type = \"memory\"\nreadonly = true\n")
			       DIRECTORY("on/disk", "type = \"fs\"\nroot = \"%D/root\"\n")
				       DIRECTORY("more", "type = \"memory\"\n"),
		       SAVE_RENAMED);
		assert_ok(walk(&g, "more", NULL, &more));
		assert_ok(make_in(&g, more, "object"));
		assert_int_equal(make_in(&g, memory, "no"), -EROFS);
		reload(TREE DIRECTORY("memory", "type = \"memory\"\n")
			       DIRECTORY("on/disk", "type = \"fs\"\nroot = \"%D/root\"\n"),
		       SAVE_RENAMED);
		assert_int_equal(make_in(&g, more, "late"), -ESTALE);
		assert_int_equal(walk(&g, "more", NULL, &more), -ENOENT);
	}
	assert_ok(make_in(&g, memory, "other"));
	reload(TREE DIRECTORY("memory", "type = \"memory\"\n"), SAVE_RENAMED);
	assert_int_equal(walk(&g, "on", "disk", &files), -ENOENT);
	assert_ok(make_in(&g, memory, "last"));
	/* Another storage in its place: empty. */
	reload(TREE DIRECTORY("memory", "type = \"fs\"\nroot = \"%D/root\"\n"), SAVE_RENAMED);
	assert_ok(walk(&g, "memory", "file", &files));
	guest_close(&g);
	daemon_stop(&daemon_);
}

static void a_directory_that_came_later_is_served(void **state)
{
	struct daemon more;
	struct guest g;
	char path[200];

	(void)state;
	begin(FILES("root", "\"%D/socket\"", "root", ""));
	in_dir(path, "later");
	assert_ok(mkdir(path, 0755));
	more = by("more");
	reload(FILES("root", "\"%D/socket\"", "root", "") FILES("more", "\"%D/more\"", "later", ""),
	       SAVE_RENAMED);
	daemon_log_wait(&daemon_, " ready mount=more", 1);
	guest_open(&g, &more, NULL);
	assert_ok(make(&g, "file"));
	in_dir(path, "later/file");
	assert_ok(access(path, F_OK));
	/* The first one becomes another tree: its guests come back to that. */
	reload(FILES("root", "\"%D/socket\"", "later", "")
		       FILES("more", "\"%D/more\"", "later", ""),
	       SAVE_RENAMED);
	daemon_log_wait(&daemon_, " ready mount=root", 2);
	guest_close(&g);
	guest_open(&g, &daemon_, NULL);
	assert_int_equal(make(&g, "new"), 0);
	in_dir(path, "later/new");
	assert_ok(access(path, F_OK));
	guest_close(&g);
	daemon_stop(&daemon_);
}

static void sockets_change_with_the_next_connection(void **state)
{
	struct vuc_config small = guest_default;
	struct daemon two = { 0 };
	struct guest g, other;

	(void)state;
	small.queues = 3;
	begin(ONE);
	two = by("two");
	guest_open(&g, &daemon_, NULL);
	assert_ok(make(&g, "before"));
	reload(MOUNT("one", "\"%D/two\"", ""), SAVE_RENAMED);
	gone(daemon_.socket);
	/* The guest is served as before, and the next one on the new path. */
	assert_ok(make(&g, "after"));
	guest_open(&other, &two, NULL);
	assert_ok(make(&other, "other"));
	guest_close(&g);
	guest_close(&other);
	/* Tag and queues: of the next connection. */
	guest_open(&g, &two, NULL);
	reload(MOUNT("one", "\"%D/two\"\nnum_request_queues = 2\ntag = \"new\"", ""), SAVE_RENAMED);
	assert_ok(make(&g, "still"));
	guest_close(&g);
	guest_open(&g, &two, &small);
	assert_int_equal(g.c.max_queues, 3);
	guest_close(&g);
	daemon_stop(&daemon_);
}

static void sighup_does_it_too(void **state)
{
	struct guest g;

	(void)state;
	begin("[reload_settings]\nwatch = false\n" ONE);
	guest_open(&g, &daemon_, NULL);
	daemon_configure(&daemon_, "[reload_settings]\nwatch = false\n" ONE_READONLY, SAVE_RENAMED);
	usleep(500000); /* nobody watches */
	assert_false(daemon_logged(&daemon_, " reloaded "));
	assert_ok(make(&g, "file"));
	kill(daemon_.pid, SIGHUP);
	daemon_log_wait(&daemon_, " reloaded ", 1);
	assert_int_equal(make(&g, "no"), -EROFS);
	guest_close(&g);
	daemon_stop(&daemon_);
}

/* One line of a datagram that systemd would get. */
static void expect(int fd, const char *wanted)
{
	char text[1024];

	for (int i = 0; i < 100; i++) {
		ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

		if (n < 0)
			break;
		text[n] = '\0';
		if (strstr(text, wanted))
			return;
	}
	fail_msg("systemd was not told %s", wanted);
}

static void systemd_is_told(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 30 };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	(void)state;
	daemon_make(&daemon_);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/notify", daemon_.dir);
	assert_ok(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	assert_ok(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)));
	daemon_configure(&daemon_, ONE, SAVE_IN_PLACE);
	setenv("NOTIFY_SOCKET", addr.sun_path, 1);
	setenv("WATCHDOG_USEC", "200000", 1);
	daemon_restart(&daemon_);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	expect(fd, "READY=1");
	expect(fd, "WATCHDOG=1");
	daemon_configure(&daemon_, ONE_READONLY, SAVE_RENAMED);
	expect(fd, "RELOADING=1\nMONOTONIC_USEC=");
	expect(fd, "READY=1");
	daemon_configure(&daemon_, "wrong", SAVE_RENAMED);
	expect(fd, "STATUS=");
	expect(fd, "READY=1");
	daemon_stop(&daemon_);
	expect(fd, "STOPPING=1");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way_to_save_a_file),
		cmocka_unit_test(as_kubernetes_swaps_its_folders),
		cmocka_unit_test(an_error_changes_nothing),
		cmocka_unit_test(a_new_file_with_an_error_is_watched),
		cmocka_unit_test(a_guest_at_work_notices_nothing),
		cmocka_unit_test(mounts_come_and_go),
		cmocka_unit_test(a_directory_is_readonly_for_a_while),
		cmocka_unit_test(directories_of_one_mount_come_and_go),
		cmocka_unit_test(a_directory_that_came_later_is_served),
		cmocka_unit_test(sockets_change_with_the_next_connection),
		cmocka_unit_test(sighup_does_it_too),
		cmocka_unit_test(systemd_is_told),
	};

	return cmocka_run_group_tests_name("reload", tests, NULL, NULL);
}
