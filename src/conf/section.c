/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sections say: the value of each key, from the command line, the section, those
 * around it, a file that is named, or the default; and keys that do not go together.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/load_priv.h"
#include "conf/value.h"

/* Bytes of a file that holds one value: the longest are session tokens. */
#define CONF_VALUE_FILE_MAX (64 * 1024)

bool conf_key_applies(const struct conf_table *tables, size_t count, const struct conf_table *table,
		      const struct conf_key *key, const void *const targets[CONF_SCOPES])
{
	unsigned only = key->only ? key->only : table->only;
	const struct conf_key *selector;
	size_t index;

	if (!only)
		return true;
	selector = conf_key_find(tables, count, table->selector, &index);
	if (!selector || !targets[selector->scope])
		return true;
	return only & CONF_ONLY(conf_value_integer(selector, targets[selector->scope]));
}

/* Who decides about key @index for a section. */
struct provider {
	const struct conf_section *section; /* the top for the command line; NULL: nobody */
	const struct conf_origin *origin;
	int distance; /* how many sections out; -1: the command line */
};

static struct provider provider_of(const struct conf_section *section, size_t index)
{
	const struct conf_section *top = section->load->top;
	int distance = 0;

	if (top->origin[index].option)
		return (struct provider){ top, &top->origin[index], -1 };
	for (; section; section = section->parent, distance++) {
		if (section->origin[index].source)
			return (struct provider){ section, &section->origin[index], distance };
	}
	return (struct provider){ 0 };
}

bool conf_section_has(const struct conf_section *section, const char *name)
{
	size_t index;

	conf_load_key(section->load, name, &index);
	return provider_of(section, index).section != NULL;
}

bool conf_section_says(const struct conf_section *section, const char *name)
{
	struct provider provider;
	size_t index;

	conf_load_key(section->load, name, &index);
	provider = provider_of(section, index);
	return provider.section && provider.distance <= 0;
}

const char *conf_load_option(const struct conf_load *load, const char *name)
{
	size_t index;

	conf_load_key(load, name, &index);
	return load->top->origin[index].option;
}

/* The value of @name in @section's own words, for messages; @otherwise when it has none. */
static const char *own_text(const struct conf_section *section, const char *name,
			    const char *otherwise)
{
	const struct toml_node *node;
	size_t index;

	if (!conf_key_find(section->load->tables, section->load->table_count, name, &index))
		return otherwise;
	node = section->origin[index].node;
	return node && node->type == TOML_STRING ? node->text : otherwise;
}

/* `mount "a": directory "b": `; nothing for the top. */
static void section_label(const struct conf_section *section, char *buf, size_t size)
{
	const struct conf_section *mount =
		section->form == CONF_FORM_DIRECTORY ? section->parent : section;
	const char *name;

	buf[0] = '\0';
	if (section->form == CONF_FORM_ROOT)
		return;
	name = own_text(mount, "mount.name", own_text(mount, "socket_settings.tag", "?"));
	if (mount == section)
		snprintf(buf, size, "mount \"%.64s\": ", name);
	else
		snprintf(buf, size, "mount \"%.64s\": directory \"%.128s\": ", name,
			 own_text(section, "directory.path", "?"));
}

void conf_section_problem(const struct conf_section *section, const char *name, const char *fmt,
			  ...)
{
	struct conf_load *load = section->load;
	const struct conf_source *source = load->source_count > 0 ? load->source[0] : NULL;
	char subject[CONF_NAME_MAX + 256], label[256] = "";
	struct provider provider;
	int line = 0;
	size_t index;
	va_list ap;

	conf_load_key(load, name, &index);
	provider = provider_of(section, index);
	if (provider.section != section)
		section_label(section, label, sizeof(label));
	if (provider.section && provider.distance >= 0) {
		source = provider.origin->source;
		line = provider.origin->line;
	} else if (section->source) {
		source = section->source;
		line = section->line;
	}
	if (provider.distance < 0) {
		source = NULL;
		line = 0;
		name = provider.origin->option;
	}
	snprintf(subject, sizeof(subject), "%s%s", label, name);
	va_start(ap, fmt);
	conf_problem_vadd(load, source, line, subject, fmt, ap);
	va_end(ap);
}

