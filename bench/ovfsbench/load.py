# SPDX-License-Identifier: Apache-2.0
"""Rows made by the load generator, ovfs-load (tests/frontend): no guest, no
kernel in between, so what is measured is the daemon and the host's files.
"""

import json
import subprocess

from .daemon import Daemon, on_cpus


class Row:
    """`depth` is over all `queues` together; a daemon with fewer queues gets the same
    number of requests in flight in those that it has."""

    def __init__(self, name, op, depth=1, queues=1, quick=True):
        self.name = name
        self.op = op
        self.depth = depth
        self.queues = queues
        self.quick = quick


ROWS = [
    Row("rand read 4k d1", "randread"),
    Row("rand read 4k d32", "randread", depth=32),
    Row("rand read 4k d32, 2 queues", "randread", depth=32, queues=2, quick=False),
    Row("rand read 4k d32, 4 queues", "randread", depth=32, queues=4, quick=False),
    Row("seq read 1M d1", "seqread", quick=False),
    Row("seq read 1M d4", "seqread", depth=4),
    Row("rand write 4k d1", "randwrite"),
    Row("rand write 4k d32", "randwrite", depth=32),
    Row("rand write 4k d32, 2 queues", "randwrite", depth=32, queues=2, quick=False),
    Row("seq write 1M d1", "seqwrite", quick=False),
    Row("seq write 1M d4", "seqwrite", depth=4, quick=False),
    Row("lookup d1", "lookup"),
    Row("lookup d32", "lookup", depth=32),
    Row("lookup d32, 2 queues", "lookup", depth=32, queues=2, quick=False),
    Row("getattr d1", "getattr"),
    Row("getattr d32", "getattr", depth=32),
    Row("create+release+unlink d1", "create", quick=False),
    Row("create+release+unlink d8", "create", depth=8),
    Row("open+release d1", "open", quick=False),
    Row("open+release d32", "open", depth=32, quick=False),
    Row("readdirplus of 1000 d1", "readdirplus"),
    Row("mixed d32, 2 queues", "mixed", depth=32, queues=2),
]

SYSCALL_ROWS = [
    Row("READ 4k hit", "randread"),
    Row("WRITE 4k", "randwrite"),
    Row("LOOKUP", "lookup"),
    Row("GETATTR", "getattr"),
    Row("OPEN+RELEASE", "open", quick=False),
    Row("CREATE+RELEASE+UNLINK", "create", quick=False),
    Row("READ 4k hit, depth 32", "randread", depth=32, quick=False),
    Row("LOOKUP, depth 32", "lookup", depth=32, quick=False),
]


def queues_for(kind, row):
    return min(row.queues, kind.max_queues)


def run(bench, daemon, row, count=0):
    """Runs the generator once against a listening daemon; its JSON as a dict."""
    queues = queues_for(daemon.kind, row)
    argv = on_cpus(bench.driver_cpus)
    argv += [bench.load, f"--socket={daemon.socket}", f"--op={row.op}", "--json"]
    argv += [f"--queues={queues}", f"--depth={row.depth // queues}"]
    argv += [f"--pid={daemon.process.pid}"]
    if count:
        # For counting calls: what the files hold does not matter, making them is slow.
        argv += ["--file-size=4M", "--files=200"]
        argv += [f"--count={count // queues}"]
    else:
        argv += ["--file-size=64M", "--files=1000"]
        argv += [f"--seconds={bench.row_s}", f"--warmup={bench.row_s / 5}"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"ovfs-load: {done.stderr.strip() or done.stdout.strip()}; "
                           f"the daemon: {daemon.log_tail()}")
    return json.loads(done.stdout)


def measure(bench, kind, root, row):
    """One sample, on a daemon of its own."""
    queues, wrap = queues_for(kind, row), on_cpus(bench.daemon_cpus)
    with Daemon(kind, bench.workdir, root, queues=queues, wrap=wrap) as daemon:
        result = run(bench, daemon, row)
    return dict(ops=result["ops"], seconds=result["seconds"],
                cpu_s=result["cpu_us_per_op"] * result["ops"] / 1e6,
                latency_us=result["latency_us"], kicks=result["kicks"],
                interrupts=result["interrupts"])
