/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 10,000 seeded random mutations: of FUSE bytes, of rings and descriptors, of
 * vhost-user messages. The process lives, does not grow, keeps no descriptors,
 * and serves the next guest. FRONTEND_SEED picks other mutations.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "hostile.h"

#define FUSE_ROUNDS 4000
#define RING_ROUNDS 3000
#define MESSAGE_ROUNDS 3000

static struct daemon daemon_;
static struct guest guest_;
static uint64_t seed = 20240229;
static unsigned int fds_at_rest;
static long rss_at_rest;

static uint64_t any(void)
{
	return hostile_random(&seed);
}

static uint64_t below(uint64_t n)
{
	return (any() >> 11) % n;
}

static int set_up(void **state)
{
	const char *text = getenv("FRONTEND_SEED");

	(void)state;
	if (text)
		seed = strtoull(text, NULL, 0) | 1;
	daemon_start(&daemon_, &(struct daemon_options){ .log_level = "error", .tag = "t" });
	for (int i = 0; i < 20; i++)
		guest_probe(&daemon_);
	fds_at_rest = daemon_fd_settle(&daemon_, 0);
	rss_at_rest = daemon_rss_kib(&daemon_);
	return 0;
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	daemon_stop(&daemon_);
}

static int aftermath(void **state)
{
	unsigned int fds;
	long rss;

	(void)state;
	if (guest_.d)
		guest_close(&guest_);
	guest_probe(&daemon_);
	fds = daemon_fd_settle(&daemon_, fds_at_rest);
	if (fds > fds_at_rest)
		fail_msg("%u descriptors were left open", fds - fds_at_rest);
	rss = daemon_rss_kib(&daemon_);
	/* Arenas of threads come and go; a sanitizer's quarantine is bounded too. */
	if (rss > rss_at_rest + (getenv("ASAN_OPTIONS") ? 512 : 24) * 1024)
		fail_msg("it grew from %ld to %ld KiB", rss_at_rest, rss);
	daemon_wipe(&daemon_);
	return 0;
}

/* --- FUSE -------------------------------------------------------------------- */

static uint64_t node, fh, dir_fh;

static size_t make_body(uint8_t *p, uint32_t opcode, uint32_t out_len)
{
	static const char *const names[] = { "a",	 "b",
					     "c",	 "sub",
					     ".",	 "..",
					     "",	 "a/b",
					     "user.x",	 "security.capability",
					     "\xff\xfe", "system.posix_acl_access" };
	/* What a wild size would really make the host do. */
	bool costly = opcode == FUSE_FALLOCATE || opcode == FUSE_COPY_FILE_RANGE ||
		      opcode == FUC_COPY_FILE_RANGE_64;
	size_t n = 0;

	for (uint64_t fields = below(12); fields; fields--) {
		uint64_t pick = below(8), v;

		v = pick == 0	? fh
		    : pick == 1 ? dir_fh
		    : pick == 2 ? node
		    : pick == 3 ? out_len
				: hostile_number(&seed);
		if (costly && pick > 2)
			v &= 0xfffff;
		memcpy(p + n, &v, sizeof(v));
		n += below(4) ? 8 : 4;
	}
	for (uint64_t k = below(3); k; k--) {
		const char *name = names[below(sizeof(names) / sizeof(names[0]))];

		memcpy(p + n, name, strlen(name) + 1);
		n += strlen(name) + 1;
	}
	if (n && below(4) == 0)
		n -= below(n < 9 ? n : 9);
	if (below(6) == 0) {
		size_t more = below(3000);

		memset(p + n, (int)below(256), more);
		n += more;
	}
	return n;
}

static void open_fuse(void)
{
	struct vuc_config cfg = guest_default;

	cfg.packed = below(2);
	cfg.indirect = below(2);
	cfg.event_idx = below(2);
	cfg.queue_size = 1024;
	guest_open(&guest_, &daemon_, &cfg);
	node = guest_create(&guest_, "a", &fh);
	assert_ok(fuc_opendir(&guest_.f, FUSE_ROOT_ID, &dir_fh));
}

