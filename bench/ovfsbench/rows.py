# SPDX-License-Identifier: Apache-2.0
"""Rows that are run in a guest. A row has a name, `most_rounds` if it is long enough to need but
few, `quick` if it is part of a short run, and measure(guest, mount, bench), which returns a sample:
operations (or bytes), seconds, and latencies where the program tells them.
"""

import json
import re

from .guest import GuestError, parse_fsops


class Fio:
    """One fio job over the file `data` of the mount."""

    most_rounds = None

    def __init__(self, pattern, side, jobs=1, depth=1, direct=True, quick=False):
        kind, self.block = pattern.split()
        self.side = side
        self.rw = {"read": "read", "write": "write", "mixed": "rw"}[side]
        if kind == "rand":
            self.rw = "rand" + self.rw
        self.jobs, self.depth, self.direct, self.quick = jobs, depth, direct, quick
        self.name = f"{kind} {side} {self.block} d{depth}" + (f", {jobs} jobs" if jobs > 1 else "")
        self.name += ", direct" if direct else ", buffered"

    def measure(self, guest, mount, bench):
        limit = f"--runtime={int(bench.row_s * 1000)}ms"
        # Cached reads must not come round to a block twice: one pass at most.
        if self.direct or self.side != "read":
            limit += " --time_based"
        engine = "libaio" if self.depth > 1 else "psync"
        output = guest.run(
            f"fio --name=row --filename={guest.path(mount)}/data --size={bench.data_mib}m "
            f"--rw={self.rw} --bs={self.block} --ioengine={engine} --iodepth={self.depth}"
            f" --numjobs={self.jobs} --direct={int(self.direct)} --thread --group_reporting"
            f" --fallocate=none --output-format=json {limit}"
        )
        job = json.loads(output[output.index("{") :])["jobs"][0]
        sides = [job[s] for s in ("read", "write") if job[s]["total_ios"]]
        if job["error"] or not sides:
            raise GuestError(f"fio: {output}")
        ops = sum(side["total_ios"] for side in sides)
        latency = {f"p{float(p):g}": ns / 1000
                   for p, ns in sides[0]["clat_ns"]["percentile"].items()}
        wanted = {name: latency[name] for name in ("p50", "p90", "p99", "p99.9")}
        return dict(ops=ops, seconds=ops / sum(side["iops"] for side in sides),
                    latency_us=wanted)


class Files:
    """A phase over many files or directories; the phases run in the order of the list."""

    most_rounds = 5

    def __init__(self, phase, name, quick=True, first=False):
        self.phase, self.name, self.quick, self.first = phase, name, quick, first

    def measure(self, guest, mount, bench):
        where = f"{guest.path(mount)}/files-{mount}"
        count = bench.files // 5 if "tree" in self.phase else bench.files
        if self.first:
            guest.run(f"rm -rf {where} && mkdir {where}")
        return parse_fsops(guest.run(f"{bench.fsops} {self.phase} {where} {count}"))


class Timed:
    """A command of the tools, timed; PATH in it is the mount. `before` is not timed. `counts`: the
    member of bench that says how many operations that was."""

    most_rounds = 5

    def __init__(self, name, command, before=None, counts="one", quick=True, prepare=None):
        self.name, self.command, self.before = name, command, before
        self.counts, self.quick, self.prepare = counts, quick, prepare

    def on(self, guest, mount, command):
        guest.run(guest.tools(command.replace("PATH", guest.tools_path(mount))
                              .replace("MOUNT", mount)), 300)

    def measure(self, guest, mount, bench):
        if self.before:
            self.on(guest, mount, self.before)
            guest.drop_caches()
        command = self.command.replace("PATH", guest.tools_path(mount)).replace("MOUNT", mount)
        output = guest.run(guest.tools(f"{guest.tools_fsops} time sh -c \"{command}\""), 300)
        return dict(parse_fsops(output), ops=getattr(bench, self.counts))


class Sysbench:
    """sysbench fileio, 16 files of 4 MiB; what it counts are reads, writes and fsyncs."""

    most_rounds = 5

    def __init__(self, mode, quick=False):
        self.name, self.mode, self.quick = f"sysbench fileio {mode}", mode, quick

    def measure(self, guest, mount, bench):
        where = f"{guest.tools_path(mount)}/sysbench-{mount}"
        common = f"mkdir -p {where} && cd {where} && sysbench fileio --file-total-size=64M " \
                 f"--file-num=16 --file-test-mode={self.mode} --file-block-size=16K " \
                 f"--time={max(1, round(bench.row_s * 2))}"
        guest.run(guest.tools(f"{common} prepare"))
        guest.drop_caches()
        output = guest.run(guest.tools(f"{common} run"))
        rates = [float(r) for r in re.findall(r"(?:reads|writes|fsyncs)/s:\s+([\d.]+)", output)]
        seconds = float(re.search(r"total time:\s+([\d.]+)s", output)[1])
        if not rates:
            raise GuestError(f"sysbench: {output}")
        return dict(ops=round(sum(rates) * seconds), seconds=seconds)


def fio_matrix():
    """Sequential 1 MiB and random 4 KiB; read, write and mixed; depth 1 and 32, 1 and 4 jobs,
    direct; and buffered, where the guest's kernel decides on the depth."""
    short = {("seq 1m", "read", 1, 1, True), ("rand 4k", "read", 1, 1, True),
             ("rand 4k", "read", 1, 32, True), ("rand 4k", "write", 1, 32, True),
             ("seq 1m", "write", 1, 1, False), ("seq 1m", "read", 1, 1, False)}
    rows = []
    for pattern in ("seq 1m", "rand 4k"):
        for side in ("read", "write", "mixed"):
            for jobs, depth, direct in ((1, 1, True), (1, 32, True), (4, 1, True), (4, 32, True),
                                        (1, 1, False), (4, 1, False)):
                quick = (pattern, side, jobs, depth, direct) in short
                rows.append(Fio(pattern, side, jobs, depth, direct, quick))
    return rows


METADATA = [
    Files("create", "mdtest: create files", first=True),
    Files("stat", "mdtest: stat files"),
    Files("read", "mdtest: read files"),
    Files("readdir", "mdtest: list files"),
    Files("unlink", "mdtest: remove files"),
    Files("mktree", "mdtest: create tree", first=True, quick=False),
    Files("rmtree", "mdtest: remove tree", quick=False),
]
FILES = fio_matrix() + METADATA + [
    Sysbench("rndrd"),
    Sysbench("rndrw"),
    Sysbench("seqwr"),
    Timed("cp -a of a tree", "cp -a PATH/tree PATH/copy-MOUNT", "rm -rf PATH/copy-MOUNT",
          counts="tree_entries", quick=False),
    Timed("git status", "git --no-optional-locks -c safe.directory=* -C PATH/tree status "
          "--porcelain >/dev/null",
          counts="tree_entries"),
    Timed("build of a C project", "make -s -C PATH/project-MOUNT",
          "rm -rf PATH/project-MOUNT && cp -r PATH/project PATH/project-MOUNT", quick=False),
]
