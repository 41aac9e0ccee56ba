/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

struct connection {
	struct fake *fake;
	int fd;
};

/* ---- The server ---- */

/* One request, head and body; NULL at the end of the connection. */
static char *request_read(int fd)
{
	size_t len = 0, size = 4 << 20, body = 0;
	char *text = malloc(size), *end, *length;

	assert_non_null(text);
	for (;;) {
		ssize_t n = recv(fd, text + len, size - len - 1, 0);

		if (n <= 0) {
			free(text);
			return NULL;
		}
		len += (size_t)n;
		text[len] = '\0';
		end = strstr(text, "\r\n\r\n");
		if (!end)
			continue;
		length = strcasestr(text, "\r\ncontent-length:");
		if (length && length < end)
			body = strtoul(length + 17, NULL, 10);
		if (len >= (size_t)(end + 4 - text) + body)
			return text;
	}
}

static struct fake_answer *answer_take(struct fake *fake, char *request)
{
	struct fake_answer *answer = NULL;

	pthread_mutex_lock(&fake->lock);
	if (fake->request_count < FAKE_MAX)
		fake->requests[fake->request_count++] = request;
	else
		free(request);
	if (fake->answered < fake->answer_count)
		answer = &fake->answers[fake->answered++];
	pthread_cond_broadcast(&fake->cond);
	while (answer && answer->wait && !fake->go_on && !fake->ending)
		pthread_cond_wait(&fake->cond, &fake->lock);
	pthread_mutex_unlock(&fake->lock);
	return answer;
}

static bool answer_send(int fd, const struct fake_answer *answer)
{
	size_t step = answer->step ? answer->step : answer->len;

	for (size_t at = 0; at < answer->len; at += step) {
		size_t len = MIN(step, answer->len - at);

		if (send(fd, answer->bytes + at, len, MSG_NOSIGNAL) != (ssize_t)len)
			return false;
		if (answer->step)
			usleep(1000);
	}
	return !answer->hang_up;
}

static void *connection_run(void *arg)
{
	static char text[] = "HTTP/1.1 500 Unexpected\r\nContent-Length: 0\r\n\r\n";
	static const struct fake_answer unexpected = { .bytes = text, .len = sizeof(text) - 1 };
	struct connection *connection = arg;
	const struct fake_answer *answer;
	char *request;
	int on = 1;

	setsockopt(connection->fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
	while ((request = request_read(connection->fd)) != NULL) {
		answer = answer_take(connection->fake, request);
		if (!answer_send(connection->fd, answer ? answer : &unexpected))
			break;
	}
	shutdown(connection->fd, SHUT_RDWR);
	free(connection);
	return NULL;
}

static void *fake_run(void *arg)
{
	struct fake *fake = arg;
	int fd;

	while ((fd = accept(fake->fd, NULL, NULL)) >= 0) {
		struct connection *connection = malloc(sizeof(*connection));

		assert_non_null(connection);
		*connection = (struct connection){ .fake = fake, .fd = fd };
		pthread_mutex_lock(&fake->lock);
		assert_in_range(fake->connection_count, 0, FAKE_MAX - 1);
		fake->connection_fds[fake->connection_count] = fd;
		pthread_create(&fake->connections[fake->connection_count++], NULL, connection_run,
			       connection);
		pthread_mutex_unlock(&fake->lock);
	}
	return NULL;
}

static void fake_start(struct fake *fake)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	memset(fake, 0, sizeof(*fake));
	pthread_mutex_init(&fake->lock, NULL);
	pthread_cond_init(&fake->cond, NULL);
	fake->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fake->fd >= 0);
	assert_int_equal(bind(fake->fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fake->fd, FAKE_MAX), 0);
	assert_int_equal(getsockname(fake->fd, (struct sockaddr *)&address, &len), 0);
	fake->port = ntohs(address.sin_port);
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
}

