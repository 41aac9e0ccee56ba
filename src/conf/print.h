/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: values in TOML's notation. */
#ifndef OVFS_CONF_PRINT_H
#define OVFS_CONF_PRINT_H

#include <stdint.h>
#include <stdio.h>

#include "conf/schema.h"

/* @text as a basic string, which the loader reads back. */
void conf_print_quoted(const char *text, FILE *out);

/* @value of @key, which is neither a string nor a list of them. */
void conf_print_value(const struct conf_key *key, uint64_t value, FILE *out);

#endif
