/* SPDX-License-Identifier: Apache-2.0 */
/* Several guests on one mount, each on a socket of its own: one tree, and what one writes the
 * others read; but each with its own nodeids, and a death that is nobody else's. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Two of the same daemon, the second by its other socket. */
static struct daemon first_, second_;
static bool memory_;

static int start(void **state)
{
	(void)state;
	daemon_start(&first_, &(struct daemon_options){ .memory = memory_, .sockets = 2 });
	second_ = first_;
	snprintf(second_.socket, sizeof(second_.socket), "%.70s.1", first_.socket);
	return 0;
}

static void put(struct guest *g, uint64_t node, uint64_t fh, const char *text)
{
	assert_int_equal(fuc_write(&g->f, node, fh, 0, text, (uint32_t)strlen(text)), strlen(text));
}

static void check(struct guest *g, uint64_t node, const char *text)
{
	char buf[64] = "";
	uint64_t fh;

	assert_ok(fuc_open_file(&g->f, node, O_RDONLY, &fh));
	assert_int_equal(fuc_read(&g->f, node, fh, 0, buf, sizeof(buf)), strlen(text));
	assert_memory_equal(buf, text, strlen(text));
	assert_ok(fuc_release(&g->f, node, fh));
}

static void writes_are_seen_at_once(void **state)
{
	struct fuse_entry_out e;
	struct guest a, b;
	uint64_t node, fh;

	(void)state;
	guest_open(&a, &first_, NULL);
	guest_open(&b, &second_, NULL);
	node = guest_create(&a, "shared", &fh);
	put(&a, node, fh, "one");
	/* Neither flushed nor closed. */
	assert_ok(fuc_lookup(&b.f, FUSE_ROOT_ID, "shared", &e));
	assert_int_equal(e.attr.size, 3);
	check(&b, e.nodeid, "one");
	put(&a, node, fh, "three");
	check(&b, e.nodeid, "three");
	assert_ok(fuc_unlink(&b.f, FUSE_ROOT_ID, "shared"));
	assert_ok(fuc_release(&a.f, node, fh));
	guest_close(&a);
	guest_close(&b);
}

static void a_death_is_nobody_elses(void **state)
{
	struct fuse_entry_out e;
	struct guest a, b;
	uint64_t node, fh, other;

	(void)state;
	guest_open(&a, &first_, NULL);
	guest_open(&b, &second_, NULL);
	node = guest_create(&b, "kept", &fh);
	put(&b, node, fh, "before");
	for (int i = 0; i < 3; i++) {
		assert_ok(fuc_lookup(&a.f, FUSE_ROOT_ID, "kept", &e));
		assert_ok(fuc_open_file(&a.f, e.nodeid, O_RDONLY, &other));
		guest_close(&a); /* with a file open */
		put(&b, node, fh, "during");
		guest_open(&a, &first_, NULL);
	}
	check(&b, node, "during");
	assert_ok(fuc_release(&b.f, node, fh));
	guest_close(&b);
	/* And the other way round. */
	assert_ok(fuc_lookup(&a.f, FUSE_ROOT_ID, "kept", &e));
	check(&a, e.nodeid, "during");
	assert_ok(fuc_unlink(&a.f, FUSE_ROOT_ID, "kept"));
	guest_close(&a);
}

static void a_socket_has_one_guest_at_a_time(void **state)
{
	struct vuc waiting = { .sock = -1 };
	struct guest a, b;

	(void)state;
	guest_open(&a, &first_, NULL);
	/* Connects, for there is a backlog, and is not served. */
	assert_ok(vuc_connect(&waiting, first_.socket, 1000));
	guest_open(&b, &second_, NULL);
	guest_close(&b);
	close(waiting.sock);
	guest_close(&a);
	guest_probe(&first_);
	guest_probe(&second_);
}

/* Both sockets are removed. */
static void the_daemon_ends_well(void **state)
{
	char first[100], second[100];

	(void)state;
	snprintf(first, sizeof(first), "%s", first_.socket);
	snprintf(second, sizeof(second), "%s", second_.socket);
	daemon_stop(&first_);
	assert_int_equal(access(first, F_OK), -1);
	assert_int_equal(access(second, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_are_seen_at_once),
		cmocka_unit_test(a_death_is_nobody_elses),
		cmocka_unit_test(a_socket_has_one_guest_at_a_time),
		cmocka_unit_test(the_daemon_ends_well),
	};
	int failed = cmocka_run_group_tests_name("directory", tests, start, NULL);

	memory_ = true;
	return failed + cmocka_run_group_tests_name("objects", tests, start, NULL);
}
