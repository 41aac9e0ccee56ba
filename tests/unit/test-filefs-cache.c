/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files whose data goes through the cache: what is read, written and seen, by the guest and by
 * somebody else on the host, with write-back unless a test says otherwise. (The other tests of
 * filefs run with a cache that writes through, too.)
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "filefs-fixture.h"

#include "base/loop.h"

#define KIB 1024u
#define MIB (1024u * KIB)

/* ---- The host's side ---- */

static void host_write(struct fx *fx, const char *name, const void *buf, size_t len, off_t offset)
{
	int fd = openat(fx->dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, buf, len, offset), len);
	close(fd);
}

static size_t host_read(struct fx *fx, const char *name, void *buf, size_t len, off_t offset)
{
	int fd = openat(fx->dirfd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = pread(fd, buf, len, offset);
	assert_true(n >= 0);
	close(fd);
	return (size_t)n;
}

static bool host_has(struct fx *fx, const char *name, const char *text, off_t offset)
{
	char buf[64] = "";

	return host_read(fx, name, buf, strlen(text), offset) == strlen(text) &&
	       !memcmp(buf, text, strlen(text));
}

static uint64_t host_size(struct fx *fx, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(fx->dirfd, name, &st, 0), 0);
	return (uint64_t)st.st_size;
}

static void host_truncate(struct fx *fx, const char *name, off_t size)
{
	int fd = openat(fx->dirfd, name, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* So long that the host's clock for files has gone on: a change later on has another time. */
static void host_tick(void)
{
	struct timespec ts = { .tv_nsec = 20000000 };

	nanosleep(&ts, NULL);
}

/* Until it is so, or much too long. */
#define await(condition)                                                                           \
	do {                                                                                       \
		uint64_t deadline_ = loop_now_ns() + 60 * 1000000000ull;                           \
		while (!(condition) && loop_now_ns() < deadline_)                                  \
			host_tick();                                                               \
		assert_true(condition);                                                            \
	} while (0)

/* ---- The guest's ---- */

static struct fx *start(unsigned cache)
{
	struct filefs_config config = fx_config();

	fx_mode.cache = cache;
	return fx_new(&config, 0);
}

static void end(struct fx *fx)
{
	fx_free(fx);
	fx_mode.cache = FX_CACHE_NONE;
	fx_mode.expiration_ns = 0;
}

static int guest_fsync(struct fx *fx, uint64_t fh)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_FSYNC, 1);
	r.req.in.fsync.fh = fh;
	return (int)fx_call(fx, &r);
}

static int guest_flush(struct fx *fx, uint64_t fh)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_FLUSH, 1);
	r.req.in.flush.fh = fh;
	return (int)fx_call(fx, &r);
}

static int guest_truncate(struct fx *fx, uint64_t nodeid, uint64_t size)
{
	struct fx_req r;

	fx_req_init(&r, FUSE_SETATTR, nodeid);
	r.req.in.setattr.valid = FATTR_SIZE;
	r.req.in.setattr.size = size;
	return (int)fx_call(fx, &r);
}

static uint64_t fetched(struct fx *fx)
{
	struct cache_storage_usage usage;

	cache_storage_usage(fx->cache.files, &usage);
	return usage.fetched;
}

static bool is_clean(struct fx *fx)
{
	struct cache_storage_usage usage;

	cache_storage_usage(fx->cache.files, &usage);
	return usage.dirty_files == 0;
}

/* ---- Reading ---- */

static void a_file_is_read_once(void **state)
{
	struct fx *fx = start(FX_CACHE_THROUGH);
	char *data = malloc(MIB), *buf = malloc(MIB);
	struct fuse_entry_out e;
	struct fuse_open_out o;
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < MIB; i++)
		data[i] = (char)(i / 7 + i);
	host_write(fx, "f", data, MIB, 0);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	for (unsigned round = 0; round < 3; round++) {
		before = fetched(fx);
		assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
		assert_int_equal(fx_read(fx, o.fh, buf, MIB, 0), MIB);
		assert_memory_equal(buf, data, MIB);
		assert_int_equal(fx_read(fx, o.fh, buf, 100, MIB), 0);
		assert_int_equal(fx_read(fx, o.fh, buf, 100, MIB - 10), 10);
		assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
		assert_int_equal(fetched(fx) - before, round ? 0 : MIB);
	}
	free(data);
	free(buf);
	end(fx);
}

