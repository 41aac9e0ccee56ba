/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The S3 service in front of a server that says what the test wrote down, byte by byte:
 * one answer for each request, in their order, over as many connections as come. It keeps what
 * it was asked.
 */
#ifndef OVFS_TESTS_S3_FIXTURE_H
#define OVFS_TESTS_S3_FIXTURE_H

#include "store-fixture.h"
#include "store/services/s3/s3.h"

#define FAKE_MAX 64 /* answers, requests, connections */

struct fake_answer {
	char *bytes;
	size_t len;
	size_t step;  /* bytes in one send; 0: all */
	bool hang_up; /* then close the connection */
	bool wait;    /* before it: until fake_go_on() */
};

struct fake {
	int fd;
	unsigned port;
	pthread_t thread;
	pthread_t connections[FAKE_MAX];
	int connection_fds[FAKE_MAX];
	pthread_mutex_t lock; /* covers what follows */
	pthread_cond_t cond;
	unsigned connection_count;
	struct fake_answer answers[FAKE_MAX];
	unsigned answer_count, answered;
	char *requests[FAKE_MAX];
	unsigned request_count;
	bool go_on, ending;
};

struct s3_env {
	struct env env;
	struct fake fake;
};

/* @config: endpoint and keys are filled in where they are NULL; NULL: bucket "b". */
void s3_begin(struct s3_env *e, const struct s3_config *config);
void s3_end(struct s3_env *e);

/* The next answer: "200 OK", more headers ("A: b\r\n") or "", body; with Content-Length. */
void fake_says(struct s3_env *e, const char *status, const char *headers, const char *body);

/* Bytes as they are. */
struct fake_answer *fake_bytes(struct s3_env *e, const char *bytes);

/* How many requests came; the text of one, from 0 on, head and body. */
unsigned fake_count(struct s3_env *e);
const char *fake_request(struct s3_env *e, unsigned index);

/* Waits until @count requests came. */
void fake_wait(struct s3_env *e, unsigned count);
void fake_go_on(struct s3_env *e);

/* Fails unless request @index has @text in it; or has it, respectively. */
void fake_asked(struct s3_env *e, unsigned index, const char *text);
void fake_asked_not(struct s3_env *e, unsigned index, const char *text);

#endif
