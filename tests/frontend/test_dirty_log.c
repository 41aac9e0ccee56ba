/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty page log of live migration: memory is compared before and after,
 * and every page the daemon changed must be in the log.
 */
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u
#define BATCH 8

static struct daemon daemon_;
static struct guest guest_;
static uint8_t *before;
static uint64_t node, fh;

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

static void open_it(bool packed, bool indirect)
{
	struct vuc_config cfg = guest_default;
	uint8_t data[20000];

	cfg.packed = packed;
	cfg.indirect = indirect;
	cfg.log_all = true;
	cfg.mem_size = 32 << 20;
	guest_open(&guest_, &daemon_, &cfg);
	assert_true(guest_.c.features & VUC_BIT(VUC_F_LOG_ALL));
	assert_true(guest_.c.protocol_features & VUC_BIT(VUC_PF_LOG_SHMFD));
	node = guest_create(&guest_, "file", &fh);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3 + 1);
	assert_int_equal(fuc_write(&guest_.f, node, fh, 0, data, sizeof(data)), sizeof(data));
	before = malloc(guest_.c.regions[0].size);
	assert_non_null(before);
}

static void close_it(void)
{
	assert_int_equal(guest_.f.violations, 0);
	free(before);
	guest_close(&guest_);
	daemon_wipe(&daemon_);
}

static struct fuc_req *submit_read(uint32_t size, uint64_t off)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = size };
	struct fuc_req *r = fuc_submit(&guest_.f, &(struct fuc_call){ .opcode = FUSE_READ,
								      .nodeid = node,
								      .in = { { &in, sizeof(in) } },
								      .out_cap = size,
								      .no_kick = true });

	assert_non_null(r);
	return r;
}

static struct fuc_req *submit_getattr(void)
{
	struct fuse_getattr_in in = { 0 };
	struct fuc_req *r =
		fuc_submit(&guest_.f, &(struct fuc_call){ .opcode = FUSE_GETATTR,
							  .nodeid = node,
							  .in = { { &in, sizeof(in) } },
							  .out_cap = sizeof(struct fuse_attr_out),
							  .no_kick = true });

	assert_non_null(r);
	return r;
}

/*
 * Puts requests into the ring, takes the picture, then lets the daemon see them: the
 * ring is disabled meanwhile, because a daemon may look at it without a kick.
 * Nothing but the daemon writes between the two pictures: no arming of calls.
 */
static void run_batch(void)
{
	struct vuc_queue *q = &guest_.c.queues[1];
	struct fuc_req *r[BATCH];
	const struct vuc_region *region = &guest_.c.regions[0];

	vuc_queue_calls_off(q);
	assert_ok(vuc_queue_enable(&guest_.c, 1, false));
	for (int i = 0; i < BATCH; i++)
		r[i] = i & 1 ? submit_getattr() : submit_read(9000, (uint64_t)i * 1000);
	memcpy(before, region->map, region->size);
	assert_ok(vuc_queue_enable(&guest_.c, 1, true));
	vuc_queue_kick_always(q);
	for (int i = 0; i < BATCH; i++) {
		for (int k = 0; k < 5000 && !fuc_test(r[i]); k++)
			usleep(1000);
		assert_true(r[i]->done);
		assert_int_equal(r[i]->error, 0);
		fuc_done(r[i]);
	}
}

struct outcome {
	unsigned int changed, missing, marked;
};

static struct outcome compare(void)
{
	const struct vuc_region *region = &guest_.c.regions[0];
	struct outcome o = { 0 };

	for (uint64_t at = 0; at < region->size; at += PAGE) {
		bool marked = vuc_log_test(&guest_.c, region->gpa + at);

		o.marked += marked;
		if (memcmp(before + at, region->map + at, PAGE) == 0)
			continue;
		o.changed++;
		o.missing += !marked;
	}
	return o;
}

static void every_changed_page_is_in_the_log(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		struct outcome o;

		open_it(variant & 1, variant & 2);
		assert_ok(vuc_log_start(&guest_.c));
		assert_ok(vuc_log_enable(&guest_.c, true));
		run_batch();
		o = compare();
		/* Four reads of three pages or more, four attributes, the ring. */
		assert_true(o.changed > 4 * 3 + 4);
		assert_int_equal(o.missing, 0);
		/* It is not everything that is marked. */
		assert_true(o.marked < o.changed + 60);
		close_it();
	}
}

static void the_used_ring_is_in_the_log(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct vuc_queue *q = &guest_.c.queues[1];

		open_it(packed, true);
		assert_ok(vuc_log_start(&guest_.c));
		assert_ok(vuc_log_enable(&guest_.c, true));
		run_batch();
		/* A packed ring is written where it is read: in the descriptors. */
		assert_true(vuc_log_test(&guest_.c, packed ? q->desc_gpa : q->used_gpa));
		close_it();
	}
}

