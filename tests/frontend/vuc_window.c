/* SPDX-License-Identifier: Apache-2.0 */
/* See vuc_window.h. */
#include "vuc_window.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const struct vuc_config vuc_with_window = {
	.queues = 4,
	.queue_size = 128,
	.indirect = true,
	.event_idx = true,
	.window = true,
	.mem_size = 64 << 20,
};

struct message {
	struct vuc_hdr hdr;
	struct vuc_mmap_msg mmap;
} __attribute__((packed));

/*
 * As mmap(), with MAP_FIXED in flags. To a thread sanitizer mmap() writes to the memory, and it
 * cannot know that who reads it has heard through another process that this is over.
 */
static int map_fixed(uint8_t *at, uint64_t length, int prot, int flags, int fd, uint64_t offset)
{
	long ret = syscall(SYS_mmap, at, length, prot, flags | MAP_FIXED, fd, offset);

	return ret == -1 ? -errno : 0;
}

/* ---- The table; under the lock ---- */

static struct vuc_window_map *find_exactly(struct vuc_window *w, uint64_t offset, uint64_t length)
{
	for (unsigned int i = 0; i < VUC_WINDOW_MAPS_MAX; i++)
		if (w->table[i].length == length && w->table[i].offset == offset)
			return &w->table[i];
	return NULL;
}

static struct vuc_window_map *find_overlap(struct vuc_window *w, uint64_t offset, uint64_t length)
{
	for (unsigned int i = 0; i < VUC_WINDOW_MAPS_MAX; i++) {
		struct vuc_window_map *map = &w->table[i];

		if (map->length && map->offset < offset + length &&
		    offset < map->offset + map->length)
			return map;
	}
	return NULL;
}

static bool in_window(const struct vuc_window *w, const struct vuc_mmap_msg *m)
{
	return m->shmid == 0 && m->len && m->len <= w->size && m->shm_offset <= w->size - m->len;
}

/* Whether who has @fd can write to it, if it tries. */
static bool can_write(int fd, uint64_t length)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return pwrite(fd, "", 1, (off_t)length - 1) == 1;
	munmap(p, length);
	return true;
}

static int map_here(struct vuc_window *w, const struct vuc_mmap_msg *m, int fd)
{
	struct vuc_window_map *map = find_exactly(w, 0, 0);
	bool like_qemu = atomic_load(&w->mode) == VUC_WINDOW_QEMU;
	int prot = PROT_READ, err;
	struct stat st;

	if (fd < 0 || !in_window(w, m) || find_overlap(w, m->shm_offset, m->len) || !map)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (like_qemu && (uint64_t)st.st_size < m->fd_offset + m->len)
		return -ENXIO;
	if (like_qemu || (m->flags & VUC_MMAP_RW))
		prot |= PROT_WRITE;
	err = map_fixed(w->base + m->shm_offset, m->len, prot, MAP_SHARED, fd, m->fd_offset);
	if (err)
		return err;
	*map = (struct vuc_window_map){ .offset = m->shm_offset,
					.length = m->len,
					.writable = m->flags & VUC_MMAP_RW,
					.can_write = can_write(fd, m->len),
					.dev = st.st_dev,
					.ino = st.st_ino,
					.file_size = (uint64_t)st.st_size };
	return 0;
}

static int unmap_here(struct vuc_window *w, const struct vuc_mmap_msg *m)
{
	struct vuc_window_map *map = NULL;

	if (in_window(w, m))
		map = find_exactly(w, m->shm_offset, m->len);
	if (!map)
		return -ENOENT;
	map_fixed(w->base + m->shm_offset, m->len, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	*map = (struct vuc_window_map){ 0 };
	return 0;
}

bool vuc_window_find(struct vuc_window *w, uint64_t offset, struct vuc_window_map *out)
{
	struct vuc_window_map *map;

	pthread_mutex_lock(&w->lock);
	map = find_overlap(w, offset, 1);
	if (map)
		*out = *map;
	pthread_mutex_unlock(&w->lock);
	return map != NULL;
}

/* ---- The channel ---- */

/* One message with its descriptor, -1 for none. False at the end of the connection. */
static bool receive(struct vuc_window *w, struct message *m, int *fd)
{
	size_t done = 0;

	*fd = -1;
	while (done < sizeof(*m)) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(sizeof(int))];
		} control;
		struct iovec iov = { (char *)m + done, sizeof(*m) - done };
		struct msghdr mh = { .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = control.space,
				     .msg_controllen = sizeof(control.space) };
		ssize_t n = recvmsg(w->sock, &mh, MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		for (struct cmsghdr *cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm))
			if (cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS)
				memcpy(fd, CMSG_DATA(cm), sizeof(*fd));
		done += (size_t)n;
	}
	return true;
}

