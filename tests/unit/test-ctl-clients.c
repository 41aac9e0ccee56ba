/* SPDX-License-Identifier: Apache-2.0 */
/* Who is on the control socket: garbage, too many, somebody else. */
#include "ctl-fixture.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_garbage(void **state)
{
	static const char *const lines[] = {
		"",
		"{",
		"null",
		"[]",
		"7",
		"\"status\"",
		"{}",
		"{\"command\": null}",
		"{\"command\": 7}",
		"{\"command\": \"status\"} {\"command\": \"status\"}",
		"{\"command\": \"status\", \"command\": \"flush\"}",
		"{\"command\": \"\\u0000\"}",
		"{\"command\": \"stat\\u00fcs\"}",
		"{\"command\": \"st\xff\"}",
		"GET / HTTP/1.1\r",
	};
	struct world *w = *state;
	unsigned char noise[3000];
	char *deep = malloc(16000);
	uint32_t seed = 1;
	int fd = dial(w);
	json_t *a;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		a = ask_on(fd, lines[i]);
		if (is_ok(a))
			fail_msg("accepted: %s", lines[i]);
		json_decref(a);
	}
	memset(deep, '[', 15999);
	deep[15999] = '\0';
	a = ask_on(fd, deep);
	assert_false(is_ok(a));
	json_decref(a);
	close(fd);
	for (unsigned round = 0; round < 200; round++) {
		size_t len = 1 + round * 14;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			noise[i] = (unsigned char)(seed >> 24);
		}
		noise[len - 1] = '\n';
		fd = dial(w);
		say_bytes(fd, noise, len);
		a = hear(fd);
		assert_false(is_ok(a));
		json_decref(a);
		close(fd);
	}
	/* A line without an end. */
	fd = dial(w);
	memset(deep, ' ', 15999);
	say_bytes(fd, deep, 15999);
	say_bytes(fd, deep, 16384 - 15999);
	a = hear(fd);
	assert_false(is_ok(a));
	json_decref(a);
	assert_null(hear(fd));
	close(fd);
	free(deep);
	expect(w, "{\"command\": \"status\"}", true);
}

/* More connections than there may be: the rest is turned away, and later ones are not. */
static void test_many_connections(void **state)
{
	struct world *w = *state;
	int fds[32];
	json_t *a;
	int fd;

	for (unsigned i = 0; i < 32; i++) {
		fds[i] = dial(w);
		a = ask_on(fds[i], "{\"command\": \"log-level\"}");
		json_decref(a);
	}
	fd = dial(w);
	assert_null(hear(fd));
	close(fd);
	for (unsigned i = 0; i < 32; i++)
		close(fds[i]);
	for (;;) {
		fd = dial(w);
		send(fd, "{\"command\": \"log-level\"}\n", 25, MSG_NOSIGNAL);
		a = hear(fd);
		close(fd);
		if (a)
			break;
	}
	json_decref(a);
}

/* Whether somebody with that group, and another beside it, is answered. */
static bool other_user_is_served(const struct world *w, gid_t gid, gid_t beside)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct sockaddr_un addr = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char c;

		strcpy(addr.sun_path, w->path);
		if (setgroups(1, &beside) || setgid(gid) || setuid(65534) ||
		    connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
			_exit(2);
		send(fd, "{\"command\": \"status\"}\n", 22, MSG_NOSIGNAL);
		_exit(recv(fd, &c, 1, 0) > 0 ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_in_range(WEXITSTATUS(status), 0, 1);
	return WEXITSTATUS(status);
}

static void test_other_user(void **state)
{
	struct world *w = *state;

	if (geteuid() != 0)
		skip();
	/* Whatever became of the file's mode. */
	assert_int_equal(chmod(w->dir, 0755) | chmod(w->path, 0666), 0);
	assert_false(other_user_is_served(w, 65534, 65534));
	assert_true(other_user_is_served(w, TEST_GID, 65534));
	assert_true(other_user_is_served(w, 65534, TEST_GID));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_garbage),
		CASE(test_many_connections),
		CASE(test_other_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
