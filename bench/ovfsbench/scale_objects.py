# SPDX-License-Identifier: Apache-2.0
"""Parts of bench/scale that work on a bucket."""

import contextlib
import subprocess

from .daemon import Daemon
from .scale_files import MIB, size_name

SIZES = "an object read from front to back, cold, over its size"
POOL = "an object of 256 MiB read a second time, over the pool's size"
READ = "sequential read over the server's distance"
WRITE = "sequential write and close over the server's distance"
RANDOM = "4 KiB reads at random places, 32 in flight, over the server's distance"
SMALL = "4 KiB objects, 32 at a time, over the server's distance"
CURVES = {
    SIZES: {"title": SIZES, "x": "size", "x_log": True},
    POOL: {"title": POOL, "x": "pool", "x_log": True},
    READ: {"title": READ, "x": "distance"},
    WRITE: {"title": WRITE, "x": "distance"},
    RANDOM: {"title": RANDOM, "x": "distance"},
    SMALL: {"title": SMALL, "x": "distance"},
}
PART = 8 * MIB


def bench_put(bench, key, size):
    bench.ground.bare(f"put {key} {size} {PART} 16")


def with_ovfs(bench, kind, *runs):
    """The JSON of each run of s3load, in turn, on one fresh daemon."""
    with Daemon(kind, bench.seen, bench.root) as daemon:
        before = daemon.cpu_s()
        made = [bench.ground.program("s3load", [daemon.socket, *run.split()]) for run in runs]
        return made, daemon.cpu_s() - before


def object_size(bench):
    ovfs = bench.ground.kind()
    for size in (1 << 10, 1 << 16, MIB, 64 * MIB) if bench.quick else (
            1 << 10, 1 << 16, MIB, 16 * MIB, 256 * MIB, 1 << 30):
        bench_put(bench, "sized", size)
        # Of what is read in one piece the bare client's start is most.
        for number, who in bench.turns(["ovfs", "bare"] if size > PART else ["ovfs"]):
            if who == "ovfs":
                made = with_ovfs(bench, ovfs, f"read sized {size} {min(size, MIB)} 16")[0][0]
            else:
                made = bench.ground.bare(f"get sized {size} {PART} 16")
            bench.add(SIZES, size, size_name(size), who, number, bytes=made["bytes"],
                      seconds=made["seconds"])


def pool(bench):
    """The second time an object is in the pool, as far as that has room."""
    size = 256 * MIB
    bench_put(bench, "pooled", size)
    read = f"read pooled {size} {MIB} 16"
    for mib in (64, 512) if bench.quick else (64, 256, 512, 1024, 4096):
        kind = bench.ground.kind(pool=f"{mib}MiB")
        for number in range(bench.rounds):
            made = with_ovfs(bench, kind, read, read)[0][1]
            bench.add(POOL, mib, size_name(mib * MIB), "ovfs", number, bytes=made["bytes"],
                      seconds=made["seconds"])


@contextlib.contextmanager
def far_away(bench, milliseconds):
    """An endpoint of the server at this distance."""
    if not milliseconds:
        yield bench.ground.server.endpoint
        return
    relay = subprocess.Popen([bench.program("delay"), str(bench.ground.server.port),
                              str(milliseconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
    try:
        yield f"http://127.0.0.1:{int(relay.stdout.readline())}"
    finally:
        relay.stdin.close()
        relay.wait()


def latency(bench):
    size = (64 if bench.quick else 256) * MIB
    places = (64 if bench.quick else 128) * MIB
    count = 500
    bench_put(bench, "far", size)
    bench_put(bench, "places", places)
    for i in range(count):
        bench.ground.bucket.put(f"s-{i:07}", b"x" * 4096)
    rows = [
        (READ, f"read far {size} {MIB} 16", f"get far {size} {PART} 16", None),
        (WRITE, f"write far-new {size} {MIB} 16", f"put far-bare {size} {2 * PART} 16", None),
        (RANDOM, *2 * [f"random places {places} 4096 32 {count}"], count),
        (SMALL, f"small s- 4096 - 32 {count}", f"small s- 4096 - 32 {count}", count),
    ]
    for milliseconds in (10, 100) if bench.quick else (0, 1, 10, 50, 100):
        with far_away(bench, milliseconds) as endpoint:
            ovfs = bench.ground.kind(endpoint=endpoint, pool="2GiB")
            for group, ours, theirs, ops in rows:
                for number, who in bench.turns(["ovfs", "bare"]):
                    cpu_s = None
                    if who == "ovfs":
                        bench.ground.bucket.delete("far-new")
                        made, cpu_s = with_ovfs(bench, ovfs, ours)
                        made = made[0]
                    else:
                        made = bench.ground.bare(theirs, endpoint)
                    amount = {"ops": ops} if ops else {"bytes": made["bytes"]}
                    if cpu_s is not None:
                        amount["cpu_s"] = cpu_s
                    bench.add(group, milliseconds, f"{milliseconds} ms", who, number,
                              seconds=made["seconds"], **amount)
