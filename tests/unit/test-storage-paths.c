/* SPDX-License-Identifier: Apache-2.0 */
/* What of the host's files a storage is shown within the sandbox. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "storage_paths.h"

static const char *const variables[] = {
	"AWS_SHARED_CREDENTIALS_FILE",
	"AWS_CONFIG_FILE",
	"AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
};

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		unsetenv(variables[i]);
	return setenv("HOME", "/home/user", 1);
}

/* The entry for @path; with its folder or not. */
static bool has(const struct storage_paths *paths, const char *path, bool folder)
{
	for (const struct sandbox_path *p = paths->path; p->path; p++) {
		if (strcmp(p->path, path) == 0)
			return p->folder == folder;
	}
	return false;
}

static struct storage_paths of(const struct ovfs_backend *config)
{
	struct storage_paths paths;

	assert_null(storage_paths_init(&paths, config));
	return paths;
}

static void test_other_types_see_nothing(void **state)
{
	struct ovfs_backend config = { .storage.type = OVFS_STORAGE_FS };
	struct storage_paths paths = of(&config);

	(void)state;
	assert_null(paths.path[0].path);
	storage_paths_destroy(&paths);
	config.storage.type = OVFS_STORAGE_MEMORY;
	paths = of(&config);
	assert_null(paths.path[0].path);
	storage_paths_destroy(&paths);
}

static void test_names_and_certificates(void **state)
{
	char ca[] = "/srv/ca.pem", key[] = "/srv/key.pem";
	struct ovfs_backend config = {
		.storage = { .type = OVFS_STORAGE_S3,
			     .s3 = { .ca_bundle = ca, .client_certificate = key } },
	};
	struct storage_paths paths = of(&config);

	(void)state;
	assert_true(has(&paths, "/etc/resolv.conf", true));
	assert_true(has(&paths, "/etc/hosts", true));
	assert_true(has(&paths, "/etc/ssl/certs", false));
	assert_true(has(&paths, "/srv/ca.pem", false));
	assert_true(has(&paths, "/srv/key.pem", false));
	/* Private keys of others, and passwords. */
	assert_false(has(&paths, "/etc/ssl", false));
	assert_false(has(&paths, "/etc", false));
	storage_paths_destroy(&paths);
}

static void test_credentials(void **state)
{
	struct ovfs_backend config = { .storage.type = OVFS_STORAGE_S3 };
	struct storage_paths paths = of(&config);

	(void)state;
	assert_true(has(&paths, "/home/user/.aws/credentials", true));
	assert_true(has(&paths, "/home/user/.aws/config", true));
	storage_paths_destroy(&paths);

	setenv("AWS_SHARED_CREDENTIALS_FILE", "/srv/aws/keys", 1);
	setenv("AWS_CONFIG_FILE", "~/aws.conf", 1);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token/token", 1);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/run/pod/token", 1);
	paths = of(&config);
	assert_true(has(&paths, "/srv/aws/keys", true));
	assert_true(has(&paths, "/home/user/aws.conf", true));
	assert_true(has(&paths, "/run/token/token", true));
	assert_true(has(&paths, "/run/pod/token", true));
	assert_false(has(&paths, "/home/user/.aws/credentials", true));
	storage_paths_destroy(&paths);

	config.storage.s3.disable_config_load = true;
	paths = of(&config);
	assert_false(has(&paths, "/srv/aws/keys", true));
	assert_false(has(&paths, "/run/token/token", true));
	assert_true(has(&paths, "/etc/resolv.conf", true));
	storage_paths_destroy(&paths);
}

static void test_home_is_looked_up_outside(void **state)
{
	struct ovfs_backend config = { .storage.type = OVFS_STORAGE_S3 };
	struct storage_paths paths;

	(void)state;
	unsetenv("HOME");
	paths = of(&config);
	assert_non_null(getenv("HOME"));
	assert_true(getenv("HOME")[0] == '/');
	storage_paths_destroy(&paths);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_other_types_see_nothing, setup),
		cmocka_unit_test_setup(test_names_and_certificates, setup),
		cmocka_unit_test_setup(test_credentials, setup),
		cmocka_unit_test_setup(test_home_is_looked_up_outside, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
