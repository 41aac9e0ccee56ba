/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system driver interface: what a storage has to do for a guest.
 *
 *	struct fs		one storage, shared by every guest that mounts it
 *	struct fs_session	one guest's view of it: its nodeids and handles,
 *				from FUSE_INIT to FUSE_DESTROY or disconnection
 *	struct fs_req		one FUSE request, decoded and checked
 *
 * The vocabulary is FUSE's: a driver has a table of functions indexed by
 * opcode and receives the kernel's own argument structures, copied out of
 * guest memory. It fills req->out or req->reply and returns the outcome; it
 * never sees the wire format of a reply. The FUSE layer (src/fuse) is the only
 * caller and the only writer of replies.
 *
 * Outcome of an operation (ssize_t):
 *	>= 0		success. For READ, READDIR(PLUS), READLINK, LISTXATTR and
 *			GETXATTR with a size: the bytes put into req->reply. For
 *			WRITE and COPY_FILE_RANGE(_64): the bytes accepted.
 *			Otherwise 0.
 *	-errno		the guest gets this errno
 *	FS_PENDING	later: the driver calls fs_req_complete() exactly once, from
 *			any thread; from that moment the request is not its own
 * The request, with all memory it points to, is valid until it is completed
 * or the function returned an outcome other than FS_PENDING.
 *
 * FORGET and BATCH_FORGET never return FS_PENDING.
 *
 * Nodeids of a driver stay below 2^56: joinfs marks in the bits above whose they are.
 *
 * Threads: operations are called on queue threads, several at once for one
 * session. A function that may block hands the request to a worker pool and
 * returns FS_PENDING (decide by what the storage is, not by guesswork).
 */
#ifndef OVFS_FS_FS_H
#define OVFS_FS_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/iov.h"
#include "base/span.h"
#include "base/workers.h"
#include "fs/fuse_abi.h"

#define FS_PENDING ((ssize_t)INT32_MIN)

/* Bytes that a driver may keep in a request of its own. */
#define FS_REQ_DRIVER_SIZE 256

struct fs_session;

union fs_in {
	struct fuse_forget_in forget;
	struct fuse_getattr_in getattr;
	struct fuse_setattr_in setattr;
	struct fuse_mknod_in mknod;
	struct fuse_mkdir_in mkdir;
	struct fuse_rename2_in rename; /* RENAME too: flags are 0 */
	struct fuse_link_in link;
	struct fuse_open_in open;     /* OPEN and OPENDIR */
	struct fuse_create_in create; /* CREATE and TMPFILE */
	struct fuse_read_in read;     /* READ, READDIR, READDIRPLUS */
	struct fuse_write_in write;
	struct fuse_release_in release; /* RELEASE and RELEASEDIR */
	struct fuse_flush_in flush;
	struct fuse_fsync_in fsync; /* FSYNC and FSYNCDIR */
	struct fuse_setxattr_in setxattr;
	struct fuse_getxattr_in getxattr; /* GETXATTR and LISTXATTR */
	struct fuse_access_in access;
	struct fuse_lk_in lk; /* GETLK, SETLK, SETLKW */
	struct fuse_fallocate_in fallocate;
	struct fuse_lseek_in lseek;
	struct fuse_copy_file_range_in copy_file_range; /* both widths */
	struct fuse_batch_forget_in batch_forget;
	struct fuse_syncfs_in syncfs;
	struct fuse_statx_in statx;
	struct fuse_setupmapping_in setupmapping;   /* the FUSE layer's: no driver sees it */
	struct fuse_removemapping_in removemapping; /* likewise */
};

union fs_out {
	struct { /* CREATE and TMPFILE use both, in this order on the wire */
		struct fuse_entry_out entry; /* LOOKUP, MKNOD, MKDIR, SYMLINK, LINK too */
		struct fuse_open_out open;   /* OPEN and OPENDIR too */
	};
	struct fuse_attr_out attr; /* GETATTR, SETATTR */
	struct fuse_kstatfs statfs;
	struct fuse_lk_out lk;
	struct fuse_lseek_out lseek;
	struct fuse_statx_out statx;
	uint32_t xattr_size; /* GETXATTR and LISTXATTR asked with size 0 */
};