static void what_the_host_changes_is_seen_at_open(void **state)
{
	struct fx *fx = start(FX_CACHE_THROUGH);
	struct fuse_entry_out e;
	struct fuse_open_out o;
	char buf[16];

	(void)state;
	host_write(fx, "f", "first", 5, 0);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 5);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	host_tick();
	host_write(fx, "f", "other", 5, 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_false(o.open_flags & FOPEN_KEEP_CACHE);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 5);
	assert_memory_equal(buf, "other", 5);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_true(o.open_flags & FOPEN_KEEP_CACHE);
	end(fx);
}

static void what_the_host_appends_is_seen_with_the_size(void **state)
{
	struct fx *fx = start(FX_CACHE_THROUGH);
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fuse_attr attr;
	char buf[16];

	(void)state;
	host_write(fx, "f", "first", 5, 0);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 5);
	host_write(fx, "f", " and more", 9, 5);
	assert_int_equal(fx_getattr(fx, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 14);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 14);
	assert_memory_equal(buf, "first and more", 14);
	end(fx);
}

static void what_is_cached_expires(void **state)
{
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx *fx;
	char buf[16];

	(void)state;
	fx_mode.expiration_ns = 1000000;
	fx = start(FX_CACHE_THROUGH);
	host_write(fx, "f", "first", 5, 0);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 5);
	host_tick();
	host_write(fx, "f", "later!", 6, 0);
	host_tick();
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 6);
	assert_memory_equal(buf, "later!", 6);
	end(fx);
}

/* ---- Writing ---- */

static void without_write_back_each_write_is_in_the_file(void **state)
{
	struct fx *fx = start(FX_CACHE_THROUGH);
	struct fuse_open_out o;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, NULL, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "0123456789", 10, 0), 10);
	assert_true(host_has(fx, "f", "0123456789", 0));
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 10);
	assert_int_equal(fx_write(fx, o.fh, "xy", 2, 4), 2);
	assert_true(host_has(fx, "f", "0123xy6789", 0));
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 10);
	assert_memory_equal(buf, "0123xy6789", 10);
	end(fx);
}

static void what_is_written_shows_before_the_host_has_it(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_entry_out e, again;
	struct fuse_open_out o;
	struct fuse_attr attr, later;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	host_tick();
	assert_int_equal(fx_write(fx, o.fh, "0123456789", 10, 0), 10);
	assert_int_equal(host_size(fx, "f"), 0);
	assert_int_equal(fx_getattr(fx, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 10);
	assert_true(attr.blocks > 0);
	assert_true(attr.mtime > e.attr.mtime || attr.mtimensec > e.attr.mtimensec);
	assert_int_equal(fx_lookup(fx, 1, "f", &again), 0);
	assert_int_equal(again.attr.size, 10);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 5), 5);
	assert_memory_equal(buf, "56789", 5);

	host_tick();
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_true(host_has(fx, "f", "0123456789", 0));
	/* To the guest it was then that the file changed, not now. */
	assert_int_equal(fx_getattr(fx, e.nodeid, &later), 0);
	assert_int_equal(later.size, 10);
	assert_int_equal(later.mtime, attr.mtime);
	assert_int_equal(later.mtimensec, attr.mtimensec);
	end(fx);
}

static void the_last_close_has_it_written(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o, other;
	struct fuse_entry_out e;

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &other), 0);
	assert_int_equal(fx_write(fx, o.fh, "data", 4, 0), 4);
	assert_int_equal(guest_flush(fx, o.fh), 0);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	assert_int_equal(host_size(fx, "f"), 0);
	assert_int_equal(fx_release(fx, e.nodeid, other.fh), 0);
	await(host_has(fx, "f", "data", 0));
	end(fx);
}

