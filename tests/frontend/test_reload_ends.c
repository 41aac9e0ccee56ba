/* SPDX-License-Identifier: Apache-2.0 */
/* Reloads while mounts are ending, starting or failing: what they know of one another. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vuc_window.h"

/* Objects in memory; what is written is sent at the end of the mount, and slowly. */
#define SLOW(name, sockets, rest, write_back)                                                      \
	"[[mount]]\nname = \"" name "\"\n"                                                         \
	"[mount.socket_settings]\nsocket_path = [" sockets "]\n"                                   \
	"[mount.storage_settings]\ntype = \"memory\"\n" rest                                       \
	"[mount.cache_settings]\nwrite_back_delay = \"1h\"\n"                                      \
	"enabled_cache_write_back = " write_back "\n"                                              \
	"[mount.limit_settings]\nupload_bandwidth = \"256KiB\"\n"
#define FILES(name, socket, root)                                                                  \
	"[[mount]]\nname = \"" name "\"\n[mount.socket_settings]\nsocket_path = " socket "\n"      \
	"[mount.storage_settings]\ntype = \"fs\"\nroot = \"%D/" root "\"\n"
#define POOL(size) "[cache_settings]\nsize = \"" size "\"\n"

static struct daemon daemon_;
static unsigned int reloads;

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

