/* SPDX-License-Identifier: Apache-2.0 */
/* INIT, DESTROY, the life of node ids, and connections that come and go. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct daemon daemon_;

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){ .log_level = "info" });
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	daemon_stop(&daemon_);
}

static void every_minor_from_27_to_45_is_spoken(void **state)
{
	(void)state;
	for (uint32_t minor = 27; minor <= 46; minor++) {
		struct guest g;
		struct fuse_entry_out e;

		guest_connect(&g, &daemon_, NULL);
		assert_ok(fuc_init(&g.f, minor, fuc_default_init_flags()));
		assert_int_equal(g.f.init.major, 7);
		/* The client uses the smaller one; a server may not claim more than it has. */
		assert_true(g.f.init.minor >= 27 && g.f.init.minor <= 45);
		assert_true(g.f.init.max_write >= 4096);
		/* Nothing that was not offered comes back. */
		assert_int_equal(g.f.init.flags & ~(uint32_t)fuc_default_init_flags(), 0);
		if (minor < 36)
			assert_int_equal(g.f.init.flags & FUSE_INIT_EXT, 0);
		assert_ok(fuc_mkdir(&g.f, FUSE_ROOT_ID, "dir", 0700, &e));
		assert_ok(fuc_rmdir(&g.f, FUSE_ROOT_ID, "dir"));
		/* The second word counts only with INIT_EXT, which is as old as 7.36. */
		if (minor >= 36 && minor <= 45)
			assert_true(g.f.init.flags & FUSE_INIT_EXT);
		guest_close(&g);
	}
}

static void flags_that_help_are_taken(void **state)
{
	const uint64_t wanted = FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS |
				FUSE_AUTO_INVAL_DATA | FUSE_ATOMIC_O_TRUNC | FUSE_SETXATTR_EXT |
				FUSE_HANDLE_KILLPRIV_V2 | FUSE_INIT_EXT | FUSE_ASYNC_READ |
				FUSE_BIG_WRITES;
	struct guest g;

	(void)state;
	guest_connect(&g, &daemon_, NULL);
	assert_ok(fuc_init_default(&g.f));
	assert_int_equal(g.f.init_flags & wanted, wanted);
	assert_true(g.f.init.max_write >= 1 << 20);
	assert_true(g.f.init.max_pages >= 256);
	/* Without MAX_PAGES a request is 128 KiB at most. */
	assert_ok(fuc_init(&g.f, 45, fuc_default_init_flags() & ~(uint64_t)FUSE_MAX_PAGES));
	assert_int_equal(g.f.init_flags & FUSE_MAX_PAGES, 0);
	/* A guest that offers nothing gets nothing. */
	assert_ok(fuc_init(&g.f, 45, 0));
	assert_int_equal(g.f.init_flags, 0);
	guest_close(&g);
}

static int init_raw(struct guest *g, uint32_t major, uint32_t minor, uint32_t len,
		    struct fuse_init_out *out, size_t *got)
{
	struct fuse_init_in in = { .major = major, .minor = minor, .max_readahead = 131072 };
	struct fuc_call call = {
		.opcode = FUSE_INIT,
		.in = { { &in, len } },
		.out_cap = sizeof(*out),
	};

	memset(out, 0, sizeof(*out));
	return fuc_call(&g->f, &call, out, sizeof(*out), got);
}

static void other_majors_are_told_ours(void **state)
{
	struct fuse_init_out out;
	struct guest g;
	size_t got;
	int err;

	(void)state;
	guest_connect(&g, &daemon_, NULL);
	/* A newer kernel: answer with 7 and wait for another INIT. */
	assert_ok(init_raw(&g, 8, 0, 64, &out, &got));
	assert_int_equal(out.major, 7);
	assert_ok(fuc_init_default(&g.f));
	/* Older ones cannot be served. */
	err = init_raw(&g, 6, 0, 64, &out, &got);
	assert_true(err == -EPROTO || err == -EINVAL || err == -EPROTONOSUPPORT);
	err = init_raw(&g, 7, 26, 16, &out, &got);
	assert_true(err == -EPROTO || err == -EINVAL || err == -EPROTONOSUPPORT);
	for (uint32_t len = 1; len < 16; len++)
		assert_true(init_raw(&g, 7, 45, len, &out, &got) < 0);
	assert_ok(fuc_init_default(&g.f));
	assert_int_equal(g.f.violations, 0);
	guest_close(&g);
}

