# SPDX-License-Identifier: Apache-2.0
"""make of a C project in a guest: on a bucket with write-back, and on a disk through virtiofsd.

The project is a part of ours (src/base, src/store, src/cache), with a makefile that writes objects,
dependencies and an archive for each folder. One User-mode Linux guest of this host, whose root it
has, mounts all; so compiler and kernel are the same. What is measured is `make` of a tree that was
unpacked before, with the guest's caches dropped, until make returns.
"""

import os
import shutil
import statistics
import subprocess
import tempfile

from ground.bucket import Bucket
from ground.servers import MinIO

from . import cachememory
from .daemon import REPO, Daemon, kinds_available
from .guest import Guest, GuestError, parse_fsops
from .proxy import ConfigProxy

FOLDERS = ("base", "store", "cache")
# For the report; twice the time is half the speed.
GROUP = "build of a C project in a guest, on a bucket"
STEPS = {"make": "make", "nothing": "make with nothing to do", "sync": "sync"}
DUELS = {name: {"base": "s3", "goal": 0.5 if name == "make" else ""} for name in STEPS.values()}
# Each is some minutes.
MOST_ROUNDS = 3
MAKEFILE = """\
CFLAGS = -O0 -g -D_GNU_SOURCE -Isrc -MMD -MP
FOLDERS = {folders}
all: $(FOLDERS:%=lib%.a)
define folder
lib$(1).a: $$(patsubst %.c,%.o,$$(wildcard src/$(1)/*.c))
	rm -f $$@
	$$(AR) rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call folder,$(f))))
-include $(wildcard src/*/*.d)
"""


class HostGuest(Guest):
    """With this host's own User-mode Linux, and its root."""

    def command(self, memory):
        return ["linux.uml", f"mem={memory}"]


def project(folder):
    """A tar of the project."""
    top = os.path.join(folder, "project")
    for name in FOLDERS:
        shutil.copytree(f"{REPO}/src/{name}", f"{top}/src/{name}",
                        ignore=shutil.ignore_patterns("services", "layers", "meson.build"))
    with open(f"{top}/Makefile", "w", encoding="utf-8") as makefile:
        makefile.write(MAKEFILE.format(folders=" ".join(FOLDERS)))
    path = os.path.join(folder, "project.tar")
    subprocess.run(["tar", "-C", folder, "-cf", path, "project"], check=True)
    return path


def sample(vm, mount, bench, tar):
    top = f"/run/{mount}/project"
    vm.run(f"rm -rf {top} && tar -C /run/{mount} -xmf {tar}", 300)
    vm.drop_caches()
    made = parse_fsops(vm.run(f"cd {top} && {bench.fsops} time make -s -j1", 900))
    again = parse_fsops(vm.run(f"cd {top} && {bench.fsops} time make -q", 300))
    sync = parse_fsops(vm.run(f"{bench.fsops} time sync", 300))
    return {"make_s": made["seconds"], "nothing_s": again["seconds"], "sync_s": sync["seconds"]}


def measure(bench):
    bench.fsops = os.path.join(bench.sockets, "fsops")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-static", "-o", bench.fsops,
                    os.path.join(REPO, "bench", "fsops.c")], check=True)
    disk = tempfile.mkdtemp(prefix="ovfs-bench.", dir=bench.options.disk_dir)
    tar = project(bench.sockets)
    server = MinIO(bench.work)
    server.start()
    daemons, devices, proxies = {}, {}, []
    try:
        Bucket(server, "build").make()
        kinds = [cachememory.s3(bench, server.endpoint, "build", server,
                                enabled_cache_write_back=True),
                 *kinds_available(bench.program("ovfs"), ["c"])]
        for kind in kinds:
            root = os.path.join(disk, kind.name)
            os.mkdir(root)
            daemons[kind.name] = Daemon(kind, bench.sockets, root, tag=kind.name)
            devices[kind.name] = daemons[kind.name].socket
            if kind.needs_config_proxy:
                proxies.append(ConfigProxy(devices[kind.name] + ".proxy", devices[kind.name],
                                           kind.name))
                devices[kind.name] = proxies[-1].socket
        run(bench, kinds, devices, tar)
    except GuestError as error:
        print(f"bench: build: {error}", flush=True)
    finally:
        for daemon in daemons.values():
            daemon.stop()
        for proxy in proxies:
            proxy.close()
        server.end()
        shutil.rmtree(disk, ignore_errors=True)


def run(bench, kinds, devices, tar):
    found = {kind.name: [] for kind in kinds}
    with HostGuest(bench.sockets, devices) as vm:
        for number in range(min(bench.options.rounds, MOST_ROUNDS)):
            for kind in kinds if number % 2 == 0 else kinds[::-1]:
                made = sample(vm, kind.name, bench, tar)
                found[kind.name].append(made)
                for what, name in STEPS.items():
                    bench.note(part="build", row=name, subject=kind.name, round=number, ops=1,
                               seconds=made[f"{what}_s"])
    ours, *others = kinds
    print("\n| in a guest | the other | its seconds | ovfs | time, ratio | goal |\n"
          "| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for what, goal in (("make", 2.0), ("nothing", ""), ("sync", "")):
        mine = [s[f"{what}_s"] for s in found[ours.name]]
        for other in others:
            its = [s[f"{what}_s"] for s in found[other.name]]
            ratios = [a / b for a, b in zip(mine, its)]
            name = "make with nothing to do" if what == "nothing" else what
            print(f"| {name} | {other.label} | {statistics.median(its):.2f} "
                  f"| {statistics.median(mine):.2f} | {statistics.median(ratios):.2f} "
                  f"[{min(ratios):.2f}..{max(ratios):.2f}] | {goal} |", flush=True)
