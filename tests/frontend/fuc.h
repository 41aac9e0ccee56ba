/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuc: a FUSE client over a vuc front end, for behaviour tests.
 *
 * It builds each request with a chosen layout of segments, scattered over guest
 * memory with poisoned gaps between them, and checks of every reply what the
 * protocol promises: the length in the header is the length used, `unique` is
 * the request's, an error carries no payload, nothing outside of the segments
 * was written. A broken promise is printed and returned as -EPROTO.
 *
 * Everything here belongs to one thread, the owner of the `struct vuc`. Several
 * requests may be in flight: fuc_submit, later fuc_wait.
 *
 * Results: 0 (or a count), or the negative errno out of the reply. -ETIMEDOUT
 * and -ECONNRESET come from waiting.
 */
#ifndef TESTS_FRONTEND_FUC_H
#define TESTS_FRONTEND_FUC_H

#include <sys/uio.h>

#include "fuse_ext.h"
#include "vuc.h"

#define FUC_MAX_IN 6
#define FUC_MAX_CUTS 8
#define FUC_HIPRIO 0u

/*
 * Where the bytes of a request are cut into segments: lengths of the first ones;
 * the last length repeats until the bytes are used up. All 0: one segment.
 */
struct fuc_layout {
	const char *name;
	uint32_t in[FUC_MAX_CUTS];  /* device-readable side */
	uint32_t out[FUC_MAX_CUTS]; /* device-writable side */
};

/* As Linux does it: header, arguments, pages. */
extern const struct fuc_layout fuc_layout_linux;
/* One segment each way. */
extern const struct fuc_layout fuc_layout_flat;
/* All the layouts worth trying; ends with a NULL name. */
extern const struct fuc_layout fuc_layouts[];

struct fuc_call {
	uint32_t opcode;
	uint64_t nodeid;
	struct iovec in[FUC_MAX_IN]; /* what follows the header; stops at a NULL base */
	size_t out_cap;		     /* room for a payload after the reply's header */
	unsigned int queue;	     /* 0: the default one of the client */
	bool hiprio;		     /* on queue 0 */
	bool no_reply;		     /* no device-writable segment at all */
	bool no_kick;		     /* into the ring, but tell nobody */
	/* Lies, for tests; 0 means the truth. */
	bool raw;     /* in[] begins with the header's bytes */
	bool lenient; /* no telling what `unique` the reply has, or if it is a FORGET */
	uint32_t len_field;
	uint64_t unique;
	size_t out_total; /* all device-writable bytes, instead of 16 + out_cap */
	uint16_t ext_len; /* total_extlen, in 8-byte units */
};

#define FUC_LIGHT_REPLY 512u

struct fuc_req {
	struct fuc *f;
	bool busy, done;
	unsigned int queue;
	uint64_t unique;
	struct vuc_buf arena;
	struct vuc_seg segs[VUC_MAX_SEGS];
	unsigned int nout, nin;
	size_t in_len, out_len;
	bool no_reply, lenient;
	bool blind;	   /* set by a test that took the memory away: look at nothing */
	uint32_t used_len; /* as the ring says */
	int error;	   /* of the reply's header */
	uint8_t *reply;	   /* the reply's bytes, header first, `used_len` of them */
	size_t reply_room;
};

struct fuc {
	struct vuc *c;
	struct fuc_req *reqs;
	unsigned int nreqs;
	unsigned int queue; /* for requests that do not say */
	struct fuc_layout layout;
	uint64_t next_unique;
	uint32_t uid, gid, pid;
	int timeout_ms;
	bool poll; /* spin on the ring instead of sleeping on the call eventfd */
	/* For load, not for tests: nothing is looked at but headers, and of a reply only the first
	 * FUC_LIGHT_REPLY bytes are copied out. */
	bool light;
	struct fuse_init_out init;
	uint64_t init_flags; /* both words of the reply */
	uint64_t violations; /* broken promises seen so far */
};

struct fuc_options {
	unsigned int requests; /* in flight at most; 0: 32 */
	uint64_t request_mem;  /* bytes of guest memory for each; 0: 64 KiB */
	unsigned int region;   /* to allocate from */
};

int fuc_open(struct fuc *f, struct vuc *c, const struct fuc_options *o);
void fuc_close(struct fuc *f);

/* Takes the request on its way; NULL when there is no room. Notifies the queue. */
struct fuc_req *fuc_submit(struct fuc *f, const struct fuc_call *call);
/* Waits until this one is back. 0, -ETIMEDOUT, -ECONNRESET, -EPROTO. */
int fuc_wait(struct fuc_req *r, int timeout_ms);
/* True when it is back; does not wait. */
bool fuc_test(struct fuc_req *r);
/* Payload of a finished request's reply. */
const void *fuc_payload(const struct fuc_req *r, size_t *len);
/* Gives the slot back; only for a request that is done (or whose device is gone). */
void fuc_done(struct fuc_req *r);
/* Gives all slots back after the rings were reset. */
void fuc_forget_all_requests(struct fuc *f);
/* submit + wait + copy of the payload + done. `got` may be NULL: then all of `cap` must come. */
int fuc_call(struct fuc *f, const struct fuc_call *call, void *out, size_t cap, size_t *got);

/* --- operations (fuc_ops.c) ----------------------------------------------- */