static void answer(struct vuc_window *w, const struct message *m, int err)
{
	struct {
		struct vuc_hdr hdr;
		uint64_t u64;
		char more[16];
	} __attribute__((packed)) reply = {
		.hdr = { .request = m->hdr.request,
			 .flags = VUC_VERSION | VUC_FLAG_REPLY,
			 .size = sizeof(uint64_t) },
		.u64 = err ? 1 : 0,
	};
	size_t size = sizeof(reply.hdr) + sizeof(reply.u64);
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &reply, size };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	switch ((enum vuc_window_mode)atomic_load(&w->mode)) {
	case VUC_WINDOW_WELL:
	case VUC_WINDOW_QEMU:
	case VUC_WINDOW_REFUSES:
		break;
	case VUC_WINDOW_SILENT:
		return;
	case VUC_WINDOW_LONG:
		reply.hdr.size = sizeof(reply.u64) + sizeof(reply.more);
		iov.iov_len = sizeof(reply);
		break;
	case VUC_WINDOW_OTHER:
		reply.hdr.request++;
		break;
	case VUC_WINDOW_HALF:
		iov.iov_len = size / 2;
		break;
	case VUC_WINDOW_HANGS_UP:
		shutdown(w->sock, SHUT_RDWR);
		return;
	case VUC_WINDOW_WITH_FD:
		mh.msg_control = control.space;
		mh.msg_controllen = sizeof(control.space);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &w->sock, sizeof(int));
		break;
	}
	while (sendmsg(w->sock, &mh, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

static void *serve(void *arg)
{
	struct vuc_window *w = arg;
	struct message m;
	int fd;

	while (receive(w, &m, &fd)) {
		const struct vuc_mmap_msg mmap = m.mmap; /* aligned */
		int err = -EINVAL;

		atomic_fetch_add(&w->asked, 1);
		pthread_mutex_lock(&w->lock);
		if (atomic_load(&w->mode) == VUC_WINDOW_REFUSES)
			err = -EPERM;
		else if (m.hdr.size != sizeof(mmap) ||
			 m.hdr.flags != (VUC_VERSION | VUC_FLAG_NEED_REPLY))
			err = -EPROTO;
		else if (m.hdr.request == VUC_BACKEND_SHMEM_MAP)
			err = map_here(w, &mmap, fd);
		else if (m.hdr.request == VUC_BACKEND_SHMEM_UNMAP)
			err = unmap_here(w, &mmap);
		pthread_mutex_unlock(&w->lock);
		if (fd >= 0)
			close(fd);
		if (err) {
			atomic_fetch_add(&w->refused, 1);
		} else if (m.hdr.request == VUC_BACKEND_SHMEM_MAP) {
			atomic_fetch_add(&w->live, 1);
			atomic_fetch_add(&w->maps, 1);
		} else {
			atomic_fetch_sub(&w->live, 1);
			atomic_fetch_add(&w->unmaps, 1);
		}
		answer(w, &m, err);
	}
	return NULL;
}

int vuc_window_open(struct vuc_window *w, struct vuc *c)
{
	struct vuc_msg reply;
	int err;

	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->lock, NULL);
	w->sock = -1;
	if (!(c->protocol_features & VUC_BIT(VUC_PF_SHMEM)) || c->backend_sock < 0)
		return -ENODEV;
	err = vuc_query(c, VUC_GET_SHMEM_CONFIG, NULL, 0, &reply, sizeof(reply.u.shmem));
	if (err)
		return err;
	if (reply.u.shmem.nregions != 1 || !reply.u.shmem.sizes[0])
		return -EPROTO;
	w->size = reply.u.shmem.sizes[0];
	w->base =
		mmap(NULL, w->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->base == MAP_FAILED) {
		w->base = NULL;
		return -errno;
	}
	w->sock = c->backend_sock;
	c->backend_sock = -1;
	err = pthread_create(&w->thread, NULL, serve, w);
	w->running = !err;
	return -err;
}

void vuc_window_close(struct vuc_window *w)
{
	if (w->running) {
		shutdown(w->sock, SHUT_RDWR);
		pthread_join(w->thread, NULL);
	}
	w->running = false;
	if (w->sock >= 0)
		close(w->sock);
	w->sock = -1;
	if (w->base)
		munmap(w->base, w->size);
	w->base = NULL;
	pthread_mutex_destroy(&w->lock);
}
