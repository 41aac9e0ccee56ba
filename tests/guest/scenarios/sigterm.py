# SPDX-License-Identifier: Apache-2.0
"""SIGTERM ends the daemon with exit code 0: idle, with a guest, and under load;
what a write was answered for is on the host."""

import os
import time

from harness.report import Failure

GUESTS = ("uml",)


def stopped(daemon, when):
    start = time.monotonic()
    code = daemon.stop()
    if code != 0:
        raise Failure(f"exit code {code} after SIGTERM {when}", daemon.log_tail())
    if time.monotonic() - start > 10:
        raise Failure(f"took {time.monotonic() - start:.1f} s to end {when}")


def play(site, kind):
    stopped(site.daemon(), "while idle")

    daemon = site.daemon()
    guest = site.guest(kind, daemon).boot()
    guest.mount()
    guest.must("echo written >$MNT/file")
    stopped(daemon, "with a guest")
    guest.kill()
    with open(f"{site.export}/file", encoding="ascii") as file:
        if file.read() != "written\n":
            raise Failure("what the guest wrote is not there")

    daemon = site.daemon()
    guest = site.guest(kind, daemon).boot()
    guest.mount()
    guest.start("fsop flock $MNT/lock exclusive now 600 & sleep 1; "
                "fsop flock $MNT/lock exclusive wait 0 & "
                "while :; do cat /dev/zero | head -c 20000000 >$MNT/big; done", 60)
    time.sleep(3)
    stopped(daemon, "under load")
    guest.kill()
    if os.path.exists(daemon.socket):
        raise Failure("its socket file is still there")
