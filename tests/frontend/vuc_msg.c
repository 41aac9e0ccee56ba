/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: messages, replies, acknowledgements. See vuc.h. */
#include "vuc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int vuc_connect(struct vuc *c, const char *path, int timeout_ms)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const struct timespec pause = { .tv_nsec = 2000000 };

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	for (int waited = 0;; waited += 2) {
		int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int err;

		if (sock < 0)
			return -errno;
		if (connect(sock, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
			c->sock = sock;
			return 0;
		}
		err = errno;
		close(sock);
		if ((err != ENOENT && err != ECONNREFUSED && err != EAGAIN) || waited >= timeout_ms)
			return -err;
		nanosleep(&pause, NULL);
	}
}

void vuc_attach(struct vuc *c, int sock)
{
	c->sock = sock;
}

int vuc_send_raw(struct vuc *c, const void *buf, size_t len, const int *fds, size_t nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 64)];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 64)
		return -E2BIG;
	if (nfds) {
		struct cmsghdr *cm = &control.align;

		memset(&control, 0, sizeof(control));
		mh.msg_control = control.space;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * nfds);
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(c->sock, &mh, MSG_NOSIGNAL);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return errno == EPIPE ? -ECONNRESET : -errno;
		}
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		mh.msg_control = NULL;
		mh.msg_controllen = 0;
	}
	return 0;
}

static int recv_wait(int sock, int timeout_ms)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	int n;

	do {
		n = poll(&p, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

/* Reads exactly `len` bytes; descriptors that arrive go to `fds`. */
static int recv_all(struct vuc *c, void *buf, size_t len, int *fds, size_t *nfds)
{
	while (len) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(sizeof(int) * VUC_MAX_FDS)];
		} control;
		struct iovec iov = { .iov_base = buf, .iov_len = len };
		struct msghdr mh = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.space,
			.msg_controllen = sizeof(control.space),
		};
		ssize_t n;
		int err = recv_wait(c->sock, c->cfg.timeout_ms);

		if (err)
			return err;
		n = recvmsg(c->sock, &mh, MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		for (struct cmsghdr *cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
			size_t count = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
				continue;
			for (size_t i = 0; i < count; i++) {
				int fd;

				memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
				if (fds && *nfds < VUC_MAX_FDS)
					fds[(*nfds)++] = fd;
				else
					close(fd);
			}
		}
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return 0;
}

int vuc_recv(struct vuc *c, struct vuc_msg *m, int *fds, size_t *nfds)
{
	size_t none = 0;
	int err;

	if (!nfds)
		nfds = &none;
	*nfds = 0;
	memset(m, 0, sizeof(*m));
	err = recv_all(c, &m->hdr, sizeof(m->hdr), fds, nfds);
	if (err)
		return err;
	if (m->hdr.size > sizeof(m->u))
		return -EPROTO;
	return recv_all(c, &m->u, m->hdr.size, fds, nfds);
}

static int send_msg(struct vuc *c, uint32_t request, uint32_t flags, const void *payload,
		    size_t size, const int *fds, size_t nfds)
{
	uint8_t buf[sizeof(struct vuc_msg)];
	struct vuc_hdr hdr = {
		.request = request,
		.flags = VUC_VERSION | flags,
		.size = (uint32_t)size,
	};

	if (size > sizeof(buf) - sizeof(hdr))
		return -E2BIG;
	memcpy(buf, &hdr, sizeof(hdr));
	if (size)
		memcpy(buf + sizeof(hdr), payload, size);
	return vuc_send_raw(c, buf, sizeof(hdr) + size, fds, nfds);
}

int vuc_request(struct vuc *c, uint32_t request, const void *payload, size_t size, const int *fds,
		size_t nfds)
{
	bool ack = !c->cfg.no_ack && (c->protocol_features & VUC_BIT(VUC_PF_REPLY_ACK));
	struct vuc_msg m;
	int err;

	err = send_msg(c, request, ack ? VUC_FLAG_NEED_REPLY : 0, payload, size, fds, nfds);
	if (err || !ack)
		return err;
	err = vuc_recv(c, &m, NULL, NULL);
	if (err)
		return err;
	if (m.hdr.request != request || m.hdr.flags != (VUC_VERSION | VUC_FLAG_REPLY) ||
	    m.hdr.size != sizeof(uint64_t))
		return -EPROTO;
	return m.u.u64 ? -EREMOTEIO : 0;
}

int vuc_query(struct vuc *c, uint32_t request, const void *payload, size_t size,
	      struct vuc_msg *reply, size_t min_reply)
{
	int err = send_msg(c, request, 0, payload, size, NULL, 0);

	if (err)
		return err;
	err = vuc_recv(c, reply, NULL, NULL);
	if (err)
		return err;
	if (reply->hdr.request != request ||
	    (reply->hdr.flags & (VUC_FLAG_VERSION_MASK | VUC_FLAG_REPLY)) !=
		    (VUC_VERSION | VUC_FLAG_REPLY) ||
	    reply->hdr.size < min_reply)
		return -EPROTO;
	return 0;
}

int vuc_query_u64(struct vuc *c, uint32_t request, uint64_t *value)
{
	struct vuc_msg m;
	int err = vuc_query(c, request, NULL, 0, &m, sizeof(uint64_t));

	if (!err)
		*value = m.u.u64;
	return err;
}

int vuc_set_u64(struct vuc *c, uint32_t request, uint64_t value)
{
	return vuc_request(c, request, &value, sizeof(value), NULL, 0);
}

int vuc_set_state(struct vuc *c, uint32_t request, unsigned int index, unsigned int num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	return vuc_request(c, request, &s, sizeof(s), NULL, 0);
}

int vuc_get_config(struct vuc *c, uint32_t offset, uint32_t size, void *out)
{
	struct vuc_config_msg req = { .offset = offset, .size = size };
	struct vuc_msg m;
	int err;

	if (size > sizeof(req.data))
		return -E2BIG;
	err = vuc_query(c, VUC_GET_CONFIG, &req, VUC_CONFIG_HDR + size, &m, 0);
	if (err)
		return err;
	/* No payload, or one of no bytes, is how the back end says no. */
	if (m.hdr.size == 0 || (size && m.hdr.size == VUC_CONFIG_HDR))
		return -EREMOTEIO;
	if (m.hdr.size != VUC_CONFIG_HDR + size || m.u.config.size != size)
		return -EPROTO;
	memcpy(out, m.u.config.data, size);
	return 0;
}

bool vuc_hung_up(struct vuc *c, int timeout_ms)
{
	struct pollfd p = { .fd = c->sock, .events = POLLIN };
	char sink[256];

	/* Replies that are still in the socket come before the end of it. */
	while (poll(&p, 1, timeout_ms) > 0) {
		ssize_t n = recv(c->sock, sink, sizeof(sink), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return true;
	}
	return false;
}

bool vuc_alive(struct vuc *c)
{
	uint64_t features;

	return vuc_query_u64(c, VUC_GET_FEATURES, &features) == 0;
}
