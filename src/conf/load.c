/* SPDX-License-Identifier: Apache-2.0 */
/* From files and options to sections: which key stands where, with which value. */
#include "conf/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "conf/load_priv.h"
#include "conf/value.h"

const struct conf_key *conf_key_find(const struct conf_table *tables, size_t count,
				     const char *name, size_t *index)
{
	const char *dot = strchr(name, '.');
	size_t len = dot ? (size_t)(dot - name) : 0;
	const char *key = dot ? dot + 1 : name;

	*index = 0;
	for (size_t t = 0; t < count; t++) {
		const struct conf_table *table = &tables[t];

		if (strlen(table->name) != len || memcmp(table->name, name, len) != 0) {
			*index += table->key_count;
			continue;
		}
		for (size_t k = 0; k < table->key_count; k++, (*index)++) {
			if (strcmp(table->key[k].name, key) == 0)
				return &table->key[k];
		}
		break;
	}
	return NULL;
}

const struct conf_key *conf_load_key(const struct conf_load *load, const char *name, size_t *index)
{
	const struct conf_key *key = conf_key_find(load->tables, load->table_count, name, index);

	if (!key)
		abort(); /* a name in our own code */
	return key;
}

const char *conf_key_name(const struct conf_table *table, const struct conf_key *key,
			  char buf[CONF_NAME_MAX])
{
	snprintf(buf, CONF_NAME_MAX, "%s%s%s", table->name, table->name[0] ? "." : "", key->name);
	return buf;
}

bool conf_form_has(enum conf_form form, enum conf_scope scope)
{
	switch (form) {
	case CONF_FORM_MOUNT:
		return scope == CONF_MOUNT || scope == CONF_BACKEND;
	case CONF_FORM_DIRECTORY:
		return scope == CONF_DIRECTORY || scope == CONF_BACKEND;
	default:
		return scope != CONF_DIRECTORY;
	}
}

static struct conf_section *conf_section_new(struct conf_load *load, struct conf_section *parent)
{
	struct conf_section *section;

	if (load->section_count == CONF_SECTIONS_MAX)
		return NULL;
	section = calloc(1, sizeof(*section));
	if (section)
		section->origin = calloc(load->key_count, sizeof(*section->origin));
	if (!section || !section->origin) {
		free(section);
		return NULL;
	}
	section->load = load;
	section->parent = parent;
	section->tail = &section->first;
	section->form = CONF_FORM_ROOT;
	if (parent) {
		section->form = parent->parent ? CONF_FORM_DIRECTORY : CONF_FORM_MOUNT;
		*parent->tail = section;
		parent->tail = &section->next;
	}
	load->section_count++;
	return section;
}

static void conf_section_free(struct conf_section *section, size_t keys)
{
	while (section) {
		struct conf_section *next = section->next;

		conf_section_free(section->first, keys);
		for (size_t i = 0; i < keys; i++) {
			free(section->origin[i].option);
			free(section->origin[i].text);
		}
		free(section->origin);
		free(section);
		section = next;
	}
}

struct conf_load *conf_load_new(const struct conf_table *tables, size_t count,
				struct conf_files *files)
{
	struct conf_load *load = calloc(1, sizeof(*load));

	if (!load)
		return NULL;
	load->tables = tables;
	load->table_count = count;
	load->files = files;
	for (size_t t = 0; t < count; t++)
		load->key_count += tables[t].key_count;
	load->problem = calloc(CONF_PROBLEMS_MAX, sizeof(*load->problem));
	load->top = conf_section_new(load, NULL);
	if (!load->top || !load->problem) {
		conf_load_free(load);
		return NULL;
	}
	return load;
}

void conf_load_free(struct conf_load *load)
{
	if (!load)
		return;
	conf_section_free(load->top, load->key_count);
	for (size_t i = 0; i < load->source_count; i++) {
		toml_free(load->source[i]->root);
		free(load->source[i]->name);
		free(load->source[i]);
	}
	conf_problems_free(load);
	free(load);
}

