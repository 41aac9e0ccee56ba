/* SPDX-License-Identifier: Apache-2.0 */
/* One file, many mounts: what they inherit, what they may not share, files that include others. */
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
#include "conf/files.h"
#include "conf/schema.h"

static char dir[] = "/tmp/ovfs-test-mounts-XXXXXX";

static int setup(void **state)
{
	(void)state;
	setenv("OVFS_TEST_BUCKET", "from-env", 1);
	return mkdtemp(dir) && chdir(dir) == 0 && mkdir("d", 0755) == 0 &&
			       mkdir("conf.d", 0755) == 0
		       ? 0
		       : -1;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return chdir("/") == 0 ? system(command) : -1;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(name, 0600), 0);
}

struct loaded {
	struct conf_files *files;
	struct conf_load *load;
	struct ovfs_config config;
	const struct conf_problem *problem;
	size_t count;
};

static void load_text(struct loaded *l, const char *text)
{
	write_file("f.toml", text);
	l->files = conf_files_new();
	l->load = ovfs_config_load_new(l->files);
	assert_non_null(l->load);
	conf_load_file(l->load, "f.toml");
	ovfs_config_check(l->load, &l->config);
	l->problem = conf_load_problems(l->load, &l->count);
}

static void load_good(struct loaded *l, const char *text)
{
	load_text(l, text);
	if (l->count > 0)
		fail_msg("%s", l->problem[0].text);
}

static void end(struct loaded *l)
{
	ovfs_config_free(&l->config);
	conf_load_free(l->load);
	conf_files_free(l->files);
}

