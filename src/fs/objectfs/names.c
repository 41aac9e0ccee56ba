/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/objectfs/names.h"

#include <endian.h>
#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

bool name_valid(const char *name, size_t len)
{
	if (!len || len > NAME_MAX)
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	return !memchr(name, '\0', len) && !memchr(name, '/', len);
}

/* Both halves of the product count: one multiplication mixes 64 bits well. */
static uint64_t name_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t name_hash(const char *name, size_t len, uint64_t seed)
{
	const uint64_t k0 = 0x9e3779b97f4a7c15u, k1 = 0xd6e8feb86659fd93u;
	uint64_t h = name_mix(seed ^ k0, (uint64_t)len ^ k1), word;

	for (; len >= sizeof(word); name += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, name, sizeof(word));
		h = name_mix(h ^ le64toh(word), k0);
	}
	word = 0;
	memcpy(&word, name, len);
	return name_mix(name_mix(h ^ le64toh(word), k1), k0 ^ h);
}

uint64_t name_ino(uint64_t parent, const char *name, size_t len)
{
	uint64_t ino = name_hash(name, len, parent);

	return ino > 1 ? ino : ino + 2;
}

void names_warn(struct names_warned *warned, const char *event, const char *prefix,
		const char *name, size_t len)
{
	uint64_t hash = name_hash(name, len, name_hash(prefix, strlen(prefix), 1)) | 1;

	for (unsigned i = 0; i < NAMES_WARNED_MAX; i++) {
		uint64_t there = 0;

		if (atomic_compare_exchange_strong(&warned->hash[i], &there, hash)) {
			log_warn(event, "key=\"%s%.*s\"", prefix, (int)MIN(len, (size_t)1024),
				 name);
			return;
		}
		if (there == hash)
			return;
	}
}
