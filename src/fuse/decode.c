/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a request -> struct fs_req.
 *
 * A request is a header, a structure of fixed size, up to two strings, a
 * payload, and extensions, each of which may be absent; the table says which
 * an opcode has. All but the payload is copied out of guest memory once and
 * looked at only in the copy, as the guest can change it meanwhile. The
 * payload stays where it is.
 *
 * The table's rows have to account for every byte up to the end that the
 * header gives: no version of the protocol from 7.27 on has longer ones, so
 * a byte too many is a guest gone wrong, as is a byte too few. Readable
 * bytes after that end are ignored (drivers outside Linux pass a fixed
 * buffer), except where they would run on from a payload.
 */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include <linux/limits.h>

#include "base/util.h"
#include "fuse/internal.h"

/* More bytes than this the kernel moves in no single call (MAX_RW_COUNT), and
 * the length of a reply has to fit its header. */
#define FUSE_DATA_MAX 0x7ffff000u

/*
 * Entries in one request: descriptors of a chain may all be of the same memory, so its length
 * bounds nothing, and no other request of the queue is looked at meanwhile. Linux has as many
 * FORGETs in one as the reader's buffer has room for, 1 MiB and a page with libfuse, and sends
 * single ones here; and as many mappings as fit a page, of 64 KiB at most
 * (FUSE_REMOVEMAPPING_MAX_ENTRY).
 */
#define FUSE_FORGETS_MAX (((1u << 20) + 4096) / sizeof(struct fuse_forget_one))
#define FUSE_UNMAPS_MAX ((64u << 10) / sizeof(struct fuse_removemapping_one))

/* Extensions in one request. Linux knows of two kinds and sends one of each. */
#define FUSE_EXT_MAX 8

/* OUT(field): the reply is that member of union fs_out. */
#define OUT(field)                                                                                 \
	.reply = FUSE_REPLY_OUT, .out_offset = offsetof(union fs_out, field),                      \
	.out_size = sizeof(((union fs_out *)0)->field)

/* CREATE and TMPFILE reply with the entry and the open file behind it. */
#define OUT_ENTRY_AND_OPEN                                                                         \
	.reply = FUSE_REPLY_OUT, .out_offset = offsetof(union fs_out, entry),                      \
	.out_size = sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)

_Static_assert(offsetof(union fs_out, open) == sizeof(struct fuse_entry_out), "on the wire too");

#define IN(type) .in_size = sizeof(type)
#define DRIVER .handler = FUSE_HANDLER_DRIVER
#define SESSION .handler = FUSE_HANDLER_SESSION
#define WINDOW .handler = FUSE_HANDLER_WINDOW
#define REFUSED(errnum) .handler = FUSE_HANDLER_NONE, .refusal = (errnum)