static void only_what_was_written_is_written(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	char a[4096], buf[4096], want[4096];
	struct fuse_entry_out e;
	struct fuse_open_out o;

	(void)state;
	memset(a, 'a', sizeof(a));
	host_write(fx, "f", a, sizeof(a), 0);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDWR, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, sizeof(buf), 0), sizeof(buf));
	/* Three records of one block; somebody else changes two others meanwhile. */
	memcpy(want, a, sizeof(a));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fx_write(fx, o.fh, "mine", 4, i * 100), 4);
		memcpy(want + i * 100, "mine", 4);
	}
	host_tick();
	host_write(fx, "f", "his", 3, 50);
	host_write(fx, "f", "his", 3, 250);
	memcpy(want + 50, "his", 3);
	memcpy(want + 250, "his", 3);
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_int_equal(host_read(fx, "f", buf, sizeof(buf), 0), sizeof(buf));
	assert_memory_equal(buf, want, sizeof(want));
	/* The commit has noticed what he did. */
	assert_int_equal(fx_read(fx, o.fh, buf, sizeof(buf), 0), sizeof(buf));
	assert_memory_equal(buf, want, sizeof(want));
	end(fx);
}

static void what_is_dirty_outlives_changes_by_the_host(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_entry_out e;
	struct fuse_open_out o, other;
	char buf[16];

	(void)state;
	host_write(fx, "f", "aaaaaaaaaa", 10, 0);
	assert_int_equal(fx_lookup(fx, 1, "f", &e), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDWR, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 10, 0), 10);
	assert_int_equal(fx_write(fx, o.fh, "MINE", 4, 3), 4);
	host_tick();
	host_write(fx, "f", "bbbbbbbbbbbb", 12, 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &other), 0);
	assert_int_equal(fx_read(fx, other.fh, buf, 16, 0), 12);
	assert_memory_equal(buf, "bbbMINEbbbbb", 12);
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_true(host_has(fx, "f", "bbbMINEbbbbb", 0));
	/* He cuts it off before what is dirty. */
	assert_int_equal(fx_write(fx, o.fh, "END", 3, 9), 3);
	host_tick();
	host_truncate(fx, "f", 2);
	assert_int_equal(fx_release(fx, e.nodeid, other.fh), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &other), 0);
	assert_int_equal(fx_read(fx, other.fh, buf, 16, 0), 12);
	assert_memory_equal(buf, "bb\0\0\0\0\0\0\0END", 12);
	end(fx);
}

static void appends_go_to_the_end_that_the_host_has(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o, log;
	struct fuse_entry_out e;
	struct fuse_attr attr;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_WRONLY | O_APPEND, &log), 0);
	assert_int_equal(fx_write(fx, o.fh, "one ", 4, 0), 4);
	/* What the guest takes for the end: it knows nothing of the host's. */
	assert_int_equal(fx_write(fx, log.fh, "two ", 4, 4), 4);
	host_write(fx, "f", "his ", 4, 8);
	assert_int_equal(fx_write(fx, log.fh, "four", 4, 8), 4);
	assert_true(host_has(fx, "f", "one two his four", 0));
	assert_int_equal(fx_getattr(fx, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 16);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 16);
	assert_memory_equal(buf, "one two his four", 16);
	end(fx);
}

static void truncation_meets_what_is_dirty(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o, again;
	struct fuse_entry_out e;
	struct fuse_attr attr;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "0123456789", 10, 0), 10);
	assert_int_equal(guest_truncate(fx, e.nodeid, 4), 0);
	assert_int_equal(guest_truncate(fx, e.nodeid, 8), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 8);
	assert_memory_equal(buf, "0123\0\0\0\0", 8);
	assert_int_equal(fx_write(fx, o.fh, "x", 1, 9), 1);
	assert_int_equal(fx_getattr(fx, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 10);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDWR | O_TRUNC, &again), 0);
	assert_int_equal(fx_getattr(fx, e.nodeid, &attr), 0);
	assert_int_equal(attr.size, 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 0);
	assert_int_equal(fx_write(fx, again.fh, "new", 3, 0), 3);
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_int_equal(host_size(fx, "f"), 3);
	assert_true(host_has(fx, "f", "new", 0));
	end(fx);
}

