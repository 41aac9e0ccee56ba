/* SPDX-License-Identifier: Apache-2.0 */
/* Open files: every opcode that works on a handle, on every kind of ring and layout. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BIG 100000u

static struct fuc *fuse(void **state)
{
	return &((struct guest *)*state)->f;
}

static struct daemon *host(void **state)
{
	return ((struct guest *)*state)->d;
}

static void pattern(uint8_t *p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

static void write_then_read_back(void **state)
{
	static const uint32_t sizes[] = { 1, 7, 511, 4096, 4097, 65536, BIG };
	uint8_t out[BIG], in[BIG], disk[BIG];
	uint64_t fh, node = guest_create(*state, "file", &fh);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t off = i * 1234567;
		int fd = open(daemon_path(host(state), "file"), O_RDONLY);

		pattern(out, sizes[i], (unsigned int)i);
		assert_int_equal(fuc_write(fuse(state), node, fh, off, out, sizes[i]), sizes[i]);
		assert_int_equal(pread(fd, disk, sizes[i], (off_t)off), sizes[i]);
		assert_memory_equal(disk, out, sizes[i]);
		memset(in, 0, sizeof(in));
		assert_int_equal(fuc_read(fuse(state), node, fh, off, in, sizes[i]), sizes[i]);
		assert_memory_equal(in, out, sizes[i]);
		close(fd);
	}
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void read_stops_at_the_end(void **state)
{
	uint8_t buf[5000];
	uint64_t fh, node = guest_create(*state, "file", &fh);

	assert_int_equal(fuc_read(fuse(state), node, fh, 0, buf, 100), 0);
	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "0123456789", 10), 10);
	assert_int_equal(fuc_read(fuse(state), node, fh, 4, buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "456789", 6);
	assert_int_equal(fuc_read(fuse(state), node, fh, 10, buf, sizeof(buf)), 0);
	assert_int_equal(fuc_read(fuse(state), node, fh, 1ull << 40, buf, sizeof(buf)), 0);
	assert_int_equal(fuc_write(fuse(state), node, fh, 5, "", 0), 0);
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void open_has_modes(void **state)
{
	uint8_t buf[10];
	uint64_t fh, node = guest_create(*state, "file", &fh);
	struct fuse_attr attr;

	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "content", 7), 7);
	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_open_file(fuse(state), node, O_RDONLY, &fh));
	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "x", 1), -EBADF);
	assert_int_equal(fuc_read(fuse(state), node, fh, 0, buf, 10), 7);
	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_open_file(fuse(state), node, O_WRONLY, &fh));
	assert_int_equal(fuc_read(fuse(state), node, fh, 0, buf, 10), -EBADF);
	assert_ok(fuc_release(fuse(state), node, fh));
	/* ATOMIC_O_TRUNC was agreed on: OPEN truncates. */
	assert_ok(fuc_open_file(fuse(state), node, O_RDWR | O_TRUNC, &fh));
	assert_ok(fuc_getattr(fuse(state), node, &attr));
	assert_int_equal(attr.size, 0);
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void released_handles_are_gone(void **state)
{
	uint8_t buf[10];
	uint64_t fh, node = guest_create(*state, "file", &fh);

	assert_ok(fuc_release(fuse(state), node, fh));
	assert_int_equal(fuc_read(fuse(state), node, fh, 0, buf, 10), -EBADF);
	assert_int_equal(fuc_read(fuse(state), node, fh + 0x100000000ull, 0, buf, 10), -EBADF);
	assert_int_equal(fuc_read(fuse(state), node, UINT64_MAX, 0, buf, 10), -EBADF);
	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "x", 1), -EBADF);
	assert_int_equal(fuc_fsync(fuse(state), node, UINT64_MAX, false), -EBADF);
	guest_remove(*state, node, "file");
}

