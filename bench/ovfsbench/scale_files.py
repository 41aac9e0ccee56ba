# SPDX-License-Identifier: Apache-2.0
"""Parts of bench/scale that work on files."""

import json
import os
import shutil
import subprocess

from .daemon import Daemon, Ovfs

DEPTH = "READ of 4 KiB over the number of requests in flight, one queue"
QUEUES = "READ of 4 KiB over queues, 64 in flight"
LOOKUP_QUEUES = "LOOKUP over queues, 64 in flight"
FRONT_ENDS = "READ of 4 KiB over front ends, 8 in flight each"
LIST = "names listed a second (READDIRPLUS) over files in a directory"
NAMES = "LOOKUP over files in a directory, 8 in flight"
SIZES = "a file read from front to back, over its size"
CURVES = {
    DEPTH: {"title": "READ of 4 KiB over depth", "x": "in flight", "x_log": True},
    QUEUES: {"title": QUEUES, "x": "queues"},
    LOOKUP_QUEUES: {"title": LOOKUP_QUEUES, "x": "queues"},
    FRONT_ENDS: {"title": FRONT_ENDS, "x": "front ends"},
    LIST: {"title": LIST, "x": "files", "x_log": True},
    NAMES: {"title": NAMES, "x": "files", "x_log": True},
    SIZES: {"title": SIZES, "x": "size", "x_log": True},
}
MIB = 1 << 20


def load_argv(bench, socket, op, *more):
    return [bench.program("ovfs-load"), f"--socket={socket}", f"--op={op}", "--json",
            "--file-size=32M", "--files=1000", f"--seconds={bench.row_s}",
            f"--warmup={bench.row_s / 4}", *more]


def answer(argv, daemon):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ovfs-load: {done.stderr.strip() or done.stdout.strip()}; "
                           f"{daemon.log_tail()}")
    return json.loads(done.stdout)


def kept(result):
    """What ovfs-load, which was told --pid, says."""
    return {"ops": result["ops"], "seconds": result["seconds"],
            "latency_us": result["latency_us"],
            "cpu_s": result["cpu_us_per_op"] * result["ops"] / 1e6}


def depth(bench):
    for deep in (1, 8, 64) if bench.quick else (1, 4, 16, 64, 128):
        for number, kind in bench.turns(bench.kinds):
            with Daemon(kind, bench.seen, bench.root) as daemon:
                argv = load_argv(bench, daemon.socket, "randread", f"--depth={deep}",
                                 f"--pid={daemon.process.pid}")
                bench.add(DEPTH, deep, str(deep), kind.name, number, **kept(answer(argv, daemon)))


def queues(bench):
    for group, op in ((QUEUES, "randread"), (LOOKUP_QUEUES, "lookup")):
        for count in (1, 2, 4, 8):
            for number, kind in bench.turns(bench.kinds):
                have = min(count, kind.max_queues)
                with Daemon(kind, bench.seen, bench.root, queues=have) as daemon:
                    argv = load_argv(bench, daemon.socket, op, f"--queues={have}",
                                     f"--depth={64 // have}", f"--pid={daemon.process.pid}")
                    bench.add(group, count, str(count), kind.name, number,
                              **kept(answer(argv, daemon)))


class OvfsWithSockets(Ovfs):
    """One daemon, one mount, several sockets: each front end has its own."""

    def __init__(self, ovfs, count):
        super().__init__(ovfs.name, ovfs.binary)
        self.count = count

    def sockets(self, first):
        return [first] + [f"{first}.{i}" for i in range(1, self.count)]

    def argv(self, socket, root, tag, queues):
        argv = super().argv(socket, root, tag, queues)
        path = socket + ".toml"
        with open(path, encoding="utf-8") as conf:
            text = conf.read()
        paths = json.dumps(self.sockets(socket))
        with open(path, "w", encoding="utf-8") as conf:
            conf.write(text.replace(f'"{socket}"', paths, 1))
        return argv


