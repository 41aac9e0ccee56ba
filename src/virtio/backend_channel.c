/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls poll ppoll recvfrom recvmsg sendmsg getsockopt */
#include "virtio/backend_channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/util.h"

struct backend_message {
	struct vhost_user_header header;
	struct vhost_user_mmap mmap;
} __attribute__((packed));

static const char *request_name(uint32_t request)
{
	return request == VHOST_USER_BACKEND_SHMEM_MAP ? "SHMEM_MAP" : "SHMEM_UNMAP";
}

int backend_channel_init(struct backend_channel *ch, const char *name, unsigned timeout_ms)
{
	*ch = (struct backend_channel){ .name = name, .fd = -1 };
	ch->timeout_ms = timeout_ms ? timeout_ms : BACKEND_CHANNEL_TIMEOUT_MS;
	pthread_mutex_init(&ch->lock, NULL);
	ch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return ch->wake_fd < 0 ? -errno : 0;
}

void backend_channel_fini(struct backend_channel *ch)
{
	if (ch->fd >= 0)
		close(ch->fd);
	if (ch->wake_fd >= 0)
		close(ch->wake_fd);
	pthread_mutex_destroy(&ch->lock);
}

void backend_channel_hold(struct backend_channel *ch)
{
	if (!atomic_exchange(&ch->held, true))
		eventfd_write(ch->wake_fd, 1);
}

void backend_channel_release(struct backend_channel *ch)
{
	eventfd_t value;

	if (!atomic_load(&ch->held))
		return;
	eventfd_read(ch->wake_fd, &value);
	atomic_store(&ch->held, false);
}

void backend_channel_close(struct backend_channel *ch)
{
	backend_channel_hold(ch);
	pthread_mutex_lock(&ch->lock);
	if (ch->fd >= 0)
		close(ch->fd);
	ch->fd = -1;
	ch->broken = ch->owed = ch->undo = false;
	ch->received = 0;
	pthread_mutex_unlock(&ch->lock);
	backend_channel_release(ch);
}

int backend_channel_open(struct backend_channel *ch, int fd)
{
	int type;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return -EINVAL;
	backend_channel_close(ch);
	pthread_mutex_lock(&ch->lock);
	ch->fd = fd;
	pthread_mutex_unlock(&ch->lock);
	return 0;
}

/* ---- One exchange; under the lock ---- */

static int channel_break(struct backend_channel *ch, const char *reason)
{
	ch->broken = true;
	log_limited(&ch->log_limit, LOG_LEVEL_ERROR, "backend_channel_broken",
		    "device=%s reason=\"%s\"", ch->name, reason);
	return -EIO;
}

/* Waits for @events on the socket. 0, -EAGAIN when held, -EIO at @deadline_ns. */
static int channel_wait(struct backend_channel *ch, short events, uint64_t deadline_ns)
{
	struct pollfd p[2] = {
		{ .fd = ch->fd, .events = events },
		{ .fd = ch->wake_fd, .events = POLLIN },
	};

	for (;;) {
		uint64_t now = loop_now_ns();
		int n;

		if (now >= deadline_ns)
			return channel_break(ch, "the front end does not answer");
		/* Rounded up, so that it does not spin through the last millisecond. */
		n = poll(p, ARRAY_SIZE(p), (int)((deadline_ns - now + 999999) / 1000000));
		if (n < 0 && errno != EINTR)
			return channel_break(ch, strerror(errno));
		if (n <= 0)
			continue;
		if (p[0].revents)
			return 0;
		return -EAGAIN;
	}
}

static int channel_send(struct backend_channel *ch, const struct backend_message *message, int fd,
			uint64_t deadline_ns)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)message, sizeof(*message) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		mh.msg_control = control.space;
		mh.msg_controllen = sizeof(control.space);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
	}
	for (;;) {
		ssize_t n = sendmsg(ch->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		int err;

		if (n == (ssize_t)sizeof(*message))
			return 0;
		/* So short a message goes as a whole or not at all. */
		if (n >= 0)
			return channel_break(ch, "a message was cut");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return channel_break(ch, strerror(errno));
		err = channel_wait(ch, POLLOUT, deadline_ns);
		if (err < 0)
			return err;
	}
}

