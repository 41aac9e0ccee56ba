/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that map the same have one memory for it; what one of them does to it without asking
 * harms no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "vuc_window.h"

#define SLOT (2ull << 20)
#define R FUSE_SETUPMAPPING_FLAG_READ
#define W FUSE_SETUPMAPPING_FLAG_WRITE
#define CHUNK 65536u
#define GUESTS 2u

/* Each guest by a socket of its own. */
static struct daemon daemon_[GUESTS];
static struct guest guest_[GUESTS];
static struct vuc_window window_[GUESTS];

static void connect_guest(unsigned i, enum vuc_window_mode mode)
{
	guest_connect(&guest_[i], &daemon_[i], &vuc_with_window);
	assert_ok(vuc_window_open(&window_[i], &guest_[i].c));
	atomic_store(&window_[i].mode, mode);
	assert_ok(fuc_init(&guest_[i].f, 45, fuc_default_init_flags() | FUSE_MAP_ALIGNMENT));
}

static void disconnect_guest(unsigned i)
{
	assert_int_equal(guest_[i].f.violations, 0);
	guest_close(&guest_[i]);
	vuc_window_close(&window_[i]);
}

static void connect_all(enum vuc_window_mode mode)
{
	for (unsigned i = 1; i < GUESTS; i++) {
		daemon_[i] = daemon_[0];
		snprintf(daemon_[i].socket, sizeof(daemon_[i].socket), "%.70s.%u",
			 daemon_[0].socket, i);
	}
	for (unsigned i = 0; i < GUESTS; i++)
		connect_guest(i, mode);
}

/* @o: with GUESTS sockets. */
static void begin(struct daemon_options o, enum vuc_window_mode mode)
{
	static char extra[512];

	snprintf(extra, sizeof(extra),
		 "[dax_settings]\nenabled = true\nwindow_size = \"64MiB\"\n%s",
		 o.extra ? o.extra : "");
	o.extra = extra;
	o.sockets = GUESTS;
	daemon_start(&daemon_[0], &o);
	connect_all(mode);
}

static void finish(void)
{
	for (unsigned i = 0; i < GUESTS; i++)
		disconnect_guest(i);
	daemon_stop(&daemon_[0]);
}

static uint64_t word_at(unsigned i, uint64_t offset)
{
	uint64_t word;

	memcpy(&word, window_[i].base + offset, sizeof(word));
	return word;
}

static void put_word(unsigned i, uint64_t offset, uint64_t word)
{
	memcpy(window_[i].base + offset, &word, sizeof(word));
}

static bool same_memory(uint64_t offset)
{
	struct vuc_window_map a, b;

	assert_true(vuc_window_find(&window_[0], offset, &a));
	assert_true(vuc_window_find(&window_[1], offset, &b));
	return a.dev == b.dev && a.ino == b.ino;
}

/* A file whose words are their offsets and @salt; open in the first guest. */
static uint64_t make_file(uint64_t parent, const char *name, uint64_t size, uint64_t salt,
			  uint64_t *fh)
{
	struct fuse_entry_out e;
	static uint64_t words[CHUNK / 8];

	assert_ok(fuc_create(&guest_[0].f, parent, name, O_RDWR | O_CREAT, 0100644, &e, fh));
	for (uint64_t at = 0; at < size; at += CHUNK) {
		uint32_t n = (uint32_t)(size - at < CHUNK ? size - at : CHUNK);

		for (unsigned i = 0; i < CHUNK / 8; i++)
			words[i] = at + i * 8 + salt;
		assert_int_equal(fuc_write(&guest_[0].f, e.nodeid, *fh, at, words, n), n);
	}
	assert_ok(fuc_fsync(&guest_[0].f, e.nodeid, *fh, false));
	return e.nodeid;
}

/* Open in guest @i. */
static uint64_t find(unsigned i, uint64_t parent, const char *name, uint32_t flags, uint64_t *fh)
{
	struct fuse_entry_out e;

	assert_ok(fuc_lookup(&guest_[i].f, parent, name, &e));
	assert_ok(fuc_open_file(&guest_[i].f, e.nodeid, flags, fh));
	return e.nodeid;
}

static uint64_t read_word(unsigned i, uint64_t node, uint64_t fh, uint64_t offset)
{
	uint64_t word = 0;

	assert_int_equal(fuc_read(&guest_[i].f, node, fh, offset, &word, sizeof(word)),
			 sizeof(word));
	return word;
}

