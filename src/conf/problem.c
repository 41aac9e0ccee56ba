/* SPDX-License-Identifier: Apache-2.0 */
/* What a loader has to complain of. */
#include <stdlib.h>
#include <string.h>

#include "conf/load_priv.h"
#include "conf/suggest.h"

void conf_sanitise(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

/* Takes @text; NULL for lack of memory. */
static void conf_problem_take(struct conf_load *load, int source, int line, char *text)
{
	bool known = !text || load->problem_count == CONF_PROBLEMS_MAX;

	if (text)
		conf_sanitise(text);
	/* An option that sets two keys, and a default of many mounts, is wrong once. */
	for (size_t i = 0; i < load->problem_count && !known; i++)
		known = strcmp(load->problem[i].text, text) == 0;
	if (known) {
		free(text);
		return;
	}
	load->problem[load->problem_count++] = (struct conf_problem){ source, line, text };
	load->sorted = false;
}

void conf_problem_vadd(struct conf_load *load, const struct conf_source *source, int line,
		       const char *subject, const char *fmt, va_list ap)
{
	const char *file = source ? source->name : "";
	char *text = NULL, *what = NULL;
	char number[16] = "";

	if (vasprintf(&what, fmt, ap) < 0)
		return;
	if (line > 0)
		snprintf(number, sizeof(number), ":%d", line);
	if (asprintf(&text, "%s%s%s%s%s%s", file, number, file[0] ? ": " : "", subject,
		     subject[0] ? ": " : "", what) < 0)
		text = NULL;
	free(what);
	conf_problem_take(load, source ? source->index : -1, line, text);
}

void conf_problem_at(struct conf_load *load, const struct conf_source *source, int line,
		     const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	conf_problem_vadd(load, source, line, "", fmt, ap);
	va_end(ap);
}

void conf_load_problem_option(struct conf_load *load, const char *option, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	conf_problem_vadd(load, NULL, 0, option, fmt, ap);
	va_end(ap);
}

static int conf_problem_compare(const void *a, const void *b)
{
	const struct conf_problem *pa = a, *pb = b;

	if (pa->source != pb->source)
		return pa->source < pb->source ? -1 : 1;
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

void conf_load_warn(struct conf_load *load, const char *fmt, ...)
{
	char **grown = reallocarray(load->warning, load->warning_count + 1, sizeof(*grown));
	va_list ap;

	if (!grown)
		return;
	load->warning = grown;
	va_start(ap, fmt);
	if (vasprintf(&grown[load->warning_count], fmt, ap) >= 0)
		conf_sanitise(grown[load->warning_count++]);
	va_end(ap);
}

const char *const *conf_load_warnings(const struct conf_load *load, size_t *count)
{
	*count = load->warning_count;
	return (const char *const *)load->warning;
}

void conf_problems_free(struct conf_load *load)
{
	for (size_t i = 0; i < load->problem_count; i++)
		free(load->problem[i].text);
	for (size_t i = 0; i < load->warning_count; i++)
		free(load->warning[i]);
	free(load->warning);
	free(load->problem);
}

/* "[name]", "[[mount]]" */
static void table_head(const struct conf_table *table, char *buf, size_t size)
{
	switch (table->form) {
	case CONF_FORM_MOUNT:
		snprintf(buf, size, "[[mount]]");
		break;
	case CONF_FORM_DIRECTORY:
		snprintf(buf, size, "[[mount.directory]]");
		break;
	default:
		snprintf(buf, size, "[%s]", table->name);
		break;
	}
}

static void offer_keys(const struct conf_table *table, struct suggest *nearest)
{
	for (size_t k = 0; k < table->key_count; k++) {
		if (!(table->key[k].flags & CONF_COMMAND))
			suggest_offer(nearest, table->key[k].name);
	}
}

/* @table: whose the key should be; NULL or with an empty name: it stands outside of any. */
void conf_unknown_key(struct conf_load *load, const struct conf_table *table,
		      const struct conf_source *source, const struct toml_node *node)
{
	struct suggest nearest = { .word = node->key };
	const struct conf_table *owner = table;
	const char *front = table ? table->name : "";
	const char *dot = front[0] ? "." : "";
	char head[64] = "";

	for (size_t r = 0; table && r < table->refused_count; r++) {
		if (strcmp(table->refused[r].name, node->key) != 0)
			continue;
		conf_problem_at(load, source, node->line, "%s%s%s: not supported: %s", front, dot,
				node->key, table->refused[r].why);
		return;
	}
	if (table)
		offer_keys(table, &nearest);
	for (size_t t = 0; t < load->table_count && !(table && nearest.best); t++) {
		const char *best = nearest.best;

		if (&load->tables[t] != table)
			offer_keys(&load->tables[t], &nearest);
		if (nearest.best != best)
			owner = &load->tables[t];
	}
	if (owner)
		table_head(owner, head, sizeof(head));
	if (!nearest.best)
		conf_problem_at(load, source, node->line, "%s%s%s: unknown key", front, dot,
				node->key);
	else if (owner == table)
		conf_problem_at(load, source, node->line, "%s%s%s: unknown key, did you mean `%s`?",
				front, dot, node->key, nearest.best);
	else if (nearest.distance == 0)
		conf_problem_at(load, source, node->line, "%s%s%s: this key belongs in %s", front,
				dot, node->key, head);
	else
		conf_problem_at(load, source, node->line,
				"%s%s%s: unknown key, did you mean `%s` of %s?", front, dot,
				node->key, nearest.best, head);
}

void conf_unknown_table(struct conf_load *load, const struct conf_source *source,
			const struct toml_node *node)
{
	struct suggest nearest = { .word = node->key };
	char shown[96];

	for (size_t t = 0; t < load->table_count; t++) {
		if (load->tables[t].form == CONF_FORM_TABLE)
			suggest_offer(&nearest, load->tables[t].name);
	}
	snprintf(shown, sizeof(shown), node->type == TOML_ARRAY ? "[[%.80s]]" : "[%.80s]",
		 node->key);
	if (nearest.best)
		conf_problem_at(load, source, node->line, "%s: unknown table, did you mean [%s]?",
				shown, nearest.best);
	else
		conf_problem_at(load, source, node->line, "%s: unknown table", shown);
}
