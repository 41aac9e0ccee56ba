/* SPDX-License-Identifier: Apache-2.0 */
/* Keys from metadata services and STS, played by a server on loopback: what is asked, what is
 * made of the answers, and when it is asked again. */
#include "s3-keys-fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "http-fixture.h"

#define EC2_PATH "/latest/meta-data/iam/security-credentials/"

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

/* EC2's metadata service below /latest, a container's at /keys, STS elsewhere. */
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
	else if (!strcmp(r->target, EC2_PATH))
		strcpy(a->body, "my role\n");
	else if (w->body)
		snprintf(a->body, sizeof(a->body), "%s", w->body);
	else
		answer_keys(w, !strcmp(r->method, "POST"), a->body, sizeof(a->body));
	pthread_mutex_unlock(&w->lock);
}

static void world_set(struct world *w, int status, const char *body)
{
	pthread_mutex_lock(&w->lock);
	w->status = status;
	w->body = body;
	pthread_mutex_unlock(&w->lock);
}

static int set_up(void **state)
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

static int tear_down(void **state)
{
	struct test *t = *state;

	keys_tear_down((void **)&t->keys);
	http_server_stop(&t->world.server);
	pthread_mutex_destroy(&t->world.lock);
	free(t);
	return 0;
}

static void use_ec2(struct test *t)
{
	unsetenv("AWS_EC2_METADATA_DISABLED");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", t->world.server.origin, 1);
}

static void use_container(struct test *t)
{
	char url[128];

	snprintf(url, sizeof(url), "%s/keys?x=1", t->world.server.origin);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
}

static void test_ec2(void **state)
{
	struct test *t = *state;
	struct s3_credentials *c;

	use_ec2(t);
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "ec2", "ID1", "SECRET1", "TOKEN1");
	assert_string_equal(t->world.target, EC2_PATH "my%20role");
	assert_int_equal(t->world.server.requests, 3);
	c = s3_provider_get(t->keys->provider);
	assert_non_null(c);
	assert_true(c->expires_ns > (int64_t)(time(NULL) + 3500) * 1000000000);
	s3_credentials_put(c);
	keys_expect(t->keys, "ec2", "ID1", "SECRET1", "TOKEN1");
	assert_int_equal(t->world.server.requests, 3);

	/* disable_config_load takes the endpoint of the environment away, too. */
	keys_provider(t->keys, &(struct s3_provider_config){ .disable_ec2_metadata = true });
	keys_expect_error(t->keys, -EACCES, "disable_ec2_metadata is set", NULL);
	assert_int_equal(t->world.server.requests, 3);
}

static void test_ec2_without_role(void **state)
{
	struct test *t = *state;

	use_ec2(t);
	world_set(&t->world, 404, NULL);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "/latest/api/token answered HTTP 404", NULL);
	world_set(&t->world, 500, NULL);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EIO, "HTTP 500", NULL);
	world_set(&t->world, 200, "{\"Code\":\"Failed\",\"Message\":\"no \\\"profile\\\"\"}");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "answered Failed: no 'profile'", NULL);
	world_set(&t->world, 200, "{\"Code\":\"Success\"}");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EIO, "has no keys", NULL);
	world_set(&t->world, 200, "<html>");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EIO, "did not answer with JSON", NULL);
	world_set(&t->world, 200, "[1]");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EIO, "did not answer with JSON", NULL);
	world_set(&t->world, 200,
		  "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\","
		  "\"Expiration\":\"2001-01-01T00:00:00Z\"}");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "have expired, at 2001-01-01T00:00:00Z", NULL);
	world_set(&t->world, 200,
		  "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Expiration\":\"soon\"}");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "soon', which is no time", NULL);
	world_set(&t->world, 200, "{\"AccessKeyId\":\"A\\nB: c\",\"SecretAccessKey\":\"S\"}");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "control characters", NULL);
}

/* Not on EC2: nobody is there. */
static void test_ec2_absent(void **state)
{
	struct test *t = *state;
	struct s3_credentials *c;

	unsetenv("AWS_EC2_METADATA_DISABLED");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EIO, "ec2: http://127.0.0.1:1/latest/api/token", NULL);
	keys_provider(t->keys, &(struct s3_provider_config){ .allow_anonymous = true });
	assert_int_equal(keys_wait(t->keys, NULL, &c), 0);
	assert_true(c->anonymous);
	s3_credentials_put(c);
}

static void test_container(void **state)
{
	struct test *t = *state;
	char path[128];

	use_ec2(t); /* comes later in the chain */
	use_container(t);
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "container", "ID1", "SECRET1", "TOKEN1");
	assert_string_equal(t->world.target, "/keys?x=1");
	assert_string_equal(t->world.authorization, "");

	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc", 1);
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "container", "ID2", "SECRET2", "TOKEN2");
	assert_string_equal(t->world.authorization, "Basic abc");

	snprintf(path, sizeof(path), "%s/token", t->keys->home);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, path, "No such file", NULL);
	keys_write(t->keys, path, "from-file\n");
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "container", "ID3", "SECRET3", "TOKEN3");
	assert_string_equal(t->world.authorization, "from-file");

	/* A source that is set up and fails is the end. */
	world_set(&t->world, 403, NULL);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "answered HTTP 403", NULL);
	assert_string_equal(t->world.target, "/keys?x=1");
}

