/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls fcntl flock close futex */
#include "fs/filefs/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

#define LOCK_DELAY_MIN_NS 5000000ull
#define LOCK_DELAY_MAX_NS 100000000ull

/* One guest lock owner on one inode. */
struct lock_owner {
	struct list link; /* lock_table.lock */
	unsigned refs;	  /* lock_table.lock; one for being in the table */
	uint64_t owner;
	struct inode *inode; /* a reference: the index in the key stays its own */
	int fd;
};

struct lock_waiter {
	struct list link; /* locks.lock; only the lock thread removes it */
	struct filefs_session *s;
	struct fs_req *req;
	struct lock_owner *owner; /* POSIX locks: a reference */
	struct handle *handle;	  /* flock: a reference */
	uint32_t inode;		  /* with s: who is interested in an unlock */
	uint64_t mount_ino;	  /* the same across sessions */
	uint64_t due_ns, delay_ns;
	bool kicked, interrupted;
};

void lock_table_init(struct lock_table *t)
{
	pthread_mutex_init(&t->lock, NULL);
	atomic_init(&t->count, 0);
	for (unsigned i = 0; i < LOCK_BUCKETS; i++)
		list_init(&t->buckets[i]);
}

static struct list *lock_bucket(struct lock_table *t, uint32_t inode, uint64_t owner)
{
	uint64_t h = (owner ^ inode) * 0x9e3779b97f4a7c15ull;

	return &t->buckets[h >> 56];
}
_Static_assert(LOCK_BUCKETS == 256, "eight bits of the hash");

/* Called with the table's lock held. */
static struct lock_owner *lock_owner_find(struct lock_table *t, uint32_t inode, uint64_t owner)
{
	struct list *bucket = lock_bucket(t, inode, owner), *pos;

	list_for_each (pos, bucket) {
		struct lock_owner *o = list_entry(pos, struct lock_owner, link);

		if (o->owner == owner && o->inode->slot.index == inode)
			return o;
	}
	return NULL;
}

static void lock_owner_free(struct filefs_session *s, struct lock_owner *o)
{
	close(o->fd);
	filefs_fd_release(filefs_of(s));
	inode_put(&s->inodes, o->inode);
	free(o);
}

static void lock_owner_put(struct filefs_session *s, struct lock_owner *o)
{
	bool last;

	pthread_mutex_lock(&s->lock_owners.lock);
	last = --o->refs == 0;
	pthread_mutex_unlock(&s->lock_owners.lock);
	if (last)
		lock_owner_free(s, o);
}

/* A new owner's descriptor: a write lock needs one open for writing. */
static int lock_owner_open(struct filefs_session *s, struct inode *inode, struct lock_owner **out)
{
	struct lock_owner *o;
	int fd;

	if (!filefs_fd_take(filefs_of(s)))
		return -ENFILE;
	fd = inode_open(&s->inodes, inode, O_RDWR);
	if (fd < 0)
		fd = inode_open(&s->inodes, inode, O_RDONLY);
	o = fd < 0 ? NULL : malloc(sizeof(*o));
	if (!o) {
		filefs_fd_release(filefs_of(s));
		if (fd < 0)
			return fd;
		close(fd);
		return -ENOMEM;
	}
	*o = (struct lock_owner){ .refs = 2, .inode = inode, .fd = fd };
	slot_hold(inode);
	*out = o;
	return 0;
}

/* The owner's entry, made when it is not there and @make. 0 and NULL when not. */
static int lock_owner_get(struct filefs_session *s, struct inode *inode, uint64_t owner, bool make,
			  struct lock_owner **out)
{
	struct lock_table *t = &s->lock_owners;
	struct lock_owner *o, *fresh = NULL;
	int ret;

	pthread_mutex_lock(&t->lock);
	o = lock_owner_find(t, inode->slot.index, owner);
	if (o)
		o->refs++;
	pthread_mutex_unlock(&t->lock);
	*out = o;
	if (o || !make)
		return 0;
	ret = lock_owner_open(s, inode, &fresh);
	if (ret < 0)
		return ret;
	fresh->owner = owner;
	pthread_mutex_lock(&t->lock);
	o = lock_owner_find(t, inode->slot.index, owner);
	if (o) {
		o->refs++;
	} else {
		o = fresh;
		fresh = NULL;
		list_push_back(lock_bucket(t, inode->slot.index, owner), &o->link);
		atomic_fetch_add(&t->count, 1);
	}
	pthread_mutex_unlock(&t->lock);
	if (fresh)
		lock_owner_free(s, fresh);
	*out = o;
	return 0;
}

