/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Providers of keys on a loop with its own thread, in an environment and a home folder that
 * belong to the test.
 */
#ifndef OVFS_TESTS_S3_KEYS_FIXTURE_H
#define OVFS_TESTS_S3_KEYS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>

#include "store/services/s3/credentials.h"

struct keys {
	char home[64];
	struct loop *loop;
	pthread_t thread;
	struct s3_provider *provider; /* or NULL */
};

/* cmocka's set-up and tear-down: no AWS_ variable is set, HOME is empty, the metadata
 * service is off, the loop runs. */
int keys_set_up(void **state);
int keys_tear_down(void **state);

/* Writes (in place) HOME/.aws/NAME, or what an absolute @name says. */
void keys_write(struct keys *k, const char *name, const char *text);

/* Makes the provider; fails the test on an error. NULL: an empty configuration. */
void keys_provider(struct keys *k, const struct s3_provider_config *config);
void keys_provider_free(struct keys *k);

/* Waits for keys; *@out is a reference, or NULL. The error. */
int keys_wait(struct keys *k, struct s3_credentials *refused, struct s3_credentials **out);

/* Waits, and compares; @token NULL: none. */
void keys_expect(struct keys *k, const char *source, const char *id, const char *secret,
		 const char *token);

/* Waits for a failure, whose message has all of @... (strings, NULL at the end). */
void keys_expect_error(struct keys *k, int error, ...);

/* The time @seconds from now as STS and the metadata services write it. */
const char *keys_time(char text[static 32], int seconds);

#endif
