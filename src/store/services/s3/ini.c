/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "store/services/s3/ini.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_comment(char c)
{
	return c == '#' || c == ';';
}

static struct s3_ini_slice slice_trim(const char *at, size_t len)
{
	while (len > 0 && is_blank(*at)) {
		at++;
		len--;
	}
	while (len > 0 && is_blank(at[len - 1]))
		len--;
	return (struct s3_ini_slice){ at, len };
}

static bool slice_is(struct s3_ini_slice slice, const char *other)
{
	return slice.len == strlen(other) && !memcmp(slice.at, other, slice.len);
}

/* Without the comment behind it: one begins at the first # or ; after a blank. */
static struct s3_ini_slice value_trim(const char *at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (is_comment(at[i]) && (i == 0 || is_blank(at[i - 1]))) {
			len = i;
			break;
		}
	}
	return slice_trim(at, len);
}

/* "[name]", with nothing but a comment behind it. */
static bool parse_heading(struct s3_ini_slice line, struct s3_ini_slice *section)
{
	const char *end = memchr(line.at, ']', line.len);
	struct s3_ini_slice rest;

	if (!end)
		return false;
	*section = slice_trim(line.at + 1, (size_t)(end - line.at) - 1);
	rest = slice_trim(end + 1, line.len - (size_t)(end - line.at) - 1);
	return section->len > 0 && (rest.len == 0 || is_comment(*rest.at));
}

static bool parse_property(struct s3_ini_slice line, struct s3_ini_item *item)
{
	const char *equals = memchr(line.at, '=', line.len);
	size_t before;

	if (!equals)
		return false;
	before = (size_t)(equals - line.at);
	item->name = slice_trim(line.at, before);
	item->value = value_trim(equals + 1, line.len - before - 1);
	return item->name.len > 0;
}

/* One line; false when it is broken. @item keeps the section. */
static bool parse_line(struct s3_ini_slice line, struct s3_ini_item *item, bool *inside,
		       void (*deliver)(void *arg, const struct s3_ini_item *item), void *arg)
{
	if (*line.at == '[') {
		*item = (struct s3_ini_item){ 0 };
		*inside = parse_heading(line, &item->section);
		if (*inside)
			deliver(arg, item);
		return *inside;
	}
	if (!*inside || !parse_property(line, item))
		return false;
	deliver(arg, item);
	return true;
}

unsigned s3_ini_parse(const char *text, size_t len,
		      void (*deliver)(void *arg, const struct s3_ini_item *item), void *arg)
{
	static const char mark[] = "\xef\xbb\xbf";
	struct s3_ini_item item = { 0 };
	unsigned number = 0, broken = 0;
	const char *end = text + len;
	bool inside = false;

	if (len >= 3 && !memcmp(text, mark, 3))
		text += 3;
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline ? newline : end;
		struct s3_ini_slice line = slice_trim(text, (size_t)(stop - text));
		bool indented = line.at != text;

		number++;
		text = newline ? newline + 1 : end;
		if (line.len == 0 || indented || is_comment(*line.at))
			continue;
		if (!parse_line(line, &item, &inside, deliver, arg) && broken == 0)
			broken = number;
	}
	return broken;
}

bool s3_ini_is_profile(struct s3_ini_slice section, const char *profile, bool config)
{
	static const char word[] = "profile";
	struct s3_ini_slice name;

	if (!config || (!strcmp(profile, "default") && slice_is(section, profile)))
		return slice_is(section, profile);
	if (section.len <= sizeof(word) - 1 || memcmp(section.at, word, sizeof(word) - 1) != 0 ||
	    !is_blank(section.at[sizeof(word) - 1]))
		return false;
	name = slice_trim(section.at + sizeof(word), section.len - sizeof(word));
	if (name.len >= 2 && (*name.at == '"' || *name.at == '\'') &&
	    name.at[name.len - 1] == *name.at)
		name = slice_trim(name.at + 1, name.len - 2);
	return slice_is(name, profile);
}

bool s3_ini_name_is(struct s3_ini_slice name, const char *other)
{
	return name.len == strlen(other) && !strncasecmp(name.at, other, name.len);
}
