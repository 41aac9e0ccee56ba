/* SPDX-License-Identifier: Apache-2.0 */
/* The window: what we ask the front end to map, and front ends that lie about it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "toy_device.h"
#include "virtio/backend_channel.h"
#include "vuc_window.h"

#define SLOT (2ull << 20)

static const struct vuc_config with_window = { .queues = 4, .window = true };

/* A file of @slots slots; each page begins with its number. */
static int make_file(unsigned slots)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(slots * SLOT)), 0);
	for (uint64_t page = 0; page < slots * SLOT / 4096; page++)
		assert_int_equal(pwrite(fd, &page, sizeof(page), (off_t)(page * 4096)),
				 sizeof(page));
	return fd;
}

static uint64_t at(const struct vuc_window *w, uint64_t offset)
{
	uint64_t value;

	memcpy(&value, w->base + offset, sizeof(value));
	return value;
}

static void open_all(struct toy *toy, struct vuc *c, struct vuc_window *w)
{
	toy_start(toy, 0, 1000);
	front_open(c, toy, &with_window);
	assert_int_equal(vuc_window_open(w, c), 0);
}

static void close_all(struct toy *toy, struct vuc *c, struct vuc_window *w)
{
	front_close(c, toy);
	vuc_window_close(w);
	toy_end(toy);
}

static void test_map_and_unmap(void **state)
{
	int fd = make_file(4);
	struct vuc_window w;
	struct toy toy;
	struct vuc c;

	(void)state;
	open_all(&toy, &c, &w);
	assert_true(virtio_device_has_window(toy.device));
	assert_int_equal(w.size, 4 * SLOT);
	assert_int_equal(virtio_device_shmem_map(toy.device, fd, SLOT, 0, SLOT, true), 0);
	assert_int_equal(virtio_device_shmem_map(toy.device, fd, 0, 3 * SLOT, SLOT, false), 0);
	assert_int_equal(at(&w, 4096), SLOT / 4096 + 1);
	assert_int_equal(at(&w, 3 * SLOT + 8192), 2);
	/* The same memory, not a copy. */
	memset(w.base, 0x55, 8);
	assert_int_equal(pread(fd, w.base + 8, 8, (off_t)SLOT), 8);
	assert_int_equal(at(&w, 8), 0x5555555555555555);
	/* What it refuses is an error, and the channel goes on. */
	assert_int_equal(virtio_device_shmem_map(toy.device, fd, 0, 0, SLOT, true), -EIO);
	assert_int_equal(virtio_device_shmem_map(toy.device, fd, 0, 4 * SLOT, SLOT, true), -EIO);
	assert_int_equal(virtio_device_shmem_unmap(toy.device, SLOT, SLOT), -EIO);
	assert_int_equal(virtio_device_shmem_unmap(toy.device, 0, SLOT), 0);
	assert_int_equal(virtio_device_shmem_unmap(toy.device, 3 * SLOT, SLOT), 0);
	assert_int_equal(w.live, 0);
	assert_int_equal(w.maps, 2);
	assert_int_equal(w.refused, 3);
	close_all(&toy, &c, &w);
	close(fd);
}

static void test_front_ends_without(void **state)
{
	const struct vuc_config configs[] = {
		{ .queues = 4 },
		{ .queues = 4, .backend_req = true },
		{ .queues = 4, .no_protocol_features = true },
	};
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for (unsigned i = 0; i < ARRAY_SIZE(configs); i++) {
		struct vuc c;

		front_open(&c, &toy, &configs[i]);
		assert_false(virtio_device_has_window(toy.device));
		assert_int_equal(virtio_device_shmem_map(toy.device, 0, 0, 0, SLOT, true),
				 -ENOTCONN);
		front_close(&c, &toy);
	}
	toy_end(&toy);
}

