# SPDX-License-Identifier: Apache-2.0
"""One daemon serves guest after guest: one that powered off, and one that was
killed in the middle of a write, leave nothing behind that hurts the next."""

import time

from harness.report import Failure

GUESTS = ("uml", "qemu")


def play(site, kind):
    daemon = site.daemon()
    first = site.guest(kind, daemon).boot()
    first.mount()
    first.must("echo one >$MNT/one")
    first.poweroff()

    second = site.guest(kind, daemon).boot()
    second.mount()
    second.must("[ $(cat $MNT/one) = one ] && echo two >$MNT/two")
    # Killed with requests under way, files open and locks held.
    second.start("fsop lock $MNT/two write 0 0 now 600 & "
                 "while :; do cat /dev/zero | head -c 20000000 >$MNT/big; done", 60)
    time.sleep(2)
    second.kill()

    third = site.guest(kind, daemon).boot()
    third.mount()
    third.must(". $GUEST_DIR/lib.sh; [ $(cat $MNT/two) = two ] && "
               "within 5 fsop lock $MNT/two write 0 0 now 0 && rm $MNT/big")
    third.poweroff()
    if not daemon.alive():
        raise Failure("the daemon ended")
