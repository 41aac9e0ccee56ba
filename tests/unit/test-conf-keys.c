/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's own tables: sound in themselves, and checked against the system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/conf.h"
#include "conf/keys.h"
#include "conf/schema.h"

static struct conf_files *files;
static char dir[] = "/tmp/ovfs-test-conf-XXXXXX";

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir) || chdir(dir) != 0)
		return -1;
	files = conf_files_new();
	return files ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	conf_files_free(files);
	return chdir("/") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

/* Names are unique, defaults are good values, documentation is there. */
static void test_tables_are_sound(void **state)
{
	(void)state;
	for (size_t t = 0; t < ovfs_table_count; t++) {
		const struct conf_table *table = &ovfs_tables[t];

		assert_non_null(table->doc);
		for (size_t k = 0; k < table->key_count; k++) {
			const struct conf_key *key = &table->key[k];
			bool words = key->type == CONF_CHOICE || key->type == CONF_FLAGS;
			bool string = key->type == CONF_STRING || key->type == CONF_PATH;

			assert_non_null(key->doc);
			assert_true((key->size > 0) ==
				    !(key->alias || (key->flags & CONF_INCLUDE)));
			assert_true(words == (key->words != NULL));
			assert_true(string || key->standard || key->type == CONF_PATHS ||
				    (key->flags & CONF_COMMAND));
			if (key->type == CONF_INTEGER || key->type == CONF_SIZE)
				assert_true(key->max > 0);
			if (key->size == 4 && !words)
				assert_true(key->max <= UINT32_MAX);
			for (size_t other = 0; other < k; other++)
				assert_string_not_equal(key->name, table->key[other].name);
			for (size_t r = 0; r < table->refused_count; r++)
				assert_string_not_equal(key->name, table->refused[r].name);
			if (key->only || table->only)
				assert_non_null(table->selector);
		}
	}
}

static void test_defaults(void **state)
{
	struct ovfs_config c;
	struct conf_load *load = ovfs_config_load_new(files);
	const struct ovfs_mount *m;
	const struct ovfs_backend *b;

	(void)state;
	ovfs_config_check(load, &c);
	m = &c.mounts[0];
	b = &m->backend;
	assert_int_equal(m->socket.path.count, 0);
	assert_null(m->socket.tag);
	assert_int_equal(m->socket.fd, OVFS_SOCKET_FD_NONE);
	assert_true(m->socket.gid == OVFS_SOCKET_GID_NONE);
	assert_int_equal(m->socket.num_request_queues, 4);
	assert_int_equal(m->socket.poll, OVFS_POLL_AUTO);
	assert_int_equal(m->socket.poll_us, 50);
	assert_int_equal(b->storage.type, OVFS_STORAGE_FS);
	assert_false(b->storage.readonly);
	assert_int_equal(m->fuse.cache, OVFS_CACHE_AUTO);
	assert_int_equal(m->fuse.attr_timeout_ns, 1000000000);
	assert_int_equal(m->fuse.entry_timeout_ns, 1000000000);
	assert_int_equal(m->fuse.negative_timeout_ns, 1000000000);
	assert_true(m->fuse.xattr && m->fuse.posix_acl && m->fuse.posix_locks);
	assert_true(m->fuse.announce_submounts);
	assert_true(m->fuse.readdirplus && m->fuse.inode_file_handles);
	assert_false(m->fuse.writeback || m->fuse.allow_direct_io);
	assert_int_equal(m->fuse.max_write, 1 << 20);
	assert_int_equal(c.sandbox.mode, OVFS_SANDBOX_NAMESPACE);
	assert_int_equal(c.sandbox.seccomp, OVFS_SECCOMP_KILL);
	assert_int_equal(c.sandbox.disable, 0);
	assert_int_equal(c.log.level, LOG_LEVEL_INFO);
	assert_int_equal(c.log.target, OVFS_LOG_AUTO);
	assert_int_equal(c.pool.block_sizes,
			 0x1000 | 0x4000 | 0x10000 | 0x40000 | 0x100000 | 0x200000);
	assert_false(b->cache.enabled || b->cache.write_back);
	assert_true(b->cache.expiration);
	assert_int_equal(b->object.file_mode, 0644);
	assert_int_equal(b->object.dir_mode, 0755);
	assert_int_equal(b->object.on_unsupported, OVFS_UNSUPPORTED_FAIL);
	assert_int_equal(b->retry.attempts, 8);
	conf_load_free(load);
	ovfs_config_free(&c);
}