static const struct fuse_op fuse_ops[FUSE_OPCODE_COUNT] = {
	[FUSE_LOOKUP] = { "LOOKUP", DRIVER, .names = FUSE_NAMES_ENTRY, OUT(entry) },
	[FUSE_FORGET] = { "FORGET", DRIVER, IN(struct fuse_forget_in), .reply = FUSE_REPLY_NONE },
	[FUSE_GETATTR] = { "GETATTR", DRIVER, IN(struct fuse_getattr_in), OUT(attr) },
	[FUSE_SETATTR] = { "SETATTR", DRIVER, IN(struct fuse_setattr_in), OUT(attr) },
	[FUSE_READLINK] = { "READLINK", DRIVER, .reply = FUSE_REPLY_DATA },
	[FUSE_SYMLINK] = { "SYMLINK", DRIVER, .names = FUSE_NAMES_SYMLINK, .creates = true,
			   OUT(entry) },
	[FUSE_MKNOD] = { "MKNOD", DRIVER, IN(struct fuse_mknod_in), .names = FUSE_NAMES_ENTRY,
			 .creates = true, OUT(entry) },
	[FUSE_MKDIR] = { "MKDIR", DRIVER, IN(struct fuse_mkdir_in), .names = FUSE_NAMES_ENTRY,
			 .creates = true, OUT(entry) },
	[FUSE_UNLINK] = { "UNLINK", DRIVER, .names = FUSE_NAMES_ENTRY },
	[FUSE_RMDIR] = { "RMDIR", DRIVER, .names = FUSE_NAMES_ENTRY },
	[FUSE_RENAME] = { "RENAME", DRIVER, IN(struct fuse_rename_in),
			  .names = FUSE_NAMES_ENTRIES },
	[FUSE_LINK] = { "LINK", DRIVER, IN(struct fuse_link_in), .names = FUSE_NAMES_ENTRY,
			OUT(entry) },
	[FUSE_OPEN] = { "OPEN", DRIVER, IN(struct fuse_open_in), OUT(open) },
	[FUSE_READ] = { "READ", DRIVER, IN(struct fuse_read_in), .reply = FUSE_REPLY_DATA },
	[FUSE_WRITE] = { "WRITE", DRIVER, IN(struct fuse_write_in), .payload = FUSE_PAYLOAD_WRITE,
			 .reply = FUSE_REPLY_COUNT32 },
	[FUSE_STATFS] = { "STATFS", DRIVER, OUT(statfs) },
	[FUSE_RELEASE] = { "RELEASE", DRIVER, IN(struct fuse_release_in) },
	[FUSE_FSYNC] = { "FSYNC", DRIVER, IN(struct fuse_fsync_in) },
	[FUSE_SETXATTR] = { "SETXATTR", DRIVER, IN(struct fuse_setxattr_in),
			    .names = FUSE_NAMES_XATTR, .payload = FUSE_PAYLOAD_SETXATTR },
	[FUSE_GETXATTR] = { "GETXATTR", DRIVER, IN(struct fuse_getxattr_in),
			    .names = FUSE_NAMES_XATTR, .reply = FUSE_REPLY_XATTR },
	[FUSE_LISTXATTR] = { "LISTXATTR", DRIVER, IN(struct fuse_getxattr_in),
			     .reply = FUSE_REPLY_XATTR },
	[FUSE_REMOVEXATTR] = { "REMOVEXATTR", DRIVER, .names = FUSE_NAMES_XATTR },
	[FUSE_FLUSH] = { "FLUSH", DRIVER, IN(struct fuse_flush_in) },
	[FUSE_INIT] = { "INIT", SESSION },
	[FUSE_OPENDIR] = { "OPENDIR", DRIVER, IN(struct fuse_open_in), OUT(open) },
	[FUSE_READDIR] = { "READDIR", DRIVER, IN(struct fuse_read_in), .reply = FUSE_REPLY_DATA },
	[FUSE_RELEASEDIR] = { "RELEASEDIR", DRIVER, IN(struct fuse_release_in) },
	[FUSE_FSYNCDIR] = { "FSYNCDIR", DRIVER, IN(struct fuse_fsync_in) },
	[FUSE_GETLK] = { "GETLK", DRIVER, IN(struct fuse_lk_in), OUT(lk) },
	[FUSE_SETLK] = { "SETLK", DRIVER, IN(struct fuse_lk_in) },
	[FUSE_SETLKW] = { "SETLKW", DRIVER, IN(struct fuse_lk_in), .waits = true },
	[FUSE_ACCESS] = { "ACCESS", DRIVER, IN(struct fuse_access_in) },
	[FUSE_CREATE] = { "CREATE", DRIVER, IN(struct fuse_create_in), .names = FUSE_NAMES_ENTRY,
			  .creates = true, OUT_ENTRY_AND_OPEN },
	/* Linux waits for no reply, only for its descriptors to come back. */
	[FUSE_INTERRUPT] = { "INTERRUPT", SESSION, IN(struct fuse_interrupt_in),
			     .reply = FUSE_REPLY_NONE },
	[FUSE_BMAP] = { "BMAP", REFUSED(ENOSYS) },
	[FUSE_DESTROY] = { "DESTROY", SESSION },
	[FUSE_IOCTL] = { "IOCTL", REFUSED(ENOTTY) },
	[FUSE_POLL] = { "POLL", REFUSED(ENOSYS) },
	/* The answer to a notification, and we send none. */
	[FUSE_NOTIFY_REPLY] = { "NOTIFY_REPLY", REFUSED(ENOSYS), .reply = FUSE_REPLY_NONE },
	[FUSE_BATCH_FORGET] = { "BATCH_FORGET", DRIVER, IN(struct fuse_batch_forget_in),
				.payload = FUSE_PAYLOAD_BATCH_FORGET, .reply = FUSE_REPLY_NONE },
	[FUSE_FALLOCATE] = { "FALLOCATE", DRIVER, IN(struct fuse_fallocate_in) },
	[FUSE_READDIRPLUS] = { "READDIRPLUS", DRIVER, IN(struct fuse_read_in),
			       .reply = FUSE_REPLY_DATA },
	[FUSE_RENAME2] = { "RENAME2", DRIVER, IN(struct fuse_rename2_in),
			   .names = FUSE_NAMES_ENTRIES },
	[FUSE_LSEEK] = { "LSEEK", DRIVER, IN(struct fuse_lseek_in), OUT(lseek) },
	[FUSE_COPY_FILE_RANGE] = { "COPY_FILE_RANGE", DRIVER, IN(struct fuse_copy_file_range_in),
				   .reply = FUSE_REPLY_COUNT32 },
	[FUSE_SETUPMAPPING] = { "SETUPMAPPING", WINDOW, IN(struct fuse_setupmapping_in) },
	[FUSE_REMOVEMAPPING] = { "REMOVEMAPPING", WINDOW, IN(struct fuse_removemapping_in),
				 .payload = FUSE_PAYLOAD_REMOVEMAPPING },
	[FUSE_SYNCFS] = { "SYNCFS", DRIVER, IN(struct fuse_syncfs_in) },
	/* The kernel sends "/", which the dentry without a name is called inside. */
	[FUSE_TMPFILE] = { "TMPFILE", DRIVER, IN(struct fuse_create_in), .names = FUSE_NAMES_UNUSED,
			   .creates = true, OUT_ENTRY_AND_OPEN },
	[FUSE_STATX] = { "STATX", DRIVER, IN(struct fuse_statx_in), OUT(statx) },
	[FUSE_COPY_FILE_RANGE_64] = { "COPY_FILE_RANGE_64", DRIVER,
				      IN(struct fuse_copy_file_range_in),
				      .reply = FUSE_REPLY_COUNT64 },
};

