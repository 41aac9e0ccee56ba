/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface to toml++: the tree, the errors, the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/toml.h"

static const struct toml_node *child(const struct toml_node *parent, const char *key)
{
	for (const struct toml_node *n = parent->child; n; n = n->next) {
		if (strcmp(n->key, key) == 0)
			return n;
	}
	fail_msg("no %s", key);
	return NULL;
}

static void test_tree(void **state)
{
	static const char text[] = "top = 1\n"
				   "[a]\n"
				   "s = \"x\\ty\"\n"
				   "  b = true\n"
				   "f = 1.5\n"
				   "d = 2026-01-02\n"
				   "list = [\"p\",\n"
				   "  -7]\n"
				   "[a.deep]\n"
				   "[[many]]\n"
				   "k = 'v'\n";
	struct toml_node *root;
	const struct toml_node *a, *n;
	int line;

	(void)state;
	assert_null(toml_parse(text, sizeof(text) - 1, &root, &line));
	assert_int_equal(root->type, TOML_TABLE);
	assert_null(root->key);
	n = child(root, "top");
	assert_int_equal(n->type, TOML_INTEGER);
	assert_int_equal(n->integer, 1);
	assert_int_equal(n->line, 1);
	a = child(root, "a");
	assert_int_equal(a->type, TOML_TABLE);
	n = child(a, "s");
	assert_int_equal(n->type, TOML_STRING);
	assert_string_equal(n->text, "x\ty");
	assert_int_equal(n->line, 3);
	assert_int_equal(n->column, 1);
	n = child(a, "b");
	assert_int_equal(n->type, TOML_BOOLEAN);
	assert_int_equal(n->integer, 1);
	assert_int_equal(n->column, 3);
	assert_int_equal(child(a, "f")->type, TOML_FLOAT);
	assert_int_equal(child(a, "d")->type, TOML_TIME);
	assert_int_equal(child(a, "deep")->type, TOML_TABLE);
	n = child(a, "list");
	assert_int_equal(n->type, TOML_ARRAY);
	assert_string_equal(n->child->text, "p");
	assert_null(n->child->key);
	assert_int_equal(n->child->next->integer, -7);
	assert_int_equal(n->child->next->line, 8);
	assert_null(n->child->next->next);
	n = child(root, "many");
	assert_int_equal(n->type, TOML_ARRAY);
	assert_string_equal(child(n->child, "k")->text, "v");
	toml_free(root);
	toml_free(NULL);
}

static void expect_error(const char *text, size_t len, int line, const char *part)
{
	struct toml_node *root;
	struct err *e;
	int found;

	e = toml_parse(text, len, &root, &found);
	if (!e)
		fail_msg("no error: %s", part);
	assert_null(root);
	assert_int_equal(found, line);
	if (!strstr(err_msg(e), part))
		fail_msg("\"%s\" does not say \"%s\"", err_msg(e), part);
	err_free(e);
}

static void test_errors_name_the_line(void **state)
{
	static const struct {
		const char *text;
		int line;
		const char *part;
	} bad[] = {
		{ "a = 1\nb = = 2\n", 2, "" },
		{ "a = 1\n\na = 2\n", 3, "redefine" },
		{ "[t]\n[t]\n", 2, "redefine" },
		{ "a = \"\xff\"\n", 1, "" },
		{ "a = \"unfinished\n", 1, "" },
		/* An assertion of toml++ 3.3. */
		{ "a = 1\n[t]\n[(x]\nb = 2\n", 3, "" },
		{ "a = 99999999999999999999\n", 1, "" },
		/* Letters where toml++ 3.3 looks for blanks and finds undefined behaviour. */
		{ "\n\xc3\xa9 = 1\n", 2, "" },
		{ "\n\xe3\x80\x81 = 1\n", 2, "" },
		{ "\n\xef\xbb\xbe = 1\n", 2, "" },
		{ "\na = \"x\\u0000y\"\n", 2, "NUL" },
		{ "\"k\\u0000\" = 1\n", 1, "NUL" },
		{ "a.b.c.d.e.f.g.h.i.j = 1\n", 1, "inside one another" },
		{ "a = [[[[[[[[[1]]]]]]]]]\n", 1, "inside one another" },
		{ "a = [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", 1, "nest" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_error(bad[i].text, strlen(bad[i].text), bad[i].line, bad[i].part);
}

static char *repeat(const char *head, const char *part, size_t times, const char *tail)
{
	size_t part_len = strlen(part), len = strlen(head);
	char *text = malloc(len + part_len * times + strlen(tail) + 1);

	assert_non_null(text);
	strcpy(text, head);
	for (size_t i = 0; i < times; i++, len += part_len)
		memcpy(text + len, part, part_len);
	strcpy(text + len, tail);
	return text;
}

/* Tables nested a hundred thousand deep would overflow toml++'s stack. */
static void test_depth_is_bounded(void **state)
{
	char *text = repeat("\n[a", ".a", 300000, "]\n");
	struct toml_node *root;
	char *key, *opened;
	struct err *e;
	int line;

	(void)state;
	expect_error(text, strlen(text), 2, "dots");
	free(text);

	/* As deep as the limits on dots and on nested values let through together:
	 * refused by us, after toml++ has built and freed it all. */
	key = repeat("[\n{ x", ".x", 250, " = ");
	opened = repeat("a = ", key, 7, "1");
	text = repeat(opened, " }\n]", 7, "\n");
	expect_error(text, strlen(text), 2, "inside one another");
	free(key);
	free(opened);
	free(text);

	/* Nested values by the hundred thousand. */
	text = repeat("a = ", "[\n", 100000, "");
	e = toml_parse(text, strlen(text), &root, &line);
	assert_non_null(e);
	err_free(e);
	free(text);
}

static void test_size_is_bounded(void **state)
{
	char *text = repeat("", "#23456789abcdef\n", TOML_TEXT_MAX / 16, "");
	struct toml_node *root;
	int line;

	(void)state;
	assert_null(toml_parse(text, TOML_TEXT_MAX, &root, &line));
	toml_free(root);
	free(text);
	text = repeat("", "#23456789abcdef\n", TOML_TEXT_MAX / 16, "#");
	expect_error(text, TOML_TEXT_MAX + 1, 0, "1048576");
	free(text);
}

static void test_not_ascii(void **state)
{
	/* A byte order mark, a comment, a string. */
	static const char text[] = "\xef\xbb\xbf# \xc3\xa9\n"
				   "a = \"\xc3\xa9\xe3\x80\x81\\ufea6\"\n";
	struct toml_node *root;
	int line;

	(void)state;
	assert_null(toml_parse(text, sizeof(text) - 1, &root, &line));
	assert_string_equal(child(root, "a")->text, "\xc3\xa9\xe3\x80\x81\xef\xba\xa6");
	toml_free(root);
}

static void test_empty(void **state)
{
	struct toml_node *root;
	int line;

	(void)state;
	assert_null(toml_parse("", 0, &root, &line));
	assert_int_equal(root->type, TOML_TABLE);
	assert_null(root->child);
	toml_free(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_errors_name_the_line),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_size_is_bounded),
		cmocka_unit_test(test_not_ascii),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
