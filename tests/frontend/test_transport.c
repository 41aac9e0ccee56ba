/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user while requests run: memory, rings, descriptors, configuration, resets. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REGION_SIZE (4u << 20)

static struct daemon daemon_;
static struct guest guest_;

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){ .tag = "myfs", .request_queues = 3 });
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	guest_probe(&daemon_);
	daemon_stop(&daemon_);
}

static void open_with(bool packed, bool slots)
{
	struct vuc_config cfg = guest_default;

	cfg.packed = packed;
	cfg.mem_slots = slots;
	guest_open(&guest_, &daemon_, &cfg);
}

static void close_it(void)
{
	assert_int_equal(guest_.f.violations, 0);
	guest_close(&guest_);
	daemon_wipe(&daemon_);
}

static void serves(void)
{
	assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
}

static struct fuc_req *start_statfs(struct fuc *f)
{
	struct fuc_req *r =
		fuc_submit(f, &(struct fuc_call){ .opcode = FUSE_STATFS,
						  .nodeid = FUSE_ROOT_ID,
						  .out_cap = sizeof(struct fuse_statfs_out) });

	assert_non_null(r);
	return r;
}

static void finish(struct fuc_req *r)
{
	assert_ok(fuc_wait(r, 5000));
	assert_int_equal(r->error, 0);
	fuc_done(r);
}

static void configuration_space_has_tag_and_queues(void **state)
{
	struct {
		char tag[36];
		uint32_t queues;
	} __attribute__((packed)) space;
	char byte;
	struct daemon untagged;
	struct guest g;

	(void)state;
	guest_open(&guest_, &daemon_, NULL);
	assert_true(guest_.c.protocol_features & VUC_BIT(VUC_PF_CONFIG));
	assert_ok(vuc_get_config(&guest_.c, 0, sizeof(space), &space));
	assert_memory_equal(space.tag,
			    "myfs\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
			    36);
	assert_int_equal(space.queues, 3);
	assert_int_equal(guest_.c.max_queues, 4);
	for (uint32_t i = 0; i < 40; i++) {
		assert_ok(vuc_get_config(&guest_.c, i, 1, &byte));
		assert_int_equal(byte, ((char *)&space)[i]);
	}
	assert_int_equal(vuc_get_config(&guest_.c, 40, 200, &space), -EREMOTEIO);
	assert_int_equal(vuc_get_config(&guest_.c, UINT32_MAX, 4, &space), -EREMOTEIO);
	serves();
	close_it();
	/* QEMU 7.1 to 8.0 ends itself when CONFIG is offered unasked. */
	daemon_start(&untagged, NULL);
	guest_open(&g, &untagged, NULL);
	assert_int_equal(g.c.offered_pf & VUC_BIT(VUC_PF_CONFIG), 0);
	guest_close(&g);
	daemon_stop(&untagged);
}

static void features_are_offered(void **state)
{
	const uint64_t features = VUC_BIT(VIRTIO_F_VERSION_1) | VUC_BIT(VIRTIO_F_RING_PACKED) |
				  VUC_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
				  VUC_BIT(VIRTIO_RING_F_EVENT_IDX) | VUC_BIT(VUC_F_LOG_ALL) |
				  VUC_BIT(VUC_VIRTIO_F_RING_RESET) |
				  VUC_BIT(VUC_F_PROTOCOL_FEATURES);
	const uint64_t pf = VUC_BIT(VUC_PF_MQ) | VUC_BIT(VUC_PF_REPLY_ACK) |
			    VUC_BIT(VUC_PF_CONFIGURE_MEM_SLOTS) | VUC_BIT(VUC_PF_INFLIGHT_SHMFD) |
			    VUC_BIT(VUC_PF_LOG_SHMFD) | VUC_BIT(VUC_PF_BACKEND_REQ) |
			    VUC_BIT(VUC_PF_BACKEND_SEND_FD) | VUC_BIT(VUC_PF_RESET_DEVICE) |
			    VUC_BIT(VUC_PF_STATUS);

	(void)state;
	open_with(false, true);
	assert_int_equal(guest_.c.offered & features, features);
	assert_int_equal(guest_.c.offered_pf & pf, pf);
	assert_int_equal(guest_.c.max_slots, 509);
	close_it();
}