/* Of another guest, which does not know yet that it is there. */
static void a_creation_that_truncates_meets_what_is_dirty(void **state)
{
	static const int how[] = { O_RDWR, O_WRONLY, O_RDONLY };
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o, again;
	struct fuse_entry_out e, same;
	struct fuse_attr attr;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR | O_TRUNC, 0644, &e, &o), 0);
	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		assert_int_equal(fx_write(fx, o.fh, "0123456789", 10, 0), 10);
		assert_int_equal(fx_create(fx, 1, "f", how[i] | O_TRUNC, 0644, &same, &again), 0);
		assert_int_equal(same.nodeid, e.nodeid);
		assert_int_equal(same.attr.size, 0);
		assert_int_equal(fx_getattr(fx, e.nodeid, &attr), 0);
		assert_int_equal(attr.size, 0);
		assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 0);
		assert_int_equal(fx_write(fx, o.fh, "new", 3, 0), 3);
		assert_int_equal(guest_fsync(fx, again.fh), 0);
		assert_int_equal(guest_fsync(fx, o.fh), 0);
		assert_int_equal(host_size(fx, "f"), 3);
		assert_true(host_has(fx, "f", "new", 0));
		assert_int_equal(fx_release(fx, e.nodeid, again.fh), 0);
	}
	/* What it may not create, it does not truncate. */
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR | O_TRUNC | O_EXCL, 0644, NULL, NULL),
			 -EEXIST);
	assert_int_equal(host_size(fx, "f"), 3);
	end(fx);
}

static void holes_and_copies_see_what_is_dirty(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out from, to;
	struct fx_req r;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "a", O_RDWR, 0644, NULL, &from), 0);
	assert_int_equal(fx_create(fx, 1, "b", O_RDWR, 0644, NULL, &to), 0);
	assert_int_equal(fx_write(fx, from.fh, "0123456789", 10, 0), 10);
	assert_int_equal(fx_write(fx, to.fh, "zzzzzzzzzz", 10, 0), 10);
	assert_int_equal(fx_read(fx, to.fh, buf, 16, 0), 10);
	fx_req_init(&r, FUSE_COPY_FILE_RANGE, 1);
	r.req.in.copy_file_range = (struct fuse_copy_file_range_in){
		.fh_in = from.fh, .off_in = 2, .fh_out = to.fh, .off_out = 1, .len = 4
	};
	assert_int_equal(fx_call(fx, &r), 4);
	assert_int_equal(fx_read(fx, to.fh, buf, 16, 0), 10);
	assert_memory_equal(buf, "z2345zzzzz", 10);

	assert_int_equal(fx_write(fx, to.fh, "tail", 4, 100 * KIB), 4);
	fx_req_init(&r, FUSE_FALLOCATE, 1);
	r.req.in.fallocate = (struct fuse_fallocate_in){
		.fh = to.fh, .length = 64 * KIB, .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
	};
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(fx_read(fx, to.fh, buf, 10, 0), 10);
	assert_memory_equal(buf, "\0\0\0\0\0\0\0\0\0\0", 10);
	assert_int_equal(fx_write(fx, to.fh, "more", 4, 200 * KIB), 4);
	fx_req_init(&r, FUSE_LSEEK, 1);
	r.req.in.lseek =
		(struct fuse_lseek_in){ .fh = to.fh, .offset = 128 * KIB, .whence = SEEK_DATA };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.lseek.offset, 200 * KIB);
	end(fx);
}

static void direct_io_goes_around_it(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o, direct;
	struct fuse_entry_out e;
	char *page = aligned_alloc(4096, 4096), buf[8];
	int ret;

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	memset(page, 'a', 4096);
	assert_int_equal(fx_write(fx, o.fh, page, 4096, 0), 4096);
	ret = fx_open(fx, e.nodeid, O_RDWR | O_DIRECT, &direct);
	if (ret != -EINVAL) { /* not on every tmpfs */
		assert_int_equal(ret, 0);
		memset(page, 0, 4096);
		assert_int_equal(fx_read(fx, direct.fh, page, 4096, 0), 4096);
		assert_int_equal(page[100], 'a');
		memset(page, 'b', 4096);
		assert_int_equal(fx_write(fx, direct.fh, page, 4096, 0), 4096);
		assert_true(host_has(fx, "f", "bbbb", 0));
		assert_int_equal(fx_read(fx, o.fh, buf, 8, 0), 8);
		assert_memory_equal(buf, "bbbbbbbb", 8);
	}
	free(page);
	end(fx);
}

static void an_unlinked_open_file_keeps_its_data(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o;
	struct fuse_entry_out e;
	char buf[16];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "dirty", 5, 0), 5);
	assert_int_equal(fx_unlink(fx, 1, "f"), 0);
	assert_int_equal(fx_write(fx, o.fh, "more", 4, 5), 4);
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_int_equal(fx_write(fx, o.fh, "end", 3, 9), 3);
	assert_int_equal(fx_read(fx, o.fh, buf, 16, 0), 12);
	assert_memory_equal(buf, "dirtymoreend", 12);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	end(fx);
}

