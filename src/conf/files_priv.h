/* SPDX-License-Identifier: Apache-2.0 */
/* Inside conf/: a snapshot, for the two files that work on it. */
#ifndef OVFS_CONF_FILES_PRIV_H
#define OVFS_CONF_FILES_PRIV_H

#include "conf/files.h"

struct conf_files {
	struct conf_file **file; /* pointers: callers keep them while more are added */
	size_t count;
	bool sealed;
	char *here;
	uint64_t memory;
};

/* An empty entry at the end; NULL when there are too many, or for lack of memory. */
struct conf_file *conf_files_add(struct conf_files *files, enum conf_file_kind kind,
				 const char *path);

#endif