/* INIT with `minor` and 64 flag bits; remembers the reply in `f`. */
int fuc_init(struct fuc *f, uint32_t minor, uint64_t flags);
/* INIT the way a current kernel does it: 7.45 and what virtio-fs guests offer. */
int fuc_init_default(struct fuc *f);
uint64_t fuc_default_init_flags(void);
int fuc_destroy(struct fuc *f);
int fuc_lookup(struct fuc *f, uint64_t parent, const char *name, struct fuse_entry_out *e);
/* FORGET on the hiprio queue; waits until the chain is back. */
int fuc_forget(struct fuc *f, uint64_t node, uint64_t count);
int fuc_batch_forget(struct fuc *f, const struct fuse_forget_one *list, uint32_t count);
int fuc_getattr(struct fuc *f, uint64_t node, struct fuse_attr *attr);
int fuc_setattr(struct fuc *f, uint64_t node, const struct fuse_setattr_in *in,
		struct fuse_attr *attr);
int fuc_statx(struct fuc *f, uint64_t node, uint32_t mask, struct fuc_statx_out *out);
/* Returns the length of the target. */
int fuc_readlink(struct fuc *f, uint64_t node, char *buf, size_t cap);
int fuc_symlink(struct fuc *f, uint64_t parent, const char *name, const char *target,
		struct fuse_entry_out *e);
int fuc_mknod(struct fuc *f, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	      struct fuse_entry_out *e);
int fuc_mkdir(struct fuc *f, uint64_t parent, const char *name, uint32_t mode,
	      struct fuse_entry_out *e);
int fuc_unlink(struct fuc *f, uint64_t parent, const char *name);
int fuc_rmdir(struct fuc *f, uint64_t parent, const char *name);
int fuc_rename(struct fuc *f, uint64_t from, const char *name, uint64_t to, const char *new_name);
int fuc_rename2(struct fuc *f, uint64_t from, const char *name, uint64_t to, const char *new_name,
		uint32_t flags);
int fuc_link(struct fuc *f, uint64_t node, uint64_t parent, const char *name,
	     struct fuse_entry_out *e);
int fuc_open_file(struct fuc *f, uint64_t node, uint32_t flags, uint64_t *fh);
int fuc_opendir(struct fuc *f, uint64_t node, uint64_t *fh);
int fuc_create(struct fuc *f, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
	       struct fuse_entry_out *e, uint64_t *fh);
int fuc_tmpfile(struct fuc *f, uint64_t parent, uint32_t flags, uint32_t mode,
		struct fuse_entry_out *e, uint64_t *fh);
/* Bytes read or written, at most `len`. */
int fuc_read(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, void *buf, uint32_t len);
int fuc_write(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, const void *buf,
	      uint32_t len);
int fuc_flush(struct fuc *f, uint64_t node, uint64_t fh, uint64_t owner);
int fuc_fsync(struct fuc *f, uint64_t node, uint64_t fh, bool datasync);
int fuc_fsyncdir(struct fuc *f, uint64_t node, uint64_t fh);
int fuc_release(struct fuc *f, uint64_t node, uint64_t fh);
int fuc_releasedir(struct fuc *f, uint64_t node, uint64_t fh);
/* Bytes of directory entries. */
int fuc_readdir(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, void *buf, uint32_t len);
int fuc_readdirplus(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, void *buf,
		    uint32_t len);
int fuc_statfs(struct fuc *f, uint64_t node, struct fuse_kstatfs *st);
int fuc_setxattr(struct fuc *f, uint64_t node, const char *name, const void *value, uint32_t len,
		 uint32_t flags);
/* `cap` 0 asks for the size. Returns the size. */
int fuc_getxattr(struct fuc *f, uint64_t node, const char *name, void *buf, uint32_t cap);
int fuc_listxattr(struct fuc *f, uint64_t node, void *buf, uint32_t cap);
int fuc_removexattr(struct fuc *f, uint64_t node, const char *name);
int fuc_access(struct fuc *f, uint64_t node, uint32_t mask);
/* GETLK, SETLK, SETLKW; for GETLK `lk` is replaced by the answer. */
int fuc_lock(struct fuc *f, uint32_t opcode, uint64_t node, uint64_t fh, uint64_t owner,
	     struct fuse_file_lock *lk, uint32_t lk_flags);
/* SETLKW that is left in flight. */
struct fuc_req *fuc_lock_submit(struct fuc *f, uint64_t node, uint64_t fh, uint64_t owner,
				const struct fuse_file_lock *lk, uint32_t lk_flags);
int fuc_interrupt(struct fuc *f, uint64_t unique);
int fuc_fallocate(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, uint64_t len,
		  uint32_t mode);
int fuc_lseek(struct fuc *f, uint64_t node, uint64_t fh, uint64_t off, uint32_t whence,
	      uint64_t *result);
/* opcode FUSE_COPY_FILE_RANGE or FUC_COPY_FILE_RANGE_64; `*copied` from the reply. */
int fuc_copy_file_range(struct fuc *f, uint32_t opcode, const struct fuse_copy_file_range_in *in,
			uint64_t node_in, uint64_t *copied);
int fuc_syncfs(struct fuc *f, uint64_t node);
/* SETUPMAPPING; @flags FUSE_SETUPMAPPING_FLAG_*. */
int fuc_map(struct fuc *f, uint64_t node, uint64_t offset, uint64_t len, uint64_t flags,
	    uint64_t window_offset);
/* REMOVEMAPPING of several, or of one. */
int fuc_unmap_list(struct fuc *f, uint64_t node, const struct fuse_removemapping_one *list,
		   uint32_t count);
int fuc_unmap(struct fuc *f, uint64_t node, uint64_t window_offset, uint64_t len);

#endif
