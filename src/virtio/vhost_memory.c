/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages that bring shared memory: the guest's, the dirty page log, the
 * inflight area. Each may come while requests run; what they use stays mapped
 * by reference until they are completed.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "virtio/device_priv.h"

static struct guest_region_desc region_desc(const struct vhost_user_mem_region *region)
{
	return (struct guest_region_desc){
		.gpa = region->guest_addr,
		.size = region->size,
		.uva = region->user_addr,
		.offset = region->mmap_offset,
	};
}

/* Makes @mem, whose reference it takes, the device's table. A ring that runs and is not in it keeps
 * what it has (virtq_set_mem()); the result is the first error of one that cannot start with it. */
static int device_set_mem(struct virtio_device *device, struct guest_mem *mem)
{
	int err = 0;

	for (unsigned i = 0; i < device->queue_count; i++) {
		int queue_err = queue_set_mem(device->queues[i], mem);

		if (!err)
			err = queue_err;
	}
	guest_mem_unref(device->mem);
	device->mem = mem;
	return err;
}

int vhost_set_mem_table(struct virtio_device *device, struct vhost_user_msg *msg,
			struct vhost_user_answer *answer)
{
	const struct vhost_user_mem_table *table = &msg->body.mem_table;
	struct guest_region_desc desc[VHOST_USER_MEM_TABLE_MAX];
	struct guest_mem *mem;
	int err;

	(void)answer;
	/* More slots than regions may be in the body: User-mode Linux always sends two. */
	if (table->count > VHOST_USER_MEM_TABLE_MAX || msg->fd_count != table->count ||
	    msg->header.size < offsetof(struct vhost_user_mem_table, regions[table->count]))
		return -EINVAL;
	for (unsigned i = 0; i < table->count; i++)
		desc[i] = region_desc(&table->regions[i]);
	err = guest_mem_new(&mem, desc, msg->fds, table->count);
	return err < 0 ? err : device_set_mem(device, mem);
}

int vhost_get_max_mem_slots(struct virtio_device *device, struct vhost_user_msg *msg,
			    struct vhost_user_answer *answer)
{
	(void)device;
	(void)msg;
	answer->body.u64 = GUEST_MEM_REGIONS_MAX;
	answer->size = sizeof(answer->body.u64);
	return 0;
}

int vhost_add_mem_reg(struct virtio_device *device, struct vhost_user_msg *msg,
		      struct vhost_user_answer *answer)
{
	const struct guest_region_desc desc = region_desc(&msg->body.mem_single.region);
	struct guest_mem *mem;
	int err;

	(void)answer;
	if (device->mem)
		err = guest_mem_add(&mem, device->mem, &desc, msg->fds[0]);
	else
		err = guest_mem_new(&mem, &desc, msg->fds, 1);
	return err < 0 ? err : device_set_mem(device, mem);
}

int vhost_rem_mem_reg(struct virtio_device *device, struct vhost_user_msg *msg,
		      struct vhost_user_answer *answer)
{
	const struct guest_region_desc desc = region_desc(&msg->body.mem_single.region);
	struct guest_mem *mem;
	int err;

	(void)answer;
	if (!device->mem)
		return -ENOENT;
	err = guest_mem_remove(&mem, device->mem, &desc);
	return err < 0 ? err : device_set_mem(device, mem);
}

static int device_set_log(struct virtio_device *device, const struct vhost_user_msg *msg)
{
	const struct vhost_user_log *desc = &msg->body.log;
	struct dirty_log *log;
	int err;

	if (msg->header.size < sizeof(*desc) || msg->fd_count != 1)
		return -EINVAL;
	err = dirty_log_new(&log, msg->fds[0], desc->offset, desc->size);
	if (err < 0)
		return err;
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_set_log(device->queues[i], log);
	dirty_log_unref(device->log);
	device->log = log;
	return 0;
}

int vhost_set_log_base(struct virtio_device *device, struct vhost_user_msg *msg,
		       struct vhost_user_answer *answer)
{
	int err;

