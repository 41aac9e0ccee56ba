/* SPDX-License-Identifier: Apache-2.0 */
/* Keys from configuration, environment and files: which come first, and what is said when
 * there are none. */
#include "s3-keys-fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "store/services/s3/secret_file.h"

#define CREDENTIALS                                                                                \
	"[default]\naws_access_key_id = FILE\naws_secret_access_key = file/secret+\n"              \
	"[token]\naws_access_key_id=TOKEN\naws_secret_access_key=s\naws_session_token=t==\n"       \
	"[old]\nAWS_ACCESS_KEY_ID=OLD\nAWS_SECRET_ACCESS_KEY=s\naws_security_token=o\n"            \
	"[half]\naws_access_key_id = HALF\n"                                                       \
	"[empty]\n"

static void test_configuration(void **state)
{
	struct keys *k = *state;
	const struct s3_provider_config config = { .access_key_id = "AK",
						   .secret_access_key = "SK",
						   .session_token = "ST" };
	struct s3_credentials *c;

	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
	keys_provider(k, &config);
	c = s3_provider_get(k->provider); /* at once, without a thread */
	assert_non_null(c);
	assert_string_equal(c->access_key_id, "AK");
	assert_int_equal(c->expires_ns, 0);
	s3_credentials_put(c);
	keys_expect(k, "configuration", "AK", "SK", "ST");
	assert_null(s3_provider_region(k->provider));
}

static void test_environment(void **state)
{
	struct keys *k = *state;
	struct s3_credentials *c;

	keys_write(k, "credentials", CREDENTIALS);
	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "env secret", 1);
	keys_provider(k, NULL);
	c = s3_provider_get(k->provider);
	assert_non_null(c);
	s3_credentials_put(c);
	keys_expect(k, "environment", "ENV", "env secret", NULL);

	setenv("AWS_SESSION_TOKEN", "tok", 1);
	setenv("AWS_PROFILE", "token", 1); /* does not go before the keys */
	keys_provider(k, NULL);
	keys_expect(k, "environment", "ENV", "env secret", "tok");

	/* A profile in the configuration does. */
	keys_provider(k, &(struct s3_provider_config){ .profile = "token" });
	assert_null(s3_provider_get(k->provider));
	keys_expect(k, "profile", "TOKEN", "s", "t==");

	/* Empty is not set. */
	setenv("AWS_ACCESS_KEY_ID", "", 1);
	unsetenv("AWS_PROFILE");
	keys_provider(k, NULL);
	keys_expect(k, "profile", "FILE", "file/secret+", NULL);
}

static void test_environment_refused(void **state)
{
	struct keys *k = *state;
	struct s3_provider *p;
	struct err *e;

	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	e = s3_provider_new(&p, &(struct s3_provider_config){ 0 }, k->loop);
	assert_non_null(e);
	assert_non_null(strstr(err_msg(e), "without AWS_SECRET_ACCESS_KEY"));
	err_free(e);

	setenv("AWS_ACCESS_KEY_ID", "ENV\r\nx: y", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
	e = s3_provider_new(&p, &(struct s3_provider_config){ 0 }, k->loop);
	assert_non_null(e);
	assert_non_null(strstr(err_msg(e), "control characters"));
	err_free(e);
}

static void test_profiles(void **state)
{
	struct keys *k = *state;

	keys_write(k, "credentials", CREDENTIALS);
	keys_provider(k, NULL);
	assert_null(s3_provider_get(k->provider));
	keys_expect(k, "profile", "FILE", "file/secret+", NULL);
	setenv("AWS_PROFILE", "token", 1);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "TOKEN", "s", "t==");
	setenv("AWS_PROFILE", "old", 1);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "OLD", "s", "o");

	setenv("AWS_PROFILE", "half", 1);
	keys_provider(k, NULL);
	keys_expect_error(k, -EACCES, "aws_access_key_id is set without aws_secret_access_key",
			  NULL);
	setenv("AWS_PROFILE", "empty", 1);
	keys_provider(k, NULL);
	keys_expect_error(k, -EACCES, "profile 'empty': it has neither keys nor a role", NULL);
	setenv("AWS_PROFILE", "nobody", 1);
	keys_provider(k, NULL);
	keys_expect_error(k, -EACCES, "profile 'nobody'", "/.aws/credentials: not in it",
			  "/.aws/config: No such file", NULL);
}

