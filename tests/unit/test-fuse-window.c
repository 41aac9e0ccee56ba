/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies in the window, and requests that change their file meanwhile: what a guest stored and what
 * it wrote are both in the file in the end. And what of the window can be asked for at will.
 */
#include "fuse-fake.h"

#include <linux/falloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/workers.h"

#define SLOT (2u << 20)
#define SLOTS 4u
#define FILE_SIZE 8192u
#define NODE 42u
#define WAIT_S 20

struct world {
	struct fake_fs fake;
	struct fs_ops ops;
	struct fuse_session *session;
	struct workers *workers;

	/* The driver: one file. WRITE and SETATTR wait for the test, which completes them. */
	pthread_mutex_t lock; /* covers file */
	unsigned char file[FILE_SIZE];
	sem_t held, gate;
	struct fs_req *_Atomic last;
	_Atomic bool stuck; /* what is written from the window waits for the gate */

	/* The front end. */
	unsigned char *mapped;
	unsigned unmaps;
};

/* ---- The driver ---- */

static struct world *world_of(const struct fs *fs)
{
	return container_of(container_of(fs, struct fake_fs, fs), struct world, fake);
}

static int file_open(struct fs_session *session, uint64_t nodeid, bool write,
		     struct fs_window_file *file)
{
	(void)write;
	*file = (struct fs_window_file){
		.fs = session->fs, .nodeid = nodeid, .fd = -1, .writable = true, .size = FILE_SIZE
	};
	return 0;
}

static void file_close(struct fs_window_file *file)
{
	(void)file;
}

static ssize_t file_read(struct fs_window_file *file, void *buf, size_t size, uint64_t offset)
{
	struct world *w = world_of(file->fs);
	size_t n = offset < FILE_SIZE ? MIN(size, FILE_SIZE - (size_t)offset) : 0;

	pthread_mutex_lock(&w->lock);
	memcpy(buf, w->file + (n ? offset : 0), n);
	pthread_mutex_unlock(&w->lock);
	return (ssize_t)n;
}

static ssize_t file_write(struct fs_window_file *file, const void *buf, size_t size,
			  uint64_t offset)
{
	struct world *w = world_of(file->fs);
	size_t n = offset < FILE_SIZE ? MIN(size, FILE_SIZE - (size_t)offset) : 0;

	if (atomic_load(&w->stuck))
		sem_wait(&w->gate);
	pthread_mutex_lock(&w->lock);
	memcpy(w->file + (n ? offset : 0), buf, n);
	pthread_mutex_unlock(&w->lock);
	return (ssize_t)n;
}

static const struct fs_window_ops file_ops = {
	.open = file_open,
	.close = file_close,
	.read = file_read,
	.write = file_write,
};

static ssize_t op_done(struct fs_session *session, struct fs_req *req)
{
	(void)session;
	(void)req;
	return 0;
}

static ssize_t op_held(struct fs_session *session, struct fs_req *req)
{
	struct world *w = world_of(session->fs);

	atomic_store(&w->last, req);
	sem_post(&w->held);
	return FS_PENDING;
}

/* ---- The front end ---- */

static bool front_ready(void *ctx)
{
	(void)ctx;
	return true;
}

static int front_map(void *ctx, int fd, uint64_t fd_offset, uint64_t window_offset, uint64_t length,
		     bool writable)
{
	struct world *w = ctx;

	(void)window_offset;
	w->mapped = mmap(NULL, length, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd,
			 (off_t)fd_offset);
	return w->mapped == MAP_FAILED ? -EIO : 0;
}

static int front_unmap(void *ctx, uint64_t window_offset, uint64_t length)
{
	struct world *w = ctx;

	(void)window_offset;
	munmap(w->mapped, length);
	w->mapped = NULL;
	w->unmaps++;
	return 0;
}

/* ---- Requests, several at a time ---- */

struct call {
	struct msg m;
	const void *more; /* after it */
	size_t more_size;
	unsigned char out[1024];
	struct iovec iov[3];
	void *storage;
	sem_t done;
};

static void call_done(void *arg, size_t written)
{
	struct call *c = arg;

	(void)written;
	sem_post(&c->done);
}

