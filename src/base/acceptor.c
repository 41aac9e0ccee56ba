/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls accept4 */
#include "base/acceptor.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"

#define AGAIN_NS 1000000000ull

static void acceptor_ready(struct loop_fd *entry, uint32_t events)
{
	struct acceptor *a = container_of(entry, struct acceptor, entry);
	static struct log_limit limit;
	int fd = accept4(entry->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0) {
		a->accepted(a, fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_limited(&limit, LOG_LEVEL_WARN, "accept_failed", "error=\"%s\"",
			    strerror(errno));
		loop_fd_remove(a->loop, entry);
		loop_timer_arm(a->loop, &a->again, AGAIN_NS);
	}
}

static int acceptor_watch(struct acceptor *a)
{
	return loop_fd_add(a->loop, &a->entry, a->entry.fd, EPOLLIN, acceptor_ready);
}

static void acceptor_again(struct loop_timer *timer)
{
	struct acceptor *a = container_of(timer, struct acceptor, again);

	if (acceptor_watch(a) < 0)
		loop_timer_arm(a->loop, timer, AGAIN_NS);
}

void acceptor_start(struct acceptor *a, struct loop *loop, int listen_fd,
		    void (*accepted)(struct acceptor *acceptor, int fd))
{
	int ret;

	if (a->loop)
		return;
	*a = (struct acceptor){ .loop = loop, .entry.fd = listen_fd, .accepted = accepted };
	loop_timer_init(&a->again, acceptor_again);
	ret = acceptor_watch(a);
	if (ret == 0)
		return;
	log_error("listen_failed", "error=\"%s\"", strerror(-ret));
	loop_timer_arm(a->loop, &a->again, AGAIN_NS);
}

void acceptor_stop(struct acceptor *a)
{
	if (!a->loop)
		return;
	if (list_empty(&a->again.link))
		loop_fd_remove(a->loop, &a->entry);
	loop_timer_disarm(&a->again);
	a->loop = NULL;
}
