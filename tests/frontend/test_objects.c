/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as files, in the daemon's own memory and in its sandbox: the whole way from the
 * ring through driver, cache and stack, without a server. tests/service has the rest. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK 32768u
#define CHUNKS 96u /* 3 MiB */

static struct daemon daemon_;

static void pattern(uint8_t *p, uint32_t n, uint32_t seed)
{
	for (uint32_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + i / 251 + seed * 13);
}

/* Writes @chunks chunks and closes. 0 or the first error. */
static int write_file(struct guest *g, uint64_t node, uint64_t fh, uint32_t chunks)
{
	uint8_t buf[CHUNK];
	int ret = 0;

	for (uint32_t i = 0; i < chunks && ret >= 0; i++) {
		pattern(buf, CHUNK, i);
		ret = fuc_write(&g->f, node, fh, (uint64_t)i * CHUNK, buf, CHUNK);
	}
	ret = ret < 0 ? ret : fuc_flush(&g->f, node, fh, 1);
	assert_ok(fuc_release(&g->f, node, fh));
	return ret;
}

static void check_file(struct guest *g, uint64_t node, uint32_t chunks)
{
	uint8_t buf[CHUNK], wanted[CHUNK];
	uint64_t fh;

	assert_ok(fuc_open_file(&g->f, node, O_RDONLY, &fh));
	for (uint32_t i = 0; i < chunks; i++) {
		pattern(wanted, CHUNK, i);
		assert_int_equal(fuc_read(&g->f, node, fh, (uint64_t)i * CHUNK, buf, CHUNK), CHUNK);
		assert_memory_equal(buf, wanted, CHUNK);
	}
	assert_int_equal(fuc_read(&g->f, node, fh, (uint64_t)chunks * CHUNK, buf, CHUNK), 0);
	assert_ok(fuc_release(&g->f, node, fh));
}

/* How many entries @node has but "." and "..", and whether @name is one of them. */
static unsigned int list(struct guest *g, uint64_t node, const char *name, bool *found)
{
	uint64_t fh, offset = 0;
	uint8_t buf[8192];
	unsigned int n = 0;
	int got;

	*found = false;
	assert_ok(fuc_opendir(&g->f, node, &fh));
	while ((got = fuc_readdir(&g->f, node, fh, offset, buf, sizeof(buf))) > 0) {
		for (int at = 0; at < got;) {
			const struct fuse_dirent *e = (const void *)(buf + at);

			if (e->name[0] != '.')
				n++;
			if (e->namelen == strlen(name) && !memcmp(e->name, name, e->namelen))
				*found = true;
			offset = e->off;
			at += (int)FUSE_DIRENT_SIZE(e);
		}
	}
	assert_int_equal(got, 0);
	assert_ok(fuc_releasedir(&g->f, node, fh));
	return n;
}

/* A reply without a node is an absence to be remembered. */
static bool is_absent(struct guest *g, uint64_t parent, const char *name)
{
	struct fuse_entry_out e = { 0 };
	int ret = fuc_lookup(&g->f, parent, name, &e);

	return ret == -ENOENT || (ret == 0 && e.nodeid == 0);
}

static void a_tree_grows_and_goes(void **state)
{
	struct fuse_entry_out dir, file, e;
	struct guest g;
	uint64_t fh;
	bool found;

	(void)state;
	guest_open(&g, &daemon_, NULL);
	assert_ok(fuc_mkdir(&g.f, FUSE_ROOT_ID, "dir", 0755, &dir));
	assert_int_equal(fuc_mkdir(&g.f, FUSE_ROOT_ID, "dir", 0755, &e), -EEXIST);
	assert_ok(fuc_create(&g.f, dir.nodeid, "file", O_RDWR, 0644, &file, &fh));
	assert_true(S_ISREG(file.attr.mode));
	assert_ok(write_file(&g, file.nodeid, fh, CHUNKS));
	check_file(&g, file.nodeid, CHUNKS);
	assert_ok(fuc_lookup(&g.f, dir.nodeid, "file", &e));
	assert_int_equal(e.attr.size, CHUNKS * CHUNK);
	assert_int_equal(list(&g, dir.nodeid, "file", &found), 1);
	assert_true(found);
	assert_int_equal(fuc_rmdir(&g.f, FUSE_ROOT_ID, "dir"), -ENOTEMPTY);
	assert_ok(fuc_rename(&g.f, dir.nodeid, "file", FUSE_ROOT_ID, "moved"));
	assert_true(is_absent(&g, dir.nodeid, "file"));
	assert_ok(fuc_lookup(&g.f, FUSE_ROOT_ID, "moved", &e));
	check_file(&g, e.nodeid, CHUNKS);
	assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "moved"));
	assert_ok(fuc_rmdir(&g.f, FUSE_ROOT_ID, "dir"));
	assert_int_equal(list(&g, FUSE_ROOT_ID, "dir", &found), 0);
	assert_int_equal(g.f.violations, 0);
	guest_close(&g);
}