/* @text has the problems @expected, a line each, and no others. */
static void expect(const char *text, const char *expected)
{
	struct loaded l;
	char all[4096] = "";

	load_text(&l, text);
	for (size_t i = 0; i < l.count; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s\n", l.problem[i].text);
	assert_string_equal(all, expected);
	end(&l);
}

#define SOCKET(path) "[mount.socket_settings]\nsocket_path = \"" path "\"\n"
#define MEMORY "[mount.storage_settings]\ntype = \"memory\"\n"
#define MOUNT(name, path) "[[mount]]\nname = \"" name "\"\n" SOCKET(path) MEMORY

static void test_inheritance(void **state)
{
	struct loaded l;
	const struct ovfs_mount *m;

	(void)state;
	load_good(&l, "[storage_settings]\ntype = \"s3\"\nbucket = \"common\"\n"
		      "access_key_id = \"a\"\nsecret_access_key = \"s\"\n"
		      "[retry_settings]\nattempts = 3\n[fuse_settings]\nattr_timeout = \"7s\"\n"
		      "[[mount]]\nname = \"one\"\n" SOCKET("1") "[[mount]]\ntag = \"two\"\n" SOCKET(
			      "2") "[mount.storage_settings]\nbucket = \"own\"\n"
				   "[mount.retry_settings]\npause_first = \"1s\"\n"
				   "[mount.fuse_settings]\nattr_timeout = \"0\"\n"
				   "[[mount]]\nname = \"three\"\n" SOCKET(
					   "3") "[mount.storage_settings]\ntype = \"fs\"\nroot = "
						"\"d\"\n");
	assert_int_equal(l.config.mount_count, 3);
	m = l.config.mounts;
	assert_string_equal(m[0].name, "one");
	assert_null(m[0].socket.tag);
	assert_string_equal(m[0].backend.storage.s3.bucket, "common");
	assert_int_equal(m[0].backend.retry.attempts, 3);
	assert_int_equal(m[0].fuse.attr_timeout_ns, 7000000000);
	assert_int_equal(m[0].worker.threads, 64);
	assert_string_equal(m[1].name, "two");
	assert_string_equal(m[1].socket.tag, "two");
	assert_string_equal(m[1].backend.storage.s3.bucket, "own");
	assert_string_equal(m[1].backend.storage.s3.secret_access_key, "s");
	assert_int_equal(m[1].backend.retry.attempts, 3);
	assert_int_equal(m[1].backend.retry.pause_first_ns, 1000000000);
	assert_int_equal(m[1].fuse.attr_timeout_ns, 0);
	assert_int_equal(m[2].backend.storage.type, OVFS_STORAGE_FS);
	assert_int_equal(m[2].backend.retry.pause_first_ns, 100000000);
	assert_int_equal(m[2].worker.threads, 16);
	assert_false(m[0].implicit || m[1].implicit || m[2].implicit);
	end(&l);
}

static void test_directories(void **state)
{
	struct loaded l;
	const struct ovfs_mount *m;

	(void)state;
	load_good(&l, "[[mount]]\nname = \"m\"\n[mount.socket_settings]\n"
		      "socket_path = [\"1\", \"2\"]\n"
		      "[mount.storage_settings]\ntype = \"s3\"\nendpoint = \"http://h\"\n"
		      "bucket = \"a\"\n"
		      "[[mount.directory]]\npath = \"x\"\n"
		      "[[mount.directory]]\npath = \"y/z\"\n"
		      "[mount.directory.storage_settings]\nbucket = \"${env:OVFS_TEST_BUCKET}\"\n"
		      "[mount.directory.cache_settings]\nenabled_cache_write_back = true\n"
		      "[[mount.directory]]\npath = \"xy\"\n"
		      "[mount.directory.storage_settings]\ntype = \"fs\"\nroot = \"d\"\n");
	m = l.config.mounts;
	assert_int_equal(l.config.mount_count, 1);
	assert_int_equal(m->socket.path.count, 2);
	assert_string_equal(m->socket.path.item[1], "2");
	assert_int_equal(m->directory_count, 3);
	assert_string_equal(m->directories[0].path, "x");
	assert_string_equal(m->directories[0].backend.storage.s3.bucket, "a");
	assert_false(m->directories[0].backend.cache.write_back);
	assert_string_equal(m->directories[1].path, "y/z");
	assert_string_equal(m->directories[1].backend.storage.s3.bucket, "from-env");
	assert_string_equal(m->directories[1].backend.storage.s3.endpoint, "http://h");
	assert_true(m->directories[1].backend.cache.write_back);
	assert_int_equal(m->directories[2].backend.storage.type, OVFS_STORAGE_FS);
	assert_null(m->backend.storage.s3.bucket);
	assert_true(ovfs_mount_has_cache(m));
	assert_true(l.config.pool.size > 0);
	end(&l);
}

static void test_names(void **state)
{
	(void)state;
	expect("[[mount]]\n" SOCKET("1") MEMORY,
	       "f.toml:1: mount \"?\": mount.name: required: the mount needs a name, or a tag that "
	       "can be one\n");
	expect("[[mount]]\ntag = \"a b\"\n" SOCKET("1") MEMORY,
	       "f.toml:1: mount \"a b\": mount.name: required, for the tag \"a b\" is no name of "
	       "letters, digits, dots, dashes and underscores\n");
	expect(MOUNT("-a", "1"),
	       "f.toml:2: mount.name: \"-a\": expected a letter or digit, then letters, digits, "
	       "dots, dashes and underscores\n");
	expect(MOUNT("a", "1") MOUNT("a", "2"),
	       "f.toml:8: mount.name: \"a\" is taken already, at f.toml:2 (mount \"a\")\n");
	expect("[[mount]]\ntag = \"a\"\n[mount.socket_settings]\nsocket_path = \"1\"\n"
	       "tag = \"b\"\n" MEMORY,
	       "f.toml:2: mount.tag: given twice, also at f.toml:5\n");
	/* TOML's order of keys is toml++'s: by name. */
	expect("[[mount]]\nnmae = \"a\"\ntag = \"t\"\n" SOCKET("1") MEMORY,
	       "f.toml:2: mount.nmae: unknown key, did you mean `name`?\n");
	expect(MOUNT("a", "1") "[[mount]]\nname = \"b\"\ntag = \"t\"\n" SOCKET("2") MEMORY
	       "[[mount]]\nname = \"c\"\ntag = \"t\"\n" SOCKET("3") MEMORY,
	       "f.toml:16: socket_settings.tag: \"t\" is taken already, at f.toml:9 (mount "
	       "\"b\")\n");
}

static void test_sockets(void **state)
{
	(void)state;
	expect(MOUNT("a", "s") MOUNT("b", ".//s") MOUNT("c", "./s"),
	       "f.toml:16: socket_settings.socket_path: \"./s\" is taken already, at f.toml:10 "
	       "(mount \"b\")\n");
	expect("[ctl_settings]\nsocket_path = \"s\"\n" MOUNT("a", "s"),
	       "f.toml:6: socket_settings.socket_path: \"s\" is taken already, at f.toml:2\n");
	expect("[[mount]]\nname = \"a\"\n[mount.socket_settings]\nsocket_path = [\"1\", "
	       "\"1\"]\n" MEMORY,
	       "f.toml:4: socket_settings.socket_path: got \"1\" twice, expected a path of 1 to "
	       "107 bytes, or a list of such\n");
	expect("[socket_settings]\nsocket_path = \"s\"\n[[mount]]\nname = \"a\"\n" MEMORY
	       "[[mount]]\nname = \"b\"\n" MEMORY,
	       "f.toml:2: mount \"b\": socket_settings.socket_path: \"s\" is taken already, at "
	       "f.toml:2 (mount \"a\")\n");
	expect("[[mount]]\nname = \"a\"\n" MEMORY,
	       "f.toml:1: mount \"a\": socket_settings.socket_path: required: where to listen (or "
	       "--socket-path=PATH)\n");
}

#define IN "[[mount]]\nname = \"m\"\n" SOCKET("1") MEMORY

static void test_directory_paths(void **state)
{
#define PATH(path) "[[mount.directory]]\npath = \"" path "\"\n"
	static const char *const bad[] = { "/a", "a/", "a//b", ".", "a/../b", "a/." };
	char text[512], expected[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "%s[[mount.directory]]\npath = \"%s\"\n", IN, bad[i]);
		snprintf(expected, sizeof(expected),
			 "f.toml:8: directory.path: \"%s\": expected a relative path such as "
			 "\"data\" or \"data/2024\", without \".\" and \"..\"\n",
			 bad[i]);
		expect(text, expected);
	}
	expect(IN PATH("a") PATH("ab") PATH("b/c") PATH("b/d"), "");
	expect(IN PATH("a") PATH("a"),
	       "f.toml:10: directory.path: \"a\" is taken already, at f.toml:8\n");
	expect(IN PATH("a") PATH("a/b"),
	       "f.toml:10: directory.path: \"a/b\" is taken already, at f.toml:8\n");
	expect(IN PATH("a/b") PATH("a"),
	       "f.toml:10: directory.path: \"a\" is taken already, at f.toml:8\n");
	expect(IN "[[mount.directory]]\n",
	       "f.toml:7: mount \"m\": directory \"?\": directory.path: required: where it is seen "
	       "in the mount\n");
	expect(IN PATH("a") "[mount.directory.storage_settings]\ntype = \"fs\"\n",
	       "f.toml:7: mount \"m\": directory \"a\": storage_settings.root: required: the "
	       "directory to share (or --shared-dir=DIR)\n");
}