const char *conf_section_place(const struct conf_section *section, const char *name, char *buf,
			       size_t size)
{
	struct provider provider;
	size_t index;

	conf_load_key(section->load, name, &index);
	provider = provider_of(section, index);
	if (provider.section && provider.distance < 0)
		snprintf(buf, size, "%s", provider.origin->option);
	else if (provider.section)
		snprintf(buf, size, "%s:%d", provider.origin->source->name, provider.origin->line);
	else if (section->source)
		snprintf(buf, size, "%s:%d", section->source->name, section->line);
	else
		snprintf(buf, size, "the default");
	return buf;
}

/* The values below were tried when they were loaded: what is left is lack of memory. */
static void fill_default(struct conf_section *section, const struct conf_key *key, void *target)
{
	struct err *e;

	if (conf_value_is_string(key))
		*conf_value_string(key, target) = NULL;
	if (key->type == CONF_PATHS)
		*conf_value_list(key, target) = (struct conf_list){ 0 };
	if (!key->standard)
		return;
	e = conf_value_from_text(key, key->standard, target);
	if (e)
		conf_problem_at(section->load, NULL, 0, "default of %s: %s", key->name, err_msg(e));
	err_free(e);
}

static void fill_origin(struct conf_section *section, const struct conf_key *key,
			const struct provider *provider, void *target)
{
	const struct conf_origin *origin = provider->origin;
	struct err *e = NULL;

	if (provider->section && provider->distance < 0 && origin->text)
		e = conf_value_from_text(key, origin->text, target);
	else if (provider->section && provider->distance >= 0 && origin->node)
		e = conf_value_from_toml(key, origin->node, target);
	if (e)
		conf_problem_at(section->load, NULL, 0, "%s: %s", key->name, err_msg(e));
	err_free(e);
}

/* @key, called @name, is a path: the value of @into from that file. */
static void fill_from_file(struct conf_section *section, const char *name,
			   const struct conf_key *key, const struct conf_key *into, void *target)
{
	const char *path = *conf_value_string(key, target);
	struct conf_load *load = section->load;
	const struct conf_file *file;
	struct err *e;
	size_t len;
	char *text;

	file = conf_files_read(load->files, path, CONF_VALUE_FILE_MAX);
	if (!file || file->error) {
		conf_section_problem(section, name, "cannot read \"%s\": %s", path,
				     conf_file_strerror(file ? file->error : ENOMEM));
		return;
	}
	len = file->len;
	while (len > 0 && (file->text[len - 1] == '\n' || file->text[len - 1] == '\r'))
		len--;
	if (len > CONF_VALUE_FILE_MAX || memchr(file->text, '\0', len)) {
		conf_section_problem(section, name, "\"%s\" is not a text of one value", path);
		return;
	}
	text = strndup(file->text, len);
	e = text ? conf_value_from_text(into, text, target) : err_new("out of memory");
	if (text)
		explicit_bzero(text, len);
	free(text);
	if (e)
		conf_section_problem(section, name, "\"%s\": %s", path, err_msg(e));
	err_free(e);
	if (file->exposed && (into->flags & CONF_SECRET))
		conf_load_warn(load,
			       "%s: everybody can read \"%s\", which holds a secret: chmod o-r",
			       name, path);
}

/* @key of @table, number @index, names the file of another key: the nearer of both counts. */
static void fill_reader(struct conf_section *section, const struct conf_table *table,
			const struct conf_key *key, size_t index, void *target)
{
	struct provider from = provider_of(section, index), direct;
	char name[CONF_NAME_MAX], reads[CONF_NAME_MAX];
	char **path = conf_value_string(key, target);
	const struct conf_key *into;
	size_t into_index;

	if (!*path)
		return;
	snprintf(name, sizeof(name), "%s.%s", table->name, key->name);
	snprintf(reads, sizeof(reads), "%s.%s", table->name, key->reads);
	into = conf_load_key(section->load, reads, &into_index);
	direct = provider_of(section, into_index);
	if (direct.section && direct.distance == from.distance) {
		conf_section_problem(section, name, "%s is given, too: leave one of them out",
				     key->reads);
	} else if (direct.section && direct.distance < from.distance) {
		free(*path);
		*path = NULL;
	} else {
		fill_from_file(section, name, key, into, target);
	}
}