static void a_write_takes_set_id_bits_away(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o;
	struct fuse_entry_out e;
	struct fx_req r;
	struct stat st;

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0755, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "before", 6, 0), 6);
	fx_req_init(&r, FUSE_SETATTR, e.nodeid);
	r.req.in.setattr.valid = FATTR_MODE;
	r.req.in.setattr.mode = 04755;
	assert_int_equal(fx_call(fx, &r), 0);
	/* What was written before does not take them away afterwards. */
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_int_equal(fstatat(fx->dirfd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 04755);
	fx_req_init(&r, FUSE_WRITE, 0);
	r.req.in.write = (struct fuse_write_in){ .fh = o.fh,
						 .size = 4,
						 .write_flags = FUSE_WRITE_KILL_SUIDGID };
	r.in = (struct iovec){ (void *)(uintptr_t) "evil", 4 };
	r.req.data = iov_cursor(&r.in, 1);
	assert_int_equal(fx_call(fx, &r), 4);
	assert_int_equal(fstatat(fx->dirfd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	end(fx);
}

static void an_unlock_writes_and_a_lock_looks(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o;
	struct fuse_entry_out e;
	struct fx_req r;
	char buf[8];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "mine", 4, 0), 4);
	for (unsigned i = 0; i < 2; i++) {
		fx_req_init(&r, FUSE_SETLK, e.nodeid);
		r.req.in.lk = (struct fuse_lk_in){ .fh = o.fh,
						   .owner = 1,
						   .lk = { .end = INT64_MAX,
							   .type = i ? F_UNLCK : F_WRLCK } };
		assert_int_equal(host_size(fx, "f"), 0);
		assert_int_equal(fx_call(fx, &r), 0);
	}
	assert_true(host_has(fx, "f", "mine", 0));
	host_tick();
	host_write(fx, "f", "his!", 4, 0);
	fx_req_init(&r, FUSE_SETLK, e.nodeid);
	r.req.in.lk = (struct fuse_lk_in){ .fh = o.fh,
					   .owner = 1,
					   .lk = { .end = INT64_MAX, .type = F_RDLCK } };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 8, 0), 4);
	assert_memory_equal(buf, "his!", 4);
	end(fx);
}

/* ---- Failure ---- */

static void limit_file_size(rlim_t bytes)
{
	struct rlimit rl;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &rl), 0);
	rl.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &rl), 0);
}

static void what_cannot_be_written_stays_and_is_reported(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct fuse_open_out o, other;
	struct fuse_entry_out e;
	struct datafile *d;
	char buf[8];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "data", 4, 100 * KIB), 4);
	limit_file_size(64 * KIB);
	assert_int_equal(guest_fsync(fx, o.fh), -EFBIG);
	assert_int_equal(guest_flush(fx, o.fh), 0); /* it was told */
	d = data_find_node(filefs_session_of(fx->session), e.nodeid);
	assert_non_null(d);
	assert_int_equal(cache_commit_background(d->file), -EFBIG);
	assert_int_equal(guest_flush(fx, o.fh), -EFBIG);
	assert_int_equal(guest_flush(fx, o.fh), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &other), 0);
	assert_int_equal(fx_read(fx, other.fh, buf, 8, 100 * KIB), 4);
	assert_int_equal(fx_release(fx, e.nodeid, other.fh), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_WRONLY, &other), -EFBIG);
	assert_int_equal(fx_open(fx, e.nodeid, O_WRONLY, &other), 0);
	assert_int_equal(fx_release(fx, e.nodeid, other.fh), 0);
	limit_file_size(RLIM_INFINITY);
	assert_int_equal(guest_fsync(fx, o.fh), 0);
	assert_true(host_has(fx, "f", "data", 100 * KIB));
	data_put(d);
	end(fx);
}

