# SPDX-License-Identifier: Apache-2.0
"""Memory is plugged into a running guest, used for requests, and unplugged: the
daemon's memory table changes while it serves."""

import socket
import time

from harness.report import Failure

GUESTS = ("qemu",)


class Monitor:
    """QEMU's human monitor: a command in, its text out."""

    PROMPT = b"(qemu) "

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.read()

    def read(self):
        seen = b""
        while not seen.endswith(self.PROMPT):
            data = self.socket.recv(65536)
            if not data:
                raise Failure("QEMU closed its monitor")
            seen += data
        return seen.decode(errors="replace")

    def command(self, text):
        self.socket.sendall(text.encode() + b"\n")
        # The terminal's echo of the command comes first.
        answer = self.read()
        if "Error" in answer:
            raise Failure(f"QEMU refuses {text}", answer)
        return answer


def play(site, kind):
    daemon = site.daemon()
    path = f"{site.dir}/monitor.sock"
    guest = site.guest(kind, daemon, extra=(
        "-m", "512M,slots=4,maxmem=2G", "-monitor", f"unix:{path},server,nowait")).boot()
    guest.mount()
    # Movable, so that it can be taken away again.
    guest.must("echo online_movable >/sys/devices/system/memory/auto_online_blocks")
    before = memory(guest)
    monitor = Monitor(path)

    job = guest.start("for seed in 1 2; do fsx $MNT/fsx $seed 200 || exit 1; done", 60)
    time.sleep(1)
    for number in (1, 2):
        monitor.command(f"object_add memory-backend-memfd,id=m{number},size=256M,share=on")
        monitor.command(f"device_add pc-dimm,id=d{number},memdev=m{number}")
        time.sleep(0.5)
    done(guest, job)
    if memory(guest) < before + 400000:
        raise Failure(f"the guest has {memory(guest)} kB, before {before}")

    # More than the first memory has room for: requests point into the new one.
    guest.must("fscheck pattern write $MNT/p 520 && fscheck pattern check $MNT/p 520 && "
               "rm $MNT/p", 60)

    job = guest.start("for seed in 5 6; do fsx $MNT/fsx $seed 200 || exit 1; done", 60)
    for number in (1, 2):
        monitor.command(f"device_del d{number}")
    done(guest, job)
    deadline = time.monotonic() + 30
    while "d1" in (devices := monitor.command("info memory-devices")) or "d2" in devices:
        if time.monotonic() > deadline:
            raise Failure("the guest does not give the memory back", devices)
        time.sleep(0.5)
    guest.must("fsx $MNT/fsx 9 300", 60)
    guest.poweroff()
    if not daemon.alive():
        raise Failure("the daemon ended")


def memory(guest):
    return int(guest.must("awk '/^MemTotal/ {print $2}' /proc/meminfo"))


def done(guest, job):
    rc, output = guest.wait(job)
    if rc != 0:
        raise Failure("I/O failed in the guest", output)