def start_for(bench, kind, count):
    """(daemons, sockets) for so many front ends."""
    if isinstance(kind, Ovfs):
        kind = OvfsWithSockets(kind, count)
        daemon = Daemon(kind, bench.seen, bench.root)
        return [daemon], kind.sockets(daemon.socket)
    daemons = [Daemon(kind, bench.seen, bench.root, name=f"{kind.name}{i}") for i in range(count)]
    return daemons, [daemon.socket for daemon in daemons]


def front_ends(bench):
    for count in (1, 2, 4, 8):
        for number, kind in bench.turns(bench.kinds):
            daemons, sockets = start_for(bench, kind, count)
            try:
                running = [subprocess.Popen(
                    load_argv(bench, socket, "randread", "--depth=8"), stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True) for socket in sockets]
                results = [process.communicate(timeout=120) for process in running]
                if any(process.returncode for process in running):
                    raise RuntimeError(f"ovfs-load: {results}; {daemons[0].log_tail()}")
                made = [json.loads(out) for out, _ in results]
                # They ran side by side, for as long each.
                bench.add(FRONT_ENDS, count, str(count), kind.name, number,
                          ops=sum(m["ops"] for m in made),
                          seconds=sum(m["seconds"] for m in made) / count)
            finally:
                for daemon in daemons:
                    daemon.stop()


def directory(bench):
    have = 0
    os.mkdir(f"{bench.root}/many")
    for count in (1, 1000, 20000) if bench.quick else (1, 100, 10000, 100000, 1000000):
        for i in range(have, count):
            os.close(os.open(f"{bench.root}/many/f{i:06}", os.O_CREAT | os.O_WRONLY))
        have = count
        common = ["--dir=many", f"--files={count}"]
        times = f"--count={min(max(1, 20000 // count), 2000)}"
        for number, kind in bench.turns(bench.kinds):
            # The Rust one ends with its first client.
            with Daemon(kind, bench.seen, bench.root) as daemon:
                made = answer(load_argv(bench, daemon.socket, "readdirplus", *common, times,
                                        "--warmup=0"), daemon)
            bench.add(LIST, count, str(count), kind.name, number, seconds=made["seconds"],
                      ops=round(made["entries_per_s"] * made["seconds"]))
            with Daemon(kind, bench.seen, bench.root) as daemon:
                made = answer(load_argv(bench, daemon.socket, "lookup", *common, "--depth=8",
                                        f"--pid={daemon.process.pid}"), daemon)
            bench.add(NAMES, count, str(count), kind.name, number, **kept(made))
    shutil.rmtree(f"{bench.root}/many")


def size_name(size):
    for unit, suffix in ((1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {suffix}"
    return f"{size} B"


def file_size(bench):
    """Files on the tmpfs, in the page cache; the largest has no blocks, on a disk."""
    sizes = (1 << 10, 1 << 16, MIB, 64 * MIB)
    if not bench.quick:
        sizes += (1 << 30, 10 << 30)
    for size in sizes:
        root = bench.root if size <= 1 << 30 else f"{bench.options.disk_dir}/ovfs-bench-sparse"
        os.makedirs(root, exist_ok=True)
        try:
            with open(f"{root}/sized", "wb") as out:
                if root == bench.root:
                    for _ in range(max(1, size // MIB)):
                        out.write(b"x" * min(size, MIB))
                out.truncate(size)
            # Who is first would fill the page cache for the others. (cp leaves holes out.)
            subprocess.run(["dd", f"if={root}/sized", "of=/dev/null", "bs=1M"], check=True,
                           stderr=subprocess.DEVNULL)
            for number, kind in bench.turns(bench.kinds):
                with Daemon(kind, bench.seen, root) as daemon:
                    made = bench.ground.program("s3load", [
                        daemon.socket, "read", "sized", str(size), str(min(size, MIB)), "4"])
                bench.add(SIZES, size, size_name(size), kind.name, number, bytes=made["bytes"],
                          seconds=made["seconds"])
        finally:
            os.unlink(f"{root}/sized")
            if root != bench.root:
                os.rmdir(root)
