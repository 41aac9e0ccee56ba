/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory in memfds, and the log of its dirty pages. See vuc.h. */
#include "vuc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Regions lie apart, so that a length that runs out of one never lands in the next. */
#define REGION_STRIDE (1ull << 32)
#define LOG_PAGE 4096u

int vuc_region_create(struct vuc *c, uint64_t size, uint64_t gpa)
{
	for (unsigned int n = 0; n < VUC_MAX_REGIONS; n++) {
		struct vuc_region *r = &c->regions[n];
		void *map;
		int fd;

		if (r->map)
			continue;
		fd = memfd_create("guest", MFD_CLOEXEC);
		if (fd < 0)
			return -errno;
		map = MAP_FAILED;
		if (ftruncate(fd, (off_t)size) == 0)
			map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED) {
			int err = errno;

			close(fd);
			return -err;
		}
		*r = (struct vuc_region){
			.gpa = gpa ? gpa : (n + 1) * REGION_STRIDE,
			.size = size,
			.map = map,
			.fd = fd,
		};
		return (int)n;
	}
	return -ENOSPC;
}

void vuc_region_destroy(struct vuc *c, unsigned int n)
{
	struct vuc_region *r = &c->regions[n];

	if (!r->map)
		return;
	munmap(r->map, r->size);
	close(r->fd);
	memset(r, 0, sizeof(*r));
}

static struct vuc_mem_region_msg region_msg(const struct vuc_region *r)
{
	return (struct vuc_mem_region_msg){
		.guest_addr = r->gpa,
		.size = r->size,
		.user_addr = (uintptr_t)r->map,
	};
}

int vuc_region_add(struct vuc *c, unsigned int n)
{
	struct vuc_region *r = &c->regions[n];
	struct vuc_mem_single_msg m = { .region = region_msg(r) };
	int err = vuc_request(c, VUC_ADD_MEM_REG, &m, sizeof(m), &r->fd, 1);

	if (!err)
		r->shared = true;
	return err;
}

int vuc_region_remove(struct vuc *c, unsigned int n)
{
	struct vuc_region *r = &c->regions[n];
	struct vuc_mem_single_msg m = { .region = region_msg(r) };
	int err = vuc_request(c, VUC_REM_MEM_REG, &m, sizeof(m), NULL, 0);

	if (!err)
		r->shared = false;
	return err;
}

int vuc_mem_table(struct vuc *c)
{
	struct vuc_mem_table_msg m = { 0 };
	int fds[VUC_MAX_REGIONS_TABLE];
	int err;

	for (unsigned int n = 0; n < VUC_MAX_REGIONS; n++) {
		struct vuc_region *r = &c->regions[n];

		if (!r->map)
			continue;
		if (m.count == VUC_MAX_REGIONS_TABLE)
			return -E2BIG;
		fds[m.count] = r->fd;
		m.regions[m.count++] = region_msg(r);
	}
	err = vuc_request(c, VUC_SET_MEM_TABLE, &m,
			  offsetof(struct vuc_mem_table_msg, regions) +
				  m.count * sizeof(m.regions[0]),
			  fds, m.count);
	for (unsigned int n = 0; !err && n < VUC_MAX_REGIONS; n++)
		c->regions[n].shared = c->regions[n].map != NULL;
	return err;
}

int vuc_mem_alloc(struct vuc *c, unsigned int n, uint64_t len, uint64_t align, struct vuc_buf *out)
{
	struct vuc_region *r;
	uint64_t at;

	if (n >= VUC_MAX_REGIONS)
		return -EINVAL;
	r = &c->regions[n];
	at = (r->used + align - 1) & ~(align - 1);
	if (!r->map || at > r->size || r->size - at < len)
		return -ENOMEM;
	r->used = at + len;
	*out = (struct vuc_buf){ .p = r->map + at, .gpa = r->gpa + at, .len = len };
	return 0;
}

void *vuc_mem_at(struct vuc *c, uint64_t gpa, uint64_t len)
{
	for (unsigned int n = 0; n < VUC_MAX_REGIONS; n++) {
		struct vuc_region *r = &c->regions[n];

		if (r->map && gpa >= r->gpa && gpa - r->gpa <= r->size &&
		    r->size - (gpa - r->gpa) >= len)
			return r->map + (gpa - r->gpa);
	}
	return NULL;
}

uint64_t vuc_mem_user_addr(struct vuc *c, uint64_t gpa)
{
	return (uintptr_t)vuc_mem_at(c, gpa, 1);
}

int vuc_log_start(struct vuc *c)
{
	uint64_t end = 0;
	struct vuc_log_msg m = { 0 };
	struct vuc_msg reply;
	struct vuc_hdr hdr = { .request = VUC_SET_LOG_BASE,
			       .flags = VUC_VERSION,
			       .size = sizeof(m) };
	uint8_t raw[sizeof(hdr) + sizeof(m)];
	void *map;
	int fd, err;

	for (unsigned int n = 0; n < VUC_MAX_REGIONS; n++)
		if (c->regions[n].map && c->regions[n].gpa + c->regions[n].size > end)
			end = c->regions[n].gpa + c->regions[n].size;
	m.size = (end / LOG_PAGE / 8 + LOG_PAGE) & ~(uint64_t)(LOG_PAGE - 1);
	fd = memfd_create("dirty-log", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)m.size) < 0 ||
	    (map = mmap(NULL, m.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		err = -errno;
		close(fd);
		return err;
	}
	memcpy(raw, &hdr, sizeof(hdr));
	memcpy(raw + sizeof(hdr), &m, sizeof(m));
	err = vuc_send_raw(c, raw, sizeof(raw), &fd, 1);
	/* With LOG_SHMFD this request has a reply whether one is asked for or not. */
	if (!err)
		err = vuc_recv(c, &reply, NULL, NULL);
	if (!err && reply.hdr.request != VUC_SET_LOG_BASE)
		err = -EPROTO;
	if (err) {
		munmap(map, m.size);
		close(fd);
		return err;
	}
	if (c->log) {
		munmap(c->log, c->log_size);
		close(c->log_fd);
	}
	c->log = map;
	c->log_fd = fd;
	c->log_size = m.size;
	return 0;
}

int vuc_log_enable(struct vuc *c, bool on)
{
	uint64_t features = c->features & ~VUC_BIT(VUC_F_LOG_ALL);
	int err;

	if (on)
		features |= VUC_BIT(VUC_F_LOG_ALL);
	err = vuc_set_u64(c, VUC_SET_FEATURES, features);
	if (err)
		return err;
	c->features = features;
	for (unsigned int i = 0; !err && i < c->nqueues; i++) {
		c->queues[i].log_addr = on ? c->queues[i].used_gpa : 0;
		err = vuc_queue_send_addr(c, i);
	}
	return err;
}

bool vuc_log_test(const struct vuc *c, uint64_t gpa)
{
	uint64_t page = gpa / LOG_PAGE;

	return c->log && page / 8 < c->log_size &&
	       (__atomic_load_n(&c->log[page / 8], __ATOMIC_ACQUIRE) >> (page % 8) & 1);
}