struct fs_req {
	uint32_t opcode; /* enum fuse_opcode, < FUSE_OPCODE_COUNT */
	uint32_t uid, gid, pid;
	uint64_t unique;
	uint64_t nodeid;
	union fs_in in;

	/* Copied out of guest memory and checked: NUL-terminated, at most NAME_MAX
	 * bytes, not empty, no '/', neither "." nor ".." (LOOKUP may ask for
	 * those two only with export support, which we do not offer). xattr names:
	 * at most XATTR_NAME_MAX. SYMLINK: name is the new entry, target the text of
	 * the link (at most PATH_MAX - 1 bytes). RENAME, RENAME2: newname. NULL for an
	 * operation that has none; TMPFILE is one (what the kernel sends is "/"). */
	const char *name;
	union {
		const char *newname;
		const char *target;
	};

	/* A single supplementary group of the caller (FUSE_EXT_GROUPS): the group of
	 * the parent directory, to be used when the entry is created. */
	bool has_supp_group;
	uint32_t supp_group;

	/* Payload in guest memory: WRITE exactly in.write.size bytes, SETXATTR
	 * exactly in.setxattr.size, BATCH_FORGET exactly count fuse_forget_one. */
	struct iov_cursor data;

	/* All zero on entry, as far as it is the reply of this operation. */
	union fs_out out;

	/* Guest memory for READ, READDIR(PLUS), READLINK, GETXATTR, LISTXATTR: at
	 * least reply_size bytes, which is what the guest asked for (READLINK: what
	 * it has room for). */
	struct iov_cursor reply;
	size_t reply_size;

	/* Set by the caller of fs_submit(). The tag is or-ed into nodeids, and xor-ed into inode
	 * numbers, of entries of READDIR and READDIRPLUS; 0 but in a driver below another. */
	void (*complete)(struct fs_req *req, ssize_t result);
	uint64_t nodeid_tag;

	/* Of a driver that hands the request to another one (joinfs): how it gets it back. */
	struct {
		void (*complete)(struct fs_req *req, ssize_t result);
		void *ctx, *arg;
	} outer;
	struct span span; /* begun by it */

	/* The driver's, from fs_submit() until completion. @driver is not cleared. */
	struct fs_session *session;
	struct work work;
	_Alignas(16) unsigned char driver[FS_REQ_DRIVER_SIZE];
};

typedef ssize_t fs_op_fn(struct fs_session *session, struct fs_req *req);

/* What FUSE_INIT agreed on. */
struct fs_negotiated {
	uint32_t minor;
	uint64_t flags; /* FUSE_INIT's two flag words as one */
	uint32_t max_write;
};

struct fs {
	const struct fs_ops *ops;
};

struct fs_session {
	struct fs *fs;
	bool inode_dax; /* regular files are marked FUSE_ATTR_DAX; the FUSE layer's */
};

/*
 * A file whose content is put into the guest's window (fuse/window.h), between open() and
 * close().
 */
struct fs_window_share {
	const struct fs *fs; /* NULL: nobody knows */
	uint64_t number[2];
};

struct fs_window_file {
	struct fs *fs; /* whose functions are for it, all but open() */
	uint64_t nodeid;
	int fd;	       /* whose ranges can be mapped as they are; -1: only copies */
	bool writable; /* fd is open for writing, and what is written to the memory counts */
	uint64_t size; /* bytes, at open() */
	uint64_t priv; /* the driver's */
	/* Equal for two files that are open at the same time: they have the same bytes, and
	 * writable says what their guests may do. */
	struct fs_window_share share;
};

/*
 * What a driver does for the window. All of them on threads that may block, several at once;
 * negative errno.
 */
