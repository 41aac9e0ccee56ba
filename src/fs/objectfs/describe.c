/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a node, for whoever operates the daemon. */
#include <sys/stat.h>

#include "base/loop.h"
#include "fs/objectfs/internal.h"

static uint64_t seconds_since(uint64_t ns, uint64_t now_ns)
{
	return now_ns > ns ? (now_ns - ns) / NSEC_PER_SEC : 0;
}

static void describe_file(const struct node *n, uint64_t now_ns, fs_tell_fn *tell, void *arg)
{
	struct cache_file_info info;

	tell(arg, "size", NULL, n->size);
	tell(arg, "etag", n->etag, 0);
	if (!n->file)
		return;
	cache_file_info(n->file, &info);
	tell(arg, "cached_size", NULL, info.size);
	tell(arg, "cached_etag", info.etag, 0);
	tell(arg, "dirty", NULL, info.dirty);
	tell(arg, "created", NULL, info.created);
	tell(arg, "stale", NULL, info.stale);
	tell(arg, "error", NULL, (uint64_t)-info.error);
	tell(arg, "validated_seconds_ago", NULL, seconds_since(info.validated_ns, now_ns));
}

/* With tree.lock; the cache's come inside of it. */
static void describe_node(const struct tree *t, const struct node *n, fs_tell_fn *tell, void *arg)
{
	uint64_t now_ns = loop_now_ns();
	char key[NODE_KEY_SIZE];

	if (node_key(t, n, NULL, 0, key) < 0)
		key[0] = '\0';
	tell(arg, "type", node_is(n, NODE_DIR) ? "directory" : "file", 0);
	tell(arg, "key", key, 0);
	tell(arg, "ino", NULL, n->ino);
	tell(arg, "references", NULL, n->refs);
	tell(arg, "opens", NULL, n->opens);
	tell(arg, "gone", NULL, node_is(n, NODE_GONE));
	tell(arg, "mtime", NULL, (uint64_t)(n->mtime_ns / (int64_t)NSEC_PER_SEC));
	if (n->fetched_ns)
		tell(arg, "asked_seconds_ago", NULL, seconds_since(n->fetched_ns, now_ns));
	if (!node_is(n, NODE_DIR))
		describe_file(n, now_ns, tell, arg);
}

bool objectfs_describe(struct fs_session *session, uint64_t nodeid, fs_tell_fn *tell, void *arg)
{
	struct tree *t = &objectfs_of(objectfs_session_of(session))->tree;
	struct node *n;

	tree_lock(t);
	n = node_get(t, nodeid);
	if (n) {
		describe_node(t, n, tell, arg);
		node_put(t, n);
	}
	tree_unlock(t);
	return n != NULL;
}
