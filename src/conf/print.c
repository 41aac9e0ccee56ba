/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/schema.h"

#include <stdlib.h>
#include <string.h>

#include "conf/load_priv.h"
#include "conf/units.h"
#include "conf/value.h"

/* As a TOML basic string. */
static void print_quoted(const char *text, FILE *out)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void print_words(const struct conf_key *key, uint64_t value, FILE *out)
{
	const char *comma = "";

	putc('[', out);
	for (size_t i = 0; key->words[i]; i++) {
		if (!(value & 1ull << i))
			continue;
		fprintf(out, "%s\"%s\"", comma, key->words[i]);
		comma = ", ";
	}
	putc(']', out);
}

static void print_sizes(uint64_t sizes, FILE *out)
{
	char buf[UNITS_TEXT_MAX];
	const char *comma = "";

	putc('[', out);
	for (uint64_t bit = 1; bit; bit <<= 1) {
		if (!(sizes & bit))
			continue;
		fprintf(out, "%s\"%s\"", comma, units_format_size(bit, buf));
		comma = ", ";
	}
	putc(']', out);
}

static void print_value(const struct conf_key *key, uint64_t value, FILE *out)
{
	char buf[UNITS_TEXT_MAX];

	switch (key->type) {
	case CONF_BOOL:
		fputs(value ? "true" : "false", out);
		break;
	case CONF_SIZE:
		fprintf(out, "\"%s\"", units_format_size(value, buf));
		break;
	case CONF_SIZES:
		print_sizes(value, out);
		break;
	case CONF_MODE:
		fprintf(out, "\"%04llo\"", (unsigned long long)value);
		break;
	case CONF_DURATION:
		fprintf(out, "\"%s\"", units_format_duration(value, buf));
		break;
	case CONF_CHOICE:
		fprintf(out, "\"%s\"", key->words[value]);
		break;
	case CONF_FLAGS:
		print_words(key, value, out);
		break;
	default:
		fprintf(out, "%llu", (unsigned long long)value);
		break;
	}
}

/* A URL may hold a password: "http://user:password@host". */
static void print_string(const char *text, FILE *out)
{
	const char *scheme = strstr(text, "://");
	const char *host = scheme ? scheme + 3 : text;
	size_t authority = strcspn(host, "/?#");
	const char *at = scheme ? memrchr(host, '@', authority) : NULL;
	char *masked;

	if (!at || asprintf(&masked, "%.*s********%s", (int)(host - text), text, at) < 0) {
		print_quoted(text, out);
		return;
	}
	print_quoted(masked, out);
	free(masked);
}

static void print_list(const struct conf_list *list, FILE *out)
{
	if (list->count == 1) {
		print_quoted(list->item[0], out);
		return;
	}
	for (size_t i = 0; i < list->count; i++) {
		fputs(i > 0 ? ", " : "[", out);
		print_quoted(list->item[i], out);
	}
	putc(']', out);
}

static void print_key(const struct conf_key *key, const void *target, FILE *out)
{
	const struct conf_list *list =
		key->type == CONF_PATHS ? conf_value_list(key, target) : NULL;
	const char *text = NULL;

	if (conf_value_is_string(key))
		text = *conf_value_string(key, target);
	if ((conf_value_is_string(key) && !text) || (list && list->count == 0)) {
		fprintf(out, "# %s is not set\n", key->name);
		return;
	}
	fprintf(out, "%s = ", key->name);
	if (key->flags & CONF_SECRET)
		fputs("\"********\"", out);
	else if (text)
		print_string(text, out);
	else if (list)
		print_list(list, out);
	else
		print_value(key, conf_value_integer(key, target), out);
	putc('\n', out);
}

/* Whether the value of @key came from a file that another key names. */
static bool print_was_read(const struct conf_table *table, const struct conf_key *key,
			   const void *target)
{
	for (size_t k = 0; k < table->key_count; k++) {
		const struct conf_key *other = &table->key[k];

		if (other->reads && strcmp(other->reads, key->name) == 0 &&
		    *conf_value_string(other, target))
			return true;
	}
	return false;
}