static void test_where_keys_stand(void **state)
{
	(void)state;
	expect(MOUNT("a", "1") "[mount.sandbox_settings]\nmode = \"none\"\n",
	       "f.toml:8: sandbox_settings.mode: this key is for the whole daemon: it stands at "
	       "the "
	       "top of the file, before any [[mount]]\n");
	expect(MOUNT("a", "1") "[mount.cache_settings]\nsize = \"1GiB\"\n",
	       "f.toml:8: cache_settings.size: this key is for the whole daemon: it stands at the "
	       "top of the file, before any [[mount]]\n");
	expect(IN "[[mount.directory]]\npath = \"x\"\n[mount.directory.fuse_settings]\n"
		  "readdirplus = true\n",
	       "f.toml:10: fuse_settings.readdirplus: this key is for a whole mount, not for one "
	       "of "
	       "its directories\n");
	expect("[mount]\nname = \"a\"\n[socket_settings]\nsocket_path = \"s\"\n"
	       "[storage_settings]\ntype = \"memory\"\n",
	       "f.toml:1: mount: expected [[mount]]\n");
	expect(IN "[mount.directory]\npath = \"a\"\n",
	       "f.toml:7: mount.directory: expected [[mount.directory]]\n");
	expect("name = \"a\"\n[socket_settings]\nsocket_path = \"s\"\n"
	       "[storage_settings]\ntype = \"memory\"\n",
	       "f.toml:1: name: this key belongs in [[mount]]\n");
	expect(MOUNT("a", "1") "[[mount.mount]]\nname = \"x\"\n",
	       "f.toml:7: [[mount]]: unknown table\n");
	expect("mount = [1]\n[socket_settings]\nsocket_path = \"s\"\n"
	       "[storage_settings]\ntype = \"memory\"\n",
	       "f.toml:1: mount: expected tables\n");
}