/* The reply to @request: 0 or, refused, 1. Negative errno as channel_wait(). */
static int channel_receive(struct backend_channel *ch, uint32_t request, uint64_t deadline_ns)
{
	struct vhost_user_header header;
	uint64_t result;

	while (ch->received < sizeof(ch->reply)) {
		/* Descriptors that come along find no room and are closed. */
		ssize_t n = recv(ch->fd, ch->reply + ch->received, sizeof(ch->reply) - ch->received,
				 MSG_DONTWAIT);
		int err;

		if (n > 0) {
			ch->received += (size_t)n;
			continue;
		}
		if (n == 0)
			return channel_break(ch, "the front end closed it");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return channel_break(ch, strerror(errno));
		err = channel_wait(ch, POLLIN, deadline_ns);
		if (err < 0)
			return err;
	}
	ch->received = 0;
	memcpy(&header, ch->reply, sizeof(header));
	memcpy(&result, ch->reply + sizeof(header), sizeof(result));
	if (header.request != request || header.size != sizeof(result) ||
	    (header.flags & (VHOST_USER_VERSION_MASK | VHOST_USER_FLAG_REPLY)) !=
		    (VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY))
		return channel_break(ch, "not a reply to what was asked");
	return result ? 1 : 0;
}

/* As channel_receive(); when it is interrupted after it was sent, the reply is owed. */
static int channel_ask(struct backend_channel *ch, uint32_t request,
		       const struct vhost_user_mmap *mmap, int fd, uint64_t deadline_ns)
{
	const struct backend_message message = {
		.header = { .request = request,
			    .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY,
			    .size = sizeof(*mmap) },
		.mmap = *mmap,
	};
	int ret = channel_send(ch, &message, fd, deadline_ns);

	if (ret < 0)
		return ret;
	ret = channel_receive(ch, request, deadline_ns);
	if (ret == -EAGAIN) {
		ch->owed = true;
		ch->owed_request = request;
		ch->owed_mmap = *mmap;
		if (request == VHOST_USER_BACKEND_SHMEM_UNMAP)
			return 0; /* it will have been done before anything else is asked */
	}
	return ret;
}

/* Takes the reply that an interrupted exchange left behind, and undoes what it did; again, when
 * that is interrupted. */
static int channel_settle(struct backend_channel *ch, uint64_t deadline_ns)
{
	int ret;

	while (ch->owed || ch->undo) {
		if (ch->owed) {
			ret = channel_receive(ch, ch->owed_request, deadline_ns);
			if (ret < 0)
				return ret;
			ch->owed = false;
			ch->undo = ch->owed_request == VHOST_USER_BACKEND_SHMEM_MAP && ret == 0;
		} else {
			ret = channel_ask(ch, VHOST_USER_BACKEND_SHMEM_UNMAP, &ch->owed_mmap, -1,
					  deadline_ns);
			if (ret < 0)
				return ret;
			ch->undo = false;
		}
	}
	return 0;
}

static int channel_exchange(struct backend_channel *ch, uint32_t request,
			    const struct vhost_user_mmap *mmap, int fd)
{
	const uint64_t deadline_ns = loop_now_ns() + ch->timeout_ms * 1000000ull;
	int ret;

	pthread_mutex_lock(&ch->lock);
	if (ch->fd < 0) {
		ret = -ENOTCONN;
	} else if (ch->broken) {
		ret = -EIO;
	} else if (atomic_load(&ch->held)) {
		ret = -EAGAIN;
	} else {
		ret = channel_settle(ch, deadline_ns);
		if (ret == 0)
			ret = channel_ask(ch, request, mmap, fd, deadline_ns);
	}
	if (ret > 0) {
		log_limited(&ch->log_limit, LOG_LEVEL_WARN, "backend_request_refused",
			    "device=%s request=%s shm_offset=%llu length=%llu", ch->name,
			    request_name(request), (unsigned long long)mmap->shm_offset,
			    (unsigned long long)mmap->length);
		ret = -EIO;
	}
	pthread_mutex_unlock(&ch->lock);
	return ret;
}

int backend_channel_map(struct backend_channel *ch, int fd, uint64_t fd_offset, uint64_t shm_offset,
			uint64_t length, bool writable)
{
	const struct vhost_user_mmap mmap = {
		.fd_offset = fd_offset,
		.shm_offset = shm_offset,
		.length = length,
		.flags = writable ? VHOST_USER_MMAP_WRITABLE : 0,
	};

	return channel_exchange(ch, VHOST_USER_BACKEND_SHMEM_MAP, &mmap, fd);
}

int backend_channel_unmap(struct backend_channel *ch, uint64_t shm_offset, uint64_t length)
{
	const struct vhost_user_mmap mmap = { .shm_offset = shm_offset, .length = length };

	return channel_exchange(ch, VHOST_USER_BACKEND_SHMEM_UNMAP, &mmap, -1);
}
