/* SPDX-License-Identifier: Apache-2.0 */
/* Set-up of a device: negotiation, memory, queues, in the order QEMU does it. See vuc.h. */
#include "vuc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER 2u
#define STATUS_DRIVER_OK 4u
#define STATUS_FEATURES_OK 8u

int vuc_init(struct vuc *c, const struct vuc_config *cfg)
{
	int n;

	memset(c, 0, sizeof(*c));
	c->sock = -1;
	c->backend_sock = -1;
	c->inflight_fd = -1;
	c->log_fd = -1;
	for (unsigned int i = 0; i < VUC_MAX_QUEUES; i++)
		c->queues[i].kick_fd = c->queues[i].call_fd = c->queues[i].err_fd = -1;
	if (cfg)
		c->cfg = *cfg;
	if (!c->cfg.queues)
		c->cfg.queues = 2;
	if (!c->cfg.queue_size)
		c->cfg.queue_size = 128;
	if (!c->cfg.indirect_max)
		c->cfg.indirect_max = 64;
	if (!c->cfg.mem_size)
		c->cfg.mem_size = 16 << 20;
	if (!c->cfg.timeout_ms)
		c->cfg.timeout_ms = 10000;
	if (c->cfg.queues > VUC_MAX_QUEUES)
		return -EINVAL;
	n = vuc_region_create(c, c->cfg.mem_size, 0);
	return n < 0 ? n : 0;
}

static uint64_t wanted_features(const struct vuc_config *cfg)
{
	uint64_t f = VUC_BIT(VIRTIO_F_VERSION_1);

	if (!cfg->no_protocol_features)
		f |= VUC_BIT(VUC_F_PROTOCOL_FEATURES);
	if (cfg->packed)
		f |= VUC_BIT(VIRTIO_F_RING_PACKED);
	if (cfg->indirect)
		f |= VUC_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	if (cfg->event_idx)
		f |= VUC_BIT(VIRTIO_RING_F_EVENT_IDX);
	if (cfg->log_all)
		f |= VUC_BIT(VUC_F_LOG_ALL);
	return f;
}

static uint64_t wanted_protocol_features(const struct vuc_config *cfg)
{
	uint64_t f = VUC_BIT(VUC_PF_MQ) | VUC_BIT(VUC_PF_REPLY_ACK) | VUC_BIT(VUC_PF_CONFIG) |
		     VUC_BIT(VUC_PF_LOG_SHMFD) | VUC_BIT(VUC_PF_RESET_DEVICE);

	if (cfg->mem_slots)
		f |= VUC_BIT(VUC_PF_CONFIGURE_MEM_SLOTS);
	if (cfg->inflight)
		f |= VUC_BIT(VUC_PF_INFLIGHT_SHMFD);
	if (cfg->status)
		f |= VUC_BIT(VUC_PF_STATUS);
	if (cfg->window)
		f |= VUC_BIT(VUC_PF_SHMEM);
	if (cfg->backend_req || cfg->window)
		f |= VUC_BIT(VUC_PF_BACKEND_REQ) | VUC_BIT(VUC_PF_BACKEND_SEND_FD);
	return f;
}

static int backend_channel(struct vuc *c)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	err = vuc_request(c, VUC_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		c->backend_sock = pair[0];
	return err;
}

int vuc_negotiate(struct vuc *c)
{
	int err;

	c->protocol_features = 0;
	err = vuc_query_u64(c, VUC_GET_FEATURES, &c->offered);
	if (err)
		return err;
	c->features = c->offered & wanted_features(&c->cfg);
	c->max_queues = c->cfg.queues;
	if (c->features & VUC_BIT(VUC_F_PROTOCOL_FEATURES)) {
		uint64_t pf;

		err = vuc_query_u64(c, VUC_GET_PROTOCOL_FEATURES, &c->offered_pf);
		if (err)
			return err;
		pf = c->offered_pf & wanted_protocol_features(&c->cfg);
		/* Sent before it counts: nothing acknowledges the message that turns that on. */
		err = vuc_set_u64(c, VUC_SET_PROTOCOL_FEATURES, pf);
		c->protocol_features = pf;
		if (!err && (pf & VUC_BIT(VUC_PF_MQ)))
			err = vuc_query_u64(c, VUC_GET_QUEUE_NUM, &c->max_queues);
		if (!err && (pf & VUC_BIT(VUC_PF_CONFIGURE_MEM_SLOTS)))
			err = vuc_query_u64(c, VUC_GET_MAX_MEM_SLOTS, &c->max_slots);
		if (!err && (pf & VUC_BIT(VUC_PF_BACKEND_REQ)))
			err = backend_channel(c);
	}
	if (!err)
		err = vuc_request(c, VUC_SET_OWNER, NULL, 0, NULL, 0);
	return err;
}

