/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user protocol as a front end sends it, written from the
 * specification (docs/interop/vhost-user.rst of QEMU). The daemon has its own
 * definitions; these are deliberately not shared with it, so that a wrong
 * number on either side shows up as a failed test instead of agreeing with
 * itself.
 */
#ifndef TESTS_FRONTEND_VUC_PROTO_H
#define TESTS_FRONTEND_VUC_PROTO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define VUC_VERSION 1u
#define VUC_FLAG_VERSION_MASK 3u
#define VUC_FLAG_REPLY (1u << 2)
#define VUC_FLAG_NEED_REPLY (1u << 3)

/* The longest array of descriptors that one message carries. */
#define VUC_MAX_FDS 8
#define VUC_MAX_REGIONS_TABLE 8

/* Bit 8 of the payload of SET_VRING_KICK, CALL, ERR: no descriptor is attached. */
#define VUC_VRING_NOFD (1u << 8)

/* Bit 30 of the virtio features: protocol features may be negotiated. */
#define VUC_F_PROTOCOL_FEATURES 30
#define VUC_F_LOG_ALL 26
#define VUC_VIRTIO_F_RING_RESET 40

enum vuc_protocol_feature {
	VUC_PF_MQ = 0,
	VUC_PF_LOG_SHMFD = 1,
	VUC_PF_REPLY_ACK = 3,
	VUC_PF_BACKEND_REQ = 5,
	VUC_PF_CONFIG = 9,
	VUC_PF_BACKEND_SEND_FD = 10,
	VUC_PF_INFLIGHT_SHMFD = 12,
	VUC_PF_RESET_DEVICE = 13,
	VUC_PF_CONFIGURE_MEM_SLOTS = 15,
	VUC_PF_STATUS = 16,
	VUC_PF_SHMEM = 22,
};

enum vuc_request {
	VUC_NONE = 0,
	VUC_GET_FEATURES = 1,
	VUC_SET_FEATURES = 2,
	VUC_SET_OWNER = 3,
	VUC_RESET_OWNER = 4,
	VUC_SET_MEM_TABLE = 5,
	VUC_SET_LOG_BASE = 6,
	VUC_SET_LOG_FD = 7,
	VUC_SET_VRING_NUM = 8,
	VUC_SET_VRING_ADDR = 9,
	VUC_SET_VRING_BASE = 10,
	VUC_GET_VRING_BASE = 11,
	VUC_SET_VRING_KICK = 12,
	VUC_SET_VRING_CALL = 13,
	VUC_SET_VRING_ERR = 14,
	VUC_GET_PROTOCOL_FEATURES = 15,
	VUC_SET_PROTOCOL_FEATURES = 16,
	VUC_GET_QUEUE_NUM = 17,
	VUC_SET_VRING_ENABLE = 18,
	VUC_SET_BACKEND_REQ_FD = 21,
	VUC_GET_CONFIG = 24,
	VUC_SET_CONFIG = 25,
	VUC_GET_INFLIGHT_FD = 31,
	VUC_SET_INFLIGHT_FD = 32,
	VUC_RESET_DEVICE = 34,
	VUC_VRING_KICK = 35,
	VUC_GET_MAX_MEM_SLOTS = 36,
	VUC_ADD_MEM_REG = 37,
	VUC_REM_MEM_REG = 38,
	VUC_SET_STATUS = 39,
	VUC_GET_STATUS = 40,
	VUC_GET_SHMEM_CONFIG = 44,
	VUC_REQUEST_END = 45, /* one past the last number any revision of the spec uses */
};

struct vuc_hdr {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload that follows, bytes */
};
static_assert(sizeof(struct vuc_hdr) == 12, "vhost-user header");

struct vuc_mem_region_msg {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	uint64_t mmap_offset;
};

struct vuc_mem_table_msg {
	uint32_t count;
	uint32_t padding;
	struct vuc_mem_region_msg regions[VUC_MAX_REGIONS_TABLE];
};

struct vuc_mem_single_msg {
	uint64_t padding;
	struct vuc_mem_region_msg region;
};

struct vuc_log_msg {
	uint64_t size;
	uint64_t offset;
};

struct vuc_config_msg {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[256];
};
#define VUC_CONFIG_HDR offsetof(struct vuc_config_msg, data)

struct vuc_inflight_msg {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding;
};

struct vuc_shmem_config_msg {
	uint32_t nregions;
	uint32_t padding;
	uint64_t sizes[256];
};
static_assert(sizeof(struct vuc_shmem_config_msg) == 2056, "shared memory regions");

/* What the back end sends on its own channel. */
enum vuc_backend_request {
	VUC_BACKEND_SHMEM_MAP = 9,
	VUC_BACKEND_SHMEM_UNMAP = 10,
};

#define VUC_MMAP_RW (1ull << 0)

struct vuc_mmap_msg {
	uint8_t shmid;
	uint8_t padding[7];
	uint64_t fd_offset;
	uint64_t shm_offset;
	uint64_t len;
	uint64_t flags;
};
static_assert(sizeof(struct vuc_mmap_msg) == 40, "mapping");

/* A message in memory: what was received, or what is about to be sent. */
struct vuc_msg {
	struct vuc_hdr hdr;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct vuc_mem_table_msg mem;
		struct vuc_mem_single_msg mem_one;
		struct vuc_log_msg log;
		struct vuc_config_msg config;
		struct vuc_inflight_msg inflight;
		struct vuc_shmem_config_msg shmem;
		uint8_t raw[4096];
	} u;
};

#endif
