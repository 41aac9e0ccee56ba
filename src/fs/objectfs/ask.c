/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/objectfs/ask.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static void asked_entry(struct store_op *op, const struct store_entry *entry)
{
	struct asked *a = container_of(op, struct asked, list);

	a->rows = true;
	if (entry->key_len == strlen(a->prefix) && !entry->is_prefix) {
		a->marker = true;
		a->marker_mtime_ns = entry->meta.mtime_ns;
	}
}

static void asked_restart(struct store_op *op)
{
	struct asked *a = container_of(op, struct asked, list);

	a->rows = a->marker = false;
}

static void asked_stat_done(struct store_op *op)
{
	struct asked *a = container_of(op, struct asked, stat);

	pthread_mutex_lock(&a->lock);
	a->stat_done = true;
	pthread_cond_signal(&a->done);
	pthread_mutex_unlock(&a->lock);
}

int ask_stat(struct objectfs *fs, struct asked *a, const char *key,
	     struct store_properties *properties)
{
	a->stat =
		(struct store_op){ .opcode = STORE_STAT, .key = key, .properties_out = properties };
	return objectfs_call(fs, &a->stat);
}

static int ask_list(struct objectfs *fs, struct asked *a)
{
	a->rows = a->marker = false;
	a->list = (struct store_op){
		.opcode = STORE_LIST,
		.key = a->prefix,
		.list = { .limit = 1,
			  .entry = asked_entry,
			  .restart = asked_restart,
			  .page = &a->page },
	};
	return objectfs_call(fs, &a->list);
}

static int ask_both(struct objectfs *fs, struct asked *a, const char *key)
{
	int ret;

	a->stat_done = false;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->done, NULL);
	a->stat =
		(struct store_op){ .opcode = STORE_STAT, .key = key, .complete = asked_stat_done };
	store_submit(fs->store, &a->stat);
	ret = ask_list(fs, a);
	pthread_mutex_lock(&a->lock);
	while (!a->stat_done)
		pthread_cond_wait(&a->done, &a->lock);
	pthread_mutex_unlock(&a->lock);
	pthread_cond_destroy(&a->done);
	pthread_mutex_destroy(&a->lock);
	return ret;
}

int ask(struct objectfs *fs, struct asked *a, const char *key, enum what was)
{
	int list = -ENOENT, stat = -ENOENT;

	snprintf(a->prefix, sizeof(a->prefix), "%s/", key);
	a->rows = a->marker = false;
	a->sent_ns = loop_now_ns();
	switch (was) {
	case WAS_NOTHING:
		list = ask_both(fs, a, key);
		stat = objectfs_result(a->stat.result);
		if (!list && a->rows && !stat)
			names_warn(&fs->warned, "object_hidden_by_directory", "", key, strlen(key));
		break;
	case WAS_FILE:
		stat = ask_stat(fs, a, key, NULL);
		if (stat == -ENOENT)
			list = ask_list(fs, a);
		break;
	case WAS_DIR:
		list = ask_list(fs, a);
		if (!list && !a->rows)
			stat = ask_stat(fs, a, key, NULL);
		else
			stat = list;
		break;
	}
	/* With its slash the key may be too long for there to be anything. Of two errors that
	 * of the LIST says more: the answer to a STAT has no body that would explain it. */
	if (list && list != -ENOENT && list != -ENAMETOOLONG)
		return list;
	if (stat && stat != -ENOENT)
		return stat;
	return !list && a->rows ? 0 : stat;
}