static void reload(const char *text)
{
	daemon_configure(&daemon_, text, SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reloaded ", ++reloads);
}

static void probe(const char *socket)
{
	struct daemon d = by(socket);

	guest_probe(&d);
}

/* Leaves data behind that takes so many seconds to be sent. */
static void leave_dirty(const char *socket, unsigned int seconds)
{
	static char buf[64 << 10];
	struct daemon d = by(socket);
	struct guest g;
	char name[16];
	uint64_t node, fh;

	guest_open(&g, &d, NULL);
	/* The first is on its way at once, on tick. */
	for (unsigned int i = 0; i <= seconds; i++) {
		snprintf(name, sizeof(name), "dirty%u", i);
		node = guest_create(&g, name, &fh);
		for (uint64_t at = 0; at < 256 << 10; at += sizeof(buf))
			assert_int_equal(fuc_write(&g.f, node, fh, at, buf, sizeof(buf)),
					 sizeof(buf));
		assert_ok(fuc_release(&g.f, node, fh));
	}
	guest_close(&g);
}

/*
 * "old" is replaced, and takes its time to end. Before it has, another reload changes what is to
 * come after it, and takes longer still: "hold" has to be written for it.
 */
static void a_mount_ends_during_a_reload(void **state)
{
	(void)state;
	begin(POOL("64MiB") SLOW("old", "\"%D/socket\"", "", "true")
		      SLOW("hold", "\"%D/hold\"", "", "true"));
	leave_dirty("socket", 1);
	leave_dirty("hold", 3);
	reload(POOL("64MiB") SLOW("old", "\"%D/socket\"", "capacity = \"2GiB\"\n", "true")
		       SLOW("hold", "\"%D/hold\"", "", "true"));
	reload(POOL("64MiB") SLOW("old", "\"%D/socket\", \"%D/more\"", "capacity = \"2GiB\"\n",
				  "true") SLOW("hold", "\"%D/hold\"", "", "false"));
	daemon_log_wait(&daemon_, " mount_ended mount=old", 1);
	probe("socket");
	probe("more");
	/* It is known by what it has become. */
	reload(POOL("80MiB") SLOW("old", "\"%D/socket\", \"%D/more\"", "capacity = \"2GiB\"\n",
				  "true") SLOW("hold", "\"%D/hold\"", "", "false"));
	probe("socket");
	probe("more");
	assert_int_equal(daemon_log_count(&daemon_, " mount_ended "), 1);
	daemon_stop(&daemon_);
}

/* What was to take its place is not wanted any more, or on another socket. */
static void what_comes_next_changes(void **state)
{
	(void)state;
	begin(POOL("64MiB") SLOW("old", "\"%D/socket\"", "", "true")
		      SLOW("gone", "\"%D/gone\"", "", "true"));
	leave_dirty("socket", 1);
	leave_dirty("gone", 1);
	reload(POOL("64MiB") SLOW("old", "\"%D/socket\"", "capacity = \"2GiB\"\n", "true")
		       SLOW("gone", "\"%D/gone\"", "capacity = \"2GiB\"\n", "true"));
	reload(POOL("64MiB") SLOW("old", "\"%D/new\"", "capacity = \"2GiB\"\n", "true"));
	daemon_log_wait(&daemon_, " mount_ended ", 2);
	daemon_log_wait(&daemon_, " ready mount=old", 2);
	probe("new");
	assert_int_equal(access(by("socket").socket, F_OK), -1);
	assert_int_equal(access(by("gone").socket, F_OK), -1);
	assert_int_equal(daemon_log_count(&daemon_, " ready mount=gone"), 1);
	daemon_stop(&daemon_);
}

/* One that cannot be opened keeps its socket and its directory for the next reload. */
static void a_mount_that_fails_is_mended(void **state)
{
	struct daemon cached, late;
	struct guest g;
	uint64_t fh;

	(void)state;
	begin(FILES("first", "\"%D/socket\"", "root"));
	cached = by("cached");
	late = by("late");
	/* That the host has no such pages is found out when the pool is made. */
	reload(POOL("64MiB") "huge_pages = \"always\"\n" FILES("first", "\"%D/socket\"", "root")
		       FILES("late", "\"%D/late\"",
			     "root") "[mount.cache_settings]\nenabled_cache "
				     "= true\n" SLOW("cached", "\"%D/cached\"", "", "false"));
	daemon_log_wait(&daemon_, " mount_waits ", 2);
	probe("socket");
	assert_ok(access(cached.socket, F_OK));
	reload(POOL("64MiB") FILES("first", "\"%D/socket\"", "root") FILES(
		"late", "\"%D/late\"",
		"root") "[mount.cache_settings]\nenabled_cache = true\n" SLOW("cached",
									      "\"%D/cached\"", "",
									      "false"));
	daemon_log_wait(&daemon_, " ready mount=late", 1);
	daemon_log_wait(&daemon_, " ready mount=cached", 1);
	guest_open(&g, &late, NULL);
	guest_create(&g, "file", &fh);
	assert_ok(access(daemon_path(&daemon_, "file"), F_OK));
	guest_close(&g);
	probe("cached");
	/* And one that fails can go. */
	reload(FILES("first", "\"%D/socket\"", "root"));
	assert_int_equal(access(cached.socket, F_OK), -1);
	daemon_stop(&daemon_);
}

/* What the control socket answers to "status". */
static char *ask_status(const char *name)
{
	static char answer[1 << 20];
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char request[] = "{\"command\": \"status\"}\n";
	struct timeval patience = { .tv_sec = 30 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t used = 0;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", by(name).socket);
	assert_ok(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)));
	assert_ok(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
	while (used < sizeof(answer) - 1 && !memchr(answer, '\n', used)) {
		ssize_t n = recv(fd, answer + used, sizeof(answer) - 1 - used, 0);

		assert_true(n > 0);
		used += (size_t)n;
	}
	close(fd);
	answer[used] = '\0';
	return answer;
}

#define CTL "[ctl_settings]\nsocket_path = \"%D/ctl\"\n"
#define TREE "[[mount]]\nname = \"tree\"\n[mount.socket_settings]\nsocket_path = \"%D/socket\"\n"
#define DIRECTORY(path, bucket)                                                                    \
	"[[mount.directory]]\npath = \"" path "\"\n[mount.directory.storage_settings]\n"           \
	"type = \"fs\"\nroot = \"%D/" bucket "\"\n[mount.directory.cache_settings]\n"              \
	"enabled_cache = true\n"

/* Whether the mount names a storage "DIR/name" as its own. */
static bool mount_has_storage(const char *name)
{
	const char *storages = strstr(ask_status("ctl"), "\"storages\":[");
	char path[200];
	const char *found;

	assert_non_null(storages);
	snprintf(path, sizeof(path), "\"%s/%s\"", daemon_.dir, name);
	found = strstr(storages, path);
	return found && found < strchr(storages, ']');
}

/* "ovfsctl flush MOUNT" is for all its directories. */
static void directories_are_known_to_ovfsctl(void **state)
{
	char path[200];

	(void)state;
	daemon_make(&daemon_);
	snprintf(path, sizeof(path), "%s/more", daemon_.dir);
	assert_ok(mkdir(path, 0755));
	daemon_configure(&daemon_, POOL("64MiB") CTL TREE DIRECTORY("root", "root"), SAVE_IN_PLACE);
	daemon_restart(&daemon_);
	daemon_log_wait(&daemon_, " started ", 1);
	reloads = 0;
	assert_true(mount_has_storage("root"));
	reload(POOL("64MiB") CTL TREE DIRECTORY("root", "root") DIRECTORY("more", "more"));
	assert_true(mount_has_storage("root"));
	assert_true(mount_has_storage("more"));
	reload(POOL("64MiB") CTL TREE DIRECTORY("more", "more"));
	assert_false(mount_has_storage("root"));
	assert_true(mount_has_storage("more"));
	daemon_stop(&daemon_);
}

#define SLOT (2ull << 20)
#define MAPPED(bandwidth, max_write)                                                               \
	POOL("64MiB")                                                                              \
	"dirty_limit = 10\n"                                                                       \
	"[[mount]]\nname = \"mapped\"\n[mount.socket_settings]\n"                                  \
	"socket_path = [\"%D/socket\", \"%D/more\"]\n"                                             \
	"[mount.storage_settings]\ntype = \"memory\"\n"                                            \
	"[mount.cache_settings]\nenabled_cache_write_back = true\n"                                \
	"[mount.dax_settings]\nenabled = true\nwindow_size = \"16MiB\"\n"                          \
	"[mount.limit_settings]\nupload_bandwidth = \"" bandwidth "\"\n"                           \
	"[mount.fuse_settings]\nmax_write = \"" max_write "\"\n"

/* Leaves more in its window than the cache takes at once. What is sent first is for free. */
static void leave_mapped(struct daemon *d)
{
	static const char *const names[] = { "first", "second", "third" };
	static char buf[64 << 10];
	uint64_t node[3], fh[3];
	struct vuc_window w;
	struct guest g;

	guest_connect(&g, d, &vuc_with_window);
	assert_ok(vuc_window_open(&w, &g.c));
	assert_ok(fuc_init(&g.f, 45, fuc_default_init_flags() | FUSE_MAP_ALIGNMENT));
	for (unsigned int i = 0; i < 3; i++) {
		node[i] = guest_create(&g, names[i], &fh[i]);
		for (uint64_t at = 0; at < 2 * SLOT; at += sizeof(buf))
			assert_int_equal(fuc_write(&g.f, node[i], fh[i], at, buf, sizeof(buf)),
					 sizeof(buf));
		assert_ok(fuc_fsync(&g.f, node[i], fh[i], false));
	}
	reload(MAPPED("1MiB", "1MiB"));
	for (unsigned int i = 0; i < 6; i++)
		assert_ok(fuc_map(&g.f, node[i / 2], i % 2 * SLOT, SLOT,
				  FUSE_SETUPMAPPING_FLAG_WRITE, i * SLOT));
	for (uint64_t at = 0; at < 6 * SLOT; at += 4096)
		w.base[at] = 1;
	guest_close(&g);
	vuc_window_close(&w);
	daemon_log_wait(&daemon_, " guest_disconnected ", 2);
}

/* A socket changes while that is being saved: the mount's other guests do not wait for it. */
static void a_socket_changes_that_is_busy(void **state)
{
	const struct vuc_config patient = { .timeout_ms = 60000 };
	struct daemon d;
	struct guest g;
	time_t begun;

	(void)state;
	begin(MAPPED("0", "1MiB"));
	d = by("socket");
	leave_mapped(&d);
	begun = time(NULL);
	reload(MAPPED("1MiB", "512KiB"));
	probe("more");
	assert_true(time(NULL) - begun < 3);
	guest_connect(&g, &d, &patient);
	assert_ok(fuc_init_default(&g.f));
	assert_int_equal(g.f.init.max_write, 512 << 10);
	guest_close(&g);
	daemon_stop(&daemon_);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mount_ends_during_a_reload),
		cmocka_unit_test(what_comes_next_changes),
		cmocka_unit_test(a_mount_that_fails_is_mended),
		cmocka_unit_test(directories_are_known_to_ovfsctl),
		cmocka_unit_test(a_socket_changes_that_is_busy),
	};

	return cmocka_run_group_tests_name("reload-ends", tests, NULL, NULL);
}
