/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user messages: the table of what there is, the checks that all have
 * in common, and the handlers of features, status and configuration. Those of
 * rings and of memory are in vhost_vring.c and vhost_memory.c.
 *
 * A message that is refused changes nothing (but for a ring that broke by it),
 * its descriptors are closed, and the front end learns of it if it asked for a
 * reply; it is the front end's business to go on or to give up. Only where it
 * waits for data that there is none of does the connection end.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio/device_priv.h"

#define BIT(n) (1ull << (n))

/* VIRTIO_F_IN_ORDER and VIRTIO_F_ACCESS_PLATFORM are not offered: requests are
 * completed in any order, and there is no IOTLB. */
#define OFFERED_FEATURES                                                                           \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                              \
	 BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_RING_PACKED) |                                \
	 BIT(VHOST_USER_VIRTIO_F_RING_RESET) | BIT(VHOST_F_LOG_ALL) |                              \
	 BIT(VHOST_USER_F_PROTOCOL_FEATURES))

#define OFFERED_PROTOCOL_FEATURES                                                                  \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) |                    \
	 BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |           \
	 BIT(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) | BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |  \
	 BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                                 \
	 BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT(VHOST_USER_PROTOCOL_F_STATUS))

/* What the window takes: to ask, with a descriptor, and to know that it was done. */
#define WINDOW_FEATURES                                                                            \
	(BIT(VHOST_USER_PROTOCOL_F_SHMEM) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |               \
	 BIT(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK))

/* virtio 1.3, 5.11.4. */
struct fs_config {
	char tag[VIRTIO_FS_TAG_MAX];
	uint32_t num_request_queues; /* little-endian */
	uint32_t notify_buf_size;    /* 0: no VIRTIO_FS_F_NOTIFICATION */
};
static_assert(sizeof(struct fs_config) == 44, "virtio-fs configuration space");

static uint64_t offered_protocol_features(const struct virtio_device *device)
{
	uint64_t features = OFFERED_PROTOCOL_FEATURES;

	/* QEMU 7.1 to 8.0 ends itself when vhost-user-fs offers CONFIG unasked, so the
	 * offer follows the presence of a tag. */
	if (device->config.tag)
		features |= BIT(VHOST_USER_PROTOCOL_F_CONFIG);
	if (device->config.window_size)
		features |= BIT(VHOST_USER_PROTOCOL_F_SHMEM);
	return features;
}

/* ---- Features ---- */

static int answer_u64(struct vhost_user_answer *answer, uint64_t value)
{
	answer->body.u64 = value;
	answer->size = sizeof(value);
	return 0;
}

static int get_features(struct virtio_device *device, struct vhost_user_msg *msg,
			struct vhost_user_answer *answer)
{
	(void)device;
	(void)msg;
	return answer_u64(answer, OFFERED_FEATURES);
}

static int set_features(struct virtio_device *device, struct vhost_user_msg *msg,
			struct vhost_user_answer *answer)
{
	const uint64_t features = msg->body.u64;
	int err;

	(void)answer;
	if (features & ~OFFERED_FEATURES)
		return -EINVAL;
	device->state.features = features;
	err = device_reopen_inflight(device);
	for (unsigned i = 0; i < device->queue_count; i++) {
		int queue_err = queue_set_features(device->queues[i], features);

		if (!err)
			err = queue_err;
	}
	return err;
}

static int get_protocol_features(struct virtio_device *device, struct vhost_user_msg *msg,
				 struct vhost_user_answer *answer)
{
	(void)msg;
	return answer_u64(answer, offered_protocol_features(device));
}

static int set_protocol_features(struct virtio_device *device, struct vhost_user_msg *msg,
				 struct vhost_user_answer *answer)
{
	(void)answer;
	if (msg->body.u64 & ~offered_protocol_features(device))
		return -EINVAL;
	device->state.protocol_features = msg->body.u64;
	atomic_store(&device->has_window, (msg->body.u64 & WINDOW_FEATURES) == WINDOW_FEATURES);
	return 0;
}