struct conf_files *conf_load_files(const struct conf_load *load)
{
	return load->files;
}

struct conf_section *conf_load_top(struct conf_load *load)
{
	return load->top;
}

struct conf_load *conf_section_load(const struct conf_section *section)
{
	return section->load;
}

struct conf_section *conf_section_first(const struct conf_section *section)
{
	return section->first;
}

struct conf_section *conf_section_next(const struct conf_section *section)
{
	return section->next;
}

void conf_load_set(struct conf_load *load, const char *name, const char *text, const char *option)
{
	struct conf_origin *origin;
	const struct conf_key *key;
	char *option_copy, *copy;
	struct err *e;
	size_t index;

	key = conf_load_key(load, name, &index);
	origin = &load->top->origin[index];
	option_copy = strdup(option);
	if (option_copy) {
		free(origin->option);
		origin->option = option_copy;
	}
	e = conf_value_try(key, NULL, text);
	if (e)
		conf_load_problem_option(load, option, "%s", err_msg(e));
	copy = e ? NULL : strdup(text);
	if (copy) {
		free(origin->text);
		origin->text = copy;
	}
	err_free(e);
}

/* Says that @key is not for sections of @section's form. */
static void misplaced_key(const struct conf_section *section, const struct conf_source *source,
			  const struct toml_node *node, const char *name,
			  const struct conf_key *key)
{
	if (key->scope == CONF_DAEMON)
		conf_problem_at(section->load, source, node->line,
				"%s: this key is for the whole daemon: it stands at the top of "
				"the file, before any [[mount]]",
				name);
	else
		conf_problem_at(section->load, source, node->line,
				"%s: this key is for a whole mount, not for one of its "
				"directories",
				name);
}

/* The value of @key, which is number @index, for @section. */
static void load_value(struct conf_section *section, struct conf_source *source,
		       struct toml_node *node, const char *name, const struct conf_key *key,
		       size_t index)
{
	struct conf_load *load = section->load;
	struct conf_origin *origin;
	bool variable = false;
	struct err *e;

	if (key->alias)
		key = conf_load_key(load, key->alias, &index);
	origin = &section->origin[index];
	if (origin->source) {
		conf_problem_at(load, source, node->line, "%s: given twice, also at %s:%d", name,
				origin->source->name, origin->line);
		return;
	}
	e = conf_expand(node, &variable);
	if (!e)
		e = conf_value_try(key, node, NULL);
	if (e)
		conf_problem_at(load, source, node->line, "%s: %s", name, err_msg(e));
	*origin = (struct conf_origin){
		.source = source,
		.line = node->line,
		.node = e ? NULL : node,
		.literal = !variable,
		.option = origin->option,
		.text = origin->text,
	};
	err_free(e);
}

/* A key that stands in @table of @section; @first_index is the number of the table's first. */
static void load_key(struct conf_section *section, const struct conf_table *table,
		     size_t first_index, struct conf_source *source, struct toml_node *node)
{
	char name[CONF_NAME_MAX];
	size_t k = 0;

	while (k < table->key_count &&
	       (strcmp(table->key[k].name, node->key) != 0 || (table->key[k].flags & CONF_COMMAND)))
		k++;
	if (k == table->key_count) {
		conf_unknown_key(section->load, table, source, node);
		return;
	}
	if (table->key[k].flags & CONF_INCLUDE)
		return; /* is done */
	conf_key_name(table, &table->key[k], name);
	if (!conf_form_has(section->form, table->key[k].scope))
		misplaced_key(section, source, node, name, &table->key[k]);
	else
		load_value(section, source, node, name, &table->key[k], first_index + k);
}

static bool is_array_of_tables(const struct toml_node *node)
{
	return node->type == TOML_ARRAY && node->child && node->child->type == TOML_TABLE;
}

static void load_section(struct conf_section *section, struct conf_source *source,
			 struct toml_node *node);

