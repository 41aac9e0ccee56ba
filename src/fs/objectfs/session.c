/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one guest was given: lookup counts, and the version that it saw of each file.
 *
 * The tree is everybody's, so a nodeid means the same to all sessions; a session holds one
 * reference to every node of which its guest has a lookup count, and gives these back when
 * it ends, whatever the guest did. FORGETs of what it never got change nothing.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

static struct known *known_at(struct objectfs_session *s, uint32_t index, bool make)
{
	uint64_t n = (uint64_t)index + SLOTS_FIRST;
	unsigned top = 63u - (unsigned)__builtin_clzll(n);
	unsigned chunk = top - (unsigned)__builtin_ctz(SLOTS_FIRST);

	if (!s->known[chunk] && make)
		s->known[chunk] = calloc((size_t)SLOTS_FIRST << chunk, sizeof(struct known));
	return s->known[chunk] ? &s->known[chunk][n - (1ull << top)] : NULL;
}

struct known *session_known(struct objectfs_session *s, const struct node *n)
{
	struct known *k = known_at(s, n->slot.index, false);

	return k && k->nlookup ? k : NULL;
}

int session_count(struct objectfs_session *s, struct node *n)
{
	struct known *k = known_at(s, n->slot.index, true);

	if (!k)
		return -ENOMEM;
	if (!k->nlookup) {
		node_hold(n);
		*k = (struct known){ 0 };
	}
	k->nlookup++;
	return 0;
}

/*
 * A guest forgets names because it wants memory, not because they have changed; what was listed is
 * believed as long as ever. So the directories that were forgotten last stay, and with them
 * those above. tree.lock is held.
 */
static void session_keep_listed(struct objectfs *fs, struct node *dir)
{
	struct node **place = &fs->listed[fs->listed_next];

	if (!node_is(dir, NODE_DIR) || node_is(dir, NODE_GONE | NODE_LISTED) || !pages_any(dir))
		return;
	fs->listed_next = (fs->listed_next + 1) % OBJECTFS_DIRS;
	if (*place) {
		(*place)->flags &= (uint16_t)~NODE_LISTED;
		node_put(&fs->tree, *place);
	}
	*place = dir;
	dir->flags |= NODE_LISTED;
	node_hold(dir);
}

void session_forget(struct objectfs_session *s, uint64_t nodeid, uint64_t count)
{
	struct objectfs *fs = objectfs_of(s);
	struct tree *t = &fs->tree;
	struct known *k;
	struct node *n;

	tree_lock(t);
	n = node_get(t, nodeid);
	k = n ? session_known(s, n) : NULL;
	if (k) {
		k->nlookup -= MIN(count, k->nlookup);
		if (!k->nlookup) {
			session_keep_listed(fs, n);
			node_put(t, n);
		}
	}
	if (n)
		node_put(t, n);
	tree_unlock(t);
}

ssize_t objectfs_forget(struct objectfs_session *s, struct fs_req *req)
{
	session_forget(s, req->nodeid, req->in.forget.nlookup);
	return 0;
}

ssize_t objectfs_batch_forget(struct objectfs_session *s, struct fs_req *req)
{
	struct iov_cursor c = req->data;
	struct fuse_forget_one one;

	for (uint32_t i = 0; i < req->in.batch_forget.count; i++) {
		if (iov_read(&c, &one, sizeof(one)) != sizeof(one))
			break;
		session_forget(s, one.nodeid, one.nlookup);
	}
	return 0;
}

struct fs_session *session_new(struct fs *base, const struct fs_negotiated *negotiated)
{
	struct objectfs *fs = container_of(base, struct objectfs, fs);
	struct objectfs_session *s = calloc(1, sizeof(*s));

	(void)negotiated;
	if (!s)
		return NULL;
	s->session.fs = base;
	s->number = cache_storage_session(fs->cache);
	slots_init(&s->handles, sizeof(struct handle), HANDLES_MAX);
	return &s->session;
}

void session_free(struct fs_session *session)
{
	struct objectfs_session *s = objectfs_session_of(session);
	struct objectfs *fs = objectfs_of(s);
	struct tree *t = &fs->tree;

	handles_fini(s);
	tree_lock(t);
	for (unsigned chunk = 0; chunk < SLOTS_CHUNKS; chunk++) {
		for (uint32_t i = 0; s->known[chunk] && i < SLOTS_FIRST << chunk; i++) {
			if (s->known[chunk][i].nlookup)
				node_put(t, node_peek(t, i + (SLOTS_FIRST << chunk) - SLOTS_FIRST));
		}
		free(s->known[chunk]);
	}
	tree_unlock(t);
	cache_storage_session_end(fs->cache, s->number);
	file_reap(fs);
	free(s);
}
