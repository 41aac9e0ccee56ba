/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX and BSD locks: conflicts, waiting, interruption, release. */
#include "filefs-fixture.h"

#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

static void lk_init(struct fx_req *r, uint32_t opcode, uint64_t nodeid, uint64_t fh, uint64_t owner,
		    uint32_t type, uint64_t start, uint64_t end)
{
	static uint64_t unique = 1;

	fx_req_init(r, opcode, nodeid);
	r->req.unique = unique += 2;
	r->req.in.lk = (struct fuse_lk_in){ .fh = fh,
					    .owner = owner,
					    .lk = { .start = start, .end = end, .type = type } };
}

static ssize_t lk(struct fx *fx, uint32_t opcode, uint64_t nodeid, uint64_t owner, uint32_t type,
		  uint64_t start, uint64_t end)
{
	struct fx_req r;

	lk_init(&r, opcode, nodeid, 0, owner, type, start, end);
	return fx_call(fx, &r);
}

static ssize_t flk(struct fx *fx, uint32_t opcode, uint64_t fh, uint32_t type)
{
	struct fx_req r;

	lk_init(&r, opcode, 1, fh, 9, type, 0, INT64_MAX);
	r.req.in.lk.lk_flags = FUSE_LK_FLOCK;
	return fx_call(fx, &r);
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void owners_exclude_each_other(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	struct fx_req r;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &o), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1, F_WRLCK, 0, 9), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1, F_WRLCK, 5, 14), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 2, F_RDLCK, 14, 20), -EAGAIN);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 2, F_RDLCK, 15, INT64_MAX), 0);
	lk_init(&r, FUSE_GETLK, e.nodeid, o.fh, 1, F_WRLCK, 12, INT64_MAX);
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.lk.lk.type, F_RDLCK);
	assert_int_equal(r.req.out.lk.lk.start, 15);
	assert_int_equal(r.req.out.lk.lk.end, INT64_MAX);
	lk_init(&r, FUSE_GETLK, e.nodeid, o.fh, 1, F_WRLCK, 0, 5);
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(r.req.out.lk.lk.type, F_UNLCK);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1, F_WRLCK, 10, 5), -EINVAL);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1, 99, 0, 5), -EINVAL);
	assert_int_equal(lk(fx, FUSE_SETLK, 12345, 1, F_WRLCK, 0, 5), -ESTALE);

	/* close() by one owner gives its locks back, and only its. */
	fx_req_init(&r, FUSE_FLUSH, e.nodeid);
	r.req.in.flush = (struct fuse_flush_in){ .fh = o.fh, .lock_owner = 1 };
	assert_int_equal(fx_call(fx, &r), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 3, F_WRLCK, 0, 14), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 3, F_WRLCK, 15, 16), -EAGAIN);
}

static void waiting_lock_is_granted_on_unlock(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fx_req r[20];

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, NULL), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1000, F_WRLCK, 0, INT64_MAX), 0);
	/* Far more than there are workers. */
	for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
		lk_init(&r[i], FUSE_SETLKW, e.nodeid, 0, i, F_RDLCK, 0, INT64_MAX);
		fx_start(fx, &r[i]);
	}
	sleep_ms(30);
	for (unsigned i = 0; i < ARRAY_SIZE(r); i++)
		assert_false(fx_done(&r[i]));
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1000, F_UNLCK, 0, INT64_MAX), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(r); i++)
		assert_int_equal(fx_wait(&r[i]), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1000, F_WRLCK, 0, 1), -EAGAIN);
}

static void waiting_lock_is_granted_when_a_host_process_unlocks(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fx_req r;
	int status, ready[2];
	char c;
	pid_t pid;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, NULL), 0);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct flock fl = { .l_type = F_WRLCK };
		int fd = openat(fx->dirfd, "f", O_RDWR);

		if (fcntl(fd, F_SETLK, &fl) < 0)
			_exit(1);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		sleep_ms(100);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	lk_init(&r, FUSE_SETLKW, e.nodeid, 0, 1, F_WRLCK, 0, 10);
	fx_start(fx, &r);
	assert_false(fx_done(&r));
	assert_int_equal(fx_wait(&r), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(ready[1]);
}