static void fake_stop(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->ending = true;
	pthread_cond_broadcast(&fake->cond);
	pthread_mutex_unlock(&fake->lock);
	shutdown(fake->fd, SHUT_RDWR);
	pthread_join(fake->thread, NULL);
	for (unsigned i = 0; i < fake->connection_count; i++) {
		shutdown(fake->connection_fds[i], SHUT_RDWR);
		pthread_join(fake->connections[i], NULL);
		close(fake->connection_fds[i]);
	}
	close(fake->fd);
	for (unsigned i = 0; i < fake->answer_count; i++)
		free(fake->answers[i].bytes);
	for (unsigned i = 0; i < fake->request_count; i++)
		free(fake->requests[i]);
	pthread_mutex_destroy(&fake->lock);
	pthread_cond_destroy(&fake->cond);
}

/* ---- For tests ---- */

void s3_begin(struct s3_env *e, const struct s3_config *config)
{
	struct s3_config own = config ? *config : (struct s3_config){ 0 };
	char endpoint[64];

	fake_start(&e->fake);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", e->fake.port);
	if (!own.bucket)
		own.bucket = "b";
	if (!own.endpoint)
		own.endpoint = endpoint;
	if (!own.access_key_id && !own.skip_signature && !own.allow_anonymous) {
		own.access_key_id = "AKIDEXAMPLE";
		own.secret_access_key = "wJalrXUtnFEMI";
	}
	own.disable_config_load = own.disable_ec2_metadata = true;
	e->env = (struct env){ 0 };
	env_ok(loop_new(&e->env.loop));
	env_ok(s3_new(&e->env.top, e->env.loop, &own));
	env_run(&e->env);
}

void s3_end(struct s3_env *e)
{
	env_end(&e->env);
	fake_stop(&e->fake);
}

struct fake_answer *fake_bytes(struct s3_env *e, const char *bytes)
{
	struct fake *fake = &e->fake;
	struct fake_answer *answer;

	pthread_mutex_lock(&fake->lock);
	assert_in_range(fake->answer_count, 0, FAKE_MAX - 1);
	answer = &fake->answers[fake->answer_count];
	answer->bytes = strdup(bytes);
	assert_non_null(answer->bytes);
	answer->len = strlen(bytes);
	fake->answer_count++;
	pthread_mutex_unlock(&fake->lock);
	return answer;
}

void fake_says(struct s3_env *e, const char *status, const char *headers, const char *body)
{
	size_t size = strlen(status) + strlen(headers) + strlen(body) + 128;
	char *text = malloc(size);

	assert_non_null(text);
	snprintf(text, size, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers,
		 strlen(body), body);
	fake_bytes(e, text);
	free(text);
}

unsigned fake_count(struct s3_env *e)
{
	unsigned count;

	pthread_mutex_lock(&e->fake.lock);
	count = e->fake.request_count;
	pthread_mutex_unlock(&e->fake.lock);
	return count;
}

const char *fake_request(struct s3_env *e, unsigned index)
{
	assert_in_range(index, 0, fake_count(e) - 1);
	return e->fake.requests[index];
}

void fake_wait(struct s3_env *e, unsigned count)
{
	for (unsigned ms = 0; fake_count(e) < count; ms++) {
		if (ms == 10000)
			fail_msg("%u requests came, not %u", fake_count(e), count);
		sleep_ms(1);
	}
}

void fake_go_on(struct s3_env *e)
{
	pthread_mutex_lock(&e->fake.lock);
	e->fake.go_on = true;
	pthread_cond_broadcast(&e->fake.cond);
	pthread_mutex_unlock(&e->fake.lock);
}

void fake_asked(struct s3_env *e, unsigned index, const char *text)
{
	if (!strstr(fake_request(e, index), text))
		fail_msg("\"%s\" is not in:\n%s", text, fake_request(e, index));
}

void fake_asked_not(struct s3_env *e, unsigned index, const char *text)
{
	if (strstr(fake_request(e, index), text))
		fail_msg("\"%s\" is in:\n%s", text, fake_request(e, index));
}
