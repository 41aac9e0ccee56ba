/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: one value, from text or TOML into the field of its key. */
#ifndef OVFS_CONF_VALUE_H
#define OVFS_CONF_VALUE_H

#include "base/err.h"
#include "conf/schema.h"
#include "conf/toml.h"

#define CONF_EXPECTS_MAX 512

/* Both say what is wrong and what is expected; the target is then unchanged. */
struct err *conf_value_from_text(const struct conf_key *key, const char *text, void *target);
struct err *conf_value_from_toml(const struct conf_key *key, const struct toml_node *node,
				 void *target);

/* Parses one of both as a value of @key, and forgets it. */
struct err *conf_value_try(const struct conf_key *key, const struct toml_node *node,
			   const char *text);

/* The field of @key: an integer of any type but a string, or the string. */
uint64_t conf_value_integer(const struct conf_key *key, const void *target);
char **conf_value_string(const struct conf_key *key, const void *target);
struct conf_list *conf_value_list(const struct conf_key *key, const void *target);

void conf_list_clear(struct conf_list *list);

static inline bool conf_value_is_string(const struct conf_key *key)
{
	return key->type == CONF_STRING || key->type == CONF_PATH;
}

#endif
