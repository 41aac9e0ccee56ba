/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-keys-fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void environment_clear(void)
{
	char name[128];

	for (char **at = environ; *at;) {
		if (strncmp(*at, "AWS_", 4) != 0) {
			at++;
			continue;
		}
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*at, "="), *at);
		unsetenv(name);
		at = environ;
	}
}

int keys_set_up(void **state)
{
	struct keys *k = calloc(1, sizeof(*k));
	char folder[128];

	assert_non_null(k);
	strcpy(k->home, "/tmp/ovfs-test-keys.XXXXXX");
	assert_non_null(mkdtemp(k->home));
	snprintf(folder, sizeof(folder), "%s/.aws", k->home);
	assert_int_equal(mkdir(folder, 0700), 0);
	environment_clear();
	setenv("HOME", k->home, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	unsetenv("http_proxy");
	assert_null(loop_new(&k->loop));
	assert_int_equal(pthread_create(&k->thread, NULL, run_loop, k->loop), 0);
	*state = k;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int keys_tear_down(void **state)
{
	struct keys *k = *state;

	keys_provider_free(k);
	loop_stop(k->loop);
	pthread_join(k->thread, NULL);
	loop_free(k->loop);
	nftw(k->home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(k);
	return 0;
}

void keys_write(struct keys *k, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/.aws/%s", k->home, name);
	f = fopen(*name == '/' ? name : path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

void keys_provider(struct keys *k, const struct s3_provider_config *config)
{
	const struct s3_provider_config none = { 0 };
	struct err *e;

	keys_provider_free(k);
	e = s3_provider_new(&k->provider, config ? config : &none, k->loop);
	if (e)
		fail_msg("%s", err_msg(e));
}

void keys_provider_free(struct keys *k)
{
	s3_provider_free(k->provider);
	k->provider = NULL;
}

struct waiter {
	struct s3_provider_wait wait;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool ready;
	struct s3_credentials *credentials;
	int error;
};

static void waiter_ready(struct s3_provider_wait *wait, struct s3_credentials *credentials,
			 int error)
{
	struct waiter *w = container_of(wait, struct waiter, wait);

	pthread_mutex_lock(&w->lock);
	w->credentials = credentials;
	w->error = error;
	w->ready = true;
	pthread_cond_signal(&w->done);
	pthread_mutex_unlock(&w->lock);
}

int keys_wait(struct keys *k, struct s3_credentials *refused, struct s3_credentials **out)
{
	struct waiter w = { .wait.ready = waiter_ready };

	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.done, NULL);
	s3_provider_wait(k->provider, &w.wait, refused);
	pthread_mutex_lock(&w.lock);
	while (!w.ready)
		pthread_cond_wait(&w.done, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_mutex_destroy(&w.lock);
	pthread_cond_destroy(&w.done);
	assert_true((w.error == 0) == (w.credentials != NULL));
	*out = w.credentials;
	return w.error;
}

void keys_expect(struct keys *k, const char *source, const char *id, const char *secret,
		 const char *token)
{
	struct s3_credentials *c;
	struct err *e;
	int error;

	error = keys_wait(k, NULL, &c);
	e = s3_provider_error(k->provider);
	if (error)
		fail_msg("%d: %s", error, e ? err_msg(e) : "no message");
	assert_null(e);
	assert_string_equal(c->source, source);
	assert_string_equal(c->access_key_id, id);
	assert_string_equal(c->secret_access_key, secret);
	assert_false(c->anonymous);
	if (token)
		assert_string_equal(c->session_token, token);
	else
		assert_null(c->session_token);
	s3_credentials_put(c);
}

void keys_expect_error(struct keys *k, int error, ...)
{
	struct s3_credentials *c;
	const char *part;
	struct err *e;
	va_list ap;

	assert_int_equal(keys_wait(k, NULL, &c), error);
	assert_null(s3_provider_get(k->provider));
	e = s3_provider_error(k->provider);
	assert_non_null(e);
	va_start(ap, error);
	while ((part = va_arg(ap, const char *))) {
		if (!strstr(err_msg(e), part))
			fail_msg("\"%s\" is not in \"%s\"", part, err_msg(e));
	}
	va_end(ap);
	err_free(e);
}

const char *keys_time(char text[static 32], int seconds)
{
	time_t when = time(NULL) + seconds;
	struct tm tm;

	strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&when, &tm));
	return text;
}