/* Loads @text with what is required in front, and checks it. NULL: no problem. */
static void expect(const char *text, const char *expected)
{
	struct ovfs_config config;
	struct conf_load *load = ovfs_config_load_new(files);
	const struct conf_problem *problem;
	size_t count;

	conf_load_text(load, "f", text, strlen(text));
	ovfs_config_check(load, &config);
	problem = conf_load_problems(load, &count);
	assert_int_equal(count, expected ? 1 : 0);
	if (expected)
		assert_string_equal(problem->text, expected);
	conf_load_free(load);
	ovfs_config_free(&config);
	ovfs_config_free(&config);
}

#define SOCKET "[socket_settings]\nsocket_path = \"s\"\n"
#define STORAGE "[storage_settings]\nroot = \".\"\n"

static void test_checks(void **state)
{
	(void)state;
	expect(SOCKET STORAGE, NULL);
	expect(SOCKET,
	       "f: storage_settings.root: required: the directory to share (or --shared-dir=DIR)");
	expect(STORAGE, "f: socket_settings.socket_path: required: where to listen (or "
			"--socket-path=PATH)");
	expect(SOCKET "[storage_settings]\nroot = \"/none\"\n",
	       "f:4: storage_settings.root: \"/none\": No such file or directory, expected an "
	       "existing directory");
	expect(SOCKET "[storage_settings]\nroot = \"/etc/passwd\"\n",
	       "f:4: storage_settings.root: \"/etc/passwd\" is not a directory");
	expect(STORAGE "[socket_settings]\nsocket_path = \"/none/s\"\n",
	       "f:4: socket_settings.socket_path: directory \"/none\" of the socket: No such file "
	       "or directory");
	expect(STORAGE "[socket_settings]\nsocket_path = \"/etc/passwd/s\"\n",
	       "f:4: socket_settings.socket_path: \"/etc/passwd\" is not a directory");
	expect(STORAGE "[socket_settings]\nsocket_path = \"/etc/passwd\"\n",
	       "f:4: socket_settings.socket_path: \"/etc/passwd\" exists and is not a socket");
	expect(STORAGE SOCKET "socket_group = \"no such group\"\n",
	       "f:5: socket_settings.socket_group: no group \"no such group\"");
	expect(STORAGE SOCKET "socket_group = \"root\"\n", NULL);
	expect(STORAGE SOCKET "socket_group = \"12345\"\n", NULL);
	expect(STORAGE SOCKET "[fuse_settings]\nmax_write = 4097\n",
	       "f:6: fuse_settings.max_write: expected a multiple of 4KiB");
	expect(STORAGE SOCKET "[sandbox_settings]\nmodcaps = \"+sys_admin:-chown\"\n", NULL);
	expect(STORAGE SOCKET "[sandbox_settings]\nmodcaps = \"sys_admin\"\n",
	       "f:6: sandbox_settings.modcaps: expected capabilities, each after + or - and "
	       "separated by colons, such as \"+sys_admin:-chown\"");
	/* A required key with a wrong value is one problem, not two. */
	expect(STORAGE "[socket_settings]\nsocket_path = 1\n",
	       "f:4: socket_settings.socket_path: got an integer, expected a path of 1 to 107 "
	       "bytes, or a list of such");
}

