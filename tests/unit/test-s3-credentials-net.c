/* SPDX-License-Identifier: Apache-2.0 */
/* Keys from metadata services and STS: what is asked, what is made of the answers, and that
 * nothing secret is logged. */
#include "s3-keys-world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

#define EC2_PATH "/latest/meta-data/iam/security-credentials/"

static void test_ec2(void **state)
{
	struct test *t = *state;
	struct s3_credentials *c;

	world_use_ec2(t);
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

	world_use_ec2(t);
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

	world_use_ec2(t); /* comes later in the chain */
	world_use_container(t);
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
	world_use_container(t);
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
	world_use_container(t);
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

/* ---- The log. ---- */

static char log_path[] = "/tmp/ovfs-test-log.XXXXXX";

/* From here on it goes into a file. */
static int log_catch(void **state)
{
	int fd = mkstemp(log_path);

	(void)state;
	assert_true(fd >= 0);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	close(fd);
	return 0;
}

/* After all that came and went above: nothing secret is in it. */
static void test_log(void **state)
{
	static const char *const secrets[] = { "SECRET", "TOKEN1", "TOKEN2",	"imds-token",
					       "abc",	 "ey.J0",  "from-file", "Signature=" };
	FILE *f = fopen(log_path, "r");
	bool events = false;
	char line[8192];

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		print_message("%s", line);
		events = events || strstr(line, "credentials_found");
		for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
			assert_null(strstr(line, secrets[i]));
	}
	fclose(f);
	unlink(log_path);
	assert_true(events);
}

#define WORLD_TEST(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_ec2),
		WORLD_TEST(test_ec2_without_role),
		WORLD_TEST(test_ec2_absent),
		WORLD_TEST(test_container),
		WORLD_TEST(test_container_elsewhere),
		WORLD_TEST(test_assume_role),
		WORLD_TEST(test_assume_role_refused),
		WORLD_TEST(test_profile_roles),
		WORLD_TEST(test_web_identity),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, log_catch, NULL);
}
