/* SPDX-License-Identifier: Apache-2.0 */
#include "filefs-fixture.h"

#include <ftw.h>

#include "base/loop.h"

struct fx_mode fx_mode = { .base = "/dev/shm", .handles = true };

bool fx_mode_select(unsigned n)
{
	static const struct fx_mode modes[] = {
		{ "/dev/shm", true, false },
		{ "/var/tmp", true, false },
		{ "/dev/shm", false, false },
		{ "/var/tmp", false, false },
		{ "/var/tmp", true, true },
		{ "/dev/shm", true, false, FX_CACHE_THROUGH },
		{ "/var/tmp", true, true, FX_CACHE_THROUGH },
	};

	umask(0);
	log_set_level(LOG_LEVEL_ERROR);
	if (n >= ARRAY_SIZE(modes))
		return false;
	fx_mode = modes[n];
	print_message("-- base=%s handles=%d remote=%d cache=%d\n", fx_mode.base, fx_mode.handles,
		      fx_mode.remote, fx_mode.cache);
	return true;
}

struct filefs_config fx_config(void)
{
	return (struct filefs_config){
		.cache = FILEFS_CACHE_AUTO,
		.attr_timeout_ns = 1000000000,
		.entry_timeout_ns = 1000000000,
		.xattr = true,
		.posix_locks = true,
		.readdirplus = true,
		.announce_submounts = true,
		.allow_direct_io = true,
		.inode_file_handles = fx_mode.handles,
	};
}

static void *fx_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

/* As storage.c does it, on a small scale. */
static void fx_cache_new(struct fx_cache *c)
{
	const struct pool_config pool = { .size = 12u << 20,
					  .block_sizes = { 4096, 16384, 65536, 262144, 1u << 20 },
					  .classes = 5,
					  .huge_pages = POOL_HUGE_NEVER };
	struct cache_storage_config files = {
		.write_back = fx_mode.cache == FX_CACHE_BACK,
		.write_back_delay_ns = 3600 * 1000000000ull, /* when the test says so */
		.dirty_percent = 50,
		.expiration = fx_mode.expiration_ns,
		.expiration_ns = fx_mode.expiration_ns,
		.wait_timeout_ns = 60 * 1000000000ull,
		.read_ahead_max = 1u << 20,
		.part_size = 5u << 20,
		.parts_in_flight = 4,
	};

	assert_null(loop_new(&c->loop));
	assert_null(filefs_data_new(&c->data, c->loop));
	assert_int_equal(pthread_create(&c->thread, NULL, fx_loop, c->loop), 0);
	assert_null(workers_new(&c->flushers, "flush", 4));
	files.store = filefs_data_store(c->data);
	files.workers = c->flushers;
	assert_null(cache_new(&c->cache, &pool));
	assert_null(cache_storage_new(&c->files, c->cache, &files));
	filefs_data_start(c->data, c->files, files.write_back);
}

static void fx_cache_free(struct fx_cache *c)
{
	struct store *store = filefs_data_store(c->data);

	cache_storage_free(c->files);
	filefs_data_free(c->data);
	workers_free(c->flushers);
	cache_free(c->cache);
	loop_stop(c->loop);
	pthread_join(c->thread, NULL);
	store_free(store);
	loop_free(c->loop);
}

struct fx *fx_new(const struct filefs_config *config, uint64_t flags)
{
	struct filefs_config with_cache = *config;
	struct fx *fx = calloc(1, sizeof(*fx));
	struct fs_negotiated n = { .minor = 38, .max_write = 1u << 20 };

	snprintf(fx->path, sizeof(fx->path), "%s/ovfs-test-XXXXXX", fx_mode.base);
	assert_non_null(mkdtemp(fx->path));
	assert_int_equal(chmod(fx->path, 0755), 0);
	fx->dirfd = open(fx->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fx->proc = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fx->dirfd >= 0 && fx->proc >= 0);
	assert_null(workers_new(&fx->workers, "test", 4));
	if (fx_mode.cache)
		fx_cache_new(&fx->cache);
	with_cache.data = fx->cache.data;
	assert_null(filefs_new(&fx->fs, &with_cache, dup(fx->dirfd), fx->proc, fx->workers));
	n.flags = fx->fs->ops->init_flags(fx->fs) & ~flags;
	fx->session = fx->fs->ops->session_new(fx->fs, &n);
	assert_non_null(fx->session);
	if (fx_mode.remote) {
		struct mounts *mounts = &fx_filefs(fx)->mounts;

		mounts->table[filefs_session_of(fx->session)->root->mount].remote = true;
		mounts->any_remote = true;
	}
	return fx;
}

static int fx_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void fx_free(struct fx *fx)
{
	fx->fs->ops->session_free(fx->session);
	workers_free(fx->workers);
	if (fx->cache.data) {
		assert_int_equal(cache_storage_drain(fx->cache.files, 10 * 1000000000ull), 0);
		filefs_data_stop(fx->cache.data);
	}
	/* What was taken of the budget has been given back. */
	assert_int_equal(fx_filefs(fx)->fds, 0);
	fx->fs->ops->free(fx->fs);
	if (fx->cache.data)
		fx_cache_free(&fx->cache);
	close(fx->dirfd);
	close(fx->proc);
	nftw(fx->path, fx_remove, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(fx);
}

int fx_setup(void **state)
{
	struct filefs_config config = fx_config();

	*state = fx_new(&config, 0);
	return 0;
}

int fx_teardown(void **state)
{
	fx_free(*state);
	return 0;
}

static void fx_complete(struct fs_req *req, ssize_t result)
{
	struct fx_req *r = container_of(req, struct fx_req, req);

	pthread_mutex_lock(&r->lock);
	assert_false(r->done);
	r->done = true;
	r->result = result;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

void fx_req_init(struct fx_req *r, uint32_t opcode, uint64_t nodeid)
{
	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	r->req.opcode = opcode;
	r->req.nodeid = nodeid;
	r->req.complete = fx_complete;
	r->req.uid = geteuid();
	r->req.gid = getegid();
}

void fx_start(struct fx *fx, struct fx_req *r)
{
	fs_submit(fx->session, &r->req);
}

ssize_t fx_wait(struct fx_req *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->done)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->cond);
	return r->result;
}