/* [[mount]] or [[mount.directory]], as the section of their parent allows. */
static void load_sections(struct conf_section *parent, struct conf_source *source,
			  struct toml_node *node)
{
	for (struct toml_node *item = node->child; item; item = item->next) {
		struct conf_section *section;

		if (item->type != TOML_TABLE) {
			conf_problem_at(parent->load, source, item->line, "%s: expected tables",
					node->key);
			return;
		}
		section = conf_section_new(parent->load, parent);
		if (!section) {
			conf_problem_at(parent->load, source, item->line,
					"more than %d mounts and directories", CONF_SECTIONS_MAX);
			return;
		}
		section->source = source;
		section->line = item->line;
		load_section(section, source, item);
	}
}

/* What may be repeated in a section of @form: "mount", "directory", or NULL. */
static const char *repeated(enum conf_form form)
{
	static const char *const names[] = {
		[CONF_FORM_ROOT] = "mount",
		[CONF_FORM_MOUNT] = "directory",
		[CONF_FORM_DIRECTORY] = NULL,
	};

	return names[form];
}

/* An item of @section that is no table of keys. */
static void load_other(struct conf_section *section, struct conf_source *source,
		       struct toml_node *node)
{
	const char *array = repeated(section->form);
	const char *front = section->form == CONF_FORM_MOUNT ? "mount." : "";
	struct conf_load *load = section->load;
	size_t index = 0;

	if (array && strcmp(node->key, array) == 0) {
		if (node->type == TOML_ARRAY)
			load_sections(section, source, node);
		else
			conf_problem_at(load, source, node->line, "%s%s: expected [[%s%s]]", front,
					array, front, array);
		return;
	}
	if (node->type == TOML_TABLE || is_array_of_tables(node)) {
		conf_unknown_table(load, source, node);
		return;
	}
	for (size_t t = 0; t < load->table_count; t++) {
		if (load->tables[t].form == section->form) {
			load_key(section, &load->tables[t], index, source, node);
			return;
		}
		index += load->tables[t].key_count;
	}
	conf_unknown_key(load, NULL, source, node);
}

static void load_section(struct conf_section *section, struct conf_source *source,
			 struct toml_node *node)
{
	struct conf_load *load = section->load;

	for (struct toml_node *item = node->child; item; item = item->next) {
		const struct conf_table *table = load->tables;
		const struct conf_table *end = table + load->table_count;
		size_t index = 0;

		while (table < end &&
		       (table->form != CONF_FORM_TABLE || strcmp(table->name, item->key) != 0))
			index += (table++)->key_count;
		if (table == end) {
			load_other(section, source, item);
		} else if (item->type != TOML_TABLE) {
			conf_problem_at(load, source, item->line, "%s: expected a table: [%s]",
					item->key, item->key);
		} else {
			for (struct toml_node *key = item->child; key; key = key->next)
				load_key(section, table, index, source, key);
		}
	}
}

/* The next file, called @name. NULL when there are too many, which is said. */
static struct conf_source *source_new(struct conf_load *load, const char *name)
{
	struct conf_source *source = NULL;

	if (load->source_count < CONF_SOURCES_MAX)
		source = calloc(1, sizeof(*source));
	if (source)
		source->name = strdup(name);
	if (!source || !source->name) {
		free(source);
		conf_problem_at(load, load->source_count ? load->source[0] : NULL, 0,
				"more than %d files", CONF_SOURCES_MAX);
		return NULL;
	}
	source->index = (int)load->source_count;
	load->source[load->source_count++] = source;
	return source;
}

static bool load_source(struct conf_load *load, struct conf_source *source, const char *text,
			size_t len, int depth);