static void flush_and_sync(void **state)
{
	uint64_t fh, dh, node = guest_create(*state, "file", &fh);

	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "data", 4), 4);
	assert_ok(fuc_flush(fuse(state), node, fh, 99));
	assert_ok(fuc_fsync(fuse(state), node, fh, false));
	assert_ok(fuc_fsync(fuse(state), node, fh, true));
	assert_ok(fuc_opendir(fuse(state), FUSE_ROOT_ID, &dh));
	assert_ok(fuc_fsyncdir(fuse(state), FUSE_ROOT_ID, dh));
	assert_ok(fuc_releasedir(fuse(state), FUSE_ROOT_ID, dh));
	assert_ok(fuc_syncfs(fuse(state), FUSE_ROOT_ID));
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void appending_ignores_the_offset(void **state)
{
	uint8_t buf[10];
	uint64_t fh, node = guest_create(*state, "file", &fh);

	skip_if_foreign(host(state));
	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "first", 5), 5);
	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_open_file(fuse(state), node, O_RDWR | O_APPEND, &fh));
	/* The kernel sends the size it knows; the host may have appended since. */
	assert_int_equal(fuc_write(fuse(state), node, fh, 2, "next", 4), 4);
	assert_int_equal(fuc_read(fuse(state), node, fh, 0, buf, 10), 9);
	assert_memory_equal(buf, "firstnext", 9);
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void holes_are_made_and_found(void **state)
{
	uint64_t fh, at, node = guest_create(*state, "file", &fh);
	uint8_t data[8192];
	struct fuse_attr attr;

	memset(data, 'd', sizeof(data));
	assert_ok(fuc_fallocate(fuse(state), node, fh, 0, 1 << 20, 0));
	assert_ok(fuc_getattr(fuse(state), node, &attr));
	assert_int_equal(attr.size, 1 << 20);
	assert_ok(fuc_fallocate(fuse(state), node, fh, 0, 1 << 20,
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
	assert_int_equal(fuc_write(fuse(state), node, fh, 65536, data, 8192), 8192);
	assert_ok(fuc_lseek(fuse(state), node, fh, 0, SEEK_DATA, &at));
	assert_true(at <= 65536);
	assert_ok(fuc_lseek(fuse(state), node, fh, 65536, SEEK_HOLE, &at));
	assert_true(at >= 65536 + 8192);
	assert_int_equal(fuc_lseek(fuse(state), node, fh, 1 << 21, SEEK_DATA, &at), -ENXIO);
	assert_true(fuc_fallocate(fuse(state), node, fh, 0, 0, 0) < 0);
	assert_true(fuc_fallocate(fuse(state), node, fh, 0, 4096, 0x8000) < 0);
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void copies_stay_on_the_host(void **state)
{
	static const uint32_t opcodes[] = { FUSE_COPY_FILE_RANGE, FUC_COPY_FILE_RANGE_64 };
	uint64_t from_fh, to_fh, from = guest_create(*state, "from", &from_fh);
	uint64_t to = guest_create(*state, "to", &to_fh);
	uint8_t data[BIG], got[BIG];

	pattern(data, BIG, 3);
	assert_int_equal(fuc_write(fuse(state), from, from_fh, 0, data, BIG), BIG);
	for (size_t i = 0; i < 2; i++) {
		struct fuse_copy_file_range_in in = {
			.fh_in = from_fh,
			.off_in = 1000,
			.nodeid_out = to,
			.fh_out = to_fh,
			.off_out = 50 + i,
			.len = 50000,
		};
		uint64_t copied = 0;

		if (host(state)->foreign && i)
			continue;
		assert_ok(fuc_copy_file_range(fuse(state), opcodes[i], &in, from, &copied));
		assert_int_equal(copied, 50000);
		assert_int_equal(fuc_read(fuse(state), to, to_fh, 50 + i, got, 50000), 50000);
		assert_memory_equal(got, data + 1000, 50000);
		in.off_in = BIG;
		assert_ok(fuc_copy_file_range(fuse(state), opcodes[i], &in, from, &copied));
		assert_int_equal(copied, 0);
		in.fh_out = UINT64_MAX;
		assert_int_equal(fuc_copy_file_range(fuse(state), opcodes[i], &in, from, &copied),
				 -EBADF);
	}
	assert_ok(fuc_release(fuse(state), from, from_fh));
	assert_ok(fuc_release(fuse(state), to, to_fh));
	guest_remove(*state, from, "from");
	guest_remove(*state, to, "to");
}

static void unlinked_files_stay_open(void **state)
{
	uint8_t buf[10];
	uint64_t fh, node = guest_create(*state, "file", &fh);
	struct fuse_attr attr;

	assert_ok(fuc_unlink(fuse(state), FUSE_ROOT_ID, "file"));
	assert_int_equal(fuc_write(fuse(state), node, fh, 0, "ghost", 5), 5);
	assert_int_equal(fuc_read(fuse(state), node, fh, 0, buf, 10), 5);
	assert_ok(fuc_getattr(fuse(state), node, &attr));
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(attr.size, 5);
	assert_ok(fuc_release(fuse(state), node, fh));
	assert_ok(fuc_forget(fuse(state), node, 1));
}

static void many_requests_in_flight(void **state)
{
	struct fuc_req *r[16];
	uint8_t data[16][1000];
	uint64_t fh, node = guest_create(*state, "file", &fh);

	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < 16; i++) {
			struct fuse_write_in in = { .fh = fh, .offset = i * 1000, .size = 1000 };

			pattern(data[i], 1000, i + round);
			r[i] = fuc_submit(fuse(state),
					  &(struct fuc_call){
						  .opcode = FUSE_WRITE,
						  .nodeid = node,
						  .in = { { &in, sizeof(in) }, { data[i], 1000 } },
						  .out_cap = sizeof(struct fuse_write_out) });
			/* The ring without indirect tables may be full of small pieces. */
			if (!r[i])
				break;
		}
		for (unsigned int i = 0; i < 16 && r[i]; i++) {
			assert_ok(fuc_wait(r[i], 10000));
			assert_int_equal(r[i]->error, 0);
			fuc_done(r[i]);
		}
		for (unsigned int i = 0; i < 16 && r[i]; i++) {
			uint8_t got[1000];

			assert_int_equal(fuc_read(fuse(state), node, fh, i * 1000, got, 1000),
					 1000);
			assert_memory_equal(got, data[i], 1000);
		}
	}
	assert_ok(fuc_release(fuse(state), node, fh));
	guest_remove(*state, node, "file");
}

static void every_queue_serves(void **state)
{
	struct guest *g = *state;
	uint64_t fh, node = guest_create(g, "file", &fh);

	assert_int_equal(fuc_write(&g->f, node, fh, 0, "shared", 6), 6);
	for (unsigned int q = 1; q < g->c.nqueues; q++) {
		uint8_t buf[6];

		g->f.queue = q;
		for (int i = 0; i < 50; i++) {
			assert_int_equal(fuc_read(&g->f, node, fh, 0, buf, 6), 6);
			assert_memory_equal(buf, "shared", 6);
		}
	}
	g->f.queue = 1;
	assert_ok(fuc_release(&g->f, node, fh));
	guest_remove(g, node, "file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		matrix_test(write_then_read_back),     matrix_test(read_stops_at_the_end),
		matrix_test(open_has_modes),	       matrix_test(released_handles_are_gone),
		matrix_test(flush_and_sync),	       matrix_test(appending_ignores_the_offset),
		matrix_test(holes_are_made_and_found), matrix_test(copies_stay_on_the_host),
		matrix_test(unlinked_files_stay_open), matrix_test(many_requests_in_flight),
		matrix_test(every_queue_serves),
	};

	return run_matrix("data", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
