# SPDX-License-Identifier: Apache-2.0
"""System calls of a daemon for each operation, by `strace -f -c`.

Each operation is run twice, with two counts of operations; the difference of
the calls divided by the difference of the counts is free of what starting,
preparing and cleaning up cost. Under strace everything is slow and batches
less, so these are counts, not times, at depth 1: the worst case.
"""

import os
import re
import signal
import subprocess
import time

from . import load
from .daemon import Daemon, tool

GROUP = "system calls for each operation"
FEW, MANY = 1000, 4000
LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")


def threads(pid):
    """How many a process has; 0 when it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def trace_once(bench, kind, root, row, count):
    """{system call: number} of one run of `count` operations."""
    summary = os.path.join(bench.workdir, "strace.out")
    with Daemon(kind, bench.workdir, root) as daemon:
        # It listens before it has made its sandbox and its threads: let it finish.
        time.sleep(0.3)
        # Of a daemon that waits in one process for another, only the last works; what one
        # forks for a moment, or has not waited for yet, has no more than a thread.
        worker = max(reversed(daemon.pids()), key=threads)
        argv = [tool("strace"), "-f", "-c", "-o", summary, "-p", str(worker)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
            # It says "Process N attached" for each thread once it holds it.
            os.set_blocking(tracer.stderr.fileno(), False)
            deadline = time.monotonic() + 5
            said = b""
            while b"attached" not in said:
                if tracer.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"strace cannot attach: {said.decode()}")
                said += tracer.stderr.read() or b""
                time.sleep(0.02)
            load.run(bench, daemon, row, count=count)
            if tracer.poll() is None:
                time.sleep(0.1)
                tracer.send_signal(signal.SIGINT)
            tracer.wait()
    calls = {}
    with open(summary, encoding="utf-8") as out:
        for line in out:
            match = LINE.match(line)
            if match and match[2] != "total":
                calls[match[2]] = int(match[1])
    return calls


def count(bench, raw, kinds, root):
    """Adds a sample for each row and kind: {system call: calls for each operation}."""
    for row in load.SYSCALL_ROWS:
        if bench.args.quick and not row.quick:
            continue
        for kind in kinds:
            try:
                few = trace_once(bench, kind, root, row, FEW)
                many = trace_once(bench, kind, root, row, MANY)
            except RuntimeError as error:
                raw.note(f"system calls of {kind.label}, {row.name}: {error}")
                continue
            each = {
                name: (many.get(name, 0) - few.get(name, 0)) / (MANY - FEW)
                for name in sorted(set(few) | set(many))
            }
            raw.add(group=GROUP, row=row.name, kind=kind.name, round=0,
                    calls={name: calls for name, calls in each.items() if calls >= 0.05})
        print(f"bench: {GROUP}: {row.name}", flush=True)


def table(samples):
    lines = [["operation", "daemon", "all", "of these"]]
    for sample in samples:
        named = sorted(sample["calls"].items(), key=lambda p: -p[1])
        lines.append(
            [sample["row"], sample["kind"], f"{sum(sample['calls'].values()):.1f}",
             ", ".join(f"{n} {c:.1f}" for n, c in named)]
        )
    return lines
