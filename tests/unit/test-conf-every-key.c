/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key of the daemon's tables, by the tables: missing, good, of the wrong type, out of range,
 * mistyped, given twice, and in each kind of section.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/keys.h"
#include "conf/units.h"
#include "conf/value.h"

#define KEY_NAME_MAX 256

/* Targets of every scope, and what fills them. */
struct world {
	struct conf_files *files;
	struct conf_load *load;
	struct ovfs_config config;
	struct ovfs_mount mount;
	struct ovfs_backend backend;
	struct ovfs_directory directory;
	void *target[CONF_SCOPES];
};

static void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->files = conf_files_new();
	conf_files_seal(w->files);
	w->load = ovfs_config_load_new(w->files);
	w->target[CONF_DAEMON] = &w->config;
	w->target[CONF_MOUNT] = &w->mount;
	w->target[CONF_BACKEND] = &w->backend;
	w->target[CONF_DIRECTORY] = &w->directory;
}

static void world_text(struct world *w, const char *name, const char *text)
{
	conf_load_text(w->load, name, text, strlen(text));
}

/* What @key of @section is. */
static void *world_fill(struct world *w, struct conf_section *section, enum conf_scope scope)
{
	conf_section_fill(section, scope, w->target[scope]);
	return w->target[scope];
}

static void world_close(struct world *w)
{
	for (unsigned scope = 0; scope < CONF_SCOPES; scope++)
		conf_target_free(ovfs_tables, ovfs_table_count, scope, w->target[scope]);
	conf_load_free(w->load);
	conf_files_free(w->files);
}

/* There is exactly the one problem, and it starts with @expected. */
static void expect_one(struct world *w, const char *expected)
{
	const struct conf_problem *problem;
	size_t count;

	problem = conf_load_problems(w->load, &count);
	if (count != 1)
		fail_msg("%s: %zu problems: %s", expected, count, count ? problem[0].text : "");
	if (strncmp(problem->text, expected, strlen(expected)) != 0)
		fail_msg("\"%s\" does not start with \"%s\"", problem->text, expected);
}

static void expect_none(struct world *w, const char *what)
{
	const struct conf_problem *problem;
	size_t count;

	problem = conf_load_problems(w->load, &count);
	if (count > 0)
		fail_msg("%s: %s", what, problem->text);
}

/* A value that @key may have, other than its default, in TOML; and as on the command line. */
static void good_value(const struct conf_key *key, char *toml, char *line)
{
	char text[UNITS_TEXT_MAX];
	uint64_t number = key->min ? key->min : 7;

	switch (key->type) {
	case CONF_BOOL:
		strcpy(line, strcmp(key->standard, "true") == 0 ? "false" : "true");
		strcpy(toml, line);
		break;
	case CONF_INTEGER:
		sprintf(line, "%llu", (unsigned long long)number);
		strcpy(toml, line);
		break;
	case CONF_SIZE:
		strcpy(line, units_format_size(MAX(number, 4096ull), text));
		sprintf(toml, "\"%s\"", line);
		break;
	case CONF_DURATION:
		strcpy(line, units_format_duration(MAX(number, 1500000ull), text));
		sprintf(toml, "\"%s\"", line);
		break;
	case CONF_SIZES:
		strcpy(line, "64KiB,8KiB");
		strcpy(toml, "[\"8KiB\", \"64KiB\"]");
		break;
	case CONF_MODE:
		strcpy(line, "0700");
		strcpy(toml, "\"0700\"");
		break;
	case CONF_CHOICE:
		strcpy(line, key->words[0]);
		sprintf(toml, "\"%s\"", line);
		break;
	case CONF_FLAGS:
		sprintf(line, "%s,%s", key->words[1], key->words[0]);
		sprintf(toml, "[\"%s\", \"%s\"]", key->words[0], key->words[1]);
		break;
	case CONF_STRING:
	case CONF_PATH:
	case CONF_PATHS:
		memset(line, 'x', MAX(key->min, 1ull));
		line[MAX(key->min, 1ull)] = '\0';
		sprintf(toml, "\"%s\"", line);
		break;
	}
}

/* A value whose type no key has. */
static const char *wrong_type(const struct conf_key *key)
{
	return key->type == CONF_BOOL ? "\"true\"" : "1.5";
}

