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

static char dir[] = "/tmp/ovfs-test-conf-XXXXXX";

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return chdir("/") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

/* Names are unique, defaults are good values, documentation is there. */
static void test_tables_are_sound(void **state)
{
	struct ovfs_config config;
	struct conf_load *load = ovfs_config_load_new(&config);
	size_t count;

	(void)state;
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	for (size_t t = 0; t < ovfs_table_count; t++) {
		const struct conf_table *table = &ovfs_tables[t];

		assert_non_null(table->doc);
		for (size_t k = 0; k < table->key_count; k++) {
			const struct conf_key *key = &table->key[k];
			bool words = key->type == CONF_CHOICE || key->type == CONF_FLAGS;
			bool string = key->type == CONF_STRING || key->type == CONF_PATH;

			assert_non_null(key->doc);
			assert_true(key->size > 0);
			assert_true(words == (key->words != NULL));
			assert_true(string || key->standard);
			if (key->type == CONF_INTEGER || key->type == CONF_SIZE)
				assert_true(key->max > 0);
			if (key->size == 4 && !words)
				assert_true(key->max <= UINT32_MAX);
			for (size_t other = 0; other < k; other++)
				assert_string_not_equal(key->name, table->key[other].name);
		}
	}
	conf_load_free(load);
	ovfs_config_free(&config);
}

static void test_defaults(void **state)
{
	struct ovfs_config c;
	struct conf_load *load = ovfs_config_load_new(&c);

	(void)state;
	assert_null(c.socket.path);
	assert_null(c.socket.tag);
	assert_int_equal(c.socket.fd, OVFS_SOCKET_FD_NONE);
	assert_true(c.socket.gid == OVFS_SOCKET_GID_NONE);
	assert_int_equal(c.socket.num_request_queues, 4);
	assert_int_equal(c.socket.poll_us, 0);
	assert_int_equal(c.storage.type, OVFS_STORAGE_FS);
	assert_false(c.storage.readonly);
	assert_int_equal(c.fuse.cache, OVFS_CACHE_AUTO);
	assert_int_equal(c.fuse.attr_timeout_ns, 1000000000);
	assert_int_equal(c.fuse.entry_timeout_ns, 1000000000);
	assert_int_equal(c.fuse.negative_timeout_ns, 1000000000);
	assert_true(c.fuse.xattr && c.fuse.posix_acl && c.fuse.posix_locks);
	assert_true(c.fuse.announce_submounts);
	assert_true(c.fuse.readdirplus && c.fuse.inode_file_handles);
	assert_false(c.fuse.writeback || c.fuse.allow_direct_io);
	assert_int_equal(c.fuse.max_write, 1 << 20);
	assert_int_equal(c.sandbox.mode, OVFS_SANDBOX_NAMESPACE);
	assert_int_equal(c.sandbox.seccomp, OVFS_SECCOMP_KILL);
	assert_int_equal(c.sandbox.disable, 0);
	assert_int_equal(c.log.level, LOG_LEVEL_INFO);
	assert_int_equal(c.log.target, OVFS_LOG_AUTO);
	conf_load_free(load);
	ovfs_config_free(&c);
}

/* Loads @text with what is required in front, and checks it. NULL: no problem. */
static void expect(const char *text, const char *expected)
{
	struct ovfs_config config;
	struct conf_load *load = ovfs_config_load_new(&config);
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
	       "bytes");
}

static void test_values_arrive(void **state)
{
	static const char text[] =
		SOCKET "tag = \"data\"\nsocket_group = \"4321\"\npoll_us = 50\n" STORAGE
		       "readonly = true\n"
		       "[fuse_settings]\ncache = \"metadata\"\nnegative_timeout = \"0\"\n"
		       "[sandbox_settings]\nmode = \"none\"\nseccomp = \"log\"\n"
		       "disable = [\"pid\", \"no_new_privs\", \"seccomp\"]\n"
		       "[worker_settings]\nthreads = 3\n"
		       "[log]\nlevel = \"trace\"\ntarget = \"journal\"\n";
	struct ovfs_config c;
	struct conf_load *load = ovfs_config_load_new(&c);
	size_t count;

	(void)state;
	conf_load_text(load, "f", text, sizeof(text) - 1);
	ovfs_config_check(load, &c);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_string_equal(c.socket.path, "s");
	assert_string_equal(c.socket.tag, "data");
	assert_int_equal(c.socket.gid, 4321);
	assert_int_equal(c.socket.poll_us, 50);
	assert_string_equal(c.storage.root, ".");
	assert_true(c.storage.readonly);
	assert_int_equal(c.fuse.cache, OVFS_CACHE_METADATA);
	assert_int_equal(c.fuse.negative_timeout_ns, 0);
	assert_int_equal(c.sandbox.mode, OVFS_SANDBOX_NONE);
	assert_int_equal(c.sandbox.seccomp, OVFS_SECCOMP_NONE);
	assert_int_equal(c.sandbox.disable,
			 OVFS_STAGE_PID | OVFS_STAGE_NO_NEW_PRIVS | OVFS_STAGE_SECCOMP);
	assert_int_equal(c.worker.threads, 3);
	assert_int_equal(c.log.level, LOG_LEVEL_TRACE);
	assert_int_equal(c.log.target, OVFS_LOG_JOURNAL);
	conf_load_free(load);
	ovfs_config_free(&c);
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
		cmocka_unit_test(test_reference_is_up_to_date),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