static void fuse_round(int round)
{
	uint32_t opcode = (uint32_t)below(58), out_len = (uint32_t)below(5000);
	struct fuse_in_header h = { .opcode = opcode, .unique = 77777, .pid = 1 };
	uint8_t bytes[8192];
	size_t layouts = 0, body;
	struct fuc_req *r;
	int err;

	/* A wait for a lock may last, and a sync of the whole host's disk too. */
	if (opcode == FUSE_SETLKW || opcode == FUSE_SYNCFS)
		opcode = h.opcode = FUSE_SETLK;
	if (below(50) == 0)
		h.opcode = opcode = (uint32_t)hostile_number(&seed);
	h.nodeid = below(3) ? (below(2) ? node : FUSE_ROOT_ID) : hostile_number(&seed);
	h.uid = below(8) ? 0 : (uint32_t)any();
	h.total_extlen = below(10) ? 0 : (uint16_t)any();
	body = make_body(bytes + sizeof(h), opcode, out_len);
	h.len = (uint32_t)(sizeof(h) + body);
	if (below(10) == 0)
		h.len = (uint32_t)hostile_number(&seed);
	memcpy(bytes, &h, sizeof(h));
	for (uint64_t flips = below(5) ? 0 : below(8); flips; flips--)
		bytes[below(sizeof(h) + body)] ^= (uint8_t)(1u << below(8));
	while (fuc_layouts[layouts].name)
		layouts++;
	guest_.f.layout = fuc_layouts[below(layouts)];
	r = fuc_submit(&guest_.f,
		       &(struct fuc_call){ .raw = true,
					   .lenient = true,
					   .unique = h.unique,
					   .in = { { bytes, below(20) ? sizeof(h) + body
								      : below(sizeof(h)) + 1 } },
					   .out_cap = out_len,
					   .queue = 1 + (unsigned int)below(3) });
	assert_non_null(r);
	err = fuc_wait(r, 5000);
	if (err)
		fail_msg("round %d, opcode %u: %s", round, opcode, strerror(-err));
	/* Only what looks like one of these has no answer. */
	memcpy(&h, bytes, sizeof(h));
	if (r->used_len < sizeof(struct fuse_out_header) && h.opcode != FUSE_FORGET &&
	    h.opcode != FUSE_BATCH_FORGET && h.opcode != FUSE_INTERRUPT &&
	    h.opcode != FUSE_NOTIFY_REPLY)
		fail_msg("round %d, opcode %u: no answer", round, h.opcode);
	fuc_done(r);
}

static void fuse_bytes(void **state)
{
	(void)state;
	for (int round = 0; round < FUSE_ROUNDS; round++) {
		if (round % 100 == 0) {
			if (round)
				guest_close(&guest_);
			daemon_wipe(&daemon_);
			open_fuse();
		}
		fuse_round(round);
	}
}

/* --- rings ------------------------------------------------------------------- */

static void mutate_ring(struct vuc_queue *q)
{
	for (uint64_t n = 1 + below(4); n; n--) {
		uint64_t what = below(4), at;
		uint8_t *p = q->ring.p;
		uint64_t len = q->ring.len;
		uint64_t v = hostile_number(&seed);

		if (q->indirect && below(3) == 0) {
			p = q->indirect_mem.p;
			len = q->indirect_max * 16u * 8u;
		} else if (below(2)) {
			/* Where it matters: descriptors in use, and the indices. */
			len = 16 * 16;
		}
		at = below(len - 8) & ~(what < 3 ? (1ull << what) - 1 : 7ull);
		memcpy(p + at, &v, 1u << what);
	}
}

static void open_ring(int variant)
{
	struct vuc_config cfg = guest_default;

	cfg.packed = variant & 1;
	cfg.indirect = variant & 2;
	cfg.event_idx = variant & 4;
	cfg.queue_size = 64;
	cfg.indirect_max = 16;
	cfg.mem_size = 16 << 20;
	guest_open(&guest_, &daemon_, &cfg);
}

static void ring_round(void)
{
	struct vuc_queue *q = &guest_.c.queues[1 + below(3)];
	struct pollfd p = { .fd = q->err_fd, .events = POLLIN };
	uint32_t base;

	for (int i = 0; i < 4; i++)
		fuc_submit(&guest_.f,
			   &(struct fuc_call){ .opcode = i & 1 ? FUSE_STATFS : FUSE_READLINK,
					       .nodeid = FUSE_ROOT_ID,
					       .out_cap = sizeof(struct fuse_statfs_out),
					       .queue = q->index,
					       .no_kick = below(2) });
	mutate_ring(q);
	vuc_queue_kick_always(q);
	poll(&p, 1, below(8) == 0);
	/* The requests are forgotten, and the ring begins anew, as after a reset. */
	if (vuc_queue_stop(&guest_.c, q->index, &base) == 0) {
		vuc_queue_reset(q);
		fuc_forget_all_requests(&guest_.f);
		if (vuc_queue_start(&guest_.c, q->index) == 0)
			return;
	}
	if (!daemon_running(&daemon_))
		fail_msg("the daemon died");
	guest_close(&guest_);
	open_ring((int)below(8));
}

