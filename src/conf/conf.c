/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"

#include "conf/keys.h"

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
	      "```\n\n",
	      out);
	conf_print_reference(ovfs_tables, ovfs_table_count, out);
}
