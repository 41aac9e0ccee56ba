# SPDX-License-Identifier: Apache-2.0
"""The levels: which guests, in which set-up, run which cases and scenarios.

A level is a function of a Plan and the cases. When something that it takes is
not there, that is a failure which says what, never a level left out.
"""

import fnmatch
import glob
import importlib
import os
import subprocess

from . import bucket, cases as case_files, qemu
from .daemon import OvfsWithCache
from .report import Failure
from .site import Site


class Plan:
    """What the command line asked for."""

    def __init__(self, level, work_dir, tools, report, daemon, daemon_kind, patterns):
        self.level = level
        self.work_dir = work_dir
        self.tools = tools
        self.report = report
        self.daemon = daemon
        self.daemon_kind = daemon_kind
        self.patterns = patterns

    def site(self, name):
        return Site(name, self.work_dir, self.tools, self.report, self.daemon, self.daemon_kind)

    def has(self, need):
        """Whether the thing is there; a failed result if not."""
        try:
            need()
        except Failure as failure:
            self.report.fails(f"{self.level}: can run here", failure)
            return False
        return True

    def scenarios(self, kind):
        """(name, function) of each scenario for this kind of guest."""
        folder = f"{self.tools.guest_dir}/scenarios"
        for path in sorted(glob.glob(f"{folder}/[a-z]*.py")):
            name = os.path.basename(path)[:-3]
            if self.patterns and not any(fnmatch.fnmatch(name, p) for p in self.patterns):
                continue
            module = importlib.import_module(f"scenarios.{name}")
            if kind in module.GUESTS:
                yield name.replace("_", "-"), module.play

    def play_scenarios(self, kind, configure=lambda site: None):
        for name, play in self.scenarios(kind):
            with self.site(f"{self.level}-{name}") as site:
                configure(site)
                if not self.report.check(f"{self.level}: {name}", play, site, kind):
                    for daemon in site.daemons:
                        self.report.say(daemon.log_tail())


def local(plan, cases):
    """No guest: the cases themselves are on trial."""
    with plan.site("local") as site:
        site.run_cases("local", cases)


def uml(plan, cases):
    """All cases in User-mode Linux, then the scenarios of several guests."""
    if not plan.has(plan.tools.need_uml):
        return
    with plan.site("uml") as site:
        site.run_cases("uml", cases)
    plan.play_scenarios("uml")


def uml_cache(plan, cases):
    """User-mode Linux, with the directory's data going through the cache of the daemon."""
    if not plan.has(plan.tools.need_uml):
        return
    with plan.site("uml-cache") as site:
        site.daemon_class = OvfsWithCache
        site.uml_options = {"scale": 20}
        site.run_cases("uml", [case for case in cases
                               if plan.patterns or case.name in CACHE_CASES])


def uml_s3(plan, _):
    """User-mode Linux on a bucket of a real S3 server, with cases of its own (cases-s3)."""
    if not plan.has(plan.tools.need_uml):
        return
    server = bucket.Server(plan.tools.repository, plan.work_dir)
    try:
        if not plan.has(server.start):
            return
        with plan.site("uml-s3") as site:
            server.give_bucket(site)
            site.run_cases("uml", case_files.load(plan.tools.guest_dir, plan.patterns, "cases-s3"))
        plan.play_scenarios("uml-s3", server.give_bucket)
    finally:
        server.end()


def uml_new(plan, cases):
    """User-mode Linux of a newer Debian suite: several request queues, two CPUs.

    Its programs run in that suite's tree (scripts/peers.sh), which has busybox.
    """
    peers = f"{plan.tools.repository}/scripts/peers.sh"
    if not plan.has(lambda: make_peers(peers)):
        return
    with plan.site("uml-new") as site:
        site.uml_options = {
            "wrapper": (peers, "exec", "-b", plan.work_dir, "-r", plan.tools.guest_dir, "--"),
            "extra": ("ncpus=2",),
            # The amounts are the other level's business.
            "scale": 10,
        }
        site.run_cases("uml", cases, queues=4)


def make_peers(peers):
    result = subprocess.run([peers, "path"], stdin=subprocess.DEVNULL, text=True, check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        raise Failure("cannot make the tree of a newer suite: " + result.stdout[-2000:])


def qemu_level(plan, cases):
    """The cases for busybox over virtio-pci, in each ring set-up."""
    if not plan.has(plan.tools.need_qemu):
        return
    accelerator, why = qemu.choose_accelerator(plan.tools)
    plan.report.say(f"qemu: {accelerator}: {why}")

    def configure(site):
        site.accelerator = accelerator

    setups = {
        "qemu": {"queue_size": 1024, "queues": 2, "packed": True},
        "qemu-split": {"queue_size": 128, "queues": 1, "packed": False},
    }
    for name, setup in setups.items():
        with plan.site(name) as site:
            configure(site)
            # The second set-up differs in the ring alone: what moves data is
            # enough there.
            chosen = cases if name == "qemu" else [
                case for case in cases if plan.patterns or case.name in RING_CASES]
            site.run_cases("qemu", chosen, **setup)
    plan.play_scenarios("qemu", configure)


def qemu_new(plan, cases):
    """QEMU 11 of a newer Debian suite, with its device that knows nothing of virtio-fs."""
    peers = f"{plan.tools.repository}/scripts/peers.sh"
    if not plan.has(plan.tools.need_qemu) or not plan.has(lambda: make_peers(peers)):
        return
    accelerator, _ = qemu.choose_accelerator(plan.tools)

    def configure(site):
        site.accelerator = accelerator
        site.qemu_options = {"generic": True, "packed": True, "wrapper": (
            peers, "exec", "-b", plan.work_dir, "-r", plan.tools.kernel_dir, "--")}

    with plan.site("qemu-new") as site:
        configure(site)
        chosen = [case for case in cases if plan.patterns or case.name in RING_CASES]
        site.run_cases("qemu", chosen, queues=2)
    plan.play_scenarios("qemu-new", configure)


# Cases that put much, or much at a time, through the rings.
RING_CASES = ("create-and-lookup", "big-file", "random-io", "mmap")

# What moves data in all ways that there are, and what looks at its size.
CACHE_CASES = ("append", "direct-io", "fallocate", "kill-privileges", "mmap", "random-io", "sparse",
               "sqlite", "truncate", "unlinked-open")

LEVELS = {"local": local, "uml": uml, "uml-cache": uml_cache, "uml-s3": uml_s3, "uml-new": uml_new, "qemu": qemu_level,
          "qemu-new": qemu_new}
# The longest first, since several run at a time.
DEFAULT = ("uml", "uml-s3", "uml-cache", "qemu", "uml-new", "qemu-new")