void conf_section_fill(struct conf_section *section, enum conf_scope scope, void *target)
{
	const struct conf_load *load = section->load;
	size_t index = 0;

	section->target[scope] = target;
	for (size_t t = 0; t < load->table_count; t++) {
		const struct conf_table *table = &load->tables[t];

		for (size_t k = 0; k < table->key_count; k++, index++) {
			const struct conf_key *key = &table->key[k];
			struct provider provider = provider_of(section, index);

			if (key->scope != scope || key->size == 0)
				continue;
			fill_default(section, key, target);
			fill_origin(section, key, &provider, target);
		}
	}
	index = 0;
	for (size_t t = 0; t < load->table_count; t++) {
		const struct conf_table *table = &load->tables[t];

		for (size_t k = 0; k < table->key_count; k++, index++) {
			if (table->key[k].scope == scope && table->key[k].reads &&
			    conf_key_applies(load->tables, load->table_count, table, &table->key[k],
					     section->target))
				fill_reader(section, table, &table->key[k], index, target);
		}
	}
}

/* Marks, for @section and those around it, the keys that go with what it has. */
static void finish_mark(struct conf_section *section)
{
	const struct conf_load *load = section->load;
	size_t index = 0;

	for (struct conf_section *inner = section->first; inner; inner = inner->next)
		finish_mark(inner);
	/* What has others in it, has no storage of its own. */
	if (section->first)
		return;
	for (size_t t = 0; t < load->table_count; t++) {
		const struct conf_table *table = &load->tables[t];

		for (size_t k = 0; k < table->key_count; k++, index++) {
			if (!conf_key_applies(load->tables, load->table_count, table,
					      &table->key[k], section->target))
				continue;
			for (struct conf_section *s = section; s; s = s->parent)
				s->origin[index].fits = true;
		}
	}
}

/* @key of @table stands in a file although the selector has no value that it goes with. */
static void finish_misplaced(const struct conf_section *section, const struct conf_table *table,
			     const struct conf_key *key)
{
	const struct conf_load *load = section->load;
	unsigned only = key->only ? key->only : table->only;
	const struct conf_key *selector;
	char name[CONF_NAME_MAX], wanted[256] = "";
	size_t index;

	selector = conf_key_find(load->tables, load->table_count, table->selector, &index);
	for (size_t i = 0; selector->words[i]; i++) {
		if (only & CONF_ONLY(i))
			snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted),
				 "%s\"%s\"", wanted[0] ? " or " : "", selector->words[i]);
	}
	conf_key_name(table, key, name);
	if (section->first || !section->target[selector->scope])
		conf_section_problem(section, name,
				     "this key is for %s = %s, and no storage has it",
				     selector->name, wanted);
	else
		conf_section_problem(section, name, "this key is for %s = %s, and %s is \"%s\"",
				     selector->name, wanted, selector->name,
				     selector->words[conf_value_integer(
					     selector, section->target[selector->scope])]);
}

static void finish_section(struct conf_section *section)
{
	struct conf_load *load = section->load;
	const struct conf_origin *origin = section->origin;
	char name[CONF_NAME_MAX];

	for (size_t t = 0; t < load->table_count; t++) {
		const struct conf_table *table = &load->tables[t];

		for (size_t k = 0; k < table->key_count; k++, origin++) {
			const struct conf_key *key = &table->key[k];

			if (!origin->source || origin->option)
				continue;
			if (!origin->fits)
				finish_misplaced(section, table, key);
			if (!(key->flags & CONF_SECRET) || !origin->source->exposed ||
			    !origin->literal || origin->source->warned)
				continue;
			origin->source->warned = true;
			conf_load_warn(load,
				       "%s:%d: %s: everybody can read this file, which holds a "
				       "secret: chmod o-r",
				       origin->source->name, origin->line,
				       conf_key_name(table, key, name));
		}
	}
	for (struct conf_section *inner = section->first; inner; inner = inner->next)
		finish_section(inner);
}

void conf_load_finish(struct conf_load *load)
{
	finish_mark(load->top);
	finish_section(load->top);
}
