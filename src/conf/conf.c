/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "conf/keys.h"

#define PAGE 4096u

struct conf_load *ovfs_config_load_new(struct ovfs_config *config)
{
	*config = (struct ovfs_config){ .socket.fd = OVFS_SOCKET_FD_NONE,
					.socket.gid = OVFS_SOCKET_GID_NONE };
	return conf_load_new(ovfs_tables, ovfs_table_count, config);
}

void ovfs_config_free(struct ovfs_config *config)
{
	conf_target_free(ovfs_tables, ovfs_table_count, config);
}

void ovfs_config_print(const struct ovfs_config *config, FILE *out)
{
	if (config->socket.fd != OVFS_SOCKET_FD_NONE)
		fprintf(out, "# listening on descriptor %d (--fd)\n", config->socket.fd);
	conf_print(ovfs_tables, ovfs_table_count, config, out);
}

void ovfs_config_print_reference(FILE *out)
{
	fputs("# The configuration file of ovfs\n\n"
	      "Generated from the key tables in `src/conf/keys.c` by\n"
	      "`ovfs --print-config-reference`; a test keeps it up to date.\n\n"
	      "The file is TOML and is given by `ovfs --config-file=FILE`. The least that it "
	      "needs:\n\n"
	      "```toml\n"
	      "[socket_settings]\n"
	      "socket_path = \"/run/ovfs/data.sock\"\n\n"
	      "[storage_settings]\n"
	      "type = \"fs\"\n"
	      "root = \"/srv/data\"\n"
	      "```\n\n"
	      "`ovfs --check-config --config-file=FILE` prints every problem of a file with its\n"
	      "line and what is expected there (exit code 2), or the effective configuration with\n"
	      "all defaults. Options of the command line override the file.\n\n"
	      "Sizes are an integer (bytes) or a string with a unit: KiB, MiB, GiB, TiB (K, M, G,\n"
	      "T for short) are powers of 1024; kB, MB, GB, TB powers of 1000. Durations are a\n"
	      "string of numbers with units that are added up: ns, us, ms, s, m, h, d.\n\n",
	      out);
	conf_print_reference(ovfs_tables, ovfs_table_count, out);
}

static void check_root(struct conf_load *load, const char *root)
{
	static const char key[] = "storage_settings.root";
	struct stat st;

	if (!root) {
		if (!conf_load_has(load, key))
			conf_load_problem(load, key,
					  "required: the directory to share (or --shared-dir=DIR)");
		return;
	}
	if (stat(root, &st) < 0)
		conf_load_problem(load, key, "\"%s\": %s, expected an existing directory", root,
				  strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		conf_load_problem(load, key, "\"%s\" is not a directory", root);
	else if (faccessat(AT_FDCWD, root, R_OK | X_OK, AT_EACCESS) < 0)
		conf_load_problem(load, key, "\"%s\" can not be read: %s", root, strerror(errno));
}

static void check_socket_fd(struct conf_load *load, int fd)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		conf_load_problem_option(load, "--fd", "%d: %s, expected a listening socket", fd,
					 strerror(errno));
	else if (!listening)
		conf_load_problem_option(load, "--fd", "%d is a socket that does not listen", fd);
}

static void check_socket_path(struct conf_load *load, const char *path)
{
	static const char key[] = "socket_settings.socket_path";
	CLEANUP_FREE char *dir = NULL;
	struct stat st;
	char *slash;

	if (!path) {
		if (!conf_load_has(load, key))
			conf_load_problem(load, key,
					  "required: where to listen (or --socket-path=PATH)");
		return;
	}
	dir = strdup(path);
	if (!dir)
		return;
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir ? 1 : 0] = '\0';
	else
		strcpy(dir, "."); /* the path is not empty: checked by its key */
	if (stat(dir, &st) < 0)
		conf_load_problem(load, key, "directory \"%s\" of the socket: %s", dir,
				  strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		conf_load_problem(load, key, "\"%s\" is not a directory", dir);
	else if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0)
		conf_load_problem(load, key, "directory \"%s\" of the socket: %s", dir,
				  strerror(errno));
	else if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		conf_load_problem(load, key, "\"%s\" exists and is not a socket", path);
}

static void check_group(struct conf_load *load, struct ovfs_config *config)
{
	const char *name = config->socket.group;
	const struct group *group;
	unsigned long number;
	char *end;

	if (!name)
		return;
	errno = 0;
	group = getgrnam(name);
	if (group) {
		config->socket.gid = group->gr_gid;
		return;
	}
	number = strtoul(name, &end, 10);
	if (name[0] >= '0' && name[0] <= '9' && !*end && number < UINT_MAX)
		config->socket.gid = (gid_t)number;
	else
		conf_load_problem(load, "socket_settings.socket_group", "no group \"%s\"", name);
}

/* Names are looked up where capabilities are used; here only the form. */
static void check_modcaps(struct conf_load *load, const char *caps)
{
	while (caps) {
		size_t name = strspn(caps + strspn(caps, "+-"),
				     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		if (strspn(caps, "+-") != 1 || name == 0 ||
		    (caps[1 + name] && caps[1 + name] != ':')) {
			conf_load_problem(load, "sandbox_settings.modcaps",
					  "expected capabilities, each after + or - and separated "
					  "by colons, such as \"+sys_admin:-chown\"");
			return;
		}
		caps = caps[1 + name] ? caps + 2 + name : NULL;
	}
}

void ovfs_config_check(struct conf_load *load, struct ovfs_config *config)
{
	check_root(load, config->storage.root);
	if (config->socket.fd != OVFS_SOCKET_FD_NONE)
		check_socket_fd(load, config->socket.fd);
	else
		check_socket_path(load, config->socket.path);
	check_group(load, config);
	check_modcaps(load, config->sandbox.modcaps);
	if (config->sandbox.disable & OVFS_STAGE_SECCOMP)
		config->sandbox.seccomp = OVFS_SECCOMP_NONE;
	if (config->fuse.max_write % PAGE != 0)
		conf_load_problem(load, "fuse_settings.max_write", "expected a multiple of 4KiB");
	if (!config->fuse.xattr)
		config->fuse.posix_acl = false;
}
