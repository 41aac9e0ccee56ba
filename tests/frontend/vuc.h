/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vuc: a vhost-user front end ("the virtual machine") for tests and for the
 * load generator. It owns guest memory in memfds, the virtqueues in it, and the
 * control socket. It plays the driver's side of virtio 1.2 chapter 2.7 (split)
 * and 2.8 (packed) and the front end's side of the vhost-user specification.
 *
 * It works with any vhost-user back end that has a hiprio queue and request
 * queues, and shares no code with the daemon of this tree: each is the test of
 * the other.
 *
 * Ownership and threads. A `struct vuc` and its socket belong to one thread. A
 * `struct vuc_queue` belongs to one thread at a time, which may be another one
 * for each queue; guest memory is allocated only by the owner of the `vuc`,
 * before the queues' threads use it. Nothing here locks.
 *
 * Errors are negative errno. -EREMOTEIO: the back end acknowledged a request
 * with a failure. -ECONNRESET: it closed the connection. -ETIMEDOUT: no answer
 * in time. -EPROTO: an answer the specification does not allow.
 *
 * Hostile tests use the same object: every field is public, vuc_send_raw()
 * sends any bytes with any descriptors, and rings are plain memory.
 */
#ifndef TESTS_FRONTEND_VUC_H
#define TESTS_FRONTEND_VUC_H

#include <stdbool.h>

#include "vuc_proto.h"

#define VUC_MAX_QUEUES 65
#define VUC_MAX_REGIONS 64
/* Longest chain of segments one submit takes. */
#define VUC_MAX_SEGS 1024

#define VUC_BIT(n) (1ull << (n))

/* What to ask for; the outcome is what the back end offers of it. */
struct vuc_config {
	unsigned int queues;	   /* all, hiprio included; 0: 2 */
	unsigned int queue_size;   /* entries; 0: 128 */
	unsigned int indirect_max; /* entries of an indirect table; 0: 64 */
	bool packed;
	bool indirect;
	bool event_idx;
	bool log_all;	  /* offer VHOST_F_LOG_ALL */
	bool mem_slots;	  /* ADD_MEM_REG for each region instead of SET_MEM_TABLE */
	bool inflight;	  /* negotiate inflight tracking and pass the region along */
	bool status;	  /* drive SET_STATUS like a modern QEMU */
	bool backend_req; /* give the back end a channel of its own */
	bool window;	  /* the same, and take its shared memory region (vuc_window.h) */
	bool no_ack;	  /* never set NEED_REPLY */
	bool no_protocol_features;
	uint64_t mem_size; /* bytes of region 0; 0: 16 MiB */
	int timeout_ms;	   /* for each answer; 0: 10000 */
};

/* One piece of guest memory, mapped here and in the back end. */
struct vuc_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t used; /* bytes handed out by vuc_mem_alloc */
	uint8_t *map;  /* NULL: this slot is free */
	int fd;
	bool shared; /* the back end has been told of it */
};

/* A piece of a region: the same bytes under both names. */
struct vuc_buf {
	uint8_t *p;
	uint64_t gpa;
	uint64_t len;
};

/* One descriptor to be: `len` bytes at guest address `gpa`. */
struct vuc_seg {
	uint64_t gpa;
	uint32_t len;
};

/* What the queue remembers of a chain in flight, by head (split) or id (packed). */
struct vuc_slot {
	void *cookie;
	uint16_t ndesc; /* ring entries taken; 0: not in flight */
	uint16_t next_free;
};

struct vuc_queue {
	const struct vuc *c;
	unsigned int index;
	unsigned int size;
	bool packed, indirect, event_idx;
	bool started;
	bool broken; /* the back end wrote something impossible into the ring */

	int kick_fd, call_fd, err_fd;
	struct vuc_buf ring; /* the whole ring, all parts */
	uint64_t log_addr;   /* log_guest_addr of the used part; 0: not logged */
	union {
		struct {
			struct vring_desc *desc;
			struct vring_avail *avail;
			struct vring_used *used;
		} s;
		struct {
			struct vring_packed_desc *desc;
			struct vring_packed_desc_event *driver;
			struct vring_packed_desc_event *device;
		} p;
	};
	uint64_t desc_gpa, avail_gpa, used_gpa;

