/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several queue threads on one session, on the same names and numbers: for the
 * sanitizers above all, and for the counts at the end.
 */
#include "filefs-fixture.h"

enum { THREADS = 4, ROUNDS = 1500, NAMES = 12 };

struct worker {
	struct fx *fx;
	unsigned n;
	uint64_t *nodes, *fhs; /* what the threads throw at each other: each is ended once */
};

static uint32_t worker_random(uint64_t *x)
{
	*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
	return (uint32_t)(*x >> 16);
}

static void check_at(int line, ssize_t ret)
{
	/* Names come and go; anything else would be a fault of ours. */
	if (ret >= 0 || ret == -ENOENT || ret == -ESTALE || ret == -EBADF || ret == -EEXIST)
		return;
	/* cmocka fails tests on their own thread only. */
	fprintf(stderr, "line %d: %s\n", line, strerror((int)-ret));
	abort();
}
#define check(ret) check_at(__LINE__, ret)

static void worker_step(struct worker *w, uint64_t *x)
{
	struct fx *fx = w->fx;
	uint64_t *node = &w->nodes[worker_random(x) % 16], *handle = &w->fhs[worker_random(x) % 16];
	struct fuse_entry_out e = { 0 };
	struct fuse_open_out o;
	char name[16], buf[8192];
	uint64_t fh;

	snprintf(name, sizeof(name), "n%u", worker_random(x) % NAMES);
	switch (worker_random(x) % 8) {
	case 0: {
		int ret = fx_create(fx, 1, name, O_RDWR, 0644, &e, &o);

		check(ret);
		if (ret < 0)
			break;
		check(fx_write(fx, o.fh, name, 4, 0));
		check(fx_read(fx, o.fh, buf, 4, 0));
		if (worker_random(x) % 4) {
			check(fx_release(fx, e.nodeid, o.fh));
		} else {
			check(fx_release(fx, 1,
					 __atomic_exchange_n(handle, o.fh, __ATOMIC_RELAXED)));
		}
		fx_forget(fx, e.nodeid, 1);
		break;
	}
	case 1:
		check(fx_unlink(fx, 1, name));
		break;
	case 2:
	case 3:
		if (fx_lookup(fx, 1, name, &e) == 0) {
			check(fx_getattr(fx, e.nodeid, NULL));
			fx_forget(fx, e.nodeid, 1);
		}
		break;
	case 4:
		if (fx_lookup(fx, 1, name, &e) == 0)
			fx_forget(fx, __atomic_exchange_n(node, e.nodeid, __ATOMIC_RELAXED), 1);
		break;
	case 5:
		check(fx_getattr(fx, __atomic_load_n(node, __ATOMIC_RELAXED), NULL));
		check(fx_read(fx, __atomic_load_n(handle, __ATOMIC_RELAXED), buf, 16, 0));
		break;
	case 6:
		if (fx_opendir(fx, 1, &fh) == 0) {
			ssize_t got = fx_readdir(fx, FUSE_READDIRPLUS, 1, fh, 0, buf, sizeof(buf));

			for (char *p = buf; p < buf + got;) {
				struct fuse_direntplus *d = (void *)p;

				if (d->entry_out.nodeid)
					fx_forget(fx, d->entry_out.nodeid, 1);
				p += FUSE_DIRENTPLUS_SIZE(d);
			}
			check(fx_releasedir(fx, 1, fh));
		}
		break;
	default:
		/* More than it was told: the guest may. */
		fx_forget(fx, __atomic_load_n(node, __ATOMIC_RELAXED), worker_random(x) % 2);
		break;
	}
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	uint64_t x = 0x9e3779b97f4a7c15ull * (w->n + 1);

	for (unsigned i = 0; i < ROUNDS; i++)
		worker_step(w, &x);
	return NULL;
}

static void threads_share_a_session(struct fx *fx)
{
	uint64_t nodes[16] = { 0 }, fhs[16] = { 0 };
	struct worker w[THREADS];
	pthread_t t[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .fx = fx, .n = i, .nodes = nodes, .fhs = fhs };
		assert_int_equal(pthread_create(&t[i], NULL, worker_run, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < 16; i++) {
		fx_release(fx, 1, fhs[i]);
		fx_forget(fx, nodes[i], 1);
	}
	assert_int_equal(fx_getattr(fx, 1, NULL), 0);
	assert_int_equal(slots_live(&filefs_session_of(fx->session)->handles), 0);
	assert_int_equal(slots_live(&fx_inodes(fx)->slots), 1);
}

static void many_threads_one_session(void **state)
{
	threads_share_a_session(*state);
}

static void many_threads_few_descriptors(void **state)
{
	struct filefs_config config = fx_config();
	unsigned ring_size;
	struct fx *fx;

	(void)state;
	config.fd_limit = fx_mode.cache ? 128 : 64; /* with one more for each open file */
	fx = fx_new(&config, 0);
	if (!fx_handles(fx)) {
		fx_free(fx);
		return;
	}
	/* No more places than threads have pins, or so. */
	ring_size = fx_inodes(fx)->ring_size;
	fx_inodes(fx)->ring_size = 3;
	threads_share_a_session(fx);
	fx_inodes(fx)->ring_size = ring_size;
	fx_free(fx);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(many_threads_one_session, fx_setup, fx_teardown),
	cmocka_unit_test(many_threads_few_descriptors),
};

FX_MAIN("filefs-threads", tests)
