/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver that changes its mind: descriptors, tables, requests, rings and
 * memory that change while the daemon looks at them.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "hostile_ring.h"

struct flipper {
	pthread_t thread;
	_Atomic bool stop;
	void (*flip)(unsigned int round);
};

static void *flip_main(void *arg)
{
	struct flipper *f = arg;

	for (unsigned int i = 0; !atomic_load_explicit(&f->stop, memory_order_relaxed); i++)
		f->flip(i);
	return NULL;
}

static void flip_table(unsigned int round)
{
	volatile struct vring_desc *t = (void *)tables.p;

	for (unsigned int k = 0; k < 4; k++) {
		t[k].addr = round & 1 ? 0x77000000000 : in_gpa(0);
		t[k].len = round & 2 ? UINT32_MAX : 56;
		t[k].flags = (uint16_t)(round % 8);
		t[k].next = (uint16_t)(round % 5);
	}
	/* And the descriptor that leads to it. */
	((volatile struct vring_desc *)queue()->s.desc)[0].len = 16 * (round % 5);
}

static void flip_request(unsigned int round)
{
	volatile struct fuse_in_header *h = (void *)room.p;

	h->len = round & 1 ? UINT32_MAX : 56;
	h->opcode = round % 56;
	h->total_extlen = (uint16_t)round;
	room.p[40 + round % 64] = (uint8_t)round;
}

static void run_flipped(bool packed, void (*flip)(unsigned int), int reopen_limit)
{
	int reopened = 0;

	for (int lap = 0; lap < 40; lap++) {
		struct flipper f = { .flip = flip };

		open_it(packed);
		write_request(0);
		put_split(0, (struct raw_desc){ tables.gpa, 64, INDIRECT, 0 });
		assert_ok(pthread_create(&f.thread, NULL, flip_main, &f));
		for (int i = 0; i < 300; i++) {
			publish_split(0);
			if (i % 10 == 0)
				usleep(100);
		}
		atomic_store(&f.stop, true);
		pthread_join(f.thread, NULL);
		reopened += !hostile_talks(&guest_.c);
		close_it();
	}
	assert_true(reopened <= reopen_limit);
}

static void tables_that_change(void **state)
{
	(void)state;
	run_flipped(false, flip_table, 40);
}

static void requests_that_change(void **state)
{
	(void)state;
	for (int lap = 0; lap < 10; lap++) {
		struct flipper f = { .flip = flip_request };

		open_it(false);
		write_request(0);
		for (unsigned int k = 0; k < 64; k += 2) {
			put_split(k, (struct raw_desc){ in_gpa(0), 512, NEXT, (uint16_t)(k + 1) });
			put_split(k + 1, (struct raw_desc){ out_gpa(k / 8), 4000, WRITE, 0 });
		}
		assert_ok(pthread_create(&f.thread, NULL, flip_main, &f));
		for (int i = 0; i < 2000; i++) {
			publish_split((uint16_t)(i % 32 * 2));
			if (i % 30 == 29)
				usleep(200);
		}
		atomic_store(&f.stop, true);
		pthread_join(f.thread, NULL);
		assert_true(hostile_talks(&guest_.c));
		close_it();
	}
}

static void rings_moved_in_flight(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++)
		for (int lap = 0; lap < 10; lap++) {
			struct vuc_queue *q;
			uint64_t desc, avail, used;

			open_it(variant & 1);
			q = queue();
			desc = q->desc_gpa, avail = q->avail_gpa, used = q->used_gpa;
			for (int i = 0; i < 8; i++)
				fuc_submit(&guest_.f,
					   &(struct fuc_call){
						   .opcode = FUSE_STATFS,
						   .nodeid = FUSE_ROOT_ID,
						   .out_cap = sizeof(struct fuse_statfs_out) });
			/* Zeros, or what lies about, instead of the ring; then back. */
			q->desc_gpa = tables.gpa;
			q->avail_gpa = variant & 2 ? room.gpa : tables.gpa + 65536;
			q->used_gpa = tables.gpa + 131072;
			vuc_queue_send_addr(&guest_.c, 1);
			vuc_queue_kick_always(q);
			q->desc_gpa = desc, q->avail_gpa = avail, q->used_gpa = used;
			vuc_queue_send_addr(&guest_.c, 1);
			vuc_queue_kick_always(q);
			usleep(1000);
			hostile_talks(&guest_.c);
			close_it();
		}
}

static void memory_of_the_ring_is_removed(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++)
		for (int lap = 0; lap < 10; lap++) {
			open_it(packed);
			for (int i = 0; i < 8; i++)
				fuc_submit(&guest_.f,
					   &(struct fuc_call){
						   .opcode = FUSE_STATFS,
						   .nodeid = FUSE_ROOT_ID,
						   .out_cap = sizeof(struct fuse_statfs_out) });
			vuc_region_remove(&guest_.c, 0);
			for (unsigned int i = 0; i < guest_.c.nqueues; i++)
				vuc_queue_kick_always(&guest_.c.queues[i]);
			usleep(1000);
			/* And comes back: the front end may start the rings again. */
			if (hostile_talks(&guest_.c) && vuc_region_add(&guest_.c, 0) == 0)
				for (unsigned int i = 0; i < guest_.c.nqueues; i++)
					vuc_queue_stop(&guest_.c, i, NULL);
			close_it();
		}
}

#define race_test(f) cmocka_unit_test_teardown(f, hang_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		race_test(tables_that_change),		race_test(requests_that_change),
		race_test(rings_moved_in_flight),	race_test(memory_of_the_ring_is_removed),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("hostile races", tests, set_up, NULL);
}
