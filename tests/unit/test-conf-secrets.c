/* SPDX-License-Identifier: Apache-2.0 */
/* Values that come from the environment and from files of their own; keys that do not
 * go together; what is printed of all that. */
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
#include "conf/schema.h"

static char dir[] = "/tmp/ovfs-test-conf-secrets-XXXXXX";

struct target {
	int kind;
	char *name, *secret, *secret_file;
	uint64_t size, sizes;
	uint32_t mode;
};

#define T(member) CONF_FIELD(struct target, member)

static const char *const kinds[] = { "plain", "rich", NULL };
static const struct conf_key keys[] = {
	{ .name = "kind", .type = CONF_CHOICE, .standard = "plain", .words = kinds, T(kind) },
	{ .name = "name", .type = CONF_STRING, .max = 64, T(name) },
	{ .name = "secret",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = 8,
	  .flags = CONF_SECRET,
	  .only = CONF_ONLY(1),
	  T(secret) },
	{ .name = "secret_file",
	  .type = CONF_PATH,
	  .only = CONF_ONLY(1),
	  .reads = "secret",
	  T(secret_file) },
	{ .name = "size", .type = CONF_SIZE, .standard = "1KiB", .max = 1 << 20, T(size) },
};
static const struct conf_key keys_more[] = {
	{ .name = "sizes",
	  .type = CONF_SIZES,
	  .standard = "4KiB,1MiB",
	  .min = 4096,
	  .max = 1 << 20,
	  T(sizes) },
	{ .name = "mode", .type = CONF_MODE, .standard = "0644", T(mode) },
};
static const struct conf_refused refused[] = { { "nmae", "it is called name" } };
static const struct conf_table tables[] = {
	{ .name = "main",
	  .doc = "d",
	  .key = keys,
	  .key_count = ARRAY_SIZE(keys),
	  .selector = "main.kind",
	  .refused = refused,
	  .refused_count = ARRAY_SIZE(refused) },
	{ .name = "more",
	  .doc = "d",
	  .key = keys_more,
	  .key_count = ARRAY_SIZE(keys_more),
	  .selector = "main.kind",
	  .only = CONF_ONLY(1) },
};

/* All keys are of one scope. */
#define TARGETS(target) ((const void *[CONF_SCOPES]){ target })

/* What was read last; a loader borrows it. */
static struct conf_files *files;

static int setup(void **state)
{
	(void)state;
	unsetenv("OVFS_TEST_NONE");
	setenv("OVFS_TEST_A", "hush", 1);
	setenv("OVFS_TEST_B", "2", 1);
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	unlink("secret");
	unlink("f.toml");
	return chdir("/") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

static void write_file(const char *name, const char *text, size_t len, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	assert_int_equal(chmod(name, mode), 0);
}

/* Loads @text from a file of @mode. The caller frees both. */
static struct conf_load *load_file(struct target *target, const char *text, mode_t mode)
{
	struct conf_load *load;

	files = conf_files_new();
	load = conf_load_new(tables, ARRAY_SIZE(tables), files);
	write_file("f.toml", text, strlen(text), mode);
	assert_true(conf_load_file(load, "f.toml"));
	conf_section_fill(conf_load_top(load), CONF_DAEMON, target);
	conf_load_finish(load);
	return load;
}

static void end(struct conf_load *load, struct target *target)
{
	conf_load_free(load);
	conf_files_free(files);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, target);
}

/* NULL: no problem. */
static void expect(const char *text, const char *expected)
{
	struct target target;
	struct conf_load *load = load_file(&target, text, 0600);
	const struct conf_problem *problem;
	size_t count;

	problem = conf_load_problems(load, &count);
	assert_int_equal(count, expected ? 1 : 0);
	if (expected)
		assert_string_equal(problem->text, expected);
	end(load, &target);
}

static char *print(const struct target *target)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	conf_print(tables, ARRAY_SIZE(tables), TARGETS(target), CONF_FORM_TABLE, out);
	fclose(out);
	return text;
}