static void test_values_arrive(void **state)
{
	static const char text[] =
		SOCKET "tag = \"data\"\nsocket_group = \"4321\"\npoll = \"latency\"\npoll_us = "
		       "40\n" STORAGE "readonly = true\n"
		       "[fuse_settings]\ncache = \"metadata\"\nnegative_timeout = \"0\"\n"
		       "[sandbox_settings]\nmode = \"none\"\nseccomp = \"log\"\n"
		       "disable = [\"pid\", \"no_new_privs\", \"seccomp\"]\n"
		       "[worker_settings]\nthreads = 3\n"
		       "[log]\nlevel = \"trace\"\ntarget = \"journal\"\n";
	struct ovfs_config c;
	struct conf_load *load = ovfs_config_load_new(files);
	const struct ovfs_mount *m;
	const struct ovfs_backend *b;
	size_t count;

	(void)state;
	conf_load_text(load, "f", text, sizeof(text) - 1);
	ovfs_config_check(load, &c);
	m = &c.mounts[0];
	b = &m->backend;
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_int_equal(m->socket.path.count, 1);
	assert_string_equal(m->socket.path.item[0], "s");
	assert_string_equal(m->socket.tag, "data");
	assert_int_equal(m->socket.gid, 4321);
	assert_int_equal(m->socket.poll, OVFS_POLL_LATENCY);
	assert_int_equal(m->socket.poll_us, 40);
	assert_string_equal(b->storage.root, ".");
	assert_true(b->storage.readonly);
	assert_int_equal(m->fuse.cache, OVFS_CACHE_METADATA);
	assert_int_equal(m->fuse.negative_timeout_ns, 0);
	assert_int_equal(c.sandbox.mode, OVFS_SANDBOX_NONE);
	assert_int_equal(c.sandbox.seccomp, OVFS_SECCOMP_NONE);
	assert_int_equal(c.sandbox.disable,
			 OVFS_STAGE_PID | OVFS_STAGE_NO_NEW_PRIVS | OVFS_STAGE_SECCOMP);
	assert_int_equal(m->worker.threads, 3);
	assert_int_equal(c.log.level, LOG_LEVEL_TRACE);
	assert_int_equal(c.log.target, OVFS_LOG_JOURNAL);
	conf_load_free(load);
	ovfs_config_free(&c);
}

#define S3 "[storage_settings]\ntype = \"s3\"\nbucket = \"b\"\n"
#define KEYS "access_key_id = \"a\"\nsecret_access_key = \"s\"\n"

/* The file of the founding document. */
static void test_founding_file(void **state)
{
	static const char text[] = "[socket_settings]\n"
				   "socket_path = \"/tmp/vfsd.sock\"\n"
				   "[cache_settings]\n"
				   "enabled_cache = true\n"
				   "enabled_cache_write_back = false\n"
				   "enabled_cache_expiration = true\n"
				   "cache_expiration_time = \"60s\"\n"
				   "[storage_settings]\n"
				   "type = \"s3\"\n"
				   "bucket = \"<bucket>\"\n"
				   "region = \"us-east-1\"\n"
				   "endpoint = \"https://s3.amazonaws.com\"\n"
				   "access_key_id = \"<access_key_id>\"\n"
				   "secret_access_key = \"<secret_access_key>\"\n";
	struct ovfs_config c;
	struct conf_load *load = ovfs_config_load_new(files);
	const struct ovfs_mount *m;
	const struct ovfs_backend *b;
	size_t count;

	(void)state;
	conf_load_text(load, "f", text, sizeof(text) - 1);
	ovfs_config_check(load, &c);
	m = &c.mounts[0];
	b = &m->backend;
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_int_equal(b->storage.type, OVFS_STORAGE_S3);
	assert_string_equal(b->storage.s3.bucket, "<bucket>");
	assert_string_equal(b->storage.s3.secret_access_key, "<secret_access_key>");
	assert_int_equal(m->worker.threads, 64);
	assert_true(b->cache.enabled);
	assert_true(c.pool.size > 0 && c.pool.size <= 4ull << 30);
	assert_int_equal(b->cache.expiration_time_ns, 60000000000);
	conf_load_free(load);
	ovfs_config_free(&c);
}

