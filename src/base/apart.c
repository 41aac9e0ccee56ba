/* SPDX-License-Identifier: Apache-2.0 */
#include "base/apart.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"

/* The grandchild. What it is stuck in may last for ever: it holds nothing of ours meanwhile. */
static _Noreturn void apart_child(int (*run)(void *arg), void *arg, int answer)
{
	int ret;

	if (dup2(answer, STDIN_FILENO) < 0 || close_range(STDIN_FILENO + 1, ~0u, 0) < 0)
		_exit(1);
	ret = run(arg);
	_exit(write(STDIN_FILENO, &ret, sizeof(ret)) == sizeof(ret) ? 0 : 1);
}

/* Has a grandchild, which is nobody's to be waited for. 0 or -errno. */
static int apart_fork(int (*run)(void *arg), void *arg, int answer)
{
	pid_t child = fork();
	int status = 0;

	if (child < 0)
		return -errno;
	if (child == 0) {
		pid_t grandchild = fork();

		if (grandchild == 0)
			apart_child(run, arg, answer);
		_exit(grandchild < 0 ? 1 : 0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? 0 : -EAGAIN;
}

static int apart_wait(int fd, int timeout_ms)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	uint64_t begun_ns = loop_now_ns();
	int ret = -EIO, n;

	do {
		int64_t left = timeout_ms - (int64_t)((loop_now_ns() - begun_ns) / 1000000);

		n = poll(&wait, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return -ETIMEDOUT;
	return read(fd, &ret, sizeof(ret)) == sizeof(ret) ? ret : -EIO;
}

int apart_run(int (*run)(void *arg), void *arg, int timeout_ms)
{
	int ends[2], ret;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	ret = apart_fork(run, arg, ends[1]);
	close(ends[1]);
	if (ret == 0)
		ret = apart_wait(ends[0], timeout_ms);
	close(ends[0]);
	return ret;
}

static int look_at_directory(void *arg)
{
	const char *path = arg;
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return faccessat(AT_FDCWD, path, R_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

int apart_look_at_directory(const char *path, int timeout_ms)
{
	return apart_run(look_at_directory, (void *)path, timeout_ms);
}
