/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery after a crash. The heart of it, test_every_instruction(), runs pops
 * and pushes in a child under ptrace, one machine instruction at a time; after
 * each that changed the shared memory, the state is copied and a new queue is
 * started on the copy, as a restarted daemon would. Whatever the moment: a
 * chain that the driver has got back is not taken up again, every other one is,
 * once, and in order.
 */
#include "ring-env.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define RING_SIZE 8
#define IDS 64

struct tracked {
	struct ring_env env;
	int fd;
	uint64_t size;
	char *bytes; /* of the area, the test's own mapping */
	struct inflight *area;
	unsigned slots[IDS]; /* packed: of the chain with this id */
};

static void tracked_init(struct tracked *t, bool packed)
{
	memset(t, 0, sizeof(*t));
	ring_env_init(&t->env);
	ring_env_setup(&t->env, packed, true, RING_SIZE);
	/* Two queues; ours is the second. */
	assert_int_equal(inflight_create(packed, 2, RING_SIZE, &t->fd, &t->size), 0);
	t->bytes = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	assert_ptr_not_equal(t->bytes, MAP_FAILED);
	assert_int_equal(inflight_open(&t->area, t->fd, 0, t->size, packed, 2, RING_SIZE), 0);
	assert_int_equal(virtq_set_inflight(&t->env.vq, t->area, 1), 0);
}

static void tracked_fini(struct tracked *t)
{
	ring_env_fini(&t->env);
	inflight_unref(t->area);
	munmap(t->bytes, t->size);
	close(t->fd);
}

/* ---- A driver for either format; chain @id, for split of one descriptor ---- */

static void add(struct tracked *t, unsigned id, unsigned slots)
{
	const struct elem e[] = { { DATA_GPA + id * 256, 64, 0 },
				  { DATA_GPA + id * 256 + 64, 64, VRING_DESC_F_WRITE },
				  { DATA_GPA + id * 256 + 160, 64, VRING_DESC_F_WRITE },
				  [3 ... RING_SIZE - 1] = { DATA_GPA, 0, VRING_DESC_F_WRITE } };

	t->slots[id] = slots;
	if (t->env.vq.packed)
		packed_add(&t->env, (uint16_t)id, e, slots);
	else
		split_add(&t->env, (uint16_t)id, e, 1);
}

/* The next used chain, or -1. */
static int take(struct tracked *t)
{
	struct ring_env *env = &t->env;
	uint16_t id;
	uint32_t len;

	if (env->vq.packed) {
		/* Which one it is says how far to go. */
		id = packed_slot(env, env->seen)->id;
		if (id >= IDS || !packed_take_used(env, t->slots[id], &id, &len))
			return -1;
		return id;
	}
	if (split_used(env)->idx == env->seen)
		return -1;
	return (int)split_used(env)->ring[env->seen++ % RING_SIZE].id;
}

static void complete(struct tracked *t, const struct virtq_chain *chain)
{
	virtq_push(&t->env.vq, chain, 64);
}

/* A process starts on what another left behind. What the front end says of the
 * base is what it was told at the start of time. */
static void restart(struct tracked *t)
{
	virtq_stop(&t->env.vq);
	assert_int_equal(virtq_set_base(&t->env.vq, t->env.vq.packed ? 0x80008000 : 0), 0);
	assert_int_equal(virtq_start(&t->env.vq), 0);
	assert_true(virtq_should_notify(&t->env.vq));
}

/* ---- Area ---- */

