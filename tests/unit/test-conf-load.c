/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: key tables, problems with their places, the effective configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/conf.h"
#include "conf/keys.h"
#include "conf/schema.h"

/* Tables of the test's own: every type, a secret, both integer widths. */
struct target {
	bool on;
	unsigned number;
	uint64_t wide;
	uint32_t size;
	uint64_t timeout;
	char *name;
	char *password;
	int choice;
	uint64_t flags;
};

static const char *const words[] = { "red", "green", "blue", NULL };

#define T(member) CONF_FIELD(struct target, member)

static const struct conf_key keys_main[] = {
	{ .name = "on", .type = CONF_BOOL, .standard = "true", T(on) },
	{ .name = "number", .type = CONF_INTEGER, .standard = "5", .min = 1, .max = 9, T(number) },
	{ .name = "wide", .type = CONF_INTEGER, .standard = "0", .max = UINT64_MAX, T(wide) },
	{ .name = "size",
	  .type = CONF_SIZE,
	  .standard = "4KiB",
	  .min = 512,
	  .max = 1 << 20,
	  T(size) },
	{ .name = "timeout",
	  .type = CONF_DURATION,
	  .standard = "1s",
	  .max = 60000000000,
	  T(timeout) },
	{ .name = "name", .type = CONF_STRING, .min = 1, .max = 8, T(name) },
};
static const struct conf_key keys_more[] = {
	{ .name = "password", .type = CONF_STRING, .max = 8, .flags = CONF_SECRET, T(password) },
	{ .name = "color", .type = CONF_CHOICE, .standard = "green", .words = words, T(choice) },
	{ .name = "flags", .type = CONF_FLAGS, .standard = "", .words = words, T(flags) },
};
static const struct conf_table tables[] = {
	{ .name = "main", .doc = "d", .key = keys_main, .key_count = ARRAY_SIZE(keys_main) },
	{ .name = "more", .doc = "d", .key = keys_more, .key_count = ARRAY_SIZE(keys_more) },
};

/* All keys are of one scope. */
#define TARGETS(target) ((const void *[CONF_SCOPES]){ target })

static struct conf_files *files;

static int setup(void **state)
{
	(void)state;
	files = conf_files_new();
	return files ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	conf_files_free(files);
	return 0;
}

static void fill(struct conf_load *load, struct target *target)
{
	conf_section_fill(conf_load_top(load), CONF_DAEMON, target);
}

static struct conf_load *load_text(struct target *target, const char *text)
{
	struct conf_load *load = conf_load_new(tables, ARRAY_SIZE(tables), files);

	assert_non_null(load);
	conf_load_text(load, "f.toml", text, strlen(text));
	fill(load, target);
	return load;
}

static void test_defaults_and_values(void **state)
{
	struct target target;
	struct conf_load *load = load_text(&target, "");
	size_t count;

	(void)state;
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_true(target.on);
	assert_int_equal(target.number, 5);
	assert_int_equal(target.size, 4096);
	assert_int_equal(target.timeout, 1000000000);
	assert_null(target.name);
	assert_int_equal(target.choice, 1);
	assert_int_equal(target.flags, 0);
	assert_false(conf_section_has(conf_load_top(load), "main.on"));
	conf_load_free(load);

	load = load_text(&target, "[main]\non = false\nnumber = 9\nwide = 9223372036854775807\n"
				  "size = \"1MiB\"\ntimeout = \"1m\"\nname = \"n\"\n"
				  "[more]\ncolor = \"blue\"\nflags = [\"blue\", \"red\"]\n");
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	assert_false(target.on);
	assert_true(conf_section_has(conf_load_top(load), "main.on"));
	assert_int_equal(target.number, 9);
	assert_int_equal(target.wide, INT64_MAX);
	assert_int_equal(target.size, 1 << 20);
	assert_int_equal(target.timeout, 60000000000);
	assert_string_equal(target.name, "n");
	assert_int_equal(target.choice, 2);
	assert_int_equal(target.flags, 5);
	conf_load_free(load);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &target);
	assert_null(target.name);
}

/* The text has exactly the one problem @expected. */
static void expect_problem(const char *text, const char *expected)
{
	struct target target;
	struct conf_load *load = load_text(&target, text);
	const struct conf_problem *problem;
	size_t count;

	problem = conf_load_problems(load, &count);
	assert_int_equal(count, 1);
	assert_string_equal(problem->text, expected);
	conf_load_free(load);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &target);
}

