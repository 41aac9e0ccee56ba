# SPDX-License-Identifier: Apache-2.0
"""A User-mode Linux guest of the newer suite that mounts all daemons at once.

Every daemon is a virtio-fs device of the same guest, so one row of the
benchmark can be run against each in turn within seconds, in the same kernel.
What is run comes from the guest's own tree, or, from a toolbox: the host's root, which the
guest sees below `toolbox`, and enters by chroot.
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
    """A booted guest. `devices` maps tags to sockets; each is mounted at /run/TAG.
    `toolbox`: a folder that the host has its root mounted at, for tools()."""

    # Where tools() find fsops.
    tools_fsops = "/mnt/fsops"

    def __init__(self, workdir, devices, cpus=(), memory="2G", toolbox=None, fsops=None):
        self.workdir = workdir
        self.toolbox = toolbox
        self.fsops = fsops
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
            if toolbox:
                self._open_toolbox(devices)
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

    def _open_toolbox(self, tags):
        box = self.toolbox
        self.run(f"mount -t tmpfs tools {box}/mnt && mount -t proc proc {box}/proc && "
                 f"mount -t devtmpfs dev {box}/dev && mkdir {box}/mnt/tmp && "
                 f"cp {self.fsops} {box}{self.tools_fsops}", 30)
        for tag in tags:
            self.run(f"mkdir {box}/mnt/{tag} && mount --bind /run/{tag} {box}/mnt/{tag}", 30)

    @staticmethod
    def path(mount):
        return f"/run/{mount}"

    @staticmethod
    def tools_path(mount):
        """The same, for what tools() runs."""
        return f"/mnt/{mount}"

    def tools(self, command):
        """A command line that runs this one with the host's programs. It may have no quotes (')."""
        return f"TMPDIR=/mnt/tmp HOME=/mnt/tmp chroot {self.toolbox} sh -c '{command}'"

    def drop_caches(self):
        self.run("sync; echo 3 >/proc/sys/vm/drop_caches")

    def warm_up(self, tags):
        """Has the guest's memory touched once, all of it by the guest, and some through every
        daemon: the first touch of a page costs the host, whoever does it."""
        free_mib = "$(($(sed -n 's/^MemFree: *\\([0-9]*\\) .*/\\1/p' /proc/meminfo) / 1024 - 64))"
        self.run("mkdir /run/fill && mount -t tmpfs -o size=100% fill /run/fill && "
                 f"dd if=/dev/zero of=/run/fill/fill bs=1M count={free_mib} && "
                 "umount /run/fill && rmdir /run/fill")
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


class Host:
    """The same programs on the host, in the directory that the daemons export: the limit."""

    def __init__(self, root, fsops):
        self.root = root
        self.tools_fsops = fsops

    def path(self, _mount):
        return self.root

    tools_path = path

    @staticmethod
    def tools(command):
        return f"@{command}"

    def run(self, command, timeout_s=120):
        argv = ["sh", "-c", command.lstrip("@")]
        if not command.startswith("@"):
            argv = [PEERS, "exec", "-b", self.root, "--", *argv]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise GuestError(f"exit code {done.returncode} of: {command}\n{done.stdout}")
        return done.stdout

    def drop_caches(self):
        """What the host has in its cache is what the daemons' hits are made of."""


def parse_fsops(output):
    """What fsops printed, as a sample."""
    result = json.loads(output.splitlines()[-1])
    return dict(ops=result["ops"], seconds=result["seconds"])