static void test_container_elsewhere(void **state)
{
	static const char *const urls[] = {
		"http://192.0.2.1/keys",	 "http://127.0.0.1.example.org/keys",
		"http://user@127.0.0.1/keys",	 "ftp://127.0.0.1/keys",
		"http://169.254.170.20/keys",	 "http://[2001:db8::1]/keys",
		"http://127.0.0.1@example.org/", "keys",
	};
	struct test *t = *state;

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", urls[i], 1);
		keys_provider(t->keys, NULL);
		keys_expect_error(t->keys, -EACCES, "neither https nor on this machine", NULL);
	}
	setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@example.org/", 1);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "is no path", NULL);
	unsetenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	use_container(t);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nb: c", 1);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "has a line break", NULL);
	assert_int_equal(t->world.server.requests, 0);
}

static void test_assume_role(void **state)
{
	struct test *t = *state;
	struct s3_provider_config config = {
		.access_key_id = "BASE",
		.secret_access_key = "base",
		.session_token = "base-token",
		.role_arn = "arn:aws:iam::1:role/a b+c",
		.external_id = "ext/1",
		.role_session_name = "me",
		.assume_role_duration_seconds = 900,
		.region = "eu-central-1",
	};
	const char *scope;

	setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
	setenv("AWS_ENDPOINT_URL_STS", t->world.server.origin, 1);
	keys_provider(t->keys, &config);
	assert_null(s3_provider_get(t->keys->provider));
	keys_expect(t->keys, "role", "ID1", "SECRET1", "TOKEN1");
	assert_string_equal(t->world.target, "/");
	assert_string_equal(t->world.host, t->world.server.origin + strlen("http://"));
	assert_string_equal(t->world.action, "AssumeRole");
	assert_string_equal(t->world.role, config.role_arn);
	assert_string_equal(t->world.external, "ext/1");
	assert_string_equal(t->world.session, "me");
	assert_string_equal(t->world.duration, "900");
	assert_string_equal(t->world.security, "base-token");
	scope = "/eu-central-1/sts/aws4_request, "
		"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=";
	assert_non_null(strstr(t->world.authorization, "AWS4-HMAC-SHA256 Credential=BASE/"));
	assert_non_null(strstr(t->world.authorization, scope));

	/* The general endpoint when there is none for STS; without a region us-east-1. */
	setenv("AWS_ENDPOINT_URL", t->world.server.origin, 1);
	unsetenv("AWS_ENDPOINT_URL_STS");
	config = (struct s3_provider_config){ .access_key_id = "BASE",
					      .secret_access_key = "base",
					      .role_arn = "r" };
	keys_provider(t->keys, &config);
	keys_expect(t->keys, "role", "ID2", "SECRET2", "TOKEN2");
	assert_non_null(strstr(t->world.authorization, "/us-east-1/sts/"));
	assert_string_equal(t->world.session, "ovfs");
	assert_string_equal(t->world.duration, "3600");
	assert_string_equal(t->world.external, "");
	assert_string_equal(t->world.security, "");
}

static void test_assume_role_refused(void **state)
{
	struct test *t = *state;
	const struct s3_provider_config config = { .access_key_id = "BASE",
						   .secret_access_key = "base",
						   .role_arn = "r" };

	setenv("AWS_ENDPOINT_URL_STS", t->world.server.origin, 1);
	world_set(&t->world, 403,
		  "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
		  "<Message>not &quot;you&quot;\n</Message></Error></ErrorResponse>");
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EACCES, t->world.server.origin,
			  "answered AccessDenied: not 'you'", "(HTTP 403)",
			  "role_arn 'r' with the keys BASE of source configuration", NULL);
	world_set(&t->world, 503, "Slow down");
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EIO, "answered HTTP 503 without keys", NULL);
	/* Half an answer, one with entities of its own, keys elsewhere. */
	world_set(&t->world, 200, "<R><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>S");
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EIO, "without keys", NULL);
	world_set(&t->world, 200,
		  "<!DOCTYPE R [<!ENTITY a 'A'>]><R><Credentials><AccessKeyId>&a;</AccessKeyId>"
		  "<SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>"
		  "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></R>");
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EIO, "without keys", NULL);
	world_set(&t->world, 200,
		  "<R><AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey>"
		  "<SessionToken>T</SessionToken>"
		  "<Expiration>2099-01-01T00:00:00Z</Expiration></R>");
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EIO, "without keys", NULL);

	setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1", 1);
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EIO, "role: http://127.0.0.1:1", NULL);
	setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1/?x", 1);
	keys_provider(t->keys, &config);
	keys_expect_error(t->keys, -EACCES, "is no endpoint for STS", NULL);
	keys_provider(t->keys, &(struct s3_provider_config){ .access_key_id = "BASE",
							     .secret_access_key = "base",
							     .role_arn = "r",
							     .region = "x.evil.org/" });
	keys_expect_error(t->keys, -EACCES, "is no region", NULL);
}