static void longer_messages_are_accepted(void **state)
{
	struct vuc_mem_table_msg table = { 0 };
	struct vhost_vring_state num[20] = { { .index = 1, .num = 128 } };
	struct vuc_region *r;

	(void)state;
	open_with(false, false);
	/* Linux UML always sends two slots; send all of eight for one region, and more. */
	r = &guest_.c.regions[0];
	table.count = 1;
	table.regions[0] = (struct vuc_mem_region_msg){ .guest_addr = r->gpa,
							.size = r->size,
							.user_addr = (uintptr_t)r->map };
	assert_ok(vuc_request(&guest_.c, VUC_SET_MEM_TABLE, &table, 8 + 2 * 32, &r->fd, 1));
	assert_ok(vuc_request(&guest_.c, VUC_SET_MEM_TABLE, &table, sizeof(table), &r->fd, 1));
	serves();
	assert_ok(vuc_queue_stop(&guest_.c, 1, NULL));
	assert_ok(vuc_request(&guest_.c, VUC_SET_VRING_NUM, num, sizeof(num), NULL, 0));
	assert_ok(vuc_queue_start(&guest_.c, 1));
	serves();
	close_it();
}

static void memory_comes_and_goes_under_requests(void **state)
{
	struct fuc_options o = { .requests = 4, .request_mem = 128 << 10 };

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		open_with(packed, true);
		for (int round = 0; round < 100; round++) {
			struct fuc_req *a[8], *b;
			struct fuc second;
			int n = vuc_region_create(&guest_.c, REGION_SIZE, 0);

			assert_true(n > 0);
			for (int i = 0; i < 8; i++)
				a[i] = start_statfs(&guest_.f);
			assert_ok(vuc_region_add(&guest_.c, (unsigned int)n));
			o.region = (unsigned int)n;
			assert_ok(fuc_open(&second, &guest_.c, &o));
			second.next_unique = 1000000;
			b = start_statfs(&second);
			for (int i = 0; i < 8; i++)
				finish(a[i]);
			finish(b);
			for (int i = 0; i < 8; i++)
				a[i] = start_statfs(&guest_.f);
			assert_ok(vuc_region_remove(&guest_.c, (unsigned int)n));
			for (int i = 0; i < 8; i++)
				finish(a[i]);
			assert_int_equal(second.violations, 0);
			fuc_close(&second);
			vuc_region_destroy(&guest_.c, (unsigned int)n);
		}
		close_it();
	}
}

static void a_request_outlives_its_memory(void **state)
{
	struct fuse_file_lock lk = { .end = INT64_MAX, .type = F_WRLCK };
	struct fuc_options o = { .requests = 4 };
	struct fuc second;
	struct fuc_req *r;
	uint64_t node, fh;
	int n;

	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		open_with(packed, true);
		node = guest_create(&guest_, "file", &fh);
		assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, fh, 1, &lk, 0));
		n = vuc_region_create(&guest_.c, REGION_SIZE, 0);
		assert_true(n > 0);
		assert_ok(vuc_region_add(&guest_.c, (unsigned int)n));
		o.region = (unsigned int)n;
		assert_ok(fuc_open(&second, &guest_.c, &o));
		second.next_unique = 1000000;
		r = fuc_lock_submit(&second, node, fh, 2, &lk, 0);
		assert_non_null(r);
		assert_int_equal(fuc_wait(r, 50), -ETIMEDOUT);
		/* The front end takes the memory away with the request waiting in it. */
		r->blind = true;
		assert_ok(vuc_region_remove(&guest_.c, (unsigned int)n));
		assert_ok(ftruncate(guest_.c.regions[n].fd, 0));
		assert_ok(ftruncate(guest_.c.regions[n].fd, REGION_SIZE));
		serves();
		lk.type = F_UNLCK;
		assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, fh, 1, &lk, 0));
		/* Its chain comes back; what the reply says went where the memory was. */
		for (int i = 0; i < 500 && !fuc_test(r); i++)
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		assert_true(r->done);
		serves();
		fuc_close(&second);
		vuc_region_destroy(&guest_.c, (unsigned int)n);
		lk.type = F_WRLCK;
		guest_close(&guest_);
		daemon_wipe(&daemon_);
	}
}

