/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/value.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf/suggest.h"
#include "conf/units.h"

static const char *const toml_type_names[] = {
	[TOML_TABLE] = "a table",	[TOML_ARRAY] = "a list",      [TOML_STRING] = "a string",
	[TOML_INTEGER] = "an integer",	[TOML_BOOLEAN] = "a boolean", [TOML_FLOAT] = "a float",
	[TOML_TIME] = "a date or time",
};

char **conf_value_string(const struct conf_key *key, const void *target)
{
	return (char **)((char *)(uintptr_t)target + key->offset);
}

struct conf_list *conf_value_list(const struct conf_key *key, const void *target)
{
	return (struct conf_list *)((char *)(uintptr_t)target + key->offset);
}

void conf_list_clear(struct conf_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->item[i]);
	free(list->item);
	*list = (struct conf_list){ 0 };
}

uint64_t conf_value_integer(const struct conf_key *key, const void *target)
{
	const char *field = (const char *)target + key->offset;
	uint64_t wide;
	uint32_t half;
	bool boolean;

	if (key->type == CONF_BOOL) {
		memcpy(&boolean, field, sizeof(boolean));
		return boolean;
	}
	if (key->size == sizeof(half)) {
		memcpy(&half, field, sizeof(half));
		return half;
	}
	memcpy(&wide, field, sizeof(wide));
	return wide;
}

static void conf_value_put(const struct conf_key *key, uint64_t value, void *target)
{
	char *field = (char *)target + key->offset;
	uint32_t half = (uint32_t)value;
	bool boolean = value != 0;

	if (key->type == CONF_BOOL) {
		assert(key->size == sizeof(boolean));
		memcpy(field, &boolean, sizeof(boolean));
	} else if (key->size == sizeof(half)) {
		assert(value <= UINT32_MAX);
		memcpy(field, &half, sizeof(half));
	} else {
		assert(key->size == sizeof(value));
		memcpy(field, &value, sizeof(value));
	}
}

/* `"a", "b" or "c"` */
static void conf_expects_words(const struct conf_key *key, FILE *out)
{
	for (size_t i = 0; key->words[i]; i++) {
		if (i > 0)
			fputs(key->words[i + 1] ? ", " : " or ", out);
		fprintf(out, "\"%s\"", key->words[i]);
	}
}

static void conf_expects_range(const struct conf_key *key, FILE *out)
{
	char min[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];

	switch (key->type) {
	case CONF_INTEGER:
		fprintf(out, "an integer from %llu to %llu", (unsigned long long)key->min,
			(unsigned long long)key->max);
		break;
	case CONF_SIZES:
		fprintf(out, "a list of powers of two from %s to %s",
			units_format_size(key->min, min), units_format_size(key->max, max));
		break;
	case CONF_SIZE:
		fprintf(out, "a size from %s to %s, such as \"%s\"",
			units_format_size(key->min, min), units_format_size(key->max, max),
			strcmp(key->standard, "0") == 0 ? "64MiB" : key->standard);
		break;
	default:
		fprintf(out, "a duration such as \"1m30s\", \"5s\" or \"100ms\"");
		if (key->max)
			fprintf(out, ", at most %s", units_format_duration(key->max, max));
		break;
	}
}

const char *conf_key_expects(const struct conf_key *key, char *buf, size_t size)
{
	FILE *out = fmemopen(buf, size, "w");

	buf[0] = '\0';
	if (!out)
		return buf;
	switch (key->type) {
	case CONF_BOOL:
		fputs("true or false", out);
		break;
	case CONF_INTEGER:
	case CONF_SIZE:
	case CONF_SIZES:
	case CONF_DURATION:
		conf_expects_range(key, out);
		break;
	case CONF_MODE:
		fputs("an octal mode in quotes, such as \"0644\"", out);
		break;
	case CONF_STRING:
	case CONF_PATH:
	case CONF_PATHS:
		fputs(key->type == CONF_STRING ? "a string" : "a path", out);
		if (key->max)
			fprintf(out, " of %llu to %llu bytes", (unsigned long long)key->min,
				(unsigned long long)key->max);
		if (key->type == CONF_PATHS)
			fputs(", or a list of such", out);
		break;
	case CONF_CHOICE:
		conf_expects_words(key, out);
		break;
	case CONF_FLAGS:
		fputs("a list of any of ", out);
		conf_expects_words(key, out);
		break;
	}
	fclose(out);
	buf[size - 1] = '\0';
	return buf;
}

