/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory streams: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
 *
 * A stream reads ahead with getdents64 into a buffer of its own and gives out
 * from there. Positions are the host's d_off cookies, so that a position that the
 * guest remembers means what it means on the host, also after
 * changes: whoever asks for another position than the next one is served by an lseek.
 */
/* #syscalls getdents64 lseek statx close */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/filefs/internal.h"

#define DIR_BUFFER (32u << 10)
/* Beyond so many streams under way, a buffer is a small one that still takes any entry. */
#define DIR_BUFFERS_LARGE 1024u
#define DIR_BUFFER_SMALL (2u << 10)

struct dirstream {
	struct slot slot;
	pthread_mutex_t lock; /* covers all below: a guest may read one handle twice at once */
	char *buf;	      /* process-private; what is in it can be read again from next */
	uint32_t size, len, pos;
	uint64_t next; /* cookie of the entry at buf + pos, or of the descriptor */
	bool started;
	bool ended; /* next was seen to be the end, in the request before */
};

void filefs_dirs_init(struct filefs_session *s)
{
	slots_init(&s->dirs, sizeof(struct dirstream), HANDLES_MAX);
	pthread_mutex_init(&s->dir_pool.lock, NULL);
}

void filefs_dirs_fini(struct filefs_session *s)
{
	struct dir_pool *pool = &s->dir_pool;

	while (pool->spares)
		free(pool->spare[--pool->spares]);
	pthread_mutex_destroy(&pool->lock);
	slots_fini(&s->dirs);
}

/* False for lack of memory. */
static bool dir_take_buffer(struct filefs_session *s, struct dirstream *d)
{
	struct dir_pool *pool = &s->dir_pool;

	pthread_mutex_lock(&pool->lock);
	d->size = pool->large < DIR_BUFFERS_LARGE ? DIR_BUFFER : DIR_BUFFER_SMALL;
	if (d->size == DIR_BUFFER) {
		pool->large++;
		if (pool->spares)
			d->buf = pool->spare[--pool->spares];
	}
	pthread_mutex_unlock(&pool->lock);
	if (!d->buf)
		d->buf = malloc(d->size);
	if (!d->buf && d->size == DIR_BUFFER) {
		pthread_mutex_lock(&pool->lock);
		pool->large--;
		pthread_mutex_unlock(&pool->lock);
	}
	return d->buf;
}

static void dir_drop_buffer(struct filefs_session *s, struct dirstream *d)
{
	struct dir_pool *pool = &s->dir_pool;
	char *buf = d->buf;

	d->buf = NULL;
	d->len = d->pos = 0;
	if (!buf)
		return;
	if (d->size == DIR_BUFFER) {
		pthread_mutex_lock(&pool->lock);
		pool->large--;
		if (pool->spares < DIR_POOL_MAX) {
			pool->spare[pool->spares++] = buf;
			buf = NULL;
		}
		pthread_mutex_unlock(&pool->lock);
	}
	free(buf);
}

void filefs_dir_free(struct filefs_session *s, uint32_t index)
{
	struct dirstream *d = slot_peek(&s->dirs, index);

	dir_drop_buffer(s, d);
	pthread_mutex_destroy(&d->lock);
	slot_free(&s->dirs, d);
}

