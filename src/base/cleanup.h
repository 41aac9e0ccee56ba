/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound release of resources (gcc's and clang's cleanup attribute).
 *
 *	CLEANUP_FREE char *path = xstrdup(...);
 *	CLEANUP_CLOSE int fd = open(...);
 *
 * To hand the resource on, return STEAL_PTR(path) or STEAL_FD(fd).
 */
#ifndef OVFS_BASE_CLEANUP_H
#define OVFS_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *pp)
{
	free(*(void **)pp);
}

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline int cleanup_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_CLOSE __attribute__((cleanup(cleanup_close)))

#define STEAL_FD(fd) cleanup_steal_fd(&(fd))
#define STEAL_PTR(p)                                                                               \
	({                                                                                         \
		__typeof__(p) stolen_ = (p);                                                       \
		(p) = NULL;                                                                        \
		stolen_;                                                                           \
	})

#endif