static void test_profile_roles(void **state)
{
	struct test *t = *state;

	setenv("AWS_ENDPOINT_URL_STS", t->world.server.origin, 1);
	keys_write(t->keys, "credentials",
		   "[base]\naws_access_key_id=BASE\naws_secret_access_key=base\n");
	keys_write(t->keys, "config",
		   "[profile one]\nrole_arn=first\nsource_profile=base\nexternal_id=e\n"
		   "role_session_name=n\nduration_seconds=1000\nregion=eu-west-1\n"
		   "[profile two]\nrole_arn=second\nsource_profile=one\n"
		   "[profile self]\nrole_arn=mine\nsource_profile=self\naws_access_key_id=SELF\n"
		   "aws_secret_access_key=s\n"
		   "[profile env]\nrole_arn=env\ncredential_source=Environment\n"
		   "[profile box]\nrole_arn=box\ncredential_source=EcsContainer\n");
	keys_provider(t->keys, &(struct s3_provider_config){ .profile = "one" });
	keys_expect(t->keys, "role", "ID1", "SECRET1", "TOKEN1");
	assert_string_equal(t->world.role, "first");
	assert_string_equal(t->world.external, "e");
	assert_string_equal(t->world.session, "n");
	assert_string_equal(t->world.duration, "1000");
	assert_non_null(strstr(t->world.authorization, "=BASE/"));
	assert_non_null(strstr(t->world.authorization, "/eu-west-1/sts/"));

	keys_provider(t->keys, &(struct s3_provider_config){ .profile = "two" });
	keys_expect(t->keys, "role", "ID3", "SECRET3", "TOKEN3");
	assert_string_equal(t->world.role, "second");
	assert_non_null(strstr(t->world.authorization, "=ID2/"));
	assert_string_equal(t->world.security, "TOKEN2");

	/* And the configuration's role on top of those. */
	keys_provider(t->keys,
		      &(struct s3_provider_config){ .profile = "self", .role_arn = "top" });
	keys_expect(t->keys, "role", "ID5", "SECRET5", "TOKEN5");
	assert_string_equal(t->world.role, "top");
	assert_non_null(strstr(t->world.authorization, "=ID4/"));

	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
	keys_provider(t->keys, &(struct s3_provider_config){ .profile = "env" });
	keys_expect(t->keys, "role", "ID6", "SECRET6", "TOKEN6");
	assert_non_null(strstr(t->world.authorization, "=ENV/"));
	use_container(t);
	keys_provider(t->keys, &(struct s3_provider_config){ .profile = "box" });
	keys_expect(t->keys, "role", "ID8", "SECRET8", "TOKEN8");
	assert_non_null(strstr(t->world.authorization, "=ID7/"));
}

static void test_web_identity(void **state)
{
	struct test *t = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/jwt", t->keys->home);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
	setenv("AWS_ENDPOINT_URL_STS", t->world.server.origin, 1);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, "is set without AWS_ROLE_ARN", NULL);
	setenv("AWS_ROLE_ARN", "pod", 1);
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, path, "No such file", NULL);
	keys_write(t->keys, path, "\n");
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -EACCES, path, "is empty", NULL);
	keys_write(t->keys, path, "ey.J0+/=\n");
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "web identity", "ID1", "SECRET1", "TOKEN1");
	assert_string_equal(t->world.action, "AssumeRoleWithWebIdentity");
	assert_string_equal(t->world.role, "pod");
	assert_string_equal(t->world.identity, "ey.J0+/=");
	assert_string_equal(t->world.authorization, "");

	/* From a profile, and read again each time. */
	unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE");
	unsetenv("AWS_ROLE_ARN");
	{
		char text[256];

		snprintf(text, sizeof(text),
			 "[default]\nrole_arn = p\nweb_identity_token_file = %s\n", path);
		keys_write(t->keys, "config", text);
	}
	keys_write(t->keys, path, "second");
	keys_provider(t->keys, NULL);
	keys_expect(t->keys, "web identity", "ID2", "SECRET2", "TOKEN2");
	assert_string_equal(t->world.identity, "second");
	assert_string_equal(t->world.role, "p");
}

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

	use_container(t);
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

	use_container(t);
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

	use_container(t);
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

	use_container(t);
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

	use_container(t);
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

	use_container(t);
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

	use_container(t);
	t->world.delay_ms = 60000;
	keys_provider(t->keys, NULL);
	keys_expect_error(t->keys, -ETIMEDOUT, "container: ", NULL);
}

#define NET_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		NET_TEST(test_ec2),
		NET_TEST(test_ec2_without_role),
		NET_TEST(test_ec2_absent),
		NET_TEST(test_container),
		NET_TEST(test_container_elsewhere),
		NET_TEST(test_assume_role),
		NET_TEST(test_assume_role_refused),
		NET_TEST(test_profile_roles),
		NET_TEST(test_web_identity),
		NET_TEST(test_renewal),
		NET_TEST(test_renewal_fails),
		NET_TEST(test_refused),
		NET_TEST(test_crowd),
		NET_TEST(test_cancel),
		NET_TEST(test_stop),
		NET_TEST(test_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
