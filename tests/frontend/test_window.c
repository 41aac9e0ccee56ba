/* SPDX-License-Identifier: Apache-2.0 */
/* The DAX window: what a guest maps is the file, and lies about it reach nobody else. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "vuc_window.h"

#define SLOT (2ull << 20)
#define SLOTS 8u
#define R FUSE_SETUPMAPPING_FLAG_READ
#define W FUSE_SETUPMAPPING_FLAG_WRITE

/* A daemon, and a guest with its window. */
struct world {
	struct daemon d;
	struct guest g;
	struct vuc_window w;
};

static void world_connect(struct world *x, enum vuc_window_mode mode)
{
	guest_connect(&x->g, &x->d, &vuc_with_window);
	assert_ok(vuc_window_open(&x->w, &x->g.c));
	atomic_store(&x->w.mode, mode);
	assert_ok(fuc_init(&x->g.f, 45, fuc_default_init_flags() | FUSE_MAP_ALIGNMENT));
}

static void world_disconnect(struct world *x)
{
	guest_close(&x->g);
	vuc_window_close(&x->w);
}

static void world_open_mapping(struct world *x, enum vuc_window_mode mode, const char *storage,
			       const char *map)
{
	char extra[128];
	const struct daemon_options o = { .storage = storage, .extra = extra };

	snprintf(extra, sizeof(extra),
		 "[dax_settings]\nenabled = true\nwindow_size = \"16MiB\"\n%s", map);

	daemon_start(&x->d, &o);
	world_connect(x, mode);
	assert_int_equal(x->w.size, SLOTS * SLOT);
}

static void world_open(struct world *x, enum vuc_window_mode mode, const char *storage)
{
	world_open_mapping(x, mode, storage, "map = \"direct\"\n");
}

static void world_close(struct world *x)
{
	assert_int_equal(x->g.f.violations, 0);
	world_disconnect(x);
	daemon_stop(&x->d);
}

/* Each 8 bytes of a file are their number, and @salt. */
static void host_file(struct world *x, const char *name, uint64_t size, uint64_t salt)
{
	int fd = open(daemon_path(&x->d, name), O_CREAT | O_RDWR | O_TRUNC, 0644);
	uint64_t *words = malloc(size + sizeof(uint64_t));

	assert_true(fd >= 0 && words);
	for (uint64_t i = 0; i <= size / sizeof(*words); i++)
		words[i] = i + salt;
	assert_int_equal(write(fd, words, size), size);
	free(words);
	close(fd);
}

static uint64_t host_word(struct world *x, const char *name, uint64_t offset)
{
	int fd = open(daemon_path(&x->d, name), O_RDONLY);
	uint64_t word = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &word, sizeof(word), (off_t)offset), sizeof(word));
	close(fd);
	return word;
}

static uint64_t host_size(struct world *x, const char *name)
{
	struct stat st;

	assert_ok(stat(daemon_path(&x->d, name), &st));
	return (uint64_t)st.st_size;
}

static uint64_t lookup(struct world *x, const char *name)
{
	struct fuse_entry_out e;

	assert_ok(fuc_lookup(&x->g.f, FUSE_ROOT_ID, name, &e));
	return e.nodeid;
}

static uint64_t word_at(struct world *x, uint64_t offset)
{
	uint64_t word;

	memcpy(&word, x->w.base + offset, sizeof(word));
	return word;
}

static void put_word(struct world *x, uint64_t offset, uint64_t word)
{
	memcpy(x->w.base + offset, &word, sizeof(word));
}

/* ---- What is agreed on ---- */