void conf_print(const struct conf_table *tables, size_t count,
		const void *const targets[CONF_SCOPES], FILE *out)
{
	const char *between = "";

	for (size_t t = 0; t < count; t++) {
		bool head = false;

		for (size_t k = 0; k < tables[t].key_count; k++) {
			const struct conf_key *key = &tables[t].key[k];

			if (!conf_key_applies(tables, count, &tables[t], key, targets))
				continue;
			if (!head)
				fprintf(out, "%s[%s]\n", between, tables[t].name);
			head = true;
			between = "\n";
			if (print_was_read(&tables[t], key, targets[key->scope]))
				fprintf(out, "# %s is read from a file\n", key->name);
			else
				print_key(key, targets[key->scope], out);
		}
	}
}

/* The default in TOML's notation: the text goes the way of a value and back. */
static void print_standard(const struct conf_key *key, FILE *out)
{
	struct conf_key alone = *key;
	uint64_t value = 0;
	struct err *e;

	if (conf_value_is_string(key)) {
		print_quoted(key->standard, out);
		return;
	}
	alone.offset = 0;
	e = conf_value_from_text(&alone, key->standard, &value);
	if (!e)
		print_value(key, conf_value_integer(&alone, &value), out);
	err_free(e);
}

/* "- Only for `type` "s3" or "memory"" */
static void print_reference_only(const struct conf_table *tables, size_t count,
				 const struct conf_table *table, const struct conf_key *key,
				 FILE *out)
{
	unsigned only = key->only ? key->only : table->only;
	const struct conf_key *selector;
	const char *between = "";
	size_t index;

	if (!only)
		return;
	selector = conf_key_find(tables, count, table->selector, &index);
	if (!selector)
		return;
	fprintf(out, "\n- Only for `%s` ", selector->name);
	for (size_t i = 0; selector->words[i]; i++) {
		if (!(only & CONF_ONLY(i)))
			continue;
		fprintf(out, "%s\"%s\"", between, selector->words[i]);
		between = " or ";
	}
}

static void print_reference_key(const struct conf_table *tables, size_t count,
				const struct conf_table *table, const struct conf_key *key,
				FILE *out)
{
	char expects[CONF_EXPECTS_MAX];

	fprintf(out, "### `%s`\n\n%s\n\n", key->name, key->doc);
	fprintf(out, "- Value: %s\n", conf_key_expects(key, expects, sizeof(expects)));
	fputs("- Default: ", out);
	if (key->flags & CONF_REQUIRED) {
		fputs("none, required", out);
	} else if (!key->standard) {
		fputs("not set", out);
	} else {
		putc('`', out);
		print_standard(key, out);
		putc('`', out);
	}
	if (key->flags & CONF_SECRET)
		fputs("\n- Secret: masked wherever the configuration is printed", out);
	if (key->reads)
		fprintf(out, "\n- A file that holds `%s`, in place of it", key->reads);
	print_reference_only(tables, count, table, key, out);
	fputs("\n\n", out);
}

void conf_print_reference(const struct conf_table *tables, size_t count, FILE *out)
{
	for (size_t t = 0; t < count; t++) {
		fprintf(out, "## [%s]\n\n%s\n\n", tables[t].name, tables[t].doc);
		for (size_t k = 0; k < tables[t].key_count; k++)
			print_reference_key(tables, count, &tables[t], &tables[t].key[k], out);
		if (tables[t].refused_count)
			fprintf(out, "### Not supported in [%s]\n\n", tables[t].name);
		for (size_t r = 0; r < tables[t].refused_count; r++)
			fprintf(out, "- `%s`: %s\n", tables[t].refused[r].name,
				tables[t].refused[r].why);
		if (tables[t].refused_count)
			putc('\n', out);
	}
}

void conf_target_free(const struct conf_table *tables, size_t count, enum conf_scope scope,
		      void *target)
{
	for (size_t t = 0; t < count; t++) {
		for (size_t k = 0; k < tables[t].key_count; k++) {
			const struct conf_key *key = &tables[t].key[k];
			char **field;

			if (key->scope == scope && key->type == CONF_PATHS)
				conf_list_clear(conf_value_list(key, target));
			if (key->scope != scope || !conf_value_is_string(key))
				continue;
			field = conf_value_string(key, target);
			if (*field && (key->flags & CONF_SECRET))
				explicit_bzero(*field, strlen(*field));
			free(*field);
			*field = NULL;
		}
	}
}
