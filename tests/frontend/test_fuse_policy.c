/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration decides: read-only, caching, polling; and the borders of the root. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct daemon daemon_;
static struct guest guest_;

static void begin(const struct daemon_options *o)
{
	daemon_start(&daemon_, o);
}

/* Each test has a configuration, and so a daemon, of its own. */
static int end(void **state)
{
	(void)state;
	if (guest_.d)
		guest_close(&guest_);
	daemon_stop(&daemon_);
	return 0;
}

static void finish(void)
{
	assert_int_equal(guest_.f.violations, 0);
	guest_close(&guest_);
	daemon_stop(&daemon_);
}

static void host_file(const char *name, const char *text)
{
	int fd = open(daemon_path(&daemon_, name), O_CREAT | O_WRONLY, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void read_only_changes_nothing(void **state)
{
	struct fuse_setattr_in attr = { .valid = FATTR_MODE, .mode = S_IFREG | 0600 };
	struct fuse_entry_out e, made;
	char buf[16];
	uint64_t fh;

	(void)state;
	begin(&(struct daemon_options){ .storage = "readonly = true" });
	host_file("file", "content");
	guest_open(&guest_, &daemon_, NULL);
	assert_ok(fuc_lookup(&guest_.f, FUSE_ROOT_ID, "file", &e));
	assert_ok(fuc_open_file(&guest_.f, e.nodeid, O_RDONLY, &fh));
	assert_int_equal(fuc_read(&guest_.f, e.nodeid, fh, 0, buf, sizeof(buf)), 7);
	assert_true(fuc_write(&guest_.f, e.nodeid, fh, 0, "x", 1) < 0);
	assert_true(fuc_fallocate(&guest_.f, e.nodeid, fh, 0, 10, 0) < 0);
	assert_ok(fuc_release(&guest_.f, e.nodeid, fh));
	assert_int_equal(fuc_open_file(&guest_.f, e.nodeid, O_RDWR, &fh), -EROFS);
	assert_int_equal(fuc_open_file(&guest_.f, e.nodeid, O_RDONLY | O_TRUNC, &fh), -EROFS);
	assert_int_equal(
		fuc_create(&guest_.f, FUSE_ROOT_ID, "new", O_RDWR | O_CREAT, 0100644, &made, &fh),
		-EROFS);
	assert_int_equal(fuc_mkdir(&guest_.f, FUSE_ROOT_ID, "dir", 0700, &made), -EROFS);
	assert_int_equal(fuc_mknod(&guest_.f, FUSE_ROOT_ID, "n", S_IFREG, 0, &made), -EROFS);
	assert_int_equal(fuc_symlink(&guest_.f, FUSE_ROOT_ID, "s", "t", &made), -EROFS);
	assert_int_equal(fuc_link(&guest_.f, e.nodeid, FUSE_ROOT_ID, "l", &made), -EROFS);
	assert_int_equal(fuc_unlink(&guest_.f, FUSE_ROOT_ID, "file"), -EROFS);
	assert_int_equal(fuc_rmdir(&guest_.f, FUSE_ROOT_ID, "file"), -EROFS);
	assert_int_equal(fuc_rename(&guest_.f, FUSE_ROOT_ID, "file", FUSE_ROOT_ID, "x"), -EROFS);
	assert_int_equal(fuc_setattr(&guest_.f, e.nodeid, &attr, NULL), -EROFS);
	assert_int_equal(fuc_setxattr(&guest_.f, e.nodeid, "user.x", "y", 1, 0), -EROFS);
	assert_int_equal(fuc_removexattr(&guest_.f, e.nodeid, "user.x"), -EROFS);
	assert_int_equal(fuc_tmpfile(&guest_.f, FUSE_ROOT_ID, O_RDWR, 0100600, &made, &fh), -EROFS);
	finish();
}

static void symlinks_are_the_guests_to_follow(void **state)
{
	struct fuse_entry_out link, e;
	char buf[64];
	uint64_t fh;

	(void)state;
	begin(NULL);
	assert_ok(symlink("/etc/passwd", daemon_path(&daemon_, "outside")));
	assert_ok(symlink("/", daemon_path(&daemon_, "slash")));
	guest_open(&guest_, &daemon_, NULL);
	assert_ok(fuc_lookup(&guest_.f, FUSE_ROOT_ID, "outside", &link));
	assert_true(S_ISLNK(link.attr.mode));
	/* As a file it is none: nothing is opened, listed or changed through it. */
	assert_true(fuc_open_file(&guest_.f, link.nodeid, O_RDONLY, &fh) < 0);
	assert_int_equal(fuc_readlink(&guest_.f, link.nodeid, buf, sizeof(buf)), 11);
	assert_ok(fuc_lookup(&guest_.f, FUSE_ROOT_ID, "slash", &link));
	assert_true(fuc_lookup(&guest_.f, link.nodeid, "etc", &e) < 0);
	assert_true(fuc_opendir(&guest_.f, link.nodeid, &fh) < 0);
	assert_true(fuc_mkdir(&guest_.f, link.nodeid, "ovfs-escaped", 0700, &e) < 0);
	assert_true(fuc_create(&guest_.f, FUSE_ROOT_ID, "outside", O_RDWR | O_CREAT, 0100644, &e,
			       &fh) < 0);
	assert_int_equal(access("/ovfs-escaped", F_OK), -1);
	finish();
}

static void a_directory_replaced_by_a_link_leads_nowhere(void **state)
{
	struct fuse_entry_out dir, e;

	(void)state;
	begin(NULL);
	assert_ok(mkdir(daemon_path(&daemon_, "dir"), 0755));
	guest_open(&guest_, &daemon_, NULL);
	assert_ok(fuc_lookup(&guest_.f, FUSE_ROOT_ID, "dir", &dir));
	/* The node is the directory that was looked up, whatever its name leads to now. */
	assert_ok(rename(daemon_path(&daemon_, "dir"), daemon_path(&daemon_, "moved")));
	assert_ok(symlink("/etc", daemon_path(&daemon_, "dir")));
	/* Not there; an entry of node 0 says so too, with a time for which it holds. */
	if (fuc_lookup(&guest_.f, dir.nodeid, "passwd", &e) == 0)
		assert_int_equal(e.nodeid, 0);
	assert_ok(fuc_mkdir(&guest_.f, dir.nodeid, "inside", 0700, &e));
	assert_ok(access(daemon_path(&daemon_, "moved/inside"), F_OK));
	finish();
}

static void cache_policies_set_the_timeouts(void **state)
{
	static const struct {
		const char *cache;
		bool entries, attributes;
	} policies[] = { { "auto", true, true },
			 { "always", true, true },
			 { "never", false, false } };

	(void)state;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		struct fuse_entry_out e;
		char extra[64];

		snprintf(extra, sizeof(extra), "[fuse_settings]\ncache = \"%s\"",
			 policies[i].cache);
		begin(&(struct daemon_options){ .extra = extra });
		host_file("file", "x");
		guest_open(&guest_, &daemon_, NULL);
		assert_ok(fuc_lookup(&guest_.f, FUSE_ROOT_ID, "file", &e));
		assert_int_equal(e.entry_valid + e.entry_valid_nsec > 0, policies[i].entries);
		assert_int_equal(e.attr_valid + e.attr_valid_nsec > 0, policies[i].attributes);
		finish();
	}
}

static void busy_polling_serves_as_well(void **state)
{
	(void)state;
	begin(&(struct daemon_options){ .socket = "poll_us = 200" });
	for (int packed = 0; packed < 2; packed++) {
		struct vuc_config cfg = guest_default;

		cfg.packed = packed;
		guest_open(&guest_, &daemon_, &cfg);
		for (int i = 0; i < 2000; i++) {
			assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
			/* Now and then longer than it polls, so that it has gone to sleep. */
			if (i % 100 == 0)
				usleep(1000);
		}
		assert_int_equal(guest_.f.violations, 0);
		guest_close(&guest_);
	}
	daemon_stop(&daemon_);
}

static void sixty_three_queues(void **state)
{
	struct vuc_config cfg = guest_default;

	(void)state;
	begin(&(struct daemon_options){ .request_queues = 63 });
	cfg.queues = 64;
	cfg.indirect_max = 16;
	guest_open(&guest_, &daemon_, &cfg);
	assert_int_equal(guest_.c.max_queues, 64);
	for (unsigned int q = 1; q < 64; q++) {
		guest_.f.queue = q;
		assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
	}
	finish();
}

static void a_second_guest_waits_its_turn(void **state)
{
	struct guest second = { 0 };
	struct vuc c;
	uint64_t features;

	(void)state;
	begin(NULL);
	guest_open(&guest_, &daemon_, NULL);
	assert_ok(vuc_init(&c, &(struct vuc_config){ .timeout_ms = 200 }));
	assert_ok(vuc_connect(&c, daemon_.socket, 1000));
	assert_int_equal(vuc_query_u64(&c, VUC_GET_FEATURES, &features), -ETIMEDOUT);
	assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
	vuc_close(&c);
	guest_close(&guest_);
	guest_open(&second, &daemon_, NULL);
	assert_ok(fuc_getattr(&second.f, FUSE_ROOT_ID, NULL));
	guest_close(&second);
	daemon_stop(&daemon_);
}

static void sigterm_with_a_guest_connected(void **state)
{
	uint64_t fh, node;

	(void)state;
	begin(NULL);
	guest_open(&guest_, &daemon_, NULL);
	node = guest_create(&guest_, "file", &fh);
	assert_int_equal(fuc_write(&guest_.f, node, fh, 0, "data", 4), 4);
	daemon_stop(&daemon_);
	assert_true(vuc_hung_up(&guest_.c, 1000));
	guest_close(&guest_);
}

#define policy_test(f) cmocka_unit_test_teardown(f, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		policy_test(read_only_changes_nothing),
		policy_test(symlinks_are_the_guests_to_follow),
		policy_test(a_directory_replaced_by_a_link_leads_nowhere),
		policy_test(cache_policies_set_the_timeouts),
		policy_test(busy_polling_serves_as_well),
		policy_test(sixty_three_queues),
		policy_test(a_second_guest_waits_its_turn),
		policy_test(sigterm_with_a_guest_connected),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
