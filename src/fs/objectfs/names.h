/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys <-> names: which keys a path can name, and the numbers made from names.
 * Pure functions but for struct names_warned. Any thread.
 */
#ifndef OVFS_FS_OBJECTFS_NAMES_H
#define OVFS_FS_OBJECTFS_NAMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a path can have @name (not NUL-terminated) as a component: 1 .. NAME_MAX bytes,
 * neither "." nor "..", without NUL and '/'. */
bool name_valid(const char *name, size_t len);

/* A 64-bit hash, the same for ever and on every host. */
uint64_t name_hash(const char *name, size_t len, uint64_t seed);

/*
 * The inode number of @name in a directory whose inode number is @parent: a hash of the
 * whole key, thus, with nothing stored, the same after a restart and on another host.
 * Never 0 or 1. Two keys may share one: among a million files the chance is 3 in 10^8.
 * Programs that take equal st_ino for the same file would be misled then (tar and cp
 * only where st_nlink > 1, which is never so here); ovfs itself goes by nodeid and key.
 */
uint64_t name_ino(uint64_t parent, const char *name, size_t len);

/* Keys that were warned about: each is logged once, as long as they are few. */
#define NAMES_WARNED_MAX 256

struct names_warned {
	_Atomic uint64_t hash[NAMES_WARNED_MAX];
	_Atomic uint64_t skipped; /* keys that no path can name, by listings */
};

/* @event with the key in @prefix @name, unless it was said before. */
void names_warn(struct names_warned *warned, const char *event, const char *prefix,
		const char *name, size_t len);

#endif
