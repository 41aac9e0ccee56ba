/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-keys-world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"

static void answer_keys(struct world *w, bool xml, char *out, size_t size)
{
	unsigned n = w->same ? 1 : w->given + 1;
	char when[32];

	w->given++;
	keys_time(when, w->lives_s);
	if (xml)
		snprintf(out, size,
			 "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
			 "<AssumeRoleResult><AssumedRoleUser><Arn>a</Arn></AssumedRoleUser>\n"
			 "<Credentials><AccessKeyId>ID%u</AccessKeyId><SecretAccessKey>SECRET%u"
			 "</SecretAccessKey><SessionToken>TOKEN%u</SessionToken>"
			 "<Expiration>%s</Expiration></Credentials></AssumeRoleResult>"
			 "</AssumeRoleResponse>",
			 n, n, n, when);
	else
		snprintf(out, size,
			 "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ID%u\","
			 "\"SecretAccessKey\":\"SECRET%u\",\"Token\":\"TOKEN%u\","
			 "\"Expiration\":\"%s\"}",
			 n, n, n, when);
}

static void note_request(struct world *w, const struct http_request *r)
{
	strcpy(w->target, r->target);
	http_header(r, "authorization", w->authorization, sizeof(w->authorization));
	http_header(r, "x-aws-ec2-metadata-token", w->token, sizeof(w->token));
	http_header(r, "x-amz-security-token", w->security, sizeof(w->security));
	http_header(r, "host", w->host, sizeof(w->host));
	http_form(r, "Action", w->action, sizeof(w->action));
	http_form(r, "RoleArn", w->role, sizeof(w->role));
	http_form(r, "RoleSessionName", w->session, sizeof(w->session));
	http_form(r, "ExternalId", w->external, sizeof(w->external));
	http_form(r, "DurationSeconds", w->duration, sizeof(w->duration));
	http_form(r, "WebIdentityToken", w->identity, sizeof(w->identity));
}

static void handle(struct http_server *server, const struct http_request *r, struct http_answer *a)
{
	struct world *w = server->arg;
	char ttl[16];

	pthread_mutex_lock(&w->lock);
	note_request(w, r);
	a->delay_ms = w->delay_ms;
	a->status = w->status;
	if (w->status != 200)
		snprintf(a->body, sizeof(a->body), "%s", w->body ? w->body : "");
	else if (!strcmp(r->target, "/latest/api/token"))
		snprintf(a->body, sizeof(a->body), "%s",
			 !strcmp(r->method, "PUT") &&
					 *http_header(r, "x-aws-ec2-metadata-token-ttl-seconds",
						      ttl, sizeof(ttl))
				 ? "imds-token"
				 : "");
	else if (!strncmp(r->target, "/latest/", 8) && strcmp(w->token, "imds-token") != 0)
		a->status = 401;
	else if (!strcmp(r->target, ROLES_PATH))
		strcpy(a->body, "my role\n");
	else if (w->body)
		snprintf(a->body, sizeof(a->body), "%s", w->body);
	else
		answer_keys(w, !strcmp(r->method, "POST"), a->body, sizeof(a->body));
	pthread_mutex_unlock(&w->lock);
}

void world_set(struct world *w, int status, const char *body)
{
	pthread_mutex_lock(&w->lock);
	w->status = status;
	w->body = body;
	pthread_mutex_unlock(&w->lock);
}

int world_set_up(void **state)
{
	struct test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	keys_set_up((void **)&t->keys);
	pthread_mutex_init(&t->world.lock, NULL);
	t->world.status = 200;
	t->world.lives_s = 3600;
	t->world.server.handle = handle;
	t->world.server.arg = &t->world;
	http_server_start(&t->world.server);
	*state = t;
	return 0;
}

int world_tear_down(void **state)
{
	struct test *t = *state;

	keys_tear_down((void **)&t->keys);
	http_server_stop(&t->world.server);
	pthread_mutex_destroy(&t->world.lock);
	free(t);
	return 0;
}

void world_use_ec2(struct test *t)
{
	unsetenv("AWS_EC2_METADATA_DISABLED");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", t->world.server.origin, 1);
}

void world_use_container(struct test *t)
{
	char url[128];

	snprintf(url, sizeof(url), "%s/keys?x=1", t->world.server.origin);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
}
