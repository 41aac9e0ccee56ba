/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that come and go: MKDIR, RMDIR (change_dir.c), UNLINK, MKNOD, what CREATE makes
 * (change_file.c), and here what they share. Straight-line code on workers.
 *
 *	mkdir		PUT of the marker, if absent. That there is neither file nor
 *			directory of that name, LOOKUP has just found out
 *	create		nothing: the object appears with its first commit, if absent
 *	unlink		DELETE; nothing when the object was never made
 *	rmdir		LIST with two rows, unless memory knows that it is empty; DELETE
 *			of the marker, if there is one
 *
 * A directory without a marker goes when its last object goes. Where it may have been the
 * last one that was removed through us, a LIST finds out, and the directory gets a marker.
 *
 * All of them have the names of the directory to themselves (tree_names_begin()); first find
 * out what the name is; then claim it (claim.h) for as long as the storage changes it, so that
 * nobody else finds it half changed, nor believes what it was before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/internal.h"

/* Children looked at for one. */
#define WITNESSES_MAX 64

int change_delete(struct objectfs *fs, const char *key)
{
	struct store_op op = { .opcode = STORE_DELETE, .key = key };
	int ret = objectfs_call(fs, &op);

	return ret == -ENOENT ? 0 : ret;
}

int change_put_marker(struct objectfs *fs, const char *key, bool if_absent)
{
	struct store_op op = { .opcode = STORE_PUT, .key = key };
	char write_id[STORE_WRITE_ID_MAX];

	op.if_absent = if_absent && store_caps(fs->store)->if_absent;
	if (store_caps(fs->store)->write_id) {
		store_write_id(write_id);
		op.write_id = write_id;
	}
	/* A service that turns out not to know conditions: LOOKUP has just found that it is new. */
	if (objectfs_call(fs, &op) == -EOPNOTSUPP && op.if_absent) {
		op.if_absent = false;
		objectfs_call(fs, &op);
	}
	return op.result;
}

void change_forget(struct objectfs *fs, struct node *n)
{
	struct node *parent = node_peek(&fs->tree, n->parent);

	if (node_is(n, NODE_GONE) || !parent)
		return;
	dir_pages_removed(parent, n->name, n->name_len);
	node_remove(&fs->tree, n);
	if (!node_is(n, NODE_DIR))
		file_settle(fs, n);
}

void change_removed(struct objectfs *fs, struct node *parent, const char *name, size_t len)
{
	dir_pages_removed(parent, name, len);
	negative_add(&fs->tree, parent, name, len, loop_now_ns());
}

void change_uncertain(struct objectfs *fs, struct node *parent, const char *name, size_t len)
{
	negative_clear(&fs->tree, parent, name, len);
	dir_pages_forget(parent, 0);
}

/* ---- Directories that would vanish ---- */

/* Whether @dir is known to be there when the name @gone is not. tree.lock is held. */
static bool dir_has_witness(struct objectfs *fs, struct node *dir, const char *gone, size_t len)
{
	uint64_t since = objectfs_since(loop_now_ns(), CHANGE_WITNESS_NS);
	uint32_t i = dir->first_child;

	if (dir == fs->tree.root || node_is(dir, NODE_MARKER | NODE_GONE))
		return true;
	for (unsigned looked = 0; i && looked < WITNESSES_MAX; looked++) {
		struct node *n = node_peek(&fs->tree, i);

		i = n->next_sibling;
		if (n->fetched_ns >= since && (node_is(n, NODE_DIR) || *n->etag))
			return true;
	}
	return pages_have_other(dir, gone, len, since);
}

int change_keep_dir(struct objectfs *fs, struct node *dir, const char *gone, size_t len)
{
	char key[NODE_KEY_SIZE];
	struct page *page;
	bool there;
	int ret;

	tree_lock(&fs->tree);
	there = dir_has_witness(fs, dir, gone, len);
	tree_unlock(&fs->tree);
	if (there)
		return 0;
	ret = listing_fetch(fs, dir, "", NULL, &page);
	if (ret)
		return ret;
	tree_lock(&fs->tree);
	there = *page->hi || node_is(dir, NODE_MARKER);
	page_put(page);
	ret = node_key(&fs->tree, dir, NULL, 0, key);
	tree_unlock(&fs->tree);
	if (there || ret < 0)
		return 0;
	ret = change_put_marker(fs, key, true);
	if (ret && ret != -EEXIST)
		return ret;
	tree_lock(&fs->tree);
	dir->flags |= NODE_MARKER;
	dir->flags &= (uint16_t)~NODE_NO_MARKER;
	dir->fetched_ns = loop_now_ns();
	/* Who asked a moment ago saw neither entry nor marker. */
	inquiries_overtake(&fs->tree, node_peek(&fs->tree, dir->parent), dir->name, dir->name_len);
	tree_unlock(&fs->tree);
	return 0;
}

void change_keep_or_log(struct objectfs *fs, struct node *dir, const char *gone)
{
	static struct log_limit limit;
	int ret = change_keep_dir(fs, dir, gone, strlen(gone));

	if (ret)
		log_limited(&limit, LOG_LEVEL_WARN, "object_marker_failed", "error=\"%s\"",
			    strerror(-ret));
}

int change_reply(struct objectfs_session *s, struct fs_req *req, struct node *n)
{
	struct tree *t = &objectfs_of(s)->tree;
	int ret;

	tree_lock(t);
	ret = lookup_reply(s, n, &req->out.entry);
	node_put(t, n);
	tree_unlock(t);
	return ret;
}
