/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File handles of inodes that the guest has forgotten.
 *
 * A guest that walks a large tree forgets inodes for want of memory and looks them
 * up again. Their handles are kept here for that, so that a LOOKUP costs a statx
 * and no name_to_handle_at: half of it. This is a hint by (inode number,
 * time of birth, type), no more: nobody holds a reference through it, a nodeid
 * that was forgotten stays dead, and a handle that turns out to lead nowhere is dropped
 * from here with its inode (inode_mark_stale()), so that the next LOOKUP asks the host.
 *
 * One table for each shard of the index, of a fixed size: an entry gives way to the
 * next one with its place. Covered by the shard's lock.
 */
#ifndef OVFS_FS_FILEFS_MEMO_H
#define OVFS_FS_FILEFS_MEMO_H

#include <stdbool.h>
#include <stdint.h>

struct inode;
struct inode_key;
struct handle_memo;

/* Remembers @inode; *@memo is made at first. @hash is its number's. */
void handle_memo_keep(struct handle_memo **memo, uint64_t hash, const struct inode *inode);

/* Gives @key its handle, and whether it was verified; leaves it alone when it is not
 * there. @memo may be NULL. */
void handle_memo_find(const struct handle_memo *memo, uint64_t hash, struct inode_key *key);

/* Forgets what is known of inode number @ino. @memo may be NULL. */
void handle_memo_drop(struct handle_memo *memo, uint64_t hash, uint64_t ino);

#endif
