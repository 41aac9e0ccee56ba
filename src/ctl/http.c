/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP for those who watch: /metrics for Prometheus, /healthz for whoever restarts what hangs.
 *
 * libmicrohttpd without threads of its own: its epoll descriptor is watched by the loop of ctl.
 * Nothing that a client sends is used but method and path.
 *
 * #syscalls accept4 recvfrom sendto sendmsg shutdown setsockopt getsockopt getsockname
 * #syscalls epoll_create1 epoll_ctl epoll_wait eventfd2 fcntl sendfile writev
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/util.h"
#include "ctl/internal.h"

#define HTTP_CONNECTIONS_MAX 32u
#define HTTP_CONNECTION_MEMORY 16384u /* bytes: of headers, mostly */
#define HTTP_IDLE_S 15u

/* The control loop may wait for a queue that its front end stops, for a bounded time. */
#define SILENT_DEFAULT_NS (30 * NSEC_PER_SEC)

struct http {
	struct ctl *ctl;
	struct MHD_Daemon *daemon;
	struct loop_fd entry;
	struct loop_timer timer;
};

static enum MHD_Result http_answer(struct MHD_Connection *connection, unsigned status,
				   const char *type, char *body, size_t len)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result ret;

	if (!response) {
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	ret = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return ret;
}

static enum MHD_Result http_say(struct MHD_Connection *connection, unsigned status,
				const char *text)
{
	char *body = strdup(text);

	if (!body)
		return MHD_NO;
	return http_answer(connection, status, "text/plain; charset=utf-8", body, strlen(body));
}

static enum MHD_Result http_health(struct http *http, struct MHD_Connection *connection)
{
	uint64_t silent_ns = ctl_silent_ns(http->ctl), max_ns = http->ctl->config.silent_max_ns;
	char text[80];

	if (silent_ns < (max_ns ? max_ns : SILENT_DEFAULT_NS))
		return http_say(connection, MHD_HTTP_OK, "ok\n");
	snprintf(text, sizeof(text), "the control loop has not turned for %llu s\n",
		 (unsigned long long)(silent_ns / NSEC_PER_SEC));
	return http_say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static enum MHD_Result http_metrics(struct http *http, struct MHD_Connection *connection)
{
	size_t len;
	char *body = metrics_text(http->ctl, &len);

	if (!body)
		return http_say(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
	return http_answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8",
			   body, len);
}

static enum MHD_Result http_request(void *arg, struct MHD_Connection *connection, const char *url,
				    const char *method, const char *version,
				    const char *upload_data, size_t *upload_size, void **state)
{
	struct http *http = arg;

	(void)version, (void)upload_data, (void)upload_size, (void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return http_say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
	if (strcmp(url, "/metrics") == 0)
		return http_metrics(http, connection);
	if (strcmp(url, "/healthz") == 0)
		return http_health(http, connection);
	return http_say(connection, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz\n");
}

static void http_run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG ms;

	MHD_run(http->daemon);
	if (MHD_get_timeout(http->daemon, &ms) == MHD_YES)
		loop_timer_arm(http->ctl->loop, &http->timer, ms * NSEC_PER_MSEC);
	else
		loop_timer_disarm(&http->timer);
}

static void http_ready(struct loop_fd *entry, uint32_t events)
{
	(void)events;
	http_run(container_of(entry, struct http, entry));
}

static void http_expired(struct loop_timer *timer)
{
	http_run(container_of(timer, struct http, timer));
}

/* On an error the daemon is stopped by the caller, and its socket closed with it. */
static struct err *http_watch(struct http *http)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int ret = -ENOTSUP;

	if (info)
		ret = loop_fd_add(http->ctl->loop, &http->entry, info->epoll_fd, EPOLLIN,
				  http_ready);
	return ret < 0 ? err_errno(-ret, "metrics") : NULL;
}

struct err *http_new(struct http **out, struct ctl *ctl, int listen_fd)
{
	struct http *http = calloc(1, sizeof(*http));
	struct err *e;

	if (!http) {
		close(listen_fd);
		return err_errno(ENOMEM, "metrics");
	}
	http->ctl = ctl;
	loop_timer_init(&http->timer, http_expired);
	http->daemon = MHD_start_daemon(
		MHD_USE_EPOLL, 0, NULL, NULL, http_request, http, MHD_OPTION_LISTEN_SOCKET,
		listen_fd, MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)HTTP_CONNECTION_MEMORY, MHD_OPTION_END);
	if (!http->daemon) {
		free(http); /* the library has closed the socket, or not: it does not say */
		return err_new("metrics: the HTTP server does not start");
	}
	e = http_watch(http);
	if (e) {
		MHD_stop_daemon(http->daemon);
		free(http);
		return e;
	}
	*out = http;
	return NULL;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	loop_timer_disarm(&http->timer);
	loop_fd_remove(http->ctl->loop, &http->entry);
	MHD_stop_daemon(http->daemon);
	free(http);
}
