/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user messages: how they are cut out of the stream, and what the device
 * answers to each, right and wrong ones.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "toy_device.h"
#include "virtio/vhost_user_msg.h"

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ---- Receiving ---- */

struct stream {
	struct vhost_user_receiver receiver;
	struct vuc c; /* for vuc_send_raw() */
	int fd;
	unsigned fds_before;
};

static void stream_open(struct stream *s)
{
	int pair[2];

	memset(s, 0, sizeof(*s));
	s->fds_before = count_fds();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s->fd = pair[0];
	s->c.sock = pair[1];
	vhost_user_receiver_init(&s->receiver);
}

/* Everything that was received is closed by now. */
static void stream_close(struct stream *s)
{
	vhost_user_msg_release(&s->receiver);
	close(s->fd);
	if (s->c.sock >= 0)
		close(s->c.sock);
	assert_int_equal(count_fds(), s->fds_before);
}

static void stream_send(struct stream *s, const void *buf, size_t len, unsigned nfds)
{
	int fds[16];

	for (unsigned i = 0; i < nfds; i++)
		fds[i] = 0;
	assert_int_equal(vuc_send_raw(&s->c, buf, len, fds, nfds), 0);
}

static int stream_receive(struct stream *s)
{
	const char *reason = NULL;
	int err = vhost_user_receive(&s->receiver, s->fd, &reason);

	if (err == -EPROTO)
		assert_non_null(reason);
	return err;
}

static void test_message_in_pieces(void **state)
{
	const struct {
		struct vhost_user_header header;
		uint32_t body[2];
	} msg = { { VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8 }, { 0x55, 0xaa } };
	struct stream s;

	(void)state;
	stream_open(&s);
	assert_int_equal(stream_receive(&s), -EAGAIN);
	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(msg); i++) {
			assert_int_equal(stream_receive(&s), -EAGAIN);
			stream_send(&s, (const char *)&msg + i, 1, i == 5 ? 1 : 0);
		}
		assert_int_equal(stream_receive(&s), 1);
		assert_memory_equal(&s.receiver.msg.header, &msg.header, sizeof(msg.header));
		assert_int_equal(s.receiver.msg.body.u64, 0xaa00000055ull);
		assert_int_equal(s.receiver.msg.fd_count, 1);
		vhost_user_msg_release(&s.receiver);
	}
	stream_close(&s);
}

/* Two messages at once: the descriptors stay with theirs. */
static void test_descriptors_belong_to_their_message(void **state)
{
	const struct vhost_user_header plain = { VHOST_USER_SET_OWNER, VHOST_USER_VERSION, 0 };
	struct stream s;
	int fd;

	(void)state;
	stream_open(&s);
	stream_send(&s, &plain, sizeof(plain), 0);
	stream_send(&s, &plain, sizeof(plain), VHOST_USER_FDS_MAX);
	stream_send(&s, &plain, sizeof(plain), 0);
	assert_int_equal(stream_receive(&s), 1);
	assert_int_equal(s.receiver.msg.fd_count, 0);
	vhost_user_msg_release(&s.receiver);
	assert_int_equal(stream_receive(&s), 1);
	assert_int_equal(s.receiver.msg.fd_count, VHOST_USER_FDS_MAX);
	fd = vhost_user_msg_take_fd(&s.receiver.msg, 3);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(vhost_user_msg_take_fd(&s.receiver.msg, 3), -1);
	assert_int_equal(vhost_user_msg_take_fd(&s.receiver.msg, VHOST_USER_FDS_MAX), -1);
	vhost_user_msg_release(&s.receiver);
	assert_int_equal(close(fd), 0); /* what was taken was not closed */
	assert_int_equal(stream_receive(&s), 1);
	assert_int_equal(s.receiver.msg.fd_count, 0);
	stream_close(&s);
}

static void test_too_many_descriptors(void **state)
{
	const struct vhost_user_header plain = { VHOST_USER_SET_OWNER, VHOST_USER_VERSION, 0 };
	struct stream s;

	(void)state;
	stream_open(&s);
	stream_send(&s, &plain, sizeof(plain), VHOST_USER_FDS_MAX + 1);
	assert_int_equal(stream_receive(&s), -EPROTO);
	stream_close(&s);

	/* Spread over the bytes of one message. */
	stream_open(&s);
	stream_send(&s, &plain, 4, VHOST_USER_FDS_MAX);
	stream_send(&s, (const char *)&plain + 4, 4, 1);
	stream_send(&s, (const char *)&plain + 8, 4, 0);
	assert_int_equal(stream_receive(&s), -EPROTO);
	stream_close(&s);
}