ssize_t filefs_opendir(struct filefs_session *s, struct fs_req *req)
{
	struct filefs *fs = filefs_of(s);
	struct inode *inode = inode_get(&s->inodes, req->nodeid);
	struct dirstream *d;
	int fd, ret = -ENFILE;

	if (!inode)
		return -ESTALE;
	if (!filefs_fd_take(fs))
		goto put_inode;
	ret = -ENOTDIR;
	if (inode->type != S_IFDIR)
		goto put_budget;
	fd = ret = inode_open(&s->inodes, inode, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		goto put_budget;
	ret = -ENFILE;
	d = slot_alloc(&s->dirs);
	if (!d)
		goto close_fd;
	pthread_mutex_init(&d->lock, NULL);
	d->buf = NULL;
	d->size = d->len = d->pos = 0;
	d->next = 0;
	d->started = d->ended = false;

	req->out.open = (struct fuse_open_out){ 0 };
	if (fs->config.cache == FILEFS_CACHE_ALWAYS)
		req->out.open.open_flags = FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE;
	ret = filefs_handle_add(s, inode, fd, HANDLE_DIR, d->slot.index, &req->out.open.fh);
	if (ret == 0)
		goto put_inode;
	filefs_dir_free(s, d->slot.index);
close_fd:
	close(fd);
put_budget:
	filefs_fd_release(fs);
put_inode:
	inode_put(&s->inodes, inode);
	return ret;
}

ssize_t filefs_releasedir(struct filefs_session *s, struct fs_req *req)
{
	return filefs_handle_release(s, req->in.release.fh, true) ? 0 : -EBADF;
}

/* Called with the stream's lock held. */
static int dir_seek(struct dirstream *d, int fd, uint64_t offset)
{
	/* Offset 0 is rewinddir: it wants to see what is there now. */
	if (d->next == offset && (offset || !d->started))
		return 0;
	if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	d->len = d->pos = 0;
	d->next = offset;
	d->ended = false;
	return 0;
}

/* The entry at the stream's position; NULL at the end, or for *@error. Called
 * with the stream's lock held. */
static const struct dirent64 *dir_peek(struct filefs_session *s, struct dirstream *d, int fd,
				       int *error)
{
	ssize_t n;

	*error = 0;
	if (d->pos < d->len)
		return (const struct dirent64 *)(d->buf + d->pos);
	if (!d->buf && !dir_take_buffer(s, d)) {
		*error = -ENOMEM;
		return NULL;
	}
	d->pos = d->len = 0;
	n = getdents64(fd, d->buf, d->size);
	if (n <= 0) {
		if (n < 0)
			*error = -errno;
		d->ended = n == 0;
		dir_drop_buffer(s, d);
		return NULL;
	}
	d->len = (uint32_t)n;
	return (const struct dirent64 *)d->buf;
}

static bool dir_is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

struct dir_read {
	struct filefs_session *s;
	struct fs_req *req;
	struct handle *h;
	struct inode *inode;
	bool plus;
	size_t used;
};

/* False when the reply is full. */
static bool dir_emit(struct dir_read *r, const struct dirent64 *e)
{
	struct filefs *fs = filefs_of(r->s);
	size_t len = strlen(e->d_name);
	uint64_t ino = filefs_guest_ino(fs, fs->mounts.table[r->h->mount].dev, e->d_ino);
	struct fuse_entry_out entry = { 0 };

	/* The parent of the root is none of the guest's business. */
	if (r->inode == r->s->root && e->d_name[0] == '.' && e->d_name[1] == '.' && !e->d_name[2])
		ino = r->inode->ino;
	if (!r->plus)
		return fs_dirent_add(r->req, &r->used, ino, (uint64_t)e->d_off, e->d_type,
				     e->d_name, len);
	/* Room first: a lookup that is not given out would never be forgotten. */
	if (fs_direntplus_size(len) > r->req->reply_size - r->used)
		return false;
	/* A name that went since getdents: given out without a nodeid, the guest will ask. */
	if (!dir_is_dot(e->d_name) &&
	    filefs_lookup_name(r->s, r->inode, r->h->fd, e->d_name, false, &entry) == 0)
		ino = entry.attr.ino;
	else
		memset(&entry, 0, sizeof(entry));
	return fs_direntplus_add(r->req, &r->used, &entry, ino, (uint64_t)e->d_off, e->d_type,
				 e->d_name, len);
}

/* Called with the stream's lock held. */
static ssize_t dir_read(struct dir_read *r, struct dirstream *d)
{
	const struct dirent64 *e;
	int ret = dir_seek(d, r->h->fd, r->req->in.read.offset);

	if (ret < 0)
		return ret;
	/* The guest asks once more to hear that this was the end. Once: who comes back
	 * later gets what came since. */
	if (d->ended) {
		d->ended = false;
		return 0;
	}
	d->started = true;
	while ((e = dir_peek(r->s, d, r->h->fd, &ret)) != NULL) {
		if (!dir_emit(r, e)) {
			ret = -EINVAL; /* if it is the first: no room for anything */
			break;
		}
		d->pos += e->d_reclen;
		d->next = (uint64_t)e->d_off;
	}
	/* Nothing came before the end: this is the answer that says so. */
	if (!r->used)
		d->ended = false;
	return r->used ? (ssize_t)r->used : ret;
}

static ssize_t dir_read_request(struct filefs_session *s, struct fs_req *req, bool plus)
{
	struct dir_read r = { .s = s, .req = req, .plus = plus };
	struct dirstream *d;
	ssize_t n;

	r.h = filefs_handle_get(s, req->in.read.fh, true);
	if (!r.h)
		return -EBADF;
	r.inode = slot_peek(&s->inodes.slots, r.h->inode);
	d = slot_peek(&s->dirs, r.h->dir);
	pthread_mutex_lock(&d->lock);
	n = dir_read(&r, d);
	pthread_mutex_unlock(&d->lock);
	filefs_handle_put(s, r.h);
	return n;
}

ssize_t filefs_readdir(struct filefs_session *s, struct fs_req *req)
{
	return dir_read_request(s, req, false);
}

ssize_t filefs_readdirplus(struct filefs_session *s, struct fs_req *req)
{
	return dir_read_request(s, req, true);
}
