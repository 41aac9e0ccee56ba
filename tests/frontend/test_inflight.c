/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inflight tracking: the daemon is killed with requests in flight, a new one
 * takes them up from the region that the front end kept. Each is answered
 * once, none is lost.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FLIGHT 40

static struct daemon daemon_;
static struct guest guest_;

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, NULL);
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	guest_probe(&daemon_);
	daemon_stop(&daemon_);
}

static void open_it(int variant)
{
	struct vuc_config cfg = guest_default;

	cfg.packed = variant & 1;
	cfg.indirect = variant & 2;
	cfg.inflight = true;
	cfg.queue_size = 256;
	guest_open(&guest_, &daemon_, &cfg);
	assert_true(guest_.c.protocol_features & VUC_BIT(VUC_PF_INFLIGHT_SHMFD));
	assert_true(guest_.c.inflight.mmap_size > 0);
}

/* The virtual machine stays: memory, rings and region are what they were. */
static void reconnect(void)
{
	vuc_disconnect(&guest_.c);
	daemon_kill(&daemon_);
	daemon_restart(&daemon_);
	assert_ok(vuc_connect(&guest_.c, daemon_.socket, 5000));
	assert_ok(vuc_negotiate(&guest_.c));
	assert_ok(vuc_start(&guest_.c));
}

static struct fuc_req *start_fsync(uint64_t node, uint64_t fh)
{
	struct fuse_fsync_in in = { .fh = fh };

	return fuc_submit(&guest_.f, &(struct fuc_call){ .opcode = FUSE_FSYNC,
							 .nodeid = node,
							 .in = { { &in, sizeof(in) } } });
}

static void close_it(void)
{
	assert_int_equal(guest_.f.violations, 0);
	guest_close(&guest_);
	daemon_wipe(&daemon_);
}

static void waiting_requests_are_answered_by_the_next_daemon(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		struct fuse_file_lock lk = { .end = INT64_MAX, .type = F_WRLCK };
		struct fuc_req *r[FLIGHT];
		uint64_t node, fh;

		open_it(variant);
		node = guest_create(&guest_, "file", &fh);
		assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, fh, 1, &lk, 0));
		for (int i = 0; i < FLIGHT; i++) {
			r[i] = fuc_lock_submit(&guest_.f, node, fh, 10 + (uint64_t)i, &lk, 0);
			assert_non_null(r[i]);
		}
		assert_int_equal(fuc_wait(r[0], 50), -ETIMEDOUT);
		reconnect();
		/* The new one knows no such file, but it knows what it owes. */
		for (int i = 0; i < FLIGHT; i++) {
			assert_ok(fuc_wait(r[i], 5000));
			fuc_done(r[i]);
		}
		assert_int_equal(guest_.c.queues[1].in_flight, 0);
		assert_ok(fuc_init_default(&guest_.f));
		assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
		assert_int_equal(fuc_wait(r[0], 0), 0);
		close_it();
	}
}

static void a_kill_in_full_flight_loses_nothing(void **state)
{
	(void)state;
	for (int round = 0; round < 12; round++) {
		struct fuc_req *r[FLIGHT];
		uint64_t node, fh;

		open_it(round);
		node = guest_create(&guest_, "file", &fh);
		for (int lap = 0; lap < 3; lap++) {
			for (int i = 0; i < FLIGHT; i++)
				r[i] = start_fsync(node, fh);
			/* Some laps are over when it dies, some have hardly begun. */
			if (lap < 2)
				for (int i = 0; i < FLIGHT; i++) {
					assert_ok(fuc_wait(r[i], 5000));
					fuc_done(r[i]);
				}
			else
				usleep((useconds_t)(round * 40));
		}
		reconnect();
		for (int i = 0; i < FLIGHT; i++) {
			assert_ok(fuc_wait(r[i], 5000));
			fuc_done(r[i]);
		}
		assert_int_equal(guest_.c.queues[1].in_flight, 0);
		assert_ok(fuc_init_default(&guest_.f));
		for (int i = 0; i < 300; i++)
			assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
		close_it();
	}
}

static void a_region_survives_many_deaths(void **state)
{
	struct fuc_req *r[FLIGHT];

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		open_it(packed | 2);
		for (int death = 0; death < 6; death++) {
			for (int i = 0; i < FLIGHT; i++) {
				r[i] = fuc_submit(
					&guest_.f,
					&(struct fuc_call){
						.opcode = FUSE_STATFS,
						.nodeid = FUSE_ROOT_ID,
						.out_cap = sizeof(struct fuse_statfs_out) });
				assert_non_null(r[i]);
			}
			reconnect();
			for (int i = 0; i < FLIGHT; i++) {
				assert_ok(fuc_wait(r[i], 5000));
				fuc_done(r[i]);
			}
			assert_ok(fuc_init_default(&guest_.f));
		}
		close_it();
	}
}

