/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two halves of the daemon tell each other: the process outside of the sandbox, which
 * sees the host's files, and the one inside, which serves. A pair of SOCK_SEQPACKET sockets;
 * without a process outside both halves are in one, and talk all the same.
 *
 *	outside -> inside	RELOAD	a configuration, and the descriptors that it takes
 *				REJECTED	there was one, with an error in it
 *	inside -> outside	STARTED, STOPPING, ALIVE	for systemd
 *				ASK	somebody wants a reload
 *				RESULT	of a RELOAD
 */
#ifndef OVFS_CHANNEL_H
#define OVFS_CHANNEL_H

#include <stdint.h>

#include "base/err.h"

/* A message carries so many descriptors, less than the kernel's SCM_MAX_FD of 253. */
#define CHANNEL_FDS_MAX 250
#define CHANNEL_TEXT_MAX 1024

enum channel_type {
	CHANNEL_RELOAD = 1,
	CHANNEL_REJECTED,
	CHANNEL_STARTED,
	CHANNEL_STOPPING,
	CHANNEL_ALIVE,
	CHANNEL_ASK,
	CHANNEL_RESULT,
};

#define CHANNEL_ROOT 0x8000u /* and the number of the part (storage.h) */
#define CHANNEL_SNAPSHOT UINT16_MAX

/* What a descriptor is: the socket of that number of a mount of the new configuration, the root of
 * a part of it, or the snapshot (conf/files.h) that the configuration is in. */
struct channel_fd {
	uint16_t mount, what;
};

struct channel_message {
	uint32_t type;
	uint32_t number; /* RELOAD, RESULT: which */
	uint32_t good;	 /* RESULT */
	uint32_t fd_count;
	struct channel_fd fd[CHANNEL_FDS_MAX];
	char text[CHANNEL_TEXT_MAX]; /* REJECTED, RESULT: what is wrong, or what was done */
};

/* Both ends do not block. */
struct err *channel_new(int ends[2]) __attribute__((warn_unused_result));

/* Sends @m with m->fd_count descriptors from @fds, which stay the caller's. 0 or negative errno. */
int channel_send(int channel, const struct channel_message *m, const int *fds);

/* Without descriptors. */
int channel_tell(int channel, enum channel_type type, const char *text);

/*
 * Receives one; the descriptors in @fds (CHANNEL_FDS_MAX of room) are the caller's. 0; -EAGAIN:
 * there is none; -ECONNRESET: nor will be; -EPROTO.
 */
int channel_receive(int channel, struct channel_message *m, int *fds);

#endif