static void nothing_is_served_before_init(void **state)
{
	struct fuse_entry_out e;
	struct guest g;
	uint64_t fh;

	(void)state;
	guest_connect(&g, &daemon_, NULL);
	assert_true(fuc_getattr(&g.f, FUSE_ROOT_ID, NULL) < 0);
	assert_true(fuc_lookup(&g.f, FUSE_ROOT_ID, "x", &e) < 0);
	assert_true(fuc_opendir(&g.f, FUSE_ROOT_ID, &fh) < 0);
	assert_ok(fuc_forget(&g.f, 5, 1));
	assert_ok(fuc_init_default(&g.f));
	assert_ok(fuc_getattr(&g.f, FUSE_ROOT_ID, NULL));
	assert_int_equal(g.f.violations, 0);
	guest_close(&g);
}

static void destroy_then_init_begins_anew(void **state)
{
	struct guest g;
	unsigned int fds;
	char buf[10];

	(void)state;
	guest_open(&g, &daemon_, NULL);
	fds = daemon_fd_count(&daemon_);
	for (int i = 0; i < 20; i++) {
		uint64_t fh, dh, node = guest_create(&g, "file", &fh);

		assert_ok(fuc_opendir(&g.f, FUSE_ROOT_ID, &dh));
		assert_ok(fuc_destroy(&g.f));
		assert_true(fuc_getattr(&g.f, FUSE_ROOT_ID, NULL) < 0);
		assert_ok(fuc_init_default(&g.f));
		/* Nodes and handles of the former life are gone, and so are their files. */
		assert_true(fuc_getattr(&g.f, node, NULL) < 0);
		assert_true(fuc_read(&g.f, node, fh, 0, buf, 10) < 0);
		assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "file"));
	}
	/* An INIT without a DESTROY is the same. */
	for (int i = 0; i < 20; i++) {
		uint64_t fh, node = guest_create(&g, "file", &fh);

		assert_ok(fuc_init_default(&g.f));
		assert_true(fuc_getattr(&g.f, node, NULL) < 0);
		assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "file"));
	}
	assert_true(daemon_fd_settle(&daemon_, fds) <= fds);
	assert_int_equal(g.f.violations, 0);
	guest_close(&g);
}

static void forgets_release_nodes(void **state)
{
	struct fuse_forget_one list[50];
	struct guest g;
	struct fuse_entry_out e;
	unsigned int fds;
	char name[32];

	(void)state;
	guest_open(&g, &daemon_, NULL);
	fds = daemon_fd_count(&daemon_);
	for (unsigned int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "dir%u", i);
		assert_ok(fuc_mkdir(&g.f, FUSE_ROOT_ID, name, 0700, &e));
		for (unsigned int k = 0; k < i; k++)
			assert_ok(fuc_lookup(&g.f, FUSE_ROOT_ID, name, &e));
		list[i] = (struct fuse_forget_one){ .nodeid = e.nodeid, .nlookup = i };
	}
	/* All but one reference each: the nodes are still known. */
	assert_ok(fuc_batch_forget(&g.f, list, 50));
	for (unsigned int i = 0; i < 50; i++)
		assert_ok(fuc_getattr(&g.f, list[i].nodeid, NULL));
	for (unsigned int i = 0; i < 50; i++)
		list[i].nlookup = 1;
	assert_ok(fuc_batch_forget(&g.f, list, 50));
	for (unsigned int i = 0; i < 50; i++) {
		assert_true(fuc_getattr(&g.f, list[i].nodeid, NULL) < 0);
		snprintf(name, sizeof(name), "dir%u", i);
		assert_ok(fuc_rmdir(&g.f, FUSE_ROOT_ID, name));
	}
	assert_true(daemon_fd_settle(&daemon_, fds) <= fds);
	guest_close(&g);
}

