/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls openat fstatfs name_to_handle_at open_by_handle_at close */
#include "fs/filefs/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"

/* File systems of other machines or processes that <linux/magic.h> leaves out. */
#define MAGIC_CIFS 0xff534d42u
#define MAGIC_SMB2 0xfe534d42u
#define MAGIC_LUSTRE 0x0bd00bd0u
#define MAGIC_GPFS 0x47504653u
#define MAGIC_GFS2 0x01161970u
#define MAGIC_BEEGFS 0x19830326u
#define MAGIC_PVFS2 0x20030528u
#define MAGIC_VBOX 0x786f4256u

static bool mount_magic_remote(uint32_t magic)
{
	static const uint32_t remote[] = {
		NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,  MAGIC_CIFS,	       MAGIC_SMB2,
		CEPH_SUPER_MAGIC, V9FS_MAGIC,	    AFS_SUPER_MAGIC,   AFS_FS_MAGIC,
		CODA_SUPER_MAGIC, FUSE_SUPER_MAGIC, OCFS2_SUPER_MAGIC, MAGIC_LUSTRE,
		MAGIC_GPFS,	  MAGIC_GFS2,	    MAGIC_BEEGFS,      MAGIC_PVFS2,
		MAGIC_VBOX,
	};

	for (size_t i = 0; i < ARRAY_SIZE(remote); i++)
		if (magic == remote[i])
			return true;
	return false;
}

void mounts_init(struct mounts *m, bool want_handles)
{
	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	m->want_handles = want_handles;
}

void mounts_fini(struct mounts *m)
{
	pthread_mutex_destroy(&m->lock);
}

static dev_t mount_dev(const struct statx *stx)
{
	return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

static uint64_t mount_id(const struct statx *stx)
{
	return stx->stx_mask & STATX_MNT_ID ? stx->stx_mnt_id : 0;
}

/* Whether handles of what @fd is can be made and opened again. */
static bool mount_probe_handles(int fd)
{
	union {
		struct file_handle h;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mnt_id, again;

	u.h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", &u.h, &mnt_id, AT_EMPTY_PATH) < 0)
		return false;
	again = open_by_handle_at(fd, &u.h, O_PATH | O_CLOEXEC);
	if (again < 0)
		return false;
	close(again);
	return true;
}

/* Fills in a free entry. Without the lock: the calls may wait. */
static void mount_open(struct mount *mount, bool want_handles, const struct statx *stx, int dirfd,
		       const char *name)
{
	int type = stx->stx_mode & S_IFMT;
	struct statfs sfs;

	mount->mnt_id = mount_id(stx);
	mount->dev = mount_dev(stx);
	mount->fd = -1;
	mount->handles = mount->remote = mount->memory = false;
	atomic_init(&mount->nowait_broken, false);
	/* Handles are opened relative to a real descriptor, which O_PATH ones are
	 * not. Only of these two types is it safe to make one. */
	if (type == S_IFDIR || type == S_IFREG)
		mount->fd = openat(dirfd, *name ? name : ".",
				   O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fstatfs(mount->fd >= 0 ? mount->fd : dirfd, &sfs) == 0) {
		mount->remote = mount_magic_remote((uint32_t)sfs.f_type);
		mount->memory = sfs.f_type == TMPFS_MAGIC || sfs.f_type == RAMFS_MAGIC;
	}
	if (mount->fd >= 0)
		mount->handles = want_handles && mount_probe_handles(mount->fd);
}

/* Called with the lock held. An entry whose reference count is zero is free. */
static int mounts_find(struct mounts *m, const struct statx *stx)
{
	for (unsigned i = 0; i < MOUNTS_MAX; i++) {
		struct mount *mount = &m->table[i];

		if (atomic_load(&mount->refs) && mount->mnt_id == mount_id(stx) &&
		    mount->dev == mount_dev(stx))
			return (int)i;
	}
	return -ENOENT;
}

int mounts_get(struct mounts *m, unsigned near, const struct statx *stx, int dirfd,
	       const char *name)
{
	struct mount fresh;
	int index;

	if (near < MOUNTS_MAX && m->table[near].mnt_id == mount_id(stx) &&
	    m->table[near].dev == mount_dev(stx)) {
		atomic_fetch_add(&m->table[near].refs, 1);
		return (int)near;
	}
	mount_open(&fresh, m->want_handles, stx, dirfd, name);

	pthread_mutex_lock(&m->lock);
	index = mounts_find(m, stx);
	if (index < 0) {
		for (unsigned i = 0; i < MOUNTS_MAX && index < 0; i++)
			if (!atomic_load(&m->table[i].refs))
				index = (int)i;
		if (index >= 0) {
			struct mount *mount = &m->table[index];

			mount->fd = STEAL_FD(fresh.fd);
			mount->mnt_id = fresh.mnt_id;
			mount->dev = fresh.dev;
			mount->handles = fresh.handles;
			mount->memory = fresh.memory;
			atomic_store(&mount->nowait_broken, false);
			mount->remote = fresh.remote;
			if (fresh.remote)
				atomic_store(&m->any_remote, true);
		} else {
			index = -ENFILE;
		}
	}
	if (index >= 0)
		atomic_fetch_add(&m->table[index].refs, 1);
	pthread_mutex_unlock(&m->lock);
	if (fresh.fd >= 0)
		close(fresh.fd);
	return index;
}

void mounts_put(struct mounts *m, unsigned index)
{
	struct mount *mount = &m->table[index];
	int fd = -1;
	uint32_t refs = atomic_load(&mount->refs);

	/* The last reference goes only under the lock, or mounts_get() could take
	 * an entry whose descriptor we are about to close. */
	while (refs > 1)
		if (atomic_compare_exchange_weak(&mount->refs, &refs, refs - 1))
			return;
	pthread_mutex_lock(&m->lock);
	if (atomic_fetch_sub(&mount->refs, 1) == 1)
		fd = STEAL_FD(mount->fd);
	pthread_mutex_unlock(&m->lock);
	if (fd >= 0)
		close(fd);
}
