/* SPDX-License-Identifier: Apache-2.0 */
#include "http-fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cmocka.h>

/* The head, and as much of the body as came with it. */
static bool receive_head(int fd, char *buf, size_t size, char **body, size_t *have)
{
	size_t len = 0;

	while (len + 1 < size) {
		ssize_t n = recv(fd, buf + len, size - 1 - len, 0);
		char *end;

		if (n <= 0)
			return false;
		len += (size_t)n;
		buf[len] = '\0';
		end = strstr(buf, "\r\n\r\n");
		if (end) {
			*end = '\0';
			*body = end + 4;
			*have = len - (size_t)(*body - buf);
			return true;
		}
	}
	return false;
}

static bool receive(int fd, struct http_request *request)
{
	static _Thread_local char buf[HTTP_HEAD_MAX];
	char length[32], *body, *lines;
	size_t have;

	if (!receive_head(fd, buf, sizeof(buf), &body, &have))
		return false;
	lines = strstr(buf, "\r\n");
	if (!lines || sscanf(buf, "%15s %2047s", request->method, request->target) != 2)
		return false;
	snprintf(request->head, sizeof(request->head), "%s\r\n", lines + 2);
	request->body_len =
		strtoul(http_header(request, "content-length", length, sizeof(length)), NULL, 10);
	if (request->body_len >= sizeof(request->body) || have > request->body_len)
		return false;
	memcpy(request->body, body, have);
	while (have < request->body_len) {
		ssize_t n = recv(fd, request->body + have, request->body_len - have, 0);

		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	request->body[have] = '\0';
	return true;
}

static void reply(int fd, const struct http_answer *answer)
{
	char head[256];
	size_t len = strlen(answer->body), done = 0;
	int n;

	n = snprintf(head, sizeof(head),
		     "HTTP/1.1 %d Answer\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		     answer->status, len);
	if (send(fd, head, (size_t)n, MSG_NOSIGNAL) != n)
		return;
	while (done < len) {
		ssize_t sent = send(fd, answer->body + done, len - done, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		done += (size_t)sent;
	}
}

static void *serve(void *arg)
{
	struct http_server *server = arg;
	struct http_request *request = calloc(1, sizeof(*request));
	struct http_answer *answer = calloc(1, sizeof(*answer));

	while (request && answer && !server->stopping) {
		int fd = accept(server->fd, NULL, NULL);

		if (fd < 0)
			break;
		if (receive(fd, request)) {
			server->requests++;
			answer->status = 404;
			answer->body[0] = '\0';
			answer->delay_ms = 0;
			server->handle(server, request, answer);
			for (unsigned i = 0; i < answer->delay_ms / 10 && !server->stopping; i++)
				usleep(10000);
			if (answer->status)
				reply(fd, answer);
		}
		close(fd);
	}
	free(request);
	free(answer);
	return NULL;
}

void http_server_start(struct http_server *server)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(server->fd >= 0);
	assert_int_equal(bind(server->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server->fd, 16), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &len), 0);
	server->port = ntohs(address.sin_port);
	snprintf(server->origin, sizeof(server->origin), "http://127.0.0.1:%u", server->port);
	atomic_store(&server->stopping, false);
	atomic_store(&server->requests, 0);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

void http_server_stop(struct http_server *server)
{
	atomic_store(&server->stopping, true);
	shutdown(server->fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->fd);
}

const char *http_header(const struct http_request *request, const char *name, char *value,
			size_t size)
{
	size_t len = strlen(name);

	value[0] = '\0';
	for (const char *line = request->head; *line;) {
		const char *end = strstr(line, "\r\n");

		if (!end)
			break;
		if (!strncasecmp(line, name, len) && line[len] == ':') {
			line += len + 1;
			line += strspn(line, " ");
			snprintf(value, size, "%.*s", (int)(end - line), line);
			break;
		}
		line = end + 2;
	}
	return value;
}

static void form_decode(const char *text, size_t len, char *value, size_t size)
{
	size_t out = 0;

	for (size_t i = 0; i < len && out + 1 < size; i++) {
		unsigned byte = (unsigned char)text[i];

		if (text[i] == '%' && sscanf(text + i + 1, "%2x", &byte) == 1)
			i += 2;
		value[out++] = (char)byte;
	}
	value[out] = '\0';
}

const char *http_form(const struct http_request *request, const char *name, char *value,
		      size_t size)
{
	size_t len = strlen(name);

	value[0] = '\0';
	for (const char *field = request->body; *field;) {
		size_t field_len = strcspn(field, "&");

		if (field_len > len && !strncmp(field, name, len) && field[len] == '=') {
			form_decode(field + len + 1, field_len - len - 1, value, size);
			break;
		}
		field += field_len + (field[field_len] == '&');
	}
	return value;
}
