/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: what a loader knows, for the files that work on it. */
#ifndef OVFS_CONF_LOAD_PRIV_H
#define OVFS_CONF_LOAD_PRIV_H

#include <stdarg.h>

#include "conf/files.h"
#include "conf/schema.h"
#include "conf/toml.h"

/* A hostile or binary file could have a problem in each line. */
#define CONF_PROBLEMS_MAX 100

#define CONF_SOURCES_MAX 256
#define CONF_INCLUDE_DEPTH_MAX 8
#define CONF_SECTIONS_MAX 4096

#define CONF_NAME_MAX 128 /* bytes of "table.key", with the NUL */

/* A file of the configuration. */
struct conf_source {
	int index;
	char *name;		/* for messages */
	bool exposed;		/* everybody can read it */
	bool warned;		/* ... and that was said */
	uint64_t dev, id;	/* of the file, when it is one */
	struct toml_node *root; /* the values that origins point to */
};

/* What a section says of a key. */
struct conf_origin {
	struct conf_source *source; /* NULL: nothing */
	int line;
	const struct toml_node *node; /* NULL: it can not be used, which was said */
	bool literal;		      /* the value itself stands in the file */
	bool fits;		      /* it goes with the selector somewhere */
	/* In the top only: the command line's. */
	char *option; /* NULL: nothing */
	char *text;   /* NULL: it can not be used */
};

struct conf_section {
	struct conf_load *load;
	struct conf_section *parent, *next, *first, **tail;
	enum conf_form form;		  /* CONF_FORM_ROOT: the top */
	const struct conf_source *source; /* where its head stands; NULL for the top */
	int line;
	struct conf_origin *origin; /* of each key, tables one after the other */
	const void *target[CONF_SCOPES];
};

struct conf_load {
	const struct conf_table *tables;
	size_t table_count, key_count;
	struct conf_files *files;
	struct conf_source *source[CONF_SOURCES_MAX];
	size_t source_count;
	struct conf_section *top;
	size_t section_count;
	struct conf_problem *problem;
	size_t problem_count;
	char **warning;
	size_t warning_count;
	bool sorted;
};

/* The key named "table.key" and, in *@index, its number among all. NULL: none. */
const struct conf_key *conf_key_find(const struct conf_table *tables, size_t count,
				     const char *name, size_t *index);

/* The same for a name in our own code, which exists. */
const struct conf_key *conf_load_key(const struct conf_load *load, const char *name, size_t *index);

/* "table.key" */
const char *conf_key_name(const struct conf_table *table, const struct conf_key *key,
			  char buf[CONF_NAME_MAX]);

/* Whether @key of @table goes with the value that the selector has in @targets; without
 * the target that has the selector: it does. */
bool conf_key_applies(const struct conf_table *tables, size_t count, const struct conf_table *table,
		      const struct conf_key *key, const void *const targets[CONF_SCOPES]);

/* Whether a section of @form may have keys of @scope. */
bool conf_form_has(enum conf_form form, enum conf_scope scope);

/* Adds "FILE:LINE: SUBJECT: WHAT", each part as far as known (NULL, 0, ""). */
void conf_problem_vadd(struct conf_load *load, const struct conf_source *source, int line,
		       const char *subject, const char *fmt, va_list ap);
void conf_problem_at(struct conf_load *load, const struct conf_source *source, int line,
		     const char *fmt, ...) PRINTF_LIKE(4, 5);
void conf_problems_free(struct conf_load *load);

/* Control characters out of a file must not reach a terminal or split a line. */
void conf_sanitise(char *text);

/* Says of what is in @node, a table, that nothing knows it. */
void conf_unknown_key(struct conf_load *load, const struct conf_table *table,
		      const struct conf_source *source, const struct toml_node *node);
void conf_unknown_table(struct conf_load *load, const struct conf_source *source,
			const struct toml_node *node);

/* Puts the environment into all strings of @node; *@changed: there was something to put. */
struct err *conf_expand(struct toml_node *node, bool *changed) __attribute__((warn_unused_result));

#endif
