/* SPDX-License-Identifier: Apache-2.0 */
/* Open files and their data. */
#include "filefs-fixture.h"

static void written_data_is_on_the_host_and_reads_back(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	char buf[64];
	int fd;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0640, &e, &o), 0);
	assert_int_equal(e.attr.mode, S_IFREG | 0640);
	assert_int_equal(fx_write(fx, o.fh, "hello, host", 11, 0), 11);
	fd = openat(fx->dirfd, "f", O_RDWR);
	assert_int_equal(read(fd, buf, sizeof(buf)), 11);
	assert_memory_equal(buf, "hello, host", 11);
	assert_int_equal(pwrite(fd, "HOST", 4, 7), 4);
	close(fd);
	assert_int_equal(fx_read(fx, o.fh, buf, sizeof(buf), 0), 11);
	assert_memory_equal(buf, "hello, HOST", 11);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 7), 4);
	assert_memory_equal(buf, "HOST", 4);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 11), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, UINT64_MAX - 2), -EINVAL);
	assert_int_equal(fx_write(fx, o.fh, "x", 1, UINT64_MAX), -EFBIG);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 0), -EBADF);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), -EBADF);
}

/* More segments than one preadv2 takes, of odd lengths, over cold pages. */
static void long_vectors_are_read_and_written_whole(void **state)
{
	enum { SEGMENTS = 3000, EACH = 777 };
	struct fx *fx = *state;
	size_t len = (size_t)SEGMENTS * EACH;
	unsigned char *out = malloc(len), *in = calloc(1, len);
	struct iovec *iov = calloc(SEGMENTS, sizeof(*iov));
	struct fuse_open_out o;
	struct fx_req r;
	int fd;

	for (size_t i = 0; i < len; i++)
		out[i] = (unsigned char)(i * 31 + i / 777);
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, NULL, &o), 0);
	for (unsigned i = 0; i < SEGMENTS; i++)
		iov[i] = (struct iovec){ out + i * EACH, EACH };
	fx_req_init(&r, FUSE_WRITE, 0);
	r.req.in.write = (struct fuse_write_in){ .fh = o.fh, .offset = 5, .size = (uint32_t)len };
	r.req.data = iov_cursor(iov, SEGMENTS);
	assert_int_equal(fx_call(fx, &r), len);

	fd = openat(fx->dirfd, "f", O_RDONLY);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);

	for (unsigned i = 0; i < SEGMENTS; i++)
		iov[i] = (struct iovec){ in + i * EACH, EACH };
	fx_req_init(&r, FUSE_READ, 0);
	r.req.in.read = (struct fuse_read_in){ .fh = o.fh, .offset = 5, .size = (uint32_t)len };
	r.req.reply = iov_cursor(iov, SEGMENTS);
	r.req.reply_size = len;
	assert_int_equal(fx_call(fx, &r), len);
	assert_memory_equal(in, out, len);
	free(in);
	free(out);
	free(iov);
}

static void bad_guest_memory_is_an_errno(void **state)
{
	struct fx *fx = *state;
	struct fuse_open_out o;
	char page[4096] = { 1 };

	/* Through the cache it is we who copy: memory that is the guest's has been checked. */
	if (fx_mode.cache)
		return;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, NULL, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, page, sizeof(page), 0), sizeof(page));
	assert_int_equal(fx_read(fx, o.fh, (void *)64, 4096, 0), -EFAULT);
	assert_int_equal(fx_write(fx, o.fh, (void *)64, 4096, 0), -EFAULT);
}

static void open_honours_flags(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o, p;
	char buf[16];

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "12345", 5, 0), 5);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &p), 0);
	assert_int_equal(fx_write(fx, p.fh, "x", 1, 0), -EBADF);
	assert_int_equal(fx_open(fx, e.nodeid, O_WRONLY | O_APPEND, &p), 0);
	assert_int_equal(fx_write(fx, p.fh, "67", 2, 0), 2);
	assert_int_equal(fx_read(fx, p.fh, buf, 1, 0), -EBADF);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 7);
	assert_memory_equal(buf, "1234567", 7);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDWR | O_TRUNC, &p), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 0);
	assert_int_equal(fx_open(fx, 1, O_RDWR, NULL), -EISDIR);
}

static void unlinked_open_file_lives_on(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;
	char buf[4];

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_unlink(fx, 1, "f"), 0);
	assert_int_equal(fx_write(fx, o.fh, "abcd", 4, 0), 4);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 0), 4);
	fx_req_init(&r, FUSE_GETATTR, e.nodeid);
	r.req.in.getattr = (struct fuse_getattr_in){ .getattr_flags = FUSE_GETATTR_FH, .fh = o.fh };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.attr.attr.size, 4);
	assert_int_equal(r.req.out.attr.attr.nlink, 0);
	/* By nodeid too. */
	assert_int_equal(fx_getattr(fx, e.nodeid, NULL), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, NULL), 0);
}

static void cache_is_kept_only_for_an_unchanged_file(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	int fd;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_true(o.open_flags & FOPEN_KEEP_CACHE);
	fd = openat(fx->dirfd, "f", O_WRONLY);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_false(o.open_flags & FOPEN_KEEP_CACHE);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_true(o.open_flags & FOPEN_KEEP_CACHE);
}

