/* SPDX-License-Identifier: Apache-2.0 */
/* The files a run works on, made and removed through FUSE. See load.h. */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILL (128u << 10)

static int complain(const char *what, const char *name, int err)
{
	fprintf(stderr, "ovfs-load: %s %s: %s\n", what, name, strerror(-err));
	return err;
}

static int make_data_file(struct load *l, unsigned int queue)
{
	struct load_thread *th = &l->threads[queue];
	struct fuse_entry_out e;
	char name[32];
	uint8_t *buf;
	int err;

	snprintf(name, sizeof(name), "data%u", queue);
	err = fuc_create(&l->f, l->dir, name, O_RDWR | O_CREAT, S_IFREG | 0600, &e, &th->data_fh);
	if (err)
		return complain("create", name, err);
	th->data_node = e.nodeid;
	buf = malloc(FILL);
	if (!buf)
		return -ENOMEM;
	/* Not zeros: storage may treat those specially. */
	memset(buf, 0x5a, FILL);
	for (uint64_t off = 0; !err && off < l->o.file_size; off += FILL) {
		uint32_t n = l->o.file_size - off < FILL ? (uint32_t)(l->o.file_size - off) : FILL;
		int done;

		load_stamp(buf, off, n);
		done = fuc_write(&l->f, th->data_node, th->data_fh, off, buf, n);
		if (done != (int)n)
			err = complain("write", name, done < 0 ? done : -EIO);
	}
	for (uint64_t off = 0; !err && l->o.prime && off < l->o.file_size; off += FILL) {
		int done = fuc_read(&l->f, th->data_node, th->data_fh, off, buf, FILL);

		if (done <= 0)
			err = complain("read", name, done < 0 ? done : -EIO);
	}
	free(buf);
	return err;
}

static int make_files(struct load *l)
{
	l->nodes = calloc(l->o.files, sizeof(*l->nodes));
	if (!l->nodes)
		return -ENOMEM;
	for (unsigned int i = 0; i < l->o.files; i++) {
		struct fuse_entry_out e;
		char name[32];
		uint64_t fh;
		int err;

		snprintf(name, sizeof(name), "f%06u", i);
		err = fuc_create(&l->f, l->dir, name, O_RDWR | O_CREAT, S_IFREG | 0600, &e, &fh);
		if (!err)
			err = fuc_release(&l->f, e.nodeid, fh);
		/* Operations that look names up find nodes nobody knows. */
		if (!err && !l->op->nodes)
			err = fuc_forget(&l->f, e.nodeid, 1);
		if (err)
			return complain("create", name, err);
		l->nodes[i] = e.nodeid;
	}
	return 0;
}

int load_tree_make(struct load *l)
{
	struct fuse_entry_out e;
	int err;

	if (l->o.dir) {
		err = fuc_lookup(&l->f, FUSE_ROOT_ID, l->o.dir, &e);
		if (err)
			return complain("lookup", l->o.dir, err);
		l->dir = e.nodeid;
		return 0;
	}
	snprintf(l->dir_name, sizeof(l->dir_name), "ovfs-load.%d", (int)getpid());
	err = fuc_mkdir(&l->f, FUSE_ROOT_ID, l->dir_name, 0700, &e);
	if (err)
		return complain("mkdir", l->dir_name, err);
	l->dir = e.nodeid;
	for (unsigned int i = 0; !err && l->op->data_files && i < l->o.queues; i++)
		err = make_data_file(l, i);
	if (!err && l->op->tree)
		err = make_files(l);
	return err;
}

static void remove_one(struct load *l, const char *name)
{
	struct fuse_entry_out e;
	/* The C virtiofsd answers EIO for what was not looked up: a kernel always does. */
	int err = fuc_lookup(&l->f, l->dir, name, &e);

	if (!err)
		err = fuc_unlink(&l->f, l->dir, name);
	if (err)
		complain("unlink", name, err);
}

void load_tree_remove(struct load *l)
{
	char name[32];
	int err;

	if (!l->dir || l->o.dir)
		return;
	for (unsigned int i = 0; l->op->data_files && i < l->o.queues; i++) {
		if (l->threads[i].data_node)
			fuc_release(&l->f, l->threads[i].data_node, l->threads[i].data_fh);
		snprintf(name, sizeof(name), "data%u", i);
		remove_one(l, name);
	}
	for (unsigned int i = 0; l->nodes && i < l->o.files; i++) {
		snprintf(name, sizeof(name), "f%06u", i);
		if (l->nodes[i])
			remove_one(l, name);
	}
	err = fuc_rmdir(&l->f, FUSE_ROOT_ID, l->dir_name);
	if (err)
		complain("rmdir", l->dir_name, err);
	free(l->nodes);
	l->nodes = NULL;
}
