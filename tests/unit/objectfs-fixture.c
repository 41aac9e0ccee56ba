/* SPDX-License-Identifier: Apache-2.0 */
#include "objectfs-fixture.h"

#include <sys/stat.h>

#define PATH_ROOM 8192

void ox_init(struct ox *ox)
{
	memset(ox, 0, sizeof(*ox));
	log_set_level(LOG_LEVEL_ERROR);
	cache_env_init(&ox->ce, NULL);
	ox->config = (struct objectfs_config){
		.uid = 1000,
		.gid = 1000,
		.file_mode = 0644,
		.dir_mode = 0755,
		.attr_timeout_ns = 60 * SEC,
		.entry_timeout_ns = 60 * SEC,
		.negative_timeout_ns = 60 * SEC,
		.readdirplus = true,
		.listing_max = 10000,
		.rename_max = 1000,
		.statfs_size = 1ull << 50,
	};
}

struct fs_session *ox_session(struct ox *ox)
{
	struct fs_negotiated n = { .minor = 38, .max_write = 1u << 20 };
	struct fs_session *session;

	n.flags = ox->fs->ops->init_flags(ox->fs);
	session = ox->fs->ops->session_new(ox->fs, &n);
	assert_non_null(session);
	return session;
}

void ox_open(struct ox *ox)
{
	ox->ce.config.write_back = ox->config.write_back;
	cache_env_open(&ox->ce);
	env_ok(objectfs_new(&ox->fs, &ox->config, ox->ce.env.top, ox->ce.storage, ox->ce.workers));
	ox->session = ox_session(ox);
}

void ox_close(struct ox *ox)
{
	ox->fs->ops->session_free(ox->session);
	ox->fs->ops->free(ox->fs);
	cache_env_close(&ox->ce);
}

int ox_setup(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox_open(ox);
	*state = ox;
	return 0;
}

int ox_setup_write_back(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));

	ox_init(ox);
	ox->config.write_back = true;
	ox_open(ox);
	*state = ox;
	return 0;
}

int ox_teardown(void **state)
{
	ox_close(*state);
	free(*state);
	return 0;
}

/* ---- Requests ---- */

static void ox_complete(struct fs_req *req, ssize_t result)
{
	struct ox_req *r = container_of(req, struct ox_req, req);

	pthread_mutex_lock(&r->lock);
	assert_false(r->done);
	r->done = true;
	r->result = result;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

void ox_req_init(struct ox_req *r, uint32_t opcode, uint64_t nodeid)
{
	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	r->req.opcode = opcode;
	r->req.nodeid = nodeid;
	r->req.complete = ox_complete;
}

void ox_start(struct ox *ox, struct ox_req *r)
{
	fs_submit(ox->session, &r->req);
}

ssize_t ox_wait(struct ox_req *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->done)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->cond);
	return r->result;
}

ssize_t ox_call(struct ox *ox, struct ox_req *r)
{
	ox_start(ox, r);
	return ox_wait(r);
}

int ox_lookup(struct ox *ox, uint64_t parent, const char *name, struct fuse_entry_out *e)
{
	struct ox_req r;
	int ret;

	ox_req_init(&r, FUSE_LOOKUP, parent);
	r.req.name = name;
	ret = (int)ox_call(ox, &r);
	if (e)
		*e = r.req.out.entry;
	return ret;
}

void ox_forget(struct ox *ox, uint64_t nodeid, uint64_t n)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_FORGET, nodeid);
	r.req.in.forget.nlookup = n;
	ox_call(ox, &r);
}

int ox_getattr(struct ox *ox, uint64_t nodeid, struct fuse_attr *attr)
{
	struct ox_req r;
	int ret;

	ox_req_init(&r, FUSE_GETATTR, nodeid);
	ret = (int)ox_call(ox, &r);
	if (attr)
		*attr = r.req.out.attr.attr;
	return ret;
}

int ox_setattr(struct ox *ox, uint64_t nodeid, const struct fuse_setattr_in *in,
	       struct fuse_attr *attr)
{
	struct ox_req r;
	int ret;

	ox_req_init(&r, FUSE_SETATTR, nodeid);
	r.req.in.setattr = *in;
	ret = (int)ox_call(ox, &r);
	if (attr)
		*attr = r.req.out.attr.attr;
	return ret;
}

int ox_open_node(struct ox *ox, uint64_t nodeid, int flags, struct fuse_open_out *out)
{
	struct ox_req r;
	int ret;

	ox_req_init(&r, FUSE_OPEN, nodeid);
	r.req.in.open.flags = (uint32_t)flags;
	ret = (int)ox_call(ox, &r);
	*out = r.req.out.open;
	return ret;
}

int ox_opendir(struct ox *ox, uint64_t nodeid, uint64_t *fh)
{
	struct ox_req r;
	int ret;

	ox_req_init(&r, FUSE_OPENDIR, nodeid);
	ret = (int)ox_call(ox, &r);
	*fh = r.req.out.open.fh;
	return ret;
}

