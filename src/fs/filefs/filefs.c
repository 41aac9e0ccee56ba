/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 * ===================
 *
 * A request comes with numbers that the guest was given (nodeids, file
 * handles) and names of single path components. Nothing is ever opened by a path
 * of more than one component, no symlink is followed, and what a number
 * means is decided by a table of ours (slots.c), so a guest reaches what it could
 * walk to from the shared directory and nothing else.
 *
 * Inodes (inode.c, inode_fd.c). LOOKUP finds out which inode a name is now and
 * gives the guest a nodeid for it, the same one as long as the guest remembers
 * it. An inode is identified by mount, number and, since numbers are used again,
 * by one of: it is open (then its number cannot be another's), its time of
 * birth, its file handle. It is reached by file handle; the kernel then knows
 * which inode is meant wherever it was moved or however many names it has, and we
 * need no descriptor for it. Descriptors (O_PATH) of directories in use and other busy
 * inodes are kept in a ring with a clock hand. Where handles cannot be had (no
 * CAP_DAC_READ_SEARCH in the initial user namespace, or a file system
 * without them) each inode holds an O_PATH descriptor instead, up to the mount's limit;
 * beyond it the guest gets ENFILE.
 *
 * Descriptors. fd_limit bounds what a mount uses: the ring's share is set aside when a
 * session starts (half of it, at most CACHE_FDS_MAX), open files, lock owners and
 * inodes without handles each take one while they are there, and a request that
 * finds none left fails with ENFILE and a line in the log. Not counted: one for each
 * host mount in use, and the few that a request opens and closes again. A cached
 * descriptor keeps a file alive that somebody else on the host removes, until the guest forgets it
 * or the hand passes; what the guest removes itself, it forgets.
 *
 * Open files (handle.c, open.c). A real descriptor each, opened from the
 * inode's handle or through /proc/self/fd, only after it is known that the inode
 * is a regular file or a directory: opening a device or a FIFO has effects, and a guest's
 * kernel does that itself. We never answer OPEN with ENOSYS to let the guest do
 * without (NO_OPEN_SUPPORT, NO_OPENDIR_SUPPORT): an unlinked open file exists only
 * by its descriptor, O_APPEND is a property of it, and a directory's
 * cookies need not mean anything to another descriptor of it.
 *
 * Threads. Operations run on the queue's thread when the file system is a local one and
 * the operation does not wait for a device by its nature (table below); READ asks
 * for cached data only, first. Everything else, and everything on remote
 * file systems, goes to the workers. A lock that must be waited for
 * occupies neither (lock.c).
 *
 * Identity (creds.c). The guest's kernel has checked permissions
 * (default_permissions); we act as root, except that entries are made with the
 * caller's uid, gid and group, so that the host's rules for new files apply
 * (set-gid directories, quotas, ACLs). Set-id bits go as FUSE_HANDLE_KILLPRIV_V2
 * says, by acting without CAP_FSETID.
 *
 * What a system call costs is the measure: on warm paths GETATTR, LOOKUP of a
 * known name, READ, WRITE and RELEASE take one, LOOKUP of a new name and OPEN
 * two, CREATE three and what the caller's identity takes.
 */
/* #syscalls openat statx fcntl getrlimit prlimit64 geteuid close */
#include "fs/filefs/filefs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

/* Descriptors for the rest of the process, when the limit is RLIMIT_NOFILE's. */
#define FDS_RESERVED 256u
#define FDS_MIN 64u
#define CACHE_FDS_MAX 16384u
#define CACHE_FDS_MIN 16u

enum {
	OP_CHANGES = 1 << 0, /* EROFS when readonly */
	OP_DEVICE = 1 << 1,  /* waits for a device: a worker, unless there is none */
	OP_LONG = 1 << 2,    /* takes long even in memory, unless it is short: a worker */
	OP_NEVER = 1 << 3,   /* touches no file system: never a worker */
	OP_DATA = 1 << 4,    /* waits for the data of one file: a worker of the cache's */
};

struct filefs_op {
	filefs_op_fn *run;
	filefs_op_fn *run_blocking; /* on a worker; NULL for the same */
	unsigned flags;
};

static const struct filefs_op filefs_op_table[FUSE_OPCODE_COUNT] = {
	[FUSE_LOOKUP] = { filefs_lookup },
	[FUSE_FORGET] = { filefs_forget, .flags = OP_NEVER },
	[FUSE_BATCH_FORGET] = { filefs_batch_forget, .flags = OP_NEVER },
	[FUSE_GETATTR] = { filefs_getattr },
	[FUSE_SETATTR] = { filefs_setattr, .flags = OP_CHANGES },
	[FUSE_READLINK] = { filefs_readlink },
	[FUSE_SYMLINK] = { filefs_symlink, .flags = OP_CHANGES },
	[FUSE_MKNOD] = { filefs_mknod, .flags = OP_CHANGES },
	[FUSE_MKDIR] = { filefs_mkdir, .flags = OP_CHANGES },
	[FUSE_UNLINK] = { filefs_unlink, .flags = OP_CHANGES },
	[FUSE_RMDIR] = { filefs_rmdir, .flags = OP_CHANGES },
	[FUSE_RENAME] = { filefs_rename, .flags = OP_CHANGES },
	[FUSE_RENAME2] = { filefs_rename, .flags = OP_CHANGES },
	[FUSE_LINK] = { filefs_link, .flags = OP_CHANGES },
	[FUSE_OPEN] = { filefs_open },
	[FUSE_CREATE] = { filefs_create, .flags = OP_CHANGES },
	[FUSE_TMPFILE] = { filefs_tmpfile, .flags = OP_CHANGES },
	[FUSE_READ] = { filefs_read, filefs_read_blocking, OP_NEVER },
	[FUSE_WRITE] = { filefs_write, filefs_write_blocking, OP_CHANGES | OP_NEVER },
	[FUSE_FLUSH] = { filefs_flush },
	[FUSE_FSYNC] = { filefs_fsync, .flags = OP_DEVICE },
	[FUSE_FSYNCDIR] = { filefs_fsync, .flags = OP_DEVICE },
	[FUSE_RELEASE] = { filefs_release },
	[FUSE_OPENDIR] = { filefs_opendir },
	[FUSE_READDIR] = { filefs_readdir },
	[FUSE_READDIRPLUS] = { filefs_readdirplus },
	[FUSE_RELEASEDIR] = { filefs_releasedir },
	[FUSE_STATFS] = { filefs_statfs },
	[FUSE_STATX] = { filefs_statx },
	[FUSE_SETXATTR] = { filefs_setxattr, .flags = OP_CHANGES },
	[FUSE_GETXATTR] = { filefs_getxattr },
	[FUSE_LISTXATTR] = { filefs_listxattr },
	[FUSE_REMOVEXATTR] = { filefs_removexattr, .flags = OP_CHANGES },
	/* ACCESS is left out, so ENOSYS: default_permissions has the guest's kernel
	 * check, which knows all groups of the caller as we do not. */
	[FUSE_GETLK] = { filefs_getlk },
	[FUSE_SETLK] = { filefs_setlk },
	[FUSE_SETLKW] = { filefs_setlkw },
	[FUSE_FALLOCATE] = { filefs_fallocate, .flags = OP_CHANGES | OP_LONG },
	[FUSE_LSEEK] = { filefs_lseek },
	[FUSE_COPY_FILE_RANGE] = { filefs_copy_file_range, .flags = OP_CHANGES | OP_LONG },
	[FUSE_COPY_FILE_RANGE_64] = { filefs_copy_file_range, .flags = OP_CHANGES | OP_LONG },
	[FUSE_SYNCFS] = { filefs_syncfs, .flags = OP_DEVICE },
};

/* With a cache: instead of those above. */
static const struct filefs_op filefs_data_table[FUSE_OPCODE_COUNT] = {
	[FUSE_SETATTR] = { data_setattr, data_setattr_blocking, OP_CHANGES | OP_DATA },
	[FUSE_OPEN] = { data_open, data_open_blocking },
	[FUSE_CREATE] = { data_create, data_create_blocking, OP_CHANGES },
	[FUSE_TMPFILE] = { data_tmpfile, .flags = OP_CHANGES },
	[FUSE_READ] = { data_read, data_read_blocking, OP_NEVER | OP_DATA },
	[FUSE_WRITE] = { data_write, data_write_blocking, OP_CHANGES | OP_NEVER | OP_DATA },
	[FUSE_FLUSH] = { data_flush, data_flush_blocking, OP_NEVER | OP_DATA },
	[FUSE_FSYNC] = { data_fsync, data_fsync_blocking, OP_DEVICE | OP_DATA },
	[FUSE_SETLK] = { data_setlk, data_setlk_blocking, OP_DATA },
	[FUSE_SETLKW] = { data_setlkw, data_setlkw_blocking, OP_DATA },
	[FUSE_FALLOCATE] = { data_fallocate, data_fallocate_blocking, OP_CHANGES | OP_DATA },
	[FUSE_LSEEK] = { data_lseek, data_lseek_blocking, OP_DATA },
	[FUSE_COPY_FILE_RANGE] = { data_copy_file_range, data_copy_file_range_blocking,
				   OP_CHANGES | OP_DATA },
	[FUSE_COPY_FILE_RANGE_64] = { data_copy_file_range, data_copy_file_range_blocking,
				      OP_CHANGES | OP_DATA },
	[FUSE_SYNCFS] = { data_syncfs, data_syncfs_blocking, OP_NEVER | OP_DATA },
};

static const struct filefs_op *filefs_op_cached(uint32_t opcode)
{
	const struct filefs_op *op = &filefs_data_table[opcode];

	return op->run ? op : &filefs_op_table[opcode];
}

static const struct filefs_op *filefs_op_of(const struct filefs_session *s, uint32_t opcode)
{
	return filefs_of(s)->data ? filefs_op_cached(opcode) : &filefs_op_table[opcode];
}

bool filefs_fd_take(struct filefs *fs)
{
	if (atomic_fetch_add(&fs->fds, 1) < fs->fd_limit)
		return true;
	atomic_fetch_sub(&fs->fds, 1);
	log_limited(&fs->fd_log, LOG_LEVEL_WARN, "fd_limit_reached", "limit=%u", fs->fd_limit);
	return false;
}

void filefs_fd_release(struct filefs *fs)
{
	atomic_fetch_sub(&fs->fds, 1);
}

static void filefs_work_run(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);
	struct filefs_session *s = filefs_session_of(req->session);
	const struct filefs_op *op = filefs_op_of(s, req->opcode);
	filefs_op_fn *run = op->run_blocking ? op->run_blocking : op->run;
	ssize_t result;

	if (filefs_of(s)->data)
		data_begin();
	result = run(s, req);

	if (result != FS_PENDING)
		fs_req_complete(req, result);
}