	uint16_t next_avail; /* split: free running; packed: position */
	uint16_t next_used;
	bool avail_wrap, used_wrap;
	uint16_t kicked;	 /* split: avail idx at the last kick decision */
	unsigned int since_kick; /* packed: entries added since then */

	unsigned int free_entries;
	unsigned int in_flight;
	uint16_t free_head;	/* split: descriptor chain; packed: id list */
	struct vuc_slot *slots; /* [size] */
	struct vuc_buf indirect_mem;
	unsigned int indirect_max;

	uint64_t kicks, calls; /* event counters, for tests of notification */
};

struct vuc {
	int sock;
	int backend_sock; /* our end of the back end's own channel, or -1 */
	struct vuc_config cfg;
	uint64_t offered, features;		/* virtio feature bits */
	uint64_t offered_pf, protocol_features; /* vhost-user protocol feature bits */
	uint64_t max_queues, max_slots;
	struct vuc_region regions[VUC_MAX_REGIONS];
	struct vuc_queue queues[VUC_MAX_QUEUES];
	unsigned int nqueues;
	int inflight_fd; /* kept over vuc_disconnect() for the next connection */
	struct vuc_inflight_msg inflight;
	int log_fd;
	uint8_t *log;
	uint64_t log_size;
};

/* --- life ---------------------------------------------------------------- */

/* Sets up an unconnected front end with region 0 allocated. */
int vuc_init(struct vuc *c, const struct vuc_config *cfg);
/* Connects to a listening socket; retries until `timeout_ms` while nobody listens. */
int vuc_connect(struct vuc *c, const char *path, int timeout_ms);
/* Takes over an already connected socket. */
void vuc_attach(struct vuc *c, int sock);
/* Features, protocol features, owner, number of queues. */
int vuc_negotiate(struct vuc *c);
/* Memory, inflight region, every queue: the device is running afterwards. */
int vuc_start(struct vuc *c);
/* vuc_init, connect, negotiate, start. On failure nothing is left behind. */
int vuc_open(struct vuc *c, const char *path, const struct vuc_config *cfg);
/*
 * Closes the sockets only: memory, rings, inflight region stay, as a virtual
 * machine keeps them when its back end died. Reconnect with vuc_connect,
 * vuc_negotiate, vuc_start.
 */
void vuc_disconnect(struct vuc *c);
/* Frees everything. Valid after vuc_init, whatever failed then, and twice. */
void vuc_close(struct vuc *c);

/* --- messages ------------------------------------------------------------ */

/* Sends bytes as they are, with descriptors. */
int vuc_send_raw(struct vuc *c, const void *buf, size_t len, const int *fds, size_t nfds);
/*
 * Receives one message. `fds` has room for VUC_MAX_FDS (NULL: descriptors are
 * closed), `nfds` gets their number.
 */
int vuc_recv(struct vuc *c, struct vuc_msg *m, int *fds, size_t *nfds);
/*
 * A request without a reply of its own. Asks for an acknowledgement when
 * REPLY_ACK was negotiated, and waits for it.
 */
int vuc_request(struct vuc *c, uint32_t request, const void *payload, size_t size, const int *fds,
		size_t nfds);
/* A request with a reply: `reply` is filled, its size at least `min_reply` bytes. */
int vuc_query(struct vuc *c, uint32_t request, const void *payload, size_t size,
	      struct vuc_msg *reply, size_t min_reply);
int vuc_query_u64(struct vuc *c, uint32_t request, uint64_t *value);
int vuc_set_u64(struct vuc *c, uint32_t request, uint64_t value);
int vuc_set_state(struct vuc *c, uint32_t request, unsigned int index, unsigned int num);
int vuc_get_config(struct vuc *c, uint32_t offset, uint32_t size, void *out);
/* True when the back end has closed the connection; waits up to `timeout_ms`. */
bool vuc_hung_up(struct vuc *c, int timeout_ms);
/* Flushes the socket: true when the back end still answers a GET_FEATURES. */
bool vuc_alive(struct vuc *c);

/* --- memory -------------------------------------------------------------- */

