/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes that one guest knows: nodeids, lookup counts, and how to reach
 * the host's inode again.
 *
 * An inode is named by its file handle and opened when it is needed (a bounded
 * number of O_PATH descriptors is kept), or, where the host has no handles,
 * by an O_PATH descriptor held as long as the guest knows the inode.
 *
 * References (slots.h) keep the memory and the host's inode named: one is held
 * while the guest's lookup count is above zero, one by each request that uses
 * the inode, one by each open handle. The index finds inodes with a lookup
 * count by (mount, inode number); it never holds one that is known to be dead.
 *
 * Locks: a shard's lock covers its chains, its memo and nlookup, hash_next and INDEXED of the
 * inodes in it. ring_lock covers the ring. Neither is held over a call that may
 * wait for a device, and they do not nest.
 */
#ifndef OVFS_FS_FILEFS_INODE_H
#define OVFS_FS_FILEFS_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/filefs/memo.h"
#include "fs/slots.h"

struct filefs;
struct filefs_session;

/* Most file systems need 8 to 40 bytes. An inode whose handle is longer keeps a
 * descriptor instead. */
#define INODE_HANDLE_MAX 52

enum {
	INODE_USED = 1 << 0,	 /* fd used since the clock's hand passed */
	INODE_VERIFIED = 1 << 1, /* the handle was seen to lead to this inode */
	INODE_INDEXED = 1 << 2,
	INODE_FD_TAKEN = 1 << 3, /* fd is its own, of the budget, not the cache's */
};

struct inode {
	struct slot slot;
	/* Pins << 32 | descriptor + 1; 0 when none is open. It is closed only by
	 * whoever exchanges it for 0 while there are no pins; one that is not the
	 * cache's (INODE_FD_TAKEN) has a pin of its own. */
	_Atomic uint64_t fd_pin;
	uint64_t nlookup;
	uint64_t ino;
	uint64_t btime_ns;	  /* 0 when the host has none */
	_Atomic uint64_t version; /* digest of the data's version at the last open */
	_Atomic uint32_t mount;
	uint32_t hash_next;
	_Atomic uint16_t flags;
	uint16_t type;	    /* S_IFMT */
	uint8_t handle_len; /* 0: no handle, fd is kept open */
	int32_t handle_type;
	uint8_t handle[INODE_HANDLE_MAX];
};

#define INODE_SHARDS 64
#define INODES_MAX (1u << 27)

struct inode_shard {
	pthread_mutex_t lock;
	uint32_t *buckets; /* heads of chains of inode indices */
	uint32_t mask;
	uint32_t count;
	struct handle_memo *memo; /* of inodes on the root's mount; NULL until one is forgotten */
};

struct inode_table {
	struct filefs *fs;
	struct slots slots;
	uint64_t seed[2];
	struct inode_shard shards[INODE_SHARDS];

	pthread_mutex_t ring_lock;
	uint32_t *ring; /* indices of the inodes with a cached descriptor */
	unsigned ring_size, ring_hand;
};

/* -ENOMEM or 0; @ring_size descriptors are the caller's to have budgeted. */
int inode_table_init(struct inode_table *t, struct filefs *fs, unsigned ring_size);
/* Tears all inodes down, whatever their counts. */
void inode_table_fini(struct inode_table *t);

/* NULL, for ESTALE, when @nodeid is not known. */
struct inode *inode_get(struct inode_table *t, uint64_t nodeid);
void inode_put(struct inode_table *t, struct inode *inode);

/* The guest forgets @n lookups. Counts below zero are clamped. */
void inode_forget(struct inode_table *t, uint64_t nodeid, uint64_t n);

/* What a lookup learned about an inode. */
struct inode_key {
	uint32_t mount; /* a reference to it goes with the key */
	uint16_t type;
	uint64_t ino;
	uint64_t btime_ns;
	int32_t handle_type;
	bool verified;	    /* the handle was seen to lead to this inode */
	uint8_t handle_len; /* 0: not known */
	uint8_t handle[INODE_HANDLE_MAX];
};

enum inode_match {
	INODE_FOUND,
	INODE_UNKNOWN, /* none, or a dead one of the same number */
	INODE_UNSURE,  /* one of the number: compare handles */
};

/*
 * Finds an inode by @key and counts a lookup. @made: the file is new, only an
 * equal handle or nothing is the same. *@nodeid is valid for INODE_FOUND; for INODE_UNKNOWN
 * @key may have got the handle that the inode had when the guest forgot it.
 */
enum inode_match inode_find(struct inode_table *t, struct inode_key *key, bool made,
			    uint64_t *nodeid);

/*
 * As inode_find(), but adds the inode when it is not there. @fd: an O_PATH
 * descriptor of it, or -1 when the key has a handle; with @keep_fd it is the
 * table's from now on, also on failure. Consumes the key's mount reference in any case.
 * With @out, a reference is returned there. -ENOMEM, -ENFILE or 0.
 */
int inode_add(struct inode_table *t, const struct inode_key *key, int fd, bool verified,
	      uint64_t *nodeid, struct inode **out);

/* Puts the handle of (@dirfd, @name) into @key; @name "" for @dirfd itself.
 * -EOPNOTSUPP when it has none, or too long a one. */
int inode_key_handle(struct inode_key *key, int dirfd, const char *name);

/* The inode is gone on the host: the next lookup makes another nodeid. */
void inode_mark_stale(struct inode_table *t, struct inode *inode);

/* An O_PATH descriptor of an inode, usable between get and put. */
struct inode_fd {
	struct inode *inode; /* NULL: fd is not shared */
	int fd;
};

/* Negative errno; -ESTALE when the inode is gone. */
int inode_fd_get(struct inode_table *t, struct inode *inode, struct inode_fd *out);
void inode_fd_put(struct inode_fd *fd);

/* Opens the inode for use with open(2)'s @flags; never O_CREAT, never follows,
 * regular files and directories only. Negative errno. */
int inode_open(struct inode_table *t, struct inode *inode, int flags);

#endif