static void call_begin(struct call *c, uint32_t opcode, const void *in, size_t size)
{
	memset(c, 0, sizeof(*c));
	msg_begin(&c->m, opcode);
	msg_header(&c->m)->nodeid = NODE;
	msg_put(&c->m, in, size);
}

static void call_start(struct call *c, struct world *w)
{
	c->iov[0] = (struct iovec){ c->m.bytes, c->m.len };
	c->iov[1] = (struct iovec){ (void *)(uintptr_t)c->more, c->more_size };
	c->iov[2] = (struct iovec){ c->out, sizeof(c->out) };
	msg_header(&c->m)->len = (uint32_t)(c->m.len + c->more_size);
	sem_init(&c->done, 0, 0);
	c->storage = aligned_alloc(16, fuse_request_size());
	assert_non_null(c->storage);
	fuse_session_request(w->session, c->storage, loop_now_ns(), c->iov, 2, c->iov + 2, 1,
			     call_done, c);
}

static void wait_for(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	assert_int_equal(sem_timedwait(sem, &until), 0);
}

static int call_end(struct call *c)
{
	struct fuse_out_header header;

	wait_for(&c->done);
	sem_destroy(&c->done);
	free(c->storage);
	memcpy(&header, c->out, sizeof(header));
	return header.error;
}

static int call(struct world *w, uint32_t opcode, const void *in, size_t size)
{
	struct call c;

	call_begin(&c, opcode, in, size);
	call_start(&c, w);
	return call_end(&c);
}

static int fallocate_file(struct world *w, uint32_t mode)
{
	const struct fuse_fallocate_in in = { .length = 4096, .mode = mode };

	return call(w, FUSE_FALLOCATE, &in, sizeof(in));
}

static int map_file(struct world *w)
{
	const struct fuse_setupmapping_in in = {
		.len = SLOT,
		.flags = FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE,
	};

	return call(w, FUSE_SETUPMAPPING, &in, sizeof(in));
}

static int unmap_file(struct world *w, const struct fuse_removemapping_one *list, uint32_t count)
{
	const struct fuse_removemapping_in in = { .count = count };
	struct call c;

	call_begin(&c, FUSE_REMOVEMAPPING, &in, sizeof(in));
	c.more = list;
	c.more_size = count * sizeof(*list);
	call_start(&c, w);
	return call_end(&c);
}

static void flush_file(struct world *w)
{
	const struct fuse_flush_in in = { .fh = 1 };

	assert_int_equal(call(w, FUSE_FLUSH, &in, sizeof(in)), 0);
}

/* Returns when the driver has it. */
static struct fs_req *hold_call(struct call *c, struct world *w)
{
	call_start(c, w);
	wait_for(&w->held);
	return atomic_load(&w->last);
}

static struct fs_req *hold_setattr(struct call *c, struct world *w)
{
	const struct fuse_setattr_in in = { .valid = FATTR_MTIME };

	call_begin(c, FUSE_SETATTR, &in, sizeof(in));
	return hold_call(c, w);
}

static struct fs_req *hold_write(struct call *c, struct world *w, uint64_t offset, const char *text)
{
	const struct fuse_write_in in = { .offset = offset, .size = (uint32_t)strlen(text) };

	call_begin(c, FUSE_WRITE, &in, sizeof(in));
	msg_put(&c->m, text, strlen(text));
	return hold_call(c, w);
}

/* ---- The world ---- */

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct fuse_window_config config = {
		.size = SLOTS * SLOT,
		.copies = true,
		.ctx = w,
		.ready = front_ready,
		.map = front_map,
		.unmap = front_unmap,
	};
	struct call c;

	assert_non_null(w);
	log_set_level(LOG_LEVEL_ERROR);
	pthread_mutex_init(&w->lock, NULL);
	sem_init(&w->held, 0, 0);
	sem_init(&w->gate, 0, 0);
	memset(w->file, 'o', sizeof(w->file));
	w->ops = *fake_ops();
	for (unsigned i = 0; i < FUSE_OPCODE_COUNT; i++)
		w->ops.op[i] = op_done;
	w->ops.op[FUSE_WRITE] = w->ops.op[FUSE_SETATTR] = op_held;
	w->ops.window = &file_ops;
	w->fake.fs.ops = &w->ops;
	w->fake.flags = GUEST_ALL_FLAGS;
	assert_null(workers_new(&w->workers, "test", 4));
	w->session = fuse_session_new(&w->fake.fs, 1 << 20);
	assert_non_null(w->session);
	assert_int_equal(fuse_session_set_window(w->session, &config, w->workers), 0);
	memset(&c, 0, sizeof(c));
	msg_init(&c.m, FUSE_KERNEL_VERSION, FUSE_ABI_MINOR, GUEST_ALL_FLAGS);
	call_start(&c, w);
	assert_int_equal(call_end(&c), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	int leaked;

	fuse_session_free(w->session);
	workers_free(w->workers);
	if (w->mapped)
		munmap(w->mapped, SLOT);
	leaked = w->fake.sessions_new - w->fake.sessions_freed;
	pthread_mutex_destroy(&w->lock);
	sem_destroy(&w->held);
	sem_destroy(&w->gate);
	free(w);
	return leaked;
}