/* Each breaks the channel, and nothing but it. */
static void test_bad_answers(void **state)
{
	static const enum vuc_window_mode modes[] = {
		VUC_WINDOW_SILENT, VUC_WINDOW_LONG,	VUC_WINDOW_OTHER,
		VUC_WINDOW_HALF,   VUC_WINDOW_HANGS_UP,
	};
	int fd = make_file(1);
	struct toy toy;

	(void)state;
	toy_start(&toy, 0, 1000);
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		struct vuc_window w;
		struct vuc c;
		int ret;

		front_open(&c, &toy, &with_window);
		assert_int_equal(vuc_window_open(&w, &c), 0);
		assert_int_equal(virtio_device_shmem_map(toy.device, fd, 0, 0, SLOT, true), 0);
		atomic_store(&w.mode, modes[i]);
		ret = virtio_device_shmem_map(toy.device, fd, 0, SLOT, SLOT, true);
		assert_int_equal(ret, -EIO);
		/* It stays broken, though it would answer well now. */
		atomic_store(&w.mode, VUC_WINDOW_WELL);
		assert_int_equal(virtio_device_shmem_unmap(toy.device, 0, SLOT), -EIO);
		front_echo(&c, 1, 'e');
		front_close(&c, &toy);
		vuc_window_close(&w);
	}
	toy_end(&toy);
	close(fd);
}

static void test_descriptors_in_answers_leak_nothing(void **state)
{
	int fd = make_file(1), before, after;
	struct vuc_window w;
	struct toy toy;
	struct vuc c;

	(void)state;
	open_all(&toy, &c, &w);
	atomic_store(&w.mode, VUC_WINDOW_WITH_FD);
	before = dup(fd);
	close(before);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(virtio_device_shmem_map(toy.device, fd, 0, 0, SLOT, false), 0);
		assert_int_equal(virtio_device_shmem_unmap(toy.device, 0, SLOT), 0);
	}
	after = dup(fd);
	close(after);
	assert_int_equal(after, before);
	close_all(&toy, &c, &w);
	close(fd);
}

struct mapper {
	struct toy *toy;
	int fd, result;
	_Atomic bool done;
};

static void *mapper_run(void *arg)
{
	struct mapper *m = arg;

	m->result = virtio_device_shmem_map(m->toy->device, m->fd, 0, 0, SLOT, true);
	atomic_store(&m->done, true);
	return NULL;
}

/*
 * A front end stops a queue while we wait for its answer: it gets its reply, and the answer
 * that came too late is known for what it is.
 */
