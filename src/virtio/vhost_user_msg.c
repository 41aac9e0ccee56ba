/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls poll ppoll recvmsg sendmsg */
#include "virtio/vhost_user_msg.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

union fd_control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)];
};

void vhost_user_receiver_init(struct vhost_user_receiver *receiver)
{
	memset(receiver, 0, sizeof(*receiver));
}

int vhost_user_msg_take_fd(struct vhost_user_msg *msg, unsigned i)
{
	int fd = -1;

	if (i < msg->fd_count) {
		fd = msg->fds[i];
		msg->fds[i] = -1;
	}
	return fd;
}

void vhost_user_msg_release(struct vhost_user_receiver *receiver)
{
	struct vhost_user_msg *msg = &receiver->msg;

	for (unsigned i = 0; i < msg->fd_count; i++) {
		if (msg->fds[i] >= 0)
			close(msg->fds[i]);
	}
	memset(msg, 0, sizeof(*msg));
	receiver->received = 0;
}

/* Moves the descriptors of @mh into @msg; false when there are too many. */
static bool collect_fds(struct vhost_user_msg *msg, struct msghdr *mh)
{
	bool fit = true;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		size_t count = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
			if (msg->fd_count < VHOST_USER_FDS_MAX) {
				msg->fds[msg->fd_count++] = fd;
			} else {
				close(fd);
				fit = false;
			}
		}
	}
	/* Also set when this process has no descriptor free. */
	return fit && !(mh->msg_flags & MSG_CTRUNC);
}

/* recvmsg() of up to @len bytes; the number of bytes, or as vhost_user_receive(). */
static ssize_t receive_some(struct vhost_user_msg *msg, int fd, void *buf, size_t len,
			    const char **reason)
{
	union fd_control control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	ssize_t n;

	do {
		n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (!collect_fds(msg, &mh)) {
		*reason = "descriptors do not fit";
		return -EPROTO;
	}
	return n > 0 ? n : -ECONNRESET;
}

static const char *header_fault(const struct vhost_user_header *header)
{
	if ((header->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		return "protocol version is not 1";
	if (header->flags & VHOST_USER_FLAG_REPLY)
		return "a reply where a request is due";
	if (header->size > VHOST_USER_BODY_MAX)
		return "body too long";
	return NULL;
}

int vhost_user_receive(struct vhost_user_receiver *receiver, int fd, const char **reason)
{
	struct vhost_user_msg *msg = &receiver->msg;
	const size_t head = sizeof(msg->header);

	for (;;) {
		char surplus[1024]; /* what the body has beyond our structures */
		size_t done = receiver->received, want;
		void *to;
		ssize_t n;

		if (done < head) {
			to = (char *)&msg->header + done;
			want = head - done;
		} else if (done < head + MIN((size_t)msg->header.size, sizeof(msg->body))) {
			to = (char *)&msg->body + (done - head);
			want = MIN((size_t)msg->header.size, sizeof(msg->body)) - (done - head);
		} else if (done < head + msg->header.size) {
			to = surplus;
			want = MIN(head + msg->header.size - done, sizeof(surplus));
		} else {
			return 1;
		}
		n = receive_some(msg, fd, to, want, reason);
		if (n < 0)
			return (int)n;
		receiver->received += (size_t)n;
		if (receiver->received == head) {
			*reason = header_fault(&msg->header);
			if (*reason)
				return -EPROTO;
		}
	}
}

static int wait_writable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int n;

	do {
		n = poll(&p, 1, VHOST_USER_SEND_TIMEOUT_MS);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

int vhost_user_reply(int fd, const struct vhost_user_header *request, const void *body, size_t size,
		     int attach)
{
	struct vhost_user_header header = {
		.request = request->request,
		.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
		.size = (uint32_t)size,
	};
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)body, size } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = size ? 2 : 1 };
	union fd_control control = { 0 };

	if (attach >= 0) {
		mh.msg_control = control.space;
		mh.msg_controllen = CMSG_SPACE(sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &attach, sizeof(int));
	}
	while (mh.msg_iovlen) {
		ssize_t n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			int err = wait_writable(fd);

			if (err < 0)
				return err;
			continue;
		}
		if (n < 0)
			return -errno;
		/* The descriptor went with the first byte. */
		mh.msg_control = NULL;
		mh.msg_controllen = 0;
		while (mh.msg_iovlen && (size_t)n >= mh.msg_iov->iov_len) {
			n -= (ssize_t)mh.msg_iov->iov_len;
			mh.msg_iov++;
			mh.msg_iovlen--;
		}
		if (mh.msg_iovlen) {
			mh.msg_iov->iov_base = (char *)mh.msg_iov->iov_base + n;
			mh.msg_iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}
