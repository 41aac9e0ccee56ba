/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that says INIT and DESTROY on one queue while requests run on
 * others: every request is answered once, no session is freed under a request
 * or never, no waiting lock is forgotten. Meant for ThreadSanitizer as well.
 *
 * The driver here counts the requests of each session, completes some of them
 * on a thread of its own, and parks SETLKW until it is interrupted.
 */
#include "base/loop.h"
#include "fuse-fake.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#define QUEUES 3
#define REQUESTS 6000 /* for each queue */
#define LOCK_EVERY 16 /* every so many requests is a SETLKW */

struct lock_session {
	struct fs_session s;
	_Atomic int in_flight;
	pthread_mutex_t lock;
	struct work *parked; /* SETLKW */
};

struct lock_fs {
	struct fs fs;
	_Atomic int made, freed;

	pthread_mutex_t lock;
	pthread_cond_t more;
	struct work *queue; /* for the completing thread */
	bool stop;
};

static struct fs_req *req_of(struct work *work)
{
	return container_of(work, struct fs_req, work);
}

/* ---- the driver ---- */

static uint64_t lock_init_flags(const struct fs *fs)
{
	(void)fs;
	return 0;
}

static struct fs_session *lock_session_new(struct fs *fs, const struct fs_negotiated *negotiated)
{
	struct lock_session *s = calloc(1, sizeof(*s));

	(void)negotiated;
	if (!s || pthread_mutex_init(&s->lock, NULL))
		abort();
	s->s.fs = fs;
	container_of(fs, struct lock_fs, fs)->made++;
	return &s->s;
}

