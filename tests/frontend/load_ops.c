/* SPDX-License-Identifier: Apache-2.0 */
/* The operations. Each is a small state machine: one step for each request. See load.h. */
#include "load.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static uint64_t next_random(struct load_thread *th)
{
	/* xorshift64*: cheap, and the same sequence in each run. */
	th->rng ^= th->rng >> 12;
	th->rng ^= th->rng << 25;
	th->rng ^= th->rng >> 27;
	return th->rng * 0x2545f4914f6cdd1dull;
}

static uint64_t random_below(struct load_thread *th, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)next_random(th) * n) >> 64);
}

static void pick_name(struct load_task *t)
{
	snprintf(t->name, sizeof(t->name), "f%06u",
		 (unsigned int)random_below(t->th, t->th->load->o.files));
}

static uint32_t io_size(const struct load_task *t)
{
	/* `mixed` borrows the operations of 4 KiB, whatever its own size is. */
	return t->th->load->o.size ? t->th->load->o.size : t->op->size;
}

static uint64_t next_offset(struct load_task *t, bool sequential)
{
	uint64_t blocks = t->th->load->o.file_size / io_size(t);
	uint64_t block = sequential ? t->th->seq++ % blocks : random_below(t->th, blocks);

	return block * io_size(t);
}

static bool step_read(struct load_task *t, bool sequential)
{
	struct load_thread *th = t->th;
	size_t len;

	if (t->stage == 0) {
		t->off = next_offset(t, sequential);
		load_request_read(t, FUSE_READ, th->data_node, th->data_fh, t->off, io_size(t));
		return true;
	}
	if (!load_reply(t, &len))
		return false;
	if (len != io_size(t) || !load_stamp_ok(t->data.p, t->off, io_size(t), th->load->o.verify))
		th->errors++;
	th->bytes += th->counting ? len : 0;
	return false;
}

static bool step_write(struct load_task *t, bool sequential)
{
	struct load_thread *th = t->th;
	const struct fuse_write_out *out;
	size_t len;

	if (t->stage == 0) {
		t->off = next_offset(t, sequential);
		load_stamp(t->data.p, t->off, io_size(t));
		load_request_write(t, th->data_node, th->data_fh, t->off, io_size(t));
		return true;
	}
	out = load_reply(t, &len);
	if (!out)
		return false;
	if (len != sizeof(*out) || out->size != io_size(t))
		th->errors++;
	th->bytes += th->counting ? out->size : 0;
	return false;
}

static bool step_randread(struct load_task *t)
{
	return step_read(t, false);
}

static bool step_seqread(struct load_task *t)
{
	return step_read(t, true);
}

static bool step_randwrite(struct load_task *t)
{
	return step_write(t, false);
}

static bool step_seqwrite(struct load_task *t)
{
	return step_write(t, true);
}

static bool step_lookup(struct load_task *t)
{
	const struct fuse_entry_out *e;
	size_t len;

	if (t->stage == 0) {
		pick_name(t);
		load_request(t, FUSE_LOOKUP, t->th->load->dir, NULL, 0, t->name, sizeof(*e));
		return true;
	}
	e = load_reply(t, &len);
	if (e)
		load_forget(t->th, e->nodeid);
	return false;
}

static void request_getattr(struct load_task *t, uint64_t node)
{
	struct fuse_getattr_in in = { 0 };

	load_request(t, FUSE_GETATTR, node, &in, sizeof(in), NULL, sizeof(struct fuse_attr_out));
}

static bool step_getattr(struct load_task *t)
{
	struct load *l = t->th->load;
	size_t len;

	if (t->stage == 0) {
		request_getattr(t, l->nodes[random_below(t->th, l->o.files)]);
		return true;
	}
	load_reply(t, &len);
	return false;
}

static bool step_stat(struct load_task *t)
{
	const struct fuse_entry_out *e;
	size_t len;

	if (t->stage == 0)
		return step_lookup(t);
	if (t->stage == 2) {
		load_forget(t->th, t->node);
		load_reply(t, &len);
		return false;
	}
	e = load_reply(t, &len);
	if (!e)
		return false;
	t->node = e->nodeid;
	request_getattr(t, t->node);
	return true;
}

static void request_release(struct load_task *t, uint32_t opcode)
{
	struct fuse_release_in in = { .fh = t->fh };

	load_request(t, opcode, t->node, &in, sizeof(in), NULL, 0);
}

static bool step_open(struct load_task *t)
{
	struct load *l = t->th->load;
	struct fuse_open_in in = { .flags = O_RDONLY };
	const struct fuse_open_out *out;
	size_t len;

	if (t->stage == 0) {
		t->node = l->nodes[random_below(t->th, l->o.files)];
		load_request(t, FUSE_OPEN, t->node, &in, sizeof(in), NULL, sizeof(*out));
		return true;
	}
	out = load_reply(t, &len);
	if (!out || t->stage == 2)
		return false;
	t->fh = out->fh;
	request_release(t, FUSE_RELEASE);
	return true;
}

