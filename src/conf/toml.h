/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TOML text to a C tree: the one door to toml++, which is C++ (toml.cpp). No
 * exception passes it, and what it builds is bounded: TOML_TEXT_MAX bytes of
 * text, TOML_DEPTH_MAX levels.
 *
 * The tree is one block of ownership, freed by toml_free(). Any thread.
 */
#ifndef OVFS_CONF_TOML_H
#define OVFS_CONF_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TOML_TEXT_MAX (1024 * 1024)
#define TOML_DEPTH_MAX 8

enum toml_type {
	TOML_TABLE,
	TOML_ARRAY,
	TOML_STRING,
	TOML_INTEGER,
	TOML_BOOLEAN,
	TOML_FLOAT,
	TOML_TIME, /* dates and times */
};

struct toml_node {
	struct toml_node *next;	 /* in the same table or array, in the order of toml++ */
	struct toml_node *child; /* of TOML_TABLE and TOML_ARRAY */
	char *key;		 /* NULL for the root and for elements of an array */
	char *text;		 /* of TOML_STRING; holds no NUL but the last */
	int64_t integer;	 /* of TOML_INTEGER; TOML_BOOLEAN: 0 or 1 */
	enum toml_type type;
	int line; /* of the key, or of the value when there is no key; from 1 */
	int column;
};

/*
 * Parses @len bytes of @text. On success *@out is the root table. The error
 * names no file; the line it is about (0: none) is in *@line.
 */
struct err *toml_parse(const char *text, size_t len, struct toml_node **out, int *line);

/* Accepts NULL. */
void toml_free(struct toml_node *node);

#endif