static void test_wrong_headers(void **state)
{
	static const struct vhost_user_header wrong[] = {
		{ VHOST_USER_GET_FEATURES, 0, 0 },
		{ VHOST_USER_GET_FEATURES, 2, 0 },
		{ VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 0 },
		{ VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, VHOST_USER_BODY_MAX + 1 },
		{ VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, UINT32_MAX },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct stream s;

		stream_open(&s);
		stream_send(&s, &wrong[i], sizeof(wrong[i]), 2);
		assert_int_equal(stream_receive(&s), -EPROTO);
		stream_close(&s);
	}
}

/* What a body has beyond our structures is read and ignored. */
static void test_long_body(void **state)
{
	const struct vhost_user_header last = { VHOST_USER_SET_OWNER, VHOST_USER_VERSION, 0 };
	const struct vhost_user_header header = { 77, VHOST_USER_VERSION, VHOST_USER_BODY_MAX };
	char body[VHOST_USER_BODY_MAX];
	struct stream s;

	(void)state;
	stream_open(&s);
	memset(body, 'x', sizeof(body));
	stream_send(&s, &header, sizeof(header), 0);
	stream_send(&s, body, sizeof(body), 0);
	stream_send(&s, &last, sizeof(last), 0);
	assert_int_equal(stream_receive(&s), 1);
	assert_int_equal(s.receiver.msg.header.size, sizeof(body));
	assert_memory_equal(&s.receiver.msg.body, body, sizeof(union vhost_user_body));
	vhost_user_msg_release(&s.receiver);
	assert_int_equal(stream_receive(&s), 1);
	assert_int_equal(s.receiver.msg.header.request, VHOST_USER_SET_OWNER);
	stream_close(&s);
}

static void test_end_in_the_middle(void **state)
{
	const struct vhost_user_header header = { VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8 };
	struct stream s;

	(void)state;
	for (size_t len = 0; len <= sizeof(header); len++) {
		stream_open(&s);
		if (len)
			stream_send(&s, &header, len, 1);
		close(s.c.sock);
		s.c.sock = -1;
		assert_int_equal(stream_receive(&s), -ECONNRESET);
		stream_close(&s);
	}
}

static void test_reply_carries_a_descriptor(void **state)
{
	const struct vhost_user_header request = { VHOST_USER_GET_INFLIGHT_FD,
						   VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY,
						   20 };
	const uint64_t body = 0x1122334455667788ull;
	int fds[VUC_MAX_FDS];
	struct vuc_msg reply;
	struct stream s;
	size_t nfds;

	(void)state;
	stream_open(&s);
	s.c.cfg.timeout_ms = WAIT_MS;
	assert_int_equal(vhost_user_reply(s.fd, &request, &body, sizeof(body), 0), 0);
	assert_int_equal(vuc_recv(&s.c, &reply, fds, &nfds), 0);
	assert_int_equal(reply.hdr.request, VHOST_USER_GET_INFLIGHT_FD);
	assert_int_equal(reply.hdr.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY);
	assert_int_equal(reply.hdr.size, sizeof(body));
	assert_int_equal(reply.u.u64, body);
	assert_int_equal(nfds, 1);
	close(fds[0]);
	close(s.c.sock);
	s.c.sock = -1;
	assert_int_equal(vhost_user_reply(s.fd, &request, &body, sizeof(body), -1), -EPIPE);
	stream_close(&s);
}

/* ---- What the device answers ---- */

static struct toy toy;

static int device_setup(void **state)
{
	(void)state;
	toy_start(&toy, 0, 1000);
	return 0;
}

static int device_teardown(void **state)
{
	(void)state;
	toy_end(&toy);
	return 0;
}

/* Connected and negotiated, nothing else. */
static void negotiated(struct vuc *c)
{
	static const struct vuc_config config = { .mem_slots = true, .inflight = true };

	assert_int_equal(vuc_init(c, &config), 0);
	front_attach(c, &toy);
	assert_int_equal(vuc_negotiate(c), 0);
	assert_int_equal(vuc_set_u64(c, VUC_SET_FEATURES, c->features), 0);
}