/* A copy of the region that, unlike the daemon's, can be cut short at any time. */
static void replace_region(void)
{
	struct vuc_inflight_msg *d = &guest_.c.inflight;
	static uint8_t copy[1 << 20];
	int fd = memfd_create("inflight", MFD_CLOEXEC);

	assert_true(fd >= 0 && d->mmap_size <= sizeof(copy));
	assert_int_equal(pread(guest_.c.inflight_fd, copy, d->mmap_size, (off_t)d->mmap_offset),
			 d->mmap_size);
	assert_int_equal(pwrite(fd, copy, d->mmap_size, 0), d->mmap_size);
	close(guest_.c.inflight_fd);
	guest_.c.inflight_fd = fd;
	d->mmap_offset = 0;
}

/* The region is the front end's: it may say anything. */
static void regions_that_lie_are_harmless(void **state)
{
	uint64_t seed = 12345;

	(void)state;
	for (int round = 0; round < 40; round++) {
		struct vuc_inflight_msg *d = &guest_.c.inflight;
		uint8_t junk[4096];

		open_it(round & 3);
		for (size_t i = 0; i < sizeof(junk); i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			junk[i] = (uint8_t)(seed >> 56);
		}
		/* The header stays right in half of them, so that more of it is believed. */
		assert_true(pwrite(guest_.c.inflight_fd, junk + (round & 4 ? 0 : 16),
				   sizeof(junk) - 16,
				   (off_t)d->mmap_offset + (round & 4 ? 0 : 16)) > 0);
		replace_region();
		if (round % 5 == 4)
			assert_ok(ftruncate(guest_.c.inflight_fd, 64));
		vuc_disconnect(&guest_.c);
		assert_ok(vuc_connect(&guest_.c, daemon_.socket, 5000));
		assert_ok(vuc_negotiate(&guest_.c));
		/* It may refuse, or serve; it may not die. */
		if (vuc_start(&guest_.c) == 0) {
			guest_.f.timeout_ms = 50;
			fuc_init_default(&guest_.f);
			assert_ok(ftruncate(guest_.c.inflight_fd, 0));
			fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL);
		}
		guest_close(&guest_);
		if (!daemon_running(&daemon_))
			fail_msg("it died in round %d", round);
	}
	guest_probe(&daemon_);
}

static void descriptions_that_lie_are_harmless(void **state)
{
	static const struct vuc_inflight_msg lies[] = {
		{ .mmap_size = 0, .num_queues = 4, .queue_size = 256 },
		{ .mmap_size = 1, .num_queues = 4, .queue_size = 256 },
		{ .mmap_size = UINT64_MAX, .num_queues = 4, .queue_size = 256 },
		{ .mmap_size = 1 << 20,
		  .mmap_offset = UINT64_MAX - 4095,
		  .num_queues = 4,
		  .queue_size = 256 },
		{ .mmap_size = 1 << 20, .mmap_offset = 3, .num_queues = 4, .queue_size = 256 },
		{ .mmap_size = 1 << 20, .num_queues = 65535, .queue_size = 65535 },
		{ .mmap_size = 1 << 20, .num_queues = 0, .queue_size = 0 },
		{ .mmap_size = 1ull << 40, .num_queues = 4, .queue_size = 256 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct vuc_msg reply;

		open_it(0);
		vuc_request(&guest_.c, VUC_SET_INFLIGHT_FD, &lies[i], sizeof(lies[i]),
			    &guest_.c.inflight_fd, 1);
		guest_close(&guest_);
		open_it(0);
		if (vuc_query(&guest_.c, VUC_GET_INFLIGHT_FD, &lies[i], sizeof(lies[i]), &reply,
			      20) == 0 &&
		    i == 5)
			assert_int_equal(reply.u.inflight.mmap_size, 0);
		guest_close(&guest_);
	}
	guest_probe(&daemon_);
}

/* After a failure in the middle of a test: the next one has to find the daemon free. */
static int hang_up(void **state)
{
	(void)state;
	if (guest_.d)
		guest_close(&guest_);
	return 0;
}

#define inflight_test(f) cmocka_unit_test_teardown(f, hang_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		inflight_test(waiting_requests_are_answered_by_the_next_daemon),
		inflight_test(a_kill_in_full_flight_loses_nothing),
		inflight_test(a_region_survives_many_deaths),
		inflight_test(regions_that_lie_are_harmless),
		inflight_test(descriptions_that_lie_are_harmless),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("inflight", tests, set_up, NULL);
}
