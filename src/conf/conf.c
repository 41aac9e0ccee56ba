/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>

#include "conf/keys.h"

struct conf_load *ovfs_config_load_new(struct conf_files *files)
{
	return conf_load_new(ovfs_tables, ovfs_table_count, files);
}

static void backend_free(struct ovfs_backend *backend)
{
	conf_target_free(ovfs_tables, ovfs_table_count, CONF_BACKEND, backend);
}

void ovfs_config_free(struct ovfs_config *config)
{
	for (size_t i = 0; i < config->mount_count; i++) {
		struct ovfs_mount *mount = &config->mounts[i];

		for (size_t d = 0; d < mount->directory_count; d++) {
			backend_free(&mount->directories[d].backend);
			conf_target_free(ovfs_tables, ovfs_table_count, CONF_DIRECTORY,
					 &mount->directories[d]);
		}
		free(mount->directories);
		backend_free(&mount->backend);
		conf_target_free(ovfs_tables, ovfs_table_count, CONF_MOUNT, mount);
	}
	free(config->mounts);
	config->mounts = NULL;
	config->mount_count = 0;
	conf_target_free(ovfs_tables, ovfs_table_count, CONF_DAEMON, config);
}

bool ovfs_mount_has_cache(const struct ovfs_mount *mount)
{
	bool has = !mount->directory_count && mount->backend.cache.enabled;

	for (size_t d = 0; d < mount->directory_count; d++)
		has |= mount->directories[d].backend.cache.enabled;
	return has;
}

static void print_mount(const struct ovfs_mount *mount, FILE *out)
{
	const void *const targets[CONF_SCOPES] = {
		[CONF_MOUNT] = mount,
		[CONF_BACKEND] = mount->directory_count ? NULL : &mount->backend,
	};

	fputs("\n[[mount]]\n", out);
	conf_print(ovfs_tables, ovfs_table_count, targets, CONF_FORM_MOUNT, out);
	for (size_t i = 0; i < mount->directory_count; i++) {
		const struct ovfs_directory *directory = &mount->directories[i];
		const void *const inner[CONF_SCOPES] = {
			[CONF_BACKEND] = &directory->backend,
			[CONF_DIRECTORY] = directory,
		};

		fputs("\n[[mount.directory]]\n", out);
		conf_print(ovfs_tables, ovfs_table_count, inner, CONF_FORM_DIRECTORY, out);
	}
}

void ovfs_config_print(const struct ovfs_config *config, FILE *out)
{
	const struct ovfs_mount *mount = &config->mounts[0];
	const void *targets[CONF_SCOPES] = { config };

	if (mount->socket.fd != OVFS_SOCKET_FD_NONE)
		fprintf(out, "# listening on descriptor %d (--fd)\n", mount->socket.fd);
	if (mount->implicit) {
		targets[CONF_MOUNT] = mount;
		targets[CONF_BACKEND] = &mount->backend;
	}
	conf_print(ovfs_tables, ovfs_table_count, targets, CONF_FORM_ROOT, out);
	for (size_t i = 0; i < config->mount_count && !mount->implicit; i++)
		print_mount(&config->mounts[i], out);
}

void ovfs_config_print_reference(FILE *out)
{
	fputs("# The configuration file of ovfs\n\n"
	      "Generated from the key tables in `src/conf` by\n"
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
	      "string of numbers with units that are added up: ns, us, ms, s, m, h, d. In a\n"
	      "string, `${env:NAME}` stands for that variable of the environment.\n\n"
	      "A bucket instead of a directory:\n\n"
	      "```toml\n"
	      "[socket_settings]\n"
	      "socket_path = \"/run/ovfs/bucket.sock\"\n\n"
	      "[storage_settings]\n"
	      "type = \"s3\"\n"
	      "bucket = \"datasets\"\n"
	      "endpoint = \"https://s3.amazonaws.com\"\n"
	      "region = \"us-east-1\"\n"
	      "access_key_id = \"AKIA...\"\n"
	      "secret_access_key_file = \"/etc/ovfs/datasets.secret\"\n"
	      "```\n\n"
	      "Several mounts, one of them for two guests and one that shows two storages. What\n"
	      "stands at the top is the default for all of them, and what a mount says for its\n"
	      "directories:\n\n"
	      "```toml\n"
	      "[storage_settings]\n"
	      "type = \"s3\"\n"
	      "endpoint = \"https://s3.amazonaws.com\"\n"
	      "access_key_id = \"AKIA...\"\n"
	      "secret_access_key = \"${env:DATASETS_SECRET}\"\n\n"
	      "[[mount]]\n"
	      "name = \"datasets\"\n"
	      "[mount.socket_settings]\n"
	      "socket_path = [\"/run/ovfs/datasets-1.sock\", \"/run/ovfs/datasets-2.sock\"]\n"
	      "[mount.storage_settings]\n"
	      "bucket = \"datasets\"\n"
	      "readonly = true\n\n"
	      "[[mount]]\n"
	      "name = \"work\"\n"
	      "[mount.socket_settings]\n"
	      "socket_path = \"/run/ovfs/work.sock\"\n"
	      "[[mount.directory]]\n"
	      "path = \"results\"\n"
	      "[mount.directory.storage_settings]\n"
	      "bucket = \"results\"\n"
	      "[[mount.directory]]\n"
	      "path = \"scratch\"\n"
	      "[mount.directory.storage_settings]\n"
	      "type = \"fs\"\n"
	      "root = \"/srv/scratch\"\n"
	      "```\n\n"
	      "In a string, `$${` stands for `${`. The files are watched, and loaded again when "
	      "one\n"
	      "changes, on SIGHUP, or when `ovfsctl reload` asks. A file with an error changes\n"
	      "nothing. A change takes effect at once, unless its key says otherwise below.\n\n",
	      out);
	conf_print_reference(ovfs_tables, ovfs_table_count, out);
}

void ovfs_config_print_schema(FILE *out)
{
	conf_print_schema(ovfs_tables, ovfs_table_count, out);
}
