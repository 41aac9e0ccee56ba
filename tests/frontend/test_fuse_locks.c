/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX and flock locks: a waiting one occupies nothing and can be called off. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static struct daemon daemon_;
static struct guest guest_;
static uint64_t node, fh;

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){
				       .log_level = "info",
				       .extra = "[worker_settings]\nthreads = 2",
			       });
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	guest_probe(&daemon_);
	daemon_stop(&daemon_);
}

static int mount_it(void **state)
{
	(void)state;
	guest_open(&guest_, &daemon_, NULL);
	assert_true(guest_.f.init_flags & FUSE_POSIX_LOCKS);
	node = guest_create(&guest_, "file", &fh);
	return 0;
}

static int umount_it(void **state)
{
	(void)state;
	assert_int_equal(guest_.f.violations, 0);
	guest_close(&guest_);
	daemon_wipe(&daemon_);
	return 0;
}

static int set(uint64_t owner, uint32_t type, uint64_t start, uint64_t end)
{
	struct fuse_file_lock lk = { .start = start, .end = end, .type = type, .pid = 1 };

	return fuc_lock(&guest_.f, FUSE_SETLK, node, fh, owner, &lk, 0);
}

static struct fuc_req *wait_for(uint64_t owner, uint32_t type, uint32_t flags)
{
	struct fuse_file_lock lk = { .end = INT64_MAX, .type = type, .pid = 1 };
	struct fuc_req *r = fuc_lock_submit(&guest_.f, node, fh, owner, &lk, flags);

	assert_non_null(r);
	return r;
}

static void locks_conflict_between_owners(void **state)
{
	struct fuse_file_lock lk = { .start = 15, .end = 15, .type = F_WRLCK, .pid = 1 };

	(void)state;
	assert_ok(set(1, F_WRLCK, 10, 19));
	assert_ok(set(1, F_RDLCK, 12, 13));
	assert_int_equal(set(2, F_WRLCK, 0, 10), -EAGAIN);
	assert_ok(set(2, F_RDLCK, 12, 13));
	assert_ok(set(2, F_WRLCK, 20, 29));
	assert_ok(fuc_lock(&guest_.f, FUSE_GETLK, node, fh, 2, &lk, 0));
	assert_int_equal(lk.type, F_WRLCK);
	assert_int_equal(lk.start, 14);
	assert_int_equal(lk.end, 19);
	assert_ok(set(1, F_UNLCK, 0, INT64_MAX));
	lk = (struct fuse_file_lock){ .start = 15, .end = 15, .type = F_WRLCK };
	assert_ok(fuc_lock(&guest_.f, FUSE_GETLK, node, fh, 2, &lk, 0));
	assert_int_equal(lk.type, F_UNLCK);
	/* FLUSH of the owner, which is close(), drops what the owner has. */
	assert_ok(fuc_flush(&guest_.f, node, fh, 2));
	assert_ok(set(3, F_WRLCK, 0, INT64_MAX));
	assert_ok(set(3, F_UNLCK, 0, INT64_MAX));
}

static void a_waiting_lock_occupies_nothing(void **state)
{
	struct fuc_req *r[20];
	uint8_t buf[8];

	(void)state;
	assert_ok(set(1, F_WRLCK, 0, INT64_MAX));
	/* More than there are workers. */
	for (unsigned int i = 0; i < 20; i++)
		r[i] = wait_for(100 + i, F_RDLCK, 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(fuc_write(&guest_.f, node, fh, 0, "going on", 8), 8);
		assert_int_equal(fuc_read(&guest_.f, node, fh, 0, buf, 8), 8);
		assert_ok(fuc_fsync(&guest_.f, node, fh, true));
	}
	for (unsigned int i = 0; i < 20; i++)
		assert_false(fuc_test(r[i]));
	assert_ok(set(1, F_UNLCK, 0, INT64_MAX));
	for (unsigned int i = 0; i < 20; i++) {
		assert_ok(fuc_wait(r[i], 5000));
		assert_int_equal(r[i]->error, 0);
		fuc_done(r[i]);
		assert_ok(set(100 + i, F_UNLCK, 0, INT64_MAX));
	}
}

static void interrupt_ends_the_wait(void **state)
{
	struct fuc_req *r, *other;

	(void)state;
	assert_ok(set(1, F_WRLCK, 0, INT64_MAX));
	r = wait_for(2, F_WRLCK, 0);
	other = wait_for(3, F_WRLCK, 0);
	assert_int_equal(fuc_wait(r, 50), -ETIMEDOUT);
	assert_ok(fuc_interrupt(&guest_.f, r->unique));
	assert_ok(fuc_wait(r, 5000));
	assert_int_equal(r->error, -EINTR);
	fuc_done(r);
	assert_int_equal(fuc_wait(other, 50), -ETIMEDOUT);
	/* Nobody waits for these: no answer, no harm. */
	assert_ok(fuc_interrupt(&guest_.f, 0x7777));
	assert_ok(set(1, F_UNLCK, 0, INT64_MAX));
	assert_ok(fuc_wait(other, 5000));
	assert_int_equal(other->error, 0);
	fuc_done(other);
	/* The interrupted one did not get the lock after all. */
	assert_ok(set(3, F_UNLCK, 0, INT64_MAX));
	assert_ok(set(4, F_WRLCK, 0, INT64_MAX));
	assert_ok(set(4, F_UNLCK, 0, INT64_MAX));
}

