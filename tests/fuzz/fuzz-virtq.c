/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver and a front end that do anything, in any order: the input is a
 * script of operations on a virtqueue and on 64 KiB of guest memory. Whatever
 * virtq_pop() hands out lies in mapped guest memory (and is touched), and no
 * more is in flight than the ring has room for.
 *
 * Input: one byte of features, one of ring size, then operations.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "virtio/virtqueue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			abort();                                                                   \
	} while (0)

#define GUEST_SIZE 0x10000u
#define HALF (GUEST_SIZE / 2)
#define UVA 0x100000000ull

#define F_PACKED 1
#define F_EVENT_IDX 2
#define F_INDIRECT 4
#define F_INFLIGHT 8
#define F_LOG 16

#define HELD_MAX VIRTIO_QUEUE_SIZE_MAX

struct input {
	const uint8_t *p;
	size_t left;
};

/* Zero when the input is at its end. */
static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	while (bytes-- > 0 && in->left > 0) {
		v = v << 8 | *in->p++;
		in->left--;
	}
	return v;
}

struct world {
	int fd, log_fd;
	char *memory;
	struct guest_mem *mem;
	struct dirty_log *log;
	struct virtqueue vq;
	struct virtq_chain held[HELD_MAX];
	struct guest_view *view[HELD_MAX];
	unsigned num_held;
	struct iovec iov[VIRTQ_IOV_MAX];
};

/* Contiguous for the guest, in the file the other way round. */
static const struct guest_region_desc regions[2] = {
	{ .gpa = 0, .size = HALF, .uva = UVA, .offset = HALF },
	{ .gpa = HALF, .size = HALF, .uva = UVA + HALF, .offset = 0 },
};

static char *guest(struct world *w, uint32_t gpa)
{
	return w->memory + (gpa ^ HALF);
}

static void write_guest(struct world *w, uint32_t gpa, const void *src, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*guest(w, (uint32_t)(gpa + i) % GUEST_SIZE) = ((const char *)src)[i];
}

static void check_segments(struct world *w)
{
	uint64_t bytes = 0;
	unsigned count = w->vq.view ? (unsigned)w->held[w->num_held].in_count +
					      w->held[w->num_held].out_count
				    : 0;

	CHECK(count <= VIRTQ_IOV_MAX);
	for (unsigned i = 0; i < count; i++) {
		char *p = w->iov[i].iov_base;
		size_t left = w->iov[i].iov_len;

		CHECK(left > 0);
		bytes += left;
		while (left > 0) {
			uint64_t gpa, room;

			CHECK(guest_mem_hva_to_gpa(w->vq.view->mem, p, &gpa, &room));
			room = MIN(room, (uint64_t)left);
			(void)*(volatile char *)p;
			(void)*(volatile char *)(p + room - 1);
			p += room;
			left -= room;
		}
	}
	CHECK(bytes == (uint64_t)w->held[w->num_held].in_bytes + w->held[w->num_held].out_bytes);
}

static void do_pop(struct world *w)
{
	int ret;

	if (w->num_held == HELD_MAX)
		return;
	ret = virtq_pop(&w->vq, &w->held[w->num_held], w->iov, VIRTQ_IOV_MAX);
	CHECK(ret == 1 || ret == 0 || (ret == -EPROTO && virtq_error(&w->vq)));
	CHECK(w->vq.in_flight <= w->vq.size);
	if (ret != 1)
		return;
	CHECK(w->held[w->num_held].slots >= 1);
	check_segments(w);
	virtq_log_written(&w->vq, w->vq.view, w->iov + w->held[w->num_held].in_count,
			  w->held[w->num_held].out_count, w->held[w->num_held].out_bytes);
	w->view[w->num_held++] = guest_view_ref(w->vq.view);
}

static void do_push(struct world *w, unsigned n, uint32_t written)
{
	if (w->num_held == 0)
		return;
	n %= w->num_held;
	virtq_push(&w->vq, &w->held[n], written);
	guest_view_unref(w->view[n]);
	w->num_held--;
	w->held[n] = w->held[w->num_held];
	w->view[n] = w->view[w->num_held];
	CHECK(w->vq.in_flight <= w->vq.size);
}

static void set_addr(struct world *w, uint32_t desc, uint32_t driver, uint32_t device, bool log)
{
	const struct virtq_addr addr = {
		.desc = UVA + desc,
		.driver = UVA + driver,
		.device = UVA + device,
		.log = log,
		.log_gpa = device,
	};

	(void)virtq_set_addr(&w->vq, &addr);
}

/* Removes a region or puts it back. */
static void toggle_region(struct world *w, unsigned n)
{
	struct guest_mem *mem;

	if (guest_mem_remove(&mem, w->mem, &regions[n]) < 0 &&
	    guest_mem_add(&mem, w->mem, &regions[n], w->fd) < 0)
		return;
	guest_mem_unref(w->mem);
	w->mem = mem;
	(void)virtq_set_mem(&w->vq, mem);
}

