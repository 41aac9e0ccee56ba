/* SPDX-License-Identifier: Apache-2.0 */
/* The files of the AWS tools, as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "store/services/s3/ini.h"

/* "[section]" and "name=value;" of all that was handed out. */
struct record {
	char text[1024];
	size_t len;
};

static void record_item(void *arg, const struct s3_ini_item *item)
{
	struct record *r = arg;
	size_t room = sizeof(r->text) - r->len;
	int n;

	if (!item->name.at)
		n = snprintf(r->text + r->len, room, "[%.*s]", (int)item->section.len,
			     item->section.at);
	else
		n = snprintf(r->text + r->len, room, "%.*s=%.*s;", (int)item->name.len,
			     item->name.at, (int)item->value.len, item->value.at);
	assert_true(n >= 0 && (size_t)n < room);
	r->len += (size_t)n;
}

static void assert_parsed(const char *text, const char *expected, unsigned broken)
{
	struct record r = { 0 };

	assert_int_equal(s3_ini_parse(text, strlen(text), record_item, &r), broken);
	assert_string_equal(r.text, expected);
}

static void test_plain(void **state)
{
	(void)state;
	assert_parsed("", "", 0);
	assert_parsed("\n\n", "", 0);
	assert_parsed("[default]\na=1\nb = 2\n", "[default]a=1;b=2;", 0);
	assert_parsed("[ a b ]\r\nk\t=\tv w \r\n", "[a b]k=v w;", 0);
	assert_parsed("[a]\nk=no newline", "[a]k=no newline;", 0);
	assert_parsed("\xef\xbb\xbf[a]\nk=v\n", "[a]k=v;", 0);
	assert_parsed("[a]\nk=\n", "[a]k=;", 0);
	assert_parsed("[a]\nk=x=y==\n", "[a]k=x=y==;", 0);
	assert_parsed("[a]\nk=1\n[b]\nk=2\n[a]\nk=3\n", "[a]k=1;[b]k=2;[a]k=3;", 0);
}

static void test_comments(void **state)
{
	(void)state;
	assert_parsed("# c\n; c\n[a] # c\nk=v # c\n", "[a]k=v;", 0);
	assert_parsed("[a]\nk=v ; c\nl=v;c#d\n", "[a]k=v;l=v;c#d;", 0);
	assert_parsed("[a]\nk= # nothing\nl=# nothing\n", "[a]k=;l=;", 0);
	assert_parsed("[a]\n# k=v\n", "[a]", 0);
}

/* Nested settings are indented. */
static void test_indented(void **state)
{
	(void)state;
	assert_parsed("[a]\ns3 =\n  max_queue = 3\n\taws_access_key_id = no\nk=v\n", "[a]s3=;k=v;",
		      0);
}

static void test_broken(void **state)
{
	(void)state;
	assert_parsed("k=v\n[a]\nk=v\n", "[a]k=v;", 1);
	assert_parsed("[a]\nk\nl=v\n", "[a]l=v;", 2);
	assert_parsed("[a]\n=v\nl=v\n", "[a]l=v;", 2);
	assert_parsed("[a]\nk=1\n[b\nk=2\n[c]\nk=3\n", "[a]k=1;[c]k=3;", 3);
	assert_parsed("[]\nk=1\n", "", 1);
	assert_parsed("[a] b\nk=1\n", "", 1);
}

static bool is_profile(const char *section, const char *profile, bool config)
{
	return s3_ini_is_profile((struct s3_ini_slice){ section, strlen(section) }, profile,
				 config);
}

static void test_profile_names(void **state)
{
	(void)state;
	assert_true(is_profile("dev", "dev", false));
	assert_false(is_profile("profile dev", "dev", false));
	assert_false(is_profile("dev2", "dev", false));
	assert_false(is_profile("de", "dev", false));

	assert_false(is_profile("dev", "dev", true));
	assert_true(is_profile("profile dev", "dev", true));
	assert_true(is_profile("profile \t dev", "dev", true));
	assert_true(is_profile("profile \"a b\"", "a b", true));
	assert_true(is_profile("profile 'a b'", "a b", true));
	assert_true(is_profile("profile a b", "a b", true));
	assert_false(is_profile("profiledev", "dev", true));
	assert_false(is_profile("profile", "", true));
	assert_false(is_profile("sso-session dev", "dev", true));
	assert_true(is_profile("default", "default", true));
	assert_true(is_profile("profile default", "default", true));
	assert_false(is_profile("profile \"", "a", true));
}

static void test_names(void **state)
{
	(void)state;
	assert_true(s3_ini_name_is((struct s3_ini_slice){ "Region", 6 }, "region"));
	assert_false(s3_ini_name_is((struct s3_ini_slice){ "Region", 5 }, "region"));
	assert_false(s3_ini_name_is((struct s3_ini_slice){ "regions", 7 }, "region"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	      cmocka_unit_test(test_comments),
		cmocka_unit_test(test_indented),      cmocka_unit_test(test_broken),
		cmocka_unit_test(test_profile_names), cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