/* What both map is one memory, and what one does shows to the other, and is in the file. */
static void share_below(uint64_t parent0, uint64_t parent1)
{
	uint64_t node[2], fh[2];

	node[0] = make_file(parent0, "file", 2 * SLOT, 3, &fh[0]);
	node[1] = find(1, parent1, "file", O_RDWR, &fh[1]);
	for (unsigned i = 0; i < 2; i++) {
		assert_ok(fuc_map(&guest_[i].f, node[i], 0, SLOT, R, 0));
		assert_ok(fuc_map(&guest_[i].f, node[i], i * SLOT, SLOT, R, SLOT));
		assert_int_equal(word_at(i, 4096), 4096 + 3);
	}
	assert_true(same_memory(0));
	/* Other ranges are other memories. */
	assert_false(same_memory(SLOT));
	assert_int_equal(word_at(1, SLOT), SLOT + 3);

	/* Asked for by one. */
	assert_ok(fuc_map(&guest_[0].f, node[0], 0, SLOT, R | W, 0));
	put_word(0, 8192, 42);
	assert_int_equal(word_at(1, 8192), 42);
	assert_ok(fuc_fsync(&guest_[0].f, node[0], fh[0], true));
	assert_int_equal(read_word(1, node[1], fh[1], 8192), 42);
	/* By nobody: it shows, so it has to be in the file. */
	put_word(1, 12288, 43);
	assert_ok(fuc_fsync(&guest_[0].f, node[0], fh[0], true));
	assert_int_equal(read_word(1, node[1], fh[1], 12288), 43);
	/* A WRITE of one shows in the other. */
	put_word(1, 16384, 44);
	assert_int_equal(fuc_write(&guest_[0].f, node[0], fh[0], 16392, "written!", 8), 8);
	assert_memory_equal(window_[1].base + 16392, "written!", 8);
	assert_int_equal(word_at(0, 16384), 44);

	/* Who leaves takes nothing away, and nothing that was written gets lost. */
	put_word(0, 20480, 45);
	assert_ok(fuc_unmap(&guest_[0].f, node[0], 0, SLOT));
	assert_int_equal(word_at(1, 20480), 45);
	put_word(1, 24576, 46);
	disconnect_guest(1);
	for (unsigned wait = 0; wait < 200 && read_word(0, node[0], fh[0], 24576) != 46; wait++)
		usleep(50000);
	assert_int_equal(read_word(0, node[0], fh[0], 24576), 46);
	assert_int_equal(read_word(0, node[0], fh[0], 20480), 45);
	connect_guest(1, VUC_WINDOW_QEMU);
	assert_ok(fuc_unmap(&guest_[0].f, node[0], SLOT, SLOT));
}

static void copies_are_shared(void **state)
{
	static const struct daemon_options storages[] = {
		{ .memory = true, .extra = "[cache_settings]\nsize = \"64MiB\"\n" },
		{ .storage = "" },
		{ .extra = "[cache_settings]\nenabled_cache = true\nsize = \"64MiB\"\n" },
		{ .extra = "[cache_settings]\nenabled_cache = true\nsize = \"64MiB\"\n"
			   "enabled_cache_write_back = true\n" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(storages) / sizeof(storages[0]); i++) {
		begin(storages[i], VUC_WINDOW_QEMU);
		share_below(FUSE_ROOT_ID, FUSE_ROOT_ID);
		finish();
	}
}

/* What a guest stores without asking, while the memory is its own, is no other's to see. */
static void unasked_is_not_shown(void **state)
{
	uint64_t node[2], fh[2];

	(void)state;
	begin((struct daemon_options){ .memory = true }, VUC_WINDOW_QEMU);
	node[0] = make_file(FUSE_ROOT_ID, "file", SLOT, 3, &fh[0]);
	assert_ok(fuc_map(&guest_[0].f, node[0], 0, SLOT, R, 0));
	put_word(0, 4096, 666);
	node[1] = find(1, FUSE_ROOT_ID, "file", O_RDWR, &fh[1]);
	assert_ok(fuc_map(&guest_[1].f, node[1], 0, SLOT, R, 0));
	assert_true(same_memory(0));
	assert_int_equal(word_at(1, 4096), 4096 + 3);
	assert_ok(fuc_syncfs(&guest_[0].f, FUSE_ROOT_ID));
	assert_int_equal(read_word(1, node[1], fh[1], 4096), 4096 + 3);
	finish();
}

static void fill_on_host(const char *name)
{
	int fd = open(daemon_path(&daemon_[0], name), O_CREAT | O_RDWR | O_TRUNC, 0644);

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < SLOT; at += 4096)
		assert_int_equal(pwrite(fd, &at, sizeof(at), (off_t)at), sizeof(at));
	close(fd);
}

