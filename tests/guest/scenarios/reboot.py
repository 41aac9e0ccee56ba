# SPDX-License-Identifier: Apache-2.0
"""A guest reboots inside the same QEMU: the device is reset, not unplugged, and
works again with new rings."""

from harness.report import Failure

GUESTS = ("qemu",)


def play(site, kind):
    daemon = site.daemon()
    guest = site.guest(kind, daemon, reboot=True).boot()
    for turn in range(3):
        guest.mount()
        guest.must(f"echo {turn} >>$MNT/turns && [ $(wc -l <$MNT/turns) = {turn + 1} ]")
        # The first time tidily, then with the file system mounted.
        before = "umount $MNT; " if turn == 0 else ""
        guest.send(f"run 0 30 {before}sync; echo b >/proc/sysrq-trigger\n".encode())
        guest.wait_ready()
    guest.mount()
    guest.must("[ $(wc -l <$MNT/turns) = 3 ] && fsx $MNT/fsx 1 200")
    guest.poweroff()
    if not daemon.alive():
        raise Failure("the daemon ended")
