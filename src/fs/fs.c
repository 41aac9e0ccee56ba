/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fs.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

void fs_submit(struct fs_session *session, struct fs_req *req)
{
	fs_op_fn *op = req->opcode < FUSE_OPCODE_COUNT ? session->fs->ops->op[req->opcode] : NULL;
	ssize_t result;

	req->session = session;
	span_attach(&req->span);
	result = op ? op(session, req) : -ENOSYS;
	span_detach(&req->span);
	if (result != FS_PENDING)
		req->complete(req, result);
}

void fs_req_complete(struct fs_req *req, ssize_t result)
{
	/* Whoever completes it may go on with something else. */
	span_detach(&req->span);
	req->complete(req, result);
}

void fs_req_defer(struct fs_req *req, struct workers *workers, void (*run)(struct work *work))
{
	span_enter(&req->span, SPAN_QUEUED);
	span_detach(&req->span);
	req->work.run = run;
	workers_submit(workers, &req->work);
}

struct fs_req *fs_req_resume(struct work *work)
{
	struct fs_req *req = container_of(work, struct fs_req, work);

	span_enter(&req->span, SPAN_DRIVER);
	span_attach(&req->span);
	return req;
}

size_t fs_dirent_size(size_t namelen)
{
	return FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + namelen);
}

size_t fs_direntplus_size(size_t namelen)
{
	return FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + namelen);
}

/* @head is struct fuse_dirent or fuse_direntplus without its name. */
static void fs_dirent_write(struct fs_req *req, size_t *used, const void *head, size_t headlen,
			    const char *name, size_t namelen)
{
	size_t total = FUSE_DIRENT_ALIGN(headlen + namelen);

	iov_write(&req->reply, head, headlen);
	iov_write(&req->reply, name, namelen);
	iov_zero(&req->reply, total - headlen - namelen);
	*used += total;
}

bool fs_dirent_add(struct fs_req *req, size_t *used, uint64_t ino, uint64_t offset, uint32_t type,
		   const char *name, size_t namelen)
{
	struct fuse_dirent d = {
		.ino = ino ^ req->nodeid_tag,
		.off = offset,
		.namelen = (uint32_t)namelen,
		.type = type,
	};

	if (fs_dirent_size(namelen) > req->reply_size - *used)
		return false;
	fs_dirent_write(req, used, &d, FUSE_NAME_OFFSET, name, namelen);
	return true;
}

bool fs_direntplus_add(struct fs_req *req, size_t *used, const struct fuse_entry_out *entry,
		       uint64_t ino, uint64_t offset, uint32_t type, const char *name,
		       size_t namelen)
{
	struct fuse_direntplus d = {
		.entry_out = *entry,
		.dirent = { .ino = ino ^ req->nodeid_tag,
			    .off = offset,
			    .namelen = (uint32_t)namelen,
			    .type = type },
	};

	if (fs_direntplus_size(namelen) > req->reply_size - *used)
		return false;
	fs_attr_mark(req->session, &d.entry_out.attr);
	if (d.entry_out.nodeid) {
		d.entry_out.nodeid |= req->nodeid_tag;
		d.entry_out.attr.ino ^= req->nodeid_tag;
	}
	fs_dirent_write(req, used, &d, FUSE_NAME_OFFSET_DIRENTPLUS, name, namelen);
	return true;
}