static void files_outlive_their_guest(void **state)
{
	struct fuse_entry_out e;
	struct guest g;
	uint64_t fh;

	(void)state;
	guest_open(&g, &daemon_, NULL);
	assert_ok(fuc_create(&g.f, FUSE_ROOT_ID, "kept", O_RDWR, 0644, &e, &fh));
	assert_ok(write_file(&g, e.nodeid, fh, 3));
	guest_close(&g);
	guest_open(&g, &daemon_, NULL);
	assert_ok(fuc_lookup(&g.f, FUSE_ROOT_ID, "kept", &e));
	check_file(&g, e.nodeid, 3);
	assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "kept"));
	guest_close(&g);
}

static void what_objects_cannot_is_refused(void **state)
{
	struct fuse_setattr_in mode = { .valid = FATTR_MODE, .mode = S_IFREG | 0600 };
	struct fuse_attr attr;
	struct fuse_entry_out file, e;
	struct fuse_kstatfs st;
	struct guest g;
	uint64_t fh;

	(void)state;
	guest_open(&g, &daemon_, NULL);
	assert_ok(fuc_create(&g.f, FUSE_ROOT_ID, "file", O_RDWR, 0644, &file, &fh));
	assert_ok(write_file(&g, file.nodeid, fh, 0));
	assert_int_equal(fuc_symlink(&g.f, FUSE_ROOT_ID, "link", "file", &e), -EOPNOTSUPP);
	assert_int_equal(fuc_link(&g.f, file.nodeid, FUSE_ROOT_ID, "link", &e), -EOPNOTSUPP);
	assert_int_equal(fuc_setattr(&g.f, file.nodeid, &mode, &attr), -EOPNOTSUPP);
	assert_ok(fuc_statfs(&g.f, FUSE_ROOT_ID, &st));
	assert_true(st.blocks > 0 && st.bsize > 0 && st.namelen > 0);
	assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "file"));
	guest_close(&g);
}

static void a_full_storage_says_so(void **state)
{
	struct fuse_entry_out e;
	struct guest g;
	uint64_t fh;

	(void)state;
	guest_open(&g, &daemon_, NULL);
	assert_ok(fuc_create(&g.f, FUSE_ROOT_ID, "large", O_RDWR, 0644, &e, &fh));
	/* The capacity is 16 MiB. */
	assert_int_equal(write_file(&g, e.nodeid, fh, 20 * (1 << 20) / CHUNK), -ENOSPC);
	assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "large"));
	/* And there is room again. */
	assert_ok(fuc_create(&g.f, FUSE_ROOT_ID, "small", O_RDWR, 0644, &e, &fh));
	assert_ok(write_file(&g, e.nodeid, fh, CHUNKS));
	assert_ok(fuc_unlink(&g.f, FUSE_ROOT_ID, "small"));
	guest_close(&g);
}

/* A test of its own, since nobody counts the failures of a group's tear-down. */
static void the_daemon_ends_well(void **state)
{
	(void)state;
	daemon_stop(&daemon_);
}

/* With write-back, what was closed is written at the end. */
static void dirty_data_is_written_at_the_end(void **state)
{
	struct fuse_entry_out e;
	struct daemon d;
	struct guest g;
	uint64_t fh;

	(void)state;
	daemon_start(&d, &(struct daemon_options){
				 .memory = true,
				 .extra = "[cache_settings]\nenabled_cache_write_back = true\n"
					  "write_back_delay = \"1h\"\n" });
	guest_open(&g, &d, NULL);
	assert_ok(fuc_create(&g.f, FUSE_ROOT_ID, "file", O_RDWR, 0644, &e, &fh));
	assert_ok(write_file(&g, e.nodeid, fh, CHUNKS));
	guest_close(&g);
	/* Fails unless the status is 0, which it is when nothing was left. */
	daemon_stop(&d);
}

static int set_up(void **state)
{
	(void)state;
	daemon_start(&daemon_, &(struct daemon_options){ .memory = true,
							 .storage = "capacity = \"16MiB\"\n" });
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_grows_and_goes),
		cmocka_unit_test(files_outlive_their_guest),
		cmocka_unit_test(what_objects_cannot_is_refused),
		cmocka_unit_test(a_full_storage_says_so),
		cmocka_unit_test(the_daemon_ends_well),
		cmocka_unit_test(dirty_data_is_written_at_the_end),
	};

	return cmocka_run_group_tests_name("objects", tests, set_up, NULL);
}