/* A file: the one that was asked for, or one that @by includes in line @line. */
static bool load_file(struct conf_load *load, const char *path, const struct conf_source *by,
		      int line, int depth)
{
	const struct conf_file *file = conf_files_read(load->files, path, TOML_TEXT_MAX);
	int error = file ? file->error : ENOMEM;
	struct conf_source *source;

	if (error && by) {
		conf_problem_at(load, by, line, "include: cannot read \"%s\": %s", path,
				conf_file_strerror(error));
		return false;
	}
	for (size_t i = 0; by && i < load->source_count; i++) {
		if (load->source[i]->dev != file->dev || load->source[i]->id != file->id)
			continue;
		conf_problem_at(load, by, line, "include: \"%s\" is read already", path);
		return false;
	}
	source = source_new(load, path);
	if (!source)
		return false;
	if (error) {
		conf_problem_at(load, source, 0, "cannot read the configuration: %s",
				conf_file_strerror(error));
		return false;
	}
	source->exposed = file->exposed;
	source->dev = file->dev;
	source->id = file->id;
	return load_source(load, source, file->text, file->len, depth);
}

/* @name, relative to the folder that @file is in. */
static char *beside(const char *file, const char *name)
{
	const char *slash = strrchr(file, '/');
	char *path;

	if (name[0] == '/' || !slash)
		return strdup(name);
	return asprintf(&path, "%.*s/%s", (int)(slash - file), file, name) < 0 ? NULL : path;
}

/* A file, or all of a folder. */
static bool include_path(struct conf_load *load, const struct conf_source *by, int line,
			 const char *path, int depth)
{
	const struct conf_file *file = conf_files_read(load->files, path, TOML_TEXT_MAX);
	const struct conf_file *folder;
	bool good = true;

	if (!file || file->error != EISDIR)
		return load_file(load, path, by, line, depth);
	folder = conf_files_list(load->files, path);
	if (!folder || folder->error) {
		conf_problem_at(load, by, line, "include: cannot read \"%s\": %s", path,
				strerror(folder ? folder->error : ENOMEM));
		return false;
	}
	for (size_t at = 0; at < folder->len; at += strlen(folder->text + at) + 1) {
		CLEANUP_FREE char *inside = NULL;

		if (asprintf(&inside, "%s/%s", path, folder->text + at) >= 0)
			good &= load_file(load, inside, by, line, depth);
	}
	return good;
}

/* The value of `include` in @source. */
static bool load_includes(struct conf_load *load, const struct conf_source *source,
			  const struct conf_key *key, struct toml_node *node, int depth)
{
	struct conf_list list = { 0 };
	struct conf_key alone = *key;
	bool variable, good = false;
	struct err *e;

	alone.offset = 0;
	e = conf_expand(node, &variable);
	if (!e)
		e = conf_value_from_toml(&alone, node, &list);
	if (e)
		conf_problem_at(load, source, node->line, "include: %s", err_msg(e));
	else if (depth == CONF_INCLUDE_DEPTH_MAX)
		conf_problem_at(load, source, node->line, "include: more than %d files deep",
				CONF_INCLUDE_DEPTH_MAX);
	else
		good = true;
	err_free(e);
	for (size_t i = 0; good && i < list.count; i++) {
		CLEANUP_FREE char *path = beside(source->name, list.item[i]);

		good = path && include_path(load, source, node->line, path, depth + 1);
	}
	conf_list_clear(&list);
	return good;
}

static bool load_source(struct conf_load *load, struct conf_source *source, const char *text,
			size_t len, int depth)
{
	const struct conf_key *include = NULL;
	struct err *e;
	size_t index;
	bool good;
	int line;

	e = toml_parse(text, len, &source->root, &line);
	if (e)
		conf_problem_at(load, source, line, "%s", err_msg(e));
	good = !e;
	err_free(e);
	if (!good)
		return false;
	load_section(load->top, source, source->root);
	include = conf_key_find(load->tables, load->table_count, "include", &index);
	for (struct toml_node *node = source->root->child; include && node; node = node->next) {
		if (strcmp(node->key, include->name) == 0 && node->type != TOML_TABLE)
			good = load_includes(load, source, include, node, depth);
	}
	return good;
}

bool conf_load_text(struct conf_load *load, const char *name, const char *text, size_t len)
{
	struct conf_source *source = source_new(load, name);

	return source && load_source(load, source, text, len, 0);
}

bool conf_load_file(struct conf_load *load, const char *path)
{
	return load_file(load, path, NULL, 0, 0);
}
