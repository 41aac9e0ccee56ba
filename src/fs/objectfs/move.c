/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects to other keys: there is no rename in object storage, so they are copied by the
 * service and then deleted.
 *
 * A prefix is moved in three steps: all keys are listed (and counted: more than rename_max is
 * -EXDEV, before anything was done), all are copied, MOVE_PARALLEL at one time, and when every
 * copy is there, all are deleted, in batches. Whatever fails before the deletes leaves the
 * source as it was, and what was copied is deleted again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "base/span.h"
#include "base/util.h"
#include "fs/objectfs/move.h"

#define MOVE_PARALLEL 16
/* Bytes of one COPY_PART, when an object is too large for one COPY. */
#define MOVE_PART (1ull << 30)

/* ---- One object ---- */

struct part_copy {
	struct objectfs *fs;
	const char *from, *to, *if_match, *session;
	uint64_t size, part_size;
	struct store_part *parts;
	uint32_t count;
};

static int move_copy_parts(struct part_copy *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		uint64_t offset = (uint64_t)i * c->part_size;
		struct store_op op = { .opcode = STORE_COPY_PART,
				       .key = c->to,
				       .session = c->session,
				       .part_number = i + 1,
				       .source_key = c->from,
				       .source_if_match = c->if_match,
				       .offset = offset,
				       .length = MIN(c->part_size, c->size - offset) };
		int ret = store_call(c->fs->store, &op);

		if (ret)
			return ret;
		c->parts[i].number = i + 1;
		memcpy(c->parts[i].etag, op.meta.etag, sizeof(c->parts[i].etag));
		memcpy(c->parts[i].checksum, op.checksum, sizeof(c->parts[i].checksum));
	}
	return 0;
}

static int move_commit(const struct part_copy *c, const struct store_op *begin,
		       struct store_meta *meta)
{
	struct store_op op = { .opcode = STORE_COMMIT,
			       .key = c->to,
			       .session = c->session,
			       .write_id = begin->write_id,
			       .set_user_mtime = begin->set_user_mtime,
			       .user_mtime_ns = begin->user_mtime_ns,
			       .parts = c->parts,
			       .part_count = c->count };
	int ret = store_call(c->fs->store, &op);

	if (!ret)
		*meta = op.meta;
	return ret == -ENOENT ? -EIO : ret; /* the session, and no name of the caller's */
}

/* Nobody else knows of the session, which is gone if it was committed after all. */
static void move_abort(const struct part_copy *c)
{
	struct store_op op = { .opcode = STORE_ABORT, .key = c->to, .session = c->session };
	int ret = store_call(c->fs->store, &op);

	if (ret && ret != -ENOENT)
		log_warn("upload_left_over", "key=\"%s\" session=\"%s\" error=\"%s\"", c->to,
			 c->session, strerror(-ret));
}

/* By a write session, for what one COPY cannot carry. */
static int move_copy_large(struct objectfs *fs, const char *from, const char *to,
			   const char *if_match, struct store_meta *meta)
{
	const struct store_caps *caps = store_caps(fs->store);
	char text[STORE_PROPERTIES_MAX], write_id[STORE_WRITE_ID_MAX];
	struct store_properties properties = { .text = text, .room = sizeof(text) };
	struct store_op stat = { .opcode = STORE_STAT, .key = from, .properties_out = &properties };
	struct store_op begin = { .opcode = STORE_BEGIN, .key = to };
	struct part_copy c = { .fs = fs, .from = from, .to = to, .session = begin.session_out };
	int ret = store_call(fs->store, &stat);

	if (ret)
		return ret;
	if (if_match && *if_match && strcmp(if_match, stat.meta.etag) != 0)
		return -ESTALE;
	if (!caps->sessions || !caps->copy_part)
		return -EFBIG;
	c.if_match = stat.meta.etag; /* all parts of one version */
	c.size = stat.meta.size;
	c.part_size = MAX(MIN(MOVE_PART, caps->part_max), caps->part_min);
	c.part_size = MAX(c.part_size, c.size / caps->parts_max + 1);
	c.count = (uint32_t)((c.size + c.part_size - 1) / c.part_size);
	c.parts = calloc(c.count ? c.count : 1, sizeof(*c.parts));
	if (!c.parts || !c.count) {
		free(c.parts);
		return c.count ? -ENOMEM : -EIO;
	}
	store_write_id(write_id);
	begin.set_user_mtime = stat.meta.has_user_mtime;
	begin.user_mtime_ns = stat.meta.user_mtime_ns;
	begin.properties = &properties;
	begin.write_id = write_id;
	ret = store_call(fs->store, &begin);
	if (!ret) {
		ret = move_copy_parts(&c);
		if (!ret)
			ret = move_commit(&c, &begin, meta);
		if (ret)
			move_abort(&c);
		meta->size = c.size;
	}
	free(c.parts);
	return ret;
}

