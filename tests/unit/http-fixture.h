/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP server on a loopback port, with a thread of its own, for tests of clients. One
 * request for each connection, one at a time; the test says what is answered.
 */
#ifndef OVFS_TESTS_HTTP_FIXTURE_H
#define OVFS_TESTS_HTTP_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define HTTP_HEAD_MAX 65536
#define HTTP_BODY_MAX 262144

struct http_request {
	char method[16];
	char target[2048];
	char head[HTTP_HEAD_MAX]; /* the header lines */
	char body[HTTP_BODY_MAX];
	size_t body_len;
};

struct http_answer {
	int status; /* 0: the connection is cut */
	char body[HTTP_BODY_MAX * 2];
	unsigned delay_ms; /* ended early by http_server_stop() */
};

struct http_server {
	/* Runs on the server's thread. */
	void (*handle)(struct http_server *server, const struct http_request *request,
		       struct http_answer *answer);
	void *arg; /* the test's */

	int fd;
	unsigned port;
	char origin[64]; /* "http://127.0.0.1:PORT" */
	pthread_t thread;
	atomic_bool stopping;
	atomic_uint requests; /* answered so far, or being answered */
};

/* @server->handle and arg are set. */
void http_server_start(struct http_server *server);
void http_server_stop(struct http_server *server);

/* The value of a header in a buffer of @size, "" when it is not there. */
const char *http_header(const struct http_request *request, const char *name, char *value,
			size_t size);

/* The same for a field of a form, decoded. */
const char *http_form(const struct http_request *request, const char *name, char *value,
		      size_t size);

#endif
