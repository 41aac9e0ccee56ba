/* SPDX-License-Identifier: Apache-2.0 */
/* One function for each FUSE operation. See fuc.h. */
#include "fuc.h"

#include <errno.h>
#include <string.h>

/* A piece of a request's body; fuc_call only reads it. */
#define PART(p, n)                                                                                 \
	{                                                                                          \
		.iov_base = (void *)(uintptr_t)(p), .iov_len = (n)                                 \
	}
#define ARG(x) PART(&(x), sizeof(x))
#define NAME(s) PART(s, strlen(s) + 1)

/* The header of a reply to a request of zero payload. */
static int call_plain(struct fuc *f, const struct fuc_call *call)
{
	return fuc_call(f, call, NULL, 0, NULL);
}

/* For replies of any length up to `cap`: the length or the error. */
static int call_counted(struct fuc *f, const struct fuc_call *call, void *buf, size_t cap)
{
	size_t got;
	int err = fuc_call(f, call, buf, cap, &got);

	return err ? err : (int)got;
}

uint64_t fuc_default_init_flags(void)
{
	return FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT |
	       FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_FLOCK_LOCKS | FUSE_HAS_IOCTL_DIR |
	       FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
	       FUSE_WRITEBACK_CACHE | FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS |
	       FUSE_HANDLE_KILLPRIV | FUSE_POSIX_ACL | FUSE_ABORT_ERROR | FUSE_MAX_PAGES |
	       FUSE_CACHE_SYMLINKS | FUSE_NO_OPENDIR_SUPPORT | FUSE_EXPLICIT_INVAL_DATA |
	       FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT |
	       FUSE_SECURITY_CTX | FUSE_HAS_INODE_DAX | FUC_CREATE_SUPP_GROUP |
	       FUSE_HAS_EXPIRE_ONLY | FUC_DIRECT_IO_ALLOW_MMAP | FUC_HAS_RESEND | FUC_ALLOW_IDMAP;
}

int fuc_init(struct fuc *f, uint32_t minor, uint64_t flags)
{
	struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION,
		.minor = minor,
		.max_readahead = 1 << 20,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
	};
	size_t len = minor >= 36 ? sizeof(in) : FUC_INIT_IN_SHORT;
	struct fuc_call call = {
		.opcode = FUSE_INIT,
		.in = { PART(&in, len) },
		.out_cap = sizeof(f->init),
	};
	int err;

	if (minor < 36) {
		in.flags &= ~(uint32_t)FUSE_INIT_EXT;
		in.flags2 = 0;
	}
	err = fuc_call(f, &call, &f->init, sizeof(f->init), NULL);
	f->init_flags = err ? 0 : f->init.flags;
	if (f->init_flags & FUSE_INIT_EXT)
		f->init_flags |= (uint64_t)f->init.flags2 << 32;
	return err;
}

int fuc_init_default(struct fuc *f)
{
	return fuc_init(f, 45, fuc_default_init_flags());
}

int fuc_destroy(struct fuc *f)
{
	return call_plain(f, &(struct fuc_call){ .opcode = FUSE_DESTROY });
}

int fuc_lookup(struct fuc *f, uint64_t parent, const char *name, struct fuse_entry_out *e)
{
	struct fuc_call call = {
		.opcode = FUSE_LOOKUP,
		.nodeid = parent,
		.in = { NAME(name) },
		.out_cap = sizeof(*e),
	};

	return fuc_call(f, &call, e, sizeof(*e), NULL);
}

/* FORGET has no reply: done when the chain is back, unwritten. */
static int call_forget(struct fuc *f, struct fuc_call *call)
{
	struct fuc_req *r;
	int err;

	call->hiprio = true;
	call->no_reply = true;
	r = fuc_submit(f, call);
	if (!r)
		return -ENOSPC;
	err = fuc_wait(r, f->timeout_ms);
	if (r->done)
		fuc_done(r);
	return err;
}

int fuc_forget(struct fuc *f, uint64_t node, uint64_t count)
{
	struct fuse_forget_in in = { .nlookup = count };
	struct fuc_call call = { .opcode = FUSE_FORGET, .nodeid = node, .in = { ARG(in) } };

	return call_forget(f, &call);
}

