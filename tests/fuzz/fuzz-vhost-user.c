/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of a hostile front end, to a device that lives as long as the fuzzer:
 * each input is one connection, and must leave nothing behind.
 *
 * An input is a u16 length (little-endian) and that many bytes of guest memory,
 * then records of four bytes and a body:
 *
 *	u8 request	FUZZ_KICK and above are ours, the others are sent
 *	u8 flags	of the header; bit 7: the header lies about the length
 *	u8 descriptors	low nibble: how many; high nibble: the first one's kind,
 *			the others follow in the order of enum fd_kind
 *	u8 size		of the body that follows
 *
 * Guest memory is MEM_SIZE bytes; the rings of a good input lie in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/iov.h"
#include "base/log.h"
#include "base/loop.h"
#include "virtio/device.h"
#include "virtio/vhost_user_msg.h"

#define MEM_SIZE 65536
#define FUZZ_KICK 0xfd	   /* writes to the eventfd */
#define FUZZ_TRUNCATE 0xfe /* cuts guest memory to its first page */
#define FUZZ_PAUSE 0xff	   /* gives the device time to act */
#define FDS_MAX 10	   /* more than a message may carry */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum fd_kind {
	FD_MEM,
	FD_EVENT,
	FD_PIPE_READ,
	FD_PIPE_WRITE,
	FD_SOCKET,
	FD_NULL,
	FD_DIR,
	FD_KINDS
};

static struct {
	struct loop *loop;
	pthread_t thread;
	struct virtio_device *device;
	sem_t done;
	struct loop_task task;
	int attach_fd;
	int fds[FD_KINDS];
	int socket_other;
} g;

/* ---- The device ---- */

static void fuzz_request(void *ctx, struct virtio_req *req)
{
	struct iov_cursor in = iov_cursor(req->in, req->in_count);
	struct iov_cursor out = iov_cursor(req->out, req->out_count);
	char buf[4096];
	size_t n, written = 0;

	(void)ctx;
	if (req->in_count + req->out_count > 1024 || req->queue > 2)
		abort();
	memset(req->priv, 0x5a, 64);
	while ((n = iov_read(&in, buf, sizeof(buf))) != 0)
		written += iov_write(&out, buf, n);
	virtio_req_complete(req, written);
}

static void fuzz_interrupt(void *ctx)
{
	(void)ctx;
}

static void fuzz_detached(void *ctx)
{
	(void)ctx;
	sem_post(&g.done);
}

static const struct virtio_device_ops ops = {
	.priv_size = 64,
	.request = fuzz_request,
	.interrupt = fuzz_interrupt,
	.detached = fuzz_detached,
};

static void *control_thread(void *arg)
{
	(void)arg;
	loop_run(g.loop);
	return NULL;
}

static void attach(struct loop_task *task)
{
	(void)task;
	if (virtio_device_attach(g.device, g.attach_fd) < 0)
		abort();
	sem_post(&g.done);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct virtio_device_config config = {
		.name = "fuzz",
		.tag = "fuzz",
		.num_request_queues = 2,
		.drain_timeout_ms = 100,
	};

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	sem_init(&g.done, 0, 0);
	if (loop_new(&g.loop) || virtio_device_new(&g.device, &config, &ops, NULL, g.loop))
		abort();
	pthread_create(&g.thread, NULL, control_thread, NULL);
	return 0;
}

/* libFuzzer has a timer, whose signal interrupts a wait. */
static void wait_done(void)
{
	while (sem_wait(&g.done) < 0 && errno == EINTR)
		;
}

/* ---- The front end ---- */

