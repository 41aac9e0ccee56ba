/* SPDX-License-Identifier: Apache-2.0 */
/* What a reload changes, and what it takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/diff.h"
#include "conf/keys.h"

static void load(struct ovfs_config *config, const char *text)
{
	struct conf_files *files = conf_files_new();
	struct conf_load *load;
	const struct conf_problem *problem;
	size_t count;

	conf_files_seal(files);
	load = ovfs_config_load_new(files);
	conf_load_text(load, "f", text, strlen(text));
	ovfs_config_check(load, config);
	problem = conf_load_problems(load, &count);
	if (count > 0)
		fail_msg("%s", problem->text);
	conf_load_free(load);
	conf_files_free(files);
}

/* From @before to @after there are the changes @expected, a line each. */
static void expect(const char *before, const char *after, const char *expected)
{
	static const char *const words[] = {
		[CONF_CHANGE_LIVE] = "live",
		[CONF_CHANGE_REPLACE] = "replace",
		[CONF_CHANGE_CONNECTION] = "connection",
		[CONF_CHANGE_RESTART] = "restart",
	};
	struct ovfs_config a, b;
	struct ovfs_diff diff;
	char *all, text[256];
	size_t len;
	FILE *out = open_memstream(&all, &len);

	load(&a, before);
	load(&b, after);
	ovfs_config_diff(&diff, &a, &b);
	assert_false(diff.incomplete);
	for (size_t i = 0; i < diff.count; i++)
		fprintf(out, "%s: %s\n", words[diff.change[i].when],
			ovfs_change_text(&diff.change[i], text, sizeof(text)));
	fclose(out);
	assert_string_equal(all, expected);
	free(all);
	ovfs_diff_free(&diff);
	ovfs_config_free(&a);
	ovfs_config_free(&b);
}

#define ONE                                                                                        \
	"[socket_settings]\nsocket_path = \"s\"\n[storage_settings]\ntype = \"s3\"\n"              \
	"bucket = \"b\"\n"

static void test_keys(void **state)
{
	(void)state;
	expect(ONE, ONE, "");
	expect(ONE,
	       ONE "endpoint = \"http://h\"\naccess_key_id = \"a\"\nsecret_access_key = \"s\"\n"
		   "readonly = true\n",
	       "live: mount default: storage_settings.readonly\n"
	       "live: mount default: storage_settings.endpoint\n"
	       "live: mount default: storage_settings.access_key_id\n"
	       "live: mount default: storage_settings.secret_access_key\n");
	expect(ONE,
	       ONE "[cache_settings]\nsize = \"100MiB\"\nenabled_cache_write_back = true\n"
		   "cache_expiration_time = \"1s\"\n[log]\nlevel = \"debug\"\n"
		   "[retry_settings]\nattempts = 2\n",
	       "live: cache_settings.size\n"
	       "live: log.level\n"
	       "live: mount default: cache_settings.enabled_cache_write_back\n"
	       "live: mount default: cache_settings.cache_expiration_time\n"
	       "live: mount default: retry_settings.attempts\n");
	expect("[socket_settings]\nsocket_path = \"s\"\n[storage_settings]\ntype = \"memory\"\n",
	       "[socket_settings]\nsocket_path = [\"s\", \"t\"]\ntag = \"t\"\n"
	       "num_request_queues = 2\n[storage_settings]\ntype = \"memory\"\n"
	       "[sandbox_settings]\nmode = \"none\"\n",
	       "restart: sandbox_settings.mode\n"
	       "live: mount default: socket_settings.socket_path\n"
	       "connection: mount default: socket_settings.tag\n"
	       "connection: mount default: socket_settings.num_request_queues\n");
	expect(ONE,
	       "[socket_settings]\nsocket_path = \"s\"\n[storage_settings]\ntype = \"s3\"\n"
	       "bucket = \"c\"\n[worker_settings]\nthreads = 3\n",
	       "restart: mount default: worker_settings.threads\n"
	       "replace: mount default: storage_settings.bucket\n");
	/* The two ways to write a tag are one. */
	expect("[[mount]]\nname = \"a\"\ntag = \"t\"\n[mount.socket_settings]\nsocket_path = "
	       "\"s\"\n"
	       "[mount.storage_settings]\ntype = \"memory\"\n",
	       "[[mount]]\nname = \"a\"\n[mount.socket_settings]\nsocket_path = \"s\"\n"
	       "tag = \"t\"\n[mount.storage_settings]\ntype = \"memory\"\n",
	       "");
}

#define MOUNT(name)                                                                                \
	"[[mount]]\nname = \"" name "\"\n[mount.socket_settings]\nsocket_path = \"" name "\"\n"    \
	"[mount.storage_settings]\ntype = \"memory\"\n"
#define DIRECTORY(path) "[[mount.directory]]\npath = \"" path "\"\n"

static void test_mounts(void **state)
{
	(void)state;
	expect(MOUNT("a") MOUNT("b"), MOUNT("b") MOUNT("c"),
	       "live: mount a: removed\n"
	       "live: mount c: added\n");
	expect(MOUNT("a") MOUNT("b"), MOUNT("b") "readonly = true\n" MOUNT("a"),
	       "live: mount b: storage_settings.readonly\n");
	expect(MOUNT("a") DIRECTORY("x") DIRECTORY("y"),
	       MOUNT("a") DIRECTORY("z")
		       DIRECTORY("y") "[mount.directory.storage_settings]\nreadonly = true\n",
	       "live: mount a: directory x: removed\n"
	       "live: mount a: directory z: added\n"
	       "live: mount a: directory y: storage_settings.readonly\n");
	expect(MOUNT("a"), MOUNT("a") DIRECTORY("x"),
	       "connection: mount a: directories or one storage\n");
}

static void test_needs(void **state)
{
	struct ovfs_config a, b;
	struct ovfs_diff diff;

	(void)state;
	load(&a, MOUNT("a") MOUNT("b") MOUNT("c"));
	load(&b, "[cache_settings]\nsize = \"100MiB\"\n" MOUNT("a") "readonly = true\n" MOUNT(
			 "b") "[mount.dax_settings]\nenabled = true\n"
			      "[mount.retry_settings]\nattempts = 2\n" MOUNT("c"));
	ovfs_config_diff(&diff, &a, &b);
	assert_int_equal(ovfs_diff_needs(&diff, NULL), CONF_CHANGE_LIVE);
	assert_int_equal(ovfs_diff_needs(&diff, "a"), CONF_CHANGE_LIVE);
	assert_int_equal(ovfs_diff_needs(&diff, "b"), CONF_CHANGE_CONNECTION);
	assert_int_equal(ovfs_diff_needs(&diff, "c"), CONF_CHANGE_TABLE);
	ovfs_diff_free(&diff);
	ovfs_config_free(&a);
	ovfs_config_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_needs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