/* ---- Tests ---- */

/* What was written is in the file, and stays there, with what was stored into the same page. */
static void check_both(struct world *w, struct call *c, struct fs_req *write)
{
	memcpy(w->file + 200, "written", 7);
	flush_file(w);
	/* What the copy knew of the page is over it now. */
	assert_int_equal(w->file[100], 'g');
	assert_int_equal(w->file[200], 'o');
	fs_req_complete(write, 7);
	assert_int_equal(call_end(c), 0);
	assert_memory_equal(w->mapped + 200, "written", 7);
	flush_file(w);
	assert_int_equal(w->file[100], 'g');
	assert_memory_equal(w->file + 200, "written", 7);
}

static void write_while_a_refused_one_ends(void **state)
{
	struct world *w = *state;
	struct fs_req *write;
	struct call c;

	assert_int_equal(map_file(w), 0);
	w->mapped[100] = 'g';
	write = hold_write(&c, w, 200, "written");
	assert_int_equal(fallocate_file(w, FALLOC_FL_COLLAPSE_RANGE), -EOPNOTSUPP);
	check_both(w, &c, write);
}

static void write_while_an_older_one_ends(void **state)
{
	struct world *w = *state;
	struct fs_req *older, *write;
	struct call first, c;

	older = hold_setattr(&first, w);
	assert_int_equal(map_file(w), 0);
	w->mapped[100] = 'g';
	write = hold_write(&c, w, 200, "written");
	fs_req_complete(older, 0);
	assert_int_equal(call_end(&first), 0);
	check_both(w, &c, write);
}

static void write_from_before_the_mapping(void **state)
{
	struct world *w = *state;
	struct fs_req *write;
	struct call c;

	write = hold_write(&c, w, 200, "written");
	assert_int_equal(map_file(w), 0);
	w->mapped[100] = 'g';
	check_both(w, &c, write);
}

/* Descriptors may all be of the same memory, so the length of a chain bounds no list. */
static void unmap_list_is_bounded(void **state)
{
	static struct fuse_removemapping_one list[4097];
	struct world *w = *state;

	list[0].len = SLOT;
	assert_int_equal(map_file(w), 0);
	assert_int_equal(unmap_file(w, list, 4097), -EINVAL);
	assert_int_equal(w->unmaps, 0);
	/* What is no mapping spoils only itself. */
	assert_int_equal(unmap_file(w, list, 4096), -EINVAL);
	assert_int_equal(w->unmaps, 1);
}

/* A guest is gone, and what it left goes to a storage that hangs. */
static void session_is_busy_with_what_is_left(void **state)
{
	struct world *w = *state;

	assert_int_equal(map_file(w), 0);
	w->mapped[100] = 'g';
	atomic_store(&w->stuck, true);
	assert_false(fuse_session_idle(w->session));
	fuse_session_reset(w->session);
	usleep(50000);
	assert_false(fuse_session_idle(w->session));
	atomic_store(&w->stuck, false);
	sem_post(&w->gate);
	for (unsigned i = 0; i < WAIT_S * 100 && !fuse_session_idle(w->session); i++)
		usleep(10000);
	assert_true(fuse_session_idle(w->session));
	assert_int_equal(w->file[100], 'g');
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(write_while_a_refused_one_ends),    T(write_while_an_older_one_ends),
		T(write_from_before_the_mapping),     T(unmap_list_is_bounded),
		T(session_is_busy_with_what_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