static void test_what_is_offered(void **state)
{
	struct vuc c;

	(void)state;
	negotiated(&c);
	assert_int_equal(c.offered, VUC_BIT(32) | VUC_BIT(28) | VUC_BIT(29) | VUC_BIT(34) |
					    VUC_BIT(40) | VUC_BIT(26) | VUC_BIT(30));
	assert_int_equal(c.offered_pf, VUC_BIT(0) | VUC_BIT(1) | VUC_BIT(3) | VUC_BIT(5) |
					       VUC_BIT(9) | VUC_BIT(10) | VUC_BIT(12) |
					       VUC_BIT(13) | VUC_BIT(15) | VUC_BIT(16) |
					       VUC_BIT(22));
	assert_int_equal(c.max_queues, 4);
	assert_int_equal(c.max_slots, 509);
	assert_int_equal(vuc_set_u64(&c, VUC_SET_FEATURES, VUC_BIT(33)), -EREMOTEIO);
	assert_int_equal(vuc_set_u64(&c, VUC_SET_PROTOCOL_FEATURES, VUC_BIT(63)), -EREMOTEIO);
	assert_true(vuc_alive(&c));
	front_close(&c, &toy);
}

static void test_configuration_space(void **state)
{
	static const struct {
		uint32_t offset, size;
		bool valid;
	} ranges[] = {
		{ 0, 40, true },   { 0, 44, true },	     { 36, 4, true },
		{ 44, 0, true },   { 0, 45, false },	     { 40, 5, false },
		{ 256, 1, false }, { 0, UINT32_MAX, false }, { UINT32_MAX, UINT32_MAX, false }
	};
	struct vuc c;

	(void)state;
	negotiated(&c);
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct vuc_config_msg ask = { ranges[i].offset, ranges[i].size, 0, { 0 } };
		struct vuc_msg reply;
		uint32_t size = ranges[i].valid ? ranges[i].size : 0;
		uint8_t space[44] = "toytag";

		space[36] = 3;
		assert_int_equal(
			vuc_query(&c, VUC_GET_CONFIG, &ask, VUC_CONFIG_HDR, &reply, VUC_CONFIG_HDR),
			0);
		assert_int_equal(reply.u.config.size, size);
		assert_int_equal(reply.hdr.size, VUC_CONFIG_HDR + size);
		if (size)
			assert_memory_equal(reply.u.config.data, space + ask.offset, size);
	}
	front_close(&c, &toy);
}

static void test_configuration_is_read_only(void **state)
{
	struct vuc_config_msg set = { 36, 4, 0, { 3, 0, 0, 0 } };
	const size_t size = VUC_CONFIG_HDR + 4;
	struct vuc c;

	(void)state;
	negotiated(&c);
	assert_int_equal(vuc_request(&c, VUC_SET_CONFIG, &set, size, NULL, 0), -EREMOTEIO);
	set.flags = 1; /* migration, with what is there already */
	assert_int_equal(vuc_request(&c, VUC_SET_CONFIG, &set, size, NULL, 0), 0);
	set.data[0] = 4;
	assert_int_equal(vuc_request(&c, VUC_SET_CONFIG, &set, size, NULL, 0), -EREMOTEIO);
	set.size = 5;
	assert_int_equal(vuc_request(&c, VUC_SET_CONFIG, &set, size, NULL, 0), -EREMOTEIO);
	front_close(&c, &toy);
}

static void test_unknown_messages(void **state)
{
	static const uint32_t unknown[] = { 0, 19, 20, 22, 23, 35, 41, 45, 999, UINT32_MAX };
	unsigned before;
	struct vuc c;

	(void)state;
	negotiated(&c);
	before = count_fds();
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		struct vuc_hdr quiet = { unknown[i], VUC_VERSION, 0 };
		int fds[2] = { 0, 1 };

		assert_int_equal(vuc_request(&c, unknown[i], fds, 8, fds, 2), -EREMOTEIO);
		assert_int_equal(vuc_send_raw(&c, &quiet, sizeof(quiet), fds, 2), 0);
		assert_true(vuc_alive(&c));
	}
	assert_int_equal(count_fds(), before);
	front_close(&c, &toy);
}

/* Bodies too short, descriptors too few and too many: refused, and closed. */
static void test_wrong_shapes(void **state)
{
	static const struct {
		uint32_t request, size, fds;
	} wrong[] = {
		{ VUC_SET_FEATURES, 7, 0 },	{ VUC_SET_FEATURES, 8, 1 },
		{ VUC_SET_MEM_TABLE, 7, 0 },	{ VUC_SET_LOG_FD, 0, 0 },
		{ VUC_SET_LOG_FD, 0, 2 },	{ VUC_SET_VRING_NUM, 7, 0 },
		{ VUC_SET_VRING_ADDR, 39, 0 },	{ VUC_SET_VRING_KICK, 8, 2 },
		{ VUC_SET_VRING_KICK, 8, 0 },	{ VUC_SET_VRING_CALL, 4, 1 },
		{ VUC_SET_VRING_ERR, 8, 0 },	{ VUC_SET_BACKEND_REQ_FD, 0, 0 },
		{ VUC_SET_INFLIGHT_FD, 24, 0 }, { VUC_SET_INFLIGHT_FD, 19, 1 },
		{ VUC_ADD_MEM_REG, 40, 0 },	{ VUC_ADD_MEM_REG, 39, 1 },
		{ VUC_REM_MEM_REG, 40, 2 },	{ VUC_SET_STATUS, 0, 0 },
	};
	static const uint8_t zeros[64];
	unsigned before;
	struct vuc c;

	(void)state;
	negotiated(&c);
	before = count_fds();
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		int fds[2] = { 0, 1 };

		assert_int_equal(
			vuc_request(&c, wrong[i].request, zeros, wrong[i].size, fds, wrong[i].fds),
			-EREMOTEIO);
	}
	assert_true(vuc_alive(&c));
	assert_int_equal(count_fds(), before);
	front_close(&c, &toy);
}

