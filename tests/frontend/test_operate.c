/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of storage tells of itself: the control socket and the metrics, with a guest that
 * works; and goes on to when its settings were reloaded. (Numbers are looked at with a bucket, in
 * tests/service/cases_operate.py.) */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FRONT                                                                                      \
	"[ctl_settings]\nsocket_path = \"%D/ctl\"\n[metrics_settings]\nlisten = "                  \
	"\"unix:%D/metrics\"\n[[mount]]\nname = \"one\"\n[mount.socket_settings]\n"                \
	"socket_path = \"%D/socket\"\n[mount.storage_settings]\n"
#define FILES FRONT "type = \"fs\"\nroot = \"%D/root\"\n"
#define CACHED FILES "[mount.cache_settings]\nenabled_cache = true\n"

struct kind {
	const char *name, *config, *reloaded;
};

static const struct kind kinds[] = {
	{ "a directory", FILES, FILES "[mount.fuse_settings]\nattr_timeout = \"5s\"\n" },
	{ "a directory that is cached", CACHED, CACHED "read_ahead = \"1MiB\"\n" },
	{ "objects", FRONT "type = \"memory\"\n",
	  FRONT "type = \"memory\"\n[mount.limit_settings]\ndata_requests = 7\n" },
};

static struct daemon daemon_;

/* What comes back for @request until the other side has no more, or ends a line with @line. */
static void ask(const char *name, const char *request, bool line, char *answer, size_t size)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t got = 0;
	ssize_t n;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.60s/%.20s", daemon_.dir, name);
	assert_true(fd >= 0);
	assert_ok(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	while ((n = read(fd, answer + got, size - 1 - got)) > 0) {
		got += (size_t)n;
		if (line && answer[got - 1] == '\n')
			break;
	}
	answer[got] = '\0';
	close(fd);
}

static void tells(void)
{
	static char answer[256 << 10];

	ask("ctl", "{\"command\": \"status\"}\n", true, answer, sizeof(answer));
	if (!strstr(answer, "\"ok\": true") && !strstr(answer, "\"ok\":true"))
		fail_msg("status: \"%.1000s\"", answer);
	ask("metrics", "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false,
	    answer, sizeof(answer));
	assert_non_null(strstr(answer, " 200 OK"));
	assert_non_null(strstr(answer, "\novfs_requests_total{mount=\"one\""));
	if (!daemon_running(&daemon_))
		fail_msg("the daemon has died");
}

static void work(struct guest *g, const char *name)
{
	uint64_t fh, node = guest_create(g, name, &fh);

	assert_int_equal(fuc_write(&g->f, node, fh, 0, name, 4), 4);
	assert_ok(fuc_fsync(&g->f, node, fh, 0));
	assert_ok(fuc_release(&g->f, node, fh));
}

static void tells_of_itself(void **state)
{
	const struct kind *kind = *state;
	struct guest g;

	daemon_make(&daemon_);
	daemon_configure(&daemon_, kind->config, SAVE_IN_PLACE);
	daemon_restart(&daemon_);
	guest_open(&g, &daemon_, NULL);
	work(&g, "file1");
	tells();
	daemon_configure(&daemon_, kind->reloaded, SAVE_RENAMED);
	daemon_log_wait(&daemon_, " reloaded ", 1);
	work(&g, "file2");
	tells();
	guest_close(&g);
	tells();
	daemon_stop(&daemon_);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(kinds) / sizeof(kinds[0])];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		tests[i] = (struct CMUnitTest){ .name = kinds[i].name,
						.test_func = tells_of_itself,
						.initial_state = (void *)&kinds[i] };
	return cmocka_run_group_tests_name("operate", tests, NULL, NULL);
}