/* A key at the top is right when any mount can use it. */
static void test_selector_of_many(void **state)
{
	(void)state;
#define FS(name, path)                                                                             \
	"[[mount]]\nname = \"" name                                                                \
	"\"\n" SOCKET(path) "[mount.storage_settings]\ntype = \"fs\"\nroot = \"d\"\n"
	expect("[retry_settings]\nattempts = 3\n" FS("a", "1") MOUNT("b", "2"), "");
	expect("[retry_settings]\nattempts = 3\n" FS("a", "1") FS("b", "2"),
	       "f.toml:2: retry_settings.attempts: this key is for type = \"s3\" or \"memory\", "
	       "and "
	       "no storage has it\n");
	expect(MOUNT("b", "2") FS("a", "1") "bucket = \"x\"\n",
	       "f.toml:14: storage_settings.bucket: this key is for type = \"s3\", and type is "
	       "\"fs\"\n");
	/* So is write-back for mounts without a cache. */
	expect("[cache_settings]\nenabled_cache_write_back = true\n" FS("a", "1") MOUNT("b", "2"),
	       "");
	expect(FS("a", "1") "[mount.cache_settings]\nenabled_cache_write_back = true\n",
	       "f.toml:9: cache_settings.enabled_cache_write_back: needs enabled_cache = true\n");
	expect("[retry_settings]\npause_first = \"1h\"\n" MOUNT("a", "1"),
	       "f.toml:2: mount \"a\": retry_settings.pause_first: is longer than pause_max\n");
}

static void test_secret_files(void **state)
{
	struct loaded l;

	(void)state;
	write_file("top", "of-top\n");
	write_file("own", "of-mount\n");
	/* The nearer of both counts. */
	load_good(&l, "[storage_settings]\ntype = \"s3\"\nbucket = \"b\"\naccess_key_id = \"a\"\n"
		      "secret_access_key_file = \"top\"\n"
		      "[[mount]]\nname = \"a\"\n" SOCKET("1") "[[mount]]\nname = \"b\"\n" SOCKET(
			      "2") "[mount.storage_settings]\nsecret_access_key = \"literal\"\n"
				   "[[mount]]\nname = \"c\"\n" SOCKET(
					   "3") "[mount.storage_settings]\nsecret_access_key_file "
						"= \"own\"\n");
	assert_string_equal(l.config.mounts[0].backend.storage.s3.secret_access_key, "of-top");
	assert_string_equal(l.config.mounts[1].backend.storage.s3.secret_access_key, "literal");
	assert_null(l.config.mounts[1].backend.storage.s3.secret_access_key_file);
	assert_string_equal(l.config.mounts[2].backend.storage.s3.secret_access_key, "of-mount");
	end(&l);
	unlink("top");
	unlink("own");
}

static void test_include(void **state)
{
	struct loaded l;

	(void)state;
	write_file("conf.d/20-b.toml", MOUNT("b", "2"));
	write_file("conf.d/10-a.toml", MOUNT("a", "1") "[retry_settings]\nattempts = 4\n");
	write_file("conf.d/.hidden.toml", "x");
	write_file("conf.d/a.toml~", "x");
	write_file("conf.d/c.txt", "[log]\nlevel = \"debug\"\n");
	load_good(&l, "include = [\"conf.d\", \"conf.d/c.txt\"]\n" MOUNT("z", "0"));
	assert_int_equal(l.config.mount_count, 3);
	assert_string_equal(l.config.mounts[0].name, "z");
	assert_string_equal(l.config.mounts[1].name, "a");
	assert_string_equal(l.config.mounts[2].name, "b");
	assert_int_equal(l.config.mounts[0].backend.retry.attempts, 4);
	assert_int_equal(l.config.log.level, LOG_LEVEL_DEBUG);
	end(&l);

	/* Paths start where the file is. */
	write_file("conf.d/20-b.toml", "include = \"../more\"\n");
	write_file("more", MOUNT("more", "2"));
	load_good(&l, "include = \"conf.d\"\n");
	assert_int_equal(l.config.mount_count, 2);
	assert_string_equal(l.config.mounts[1].name, "more");
	end(&l);

	write_file("conf.d/20-b.toml", "[retry_settings]\nattempts = 5\n" MOUNT("a", "9"));
	expect("include = \"conf.d\"\n",
	       "conf.d/20-b.toml:2: retry_settings.attempts: given twice, also at "
	       "conf.d/10-a.toml:8\n"
	       "conf.d/20-b.toml:4: mount.name: \"a\" is taken already, at conf.d/10-a.toml:2 "
	       "(mount \"a\")\n");
	write_file("conf.d/20-b.toml", "[log\n");
	load_text(&l, "include = \"conf.d\"\n");
	assert_int_equal(l.count, 1);
	assert_memory_equal(l.problem->text, "conf.d/20-b.toml:1: ", 20);
	end(&l);
	unlink("conf.d/20-b.toml");
	unlink("conf.d/10-a.toml");
	unlink("more");
}

