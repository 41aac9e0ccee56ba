/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A front end that lies, over the control socket. The daemon may refuse and may
 * hang up; it lives, keeps nothing open, and serves the next front end.
 */
#include <stdio.h>

#include "hostile.h"

static struct daemon daemon_;
static struct guest guest_;
static unsigned int fds_at_rest;

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){ .tag = "t", .log_level = "warn" });
	guest_probe(&daemon_);
	fds_at_rest = daemon_fd_settle(&daemon_, 0);
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	daemon_stop(&daemon_);
}

/* After each test: alive, nothing leaked, others are served. */
static int aftermath(void **state)
{
	unsigned int now;

	(void)state;
	guest_probe(&daemon_);
	now = daemon_fd_settle(&daemon_, fds_at_rest);
	if (now > fds_at_rest)
		fail_msg("%u descriptors were left open", now - fds_at_rest);
	return 0;
}

enum progress { CONNECTED, NEGOTIATED, RUNNING };

static void be(struct vuc *c, enum progress how_far)
{
	struct vuc_config cfg = {
		.queues = 2, .mem_slots = true, .inflight = true, .status = true, .timeout_ms = 5000
	};

	assert_ok(vuc_init(c, &cfg));
	assert_ok(vuc_connect(c, daemon_.socket, 5000));
	if (how_far >= NEGOTIATED)
		assert_ok(vuc_negotiate(c));
	if (how_far >= RUNNING)
		assert_ok(vuc_start(c));
}

static int send_message(struct vuc *c, uint32_t request, uint32_t flags, const void *body,
			uint32_t size, const int *fds, size_t nfds)
{
	uint8_t raw[sizeof(struct vuc_hdr) + 4096];
	struct vuc_hdr h = { .request = request, .flags = flags, .size = size };

	memcpy(raw, &h, sizeof(h));
	if (size)
		memcpy(raw + sizeof(h), body, size);
	return vuc_send_raw(c, raw, sizeof(h) + size, fds, nfds);
}

/* Every message, in every size around those that are right, at every stage. */
static void all_messages_in_all_sizes(void **state)
{
	static const uint32_t sizes[] = { 0,  1,  4,  7,  8,  9,   12,	16,   20,
					  24, 39, 40, 41, 72, 264, 272, 1000, 4096 };
	static const uint8_t fills[] = { 0, 0x01, 0xff };
	uint8_t body[4096];

	(void)state;
	for (int stage = CONNECTED; stage <= RUNNING; stage++)
		for (size_t f = 0; f < sizeof(fills); f++) {
			struct vuc c;

			memset(body, fills[f], sizeof(body));
			be(&c, (enum progress)stage);
			for (uint32_t request = 0; request < 48; request++)
				for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
					uint32_t flags =
						VUC_VERSION | (i & 1 ? VUC_FLAG_NEED_REPLY : 0);

					send_message(&c, request, flags, body, sizes[i], NULL, 0);
					if (hostile_talks(&c))
						continue;
					vuc_close(&c);
					be(&c, (enum progress)stage);
				}
			vuc_close(&c);
		}
}

static void all_messages_with_all_descriptors(void **state)
{
	uint8_t body[64] = { 0 };

	(void)state;
	for (int kind = 0; kind < HOSTILE_FD_KINDS; kind++) {
		struct vuc c;

		be(&c, RUNNING);
		for (uint32_t request = 0; request < 44; request++)
			for (size_t count = 1; count <= 3; count++) {
				int fds[3];

				for (size_t i = 0; i < count; i++)
					fds[i] = hostile_open((enum hostile_fd)kind, &daemon_);
				/* Something plausible in the body: a region of 1 MiB at offset 0.
				 */
				memset(body, 0, sizeof(body));
				body[0] = 1;
				body[16] = 16;
				body[26] = 1;
				send_message(&c, request, VUC_VERSION, body, 40, fds, count);
				for (size_t i = 0; i < count; i++)
					close(fds[i]);
				if (hostile_talks(&c))
					continue;
				vuc_close(&c);
				be(&c, RUNNING);
			}
		vuc_close(&c);
	}
}