static void test_stop_ends_the_wait(void **state)
{
	struct mapper m = { .fd = make_file(1) };
	struct echo echo;
	struct vuc_window w;
	struct toy toy;
	struct vuc c;
	pthread_t thread;

	(void)state;
	open_all(&toy, &c, &w);
	m.toy = &toy;
	/* The front end's other thread is busy: it takes nothing off the channel. */
	pthread_mutex_lock(&w.lock);
	/* Stopping has something to wait for, in vain. */
	echo_init(&echo, &c, 0);
	echo_submit(&echo, &c.queues[1], 's', 1);
	vuc_queue_kick(&c.queues[1]);
	wait_for(&toy.requests, 1);
	assert_int_equal(pthread_create(&thread, NULL, mapper_run, &m), 0);
	wait_for(&w.asked, 1);
	assert_false(atomic_load(&m.done));
	assert_int_equal(vuc_queue_stop(&c, 1, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(m.result, -EAGAIN);
	pthread_mutex_unlock(&w.lock);
	assert_int_equal(toy_release(&toy, true), 1);
	/* The mapping that was made is undone before the next one takes its place. */
	assert_int_equal(virtio_device_shmem_map(toy.device, m.fd, 0, 0, SLOT, true), 0);
	assert_int_equal(w.maps, 2);
	assert_int_equal(w.unmaps, 1);
	assert_int_equal(w.refused, 0);
	close_all(&toy, &c, &w);
	close(m.fd);
}

/* The front end goes while somebody waits for its answer. */
static void test_disconnect_ends_the_wait(void **state)
{
	struct mapper m = { .fd = make_file(1) };
	struct vuc_window w;
	struct toy toy;
	struct vuc c;
	pthread_t thread;

	(void)state;
	open_all(&toy, &c, &w);
	m.toy = &toy;
	pthread_mutex_lock(&w.lock);
	assert_int_equal(pthread_create(&thread, NULL, mapper_run, &m), 0);
	wait_for(&w.asked, 1);
	front_close(&c, &toy);
	pthread_join(thread, NULL);
	assert_true(m.result == -EAGAIN || m.result == -ENOTCONN);
	pthread_mutex_unlock(&w.lock);
	vuc_window_close(&w);
	/* The next one starts with a channel of its own. */
	front_open(&c, &toy, &with_window);
	assert_int_equal(vuc_window_open(&w, &c), 0);
	assert_int_equal(virtio_device_shmem_map(toy.device, m.fd, 0, 0, SLOT, true), 0);
	close_all(&toy, &c, &w);
	close(m.fd);
}

/* ---- The channel alone ---- */

struct asker {
	struct backend_channel channel;
	int front; /* the other end */
	pthread_t thread;
	int result;
};

static void *asker_run(void *arg)
{
	struct asker *a = arg;

	a->result = backend_channel_map(&a->channel, a->front, 0, SLOT, SLOT, true);
	return NULL;
}

static void asker_start(struct asker *a)
{
	assert_int_equal(pthread_create(&a->thread, NULL, asker_run, a), 0);
}

/* It is interrupted where it waits. */
static void asker_interrupt(struct asker *a)
{
	backend_channel_hold(&a->channel);
	pthread_join(a->thread, NULL);
	backend_channel_release(&a->channel);
	assert_int_equal(a->result, -EAGAIN);
}

static void front_takes(struct asker *a, uint32_t request)
{
	struct {
		struct vhost_user_header header;
		struct vhost_user_mmap mmap;
	} __attribute__((packed)) message;

	assert_int_equal(recv(a->front, &message, sizeof(message), MSG_WAITALL), sizeof(message));
	assert_int_equal(message.header.request, request);
}

static void front_says_done(struct asker *a, uint32_t request)
{
	const struct {
		struct vhost_user_header header;
		uint64_t result;
	} __attribute__((packed)) reply = {
		.header = { .request = request,
			    .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
			    .size = sizeof(reply.result) },
	};

	assert_int_equal(send(a->front, &reply, sizeof(reply), 0), sizeof(reply));
}

/* A mapping that came too late is undone, though the first time there is no room to say so. */
static void test_undoing_waits_for_room(void **state)
{
	static char junk[4096];
	struct asker a = { .front = -1 };
	size_t filled = 0;
	int pair[2];
	ssize_t n;
	char byte;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(backend_channel_init(&a.channel, "test", WAIT_MS), 0);
	assert_int_equal(backend_channel_open(&a.channel, pair[0]), 0);
	a.front = pair[1];
	asker_start(&a);
	front_takes(&a, VHOST_USER_BACKEND_SHMEM_MAP);
	asker_interrupt(&a);
	front_says_done(&a, VHOST_USER_BACKEND_SHMEM_MAP);

	while ((n = send(pair[0], junk, sizeof(junk), MSG_DONTWAIT)) > 0)
		filled += (size_t)n;
	asker_start(&a);
	/* Until it has taken the answer. */
	while (recv(pair[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
		usleep(1000);
	asker_interrupt(&a);
	for (; filled; filled -= (size_t)n) {
		n = recv(a.front, junk, filled < sizeof(junk) ? filled : sizeof(junk), 0);
		assert_true(n > 0);
	}

	asker_start(&a);
	front_takes(&a, VHOST_USER_BACKEND_SHMEM_UNMAP);
	front_says_done(&a, VHOST_USER_BACKEND_SHMEM_UNMAP);
	front_takes(&a, VHOST_USER_BACKEND_SHMEM_MAP);
	front_says_done(&a, VHOST_USER_BACKEND_SHMEM_MAP);
	pthread_join(a.thread, NULL);
	assert_int_equal(a.result, 0);
	backend_channel_fini(&a.channel);
	close(a.front);
}

/* What is no stream socket is refused as a channel. */
static void test_channel_must_be_a_socket(void **state)
{
	int fds[2];
	struct toy toy;
	struct vuc c;

	(void)state;
	toy_start(&toy, 0, 1000);
	front_open(&c, &toy, &with_window);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(vuc_request(&c, VUC_SET_BACKEND_REQ_FD, NULL, 0, &fds[1], 1), -EREMOTEIO);
	assert_true(vuc_alive(&c));
	close(fds[0]);
	close(fds[1]);
	front_close(&c, &toy);
	toy_end(&toy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_and_unmap),
		cmocka_unit_test(test_front_ends_without),
		cmocka_unit_test(test_bad_answers),
		cmocka_unit_test(test_descriptors_in_answers_leak_nothing),
		cmocka_unit_test(test_stop_ends_the_wait),
		cmocka_unit_test(test_disconnect_ends_the_wait),
		cmocka_unit_test(test_undoing_waits_for_room),
		cmocka_unit_test(test_channel_must_be_a_socket),
	};

	signal(SIGPIPE, SIG_IGN);
	log_set_level(getenv("TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