static void test_two_files(void **state)
{
	struct keys *k = *state;

	keys_write(k, "config",
		   "[default]\nregion = eu-central-1\naws_access_key_id = CONF\n"
		   "aws_secret_access_key = conf\n[profile dev]\nregion = us-west-2\n"
		   "aws_access_key_id = DEV\naws_secret_access_key = dev\n");
	keys_provider(k, NULL);
	keys_expect(k, "profile", "CONF", "conf", NULL);
	assert_string_equal(s3_provider_region(k->provider), "eu-central-1");
	keys_write(k, "credentials", CREDENTIALS);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "FILE", "file/secret+", NULL);

	setenv("AWS_DEFAULT_REGION", "eu-west-1", 1);
	setenv("AWS_PROFILE", "dev", 1);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "DEV", "dev", NULL);
	assert_string_equal(s3_provider_region(k->provider), "eu-west-1");
	setenv("AWS_REGION", "eu-west-2", 1);
	keys_provider(k, NULL);
	assert_string_equal(s3_provider_region(k->provider), "eu-west-2");
	keys_provider(k, &(struct s3_provider_config){ .region = "eu-west-3" });
	assert_string_equal(s3_provider_region(k->provider), "eu-west-3");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
	keys_provider(k, NULL);
	assert_string_equal(s3_provider_region(k->provider), "us-west-2");
}

static void test_other_places(void **state)
{
	struct keys *k = *state;
	char path[256];

	snprintf(path, sizeof(path), "%s/keys", k->home);
	keys_write(k, path, "[default]\naws_access_key_id=A\naws_secret_access_key=B\n");
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "A", "B", NULL);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "~/keys", 1);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "A", "B", NULL);
	unsetenv("AWS_SHARED_CREDENTIALS_FILE");
	setenv("AWS_CONFIG_FILE", path, 1);
	keys_provider(k, NULL);
	keys_expect(k, "profile", "A", "B", NULL);
}

static void test_refused_by_name(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "credential_process = /bin/keys\n", "credential_process is not supported" },
		{ "sso_session = x\n", "sso is not supported" },
		{ "sso_start_url = https://x\n", "sso is not supported" },
		{ "role_arn = r\n", "role_arn is set without source_profile" },
		{ "role_arn = r\nsource_profile = default\n", "leads in a circle" },
		{ "role_arn = r\nsource_profile = none\n", "profile 'none'" },
		{ "role_arn = r\nsource_profile = a\ncredential_source = Environment\n",
		  "both source_profile and credential_source" },
		{ "role_arn = r\ncredential_source = Disk\n", "credential_source is 'Disk'" },
		{ "role_arn = r\ncredential_source = Environment\n",
		  "credential_source has no keys" },
		{ "role_arn = r\nmfa_serial = m\n", "mfa_serial is not supported" },
		{ "role_arn = r\nduration_seconds = 1h\n", "duration_seconds is '1h'" },
		{ "role_arn = r\nweb_identity_token_file = /nowhere\n", "/nowhere: No such file" },
	};
	struct keys *k = *state;
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "[default]\n%s", cases[i].text);
		keys_write(k, "config", text);
		keys_provider(k, NULL);
		keys_expect_error(k, -EACCES, cases[i].says, NULL);
	}
}

