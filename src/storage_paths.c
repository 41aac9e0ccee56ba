/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_paths.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

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

static bool paths_has(const struct storage_paths *paths, const char *path, bool folder)
{
	for (size_t i = 0; i < paths->count; i++) {
		if (paths->path[i].folder == folder && strcmp(paths->path[i].path, path) == 0)
			return true;
	}
	return false;
}

/* False for lack of memory. */
static bool paths_add(struct storage_paths *paths, const char *path, bool folder)
{
	struct sandbox_path *grown;
	char *copy;

	if (!path || path[0] != '/' || paths_has(paths, path, folder))
		return true;
	/* And one that ends the list. */
	grown = reallocarray(paths->path, paths->count + 2, sizeof(*grown));
	if (!grown)
		return false;
	paths->path = grown;
	grown[paths->count] = (struct sandbox_path){ 0 };
	copy = strdup(path);
	if (!copy)
		return false;
	grown[paths->count++] = (struct sandbox_path){ copy, folder };
	grown[paths->count] = (struct sandbox_path){ 0 };
	return true;
}

/* A file that @variable names, or @below the home folder. */
static bool paths_add_file(struct storage_paths *paths, const char *variable, const char *home,
			   const char *below)
{
	const char *path = getenv(variable);
	CLEANUP_FREE char *full = NULL;

	if (path && path[0] == '/')
		return paths_add(paths, path, true);
	if (path && path[0] == '~' && path[1] == '/')
		below = path + 2;
	if (asprintf(&full, "%s/%s", home, below) < 0) {
		full = NULL;
		return false;
	}
	return paths_add(paths, full, true);
}

static bool paths_add_credentials(struct storage_paths *paths)
{
	const char *home = getenv("HOME");
	const struct passwd *user = home ? NULL : getpwuid(geteuid());

	if (user && setenv("HOME", user->pw_dir, 1) == 0)
		home = getenv("HOME");
	if (!home)
		home = "";
	return paths_add(paths, getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), true) &&
	       paths_add(paths, getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), true) &&
	       paths_add_file(paths, "AWS_SHARED_CREDENTIALS_FILE", home, ".aws/credentials") &&
	       paths_add_file(paths, "AWS_CONFIG_FILE", home, ".aws/config");
}

struct err *storage_paths_add(struct storage_paths *paths, const struct ovfs_backend *config)
{
	const struct ovfs_s3 *s3 = &config->storage.s3;
	bool good = true;

	if (config->storage.type != OVFS_STORAGE_S3)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(system_paths) && good; i++)
		good = paths_add(paths, system_paths[i].path, system_paths[i].folder);
	good = good && paths_add(paths, s3->ca_bundle, false) &&
	       paths_add(paths, s3->client_certificate, false) &&
	       paths_add(paths, s3->client_key, false) &&
	       (s3->disable_config_load || paths_add_credentials(paths));
	return good ? NULL : err_errno(ENOMEM, "sandbox");
}

struct err *storage_paths_init(struct storage_paths *paths, const struct ovfs_backend *config)
{
	struct err *e;

	*paths = (struct storage_paths){ .path = calloc(1, sizeof(paths->path[0])) };
	e = paths->path ? storage_paths_add(paths, config) : err_errno(ENOMEM, "sandbox");
	if (e)
		storage_paths_destroy(paths);
	return e;
}

void storage_paths_destroy(struct storage_paths *paths)
{
	for (size_t i = 0; i < paths->count; i++)
		free((char *)paths->path[i].path);
	free(paths->path);
	*paths = (struct storage_paths){ 0 };
}