void lock_table_fini(struct filefs_session *s)
{
	struct lock_table *t = &s->lock_owners;
	struct list *link;

	for (unsigned i = 0; i < LOCK_BUCKETS; i++)
		while ((link = list_pop_front(&t->buckets[i])) != NULL)
			lock_owner_free(s, list_entry(link, struct lock_owner, link));
	pthread_mutex_destroy(&t->lock);
}

static uint64_t lock_mount_ino(const struct inode *inode)
{
	return ((uint64_t)atomic_load(&inode->mount) << 48) ^ inode->ino;
}

/* Something on @inode was unlocked: whoever waits for it tries again. */
static void locks_kick(struct filefs *fs, const struct inode *inode)
{
	struct locks *l = &fs->locks;
	struct list *pos;

	if (!atomic_load(&l->count))
		return;
	pthread_mutex_lock(&l->lock);
	list_for_each (pos, &l->waiters) {
		struct lock_waiter *w = list_entry(pos, struct lock_waiter, link);

		if (w->mount_ino == lock_mount_ino(inode))
			w->kicked = true;
	}
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

void lock_owner_release(struct filefs_session *s, uint32_t index, uint64_t owner)
{
	struct lock_table *t = &s->lock_owners;
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	struct lock_owner *o;

	if (!atomic_load(&t->count))
		return;
	pthread_mutex_lock(&t->lock);
	o = lock_owner_find(t, index, owner);
	if (o) {
		list_remove(&o->link);
		atomic_fetch_sub(&t->count, 1);
	}
	pthread_mutex_unlock(&t->lock);
	if (!o)
		return;
	/* Closing would do, were there no waiter of this owner to hold it open. */
	fcntl(o->fd, F_OFD_SETLK, &all);
	locks_kick(filefs_of(s), o->inode);
	lock_owner_put(s, o);
}

void lock_flock_release(struct filefs_session *s, struct handle *h)
{
	flock(h->fd, LOCK_UN);
	atomic_fetch_and(&h->flags, ~(uint32_t)HANDLE_LOCKED);
	locks_kick(filefs_of(s), slot_peek(&s->inodes.slots, h->inode));
}

static int lock_range(const struct fuse_file_lock *lk, struct flock *fl)
{
	if (lk->type != F_RDLCK && lk->type != F_WRLCK && lk->type != F_UNLCK)
		return -EINVAL;
	if (lk->start > INT64_MAX || lk->end < lk->start)
		return -EINVAL;
	*fl = (struct flock){
		.l_type = (short)lk->type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)lk->start,
		/* Length 0 reaches to the end, wherever that is. */
		.l_len = lk->end >= INT64_MAX ? 0 : (off_t)(lk->end - lk->start + 1),
	};
	return 0;
}