static void more_descriptors_than_anybody_needs(void **state)
{
	int fds[64];

	(void)state;
	for (int i = 0; i < 64; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	for (uint32_t request = 0; request < 44; request++)
		for (size_t count = 8; count <= 64; count += 28) {
			struct vuc c;

			be(&c, NEGOTIATED);
			send_message(&c, request, VUC_VERSION, fds, 40, fds, count);
			hostile_talks(&c);
			vuc_close(&c);
		}
	for (int i = 0; i < 64; i++)
		close(fds[i]);
}

static void headers_that_lie(void **state)
{
	static const struct vuc_hdr headers[] = {
		{ VUC_GET_FEATURES, VUC_VERSION, UINT32_MAX },
		{ VUC_SET_MEM_TABLE, VUC_VERSION, 0x7fffffff },
		{ VUC_SET_FEATURES, VUC_VERSION, 1 << 20 },
		{ VUC_GET_FEATURES, 0, 0 },
		{ VUC_GET_FEATURES, 2, 0 },
		{ VUC_GET_FEATURES, 3, 0 },
		{ VUC_GET_FEATURES, VUC_VERSION | VUC_FLAG_REPLY, 0 },
		{ VUC_GET_FEATURES, UINT32_MAX, 0 },
		{ UINT32_MAX, VUC_VERSION, 0 },
		{ 0x80000000, VUC_VERSION | VUC_FLAG_NEED_REPLY, 8 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		uint8_t junk[65536] = { 0 };
		long before;
		struct vuc c;

		be(&c, NEGOTIATED);
		before = daemon_rss_kib(&daemon_);
		vuc_send_raw(&c, &headers[i], sizeof(headers[i]), NULL, 0);
		vuc_send_raw(&c, junk, sizeof(junk), NULL, 0);
		/* Hung up at once, or eating; not allocating what it was told. */
		assert_true(daemon_rss_kib(&daemon_) < before + 8192);
		vuc_close(&c);
		guest_probe(&daemon_);
	}
}

static void messages_in_pieces(void **state)
{
	struct vuc_hdr ask = { .request = VUC_GET_FEATURES, .flags = VUC_VERSION };
	uint8_t many[10 * sizeof(ask)];
	struct vuc_msg m;
	struct vuc c;

	(void)state;
	be(&c, CONNECTED);
	for (int lap = 0; lap < 3; lap++) {
		for (size_t i = 0; i < sizeof(ask); i++) {
			assert_ok(vuc_send_raw(&c, (uint8_t *)&ask + i, 1, NULL, 0));
			usleep(200);
		}
		assert_ok(vuc_recv(&c, &m, NULL, NULL));
	}
	/* And ten in one. */
	for (int i = 0; i < 10; i++)
		memcpy(many + (size_t)i * sizeof(ask), &ask, sizeof(ask));
	assert_ok(vuc_send_raw(&c, many, sizeof(many), NULL, 0));
	for (int i = 0; i < 10; i++)
		assert_ok(vuc_recv(&c, &m, NULL, NULL));
	vuc_close(&c);
	/* A message that never ends, at each length. */
	for (size_t n = 1; n < 40; n++) {
		struct vuc_hdr h = { .request = VUC_SET_MEM_TABLE,
				     .flags = VUC_VERSION,
				     .size = 40 };
		uint8_t raw[52] = { 0 };
		int fd = hostile_open(HOSTILE_MEMFD, &daemon_);

		memcpy(raw, &h, sizeof(h));
		be(&c, CONNECTED);
		assert_ok(vuc_send_raw(&c, raw, n, &fd, 1));
		close(fd);
		vuc_close(&c);
	}
}

static void everything_out_of_order(void **state)
{
	uint64_t seed = 42;

	(void)state;
	for (int round = 0; round < 150; round++) {
		struct vuc c;

		be(&c, NEGOTIATED);
		assert_ok(vuc_queue_setup(&c, 0));
		assert_ok(vuc_queue_setup(&c, 1));
		for (int i = 0; i < 30; i++) {
			uint64_t r = hostile_random(&seed);
			unsigned int q = (r >> 8) & 1;
			int err;

			switch (r % 12) {
			case 0:
				err = vuc_mem_table(&c);
				break;
			case 1:
				err = vuc_region_add(&c, 0);
				break;
			case 2:
				err = vuc_region_remove(&c, 0);
				break;
			case 3:
				err = vuc_set_u64(&c, VUC_SET_FEATURES, c.offered & r);
				break;
			case 4:
				err = vuc_set_state(&c, VUC_SET_VRING_NUM, q, 1u << (r >> 60));
				break;
			case 5:
				err = vuc_queue_send_addr(&c, q);
				break;
			case 6:
				err = vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, q,
							c.queues[q].kick_fd);
				break;
			case 7:
				err = vuc_queue_send_fd(&c, VUC_SET_VRING_CALL, q, -1);
				break;
			case 8:
				err = vuc_queue_enable(&c, q, r >> 63);
				break;
			case 9:
				err = vuc_queue_stop(&c, q, NULL);
				break;
			case 10:
				err = vuc_set_u64(&c, VUC_SET_STATUS, (r >> 16) & 15);
				break;
			default:
				vuc_queue_kick_always(&c.queues[q]);
				err = 0;
			}
			if (err == -ETIMEDOUT)
				fail_msg("round %d: the daemon hangs", round);
			if (err == -ECONNRESET || err == -EPROTO)
				break;
		}
		vuc_close(&c);
	}
}

static void ring_addresses_that_are_none(void **state)
{
	uint64_t seed = 7;

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct vuc c;
		struct vhost_vring_addr a;
		uint64_t base;

		be(&c, RUNNING);
		base = (uintptr_t)c.regions[0].map;
		a = (struct vhost_vring_addr){
			.index = round % 7 == 6 ? (unsigned int)hostile_number(&seed) : 1,
			.flags = (unsigned int)hostile_random(&seed) & 1,
			.desc_user_addr = base + 4096 * (hostile_random(&seed) & 15),
			.used_user_addr = base + 4096 * (hostile_random(&seed) & 15),
			.avail_user_addr = base + 4096 * (hostile_random(&seed) & 15),
			.log_guest_addr = hostile_number(&seed),
		};
		/* One or more of them off: outside, at the very end, not aligned. */
		if (round & 1)
			a.desc_user_addr = base + c.regions[0].size - (hostile_random(&seed) & 63);
		if (round & 2)
			a.used_user_addr = hostile_number(&seed);
		if (round & 4)
			a.avail_user_addr += hostile_random(&seed) & 15;
		if (round & 8)
			a.desc_user_addr = hostile_number(&seed);
		/* On a ring that runs, and on one that is stopped and started. */
		if (round & 16)
			vuc_queue_stop(&c, 1, NULL);
		vuc_request(&c, VUC_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
		if (round & 16)
			vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, 1, c.queues[1].kick_fd);
		vuc_queue_kick_always(&c.queues[1]);
		hostile_talks(&c);
		vuc_close(&c);
	}
}

