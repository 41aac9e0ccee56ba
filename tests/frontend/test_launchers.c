/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Started by the command lines that others start virtiofsd with, word for word: libvirt
 * (qemuVirtioFSBuildCommandLine()), Kata Containers' runtime in Go (virtiofsd.go) and the one in
 * Rust (share_virtio_fs_standalone.rs).
 *
 * The one in Rust reads the daemon's stderr, and waits without a limit for a sentence of
 * virtiofsd's. All of them bind things into the shared directory while the daemon runs.
 *
 * Needs the right to mount, as their hosts give it.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct launcher {
	const char *name;
	const char *arguments; /* %R: the directory, %S: the socket */
	bool listens;	       /* by itself, and hands it over as descriptor 3 */
	const char *in_chroot; /* what is to be added where nobody can make a mount namespace */
};

static const struct launcher launchers[] = {
	{ "libvirt", "--fd=3 -o source=%R,cache=always,xattr,flock,posix_lock --thread-pool-size=0",
	  true, " -o sandbox=chroot" },
	{ "Kata in Go",
	  "--syslog --cache=auto --shared-dir=%R --fd=3 --inode-file-handles=prefer "
	  "--thread-pool-size=1 --announce-submounts",
	  true, " --sandbox=chroot" },
	{ "Kata in Rust",
	  "--socket-path %S --shared-dir %R --cache auto --sandbox none --seccomp none "
	  "--inode-file-handles prefer --thread-pool-size=1 -o announce_submounts --xattr",
	  false, "" },
};

static bool in_chroot(void)
{
	struct statx stx;

	return statx(AT_FDCWD, "/", 0, 0, &stx) == 0 &&
	       !(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* Mounts that are made later reach the daemon by way of the host's, as they do where systemd
 * has made all of them shared. */
static void share_mounts(const struct daemon *d)
{
	assert_ok(unshare(CLONE_NEWNS));
	if (!in_chroot()) /* where "/" is a mount */
		assert_ok(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL));
	assert_ok(mount(d->root, d->root, NULL, MS_BIND, NULL));
	assert_ok(mount(NULL, d->root, NULL, MS_SHARED, NULL));
}

/* Inherited by the daemon; the caller's to close. */
static int listen_for(const struct daemon *d)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", d->socket);
	assert_true(fd >= 0);
	assert_ok(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	assert_ok(listen(fd, 1));
	return fd;
}

static void launch(struct daemon *d, const struct launcher *launcher)
{
	char command[512], inherited[32] = "";
	int fd = launcher->listens ? listen_for(d) : -1;

	if (fd >= 0)
		snprintf(inherited, sizeof(inherited), " 3<&%d", fd);
	snprintf(command, sizeof(command), "%s %s%s%s", getenv("OVFS_BIN"), launcher->arguments,
		 in_chroot() ? launcher->in_chroot : "", inherited);
	setenv("OVFS_TEST_COMMAND", command, 1);
	daemon_restart(d);
	d->foreign = false; /* it is ours, only started in another way */
	if (fd >= 0)
		close(fd);
	daemon_log_wait(d, "Waiting for vhost-user socket connection", 1);
}

static void mount_later(struct guest *g, const struct daemon *d)
{
	struct fuse_entry_out dir, file;
	int fd;

	assert_ok(mount("late", daemon_path(d, "late"), "tmpfs", 0, "size=64k"));
	fd = open(daemon_path(d, "late/file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_ok(fuc_lookup(&g->f, FUSE_ROOT_ID, "late", &dir));
	assert_ok(fuc_lookup(&g->f, dir.nodeid, "file", &file));
	assert_ok(fuc_forget(&g->f, file.nodeid, 1));
	assert_ok(fuc_forget(&g->f, dir.nodeid, 1));
	assert_ok(umount2(daemon_path(d, "late"), MNT_DETACH));
}

static void serves(void **state)
{
	const struct launcher *launcher = *state;
	struct daemon d;
	struct guest g;
	struct stat st;
	uint64_t fh;

	daemon_make(&d);
	share_mounts(&d);
	assert_ok(mkdir(daemon_path(&d, "late"), 0700));
	launch(&d, launcher);
	guest_open(&g, &d, NULL);
	guest_create(&g, "file", &fh);
	assert_ok(stat(daemon_path(&d, "file"), &st));
	mount_later(&g, &d);
	kill(d.pid, SIGHUP);
	daemon_log_wait(&d, " reloaded ", 1);
	assert_false(daemon_logged(&d, " reload_failed "));
	guest_close(&g);
	guest_probe(&d); /* it waits for the next one */
	assert_ok(umount2(d.root, MNT_DETACH));
	daemon_stop(&d);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(launchers) / sizeof(launchers[0])];

	for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++)
		tests[i] = (struct CMUnitTest){ .name = launchers[i].name,
						.test_func = serves,
						.initial_state = (void *)&launchers[i] };
	return cmocka_run_group_tests_name("launchers", tests, NULL, NULL);
}