/* Values that no ring has; those that a front end waits on end the connection. */
static void test_wrong_values(void **state)
{
	const struct vhost_vring_addr addr = { .index = 4 };
	const uint64_t nofd_with_fd = 1 | VUC_VRING_NOFD;
	struct vhost_vring_state s = { .index = 4 };
	struct vuc_msg reply;
	int fd = 0;
	struct vuc c;

	(void)state;
	negotiated(&c);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_NUM, 4, 128), -EREMOTEIO);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_NUM, 0, 0), -EREMOTEIO);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_NUM, 0, 1025), -EREMOTEIO);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_BASE, 0, 1u << 16), -EREMOTEIO);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_ENABLE, 0, 2), -EREMOTEIO);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_ENABLE, UINT32_MAX, 1), -EREMOTEIO);
	assert_int_equal(vuc_request(&c, VUC_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			 -EREMOTEIO);
	assert_int_equal(vuc_request(&c, VUC_SET_VRING_KICK, &nofd_with_fd, 8, &fd, 1), -EREMOTEIO);
	assert_int_equal(vuc_set_u64(&c, VUC_SET_STATUS, 256), -EREMOTEIO);
	assert_true(vuc_alive(&c));
	assert_int_equal(vuc_query(&c, VUC_GET_VRING_BASE, &s, sizeof(s), &reply, sizeof(s)),
			 -ECONNRESET);
	front_close(&c, &toy);
}

/* As User-mode Linux sends it: room for two regions, one filled, one descriptor. */
static void test_memory_table_with_room_to_spare(void **state)
{
	struct {
		struct vhost_user_mem_table table;
		char beyond[100];
	} body = { .table.count = 1 };
	struct vuc c;

	(void)state;
	negotiated(&c);
	body.table.regions[0].guest_addr = c.regions[0].gpa;
	body.table.regions[0].user_addr = (uintptr_t)c.regions[0].map;
	body.table.regions[0].size = c.regions[0].size;
	assert_int_equal(vuc_request(&c, VUC_SET_MEM_TABLE, &body, 8 + 2 * 32, &c.regions[0].fd, 1),
			 0);
	assert_int_equal(
		vuc_request(&c, VUC_SET_MEM_TABLE, &body, sizeof(body), &c.regions[0].fd, 1), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vuc_queue_setup(&c, i), 0);
		assert_int_equal(vuc_queue_start(&c, i), 0);
	}
	front_load(&c, 1, 4, 20, "ew");
	/* A table that is refused changes nothing. */
	body.table.count = 2;
	assert_int_equal(vuc_request(&c, VUC_SET_MEM_TABLE, &body, 8 + 2 * 32, &c.regions[0].fd, 1),
			 -EREMOTEIO);
	body.table.count = 9;
	assert_int_equal(
		vuc_request(&c, VUC_SET_MEM_TABLE, &body, sizeof(body), &c.regions[0].fd, 1),
		-EREMOTEIO);
	body.table.count = 1;
	assert_int_equal(vuc_request(&c, VUC_SET_MEM_TABLE, &body, 8 + 31, &c.regions[0].fd, 1),
			 -EREMOTEIO);
	front_load(&c, 1, 4, 20, "ew");
	front_close(&c, &toy);
}