int move_copy(struct objectfs *fs, const char *from, const char *to, const char *if_match,
	      uint64_t size, struct store_meta *meta)
{
	struct store_op op = {
		.opcode = STORE_COPY, .key = to, .source_key = from, .source_if_match = if_match
	};
	int ret = -EFBIG;

	if (!store_caps(fs->store)->copy)
		return -EXDEV; /* mv copies, then */
	if (size <= store_caps(fs->store)->copy_max) {
		ret = store_call(fs->store, &op);
		*meta = op.meta;
	}
	if (ret == -EFBIG)
		ret = move_copy_large(fs, from, to, if_match, meta);
	if (!meta->size)
		meta->size = size;
	return ret;
}

/* ---- A prefix ---- */

struct move_key {
	uint32_t text; /* behind the prefix, in move.text */
	bool copied;
	uint64_t size;
};

struct copy_slot {
	struct store_op op;
	struct move *move;
	struct move_key *key;
	struct list link;
	char from[NODE_KEY_SIZE], to[NODE_KEY_SIZE];
};

struct move {
	struct objectfs *fs;
	const char *from, *to;
	size_t from_len;
	struct move_key *keys;
	char *text;
	size_t count, room, text_used, text_room;
	size_t listed;		      /* of count; those behind came by move_add() */
	size_t page_count, page_text; /* where the page under way began */
	int error;

	struct store_op list;
	struct store_page page;
	char token[STORE_TOKEN_MAX];

	struct progress progress; /* of copies and deletions, together */
	pthread_mutex_t lock;	  /* covers free and busy */
	pthread_cond_t done;
	struct list free;
	unsigned busy;
};

/* One more key, without the prefix. */
static int move_remember(struct move *m, const char *name, size_t len, uint64_t size)
{
	if (m->count == m->room) {
		size_t room = m->room ? m->room * 2 : 256;
		struct move_key *keys = reallocarray(m->keys, room, sizeof(*keys));

		if (keys) {
			m->keys = keys;
			m->room = room;
		}
	}
	if (m->text_used + len + 1 > m->text_room) {
		size_t room = MAX(m->text_room * 2, (size_t)16384);
		char *text = realloc(m->text, room);

		if (text) {
			m->text = text;
			m->text_room = room;
		}
	}
	if (m->count == m->room || m->text_used + len + 1 > m->text_room)
		return -ENOMEM;
	m->keys[m->count++] = (struct move_key){ .text = (uint32_t)m->text_used, .size = size };
	memcpy(m->text + m->text_used, name, len);
	m->text[m->text_used + len] = '\0';
	m->text_used += len + 1;
	return 0;
}

static void move_entry(struct store_op *op, const struct store_entry *entry)
{
	struct move *m = container_of(op, struct move, list);
	size_t len = entry->key_len - m->from_len;

	if (m->error || entry->key_len < m->from_len)
		return;
	if (m->count >= m->fs->config.rename_max)
		m->error = -EXDEV;
	else
		m->error = move_remember(m, entry->key + m->from_len, len, entry->meta.size);
}

