/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root with next to nothing in it: a small tmpfs, and a few paths of the host, bound
 * where they are on the host and read-only.
 *
 * Symbolic links on the way to a path are made again in the new tree, so that the
 * path means there what it means outside (/etc/resolv.conf is often one, into /run). Who
 * replaces a file by renaming another one over it would leave us with the old one; hence
 * paths of which the whole folder is shown, and each that a link in it leads into. Where
 * that is a folder like /etc, the process outside looks after the file (supervisor.c).
 *
 * The tmpfs is built on /proc, which exists wherever we run and holds none of the paths; in
 * the end it is "/", and the host's /proc is gone with the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/internal.h"

#define TREE_LINKS_MAX 40 /* as the kernel's */

/* Where the way to a path is at. */
struct tree_walk {
	char done[PATH_MAX]; /* on the host, without links; "" for / */
	char todo[PATH_MAX]; /* the rest */
	unsigned links;
};

/* @path's place in the tree that is being built. False when that is too long. */
static bool tree_place(char place[PATH_MAX], const char *path)
{
	return snprintf(place, PATH_MAX, "%s%s", SANDBOX_TREE, path) < PATH_MAX;
}

static bool tree_same(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

/* Takes the first component off walk->todo; walk->done with it goes to @path. False at the
 * end, or when it is too long. */
static bool tree_next(struct tree_walk *walk, char path[PATH_MAX])
{
	char *name = walk->todo + strspn(walk->todo, "/");
	size_t len = strcspn(name, "/");
	int n;

	if (len == 0)
		return false;
	if (len == 2 && memcmp(name, "..", 2) == 0) {
		char *slash = strrchr(walk->done, '/');

		n = snprintf(path, PATH_MAX, "%.*s", slash ? (int)(slash - walk->done) : 0,
			     walk->done);
	} else if (len == 1 && *name == '.') {
		n = snprintf(path, PATH_MAX, "%s", walk->done);
	} else {
		n = snprintf(path, PATH_MAX, "%s/%.*s", walk->done, (int)len, name);
	}
	memmove(walk->todo, name + len, strlen(name + len) + 1);
	return n < PATH_MAX;
}

/* @path is a link: the same one in the tree, and on with where it leads. */
static int tree_link(struct tree_walk *walk, const char *path)
{
	char target[PATH_MAX], place[PATH_MAX], rest[PATH_MAX];
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	if (len < 0)
		return -errno;
	target[len] = '\0';
	if (++walk->links > TREE_LINKS_MAX)
		return -ELOOP;
	if (!tree_place(place, path) ||
	    snprintf(rest, sizeof(rest), "%s%s", target, walk->todo) >= (int)sizeof(rest))
		return -ENAMETOOLONG;
	if (symlink(target, place) < 0 && errno != EEXIST)
		return -errno;
	if (target[0] == '/')
		walk->done[0] = '\0';
	memcpy(walk->todo, rest, sizeof(rest));
	return 0;
}

static int tree_make_folder(const char *path)
{
	char place[PATH_MAX];

	if (!tree_place(place, path))
		return -ENAMETOOLONG;
	return mkdir(place, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Shows @path, which has no links in it and whose folder is there. */
static int tree_bind(const char *path, bool folder)
{
	char place[PATH_MAX];
	int ret = 0, fd;

	if (!tree_place(place, path))
		return -ENAMETOOLONG;
	if (tree_same(path, place)) /* within a folder that is shown already */
		return 0;
	if (folder) {
		ret = tree_make_folder(path);
	} else {
		fd = open(place, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	if (ret == 0 && mount(path, place, NULL, MS_BIND | MS_REC, NULL) < 0)
		ret = -errno;
	return ret;
}

bool sandbox_is_broad(const char *folder)
{
	const char *home = getenv("HOME");

	return !folder[0] || !strchr(folder + 1, '/') || (home && strcmp(folder, home) == 0);
}

/* 0, also when the path does not exist or may not be seen: then there is nothing to show. */
static int tree_show(const struct sandbox_path *shown)
{
	struct tree_walk walk = { 0 };
	char path[PATH_MAX];
	struct stat st;
	int ret = 0;

	if (snprintf(walk.todo, sizeof(walk.todo), "%s", shown->path) >= (int)sizeof(walk.todo))
		return -ENAMETOOLONG;
	while (ret == 0 && tree_next(&walk, path)) {
		bool last = walk.todo[strspn(walk.todo, "/")] == '\0';

		/* Also when the file is not there yet. A link in it may lead on. */
		if (last && shown->folder && !sandbox_is_broad(walk.done))
			ret = tree_bind(walk.done, true);
		if (ret < 0)
			break;
		if (lstat(path[0] ? path : "/", &st) < 0)
			return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
		if (S_ISLNK(st.st_mode)) {
			ret = tree_link(&walk, path);
			continue;
		}
		if (last)
			return tree_bind(path, S_ISDIR(st.st_mode));
		if (path[0])
			ret = tree_make_folder(path);
		memcpy(walk.done, path, sizeof(walk.done));
	}
	return ret;
}

struct err *sandbox_build_tree(const struct sandbox_path *paths)
{
	int ret;

	/* Room for the folders and links alone. */
	if (mount("ovfs", SANDBOX_TREE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "mode=0755,size=256k,nr_inodes=4096") < 0)
		return err_errno(errno, "sandbox: cannot mount a tmpfs");
	for (; paths && paths->path; paths++) {
		ret = tree_show(paths);
		if (ret < 0)
			return err_errno(-ret, "sandbox: cannot show \"%s\" in it", paths->path);
	}
	return NULL;
}