	/* The older form gives an address in the front end, of use to the kernel only. */
	if (!(device->state.protocol_features & (1ull << VHOST_USER_PROTOCOL_F_LOG_SHMFD)))
		return -EOPNOTSUPP;
	err = device_set_log(device, msg);
	if (err < 0)
		log_limited(&device->log_limit, LOG_LEVEL_ERROR, "dirty_log_refused",
			    "device=%s error=\"%s\"", device->config.name, strerror(-err));
	/* Always answered, asked for or not: from now on nobody marks in the old log. */
	answer->body.u64 = (uint64_t)(err < 0);
	answer->size = sizeof(answer->body.u64);
	return 0;
}

int vhost_set_log_fd(struct virtio_device *device, struct vhost_user_msg *msg,
		     struct vhost_user_answer *answer)
{
	int old = device->log_fd;
	int err = queue_prepare_signal_fd(msg->fds[0]);

	(void)answer;
	if (err < 0)
		return err;
	device->log_fd = vhost_user_msg_take_fd(msg, 0);
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_set_log_fd(device->queues[i], device->log_fd);
	if (old >= 0)
		close(old);
	return 0;
}

/*
 * The layout of the inflight area depends on the ring format, and front ends
 * differ in what they send first, the area or the features. So an area is made
 * large enough for either (memory of zeros is a valid area of both), and opened
 * anew when the features bring the other format.
 */
static bool is_packed(const struct virtio_device *device)
{
	return device->state.features & (1ull << VIRTIO_F_RING_PACKED);
}

int vhost_get_inflight_fd(struct virtio_device *device, struct vhost_user_msg *msg,
			  struct vhost_user_answer *answer)
{
	const struct vhost_user_inflight *ask = &msg->body.inflight;
	struct vhost_user_inflight *reply = &answer->body.inflight;
	bool packed = is_packed(device) || !device->state.features;
	int fd, err = -EINVAL;

	answer->size = sizeof(*reply);
	reply->num_queues = ask->num_queues;
	reply->queue_size = ask->queue_size;
	if (ask->num_queues <= device->queue_count)
		err = inflight_create(packed, ask->num_queues, ask->queue_size, &fd,
				      &reply->mmap_size);
	if (err < 0) {
		/* A size of 0 is how this reply says no. */
		log_limited(&device->log_limit, LOG_LEVEL_WARN, "inflight_area_refused",
			    "device=%s queues=%u size=%u error=\"%s\"", device->config.name,
			    ask->num_queues, ask->queue_size, strerror(-err));
		return 0;
	}
	answer->fd = fd;
	return 0;
}

/* Maps the area as @desc has it and gives it to the queues. */
static int device_open_inflight(struct virtio_device *device, int fd,
				const struct vhost_user_inflight *desc)
{
	struct inflight *area;
	int err;

	err = inflight_open(&area, fd, desc->mmap_offset, desc->mmap_size, is_packed(device),
			    desc->num_queues, desc->queue_size);
	if (err < 0)
		return err;
	for (unsigned i = 0; i < device->queue_count && !err; i++)
		err = queue_set_inflight(device->queues[i], i < desc->num_queues ? area : NULL);
	inflight_unref(area);
	device->inflight_packed = is_packed(device);
	return err;
}

int vhost_set_inflight_fd(struct virtio_device *device, struct vhost_user_msg *msg,
			  struct vhost_user_answer *answer)
{
	int err = device_open_inflight(device, msg->fds[0], &msg->body.inflight);

	(void)answer;
	if (err < 0)
		return err;
	device_drop_inflight(device);
	device->inflight_fd = vhost_user_msg_take_fd(msg, 0);
	device->inflight = msg->body.inflight;
	return 0;
}

int device_reopen_inflight(struct virtio_device *device)
{
	if (device->inflight_fd < 0 || device->inflight_packed == is_packed(device))
		return 0;
	return device_open_inflight(device, device->inflight_fd, &device->inflight);
}

void device_drop_inflight(struct virtio_device *device)
{
	if (device->inflight_fd >= 0)
		close(device->inflight_fd);
	device->inflight_fd = -1;
}