/* Of guests that may not write: one memory that nobody can write to, or one for each. */
static void readonly_is_sealed(void **state)
{
	static const enum vuc_window_mode modes[] = { VUC_WINDOW_WELL, VUC_WINDOW_QEMU };

	(void)state;
	for (unsigned m = 0; m < 2; m++) {
		const bool well = modes[m] == VUC_WINDOW_WELL;
		struct vuc_window_map map;
		uint64_t node[2], fh;

		begin((struct daemon_options){ .storage = "readonly = true" }, modes[m]);
		fill_on_host("file");
		for (unsigned i = 0; i < 2; i++) {
			node[i] = find(i, FUSE_ROOT_ID, "file", O_RDONLY, &fh);
			assert_ok(fuc_map(&guest_[i].f, node[i], 0, SLOT, R, 0));
			assert_true(vuc_window_find(&window_[i], 0, &map));
			assert_int_equal(map.writable, !well);
			assert_int_equal(map.can_write, !well);
			/* What it refuses is asked for once. */
			assert_ok(fuc_map(&guest_[i].f, node[i], SLOT, SLOT, R, SLOT));
			assert_int_equal(window_[i].refused, !well);
			assert_int_equal(fuc_map(&guest_[i].f, node[i], 0, SLOT, R | W, 0), -EROFS);
		}
		assert_int_equal(same_memory(0), well);
		if (!well)
			put_word(0, 4096, 666);
		assert_int_equal(word_at(1, 4096), 4096);
		assert_ok(fuc_unmap(&guest_[0].f, node[0], 0, SLOT));
		assert_int_equal(word_at(1, 8192), 8192);
		finish();
	}
}

/* Shared memory counts once: what one guest has mapped costs the other nothing. */
static void memory_counts_once(void **state)
{
	uint64_t node[2], fh[2];
	unsigned mapped = 0;

	(void)state;
	begin((struct daemon_options){ .memory = true,
				       .extra = "[cache_settings]\nsize = \"32MiB\"\n" },
	      VUC_WINDOW_QEMU);
	node[0] = make_file(FUSE_ROOT_ID, "file", 12 * SLOT, 0, &fh[0]);
	node[1] = find(1, FUSE_ROOT_ID, "file", O_RDWR, &fh[1]);
	while (fuc_map(&guest_[0].f, node[0], mapped * SLOT, SLOT, R, mapped * SLOT) == 0)
		mapped++;
	assert_true(mapped >= 6 && mapped <= 8);
	for (unsigned i = 0; i < mapped; i++) {
		assert_ok(fuc_map(&guest_[1].f, node[1], i * SLOT, SLOT, R, i * SLOT));
		assert_int_equal(word_at(1, i * SLOT + 8), i * SLOT + 8);
	}
	/* It is given back when the last one leaves. */
	for (unsigned i = 0; i < mapped; i++)
		assert_ok(fuc_unmap(&guest_[0].f, node[0], i * SLOT, SLOT));
	node[0] = make_file(FUSE_ROOT_ID, "other", SLOT, 7, &fh[0]);
	assert_int_equal(fuc_map(&guest_[0].f, node[0], 0, SLOT, R, 0), -ENOMEM);
	disconnect_guest(1);
	connect_guest(1, VUC_WINDOW_QEMU);
	for (unsigned wait = 0;
	     wait < 200 && fuc_map(&guest_[0].f, node[0], 0, SLOT, R, 0) == -ENOMEM; wait++)
		usleep(50000);
	assert_int_equal(word_at(0, 8), 8 + 7);
	finish();
}

#define DIRECTORY(path, storage)                                                                   \
	"[[mount.directory]]\npath = \"" path "\"\n[mount.directory.storage_settings]\n" storage

#define MOUNT                                                                                      \
	"[cache_settings]\nsize = \"64MiB\"\n[log]\nlevel = \"debug\"\n"                           \
	"[[mount]]\nname = \"m\"\n[mount.socket_settings]\n"                                       \
	"socket_path = [\"%D/socket\", \"%D/socket.1\"]\n"                                         \
	"[mount.dax_settings]\nenabled = true\nwindow_size = \"64MiB\"\n"
#define DISK DIRECTORY("disk", "type = \"fs\"\nroot = \"%D/root\"\n")
#define OBJECTS DIRECTORY("objects", "type = \"memory\"\n")

static void begin_with(const char *text)
{
	daemon_make(&daemon_[0]);
	daemon_configure(&daemon_[0], text, SAVE_IN_PLACE);
	daemon_restart(&daemon_[0]);
	daemon_log_wait(&daemon_[0], " started ", 1);
	connect_all(VUC_WINDOW_QEMU);
}

