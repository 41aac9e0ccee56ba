/* SPDX-License-Identifier: Apache-2.0 */
#include "store/services/s3/date.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NSEC_PER_SEC 1000000000ll
#define YEAR_MAX 2261 /* nanoseconds since the epoch end in 2262 */

static bool time_from_parts(struct tm *tm, int64_t *ns)
{
	if (tm->tm_year < 1970 || tm->tm_year > YEAR_MAX || tm->tm_mon < 0 || tm->tm_mon > 11 ||
	    tm->tm_mday < 1 || tm->tm_mday > 31 || tm->tm_hour < 0 || tm->tm_hour > 23 ||
	    tm->tm_min < 0 || tm->tm_min > 59 || tm->tm_sec < 0 || tm->tm_sec > 60)
		return false;
	tm->tm_year -= 1900;
	*ns = (int64_t)timegm(tm) * NSEC_PER_SEC;
	return true;
}

bool s3_time_parse_http(const char *text, int64_t *ns)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct tm tm = { 0 };
	const char *found;
	char month[4];
	int end = 0;

	if (sscanf(text, "%*3s, %2d %3s %4d %2d:%2d:%2d GMT%n", &tm.tm_mday, month, &tm.tm_year,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end) != 6 ||
	    end == 0)
		return false;
	found = strlen(month) == 3 ? strstr(months, month) : NULL;
	if (!found || (found - months) % 3)
		return false;
	tm.tm_mon = (int)(found - months) / 3;
	return time_from_parts(&tm, ns);
}

/* ".25" and what follows: nanoseconds; *@end is behind the digits. */
static int64_t parse_fraction(const char *text, const char **end)
{
	int64_t ns = 0, unit = NSEC_PER_SEC / 10;

	if (*text == '.')
		text++;
	for (; isdigit((unsigned char)*text); text++) {
		ns += (*text - '0') * unit;
		unit /= 10;
	}
	*end = text;
	return ns;
}

bool s3_time_parse_iso(const char *text, int64_t *ns)
{
	struct tm tm = { 0 };
	const char *rest;
	int64_t fraction;
	int end = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end) != 6)
		return false;
	tm.tm_mon--;
	fraction = parse_fraction(text + end, &rest);
	if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0)
		return false;
	if (!time_from_parts(&tm, ns))
		return false;
	*ns += fraction;
	return true;
}

bool s3_mtime_parse(const char *text, int64_t *ns)
{
	bool negative = *text == '-';
	const char *digits = text + negative, *rest = digits;
	int64_t seconds = 0, fraction;

	for (; isdigit((unsigned char)*rest); rest++) {
		if (seconds > INT64_MAX / NSEC_PER_SEC / 10)
			return false;
		seconds = seconds * 10 + (*rest - '0');
	}
	if (rest == digits || seconds > INT64_MAX / NSEC_PER_SEC - 1)
		return false;
	fraction = parse_fraction(rest, &rest);
	if (*rest)
		return false;
	*ns = seconds * NSEC_PER_SEC + fraction;
	if (negative)
		*ns = -*ns;
	return true;
}

void s3_mtime_format(char text[static S3_MTIME_SIZE], int64_t ns)
{
	uint64_t value = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
	uint64_t seconds = value / (uint64_t)NSEC_PER_SEC,
		 fraction = value % (uint64_t)NSEC_PER_SEC;

	const char *sign = ns < 0 ? "-" : "";

	if (fraction)
		snprintf(text, S3_MTIME_SIZE, "%s%llu.%09llu", sign, (unsigned long long)seconds,
			 (unsigned long long)fraction);
	else
		snprintf(text, S3_MTIME_SIZE, "%s%llu", sign, (unsigned long long)seconds);
}