static void test_create_open(void **state)
{
	struct inflight_queue q;
	struct inflight *area;
	uint64_t size;
	int fd;

	(void)state;
	assert_int_equal(inflight_create(false, 0, 8, &fd, &size), -EINVAL);
	assert_int_equal(inflight_create(false, 65, 8, &fd, &size), -EINVAL);
	assert_int_equal(inflight_create(false, 1, 0, &fd, &size), -EINVAL);
	assert_int_equal(inflight_create(false, 1, 1025, &fd, &size), -EINVAL);
	for (unsigned packed = 0; packed < 2; packed++) {
		assert_int_equal(inflight_create(packed, 3, 1024, &fd, &size), 0);
		assert_int_equal(size % 64, 0);
		assert_int_equal(size, 3 * (packed ? 32 + 1024 * 32 + 32 : 16 + 1024 * 16 + 48));
		assert_int_equal(ftruncate(fd, 0), -1); /* sealed */
		assert_int_equal(inflight_open(&area, fd, 0, size - 1, packed, 3, 1024), -EINVAL);
		assert_int_equal(inflight_open(&area, fd, 0, size + 1, packed, 3, 1024), -EINVAL);
		assert_int_equal(inflight_open(&area, fd, 4, size, packed, 3, 1024), -EINVAL);
		assert_int_equal(inflight_open(&area, fd, 0, size, packed, 4, 1024), -EINVAL);
		assert_int_equal(inflight_open(&area, fd, 0, size, packed, 3, 1024), 0);
		assert_true(inflight_get_queue(area, 2, packed, 1024, &q));
		assert_true(inflight_get_queue(area, 0, packed, 4, &q));
		assert_false(inflight_get_queue(area, 3, packed, 4, &q));
		assert_false(inflight_get_queue(area, 0, !packed, 4, &q));
		assert_false(inflight_broken(area));
		inflight_unref(area);
		close(fd);
	}
	assert_int_equal(inflight_create(false, 1, 64, &fd, &size), 0);
	assert_int_equal(inflight_open(&area, fd, 0, size, false, 1, 64), 0);
	assert_false(inflight_get_queue(area, 0, false, 128, &q));
	inflight_unref(area);
	close(fd);
}

/* A new area says nothing: the base of the front end holds. */
static void test_fresh(void **state)
{
	struct tracked t;

	(void)state;
	tracked_init(&t, false);
	t.env.avail = t.env.seen = 1000;
	split_avail(&t.env)->idx = split_used(&t.env)->idx = 1000;
	assert_int_equal(virtq_set_base(&t.env.vq, 1000), 0);
	assert_int_equal(virtq_start(&t.env.vq), 0);
	add(&t, 3, 1);
	assert_int_equal(pop(&t.env), 1);
	restart(&t);
	assert_int_equal(pop(&t.env), 1);
	assert_int_equal(t.env.chain.id, 3);
	assert_int_equal(pop(&t.env), 0);
	complete(&t, &t.env.chain);
	assert_int_equal(take(&t), 3);
	tracked_fini(&t);

	tracked_init(&t, true);
	t.env.avail = t.env.seen = 5;
	assert_int_equal(virtq_set_base(&t.env.vq, 0x80058005), 0);
	assert_int_equal(virtq_start(&t.env.vq), 0);
	add(&t, 3, 2);
	assert_int_equal(pop(&t.env), 1);
	restart(&t);
	assert_int_equal(pop(&t.env), 1);
	complete(&t, &t.env.chain);
	assert_int_equal(take(&t), 3);
	tracked_fini(&t);
}

/* Pops, completions in any order and restarts, at random, against a model. */
static void test_random(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct virtq_chain held[RING_SIZE];
		bool offered[IDS] = { false };
		unsigned num_held = 0, free_slots = RING_SIZE, random = 1;
		struct tracked t;

		(void)state;
		tracked_init(&t, packed);
		assert_int_equal(virtq_start(&t.env.vq), 0);
		for (unsigned step = 0; step < 100000; step++) {
			unsigned n, id, what;

			random = random * 1103515245 + 12345;
			what = random >> 16;
			n = packed ? 1 + what / 8 % 3 : 1;
			switch (what % 8) {
			case 0:
			case 1:
			case 2:
				for (id = 0; id < RING_SIZE && offered[id]; id++)
					;
				if (n > free_slots)
					break;
				offered[id] = true;
				add(&t, id, n);
				free_slots -= n;
				break;
			case 3:
			case 4:
				if (pop(&t.env) == 1)
					held[num_held++] = t.env.chain;
				break;
			case 5:
			case 6:
				if (num_held == 0)
					break;
				n = what / 8 % num_held;
				complete(&t, &held[n]);
				assert_int_equal(take(&t), held[n].id);
				assert_int_equal(take(&t), -1);
				offered[held[n].id] = false;
				free_slots += held[n].slots;
				memmove(&held[n], &held[n + 1], (--num_held - n) * sizeof(held[0]));
				break;
			case 7:
				if (what % 64 != 7)
					break;
				/* The held ones come again, in the order they were taken. */
				restart(&t);
				for (unsigned i = 0; i < num_held; i++) {
					assert_int_equal(pop(&t.env), 1);
					assert_int_equal(t.env.chain.id, held[i].id);
					assert_int_equal(t.env.chain.slots, held[i].slots);
					held[i] = t.env.chain;
				}
				break;
			}
			assert_null(virtq_error(&t.env.vq));
		}
		tracked_fini(&t);
	}
}