static void interrupt_ends_one_or_all(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fx_req r[4], late;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, NULL), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e.nodeid, 1000, F_WRLCK, 0, 10), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
		lk_init(&r[i], FUSE_SETLKW, e.nodeid, 0, i, F_WRLCK, 0, 10);
		fx_start(fx, &r[i]);
	}
	fx->fs->ops->session_interrupt(fx->session, r[2].req.unique);
	assert_int_equal(fx_wait(&r[2]), -EINTR);
	assert_false(fx_done(&r[0]) || fx_done(&r[1]) || fx_done(&r[3]));

	/* The interrupt came on another queue, and first. */
	lk_init(&late, FUSE_SETLKW, e.nodeid, 0, 77, F_WRLCK, 0, 10);
	fx->fs->ops->session_interrupt(fx->session, late.req.unique);
	assert_int_equal(fx_call(fx, &late), -EINTR);

	fx->fs->ops->session_interrupt(fx->session, 0);
	assert_int_equal(fx_wait(&r[0]), -EINTR);
	assert_int_equal(fx_wait(&r[1]), -EINTR);
	assert_int_equal(fx_wait(&r[3]), -EINTR);
}

static void flock_is_of_the_open_file(void **state)
{
	struct fx *fx = *state;
	struct fuse_entry_out e;
	struct fuse_open_out a, b;
	struct fx_req r;
	int fd;

	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e, &a), 0);
	assert_int_equal(fx_open(fx, e.nodeid, O_RDONLY, &b), 0);
	assert_int_equal(flk(fx, FUSE_SETLK, a.fh, F_WRLCK), 0);
	assert_int_equal(flk(fx, FUSE_SETLK, b.fh, F_RDLCK), -EAGAIN);
	fd = openat(fx->dirfd, "f", O_RDONLY);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
	lk_init(&r, FUSE_SETLKW, e.nodeid, b.fh, 2, F_WRLCK, 0, INT64_MAX);
	r.req.in.lk.lk_flags = FUSE_LK_FLOCK;
	fx_start(fx, &r);
	sleep_ms(20);
	assert_false(fx_done(&r));
	/* Closing gives it back. */
	assert_int_equal(fx_release(fx, e.nodeid, a.fh), 0);
	assert_int_equal(fx_wait(&r), 0);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
	assert_int_equal(flk(fx, FUSE_SETLK, b.fh, F_UNLCK), 0);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
	close(fd);
	assert_int_equal(flk(fx, FUSE_SETLK, a.fh, F_WRLCK), -EBADF);
}

static void locks_of_two_guests_exclude_each_other(void **state)
{
	struct fx *fx = *state;
	struct fs_negotiated n = { .minor = 38, .flags = 0 };
	struct fs_session *first = fx->session, *second;
	struct fuse_entry_out e1, e2;
	struct fx_req r;

	second = fx->fs->ops->session_new(fx->fs, &n);
	assert_non_null(second);
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, &e1, NULL), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e1.nodeid, 1, F_WRLCK, 0, 10), 0);
	fx->session = second;
	assert_int_equal(fx_lookup(fx, 1, "f", &e2), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, e2.nodeid, 1, F_WRLCK, 0, 10), -EAGAIN);
	lk_init(&r, FUSE_SETLKW, e2.nodeid, 0, 1, F_WRLCK, 0, 10);
	fx_start(fx, &r);
	/* The first guest goes, and its locks with it. */
	fx->fs->ops->session_free(first);
	assert_int_equal(fx_wait(&r), 0);
}

static void locks_can_be_off(void **state)
{
	struct filefs_config config = fx_config();
	struct fuse_open_out o;
	struct fx *fx;

	(void)state;
	config.posix_locks = false;
	fx = fx_new(&config, 0);
	assert_int_equal(fx_create(fx, 1, "f", O_RDWR, 0644, NULL, &o), 0);
	assert_int_equal(lk(fx, FUSE_SETLK, 1, 1, F_WRLCK, 0, 10), -ENOSYS);
	assert_int_equal(flk(fx, FUSE_SETLK, o.fh, F_WRLCK), -ENOSYS);
	assert_int_equal(!!(o.open_flags & FOPEN_NOFLUSH), !fx_mode.remote);
	fx_free(fx);
}

static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, fx_setup, fx_teardown)
	T(owners_exclude_each_other),
	T(waiting_lock_is_granted_on_unlock),
	T(waiting_lock_is_granted_when_a_host_process_unlocks),
	T(interrupt_ends_one_or_all),
	T(flock_is_of_the_open_file),
	T(locks_of_two_guests_exclude_each_other),
	cmocka_unit_test(locks_can_be_off),
};

FX_MAIN("filefs-lock", tests)
