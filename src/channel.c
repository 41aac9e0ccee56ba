/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls sendmsg recvmsg */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct err *channel_new(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return err_errno(errno, "socketpair");
	return NULL;
}

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
};

int channel_send(int channel, const struct channel_message *m, const int *fds)
{
	struct iovec iov = { .iov_base = (void *)m, .iov_len = sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control = { 0 };

	if (m->fd_count > CHANNEL_FDS_MAX)
		return -E2BIG;
	if (m->fd_count) {
		struct cmsghdr *header;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(m->fd_count * sizeof(int));
		header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(m->fd_count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, m->fd_count * sizeof(int));
	}
	return sendmsg(channel, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int channel_tell(int channel, enum channel_type type, const char *text)
{
	struct channel_message m = { .type = type };

	snprintf(m.text, sizeof(m.text), "%s", text ? text : "");
	return channel < 0 ? 0 : channel_send(channel, &m, NULL);
}

/* The descriptors of @msg, to @fds; how many. */
static unsigned take_fds(struct msghdr *msg, int *fds)
{
	unsigned count = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		count = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(h), count * sizeof(int));
	}
	return count;
}

int channel_receive(int channel, struct channel_message *m, int *fds)
{
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	union control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	unsigned count;
	ssize_t n;

	do
		n = recvmsg(channel, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	count = take_fds(&msg, fds);
	m->text[sizeof(m->text) - 1] = '\0';
	if ((size_t)n == sizeof(*m) && count == m->fd_count && !(msg.msg_flags & MSG_CTRUNC))
		return 0;
	while (count)
		close(fds[--count]);
	return -EPROTO;
}
