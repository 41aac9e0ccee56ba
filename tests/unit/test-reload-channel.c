/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the two halves arrive whole, with their descriptors, or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "channel.h"

static int ends[2];
static struct channel_message out, in;
static int sent[CHANNEL_FDS_MAX], got[CHANNEL_FDS_MAX];

static int set_up(void **state)
{
	(void)state;
	memset(&out, 0, sizeof(out));
	memset(&in, 0xff, sizeof(in));
	return channel_new(ends) ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(ends[0]);
	close(ends[1]);
	return 0;
}

static void words_arrive(void **state)
{
	(void)state;
	assert_int_equal(channel_receive(ends[1], &in, got), -EAGAIN);
	assert_int_equal(channel_tell(ends[0], CHANNEL_REJECTED, "a.toml:3: wrong"), 0);
	assert_int_equal(channel_tell(ends[0], CHANNEL_ALIVE, NULL), 0);
	assert_int_equal(channel_receive(ends[1], &in, got), 0);
	assert_int_equal(in.type, CHANNEL_REJECTED);
	assert_string_equal(in.text, "a.toml:3: wrong");
	assert_int_equal(channel_receive(ends[1], &in, got), 0);
	assert_int_equal(in.type, CHANNEL_ALIVE);
	assert_string_equal(in.text, "");
}

static void as_many_descriptors_as_there_may_be(void **state)
{
	struct stat a, b;

	(void)state;
	out.type = CHANNEL_RELOAD;
	out.fd_count = CHANNEL_FDS_MAX;
	for (unsigned i = 0; i < CHANNEL_FDS_MAX; i++) {
		out.fd[i] = (struct channel_fd){ (uint16_t)i, CHANNEL_SNAPSHOT };
		sent[i] = open(i % 2 ? "/dev/null" : "/dev/zero", O_RDONLY | O_CLOEXEC);
		assert_true(sent[i] >= 0);
	}
	assert_int_equal(channel_send(ends[0], &out, sent), 0);
	assert_int_equal(channel_receive(ends[1], &in, got), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	for (unsigned i = 0; i < CHANNEL_FDS_MAX; i++) {
		assert_int_equal(fstat(sent[i], &a), 0);
		assert_int_equal(fstat(got[i], &b), 0);
		assert_int_equal(a.st_rdev, b.st_rdev);
		assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
		close(sent[i]);
		close(got[i]);
	}
	out.fd_count++;
	assert_int_equal(channel_send(ends[0], &out, sent), -E2BIG);
}

static void what_is_no_message_is_refused(void **state)
{
	(void)state;
	assert_int_equal(send(ends[0], "short", 5, 0), 5);
	assert_int_equal(channel_receive(ends[1], &in, got), -EPROTO);
	/* It says that there are descriptors, and has none. */
	out.type = CHANNEL_RELOAD;
	out.fd_count = 3;
	assert_int_equal(send(ends[0], &out, sizeof(out), 0), sizeof(out));
	assert_int_equal(channel_receive(ends[1], &in, got), -EPROTO);
	/* And text without an end. */
	out.fd_count = 0;
	memset(out.text, 'x', sizeof(out.text));
	assert_int_equal(send(ends[0], &out, sizeof(out), 0), sizeof(out));
	assert_int_equal(channel_receive(ends[1], &in, got), 0);
	assert_int_equal(strlen(in.text), sizeof(in.text) - 1);
}

static void the_end_is_told(void **state)
{
	(void)state;
	assert_int_equal(shutdown(ends[0], SHUT_RDWR), 0);
	assert_int_equal(channel_receive(ends[1], &in, got), -ECONNRESET);
	/* Nobody is there; no signal, either. */
	assert_int_equal(channel_tell(ends[1], CHANNEL_ALIVE, NULL), -EPIPE);
	assert_int_equal(channel_tell(-1, CHANNEL_ALIVE, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(words_arrive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(as_many_descriptors_as_there_may_be, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_message_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_end_is_told, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("reload-channel", tests, NULL, NULL);
}
