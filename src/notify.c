/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls sendto */
#include "notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"

static int notify_fd = -1;
static uint64_t watchdog_ns;

static void open_watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (usec && (!pid || strtol(pid, NULL, 10) == getpid()))
		watchdog_ns = strtoull(usec, NULL, 10) * 1000 / 2;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@') /* an abstract one */
		addr.sun_path[0] = '\0';
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify_fd >= 0 &&
	    connect(notify_fd, (const struct sockaddr *)&addr,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
		log_warn("notify_socket_failed", "error=\"%s\"", strerror(errno));
		notify_close();
	}
	unsetenv("NOTIFY_SOCKET");
	open_watchdog();
}

static void notify_send(const char *text)
{
	if (notify_fd >= 0 && send(notify_fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		log_warn("notify_failed", "error=\"%s\"", strerror(errno));
}

void notify_ready(void)
{
	notify_send("READY=1");
}

void notify_reloading(void)
{
	char text[64];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)(loop_now_ns() / 1000));
	notify_send(text);
}

void notify_stopping(void)
{
	notify_send("STOPPING=1");
}

void notify_status(const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "STATUS=%.*s", (int)strcspn(text, "\n"), text);
	notify_send(line);
}

void notify_alive(void)
{
	notify_send("WATCHDOG=1");
}

uint64_t notify_interval_ns(void)
{
	return watchdog_ns;
}

void notify_close(void)
{
	if (notify_fd >= 0)
		close(notify_fd);
	notify_fd = -1;
}