static void test_include_refused(void **state)
{
	char name[32], text[64];

	(void)state;
	expect("include = \"none\"\n" MOUNT("a", "1"),
	       "f.toml:1: include: cannot read \"none\": No such file or directory\n");
	expect("include = \"f.toml\"\n" MOUNT("a", "1"),
	       "f.toml:1: include: \"f.toml\" is read already\n");
	expect("include = 1\n" MOUNT("a", "1"), "f.toml:1: include: got an integer, expected a "
						"path of 1 to 4095 bytes, or a list of "
						"such\n");
	expect("include = \"${env:OVFS_NO}\"\n" MOUNT("a", "1"),
	       "f.toml:1: include: the environment variable OVFS_NO is not set\n");
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "deep%d", i);
		snprintf(text, sizeof(text), "include = \"deep%d\"\n", i + 1);
		write_file(name, text);
	}
	expect("include = \"deep0\"\n" MOUNT("a", "1"),
	       "deep7:1: include: more than 8 files deep\n");
}

static void test_round_trip(void **state)
{
	struct loaded l;
	char *once, *twice;
	size_t len;
	FILE *out;

	(void)state;
	load_good(&l,
		  "[log]\nlevel = \"debug\"\n" MOUNT(
			  "a",
			  "1") "[mount.fuse_settings]\nreaddirplus = false\n"
			       "[[mount]]\ntag = \"b\"\n[mount.socket_settings]\n"
			       "socket_path = [\"x$${y}\", \"2\"]\n"
			       "[[mount.directory]]\npath = \"p\"\n"
			       "[mount.directory.storage_settings]\ntype = \"fs\"\nroot = \"d\"\n"
			       "[[mount.directory]]\npath = \"q\"\n"
			       "[mount.directory.storage_settings]\ntype = \"memory\"\n"
			       "capacity = \"5MiB\"\n");
	assert_string_equal(l.config.mounts[1].socket.path.item[0], "x${y}");
	out = open_memstream(&once, &len);
	ovfs_config_print(&l.config, out);
	fclose(out);
	end(&l);
	load_good(&l, once);
	out = open_memstream(&twice, &len);
	ovfs_config_print(&l.config, out);
	fclose(out);
	end(&l);
	assert_string_equal(once, twice);
	assert_non_null(strstr(once, "[[mount.directory]]\npath = \"q\"\n\n"
				     "[mount.directory.storage_settings]\ntype = \"memory\"\n"
				     "readonly = false\ncapacity = \"5MiB\"\n"));
	free(once);
	free(twice);
}

/* There are tables for [[mount]] of any number; a file has a bound. */
static void test_bounds(void **state)
{
	struct loaded l;
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	for (int i = 0; i < 4200; i++)
		fprintf(out, "[[mount]]\nname = \"m%d\"\n", i);
	fclose(out);
	load_text(&l, text);
	assert_true(l.count > 0);
	assert_string_equal(l.problem[0].text,
			    "f.toml:1: mount \"m0\": socket_settings.socket_path: required: where "
			    "to listen (or --socket-path=PATH)");
	end(&l);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inheritance),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_directory_paths),
		cmocka_unit_test(test_where_keys_stand),
		cmocka_unit_test(test_selector_of_many),
		cmocka_unit_test(test_secret_files),
		cmocka_unit_test(test_include),
		cmocka_unit_test(test_include_refused),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