/* The driver sets up its ring anew (a guest reboots) while the area stays. */
static void test_ring_starts_over(void **state)
{
	struct tracked t;

	(void)state;
	tracked_init(&t, false);
	assert_int_equal(virtq_start(&t.env.vq), 0);
	for (unsigned i = 0; i < 3; i++) {
		add(&t, i, 1);
		assert_int_equal(pop(&t.env), 1);
		if (i < 2)
			complete(&t, &t.env.chain);
	}
	memset(guest(&t.env, DRIVER_GPA), 0, 4096);
	memset(guest(&t.env, DEVICE_GPA), 0, 4096);
	t.env.avail = t.env.seen = 0;
	restart(&t);
	assert_int_equal(pop(&t.env), 0);
	add(&t, 5, 1);
	assert_int_equal(pop(&t.env), 1);
	assert_int_equal(t.env.chain.id, 5);
	tracked_fini(&t);
}

/* An area full of nonsense is refused or harmless. */
static void test_lies(void **state)
{
	unsigned refused = 0, started = 0, random = 1;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		bool packed = i % 2;
		struct tracked t;

		tracked_init(&t, packed);
		assert_int_equal(virtq_start(&t.env.vq), 0);
		add(&t, 0, 2);
		add(&t, 1, 1);
		assert_int_equal(pop(&t.env), 1);
		assert_int_equal(pop(&t.env), 1);
		virtq_stop(&t.env.vq);
		for (unsigned k = 0; k <= i % 5; k++) {
			/* Often in the header and the first entries. */
			random = random * 1103515245 + 12345;
			size_t at = (random >> 8) % (i % 3 ? 80 : t.size / 2);

			random = random * 1103515245 + 12345;
			t.bytes[t.size / 2 + at] = (char)(random >> 16 & (i % 7 ? 0xff : 1));
		}
		if (virtq_start(&t.env.vq) == 0) {
			struct virtq_chain held[RING_SIZE];
			unsigned n = 0;

			started++;
			while (n < RING_SIZE && pop(&t.env) == 1)
				held[n++] = t.env.chain;
			while (n > 0)
				complete(&t, &held[--n]);
		} else {
			refused++;
			assert_non_null(virtq_error(&t.env.vq));
		}
		tracked_fini(&t);
	}
	assert_true(refused > 100);
	assert_true(started > 100);
}

static void test_set_inflight(void **state)
{
	struct tracked t;

	(void)state;
	tracked_init(&t, false);
	assert_int_equal(virtq_set_inflight(&t.env.vq, t.area, 2), -EINVAL);
	assert_int_equal(virtq_set_inflight(&t.env.vq, NULL, 0), 0);
	assert_int_equal(virtq_set_inflight(&t.env.vq, t.area, 0), 0);
	assert_int_equal(virtq_set_size(&t.env.vq, RING_SIZE * 2), 0);
	assert_int_equal(virtq_start(&t.env.vq), -EINVAL);
	assert_string_equal(virtq_error(&t.env.vq), "inflight area of another size or format");
	virtq_set_features(&t.env.vq, true, true, true);
	assert_int_equal(virtq_set_size(&t.env.vq, RING_SIZE), 0);
	assert_int_equal(virtq_start(&t.env.vq), -EINVAL);
	tracked_fini(&t);
}

/* ---- Death at every instruction ---- */

/* What of the guest's memory the device writes. */
static const uint64_t ring_parts[] = { DESC_GPA, DRIVER_GPA, DEVICE_GPA };
#define PART_BYTES 256

static bool copy_state(struct tracked *to, struct tracked *from)
{
	bool changed = memcmp(to->bytes, from->bytes, from->size) != 0;

	memcpy(to->bytes, from->bytes, from->size);
	for (size_t i = 0; i < ARRAY_SIZE(ring_parts); i++) {
		void *src = guest(&from->env, ring_parts[i]), *dst = guest(&to->env, ring_parts[i]);

		changed = changed || memcmp(dst, src, PART_BYTES) != 0;
		memcpy(dst, src, PART_BYTES);
	}
	to->env.avail = from->env.avail;
	to->env.avail_wrap = from->env.avail_wrap;
	to->env.seen = from->env.seen;
	to->env.seen_wrap = from->env.seen_wrap;
	memcpy(to->slots, from->slots, sizeof(to->slots));
	return changed;
}

/* Of chains 0 .. @count - 1, all offered by the driver. With @driver_acts it
 * offers what it gets back again before the device is back, under an id that
 * is higher by @count. */