static void init_and_attributes(void **state)
{
	struct fuse_entry_out e, dir;
	struct fuse_attr attr;
	struct world x;
	uint64_t fh;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	assert_int_equal(x.g.f.init.map_alignment, 21);
	assert_true(x.g.f.init_flags & FUSE_MAP_ALIGNMENT);
	assert_true(x.g.f.init_flags & FUSE_HAS_INODE_DAX);
	assert_ok(fuc_create(&x.g.f, FUSE_ROOT_ID, "file", O_RDWR | O_CREAT, 0100644, &e, &fh));
	assert_true(e.attr.flags & FUSE_ATTR_DAX);
	assert_ok(fuc_getattr(&x.g.f, e.nodeid, &attr));
	assert_true(attr.flags & FUSE_ATTR_DAX);
	assert_ok(fuc_mkdir(&x.g.f, FUSE_ROOT_ID, "dir", 0755, &dir));
	assert_false(dir.attr.flags & FUSE_ATTR_DAX);
	assert_ok(fuc_opendir(&x.g.f, FUSE_ROOT_ID, &fh));
	for (uint64_t off = 0, files = 0;;) {
		char buf[4096];
		int n = fuc_readdirplus(&x.g.f, FUSE_ROOT_ID, fh, off, buf, sizeof(buf));

		assert_true(n >= 0);
		for (int at = 0; at < n;) {
			struct fuse_direntplus *d = (void *)(buf + at);
			bool regular = S_ISREG(d->entry_out.attr.mode);

			files += regular;
			assert_int_equal(!!(d->entry_out.attr.flags & FUSE_ATTR_DAX), regular);
			off = d->dirent.off;
			at += (int)FUSE_DIRENTPLUS_SIZE(d);
		}
		if (n == 0) {
			assert_int_equal(files, 1);
			break;
		}
	}
	/* A guest that does not ask is not told. */
	assert_ok(fuc_init(&x.g.f, 45, fuc_default_init_flags() & ~FUSE_HAS_INODE_DAX));
	assert_int_equal(x.g.f.init.map_alignment, 0);
	assert_ok(fuc_lookup(&x.g.f, FUSE_ROOT_ID, "file", &e));
	assert_false(e.attr.flags & FUSE_ATTR_DAX);
	assert_int_equal(fuc_map(&x.g.f, e.nodeid, 0, SLOT, R, 0), -ENOSYS);
	world_close(&x);
}

static void front_end_without_a_window(void **state)
{
	struct fuse_entry_out e;
	struct world x;
	struct guest g;
	uint64_t fh;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	world_disconnect(&x);
	guest_connect(&g, &x.d, NULL);
	assert_ok(fuc_init(&g.f, 45, fuc_default_init_flags() | FUSE_MAP_ALIGNMENT));
	assert_false(g.f.init_flags & (FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX));
	assert_ok(fuc_create(&g.f, FUSE_ROOT_ID, "file", O_RDWR | O_CREAT, 0100644, &e, &fh));
	assert_false(e.attr.flags & FUSE_ATTR_DAX);
	assert_int_equal(fuc_map(&g.f, e.nodeid, 0, SLOT, R, 0), -ENOSYS);
	assert_int_equal(fuc_unmap(&g.f, e.nodeid, 0, SLOT), -ENOSYS);
	guest_close(&g);
	daemon_stop(&x.d);
}

/* ---- Files as they are ---- */

static void file_is_mapped(void **state)
{
	struct vuc_window_map map;
	struct world x;
	struct stat st;
	uint64_t node;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	host_file(&x, "file", 3 * SLOT + 5000, 7);
	node = lookup(&x, "file");
	assert_ok(fuc_map(&x.g.f, node, SLOT, SLOT, R, 0));
	assert_ok(fuc_map(&x.g.f, node, 3 * SLOT, SLOT, R | W, SLOT));
	assert_int_equal(word_at(&x, 8), SLOT / 8 + 1 + 7);
	assert_int_equal(word_at(&x, 2 * SLOT - SLOT + 4992), (3 * SLOT + 4992) / 8 + 7);
	/* The file itself, on both sides of its last page. */
	assert_ok(stat(daemon_path(&x.d, "file"), &st));
	assert_true(vuc_window_find(&x.w, 0, &map));
	assert_true(map.ino == st.st_ino && map.dev == st.st_dev);
	assert_true(vuc_window_find(&x.w, SLOT, &map));
	assert_true(map.ino == st.st_ino && map.dev == st.st_dev);
	put_word(&x, SLOT + 16, 0x1234);
	assert_int_equal(host_word(&x, "file", 3 * SLOT + 16), 0x1234);
	/* To write to the other one takes no other mapping: it would leave a gap. */
	assert_ok(fuc_map(&x.g.f, node, SLOT, SLOT, R | W, 0));
	assert_int_equal(x.w.maps, 2);
	put_word(&x, 24, 0x5678);
	assert_int_equal(host_word(&x, "file", SLOT + 24), 0x5678);
	assert_ok(fuc_unmap(&x.g.f, node, 0, SLOT));
	assert_ok(fuc_unmap(&x.g.f, node, SLOT, SLOT));
	assert_int_equal(x.w.live, 0);
	assert_int_equal(x.w.refused, 0);
	world_close(&x);
}