/* A descriptor, of a kind that is often valid. */
static void write_desc(struct world *w, struct input *in)
{
	uint32_t where = take(in, 1), addr = take(in, 2), len = take(in, 2), flags = take(in, 1);
	uint64_t words[2] = { addr, len };
	uint32_t base = where & 0x80 ? 0x4000 : 0, i = where & 0x7f;

	if (w->vq.packed)
		words[1] |= (uint64_t)i << 32 | (uint64_t)(flags & 7) << 48 |
			    (uint64_t)(flags >> 7 & 1) << 55 | (uint64_t)(flags >> 6 & 1) << 63;
	else
		words[1] |= (uint64_t)(flags & 7) << 32 | (uint64_t)(i + 1 + (flags >> 6)) << 48;
	write_guest(w, base + i * 16, words, sizeof(words));
}

/* Split: puts a head into the available ring and moves idx on. */
static void make_available(struct world *w, uint16_t head)
{
	uint16_t idx;

	memcpy(&idx, guest(w, 0x2002), sizeof(idx));
	if (w->vq.size)
		write_guest(w, 0x2004 + idx % w->vq.size * 2u, &head, sizeof(head));
	idx++;
	write_guest(w, 0x2002, &idx, sizeof(idx));
}

static void step(struct world *w, struct input *in)
{
	uint32_t a;

	switch (take(in, 1) % 16) {
	case 0 ... 2:
		write_desc(w, in);
		break;
	case 3 ... 4:
		make_available(w, (uint16_t)take(in, 1));
		break;
	case 5 ... 6:
		do_pop(w);
		break;
	case 7:
		a = take(in, 1);
		do_push(w, a, take(in, 2));
		break;
	case 8:
		a = take(in, 2);
		for (uint32_t n = take(in, 1) % 32; n > 0 && in->left > 0; n--) {
			write_guest(w, a++, in->p++, 1);
			in->left--;
		}
		break;
	case 9:
		(void)virtq_should_notify(&w->vq);
		break;
	case 10:
		(void)virtq_enable_kicks(&w->vq);
		break;
	case 11:
		virtq_disable_kicks(&w->vq);
		break;
	case 12:
		toggle_region(w, take(in, 1) % 2);
		break;
	case 13:
		a = take(in, 2);
		set_addr(w, a & ~15u, take(in, 2), take(in, 2), a & 1);
		break;
	case 14:
		a = take(in, 1);
		virtq_stop(&w->vq);
		(void)virtq_set_base(&w->vq, virtq_get_base(&w->vq) ^ (a & 0x80 ? take(in, 4) : 0));
		if (a & 1)
			set_addr(w, 0, 0x2000, 0x3000, a & 2);
		(void)virtq_start(&w->vq);
		break;
	case 15:
		a = take(in, 2);
		if (w->vq.inflight_area && a < 4096) {
			char *region = w->vq.packed ? (char *)w->vq.inflight.packed
						    : (char *)w->vq.inflight.split;

			region[a % (32 + w->vq.inflight.size * 16u)] = (char)take(in, 1);
		}
		break;
	}
}

static void setup(struct world *w, unsigned features, unsigned ring_size)
{
	memset(w, 0, sizeof(*w));
	w->fd = memfd_create("guest", MFD_CLOEXEC);
	w->log_fd = memfd_create("log", MFD_CLOEXEC);
	CHECK(ftruncate(w->fd, GUEST_SIZE) == 0 && ftruncate(w->log_fd, 2) == 0);
	w->memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	CHECK(w->memory != MAP_FAILED);
	CHECK(guest_mem_new(&w->mem, regions, (int[]){ w->fd, w->fd }, 2) == 0);
	CHECK(dirty_log_new(&w->log, w->log_fd, 0, 2) == 0);
	virtq_init(&w->vq);
	virtq_set_features(&w->vq, features & F_PACKED, features & F_EVENT_IDX,
			   features & F_INDIRECT);
	(void)virtq_set_size(&w->vq, ring_size);
	CHECK(virtq_set_mem(&w->vq, w->mem) == 0);
	set_addr(w, 0, 0x2000, 0x3000, features & F_LOG);
	if (features & F_LOG)
		virtq_set_log(&w->vq, w->log);
	if (features & F_INFLIGHT) {
		struct inflight *area;
		uint64_t size;
		int fd;

		if (inflight_create(features & F_PACKED, 1, ring_size, &fd, &size) < 0)
			return;
		CHECK(inflight_open(&area, fd, 0, size, features & F_PACKED, 1, ring_size) == 0);
		close(fd);
		(void)virtq_set_inflight(&w->vq, area, 0);
		inflight_unref(area);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct input in = { data, size };
	unsigned features = take(&in, 1), ring_size = take(&in, 1);

	setup(&w, features, ring_size & 0x80 ? 1u << (ring_size & 15) : ring_size);
	(void)virtq_start(&w.vq);
	while (in.left > 0)
		step(&w, &in);
	while (w.num_held > 0)
		do_push(&w, 0, 0);
	virtq_fini(&w.vq);
	guest_mem_unref(w.mem);
	dirty_log_unref(w.log);
	munmap(w.memory, GUEST_SIZE);
	close(w.fd);
	close(w.log_fd);
	return 0;
}