static void test_wrong_values(void **state)
{
	(void)state;
	expect_problem("[main]\non = 1\n",
		       "f.toml:2: main.on: got an integer, expected true or false");
	expect_problem("[main]\non = \"true\"\n",
		       "f.toml:2: main.on: got a string, expected true or false");
	expect_problem("[main]\nnumber = 10\n", "f.toml:2: main.number: got 10, which is out of "
						"range, expected an integer from 1 to 9");
	expect_problem("[main]\nnumber = -1\n",
		       "f.toml:2: main.number: got -1, expected an integer from 1 to 9");
	expect_problem("[main]\nnumber = \"5\"\n",
		       "f.toml:2: main.number: got a string, expected an integer from 1 to 9");
	expect_problem("[main]\n\nsize = 511\n",
		       "f.toml:3: main.size: got 511, which is out of range, expected a size from "
		       "512B to 1MiB, such as \"4KiB\"");
	expect_problem("[main]\nsize = \"1 MiB\"\n",
		       "f.toml:2: main.size: got \"1 MiB\", expected a size from 512B to 1MiB, "
		       "such as \"4KiB\"");
	expect_problem("[main]\ntimeout = 5\n",
		       "f.toml:2: main.timeout: got an integer without a unit, expected a duration "
		       "such as \"1m30s\", \"5s\" or \"100ms\", at most 1m");
	expect_problem("[main]\ntimeout = \"61s\"\n",
		       "f.toml:2: main.timeout: got 61s, which is out of range, expected a "
		       "duration such as \"1m30s\", \"5s\" or \"100ms\", at most 1m");
	expect_problem("[main]\nname = \"\"\n",
		       "f.toml:2: main.name: got 0 bytes, expected a string of 1 to 8 bytes");
	expect_problem("[main]\nname = \"123456789\"\n",
		       "f.toml:2: main.name: got 9 bytes, expected a string of 1 to 8 bytes");
	expect_problem("[main]\nname = {}\n",
		       "f.toml:2: main.name: got a table, expected a string of 1 to 8 bytes");
	expect_problem("[more]\ncolor = \"gren\"\n",
		       "f.toml:2: more.color: got \"gren\", expected \"red\", \"green\" or "
		       "\"blue\"; did you mean \"green\"?");
	expect_problem("[more]\nflags = \"red\"\n",
		       "f.toml:2: more.flags: got a string, expected a list of any of \"red\", "
		       "\"green\" or \"blue\"");
	expect_problem("[more]\nflags = [\"red\", 1]\n",
		       "f.toml:2: more.flags: got an integer in the list, expected a list of any "
		       "of \"red\", \"green\" or \"blue\"");
}

static void test_unknown_names(void **state)
{
	(void)state;
	expect_problem("[main]\nnumbre = 1\n",
		       "f.toml:2: main.numbre: unknown key, did you mean `number`?");
	expect_problem("[main]\nxyzzy = 1\n", "f.toml:2: main.xyzzy: unknown key");
	expect_problem("[main]\ncolor = \"red\"\n",
		       "f.toml:2: main.color: this key belongs in [more]");
	expect_problem("number = 1\n", "f.toml:1: number: this key belongs in [main]");
	expect_problem("colour = 1\n",
		       "f.toml:1: colour: unknown key, did you mean `color` of [more]?");
	expect_problem("[mian]\n", "f.toml:1: [mian]: unknown table, did you mean [main]?");
	expect_problem("[xyzzy]\n", "f.toml:1: [xyzzy]: unknown table");
	expect_problem("[[more2]]\na=1\n",
		       "f.toml:1: [[more2]]: unknown table, did you mean [more]?");
	expect_problem("main = 1\n", "f.toml:1: main: expected a table: [main]");
	expect_problem("[[main]]\nnumber = 1\n", "f.toml:1: main: expected a table: [main]");
}

/* A control character of the file does not reach the terminal. */
static void test_messages_are_one_clean_line(void **state)
{
	(void)state;
	expect_problem("[main]\n\"x\\u001b[2J\\n\" = 1\n", "f.toml:2: main.x?[2J?: unknown key");
}

static void test_all_problems_in_order(void **state)
{
	static const char text[] = "[more]\ncolor = 1\nzzz = 1\n[main]\nnumber = 0\non = 3\n[no]\n";
	struct target target;
	struct conf_load *load = load_text(&target, text);
	const struct conf_problem *problem;
	size_t count;

	(void)state;
	problem = conf_load_problems(load, &count);
	assert_int_equal(count, 5);
	assert_int_equal(problem[0].line, 2);
	assert_int_equal(problem[1].line, 3);
	assert_int_equal(problem[2].line, 5);
	assert_int_equal(problem[3].line, 6);
	assert_int_equal(problem[4].line, 7);
	/* What was wrong left the default. */
	assert_int_equal(target.number, 5);
	assert_true(target.on);
	conf_load_free(load);
}

static void test_problems_are_bounded(void **state)
{
	char *text = calloc(1, 20000);
	struct target target;
	struct conf_load *load;
	size_t count, len = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		len += (size_t)sprintf(text + len, "bad%d = 1\n", i);
	load = load_text(&target, text);
	conf_load_problems(load, &count);
	assert_int_equal(count, 100);
	conf_load_free(load);
	free(text);
}

