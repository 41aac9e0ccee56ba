/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations, and the search for the nearest word. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "conf/suggest.h"
#include "conf/units.h"

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "4096B", 4096 },
		{ "512KiB", 512 << 10 },
		{ "1MiB", 1 << 20 },
		{ "4GiB", 4ull << 30 },
		{ "2TiB", 2ull << 40 },
		{ "3K", 3 << 10 },
		{ "3M", 3 << 20 },
		{ "1kB", 1000 },
		{ "1MB", 1000000 },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const bad[] = {
		"",
		"KiB",
		"-1",
		"+1",
		"1.5MiB",
		"1 MiB",
		"1mib",
		"1MiBx",
		"0x10",
		"18446744073709551616",
		"16777216TiB",
		"99999999999999999999999",
	};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(units_parse_size(good[i].text, &bytes));
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (units_parse_size(bad[i], &bytes))
			fail_msg("accepted: %s", bad[i]);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
		{ "0", 0 },
		{ "0s", 0 },
		{ "1ns", 1 },
		{ "5us", 5000 },
		{ "100ms", 100000000 },
		{ "60s", 60000000000 },
		{ "1m30s", 90000000000 },
		{ "1h", 3600000000000 },
		{ "1d", 86400000000000 },
		{ "1.5s", 1500000000 },
		{ "0.25m", 15000000000 },
		{ "0.000000001s", 1 },
		{ "1.50s", 1500000000 },
	};
	static const char *const bad[] = {
		"",	 "s",	    "5",
		"1 s",	 "-1s",	    "1.s",
		".5s",	 "1m30",    "1s0",
		"1S",	 "1sec",    "0.0000000001s",
		"0.5ns", "213504d", "18446744073709551616ns",
	};
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(units_parse_duration(good[i].text, &ns));
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (units_parse_duration(bad[i], &ns))
			fail_msg("accepted: %s", bad[i]);
	}
}

/* What is printed is read back to the same value. */
static void test_formats_round_trip(void **state)
{
	char buf[UNITS_TEXT_MAX];
	uint64_t value, back;

	(void)state;
	assert_string_equal(units_format_size(1 << 20, buf), "1MiB");
	assert_string_equal(units_format_size(4097, buf), "4097B");
	assert_string_equal(units_format_size(0, buf), "0B");
	assert_string_equal(units_format_duration(90000000000, buf), "1m30s");
	assert_string_equal(units_format_duration(0, buf), "0s");
	for (value = 1; value < UINT64_MAX / 7; value = value * 7 + 3) {
		assert_true(units_parse_size(units_format_size(value, buf), &back));
		assert_int_equal(back, value);
		assert_true(units_parse_duration(units_format_duration(value, buf), &back));
		assert_int_equal(back, value);
	}
	assert_true(units_parse_duration(units_format_duration(UINT64_MAX, buf), &back));
	assert_int_equal(back, UINT64_MAX);
}

static void test_distance(void **state)
{
	char longest[200];

	(void)state;
	assert_int_equal(suggest_distance("", ""), 0);
	assert_int_equal(suggest_distance("", "abc"), 3);
	assert_int_equal(suggest_distance("abc", ""), 3);
	assert_int_equal(suggest_distance("kitten", "sitting"), 3);
	assert_int_equal(suggest_distance("cahce", "cache"), 1);
	assert_int_equal(suggest_distance("socket-path", "socket_path"), 0);
	assert_int_equal(suggest_distance("Cache", "cache"), 0);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(suggest_distance(longest, "a"), UINT_MAX);
	assert_int_equal(suggest_distance("a", longest), UINT_MAX);
}

static const char *nearest(const char *word)
{
	struct suggest s = { .word = word };

	suggest_offer(&s, "socket_path");
	suggest_offer(&s, "tag");
	suggest_offer(&s, "socket_group");
	return s.best;
}

static void test_nearest_word(void **state)
{
	(void)state;
	assert_string_equal(nearest("socket_pth"), "socket_path");
	assert_string_equal(nearest("socketgroup"), "socket_group");
	assert_string_equal(nearest("tga"), "tag");
	assert_null(nearest("readonly"));
	assert_null(nearest(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_formats_round_trip),
		cmocka_unit_test(test_distance),
		cmocka_unit_test(test_nearest_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