static void rings_and_descriptors(void **state)
{
	(void)state;
	for (int round = 0; round < RING_ROUNDS; round++) {
		if (round % 200 == 0) {
			if (round)
				guest_close(&guest_);
			open_ring(round / 200);
		}
		ring_round();
	}
}

/* --- messages ---------------------------------------------------------------- */

struct script {
	struct {
		struct vuc_hdr h;
		uint8_t body[272];
		int fds[4];
		size_t nfds;
	} m[40];
	size_t n;
};

static void say(struct script *s, uint32_t request, const void *body, uint32_t size, int fd)
{
	struct vuc_hdr h = { .request = request, .flags = VUC_VERSION, .size = size };

	if (s->n & 1)
		h.flags |= VUC_FLAG_NEED_REPLY;
	s->m[s->n].h = h;
	if (size)
		memcpy(s->m[s->n].body, body, size);
	s->m[s->n].nfds = 0;
	if (fd >= 0)
		s->m[s->n].fds[s->m[s->n].nfds++] = fd;
	s->n++;
}

/* A whole set-up of two queues, as it goes over the socket. */
static void write_script(struct script *s, struct vuc *c, bool packed)
{
	uint64_t features = VUC_BIT(VIRTIO_F_VERSION_1) | VUC_BIT(VUC_F_PROTOCOL_FEATURES) |
			    VUC_BIT(VUC_F_LOG_ALL) | (packed ? VUC_BIT(VIRTIO_F_RING_PACKED) : 0);
	uint64_t pf = VUC_BIT(VUC_PF_MQ) | VUC_BIT(VUC_PF_REPLY_ACK) | VUC_BIT(VUC_PF_STATUS) |
		      VUC_BIT(VUC_PF_CONFIGURE_MEM_SLOTS) | VUC_BIT(VUC_PF_INFLIGHT_SHMFD) |
		      VUC_BIT(VUC_PF_LOG_SHMFD) | VUC_BIT(VUC_PF_RESET_DEVICE);
	const struct vuc_region *r = &c->regions[0];
	struct vuc_mem_table_msg table = { .count = 1 };
	struct vuc_mem_single_msg one = { .region = { 1ull << 40, 1 << 20, 1ull << 41, 0 } };
	struct vuc_inflight_msg inflight = { 1 << 20, 0, 2, 64, 0 };
	struct vuc_log_msg log = { 1 << 20, 0 };
	struct vuc_config_msg config = { 0, 40, 0, { 0 } };
	uint64_t status = 15;

	s->n = 0;
	table.regions[0] = (struct vuc_mem_region_msg){ r->gpa, r->size, (uintptr_t)r->map, 0 };
	say(s, VUC_GET_FEATURES, NULL, 0, -1);
	say(s, VUC_GET_PROTOCOL_FEATURES, NULL, 0, -1);
	say(s, VUC_SET_PROTOCOL_FEATURES, &pf, 8, -1);
	say(s, VUC_GET_QUEUE_NUM, NULL, 0, -1);
	say(s, VUC_GET_CONFIG, &config, VUC_CONFIG_HDR + 40, -1);
	say(s, VUC_SET_OWNER, NULL, 0, -1);
	say(s, VUC_GET_INFLIGHT_FD, &inflight, sizeof(inflight), -1);
	say(s, VUC_SET_INFLIGHT_FD, &inflight, sizeof(inflight), r->fd);
	say(s, VUC_SET_FEATURES, &features, 8, -1);
	say(s, VUC_SET_MEM_TABLE, &table, 8 + 32, r->fd);
	say(s, VUC_SET_LOG_BASE, &log, sizeof(log), r->fd);
	say(s, VUC_ADD_MEM_REG, &one, sizeof(one), r->fd);
	for (unsigned int i = 0; i < 2; i++) {
		struct vuc_queue *q = &c->queues[i];
		struct vhost_vring_state num = { i, q->size }, base = { i, vuc_queue_base(q) };
		struct vhost_vring_state on = { i, 1 };
		struct vhost_vring_addr addr = {
			.index = i,
			.desc_user_addr = vuc_mem_user_addr(c, q->desc_gpa),
			.avail_user_addr = vuc_mem_user_addr(c, q->avail_gpa),
			.used_user_addr = vuc_mem_user_addr(c, q->used_gpa)
		};
		uint64_t index = i;

		say(s, VUC_SET_VRING_NUM, &num, sizeof(num), -1);
		say(s, VUC_SET_VRING_BASE, &base, sizeof(base), -1);
		say(s, VUC_SET_VRING_ADDR, &addr, sizeof(addr), -1);
		say(s, VUC_SET_VRING_CALL, &index, 8, q->call_fd);
		say(s, VUC_SET_VRING_ERR, &index, 8, q->err_fd);
		say(s, VUC_SET_VRING_KICK, &index, 8, q->kick_fd);
		say(s, VUC_SET_VRING_ENABLE, &on, sizeof(on), -1);
	}
	say(s, VUC_SET_STATUS, &status, 8, -1);
	say(s, VUC_REM_MEM_REG, &one, sizeof(one), -1);
	say(s, VUC_GET_VRING_BASE, &(struct vhost_vring_state){ 1, 0 }, 8, -1);
}

