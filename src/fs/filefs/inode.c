/* SPDX-License-Identifier: Apache-2.0 */
/* The table and its index; inode_fd.c has the descriptors. */
/* #syscalls name_to_handle_at getrandom close */
#include "fs/filefs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "fs/filefs/internal.h"

#define SHARD_BUCKETS_MIN 16u

int inode_table_init(struct inode_table *t, struct filefs *fs, unsigned ring_size)
{
	t->fs = fs;
	slots_init(&t->slots, sizeof(struct inode), INODES_MAX);
	pthread_mutex_init(&t->ring_lock, NULL);
	if (getrandom(t->seed, sizeof(t->seed), 0) != sizeof(t->seed))
		t->seed[0] = t->seed[1] = (uintptr_t)t;
	t->ring_size = ring_size;
	t->ring_hand = 0;
	t->ring = ring_size ? calloc(ring_size, sizeof(t->ring[0])) : NULL;
	for (unsigned i = 0; i < INODE_SHARDS; i++) {
		struct inode_shard *shard = &t->shards[i];

		pthread_mutex_init(&shard->lock, NULL);
		shard->count = 0;
		shard->memo = NULL;
		shard->mask = SHARD_BUCKETS_MIN - 1;
		shard->buckets = calloc(SHARD_BUCKETS_MIN, sizeof(shard->buckets[0]));
	}
	for (unsigned i = 0; i < INODE_SHARDS; i++)
		if (!t->shards[i].buckets)
			return -ENOMEM;
	return ring_size && !t->ring ? -ENOMEM : 0;
}

/* Gives back what an inode holds outside the table. Nobody else uses it. */
static void inode_teardown(struct inode_table *t, struct inode *inode)
{
	uint64_t pin = atomic_exchange(&inode->fd_pin, 0);

	if ((uint32_t)pin)
		close((int)(uint32_t)pin - 1);
	if (atomic_load(&inode->flags) & INODE_FD_TAKEN)
		filefs_fd_release(t->fs);
	mounts_put(&t->fs->mounts, atomic_load(&inode->mount));
}

void inode_table_fini(struct inode_table *t)
{
	uint32_t used = atomic_load(&t->slots.used);

	for (uint32_t i = 1; i < used; i++) {
		struct inode *inode = slot_peek(&t->slots, i);

		if (slot_live(inode))
			inode_teardown(t, inode);
	}
	for (unsigned i = 0; i < INODE_SHARDS; i++) {
		free(t->shards[i].buckets);
		free(t->shards[i].memo);
		pthread_mutex_destroy(&t->shards[i].lock);
	}
	free(t->ring);
	pthread_mutex_destroy(&t->ring_lock);
	slots_fini(&t->slots);
}

struct inode *inode_get(struct inode_table *t, uint64_t nodeid)
{
	return slot_get(&t->slots, nodeid);
}

void inode_put(struct inode_table *t, struct inode *inode)
{
	if (slot_put(inode)) {
		inode_teardown(t, inode);
		slot_free(&t->slots, inode);
	}
}

/* A keyed 64-bit mix, so that nobody who picks inode numbers picks our chains. */
static uint64_t inode_hash(const struct inode_table *t, uint32_t mount, uint64_t ino)
{
	uint64_t h = (ino ^ t->seed[0]) + mount * 0x9e3779b97f4a7c15ull;

	h = (h ^ (h >> 32)) * (t->seed[1] | 1);
	h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9ull;
	return h ^ (h >> 32);
}

static struct inode_shard *inode_shard(struct inode_table *t, uint64_t hash)
{
	return &t->shards[hash >> 58];
}
_Static_assert(INODE_SHARDS == 64, "six bits of the hash");

/* Doubles the buckets; failing to is only slower. Called with the lock held. */
static void inode_shard_grow(struct inode_table *t, struct inode_shard *shard)
{
	uint32_t old = shard->mask + 1, mask = old * 2 - 1;
	uint32_t *buckets;

	if (shard->count <= old || old >= INODES_MAX)
		return;
	buckets = calloc(mask + 1, sizeof(buckets[0]));
	if (!buckets)
		return;
	for (uint32_t b = 0; b < old; b++) {
		uint32_t index = shard->buckets[b];

		while (index) {
			struct inode *inode = slot_peek(&t->slots, index);
			uint32_t next = inode->hash_next;
			uint64_t hash = inode_hash(t, atomic_load(&inode->mount), inode->ino);

			inode->hash_next = buckets[hash & mask];
			buckets[hash & mask] = index;
			index = next;
		}
	}
	free(shard->buckets);
	shard->buckets = buckets;
	shard->mask = mask;
}

