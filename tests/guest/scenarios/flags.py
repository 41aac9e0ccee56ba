# SPDX-License-Identifier: Apache-2.0
"""Started with virtiofsd's flags, as libvirt and Kata do it, the daemon serves
just as with a configuration file."""

import os

from harness.daemon import OvfsByFlags
from harness.report import Failure

GUESTS = ("uml",)


def play(site, kind):
    if site.daemon_class.kind != "ovfs":
        raise Failure("is about ovfs")
    daemon = site.daemon(cls=OvfsByFlags)
    guest = site.guest(kind, daemon).boot()
    guest.mount()
    guest.must("mkdir $MNT/dir && echo guest >$MNT/dir/file")
    with open(f"{site.export}/dir/file", encoding="ascii") as file:
        if file.read() != "guest\n":
            raise Failure("what the guest wrote is not there")
    guest.poweroff()
    if daemon.stop() != 0:
        raise Failure("exit code after SIGTERM", daemon.log_tail())
    if os.path.exists(daemon.socket):
        raise Failure("its socket file is still there")