/* The row of @opcode; one without a name for an opcode that we do not know. */
static const struct fuse_op *fuse_op_find(uint32_t opcode)
{
	static const struct fuse_op unknown = { NULL, REFUSED(ENOSYS) };

	if (opcode >= FUSE_OPCODE_COUNT || !fuse_ops[opcode].name)
		return &unknown;
	return &fuse_ops[opcode];
}

const char *fuse_opcode_name(uint32_t opcode)
{
	if (opcode == 0)
		return "UNKNOWN";
	return opcode < FUSE_OPCODE_COUNT ? fuse_ops[opcode].name : NULL;
}

/* ---- header ---- */

int fuse_decode_header(struct fuse_req *r, const struct iovec *in, size_t in_count)
{
	struct iov_cursor c = iov_cursor(in, in_count);
	size_t total = iov_len(&c);
	struct fuse_in_header header = { .len = 0 };
	struct fs_req *req = &r->req;

	/* A reply, if it is one of refusal, should still name the request: what
	 * there is of the header is used as far as it says which one it is. */
	if (iov_read(&c, &header, sizeof(header)) < offsetof(struct fuse_in_header, nodeid))
		memset(&header, 0, sizeof(header));
	req->opcode = header.opcode;
	req->unique = header.unique;
	req->nodeid = header.nodeid;
	req->uid = header.uid;
	req->gid = header.gid;
	req->pid = header.pid;
	r->op = fuse_op_find(header.opcode);
	if (header.len < sizeof(header) || header.len > total)
		return -EINVAL;
	r->body = c;
	r->left = header.len - sizeof(header);
	r->has_excess = header.len != total;
	r->extlen = header.total_extlen;
	return 0;
}

int fuse_decode_struct(struct fuse_req *r, void *dst, size_t size)
{
	if (size > r->left)
		return -EINVAL;
	r->left -= size;
	return iov_read(&r->body, dst, size) == size ? 0 : -EINVAL;
}

/* ---- strings ---- */

/* The strings of one request, copied out. */
struct fuse_strings {
	char *next;
	size_t left;
};

/* Takes one of at most @size bytes with its NUL; a longer one is @too_long. */
static int fuse_take_string(struct fuse_strings *s, size_t size, int too_long, const char **out)
{
	size_t limit = MIN(s->left, size), used;
	const char *nul = memchr(s->next, '\0', limit);

	if (!nul)
		return limit == size ? -too_long : -EINVAL;
	if (nul == s->next)
		return -EINVAL;
	*out = s->next;
	used = (size_t)(nul - s->next) + 1;
	s->next += used;
	s->left -= used;
	return 0;
}

