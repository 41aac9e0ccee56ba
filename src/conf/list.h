/* SPDX-License-Identifier: Apache-2.0 */
/* A list of strings, the value of a key of type CONF_PATHS. It owns them. */
#ifndef OVFS_CONF_LIST_H
#define OVFS_CONF_LIST_H

#include <stddef.h>

#define CONF_LIST_MAX 64

struct conf_list {
	char **item;
	size_t count;
};

#endif
