/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key tables, and everything that is derived from them.
 *
 * A table names the keys of one [table] of the configuration file: for each
 * its type, default, range, place in the target struct and one line of
 * documentation. From the same tables come
 *
 *	conf_load_*	reading files and setting single keys (command line)
 *	conf_section_*	what they say for the daemon, a mount, a directory of a mount
 *	conf_print	--check-config, the effective configuration
 *	conf_print_reference, conf_print_schema	the reference document, the JSON schema
 *	conf_diff	what a reload changes
 *
 * A file has sections: its top, each [[mount]], each [[mount.directory]]. A
 * key that a section does not have is its parent's, and at last the default;
 * what the command line sets stands above all of them.
 *
 * A loader collects problems instead of stopping at the first: a person sees
 * everything that is wrong with a file at once, each with file, line, key, what
 * was expected and the nearest right word.
 *
 * In strings of the file "${env:NAME}" is replaced by that variable of the
 * environment; "$${" stands for "${".
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
#include "conf/files.h"
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
	CONF_COMMAND = 1 << 2,	/* of the command line only */
	CONF_INCLUDE = 1 << 3,	/* names further files; has no place in a target */
};

/* A bit for a word of the selector, for .only. */
#define CONF_ONLY(index) (1u << (index))

/* Whose a key is: each scope has a target of its own. */
enum conf_scope {
	CONF_DAEMON,
	CONF_MOUNT,
	CONF_BACKEND, /* the storage of a mount, or of a directory of a mount */
	CONF_DIRECTORY,
	CONF_SCOPES,
};

/* What it takes for a changed key to be in effect. */
enum conf_change {
	CONF_CHANGE_TABLE, /* as the table says; there: CONF_CHANGE_LIVE */
	CONF_CHANGE_LIVE,
	CONF_CHANGE_REPLACE,	/* live, but it is another storage: its guests are disconnected */
	CONF_CHANGE_CONNECTION, /* the mount's next connection */
	CONF_CHANGE_RESTART,
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
	unsigned only; /* words of the table's selector that it goes with; 0: all */
	enum conf_change change;
	const char *reads; /* CONF_PATH: a file that holds the value of this key of the table */
	const char *alias; /* another way to write this key, "table.key" */
	/* Of the field in the target: CONF_FIELD(). Size 0: none, as for an alias. */
	size_t offset, size;
};

/* A key that people may expect, because others have it, and why it is not there. */
struct conf_refused {
	const char *name;
	const char *why;
};

/* Where the keys of a table stand. */
enum conf_form {
	CONF_FORM_TABLE,     /* in [name], [mount.name] or [mount.directory.name] */
	CONF_FORM_ROOT,	     /* before any table; name is "" */
	CONF_FORM_MOUNT,     /* in [[mount]]; name is "mount" */
	CONF_FORM_DIRECTORY, /* in [[mount.directory]]; name is "directory" */
};

struct conf_table {
	const char *name;
	const char *doc;
	enum conf_form form;
	enum conf_change change;
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
	int source; /* in which file: the how manieth that was read; -1: in none */
	int line;   /* 0: not about a line of the file */
	char *text;
};

struct conf_load;
struct conf_section;

/*
 * A loader for the @count tables, which reads from @files: borrowed, outlives it. NULL for
 * lack of memory.
 */
struct conf_load *conf_load_new(const struct conf_table *tables, size_t count,
				struct conf_files *files);
void conf_load_free(struct conf_load *load);

/* Reads @path ("-" is no special name), at most TOML_TEXT_MAX bytes, and what it includes.
 * False when it can not be read or is not TOML, so that nothing of it is known. */
bool conf_load_file(struct conf_load *load, const char *path);

/* The same for a text; @name stands in the messages. */
bool conf_load_text(struct conf_load *load, const char *name, const char *text, size_t len);

/* Sets @key ("table.key", which exists) from the command line: booleans as
 * true or false, lists with commas. @origin ("--tag") stands in the messages. */
void conf_load_set(struct conf_load *load, const char *key, const char *text, const char *origin);

/* What was given to conf_load_new(). */
struct conf_files *conf_load_files(const struct conf_load *load);

/* The section of the whole file, and the sections in one, in their order; NULL at the end. */
struct conf_section *conf_load_top(struct conf_load *load);
struct conf_section *conf_section_first(const struct conf_section *section);
struct conf_section *conf_section_next(const struct conf_section *section);

/*
 * Once the files and the command line are in: sets all fields of @scope in @target to what
 * @section says. The target is the caller's; it is written without regard to what is in
 * there, and remembered until conf_load_finish().
 */
void conf_section_fill(struct conf_section *section, enum conf_scope scope, void *target);

/*
 * When all are filled: looks for keys that go with no value of the selector below their section
 * (the command line's do no harm: a caller may give the same options for any), and for secrets that
 * everybody can read.
 */
void conf_load_finish(struct conf_load *load);

struct conf_load *conf_section_load(const struct conf_section *section);

/* Whether a file or the command line set @key for @section. */
bool conf_section_has(const struct conf_section *section, const char *key);

/* Whether the command line or @section itself did, not one around it. */
bool conf_section_says(const struct conf_section *section, const char *key);

/* Whether the command line did; then its option, else NULL. */
const char *conf_load_option(const struct conf_load *load, const char *key);

/* Adds a problem about @key in @section, with the place that set it in front. */
void conf_section_problem(const struct conf_section *section, const char *key, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* That place, "FILE:LINE" or "--option". @size bytes at @buf, which is returned. */
const char *conf_section_place(const struct conf_section *section, const char *key, char *buf,
			       size_t size);

/* Adds a problem that is about @option of the command line. */
void conf_load_problem_option(struct conf_load *load, const char *option, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* All problems, in the order of files and lines; they live as long as the loader and
 * until the next problem. */
const struct conf_problem *conf_load_problems(struct conf_load *load, size_t *count);

/* What is not wrong, but should not be left as it is; lives as long as the loader. */
void conf_load_warn(struct conf_load *load, const char *fmt, ...) PRINTF_LIKE(2, 3);
const char *const *conf_load_warnings(const struct conf_load *load, size_t *count);

/* Frees the strings of @target, which is of @scope, and sets them to NULL. */
void conf_target_free(const struct conf_table *tables, size_t count, enum conf_scope scope,
		      void *target);

/*
 * Writes @targets as a section of a file that yields them again, secrets masked: all keys
 * whose scope has a target. @form says which section: CONF_FORM_TABLE is none.
 */
void conf_print(const struct conf_table *tables, size_t count,
		const void *const targets[CONF_SCOPES], enum conf_form form, FILE *out);

/* Writes the documentation of the tables in Markdown. */
void conf_print_reference(const struct conf_table *tables, size_t count, FILE *out);

/* Writes a JSON schema (draft-07) of the file. */
void conf_print_schema(const struct conf_table *tables, size_t count, FILE *out);

/* Calls @found for each key of @scope whose values in @a and @b differ; @change: what it
 * takes to put it into effect, never CONF_CHANGE_TABLE. */
void conf_diff(const struct conf_table *tables, size_t count, enum conf_scope scope, const void *a,
	       const void *b,
	       void (*found)(void *arg, const struct conf_table *table, const struct conf_key *key,
			     enum conf_change change),
	       void *arg);

/* What a value of @key may be: "an integer from 1 to 63". @size bytes at @buf. */
const char *conf_key_expects(const struct conf_key *key, char *buf, size_t size);

#endif
