# SPDX-License-Identifier: Apache-2.0
"""Objects of a real S3 server mapped through the DAX window of QEMU 11: an object of 1 GiB
through a window of 64 MiB, two guests that share copies, what they write, objects that
are cut, a pool that is too small, a guest that is killed."""

import concurrent.futures
import hashlib
import os
import struct
import subprocess

from harness import bucket
from harness.report import Failure

GUESTS = ("qemu-new",)

MIB = 1 << 20
BIG = 1024 * MIB
STRIDE = 65536
ODD = 24 * MIB + 1234


def fill(path, size, salt):
    """What `daxop check` looks for; the rest is holes."""
    with open(path, "wb") as out:
        out.truncate(size)
        for offset in range(0, size - 7, STRIDE):
            os.pwrite(out.fileno(), struct.pack("Q", offset + salt), offset)


class Objects:
    """The bucket from the host's side, by a client of its own."""

    def __init__(self, remote, environment):
        self.remote = remote
        self.environment = {**os.environ, **environment}

    def rclone(self, *args):
        return subprocess.run(["rclone", "--s3-no-check-bucket", "--s3-disable-checksum", *args],
                              env=self.environment, check=True, stdout=subprocess.PIPE).stdout

    def put(self, path, name):
        self.rclone("copyto", "--s3-chunk-size=64Mi", path, f"{self.remote}/{name}")

    def word(self, name, offset):
        return struct.unpack("Q", self.rclone("cat", f"--offset={offset}", "--count=8",
                                              f"{self.remote}/{name}"))[0]


def daemon(site, tag, window, cache, sockets=1):
    """One of the bucket; (daemon, its sockets)."""
    socket = site.next_path("daemon") + ".sock"
    paths = [socket, *(f"{socket}.{i}" for i in range(1, sockets))]
    tables = site.bucket.tables()
    tables["socket_settings"] = {"socket_path": paths, "tag": tag, "num_request_queues": 1}
    tables["cache_settings"]["size"] = cache
    tables["dax_settings"] = {"enabled": True, "window_size": window}
    cls = type("OvfsWithWindowOnBucket", (site.daemon_class,), {"tables": tables})
    return site.daemon(cls=cls, socket=socket, tag=tag), paths


def play(site, kind):
    server = bucket.Server(site.tools.repository, os.path.dirname(site.dir))
    try:
        server.start()
        server.give_bucket(site)
        play_on(site, kind, Objects(site.bucket.remote, site.bucket.environment))
    finally:
        for guest in site.guests:
            guest.kill()
        for each in site.daemons:
            each.kill()
        server.end()


def put_objects(site, objects, random):
    with open(f"{site.dir}/random", "wb") as out:
        out.write(random)
    for name, size, salt in (("big", BIG, 0), ("odd", ODD, 7), ("cut", 6 * MIB + 100, 0)):
        fill(f"{site.dir}/{name}", size, salt)
    for name in ("big", "odd", "cut", "random"):
        objects.put(f"{site.dir}/{name}", name)
        os.unlink(f"{site.dir}/{name}")


def play_on(site, kind, objects):
    random = os.urandom(3 * MIB + 77)
    digest = hashlib.sha256(random).hexdigest()
    shared, sockets = daemon(site, "ovfs", "64MiB", "256MiB", sockets=2)
    small, (small_socket,) = daemon(site, "small", "64MiB", "32MiB")
    first = site.guest(kind, sockets={"ovfs": sockets[0], "small": small_socket})
    second = site.guest(kind, sockets={"ovfs": sockets[1]})
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(first.boot), pool.submit(second.boot),
                pool.submit(put_objects, site, objects, random)]
        for job in jobs:
            job.result()
    first.mount(options="dax=always")
    second.mount(options="dax=inode")

    # All of it, sixteen times what the window holds, while the other guest does something else.
    whole = first.start(f"daxop check $MNT/big {BIG} {STRIDE} 0", 400)
    second.must(f"[ $(sha256sum <$MNT/random | cut -d' ' -f1) = {digest} ]", 100)
    second.must(f"daxop check $MNT/odd {ODD} {STRIDE} 7", 100)
    # A word of one range in five.
    second.must(f"daxop check $MNT/big {BIG} {160 * STRIDE} 0", 200)
    rc, output = first.wait(whole)
    if rc != 0:
        raise Failure("not what was put into the bucket", output)

    writes(objects, first, second)
    cuts(second)
    too_small(first, digest)

    # Dies with mappings that it has written to.
    first.must("daxop put $MNT/odd 8192 4711")
    first.kill()
    second.must(f"[ $(daxop get $MNT/odd 8192) = 4711 ] && "
                f"[ $(sha256sum <$MNT/random | cut -d' ' -f1) = {digest} ]", 100)
    second.poweroff()
    for each in (shared, small):
        site.stop_well(each)
    if objects.word("odd", 8192) != 4711:
        raise Failure("what the killed guest had synced is not in the bucket")


def writes(objects, first, second):
    """What one guest stores is in the other one, and in the bucket."""
    first.must("daxop put $MNT/odd 65536 111", 100)
    if objects.word("odd", 65536) != 111:
        raise Failure("what was stored and synced is not in the bucket")
    second.must("[ $(daxop get $MNT/odd 65536) = 111 ] && daxop put $MNT/odd 131072 112", 100)
    first.must("[ $(daxop get $MNT/odd 131072) = 112 ]", 100)
    # Reads, writes, mappings and cuts of one file, against a model; and plain copies.
    first.must("fsx $MNT/fsx 7 60", 200)
    second.must("cp $MNT/random $MNT/copy && cmp $MNT/random $MNT/copy", 100)


def cuts(guest):
    """What is cut off is a bus error, to the program alone."""
    output = guest.must("daxop cut $MNT/cut 4096; rm $MNT/cut", 100)
    if output.split("\n")[0] != "signal 7":
        raise Failure("not a bus error", output)


def too_small(guest, digest):
    """Half of a pool of 32 MiB can be mapped, and then no more. Linux has no other way to read
    than by mapping: read() fails, and who touches the memory stands still until there is room."""
    guest.mount("small", "/run/small", "dax=always")
    rc, output = guest.sh("dd if=/run/small/big of=/dev/null bs=2M count=20", 100)
    if rc == 0 or "emory" not in output:
        raise Failure("more was mapped than there is room for", output)
    # What needs no mapping goes on, here, and everything on the other mount.
    guest.must("ls /run/small | grep -q odd && echo plain >/run/small/plain && sync && "
               f"[ $(daxop get $MNT/big {128 * MIB}) = {128 * MIB} ]", 100)
    rc, output = guest.sh(f"timeout 5 daxop get /run/small/big {512 * MIB}", 100)
    if rc == 0 or output.strip().isdigit():
        raise Failure("more was mapped than there is room for", output)
    # As soon as there is room again, it is as if nothing had been.
    guest.must("sync; echo 3 >/proc/sys/vm/drop_caches; "
               f"[ $(daxop get /run/small/big {512 * MIB}) = {512 * MIB} ] && "
               f"[ $(sha256sum </run/small/random | cut -d' ' -f1) = {digest} ]", 100)
    guest.must("umount /run/small", 60)
