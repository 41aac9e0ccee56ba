# SPDX-License-Identifier: Apache-2.0
"""A stale socket file is replaced; one that a daemon listens on is not."""

import socket

from harness.report import Failure

GUESTS = ("uml",)


def play(site, kind):
    path = f"{site.dir}/stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
    # Closed: the file stays, and nobody listens.
    daemon = site.daemon(socket=path, fresh=False)
    guest = site.guest(kind, daemon).boot()
    guest.mount()
    guest.must("echo x >$MNT/file")

    try:
        site.daemon(socket=path, fresh=False, settle=2)
    except Failure:
        pass
    else:
        raise Failure("a second daemon started on a socket that is in use")
    guest.must("[ $(cat $MNT/file) = x ]")
    guest.poweroff()