static int fuse_take_entry(struct fuse_strings *s, const char **out)
{
	int err = fuse_take_string(s, NAME_MAX + 1, ENAMETOOLONG, out);
	const char *name = *out;
	size_t len;

	if (err)
		return err;
	len = (size_t)(s->next - name) - 1;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return -EINVAL;
	return memchr(name, '/', len) ? -EINVAL : 0;
}

static int fuse_take_names(enum fuse_names kind, struct fuse_strings *s, struct fs_req *req)
{
	const char *unused;
	int err;

	if (kind == FUSE_NAMES_UNUSED)
		return fuse_take_string(s, NAME_MAX + 1, ENAMETOOLONG, &unused);
	if (kind == FUSE_NAMES_XATTR)
		return fuse_take_string(s, XATTR_NAME_MAX + 1, ERANGE, &req->name);
	err = fuse_take_entry(s, &req->name);
	if (!err && kind == FUSE_NAMES_ENTRIES)
		err = fuse_take_entry(s, &req->newname);
	if (!err && kind == FUSE_NAMES_SYMLINK)
		err = fuse_take_string(s, PATH_MAX, ENAMETOOLONG, &req->target);
	return err;
}

static int fuse_decode_names(struct fuse_req *r)
{
	static const size_t most[] = {
		[FUSE_NAMES_ENTRY] = NAME_MAX + 1,
		[FUSE_NAMES_ENTRIES] = 2 * (NAME_MAX + 1),
		[FUSE_NAMES_SYMLINK] = NAME_MAX + 1 + PATH_MAX,
		[FUSE_NAMES_XATTR] = XATTR_NAME_MAX + 1,
		[FUSE_NAMES_UNUSED] = NAME_MAX + 1,
	};
	enum fuse_names kind = r->op->names;
	struct iov_cursor ahead = r->body;
	struct fuse_strings s = { .next = r->names };
	size_t used;
	int err;

	if (kind == FUSE_NAMES_NONE)
		return 0;
	/* How long they are shows in the copy only: take as much as they may be,
	 * which may reach into what follows, then advance over what they were. */
	s.left = iov_read(&ahead, r->names, MIN(r->left, most[kind]));
	err = fuse_take_names(kind, &s, &r->req);
	if (err)
		return err;
	used = (size_t)(s.next - r->names);
	iov_skip(&r->body, used);
	r->left -= used;
	return 0;
}

/* ---- payload and extensions ---- */

static int fuse_decode_payload(struct fuse_req *r)
{
	uint64_t size = 0, most = UINT64_MAX;

	switch ((enum fuse_payload)r->op->payload) {
	case FUSE_PAYLOAD_NONE:
		break;
	case FUSE_PAYLOAD_WRITE:
		size = r->req.in.write.size;
		break;
	case FUSE_PAYLOAD_SETXATTR:
		size = r->req.in.setxattr.size;
		break;
	case FUSE_PAYLOAD_BATCH_FORGET:
		size = (uint64_t)r->req.in.batch_forget.count * sizeof(struct fuse_forget_one);
		most = FUSE_FORGETS_MAX * sizeof(struct fuse_forget_one);
		break;
	case FUSE_PAYLOAD_REMOVEMAPPING:
		size = (uint64_t)r->req.in.removemapping.count *
		       sizeof(struct fuse_removemapping_one);
		most = FUSE_UNMAPS_MAX * sizeof(struct fuse_removemapping_one);
		break;
	}
	if (size != r->left || size > most)
		return -EINVAL;
	if (r->op->payload == FUSE_PAYLOAD_NONE)
		return 0;
	/* The cursor that the driver gets ends where the iovecs end. */
	if (r->has_excess || r->extlen)
		return -EINVAL;
	if (r->op->payload == FUSE_PAYLOAD_SETXATTR && size > XATTR_SIZE_MAX)
		return -E2BIG;
	r->req.data = r->body;
	return 0;
}

/* One extension, @size bytes with its header. */
static int fuse_decode_ext(struct fuse_req *r, const struct fuse_ext_header *ext)
{
	size_t rest = ext->size - sizeof(*ext);
	uint32_t groups[2]; /* struct fuse_supp_groups: how many, then the first */

	if (ext->type != FUSE_EXT_GROUPS)
		return iov_skip(&r->body, rest) == rest ? 0 : -EINVAL;
	/* The kernel sends the one group that matters. */
	if (rest < sizeof(groups) || iov_read(&r->body, groups, sizeof(groups)) != sizeof(groups) ||
	    groups[0] != 1)
		return -EINVAL;
	iov_skip(&r->body, rest - sizeof(groups));
	r->req.has_supp_group = true;
	r->req.supp_group = groups[1];
	return 0;
}