static void test_syntax_error(void **state)
{
	struct conf_load *load = conf_load_new(tables, ARRAY_SIZE(tables), files);
	const struct conf_problem *problem;
	size_t count;

	(void)state;
	assert_false(conf_load_text(load, "f.toml", "a = 1\na = 2\n", 12));
	problem = conf_load_problems(load, &count);
	assert_int_equal(count, 1);
	assert_int_equal(problem->line, 2);
	assert_memory_equal(problem->text, "f.toml:2: ", 10);
	conf_load_free(load);
}

static void test_missing_file(void **state)
{
	struct conf_load *load = conf_load_new(tables, ARRAY_SIZE(tables), files);
	const struct conf_problem *problem;
	size_t count;

	(void)state;
	assert_false(conf_load_file(load, "/nonexistent/f.toml"));
	problem = conf_load_problems(load, &count);
	assert_int_equal(count, 1);
	assert_string_equal(problem->text, "/nonexistent/f.toml: cannot read the configuration: "
					   "No such file or directory");
	conf_load_free(load);
}

/* The command line overrides, and problems then name the option. */
static void test_set_overrides(void **state)
{
	struct target target;
	struct conf_load *load = load_text(&target, "[main]\nnumber = 7\nname = \"file\"\n");
	const struct conf_problem *problem;
	size_t count;

	(void)state;
	conf_load_set(load, "main.number", "8", "--number");
	conf_load_set(load, "main.name", "line", "--name");
	conf_load_set(load, "more.flags", "red,green", "--flags");
	conf_load_set(load, "main.on", "false", "--off");
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &target);
	fill(load, &target);
	assert_int_equal(target.number, 8);
	assert_string_equal(target.name, "line");
	assert_int_equal(target.flags, 3);
	assert_false(target.on);
	conf_load_set(load, "main.number", "8x", "--number");
	conf_load_set(load, "main.wide", "18446744073709551616", "--wide");
	conf_section_problem(conf_load_top(load), "main.name", "is odd");
	conf_section_problem(conf_load_top(load), "more.color", "is dull");
	problem = conf_load_problems(load, &count);
	assert_int_equal(count, 4);
	assert_string_equal(problem[0].text, "--name: is odd");
	assert_string_equal(problem[1].text,
			    "--number: got \"8x\", expected an integer from 1 to 9");
	assert_string_equal(problem[2].text,
			    "--wide: got \"18446744073709551616\", expected an integer from 0 to "
			    "18446744073709551615");
	assert_string_equal(problem[3].text, "f.toml: more.color: is dull");
	assert_int_equal(target.number, 8);
	conf_load_free(load);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &target);
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

static void test_secrets_are_masked(void **state)
{
	struct target target;
	struct conf_load *load = load_text(&target, "[more]\npassword = \"hush\"\n");
	const struct conf_problem *problem;
	char *text;
	size_t count;

	(void)state;
	assert_string_equal(target.password, "hush");
	text = print(&target);
	assert_null(strstr(text, "hush"));
	assert_non_null(strstr(text, "password = \"********\""));
	free(text);
	conf_load_set(load, "more.password", "hush-hush", "--password");
	problem = conf_load_problems(load, &count);
	assert_int_equal(count, 1);
	assert_null(strstr(problem->text, "hush"));
	conf_load_free(load);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &target);
}

static void test_print_round_trip(void **state)
{
	struct target first, second;
	struct conf_load *load;
	char *once, *twice;
	size_t count;

	(void)state;
	load = load_text(&first, "[main]\nname = \"a\\\"\\\\\\n\\u007f\"\nsize = 12345\n"
				 "timeout = \"90ms\"\nwide = 7\n[more]\nflags = [\"green\"]\n");
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	conf_load_free(load);
	once = print(&first);
	load = load_text(&second, once);
	conf_load_problems(load, &count);
	assert_int_equal(count, 0);
	conf_load_free(load);
	twice = print(&second);
	assert_string_equal(once, twice);
	assert_string_equal(first.name, second.name);
	free(once);
	free(twice);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &first);
	conf_target_free(tables, ARRAY_SIZE(tables), CONF_DAEMON, &second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_and_values),
		cmocka_unit_test(test_wrong_values),
		cmocka_unit_test(test_unknown_names),
		cmocka_unit_test(test_messages_are_one_clean_line),
		cmocka_unit_test(test_all_problems_in_order),
		cmocka_unit_test(test_problems_are_bounded),
		cmocka_unit_test(test_syntax_error),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_set_overrides),
		cmocka_unit_test(test_secrets_are_masked),
		cmocka_unit_test(test_print_round_trip),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