static void the_table_is_replaced_under_requests(void **state)
{
	(void)state;
	open_with(false, false);
	for (int round = 0; round < 200; round++) {
		struct fuc_req *r[16];

		for (int i = 0; i < 16; i++)
			r[i] = start_statfs(&guest_.f);
		assert_ok(vuc_mem_table(&guest_.c));
		for (int i = 0; i < 16; i++)
			finish(r[i]);
	}
	close_it();
}

static void five_hundred_and_nine_slots(void **state)
{
	struct vuc_mem_single_msg m = { 0 };
	int fd;

	(void)state;
	open_with(false, true);
	fd = guest_.c.regions[0].fd;
	for (unsigned int i = 1; i < 509; i++) {
		m.region =
			(struct vuc_mem_region_msg){ .guest_addr = (1ull << 40) + i * 0x100000ull,
						     .size = 4096,
						     .user_addr = (1ull << 50) + i * 0x100000ull,
						     .mmap_offset = i * 4096ull };
		assert_ok(vuc_request(&guest_.c, VUC_ADD_MEM_REG, &m, sizeof(m), &fd, 1));
	}
	serves();
	m.region.guest_addr += 0x100000;
	m.region.user_addr += 0x100000;
	assert_int_equal(vuc_request(&guest_.c, VUC_ADD_MEM_REG, &m, sizeof(m), &fd, 1),
			 -EREMOTEIO);
	for (unsigned int i = 508; i >= 1; i--) {
		m.region =
			(struct vuc_mem_region_msg){ .guest_addr = (1ull << 40) + i * 0x100000ull,
						     .size = 4096,
						     .user_addr = (1ull << 50) + i * 0x100000ull };
		assert_ok(vuc_request(&guest_.c, VUC_REM_MEM_REG, &m, sizeof(m), NULL, 0));
	}
	assert_int_equal(vuc_request(&guest_.c, VUC_REM_MEM_REG, &m, sizeof(m), NULL, 0),
			 -EREMOTEIO);
	serves();
	close_it();
}

static void stopping_and_resuming_loses_nothing(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		open_with(packed, false);
		for (int round = 0; round < 300; round++) {
			struct fuc_req *r[24];
			uint32_t base;
			int done_at_stop = 0, later = 0;

			for (int i = 0; i < 24; i++)
				r[i] = start_statfs(&guest_.f);
			assert_ok(vuc_queue_stop(&guest_.c, 1, &base));
			for (int i = 0; i < 24; i++)
				done_at_stop += fuc_test(r[i]);
			/* A stopped ring is left alone. */
			if (round % 50 == 0)
				nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
			for (int i = 0; i < 24; i++)
				later += fuc_test(r[i]);
			assert_int_equal(later, done_at_stop);
			assert_int_equal(base, vuc_queue_base(&guest_.c.queues[1]));
			assert_ok(vuc_queue_start(&guest_.c, 1));
			/* Some front ends kick after a start; those that do not are right too. */
			if (round & 1)
				vuc_queue_kick_always(&guest_.c.queues[1]);
			for (int i = 0; i < 24; i++)
				finish(r[i]);
		}
		close_it();
	}
}