static void test_storage_types(void **state)
{
	(void)state;
	expect(SOCKET S3, NULL);
	expect(SOCKET S3 KEYS, NULL);
	expect(SOCKET "[storage_settings]\ntype = \"memory\"\n", NULL);
	expect(SOCKET "[storage_settings]\ntype = \"s3\"\n",
	       "f: storage_settings.bucket: required: the bucket to share");
	expect(SOCKET STORAGE "bucket = \"b\"\n",
	       "f:5: storage_settings.bucket: this key is for type = \"s3\", and type is \"fs\"");
	expect(SOCKET STORAGE "[retry_settings]\nattempts = 3\n",
	       "f:6: retry_settings.attempts: this key is for type = \"s3\" or \"memory\", and "
	       "type is \"fs\"");
	expect(SOCKET S3 "[fuse_settings]\nxattr = true\n",
	       "f:7: fuse_settings.xattr: this key is for type = \"fs\", and type is \"s3\"");
	expect(SOCKET S3 "[fuse_settings]\ncache = \"metadata\"\n",
	       "f:7: fuse_settings.cache: \"metadata\" is for type \"fs\"");
	expect(SOCKET STORAGE "[cache_settings]\nenabled_cache = true\n"
			      "enabled_cache_write_back = true\nsize = \"1GiB\"\n",
	       NULL);
	expect(SOCKET STORAGE "[cache_settings]\nenabled_cache_write_back = true\n",
	       "f:6: cache_settings.enabled_cache_write_back: needs enabled_cache = true");
	expect(SOCKET STORAGE "[cache_settings]\nenabled_cache = false\n", NULL);
	expect(SOCKET S3 "[cache_settings]\nenabled_cache = false\n",
	       "f:7: cache_settings.enabled_cache: not supported for type \"s3\" and \"memory\": "
	       "reads and writes of objects go through the cache");
	expect(SOCKET S3 "enable_versioning = false\n",
	       "f:6: storage_settings.enable_versioning: not supported: a file has one version, "
	       "the latest");
}

static void test_s3_checks(void **state)
{
	(void)state;
	expect(SOCKET "[storage_settings]\ntype = \"s3\"\nbucket = \"b/c\"\n",
	       "f:5: storage_settings.bucket: \"b/c\" is no bucket's name: what is behind the / "
	       "belongs into root");
	expect(SOCKET S3 "access_key_id = \"a\"\n", "f:6: storage_settings.access_key_id: goes "
						    "with secret_access_key or "
						    "secret_access_key_file, which is not set");
	/* What could not be read is one problem, not two. */
	expect(SOCKET S3 "access_key_id = \"a\"\nsecret_access_key_file = \"/none\"\n",
	       "f:7: storage_settings.secret_access_key_file: cannot read \"/none\": No such file "
	       "or "
	       "directory");
	expect(SOCKET S3 "endpoint = \"ftp://x\"\n",
	       "f:6: storage_settings.endpoint: expected https:// or http:// and a host, such as "
	       "\"https://s3.amazonaws.com\"");
	expect(SOCKET S3 "endpoint = \"host:9000\"\n", NULL);
	expect(SOCKET S3 "ca_bundle = \"/none\"\n",
	       "f:6: storage_settings.ca_bundle: \"/none\" can not be read: No such file or "
	       "directory");
	expect(SOCKET S3 "external_id = \"x\"\n",
	       "f:6: storage_settings.external_id: goes with role_arn, which is not set");
	expect(SOCKET S3 "[cache_settings]\nsize = \"8MiB\"\n",
	       "f:7: cache_settings.size: expected at least 8 times the largest of block_sizes, "
	       "16MiB");
	expect(SOCKET S3 "[cache_settings]\nsize = \"8MiB\"\nblock_sizes = [\"4KiB\", \"1MiB\"]\n",
	       NULL);
	expect(SOCKET S3 "[cache_settings]\nblock_sizes = [\"5KiB\"]\n",
	       "f:7: cache_settings.block_sizes: got \"5KiB\", expected a list of powers of two "
	       "from 4KiB to 16MiB");
	expect(SOCKET S3 "[object_settings]\nfile_mode = 644\n",
	       "f:7: object_settings.file_mode: got an integer, expected an octal mode in quotes, "
	       "such as \"0644\"");
	expect(SOCKET S3 "[retry_settings]\npause_first = \"1m\"\n",
	       "f:7: retry_settings.pause_first: is longer than pause_max");
}

