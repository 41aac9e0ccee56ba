/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user protocol as a back end sees it: numbers and structures, from
 * the specification (docs/interop/vhost-user.rst of QEMU). All integers are in
 * the host's byte order. struct vhost_vring_state and vhost_vring_addr are the
 * kernel's (linux/vhost_types.h).
 *
 * Nothing but definitions; included by src/virtio and its tests only.
 */
#ifndef OVFS_VIRTIO_VHOST_USER_H
#define OVFS_VIRTIO_VHOST_USER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/vhost_types.h>

/* --- header ----------------------------------------------------------------- */

#define VHOST_USER_VERSION 1u
#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_FLAG_REPLY (1u << 2)
#define VHOST_USER_FLAG_NEED_REPLY (1u << 3)

struct vhost_user_header {
	uint32_t request; /* enum vhost_user_request */
	uint32_t flags;
	uint32_t size; /* of the body that follows, bytes */
};
static_assert(sizeof(struct vhost_user_header) == 12, "vhost-user header");

/* --- feature bits ----------------------------------------------------------- */

/* Bit 30 of the virtio features: the protocol features below exist. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30
/* Bit 40, younger than Debian 12's linux/virtio_config.h. */
#define VHOST_USER_VIRTIO_F_RING_RESET 40

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10,
	VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
	VHOST_USER_PROTOCOL_F_SHMEM = 22, /* as QEMU 11.1 has it */
};

/* --- requests of the front end ---------------------------------------------- */

/* Numbers that are missing belong to features that are not offered. */
enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_LOG_BASE = 6,
	VHOST_USER_SET_LOG_FD = 7,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
	VHOST_USER_GET_SHMEM_CONFIG = 44, /* as QEMU 11.1 has it */
};

/* --- requests of the back end, on a channel of their own --------------------- */

enum vhost_user_backend_request {
	VHOST_USER_BACKEND_SHMEM_MAP = 9, /* with the descriptor to map */
	VHOST_USER_BACKEND_SHMEM_UNMAP = 10,
};

/* --- bodies ----------------------------------------------------------------- */

/* SET_VRING_KICK, CALL, ERR: a u64 with the queue in its low byte. */
#define VHOST_USER_VRING_INDEX_MASK 0xffu
#define VHOST_USER_VRING_NOFD (1u << 8) /* no descriptor is attached: poll */

/* Regions of one SET_MEM_TABLE, and descriptors that one message carries. */
#define VHOST_USER_MEM_TABLE_MAX 8
#define VHOST_USER_FDS_MAX 8

/* The most regions with CONFIGURE_MEM_SLOTS: what vhost in the kernel and libvhost-user
 * tell too, 512 slots of QEMU less some that it uses for itself. */
#define VHOST_USER_MEM_SLOTS_MAX 509

struct vhost_user_mem_region {
	uint64_t guest_addr; /* guest physical */
	uint64_t size;
	uint64_t user_addr; /* in the front end's address space; rings are given so */
	uint64_t mmap_offset;
};

struct vhost_user_mem_table {
	uint32_t count;
	uint32_t padding;
	struct vhost_user_mem_region regions[VHOST_USER_MEM_TABLE_MAX];
};

struct vhost_user_mem_single {
	uint64_t padding;
	struct vhost_user_mem_region region;
};

struct vhost_user_log {
	uint64_t size;
	uint64_t offset; /* in the file */
};

#define VHOST_USER_CONFIG_MAX 256
#define VHOST_USER_CONFIG_WRITABLE 0u
#define VHOST_USER_CONFIG_MIGRATION 1u

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_CONFIG_MAX]; /* the first size bytes of it are sent */
};

struct vhost_user_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding; /* of QEMU's structure; not in the specification's table */
};
/* The least that a body may have: without the padding. */
#define VHOST_USER_INFLIGHT_MIN offsetof(struct vhost_user_inflight, padding)

/* GET_SHMEM_CONFIG: the sizes of the device's shared memory regions, by their id. */
#define VHOST_USER_SHMEM_REGIONS_MAX 256

struct vhost_user_shmem_config {
	uint32_t count; /* of regions with a size that is not 0 */
	uint32_t padding;
	uint64_t sizes[VHOST_USER_SHMEM_REGIONS_MAX];
};

/* SHMEM_MAP and SHMEM_UNMAP. */
#define VHOST_USER_MMAP_WRITABLE (1ull << 0)

struct vhost_user_mmap {
	uint8_t region;
	uint8_t padding[7];
	uint64_t fd_offset;
	uint64_t shm_offset; /* in the region */
	uint64_t length;
	uint64_t flags;
};

union vhost_user_body {
	uint64_t u64;
	struct vhost_vring_state state;
	struct vhost_vring_addr addr;
	struct vhost_user_mem_table mem_table;
	struct vhost_user_mem_single mem_single;
	struct vhost_user_log log;
	struct vhost_user_config config;
	struct vhost_user_inflight inflight;
	struct vhost_user_shmem_config shmem_config;
};

static_assert(sizeof(struct vhost_vring_state) == 8, "vring state");
static_assert(sizeof(struct vhost_vring_addr) == 40, "vring address");
static_assert(sizeof(struct vhost_user_mem_table) == 8 + 8 * 32, "memory table");
static_assert(sizeof(struct vhost_user_mem_single) == 40, "memory region");
static_assert(sizeof(struct vhost_user_inflight) == 24, "inflight description");
static_assert(sizeof(struct vhost_user_shmem_config) == 2056, "shared memory regions");
static_assert(sizeof(struct vhost_user_mmap) == 40, "mapping");

#endif
