/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: a line is a request, a line is an answer. A connection has one request at a
 * time; what comes after it waits in the socket.
 *
 * Whoever may connect may do everything, so only root, the daemon's own user and the configured
 * group may, whatever the mode of the socket's file has become.
 *
 * #syscalls getsockopt recvfrom sendto fcntl
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/acceptor.h"
#include "base/log.h"
#include "ctl/internal.h"

#define CONNECTIONS_MAX 32
#define LINE_MAX_BYTES 16384 /* of a request */

/* A client that neither asks nor reads is put out. */
#define IDLE_NS (60 * NSEC_PER_SEC)

/* While a job runs. */
#define PROGRESS_NS (1 * NSEC_PER_SEC)

struct connection {
	struct server *server;
	struct list link;
	struct loop_fd entry;
	struct loop_timer timer;
	struct job *job; /* what the last request began; NULL: none */
	char in[LINE_MAX_BYTES];
	size_t in_len;
	char *out; /* what is to be sent; NULL: nothing */
	size_t out_len, out_sent;
};

struct server {
	struct ctl *ctl;
	struct acceptor listening;
	int listen_fd;
	struct list connections;
	unsigned count;
};

static struct loop *loop_of(const struct connection *c)
{
	return c->server->ctl->loop;
}

struct job *connection_job(const struct connection *c)
{
	return c->job;
}

void connection_set_job(struct connection *c, struct job *job)
{
	c->job = job;
}

static void connection_close(struct connection *c)
{
	if (c->job)
		job_forget(c->job);
	loop_timer_disarm(&c->timer);
	loop_fd_remove(loop_of(c), &c->entry);
	close(c->entry.fd);
	list_remove(&c->link);
	c->server->count--;
	free(c->out);
	free(c);
}

/* ---- Sending ---- */

/* What the connection waits for, and for how long. */
static void connection_wait(struct connection *c)
{
	uint32_t events = c->out ? EPOLLOUT : c->job ? 0 : EPOLLIN;

	if (loop_fd_modify(loop_of(c), &c->entry, events) < 0)
		shutdown(c->entry.fd, SHUT_RDWR);
	loop_timer_arm(loop_of(c), &c->timer, c->job && !c->out ? PROGRESS_NS : IDLE_NS);
}

/* False: the connection is gone. */
static bool connection_flush(struct connection *c)
{
	while (c->out) {
		ssize_t n = send(c->entry.fd, c->out + c->out_sent, c->out_len - c->out_sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			return false;
		c->out_sent += (size_t)n;
		if (c->out_sent == c->out_len) {
			free(c->out);
			c->out = NULL;
			c->out_len = c->out_sent = 0;
		}
	}
	return true;
}

/* Behind what is still to be sent. */
static bool connection_append(struct connection *c, const char *text)
{
	size_t len = strlen(text);
	char *out = realloc(c->out, c->out_len + len + 1);

	if (!out)
		return false;
	memcpy(out + c->out_len, text, len);
	out[c->out_len + len] = '\n';
	c->out = out;
	c->out_len += len + 1;
	return true;
}

void connection_send(struct connection *c, json_t *line)
{
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

	json_decref(line);
	/* Without an answer the client would wait for ever. */
	if (!text || !connection_append(c, text))
		shutdown(c->entry.fd, SHUT_RDWR);
	free(text);
}

/* ---- Receiving ---- */

/* Acts on the lines that are there, up to one that begins a job. False: to be closed. */
static bool connection_lines(struct connection *c)
{
	while (!c->job && !c->out) {
		char *end = memchr(c->in, '\n', c->in_len);
		json_t *answer;
		size_t len;

		if (!end && c->in_len < sizeof(c->in))
			return true;
		if (!end) {
			connection_send(c, answer_error("a request has at most %zu bytes",
							sizeof(c->in) - 1));
			connection_flush(c);
			return false;
		}
		len = (size_t)(end - c->in);
		answer = command_run(c->server->ctl, c, c->in, len);
		c->in_len -= len + 1;
		memmove(c->in, end + 1, c->in_len);
		if (answer)
			connection_send(c, answer);
		if (!connection_flush(c))
			return false;
	}
	return true;
}

/* False: nothing more will come, or nothing sensible. */
static bool connection_read(struct connection *c)
{
	ssize_t n;

	do {
		n = recv(c->entry.fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK;
	if (n == 0)
		return false;
	c->in_len += (size_t)n;
	return true;
}

static void connection_go_on(struct connection *c)
{
	if (!connection_flush(c) || !connection_lines(c)) {
		connection_close(c);
		return;
	}
	connection_wait(c);
}

static void connection_ready(struct loop_fd *entry, uint32_t events)
{
	struct connection *c = container_of(entry, struct connection, entry);
	bool gone = events & (EPOLLERR | EPOLLHUP);

	if ((events & EPOLLIN) && !connection_read(c))
		gone = true;
	if (gone)
		connection_close(c);
	else
		connection_go_on(c);
}

void connection_resume(struct connection *c)
{
	c->job = NULL;
	connection_go_on(c);
}

static void connection_expired(struct loop_timer *timer)
{
	struct connection *c = container_of(timer, struct connection, timer);

	if (!c->job || c->out) {
		connection_close(c);
		return;
	}
	connection_send(c, json_pack("{s:o}", "progress", job_progress()));
	connection_go_on(c);
}

/* ---- Accepting ---- */

/* Whether @peer is in @gid, with its first group or another. */
static bool peer_in_group(int fd, const struct ucred *peer, gid_t gid)
{
	gid_t groups[256];
	socklen_t len = sizeof(groups);

	if (gid == (gid_t)-1)
		return false;
	if (peer->gid == gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++) {
		if (groups[i] == gid)
			return true;
	}
	return false;
}

static bool server_may(const struct server *server, int fd)
{
	static struct log_limit limit;
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	    (peer.uid == 0 || peer.uid == geteuid() ||
	     peer_in_group(fd, &peer, server->ctl->config.gid)))
		return true;
	log_limited(&limit, LOG_LEVEL_WARN, "control_refused", "uid=%d pid=%d", (int)peer.uid,
		    (int)peer.pid);
	return false;
}

static void server_take(struct server *server, int fd)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->server = server;
	list_push_back(&server->connections, &c->link);
	server->count++;
	loop_timer_init(&c->timer, connection_expired);
	if (loop_fd_add(server->ctl->loop, &c->entry, fd, EPOLLIN, connection_ready) < 0) {
		list_remove(&c->link);
		server->count--;
		close(fd);
		free(c);
		return;
	}
	connection_wait(c);
}

static void server_accepted(struct acceptor *listening, int fd)
{
	struct server *server = container_of(listening, struct server, listening);

	if (server->count >= CONNECTIONS_MAX || !server_may(server, fd) ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		close(fd);
	else
		server_take(server, fd);
}

struct err *server_new(struct server **out, struct ctl *ctl, int listen_fd)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server) {
		close(listen_fd);
		return err_errno(ENOMEM, "socket");
	}
	server->ctl = ctl;
	list_init(&server->connections);
	server->listen_fd = listen_fd;
	acceptor_start(&server->listening, ctl->loop, listen_fd, server_accepted);
	*out = server;
	return NULL;
}

void server_free(struct server *server)
{
	struct list *pos, *next;

	if (!server)
		return;
	list_for_each_safe (pos, next, &server->connections)
		connection_close(list_entry(pos, struct connection, link));
	acceptor_stop(&server->listening);
	close(server->listen_fd);
	free(server);
}
