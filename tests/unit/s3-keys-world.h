/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services that give out keys, played by a server on loopback: the EC2 metadata service
 * below /latest, that of a container at /keys, and STS for every POST.
 */
#ifndef OVFS_TESTS_S3_KEYS_WORLD_H
#define OVFS_TESTS_S3_KEYS_WORLD_H

#include "s3-keys-fixture.h"

#include "http-fixture.h"

/* What the server plays. The test writes while nobody asks, or under the lock. */
struct world {
	struct http_server server;
	pthread_mutex_t lock;
	int status;	   /* other than 200: that, with @body */
	const char *body;  /* NULL: keys */
	unsigned delay_ms; /* before the answer */
	int lives_s;	   /* of the keys given out */
	unsigned given;	   /* sets of keys so far: the next ones are IDn, SECRETn, TOKENn */
	bool same;	   /* always the first set again */

	/* Of the last request. */
	char target[2048], authorization[2048], token[256], action[64], role[256];
	char session[64], external[64], duration[16], identity[64], security[128], host[64];
};

struct test {
	struct keys *keys;
	struct world world;
};

/* cmocka's, around those of s3-keys-fixture.h; the state is a struct test. */
int world_set_up(void **state);
int world_tear_down(void **state);

/* What is answered from now on. */
void world_set(struct world *w, int status, const char *body);

/* Lets the environment point at them. */
void world_use_ec2(struct test *t);
void world_use_container(struct test *t);

#endif