/* Allocates a region; `gpa` 0 picks a free address. Returns its number. */
int vuc_region_create(struct vuc *c, uint64_t size, uint64_t gpa);
void vuc_region_destroy(struct vuc *c, unsigned int n);
/* ADD_MEM_REG, REM_MEM_REG for one region; SET_MEM_TABLE for all of them. */
int vuc_region_add(struct vuc *c, unsigned int n);
int vuc_region_remove(struct vuc *c, unsigned int n);
int vuc_mem_table(struct vuc *c);
/* Takes `len` bytes of region `n`, aligned; never given back but with the region. */
int vuc_mem_alloc(struct vuc *c, unsigned int n, uint64_t len, uint64_t align, struct vuc_buf *out);
/* The local address of guest memory, or NULL. */
void *vuc_mem_at(struct vuc *c, uint64_t gpa, uint64_t len);
uint64_t vuc_mem_user_addr(struct vuc *c, uint64_t gpa);

/* --- dirty page log ------------------------------------------------------ */

/* Allocates a fresh log over all regions and passes it with SET_LOG_BASE. */
int vuc_log_start(struct vuc *c);
/* SET_FEATURES with or without LOG_ALL, and VRING_ADDR with the log flag. */
int vuc_log_enable(struct vuc *c, bool on);
bool vuc_log_test(const struct vuc *c, uint64_t gpa);

/* --- queues -------------------------------------------------------------- */

/* Allocates the ring of queue `index` (once), and resets it to empty. */
int vuc_queue_setup(struct vuc *c, unsigned int index);
/* Resets positions and memory of an allocated ring. */
void vuc_queue_reset(struct vuc_queue *q);
/* VRING_NUM, BASE, ADDR, CALL, ERR, KICK, ENABLE: from the positions in `q`. */
int vuc_queue_start(struct vuc *c, unsigned int index);
int vuc_queue_send_addr(struct vuc *c, unsigned int index);
int vuc_queue_send_fd(struct vuc *c, uint32_t request, unsigned int index, int fd);
/* GET_VRING_BASE; `base` may be NULL. */
int vuc_queue_stop(struct vuc *c, unsigned int index, uint32_t *base);
int vuc_queue_enable(struct vuc *c, unsigned int index, bool on);
/* The value for SET_VRING_BASE that matches the ring as the driver sees it now. */
uint32_t vuc_queue_base(const struct vuc_queue *q);

/*
 * Makes a chain of `nout` readable and then `nin` writable segments available.
 * `cookie` comes back from vuc_queue_reap. Does not notify. -ENOSPC: no room.
 * A chain longer than one segment uses an indirect table when negotiated.
 */
int vuc_queue_submit(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
		     unsigned int nin, void *cookie);
/* Notifies the back end if it wants to be. */
void vuc_queue_kick(struct vuc_queue *q);
/* Notifies the back end whether it wants or not. */
void vuc_queue_kick_always(struct vuc_queue *q);
/* 1: a chain came back (`*cookie`, `*len` bytes written); 0: none; -EPROTO: nonsense. */
int vuc_queue_reap(struct vuc_queue *q, void **cookie, uint32_t *len);
/* Asks not to be notified: for polling. Call again after each batch of reaps. */
void vuc_queue_calls_off(struct vuc_queue *q);
/*
 * Sleeps until something is there to reap. 0, or -ETIMEDOUT (`timeout_ms`, -1 for
 * ever), or -ECONNRESET when the back end signalled an error on the queue or
 * closed the connection.
 */
int vuc_queue_wait(struct vuc_queue *q, int timeout_ms);

/* The two formats; used by vuc_queue.c only. */
void vuc_split_reset(struct vuc_queue *q);
int vuc_split_submit(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
		     unsigned int nin, void *cookie);
bool vuc_split_want_kick(struct vuc_queue *q);
bool vuc_split_pending(const struct vuc_queue *q);
int vuc_split_reap(struct vuc_queue *q, void **cookie, uint32_t *len);
void vuc_split_calls(struct vuc_queue *q, bool on);
void vuc_packed_reset(struct vuc_queue *q);
int vuc_packed_submit(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
		      unsigned int nin, void *cookie);
bool vuc_packed_want_kick(struct vuc_queue *q);
bool vuc_packed_pending(const struct vuc_queue *q);
int vuc_packed_reap(struct vuc_queue *q, void **cookie, uint32_t *len);
void vuc_packed_calls(struct vuc_queue *q, bool on);

#endif
