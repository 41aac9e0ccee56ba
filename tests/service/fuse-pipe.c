/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse-pipe: a guest without a kernel, for test programs in another language.
 *
 *   fuse-pipe SOCKET BUFFER SIZE [QUEUES]
 *
 * Connects to the vhost-user socket, mounts (INIT), and then performs the FUSE requests
 * that come on standard input, any number of them at a time. BUFFER is a file of SIZE
 * bytes that both sides map: bodies of requests and replies are there. One line, one
 * message, all numbers decimal:
 *
 *   -> ID OPCODE NODEID IN_OFFSET IN_LENGTH OUT_OFFSET OUT_ROOM [QUEUE]
 *   <- ID ERROR OUT_LENGTH        ERROR 0 or a positive errno, of the reply
 *
 *   first line:  <- ready FLAGS MAX_WRITE QUEUES       or "failed ERRNO"
 *   last line:   <- lost REASON                        the daemon went away, or broke
 *                                                      a promise of the protocol
 *
 * OUT_ROOM "-" is for requests that have no reply (FORGET), on the hiprio queue.
 * The end of standard input ends it, as a machine that is switched off.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuc.h"

#define REQUESTS 64u
#define REQUEST_MEM (1200u << 10)

/* A request on its way, as the other side knows it. */
struct sent {
	struct fuc_req *req;
	unsigned long long id;
	size_t out_offset;
};

struct pipe {
	struct vuc c;
	struct fuc f;
	struct sent sent[REQUESTS];
	uint8_t *buffer;
	size_t buffer_size;
	char line[512]; /* what came of a line so far */
	size_t line_len;
};

static _Noreturn void die(const char *what, int err)
{
	printf("failed %d %s\n", err < 0 ? -err : err, what);
	fflush(stdout);
	exit(1);
}

static void map_buffer(struct pipe *p, const char *path, const char *size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	p->buffer_size = strtoull(size, NULL, 10);
	if (fd < 0)
		die("open the buffer", errno);
	p->buffer = mmap(NULL, p->buffer_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p->buffer == MAP_FAILED)
		die("map the buffer", errno);
	close(fd);
}

static void connect_daemon(struct pipe *p, const char *socket, unsigned int queues)
{
	struct vuc_config config = {
		.queues = queues,
		.queue_size = 1024,
		/* Without event_idx every completion is notified, on whatever queue. */
		.indirect = true,
		.indirect_max = 600,
		.mem_size = (uint64_t)REQUESTS * REQUEST_MEM + (96ull << 20),
	};
	struct fuc_options options = { .requests = REQUESTS, .request_mem = REQUEST_MEM };
	int err = vuc_open(&p->c, socket, &config);

	if (!err)
		err = fuc_open(&p->f, &p->c, &options);
	if (err)
		die("connect", err);
	err = fuc_init_default(&p->f);
	if (err)
		die("INIT", err);
	printf("ready %llu %u %u\n", (unsigned long long)p->f.init_flags, p->f.init.max_write,
	       p->c.nqueues);
	fflush(stdout);
}

static struct sent *free_slot(struct pipe *p)
{
	for (unsigned int i = 0; i < REQUESTS; i++)
		if (!p->sent[i].req)
			return &p->sent[i];
	return NULL;
}

static void answer(unsigned long long id, int error, size_t len)
{
	printf("%llu %d %zu\n", id, error, len);
	fflush(stdout);
}

static bool in_buffer(const struct pipe *p, size_t offset, size_t len)
{
	return offset <= p->buffer_size && len <= p->buffer_size - offset;
}

static void submit(struct pipe *p, char *line)
{
	unsigned long long id, node, in_offset, in_len, out_offset, room = 0;
	unsigned int opcode, queue = 0;
	char room_text[32];
	struct sent *s = free_slot(p);
	struct fuc_call call = { 0 };

	if (sscanf(line, "%llu %u %llu %llu %llu %llu %31s %u", &id, &opcode, &node, &in_offset,
		   &in_len, &out_offset, room_text, &queue) < 7)
		die("bad line", EINVAL);
	if (strcmp(room_text, "-") != 0)
		room = strtoull(room_text, NULL, 10);
	else
		call.no_reply = call.hiprio = true;
	if (!in_buffer(p, in_offset, in_len) || !in_buffer(p, out_offset, room))
		die("outside of the buffer", EINVAL);
	call.opcode = opcode;
	call.nodeid = node;
	call.queue = queue;
	call.out_cap = room;
	if (in_len)
		call.in[0] = (struct iovec){ p->buffer + in_offset, in_len };
	if (s)
		s->req = fuc_submit(&p->f, &call);
	if (!s || !s->req) {
		answer(id, ENOBUFS, 0);
		return;
	}
	s->id = id;
	s->out_offset = out_offset;
}

static void collect(struct pipe *p)
{
	for (unsigned int i = 0; i < REQUESTS; i++) {
		struct sent *s = &p->sent[i];
		size_t len = 0;
		const void *data;

		if (!s->req || !fuc_test(s->req))
			continue;
		if (!s->req->no_reply && !s->req->error) {
			data = fuc_payload(s->req, &len);
			memcpy(p->buffer + s->out_offset, data, len);
		}
		answer(s->id, -s->req->error, len);
		fuc_done(s->req);
		s->req = NULL;
	}
	if (p->f.violations) {
		printf("lost a promise of the protocol was broken\n");
		exit(1);
	}
}

/* Submits what came in whole lines. False at the end of the input. */
static bool take_lines(struct pipe *p)
{
	ssize_t n = read(STDIN_FILENO, p->line + p->line_len, sizeof(p->line) - 1 - p->line_len);
	char *start = p->line, *end;

	if (n <= 0)
		return false;
	p->line_len += (size_t)n;
	p->line[p->line_len] = '\0';
	while ((end = strchr(start, '\n'))) {
		*end = '\0';
		submit(p, start);
		start = end + 1;
	}
	p->line_len -= (size_t)(start - p->line);
	memmove(p->line, start, p->line_len);
	if (p->line_len == sizeof(p->line) - 1)
		die("line too long", EINVAL);
	return true;
}

static void serve(struct pipe *p)
{
	struct pollfd fds[VUC_MAX_QUEUES + 2];
	nfds_t n = 0;

	fds[n++] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = p->c.sock, .events = POLLIN };
	for (unsigned int i = 0; i < p->c.nqueues; i++)
		fds[n++] = (struct pollfd){ .fd = p->c.queues[i].call_fd, .events = POLLIN };
	for (;;) {
		/* The time limit only covers a notification that never came, so that its
		 * absence is seen as slowness and not as a hang of the tests. */
		poll(fds, n, 1000);
		for (nfds_t i = 2; i < n; i++)
			if (fds[i].revents & POLLIN) {
				uint64_t count;

				if (read(fds[i].fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
					die("read a call event", errno);
			}
		collect(p);
		if (fds[1].revents) {
			printf("lost the daemon closed the connection\n");
			return;
		}
		if ((fds[0].revents & (POLLIN | POLLHUP)) && !take_lines(p))
			return;
	}
}

int main(int argc, char **argv)
{
	static struct pipe p;

	if (argc < 4) {
		fprintf(stderr, "usage: fuse-pipe SOCKET BUFFER SIZE [QUEUES]\n");
		return 2;
	}
	map_buffer(&p, argv[2], argv[3]);
	connect_daemon(&p, argv[1], argc > 4 ? (unsigned int)atoi(argv[4]) : 3);
	serve(&p);
	return 0;
}