static void read_only_mount(void **state)
{
	static const enum vuc_window_mode modes[] = { VUC_WINDOW_WELL, VUC_WINDOW_QEMU };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct vuc_window_map map;
		struct world x;
		uint64_t node;

		world_open(&x, modes[i], "readonly = true");
		host_file(&x, "file", SLOT, 1);
		node = lookup(&x, "file");
		assert_int_equal(fuc_map(&x.g.f, node, 0, SLOT, R | W, 0), -EROFS);
		assert_int_equal(x.w.live, 0);
		assert_ok(fuc_map(&x.g.f, node, 0, SLOT, R, 0));
		assert_int_equal(fuc_map(&x.g.f, node, 0, SLOT, R | W, 0), -EROFS);
		assert_int_equal(word_at(&x, 4096), 513);
		assert_true(vuc_window_find(&x.w, 0, &map));
		/* A copy may be scribbled on, and nobody will know. */
		assert_int_equal(map.writable, modes[i] == VUC_WINDOW_QEMU);
		if (map.writable)
			put_word(&x, 0, 99);
		assert_ok(fuc_syncfs(&x.g.f, FUSE_ROOT_ID));
		assert_ok(fuc_unmap(&x.g.f, node, 0, SLOT));
		assert_int_equal(host_word(&x, "file", 0), 1);
		world_close(&x);
	}
}

/* ---- Copies ---- */

static void last_range_is_a_copy(void **state)
{
	struct vuc_window_map map;
	char text[] = "appended text";
	struct fuse_attr attr;
	struct world x;
	struct stat st;
	uint64_t node, fh;

	(void)state;
	world_open(&x, VUC_WINDOW_QEMU, NULL);
	host_file(&x, "file", SLOT + 10000, 3);
	node = lookup(&x, "file");
	assert_ok(fuc_open_file(&x.g.f, node, O_RDWR, &fh));
	assert_ok(fuc_map(&x.g.f, node, 0, SLOT, R, 0));
	assert_ok(fuc_map(&x.g.f, node, SLOT, SLOT, R, SLOT));
	assert_ok(stat(daemon_path(&x.d, "file"), &st));
	assert_true(vuc_window_find(&x.w, 0, &map));
	assert_int_equal(map.ino, st.st_ino);
	assert_true(vuc_window_find(&x.w, SLOT, &map));
	assert_true(map.ino != st.st_ino || map.dev != st.st_dev);
	assert_int_equal(word_at(&x, SLOT + 9992), (SLOT + 9992) / 8 + 3);
	assert_int_equal(word_at(&x, SLOT + 10000), 0);
	assert_int_equal(word_at(&x, 2 * SLOT - 8), 0);

	/* What the guest writes is there when it says fsync, and not beyond the end. */
	assert_ok(fuc_map(&x.g.f, node, SLOT, SLOT, R | W, SLOT));
	put_word(&x, SLOT + 4096, 42);
	put_word(&x, SLOT + 10000, 43);
	put_word(&x, SLOT + 100000, 44);
	assert_ok(fuc_fsync(&x.g.f, node, fh, true));
	assert_int_equal(host_word(&x, "file", SLOT + 4096), 42);
	assert_int_equal(host_size(&x, "file"), SLOT + 10000);
	put_word(&x, SLOT + 10000, 0);

	/* A WRITE is seen, and takes nothing away. */
	put_word(&x, SLOT + 8, 45);
	assert_int_equal(fuc_write(&x.g.f, node, fh, SLOT + 10000, text, sizeof(text)),
			 sizeof(text));
	assert_memory_equal(x.w.base + SLOT + 10000, text, sizeof(text));
	assert_int_equal(fuc_write(&x.g.f, node, fh, SLOT + 16, text, 8), 8);
	assert_memory_equal(x.w.base + SLOT + 16, text, 8);
	assert_int_equal(word_at(&x, SLOT + 8), 45);
	assert_ok(fuc_flush(&x.g.f, node, fh, 1));
	assert_int_equal(host_word(&x, "file", SLOT + 8), 45);

	/* A cut file ends in zeros, and grows with zeros. */
	put_word(&x, SLOT + 6000, 77);
	for (uint64_t size = SLOT + 5000; size < SLOT + 20000; size += 10000) {
		struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = size };

		assert_ok(fuc_setattr(&x.g.f, node, &in, &attr));
		assert_int_equal(attr.size, size);
		assert_int_equal(word_at(&x, SLOT + 6000), 0);
	}
	put_word(&x, SLOT + 6000, 78);
	assert_ok(fuc_unmap(&x.g.f, node, SLOT, SLOT));
	assert_int_equal(host_word(&x, "file", SLOT + 6000), 78);
	assert_int_equal(host_word(&x, "file", SLOT + 8), 45);
	assert_int_equal(x.w.live, 1);
	world_close(&x);
}