ssize_t filefs_defer(struct filefs_session *s, struct fs_req *req)
{
	struct filefs *fs = filefs_of(s);
	struct workers *workers = fs->workers;

	if (fs->data && (filefs_op_cached(req->opcode)->flags & OP_DATA))
		workers = fs->data->io;
	fs_req_defer(req, workers, filefs_work_run);
	return FS_PENDING;
}

/* The mount that @nodeid lies on. Without a reference, so only a hint. */
static const struct mount *filefs_mount_hint(struct filefs_session *s, uint64_t nodeid)
{
	const struct inode *inode = slot_peek(&s->inodes.slots, (uint32_t)nodeid);

	return &filefs_of(s)->mounts.table[inode ? atomic_load(&inode->mount) : 0];
}

/* What is copied or filled in memory in less time than a worker takes to wake up. */
#define SHORT_BYTES (256u << 10)

static bool filefs_op_short(const struct filefs_session *s, const struct fs_req *req)
{
	/* The other file of a copy may lie anywhere. */
	if (atomic_load(&filefs_of(s)->mounts.any_remote))
		return false;
	if (req->opcode == FUSE_FALLOCATE)
		return req->in.fallocate.length <= SHORT_BYTES;
	return req->in.copy_file_range.len <= SHORT_BYTES;
}

