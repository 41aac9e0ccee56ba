/* SPDX-License-Identifier: Apache-2.0 */
/* What the values of several keys, or the system, have to say about a configuration. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/apart.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "conf/build.h"
#include "conf/schema.h"

#define PAGE 4096u

/* Whether the system is to be asked. */
static bool asks_system(const struct conf_section *section)
{
	return !conf_files_sealed(conf_load_files(conf_section_load(section)));
}

static void check_root(const struct conf_section *section, const char *root)
{
	static const char key[] = "storage_settings.root";
	int ret;

	if (!root) {
		if (!conf_section_has(section, key))
			conf_section_problem(
				section, key,
				"required: the directory to share (or --shared-dir=DIR)");
		return;
	}
	if (!asks_system(section))
		return;
	ret = apart_look_at_directory(root, OVFS_ROOT_TIMEOUT_MS);
	if (ret == -ETIMEDOUT) /* of a file server that hangs: it is served already, or refused */
		conf_load_warn(conf_section_load(section), "%s: \"%s\" does not answer", key, root);
	else if (ret == -ENOTDIR)
		conf_section_problem(section, key, "\"%s\" is not a directory", root);
	else if (ret == -EACCES)
		conf_section_problem(section, key, "\"%s\" can not be read: %s", root,
				     strerror(-ret));
	else if (ret < 0)
		conf_section_problem(section, key, "\"%s\": %s, expected an existing directory",
				     root, strerror(-ret));
}

static void check_socket_fd(const struct conf_section *section, int fd)
{
	/* The process outside of the sandbox closes it when the other one has it: a reload there
	 * has nothing to look at any more. */
	static _Atomic int found = -1;
	static const char key[] = "socket_settings.fd";
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (!asks_system(section) || found == fd)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		conf_section_problem(section, key, "%d: %s, expected a listening socket", fd,
				     strerror(errno));
	else if (!listening)
		conf_section_problem(section, key, "%d is a socket that does not listen", fd);
	else
		found = fd;
}

/* That a socket can be made at @path, the value of @key. */
static void check_socket_path(const struct conf_section *section, const char *key, const char *path)
{
	CLEANUP_FREE char *dir = strdup(path);
	struct stat st;
	char *slash;

	if (!dir || !asks_system(section))
		return;
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir ? 1 : 0] = '\0';
	else
		strcpy(dir, "."); /* the path is not empty: checked by its key */
	if (stat(dir, &st) < 0)
		conf_section_problem(section, key, "directory \"%s\" of the socket: %s", dir,
				     strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		conf_section_problem(section, key, "\"%s\" is not a directory", dir);
	else if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0)
		conf_section_problem(section, key, "directory \"%s\" of the socket: %s", dir,
				     strerror(errno));
	else if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		conf_section_problem(section, key, "\"%s\" exists and is not a socket", path);
}

/* The id of group @name, which is the value of @key. */
static void check_group(const struct conf_section *section, const char *key, const char *name,
			gid_t *gid)
{
	const struct conf_file *group;
	unsigned long number;
	char *end;

	if (!name)
		return;
	group = conf_files_group(conf_load_files(conf_section_load(section)), name);
	if (group && !group->error) {
		*gid = (gid_t)group->id;
		return;
	}
	errno = 0;
	number = strtoul(name, &end, 10);
	if (name[0] >= '0' && name[0] <= '9' && !*end && !errno && number < UINT_MAX)
		*gid = (gid_t)number;
	else
		conf_section_problem(section, key, "no group \"%s\"", name);
}

static void check_sockets(const struct conf_section *section, struct ovfs_mount *mount)
{
	static const char key[] = "socket_settings.socket_path";

	if (mount->socket.fd != OVFS_SOCKET_FD_NONE)
		check_socket_fd(section, mount->socket.fd);
	else if (mount->socket.path.count == 0 && !conf_section_has(section, key))
		conf_section_problem(section, key,
				     "required: where to listen (or --socket-path=PATH)");
	for (size_t i = 0; i < mount->socket.path.count; i++)
		check_socket_path(section, key, mount->socket.path.item[i]);
	check_group(section, "socket_settings.socket_group", mount->socket.group,
		    &mount->socket.gid);
}