/* One message, with every source and why. */
static void test_nothing(void **state)
{
	struct keys *k = *state;

	keys_provider(k, NULL);
	assert_null(s3_provider_error(k->provider));
	assert_null(s3_provider_get(k->provider));
	keys_expect_error(k, -EACCES, "no keys to sign requests with",
			  "configuration: access_key_id is not set",
			  "environment: AWS_ACCESS_KEY_ID is not set",
			  "profile 'default': ", k->home,
			  "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set",
			  "container: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
			  "ec2: AWS_EC2_METADATA_DISABLED is set", NULL);
}

static void test_disabled(void **state)
{
	struct keys *k = *state;
	const struct s3_provider_config config = { .disable_config_load = true,
						   .disable_ec2_metadata = true };

	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
	setenv("AWS_REGION", "eu-west-2", 1);
	keys_write(k, "credentials", CREDENTIALS);
	keys_provider(k, &config);
	keys_expect_error(k, -EACCES, "disable_config_load is set", "disable_ec2_metadata is set",
			  NULL);
	assert_null(s3_provider_region(k->provider));
}

static void test_anonymous(void **state)
{
	struct keys *k = *state;
	struct s3_credentials *c, *other;

	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "env", 1);
	keys_provider(k, &(struct s3_provider_config){ .skip_signature = true });
	c = s3_provider_get(k->provider);
	assert_non_null(c);
	assert_true(c->anonymous);
	assert_int_equal(keys_wait(k, c, &other), -EACCES);
	s3_credentials_put(c);

	keys_provider(k, &(struct s3_provider_config){ .allow_anonymous = true });
	keys_expect(k, "environment", "ENV", "env", NULL);
	unsetenv("AWS_ACCESS_KEY_ID");
	keys_provider(k, &(struct s3_provider_config){ .allow_anonymous = true });
	assert_int_equal(keys_wait(k, NULL, &c), 0);
	assert_true(c->anonymous);
	s3_credentials_put(c);
}

static void test_configuration_refused(void **state)
{
	static const struct {
		struct s3_provider_config config;
		const char *says;
	} cases[] = {
		{ { .access_key_id = "A" }, "without secret_access_key" },
		{ { .secret_access_key = "A" }, "without access_key_id" },
		{ { .session_token = "A" }, "without access_key_id" },
		{ { .profile = "p", .access_key_id = "A", .secret_access_key = "S" },
		  "both profile and access_key_id" },
		{ { .profile = "p", .disable_config_load = true }, "disable_config_load" },
		{ { .external_id = "x" }, "without role_arn" },
		{ { .role_arn = "r", .assume_role_duration_seconds = 899 },
		  "between 900 and 43200" },
		{ { .role_arn = "r", .assume_role_duration_seconds = 43201 },
		  "between 900 and 43200" },
	};
	struct keys *k = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct s3_provider *p = NULL;
		struct err *e = s3_provider_new(&p, &cases[i].config, k->loop);

		assert_non_null(e);
		if (!strstr(err_msg(e), cases[i].says))
			fail_msg("\"%s\" is not in \"%s\"", cases[i].says, err_msg(e));
		err_free(e);
	}
}

/* What the service refuses is read anew, and found when somebody replaced the file. */
static void test_rotated_file(void **state)
{
	struct keys *k = *state;
	struct s3_credentials *old, *new;
	char temporary[256], path[256];

	keys_write(k, "credentials", "[default]\naws_access_key_id=A\naws_secret_access_key=1\n");
	keys_provider(k, NULL);
	assert_int_equal(keys_wait(k, NULL, &old), 0);

	assert_int_equal(keys_wait(k, old, &new), -EACCES); /* the same again */
	new = s3_provider_get(k->provider);
	assert_ptr_equal(new, old); /* still there for who did not hear of it */
	s3_credentials_put(new);

	snprintf(temporary, sizeof(temporary), "%s/.aws/new", k->home);
	snprintf(path, sizeof(path), "%s/.aws/credentials", k->home);
	keys_write(k, "new", "[default]\naws_access_key_id=A\naws_secret_access_key=2\n");
	assert_int_equal(rename(temporary, path), 0);
	usleep(1300 * 1000); /* the pause after the refusal */
	assert_int_equal(keys_wait(k, old, &new), 0);
	assert_string_equal(new->secret_access_key, "2");
	s3_credentials_put(new);
	s3_credentials_put(old);

	keys_expect(k, "profile", "A", "2", NULL);
}