/*
 * By default nothing is mapped as it is: then nobody who cuts the file takes memory away that
 * the front end has mapped, and no front end can do more than the requests of its guest.
 */
static void nothing_but_copies(void **state)
{
	static const enum vuc_window_mode modes[] = { VUC_WINDOW_WELL, VUC_WINDOW_QEMU };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct vuc_window_map map;
		struct world x;
		struct stat st;
		uint64_t node, fh;

		world_open_mapping(&x, modes[i], NULL, "");
		host_file(&x, "file", 2 * SLOT, 3);
		node = lookup(&x, "file");
		for (uint64_t at = 0; at < 2 * SLOT; at += SLOT) {
			assert_ok(fuc_map(&x.g.f, node, at, SLOT, R | W, at));
			assert_true(vuc_window_find(&x.w, at, &map));
			assert_ok(stat(daemon_path(&x.d, "file"), &st));
			assert_true(map.ino != st.st_ino || map.dev != st.st_dev);
			assert_int_equal(map.file_size, SLOT);
			assert_int_equal(word_at(&x, at + 4096), (at + 4096) / 8 + 3);
		}
		put_word(&x, SLOT + 8, 42);
		assert_ok(fuc_open_file(&x.g.f, node, O_RDWR, &fh));
		assert_ok(fuc_fsync(&x.g.f, node, fh, true));
		assert_int_equal(host_word(&x, "file", SLOT + 8), 42);
		/* The test would end here with SIGBUS. */
		assert_ok(truncate(daemon_path(&x.d, "file"), 100));
		assert_int_equal(word_at(&x, SLOT + 8), 42);
		put_word(&x, SLOT + 16, 43);
		assert_ok(fuc_open_file(&x.g.f, node, O_RDWR, &fh));
		assert_int_equal(word_at(&x, SLOT + 8), 0);
		assert_ok(fuc_unmap(&x.g.f, node, 0, SLOT));
		assert_ok(fuc_unmap(&x.g.f, node, SLOT, SLOT));
		assert_int_equal(host_size(&x, "file"), 100);
		assert_int_equal(x.w.refused, 0);
		world_close(&x);
	}
}

/* Whatever ends a mapping brings what was written to the file. */
static void copies_are_saved(void **state)
{
	struct world x;
	uint64_t node, word;
	int fd;

	(void)state;
	world_open(&x, VUC_WINDOW_QEMU, NULL);
	host_file(&x, "file", 5000, 0);
	for (uint64_t way = 1; way <= 4; way++) {
		node = lookup(&x, "file");
		assert_ok(fuc_map(&x.g.f, node, 0, SLOT, R | W, 0));
		put_word(&x, 800, way);
		if (way == 1)
			assert_ok(fuc_syncfs(&x.g.f, FUSE_ROOT_ID));
		if (way == 2)
			assert_ok(fuc_destroy(&x.g.f));
		if (way <= 3)
			assert_ok(fuc_init(&x.g.f, 45,
					   fuc_default_init_flags() | FUSE_MAP_ALIGNMENT));
		if (way <= 3) {
			assert_int_equal(x.w.live, 0);
		} else {
			world_disconnect(&x);
			world_connect(&x, VUC_WINDOW_QEMU);
			for (unsigned i = 0; i < 200 && host_word(&x, "file", 800) != way; i++)
				usleep(50000);
		}
		assert_int_equal(host_word(&x, "file", 800), way);
	}
	/* The end of the daemon, too. */
	node = lookup(&x, "file");
	assert_ok(fuc_map(&x.g.f, node, 0, SLOT, R | W, 0));
	put_word(&x, 800, 100);
	fd = open(daemon_path(&x.d, "file"), O_RDONLY);
	assert_true(fd >= 0);
	daemon_stop(&x.d);
	assert_int_equal(pread(fd, &word, sizeof(word), 800), sizeof(word));
	assert_int_equal(word, 100);
	close(fd);
	world_disconnect(&x);
}

