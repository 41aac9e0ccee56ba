# SPDX-License-Identifier: Apache-2.0
"""A User-mode Linux guest of the newer suite that mounts all daemons at once.

Every daemon is a virtio-fs device of the same guest, so one row of the
benchmark can be run against each in turn within seconds, in the same kernel.
"""

import json
import os
import selectors
import shutil
import subprocess
import time

from .daemon import PEERS, REPO, on_cpus

BOOT_TIMEOUT_S = 60


class GuestError(RuntimeError):
    pass


class Guest:
    """A booted guest. `devices` maps tags to sockets; each is mounted at /run/TAG."""

    def __init__(self, workdir, devices, cpus=(), memory="2G"):
        self.workdir = workdir
        self.out = os.path.join(workdir, "guest.out")
        init = os.path.join(workdir, "guest-init.sh")
        shutil.copy(os.path.join(REPO, "bench", "guest-init.sh"), init)
        argv = on_cpus(cpus) + self.command(memory) + ["quiet", "rootfstype=hostfs"]
        argv += ["rootflags=/", "rw", f"init={init}", "con=null", "con0=fd:0,fd:1"]
        argv += [f"virtio_uml.device={socket}:26" for socket in devices.values()]
        self.log = open(os.path.join(workdir, "guest.log"), "ab")
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            process_group=0,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.pending = b""
        try:
            if self._wait_mark(b"@@READY ", BOOT_TIMEOUT_S) != 0:
                raise GuestError("the guest's console cannot be set up")
            for tag in devices:
                self.run(f"mkdir -p /run/{tag} && mount -t virtiofs {tag} /run/{tag}", 30)
        except BaseException:
            self.stop()
            raise

    def command(self, memory):
        return [PEERS, "exec", "--", "linux.uml", f"mem={memory}"]

    def _wait_mark(self, mark, timeout_s):
        """Reads the console up to the mark; returns the number behind it."""
        deadline = time.monotonic() + timeout_s
        while True:
            *lines, self.pending = self.pending.split(b"\n")
            for i, line in enumerate(lines):
                if line.startswith(mark):
                    self.pending = b"\n".join(lines[i + 1 :] + [self.pending])
                    return int(line[len(mark) :].strip())
                self.log.write(line + b"\n")
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestError(f"no answer from the guest in {timeout_s} s (see {self.log.name})")
            if self.selector.select(left):
                data = self.process.stdout.read(65536)
                if not data:
                    raise GuestError(f"the guest ended (see {self.log.name})")
                self.pending += data

    def run(self, command, timeout_s=120):
        """Runs a shell command line in the guest, returns what it printed."""
        open(self.out, "w", encoding="utf-8").close()
        line = f"{{ {command}; }} >{self.out} 2>&1 </dev/null\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        code = self._wait_mark(b"@@DONE ", timeout_s)
        with open(self.out, encoding="utf-8", errors="replace") as out:
            output = out.read()
        if code != 0:
            raise GuestError(f"exit code {code} of: {command}\n{output}")
        return output

    def drop_caches(self):
        self.run("sync; echo 3 >/proc/sys/vm/drop_caches")

    def warm_up(self, tags):
        """Has the guest's memory touched once, by the guest and through every daemon: the
        first touch of a page costs the host, whoever does it."""
        self.run("dd if=/dev/zero of=/run/fill bs=1M count=900 && rm /run/fill")
        for tag in tags:
            self.drop_caches()
            self.run(f"cat /run/{tag}/data >/dev/null")

    def stop(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.close()
                self.process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.stop()


class Fio:
    """One fio job over the file `data` of the mount."""

    most_rounds = None

    def __init__(self, name, rw, block, engine="psync", depth=1, jobs=1, direct=True):
        self.name = name
        self.rw = rw
        self.block = block
        self.engine = engine
        self.depth = depth
        self.jobs = jobs
        self.direct = direct

    def measure(self, guest, mount, bench):
        """One run; see parse_fsops() for what is returned."""
        limit = f"--runtime={int(bench.row_s * 1000)}ms"
        # Cached reads must not come round to a block twice: one pass at most.
        if self.direct or "write" in self.rw:
            limit += " --time_based"
        output = guest.run(
            f"fio --name=row --filename=/run/{mount}/data --size={bench.data_mib}m --rw={self.rw}"
            f" --bs={self.block} --ioengine={self.engine} --iodepth={self.depth}"
            f" --numjobs={self.jobs} --direct={int(self.direct)} --thread --group_reporting"
            f" --fallocate=none --output-format=json {limit}"
        )
        job = json.loads(output[output.index("{") :])["jobs"][0]
        side = job["read"] if "read" in self.rw else job["write"]
        if job["error"] or not side["total_ios"]:
            raise GuestError(f"fio: {output}")
        latency = {"p50": side["clat_ns"]["percentile"]["50.000000"] / 1000}
        return dict(ops=side["total_ios"], seconds=side["total_ios"] / side["iops"],
                    latency_us=latency)


class Files:
    """create, stat, readdir or unlink of many files; the four run in that order."""

    most_rounds = 5  # long enough each

    def __init__(self, phase):
        self.name = f"{phase} files"
        self.phase = phase

    def measure(self, guest, mount, bench):
        where = f"/run/{mount}/files-{mount}"
        if self.phase == "create":
            guest.run(f"rm -rf {where} && mkdir {where}")
        return parse_fsops(guest.run(f"{bench.fsops} {self.phase} {where} {bench.files}"))


class TreeCopy:
    """cp -a of a tree of small files, from the mount to the mount."""

    name = "cp -a tree"
    most_rounds = 5

    def measure(self, guest, mount, bench):
        copy = f"/run/{mount}/copy-{mount}"
        guest.run(f"rm -rf {copy}")
        result = parse_fsops(guest.run(f"{bench.fsops} time cp -a /run/{mount}/tree {copy}"))
        return dict(result, ops=bench.tree_entries)


def parse_fsops(output):
    """What Results.add() wants of a sample, but for the CPU time."""
    result = json.loads(output.splitlines()[-1])
    return dict(ops=result["ops"], seconds=result["seconds"])


ROWS = [
    Fio("seq read 1M direct", "read", "1m"),
    Fio("seq read 1M buffered", "read", "1m", direct=False),
    Fio("seq write 1M direct", "write", "1m"),
    Fio("seq write 1M buffered", "write", "1m", direct=False),
    Fio("rand read 4k d1 direct", "randread", "4k"),
    Fio("rand read 4k d32 direct", "randread", "4k", engine="libaio", depth=32),
    Fio("rand read 4k d1 buffered", "randread", "4k", direct=False),
    Fio("rand read 4k 32 threads buffered", "randread", "4k", jobs=32, direct=False),
    Fio("rand write 4k d1 direct", "randwrite", "4k"),
    Fio("rand write 4k d32 direct", "randwrite", "4k", engine="libaio", depth=32),
    Fio("rand write 4k d1 buffered", "randwrite", "4k", direct=False),
    Files("create"),
    Files("stat"),
    Files("readdir"),
    Files("unlink"),
    TreeCopy(),
]
