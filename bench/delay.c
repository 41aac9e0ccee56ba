/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delay: a TCP relay on loopback that puts a distance between a client and a server.
 *
 *	delay PORT MILLISECONDS		relays to 127.0.0.1:PORT
 *
 * Prints the port that it listens on, and runs until its standard input ends. What the client sends
 * reaches the server so much later; answers pass at once. So every request takes that much longer,
 * as over a line with that round trip, and the bandwidth stays what it is. What is on its way is
 * kept in memory, up to WINDOW bytes a connection: a client that sends more waits.
 *
 * One thread, poll(): a benchmark has some dozens of connections.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINKS_MAX 256u
#define PIECE (128u << 10)
#define WINDOW (32u << 20)

/* Bytes on their way; `at` of them are there already. */
struct piece {
	struct piece *next;
	int64_t due_ns;
	size_t at, len;
	char data[];
};

/* What goes one way. `ended`: the source has no more. */
struct way {
	struct piece *first, **last;
	size_t held;
	bool ended, shut;
};

struct link {
	int client, server;
	struct way there, back;
};

static struct link links[LINKS_MAX];
static unsigned int nlinks;
static int64_t delay_ns;

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr = { htonl(INADDR_LOOPBACK) } };
}

static void prepare(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(fd, F_SETFL, O_NONBLOCK);
}

static void accept_one(int listener, uint16_t port)
{
	struct sockaddr_in to = loopback(port);
	struct link *l = &links[nlinks];
	int client = accept(listener, NULL, NULL);

	if (client < 0)
		return;
	if (nlinks == LINKS_MAX)
		errx(1, "more than %u connections", LINKS_MAX);
	*l = (struct link){ .client = client, .server = socket(AF_INET, SOCK_STREAM, 0) };
	if (l->server < 0 || connect(l->server, (struct sockaddr *)&to, sizeof(to)) < 0)
		err(1, "a connection");
	l->there.last = &l->there.first;
	l->back.last = &l->back.first;
	prepare(l->client);
	prepare(l->server);
	nlinks++;
}

/* False: the connection is broken. */
static bool take(struct way *w, int fd, int64_t later_ns)
{
	struct piece *p = malloc(sizeof(*p) + PIECE);
	ssize_t n;

	if (!p)
		err(1, "memory");
	n = read(fd, p->data, PIECE);
	if (n <= 0) {
		free(p);
		w->ended = w->ended || n == 0;
		return n == 0 || errno == EAGAIN;
	}
	/* Most are small, and many may be on their way. */
	p = realloc(p, sizeof(*p) + (size_t)n);
	if (!p)
		err(1, "memory");
	*p = (struct piece){ .due_ns = now_ns() + later_ns, .len = (size_t)n };
	*w->last = p;
	w->last = &p->next;
	w->held += (size_t)n;
	return true;
}

static bool give(struct way *w, int fd, int64_t now)
{
	while (w->first && w->first->due_ns <= now) {
		struct piece *p = w->first;
		ssize_t n = write(fd, p->data + p->at, p->len - p->at);

		if (n < 0)
			return errno == EAGAIN;
		p->at += (size_t)n;
		if (p->at < p->len)
			return true;
		w->held -= p->len;
		w->first = p->next;
		if (!w->first)
			w->last = &w->first;
		free(p);
	}
	if (w->ended && !w->first && !w->shut) {
		shutdown(fd, SHUT_WR);
		w->shut = true;
	}
	return true;
}

static void drop(struct link *l)
{
	for (struct way *w = &l->there; w <= &l->back; w++) {
		while (w->first) {
			struct piece *p = w->first;

			w->first = p->next;
			free(p);
		}
	}
	close(l->client);
	close(l->server);
	*l = links[--nlinks];
	/* Tails point into the struct itself where a list is empty. */
	if (!l->there.first)
		l->there.last = &l->there.first;
	if (!l->back.first)
		l->back.last = &l->back.first;
}

static short wants(const struct way *in, const struct way *out, int64_t now)
{
	short events = 0;

	if (!in->ended && in->held < WINDOW)
		events |= POLLIN;
	if (out->first && out->first->due_ns <= now)
		events |= POLLOUT;
	return events;
}

/* Until when nothing is due. */
static int sleep_ms(int64_t now)
{
	int64_t due = INT64_MAX;

	for (unsigned int i = 0; i < nlinks; i++) {
		const struct piece *p = links[i].there.first;

		if (p && p->due_ns > now && p->due_ns < due)
			due = p->due_ns;
	}
	return due == INT64_MAX ? -1 : (int)((due - now + 999999) / 1000000);
}

static bool turn(struct link *l, short client, short server, int64_t now)
{
	if ((client & (POLLIN | POLLHUP | POLLERR)) && !take(&l->there, l->client, delay_ns))
		return false;
	if ((server & (POLLIN | POLLHUP | POLLERR)) && !take(&l->back, l->server, 0))
		return false;
	if (!give(&l->there, l->server, now) || !give(&l->back, l->client, INT64_MAX))
		return false;
	return !(l->there.shut && l->back.shut);
}

static void serve(int listener, uint16_t port)
{
	static struct pollfd fds[2 + 2 * LINKS_MAX];

	for (;;) {
		int64_t now = now_ns();
		unsigned int n = nlinks;

		fds[0] = (struct pollfd){ .fd = 0, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (unsigned int i = 0; i < n; i++) {
			struct link *l = &links[i];

			fds[2 + 2 * i] =
				(struct pollfd){ .fd = l->client,
						 .events = wants(&l->there, &l->back, INT64_MAX) };
			fds[3 + 2 * i] =
				(struct pollfd){ .fd = l->server,
						 .events = wants(&l->back, &l->there, now) };
		}
		if (poll(fds, 2 + 2 * n, sleep_ms(now)) < 0)
			err(1, "poll");
		now = now_ns();
		if (fds[0].revents)
			return;
		/* From the last: drop() moves the last one into the gap. */
		for (unsigned int i = n; i-- > 0;)
			if (!turn(&links[i], fds[2 + 2 * i].revents, fds[3 + 2 * i].revents, now))
				drop(&links[i]);
		if (fds[1].revents)
			accept_one(listener, port);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = loopback(0);
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 3)
		errx(2, "usage: delay PORT MILLISECONDS");
	delay_ns = atoll(argv[2]) * 1000000;
	signal(SIGPIPE, SIG_IGN);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(listener, 128) < 0 || getsockname(listener, (struct sockaddr *)&at, &len) < 0)
		err(1, "a port");
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
	serve(listener, (uint16_t)atoi(argv[1]));
	return 0;
}
