# SPDX-License-Identifier: Apache-2.0
"""Raw data of a suite: a file of JSON lines, from which every table and plot is made.

The first line is {"header": ...}: what was run, on what, when. The last is {"end": ...}. Between
them are samples, {"group": ..., "row": ..., "kind": ..., "round": ...} and what was measured, and
{"note": ...} for what a reader has to know. A suite that did not end has no end.

`kinds` of the header are the programs that are compared, the first is the one that the others are
compared with: [{"name", "label", "version"}]. In samples: ops, bytes, seconds, cpu_s (of the
daemon and everything behind it on this machine but the server), latency_us {"p50", ...}, x (of a
row that is a point of a curve), memory_mib [[seconds, MiB], ...]; at: seconds since the beginning
when it was there.
"""

import datetime
import json
import lzma
import os
import platform
import subprocess
import sys
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def git(*arguments):
    done = subprocess.run(["git", "-C", REPO, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip()


def commit():
    """The commit that is checked out; "+" when what is measured has changes on top."""
    changed = git("status", "--porcelain", "--untracked-files=no", "src")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.machine()


def memory_gib():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))


def short(value):
    """Six digits are more than any measurement here has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [short(item) for item in value]
    return value


def for_a_reader(arguments):
    """A command line without where things were on this machine."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument in ("--raw", "--build"):
            skip = not skip
        else:
            kept.append(argument)
    return kept


class Raw:
    """Writes one file, line by line, so that a run that is broken off leaves what it has."""

    def __init__(self, path, suite, kinds, rounds, **more):
        self.path = path
        self.start = time.monotonic()
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self.file = open(path, "w", encoding="utf-8")
        now = datetime.datetime.now(datetime.timezone.utc)
        command = [os.path.relpath(sys.argv[0], REPO), *for_a_reader(sys.argv[1:])]
        self.write({"header": {
            "suite": suite, "date": f"{now:%Y-%m-%d %H:%M} UTC", "commit": commit(),
            "command": " ".join(command), "rounds": rounds,
            "kernel": platform.release(), "processor": processor(), "processors": os.cpu_count(),
            "memory_gib": memory_gib(), "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "load": os.getloadavg()[0],
            "kinds": [{"name": k.name, "label": k.label, "version": k.version}
                      | ({"limit": True} if k.limit else {}) for k in kinds],
            **more}})

    def write(self, line):
        self.file.write(json.dumps(short(line), separators=(",", ":")) + "\n")
        self.file.flush()

    def add(self, **sample):
        self.write(sample | {"at": round(time.monotonic() - self.start, 1)})

    def note(self, text):
        print(f"bench: {text}", flush=True)
        self.write({"note": text})

    def close(self):
        self.write({"end": {"seconds": time.monotonic() - self.start,
                            "load": os.getloadavg()[0]}})
        self.file.close()


class Data:
    """A file that was read again, packed or not."""

    def __init__(self, path):
        self.header, self.samples, self.notes, self.end = {}, [], [], None
        opened = lzma.open if path.endswith(".xz") else open
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                item = json.loads(line)
                if "header" in item:
                    self.header = item["header"]
                elif "end" in item:
                    self.end = item["end"]
                elif "note" in item:
                    self.notes.append(item["note"])
                else:
                    self.samples.append(item)

    def seconds(self):
        """How long it took, as far as it came."""
        if self.end:
            return self.end["seconds"]
        return max((sample.get("at", 0) for sample in self.samples), default=0)

    def groups(self):
        """In the order in which they were measured."""
        return list(dict.fromkeys(sample["group"] for sample in self.samples))

    def of(self, group):
        return [sample for sample in self.samples if sample["group"] == group]


def pack(source, target):
    """The same bytes each time, for it lies in a repository."""
    with open(source, "rb") as file:
        data = file.read()
    with open(target, "wb") as out:
        out.write(lzma.compress(data, preset=9))