static int lock_try_posix(const struct lock_owner *o, const struct fs_req *req)
{
	struct flock fl;
	int ret = lock_range(&req->in.lk.lk, &fl);

	if (ret < 0)
		return ret;
	if (fcntl(o->fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static int lock_try_flock(struct handle *h, const struct fs_req *req)
{
	int op = LOCK_NB;

	switch (req->in.lk.lk.type) {
	case F_RDLCK:
		op |= LOCK_SH;
		break;
	case F_WRLCK:
		op |= LOCK_EX;
		break;
	case F_UNLCK:
		op |= LOCK_UN;
		break;
	default:
		return -EINVAL;
	}
	return flock(h->fd, op) < 0 ? -errno : 0;
}

static int lock_waiter_try(const struct lock_waiter *w)
{
	int ret = w->owner ? lock_try_posix(w->owner, w->req) : lock_try_flock(w->handle, w->req);

	if (ret == 0 && filefs_of(w->s)->data)
		data_locked(w->s, w->req->in.lk.fh);
	return ret;
}

/* The waiter is out of the list. What it holds goes before the request is
 * completed: then the session may go. */
static void lock_waiter_finish(struct lock_waiter *w, int result)
{
	struct filefs *fs = filefs_of(w->s);
	struct fs_req *req = w->req;

	/* A shared lock may have been an exclusive one before. */
	if (result == 0 && req->in.lk.lk.type == F_RDLCK)
		locks_kick(fs, slot_peek(&w->s->inodes.slots, w->inode));
	if (w->owner)
		lock_owner_put(w->s, w->owner);
	if (w->handle)
		filefs_handle_put(w->s, w->handle);
	free(w);
	fs_req_complete(req, result);
}

/* The first waiter whose time has come; else NULL and when to look again. Called
 * with the lock held. */
static struct lock_waiter *locks_due(struct locks *l, uint64_t now, uint64_t *next_ns)
{
	struct list *pos;

	*next_ns = UINT64_MAX;
	list_for_each (pos, &l->waiters) {
		struct lock_waiter *w = list_entry(pos, struct lock_waiter, link);

		if (w->kicked || w->interrupted || w->due_ns <= now)
			return w;
		*next_ns = MIN(*next_ns, w->due_ns);
	}
	return NULL;
}

static void locks_sleep(struct locks *l, uint64_t until_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(until_ns / 1000000000u),
			       .tv_nsec = (long)(until_ns % 1000000000u) };

	if (until_ns == UINT64_MAX)
		pthread_cond_wait(&l->wake, &l->lock);
	else
		pthread_cond_timedwait(&l->wake, &l->lock, &ts);
}

static void *locks_thread(void *arg)
{
	struct locks *l = arg;
	uint64_t next_ns;

	pthread_mutex_lock(&l->lock);
	while (!l->stopping) {
		struct lock_waiter *w = locks_due(l, loop_now_ns(), &next_ns);
		bool interrupted;
		int ret;

		if (!w) {
			locks_sleep(l, next_ns);
			continue;
		}
		interrupted = w->interrupted;
		w->kicked = false;
		pthread_mutex_unlock(&l->lock);
		ret = interrupted ? -EINTR : lock_waiter_try(w);
		pthread_mutex_lock(&l->lock);
		if (ret == -EAGAIN) {
			w->due_ns = loop_now_ns() + w->delay_ns;
			w->delay_ns = MIN(w->delay_ns * 2, LOCK_DELAY_MAX_NS);
			continue;
		}
		list_remove(&w->link);
		atomic_fetch_sub(&l->count, 1);
		pthread_mutex_unlock(&l->lock);
		lock_waiter_finish(w, ret);
		pthread_mutex_lock(&l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* Parks @w. False when there is no thread to wake it. */
static bool locks_park(struct locks *l, struct lock_waiter *w)
{
	bool ok;

	pthread_mutex_lock(&l->lock);
	if (!l->started)
		l->started = pthread_create(&l->thread, NULL, locks_thread, l) == 0;
	ok = l->started;
	if (ok) {
		for (unsigned i = 0; i < LOCKS_EARLY; i++)
			if (l->early[i].unique == w->req->unique && l->early[i].s == w->s &&
			    w->req->unique) {
				w->interrupted = true;
				l->early[i].unique = 0;
			}
		list_push_back(&l->waiters, &w->link);
		atomic_fetch_add(&l->count, 1);
		pthread_cond_signal(&l->wake);
	}
	pthread_mutex_unlock(&l->lock);
	return ok;
}

void locks_interrupt(struct filefs_session *s, uint64_t unique)
{
	struct locks *l = &filefs_of(s)->locks;
	bool found = false;
	struct list *pos;

	pthread_mutex_lock(&l->lock);
	list_for_each (pos, &l->waiters) {
		struct lock_waiter *w = list_entry(pos, struct lock_waiter, link);

		if (w->s == s && (!unique || w->req->unique == unique))
			found = w->interrupted = true;
	}
	if (unique && !found) {
		l->early[l->early_next].s = s;
		l->early[l->early_next].unique = unique;
		l->early_next = (l->early_next + 1) % LOCKS_EARLY;
	}
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

void locks_forget(struct filefs_session *s)
{
	struct locks *l = &filefs_of(s)->locks;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < LOCKS_EARLY; i++)
		if (l->early[i].s == s)
			l->early[i].unique = 0;
	pthread_mutex_unlock(&l->lock);
}

void locks_init(struct locks *l)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->wake, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&l->waiters);
}

void locks_fini(struct locks *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	if (l->started)
		pthread_join(l->thread, NULL);
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
}

ssize_t filefs_getlk(struct filefs_session *s, struct fs_req *req)
{
	const struct fuse_lk_in *in = &req->in.lk;
	struct fuse_file_lock *out = &req->out.lk.lk;
	struct lock_owner *o = NULL;
	struct inode *inode;
	struct flock fl;
	int ret;

	if (!filefs_of(s)->config.posix_locks)
		return -ENOSYS;
	ret = lock_range(&in->lk, &fl);
	if (ret < 0)
		return ret;
	inode = inode_get(&s->inodes, req->nodeid);
	if (!inode)
		return -ESTALE;
	ret = lock_owner_get(s, inode, in->owner, true, &o);
	if (ret == 0)
		ret = fcntl(o->fd, F_OFD_GETLK, &fl) < 0 ? -errno : 0;
	if (o)
		lock_owner_put(s, o);
	inode_put(&s->inodes, inode);
	if (ret < 0)
		return ret;
	/* A process of the host, or another guest's: no pid that means anything here. */
	*out = (struct fuse_file_lock){ .type = (uint32_t)fl.l_type };
	if (fl.l_type != F_UNLCK) {
		out->start = (uint64_t)fl.l_start;
		out->end = fl.l_len ? (uint64_t)fl.l_start + (uint64_t)fl.l_len - 1 : INT64_MAX;
	}
	return 0;
}

/* Tries; parks when it has to wait, with the references in @w. */
static ssize_t lock_request(struct lock_waiter *w, struct inode *inode, bool wait)
{
	struct filefs *fs = filefs_of(w->s);
	struct lock_waiter *parked;
	int ret = lock_waiter_try(w);

	if (ret == 0 && w->req->in.lk.lk.type != F_WRLCK)
		locks_kick(fs, inode);
	if (ret == -EAGAIN && wait) {
		parked = malloc(sizeof(*parked));
		if (!parked)
			return -ENOMEM;
		w->inode = inode->slot.index;
		w->mount_ino = lock_mount_ino(inode);
		w->delay_ns = LOCK_DELAY_MIN_NS;
		span_enter(&w->req->span, SPAN_LOCK);
		*parked = *w; /* due at once: the lock may have become free just now */
		if (locks_park(&fs->locks, parked))
			return FS_PENDING;
		free(parked);
		ret = -ENOLCK;
	}
	return ret;
}

static ssize_t lock_posix(struct filefs_session *s, struct fs_req *req, bool wait)
{
	const struct fuse_lk_in *in = &req->in.lk;
	struct lock_waiter w = { .s = s, .req = req };
	struct inode *inode = inode_get(&s->inodes, req->nodeid);
	ssize_t ret;

	if (!inode)
		return -ESTALE;
	ret = lock_owner_get(s, inode, in->owner, in->lk.type != F_UNLCK, &w.owner);
	/* Before it can be parked: then it may be completed, and the session gone. */
	inode_put(&s->inodes, inode);
	if (w.owner) {
		ret = lock_request(&w, w.owner->inode, wait);
		if (ret != FS_PENDING)
			lock_owner_put(s, w.owner);
	}
	return ret;
}

static ssize_t lock_flock(struct filefs_session *s, struct fs_req *req, bool wait)
{
	struct lock_waiter w = { .s = s, .req = req };
	ssize_t ret;

	w.handle = slot_get(&s->handles, req->in.lk.fh);
	if (!w.handle)
		return -EBADF;
	atomic_fetch_or(&w.handle->flags, HANDLE_LOCKED);
	ret = lock_request(&w, slot_peek(&s->inodes.slots, w.handle->inode), wait);
	if (ret != FS_PENDING)
		filefs_handle_put(s, w.handle);
	return ret;
}

static ssize_t lock_set(struct filefs_session *s, struct fs_req *req, bool wait)
{
	if (!filefs_of(s)->config.posix_locks)
		return -ENOSYS;
	if (req->in.lk.lk_flags & FUSE_LK_FLOCK)
		return lock_flock(s, req, wait);
	return lock_posix(s, req, wait);
}

ssize_t filefs_setlk(struct filefs_session *s, struct fs_req *req)
{
	return lock_set(s, req, false);
}

ssize_t filefs_setlkw(struct filefs_session *s, struct fs_req *req)
{
	return lock_set(s, req, true);
}
