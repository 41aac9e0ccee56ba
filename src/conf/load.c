/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/schema.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "conf/load_priv.h"
#include "conf/suggest.h"
#include "conf/toml.h"
#include "conf/value.h"

/* A hostile or binary file could have a problem in each line. */
#define CONF_PROBLEMS_MAX 100

void conf_sanitise(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

static void conf_problem_take(struct conf_load *load, int line, char *text)
{
	size_t n = load->problem_count;

	if (text)
		conf_sanitise(text);
	/* One option that sets two keys is wrong once. */
	if (!text || n == CONF_PROBLEMS_MAX ||
	    (n > 0 && strcmp(load->problem[n - 1].text, text) == 0)) {
		free(text);
		return;
	}
	load->problem[load->problem_count++] = (struct conf_problem){ line, text };
	load->sorted = false;
}

/* "FILE:LINE: SUBJECT: WHAT", each part as far as known. */
static void conf_problem_vadd(struct conf_load *load, const char *file, int line,
			      const char *subject, const char *fmt, va_list ap)
{
	char *text = NULL, *what = NULL;
	char number[16] = "";

	if (vasprintf(&what, fmt, ap) < 0)
		return;
	if (line > 0)
		snprintf(number, sizeof(number), ":%d", line);
	if (asprintf(&text, "%s%s%s%s%s%s", file ? file : "", file ? number : "", file ? ": " : "",
		     subject, subject[0] ? ": " : "", what) < 0)
		text = NULL;
	free(what);
	conf_problem_take(load, line, text);
}

void conf_load_problem_at(struct conf_load *load, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	conf_problem_vadd(load, load->file, line, "", fmt, ap);
	va_end(ap);
}

void conf_load_problem_option(struct conf_load *load, const char *option, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	conf_problem_vadd(load, NULL, 0, option, fmt, ap);
	va_end(ap);
}

const struct conf_key *conf_key_find(const struct conf_table *tables, size_t count,
				     const char *name, size_t *index)
{
	const char *dot = strchr(name, '.');

	*index = 0;
	for (size_t t = 0; dot && t < count; t++) {
		const struct conf_table *table = &tables[t];
		size_t len = (size_t)(dot - name);

		if (strlen(table->name) != len || memcmp(table->name, name, len) != 0) {
			*index += table->key_count;
			continue;
		}
		for (size_t k = 0; k < table->key_count; k++, (*index)++) {
			if (strcmp(table->key[k].name, dot + 1) == 0)
				return &table->key[k];
		}
		break;
	}
	return NULL;
}

static const struct conf_key *conf_load_find(const struct conf_load *load, const char *name,
					     size_t *index)
{
	const struct conf_key *key = conf_key_find(load->tables, load->table_count, name, index);

	if (!key)
		abort(); /* a name in our own code */
	return key;
}

void conf_load_problem(struct conf_load *load, const char *key, const char *fmt, ...)
{
	const struct conf_origin *origin;
	size_t index;
	va_list ap;

	conf_load_find(load, key, &index);
	origin = &load->origin[index];
	va_start(ap, fmt);
	if (origin->option)
		conf_problem_vadd(load, NULL, 0, origin->option, fmt, ap);
	else
		conf_problem_vadd(load, load->file, origin->line, key, fmt, ap);
	va_end(ap);
}

bool conf_load_has(const struct conf_load *load, const char *key)
{
	size_t index;

	conf_load_find(load, key, &index);
	return load->origin[index].option || load->origin[index].line;
}

static void conf_load_defaults(struct conf_load *load)
{
	for (size_t t = 0; t < load->table_count; t++) {
		for (size_t k = 0; k < load->tables[t].key_count; k++) {
			const struct conf_key *key = &load->tables[t].key[k];
			void *target = load->target[key->scope];
			struct err *e;

			if (conf_value_is_string(key))
				*conf_value_string(key, target) = NULL;
			if (key->type == CONF_PATHS)
				*conf_value_list(key, target) = (struct conf_list){ 0 };
			if (!key->standard)
				continue;
			e = conf_value_from_text(key, key->standard, target);
			if (e)
				conf_load_problem_at(load, 0, "default of %s.%s: %s",
						     load->tables[t].name, key->name, err_msg(e));
			err_free(e);
		}
	}
}

struct conf_load *conf_load_new(const struct conf_table *tables, size_t count,
				void *const targets[CONF_SCOPES])
{
	struct conf_load *load = calloc(1, sizeof(*load));
	size_t keys = 0;

	if (!load)
		return NULL;
	load->tables = tables;
	load->table_count = count;
	memcpy(load->target, targets, sizeof(load->target));
	for (size_t t = 0; t < count; t++)
		keys += tables[t].key_count;
	load->origin = calloc(keys, sizeof(*load->origin));
	load->problem = calloc(CONF_PROBLEMS_MAX, sizeof(*load->problem));
	if (!load->origin || !load->problem) {
		conf_load_free(load);
		return NULL;
	}
	conf_load_defaults(load);
	return load;
}

void conf_load_free(struct conf_load *load)
{
	size_t keys = 0;

	if (!load)
		return;
	for (size_t t = 0; t < load->table_count; t++)
		keys += load->tables[t].key_count;
	for (size_t i = 0; load->origin && i < keys; i++)
		free(load->origin[i].option);
	for (size_t i = 0; i < load->problem_count; i++)
		free(load->problem[i].text);
	for (size_t i = 0; i < load->warning_count; i++)
		free(load->warning[i]);
	free(load->warning);
	free(load->origin);
	free(load->problem);
	free(load->file);
	free(load);
}

void conf_load_set(struct conf_load *load, const char *name, const char *text, const char *option)
{
	const struct conf_key *key;
	struct err *e;
	size_t index;
	char *copy;

	key = conf_load_find(load, name, &index);
	copy = strdup(option);
	if (copy) {
		free(load->origin[index].option);
		load->origin[index].option = copy;
	}
	e = conf_value_from_text(key, text, load->target[key->scope]);
	if (e)
		conf_load_problem(load, name, "%s", err_msg(e));
	err_free(e);
}

/* A key that [table] does not have. @table NULL: it stands outside of any. */
static void conf_load_unknown_key(struct conf_load *load, const struct conf_table *table,
				  const struct toml_node *node)
{
	struct suggest nearest = { .word = node->key };
	const char *owner = table ? table->name : NULL;

	for (size_t r = 0; table && r < table->refused_count; r++) {
		if (strcmp(table->refused[r].name, node->key) != 0)
			continue;
		conf_load_problem_at(load, node->line, "%s.%s: not supported: %s", table->name,
				     node->key, table->refused[r].why);
		return;
	}
	for (size_t k = 0; table && k < table->key_count; k++)
		suggest_offer(&nearest, table->key[k].name);
	for (size_t t = 0; t < load->table_count && !(table && nearest.best); t++) {
		const struct conf_table *other = &load->tables[t];
		const char *best = nearest.best;

		for (size_t k = 0; other != table && k < other->key_count; k++)
			suggest_offer(&nearest, other->key[k].name);
		if (nearest.best != best)
			owner = other->name;
	}
	if (!nearest.best)
		conf_load_problem_at(load, node->line, "%s%s%s: unknown key",
				     table ? table->name : "", table ? "." : "", node->key);
	else if (table && owner == table->name)
		conf_load_problem_at(load, node->line, "%s.%s: unknown key, did you mean `%s`?",
				     table->name, node->key, nearest.best);
	else if (nearest.distance == 0)
		conf_load_problem_at(load, node->line, "%s%s%s: this key belongs in [%s]",
				     table ? table->name : "", table ? "." : "", node->key, owner);
	else
		conf_load_problem_at(
			load, node->line, "%s%s%s: unknown key, did you mean `%s` of [%s]?",
			table ? table->name : "", table ? "." : "", node->key, nearest.best, owner);
}

/* A value of the file into the target, with the environment put in. */
static struct err *conf_load_value(struct conf_load *load, const struct conf_key *key,
				   const struct toml_node *node, struct conf_origin *origin)
{
	struct toml_node expanded = *node;
	struct err *e;

	origin->line = node->line;
	origin->literal = true;
	if (node->type == TOML_STRING && strstr(node->text, "${env:")) {
		CLEANUP_FREE char *missing = NULL;

		expanded.text = conf_expand_env(node->text, &missing);
		origin->literal = false;
		if (!expanded.text && missing && missing[0])
			return err_new("the environment variable %s is not set", missing);
		if (!expanded.text)
			return err_new("expected a name and } behind ${env:");
		e = conf_value_from_toml(key, &expanded, load->target[key->scope]);
		free(expanded.text);
		return e;
	}
	return conf_value_from_toml(key, node, load->target[key->scope]);
}

static void conf_load_table(struct conf_load *load, const struct conf_table *table,
			    size_t first_index, const struct toml_node *node)
{
	for (const struct toml_node *item = node->child; item; item = item->next) {
		struct err *e;
		size_t k = 0;

		while (k < table->key_count && strcmp(table->key[k].name, item->key) != 0)
			k++;
		if (k == table->key_count) {
			conf_load_unknown_key(load, table, item);
			continue;
		}
		e = conf_load_value(load, &table->key[k], item, &load->origin[first_index + k]);
		if (e)
			conf_load_problem_at(load, item->line, "%s.%s: %s", table->name,
					     table->key[k].name, err_msg(e));
		err_free(e);
	}
}

static void conf_load_unknown_table(struct conf_load *load, const struct toml_node *node)
{
	struct suggest nearest = { .word = node->key };

	for (size_t t = 0; t < load->table_count; t++)
		suggest_offer(&nearest, load->tables[t].name);
	if (nearest.best)
		conf_load_problem_at(load, node->line, "[%s]: unknown table, did you mean [%s]?",
				     node->key, nearest.best);
	else
		conf_load_problem_at(load, node->line, "[%s]: unknown table", node->key);
}

static void conf_load_root(struct conf_load *load, const struct toml_node *root)
{
	for (const struct toml_node *node = root->child; node; node = node->next) {
		size_t t = 0, index = 0;

		while (t < load->table_count && strcmp(load->tables[t].name, node->key) != 0)
			index += load->tables[t++].key_count;
		if (t < load->table_count && node->type == TOML_TABLE)
			conf_load_table(load, &load->tables[t], index, node);
		else if (t < load->table_count)
			conf_load_problem_at(load, node->line, "%s: expected a table: [%s]",
					     node->key, node->key);
		else if (node->type == TOML_TABLE || (node->type == TOML_ARRAY && node->child &&
						      node->child->type == TOML_TABLE))
			conf_load_unknown_table(load, node);
		else
			conf_load_unknown_key(load, NULL, node);
	}
}

bool conf_load_text(struct conf_load *load, const char *name, const char *text, size_t len)
{
	struct toml_node *root;
	struct err *e;
	bool good;
	int line;

	free(load->file);
	load->file = strdup(name);
	e = toml_parse(text, len, &root, &line);
	if (e)
		conf_load_problem_at(load, line, "%s", err_msg(e));
	else
		conf_load_root(load, root);
	good = !e;
	err_free(e);
	toml_free(root);
	return good;
}

bool conf_load_file(struct conf_load *load, const char *path)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int rc = conf_read_file(path, TOML_TEXT_MAX, &text, &len, &load->file_exposed);

	if (rc) {
		free(load->file);
		load->file = strdup(path);
		conf_load_problem_at(load, 0, "cannot read the configuration: %s", strerror(rc));
		return false;
	}
	return conf_load_text(load, path, text, len);
}

static int conf_problem_compare(const void *a, const void *b)
{
	const struct conf_problem *pa = a, *pb = b;

	if (pa->line != pb->line)
		return pa->line < pb->line ? -1 : 1;
	return strcmp(pa->text, pb->text);
}

const struct conf_problem *conf_load_problems(struct conf_load *load, size_t *count)
{
	if (!load->sorted)
		qsort(load->problem, load->problem_count, sizeof(*load->problem),
		      conf_problem_compare);
	load->sorted = true;
	*count = load->problem_count;
	return load->problem;
}
