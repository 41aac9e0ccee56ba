/* SPDX-License-Identifier: Apache-2.0 */
/* When keys are asked for again, and who is told: before they expire, after a refusal, after a
 * failure, many at once, and the end. */
#include "s3-keys-world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

static void expect_within(struct test *t, const char *id, unsigned ms)
{
	struct s3_credentials *c;

	for (unsigned waited = 0;; waited += 20) {
		c = s3_provider_get(t->keys->provider);
		if (c && !strcmp(c->access_key_id, id))
			break;
		s3_credentials_put(c);
		assert_true(waited < ms);
		usleep(20000);
	}
	s3_credentials_put(c);
}

/* Before they expire, without anybody asking, and while they are there. */
static void test_renewal(void **state)
{
	struct test *t = *state;

	world_use_container(t);
	t->world.lives_s = 3;
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "container", "ID1", "SECRET1", "TOKEN1");
	expect_within(t, "ID2", 2500);
	expect_within(t, "ID3", 2500);
}

/* When renewal fails, the old keys serve until they expire; then they do not. */
static void test_renewal_fails(void **state)
{
	struct test *t = *state;
	struct s3_credentials *c;
	unsigned asked;

	world_use_container(t);
	t->world.lives_s = 5;
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "container", "ID1", "SECRET1", "TOKEN1");
	world_set(&t->world, 500, NULL);
	asked = t->world.server.requests;
	for (int i = 0; i < 400 && t->world.server.requests == asked; i++)
		usleep(10000);
	assert_true(t->world.server.requests > asked);
	c = s3_provider_get(t->keys->provider);
	assert_non_null(c);
	assert_string_equal(c->access_key_id, "ID1");
	while (c->expires_ns / 1000000000 > time(NULL))
		usleep(20000);
	usleep(20000);
	s3_credentials_put(c);
	assert_null(s3_provider_get(t->keys->provider));
	keys_expect_error(t->keys, -EIO, "HTTP 500", NULL);

	/* And all is well again when the service is. */
	pthread_mutex_lock(&t->world.lock);
	t->world.status = 200;
	t->world.lives_s = 3600;
	pthread_mutex_unlock(&t->world.lock);
	for (int i = 0; i < 100; i++) {
		if (keys_wait(t->keys, NULL, &c) == 0)
			break;
		usleep(100000);
	}
	assert_non_null(c);
	assert_string_equal(c->access_key_id, "ID2");
	s3_credentials_put(c);
}

/* The service did not take them: others at once, for all who come with the old ones. */
static void test_refused(void **state)
{
	struct test *t = *state;
	struct s3_credentials *old, *new, *again;

	world_use_container(t);
	keys_provider(t->keys, NULL);
	assert_int_equal(keys_wait(t->keys, NULL, &old), 0);
	assert_int_equal(keys_wait(t->keys, old, &new), 0);
	assert_string_equal(new->access_key_id, "ID2");
	assert_int_equal(keys_wait(t->keys, old, &again), 0);
	assert_ptr_equal(again, new);
	assert_int_equal(t->world.server.requests, 2);
	s3_credentials_put(again);
	s3_credentials_put(old);

	/* No others: refused, and not asked again at once. */
	pthread_mutex_lock(&t->world.lock);
	t->world.same = true;
	t->world.given = 0;
	pthread_mutex_unlock(&t->world.lock);
	assert_int_equal(keys_wait(t->keys, new, &old), 0);
	assert_string_equal(old->access_key_id, "ID1");
	s3_credentials_put(new);
	assert_int_equal(keys_wait(t->keys, old, &new), -EACCES);
	assert_int_equal(t->world.server.requests, 4);
	for (int i = 0; i < 10; i++)
		assert_int_equal(keys_wait(t->keys, old, &new), -EACCES);
	assert_int_equal(t->world.server.requests, 4);
	s3_credentials_put(old);
}

struct crowd {
	struct s3_provider_wait wait;
	atomic_int *left;
	int error;
};

static void crowd_ready(struct s3_provider_wait *wait, struct s3_credentials *credentials,
			int error)
{
	struct crowd *c = container_of(wait, struct crowd, wait);

	c->error = error;
	s3_credentials_put(credentials);
	atomic_fetch_sub(c->left, 1);
}

static void crowd_wait(struct test *t, struct crowd *crowd, size_t count, atomic_int *left)
{
	atomic_store(left, (int)count);
	for (size_t i = 0; i < count; i++) {
		crowd[i] = (struct crowd){ .wait.ready = crowd_ready, .left = left };
		s3_provider_wait(t->keys->provider, &crowd[i].wait, NULL);
	}
}

/* Many who wait are one request. */
static void test_crowd(void **state)
{
	struct test *t = *state;
	struct crowd crowd[100];
	atomic_int left;

	world_use_container(t);
	t->world.delay_ms = 200;
	keys_provider(t->keys, NULL);
	crowd_wait(t, crowd, ARRAY_SIZE(crowd), &left);
	while (atomic_load(&left) > 0)
		usleep(1000);
	for (size_t i = 0; i < ARRAY_SIZE(crowd); i++)
		assert_int_equal(crowd[i].error, 0);
	assert_int_equal(t->world.server.requests, 1);
}

/* Whoever is cancelled is told so; the others get theirs. */
static void test_cancel(void **state)
{
	struct test *t = *state;
	struct crowd crowd[10];
	atomic_int left;

	world_use_container(t);
	t->world.delay_ms = 500;
	keys_provider(t->keys, NULL);
	crowd_wait(t, crowd, ARRAY_SIZE(crowd), &left);
	for (size_t i = 0; i < 5; i++)
		s3_provider_cancel(t->keys->provider, &crowd[i].wait);
	while (atomic_load(&left) > 5)
		usleep(1000);
	assert_null(s3_provider_get(t->keys->provider));
	while (atomic_load(&left) > 0)
		usleep(1000);
	for (size_t i = 0; i < ARRAY_SIZE(crowd); i++)
		assert_int_equal(crowd[i].error, i < 5 ? -ECANCELED : 0);
	s3_provider_cancel(t->keys->provider, &crowd[9].wait); /* too late */
}

/* The end does not wait for a server that hangs. */
static void test_stop(void **state)
{
	struct test *t = *state;
	struct timespec before, after;
	struct crowd crowd[1];
	atomic_int left;

	world_use_container(t);
	t->world.delay_ms = 60000;
	keys_provider(t->keys, NULL);
	crowd_wait(t, crowd, 1, &left);
	while (t->world.server.requests == 0)
		usleep(1000);
	s3_provider_cancel(t->keys->provider, &crowd[0].wait);
	while (atomic_load(&left) > 0)
		usleep(1000);
	clock_gettime(CLOCK_MONOTONIC, &before);
	keys_provider_free(t->keys);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(after.tv_sec - before.tv_sec < 4); /* the request's own limit is 5 s */
}

static void test_hangs(void **state)
{
	struct test *t = *state;

	world_use_container(t);
	t->world.delay_ms = 60000;
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -ETIMEDOUT, "container: ", NULL);
}

#define WORLD_TEST(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_renewal), WORLD_TEST(test_renewal_fails), WORLD_TEST(test_refused),
		WORLD_TEST(test_crowd),	  WORLD_TEST(test_cancel),	  WORLD_TEST(test_stop),
		WORLD_TEST(test_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
