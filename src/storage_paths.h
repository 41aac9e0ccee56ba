/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a storage has to see of the host's files from within the sandbox: for the
 * network, how names are resolved and whom to trust; for s3, where credentials are, in
 * folders whose files others replace.
 */
#ifndef OVFS_STORAGE_PATHS_H
#define OVFS_STORAGE_PATHS_H

#include "base/err.h"
#include "conf/conf.h"
#include "sandbox/sandbox.h"

struct storage_paths {
	struct sandbox_path *path; /* for sandbox_config.paths; all of it owned */
	size_t count;
};

/* What @config has to see, which may be nothing. See storage_paths_add(). */
struct err *storage_paths_init(struct storage_paths *paths, const struct ovfs_backend *config)
	__attribute__((warn_unused_result));

/*
 * ... and @config. Reads the environment, and sets HOME in it when it is not: who looks for the
 * home folder later, inside, finds no /etc/passwd. Only the main thread exists.
 */
struct err *storage_paths_add(struct storage_paths *paths, const struct ovfs_backend *config)
	__attribute__((warn_unused_result));

void storage_paths_destroy(struct storage_paths *paths);

#endif