ssize_t ox_readdir(struct ox *ox, uint32_t opcode, uint64_t fh, uint64_t offset, void *buf,
		   size_t size)
{
	struct ox_req r;

	ox_req_init(&r, opcode, 1);
	r.req.in.read = (struct fuse_read_in){ .fh = fh, .offset = offset, .size = (uint32_t)size };
	r.out = (struct iovec){ buf, size };
	r.req.reply = iov_cursor(&r.out, 1);
	r.req.reply_size = size;
	return ox_call(ox, &r);
}

int ox_releasedir(struct ox *ox, uint64_t fh)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_RELEASEDIR, 0);
	r.req.in.release.fh = fh;
	return (int)ox_call(ox, &r);
}

int ox_flush(struct ox *ox, uint64_t fh)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_FLUSH, 0);
	r.req.in.flush.fh = fh;
	return (int)ox_call(ox, &r);
}

int ox_release(struct ox *ox, uint64_t fh)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_RELEASE, 0);
	r.req.in.release.fh = fh;
	return (int)ox_call(ox, &r);
}

int ox_fsync(struct ox *ox, uint64_t fh)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_FSYNC, 0);
	r.req.in.fsync.fh = fh;
	return (int)ox_call(ox, &r);
}

ssize_t ox_read(struct ox *ox, uint64_t fh, void *buf, size_t len, uint64_t offset)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_READ, 0);
	r.req.in.read = (struct fuse_read_in){ .fh = fh, .offset = offset, .size = (uint32_t)len };
	r.out = (struct iovec){ buf, len };
	r.req.reply = iov_cursor(&r.out, 1);
	r.req.reply_size = len;
	return ox_call(ox, &r);
}

ssize_t ox_write(struct ox *ox, uint64_t fh, const void *buf, size_t len, uint64_t offset)
{
	struct ox_req r;

	ox_req_init(&r, FUSE_WRITE, 0);
	r.req.in.write =
		(struct fuse_write_in){ .fh = fh, .offset = offset, .size = (uint32_t)len };
	r.in = (struct iovec){ (void *)(uintptr_t)buf, len };
	r.req.data = iov_cursor(&r.in, 1);
	return ox_call(ox, &r);
}

/* ---- Paths ---- */

int ox_walk(struct ox *ox, const char *path, uint64_t *parent, const char **name)
{
	char component[NAME_MAX + 1];
	const char *slash;

	*parent = FUSE_ROOT_ID;
	while ((slash = strchr(path, '/')) != NULL) {
		struct fuse_entry_out e;
		int ret;

		snprintf(component, sizeof(component), "%.*s", (int)(slash - path), path);
		ret = ox_lookup(ox, *parent, component, &e);
		if (ret || !e.nodeid)
			return ret ? ret : -ENOENT;
		*parent = e.nodeid;
		path = slash + 1;
	}
	*name = path;
	return 0;
}

int ox_stat(struct ox *ox, const char *path, struct fuse_entry_out *e)
{
	struct fuse_entry_out entry;
	const char *name;
	uint64_t parent;
	int ret = ox_walk(ox, path, &parent, &name);

	if (!ret && !*name) {
		memset(&entry, 0, sizeof(entry));
		entry.nodeid = parent;
	} else if (!ret) {
		ret = ox_lookup(ox, parent, name, &entry);
	}
	if (!ret && !entry.nodeid)
		ret = -ENOENT;
	if (!ret && e)
		*e = entry;
	return ret;
}

int ox_openat(struct ox *ox, const char *path, int flags, uint64_t *fh)
{
	struct fuse_entry_out e;
	struct fuse_open_out out;
	int ret = ox_stat(ox, path, &e);

	if (!ret)
		ret = ox_open_node(ox, e.nodeid, flags, &out);
	*fh = out.fh;
	return ret;
}

int ox_create(struct ox *ox, const char *path, int flags, uint64_t *fh)
{
	const char *name;
	struct ox_req r;
	uint64_t parent;
	int ret = ox_walk(ox, path, &parent, &name);

	if (ret)
		return ret;
	ox_req_init(&r, FUSE_CREATE, parent);
	r.req.name = name;
	r.req.in.create.flags = (uint32_t)flags | O_CREAT;
	r.req.in.create.mode = S_IFREG | 0644;
	ret = (int)ox_call(ox, &r);
	*fh = r.req.out.open.fh;
	return ret;
}

int ox_closeat(struct ox *ox, uint64_t fh)
{
	int ret = ox_flush(ox, fh);

	assert_int_equal(ox_release(ox, fh), 0);
	return ret;
}

static int ox_name_op(struct ox *ox, uint32_t opcode, const char *path)
{
	const char *name;
	struct ox_req r;
	uint64_t parent;
	int ret = ox_walk(ox, path, &parent, &name);

	if (ret)
		return ret;
	ox_req_init(&r, opcode, parent);
	r.req.name = name;
	return (int)ox_call(ox, &r);
}

int ox_mkdir(struct ox *ox, const char *path)
{
	return ox_name_op(ox, FUSE_MKDIR, path);
}

