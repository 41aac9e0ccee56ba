/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the vhost-user protocol on their socket: framing, descriptors in
 * the ancillary data, replies. What they mean is vhost_user.c's business.
 *
 * The receiving side never waits: it takes what the socket has and keeps an
 * unfinished message until more comes, so that a front end that stops in the
 * middle of one holds nothing up. It never reads past the end of a message,
 * because descriptors belong to the message whose bytes they came with.
 *
 * Descriptors received belong to the message; vhost_user_msg_take_fd() moves
 * one to the caller, vhost_user_msg_release() closes the rest.
 *
 * One thread at a time (the control thread).
 */
#ifndef OVFS_VIRTIO_VHOST_USER_MSG_H
#define OVFS_VIRTIO_VHOST_USER_MSG_H

#include <stdbool.h>

#include "virtio/vhost_user.h"

/* A longer body ends the connection. Far above any message there is: what a newer front
 * end appends to a structure is read and ignored. */
#define VHOST_USER_BODY_MAX 65536

/* How long a reply waits for a front end that does not read its socket. */
#define VHOST_USER_SEND_TIMEOUT_MS 5000

struct vhost_user_msg {
	struct vhost_user_header header;
	union vhost_user_body body; /* zero beyond header.size */
	int fds[VHOST_USER_FDS_MAX];
	unsigned fd_count;
};

struct vhost_user_receiver {
	struct vhost_user_msg msg;
	size_t received; /* bytes of the current message, header included */
};

void vhost_user_receiver_init(struct vhost_user_receiver *receiver);

/*
 * Reads on from non-blocking socket @fd. 1: receiver->msg is complete, to be
 * ended with vhost_user_msg_release() before the next call. -EAGAIN: no whole
 * message yet. -ECONNRESET: the front end closed the connection. -EPROTO: what
 * came is no message (*@reason says why). Others: the socket failed. After an
 * error other than -EAGAIN only vhost_user_msg_release() is of use.
 */
int vhost_user_receive(struct vhost_user_receiver *receiver, int fd, const char **reason);

/* Ownership of descriptor @i, -1 when there is none (any more). */
int vhost_user_msg_take_fd(struct vhost_user_msg *msg, unsigned i);

/* Closes the descriptors that were not taken and makes ready for the next message. */
void vhost_user_msg_release(struct vhost_user_receiver *receiver);

/*
 * Answers @request with @size bytes at @body and, when @attach >= 0, that
 * descriptor (which stays the caller's). Negative errno when the front end is
 * gone or did not read for VHOST_USER_SEND_TIMEOUT_MS.
 */
int vhost_user_reply(int fd, const struct vhost_user_header *request, const void *body, size_t size,
		     int attach);

#endif