/* A value just out of range, or NULL. */
static const char *out_of_range(const struct conf_key *key, char *buf)
{
	switch (key->type) {
	case CONF_INTEGER:
	case CONF_SIZE:
		if (key->max >= INT64_MAX)
			return NULL;
		sprintf(buf, "%llu", (unsigned long long)key->max + 1);
		return buf;
	case CONF_DURATION:
		if (!key->max)
			return NULL;
		sprintf(buf, "\"%lluns\"", (unsigned long long)key->max + 1);
		return buf;
	case CONF_CHOICE:
		return "\"no such word\"";
	case CONF_FLAGS:
		return "[\"no such word\"]";
	case CONF_SIZES:
		return "[\"3KiB\"]";
	case CONF_MODE:
		return "\"99\"";
	case CONF_STRING:
	case CONF_PATH:
	case CONF_PATHS:
		return key->min > 0 ? "\"\"" : NULL;
	default:
		return NULL;
	}
}

/* Both are the field of @key in targets of its scope. */
static bool same(const struct conf_key *key, const void *a, const void *b)
{
	if (key->type == CONF_PATHS)
		return conf_value_list(key, a)->count == 1 && conf_value_list(key, b)->count == 1 &&
		       strcmp(conf_value_list(key, a)->item[0], conf_value_list(key, b)->item[0]) ==
			       0;
	if (conf_value_is_string(key))
		return strcmp(*conf_value_string(key, a), *conf_value_string(key, b)) == 0;
	return conf_value_integer(key, a) == conf_value_integer(key, b);
}

/* Each key that stands in a [table]; aliases and the like have tests of their own. */
static void for_each_key(void (*test)(const struct conf_table *table, const struct conf_key *key))
{
	unsigned count = 0;

	for (size_t t = 0; t < ovfs_table_count; t++) {
		const struct conf_table *table = &ovfs_tables[t];

		for (size_t k = 0; k < table->key_count; k++) {
			if (table->form != CONF_FORM_TABLE || (table->key[k].flags & CONF_COMMAND))
				continue;
			test(table, &table->key[k]);
			count++;
		}
	}
	assert_true(count > 100);
}

static void check_missing(const struct conf_table *table, const struct conf_key *key)
{
	struct world w, set;
	char name[KEY_NAME_MAX];

	snprintf(name, sizeof(name), "%s.%s", table->name, key->name);
	world_open(&w);
	world_open(&set);
	world_fill(&w, conf_load_top(w.load), key->scope);
	assert_false(conf_section_has(conf_load_top(w.load), name));
	if (key->standard) {
		conf_load_set(set.load, name, key->standard, "--x");
		world_fill(&set, conf_load_top(set.load), key->scope);
		assert_true(same(key, w.target[key->scope], set.target[key->scope]));
		assert_true(conf_section_has(conf_load_top(set.load), name));
	} else if (key->type == CONF_PATHS) {
		assert_int_equal(conf_value_list(key, w.target[key->scope])->count, 0);
	} else {
		assert_null(*conf_value_string(key, w.target[key->scope]));
	}
	expect_none(&w, name);
	expect_none(&set, name);
	world_close(&w);
	world_close(&set);
}

/* The file, the environment and the command line come to the same. */
static void check_good(const struct conf_table *table, const struct conf_key *key)
{
	char toml[512], line[512], text[1024], name[KEY_NAME_MAX];
	struct world file, option;

	good_value(key, toml, line);
	snprintf(name, sizeof(name), "%s.%s", table->name, key->name);
	world_open(&file);
	world_open(&option);
	snprintf(text, sizeof(text), "[%s]\n%s = %s\n", table->name, key->name, toml);
	world_text(&file, "f", text);
	conf_load_set(option.load, name, line, "--x");
	world_fill(&file, conf_load_top(file.load), key->scope);
	world_fill(&option, conf_load_top(option.load), key->scope);
	expect_none(&option, name);
	if (!key->reads) { /* else the file that it names is missed */
		expect_none(&file, name);
		assert_true(same(key, file.target[key->scope], option.target[key->scope]));
	}
	world_close(&file);
	world_close(&option);
}