static bool step_create(struct load_task *t)
{
	struct fuse_create_in in = { .flags = O_RDWR | O_CREAT | O_EXCL, .mode = S_IFREG | 0644 };
	const struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} * out;
	struct load_thread *th = t->th;
	size_t len;

	if (t->stage == 0) {
		snprintf(t->name, sizeof(t->name), "n%u-%u", th->queue, (unsigned int)th->seq++);
		load_request(t, FUSE_CREATE, th->load->dir, &in, sizeof(in), t->name, sizeof(*out));
		return true;
	}
	out = load_reply(t, &len);
	if (!out)
		return false;
	if (t->stage == 1) {
		t->node = out->entry.nodeid;
		t->fh = out->open.fh;
		request_release(t, FUSE_RELEASE);
	} else if (t->stage == 2) {
		load_request(t, FUSE_UNLINK, th->load->dir, NULL, 0, t->name, 0);
	} else {
		load_forget(th, t->node);
		return false;
	}
	return true;
}

/* The entries of one reply: how many, and the offset to go on from. */
static void take_entries(struct load_task *t, bool plus, size_t len)
{
	const uint8_t *p = t->data.p;

	while (len >= (plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET)) {
		const struct fuse_direntplus *dp = (const void *)p;
		const struct fuse_dirent *d = plus ? &dp->dirent : (const void *)p;
		size_t n = plus ? FUSE_DIRENTPLUS_SIZE(dp) : FUSE_DIRENT_SIZE(d);

		if (n > len) {
			t->th->errors++;
			return;
		}
		/* "." and ".." take no reference, as in the kernel's own reckoning. */
		if (plus && dp->entry_out.nodeid && d->name[0] != '.')
			load_forget(t->th, dp->entry_out.nodeid);
		t->off = d->off;
		t->th->items += t->th->counting;
		p += n;
		len -= n;
	}
}

static bool step_dir(struct load_task *t, bool plus)
{
	struct fuse_open_in in = { .flags = O_RDONLY | O_DIRECTORY };
	const struct fuse_open_out *out;
	size_t len;

	if (t->stage == 0) {
		t->node = t->th->load->dir;
		t->off = 0;
		t->data_len = 0;
		load_request(t, FUSE_OPENDIR, t->node, &in, sizeof(in), NULL, sizeof(*out));
		return true;
	}
	out = load_reply(t, &len);
	if (!out)
		return false;
	if (t->stage == 1) {
		t->fh = out->fh;
	} else if (t->data_len == UINT32_MAX) {
		return false; /* released */
	} else if (len == 0) {
		t->data_len = UINT32_MAX;
		request_release(t, FUSE_RELEASEDIR);
		return true;
	} else {
		take_entries(t, plus, len);
	}
	load_request_read(t, plus ? FUSE_READDIRPLUS : FUSE_READDIR, t->node, t->fh, t->off,
			  io_size(t));
	return true;
}

static bool step_readdir(struct load_task *t)
{
	return step_dir(t, false);
}

static bool step_readdirplus(struct load_task *t)
{
	return step_dir(t, true);
}

static bool step_mixed(struct load_task *t);

const struct load_op load_ops[] = {
	{ "randread", "READ at random places", 4096, true, false, false, step_randread },
	{ "randwrite", "WRITE at random places", 4096, true, false, false, step_randwrite },
	{ "seqread", "READ one block after the other", 1 << 20, true, false, false, step_seqread },
	{ "seqwrite", "WRITE one block after the other", 1 << 20, true, false, false,
	  step_seqwrite },
	{ "lookup", "LOOKUP of one of --files names", 0, false, true, false, step_lookup },
	{ "getattr", "GETATTR of one of --files nodes", 0, false, true, true, step_getattr },
	{ "stat", "LOOKUP, GETATTR", 0, false, true, false, step_stat },
	{ "open", "OPEN, RELEASE", 0, false, true, true, step_open },
	{ "create", "CREATE, RELEASE, UNLINK", 0, false, false, false, step_create },
	{ "readdir", "OPENDIR, READDIR to the end, RELEASEDIR", 4096, false, true, false,
	  step_readdir },
	{ "readdirplus", "OPENDIR, READDIRPLUS to the end, RELEASEDIR", 4096, false, true, false,
	  step_readdirplus },
	{ "mixed", "half READs of 4 KiB, the rest WRITE, GETATTR, LOOKUP, OPEN", 4096, true, true,
	  true, step_mixed },
	{ "read4k", "same as randread", 4096, true, false, false, step_randread },
	{ "write4k", "same as randwrite", 4096, true, false, false, step_randwrite },
	{ "seqread1m", "same as seqread", 1 << 20, true, false, false, step_seqread },
	{ "seqwrite1m", "same as seqwrite", 1 << 20, true, false, false, step_seqwrite },
	{ .name = NULL },
};

const struct load_op *load_op_find(const char *name)
{
	for (const struct load_op *op = load_ops; op->name; op++)
		if (strcmp(op->name, name) == 0)
			return op;
	return NULL;
}

static bool step_mixed(struct load_task *t)
{
	static const struct {
		unsigned int percent;
		bool (*step)(struct load_task *t);
	} mix[] = {
		{ 50, step_randread }, { 20, step_randwrite }, { 15, step_getattr },
		{ 10, step_lookup },   { 5, step_open },
	};

	if (t->stage == 0) {
		unsigned int dice = (unsigned int)random_below(t->th, 100);

		for (t->choice = 0; dice >= mix[t->choice].percent; t->choice++)
			dice -= mix[t->choice].percent;
	}
	return mix[t->choice].step(t);
}