/* One region for the life of the device, whichever back end is connected to it. */
static int start_inflight(struct vuc *c)
{
	struct vuc_inflight_msg want = {
		.num_queues = (uint16_t)c->cfg.queues,
		.queue_size = (uint16_t)c->cfg.queue_size,
	};

	if (c->inflight_fd < 0) {
		uint8_t raw[sizeof(struct vuc_hdr) + sizeof(want)];
		struct vuc_hdr hdr = { .request = VUC_GET_INFLIGHT_FD,
				       .flags = VUC_VERSION,
				       .size = sizeof(want) };
		int fds[VUC_MAX_FDS];
		size_t nfds;
		struct vuc_msg reply;
		int err;

		memcpy(raw, &hdr, sizeof(hdr));
		memcpy(raw + sizeof(hdr), &want, sizeof(want));
		err = vuc_send_raw(c, raw, sizeof(raw), NULL, 0);
		if (!err)
			err = vuc_recv(c, &reply, fds, &nfds);
		if (err)
			return err;
		if (reply.hdr.request != VUC_GET_INFLIGHT_FD || nfds != 1 ||
		    reply.hdr.size < offsetof(struct vuc_inflight_msg, padding) ||
		    reply.u.inflight.mmap_size == 0) {
			for (size_t i = 0; i < nfds; i++)
				close(fds[i]);
			return -EPROTO;
		}
		c->inflight_fd = fds[0];
		c->inflight = reply.u.inflight;
	}
	c->inflight.num_queues = want.num_queues;
	c->inflight.queue_size = want.queue_size;
	return vuc_request(c, VUC_SET_INFLIGHT_FD, &c->inflight, sizeof(c->inflight),
			   &c->inflight_fd, 1);
}

static int start_memory(struct vuc *c)
{
	int err = 0;

	if (!(c->protocol_features & VUC_BIT(VUC_PF_CONFIGURE_MEM_SLOTS)))
		return vuc_mem_table(c);
	for (unsigned int n = 0; !err && n < VUC_MAX_REGIONS; n++)
		if (c->regions[n].map)
			err = vuc_region_add(c, n);
	return err;
}

static int set_status(struct vuc *c, uint64_t status)
{
	if (!(c->protocol_features & VUC_BIT(VUC_PF_STATUS)))
		return 0;
	return vuc_set_u64(c, VUC_SET_STATUS, status);
}

int vuc_start(struct vuc *c)
{
	uint64_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
	int err;

	if (c->cfg.queues > c->max_queues)
		return -ENODEV;
	err = set_status(c, status);
	if (!err && (c->protocol_features & VUC_BIT(VUC_PF_INFLIGHT_SHMFD)))
		err = start_inflight(c);
	if (!err)
		err = vuc_set_u64(c, VUC_SET_FEATURES, c->features);
	if (!err)
		err = set_status(c, status | STATUS_FEATURES_OK);
	if (!err)
		err = start_memory(c);
	for (unsigned int i = 0; !err && i < c->cfg.queues; i++) {
		/* A ring that exists goes on where it is: this is a reconnect. */
		if (!c->queues[i].slots)
			err = vuc_queue_setup(c, i);
		if (!err) {
			c->nqueues = i + 1;
			err = vuc_queue_start(c, i);
		}
	}
	if (!err)
		err = set_status(c, status | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	return err;
}

int vuc_open(struct vuc *c, const char *path, const struct vuc_config *cfg)
{
	int err = vuc_init(c, cfg);

	if (!err)
		err = vuc_connect(c, path, 5000);
	if (!err)
		err = vuc_negotiate(c);
	if (!err)
		err = vuc_start(c);
	if (err)
		vuc_close(c);
	return err;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vuc_disconnect(struct vuc *c)
{
	close_fd(&c->sock);
	close_fd(&c->backend_sock);
	c->protocol_features = 0;
	for (unsigned int n = 0; n < VUC_MAX_REGIONS; n++)
		c->regions[n].shared = false;
}

void vuc_close(struct vuc *c)
{
	vuc_disconnect(c);
	for (unsigned int i = 0; i < VUC_MAX_QUEUES; i++) {
		struct vuc_queue *q = &c->queues[i];

		close_fd(&q->kick_fd);
		close_fd(&q->call_fd);
		close_fd(&q->err_fd);
		free(q->slots);
		q->slots = NULL;
	}
	for (unsigned int n = 0; n < VUC_MAX_REGIONS; n++)
		vuc_region_destroy(c, n);
	if (c->log)
		munmap(c->log, c->log_size);
	c->log = NULL;
	close_fd(&c->log_fd);
	close_fd(&c->inflight_fd);
}
