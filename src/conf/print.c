/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/schema.h"

#include <stdlib.h>
#include <string.h>

#include "conf/load_priv.h"
#include "conf/print.h"
#include "conf/units.h"
#include "conf/value.h"

/* As a TOML basic string. */
void conf_print_quoted(const char *text, FILE *out)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c == '$' && text[1] == '{')
			fputs("$$", out);
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

void conf_print_value(const struct conf_key *key, uint64_t value, FILE *out)
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
		conf_print_quoted(text, out);
		return;
	}
	conf_print_quoted(masked, out);
	free(masked);
}

static void print_list(const struct conf_list *list, FILE *out)
{
	if (list->count == 1) {
		conf_print_quoted(list->item[0], out);
		return;
	}
	for (size_t i = 0; i < list->count; i++) {
		fputs(i > 0 ? ", " : "[", out);
		conf_print_quoted(list->item[i], out);
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
		conf_print_value(key, conf_value_integer(key, target), out);
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

/* The keys of @table; the first comes after @head. Whether there was one. */
static bool print_table(const struct conf_table *tables, size_t count,
			const struct conf_table *table, const void *const targets[CONF_SCOPES],
			const char *head, FILE *out)
{
	bool any = false;

	for (size_t k = 0; k < table->key_count; k++) {
		const struct conf_key *key = &table->key[k];

		if (key->size == 0 || (key->flags & CONF_COMMAND) || !targets[key->scope] ||
		    !conf_key_applies(tables, count, table, key, targets))
			continue;
		if (!any)
			fputs(head, out);
		any = true;
		if (print_was_read(table, key, targets[key->scope]))
			fprintf(out, "# %s is read from a file\n", key->name);
		else
			print_key(key, targets[key->scope], out);
	}
	return any;
}

void conf_print(const struct conf_table *tables, size_t count,
		const void *const targets[CONF_SCOPES], enum conf_form form, FILE *out)
{
	static const char *const fronts[] = {
		[CONF_FORM_TABLE] = "",
		[CONF_FORM_ROOT] = "",
		[CONF_FORM_MOUNT] = "mount.",
		[CONF_FORM_DIRECTORY] = "mount.directory.",
	};
	bool between = form == CONF_FORM_MOUNT || form == CONF_FORM_DIRECTORY;
	char head[CONF_NAME_MAX];

	for (size_t t = 0; t < count; t++) {
		if (form != CONF_FORM_TABLE && tables[t].form == form)
			between |= print_table(tables, count, &tables[t], targets, "", out);
	}
	for (size_t t = 0; t < count; t++) {
		if (tables[t].form != CONF_FORM_TABLE)
			continue;
		snprintf(head, sizeof(head), "%s[%s%s]\n", between ? "\n" : "", fronts[form],
			 tables[t].name);
		between |= print_table(tables, count, &tables[t], targets, head, out);
	}
}

void conf_target_free(const struct conf_table *tables, size_t count, enum conf_scope scope,
		      void *target)
{
	for (size_t t = 0; t < count; t++) {
		for (size_t k = 0; k < tables[t].key_count; k++) {
			const struct conf_key *key = &tables[t].key[k];
			char **field;

			if (key->scope != scope || key->size == 0)
				continue;
			if (key->type == CONF_PATHS)
				conf_list_clear(conf_value_list(key, target));
			if (!conf_value_is_string(key))
				continue;
			field = conf_value_string(key, target);
			if (*field && (key->flags & CONF_SECRET))
				explicit_bzero(*field, strlen(*field));
			free(*field);
			*field = NULL;
		}
	}
}