static void test_environment(void **state)
{
	struct target target;
	struct conf_load *load;
	size_t count;
	char *text;

	(void)state;
	load = load_file(
		&target,
		"[main]\nkind = \"rich\"\nname = \"a-${env:OVFS_TEST_A}${env:OVFS_TEST_B}-$\"\n"
		"secret = \"${env:OVFS_TEST_A}\"\nsize = \"${env:OVFS_TEST_B}KiB\"\n",
		0600);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_string_equal(target.name, "a-hush2-$");
	assert_string_equal(target.secret, "hush");
	assert_int_equal(target.size, 2048);
	end(load, &target);
	expect("[main]\nname = \"${env:OVFS_TEST_NONE}\"\n",
	       "f.toml:2: main.name: the environment variable OVFS_TEST_NONE is not set");
	expect("[main]\nname = \"${env:OVFS\"\n",
	       "f.toml:2: main.name: expected a name and } behind ${env:");
	expect("[main]\nname = \"${env:}\"\n",
	       "f.toml:2: main.name: expected a name and } behind ${env:");
	expect("[main]\nname = \"${HOME}\"\n",
	       "f.toml:2: main.name: expected ${env:NAME}, or $${ for ${ itself");
	expect("[main]\nname = \"$${\"\n", NULL);
	load = load_file(&target, "[main]\nname = \"$${e}$$$\"\n", 0600);
	assert_string_equal(target.name, "${e}$$$");
	text = print(&target);
	assert_non_null(strstr(text, "name = \"$${e}$$$\"\n"));
	free(text);
	end(load, &target);
	/* A secret that is wrong stays out of the message. */
	setenv("OVFS_TEST_A", "much too long", 1);
	expect("[main]\nkind = \"rich\"\nsecret = \"${env:OVFS_TEST_A}\"\n",
	       "f.toml:3: main.secret: expected a string of 1 to 8 bytes");
	setenv("OVFS_TEST_A", "hush", 1);
}

#define FROM_FILE "[main]\nkind = \"rich\"\nsecret_file = \"secret\"\n"

static void test_file(void **state)
{
	struct target target;
	struct conf_load *load;
	size_t count;
	char *text;

	(void)state;
	write_file("secret", "quiet\n", 6, 0600);
	load = load_file(&target, FROM_FILE, 0644);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_string_equal(target.secret, "quiet");
	/* The configuration holds no secret, and the secret's file is closed. */
	conf_load_warnings(load, &count);
	assert_int_equal(count, 0);
	text = print(&target);
	assert_null(strstr(text, "quiet"));
	assert_non_null(strstr(text, "# secret is read from a file\nsecret_file = \"secret\"\n"));
	free(text);
	end(load, &target);

	expect(FROM_FILE "secret = \"x\"\n",
	       "f.toml:3: main.secret_file: secret is given, too: leave one of them out");
	write_file("secret", "a\0b", 3, 0600);
	expect(FROM_FILE, "f.toml:3: main.secret_file: \"secret\" is not a text of one value");
	write_file("secret", "quiet-quiet", 11, 0600);
	expect(FROM_FILE,
	       "f.toml:3: main.secret_file: \"secret\": expected a string of 1 to 8 bytes");
	unlink("secret");
	expect(FROM_FILE, "f.toml:3: main.secret_file: cannot read \"secret\": No such file or "
			  "directory");
}

static void expect_warning(const char *text, mode_t mode, const char *expected)
{
	struct target target;
	struct conf_load *load = load_file(&target, text, mode);
	const char *const *warning;
	size_t count;

	warning = conf_load_warnings(load, &count);
	assert_int_equal(count, expected ? 1 : 0);
	if (expected)
		assert_string_equal(warning[0], expected);
	end(load, &target);
}

static void test_exposed_secrets(void **state)
{
	(void)state;
	expect_warning("[main]\nkind = \"rich\"\nsecret = \"s\"\n", 0644,
		       "f.toml:3: main.secret: everybody can read this file, which holds a "
		       "secret: chmod o-r");
	expect_warning("[main]\nkind = \"rich\"\nsecret = \"s\"\n", 0640, NULL);
	expect_warning("[main]\nkind = \"rich\"\nsecret = \"${env:OVFS_TEST_A}\"\n", 0644, NULL);
	expect_warning("[main]\nkind = \"rich\"\n", 0644, NULL);
	write_file("secret", "quiet", 5, 0644);
	expect_warning(FROM_FILE, 0600,
		       "main.secret_file: everybody can read \"secret\", which holds a secret: "
		       "chmod o-r");
}