static void a_new_log_takes_over(void **state)
{
	(void)state;
	open_it(false, true);
	assert_ok(vuc_log_start(&guest_.c));
	assert_ok(vuc_log_enable(&guest_.c, true));
	for (int round = 0; round < 30; round++) {
		uint64_t old_size = guest_.c.log_size;
		struct outcome o;

		run_batch();
		o = compare();
		assert_int_equal(o.missing, 0);
		/* As the front end does when memory grows: the next one begins empty. */
		assert_ok(vuc_log_start(&guest_.c));
		assert_int_equal(guest_.c.log_size, old_size);
		run_batch();
		o = compare();
		assert_int_equal(o.missing, 0);
		assert_true(o.marked > 0);
	}
	close_it();
}

static void the_log_is_switched_under_requests(void **state)
{
	struct fuc_req *r[BATCH];

	(void)state;
	open_it(false, true);
	assert_ok(vuc_log_start(&guest_.c));
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < BATCH; i++)
			r[i] = submit_read(9000, 0);
		vuc_queue_kick_always(&guest_.c.queues[1]);
		assert_ok(vuc_log_enable(&guest_.c, !(round & 1)));
		if (round % 3 == 0)
			assert_ok(vuc_log_start(&guest_.c));
		for (int i = 0; i < BATCH; i++) {
			assert_ok(fuc_wait(r[i], 5000));
			assert_int_equal(r[i]->error, 0);
			fuc_done(r[i]);
		}
	}
	close_it();
}

static void nothing_is_logged_when_it_is_off(void **state)
{
	struct outcome o;

	(void)state;
	open_it(false, true);
	assert_ok(vuc_log_start(&guest_.c));
	assert_ok(vuc_log_enable(&guest_.c, true));
	assert_ok(vuc_log_enable(&guest_.c, false));
	memset(guest_.c.log, 0, guest_.c.log_size);
	run_batch();
	o = compare();
	assert_true(o.changed > 0);
	assert_int_equal(o.marked, 0);
	close_it();
}

static void logs_too_small_are_harmless(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 7, 8, 4096 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = open(daemon_.config, O_RDONLY);
		struct vuc_log_msg m = { .size = sizes[i] };
		struct vuc_hdr h = { .request = VUC_SET_LOG_BASE,
				     .flags = VUC_VERSION,
				     .size = sizeof(m) };
		uint8_t raw[sizeof(h) + sizeof(m)];
		struct vuc_msg reply;

		open_it(false, true);
		assert_ok(vuc_log_start(&guest_.c));
		assert_ok(vuc_log_enable(&guest_.c, true));
		memcpy(raw, &h, sizeof(h));
		/* First a file that is no shared memory, then a log of this size. */
		memcpy(raw + sizeof(h), &m, sizeof(m));
		assert_ok(vuc_send_raw(&guest_.c, raw, sizeof(raw), &fd, 1));
		assert_ok(vuc_recv(&guest_.c, &reply, NULL, NULL));
		assert_ok(vuc_send_raw(&guest_.c, raw, sizeof(raw), &guest_.c.log_fd, 1));
		assert_ok(vuc_recv(&guest_.c, &reply, NULL, NULL));
		run_batch();
		/* And one that shrinks while it is in use. */
		assert_ok(vuc_log_start(&guest_.c));
		run_batch();
		assert_ok(ftruncate(guest_.c.log_fd, 0));
		for (int k = 0; k < 4; k++) {
			struct fuc_req *r = submit_getattr();

			vuc_queue_kick_always(&guest_.c.queues[1]);
			fuc_wait(r, 200);
		}
		guest_.c.log = NULL; /* it is not to be touched any more */
		close(fd);
		free(before);
		guest_close(&guest_);
		daemon_wipe(&daemon_);
		guest_probe(&daemon_);
	}
}

/* After a failure in the middle of a test: the next one has to find the daemon free. */
static int hang_up(void **state)
{
	(void)state;
	if (guest_.d)
		guest_close(&guest_);
	return 0;
}

#define log_test(f) cmocka_unit_test_teardown(f, hang_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		log_test(every_changed_page_is_in_the_log),
		log_test(the_used_ring_is_in_the_log),
		log_test(a_new_log_takes_over),
		log_test(the_log_is_switched_under_requests),
		log_test(nothing_is_logged_when_it_is_off),
		log_test(logs_too_small_are_harmless),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("dirty log", tests, set_up, NULL);
}