static int get_queue_num(struct virtio_device *device, struct vhost_user_msg *msg,
			 struct vhost_user_answer *answer)
{
	(void)msg;
	return answer_u64(answer, device->queue_count);
}

/* ---- Life of the device ---- */

static int set_owner(struct virtio_device *device, struct vhost_user_msg *msg,
		     struct vhost_user_answer *answer)
{
	(void)device;
	(void)msg;
	(void)answer;
	return 0; /* a connection has one owner: the other end of its socket */
}

/* Deprecated; the specification has it disable all rings. */
static int reset_owner(struct virtio_device *device, struct vhost_user_msg *msg,
		       struct vhost_user_answer *answer)
{
	(void)msg;
	(void)answer;
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_set_enabled(device->queues[i], false);
	return 0;
}

static int reset_device(struct virtio_device *device, struct vhost_user_msg *msg,
			struct vhost_user_answer *answer)
{
	(void)msg;
	(void)answer;
	device_reset(device);
	return 0;
}

static int get_status(struct virtio_device *device, struct vhost_user_msg *msg,
		      struct vhost_user_answer *answer)
{
	(void)msg;
	return answer_u64(answer, device->state.status);
}

/* Status 0 is a reset (virtio 1.3, 2.4), and QEMU's way to pause; the file system
 * above is not told. */
static int set_status(struct virtio_device *device, struct vhost_user_msg *msg,
		      struct vhost_user_answer *answer)
{
	(void)answer;
	if (msg->body.u64 > UINT8_MAX)
		return -EINVAL;
	if (msg->body.u64 == 0)
		device_reset(device);
	device->state.status = (uint8_t)msg->body.u64;
	return 0;
}

/* What we ask the front end goes here. */
static int set_backend_req_fd(struct virtio_device *device, struct vhost_user_msg *msg,
			      struct vhost_user_answer *answer)
{
	int err = backend_channel_open(&device->backend, msg->fds[0]);

	(void)answer;
	if (!err)
		vhost_user_msg_take_fd(msg, 0);
	return err;
}

static int get_shmem_config(struct virtio_device *device, struct vhost_user_msg *msg,
			    struct vhost_user_answer *answer)
{
	(void)msg;
	memset(&answer->body.shmem_config, 0, sizeof(answer->body.shmem_config));
	answer->body.shmem_config.count = 1;
	answer->body.shmem_config.sizes[0] = device->config.window_size;
	answer->size = sizeof(answer->body.shmem_config);
	return 0;
}

/* ---- Configuration space ---- */

static void fill_config(const struct virtio_device *device, struct fs_config *space)
{
	memset(space, 0, sizeof(*space));
	memcpy(space->tag, device->tag, sizeof(space->tag));
	space->num_request_queues = htole32(device->config.num_request_queues);
}

/* True when the range that @config asks for lies in the configuration space. */
static bool config_range_valid(const struct vhost_user_config *config)
{
	return config->offset <= sizeof(struct fs_config) &&
	       config->size <= sizeof(struct fs_config) - config->offset;
}

static int get_config(struct virtio_device *device, struct vhost_user_msg *msg,
		      struct vhost_user_answer *answer)
{
	const struct vhost_user_config *ask = &msg->body.config;
	struct vhost_user_config *reply = &answer->body.config;
	struct fs_config space;

	reply->offset = ask->offset;
	reply->flags = ask->flags;
	/* A reply without data says no. */
	reply->size = config_range_valid(ask) ? ask->size : 0;
	answer->size = offsetof(struct vhost_user_config, data) + reply->size;
	fill_config(device, &space);
	if (reply->size)
		memcpy(reply->data, (char *)&space + ask->offset, reply->size);
	return 0;
}

/* All of it is read-only; migration may bring what is there already. */
static int set_config(struct virtio_device *device, struct vhost_user_msg *msg,
		      struct vhost_user_answer *answer)
{
	const struct vhost_user_config *config = &msg->body.config;
	struct fs_config space;