/* Close to open: an OPEN sees what others did to the file meanwhile. */
static void open_looks_again(void **state)
{
	struct world x;
	uint64_t node, fh;

	(void)state;
	world_open(&x, VUC_WINDOW_QEMU, NULL);
	host_file(&x, "file", 5000, 0);
	node = lookup(&x, "file");
	assert_ok(fuc_map(&x.g.f, node, 0, SLOT, R | W, 0));
	put_word(&x, 0, 11);
	host_file(&x, "file", 9000, 5);
	assert_ok(fuc_open_file(&x.g.f, node, O_RDONLY, &fh));
	assert_int_equal(word_at(&x, 8000), 1005);
	assert_int_equal(word_at(&x, 4096), 517);
	/* Of one page both have written to, the guest's stays. */
	assert_int_equal(word_at(&x, 0), 11);
	assert_int_equal(host_word(&x, "file", 0), 11);
	world_close(&x);
}

/* ---- Lies ---- */

static void bad_requests(void **state)
{
	static const struct {
		uint64_t offset, len, flags, window_offset;
		int error;
	} bad[] = {
		{ 0, 0, R, 0, -EINVAL },
		{ 0, 4096, R, 0, -EINVAL },
		{ 4096, SLOT, R, 0, -EINVAL },
		{ 0, SLOT, R, 4096, -EINVAL },
		{ 0, SLOT, R, SLOTS * SLOT, -EINVAL },
		{ 0, 2 * SLOT, R, (SLOTS - 1) * SLOT, -EINVAL },
		{ 0, SLOT, R, 0 - SLOT, -EINVAL },
		{ 0, 0 - SLOT, R, SLOT, -EINVAL },
		{ 0 - SLOT, SLOT, R, 0, -EINVAL },
		{ 1ull << 63, SLOT, R, 0, -EINVAL },
		{ 0, SLOT, 4, 0, -EINVAL },
		{ 0, SLOT, R, 3 * SLOT, -EBUSY },
		{ SLOT, SLOT, R, 2 * SLOT, -EBUSY },
		{ 0, 2 * SLOT, R, SLOT, -EBUSY },
		{ 0, 4 * SLOT, R, 2 * SLOT, -EBUSY },
	};
	static const struct {
		uint64_t window_offset, len;
	} bad_unmap[] = {
		{ 0, SLOT },	     { 2 * SLOT, SLOT }, { 3 * SLOT, SLOT },
		{ 2 * SLOT, 0 },     { 2 * SLOT, 4096 }, { SLOT, 3 * SLOT },
		{ 2 * SLOT, ~0ull }, { ~0ull, SLOT },	 { SLOTS * SLOT, SLOT },
	};
	struct world x;
	uint64_t node, other;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	host_file(&x, "file", 4 * SLOT, 0);
	host_file(&x, "other", 4 * SLOT, 0);
	node = lookup(&x, "file");
	other = lookup(&x, "other");
	assert_ok(fuc_map(&x.g.f, node, 0, 2 * SLOT, R, 2 * SLOT));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(fuc_map(&x.g.f, node, bad[i].offset, bad[i].len, bad[i].flags,
					 bad[i].window_offset),
				 bad[i].error);
	assert_int_equal(fuc_map(&x.g.f, other, 0, 2 * SLOT, R, 2 * SLOT), -EBUSY);
	assert_int_equal(fuc_map(&x.g.f, FUSE_ROOT_ID, 0, SLOT, R, 0), -EINVAL);
	assert_int_equal(fuc_map(&x.g.f, 0xdeadbeef, 0, SLOT, R, 0), -ESTALE);
	for (unsigned i = 0; i < sizeof(bad_unmap) / sizeof(bad_unmap[0]); i++)
		assert_int_equal(
			fuc_unmap(&x.g.f, node, bad_unmap[i].window_offset, bad_unmap[i].len),
			-EINVAL);
	assert_int_equal(fuc_unmap(&x.g.f, other, 2 * SLOT, 2 * SLOT), -EINVAL);
	/* None of it reached the front end. */
	assert_int_equal(x.w.refused, 0);
	assert_int_equal(x.w.live, 1);
	/* Beyond the end of the file there is nothing, but it can be mapped. */
	assert_ok(fuc_map(&x.g.f, node, 100 * SLOT, SLOT, R, 0));
	assert_ok(fuc_unmap(&x.g.f, node, 0, SLOT));
	assert_ok(fuc_unmap(&x.g.f, node, 2 * SLOT, 2 * SLOT));
	assert_int_equal(x.w.live, 0);
	world_close(&x);
}