/* "got GOT, expected WHAT"; @got is left out when the key is secret. */
static struct err *conf_value_wrong(const struct conf_key *key, const char *fmt, ...)
{
	char expects[CONF_EXPECTS_MAX], got[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(got, sizeof(got), fmt, ap);
	va_end(ap);
	conf_key_expects(key, expects, sizeof(expects));
	if (key->flags & CONF_SECRET)
		return err_new("expected %s", expects);
	return err_new("got %s, expected %s", got, expects);
}

static struct err *conf_value_from_integer(const struct conf_key *key, uint64_t value,
					   const char *text, void *target)
{
	if (value < key->min || (key->max && value > key->max))
		return conf_value_wrong(key, "%.64s, which is out of range", text);
	conf_value_put(key, value, target);
	return NULL;
}

static struct err *conf_value_from_string(const struct conf_key *key, const char *text,
					  void *target)
{
	char **field = conf_value_string(key, target);
	size_t len = strlen(text);
	char *copy;

	if (len < key->min || (key->max && len > key->max))
		return conf_value_wrong(key, "%zu bytes", len);
	copy = strdup(text);
	if (!copy)
		return err_new("out of memory");
	free(*field);
	*field = copy;
	return NULL;
}

/* Adds @text to the list. */
static struct err *conf_value_add_path(const struct conf_key *key, const char *text,
				       struct conf_list *list)
{
	size_t len = strlen(text);
	char **grown, *copy;

	if (len < key->min || (key->max && len > key->max))
		return conf_value_wrong(key, "%zu bytes", len);
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->item[i], text) == 0)
			return conf_value_wrong(key, "\"%.64s\" twice", text);
	}
	if (list->count == CONF_LIST_MAX)
		return conf_value_wrong(key, "more than %d of them", CONF_LIST_MAX);
	grown = reallocarray(list->item, list->count + 1, sizeof(*grown));
	if (grown)
		list->item = grown;
	copy = grown ? strdup(text) : NULL;
	if (!copy)
		return err_new("out of memory");
	list->item[list->count++] = copy;
	return NULL;
}

/* @list, complete, becomes the value; or is freed, after an error. */
static struct err *conf_value_take_list(const struct conf_key *key, struct conf_list *list,
					struct err *e, void *target)
{
	if (!e && list->count == 0)
		e = conf_value_wrong(key, "an empty list");
	if (e) {
		conf_list_clear(list);
		return e;
	}
	conf_list_clear(conf_value_list(key, target));
	*conf_value_list(key, target) = *list;
	return NULL;
}

/* The index of @word among the key's, in *@index. */
static struct err *conf_value_word(const struct conf_key *key, const char *word, unsigned *index)
{
	struct suggest nearest = { .word = word };
	struct err *e;

	for (unsigned i = 0; key->words[i]; i++) {
		if (strcmp(word, key->words[i]) == 0) {
			*index = i;
			return NULL;
		}
		suggest_offer(&nearest, key->words[i]);
	}
	e = conf_value_wrong(key, "\"%.64s\"", word);
	if (nearest.best) {
		struct err *hint = err_new("%s; did you mean \"%s\"?", err_msg(e), nearest.best);

		err_free(e);
		return hint;
	}
	return e;
}

/* One of a list of sizes, or-ed into *@value. */
static struct err *conf_value_size(const struct conf_key *key, const char *text, uint64_t *value)
{
	uint64_t size;

	if (!units_parse_size(text, &size) || size < key->min || size > key->max ||
	    (size & (size - 1)))
		return conf_value_wrong(key, "\"%.64s\"", text);
	*value |= size;
	return NULL;
}

/* Of a comma-separated list of words or sizes. */
static struct err *conf_value_from_list(const struct conf_key *key, const char *text, void *target)
{
	char *copy = strdup(text), *rest = copy, *word;
	struct err *e = copy ? NULL : err_new("out of memory");
	uint64_t value = 0;
	unsigned index;

	while (!e && (word = strsep(&rest, ","))) {
		if (!*word)
			continue;
		if (key->type == CONF_SIZES) {
			e = conf_value_size(key, word, &value);
			continue;
		}
		e = conf_value_word(key, word, &index);
		if (!e)
			value |= 1ull << index;
	}
	free(copy);
	if (!e && key->type == CONF_SIZES && !value)
		return conf_value_wrong(key, "an empty list");
	if (!e)
		conf_value_put(key, value, target);
	return e;
}

static bool parse_mode(const char *text, uint64_t *value)
{
	size_t digits = strspn(text, "01234567");

	if (digits < 3 || digits > 5 || text[digits])
		return false;
	*value = strtoul(text, NULL, 8);
	return *value <= 07777;
}

static bool parse_integer(const char *text, uint64_t *value)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t n = 0;

	if (digits == 0 || text[digits])
		return false;
	for (; *text; text++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	}
	*value = n;
	return true;
}

