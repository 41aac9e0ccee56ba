/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that means harm: every operation with arguments made of random bytes,
 * valid and invalid numbers mixed. Nothing may crash, every request is completed
 * once (the fixture asserts it), and at the end all that was taken is given back.
 */
#include "filefs-fixture.h"

enum { ROUNDS = 12000, KEPT = 8, BUFFER = 8192 };

struct hostile {
	struct fx *fx;
	uint64_t x;
	uint64_t nodes[KEPT], files[KEPT], dirs[KEPT]; /* that were given out at some time */
	char data[BUFFER], reply[BUFFER];
};

static uint64_t hostile_random(struct hostile *h)
{
	h->x ^= h->x << 13, h->x ^= h->x >> 7, h->x ^= h->x << 17;
	return h->x;
}

static uint64_t hostile_node(struct hostile *h)
{
	uint64_t r = hostile_random(h);

	switch (r % 8) {
	case 0:
		return hostile_random(h);
	case 1:
		return hostile_random(h) % 64;
	case 2:
	case 3:
		return FUSE_ROOT_ID;
	default:
		return h->nodes[(r >> 8) % KEPT];
	}
}

static uint64_t hostile_fh(struct hostile *h)
{
	uint64_t r = hostile_random(h);

	switch (r % 8) {
	case 0:
		return hostile_random(h);
	case 1:
		return hostile_random(h) % 64;
	case 2:
	case 3:
	case 4:
		return h->dirs[(r >> 8) % KEPT];
	default:
		return h->files[(r >> 8) % KEPT];
	}
}

/* Where an operation has a handle, and what must not be left to chance: the
 * host's disk space. */
static void hostile_arguments(struct hostile *h, struct fs_req *req)
{
	union fs_in *in = &req->in;

	switch (req->opcode) {
	case FUSE_FORGET:
		in->forget.nlookup %= 3;
		break;
	case FUSE_BATCH_FORGET:
		in->batch_forget.count %= 4;
		break;
	case FUSE_WRITE:
		in->write.size %= BUFFER;
		/* fallthrough */
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		if (hostile_random(h) % 4)
			in->read.offset %= 1 << 20;
		break;
	case FUSE_GETATTR:
	case FUSE_STATX:
		in->getattr.fh = hostile_fh(h);
		return;
	case FUSE_SETATTR:
		in->setattr.fh = hostile_fh(h);
		in->setattr.size %= 1 << 22;
		return;
	case FUSE_COPY_FILE_RANGE:
		in->copy_file_range.fh_out = hostile_fh(h);
		in->copy_file_range.off_in %= 1 << 20;
		in->copy_file_range.len %= 1 << 20;
		in->copy_file_range.flags %= 2;
		break;
	case FUSE_FALLOCATE:
		in->fallocate.offset %= 1 << 20;
		in->fallocate.length %= 1 << 20;
		break;
	case FUSE_GETLK:
	case FUSE_SETLK:
	case FUSE_SETLKW:
		in->lk.lk.type %= 4;
		in->lk.lk_flags %= 2;
		in->lk.owner %= 4;
		break;
	case FUSE_RENAME:
	case FUSE_RENAME2:
		in->rename.newdir = hostile_node(h);
		in->rename.flags %= 9;
		return;
	case FUSE_LINK:
		in->link.oldnodeid = hostile_node(h);
		return;
	case FUSE_SETXATTR:
		in->setxattr.size %= BUFFER;
		in->setxattr.flags %= 4;
		return;
	case FUSE_RELEASE:
		in->release.fh = hostile_fh(h);
		return;
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_OPEN:
	case FUSE_OPENDIR:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		return;
	default:
		break;
	}
	/* The first member of all others that have one. */
	if (req->opcode != FUSE_FORGET && req->opcode != FUSE_BATCH_FORGET)
		in->read.fh = hostile_fh(h);
}

static void hostile_keep(struct hostile *h, const struct fs_req *req)
{
	unsigned place = hostile_random(h) % KEPT;

	switch (req->opcode) {
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		h->files[place] = req->out.open.fh;
		/* fallthrough */
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		h->nodes[place] = req->out.entry.nodeid;
		break;
	case FUSE_OPEN:
		h->files[place] = req->out.open.fh;
		break;
	case FUSE_OPENDIR:
		h->dirs[place] = req->out.open.fh;
		break;
	default:
		break;
	}
}

static void hostile_round(struct hostile *h)
{
	static const char *const names[] = { "a", "b", "c", "d", "user.x", "security.capability" };
	struct fx_req r;
	ssize_t result;

	fx_req_init(&r, (uint32_t)(hostile_random(h) % FUSE_OPCODE_COUNT), hostile_node(h));
	for (size_t i = 0; i + 8 <= sizeof(r.req.in); i += 8) {
		uint64_t v = hostile_random(h);

		memcpy((char *)&r.req.in + i, &v, 8);
	}
	hostile_arguments(h, &r.req);
	r.req.unique = hostile_random(h) | 1;
	r.req.name = names[hostile_random(h) % ARRAY_SIZE(names)];
	r.req.newname = names[hostile_random(h) % ARRAY_SIZE(names)];
	r.in = (struct iovec){ h->data, BUFFER };
	r.out = (struct iovec){ h->reply, BUFFER };
	r.req.data = iov_cursor(&r.in, 1);
	r.req.reply = iov_cursor(&r.out, 1);
	r.req.reply_size = hostile_random(h) % BUFFER;
	fx_start(h->fx, &r);
	while (!fx_done(&r)) {
		h->fx->fs->ops->session_interrupt(h->fx->session, 0);
		usleep(50);
	}
	result = fx_wait(&r);
	assert_true(result <= BUFFER || r.req.opcode == FUSE_COPY_FILE_RANGE ||
		    r.req.opcode == FUSE_COPY_FILE_RANGE_64);
	assert_true(result > -4096);
	if (result >= 0)
		hostile_keep(h, &r.req);
}

static void random_requests(const struct filefs_config *config, uint64_t seed)
{
	struct hostile *h = calloc(1, sizeof(*h));

	h->fx = fx_new(config, 0);
	h->x = seed;
	for (unsigned i = 0; i < ROUNDS; i++)
		hostile_round(h);
	assert_int_equal(fx_getattr(h->fx, 1, NULL), 0);
	fx_free(h->fx);
	free(h);
}

static void random_requests_do_no_harm(void **state)
{
	struct filefs_config config = fx_config();

	(void)state;
	random_requests(&config, 0x123456789abcdefull);
}

static void random_requests_with_few_descriptors_do_no_harm(void **state)
{
	struct filefs_config config = fx_config();

	(void)state;
	config.fd_limit = 64;
	config.posix_acl = true;
	config.writeback = true;
	random_requests(&config, 0xfedcba987654321ull);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(random_requests_do_no_harm),
	cmocka_unit_test(random_requests_with_few_descriptors_do_no_harm),
};

FX_MAIN("filefs-hostile", tests)