static void many_in_one_request(void **state)
{
	struct fuse_removemapping_one list[SLOTS + 1];
	struct fuse_removemapping_in in = { .count = 3 };
	struct fuc_call call = {
		.opcode = FUSE_REMOVEMAPPING,
		.in = { { &in, sizeof(in) }, { list, 2 * sizeof(list[0]) } },
	};
	struct world x;
	uint64_t node;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	host_file(&x, "file", SLOTS * SLOT, 0);
	node = lookup(&x, "file");
	for (unsigned i = 0; i < SLOTS; i++) {
		assert_ok(fuc_map(&x.g.f, node, i * SLOT, SLOT, R, (SLOTS - 1 - i) * SLOT));
		list[i] = (struct fuse_removemapping_one){ .moffset = i * SLOT, .len = SLOT };
	}
	assert_int_equal(word_at(&x, 0), (SLOTS - 1) * SLOT / 8);
	/* One that is wrong spoils only itself. */
	list[SLOTS] = list[0];
	assert_int_equal(fuc_unmap_list(&x.g.f, node, list, SLOTS + 1), -EINVAL);
	assert_int_equal(x.w.live, 0);
	assert_ok(fuc_unmap_list(&x.g.f, node, list, 0));
	/* More than there are. */
	call.nodeid = node;
	assert_int_equal(fuc_call(&x.g.f, &call, NULL, 0, NULL), -EINVAL);
	world_close(&x);
}

/* A front end that refuses, or speaks nonsense: errors, and plain requests go on. */
static void front_end_refuses(void **state)
{
	static const enum vuc_window_mode modes[] = { VUC_WINDOW_REFUSES, VUC_WINDOW_OTHER,
						      VUC_WINDOW_HANGS_UP };
	struct world x;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	host_file(&x, "file", 2 * SLOT, 0);
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		uint64_t node = lookup(&x, "file"), fh, word;

		assert_ok(fuc_map(&x.g.f, node, 0, SLOT, R, 0));
		atomic_store(&x.w.mode, modes[i]);
		assert_int_equal(fuc_map(&x.g.f, node, SLOT, SLOT, R, SLOT), -EIO);
		assert_int_equal(fuc_map(&x.g.f, node, SLOT, SLOT, R | W, SLOT), -EIO);
		assert_ok(fuc_unmap(&x.g.f, node, 0, SLOT));
		assert_ok(fuc_open_file(&x.g.f, node, O_RDONLY, &fh));
		assert_int_equal(fuc_read(&x.g.f, node, fh, 80, &word, 8), 8);
		assert_int_equal(word, 10);
		world_disconnect(&x);
		world_connect(&x, VUC_WINDOW_WELL);
	}
	world_close(&x);
}

