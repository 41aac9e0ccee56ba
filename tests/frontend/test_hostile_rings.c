/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver that lies, in the rings. A ring that cannot be believed breaks that
 * queue, which is told through its error descriptor; the other queues, the
 * process and the next guest go on.
 */
#include "hostile_ring.h"

/* Chains of up to three descriptors; addresses as offsets into one request. */
struct chain {
	const char *what;
	enum verdict verdict;
	enum { REQUEST, ABSOLUTE, END_OF_REGION } base;
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d[3];
};

#define REPLY_AT (SLOT / 2)

static const struct chain chains[] = {
	{ "a good one", RETURNED, REQUEST, { { 0, 56, 1, 1 }, { REPLY_AT, 120, 2, 0 } } },
	{ "empty readable part", RETURNED, REQUEST, { { 0, 0, 1, 1 }, { REPLY_AT, 120, 2, 0 } } },
	{ "empty everything", EITHER, REQUEST, { { 0, 0, 0, 0 } } },
	{ "only writable", RETURNED, REQUEST, { { REPLY_AT, 120, 2, 0 } } },
	{ "only readable", RETURNED, REQUEST, { { 0, 56, 0, 0 } } },
	{ "readable after writable",
	  BROKEN,
	  REQUEST,
	  { { REPLY_AT, 120, 3, 1 }, { 0, 56, 0, 0 } } },
	{ "address in no region",
	  BROKEN,
	  ABSOLUTE,
	  { { 0x123456789000, 56, 1, 1 }, { 0x123456799000, 120, 2, 0 } } },
	{ "address 0", BROKEN, ABSOLUTE, { { 0, 56, 1, 1 }, { 0, 120, 2, 0 } } },
	{ "address that overflows",
	  BROKEN,
	  ABSOLUTE,
	  { { UINT64_MAX - 10, 56, 1, 1 }, { UINT64_MAX - 10, 120, 2, 0 } } },
	{ "length past the region", BROKEN, END_OF_REGION, { { 0, 56, 1, 1 }, { 0, 120, 2, 0 } } },
	{ "length of 4 GiB",
	  BROKEN,
	  REQUEST,
	  { { 0, UINT32_MAX, 1, 1 }, { REPLY_AT, UINT32_MAX, 2, 0 } } },
	{ "writable length of 4 GiB",
	  BROKEN,
	  REQUEST,
	  { { 0, 56, 1, 1 }, { REPLY_AT, UINT32_MAX, 2, 0 } } },
	{ "unknown flags",
	  EITHER,
	  REQUEST,
	  { { 0, 56, 0x7f71 & 0x7f7f & ~0x80, 1 }, { REPLY_AT, 120, 2, 0 } } },
};

static uint64_t chain_addr(const struct chain *c, unsigned int i)
{
	const struct vuc_region *r = &guest_.c.regions[0];

	switch (c->base) {
	case REQUEST:
		return room.gpa + c->d[i].addr;
	case END_OF_REGION:
		return r->gpa + r->size - 40;
	case ABSOLUTE:
		break;
	}
	return c->d[i].addr;
}

static unsigned int chain_length(const struct chain *c)
{
	unsigned int n = 1;

	while (n < 3 && (c->d[n - 1].flags & VRING_DESC_F_NEXT))
		n++;
	return n;
}

static void chains_that_lie(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++)
		for (int variant = 0; variant < 4; variant++) {
			const struct chain *c = &chains[i];
			bool packed = variant & 1, indirect = variant & 2;
			unsigned int n = chain_length(c);

			open_it(packed);
			write_request(0);
			for (unsigned int k = n; k-- > 0;) {
				struct raw_desc d = { chain_addr(c, k), c->d[k].len, c->d[k].flags,
						      c->d[k].next };
				struct vring_desc *t = (void *)tables.p;
				struct vring_packed_desc *pt = (void *)tables.p;

				if (indirect && packed)
					pt[k] = (struct vring_packed_desc){
						d.addr, d.len, 0, (uint16_t)(d.flags & WRITE)
					};
				else if (indirect)
					t[k] = (struct vring_desc){ d.addr, d.len, d.flags,
								    d.next };
				else if (packed)
					put_packed(k, d, 0);
				else
					put_split(k, d);
			}
			if (indirect && packed)
				put_packed(0, (struct raw_desc){ tables.gpa, 16 * n, INDIRECT, 0 },
					   0);
			else if (indirect)
				put_split(0, (struct raw_desc){ tables.gpa, 16 * n, INDIRECT, 0 });
			if (packed)
				vuc_queue_kick_always(queue());
			else
				publish_split(0);
			queue()->in_flight = 1;
			assert_verdict(c->verdict, c->what);
			close_it();
		}
}

