/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepts the connections of a listening socket, on the thread of a loop. While there is no
 * descriptor or no memory for another connection, or to watch the socket, it is not looked at for a
 * second: a connection that cannot be accepted stays in the backlog, of which epoll tells without
 * end.
 */
#ifndef OVFS_BASE_ACCEPTOR_H
#define OVFS_BASE_ACCEPTOR_H

#include "base/loop.h"

/* Embedded in its owner; zeroed it is stopped. */
struct acceptor {
	struct loop *loop; /* NULL: stopped */
	struct loop_fd entry;
	struct loop_timer again; /* armed while the socket is not looked at */
	void (*accepted)(struct acceptor *acceptor, int fd);
};

/*
 * Calls @accepted for each connection of @listen_fd, which stays the caller's, with a descriptor
 * that blocks and is the callee's. It may stop @acceptor. Does nothing when it is started.
 */
void acceptor_start(struct acceptor *acceptor, struct loop *loop, int listen_fd,
		    void (*accepted)(struct acceptor *acceptor, int fd));

/* Before the descriptor is closed. Does nothing when it is stopped. */
void acceptor_stop(struct acceptor *acceptor);

#endif
