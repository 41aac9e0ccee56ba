/* SPDX-License-Identifier: Apache-2.0 */
/* The DAX window over a bucket: ranges of objects, in memory that shows nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "vuc_window.h"

#define SLOT (2ull << 20)
#define SLOTS 32u
#define R FUSE_SETUPMAPPING_FLAG_READ
#define W FUSE_SETUPMAPPING_FLAG_WRITE
#define CHUNK 65536u

static struct daemon daemon_;
static struct guest guest_;
static struct vuc_window window_;

static void connect_guest(void)
{
	guest_connect(&guest_, &daemon_, &vuc_with_window);
	assert_ok(vuc_window_open(&window_, &guest_.c));
	atomic_store(&window_.mode, VUC_WINDOW_QEMU);
	assert_ok(fuc_init(&guest_.f, 45, fuc_default_init_flags() | FUSE_MAP_ALIGNMENT));
}

static void disconnect_guest(void)
{
	assert_int_equal(guest_.f.violations, 0);
	guest_close(&guest_);
	vuc_window_close(&window_);
}

/* @cache: more of [cache_settings]. */
static void begin(const char *cache)
{
	char extra[512];
	const struct daemon_options o = { .memory = true, .extra = extra };

	snprintf(extra, sizeof(extra),
		 "[cache_settings]\nsize = \"64MiB\"\n%s\n"
		 "[dax_settings]\nenabled = true\nwindow_size = \"64MiB\"\n",
		 cache);
	daemon_start(&daemon_, &o);
	connect_guest();
	assert_int_equal(window_.size, SLOTS * SLOT);
}

static void finish(void)
{
	/* Everything could be mapped, and was asked for once. */
	assert_int_equal(window_.refused, 0);
	disconnect_guest();
	daemon_stop(&daemon_);
}

static uint64_t word_at(uint64_t offset)
{
	uint64_t word;

	memcpy(&word, window_.base + offset, sizeof(word));
	return word;
}

static void put_word(uint64_t offset, uint64_t word)
{
	memcpy(window_.base + offset, &word, sizeof(word));
}

/* A file whose words are their offsets, and @salt. Open for reading and writing. */
static uint64_t make_file(const char *name, uint64_t size, uint64_t salt, uint64_t *fh)
{
	uint64_t node = guest_create(&guest_, name, fh);
	static uint64_t words[CHUNK / 8];

	for (uint64_t at = 0; at < size; at += CHUNK) {
		uint32_t n = (uint32_t)(size - at < CHUNK ? size - at : CHUNK);

		for (unsigned i = 0; i < CHUNK / 8; i++)
			words[i] = at + i * 8 + salt;
		assert_int_equal(fuc_write(&guest_.f, node, *fh, at, words, n), n);
	}
	assert_ok(fuc_flush(&guest_.f, node, *fh, 1));
	return node;
}

static uint64_t read_word(uint64_t node, uint64_t fh, uint64_t offset)
{
	uint64_t word = 0;

	assert_int_equal(fuc_read(&guest_.f, node, fh, offset, &word, sizeof(word)), sizeof(word));
	return word;
}

static uint64_t find(const char *name, uint64_t *fh)
{
	struct fuse_entry_out e;

	assert_ok(fuc_lookup(&guest_.f, FUSE_ROOT_ID, name, &e));
	assert_true(e.attr.flags & FUSE_ATTR_DAX);
	assert_ok(fuc_open_file(&guest_.f, e.nodeid, O_RDWR, fh));
	return e.nodeid;
}