/* Called with the lock held. */
static void inode_index_insert(struct inode_table *t, struct inode_shard *shard, uint64_t hash,
			       struct inode *inode)
{
	uint32_t *head;

	shard->count++;
	inode_shard_grow(t, shard);
	head = &shard->buckets[hash & shard->mask];
	inode->hash_next = *head;
	*head = inode->slot.index;
	atomic_fetch_or(&inode->flags, INODE_INDEXED);
}

/* Takes @inode out if it is in. Called with the lock held. */
static void inode_index_remove(struct inode_table *t, struct inode_shard *shard, uint64_t hash,
			       struct inode *inode)
{
	uint32_t *link = &shard->buckets[hash & shard->mask];

	if (!(atomic_fetch_and(&inode->flags, (uint16_t)~INODE_INDEXED) & INODE_INDEXED))
		return;
	while (*link != inode->slot.index)
		link = &((struct inode *)slot_peek(&t->slots, *link))->hash_next;
	*link = inode->hash_next;
	shard->count--;
}

/* Called with the lock held. An inode in the index has a lookup count, so a reference. */
static struct inode *inode_index_find(struct inode_table *t, struct inode_shard *shard,
				      uint64_t hash, const struct inode_key *key)
{
	uint32_t index = shard->buckets[hash & shard->mask];

	while (index) {
		struct inode *inode = slot_peek(&t->slots, index);

		if (inode->ino == key->ino && atomic_load(&inode->mount) == key->mount)
			return inode;
		index = inode->hash_next;
	}
	return NULL;
}

/*
 * Is what @key saw under @inode's number the same file? The host may have
 * freed the number and used it again since.
 */
static enum inode_match inode_same(const struct inode *inode, const struct inode_key *key,
				   bool made)
{
	if (inode->type != key->type)
		return INODE_UNKNOWN;
	/* While it is open, its number is not free. */
	if ((uint32_t)atomic_load(&inode->fd_pin))
		return INODE_FOUND;
	if (key->handle_len)
		return key->handle_len == inode->handle_len &&
				       key->handle_type == inode->handle_type &&
				       !memcmp(key->handle, inode->handle, key->handle_len)
			       ? INODE_FOUND
			       : INODE_UNKNOWN;
	if (!made && key->btime_ns && inode->btime_ns)
		return key->btime_ns == inode->btime_ns ? INODE_FOUND : INODE_UNKNOWN;
	return INODE_UNSURE;
}

/* Called with the shard's lock held. */
static void inode_count_lookup(struct inode *inode, uint64_t *nodeid)
{
	inode->nlookup++;
	*nodeid = slot_id(inode);
}

/* An entry of the mounts' table may come to mean another mount, but not the root's. */
static bool inode_memo_covers(const struct inode_table *t, uint32_t mount)
{
	const struct inode *root = slot_peek(&t->slots, FUSE_ROOT_ID);

	return mount == atomic_load(&root->mount);
}

enum inode_match inode_find(struct inode_table *t, struct inode_key *key, bool made,
			    uint64_t *nodeid)
{
	uint64_t hash = inode_hash(t, key->mount, key->ino);
	struct inode_shard *shard = inode_shard(t, hash);
	enum inode_match match = INODE_UNKNOWN;
	struct inode *inode;

	pthread_mutex_lock(&shard->lock);
	inode = inode_index_find(t, shard, hash, key);
	if (inode)
		match = inode_same(inode, key, made);
	else if (!made && inode_memo_covers(t, key->mount))
		handle_memo_find(shard->memo, hash, key);
	if (match == INODE_FOUND)
		inode_count_lookup(inode, nodeid);
	pthread_mutex_unlock(&shard->lock);
	return match;
}