struct fs_window_ops {
	/* @write: the guest wants to write to it; -EROFS, -EACCES, ... if it may not. Without
	 * @write, a file that could be written to is better opened so: a front end cannot
	 * exchange a mapping under the guest's hands when it does want to. */
	int (*open)(struct fs_session *session, uint64_t nodeid, bool write,
		    struct fs_window_file *file);
	/* May come after the end of the session. */
	void (*close)(struct fs_window_file *file);
	/* Takes the memory of @length bytes out of a budget, until close(). -ENOMEM. NULL: there
	 * is none. */
	int (*reserve)(struct fs_window_file *file, uint64_t length);
	/* A guest has opened the file anew: what is read from now on is of the version that it
	 * opened; share may change. NULL: a file has no versions. */
	void (*reopened)(struct fs_window_file *file);
	/* Says the same number, and not 0, at two times: the content was the same all the
	 * time between. NULL: nobody knows. */
	uint64_t (*version)(struct fs_window_file *file);
	/* Bytes read, less than @size at the end of the file only. */
	ssize_t (*read)(struct fs_window_file *file, void *buf, size_t size, uint64_t offset);
	/* Bytes written; what lies beyond the end of the file is left out. */
	ssize_t (*write)(struct fs_window_file *file, const void *buf, size_t size,
			 uint64_t offset);
};

/* A fact about a node: a text, or when that is NULL a number. */
typedef void fs_tell_fn(void *arg, const char *name, const char *text, uint64_t number);

struct fs_ops {
	const char *name;

	/* A guest's kernel sends no SYNCFS when it unmounts. With this, its DESTROY is made
	 * one for the driver, which may hold data back, and answered when that has ended. */
	bool sync_at_unmount;

	/* NULL: no windows. */
	const struct fs_window_ops *window;

	/* FUSE_INIT flags (of both words) that this driver can honour. */
	uint64_t (*init_flags)(const struct fs *fs);

	/* A guest said INIT. NULL for lack of memory. Queue thread. */
	struct fs_session *(*session_new)(struct fs *fs, const struct fs_negotiated *negotiated);

	/* The guest is gone, all its requests are completed: drops every nodeid and
	 * handle. Any thread; it may be called inside the fs_req_complete() of the
	 * last request, so nobody touches the session after that. */
	void (*session_free)(struct fs_session *session);

	/* Completes, soon, the waiting requests (locks) with the given unique, or all
	 * when @unique is 0, with -EINTR. May find none. Any thread. */
	void (*session_interrupt)(struct fs_session *session, uint64_t unique);

	/* Tells what is known of a node, without asking anybody; false: it is not known. Any
	 * thread; does not block but for locks that are held for moments. NULL: tells nothing. */
	bool (*describe)(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg);

	/* NULL entries are ENOSYS to the guest. */
	fs_op_fn *op[FUSE_OPCODE_COUNT];

	/* From now on changes are EROFS, or are not. Any thread. NULL: it is neither. */
	void (*set_readonly)(struct fs *fs, bool readonly);

	/* All sessions are gone. */
	void (*free)(struct fs *fs);
};

/*
 * Runs one request: the one way into a driver. Completion goes to
 * req->complete, possibly before this returns.
 */
void fs_submit(struct fs_session *session, struct fs_req *req);

/* Ends a request for which an operation returned FS_PENDING. Any thread. */
void fs_req_complete(struct fs_req *req, ssize_t result);

/* Has @run go on with the request on one of @workers: it begins with fs_req_resume(). */
void fs_req_defer(struct fs_req *req, struct workers *workers, void (*run)(struct work *work));

/* The request of @work, which this thread now works on. */
struct fs_req *fs_req_resume(struct work *work);

/*
 * Appends one entry to the reply of READDIR. @offset is the cookie of the
 * entry after it; @type a DT_ value. Returns false, and leaves the reply as
 * it is, when there is no room. *@used counts the bytes in the reply so far.
 */
bool fs_dirent_add(struct fs_req *req, size_t *used, uint64_t ino, uint64_t offset, uint32_t type,
		   const char *name, size_t namelen);

/* The same for READDIRPLUS; @entry->nodeid 0 means "not looked up". */
bool fs_direntplus_add(struct fs_req *req, size_t *used, const struct fuse_entry_out *entry,
		       uint64_t ino, uint64_t offset, uint32_t type, const char *name,
		       size_t namelen);

/* Marks what the guest may map through its window; @attr is about to be sent to it. */
static inline void fs_attr_mark(const struct fs_session *session, struct fuse_attr *attr)
{
	if (session->inode_dax && S_ISREG(attr->mode))
		attr->flags |= FUSE_ATTR_DAX;
}

/* Room that an entry with a name of @namelen bytes takes. */
size_t fs_dirent_size(size_t namelen);
size_t fs_direntplus_size(size_t namelen);

#endif