static void check_recovery(struct tracked *t, unsigned count, bool driver_acts)
{
	unsigned expected[IDS] = { 0 }, total = 0;
	struct virtq_chain held[RING_SIZE];
	unsigned n = 0;
	int id, last = -1;

	for (unsigned i = 0; i < count; i++)
		expected[i] = 1;
	while ((id = take(t)) >= 0) {
		assert_true((unsigned)id < count);
		assert_int_equal(expected[id], 1);
		expected[id] = 0;
		total++;
		if (driver_acts) {
			expected[(unsigned)id + count] = 1;
			add(t, (unsigned)id + count, t->slots[id]);
		}
	}
	total = driver_acts ? count : count - total;

	restart(t);
	for (n = 0; n < total; n++) {
		assert_int_equal(pop(&t->env), 1);
		held[n] = t->env.chain;
		assert_int_equal(expected[held[n].id], 1);
		expected[held[n].id] = 2;
		if (held[n].id < count) {
			assert_true(held[n].id > last);
			last = held[n].id;
		}
	}
	assert_int_equal(pop(&t->env), 0);
	while (n-- > 0) {
		complete(t, &held[n]);
		assert_int_equal(take(t), held[n].id);
		assert_int_equal(expected[held[n].id]--, 2);
	}
	assert_int_equal(take(t), -1);
	assert_int_equal(t->env.vq.in_flight, 0);
	restart(t);
	assert_int_equal(pop(&t->env), 0);
}

/* What the child does. Negative numbers: pop; others: complete that one. */
static void run_script(struct tracked *t, const int *script)
{
	struct virtq_chain held[IDS];

	for (; *script != IDS; script++) {
		if (*script >= 0) {
			complete(t, &held[*script]);
		} else {
			if (pop(&t->env) != 1)
				_exit(1);
			held[t->env.chain.id] = t->env.chain;
		}
	}
	_exit(0);
}

struct scenario {
	bool packed;
	unsigned rotate; /* where in the ring it begins */
	unsigned count;
	unsigned slots[4];
	const int *script;
	unsigned steps; /* in it */
};

static void run_scenario(const struct scenario *s, struct tracked copy[2])
{
	struct tracked t;
	unsigned states = 0;
	int status;
	pid_t child;

	tracked_init(&t, s->packed);
	assert_int_equal(virtq_start(&t.env.vq), 0);
	for (unsigned i = 0; i < s->rotate; i++) {
		add(&t, 0, 1);
		assert_int_equal(pop(&t.env), 1);
		complete(&t, &t.env.chain);
		assert_int_equal(take(&t), 0);
	}
	for (unsigned i = 0; i < s->count; i++)
		add(&t, i, s->slots[i]);

	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		run_script(&t, s->script);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	while (WIFSTOPPED(status)) {
		struct tracked *last = &copy[0];
		bool changed = states == 0;

		/* Compared with, and then kept as, the state before any recovery. */
		changed |= copy_state(last, &t);
		if (changed) {
			states++;
			for (unsigned acts = 0; acts < 2; acts++) {
				copy_state(&copy[1], last);
				check_recovery(&copy[1], s->count, acts);
			}
		}
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* Or we have not seen it work. */
	assert_true(states > 2 * s->steps);
	tracked_fini(&t);
}

static void test_every_instruction(void **state)
{
	static const int three[] = { -1, -1, 1, -1, 0, 2, IDS };
	static const int whole[] = { -1, 0, IDS };
	/* Completions before, exactly at, and over the end of the ring. Not all
	 * eight: sanitizers make for many instructions. */
	static const unsigned rotations[] = { 0, 3, 7 };

	(void)state;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct tracked copy[2];

		tracked_init(&copy[0], packed);
		tracked_init(&copy[1], packed);
		for (size_t i = 0; i < ARRAY_SIZE(rotations); i++) {
			struct scenario s = {
				.packed = packed,
				.rotate = rotations[i],
				.count = 3,
				.slots = { 2, 3, 1 },
				.script = three,
				.steps = 6,
			};

			run_scenario(&s, copy);
			/* As long as the ring: the position comes back to where it was. */
			s.count = 1;
			s.slots[0] = packed ? RING_SIZE : 1;
			s.script = whole;
			s.steps = 2;
			run_scenario(&s, copy);
		}
		tracked_fini(&copy[0]);
		tracked_fini(&copy[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_open),
		cmocka_unit_test(test_fresh),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_ring_starts_over),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_set_inflight),
		cmocka_unit_test(test_every_instruction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