/* Whether @req may hold up the thread that brought it. */
static bool filefs_op_waits(struct filefs_session *s, const struct fs_req *req, unsigned flags)
{
	const struct mount *mount;

	if (flags & OP_NEVER)
		return false;
	/* Cutting a file gives its blocks back, which may take a device. */
	if ((req->opcode == FUSE_SETATTR && (req->in.setattr.valid & FATTR_SIZE)) ||
	    (req->opcode == FUSE_OPEN && (req->in.open.flags & O_TRUNC)))
		flags |= OP_DEVICE;
	if (flags & OP_LONG) {
		if (!filefs_op_short(s, req))
			return true;
		flags |= OP_DEVICE;
	}
	if (!(flags & OP_DEVICE) && !atomic_load(&filefs_of(s)->mounts.any_remote))
		return false;
	mount = filefs_mount_hint(s, req->nodeid);
	return mount->remote || ((flags & OP_DEVICE) && !mount->memory);
}

static ssize_t filefs_dispatch_op(struct filefs_session *s, struct fs_req *req,
				  const struct filefs_op *op)
{
	if (!op->run)
		return -ENOSYS;
	if ((op->flags & OP_CHANGES) && filefs_of(s)->config.readonly)
		return -EROFS;
	if (filefs_op_waits(s, req, op->flags))
		return filefs_defer(s, req);
	return op->run(s, req);
}