static void split_links_that_lie(void **state)
{
	static const struct {
		const char *what;
		uint16_t head;
		struct {
			uint16_t flags, next;
		} d[3];
	} cases[] = {
		{ "a loop of one", 0, { { 1, 0 } } },
		{ "a loop of two", 0, { { 1, 1 }, { 1, 0 } } },
		{ "a loop of three, writable", 0, { { 1, 1 }, { 3, 2 }, { 3, 1 } } },
		{ "next past the ring", 0, { { 1, 64 } } },
		{ "next far past the ring", 0, { { 1, 65535 } } },
		{ "a head past the ring", 64, { { 0, 0 } } },
		{ "a head far past the ring", 65535, { { 0, 0 } } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_it(false);
		for (unsigned int slot = 0; slot < 3; slot++) {
			write_request(slot);
			put_split(slot,
				  (struct raw_desc){ in_gpa(slot), IN_LEN, cases[i].d[slot].flags,
						     cases[i].d[slot].next });
		}
		publish_split(cases[i].head);
		assert_verdict(BROKEN, cases[i].what);
		close_it();
	}
}

static void indirect_tables_that_lie(void **state)
{
	static const struct {
		const char *what;
		enum verdict verdict;
		uint32_t len;
		bool outside, nested, with_next;
	} cases[] = {
		{ "no bytes", BROKEN, 0, false, false, false },
		{ "one byte", BROKEN, 1, false, false, false },
		{ "a descriptor and a half", BROKEN, 24, false, false, false },
		{ "in no region", BROKEN, 32, true, false, false },
		{ "nested", BROKEN, 32, false, true, false },
		{ "with NEXT", BROKEN, 32, false, false, true },
		{ "longer than any queue", BROKEN, 16 * 1025, false, false, false },
		{ "65535 descriptors", BROKEN, 16 * 65535, false, false, false },
		{ "4 GiB of descriptors", BROKEN, UINT32_MAX & ~15u, false, false, false },
	};

	(void)state;
	for (int packed = 0; packed < 2; packed++)
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			uint16_t flags = INDIRECT | (cases[i].with_next ? NEXT : 0);
			uint64_t gpa = cases[i].outside ? 0x55aa00000000 : tables.gpa;
			struct raw_desc d;

			open_it(packed);
			gpa = cases[i].outside ? 0x55aa00000000 : tables.gpa;
			d = (struct raw_desc){ gpa, cases[i].len, flags, 1 };
			write_request(0);
			for (unsigned int k = 0; k < tables.len / 16; k++) {
				struct vring_desc *t = (void *)(tables.p + k * 16);
				struct vring_packed_desc *pt = (void *)t;
				uint16_t f = cases[i].nested ? INDIRECT : 0;

				if (packed)
					*pt = (struct vring_packed_desc){ in_gpa(0), 4, 0, f };
				else
					*t = (struct vring_desc){ in_gpa(0), 4,
								  (uint16_t)(f | NEXT),
								  (uint16_t)(k + 1) };
			}
			if (packed) {
				put_packed(1, (struct raw_desc){ in_gpa(0), 56, 0, 0 }, 0);
				put_packed(0, d, 0);
				vuc_queue_kick_always(queue());
			} else {
				put_split(0, d);
				put_split(1, (struct raw_desc){ in_gpa(0), 56, 0, 0 });
				publish_split(0);
			}
			/* In a packed ring's table every flag but WRITE is ignored (2.8.7). */
			assert_verdict(packed && cases[i].nested ? EITHER : cases[i].verdict,
				       cases[i].what);
			close_it();
		}
}

static void indices_that_jump(void **state)
{
	static const uint16_t jumps[] = { 65, 100, 1000, 32767, 32768, 65535 };

	(void)state;
	for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		struct vuc_queue *q = queue();

		open_it(false);
		q = queue();
		__atomic_store_n(&q->s.avail->idx, (uint16_t)(q->s.avail->idx + jumps[i]),
				 __ATOMIC_RELEASE);
		vuc_queue_kick_always(q);
		assert_verdict(BROKEN, "an avail index that jumps");
		close_it();
	}
}

static void a_packed_ring_that_is_one_chain(void **state)
{
	(void)state;
	open_it(true);
	/* Every descriptor says that there is another one. */
	for (unsigned int i = queue()->size; i-- > 0;)
		put_packed(i, (struct raw_desc){ in_gpa(0), 1, NEXT, 0 }, 0);
	vuc_queue_kick_always(queue());
	assert_verdict(BROKEN, "a chain without an end");
	close_it();
}

static void ids_that_are_none(void **state)
{
	static const uint16_t ids[] = { 64, 1000, 65535 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		open_it(true);
		write_request(0);
		put_packed(1, (struct raw_desc){ out_gpa(0), OUT_LEN, WRITE, 0 }, ids[i]);
		put_packed(0, (struct raw_desc){ in_gpa(0), IN_LEN, NEXT, 0 }, ids[i]);
		vuc_queue_kick_always(queue());
		/* The id is the driver's own; to hand it back is as good as to refuse. */
		assert_verdict(EITHER, "an id past the ring");
		close_it();
	}
}

static void a_broken_queue_can_be_set_up_again(void **state)
{
	(void)state;
	for (int lap = 0; lap < 20; lap++) {
		open_it(false);
		publish_split(65535);
		assert_verdict(BROKEN, "a head past the ring");
		assert_ok(vuc_queue_stop(&guest_.c, 1, NULL));
		vuc_queue_reset(queue());
		close(queue()->err_fd);
		queue()->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_ok(vuc_queue_start(&guest_.c, 1));
		assert_ok(fuc_getattr(&guest_.f, FUSE_ROOT_ID, NULL));
		close_it();
	}
}

#define ring_test(f) cmocka_unit_test_teardown(f, hang_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ring_test(chains_that_lie),
		ring_test(split_links_that_lie),
		ring_test(indirect_tables_that_lie),
		ring_test(indices_that_jump),
		ring_test(a_packed_ring_that_is_one_chain),
		ring_test(ids_that_are_none),
		ring_test(a_broken_queue_can_be_set_up_again),
		cmocka_unit_test(the_daemon_ends_well),
	};

	return cmocka_run_group_tests_name("hostile rings", tests, set_up, NULL);
}