int ox_rmdir(struct ox *ox, const char *path)
{
	return ox_name_op(ox, FUSE_RMDIR, path);
}

int ox_unlink(struct ox *ox, const char *path)
{
	return ox_name_op(ox, FUSE_UNLINK, path);
}

int ox_rename(struct ox *ox, const char *from, const char *to, unsigned flags)
{
	uint64_t from_dir, to_dir;
	const char *from_name, *to_name;
	struct ox_req r;
	int ret = ox_walk(ox, from, &from_dir, &from_name);

	if (!ret)
		ret = ox_walk(ox, to, &to_dir, &to_name);
	if (ret)
		return ret;
	ox_req_init(&r, FUSE_RENAME2, from_dir);
	r.req.name = from_name;
	r.req.newname = to_name;
	r.req.in.rename.newdir = to_dir;
	r.req.in.rename.flags = flags;
	return (int)ox_call(ox, &r);
}

int ox_truncate(struct ox *ox, const char *path, uint64_t size)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = size };
	struct fuse_entry_out e;
	int ret = ox_stat(ox, path, &e);

	return ret ? ret : ox_setattr(ox, e.nodeid, &in, NULL);
}

void ox_put(struct ox *ox, const char *path, const char *text)
{
	uint64_t fh;

	assert_int_equal(ox_create(ox, path, O_WRONLY | O_TRUNC, &fh), 0);
	if (*text)
		assert_int_equal(ox_write(ox, fh, text, strlen(text), 0), strlen(text));
	assert_int_equal(ox_closeat(ox, fh), 0);
}

void ox_expect(struct ox *ox, const char *path, const char *text)
{
	size_t room = strlen(text) + 100;
	char *buf = calloc(1, room + 1);
	uint64_t fh;
	ssize_t n;

	assert_int_equal(ox_openat(ox, path, O_RDONLY, &fh), 0);
	n = ox_read(ox, fh, buf, room, 0);
	assert_int_equal(n, strlen(text));
	assert_string_equal(buf, text);
	assert_int_equal(ox_release(ox, fh), 0);
	free(buf);
}

/* Appends what one reply has; returns the position after it. */
static uint64_t ox_list_reply(uint32_t opcode, const char *buf, ssize_t n, char *text)
{
	uint64_t offset = 0;

	for (ssize_t pos = 0; pos < n;) {
		struct fuse_dirent d;
		const char *name;

		if (opcode == FUSE_READDIRPLUS)
			pos += (ssize_t)sizeof(struct fuse_entry_out);
		memcpy(&d, buf + pos, FUSE_NAME_OFFSET);
		name = buf + pos + FUSE_NAME_OFFSET;
		pos += (ssize_t)FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
		offset = d.off;
		if (name[0] == '.' && (d.namelen == 1 || (d.namelen == 2 && name[1] == '.')))
			continue;
		assert_in_range(strlen(text) + d.namelen + 3, 0, PATH_ROOM);
		sprintf(text + strlen(text), "%s%.*s%s", *text ? "," : "", (int)d.namelen, name,
			d.type == DT_DIR ? "/" : "");
	}
	return offset;
}

const char *ox_list_as(struct ox *ox, const char *path, uint32_t opcode, size_t room)
{
	static char text[PATH_ROOM];
	char *buf = malloc(room);
	struct fuse_entry_out e;
	uint64_t fh, offset = 0;
	ssize_t n;
	int ret = ox_stat(ox, path, &e);

	if (!ret)
		ret = ox_opendir(ox, e.nodeid, &fh);
	if (ret) {
		free(buf);
		return strerror(-ret);
	}
	text[0] = '\0';
	while ((n = ox_readdir(ox, opcode, fh, offset, buf, room)) > 0)
		offset = ox_list_reply(opcode, buf, n, text);
	if (n < 0)
		fail_msg("readdir: %s", strerror((int)-n));
	assert_int_equal(ox_releasedir(ox, fh), 0);
	free(buf);
	return text;
}

const char *ox_list(struct ox *ox, const char *path)
{
	return ox_list_as(ox, path, FUSE_READDIRPLUS, 65536);
}

/* ---- The bucket ---- */

void ox_bucket_put(struct ox *ox, const char *key, const char *text)
{
	assert_int_equal(store_memory_write(ox->ce.env.memory, key, text, strlen(text), NULL), 0);
}

void ox_bucket_remove(struct ox *ox, const char *key)
{
	assert_int_equal(store_memory_remove(ox->ce.env.memory, key), 0);
}

const char *ox_bucket(struct ox *ox, const char *key)
{
	static char text[4096];
	struct store_meta meta;

	if (store_memory_read(ox->ce.env.memory, key, text, sizeof(text) - 1, &meta))
		return "(none)";
	text[MIN(meta.size, (uint64_t)sizeof(text) - 1)] = '\0';
	return text;
}

uint64_t ox_spent(struct ox *ox)
{
	uint64_t now = cache_env_requests(&ox->ce), spent = now - ox->counted;

	ox->counted = now;
	return spent;
}