/* Names are looked up where capabilities are used; here only the form. */
static void check_modcaps(const struct conf_section *section, const char *caps)
{
	while (caps) {
		size_t name = strspn(caps + strspn(caps, "+-"),
				     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		if (strspn(caps, "+-") != 1 || name == 0 ||
		    (caps[1 + name] && caps[1 + name] != ':')) {
			conf_section_problem(
				section, "sandbox_settings.modcaps",
				"expected capabilities, each after + or - and separated "
				"by colons, such as \"+sys_admin:-chown\"");
			return;
		}
		caps = caps[1 + name] ? caps + 2 + name : NULL;
	}
}

/* A secret, or if its file could not be read, which was said, the name of that. */
static const char *secret_or_file(const char *secret, const char *file)
{
	return secret ? secret : file;
}

/* @key of @name is set although @other, which it goes with, is not. */
static void check_pair(const struct conf_section *section, const char *key, const char *value,
		       const char *other_name, const char *other)
{
	if (value && !other)
		conf_section_problem(section, key, "goes with %s, which is not set", other_name);
}

/* The same of a secret, which may stand in a @file that KEY_file names. */
static void check_secret_pair(const struct conf_section *section, const char *key,
			      const char *secret, const char *file, const char *other_name,
			      const char *other)
{
	char name[128];

	snprintf(name, sizeof(name), "storage_settings.%s%s", key, file ? "_file" : "");
	check_pair(section, name, secret_or_file(secret, file), other_name, other);
}

static void check_endpoint(const struct conf_section *section, const char *endpoint)
{
	const char *scheme = endpoint ? strstr(endpoint, "://") : NULL;

	if (scheme && strncasecmp(endpoint, "https://", 8) != 0 &&
	    strncasecmp(endpoint, "http://", 7) != 0)
		conf_section_problem(section, "storage_settings.endpoint",
				     "expected https:// or http:// and a host, such as "
				     "\"https://s3.amazonaws.com\"");
}

/* Made absolute: it is opened from within the sandbox, where "." is another place. */
static void check_file(const struct conf_section *section, const char *key, char **path)
{
	const struct conf_files *files = conf_load_files(conf_section_load(section));
	char *absolute;

	if (!*path)
		return;
	if (asks_system(section) && faccessat(AT_FDCWD, *path, R_OK, AT_EACCESS) < 0) {
		conf_section_problem(section, key, "\"%s\" can not be read: %s", *path,
				     strerror(errno));
		return;
	}
	if ((*path)[0] == '/' || asprintf(&absolute, "%s/%s", conf_files_here(files), *path) < 0)
		return;
	free(*path);
	*path = absolute;
}

/* Where keys come from is said once. */
static void check_profile(const struct conf_section *section, const struct ovfs_s3 *s3)
{
	static const char key[] = "storage_settings.profile";

	if (s3->profile && s3->access_key_id)
		conf_section_problem(section, key,
				     "access_key_id is given, too: leave one of them out");
	if (s3->profile && s3->disable_config_load)
		conf_section_problem(section, key, "disable_config_load forbids to read it");
}

static void check_s3(const struct conf_section *section, struct ovfs_s3 *s3)
{
	if (!s3->bucket && !conf_section_has(section, "storage_settings.bucket"))
		conf_section_problem(section, "storage_settings.bucket",
				     "required: the bucket to share");
	if (s3->bucket && strchr(s3->bucket, '/'))
		conf_section_problem(
			section, "storage_settings.bucket",
			"\"%s\" is no bucket's name: what is behind the / belongs into "
			"root",
			s3->bucket);
	check_endpoint(section, s3->endpoint);
	check_pair(section, "storage_settings.access_key_id", s3->access_key_id,
		   "secret_access_key or secret_access_key_file",
		   secret_or_file(s3->secret_access_key, s3->secret_access_key_file));
	check_secret_pair(section, "secret_access_key", s3->secret_access_key,
			  s3->secret_access_key_file, "access_key_id", s3->access_key_id);
	check_secret_pair(section, "session_token", s3->session_token, s3->session_token_file,
			  "access_key_id", s3->access_key_id);
	check_pair(section, "storage_settings.external_id", s3->external_id, "role_arn",
		   s3->role_arn);
	check_pair(section, "storage_settings.role_session_name", s3->role_session_name, "role_arn",
		   s3->role_arn);
	check_profile(section, s3);
	check_secret_pair(section, "server_side_encryption_customer_key",
			  s3->server_side_encryption_customer_key,
			  s3->server_side_encryption_customer_key_file,
			  "server_side_encryption_customer_algorithm",
			  s3->server_side_encryption_customer_algorithm);
	check_pair(section, "storage_settings.server_side_encryption_customer_algorithm",
		   s3->server_side_encryption_customer_algorithm,
		   "server_side_encryption_customer_key",
		   secret_or_file(s3->server_side_encryption_customer_key,
				  s3->server_side_encryption_customer_key_file));
	check_pair(section, "storage_settings.client_key", s3->client_key, "client_certificate",
		   s3->client_certificate);
	check_file(section, "storage_settings.ca_bundle", &s3->ca_bundle);
	check_file(section, "storage_settings.client_certificate", &s3->client_certificate);
	check_file(section, "storage_settings.client_key", &s3->client_key);
}

static uint64_t cache_size_default(const struct conf_files *files)
{
	uint64_t quarter = conf_files_memory(files) / 4;

	quarter -= quarter % (1u << 20);
	return MIN(quarter, 4ull << 30);
}

/* The pool takes that many slabs, each as large as the largest block, at least. */
#define CACHE_SLABS_MIN 8
#define CACHE_CLASSES_MAX 8

static void check_backend_cache(const struct conf_section *section, struct ovfs_backend *backend)
{
	bool objects = backend->storage.type != OVFS_STORAGE_FS;

	if (!conf_section_has(section, "cache_settings.enabled_cache"))
		backend->cache.enabled = objects;
	if (!backend->cache.enabled && !objects && backend->cache.write_back) {
		/* A default for all mounts is not for those that have no cache. */
		if (conf_section_says(section, "cache_settings.enabled_cache_write_back"))
			conf_section_problem(section, "cache_settings.enabled_cache_write_back",
					     "needs enabled_cache = true");
		backend->cache.write_back = false;
	}
	if (!backend->cache.enabled && objects)
		conf_section_problem(
			section, "cache_settings.enabled_cache",
			"not supported for type \"s3\" and \"memory\": reads and writes "
			"of objects go through the cache");
}

/* Copies that guests have mapped are memory of the pool, of which they get half at most. */
static void check_windows(const struct conf_section *top, const struct ovfs_config *config)
{
	uint64_t all = 0;

	for (size_t i = 0; i < config->mount_count; i++) {
		const struct ovfs_mount *m = &config->mounts[i];

		if (m->dax.enabled && ovfs_mount_has_cache(m))
			all += m->dax.window_size * MAX(m->socket.path.count, (size_t)1);
	}
	if (all > config->pool.size / 2)
		conf_load_warn(
			conf_section_load(top),
			"dax_settings.window_size: the windows of all sockets, %lluMiB, are "
			"more than half of cache_settings.size, %lluMiB: when it is used up, "
			"guests cannot map files",
			(unsigned long long)(all >> 20),
			(unsigned long long)(config->pool.size >> 20));
}

static void check_pool(const struct conf_section *top, struct ovfs_config *config)
{
	const struct conf_files *files = conf_load_files(conf_section_load(top));
	uint64_t largest = 1ull << (63 - __builtin_clzll(config->pool.block_sizes));
	bool used = false;

	for (size_t i = 0; i < config->mount_count; i++)
		used |= ovfs_mount_has_cache(&config->mounts[i]);
	if (!used)
		return;
	if (config->pool.size == 0)
		config->pool.size = cache_size_default(files);
	if (config->pool.size > conf_files_memory(files))
		conf_load_warn(conf_section_load(top),
			       "cache_settings.size: more than the memory that the daemon may use, "
			       "%lluMiB",
			       (unsigned long long)(conf_files_memory(files) >> 20));
	if (config->pool.size < CACHE_SLABS_MIN * largest)
		conf_section_problem(
			top, "cache_settings.size",
			"expected at least %u times the largest of block_sizes, %lluMiB",
			CACHE_SLABS_MIN, (unsigned long long)(CACHE_SLABS_MIN * largest >> 20));
	check_windows(top, config);
	if (__builtin_popcountll(config->pool.block_sizes) > CACHE_CLASSES_MAX)
		conf_section_problem(top, "cache_settings.block_sizes", "expected at most %u sizes",
				     CACHE_CLASSES_MAX);
}

static void check_layers(const struct conf_section *section, const struct ovfs_backend *backend)
{
	if (backend->retry.pause_first_ns > backend->retry.pause_max_ns)
		conf_section_problem(section, "retry_settings.pause_first",
				     "is longer than pause_max");
	if (backend->timeout.silence_min_ns > backend->timeout.silence_max_ns)
		conf_section_problem(section, "timeout_settings.silence_min",
				     "is longer than silence_max");
}

static void check_backend(const struct conf_section *section, struct ovfs_backend *backend)
{
	if (backend->storage.type == OVFS_STORAGE_FS)
		check_root(section, backend->storage.root);
	if (backend->storage.type == OVFS_STORAGE_S3)
		check_s3(section, &backend->storage.s3);
	check_backend_cache(section, backend);
	check_layers(section, backend);
}

/* All that @mount shows; whether any of it is objects. */
static bool check_backends(const struct conf_section *section, struct ovfs_mount *mount)
{
	const struct conf_section *inner = conf_section_first(section);
	bool objects = false;

	if (mount->directory_count == 0) {
		check_backend(section, &mount->backend);
		return mount->backend.storage.type != OVFS_STORAGE_FS;
	}
	for (size_t i = 0; i < mount->directory_count; i++, inner = conf_section_next(inner)) {
		struct ovfs_backend *backend = &mount->directories[i].backend;

		check_backend(inner, backend);
		objects |= backend->storage.type != OVFS_STORAGE_FS;
	}
	return objects;
}

static void check_mount(const struct conf_section *section, struct ovfs_mount *mount)
{
	bool objects = check_backends(section, mount);

	check_sockets(section, mount);
	if (mount->worker.threads == 0)
		mount->worker.threads = objects ? 64 : 16;
	if (objects && mount->fuse.cache == OVFS_CACHE_METADATA)
		conf_section_problem(section, "fuse_settings.cache",
				     "\"metadata\" is for type \"fs\"");
	if (mount->fuse.max_write % PAGE != 0)
		conf_section_problem(section, "fuse_settings.max_write",
				     "expected a multiple of 4KiB");
	if (!mount->fuse.xattr)
		mount->fuse.posix_acl = false;
	if (mount->dax.window_size & (mount->dax.window_size - 1))
		conf_section_problem(section, "dax_settings.window_size",
				     "expected a power of two");
}

/* "unix:/path", or a literal address and a port. */
static bool listen_is_valid(const char *listen)
{
	unsigned char address[sizeof(struct in6_addr)];
	CLEANUP_FREE char *host = strdup(listen);
	char *colon = host ? strrchr(host, ':') : NULL, *end;
	size_t len;

	if (strncmp(listen, "unix:", 5) == 0)
		return listen[5] == '/' && strlen(listen + 5) <= OVFS_SOCKET_PATH_MAX;
	if (!colon || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
	    strtoul(colon + 1, &end, 10) - 1 >= 65535)
		return false;
	*colon = '\0';
	len = strlen(host);
	if (host[0] != '[')
		return inet_pton(AF_INET, host, address) == 1;
	if (host[len - 1] != ']')
		return false;
	host[len - 1] = '\0';
	return inet_pton(AF_INET6, host + 1, address) == 1;
}

static void check_metrics(const struct conf_section *top, const struct ovfs_config *config)
{
	static const char key[] = "metrics_settings.listen";
	const char *listen = config->metrics.listen;

	if (!listen)
		return;
	if (!listen_is_valid(listen))
		conf_section_problem(top, key,
				     "got \"%s\", expected an address and a port such as "
				     "\"127.0.0.1:9953\", or \"unix:/path\"",
				     listen);
	else if (strncmp(listen, "unix:", 5) == 0)
		check_socket_path(top, key, listen + 5);
}

static void check_daemon(const struct conf_section *top, struct ovfs_config *config)
{
	check_pool(top, config);
	check_modcaps(top, config->sandbox.modcaps);
	if (config->sandbox.disable & OVFS_STAGE_SECCOMP)
		config->sandbox.seccomp = OVFS_SECCOMP_NONE;
	if (config->ctl.path)
		check_socket_path(top, "ctl_settings.socket_path", config->ctl.path);
	check_group(top, "ctl_settings.socket_group", config->ctl.group, &config->ctl.gid);
	check_metrics(top, config);
}

void ovfs_config_check(struct conf_load *load, struct ovfs_config *config)
{
	const struct conf_section *section = ovfs_section_first(load);

	*config = (struct ovfs_config){ 0 };
	if (!ovfs_config_build(load, config)) {
		conf_load_problem_option(load, "configuration", "out of memory");
		return;
	}
	conf_load_finish(load);
	for (size_t i = 0; i < config->mount_count; i++) {
		check_mount(section, &config->mounts[i]);
		section = conf_section_next(section);
	}
	check_daemon(conf_load_top(load), config);
}