	(void)answer;
	if (!config_range_valid(config) ||
	    msg->header.size < offsetof(struct vhost_user_config, data) + config->size)
		return -EINVAL;
	fill_config(device, &space);
	if (config->flags != VHOST_USER_CONFIG_MIGRATION ||
	    memcmp(config->data, (char *)&space + config->offset, config->size) != 0)
		return -EPERM;
	return 0;
}

/* ---- The table ---- */

struct message_type {
	const char *name;
	vhost_user_handler *handle;
	uint64_t feature; /* protocol feature that it comes with, as a mask; 0: always */
	uint16_t body_min;
	uint8_t fds_min, fds_max;
	bool answers; /* the front end waits for data */
};

#define BODY(member) sizeof(((union vhost_user_body *)0)->member)
#define WITH(name) BIT(VHOST_USER_PROTOCOL_F_##name)

#define MESSAGE(name, function, ...) [VHOST_USER_##name] = { #name, function, __VA_ARGS__ }

static const struct message_type message_types[] = {
	MESSAGE(GET_FEATURES, get_features, .answers = true),
	MESSAGE(SET_FEATURES, set_features, .body_min = BODY(u64)),
	MESSAGE(SET_OWNER, set_owner, .answers = false),
	MESSAGE(RESET_OWNER, reset_owner, .answers = false),
	MESSAGE(SET_MEM_TABLE, vhost_set_mem_table,
		.body_min = offsetof(struct vhost_user_mem_table, regions),
		.fds_max = VHOST_USER_FDS_MAX),
	MESSAGE(SET_LOG_BASE, vhost_set_log_base, .body_min = BODY(u64), .fds_max = 1),
	MESSAGE(SET_LOG_FD, vhost_set_log_fd, .fds_min = 1, .fds_max = 1),
	MESSAGE(SET_VRING_NUM, vhost_set_vring_num, .body_min = BODY(state)),
	MESSAGE(SET_VRING_ADDR, vhost_set_vring_addr, .body_min = BODY(addr)),
	MESSAGE(SET_VRING_BASE, vhost_set_vring_base, .body_min = BODY(state)),
	MESSAGE(GET_VRING_BASE, vhost_get_vring_base, .body_min = BODY(state), .answers = true),
	MESSAGE(SET_VRING_KICK, vhost_set_vring_kick, .body_min = BODY(u64), .fds_max = 1),
	MESSAGE(SET_VRING_CALL, vhost_set_vring_call, .body_min = BODY(u64), .fds_max = 1),
	MESSAGE(SET_VRING_ERR, vhost_set_vring_err, .body_min = BODY(u64), .fds_max = 1),
	MESSAGE(GET_PROTOCOL_FEATURES, get_protocol_features, .answers = true),
	MESSAGE(SET_PROTOCOL_FEATURES, set_protocol_features, .body_min = BODY(u64)),
	MESSAGE(GET_QUEUE_NUM, get_queue_num, .feature = WITH(MQ), .answers = true),
	MESSAGE(SET_VRING_ENABLE, vhost_set_vring_enable, .body_min = BODY(state)),
	MESSAGE(SET_BACKEND_REQ_FD, set_backend_req_fd, .feature = WITH(BACKEND_REQ), .fds_min = 1,
		.fds_max = 1),
	MESSAGE(GET_CONFIG, get_config, .feature = WITH(CONFIG),
		.body_min = offsetof(struct vhost_user_config, data), .answers = true),
	MESSAGE(SET_CONFIG, set_config, .feature = WITH(CONFIG),
		.body_min = offsetof(struct vhost_user_config, data)),
	MESSAGE(GET_INFLIGHT_FD, vhost_get_inflight_fd, .feature = WITH(INFLIGHT_SHMFD),
		.body_min = VHOST_USER_INFLIGHT_MIN, .answers = true),
	MESSAGE(SET_INFLIGHT_FD, vhost_set_inflight_fd, .feature = WITH(INFLIGHT_SHMFD),
		.body_min = VHOST_USER_INFLIGHT_MIN, .fds_min = 1, .fds_max = 1),
	MESSAGE(RESET_DEVICE, reset_device, .feature = WITH(RESET_DEVICE)),
	MESSAGE(GET_MAX_MEM_SLOTS, vhost_get_max_mem_slots, .feature = WITH(CONFIGURE_MEM_SLOTS),
		.answers = true),
	MESSAGE(ADD_MEM_REG, vhost_add_mem_reg, .feature = WITH(CONFIGURE_MEM_SLOTS),
		.body_min = BODY(mem_single), .fds_min = 1, .fds_max = 1),
	/* A descriptor serves no purpose, but some front ends send one. */
	MESSAGE(REM_MEM_REG, vhost_rem_mem_reg, .feature = WITH(CONFIGURE_MEM_SLOTS),
		.body_min = BODY(mem_single), .fds_max = 1),
	MESSAGE(SET_STATUS, set_status, .feature = WITH(STATUS), .body_min = BODY(u64)),
	MESSAGE(GET_STATUS, get_status, .feature = WITH(STATUS), .answers = true),
	MESSAGE(GET_SHMEM_CONFIG, get_shmem_config, .feature = WITH(SHMEM), .answers = true),
};