static void expect_wrong(const struct conf_table *table, const struct conf_key *key,
			 const char *value)
{
	char text[512], expected[KEY_NAME_MAX + 64];
	struct world w;

	world_open(&w);
	snprintf(text, sizeof(text), "[%s]\n%s = %s\n", table->name, key->name, value);
	snprintf(expected, sizeof(expected), "f:2: %s.%s: %s", table->name, key->name,
		 key->flags & CONF_SECRET ? "expected " : "got ");
	world_text(&w, "f", text);
	world_fill(&w, conf_load_top(w.load), key->scope);
	expect_one(&w, expected);
	world_close(&w);
}

static void check_bad(const struct conf_table *table, const struct conf_key *key)
{
	char buf[64];
	const char *value = out_of_range(key, buf);

	expect_wrong(table, key, wrong_type(key));
	expect_wrong(table, key, "{ a = 1 }");
	if (value)
		expect_wrong(table, key, value);
}

static void check_unknown(const struct conf_table *table, const struct conf_key *key)
{
	char text[512], expected[KEY_NAME_MAX + 64];
	struct world w;

	world_open(&w);
	snprintf(text, sizeof(text), "[%s]\n%s__ = 1\n", table->name, key->name);
	snprintf(expected, sizeof(expected), "f:2: %s.%s__: unknown key", table->name, key->name);
	world_text(&w, "f", text);
	expect_one(&w, expected);
	world_close(&w);
}

static void check_twice(const struct conf_table *table, const struct conf_key *key)
{
	char toml[512], line[512], text[1024], expected[KEY_NAME_MAX + 64];
	struct world w;

	good_value(key, toml, line);
	world_open(&w);
	snprintf(text, sizeof(text), "[%s]\n%s = %s\n", table->name, key->name, toml);
	snprintf(expected, sizeof(expected), "g:2: %s.%s: given twice, also at f:2", table->name,
		 key->name);
	world_text(&w, "f", text);
	world_text(&w, "g", text);
	expect_one(&w, expected);
	world_close(&w);
}

/* In a mount and in a directory: it counts there, or is refused. */
static void check_sections(const struct conf_table *table, const struct conf_key *key)
{
	char toml[512], line[512], text[1024], expected[KEY_NAME_MAX + 64];
	struct conf_section *mount, *directory;
	struct world w;

	good_value(key, toml, line);
	snprintf(text, sizeof(text),
		 "[[mount]]\nname = \"m\"\n[mount.%s]\n%s = %s\n"
		 "[[mount.directory]]\npath = \"d\"\n",
		 table->name, key->name, toml);
	snprintf(expected, sizeof(expected), "f:4: %s.%s: this key is for", table->name, key->name);
	world_open(&w);
	world_text(&w, "f", text);
	mount = conf_section_first(conf_load_top(w.load));
	directory = conf_section_first(mount);
	if (key->scope == CONF_DAEMON) {
		expect_one(&w, expected);
	} else {
		expect_none(&w, text);
		snprintf(expected, sizeof(expected), "%s.%s", table->name, key->name);
		assert_false(conf_section_has(conf_load_top(w.load), expected));
		assert_true(conf_section_has(mount, expected));
		assert_true(conf_section_has(directory, expected));
	}
	world_close(&w);

	snprintf(text, sizeof(text),
		 "[[mount]]\nname = \"m\"\n[[mount.directory]]\npath = \"d\"\n"
		 "[mount.directory.%s]\n%s = %s\n",
		 table->name, key->name, toml);
	snprintf(expected, sizeof(expected), "f:6: %s.%s: this key is for", table->name, key->name);
	world_open(&w);
	world_text(&w, "f", text);
	if (key->scope == CONF_BACKEND)
		expect_none(&w, text);
	else
		expect_one(&w, expected);
	world_close(&w);
}

static void test_missing(void **state)
{
	(void)state;
	for_each_key(check_missing);
}

static void test_good(void **state)
{
	(void)state;
	for_each_key(check_good);
}

static void test_bad(void **state)
{
	(void)state;
	for_each_key(check_bad);
}

static void test_unknown(void **state)
{
	(void)state;
	for_each_key(check_unknown);
}

static void test_twice(void **state)
{
	(void)state;
	for_each_key(check_twice);
}

static void test_sections(void **state)
{
	(void)state;
	for_each_key(check_sections);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing), cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),	cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_twice),	cmocka_unit_test(test_sections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
