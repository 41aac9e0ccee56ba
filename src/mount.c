/* SPDX-License-Identifier: Apache-2.0 */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/workers.h"
#include "fuse/session.h"
#include "storage.h"
#include "virtio/device.h"

/* How long a stopping queue waits for a storage that does not answer. */
#define MOUNT_DRAIN_TIMEOUT_MS 10000

struct mount {
	struct loop *loop;
	int listen_fd;
	struct loop_fd listen_entry; /* watched while no front end is attached */
	bool listening;
	struct virtio_device_ops device_ops;
	struct virtio_device *device;
	struct fuse_session *session;
	struct storage *storage;
	struct workers *workers;
};

static void mount_request_done(void *arg, size_t written)
{
	virtio_req_complete(arg, written);
}

static void mount_request(void *ctx, struct virtio_req *req)
{
	struct mount *m = ctx;

	fuse_session_request(m->session, req->priv, req->begun_ns, req->in, req->in_count, req->out,
			     req->out_count, mount_request_done, req);
}

static void mount_interrupt(void *ctx)
{
	struct mount *m = ctx;

	fuse_session_interrupt(m->session);
}

static void mount_listen(struct mount *m);

static void mount_detached(void *ctx)
{
	struct mount *m = ctx;

	fuse_session_reset(m->session);
	log_info("guest_disconnected", "fd=%d", m->listen_fd);
	mount_listen(m);
}

/*
 * #syscalls accept4 setsockopt getsockopt
 */
static void mount_accept(struct loop_fd *entry, uint32_t events)
{
	struct mount *m = container_of(entry, struct mount, listen_entry);
	int ret, fd;

	(void)events;
	fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0) {
		static struct log_limit limit;

		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_limited(&limit, LOG_LEVEL_WARN, "accept_failed", "error=\"%s\"",
				    strerror(errno));
		return;
	}
	/* The next front end waits in the backlog until this one goes. */
	loop_fd_remove(m->loop, &m->listen_entry);
	m->listening = false;
	ret = virtio_device_attach(m->device, fd);
	if (ret < 0) {
		log_warn("attach_failed", "error=\"%s\"", strerror(-ret));
		mount_listen(m);
		return;
	}
	log_info("guest_connected", "fd=%d", m->listen_fd);
}

static void mount_listen(struct mount *m)
{
	int ret;

	if (m->listening || m->listen_fd < 0)
		return;
	ret = loop_fd_add(m->loop, &m->listen_entry, m->listen_fd, EPOLLIN, mount_accept);
	if (ret < 0)
		log_error("listen_failed", "error=\"%s\"", strerror(-ret));
	else
		m->listening = true;
}

static struct err *mount_open_device(struct mount *m, const struct ovfs_mount *config)
{
	struct virtio_device_config device_config = {
		.name = config->socket.tag ? config->socket.tag : "ovfs",
		.tag = config->socket.tag,
		.num_request_queues = config->socket.num_request_queues,
		.poll_us = config->socket.poll_us,
		.drain_timeout_ms = MOUNT_DRAIN_TIMEOUT_MS,
	};

	m->session = fuse_session_new(storage_fs(m->storage), config->fuse.max_write);
	if (!m->session)
		return err_errno(ENOMEM, "FUSE session");
	m->device_ops = (struct virtio_device_ops){
		.priv_size = fuse_request_size(),
		.request = mount_request,
		.interrupt = mount_interrupt,
		.detached = mount_detached,
	};
	return virtio_device_new(&m->device, &device_config, &m->device_ops, m, m->loop);
}

struct err *mount_new(struct mount **out, const struct ovfs_config *config,
		      const struct ovfs_mount *mount, struct loop *loop, int listen_fd, int root_fd,
		      int proc_self_fd)
{
	struct mount *m = calloc(1, sizeof(*m));
	struct err *e;

	if (!m) {
		close(listen_fd);
		if (root_fd >= 0)
			close(root_fd);
		return err_errno(ENOMEM, "mount");
	}
	m->loop = loop;
	m->listen_fd = listen_fd;
	e = workers_new(&m->workers, "ovfs", mount->worker.threads);
	if (!e)
		e = storage_new(&m->storage, config, mount, m->workers, root_fd, proc_self_fd);
	else if (root_fd >= 0)
		close(root_fd);
	if (!e)
		e = mount_open_device(m, mount);
	if (e) {
		mount_free(m);
		return e;
	}
	mount_listen(m);
	*out = m;
	return NULL;
}

void mount_log(struct mount *m)
{
	storage_log(m->storage);
}

unsigned mount_free(struct mount *m)
{
	unsigned left;

	if (!m)
		return 0;
	if (m->listening)
		loop_fd_remove(m->loop, &m->listen_entry);
	m->listening = false;
	close(m->listen_fd);
	m->listen_fd = -1;
	if (m->device)
		virtio_device_halt(m->device);
	left = m->storage ? storage_settle(m->storage) : 0;
	if (left)
		return left;
	if (m->device)
		virtio_device_free(m->device);
	if (m->session)
		fuse_session_free(m->session);
	workers_free(m->workers);
	left = storage_free(m->storage);
	free(m);
	return left;
}