static void ring_sizes_and_bases_that_are_none(void **state)
{
	static const unsigned int numbers[] = { 0,     1,     2,	  3,	     127,
						129,   1024,  1025,	  32768,     32769,
						65535, 65536, 0x80000000, UINT32_MAX };

	(void)state;
	for (int packed = 0; packed < 2; packed++)
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
				struct vuc_config cfg = { .packed = packed, .timeout_ms = 5000 };
				struct vuc c;

				assert_ok(vuc_init(&c, &cfg));
				assert_ok(vuc_connect(&c, daemon_.socket, 5000));
				assert_ok(vuc_negotiate(&c));
				assert_ok(vuc_start(&c));
				vuc_queue_stop(&c, 1, NULL);
				vuc_set_state(&c, VUC_SET_VRING_NUM, 1, numbers[i]);
				vuc_set_state(&c, VUC_SET_VRING_BASE, 1, numbers[k]);
				vuc_queue_send_addr(&c, 1);
				vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, 1, c.queues[1].kick_fd);
				vuc_queue_kick_always(&c.queues[1]);
				vuc_set_state(&c, VUC_SET_VRING_ENABLE, numbers[k], numbers[i]);
				hostile_talks(&c);
				vuc_close(&c);
			}
}

static void memory_tables_that_lie(void **state)
{
	uint64_t seed = 99;

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct vuc_mem_table_msg m = { .count = (uint32_t)(hostile_random(&seed) % 10) };
		int fds[8];
		size_t nfds = hostile_random(&seed) % 9;
		struct vuc c;

		if (round % 10 == 9)
			m.count = (uint32_t)hostile_number(&seed);
		for (int i = 0; i < 8; i++) {
			m.regions[i] =
				(struct vuc_mem_region_msg){ .guest_addr = (uint64_t)i << 21,
							     .size = 1 << 20,
							     .user_addr = 0x100000000ull +
									  ((uint64_t)i << 21) };
			/* Overlaps, overflows, beyond the end of the file. */
			if (hostile_random(&seed) % 4 == 0)
				m.regions[i].size = hostile_number(&seed);
			if (hostile_random(&seed) % 4 == 0)
				m.regions[i].guest_addr = hostile_number(&seed);
			if (hostile_random(&seed) % 4 == 0)
				m.regions[i].user_addr = hostile_number(&seed);
			if (hostile_random(&seed) % 4 == 0)
				m.regions[i].mmap_offset = hostile_number(&seed);
			fds[i] = hostile_open(hostile_random(&seed) % 3
						      ? HOSTILE_MEMFD
						      : (enum hostile_fd)(hostile_random(&seed) %
									  HOSTILE_FD_KINDS),
					      &daemon_);
		}
		be(&c, round & 1 ? RUNNING : NEGOTIATED);
		vuc_request(&c, VUC_SET_MEM_TABLE, &m, sizeof(m), fds, nfds);
		if (round & 1)
			vuc_queue_kick_always(&c.queues[1]);
		hostile_talks(&c);
		vuc_close(&c);
		for (int i = 0; i < 8; i++)
			close(fds[i]);
	}
}