static int fuse_decode_exts(struct fuse_req *r, size_t left, uint64_t flags)
{
	struct fuse_ext_header ext;
	int err;

	if (!r->op->creates || !(flags & FUSE_CREATE_SUPP_GROUP))
		return 0;
	for (unsigned i = 0; left; i++) {
		if (i == FUSE_EXT_MAX || left < sizeof(ext) ||
		    iov_read(&r->body, &ext, sizeof(ext)) != sizeof(ext))
			return -EINVAL;
		if (ext.size < sizeof(ext) || ext.size > left || ext.size % 8)
			return -EINVAL;
		err = fuse_decode_ext(r, &ext);
		if (err)
			return err;
		left -= ext.size;
	}
	return 0;
}

/* ---- room for the reply ---- */

/* A reply of variable size gets what room there is, up to @asked. */
static void fuse_decode_reply_data(struct fuse_req *r, size_t asked)
{
	size_t want = sizeof(struct fuse_out_header) + MIN(asked, (size_t)FUSE_DATA_MAX);

	r->req.reply = iov_cursor(r->out, r->out_count);
	iov_skip(&r->req.reply, sizeof(struct fuse_out_header));
	r->req.reply_size = fuse_reply_room(r, want) - sizeof(struct fuse_out_header);
}

/* The header's room has been checked. */
static int fuse_decode_reply(struct fuse_req *r)
{
	size_t fixed = 0;

	switch ((enum fuse_reply_kind)r->op->reply) {
	case FUSE_REPLY_NONE:
	case FUSE_REPLY_EMPTY:
		return 0;
	case FUSE_REPLY_XATTR:
		if (r->req.in.getxattr.size) {
			fuse_decode_reply_data(
				r, MIN(r->req.in.getxattr.size, (uint32_t)XATTR_SIZE_MAX));
			return 0;
		}
		fixed = sizeof(struct fuse_getxattr_out);
		break;
	case FUSE_REPLY_DATA:
		fuse_decode_reply_data(r, r->req.opcode == FUSE_READLINK ? PATH_MAX
									 : r->req.in.read.size);
		return 0;
	case FUSE_REPLY_OUT:
		fixed = r->op->out_size;
		memset((char *)&r->req.out + r->op->out_offset, 0, fixed);
		break;
	case FUSE_REPLY_COUNT32:
		fixed = sizeof(struct fuse_write_out);
		break;
	case FUSE_REPLY_COUNT64:
		fixed = sizeof(struct fuse_copy_file_range_out);
		break;
	}
	fixed += sizeof(struct fuse_out_header);
	return fuse_reply_room(r, fixed) == fixed ? 0 : -EINVAL;
}

/* ---- the whole ---- */

static int fuse_decode_in(struct fuse_req *r, uint64_t flags)
{
	union fs_in *in = &r->req.in;
	size_t size = r->op->in_size;
	int err;

	if (r->req.opcode == FUSE_SETXATTR && !(flags & FUSE_SETXATTR_EXT))
		size = FUSE_COMPAT_SETXATTR_IN_SIZE;
	err = fuse_decode_struct(r, in, size);
	if (err)
		return err;
	/* Forms that are one to the driver. */
	if (r->req.opcode == FUSE_RENAME)
		in->rename.flags = in->rename.padding = 0;
	if (r->req.opcode == FUSE_SETXATTR && size == FUSE_COMPAT_SETXATTR_IN_SIZE)
		in->setxattr.setxattr_flags = in->setxattr.padding = 0;
	/* The count in its reply has 32 bits; a copy may always be a short one. */
	if (r->req.opcode == FUSE_COPY_FILE_RANGE)
		in->copy_file_range.len = MIN(in->copy_file_range.len, (uint64_t)FUSE_DATA_MAX);
	return 0;
}

int fuse_decode_body(struct fuse_req *r, uint64_t flags)
{
	size_t ext_size = (size_t)r->extlen * 8;
	int err;

	if (ext_size > r->left)
		return -EINVAL;
	r->left -= ext_size;
	r->req.has_supp_group = false;
	err = fuse_decode_in(r, flags);
	if (!err)
		err = fuse_decode_names(r);
	if (!err)
		err = fuse_decode_payload(r);
	if (!err)
		err = fuse_decode_exts(r, ext_size, flags);
	if (!err)
		err = fuse_decode_reply(r);
	return err;
}