static void expect_printed(const char *name, const char *expected)
{
	struct target target;
	struct conf_load *load = load_file(&target, "", 0600);
	char *text;

	conf_load_set(load, "main.name", name, "--name");
	conf_section_fill(conf_load_top(load), CONF_DAEMON, &target);
	text = print(&target);
	if (!strstr(text, expected))
		fail_msg("%s: not printed as %s: %s", name, expected, text);
	free(text);
	end(load, &target);
}

static void test_passwords_in_urls(void **state)
{
	(void)state;
	expect_printed("http://me:pw@host:1/a@b", "name = \"http://********@host:1/a@b\"\n");
	expect_printed("http://m@e:p@w@host", "name = \"http://********@host\"\n");
	expect_printed("http://host/a@b", "name = \"http://host/a@b\"\n");
	expect_printed("me@host", "name = \"me@host\"\n");
}

static void test_selector(void **state)
{
	struct target target;
	struct conf_load *load;
	size_t count;
	char *text;

	(void)state;
	expect("[main]\nsecret = \"s\"\n",
	       "f.toml:2: main.secret: this key is for kind = \"rich\", and kind is \"plain\"");
	expect("[more]\nmode = \"0600\"\n[main]\nkind = \"plain\"\n",
	       "f.toml:2: more.mode: this key is for kind = \"rich\", and kind is \"plain\"");
	expect("[main]\nnmae = \"x\"\n", "f.toml:2: main.nmae: not supported: it is called name");

	/* The command line's do no harm, and nothing of them is printed. */
	load = load_file(&target, "", 0600);
	conf_load_set(load, "main.secret", "s", "--secret");
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &target);
	conf_section_fill(conf_load_top(load), CONF_DAEMON, &target);
	conf_load_finish(load);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	text = print(&target);
	assert_string_equal(text, "[main]\nkind = \"plain\"\n# name is not set\nsize = \"1KiB\"\n");
	free(text);
	end(load, &target);
}

static void test_lists_and_modes(void **state)
{
	struct target target;
	struct conf_load *load;
	size_t count;
	char *text;

	(void)state;
#define RICH "[main]\nkind = \"rich\"\n[more]\n"
	load = load_file(&target, RICH "sizes = [\"64KiB\", \"4096\", \"64KiB\"]\nmode = \"755\"\n",
			 0600);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_int_equal(target.sizes, 0x11000);
	assert_int_equal(target.mode, 0755);
	text = print(&target);
	assert_non_null(strstr(text, "[more]\nsizes = [\"4KiB\", \"64KiB\"]\nmode = \"0755\"\n"));
	free(text);
	end(load, &target);
#define SIZES "expected a list of powers of two from 4KiB to 1MiB"
	expect(RICH "sizes = []\n", "f.toml:4: more.sizes: got an empty list, " SIZES);
	expect(RICH "sizes = [\"2KiB\"]\n", "f.toml:4: more.sizes: got \"2KiB\", " SIZES);
	expect(RICH "sizes = [\"2MiB\"]\n", "f.toml:4: more.sizes: got \"2MiB\", " SIZES);
	expect(RICH "sizes = [\"12KiB\"]\n", "f.toml:4: more.sizes: got \"12KiB\", " SIZES);
	expect(RICH "sizes = [4096]\n", "f.toml:4: more.sizes: got an integer in the list, " SIZES);
	expect(RICH "sizes = \"4KiB\"\n", "f.toml:4: more.sizes: got a string, " SIZES);
#define MODE ", expected an octal mode in quotes, such as \"0644\""
	expect(RICH "mode = 0o644\n", "f.toml:4: more.mode: got an integer" MODE);
	expect(RICH "mode = \"0844\"\n", "f.toml:4: more.mode: got \"0844\"" MODE);
	expect(RICH "mode = \"64\"\n", "f.toml:4: more.mode: got \"64\"" MODE);
	expect(RICH "mode = \"17777\"\n", "f.toml:4: more.mode: got \"17777\"" MODE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_environment),	cmocka_unit_test(test_file),
		cmocka_unit_test(test_exposed_secrets), cmocka_unit_test(test_selector),
		cmocka_unit_test(test_lists_and_modes), cmocka_unit_test(test_passwords_in_urls),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
