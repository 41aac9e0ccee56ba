/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key tables, and everything that is derived from them.
 *
 * A table names the keys of one [table] of the configuration file: for each
 * its type, default, range, place in the target struct and one line of
 * documentation. From the same tables come
 *
 *	conf_load_*	reading a file and setting single keys (command line)
 *	conf_print	--check-config, the effective configuration
 *	conf_print_reference	the reference document
 *
 * A loader collects problems instead of stopping at the first: a person sees
 * everything that is wrong with a file at once, each with file, line, key, what
 * was expected and the nearest right word.
 *
 * "${env:NAME}" in a string of the file is replaced by that variable of the
 * environment.
 *
 * One thread for each loader; the tables are constant and shared by all.
 */
#ifndef OVFS_CONF_SCHEMA_H
#define OVFS_CONF_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/util.h"
#include "conf/list.h"

enum conf_type {
	CONF_BOOL,     /* bool */
	CONF_INTEGER,  /* unsigned integer of 4 or 8 bytes */
	CONF_SIZE,     /* unsigned integer of 4 or 8 bytes; "4GiB" (conf/units.h) */
	CONF_SIZES,    /* uint64_t: a list of sizes that are powers of two, or-ed */
	CONF_MODE,     /* unsigned integer of 4 bytes; octal permissions, "0644" */
	CONF_DURATION, /* uint64_t nanoseconds; "1m30s" */
	CONF_STRING,   /* char *, owned by the target */
	CONF_PATH,     /* char *, owned by the target */
	CONF_PATHS,    /* struct conf_list, owned by the target: a path or a list of them */
	CONF_CHOICE,   /* enum: the index of the word in .words */
	CONF_FLAGS,    /* uint64_t: a list of words, bit i for .words[i] */
};

enum conf_key_flag {
	CONF_SECRET = 1 << 0,	/* printed masked, never in a message */
	CONF_REQUIRED = 1 << 1, /* said in the reference; checked by the tables' owner */
};

/* A bit for a word of the selector, for .only. */
#define CONF_ONLY(index) (1u << (index))

/* Whose a key is: each scope has a target of its own. */
enum conf_scope {
	CONF_DAEMON,
	CONF_MOUNT,
	CONF_BACKEND,
	CONF_SCOPES,
};

struct conf_key {
	const char *name;
	const char *doc; /* one sentence or two */
	/* In the notation of the command line (conf_load_set); NULL: a string that
	 * is not set. */
	const char *standard;
	const char *const *words; /* of CONF_CHOICE and CONF_FLAGS, NULL-terminated */
	uint64_t min, max;	  /* CONF_STRING, CONF_PATH: bytes. max 0: no limit */
	enum conf_type type;
	enum conf_scope scope;
	unsigned flags;
	unsigned only;	     /* words of the table's selector that it goes with; 0: all */
	const char *reads;   /* CONF_PATH: a file that holds the value of this key of the table */
	size_t offset, size; /* of the field in the target: CONF_FIELD() */
};

/* A key that people may expect, because others have it, and why it is not there. */
struct conf_refused {
	const char *name;
	const char *why;
};

struct conf_table {
	const char *name;
	const char *doc;
	const struct conf_key *key;
	size_t key_count;
	const char *selector; /* "table.key", a CONF_CHOICE: what .only is about; or NULL */
	unsigned only;	      /* of keys that have none of their own */
	const struct conf_refused *refused;
	size_t refused_count;
};

/* The last initialisers of a key: its place in the target. */
#define CONF_FIELD(target, member)                                                                 \
	.offset = offsetof(target, member), .size = sizeof(((target *)0)->member)

struct conf_problem {
	int line; /* 0: not about a line of the file */
	char *text;
};

struct conf_load;

/*
 * A loader that fills @targets, which are the caller's, one for each scope that occurs in
 * the @count tables. Sets the defaults at once; strings already in a target are not
 * freed. NULL for lack of memory.
 */
struct conf_load *conf_load_new(const struct conf_table *tables, size_t count,
				void *const targets[CONF_SCOPES]);
void conf_load_free(struct conf_load *load);

/* Reads @path ("-" is no special name), at most TOML_TEXT_MAX bytes. False when
 * it can not be read or is not TOML, so that nothing of it is known. */
bool conf_load_file(struct conf_load *load, const char *path);

/* The same for a text; @name stands in the messages. */
bool conf_load_text(struct conf_load *load, const char *name, const char *text, size_t len);

/* Sets @key ("table.key", which exists) from the command line: booleans as
 * true or false, lists with commas. @origin ("--tag") stands in the messages. */
void conf_load_set(struct conf_load *load, const char *key, const char *text, const char *origin);

/*
 * Once the file and the command line are in: reads the files that keys with
 * .reads name, and looks for keys that do not go with the selector's value (the
 * command line's do no harm: a caller may give the same options for any).
 */
void conf_load_finish(struct conf_load *load);

/* Whether the file or the command line set @key. */
bool conf_load_has(const struct conf_load *load, const char *key);

/* Adds a problem about @key, with the place that set it in front. */
void conf_load_problem(struct conf_load *load, const char *key, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* Adds a problem that is about the file, but about no key. */
void conf_load_problem_at(struct conf_load *load, int line, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Adds a problem that is about @option of the command line. */
void conf_load_problem_option(struct conf_load *load, const char *option, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* All problems, in the order of the lines; they live as long as the loader and
 * until the next problem. */
const struct conf_problem *conf_load_problems(struct conf_load *load, size_t *count);

/* What is not wrong, but should not be left as it is; lives as long as the loader. */
const char *const *conf_load_warnings(const struct conf_load *load, size_t *count);

/* Frees the strings of @target, which is of @scope, and sets them to NULL. */
void conf_target_free(const struct conf_table *tables, size_t count, enum conf_scope scope,
		      void *target);

/* Writes @targets as a file that yields them again; secrets are masked. */
void conf_print(const struct conf_table *tables, size_t count,
		const void *const targets[CONF_SCOPES], FILE *out);

/* Writes the documentation of the tables in Markdown. */
void conf_print_reference(const struct conf_table *tables, size_t count, FILE *out);

/* What a value of @key may be: "an integer from 1 to 63". @size bytes at @buf. */
const char *conf_key_expects(const struct conf_key *key, char *buf, size_t size);

#endif
