/* SPDX-License-Identifier: Apache-2.0 */
/* The load generator itself: each operation, a few thousand times, every block checked. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct daemon daemon_;

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){ .log_level = "warn" });
	return 0;
}

/* Its exit status. `dir`: an argument more, or NULL. */
static int status_of(const char *op, const char *ring, const char *wait, unsigned int queues,
		     const char *dir)
{
	const char *binary = getenv("OVFS_LOAD_BIN");
	char socket[128], op_arg[32], ring_arg[32], wait_arg[32], queues_arg[32], pid_arg[32];
	int status;
	pid_t pid;

	assert_non_null(binary);
	snprintf(socket, sizeof(socket), "--socket=%s", daemon_.socket);
	snprintf(op_arg, sizeof(op_arg), "--op=%s", op);
	snprintf(ring_arg, sizeof(ring_arg), "--ring=%s", ring);
	snprintf(wait_arg, sizeof(wait_arg), "--wait=%s", wait);
	snprintf(queues_arg, sizeof(queues_arg), "--queues=%u", queues);
	snprintf(pid_arg, sizeof(pid_arg), "--pid=%d", (int)daemon_.pid);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execl(binary, binary, socket, op_arg, ring_arg, wait_arg, queues_arg, pid_arg,
		      "--json", "--verify", "--depth=8", "--count=500", "--files=200",
		      "--file-size=8M", dir, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void run(const char *op, const char *ring, const char *wait, unsigned int queues)
{
	int status = status_of(op, ring, wait, queues, NULL);

	if (status)
		fail_msg("%s, %s, %s, %u queues: status 0x%x", op, ring, wait, queues,
			 (unsigned int)status);
}

static void every_operation(void **state)
{
	static const char *const ops[] = { "randread", "randwrite", "seqread", "seqwrite",
					   "lookup",   "getattr",   "stat",    "open",
					   "create",   "readdir",   "mixed" };

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		run(ops[i], "split", "event", 1);
		run(ops[i], "packed", "event", 3);
	}
	run("mixed", "split", "poll", 2);
	run("mixed", "packed", "poll", 2);
}

static void a_directory_that_is_there(void **state)
{
	char command[512];

	(void)state;
	assert_int_not_equal(status_of("lookup", "split", "event", 1, "--dir=known"), 0);
	snprintf(command, sizeof(command),
		 "mkdir '%s/known' && cd '%s/known' && seq -f f%%06.0f 0 199"
		 " | xargs touch",
		 daemon_.root, daemon_.root);
	assert_int_equal(system(command), 0);
	assert_int_equal(status_of("lookup", "split", "event", 1, "--dir=known"), 0);
	assert_int_equal(status_of("readdirplus", "split", "event", 1, "--dir=known"), 0);
	/* It is not touched, nor is it for operations that would. */
	assert_int_not_equal(status_of("randwrite", "split", "event", 1, "--dir=known"), 0);
	snprintf(command, sizeof(command),
		 "cd '%s/known' && test $(ls | wc -l) = 200 && rm -r '%s/known'", daemon_.root,
		 daemon_.root);
	assert_int_equal(system(command), 0);
}

static void it_leaves_nothing_behind(void **state)
{
	char command[256];

	(void)state;
	snprintf(command, sizeof(command), "test -z \"$(ls -A '%s')\"", daemon_.root);
	assert_int_equal(system(command), 0);
}

static void the_daemon_ends_well(void **state)
{
	(void)state;
	guest_probe(&daemon_);
	daemon_stop(&daemon_);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation),
		cmocka_unit_test(a_directory_that_is_there),
		cmocka_unit_test(it_leaves_nothing_behind),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("load", tests, set_up, NULL);
}