static void what_cannot_be_written_lingers_after_the_last_close(void **state)
{
	struct fx *fx = start(FX_CACHE_BACK);
	struct cache_storage_usage usage;
	struct fuse_open_out o;
	struct fuse_entry_out e;
	char buf[8];

	(void)state;
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(fx_write(fx, o.fh, "data", 4, 100 * KIB), 4);
	limit_file_size(64 * KIB);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	await((cache_storage_usage(fx->cache.files, &usage), usage.commit_failures > 0));
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &o), 0);
	assert_int_equal(fx_read(fx, o.fh, buf, 8, 100 * KIB), 4);
	assert_memory_equal(buf, "data", 4);
	assert_int_equal(fx_release(fx, e.nodeid, o.fh), 0);
	limit_file_size(RLIM_INFINITY);
	assert_int_equal(cache_storage_sync(fx->cache.files), 0);
	assert_true(host_has(fx, "f", "data", 100 * KIB));
	assert_true(is_clean(fx));
	end(fx);
}

/* ---- At random, and by many ---- */

static uint64_t random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x >> 16;
}

/* More than the pool has room for. */
#define MODEL_SIZE (16 * MIB)
#define MODEL_STEPS 3000

struct model {
	struct fx *fx;
	char *data, *buf;
	size_t size;
	uint64_t x;
	uint64_t nodeid, fh;
};

static void model_check(struct model *m, size_t offset, size_t length)
{
	size_t want = offset < m->size ? MIN(length, m->size - offset) : 0;

	assert_int_equal(fx_read(m->fx, m->fh, m->buf, length, offset), want);
	assert_memory_equal(m->buf, m->data + offset, want);
}

static void model_write(struct model *m, size_t offset, size_t length)
{
	for (size_t i = 0; i < length; i++)
		m->data[offset + i] = (char)(m->x + i * 31);
	assert_int_equal(fx_write(m->fx, m->fh, m->data + offset, length, offset), length);
	m->size = MAX(m->size, offset + length);
}

static void model_truncate(struct model *m, size_t size)
{
	assert_int_equal(guest_truncate(m->fx, m->nodeid, size), 0);
	if (size < m->size)
		memset(m->data + size, 0, m->size - size);
	m->size = size;
}

static void model_step(struct model *m)
{
	uint64_t kind = random_next(&m->x) % 100;
	size_t length = 1 + random_next(&m->x) % (random_next(&m->x) % 8 ? 9000 : 300000);
	size_t offset = random_next(&m->x) % (MODEL_SIZE - length);
	struct fuse_open_out o;

	if (random_next(&m->x) % 4 == 0)
		offset &= ~(size_t)4095;
	if (kind < 45) {
		model_write(m, offset, length);
	} else if (kind < 90) {
		model_check(m, offset, length);
	} else if (kind < 93) {
		model_truncate(m, random_next(&m->x) % MODEL_SIZE);
	} else if (kind < 95) {
		assert_int_equal(guest_fsync(m->fx, m->fh), 0);
		assert_int_equal(host_size(m->fx, "f"), m->size);
		assert_int_equal(host_read(m->fx, "f", m->buf, MODEL_SIZE, 0), m->size);
		assert_memory_equal(m->buf, m->data, m->size);
	} else if (kind < 98) {
		/* Somebody else; the guest sees it when it opens the file. */
		assert_int_equal(guest_fsync(m->fx, m->fh), 0);
		host_tick();
		memset(m->data + offset, 'h', length);
		host_write(m->fx, "f", m->data + offset, length, (off_t)offset);
		m->size = MAX(m->size, offset + length);
		assert_int_equal(fx_open(m->fx, m->nodeid, O_RDWR, &o), 0);
		assert_int_equal(fx_release(m->fx, m->nodeid, m->fh), 0);
		m->fh = o.fh;
	} else {
		assert_int_equal(fx_open(m->fx, m->nodeid, O_RDWR, &o), 0);
		assert_int_equal(fx_release(m->fx, m->nodeid, m->fh), 0);
		m->fh = o.fh;
	}
}