static void object_is_mapped(void **state)
{
	struct vuc_window_map map, other;
	uint64_t node, fh;

	(void)state;
	begin("");
	node = make_file("file", SLOT + 10000, 3, &fh);
	assert_ok(fuc_map(&guest_.f, node, 0, SLOT, R, SLOT));
	assert_ok(fuc_map(&guest_.f, node, SLOT, SLOT, R | W, 5 * SLOT));
	for (uint64_t at = 0; at < SLOT; at += 4096)
		assert_int_equal(word_at(SLOT + at), at + 3);
	assert_int_equal(word_at(5 * SLOT + 9992), SLOT + 9992 + 3);
	for (uint64_t at = 10000; at < SLOT; at += 8)
		assert_int_equal(word_at(5 * SLOT + at), 0);
	/* Who has the descriptor has this range of this file, and nothing else. */
	assert_true(vuc_window_find(&window_, SLOT, &map));
	assert_true(vuc_window_find(&window_, 5 * SLOT, &other));
	assert_int_equal(map.file_size, SLOT);
	assert_int_equal(other.file_size, SLOT);
	assert_true(map.ino != other.ino);

	/* Written back by fsync, and what is written otherwise shows. */
	put_word(5 * SLOT + 4096, 42);
	assert_ok(fuc_fsync(&guest_.f, node, fh, false));
	assert_int_equal(read_word(node, fh, SLOT + 4096), 42);
	put_word(5 * SLOT + 8, 43);
	assert_int_equal(fuc_write(&guest_.f, node, fh, SLOT + 10000, "end of file", 12), 12);
	assert_memory_equal(window_.base + 5 * SLOT + 10000, "end of file", 12);
	assert_int_equal(word_at(5 * SLOT + 8), 43);
	assert_int_equal(read_word(node, fh, SLOT + 8), 43);
	assert_ok(fuc_unmap(&guest_.f, node, SLOT, SLOT));
	assert_ok(fuc_unmap(&guest_.f, node, 5 * SLOT, SLOT));
	finish();
}

/* Whatever ends a mapping brings what was written to the object. */
static void what_was_written_stays(void **state)
{
	static const char *const settings[] = { "enabled_cache_write_back = true",
						"enabled_cache_write_back = false" };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t node, fh;

		begin(settings[i]);
		node = make_file("file", SLOT, 0, &fh);
		for (uint64_t way = 1; way <= 6; way++) {
			assert_ok(fuc_map(&guest_.f, node, 0, SLOT, R | W, 0));
			put_word(way * 4096, way);
			if (way == 1)
				assert_ok(fuc_fsync(&guest_.f, node, fh, true));
			if (way == 2)
				assert_ok(fuc_flush(&guest_.f, node, fh, 1));
			if (way == 3)
				assert_ok(fuc_syncfs(&guest_.f, FUSE_ROOT_ID));
			if (way <= 4)
				assert_ok(fuc_unmap(&guest_.f, node, 0, SLOT));
			if (way == 5)
				assert_ok(fuc_destroy(&guest_.f));
			if (way >= 5) {
				/* The sixth dies. */
				disconnect_guest();
				connect_guest();
				node = find("file", &fh);
			}
			/* A copy that is saved when its guest is gone takes a moment. */
			for (unsigned wait = 0;
			     wait < 200 && read_word(node, fh, way * 4096) != way; wait++)
				usleep(50000);
			for (uint64_t before = 1; before <= way; before++)
				assert_int_equal(read_word(node, fh, before * 4096), before);
		}
		finish();
	}
}

/* Half of the pool can be mapped; the other half serves plain requests meanwhile. */
static void memory_is_counted(void **state)
{
	uint64_t node, other, fh, fh2;
	unsigned mapped = 0;
	int ret = 0;

	(void)state;
	begin("");
	node = make_file("file", SLOTS * SLOT, 0, &fh);
	while (mapped < SLOTS) {
		ret = fuc_map(&guest_.f, node, mapped * SLOT, SLOT, R, mapped * SLOT);
		if (ret)
			break;
		mapped++;
	}
	assert_int_equal(ret, -ENOMEM);
	assert_true(mapped >= SLOTS / 2 - 2 && mapped <= SLOTS / 2);
	other = make_file("other", 20 * SLOT, 5, &fh2);
	for (uint64_t at = 0; at < 20 * SLOT; at += SLOT)
		assert_int_equal(read_word(other, fh2, at), at + 5);
	for (uint64_t at = 0; at < mapped * SLOT; at += SLOT / 2)
		assert_int_equal(word_at(at), at);
	assert_int_equal(fuc_map(&guest_.f, node, mapped * SLOT, SLOT, R, mapped * SLOT), -ENOMEM);
	assert_ok(fuc_unmap(&guest_.f, node, 0, SLOT));
	assert_ok(fuc_map(&guest_.f, node, mapped * SLOT, SLOT, R, 0));
	assert_int_equal(word_at(8), mapped * SLOT + 8);
	/* A guest that dies gives all of it back. */
	disconnect_guest();
	connect_guest();
	node = find("file", &fh);
	for (unsigned i = 0; i < mapped; i++)
		assert_ok(fuc_map(&guest_.f, node, i * SLOT, SLOT, R, i * SLOT));
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(object_is_mapped),
		cmocka_unit_test(what_was_written_stays),
		cmocka_unit_test(memory_is_counted),
	};

	return cmocka_run_group_tests_name("window-objects", tests, NULL, NULL);
}