/* A mount that becomes read-only is so for what is mapped, too. */
static void reload_to_readonly(void **state)
{
	static const char *const storages[] = { "type = \"memory\"\n",
						"type = \"fs\"\nroot = \"%D/root\"\n" };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char text[2][1024];
		uint64_t node, fh;

		for (unsigned readonly = 0; readonly < 2; readonly++)
			snprintf(text[readonly], sizeof(text[0]),
				 "%s[mount.storage_settings]\n%sreadonly = %s\n", MOUNT,
				 storages[i], readonly ? "true" : "false");
		begin_with(text[0]);
		node = make_file(FUSE_ROOT_ID, "file", SLOT, 0, &fh);
		assert_ok(fuc_map(&guest_[0].f, node, 0, SLOT, R | W, 0));
		put_word(0, 4096, 51);
		assert_ok(fuc_fsync(&guest_[0].f, node, fh, false));
		daemon_configure(&daemon_[0], text[1], SAVE_IN_PLACE);
		daemon_log_wait(&daemon_[0], " reloaded ", 1);
		put_word(0, 8192, 52);
		assert_int_equal(fuc_syncfs(&guest_[0].f, FUSE_ROOT_ID), -EROFS);
		assert_int_equal(fuc_map(&guest_[0].f, node, 0, SLOT, R | W, SLOT), -EROFS);
		daemon_configure(&daemon_[0], text[0], SAVE_IN_PLACE);
		daemon_log_wait(&daemon_[0], " reloaded ", 2);
		assert_ok(fuc_syncfs(&guest_[0].f, FUSE_ROOT_ID));
		assert_ok(fuc_unmap(&guest_[0].f, node, 0, SLOT));
		assert_int_equal(read_word(0, node, fh, 4096), 51);
		assert_int_equal(read_word(0, node, fh, 8192), 52);
		finish();
	}
}

/* Directories of a mount: each its own storage, all in the one window. */
static void directories_have_windows(void **state)
{
	static const char *const names[] = { "disk", "objects" };
	struct fuse_entry_out dir[2];

	(void)state;
	begin_with(MOUNT DISK OBJECTS);
	for (unsigned n = 0; n < 2; n++) {
		struct fuse_entry_out e;

		for (unsigned i = 0; i < 2; i++)
			assert_ok(fuc_lookup(&guest_[i].f, FUSE_ROOT_ID, names[n], &dir[i]));
		share_below(dir[0].nodeid, dir[1].nodeid);
		assert_ok(fuc_lookup(&guest_[0].f, dir[0].nodeid, "file", &e));
		assert_true(e.attr.flags & FUSE_ATTR_DAX);
	}
	assert_int_equal(fuc_map(&guest_[0].f, dir[0].nodeid, 0, SLOT, R, 0), -EINVAL);
	assert_int_equal(fuc_map(&guest_[0].f, FUSE_ROOT_ID, 0, SLOT, R, 0), -EINVAL);
	assert_int_equal(fuc_map(&guest_[0].f, dir[0].nodeid | 1ull << 62, 0, SLOT, R, 0), -ESTALE);
	finish();
}

/* What is mapped stays when its directory goes, and is saved; then the directory is gone. */
static void directory_goes(void **state)
{
	struct fuse_entry_out dir, e;
	uint64_t node, fh, word = 0;
	int fd, ret = 0;

	(void)state;
	begin_with(MOUNT DISK OBJECTS);
	assert_ok(fuc_lookup(&guest_[0].f, FUSE_ROOT_ID, "disk", &dir));
	node = make_file(dir.nodeid, "file", SLOT, 5, &fh);
	assert_ok(fuc_map(&guest_[0].f, node, 0, SLOT, R | W, 0));
	fd = open(daemon_path(&daemon_[0], "file"), O_RDONLY);
	assert_true(fd >= 0);
	daemon_configure(&daemon_[0], MOUNT OBJECTS, SAVE_IN_PLACE);
	for (unsigned wait = 0; wait < 600 && ret == 0; wait++) {
		usleep(50000);
		ret = fuc_lookup(&guest_[0].f, FUSE_ROOT_ID, "disk", &e);
	}
	assert_int_equal(ret, -ENOENT);
	assert_int_equal(fuc_map(&guest_[0].f, node, 0, SLOT, R, SLOT), -ESTALE);
	assert_int_equal(word_at(0, 4096), 4096 + 5);
	put_word(0, 4096, 47);
	assert_ok(fuc_unmap(&guest_[0].f, node, 0, SLOT));
	assert_int_equal(pread(fd, &word, sizeof(word), 4096), sizeof(word));
	assert_int_equal(word, 47);
	close(fd);
	daemon_log_wait(&daemon_[0], " directory_removed ", 1);
	assert_ok(fuc_lookup(&guest_[0].f, FUSE_ROOT_ID, "objects", &dir));
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_are_shared),	    cmocka_unit_test(unasked_is_not_shown),
		cmocka_unit_test(readonly_is_sealed),	    cmocka_unit_test(memory_counts_once),
		cmocka_unit_test(directories_have_windows), cmocka_unit_test(directory_goes),
		cmocka_unit_test(reload_to_readonly),
	};

	return cmocka_run_group_tests_name("window-share", tests, NULL, NULL);
}