static void memory_of_forgotten_nodes_comes_back(void **state)
{
	struct guest g;
	struct fuse_entry_out e;
	long before;
	char name[32];

	(void)state;
	guest_open(&g, &daemon_, NULL);
	for (unsigned int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_ok(fuc_mkdir(&g.f, FUSE_ROOT_ID, name, 0700, &e));
		assert_ok(fuc_forget(&g.f, e.nodeid, 1));
	}
	before = daemon_rss_kib(&daemon_);
	for (unsigned int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "f%u", i % 200);
		assert_ok(fuc_lookup(&g.f, FUSE_ROOT_ID, name, &e));
		assert_ok(fuc_forget(&g.f, e.nodeid, 1));
	}
	/* A sanitizer's quarantine grows to its limit; what leaks, it reports at the end. */
	if (!getenv("ASAN_OPTIONS"))
		assert_true(daemon_rss_kib(&daemon_) < before + 2048);
	guest_close(&g);
	daemon_wipe(&daemon_);
}

static void a_thousand_guests_one_after_the_other(void **state)
{
	unsigned int fds, threads_fds;
	struct guest g;

	(void)state;
	guest_probe(&daemon_);
	fds = daemon_fd_settle(&daemon_, 0);
	for (int i = 0; i < 1000; i++) {
		struct vuc_config cfg = { .queues = 2 + (unsigned int)i % 3,
					  .queue_size = 64,
					  .packed = i & 1,
					  .indirect = true,
					  .event_idx = i & 2,
					  .mem_size = 16 << 20 };

		guest_open(&g, &daemon_, &cfg);
		if (i % 10 == 0) {
			uint64_t fh, node = guest_create(&g, "file", &fh);

			assert_int_equal(fuc_write(&g.f, node, fh, 0, "x", 1), 1);
		}
		guest_close(&g);
	}
	guest_probe(&daemon_);
	threads_fds = daemon_fd_settle(&daemon_, fds);
	assert_true(threads_fds <= fds);
	daemon_wipe(&daemon_);
}

static void half_connections_are_harmless(void **state)
{
	unsigned int fds;

	(void)state;
	guest_probe(&daemon_);
	fds = daemon_fd_settle(&daemon_, 0);
	/* Going away after each step of the set-up. */
	for (int round = 0; round < 20; round++)
		for (int step = 0; step < 5; step++) {
			struct vuc c;

			assert_ok(vuc_init(&c, &guest_default));
			assert_ok(vuc_connect(&c, daemon_.socket, 5000));
			if (step > 0)
				assert_ok(vuc_negotiate(&c));
			if (step > 1)
				assert_ok(vuc_set_u64(&c, VUC_SET_FEATURES, c.features));
			if (step > 2)
				assert_ok(vuc_mem_table(&c));
			if (step > 3) {
				assert_ok(vuc_queue_setup(&c, 1));
				assert_ok(vuc_queue_start(&c, 1));
			}
			vuc_close(&c);
		}
	guest_probe(&daemon_);
	assert_true(daemon_fd_settle(&daemon_, fds) <= fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_minor_from_27_to_45_is_spoken),
		cmocka_unit_test(flags_that_help_are_taken),
		cmocka_unit_test(other_majors_are_told_ours),
		cmocka_unit_test(nothing_is_served_before_init),
		cmocka_unit_test(destroy_then_init_begins_anew),
		cmocka_unit_test(forgets_release_nodes),
		cmocka_unit_test(memory_of_forgotten_nodes_comes_back),
		cmocka_unit_test(a_thousand_guests_one_after_the_other),
		cmocka_unit_test(half_connections_are_harmless),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("session", tests, set_up, NULL);
}