/* It stops the queue while we wait for it: neither waits for the other. */
static void stop_while_mapping(void **state)
{
	struct fuse_setupmapping_in in = { .len = SLOT, .flags = R };
	struct fuc_call call = { .opcode = FUSE_SETUPMAPPING, .in = { { &in, sizeof(in) } } };
	struct fuc_req *r;
	struct world x;

	(void)state;
	world_open(&x, VUC_WINDOW_WELL, NULL);
	host_file(&x, "file", SLOT, 0);
	call.nodeid = lookup(&x, "file");
	pthread_mutex_lock(&x.w.lock);
	r = fuc_submit(&x.g.f, &call);
	assert_non_null(r);
	for (unsigned i = 0; i < 1000 && !atomic_load(&x.w.asked); i++)
		usleep(10000);
	assert_ok(vuc_queue_stop(&x.g.c, 1, NULL));
	pthread_mutex_unlock(&x.w.lock);
	assert_ok(fuc_wait(r, 10000));
	assert_int_equal(r->error, -EAGAIN);
	fuc_done(r);
	assert_ok(vuc_queue_start(&x.g.c, 1));
	/* The guest tries again, and the mapping that came too late is not in its way. */
	assert_ok(fuc_map(&x.g.f, call.nodeid, 0, SLOT, R, 0));
	assert_int_equal(word_at(&x, 8), 1);
	assert_int_equal(x.w.refused, 0);
	assert_int_equal(x.w.live, 1);
	world_close(&x);
}

/* ---- A guest at random, against what it should see ---- */

#define FILES 3u
#define FILE_SLOTS 6u

struct model {
	bool mapped;
	unsigned file, slot;
};

static void random_step(struct world *x, const uint64_t *nodes, struct model *model, unsigned *seed)
{
	unsigned at = (unsigned)rand_r(seed) % SLOTS, file = (unsigned)rand_r(seed) % FILES;
	unsigned slot = (unsigned)rand_r(seed) % FILE_SLOTS;
	struct model *m = &model[at];
	int ret;

	if (rand_r(seed) % 2) {
		ret = fuc_map(&x->g.f, nodes[file], slot * SLOT, SLOT, rand_r(seed) % 2 ? R | W : R,
			      at * SLOT);
		if (!m->mapped || (m->file == file && m->slot == slot))
			assert_ok(ret);
		else
			assert_int_equal(ret, -EBUSY);
		if (ret == 0)
			*m = (struct model){ true, file, slot };
	} else {
		ret = fuc_unmap(&x->g.f, nodes[file], at * SLOT, SLOT);
		assert_int_equal(ret, m->mapped && m->file == file ? 0 : -EINVAL);
		if (ret == 0)
			m->mapped = false;
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t page = (unsigned)rand_r(seed) % (SLOT / 4096) * 4096;
		uint64_t offset = model[i].slot * SLOT + page;
		uint64_t size = FILE_SLOTS * SLOT - (model[i].file + 1) * 100000;

		if (model[i].mapped && offset + 8 <= size)
			assert_int_equal(word_at(x, i * SLOT + page),
					 offset / 8 + model[i].file * 1000);
	}
}

static void random_mappings(void **state)
{
	static const enum vuc_window_mode modes[] = { VUC_WINDOW_WELL, VUC_WINDOW_QEMU };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct model model[SLOTS] = { { 0 } };
		uint64_t nodes[FILES];
		unsigned seed = 1 + i;
		struct world x;

		world_open(&x, modes[i], NULL);
		for (unsigned file = 0; file < FILES; file++) {
			char name[16];

			snprintf(name, sizeof(name), "file%u", file);
			host_file(&x, name, FILE_SLOTS * SLOT - (file + 1) * 100000, file * 1000);
			nodes[file] = lookup(&x, name);
		}
		for (unsigned step = 0; step < 600; step++)
			random_step(&x, nodes, model, &seed);
		/* QEMU's one refusal is the first last range. */
		assert_true(x.w.refused <= i);
		assert_ok(fuc_destroy(&x.g.f));
		assert_int_equal(x.w.live, 0);
		world_close(&x);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_and_attributes),
		cmocka_unit_test(front_end_without_a_window),
		cmocka_unit_test(file_is_mapped),
		cmocka_unit_test(read_only_mount),
		cmocka_unit_test(last_range_is_a_copy),
		cmocka_unit_test(nothing_but_copies),
		cmocka_unit_test(copies_are_saved),
		cmocka_unit_test(open_looks_again),
		cmocka_unit_test(bad_requests),
		cmocka_unit_test(many_in_one_request),
		cmocka_unit_test(front_end_refuses),
		cmocka_unit_test(stop_while_mapping),
		cmocka_unit_test(random_mappings),
	};

	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