static void unlocking_by_close_wakes_waiters(void **state)
{
	struct fuc_req *r;

	(void)state;
	assert_ok(set(1, F_WRLCK, 0, INT64_MAX));
	r = wait_for(2, F_WRLCK, 0);
	assert_int_equal(fuc_wait(r, 20), -ETIMEDOUT);
	assert_ok(fuc_flush(&guest_.f, node, fh, 1));
	assert_ok(fuc_wait(r, 5000));
	assert_int_equal(r->error, 0);
	fuc_done(r);
}

static void the_host_holding_a_lock_is_respected(void **state)
{
	struct flock lk = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct fuc_req *r;
	int fd = open(daemon_path(&daemon_, "file"), O_RDWR);

	(void)state;
	assert_ok(fcntl(fd, F_SETLK, &lk));
	assert_int_equal(set(1, F_WRLCK, 0, 10), -EAGAIN);
	r = wait_for(1, F_WRLCK, 0);
	assert_int_equal(fuc_wait(r, 50), -ETIMEDOUT);
	assert_ok(fuc_getattr(&guest_.f, node, NULL));
	close(fd);
	assert_ok(fuc_wait(r, 5000));
	assert_int_equal(r->error, 0);
	fuc_done(r);
}

static void flock_is_by_handle(void **state)
{
	struct fuse_file_lock lk = { .end = INT64_MAX, .type = F_WRLCK };
	struct fuc_req *r;
	uint64_t other;
	int fd = open(daemon_path(&daemon_, "file"), O_RDWR);

	(void)state;
	assert_ok(fuc_open_file(&guest_.f, node, O_RDWR, &other));
	assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, fh, 1, &lk, FUSE_LK_FLOCK));
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(fuc_lock(&guest_.f, FUSE_SETLK, node, other, 2, &lk, FUSE_LK_FLOCK),
			 -EAGAIN);
	r = fuc_lock_submit(&guest_.f, node, other, 2, &lk, FUSE_LK_FLOCK);
	assert_non_null(r);
	assert_int_equal(fuc_wait(r, 50), -ETIMEDOUT);
	assert_ok(fuc_release(&guest_.f, node, fh));
	assert_ok(fuc_wait(r, 5000));
	assert_int_equal(r->error, 0);
	fuc_done(r);
	lk.type = F_UNLCK;
	assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, other, 2, &lk, FUSE_LK_FLOCK));
	assert_ok(flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}

static void a_guest_that_goes_leaves_no_locks(void **state)
{
	struct fuse_file_lock lk = { .end = INT64_MAX, .type = F_WRLCK };
	int fd;
	struct flock host = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	(void)state;
	assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, fh, 1, &lk, 0));
	for (unsigned int i = 0; i < 8; i++)
		wait_for(50 + i, F_WRLCK, 0);
	/* With eight requests waiting for what never comes. */
	guest_close(&guest_);
	guest_open(&guest_, &daemon_, NULL);
	fd = open(daemon_path(&daemon_, "file"), O_RDWR);
	assert_ok(fcntl(fd, F_SETLK, &host));
	close(fd);
}

static void destroy_calls_the_waiters_off(void **state)
{
	struct fuc_req *r[4];

	(void)state;
	assert_ok(set(1, F_WRLCK, 0, INT64_MAX));
	for (unsigned int i = 0; i < 4; i++)
		r[i] = wait_for(50 + i, F_WRLCK, 0);
	assert_int_equal(fuc_wait(r[0], 20), -ETIMEDOUT);
	assert_ok(fuc_destroy(&guest_.f));
	for (unsigned int i = 0; i < 4; i++) {
		assert_ok(fuc_wait(r[i], 5000));
		assert_true(r[i]->error < 0);
		fuc_done(r[i]);
	}
	assert_ok(fuc_init_default(&guest_.f));
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	assert_true(set(1, 77, 0, 10) < 0);
	assert_true(set(1, F_WRLCK, 10, 9) < 0);
	assert_true(set(1, F_WRLCK, UINT64_MAX - 5, UINT64_MAX) < 0);
}

#define lock_test(f) cmocka_unit_test_setup_teardown(f, mount_it, umount_it)

int main(void)
{
	const struct CMUnitTest tests[] = {
		lock_test(locks_conflict_between_owners),
		lock_test(a_waiting_lock_occupies_nothing),
		lock_test(interrupt_ends_the_wait),
		lock_test(unlocking_by_close_wakes_waiters),
		lock_test(the_host_holding_a_lock_is_respected),
		lock_test(flock_is_by_handle),
		lock_test(a_guest_that_goes_leaves_no_locks),
		lock_test(destroy_calls_the_waiters_off),
		lock_test(nonsense_is_refused),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("locks", tests, set_up, NULL);
}
