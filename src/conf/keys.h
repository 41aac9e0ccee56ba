/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: the key tables of struct ovfs_config. */
#ifndef OVFS_CONF_KEYS_H
#define OVFS_CONF_KEYS_H

#include "conf/conf.h"
#include "conf/schema.h"

extern const struct conf_table ovfs_tables[];
extern const size_t ovfs_table_count;

#endif
