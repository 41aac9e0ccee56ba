/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: what a loader knows, for the two files that work on it. */
#ifndef OVFS_CONF_LOAD_PRIV_H
#define OVFS_CONF_LOAD_PRIV_H

#include "conf/schema.h"

struct conf_origin {
	int line;     /* of the file; 0 when it was not set there */
	char *option; /* the option that set it last; NULL when the file did */
	bool literal; /* the value itself stands in the file */
};

struct conf_load {
	const struct conf_table *tables;
	size_t table_count;
	void *target[CONF_SCOPES];
	char *file;		    /* name for messages; NULL before any */
	bool file_exposed;	    /* everybody can read it */
	struct conf_origin *origin; /* of each key, tables one after the other */
	struct conf_problem *problem;
	size_t problem_count;
	char **warning;
	size_t warning_count;
	bool sorted;
};

/* The key named "table.key" and, in *@index, its number among all. NULL: none. */
const struct conf_key *conf_key_find(const struct conf_table *tables, size_t count,
				     const char *name, size_t *index);

/* Whether @key of @table goes with the value that the selector has in @targets. */
bool conf_key_applies(const struct conf_table *tables, size_t count, const struct conf_table *table,
		      const struct conf_key *key, const void *const targets[CONF_SCOPES]);

/* All of @path, without a NUL behind it; more than @max bytes: one more than that.
 * *@exposed: everybody can read it. A positive errno. */
int conf_read_file(const char *path, size_t max, char **text, size_t *len, bool *exposed);

/* @text with the environment put in; NULL and *@missing, the name of a variable that
 * is not set (the caller's, as is the text), or a problem with the form ("") . */
char *conf_expand_env(const char *text, char **missing);

/* Control characters out of a file must not reach a terminal or split a line. */
void conf_sanitise(char *text);

#endif
