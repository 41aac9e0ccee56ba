/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics, health, and what is looked at without anybody's asking. */
#include "ctl-fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_hangs_are_reported(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < ANSWER_S * 100 && atomic_load(&w->hang_looks) < 2; i++)
		usleep(10000);
	assert_true(atomic_load(&w->hang_looks) >= 2);
}

static char *http(const struct world *w, const char *request, unsigned *status)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				    .sin_port = htons(w->port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *text = calloc(1, 1 << 20), *body;
	size_t len = 0;
	ssize_t n;

	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	set_timeout(fd);
	say_bytes(fd, request, strlen(request));
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, text + len, (1 << 20) - 1 - len, 0)) > 0)
		len += (size_t)n;
	close(fd);
	*status = 0;
	sscanf(text, "HTTP/1.%*u %u", status);
	body = strstr(text, "\r\n\r\n");
	if (body)
		memmove(text, body + 4, strlen(body + 4) + 1);
	return text;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void test_metrics(void **state)
{
	static const char *const lines[] = {
		"ovfs_build_info{version=\"1.2.3\"} 1",
		"ovfs_guests{mount=\"data\"} 1",
		"ovfs_requests_total{mount=\"data\",opcode=\"LOOKUP\",result=\"ok\"} 90",
		"ovfs_requests_total{mount=\"data\",opcode=\"LOOKUP\",result=\"error\"} 10",
		"ovfs_request_duration_seconds_bucket{mount=\"data\",opcode=\"LOOKUP\","
		"le=\"1.024e-06\"} 50",
		"ovfs_request_duration_seconds_bucket{mount=\"data\",opcode=\"LOOKUP\","
		"le=\"4.096e-06\"} 99",
		"ovfs_request_duration_seconds_bucket{mount=\"data\",opcode=\"LOOKUP\","
		"le=\"+Inf\"} 100",
		"ovfs_request_duration_seconds_sum{mount=\"data\",opcode=\"LOOKUP\"} 2.000000000",
		"ovfs_request_duration_seconds_count{mount=\"data\",opcode=\"LOOKUP\"} 100",
		"ovfs_requests_in_flight{mount=\"data\"} 2",
		"ovfs_oldest_request_age_seconds{mount=\"data\"} 40.000000000",
		"ovfs_read_bytes_total{mount=\"data\"} 77",
		"ovfs_directory_requests_total{mount=\"data\",directory=\"deep/one\"} 12",
		"ovfs_directory_errors_total{mount=\"data\",directory=\"two\"} 0",
		"ovfs_storage_up{storage=\"bucket\"} 0",
		"ovfs_queue_waiting{mount=\"data\",socket=\"0\",queue=\"1\"} 3",
		"ovfs_cache_hits_total{storage=\"bucket\"} 11",
		"ovfs_cache_hits_total{storage=\"q\\\"\\\\\\n\"} 11",
		"ovfs_storage_attempts_total{storage=\"bucket\",operation=\"put\"} 5",
		"ovfs_pool_blocks{block_size=\"4096\",state=\"free\"} 6",
		"ovfs_config_last_reload_successful 1",
	};
	struct world *w = *state;
	unsigned status;
	char *text;

	w->other = ctl_storage_add(w->ctl, "q\"\\\n", &ctl_failing_ops, w);
	text = http(w, GET("/metrics"), &status);
	assert_int_equal(status, 200);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char line[256];

		snprintf(line, sizeof(line), "\n%s\n", lines[i]);
		if (!strstr(text, line))
			fail_msg("not there: %s", lines[i]);
	}
	free(text);
}

static void test_http(void **state)
{
	static const struct {
		const char *request;
		unsigned status;
	} cases[] = {
		{ GET("/"), 404 },
		{ GET("/metrics/../etc/passwd"), 404 },
		{ "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		  "Content-Length: 3\r\n\r\nabc",
		  405 },
		{ "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200 },
		{ GET("/healthz"), 200 },
	};
	struct world *w = *state;
	unsigned status;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		free(http(w, cases[i].request, &status));
		assert_int_equal(status, cases[i].status);
	}
	/* Nothing sensible is answered, and nothing breaks. */
	free(http(w, "\x16\x03\x01\x02nonsense\r\n\r\n", &status));
	free(http(w, "{\"command\": \"status\"}\n", &status));
	free(http(w, GET("/healthz"), &status));
	assert_int_equal(status, 200);
}

static void *turn(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void test_health(void **state)
{
	struct world *w = *state;
	pthread_t thread;
	unsigned status;

	/* Nobody runs the control loop. */
	for (unsigned i = 0; i < ANSWER_S * 100; i++) {
		free(http(w, GET("/healthz"), &status));
		if (status == 503)
			break;
		assert_int_equal(status, 200);
		usleep(10000);
	}
	assert_int_equal(status, 503);
	pthread_create(&thread, NULL, turn, w->loop);
	for (unsigned i = 0; i < ANSWER_S * 100 && status != 200; i++) {
		free(http(w, GET("/healthz"), &status));
		usleep(10000);
	}
	assert_int_equal(status, 200);
	loop_stop(w->loop);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_hangs_are_reported),
		CASE(test_metrics),
		CASE(test_http),
		CASE(test_health),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