static void move_restart(struct store_op *op)
{
	struct move *m = container_of(op, struct move, list);

	m->count = m->page_count;
	m->text_used = m->page_text;
	m->error = 0;
}

static int move_list(struct move *m)
{
	bool first = true;
	int ret;

	do {
		memcpy(m->token, m->page.token, sizeof(m->token));
		m->page_count = m->count;
		m->page_text = m->text_used;
		m->list = (struct store_op){
			.opcode = STORE_LIST,
			.key = m->from,
			.list = { .token = first ? NULL : m->token,
				  .entry = move_entry,
				  .restart = move_restart,
				  .page = &m->page },
		};
		first = false;
		ret = store_call(m->fs->store, &m->list);
	} while (!ret && !m->error && m->page.truncated);
	m->listed = m->count;
	return ret ? ret : m->error;
}

/* Transfer loop. */
static void copy_done(struct store_op *op)
{
	struct copy_slot *slot = container_of(op, struct copy_slot, op);
	struct move *m = slot->move;

	pthread_mutex_lock(&m->lock);
	if (op->result && op->result != -ENOENT && !m->error)
		m->error = op->result; /* an object that is gone by now needs no copy */
	slot->key->copied = !op->result;
	progress_add(&m->progress, 1);
	list_push_back(&m->free, &slot->link);
	m->busy--;
	pthread_cond_signal(&m->done);
	pthread_mutex_unlock(&m->lock);
}

static int move_join(const struct move *m, const char *prefix, const struct move_key *key,
		     char out[static NODE_KEY_SIZE])
{
	int len = snprintf(out, NODE_KEY_SIZE, "%s%s", prefix, m->text + key->text);

	return len < NODE_KEY_SIZE ? 0 : -ENAMETOOLONG;
}

static struct copy_slot *copy_wait(struct move *m)
{
	struct list *link;

	pthread_mutex_lock(&m->lock);
	while (!(link = list_pop_front(&m->free)))
		pthread_cond_wait(&m->done, &m->lock);
	pthread_mutex_unlock(&m->lock);
	return list_entry(link, struct copy_slot, link);
}

static void copy_give_back(struct move *m, struct copy_slot *slot, int error)
{
	pthread_mutex_lock(&m->lock);
	list_push_back(&m->free, &slot->link);
	if (error && !m->error)
		m->error = error;
	pthread_mutex_unlock(&m->lock);
}

/* False when something has failed. */
static bool copy_one(struct move *m, struct move_key *key)
{
	struct copy_slot *slot = copy_wait(m);
	struct store_meta meta;
	int ret = move_join(m, m->from, key, slot->from);

	if (!ret)
		ret = move_join(m, m->to, key, slot->to);
	if (!ret && key->size > store_caps(m->fs->store)->copy_max) {
		ret = move_copy(m->fs, slot->from, slot->to, NULL, key->size, &meta);
		key->copied = !ret;
		progress_add(&m->progress, 1);
		copy_give_back(m, slot, ret);
		return !ret;
	}
	if (ret) {
		copy_give_back(m, slot, ret);
		return false;
	}
	slot->key = key;
	slot->op = (struct store_op){ .opcode = STORE_COPY,
				      .key = slot->to,
				      .source_key = slot->from,
				      .complete = copy_done };
	pthread_mutex_lock(&m->lock);
	m->busy++;
	ret = m->error;
	pthread_mutex_unlock(&m->lock);
	store_submit(m->fs->store, &slot->op);
	return !ret;
}

