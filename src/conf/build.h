/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: from the sections of the files to struct ovfs_config, in two steps. */
#ifndef OVFS_CONF_BUILD_H
#define OVFS_CONF_BUILD_H

#include "conf/conf.h"
#include "conf/schema.h"

/* Makes the mounts of @config, gives each its values and a name, and looks at what has to be
 * unique among them. False for lack of memory. */
bool ovfs_config_build(struct conf_load *load, struct ovfs_config *config);

/* The section of each mount: of the top for the one without [[mount]]. */
struct conf_section *ovfs_section_first(struct conf_load *load);

#endif
