/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hostile tests share: seeded randomness, descriptors of every kind,
 * and a guest that lives on after whatever was done to its connection.
 * Header-only: each test program has its own copy of the little state.
 */
#ifndef TESTS_FRONTEND_HOSTILE_H
#define TESTS_FRONTEND_HOSTILE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

/* xorshift64*: the same sequence everywhere for the same seed. */
static inline uint64_t hostile_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/* Numbers at which arithmetic goes wrong, and some that are just any. */
static inline uint64_t hostile_number(uint64_t *state)
{
	static const uint64_t edges[] = {
		0,
		1,
		2,
		7,
		15,
		16,
		0x7f,
		0x80,
		0xff,
		0x100,
		0x7fff,
		0x8000,
		0xffff,
		0x10000,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		1ull << 62,
		1ull << 63,
		INT64_MAX,
		UINT64_MAX,
		UINT64_MAX - 4095,
	};
	uint64_t r = hostile_random(state);

	if (r & 1)
		return edges[(r >> 8) % (sizeof(edges) / sizeof(edges[0]))];
	return r >> (r >> 58);
}

enum hostile_fd {
	HOSTILE_EVENTFD,
	HOSTILE_PIPE_READ,
	HOSTILE_PIPE_WRITE,
	HOSTILE_FILE,
	HOSTILE_FILE_RDONLY,
	HOSTILE_DEV_NULL,
	HOSTILE_DIRECTORY,
	HOSTILE_SOCKET,
	HOSTILE_EPOLL,
	HOSTILE_MEMFD,
	HOSTILE_MEMFD_EMPTY,
	HOSTILE_MEMFD_RDONLY,
	HOSTILE_O_PATH,
	HOSTILE_FD_KINDS,
};

/* A new descriptor of the kind; the caller closes it. */
static inline int hostile_open(enum hostile_fd kind, const struct daemon *d)
{
	int pair[2], fd = -1;
	char path[64];

	switch (kind) {
	case HOSTILE_EVENTFD:
		return eventfd(0, EFD_CLOEXEC);
	case HOSTILE_PIPE_READ:
	case HOSTILE_PIPE_WRITE:
		if (pipe2(pair, O_CLOEXEC) < 0)
			return -1;
		close(pair[kind == HOSTILE_PIPE_READ]);
		return pair[kind != HOSTILE_PIPE_READ];
	case HOSTILE_FILE:
		return open(d->config, O_RDWR | O_CLOEXEC);
	case HOSTILE_FILE_RDONLY:
		return open(d->config, O_RDONLY | O_CLOEXEC);
	case HOSTILE_DEV_NULL:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case HOSTILE_DIRECTORY:
		return open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case HOSTILE_SOCKET:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return -1;
		close(pair[1]);
		return pair[0];
	case HOSTILE_EPOLL:
		return epoll_create1(EPOLL_CLOEXEC);
	case HOSTILE_MEMFD:
	case HOSTILE_MEMFD_EMPTY:
		fd = memfd_create("hostile", MFD_CLOEXEC);
		if (fd >= 0 && kind == HOSTILE_MEMFD && ftruncate(fd, 1 << 20) < 0)
			return -1;
		return fd;
	case HOSTILE_MEMFD_RDONLY:
		fd = memfd_create("hostile", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
			return -1;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		pair[0] = open(path, O_RDONLY | O_CLOEXEC);
		close(fd);
		return pair[0];
	case HOSTILE_O_PATH:
		return open(d->dir, O_PATH | O_CLOEXEC);
	case HOSTILE_FD_KINDS:
		break;
	}
	return -1;
}

/*
 * Whether the connection still works: true when a question gets its answer,
 * whatever else comes before it; false when it was closed. Hanging is a failure.
 */
static inline bool hostile_talks(struct vuc *c)
{
	struct vuc_hdr ask = { .request = VUC_GET_FEATURES, .flags = VUC_VERSION };
	struct vuc_msg m;

	if (vuc_send_raw(c, &ask, sizeof(ask), NULL, 0))
		return false;
	for (;;) {
		int err = vuc_recv(c, &m, NULL, NULL);

		if (err == -ETIMEDOUT)
			fail_msg("the daemon neither answers nor hangs up");
		if (err)
			return false;
		if (m.hdr.request == VUC_GET_FEATURES)
			return true;
	}
}

#endif