/*
 * Features gate by what is offered, not by what was acknowledged: a front end
 * that uses a message of a feature it was offered has understood it, and some
 * send GET_QUEUE_NUM before they acknowledge MQ.
 */
static const struct message_type *find_type(const struct virtio_device *device, uint32_t request)
{
	const struct message_type *type;

	if (request >= ARRAY_SIZE(message_types))
		return NULL;
	type = &message_types[request];
	if (!type->handle || type->feature & ~offered_protocol_features(device))
		return NULL;
	return type;
}

static int handle(struct virtio_device *device, const struct message_type *type,
		  struct vhost_user_msg *msg, struct vhost_user_answer *answer)
{
	if (!type)
		return -EOPNOTSUPP;
	if (msg->header.size < type->body_min || msg->fd_count < type->fds_min ||
	    msg->fd_count > type->fds_max)
		return -EBADMSG;
	return type->handle(device, msg, answer);
}

static void log_refused(struct virtio_device *device, const struct message_type *type,
			const struct vhost_user_msg *msg, int err)
{
	log_limited(&device->log_limit, LOG_LEVEL_WARN, "vhost_user_message_refused",
		    "device=%s request=%u name=%s size=%u fds=%u error=\"%s\"", device->config.name,
		    msg->header.request, type ? type->name : "unknown", msg->header.size,
		    msg->fd_count, strerror(-err));
}

int vhost_user_dispatch(struct virtio_device *device, struct vhost_user_msg *msg)
{
	const struct message_type *type = find_type(device, msg->header.request);
	struct vhost_user_answer answer = { .fd = -1 };
	int err = handle(device, type, msg, &answer);

	if (err < 0) {
		log_refused(device, type, msg, err);
		if (type && type->answers) {
			log_limited(&device->log_limit, LOG_LEVEL_ERROR,
				    "vhost_user_protocol_error", "device=%s request=%s",
				    device->config.name, type->name);
			return -EPROTO;
		}
	}
	if (err < 0 || !answer.size) {
		if (!(msg->header.flags & VHOST_USER_FLAG_NEED_REPLY))
			return 0;
		answer.body.u64 = (uint64_t)(err < 0);
		answer.size = sizeof(answer.body.u64);
	}
	err = vhost_user_reply(device->sock, &msg->header, &answer.body, answer.size, answer.fd);
	if (answer.fd >= 0)
		close(answer.fd);
	if (err < 0)
		log_warn("vhost_user_reply_failed", "device=%s request=%u error=\"%s\"",
			 device->config.name, msg->header.request, strerror(-err));
	return err;
}