/* No problem, and at most one warning, which begins like that. */
static void expect_warning(const char *text, const char *expected)
{
	struct conf_load *load = ovfs_config_load_new(files);
	struct ovfs_config c;
	const char *const *warnings;
	size_t count;

	conf_load_text(load, "f", text, strlen(text));
	ovfs_config_check(load, &c);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	warnings = conf_load_warnings(load, &count);
	assert_int_equal(count, expected ? 1 : 0);
	if (expected)
		assert_ptr_equal(strstr(warnings[0], expected), warnings[0]);
	conf_load_free(load);
	ovfs_config_free(&c);
}

static void test_warnings(void **state)
{
	(void)state;
	/* The host may have more than the one that checks, or less than was thought. */
	expect_warning(SOCKET S3 "[cache_settings]\nsize = \"16TiB\"\n",
		       "cache_settings.size: more than the memory");
	expect_warning(SOCKET S3 "[cache_settings]\nsize = \"64MiB\"\n", NULL);
	expect_warning(SOCKET S3 "[cache_settings]\nsize = \"64MiB\"\n"
				 "[dax_settings]\nenabled = true\nwindow_size = \"32MiB\"\n",
		       NULL);
	expect_warning(SOCKET S3 "[cache_settings]\nsize = \"64MiB\"\n"
				 "[dax_settings]\nenabled = true\nwindow_size = \"64MiB\"\n",
		       "dax_settings.window_size: the windows of all sockets, 64MiB");
	/* The host's files, and its memory. */
	expect_warning(SOCKET STORAGE "[cache_settings]\nsize = \"64MiB\"\n"
				      "[dax_settings]\nenabled = true\nwindow_size = \"64MiB\"\n",
		       NULL);
}

static void test_operating_keys(void **state)
{
	static const char *const good[] = { "127.0.0.1:9953", "0.0.0.0:1", "[::1]:65535",
					    "unix:/tmp/m.sock" };
	static const char *const bad[] = { "9953",
					   ":9953",
					   "localhost:9953",
					   "127.0.0.1",
					   "127.0.0.1:",
					   "127.0.0.1:0",
					   "127.0.0.1:65536",
					   "127.0.0.1:99999999999999999999",
					   "::1:9953",
					   "[::1]",
					   "[]:1",
					   "unix:m.sock",
					   "127.0.0.1:80x",
					   "[::1:80" };
	char text[512], expected[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(text, sizeof(text), SOCKET STORAGE "[metrics_settings]\nlisten = \"%s\"\n",
			 good[i]);
		expect(text, NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), SOCKET STORAGE "[metrics_settings]\nlisten = \"%s\"\n",
			 bad[i]);
		snprintf(expected, sizeof(expected),
			 "f:6: metrics_settings.listen: got \"%s\", expected an address and a port "
			 "such as \"127.0.0.1:9953\", or \"unix:/path\"",
			 bad[i]);
		expect(text, expected);
	}
	expect(SOCKET STORAGE "[metrics_settings]\nlisten = \"unix:/none/s\"\n",
	       "f:6: metrics_settings.listen: directory \"/none\" of the socket: No such file or "
	       "directory");
	expect(SOCKET STORAGE "[ctl_settings]\nsocket_path = \"c\"\nsocket_group = \"root\"\n",
	       NULL);
	expect(SOCKET STORAGE "[ctl_settings]\nsocket_path = \"/none/c\"\n",
	       "f:6: ctl_settings.socket_path: directory \"/none\" of the socket: No such file or "
	       "directory");
	expect(SOCKET STORAGE "[ctl_settings]\nsocket_group = \"no such group\"\n",
	       "f:6: ctl_settings.socket_group: no group \"no such group\"");
	expect(SOCKET STORAGE "[dax_settings]\nwindow_size = \"3GiB\"\n",
	       "f:6: dax_settings.window_size: expected a power of two");
	expect(SOCKET STORAGE "[dax_settings]\nenabled = true\nwindow_size = \"2MiB\"\n", NULL);
}

