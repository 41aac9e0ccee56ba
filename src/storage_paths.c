/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_paths.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Name resolution (getaddrinfo(3)) and OpenSSL; the CA bundles of the distributions.
 * /etc/ssl as a whole would show the private keys of other services. */
static const struct sandbox_path system_paths[] = {
	{ "/etc/resolv.conf", true },
	{ "/etc/hosts", true },
	{ "/etc/nsswitch.conf", false },
	{ "/etc/host.conf", false },
	{ "/etc/gai.conf", false },
	{ "/etc/ssl/openssl.cnf", false },
	{ "/usr/lib/ssl/openssl.cnf", false },
	{ "/etc/pki/tls/openssl.cnf", false },
	{ "/etc/ssl/certs", false },
	{ "/etc/ssl/cert.pem", false },
	{ "/etc/ssl/ca-bundle.pem", false },
	{ "/usr/share/ca-certificates", false },
	{ "/usr/local/share/ca-certificates", false },
	{ "/etc/pki/tls/certs", false },
	{ "/etc/pki/ca-trust/extracted", false },
};

static void paths_add(struct storage_paths *paths, const char *path, bool folder)
{
	/* The last one ends the list. */
	if (path && path[0] == '/' && paths->count < ARRAY_SIZE(paths->path) - 1)
		paths->path[paths->count++] = (struct sandbox_path){ path, folder };
}

/* A file that @variable names, or @below the home folder. */
static bool paths_add_file(struct storage_paths *paths, const char *variable, const char *home,
			   const char *below, char **owned)
{
	const char *path = getenv(variable);

	if (path && path[0] == '/') {
		paths_add(paths, path, true);
		return true;
	}
	if (path && path[0] == '~' && path[1] == '/')
		below = path + 2;
	if (asprintf(owned, "%s/%s", home, below) < 0) {
		*owned = NULL;
		return false;
	}
	paths_add(paths, *owned, true);
	return true;
}

static bool paths_add_credentials(struct storage_paths *paths)
{
	const char *home = getenv("HOME");
	const struct passwd *user = home ? NULL : getpwuid(geteuid());

	if (user && setenv("HOME", user->pw_dir, 1) == 0)
		home = getenv("HOME");
	paths_add(paths, getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), true);
	paths_add(paths, getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), true);
	return paths_add_file(paths, "AWS_SHARED_CREDENTIALS_FILE", home ? home : "",
			      ".aws/credentials", &paths->home_files[0]) &&
	       paths_add_file(paths, "AWS_CONFIG_FILE", home ? home : "", ".aws/config",
			      &paths->home_files[1]);
}

struct err *storage_paths_init(struct storage_paths *paths, const struct ovfs_backend *config)
{
	const struct ovfs_s3 *s3 = &config->storage.s3;

	*paths = (struct storage_paths){ 0 };
	if (config->storage.type != OVFS_STORAGE_S3)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(system_paths); i++)
		paths_add(paths, system_paths[i].path, system_paths[i].folder);
	paths_add(paths, s3->ca_bundle, false);
	paths_add(paths, s3->client_certificate, false);
	paths_add(paths, s3->client_key, false);
	if (!s3->disable_config_load && !paths_add_credentials(paths)) {
		storage_paths_destroy(paths);
		return err_errno(ENOMEM, "sandbox");
	}
	return NULL;
}

void storage_paths_destroy(struct storage_paths *paths)
{
	for (size_t i = 0; i < ARRAY_SIZE(paths->home_files); i++)
		free(paths->home_files[i]);
	*paths = (struct storage_paths){ 0 };
}
