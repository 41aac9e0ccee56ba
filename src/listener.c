/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* A front end that finds the mount busy waits in the backlog. */
#define LISTENER_BACKLOG 8

/* Whether somebody accepts on @addr: 1, 0, or a negative errno. */
static int listener_is_live(const struct sockaddr_un *addr)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return 1; /* EAGAIN: its backlog is full */
	return errno == ECONNREFUSED ? 0 : -errno;
}

/* Takes a dead socket file out of the way. */
static struct err *listener_remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int live;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? NULL : err_errno(errno, "%s", addr->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_new(
			"%s exists and is not a socket: socket_path must be free, remove the "
			"file or choose another path",
			addr->sun_path);
	live = listener_is_live(addr);
	if (live < 0)
		return err_errno(-live, "cannot tell whether %s is in use", addr->sun_path);
	if (live)
		return err_new("%s is served by another process: stop it, or choose another "
			       "socket_path",
			       addr->sun_path);
	log_info("stale_socket_replaced", "path=\"%s\"", addr->sun_path);
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return err_errno(errno, "cannot remove the stale socket %s", addr->sun_path);
	return NULL;
}

struct err *listener_open(int *out, const char *path, gid_t gid)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int fd = -1;
	struct err *e;
	mode_t mask;
	int ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_new("socket_path %s is %zu bytes long, a Unix socket's path at most %zu",
			       path, strlen(path), sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	e = listener_remove_stale(&addr);
	if (e)
		return e;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(errno, "socket");
	/* The file never exists with a wider mode than it ends up with. */
	mask = umask(0177);
	ret = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	if (ret < 0)
		return err_errno(errno, "cannot create the socket %s", path);
	if (gid != (gid_t)-1 && (chown(path, (uid_t)-1, gid) < 0 || chmod(path, 0660) < 0)) {
		e = err_errno(errno, "cannot give the socket %s to group %u", path, gid);
		unlink(path);
		return e;
	}
	if (listen(fd, LISTENER_BACKLOG) < 0) {
		e = err_errno(errno, "cannot listen on %s", path);
		unlink(path);
		return e;
	}
	*out = STEAL_FD(fd);
	return NULL;
}

struct err *listener_adopt(int fd)
{
	int listening = 0, domain = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return err_errno(errno, "--fd=%d", fd);
	len = sizeof(domain);
	if (!listening || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ||
	    domain != AF_UNIX)
		return err_new("--fd=%d is not a listening Unix socket", fd);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return err_errno(errno, "--fd=%d", fd);
	return NULL;
}
