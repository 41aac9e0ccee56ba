/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

struct unit {
	const char *name;
	uint64_t value;
};

/* Exact spellings first: formatting takes the first that divides the value. */
static const struct unit size_units[] = {
	{ "TiB", 1ull << 40 },
	{ "GiB", 1ull << 30 },
	{ "MiB", 1ull << 20 },
	{ "KiB", 1ull << 10 },
	{ "B", 1 },
	{ "", 1 },
	{ "T", 1ull << 40 },
	{ "G", 1ull << 30 },
	{ "M", 1ull << 20 },
	{ "K", 1ull << 10 },
	{ "TB", 1000000000000 },
	{ "GB", 1000000000 },
	{ "MB", 1000000 },
	{ "kB", 1000 },
	{ "KB", 1000 },
};

static const struct unit duration_units[] = {
	{ "d", 86400000000000 }, { "h", 3600000000000 }, { "m", 60000000000 }, { "s", 1000000000 },
	{ "ms", 1000000 },	 { "us", 1000 },	 { "ns", 1 },
};

static const struct unit *unit_find(const struct unit *units, size_t count, const char *name,
				    size_t len)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(units[i].name) == len && memcmp(units[i].name, name, len) == 0)
			return &units[i];
	}
	return NULL;
}

static bool parse_digits(const char **text, uint64_t *value)
{
	const char *p = *text;

	*value = 0;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(*p - '0'), value))
			return false;
	}
	if (p == *text)
		return false;
	*text = p;
	return true;
}

/* The part after the point, as a fraction of @unit; what is less than one is
 * not representable and refused. */
static bool parse_fraction(const char **text, uint64_t unit, uint64_t *value)
{
	const char *p = *text;

	*value = 0;
	for (; isdigit((unsigned char)*p); p++) {
		if (unit % 10 != 0 && *p != '0')
			return false;
		unit /= 10;
		*value += (uint64_t)(*p - '0') * unit;
	}
	if (p == *text)
		return false;
	*text = p;
	return true;
}

bool units_parse_size(const char *text, uint64_t *bytes)
{
	const struct unit *unit;
	uint64_t number;

	if (!parse_digits(&text, &number))
		return false;
	unit = unit_find(size_units, ARRAY_SIZE(size_units), text, strlen(text));
	return unit && !__builtin_mul_overflow(number, unit->value, bytes);
}

static bool parse_duration_part(const char **text, uint64_t *ns)
{
	const char *point = NULL;
	const struct unit *unit;
	uint64_t number, fraction;
	size_t len = 0;

	if (!parse_digits(text, &number))
		return false;
	if (**text == '.') {
		point = *text + 1;
		*text = point + strspn(point, "0123456789");
	}
	while (isalpha((unsigned char)(*text)[len]))
		len++;
	unit = unit_find(duration_units, ARRAY_SIZE(duration_units), *text, len);
	if (!unit || __builtin_mul_overflow(number, unit->value, ns))
		return false;
	*text += len;
	if (!point)
		return true;
	return parse_fraction(&point, unit->value, &fraction) &&
	       !__builtin_add_overflow(*ns, fraction, ns);
}

bool units_parse_duration(const char *text, uint64_t *ns)
{
	uint64_t part;

	*ns = 0;
	if (strcmp(text, "0") == 0)
		return true;
	do {
		if (!parse_duration_part(&text, &part) || __builtin_add_overflow(*ns, part, ns))
			return false;
	} while (*text);
	return true;
}

char *units_format_size(uint64_t bytes, char *buf)
{
	for (size_t i = 0; i < ARRAY_SIZE(size_units); i++) {
		if (bytes && bytes % size_units[i].value == 0) {
			snprintf(buf, UNITS_TEXT_MAX, "%llu%s",
				 (unsigned long long)(bytes / size_units[i].value),
				 size_units[i].name);
			return buf;
		}
	}
	strcpy(buf, "0B");
	return buf;
}

char *units_format_duration(uint64_t ns, char *buf)
{
	int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(duration_units) && ns; i++) {
		const struct unit *unit = &duration_units[i];

		if (ns < unit->value)
			continue;
		n += snprintf(buf + n, UNITS_TEXT_MAX - (size_t)n, "%llu%s",
			      (unsigned long long)(ns / unit->value), unit->name);
		ns %= unit->value;
	}
	if (n == 0)
		strcpy(buf, "0s");
	return buf;
}