/* Spoils one message of the script; `extra` is a descriptor it may attach. */
static void mutate_script(struct script *s, int extra)
{
	size_t i = below(s->n);
	uint64_t v = hostile_number(&seed);

	switch (below(9)) {
	case 0:
		s->m[i].body[below(sizeof(s->m[i].body))] ^= (uint8_t)(1u << below(8));
		break;
	case 1:
	case 2:
		memcpy(s->m[i].body + below(8) * 4, &v, 4);
		break;
	case 3:
	case 4:
		memcpy(s->m[i].body + below(5) * 8, &v, 8);
		break;
	case 5:
		s->m[i].h.request = (uint32_t)below(46);
		break;
	case 6:
		s->m[i].h.size = (uint32_t)below(272);
		break;
	case 7:
		if (below(2))
			s->m[i].nfds = 0;
		else
			s->m[i].fds[s->m[i].nfds++] = extra;
		break;
	default:
		s->m[i] = s->m[below(s->n)];
	}
}

static void message_round(int round)
{
	static struct script s;
	struct vuc_config cfg = {
		.queues = 2, .queue_size = 64, .timeout_ms = 5000, .packed = round & 1
	};
	int extra = hostile_open((enum hostile_fd)below(HOSTILE_FD_KINDS), &daemon_);
	struct vuc c;
	int err = 0;

	assert_ok(vuc_init(&c, &cfg));
	c.features = cfg.packed ? VUC_BIT(VIRTIO_F_RING_PACKED) : 0;
	assert_ok(vuc_queue_setup(&c, 0));
	assert_ok(vuc_queue_setup(&c, 1));
	write_script(&s, &c, cfg.packed);
	for (uint64_t n = 1 + below(3); n; n--)
		mutate_script(&s, extra);
	assert_ok(vuc_connect(&c, daemon_.socket, 5000));
	for (size_t i = 0; i < s.n && !err; i++) {
		uint8_t raw[sizeof(struct vuc_hdr) + sizeof(s.m[0].body)];

		memcpy(raw, &s.m[i].h, sizeof(struct vuc_hdr));
		memcpy(raw + sizeof(struct vuc_hdr), s.m[i].body, sizeof(s.m[i].body));
		err = vuc_send_raw(&c, raw, sizeof(struct vuc_hdr) + s.m[i].h.size, s.m[i].fds,
				   s.m[i].nfds);
	}
	hostile_talks(&c);
	vuc_close(&c);
	close(extra);
	if (!daemon_running(&daemon_))
		fail_msg("the daemon died in round %d", round);
}

static void messages(void **state)
{
	(void)state;
	for (int round = 0; round < MESSAGE_ROUNDS; round++)
		message_round(round);
}

#define mutation_test(f) cmocka_unit_test_teardown(f, aftermath)

int main(void)
{
	const struct CMUnitTest tests[] = {
		mutation_test(fuse_bytes),
		mutation_test(rings_and_descriptors),
		mutation_test(messages),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("mutations", tests, set_up, NULL);
}