static ssize_t filefs_dispatch(struct fs_session *session, struct fs_req *req)
{
	return filefs_dispatch_op(filefs_session_of(session), req, &filefs_op_table[req->opcode]);
}

static ssize_t filefs_dispatch_cached(struct fs_session *session, struct fs_req *req)
{
	data_begin();
	return filefs_dispatch_op(filefs_session_of(session), req, filefs_op_cached(req->opcode));
}

static uint64_t filefs_init_flags(const struct fs *base)
{
	const struct filefs *fs = container_of(base, struct filefs, fs);
	const struct filefs_config *c = &fs->config;
	uint64_t flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_ASYNC_DIO |
			 FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT |
			 FUSE_CREATE_SUPP_GROUP | FUSE_DIRECT_IO_ALLOW_MMAP | FUSE_ALLOW_IDMAP;

	if (c->cache == FILEFS_CACHE_AUTO || c->cache == FILEFS_CACHE_METADATA)
		flags |= FUSE_AUTO_INVAL_DATA;
	/* The text of a symlink never changes; another text is another inode. */
	if (c->cache != FILEFS_CACHE_NEVER)
		flags |= FUSE_CACHE_SYMLINKS;
	if (c->writeback && (c->cache == FILEFS_CACHE_AUTO || c->cache == FILEFS_CACHE_ALWAYS))
		flags |= FUSE_WRITEBACK_CACHE;
	/* With ACLs it is the host that decides whether the umask or the directory's default
	 * ACL applies, so it has to get the mode unmasked. */
	if (c->posix_acl && c->xattr)
		flags |= FUSE_POSIX_ACL | FUSE_DONT_MASK;
	if (c->posix_locks)
		flags |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	if (c->announce_submounts)
		flags |= FUSE_SUBMOUNTS;
	if (c->readdirplus)
		flags |= FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;
	return flags;
}

/* Makes the shared directory inode 1 of the session. */
static int filefs_session_root(struct filefs_session *s)
{
	struct filefs *fs = filefs_of(s);
	struct inode_key key = { .type = S_IFDIR };
	struct statx stx;
	uint64_t nodeid;
	int fd, ret;

	ret = filefs_stat_fd(fs->root_fd, &stx);
	if (ret < 0)
		return ret;
	ret = mounts_get(&fs->mounts, MOUNTS_MAX, &stx, fs->root_fd, "");
	if (ret < 0)
		return ret;
	key.mount = (uint32_t)ret;
	key.ino = stx.stx_ino;
	fd = fcntl(fs->root_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		ret = -errno;
		mounts_put(&fs->mounts, key.mount);
		return ret;
	}
	ret = inode_add(&s->inodes, &key, fd, true, &nodeid, &s->root);
	if (ret == 0 && nodeid != FUSE_ROOT_ID)
		ret = -EINVAL;
	return ret;
}

static void filefs_session_free(struct fs_session *session)
{
	struct filefs_session *s = filefs_session_of(session);
	struct filefs *fs = filefs_of(s);

	locks_forget(s);
	filefs_handles_fini(s);
	filefs_dirs_fini(s);
	lock_table_fini(s);
	atomic_fetch_sub(&fs->fds, s->inodes.ring_size);
	inode_table_fini(&s->inodes);
	free(s);
}

static struct fs_session *filefs_session_new(struct fs *base, const struct fs_negotiated *n)
{
	struct filefs *fs = container_of(base, struct filefs, fs);
	struct filefs_session *s = calloc(1, sizeof(*s));
	unsigned taken = atomic_load(&fs->fds), ring;
	int ret;

	if (!s)
		return NULL;
	s->session.fs = base;
	s->flags = n->flags;
	s->writeback = n->flags & FUSE_WRITEBACK_CACHE;
	slots_init(&s->handles, sizeof(struct handle), HANDLES_MAX);
	filefs_dirs_init(s);
	lock_table_init(&s->lock_owners);
	ring = taken < fs->fd_limit ? MIN(fs->cache_fds, (fs->fd_limit - taken) / 2) : 0;
	ring = MAX(ring, CACHE_FDS_MIN);
	atomic_fetch_add(&fs->fds, ring);
	ret = inode_table_init(&s->inodes, fs, ring);
	if (ret == 0)
		ret = filefs_session_root(s);
	if (ret < 0) {
		log_error("session_failed", "error=\"%s\"", strerror(-ret));
		filefs_session_free(&s->session);
		return NULL;
	}
	return &s->session;
}

