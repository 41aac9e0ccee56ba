# SPDX-License-Identifier: Apache-2.0
"""Files mapped through the DAX window of QEMU 11, which guests refuse to mount
with dax=always when it is not really there; a window of 64 MiB under more data
than that, two guests, files that are cut, a guest that is killed."""

import concurrent.futures
import hashlib
import os
import struct
import time

from harness.daemon import OvfsOnBucket, OvfsWithWindow
from harness.report import Failure

GUESTS = ("qemu-new",)

MIB = 1 << 20
BIG = 128 * MIB
# The last page of a file is not a whole one, as a rule.
ODD = 5 * MIB + 1234


class OvfsWithCopies(OvfsWithWindow):
    """As it is by default."""

    map = "copy"


class BucketWithWindow(OvfsOnBucket):
    """Objects in the daemon's memory; half of the cache can be mapped."""

    tables = {"storage_settings": {"type": "memory"}, "cache_settings": {"size": "128MiB"},
              "dax_settings": {"enabled": True, "window_size": "16MiB"}}


def fill(path, size, salt, stride=4096):
    """What `daxop check` looks for; the rest is holes."""
    with open(path, "wb") as out:
        out.truncate(size)
        for offset in range(0, size - 7, stride):
            os.pwrite(out.fileno(), struct.pack("Q", offset + salt), offset)


def word(path, offset):
    with open(path, "rb") as file:
        return struct.unpack("Q", os.pread(file.fileno(), 8, offset))[0]


def play(site, kind):
    fill(f"{site.export}/big", BIG, 0)
    fill(f"{site.export}/odd", ODD, 7)
    with open(f"{site.export}/random", "wb") as out:
        out.write(os.urandom(3 * MIB + 77))
    with open(f"{site.export}/random", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()

    daemons = [site.daemon(cls=OvfsWithWindow), site.daemon(cls=OvfsWithCopies)]
    plain = site.daemon(tag="plain")
    bucket = site.daemon(cls=BucketWithWindow, tag="bucket")
    first = site.guest(kind, sockets={"ovfs": daemons[0].socket, "plain": plain.socket,
                                      "bucket": bucket.socket})
    second = site.guest(kind, daemons[1])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda guest: guest.boot(), (first, second)))

    # The kernel's word for it that there is a window, and where there is none.
    rc, output = first.sh("mkdir /run/plain; mount -t virtiofs -o dax=always plain /run/plain")
    if rc == 0:
        raise Failure("mounted with dax=always without a window", output)
    first.mount(options="dax=always")
    second.mount(options="dax=inode")

    for guest in (first, second):
        guest.must(f"daxop check $MNT/odd {ODD} 4096 7")
        guest.must(f"[ $(sha256sum <$MNT/random | cut -d' ' -f1) = {digest} ]", 60)
    # Twice as much as the window holds, and again from its start.
    first.must(f"daxop check $MNT/big {BIG} 32768 0", 60)
    first.must(f"daxop check $MNT/big {BIG} 524288 0", 60)

    changes(site, first, second)
    cuts(site, first)
    cut_on_host(site, second)
    objects(first, digest)

    # Dies with mappings that it has written to.
    first.must("daxop put $MNT/big 8192 4711; daxop put $MNT/odd 5242880 4712")
    first.kill()
    second.must(f"[ $(daxop get $MNT/random 0) = {word(site.export + '/random', 0)} ]")
    if (word(f"{site.export}/big", 8192), word(f"{site.export}/odd", 5242880)) != (4711, 4712):
        raise Failure("what the killed guest had synced is not there")
    second.poweroff()
    for daemon in (*daemons, bucket):
        if not daemon.alive():
            raise Failure("a daemon ended", daemon.log_tail())
        if daemon.stop() != 0:
            raise Failure("a daemon did not end well", daemon.log_tail())


def changes(site, first, second):
    """What one guest writes, by either way, is on the host and in the other guest."""
    first.must("daxop put $MNT/big 65536 111 && daxop put $MNT/odd 5242880 112")
    if (word(f"{site.export}/big", 65536), word(f"{site.export}/odd", 5242880)) != (111, 112):
        raise Failure("what was stored and synced is not on the host")
    second.must("[ $(daxop get $MNT/big 65536) = 111 ] && [ $(daxop get $MNT/odd 5242880) = 112 ]")
    second.must("daxop put $MNT/big 65536 221; printf 12345678 >>$MNT/odd")
    first.must(". $GUEST_DIR/lib.sh; [ $(daxop get $MNT/big 65536) = 221 ]; "
               f"within 10 sh -c '[ $(stat -c %s $MNT/odd) = {ODD + 8} ]'; "
               "[ $(tail -c 8 $MNT/odd) = 12345678 ]")
    # Reads, writes, mappings and cuts of one file, against a model.
    first.must("fsx $MNT/fsx 5 150", 60)


def objects(guest, digest):
    """The same on a bucket, with more data than its window holds."""
    guest.mount("bucket", "/run/bucket", "dax=always")
    guest.must("cp $MNT/random /run/bucket/random && "
               f"[ $(sha256sum </run/bucket/random | cut -d' ' -f1) = {digest} ]", 60)
    guest.must(f"head -c {24 * MIB} $MNT/big >/run/bucket/big && "
               f"daxop check /run/bucket/big {24 * MIB} 131072 0", 60)
    guest.must("daxop put /run/bucket/big 65544 313 && fsx /run/bucket/fsx 6 80", 60)
    # With another mount the guest has forgotten everything.
    guest.must("umount /run/bucket")
    guest.mount("bucket", "/run/bucket", "dax=always")
    guest.must("[ $(daxop get /run/bucket/big 65544) = 313 ] && "
               f"[ $(sha256sum </run/bucket/random | cut -d' ' -f1) = {digest} ]", 60)


def cuts(site, guest):
    """What is cut off is a bus error, to the program alone."""
    for size in (6 * MIB, 6 * MIB + 100):
        fill(f"{site.export}/cut", size, 0, 65536)
        output = guest.must("daxop cut $MNT/cut 4096 && daxop cut $MNT/cut 0; cat $MNT/cut; "
                            "rm $MNT/cut")
        if output.split("\n") != ["signal 7", "signal 7"]:
            raise Failure("not a bus error", output)


def cut_on_host(site, guest):
    """With copies it is nothing to the guest, until it opens the file again, nor to its QEMU."""
    path = f"{site.export}/host-cut"
    fill(path, 4 * MIB, 0)
    job = guest.start(f"daxop wait $MNT/host-cut {3 * MIB} 60", 100)
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{path}.ready"):
        if time.monotonic() > deadline:
            raise Failure("the guest has not mapped the file")
        time.sleep(0.05)
    os.truncate(path, 0)
    with open(f"{path}.go", "wb"):
        pass
    _, output = guest.wait(job)
    if output != f"value {3 * MIB}":
        raise Failure("not what was mapped", output)
    guest.must(". $GUEST_DIR/lib.sh; within 10 sh -c '[ $(stat -c %s $MNT/host-cut) = 0 ]'")