static void stopping_calls_waiters_off(void **state)
{
	struct fuse_file_lock lk = { .end = INT64_MAX, .type = F_WRLCK };
	struct fuc_req *r;
	uint64_t node, fh;

	(void)state;
	open_with(false, false);
	node = guest_create(&guest_, "file", &fh);
	assert_ok(fuc_lock(&guest_.f, FUSE_SETLK, node, fh, 1, &lk, 0));
	r = fuc_lock_submit(&guest_.f, node, fh, 2, &lk, 0);
	assert_non_null(r);
	assert_int_equal(fuc_wait(r, 30), -ETIMEDOUT);
	assert_ok(vuc_queue_stop(&guest_.c, 1, NULL));
	assert_true(fuc_test(r));
	assert_int_equal(r->error, -EINTR);
	fuc_done(r);
	assert_ok(vuc_queue_start(&guest_.c, 1));
	serves();
	close_it();
}

static void disabled_rings_wait(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct fuc_req *r;

		open_with(packed, false);
		assert_ok(vuc_queue_enable(&guest_.c, 1, false));
		r = start_statfs(&guest_.f);
		assert_int_equal(fuc_wait(r, 50), -ETIMEDOUT);
		/* The others go on. */
		guest_.f.queue = 2;
		serves();
		guest_.f.queue = 1;
		/* No second kick: what is there when the ring is enabled is found. */
		assert_ok(vuc_queue_enable(&guest_.c, 1, true));
		finish(r);
		close_it();
	}
}

static void a_ring_without_kicks_is_polled(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct fuc_req *r;

		open_with(packed, false);
		assert_ok(vuc_queue_send_fd(&guest_.c, VUC_SET_VRING_KICK, 1, -1));
		for (int i = 0; i < 20; i++) {
			r = fuc_submit(
				&guest_.f,
				&(struct fuc_call){ .opcode = FUSE_STATFS,
						    .nodeid = FUSE_ROOT_ID,
						    .no_kick = true,
						    .out_cap = sizeof(struct fuse_statfs_out) });
			assert_non_null(r);
			finish(r);
		}
		/* And without calls, the driver polls. */
		assert_ok(vuc_queue_send_fd(&guest_.c, VUC_SET_VRING_CALL, 1, -1));
		guest_.f.poll = true;
		for (int i = 0; i < 20; i++)
			serves();
		assert_ok(vuc_queue_send_fd(&guest_.c, VUC_SET_VRING_KICK, 1,
					    guest_.c.queues[1].kick_fd));
		assert_ok(vuc_queue_send_fd(&guest_.c, VUC_SET_VRING_CALL, 1,
					    guest_.c.queues[1].call_fd));
		guest_.f.poll = false;
		serves();
		close_it();
	}
}

static void event_descriptors_are_replaced_under_requests(void **state)
{
	(void)state;
	open_with(false, false);
	for (int round = 0; round < 100; round++) {
		struct vuc_queue *q = &guest_.c.queues[1];
		struct fuc_req *r = start_statfs(&guest_.f);
		int call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		int kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

		assert_ok(vuc_queue_send_fd(&guest_.c, VUC_SET_VRING_CALL, 1, call));
		close(q->call_fd);
		q->call_fd = call;
		assert_ok(vuc_queue_send_fd(&guest_.c, VUC_SET_VRING_KICK, 1, kick));
		close(q->kick_fd);
		q->kick_fd = kick;
		/* The kick may have gone to the old one, the call as well: look, then ask again. */
		vuc_queue_kick_always(q);
		guest_.f.poll = true;
		finish(r);
		guest_.f.poll = false;
		serves();
	}
	close_it();
}