static void open_fds(const uint8_t *mem, size_t mem_size)
{
	int pair[2];

	g.fds[FD_MEM] = memfd_create("fuzz", MFD_CLOEXEC);
	if (ftruncate(g.fds[FD_MEM], MEM_SIZE) < 0 ||
	    (mem_size && pwrite(g.fds[FD_MEM], mem, mem_size, 0) < 0))
		abort();
	g.fds[FD_EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pipe2(pair, O_CLOEXEC) < 0)
		abort();
	g.fds[FD_PIPE_READ] = pair[0];
	g.fds[FD_PIPE_WRITE] = pair[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	g.fds[FD_SOCKET] = pair[0];
	g.socket_other = pair[1];
	g.fds[FD_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	g.fds[FD_DIR] = open("/", O_PATH | O_CLOEXEC);
}

static void close_fds(void)
{
	for (unsigned i = 0; i < FD_KINDS; i++)
		close(g.fds[i]);
	close(g.socket_other);
}

/* Throws away what came, descriptors too; false at the end of the connection. */
static bool drain_replies(int sock, int flags)
{
	char control[CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)]
		__attribute__((aligned(sizeof(struct cmsghdr))));
	char buf[4096];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	for (;;) {
		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | flags);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
		for (struct cmsghdr *cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm), sizeof(fd));
			close(fd); /* no reply carries two */
		}
	}
}

static bool send_message(int sock, const void *msg, size_t len, unsigned kind, unsigned count)
{
	char control[CMSG_SPACE(sizeof(int) * FDS_MAX)]
		__attribute__((aligned(sizeof(struct cmsghdr)))) = { 0 };
	struct iovec iov = { (void *)(uintptr_t)msg, len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		struct cmsghdr *cm = (struct cmsghdr *)control;

		mh.msg_control = control;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * count);
		for (unsigned i = 0; i < count; i++)
			memcpy(CMSG_DATA(cm) + i * sizeof(int), &g.fds[(kind + i) % FD_KINDS],
			       sizeof(int));
	}
	for (;;) {
		struct pollfd p = { .fd = sock, .events = POLLIN | POLLOUT };

		if (sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return true;
		if (errno != EAGAIN || !drain_replies(sock, MSG_DONTWAIT))
			return false;
		poll(&p, 1, 100);
	}
}

/* One record; false when the connection is over. */
static bool run_record(int sock, const uint8_t *record, size_t body_size)
{
	const uint64_t one = 1;
	uint32_t msg[3 + 64];

	switch (record[0]) {
	case FUZZ_KICK:
		return write(g.fds[FD_EVENT], &one, sizeof(one)) > 0;
	case FUZZ_TRUNCATE:
		return ftruncate(g.fds[FD_MEM], 4096) == 0;
	case FUZZ_PAUSE:
		return usleep(200) == 0;
	}
	msg[0] = record[0];
	msg[1] = (record[1] & 0x7f) ^ VHOST_USER_VERSION;
	msg[2] = (uint32_t)body_size + (record[1] & 0x80 ? 24 : 0);
	memcpy(&msg[3], record + 4, body_size);
	return send_message(sock, msg, 12 + body_size, record[2] >> 4,
			    (record[2] & 15u) < FDS_MAX ? record[2] & 15u : FDS_MAX) &&
	       drain_replies(sock, MSG_DONTWAIT);
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t mem_size, at;
	int pair[2], lowest;

	if (size < 2)
		return 0;
	mem_size = (size_t)(data[0] | data[1] << 8);
	if (mem_size > size - 2)
		mem_size = size - 2;
	lowest = lowest_free_fd();
	open_fds(data + 2, mem_size);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	g.attach_fd = pair[0];
	g.task.run = attach;
	loop_post(g.loop, &g.task);
	wait_done();

	for (at = 2 + mem_size; at + 4 <= size;) {
		size_t body = data[at + 3];

		if (body > size - at - 4)
			body = size - at - 4;
		if (!run_record(pair[1], data + at, body))
			break;
		at += 4 + body;
	}
	shutdown(pair[1], SHUT_WR);
	while (drain_replies(pair[1], 0))
		;
	close(pair[1]);
	close_fds();
	wait_done(); /* for detached() */

	/* The lowest free descriptor moves when one was leaked or closed twice. */
	if (lowest_free_fd() != lowest) {
		fprintf(stderr, "descriptors leaked: %d was free, now %d is\n", lowest,
			lowest_free_fd());
		abort();
	}
	return 0;
}