bool fx_done(struct fx_req *r)
{
	bool done;

	pthread_mutex_lock(&r->lock);
	done = r->done;
	pthread_mutex_unlock(&r->lock);
	return done;
}

ssize_t fx_call(struct fx *fx, struct fx_req *r)
{
	fx_start(fx, r);
	return fx_wait(r);
}

int fx_lookup(struct fx *fx, uint64_t parent, const char *name, struct fuse_entry_out *e)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_LOOKUP, parent);
	r.req.name = name;
	ret = (int)fx_call(fx, &r);
	if (e)
		*e = r.req.out.entry;
	return ret;
}

void fx_forget(struct fx *fx, uint64_t nodeid, uint64_t n)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_FORGET, nodeid);
	r.req.in.forget.nlookup = n;
	fx_call(fx, &r);
}

int fx_getattr(struct fx *fx, uint64_t nodeid, struct fuse_attr *attr)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_GETATTR, nodeid);
	ret = (int)fx_call(fx, &r);
	if (attr)
		*attr = r.req.out.attr.attr;
	return ret;
}

int fx_open(struct fx *fx, uint64_t nodeid, int flags, struct fuse_open_out *out)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_OPEN, nodeid);
	r.req.in.open.flags = (uint32_t)flags;
	ret = (int)fx_call(fx, &r);
	if (out)
		*out = r.req.out.open;
	return ret;
}

int fx_create(struct fx *fx, uint64_t parent, const char *name, int flags, unsigned mode,
	      struct fuse_entry_out *e, struct fuse_open_out *out)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_CREATE, parent);
	r.req.name = name;
	r.req.in.create.flags = (uint32_t)flags | O_CREAT;
	r.req.in.create.mode = S_IFREG | mode;
	ret = (int)fx_call(fx, &r);
	if (e)
		*e = r.req.out.entry;
	if (out)
		*out = r.req.out.open;
	return ret;
}

int fx_release(struct fx *fx, uint64_t nodeid, uint64_t fh)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_RELEASE, nodeid);
	r.req.in.release.fh = fh;
	return (int)fx_call(fx, &r);
}

ssize_t fx_read(struct fx *fx, uint64_t fh, void *buf, size_t len, uint64_t offset)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_READ, 0);
	r.req.in.read = (struct fuse_read_in){ .fh = fh, .offset = offset, .size = (uint32_t)len };
	r.out = (struct iovec){ buf, len };
	r.req.reply = iov_cursor(&r.out, 1);
	r.req.reply_size = len;
	return fx_call(fx, &r);
}

ssize_t fx_write(struct fx *fx, uint64_t fh, const void *buf, size_t len, uint64_t offset)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_WRITE, 0);
	r.req.in.write =
		(struct fuse_write_in){ .fh = fh, .offset = offset, .size = (uint32_t)len };
	r.in = (struct iovec){ (void *)(uintptr_t)buf, len };
	r.req.data = iov_cursor(&r.in, 1);
	return fx_call(fx, &r);
}

int fx_opendir(struct fx *fx, uint64_t nodeid, uint64_t *fh)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_OPENDIR, nodeid);
	ret = (int)fx_call(fx, &r);
	*fh = r.req.out.open.fh;
	return ret;
}

int fx_releasedir(struct fx *fx, uint64_t nodeid, uint64_t fh)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_RELEASEDIR, nodeid);
	r.req.in.release.fh = fh;
	return (int)fx_call(fx, &r);
}

ssize_t fx_readdir(struct fx *fx, uint32_t opcode, uint64_t nodeid, uint64_t fh, uint64_t offset,
		   void *buf, size_t size)
{
	struct fx_req r;

	fx_req_init(&r, opcode, nodeid);
	r.req.in.read = (struct fuse_read_in){ .fh = fh, .offset = offset, .size = (uint32_t)size };
	r.out = (struct iovec){ buf, size };
	r.req.reply = iov_cursor(&r.out, 1);
	r.req.reply_size = size;
	return fx_call(fx, &r);
}

int fx_unlink(struct fx *fx, uint64_t parent, const char *name)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_UNLINK, parent);
	r.req.name = name;
	return (int)fx_call(fx, &r);
}

int fx_mkdir(struct fx *fx, uint64_t parent, const char *name, struct fuse_entry_out *e)
{
	struct fx_req r;
	int ret;

	fx_req_init(&r, FUSE_MKDIR, parent);
	r.req.name = name;
	r.req.in.mkdir.mode = 0755;
	ret = (int)fx_call(fx, &r);
	if (e)
		*e = r.req.out.entry;
	return ret;
}

struct inode_table *fx_inodes(struct fx *fx)
{
	return &filefs_session_of(fx->session)->inodes;
}

struct filefs *fx_filefs(struct fx *fx)
{
	return container_of(fx->fs, struct filefs, fs);
}

bool fx_handles(struct fx *fx)
{
	const struct inode *root = filefs_session_of(fx->session)->root;

	return fx_filefs(fx)->mounts.table[root->mount].handles;
}
