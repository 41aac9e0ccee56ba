/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What systemd is told (sd_notify(3), without its library): datagrams to NOTIFY_SOCKET. Nothing
 * happens where there is none.
 *
 * For the process that systemd knows: the one that was started, which stays outside of the sandbox.
 * One thread.
 */
#ifndef OVFS_NOTIFY_H
#define OVFS_NOTIFY_H

#include <stdint.h>

/* Connects to $NOTIFY_SOCKET, before namespaces are left, and takes it out of the environment. */
void notify_open(void);

/* READY=1; also after a reload, whatever came of it. */
void notify_ready(void);
/* RELOADING=1, with the time that Type=notify-reload wants. */
void notify_reloading(void);
void notify_stopping(void);
/* One line, for people (systemctl status). */
void notify_status(const char *text);
/* WATCHDOG=1 */
void notify_alive(void);

/* How often notify_alive() is wanted: half of $WATCHDOG_USEC; 0: never. */
uint64_t notify_interval_ns(void);

/* Forgets the socket: of the process that systemd does not know. */
void notify_close(void);

#endif