static void readonly_refuses_changes(void **state)
{
	struct filefs_config config = fx_config();
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx *fx;
	char buf[4];
	int fd;

	(void)state;
	config.readonly = true;
	fx = fx_new(&config, 0);
	fd = openat(fx->dirfd, "f", O_CREAT | O_WRONLY, 0666);
	assert_int_equal(write(fd, "abc", 3), 3);
	close(fd);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDWR, NULL), -EROFS);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY | O_TRUNC, NULL), -EROFS);
	assert_int_equal(fx_create(fx, 1, "g", O_RDWR, 0644, NULL, NULL), -EROFS);
	assert_int_equal(fx_unlink(fx, 1, "f"), -EROFS);
	assert_int_equal(fx_mkdir(fx, 1, "d", NULL), -EROFS);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "x", 1, 0), -EROFS);
	assert_int_equal(fx_read(fx, o.fh, buf, 4, 0), 3);
	fx_free(fx);
}

static void holes_are_found_and_made(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;
	struct stat st;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "x", 1, 1 << 20), 1);
	fx_req_init(&r, FUSE_LSEEK, e.nodeid);
	r.req.in.lseek = (struct fuse_lseek_in){ .fh = o.fh, .offset = 0, .whence = SEEK_DATA };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.lseek.offset, 1 << 20);
	fx_req_init(&r, FUSE_LSEEK, e.nodeid);
	r.req.in.lseek =
		(struct fuse_lseek_in){ .fh = o.fh, .offset = 2 << 20, .whence = SEEK_DATA };
	assert_int_equal(fx_call(fx, &r), -ENXIO);

	fx_req_init(&r, FUSE_FALLOCATE, e.nodeid);
	r.req.in.fallocate = (struct fuse_fallocate_in){ .fh = o.fh, .length = 1 << 20 };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(fstatat(fx->dirfd, "f", &st, 0), 0);
	assert_true(st.st_blocks >= (1 << 20) / 512);
	fx_req_init(&r, FUSE_FALLOCATE, e.nodeid);
	r.req.in.fallocate = (struct fuse_fallocate_in){
		.fh = o.fh,
		.length = 1 << 20,
		.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(fstatat(fx->dirfd, "f", &st, 0), 0);
	assert_true(st.st_blocks < (1 << 20) / 512);
	assert_int_equal(st.st_size, (1 << 20) + 1);
}

static void copy_file_range_copies(void **state)
{
	struct fx *fx = *state;
	struct fuse_open_out from, to;
	struct fx_req r;
	char buf[8];

	assert_int_equal(fx_create(fx, 1, "a", O_RDWR, 0644, NULL, &from), 0);
	assert_int_equal(fx_create(fx, 1, "b", O_RDWR, 0644, NULL, &to), 0);
	assert_int_equal(fx_write(fx, from.fh, "01234567", 8, 0), 8);
	fx_req_init(&r, FUSE_COPY_FILE_RANGE, 1);
	r.req.in.copy_file_range = (struct fuse_copy_file_range_in){
		.fh_in = from.fh, .off_in = 2, .fh_out = to.fh, .off_out = 1, .len = 4
	};
	assert_int_equal(fx_call(fx, &r), 4);
	assert_int_equal(fx_read(fx, to.fh, buf, 8, 1), 4);
	assert_memory_equal(buf, "2345", 4);
}

static void sync_operations_succeed(void **state)
{
	struct fx *fx = *state;
	struct fuse_open_out o;
	struct fx_req r;
	uint64_t dir;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR | O_SYNC, 0644, NULL, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "abc", 3, 0), 3);
	for (uint32_t flag = 0; flag < 2; flag++) {
		fx_req_init(&r, FUSE_FSYNC, 1);
		r.req.in.fsync = (struct fuse_fsync_in){ .fh = o.fh, .fsync_flags = flag };
		assert_int_equal(fx_call(fx, &r), 0);
	}
	assert_int_equal(fx_opendir(fx, 1, &dir), 0);
	fx_req_init(&r, FUSE_FSYNCDIR, 1);
	r.req.in.fsync.fh = dir;
	assert_int_equal(fx_call(fx, &r), 0);
	fx_req_init(&r, FUSE_FSYNC, 1);
	r.req.in.fsync.fh = dir;
	assert_int_equal(fx_call(fx, &r), -EBADF);
	fx_req_init(&r, FUSE_SYNCFS, 1);
	assert_int_equal(fx_call(fx, &r), 0);
	fx_req_init(&r, FUSE_FLUSH, 1);
	r.req.in.flush.fh = o.fh;
	assert_int_equal(fx_call(fx, &r), 0);
}

static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)
	T(written_data_is_on_the_host_and_reads_back),
	T(long_vectors_are_read_and_written_whole),
	T(bad_guest_memory_is_an_errno),
	T(open_honours_flags),
	T(unlinked_open_file_lives_on),
	T(cache_is_kept_only_for_an_unchanged_file),
	T(holes_are_found_and_made),
	T(copy_file_range_copies),
	T(sync_operations_succeed),
	cmocka_unit_test(readonly_refuses_changes),
};

FX_MAIN("filefs-io", tests)
