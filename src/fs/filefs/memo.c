/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/filefs/memo.h"

#include <stdlib.h>
#include <string.h>

#include "fs/filefs/inode.h"

/* Times INODE_SHARDS is what a session remembers at most: 16384, in 1.3 MiB. */
#define MEMO_ENTRIES 256u

struct memo_entry {
	uint64_t ino;
	uint64_t btime_ns;
	uint16_t type;
	bool verified;
	uint8_t handle_len; /* 0: free */
	int32_t handle_type;
	uint8_t handle[INODE_HANDLE_MAX];
};

struct handle_memo {
	struct memo_entry entries[MEMO_ENTRIES];
};

/* The shard took the hash's upper bits, its buckets take the lower ones: an inode
 * number has one place, so there is never an older entry beside a newer one. */
static unsigned memo_place(uint64_t hash)
{
	return (unsigned)(hash >> 32) % MEMO_ENTRIES;
}

void handle_memo_keep(struct handle_memo **memo, uint64_t hash, const struct inode *inode)
{
	struct memo_entry *e;

	/* Without a time of birth a number used again could not be told apart. */
	if (!inode->handle_len || !inode->btime_ns)
		return;
	if (!*memo)
		*memo = calloc(1, sizeof(**memo));
	if (!*memo)
		return; /* the next LOOKUP takes longer */
	e = &(*memo)->entries[memo_place(hash)];
	e->ino = inode->ino;
	e->btime_ns = inode->btime_ns;
	e->type = inode->type;
	e->verified = atomic_load(&inode->flags) & INODE_VERIFIED;
	e->handle_type = inode->handle_type;
	e->handle_len = inode->handle_len;
	memcpy(e->handle, inode->handle, inode->handle_len);
}

void handle_memo_find(const struct handle_memo *memo, uint64_t hash, struct inode_key *key)
{
	const struct memo_entry *e;

	if (!memo)
		return;
	e = &memo->entries[memo_place(hash)];
	if (!e->handle_len || e->ino != key->ino || e->btime_ns != key->btime_ns ||
	    e->type != key->type)
		return;
	key->verified = e->verified;
	key->handle_type = e->handle_type;
	key->handle_len = e->handle_len;
	memcpy(key->handle, e->handle, e->handle_len);
}

void handle_memo_drop(struct handle_memo *memo, uint64_t hash, uint64_t ino)
{
	struct memo_entry *e = memo ? &memo->entries[memo_place(hash)] : NULL;

	if (e && e->ino == ino)
		e->handle_len = 0;
}