/* Every key of OpenDAL's S3Config is known, or refused by name. */
static void test_opendal_keys(void **state)
{
	static const char *const names[] = {
		"root",
		"bucket",
		"enable_versioning",
		"endpoint",
		"region",
		"access_key_id",
		"secret_access_key",
		"session_token",
		"role_arn",
		"external_id",
		"role_session_name",
		"disable_config_load",
		"disable_ec2_metadata",
		"allow_anonymous",
		"skip_signature",
		"server_side_encryption",
		"server_side_encryption_aws_kms_key_id",
		"server_side_encryption_customer_algorithm",
		"server_side_encryption_customer_key",
		"server_side_encryption_customer_key_md5",
		"default_storage_class",
		"enable_virtual_host_style",
		"batch_max_operations",
		"delete_max_size",
		"disable_stat_with_override",
		"checksum_algorithm",
		"disable_write_with_if_match",
		"enable_write_with_append",
		"disable_list_objects_v2",
		"enable_request_payer",
		"container_credentials_relative_uri",
		"container_credentials_endpoint",
		"container_authorization_token",
		"container_authorization_token_file",
		"container_metadata_uri_override",
		"assume_role_duration_seconds",
		"assume_role_session_tags",
		"default_acl",
		"profile",
	};
	const struct conf_table *table = ovfs_tables;

	(void)state;
	while (strcmp(table->name, "storage_settings") != 0)
		table++;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		bool found = false;

		for (size_t k = 0; k < table->key_count; k++)
			found |= strcmp(table->key[k].name, names[i]) == 0;
		for (size_t r = 0; r < table->refused_count; r++)
			found |= strcmp(table->refused[r].name, names[i]) == 0;
		if (!found)
			fail_msg("%s is neither known nor refused", names[i]);
	}
}

/* docs/ovfs.toml.md is what the tables say. */
static void test_reference_is_up_to_date(void **state)
{
	FILE *file = fopen(OVFS_REFERENCE, "r"), *out;
	char *text, *saved = NULL;
	size_t len, saved_size = 0;

	(void)state;
	out = open_memstream(&text, &len);
	ovfs_config_print_reference(out);
	fclose(out);
	if (!file)
		fail_msg("%s is missing", OVFS_REFERENCE);
	assert_true(getdelim(&saved, &saved_size, '\0', file) > 0);
	fclose(file);
	if (strcmp(text, saved) != 0)
		fail_msg("%s is not what the tables say; write it anew:\n"
			 "    build/ovfs --print-config-reference > docs/ovfs.toml.md",
			 OVFS_REFERENCE);
	free(text);
	free(saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables_are_sound),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_values_arrive),
		cmocka_unit_test(test_founding_file),
		cmocka_unit_test(test_storage_types),
		cmocka_unit_test(test_s3_checks),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_operating_keys),
		cmocka_unit_test(test_opendal_keys),
		cmocka_unit_test(test_reference_is_up_to_date),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
