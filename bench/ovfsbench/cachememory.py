# SPDX-License-Identifier: Apache-2.0
"""Resident memory of the daemon: with 64 streams, and for each inode that a guest knows.

All that is resident counts, program and libraries, too, but for the guest's memory.
"""

import json
import os
import subprocess
import threading

from ground.bucket import Bucket
from ground.manykeys import ManyKeys
from ground.servers import MinIO

from . import cachekinds
from .daemon import Daemon

MIB = 1 << 20
STREAMS = 64
STREAM_SIZE = 16 * MIB
POOL_MIB = 256
STREAMS_GROUP = "memory with 64 streams at once"
INODES_GROUP = "memory of the inodes that a guest knows"
TABLES = {
    STREAMS_GROUP: {"columns": ["storage", "its memory, MiB", "with the pool, MiB", "limit, MiB"]},
    INODES_GROUP: {"columns": ["storage", "inodes", "its memory, MiB", "bytes for each",
                               "limit, bytes"]},
}


class Watch(threading.Thread):
    """The highest of both, while a block runs."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.own, self.pool, self.all = pid, 0, 0, 0
        self.ended = threading.Event()

    def look(self):
        own, pool = cachekinds.memory_mib(self.pid)
        self.own, self.pool = max(self.own, own), max(self.pool, pool)
        self.all = max(self.all, own + pool)

    def run(self):
        while not self.ended.wait(0.05):
            self.look()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def s3(bench, endpoint, bucket, server=None, **cache):
    storage = {"type": "s3", "bucket": bucket, "endpoint": endpoint, "region": "us-east-1",
               "disable_config_load": True, "disable_ec2_metadata": True}
    if server:
        storage.update(access_key_id=server.access_key, secret_access_key=server.secret_key)
    else:
        storage.update(skip_signature=True)
    return cachekinds.Cached("s3", "ovfs, S3", bench.program("ovfs"), storage, cache,
                             pool_mib=POOL_MIB)


class Held:
    """s3load, which keeps what it has done until it is let go."""

    def __init__(self, bench, socket, *arguments):
        self.process = subprocess.Popen(
            [bench.program("bench/s3load"), socket, *map(str, arguments)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"s3load: {self.process.stderr.read()[-1000:]}")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def streams(bench, kind, root, name):
    """64 files at once, half of them read and half written, four times what the pool holds."""
    with Daemon(kind, bench.sockets, root) as daemon:
        with Watch(daemon.process.pid) as watch, \
                Held(bench, daemon.socket, "streams", "f-", STREAM_SIZE, MIB, STREAMS) as load:
            sample = load.wait()
            watch.look()
    sample.update(own_mib=round(watch.own, 1), pool_mib=round(watch.pool, 1),
                  most_mib=round(watch.all, 1), limit_mib=POOL_MIB + 64)
    bench.note(part=STREAMS_GROUP, row=name, **{
        "its memory, MiB": sample["own_mib"], "with the pool, MiB": sample["most_mib"],
        "limit, MiB": sample["limit_mib"]})
    print(f"| {name} | {POOL_MIB} | {watch.pool:.0f} | {watch.own:.1f} | {watch.all:.0f} "
          f"| {POOL_MIB + 64} |", flush=True)


def make_files(folder, size):
    for i in range(0, STREAMS, 2):
        with open(f"{folder}/f-{i:07}", "wb") as file:
            for _ in range(size // MIB):
                file.write(b"x" * MIB)


def measure_streams(bench):
    print(f"\n| {STREAMS} streams, MiB | pool's size | its memory | all else | both, at most | "
          "limit |\n| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    server = MinIO(bench.work)
    server.start()
    try:
        bucket = Bucket(server, "streams").make()
        for i in range(0, STREAMS, 2):
            bucket.put(f"f-{i:07}", b"x" * STREAM_SIZE)
        for write_back in (False, True):
            name = "a bucket" + (", write-back" if write_back else "")
            kind = s3(bench, server.endpoint, "streams", server,
                      enabled_cache_write_back=write_back)
            streams(bench, kind, bench.files, name)
    finally:
        server.end()
    for write_back in (False, True):
        make_files(bench.files, STREAM_SIZE)
        name = "a directory" + (", write-back" if write_back else "")
        kind = cachekinds.Cached("fs", "ovfs", bench.program("ovfs"), {"type": "fs"},
                                 {"enabled_cache": True, "enabled_cache_write_back": write_back},
                                 pool_mib=POOL_MIB)
        streams(bench, kind, bench.files, name)
        subprocess.run(f"rm -f {bench.files}/f-*", shell=True, check=True)


def known(bench, kind, root, prefix, name):
    """Resident memory for each inode looked up and not forgotten. What LOOKUPs need while they run
    (listed pages) is in it as far as it stays."""
    count = bench.options.inodes
    few = max(count // 100, 1000)
    found = {}
    with Daemon(kind, bench.sockets, root) as daemon:
        for number in (few, count):
            with Held(bench, daemon.socket, "known", prefix, "-", "-", 32, number) as load:
                load.wait()
                found[number] = cachekinds.memory_mib(daemon.process.pid)[0]
    each = (found[count] - found[few]) * MIB / (count - few)
    bench.note(part=INODES_GROUP, row=name, **{"inodes": count, "its memory, MiB": found[count],
                                               "bytes for each": each, "limit, bytes": 300})
    print(f"| {name} | {count} | {found[few]:.1f} | {found[count]:.1f} | {each:.0f} | 300 |",
          flush=True)


def measure_known(bench):
    print("\n| inodes that a guest knows | number | MiB with a hundredth of them | MiB | bytes for "
          "each | limit |\n| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    server = ManyKeys(bench.options.inodes)
    try:
        known(bench, s3(bench, server.endpoint, "keys"), bench.files, "d/key-", "a bucket")
    finally:
        server.end()
    os.mkdir(f"{bench.files}/d")
    for i in range(bench.options.inodes):
        os.close(os.open(f"{bench.files}/d/key-{i:07}", os.O_CREAT | os.O_WRONLY))
    known(bench, bench.kind("ovfs"), bench.files, "d/key-", "a directory")
    known(bench, bench.kind("cached"), bench.files, "d/key-", "a directory through the cache")
    subprocess.run(["rm", "-rf", f"{bench.files}/d"], check=True)


def measure(bench):
    if bench.options.rows in "streams":
        measure_streams(bench)
    if bench.options.rows in "inodes":
        measure_known(bench)