static void memory_that_is_cut_short_under_requests(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct vuc_config cfg = guest_default;
		struct fuc_req *r[8];

		cfg.packed = round & 1;
		guest_open(&guest_, &daemon_, &cfg);
		guest_.f.timeout_ms = 100;
		for (int i = 0; i < 8; i++)
			r[i] = fuc_submit(
				&guest_.f,
				&(struct fuc_call){ .opcode = FUSE_STATFS,
						    .nodeid = FUSE_ROOT_ID,
						    .out_cap = sizeof(struct fuse_statfs_out) });
		/* A touch of it is SIGBUS now, here as well: so we look at nothing. */
		assert_ok(
			ftruncate(guest_.c.regions[0].fd, round & 2 ? 0 : (off_t)(round * 65536)));
		vuc_queue_kick_always(&guest_.c.queues[1]);
		vuc_queue_kick_always(&guest_.c.queues[0]);
		vuc_hung_up(&guest_.c, 20);
		(void)r;
		guest_close(&guest_);
		if (!daemon_running(&daemon_))
			fail_msg("it died of SIGBUS in round %d", round);
	}
}

#define hostile_test(f) cmocka_unit_test_teardown(f, aftermath)

int main(void)
{
	const struct CMUnitTest tests[] = {
		hostile_test(all_messages_in_all_sizes),
		hostile_test(all_messages_with_all_descriptors),
		hostile_test(more_descriptors_than_anybody_needs),
		hostile_test(headers_that_lie),
		hostile_test(messages_in_pieces),
		hostile_test(everything_out_of_order),
		hostile_test(ring_addresses_that_are_none),
		hostile_test(ring_sizes_and_bases_that_are_none),
		hostile_test(memory_tables_that_lie),
		hostile_test(memory_that_is_cut_short_under_requests),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("hostile messages", tests, set_up, NULL);
}