static void test_inflight_area(void **state)
{
	struct vuc_inflight_msg ask = { .num_queues = 4, .queue_size = 128 };
	struct vuc_msg reply;
	int fds[VUC_MAX_FDS];
	size_t nfds;
	struct vuc c;
	struct {
		struct vuc_hdr hdr;
		struct vuc_inflight_msg body;
	} __attribute__((packed))
	msg = { { VUC_GET_INFLIGHT_FD, VUC_VERSION, sizeof(msg.body) }, ask };

	(void)state;
	negotiated(&c);
	assert_int_equal(vuc_send_raw(&c, &msg, sizeof(msg), NULL, 0), 0);
	assert_int_equal(vuc_recv(&c, &reply, fds, &nfds), 0);
	assert_int_equal(nfds, 1);
	assert_int_equal(reply.hdr.size, 24);
	assert_true(reply.u.inflight.mmap_size >= 4 * 128 * 16);
	assert_int_equal(vuc_request(&c, VUC_SET_INFLIGHT_FD, &reply.u.inflight, 20, fds, 1), 0);
	reply.u.inflight.queue_size = 1024; /* more than the area holds */
	assert_int_equal(vuc_request(&c, VUC_SET_INFLIGHT_FD, &reply.u.inflight, 24, fds, 1),
			 -EREMOTEIO);
	close(fds[0]);
	/* What cannot be had is refused with a size of 0 and no descriptor. */
	msg.body.num_queues = 5;
	assert_int_equal(vuc_send_raw(&c, &msg, sizeof(msg), NULL, 0), 0);
	assert_int_equal(vuc_recv(&c, &reply, fds, &nfds), 0);
	assert_int_equal(nfds, 0);
	assert_int_equal(reply.u.inflight.mmap_size, 0);
	front_close(&c, &toy);
}

/* KICK first, the rest in any order: the ring starts when it has all. */
static void test_any_order(void **state)
{
	struct vuc_queue *q;
	struct echo e;
	struct vuc c;

	(void)state;
	negotiated(&c);
	q = &c.queues[1];
	assert_int_equal(vuc_queue_setup(&c, 1), 0);
	echo_init(&e, &c, 0);
	echo_submit(&e, q, 'e', 1);
	assert_int_equal(vuc_queue_enable(&c, 1, true), 0);
	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, 1, q->kick_fd), 0);
	assert_int_equal(vuc_queue_send_addr(&c, 1), 0);
	assert_int_equal(vuc_set_state(&c, VUC_SET_VRING_NUM, 1, q->size), 0);
	vuc_queue_kick_always(q);
	assert_int_equal(vuc_mem_table(&c), 0);
	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_CALL, 1, q->call_fd), 0);
	front_reap(q);
	front_load(&c, 1, 4, 20, "ew");
	front_close(&c, &toy);
}

/* Descriptors that cannot do what they are for. */
static void test_unusable_descriptors(void **state)
{
	int file = memfd_create("file", MFD_CLOEXEC);
	int readonly = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct vuc c;

	(void)state;
	negotiated(&c);
	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_KICK, 1, file), -EREMOTEIO);
	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_CALL, 1, readonly), -EREMOTEIO);
	assert_int_equal(vuc_queue_send_fd(&c, VUC_SET_VRING_ERR, 1, readonly), -EREMOTEIO);
	assert_int_equal(vuc_request(&c, VUC_SET_LOG_FD, NULL, 0, &readonly, 1), -EREMOTEIO);
	assert_true(vuc_alive(&c));
	close(file);
	close(readonly);
	front_close(&c, &toy);
}

static void test_log_descriptor_is_signalled(void **state)
{
	const struct vuc_config config = { .log_all = true };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t count;
	struct vuc c;

	(void)state;
	front_open(&c, &toy, &config);
	assert_int_equal(vuc_request(&c, VUC_SET_LOG_FD, NULL, 0, &fd, 1), 0);
	front_echo(&c, 1, 'e');
	assert_int_equal(vuc_log_start(&c), 0);
	assert_int_equal(vuc_log_enable(&c, true), 0);
	front_echo(&c, 1, 'e');
	assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
	front_close(&c, &toy);
	close(fd);
}

#define device_test(f) cmocka_unit_test_setup_teardown(f, device_setup, device_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message_in_pieces),
		cmocka_unit_test(test_descriptors_belong_to_their_message),
		cmocka_unit_test(test_too_many_descriptors),
		cmocka_unit_test(test_wrong_headers),
		cmocka_unit_test(test_long_body),
		cmocka_unit_test(test_end_in_the_middle),
		cmocka_unit_test(test_reply_carries_a_descriptor),
		device_test(test_what_is_offered),
		device_test(test_configuration_space),
		device_test(test_configuration_is_read_only),
		device_test(test_unknown_messages),
		device_test(test_wrong_shapes),
		device_test(test_wrong_values),
		device_test(test_memory_table_with_room_to_spare),
		device_test(test_inflight_area),
		device_test(test_any_order),
		device_test(test_unusable_descriptors),
		device_test(test_log_descriptor_is_signalled),
	};

	signal(SIGPIPE, SIG_IGN);
	/* What is refused is logged; that is not what is tested here. */
	log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
