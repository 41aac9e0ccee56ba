/* SPDX-License-Identifier: Apache-2.0 */
/* The reference of all keys, in Markdown. */
#include "conf/load_priv.h"
#include "conf/print.h"
#include "conf/value.h"

/* The default in TOML's notation: the text goes the way of a value and back. */
static void print_standard(const struct conf_key *key, FILE *out)
{
	struct conf_key alone = *key;
	uint64_t value = 0;
	struct err *e;

	if (conf_value_is_string(key)) {
		conf_print_quoted(key->standard, out);
		return;
	}
	alone.offset = 0;
	e = conf_value_from_text(&alone, key->standard, &value);
	if (!e)
		conf_print_value(key, conf_value_integer(&alone, &value), out);
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

/* What a reload does with it. */
static void print_reference_change(const struct conf_table *table, const struct conf_key *key,
				   FILE *out)
{
	enum conf_change change = key->change ? key->change : table->change;

	if (change == CONF_CHANGE_REPLACE)
		fputs("\n- A change makes another storage of it: guests are disconnected", out);
	else if (change == CONF_CHANGE_CONNECTION)
		fputs("\n- A change takes effect at the next connection of a guest", out);
	else if (change == CONF_CHANGE_RESTART)
		fputs("\n- A change takes effect when the daemon is started anew", out);
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
	if (key->alias)
		fprintf(out, "\n- Another way to write `%s`", key->alias);
	print_reference_only(tables, count, table, key, out);
	print_reference_change(table, key, out);
	fputs("\n\n", out);
}

/* "[name]", and where else it may stand. */
static void print_reference_head(const struct conf_table *table, FILE *out)
{
	bool mount = false, daemon = false;

	switch (table->form) {
	case CONF_FORM_ROOT:
		fprintf(out, "## Before any table\n\n%s\n\n", table->doc);
		return;
	case CONF_FORM_MOUNT:
		fprintf(out, "## [[mount]]\n\n%s\n\n", table->doc);
		return;
	case CONF_FORM_DIRECTORY:
		fprintf(out, "## [[mount.directory]]\n\n%s\n\n", table->doc);
		return;
	default:
		break;
	}
	for (size_t k = 0; k < table->key_count; k++) {
		daemon |= table->key[k].scope == CONF_DAEMON;
		mount |= table->key[k].scope != CONF_DAEMON;
	}
	fprintf(out, "## [%s]\n\n%s\n\n", table->name, table->doc);
	if (!daemon)
		fprintf(out, "Also in a mount, as [mount.%s]%s\n\n", table->name,
			table->key[0].scope == CONF_BACKEND
				? ", and in one of its directories, as [mount.directory...]."
				: ".");
	else if (mount)
		fputs("Some keys also in a mount.\n\n", out);
}

static void print_reference_keys(const struct conf_table *tables, size_t count,
				 const struct conf_table *table, FILE *out)
{
	for (size_t k = 0; k < table->key_count; k++) {
		if (!(table->key[k].flags & CONF_COMMAND))
			print_reference_key(tables, count, table, &table->key[k], out);
	}
	if (table->refused_count)
		fprintf(out, "### Not supported in [%s]\n\n", table->name);
	for (size_t r = 0; r < table->refused_count; r++)
		fprintf(out, "- `%s`: %s\n", table->refused[r].name, table->refused[r].why);
	if (table->refused_count)
		putc('\n', out);
}

void conf_print_reference(const struct conf_table *tables, size_t count, FILE *out)
{
	for (size_t t = 0; t < count; t++) {
		print_reference_head(&tables[t], out);
		print_reference_keys(tables, count, &tables[t], out);
	}
}
