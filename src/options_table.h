/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the command line: the table of options, and what applying one needs. */
#ifndef OVFS_OPTIONS_TABLE_H
#define OVFS_OPTIONS_TABLE_H

#include <stddef.h>

#include "conf/schema.h"
#include "options.h"

#define OPTIONS_MAX 1024 /* options on one command line, those inside -o included */

struct parse;

enum option_value {
	VALUE_NONE,
	VALUE_REQUIRED,
	VALUE_OPTIONAL,
};

enum option_place {
	LINE = 1 << 0,	 /* --name */
	INSIDE = 1 << 1, /* -o name */
};

struct option_def {
	const char *name;
	unsigned place;
	enum option_value value;
	void (*apply)(struct parse *p, const struct option_def *def, const char *value);
	const char *key;  /* apply_key(), apply_fixed() */
	const char *text; /* the fixed value, or the reason of apply_note(), apply_refuse() */
	const char *help; /* NULL: not in --help */
	const char *value_name;
	char letter; /* ACTION_ or LETTER_: what the first pass does with it; or 0 */
};

enum lock_wish {
	LOCK_UNSAID,
	LOCK_OFF,
	LOCK_ON,
};

struct parse {
	struct options *options;
	struct conf_load *load;
	const char *config_file; /* in found */
	char action;		 /* ACTION_, or 0: run */
	enum lock_wish posix_lock, flock;
	const char *origin; /* "--cache", "-o cache": of the option being applied */

	/* What the first pass found. */
	struct option_found {
		const struct option_def *def;
		char *value; /* owned, or NULL */
		bool inside;
	} found[OPTIONS_MAX];
	size_t count;
};

#define ACTION_HELP 'h'
#define ACTION_VERSION 'V'
#define ACTION_CAPABILITIES 'p'
#define ACTION_REFERENCE 'r'
#define ACTION_SCHEMA 's'
#define ACTION_CHECK 'c'
#define LETTER_CONFIG_FILE 'C'

extern const struct option_def option_defs[];
extern const size_t option_def_count;

/* -d */
extern const struct option_def option_debug;

/* What several options decide together, after all of them are applied. */
void options_apply_locks(struct parse *p);

#endif
