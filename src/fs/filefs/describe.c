/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of an inode, for whoever operates the daemon. Its name is not: it is known by
 * descriptor or handle only, whatever it is called by now. */
#include <sys/stat.h>

#include "fs/filefs/internal.h"

static const char *type_name(unsigned type)
{
	switch (type) {
	case S_IFDIR:
		return "directory";
	case S_IFREG:
		return "file";
	case S_IFLNK:
		return "link";
	default:
		return "special";
	}
}

bool filefs_describe(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg)
{
	struct filefs_session *s = filefs_session_of(session);
	struct inode *inode = inode_get(&s->inodes, nodeid);

	if (!inode)
		return false;
	tell(arg, "type", type_name(inode->type), 0);
	tell(arg, "ino", NULL, inode->ino);
	tell(arg, "host_mount", NULL, atomic_load(&inode->mount));
	tell(arg, "by_handle", NULL, inode->handle_len > 0);
	tell(arg, "descriptor_open", NULL, (uint32_t)atomic_load(&inode->fd_pin) != 0);
	inode_put(&s->inodes, inode);
	return true;
}