static void random_operations(unsigned cache)
{
	struct model m = { .fx = start(cache), .x = 88172645463325252ull + cache };
	struct fuse_entry_out e;
	struct fuse_open_out o;

	m.data = calloc(1, MODEL_SIZE);
	m.buf = malloc(MODEL_SIZE);
	assert_int_equal(fx_create(m.fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	m.nodeid = e.nodeid;
	m.fh = o.fh;
	for (unsigned i = 0; i < MODEL_STEPS; i++)
		model_step(&m);
	assert_int_equal(fx_release(m.fx, m.nodeid, m.fh), 0);
	free(m.data);
	free(m.buf);
	end(m.fx);
}

static void random_operations_match_a_model(void **state)
{
	(void)state;
	random_operations(FX_CACHE_BACK);
	random_operations(FX_CACHE_THROUGH);
}

#define THREADS 4
#define THREAD_SIZE (256 * KIB)
#define THREAD_STEPS 400

struct thread {
	struct fx *fx;
	uint64_t nodeid;
	unsigned number;
	pthread_t thread;
	unsigned wrong;
};

/* Each has a part of the file to itself, not at the borders of anything. */
static void *thread_run(void *arg)
{
	struct thread *t = arg;
	size_t start = t->number * (THREAD_SIZE - 100) + 77;
	char *data = calloc(1, THREAD_SIZE), *buf = malloc(THREAD_SIZE);
	uint64_t x = 0x9e3779b97f4a7c15ull * (t->number + 1);
	struct fuse_open_out o;

	t->wrong += fx_open(t->fx, t->nodeid, O_RDWR, &o) != 0;
	for (unsigned i = 0; i < THREAD_STEPS && !t->wrong; i++) {
		size_t length = 1 + random_next(&x) % 8000;
		size_t offset = random_next(&x) % (THREAD_SIZE - 100 - length);
		uint64_t kind = random_next(&x) % 16;

		if (kind < 7) {
			memset(data + offset, (int)x, length);
			t->wrong += fx_write(t->fx, o.fh, data + offset, length, start + offset) !=
				    (ssize_t)length;
		} else if (kind < 14) {
			t->wrong += fx_read(t->fx, o.fh, buf, length, start + offset) !=
				    (ssize_t)length;
			t->wrong += memcmp(buf, data + offset, length) != 0;
		} else if (kind < 15) {
			t->wrong += guest_fsync(t->fx, o.fh) != 0;
		} else {
			t->wrong += fx_release(t->fx, t->nodeid, o.fh) != 0;
			t->wrong += fx_open(t->fx, t->nodeid, O_RDWR, &o) != 0;
		}
	}
	fx_release(t->fx, t->nodeid, o.fh);
	free(data);
	free(buf);
	return NULL;
}

static void many_threads(unsigned cache)
{
	struct fx *fx = start(cache);
	struct thread threads[THREADS];
	struct fuse_entry_out e;
	struct fuse_open_out o;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(guest_truncate(fx, e.nodeid, THREADS * THREAD_SIZE), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){ .fx = fx, .nodeid = e.nodeid, .number = i };
		pthread_create(&threads[i].thread, NULL, thread_run, &threads[i]);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i].thread, NULL);
		assert_int_equal(threads[i].wrong, 0);
	}
	end(fx);
}

static void threads_keep_to_their_parts(void **state)
{
	(void)state;
	many_threads(FX_CACHE_BACK);
	many_threads(FX_CACHE_THROUGH);
}

#define T(f) cmocka_unit_test(f)

static const struct CMUnitTest tests[] = {
	T(a_file_is_read_once),
	T(what_the_host_changes_is_seen_at_open),
	T(what_the_host_appends_is_seen_with_the_size),
	T(what_is_cached_expires),
	T(without_write_back_each_write_is_in_the_file),
	T(what_is_written_shows_before_the_host_has_it),
	T(the_last_close_has_it_written),
	T(only_what_was_written_is_written),
	T(what_is_dirty_outlives_changes_by_the_host),
	T(appends_go_to_the_end_that_the_host_has),
	T(truncation_meets_what_is_dirty),
	T(a_creation_that_truncates_meets_what_is_dirty),
	T(holes_and_copies_see_what_is_dirty),
	T(direct_io_goes_around_it),
	T(an_unlinked_open_file_keeps_its_data),
	T(a_write_takes_set_id_bits_away),
	T(an_unlock_writes_and_a_lock_looks),
	T(what_cannot_be_written_stays_and_is_reported),
	T(what_cannot_be_written_lingers_after_the_last_close),
	T(random_operations_match_a_model),
	T(threads_keep_to_their_parts),
};

int main(void)
{
	static const struct fx_mode modes[] = {
		{ .base = "/dev/shm", .handles = true },
		{ .base = "/var/tmp", .handles = true },
	};
	int failed = 0;

	umask(0);
	signal(SIGXFSZ, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		fx_mode = modes[m];
		print_message("-- base=%s\n", fx_mode.base);
		failed += cmocka_run_group_tests_name("filefs-cache", tests, NULL, NULL);
	}
	return failed;
}