int fuc_batch_forget(struct fuc *f, const struct fuse_forget_one *list, uint32_t count)
{
	struct fuse_batch_forget_in in = { .count = count };
	struct fuc_call call = {
		.opcode = FUSE_BATCH_FORGET,
		.in = { ARG(in), PART(list, count * sizeof(*list)) },
	};

	return call_forget(f, &call);
}

int fuc_getattr(struct fuc *f, uint64_t node, struct fuse_attr *attr)
{
	struct fuse_getattr_in in = { 0 };
	struct fuse_attr_out out;
	struct fuc_call call = {
		.opcode = FUSE_GETATTR,
		.nodeid = node,
		.in = { ARG(in) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (!err && attr)
		*attr = out.attr;
	return err;
}

int fuc_setattr(struct fuc *f, uint64_t node, const struct fuse_setattr_in *in,
		struct fuse_attr *attr)
{
	struct fuse_attr_out out;
	struct fuc_call call = {
		.opcode = FUSE_SETATTR,
		.nodeid = node,
		.in = { PART(in, sizeof(*in)) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (!err && attr)
		*attr = out.attr;
	return err;
}

int fuc_statx(struct fuc *f, uint64_t node, uint32_t mask, struct fuc_statx_out *out)
{
	struct fuc_statx_in in = { .sx_mask = mask };
	struct fuc_call call = {
		.opcode = FUC_STATX,
		.nodeid = node,
		.in = { ARG(in) },
		.out_cap = sizeof(*out),
	};

	return fuc_call(f, &call, out, sizeof(*out), NULL);
}

int fuc_readlink(struct fuc *f, uint64_t node, char *buf, size_t cap)
{
	struct fuc_call call = { .opcode = FUSE_READLINK, .nodeid = node, .out_cap = cap };

	return call_counted(f, &call, buf, cap);
}

/* The operations that make a name: an argument struct, one or two names, an entry. */
static int call_entry(struct fuc *f, struct fuc_call *call, struct fuse_entry_out *e)
{
	struct fuse_entry_out scrap;

	call->out_cap = sizeof(*e);
	return fuc_call(f, call, e ? e : &scrap, sizeof(*e), NULL);
}

int fuc_symlink(struct fuc *f, uint64_t parent, const char *name, const char *target,
		struct fuse_entry_out *e)
{
	struct fuc_call call = {
		.opcode = FUSE_SYMLINK,
		.nodeid = parent,
		.in = { NAME(name), NAME(target) },
	};

	return call_entry(f, &call, e);
}

int fuc_mknod(struct fuc *f, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	      struct fuse_entry_out *e)
{
	struct fuse_mknod_in in = { .mode = mode, .rdev = rdev };
	struct fuc_call call = {
		.opcode = FUSE_MKNOD,
		.nodeid = parent,
		.in = { ARG(in), NAME(name) },
	};

	return call_entry(f, &call, e);
}

int fuc_mkdir(struct fuc *f, uint64_t parent, const char *name, uint32_t mode,
	      struct fuse_entry_out *e)
{
	struct fuse_mkdir_in in = { .mode = mode };
	struct fuc_call call = {
		.opcode = FUSE_MKDIR,
		.nodeid = parent,
		.in = { ARG(in), NAME(name) },
	};

	return call_entry(f, &call, e);
}

int fuc_link(struct fuc *f, uint64_t node, uint64_t parent, const char *name,
	     struct fuse_entry_out *e)
{
	struct fuse_link_in in = { .oldnodeid = node };
	struct fuc_call call = {
		.opcode = FUSE_LINK,
		.nodeid = parent,
		.in = { ARG(in), NAME(name) },
	};

	return call_entry(f, &call, e);
}

int fuc_unlink(struct fuc *f, uint64_t parent, const char *name)
{
	return call_plain(f, &(struct fuc_call){ .opcode = FUSE_UNLINK,
						 .nodeid = parent,
						 .in = { NAME(name) } });
}

int fuc_rmdir(struct fuc *f, uint64_t parent, const char *name)
{
	return call_plain(
		f,
		&(struct fuc_call){ .opcode = FUSE_RMDIR, .nodeid = parent, .in = { NAME(name) } });
}

int fuc_rename(struct fuc *f, uint64_t from, const char *name, uint64_t to, const char *new_name)
{
	struct fuse_rename_in in = { .newdir = to };

	return call_plain(f, &(struct fuc_call){ .opcode = FUSE_RENAME,
						 .nodeid = from,
						 .in = { ARG(in), NAME(name), NAME(new_name) } });
}

int fuc_rename2(struct fuc *f, uint64_t from, const char *name, uint64_t to, const char *new_name,
		uint32_t flags)
{
	struct fuse_rename2_in in = { .newdir = to, .flags = flags };

	return call_plain(f, &(struct fuc_call){ .opcode = FUSE_RENAME2,
						 .nodeid = from,
						 .in = { ARG(in), NAME(name), NAME(new_name) } });
}

static int call_open(struct fuc *f, uint32_t opcode, uint64_t node, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = { .flags = flags };
	struct fuse_open_out out;
	struct fuc_call call = {
		.opcode = opcode,
		.nodeid = node,
		.in = { ARG(in) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (!err)
		*fh = out.fh;
	return err;
}

int fuc_open_file(struct fuc *f, uint64_t node, uint32_t flags, uint64_t *fh)
{
	return call_open(f, FUSE_OPEN, node, flags, fh);
}

int fuc_opendir(struct fuc *f, uint64_t node, uint64_t *fh)
{
	return call_open(f, FUSE_OPENDIR, node, 0, fh);
}

static int call_create(struct fuc *f, uint32_t opcode, uint64_t parent, const char *name,
		       uint32_t flags, uint32_t mode, struct fuse_entry_out *e, uint64_t *fh)
{
	struct fuse_create_in in = { .flags = flags, .mode = mode };
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct fuc_call call = {
		.opcode = opcode,
		.nodeid = parent,
		.in = { ARG(in), NAME(name) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (err)
		return err;
	if (e)
		*e = out.entry;
	*fh = out.open.fh;
	return 0;
}

int fuc_create(struct fuc *f, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
	       struct fuse_entry_out *e, uint64_t *fh)
{
	return call_create(f, FUSE_CREATE, parent, name, flags, mode, e, fh);
}

int fuc_tmpfile(struct fuc *f, uint64_t parent, uint32_t flags, uint32_t mode,
		struct fuse_entry_out *e, uint64_t *fh)
{
	/* The kernel sends the name of the dentry it made up, which means nothing. */
	return call_create(f, FUSE_TMPFILE, parent, "#1", flags, mode, e, fh);
}

static int call_read(struct fuc *f, uint32_t opcode, uint64_t node, uint64_t fh, uint64_t off,
		     void *buf, uint32_t len)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = len };
	struct fuc_call call = {
		.opcode = opcode,
		.nodeid = node,
		.in = { ARG(in) },
		.out_cap = len,
	};

	return call_counted(f, &call, buf, len);
}

int fuc_read(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, void *buf, uint32_t len)
{
	return call_read(f, FUSE_READ, node, fh, off, buf, len);
}

int fuc_readdir(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, void *buf, uint32_t len)
{
	return call_read(f, FUSE_READDIR, node, fh, off, buf, len);
}

int fuc_readdirplus(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, void *buf,
		    uint32_t len)
{
	return call_read(f, FUSE_READDIRPLUS, node, fh, off, buf, len);
}

int fuc_write(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, const void *buf,
	      uint32_t len)
{
	struct fuse_write_in in = { .fh = fh, .offset = off, .size = len };
	struct fuse_write_out out;
	struct fuc_call call = {
		.opcode = FUSE_WRITE,
		.nodeid = node,
		.in = { ARG(in), PART(buf, len) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	return err ? err : (int)out.size;
}

int fuc_flush(struct fuc *f, uint64_t node, uint64_t fh, uint64_t owner)
{
	struct fuse_flush_in in = { .fh = fh, .lock_owner = owner };

	return call_plain(
		f, &(struct fuc_call){ .opcode = FUSE_FLUSH, .nodeid = node, .in = { ARG(in) } });
}

static int call_fsync(struct fuc *f, uint32_t opcode, uint64_t node, uint64_t fh, uint32_t flags)
{
	struct fuse_fsync_in in = { .fh = fh, .fsync_flags = flags };

	return call_plain(
		f, &(struct fuc_call){ .opcode = opcode, .nodeid = node, .in = { ARG(in) } });
}

int fuc_fsync(struct fuc *f, uint64_t node, uint64_t fh, bool datasync)
{
	return call_fsync(f, FUSE_FSYNC, node, fh, datasync ? FUSE_FSYNC_FDATASYNC : 0);
}

int fuc_fsyncdir(struct fuc *f, uint64_t node, uint64_t fh)
{
	return call_fsync(f, FUSE_FSYNCDIR, node, fh, 0);
}

static int call_release(struct fuc *f, uint32_t opcode, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	return call_plain(
		f, &(struct fuc_call){ .opcode = opcode, .nodeid = node, .in = { ARG(in) } });
}

int fuc_release(struct fuc *f, uint64_t node, uint64_t fh)
{
	return call_release(f, FUSE_RELEASE, node, fh);
}

int fuc_releasedir(struct fuc *f, uint64_t node, uint64_t fh)
{
	return call_release(f, FUSE_RELEASEDIR, node, fh);
}

int fuc_statfs(struct fuc *f, uint64_t node, struct fuse_kstatfs *st)
{
	struct fuse_statfs_out out;
	struct fuc_call call = { .opcode = FUSE_STATFS, .nodeid = node, .out_cap = sizeof(out) };
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (!err)
		*st = out.st;
	return err;
}

int fuc_setxattr(struct fuc *f, uint64_t node, const char *name, const void *value, uint32_t len,
		 uint32_t flags)
{
	struct fuse_setxattr_in in = { .size = len, .flags = flags };
	/* The struct grew in 7.33, for those who agreed on it. */
	size_t in_len =
		f->init_flags & FUSE_SETXATTR_EXT ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE;

	return call_plain(
		f, &(struct fuc_call){ .opcode = FUSE_SETXATTR,
				       .nodeid = node,
				       .in = { PART(&in, in_len), NAME(name), PART(value, len) } });
}

static int call_xattr(struct fuc *f, uint32_t opcode, uint64_t node, const char *name, void *buf,
		      uint32_t cap)
{
	struct fuse_getxattr_in in = { .size = cap };
	struct fuse_getxattr_out size;
	struct fuc_call call = {
		.opcode = opcode,
		.nodeid = node,
		.in = { ARG(in) },
		.out_cap = cap ? cap : sizeof(size),
	};
	int err;

	if (name)
		call.in[1] = (struct iovec)NAME(name);
	if (cap)
		return call_counted(f, &call, buf, cap);
	err = fuc_call(f, &call, &size, sizeof(size), NULL);
	return err ? err : (int)size.size;
}

int fuc_getxattr(struct fuc *f, uint64_t node, const char *name, void *buf, uint32_t cap)
{
	return call_xattr(f, FUSE_GETXATTR, node, name, buf, cap);
}

int fuc_listxattr(struct fuc *f, uint64_t node, void *buf, uint32_t cap)
{
	return call_xattr(f, FUSE_LISTXATTR, node, NULL, buf, cap);
}

int fuc_removexattr(struct fuc *f, uint64_t node, const char *name)
{
	return call_plain(f, &(struct fuc_call){ .opcode = FUSE_REMOVEXATTR,
						 .nodeid = node,
						 .in = { NAME(name) } });
}

int fuc_access(struct fuc *f, uint64_t node, uint32_t mask)
{
	struct fuse_access_in in = { .mask = mask };

	return call_plain(
		f, &(struct fuc_call){ .opcode = FUSE_ACCESS, .nodeid = node, .in = { ARG(in) } });
}

int fuc_lock(struct fuc *f, uint32_t opcode, uint64_t node, uint64_t fh, uint64_t owner,
	     struct fuse_file_lock *lk, uint32_t lk_flags)
{
	struct fuse_lk_in in = { .fh = fh, .owner = owner, .lk = *lk, .lk_flags = lk_flags };
	struct fuse_lk_out out;
	struct fuc_call call = { .opcode = opcode, .nodeid = node, .in = { ARG(in) } };
	int err;

	if (opcode != FUSE_GETLK)
		return call_plain(f, &call);
	call.out_cap = sizeof(out);
	err = fuc_call(f, &call, &out, sizeof(out), NULL);
	if (!err)
		*lk = out.lk;
	return err;
}

struct fuc_req *fuc_lock_submit(struct fuc *f, uint64_t node, uint64_t fh, uint64_t owner,
				const struct fuse_file_lock *lk, uint32_t lk_flags)
{
	struct fuse_lk_in in = { .fh = fh, .owner = owner, .lk = *lk, .lk_flags = lk_flags };

	return fuc_submit(
		f, &(struct fuc_call){ .opcode = FUSE_SETLKW, .nodeid = node, .in = { ARG(in) } });
}

int fuc_interrupt(struct fuc *f, uint64_t unique)
{
	struct fuse_interrupt_in in = { .unique = unique };
	struct fuc_call call = { .opcode = FUSE_INTERRUPT, .in = { ARG(in) } };

	return call_forget(f, &call);
}

int fuc_fallocate(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, uint64_t len,
		  uint32_t mode)
{
	struct fuse_fallocate_in in = { .fh = fh, .offset = off, .length = len, .mode = mode };

	return call_plain(f, &(struct fuc_call){
				     .opcode = FUSE_FALLOCATE, .nodeid = node, .in = { ARG(in) } });
}

int fuc_lseek(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, uint32_t whence,
	      uint64_t *result)
{
	struct fuse_lseek_in in = { .fh = fh, .offset = off, .whence = whence };
	struct fuse_lseek_out out;
	struct fuc_call call = {
		.opcode = FUSE_LSEEK,
		.nodeid = node,
		.in = { ARG(in) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (!err)
		*result = out.offset;
	return err;
}

int fuc_copy_file_range(struct fuc *f, uint32_t opcode, const struct fuse_copy_file_range_in *in,
			uint64_t node_in, uint64_t *copied)
{
	/* The old opcode answers with a 32-bit count and padding, the new one with 64 bits. */
	struct fuc_copy_file_range_out out = { 0 };
	struct fuc_call call = {
		.opcode = opcode,
		.nodeid = node_in,
		.in = { PART(in, sizeof(*in)) },
		.out_cap = sizeof(out),
	};
	int err = fuc_call(f, &call, &out, sizeof(out), NULL);

	if (!err)
		*copied = opcode == FUSE_COPY_FILE_RANGE ? (uint32_t)out.bytes_copied
							 : out.bytes_copied;
	return err;
}

int fuc_syncfs(struct fuc *f, uint64_t node)
{
	struct fuse_syncfs_in in = { 0 };

	return call_plain(
		f, &(struct fuc_call){ .opcode = FUSE_SYNCFS, .nodeid = node, .in = { ARG(in) } });
}

int fuc_map(struct fuc *f, uint64_t node, uint64_t offset, uint64_t len, uint64_t flags,
	    uint64_t window_offset)
{
	/* As Linux does it: no handle. */
	struct fuse_setupmapping_in in = { .fh = UINT64_MAX,
					   .foffset = offset,
					   .len = len,
					   .flags = flags,
					   .moffset = window_offset };
	struct fuc_call call = { .opcode = FUSE_SETUPMAPPING, .nodeid = node, .in = { ARG(in) } };

	return call_plain(f, &call);
}

int fuc_unmap_list(struct fuc *f, uint64_t node, const struct fuse_removemapping_one *list,
		   uint32_t count)
{
	struct fuse_removemapping_in in = { .count = count };
	struct fuc_call call = {
		.opcode = FUSE_REMOVEMAPPING,
		.nodeid = node,
		.in = { ARG(in), PART(list, count * sizeof(*list)) },
	};

	return call_plain(f, &call);
}

int fuc_unmap(struct fuc *f, uint64_t node, uint64_t window_offset, uint64_t len)
{
	const struct fuse_removemapping_one one = { .moffset = window_offset, .len = len };

	return fuc_unmap_list(f, node, &one, 1);
}