static void a_reset_device_can_be_used_again(void **state)
{
	(void)state;
	for (int how = 0; how < 4; how++) {
		struct vuc_config cfg = guest_default;
		uint64_t status;

		cfg.packed = how & 1;
		cfg.status = how & 2;
		guest_open(&guest_, &daemon_, &cfg);
		for (int round = 0; round < 20; round++) {
			struct fuc_req *r[8];

			for (int i = 0; i < 8; i++)
				r[i] = start_statfs(&guest_.f);
			if (cfg.status) {
				assert_ok(vuc_query_u64(&guest_.c, VUC_GET_STATUS, &status));
				assert_int_equal(status, 15);
				assert_ok(vuc_set_u64(&guest_.c, VUC_SET_STATUS, 0));
				assert_ok(vuc_query_u64(&guest_.c, VUC_GET_STATUS, &status));
				assert_int_equal(status, 0);
			} else {
				assert_ok(
					vuc_request(&guest_.c, VUC_RESET_DEVICE, NULL, 0, NULL, 0));
			}
			/* The driver gives up what was in flight, too. */
			for (int i = 0; i < 8; i++)
				fuc_done(r[i]);
			for (unsigned int i = 0; i < guest_.c.nqueues; i++)
				vuc_queue_reset(&guest_.c.queues[i]);
			assert_ok(vuc_start(&guest_.c));
			assert_ok(fuc_init_default(&guest_.f));
			serves();
		}
		close_it();
	}
}

static void no_protocol_features_no_acknowledgements(void **state)
{
	struct vuc_config cfg = guest_default;

	(void)state;
	cfg.no_protocol_features = true;
	guest_open(&guest_, &daemon_, &cfg);
	serves();
	close_it();
	cfg = guest_default;
	cfg.no_ack = true;
	guest_open(&guest_, &daemon_, &cfg);
	serves();
	close_it();
}

static void the_backend_gets_its_channel(void **state)
{
	struct vuc_config cfg = guest_default;

	(void)state;
	cfg.backend_req = true;
	guest_open(&guest_, &daemon_, &cfg);
	assert_true(guest_.c.backend_sock >= 0);
	serves();
	/* Gone, and it does not matter as long as nothing is asked of us. */
	shutdown(guest_.c.backend_sock, SHUT_RDWR);
	serves();
	close_it();
}

static void rings_wrap_many_times(void **state)
{
	(void)state;
	for (int variant = 0; variant < 8; variant++) {
		struct vuc_config cfg = guest_default;

		cfg.packed = variant & 1;
		cfg.indirect = variant & 2;
		cfg.event_idx = variant & 4;
		/* Packed rings need not be powers of two. */
		cfg.queue_size = cfg.packed ? 37 : 32;
		guest_open(&guest_, &daemon_, &cfg);
		/* 70,000 chains: the 16-bit indices come round as well. */
		for (int i = 0; i < (variant == 6 || variant == 7 ? 70000 : 3000); i += 4) {
			struct fuc_req *r[4];

			for (int k = 0; k < 4; k++)
				r[k] = start_statfs(&guest_.f);
			for (int k = 0; k < 4; k++)
				finish(r[k]);
		}
		close_it();
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

#define transport_test(f) cmocka_unit_test_teardown(f, hang_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		transport_test(configuration_space_has_tag_and_queues),
		transport_test(features_are_offered),
		transport_test(longer_messages_are_accepted),
		transport_test(memory_comes_and_goes_under_requests),
		transport_test(a_request_outlives_its_memory),
		transport_test(the_table_is_replaced_under_requests),
		transport_test(five_hundred_and_nine_slots),
		transport_test(stopping_and_resuming_loses_nothing),
		transport_test(stopping_calls_waiters_off),
		transport_test(disabled_rings_wait),
		transport_test(a_ring_without_kicks_is_polled),
		transport_test(event_descriptors_are_replaced_under_requests),
		transport_test(a_reset_device_can_be_used_again),
		transport_test(no_protocol_features_no_acknowledgements),
		transport_test(the_backend_gets_its_channel),
		transport_test(rings_wrap_many_times),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("transport", tests, set_up, NULL);
}