struct err *conf_value_from_text(const struct conf_key *key, const char *text, void *target)
{
	struct conf_list list = { 0 };
	struct err *e;
	uint64_t value;
	unsigned index;
	bool known;

	switch (key->type) {
	case CONF_PATHS:
		e = conf_value_add_path(key, text, &list);
		return conf_value_take_list(key, &list, e, target);
	case CONF_STRING:
	case CONF_PATH:
		return conf_value_from_string(key, text, target);
	case CONF_FLAGS:
	case CONF_SIZES:
		return conf_value_from_list(key, text, target);
	case CONF_CHOICE:
		e = conf_value_word(key, text, &index);
		if (!e)
			conf_value_put(key, index, target);
		return e;
	case CONF_BOOL:
		value = strcmp(text, "true") == 0;
		known = value || strcmp(text, "false") == 0;
		if (known)
			conf_value_put(key, value, target);
		return known ? NULL : conf_value_wrong(key, "\"%.64s\"", text);
	case CONF_INTEGER:
		known = parse_integer(text, &value);
		break;
	case CONF_SIZE:
		known = units_parse_size(text, &value);
		break;
	case CONF_MODE:
		known = parse_mode(text, &value);
		break;
	default:
		known = units_parse_duration(text, &value);
		break;
	}
	if (!known)
		return conf_value_wrong(key, "\"%.64s\"", text);
	return conf_value_from_integer(key, value, text, target);
}

static struct err *conf_value_from_array(const struct conf_key *key, const struct toml_node *node,
					 void *target)
{
	struct conf_list list = { 0 };
	uint64_t value = 0;
	struct err *e = NULL;
	unsigned index;

	if (key->type == CONF_PATHS) {
		for (const struct toml_node *item = node->child; item && !e; item = item->next)
			e = item->type == TOML_STRING
				    ? conf_value_add_path(key, item->text, &list)
				    : conf_value_wrong(key, "%s in the list",
						       toml_type_names[item->type]);
		return conf_value_take_list(key, &list, e, target);
	}
	for (const struct toml_node *item = node->child; item; item = item->next) {
		if (item->type != TOML_STRING)
			return conf_value_wrong(key, "%s in the list", toml_type_names[item->type]);
		if (key->type == CONF_SIZES) {
			e = conf_value_size(key, item->text, &value);
			if (e)
				return e;
			continue;
		}
		e = conf_value_word(key, item->text, &index);
		if (e)
			return e;
		value |= 1ull << index;
	}
	if (key->type == CONF_SIZES && !value)
		return conf_value_wrong(key, "an empty list");
	conf_value_put(key, value, target);
	return NULL;
}

struct err *conf_value_from_toml(const struct conf_key *key, const struct toml_node *node,
				 void *target)
{
	char text[32];

	bool list = key->type == CONF_FLAGS || key->type == CONF_SIZES;

	if (node->type == TOML_ARRAY && (list || key->type == CONF_PATHS))
		return conf_value_from_array(key, node, target);
	if (node->type == TOML_BOOLEAN && key->type == CONF_BOOL) {
		conf_value_put(key, node->integer != 0, target);
		return NULL;
	}
	if (node->type == TOML_INTEGER && (key->type == CONF_INTEGER || key->type == CONF_SIZE)) {
		snprintf(text, sizeof(text), "%lld", (long long)node->integer);
		if (node->integer < 0)
			return conf_value_wrong(key, "%s", text);
		return conf_value_from_integer(key, (uint64_t)node->integer, text, target);
	}
	if (node->type == TOML_STRING && !list && key->type != CONF_BOOL &&
	    key->type != CONF_INTEGER)
		return conf_value_from_text(key, node->text, target);
	if (node->type == TOML_INTEGER && key->type == CONF_DURATION)
		return conf_value_wrong(key, "an integer without a unit");
	return conf_value_wrong(key, "%s", toml_type_names[node->type]);
}

struct err *conf_value_try(const struct conf_key *key, const struct toml_node *node,
			   const char *text)
{
	union {
		uint64_t integer;
		char *string;
		struct conf_list list;
	} value = { .list = { 0 } };
	struct conf_key alone = *key;
	struct err *e;

	alone.offset = 0;
	e = node ? conf_value_from_toml(&alone, node, &value)
		 : conf_value_from_text(&alone, text, &value);
	if (key->type == CONF_PATHS)
		conf_list_clear(&value.list);
	if (!conf_value_is_string(key))
		return e;
	if (value.string && (key->flags & CONF_SECRET))
		explicit_bzero(value.string, strlen(value.string));
	free(value.string);
	return e;
}