static struct inode *inode_new(struct inode_table *t, const struct inode_key *key, int fd,
			       bool verified)
{
	struct inode *inode = slot_alloc(&t->slots);
	unsigned flags = 0;

	if (!inode)
		return NULL;
	if (fd >= 0)
		flags |= INODE_FD_TAKEN;
	if (verified)
		flags |= INODE_VERIFIED;
	atomic_store(&inode->fd_pin, fd >= 0 ? (UINT64_C(1) << 32) + (uint64_t)fd + 1 : 0);
	atomic_store(&inode->version, 0);
	atomic_store(&inode->mount, key->mount);
	atomic_store(&inode->flags, (uint16_t)flags);
	inode->nlookup = 0;
	inode->ino = key->ino;
	inode->btime_ns = key->btime_ns;
	inode->hash_next = 0;
	inode->type = key->type;
	inode->handle_len = key->handle_len;
	inode->handle_type = key->handle_type;
	memcpy(inode->handle, key->handle, key->handle_len);
	return inode;
}

int inode_add(struct inode_table *t, const struct inode_key *key, int fd, bool verified,
	      uint64_t *nodeid, struct inode **out)
{
	uint64_t hash = inode_hash(t, key->mount, key->ino);
	struct inode_shard *shard = inode_shard(t, hash);
	struct inode *inode, *old;

	if (fd >= 0 && !filefs_fd_take(t->fs)) {
		close(fd);
		mounts_put(&t->fs->mounts, key->mount);
		return -ENFILE;
	}
	inode = inode_new(t, key, fd, verified);
	if (!inode) {
		if (fd >= 0) {
			close(fd);
			filefs_fd_release(t->fs);
		}
		mounts_put(&t->fs->mounts, key->mount);
		return -ENOMEM;
	}
	pthread_mutex_lock(&shard->lock);
	old = inode_index_find(t, shard, hash, key);
	if (old && inode_same(old, key, false) == INODE_FOUND) {
		inode_count_lookup(old, nodeid);
		if (out)
			slot_hold(old);
	} else {
		if (old)
			inode_index_remove(t, shard, hash, old);
		inode_index_insert(t, shard, hash, inode);
		slot_publish(inode);
		inode_count_lookup(inode, nodeid);
		if (out)
			slot_hold(inode);
		old = NULL;
	}
	pthread_mutex_unlock(&shard->lock);
	if (old) {
		inode_teardown(t, inode);
		slot_free(&t->slots, inode);
		inode = old;
	}
	if (out)
		*out = inode;
	return 0;
}

void inode_forget(struct inode_table *t, uint64_t nodeid, uint64_t n)
{
	struct inode *inode = inode_get(t, nodeid);
	struct inode_shard *shard;
	bool gone = false;
	uint64_t hash;

	if (!inode)
		return;
	hash = inode_hash(t, atomic_load(&inode->mount), inode->ino);
	shard = inode_shard(t, hash);
	pthread_mutex_lock(&shard->lock);
	/* The root (nodeid 1) is never forgotten. */
	if (nodeid != FUSE_ROOT_ID && inode->nlookup) {
		inode->nlookup -= MIN(n, inode->nlookup);
		if (!inode->nlookup) {
			/* Not one that is known to be dead. */
			if ((atomic_load(&inode->flags) & INODE_INDEXED) &&
			    inode_memo_covers(t, atomic_load(&inode->mount)))
				handle_memo_keep(&shard->memo, hash, inode);
			inode_index_remove(t, shard, hash, inode);
			gone = slot_kill(inode, nodeid);
		}
	}
	pthread_mutex_unlock(&shard->lock);
	if (gone)
		inode_put(t, inode);
	inode_put(t, inode);
}

void inode_mark_stale(struct inode_table *t, struct inode *inode)
{
	uint64_t hash = inode_hash(t, atomic_load(&inode->mount), inode->ino);
	struct inode_shard *shard = inode_shard(t, hash);

	pthread_mutex_lock(&shard->lock);
	handle_memo_drop(shard->memo, hash, inode->ino);
	inode_index_remove(t, shard, hash, inode);
	pthread_mutex_unlock(&shard->lock);
}

int inode_key_handle(struct inode_key *key, int dirfd, const char *name)
{
	union {
		struct file_handle h;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mnt_id;

	u.h.handle_bytes = INODE_HANDLE_MAX;
	if (name_to_handle_at(dirfd, name, &u.h, &mnt_id, *name ? 0 : AT_EMPTY_PATH) < 0)
		return errno == EOVERFLOW ? -EOPNOTSUPP : -errno;
	key->handle_type = u.h.handle_type;
	key->handle_len = (uint8_t)u.h.handle_bytes;
	memcpy(key->handle, u.h.f_handle, key->handle_len);
	return 0;
}