static int move_copy_all(struct move *m)
{
	struct copy_slot *slots = calloc(MOVE_PARALLEL, sizeof(*slots));
	enum span_place before;
	bool good = true;

	if (!slots)
		return -ENOMEM;
	progress_set(&m->progress, 0, 2 * m->count);
	before = span_mark(SPAN_STORAGE);
	for (unsigned i = 0; i < MOVE_PARALLEL; i++) {
		slots[i].move = m;
		list_push_back(&m->free, &slots[i].link);
	}
	for (size_t i = 0; i < m->count && good; i++)
		good = copy_one(m, &m->keys[i]);
	pthread_mutex_lock(&m->lock);
	while (m->busy)
		pthread_cond_wait(&m->done, &m->lock);
	pthread_mutex_unlock(&m->lock);
	span_mark(before);
	free(slots);
	return m->error;
}

/* Deletes @count objects, at most a batch. */
static int delete_some(struct objectfs *fs, char **keys, size_t count)
{
	int results[STORE_DELETE_BATCH_MAX], ret = 0;
	struct store_op op = { .opcode = STORE_DELETE_BATCH,
			       .keys = (const char *const *)keys,
			       .key_count = count,
			       .key_results = results };

	if (!store_caps(fs->store)->delete_batch_max) {
		for (size_t i = 0; i < count && !ret; i++)
			ret = change_delete(fs, keys[i]);
		return ret;
	}
	ret = store_call(fs->store, &op);
	for (size_t i = 0; i < count && !ret; i++)
		ret = results[i] == -ENOENT ? 0 : results[i];
	return ret;
}

/* Deletes what was copied, under @prefix. */
static int move_delete_all(struct move *m, const char *prefix)
{
	uint32_t most = store_caps(m->fs->store)->delete_batch_max;
	size_t batch = most ? MIN(most, (uint32_t)STORE_DELETE_BATCH_MAX) : 1, n = 0;
	char(*text)[NODE_KEY_SIZE] = malloc(batch * sizeof(*text));
	char **keys = malloc(batch * sizeof(*keys));
	int ret = text && keys ? 0 : -ENOMEM, err;

	for (size_t i = 0; i < m->count && text && keys; i++) {
		if (m->keys[i].copied && !move_join(m, prefix, &m->keys[i], text[n])) {
			keys[n] = text[n];
			n++;
		}
		if (n && (n == batch || i == m->count - 1)) {
			err = delete_some(m->fs, keys, n);
			progress_add(&m->progress, n);
			ret = ret ? ret : err;
			n = 0;
		}
	}
	free(keys);
	free(text);
	return ret;
}

int move_begin(struct move **out, struct objectfs *fs, const char *from, const char *to)
{
	struct move *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return -ENOMEM;
	m->fs = fs;
	m->from = from;
	m->from_len = strlen(from);
	m->to = to;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->done, NULL);
	list_init(&m->free);
	progress_begin(&m->progress, "rename", "steps", "%s -> %s", from, to);
	ret = store_caps(fs->store)->copy ? move_list(m) : -EXDEV;
	if (!ret)
		ret = move_copy_all(m);
	if (ret) {
		move_undo(m);
		move_end(m);
		return ret;
	}
	*out = m;
	return 0;
}

/* Those that were listed are in the order of keys. */
static struct move_key *move_find(const struct move *m, const char *name)
{
	size_t low = 0, high = m->listed;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(m->text + m->keys[mid].text, name);

		if (!order)
			return &m->keys[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

int move_add(struct move *m, const char *from)
{
	const char *name = from + m->from_len;
	struct move_key *key = move_find(m, name);
	int ret = 0;

	if (!key) {
		ret = move_remember(m, name, strlen(name), 0);
		key = ret ? NULL : &m->keys[m->count - 1];
	}
	if (key)
		key->copied = true;
	return ret;
}

size_t move_count(const struct move *m)
{
	return m->count;
}

int move_finish(struct move *m)
{
	return move_delete_all(m, m->from);
}

void move_undo(struct move *m)
{
	move_delete_all(m, m->to);
}

void move_end(struct move *m)
{
	progress_end(&m->progress);
	pthread_cond_destroy(&m->done);
	pthread_mutex_destroy(&m->lock);
	free(m->keys);
	free(m->text);
	free(m);
}
