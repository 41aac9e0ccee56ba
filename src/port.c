/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/acceptor.h"
#include "base/log.h"
#include "fuse/session.h"
#include "virtio/device.h"

/* How long a stopping queue waits for a storage that does not answer. */
#define PORT_DRAIN_TIMEOUT_MS 10000

/* How often a port that is to change looks whether all is saved that its last guest left. */
#define PORT_BUSY_POLL_NS 20000000ull

/* What a device is made from; owns its strings. */
struct settings {
	char *name; /* of threads */
	char *mount;
	char *tag;
	unsigned num_request_queues, poll_us;
	enum virtio_poll poll;
	uint32_t max_write;
	uint64_t window_size;
	bool window_copies;
	struct workers *workers;
};

struct port {
	struct list link;
	struct loop *loop;
	struct fs *fs;
	char *path;
	int listen_fd;
	struct acceptor listening; /* while no front end is attached */
	bool retired, halted;
	struct settings settings;
	struct settings pending; /* name is NULL: none */
	/* A device cannot be freed by its own callback. */
	struct loop_timer later;
	struct virtio_device_ops device_ops;
	struct virtio_device *device;
	struct fuse_session *session;
	struct observer *observer;
	unsigned number; /* for those who watch */
	struct observer_port *watched;
	const struct port_ops *ops;
	void *ctx;
};

static void settings_free(struct settings *s)
{
	free(s->name);
	free(s->mount);
	free(s->tag);
	*s = (struct settings){ 0 };
}