static void lock_session_free(struct fs_session *session)
{
	struct lock_session *s = container_of(session, struct lock_session, s);

	if (s->in_flight || s->parked)
		abort();
	container_of(session->fs, struct lock_fs, fs)->freed++;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void lock_complete(struct fs_req *req, ssize_t result)
{
	container_of(req->session, struct lock_session, s)->in_flight--;
	fs_req_complete(req, result);
}

static void lock_session_interrupt(struct fs_session *session, uint64_t unique)
{
	struct lock_session *s = container_of(session, struct lock_session, s);
	struct work *work, *next;

	if (unique)
		abort();
	pthread_mutex_lock(&s->lock);
	work = s->parked;
	s->parked = NULL;
	pthread_mutex_unlock(&s->lock);
	for (; work; work = next) {
		next = work->next;
		lock_complete(req_of(work), -EINTR);
	}
}

static ssize_t lock_statfs(struct fs_session *session, struct fs_req *req)
{
	struct lock_session *s = container_of(session, struct lock_session, s);
	struct lock_fs *fs = container_of(session->fs, struct lock_fs, fs);

	s->in_flight++;
	if (req->unique % 2) {
		s->in_flight--;
		return 0;
	}
	pthread_mutex_lock(&fs->lock);
	req->work.next = fs->queue;
	fs->queue = &req->work;
	pthread_cond_signal(&fs->more);
	pthread_mutex_unlock(&fs->lock);
	return FS_PENDING;
}

static ssize_t lock_setlkw(struct fs_session *session, struct fs_req *req)
{
	struct lock_session *s = container_of(session, struct lock_session, s);

	s->in_flight++;
	sched_yield(); /* let an interrupt come first */
	pthread_mutex_lock(&s->lock);
	req->work.next = s->parked;
	s->parked = &req->work;
	pthread_mutex_unlock(&s->lock);
	return FS_PENDING;
}

static const struct fs_ops lock_ops = {
	.name = "lock",
	.init_flags = lock_init_flags,
	.session_new = lock_session_new,
	.session_free = lock_session_free,
	.session_interrupt = lock_session_interrupt,
	.op = { [FUSE_STATFS] = lock_statfs, [FUSE_SETLKW] = lock_setlkw },
};

static void *completer(void *arg)
{
	struct lock_fs *fs = arg;
	struct work *work;

	pthread_mutex_lock(&fs->lock);
	while (!fs->stop || fs->queue) {
		work = fs->queue;
		if (!work) {
			pthread_cond_wait(&fs->more, &fs->lock);
			continue;
		}
		fs->queue = work->next;
		pthread_mutex_unlock(&fs->lock);
		lock_complete(req_of(work), 0);
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}

/* ---- the guest ---- */

struct call {
	_Atomic int done;
	size_t written;
};

static void call_done(void *arg, size_t written)
{
	struct call *call = arg;

	call->written = written;
	call->done++;
}

/* One request, answered; returns the error of its reply. */
static int call(struct fuse_session *session, void *storage, struct msg *m)
{
	unsigned char reply[256] = { 0 };
	struct iovec in = { m->bytes, m->len }, out = { reply, sizeof(reply) };
	struct fuse_out_header h;
	struct call c = { .done = 0 };

	fuse_session_request(session, storage, loop_now_ns(), &in, 1, &out, 1, call_done, &c);
	while (!c.done)
		sched_yield();
	memcpy(&h, reply, sizeof(h));
	if (c.done != 1 || c.written != h.len || h.unique != msg_header(m)->unique)
		abort();
	return h.error;
}

struct queue {
	pthread_t thread;
	struct fuse_session *session;
	_Atomic int *running;
	uint64_t id;
	int served, refused, interrupted;
};

static void *queue_thread(void *arg)
{
	struct queue *q = arg;
	void *storage = aligned_alloc(16, fuse_request_size());
	struct msg m;
	int err;

	for (uint64_t i = 0; i < REQUESTS; i++) {
		if (i % LOCK_EVERY)
			msg_begin(&m, FUSE_STATFS);
		else
			msg_sample(&m, &(struct sample){ FUSE_SETLKW, 48 });
		msg_header(&m)->unique = q->id << 32 | i;
		err = call(q->session, storage, &m);
		if (err == 0)
			q->served++;
		else if (err == -EIO)
			q->refused++;
		else if (err == -EINTR)
			q->interrupted++;
		else
			abort();
	}
	free(storage);
	(*q->running)--;
	return NULL;
}

struct interrupter {
	struct fuse_session *session;
	_Atomic int *running;
};

static void *interrupt_thread(void *arg)
{
	struct interrupter *i = arg;

	while (*i->running) {
		fuse_session_interrupt(i->session);
		sched_yield();
	}
	return NULL;
}

static int say_init(struct fuse_session *session)
{
	void *storage = aligned_alloc(16, fuse_request_size());
	struct msg init;
	int err;

	msg_init(&init, 7, 45, 0);
	err = call(session, storage, &init);
	free(storage);
	return err;
}

/* INIT and DESTROY in turn, or INIT after INIT, until all queues are done. */
static int say_init_until_done(struct fuse_session *session, _Atomic int *running)
{
	void *storage = aligned_alloc(16, fuse_request_size());
	struct msg init, destroy;
	int agreed = 0, err;

	msg_init(&init, 7, 45, 0);
	msg_begin(&destroy, FUSE_DESTROY);
	while (*running || agreed <= 10) {
		err = call(session, storage, &init);
		if (err == 0)
			agreed++;
		else if (err != -EBUSY)
			abort();
		for (int i = 0; i < agreed % 5; i++)
			sched_yield();
		if (agreed % 3 == 0 && call(session, storage, &destroy))
			abort();
	}
	free(storage);
	return agreed;
}

static void run(bool with_interrupter)
{
	struct lock_fs fs = { .fs = { &lock_ops } };
	struct fuse_session *session = fuse_session_new(&fs.fs, 1 << 20);
	_Atomic int running = QUEUES;
	struct interrupter interrupter = { session, &running };
	struct queue queues[QUEUES] = { { 0 } };
	pthread_t completing, interrupting;
	int agreed, served = 0, interrupted = 0;

	assert_non_null(session);
	pthread_mutex_init(&fs.lock, NULL);
	pthread_cond_init(&fs.more, NULL);
	assert_int_equal(pthread_create(&completing, NULL, completer, &fs), 0);
	/* The first of each queue waits until the next INIT. Without this one, all of them may
	 * have been refused before the processor comes round to us. */
	assert_int_equal(say_init(session), 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		queues[i] = (struct queue){ .session = session, .running = &running, .id = i + 1 };
		assert_int_equal(pthread_create(&queues[i].thread, NULL, queue_thread, &queues[i]),
				 0);
	}
	if (with_interrupter)
		assert_int_equal(
			pthread_create(&interrupting, NULL, interrupt_thread, &interrupter), 0);
	agreed = 1 + say_init_until_done(session, &running);
	if (with_interrupter)
		pthread_join(interrupting, NULL);
	for (unsigned i = 0; i < QUEUES; i++) {
		pthread_join(queues[i].thread, NULL);
		served += queues[i].served;
		interrupted += queues[i].interrupted;
		assert_int_equal(queues[i].served + queues[i].refused + queues[i].interrupted,
				 REQUESTS);
	}
	pthread_mutex_lock(&fs.lock);
	fs.stop = true;
	pthread_cond_signal(&fs.more);
	pthread_mutex_unlock(&fs.lock);
	pthread_join(completing, NULL);

	fuse_session_reset(session);
	assert_int_equal(fs.made, agreed);
	assert_int_equal(fs.freed, agreed);
	/* It was a test of something. */
	assert_true(agreed > 10);
	assert_true(served > 0);
	assert_true(interrupted > 0);
	fuse_session_free(session);
	pthread_cond_destroy(&fs.more);
	pthread_mutex_destroy(&fs.lock);
}

static void test_reinit(void **state)
{
	(void)state;
	run(false);
}

static void test_reinit_with_interrupts(void **state)
{
	(void)state;
	run(true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reinit),
		cmocka_unit_test(test_reinit_with_interrupts),
	};

	log_set_level(LOG_LEVEL_ERROR);
	alarm(50); /* a lock that nobody interrupted */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