/* While a failure is fresh, nobody looks again. */
static void test_pause(void **state)
{
	struct keys *k = *state;
	struct s3_credentials *c;

	keys_provider(k, NULL);
	assert_int_equal(keys_wait(k, NULL, &c), -EACCES);
	keys_write(k, "credentials", CREDENTIALS);
	assert_int_equal(keys_wait(k, NULL, &c), -EACCES);
	usleep(1300 * 1000);
	keys_expect(k, "profile", "FILE", "file/secret+", NULL);
}

static void test_secret_file(void **state)
{
	struct keys *k = *state;
	struct s3_secret_file file;
	char path[512], moved[256], *text;
	size_t len;

	/* The folder is held open: its path may change, or vanish from sight. */
	keys_write(k, "token", "one\n");
	snprintf(path, sizeof(path), "%s/.aws/token", k->home);
	snprintf(moved, sizeof(moved), "%s/elsewhere", k->home);
	assert_int_equal(s3_secret_file_init(&file, path), 0);
	assert_int_equal(s3_secret_file_read(&file, &text, &len), 0);
	assert_string_equal(text, "one\n");
	assert_int_equal(len, 4);
	s3_secret_free(text, len);
	snprintf(path, sizeof(path), "%s/.aws", k->home);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(s3_secret_file_read(&file, &text, &len), 0);
	s3_secret_free(text, len);
	s3_secret_file_destroy(&file);

	assert_int_equal(s3_secret_file_init(&file, moved), 0);
	assert_int_equal(s3_secret_file_read(&file, &text, &len), -EINVAL);
	s3_secret_file_destroy(&file);
	snprintf(path, sizeof(path), "%s/fifo", moved);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(s3_secret_file_init(&file, path), 0);
	assert_int_equal(s3_secret_file_read(&file, &text, &len), -EINVAL);
	s3_secret_file_destroy(&file);
	snprintf(path, sizeof(path), "%s/token", moved);
	assert_int_equal(truncate(path, S3_SECRET_FILE_MAX + 1), 0);
	assert_int_equal(s3_secret_file_init(&file, path), 0);
	assert_int_equal(s3_secret_file_read(&file, &text, &len), -EFBIG);
	s3_secret_file_destroy(&file);

	/* A folder that comes later. */
	snprintf(path, sizeof(path), "%s/.aws/token", k->home);
	assert_int_equal(s3_secret_file_init(&file, path), 0);
	assert_int_equal(s3_secret_file_read(&file, &text, &len), -ENOENT);
	snprintf(path, sizeof(path), "%s/.aws", k->home);
	assert_int_equal(mkdir(path, 0700), 0);
	keys_write(k, "token", "");
	assert_int_equal(s3_secret_file_read(&file, &text, &len), 0);
	assert_int_equal(len, 0);
	assert_string_equal(text, "");
	s3_secret_free(text, len);
	s3_secret_file_destroy(&file);
}

#define KEYS_TEST(test) cmocka_unit_test_setup_teardown(test, keys_set_up, keys_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		KEYS_TEST(test_configuration),
		KEYS_TEST(test_environment),
		KEYS_TEST(test_environment_refused),
		KEYS_TEST(test_profiles),
		KEYS_TEST(test_two_files),
		KEYS_TEST(test_other_places),
		KEYS_TEST(test_refused_by_name),
		KEYS_TEST(test_nothing),
		KEYS_TEST(test_disabled),
		KEYS_TEST(test_anonymous),
		KEYS_TEST(test_configuration_refused),
		KEYS_TEST(test_rotated_file),
		KEYS_TEST(test_pause),
		KEYS_TEST(test_secret_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