static bool settings_copy(struct settings *to, const struct port_config *config)
{
	*to = (struct settings){
		.name = strdup(config->tag ? config->tag : config->mount),
		.mount = strdup(config->mount),
		.tag = config->tag ? strdup(config->tag) : NULL,
		.num_request_queues = config->num_request_queues,
		.poll_us = config->poll_us,
		.poll = config->poll,
		.max_write = config->max_write,
		.window_size = config->window_size,
		.window_copies = config->window_copies,
		.workers = config->workers,
	};
	if (to->name && to->mount && (to->tag || !config->tag))
		return true;
	settings_free(to);
	return false;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool settings_equal(const struct settings *a, const struct port_config *b)
{
	return same_text(a->tag, b->tag) && a->num_request_queues == b->num_request_queues &&
	       a->poll_us == b->poll_us && a->poll == b->poll && a->max_write == b->max_write &&
	       a->window_size == b->window_size && a->window_copies == b->window_copies &&
	       a->workers == b->workers;
}

/* ---- Requests ---- */

static void port_request_done(void *arg, size_t written)
{
	virtio_req_complete(arg, written);
}

static void port_request(void *ctx, struct virtio_req *req)
{
	struct port *p = ctx;

	fuse_session_request(p->session, req->priv, req->begun_ns, req->in, req->in_count, req->out,
			     req->out_count, port_request_done, req);
}

static void port_interrupt(void *ctx)
{
	struct port *p = ctx;

	fuse_session_interrupt(p->session);
}

/* ---- Connections ---- */

static void port_listen(struct port *p);

static void port_detached(void *ctx)
{
	struct port *p = ctx;

	fuse_session_reset(p->session);
	observer_port_guest(p->watched, false);
	log_info("guest_disconnected", "socket=\"%s\"", p->path ? p->path : "inherited");
	if (p->halted)
		return;
	if (p->retired || p->pending.name)
		loop_timer_arm(p->loop, &p->later, 0);
	else
		port_listen(p);
}

static void port_accepted(struct acceptor *listening, int fd)
{
	struct port *p = container_of(listening, struct port, listening);
	int ret;

	/* The next front end waits in the backlog until this one goes. */
	acceptor_stop(&p->listening);
	ret = virtio_device_attach(p->device, fd);
	if (ret < 0) {
		log_warn("attach_failed", "error=\"%s\"", strerror(-ret));
		port_listen(p);
		return;
	}
	observer_port_guest(p->watched, true);
	log_info("guest_connected", "socket=\"%s\"", p->path ? p->path : "inherited");
}

static void port_listen(struct port *p)
{
	if (p->listen_fd >= 0)
		acceptor_start(&p->listening, p->loop, p->listen_fd, port_accepted);
}

static void port_unlisten(struct port *p)
{
	acceptor_stop(&p->listening);
	if (p->listen_fd >= 0)
		close(p->listen_fd);
	p->listen_fd = -1;
}

/* ---- The window ---- */

static bool port_window_ready(void *ctx)
{
	return virtio_device_has_window(((struct port *)ctx)->device);
}

static int port_window_map(void *ctx, int fd, uint64_t fd_offset, uint64_t window_offset,
			   uint64_t length, bool writable)
{
	return virtio_device_shmem_map(((struct port *)ctx)->device, fd, fd_offset, window_offset,
				       length, writable);
}

static int port_window_unmap(void *ctx, uint64_t window_offset, uint64_t length)
{
	return virtio_device_shmem_unmap(((struct port *)ctx)->device, window_offset, length);
}

/* ---- The device ---- */

static struct err *port_open_device(struct port *p)
{
	const struct settings *s = &p->settings;
	struct virtio_device_config config = {
		.name = s->name,
		.tag = s->tag,
		.num_request_queues = s->num_request_queues,
		.poll_us = s->poll_us,
		.poll = s->poll,
		.drain_timeout_ms = PORT_DRAIN_TIMEOUT_MS,
		/* Not every driver can fill one. */
		.window_size = p->fs->ops->window ? s->window_size : 0,
	};
	struct fuse_window_config window = {
		.size = config.window_size,
		.copies = s->window_copies,
		.ctx = p,
		.ready = port_window_ready,
		.map = port_window_map,
		.unmap = port_window_unmap,
	};
	struct err *e;

	p->session = fuse_session_new(p->fs, s->max_write);
	if (!p->session ||
	    (window.size && fuse_session_set_window(p->session, &window, s->workers) < 0))
		return err_errno(ENOMEM, "FUSE session");
	p->device_ops = (struct virtio_device_ops){
		.priv_size = fuse_request_size(),
		.request = port_request,
		.interrupt = port_interrupt,
		.detached = port_detached,
	};
	e = virtio_device_new(&p->device, &config, &p->device_ops, p, p->loop);
	if (!e)
		p->watched = observer_port_add(p->observer, p->number, p->device, p->session);
	return e;
}

static void port_close_device(struct port *p)
{
	observer_port_remove(p->watched);
	p->watched = NULL;
	virtio_device_free(p->device);
	p->device = NULL;
	if (p->session)
		fuse_session_free(p->session);
	p->session = NULL;
}

/* Another device in place of this one, as it is configured by now. */
static void port_renew(struct port *p)
{
	struct settings old = p->settings;
	struct virtio_device *device = p->device;
	struct fuse_session *session = p->session;
	struct observer_port *watched = p->watched;
	struct err *e;

	p->settings = p->pending;
	p->pending = (struct settings){ 0 };
	p->device = NULL;
	p->session = NULL;
	p->watched = NULL;
	e = port_open_device(p);
	if (!e) {
		observer_port_remove(watched);
		virtio_device_free(device);
		fuse_session_free(session);
		settings_free(&old);
		return;
	}
	log_error("port_not_changed", "error=\"%s\"", err_msg(e));
	err_free(e);
	port_close_device(p);
	settings_free(&p->settings);
	p->settings = old;
	p->device = device;
	p->session = session;
	p->watched = watched;
}

static void port_later(struct loop_timer *timer)
{
	struct port *p = container_of(timer, struct port, later);

	/* What its guest left may be with a storage that hangs, and other ports need this thread.
	 */
	if ((p->retired || p->pending.name) && !fuse_session_idle(p->session)) {
		acceptor_stop(&p->listening);
		loop_timer_arm(p->loop, &p->later, PORT_BUSY_POLL_NS);
		return;
	}
	if (p->retired) {
		p->ops->retired(p->ctx, p);
		return;
	}
	if (p->pending.name && !virtio_device_attached(p->device))
		port_renew(p);
	port_listen(p);
}

/* ---- Life ---- */

struct err *port_new(struct port **out, const struct port_config *config, const char *path,
		     int listen_fd, struct fs *fs, struct loop *loop, const struct port_ops *ops,
		     void *ctx)
{
	struct port *p = calloc(1, sizeof(*p));
	struct err *e = NULL;

	if (!p) {
		close(listen_fd);
		return err_errno(ENOMEM, "mount");
	}
	list_init(&p->link);
	loop_timer_init(&p->later, port_later);
	p->loop = loop;
	p->fs = fs;
	p->listen_fd = listen_fd;
	p->observer = config->observer;
	p->number = observer_take_number(p->observer);
	p->ops = ops;
	p->ctx = ctx;
	p->path = path ? strdup(path) : NULL;
	if (!settings_copy(&p->settings, config) || (path && !p->path))
		e = err_errno(ENOMEM, "mount");
	if (!e)
		e = port_open_device(p);
	if (e) {
		port_free(p);
		return e;
	}
	port_listen(p);
	*out = p;
	return NULL;
}

const char *port_path(const struct port *p)
{
	return p->path;
}

int port_listen_fd(const struct port *p)
{
	return p->listen_fd;
}

bool port_retired(const struct port *p)
{
	return p->retired;
}

void port_reconfigure(struct port *p, const struct port_config *config)
{
	settings_free(&p->pending);
	if (p->retired || settings_equal(&p->settings, config))
		return;
	if (!settings_copy(&p->pending, config)) {
		log_error("port_not_changed", "error=\"out of memory\"");
		return;
	}
	if (virtio_device_attached(p->device))
		log_info("applies_at_next_connection",
			 "socket=\"%s\" keys=\"tag, queues, poll, poll_us, max_write, "
			 "dax_settings\"",
			 p->path ? p->path : "inherited");
	else
		port_later(&p->later);
}

void port_retire(struct port *p)
{
	p->retired = true;
	port_unlisten(p);
	if (virtio_device_attached(p->device))
		log_info("socket_removed_under_guest",
			 "socket=\"%s\" effect=\"its guest is served until it leaves\"",
			 p->path ? p->path : "inherited");
	else
		loop_timer_arm(p->loop, &p->later, 0);
}

void port_halt(struct port *p)
{
	p->halted = true;
	loop_timer_disarm(&p->later);
	port_unlisten(p);
	virtio_device_halt(p->device);
	fuse_session_save_window(p->session);
}

void port_free(struct port *p)
{
	if (!p)
		return;
	p->halted = true;
	loop_timer_disarm(&p->later);
	port_unlisten(p);
	port_close_device(p);
	list_remove(&p->link);
	settings_free(&p->settings);
	settings_free(&p->pending);
	free(p->path);
	free(p);
}

struct list *port_link(struct port *p)
{
	return &p->link;
}

struct port *port_of_link(struct list *link)
{
	return container_of(link, struct port, link);
}