static void filefs_session_interrupt(struct fs_session *session, uint64_t unique)
{
	locks_interrupt(filefs_session_of(session), unique);
}

static void filefs_set_readonly(struct fs *base, bool readonly)
{
	atomic_store(&container_of(base, struct filefs, fs)->config.readonly, readonly);
}

static void filefs_free(struct fs *base)
{
	struct filefs *fs = container_of(base, struct filefs, fs);

	if (fs->data)
		data_detach(fs);
	locks_fini(&fs->locks);
	mounts_fini(&fs->mounts);
	close(fs->root_fd);
	free(fs);
}

#define FILEFS_OPS(dispatch)                                                                       \
	.name = "filefs", .init_flags = filefs_init_flags, .session_new = filefs_session_new,      \
	.session_free = filefs_session_free, .session_interrupt = filefs_session_interrupt,        \
	.describe = filefs_describe, .op = { [0 ... FUSE_OPCODE_COUNT - 1] = (dispatch) },         \
	.set_readonly = filefs_set_readonly, .free = filefs_free

static const struct fs_ops filefs_ops = { FILEFS_OPS(filefs_dispatch),
					  .window = &filefs_window_ops };

static const struct fs_ops filefs_cached_ops = { FILEFS_OPS(filefs_dispatch_cached),
						 .window = &filefs_cached_window_ops,
						 .sync_at_unmount = true };

static unsigned filefs_fd_limit(unsigned configured)
{
	struct rlimit rl;

	if (configured)
		return MAX(configured, FDS_MIN);
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		rl.rlim_cur = 1024;
	if (rl.rlim_cur < FDS_RESERVED + FDS_MIN)
		return FDS_MIN;
	return (unsigned)MIN(rl.rlim_cur - FDS_RESERVED, (rlim_t)INT32_MAX);
}

/* Says once how inodes will be kept: it decides how many a guest may know. */
static void filefs_log_mode(const struct filefs *fs, const struct mount *mount)
{
	if (fs->config.inode_file_handles && !mount->handles)
		log_warn("file_handles_unavailable",
			 "fd_limit=%u effect=\"one descriptor for each inode\"", fs->fd_limit);
	log_debug("filefs_open", "handles=%d remote=%d fd_limit=%u", mount->handles, mount->remote,
		  fs->fd_limit);
}

struct err *filefs_new(struct fs **out, const struct filefs_config *config, int given_fd,
		       int proc_self_fd, struct workers *workers)
{
	CLEANUP_CLOSE int root_fd = given_fd;
	struct filefs *fs;
	struct statx stx;
	int path, index;

	if (filefs_stat_fd(root_fd, &stx) < 0)
		return err_errno(errno, "cannot look at the shared directory");
	if (!S_ISDIR(stx.stx_mode))
		return err_errno(ENOTDIR, "the shared directory");
	path = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (path < 0)
		return err_errno(errno, "cannot open the shared directory");
	fs = calloc(1, sizeof(*fs));
	if (!fs) {
		close(path);
		return err_errno(ENOMEM, "file storage");
	}
	fs->fs.ops = config->data ? &filefs_cached_ops : &filefs_ops;
	fs->config = *config;
	fs->workers = workers;
	fs->root_fd = path;
	fs->proc_self_fd = proc_self_fd;
	fs->root_user = geteuid() == 0;
	fs->root_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	fs->fd_limit = filefs_fd_limit(config->fd_limit);
	fs->cache_fds = MIN(fs->fd_limit / 2, CACHE_FDS_MAX);
	mounts_init(&fs->mounts, config->inode_file_handles);
	locks_init(&fs->locks);

	index = mounts_get(&fs->mounts, MOUNTS_MAX, &stx, path, "");
	if (index < 0) {
		filefs_free(&fs->fs);
		return err_errno(-index, "cannot open the shared directory");
	}
	filefs_log_mode(fs, &fs->mounts.table[index]);
	/* Every session takes a reference of its own; this one finds out now. */
	mounts_put(&fs->mounts, (unsigned)index);
	fs->data = config->data;
	*out = &fs->fs;
	return NULL;
}
