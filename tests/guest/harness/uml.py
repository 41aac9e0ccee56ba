# SPDX-License-Identifier: Apache-2.0
"""A guest in User-mode Linux: boots in a second, runs near native speed.

Its root is the host's own, read-only, by hostfs, so it has every program that
the host has. Its memory is a file in /dev/shm which is mapped executable.
"""

import os

from .guest import Guest

MEMORY = "1G"


def shm_usable(path="/dev/shm"):
    """Whether UML can keep its memory there: a tmpfs, without noexec."""
    try:
        with open("/proc/mounts", encoding="utf-8") as mounts:
            entries = [line.split() for line in mounts]
    except OSError:
        return False
    # The last one mounted is the one on top.
    found = [entry for entry in entries if entry[1] == path]
    if not found or found[-1][2] != "tmpfs" or "noexec" in found[-1][3].split(","):
        return False
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize > 1.5 * 2**30


class UmlGuest(Guest):
    kind = "uml"
    boot_seconds = 30

    def __init__(self, run_dir, export, sockets, tools, *, wrapper=(), extra=(),
                 scale=1):
        """`wrapper` a command that runs the rest elsewhere, say in a chroot;
        `extra` more words for the kernel's command line."""
        super().__init__(run_dir, export, sockets, tools)
        self.wrapper = wrapper
        self.extra = extra
        self.scale = scale

    def argv(self):
        work = f"{self.run_dir}/root"
        os.makedirs(work, exist_ok=True)
        argv = [*self.wrapper, self.tools.uml, f"mem={MEMORY}",
                "rootfstype=hostfs", "rootflags=/", "ro",
                f"init={self.tools.guest_dir}/init.sh", "quiet",
                # Else it would leave a folder for its control socket in ~/.uml.
                f"uml_dir={self.run_dir}/",
                "con=null", "ssl=null", "con0=fd:0,fd:1",
                "GUEST_KIND=uml", f"GUEST_RUN={work}",
                f"GUEST_DIR={self.tools.guest_dir}", f"GUEST_BIN={self.tools.bin_dir}",
                *self.extra]
        # The driver finds a device's tag in its configuration space.
        argv += [f"virtio_uml.device={socket}:26" for socket in self.sockets.values()]
        if not self.wrapper and not shm_usable():
            # A private one, for this process alone.
            argv = ["unshare", "--mount", "sh", "-c",
                    "mount -t tmpfs -o exec tmpfs /dev/shm && exec \"$@\"", "sh", *argv]
        return argv
