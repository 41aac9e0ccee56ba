# SPDX-License-Identifier: Apache-2.0
"""Starting and stopping the daemon under test.

Any vhost-user-fs daemon can be the one: what differs between them is how they
are told what to do, which is a class each.
"""

import json
import os
import shlex
import signal
import subprocess
import time

from .report import Failure

START_SECONDS = 10
STOP_SECONDS = 20


def toml(value):
    """A TOML value; JSON's strings, numbers and booleans are all valid ones."""
    return json.dumps(value)


def in_chroot():
    """Whether our root is a mere directory, as after chroot(8) into a tree. The
    kernel refuses pivot_root and user namespaces there."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return not any(line.split()[4] == "/" for line in mounts)


class Daemon:
    """One process serving `root` on `socket`. start() before anything else."""

    kind = None
    can_readonly = True
    max_queues = 64

    def __init__(self, command, root, socket, *, readonly=False, tag="ovfs", queues=1,
                 fresh=True, settle=0, arguments=()):
        """`arguments`: more of them. `fresh`: remove a socket file that is there before. `settle`: a start
        has succeeded only when the daemon is still there after so many seconds."""
        self.command = [*shlex.split(command), *arguments]
        self.root = root
        self.socket = socket
        self.readonly = readonly
        self.tag = tag
        self.queues = queues
        self.fresh = fresh
        self.settle = settle
        self.log_path = socket + ".log"
        self.process = None

    def argv(self):
        raise NotImplementedError

    def start(self):
        # So that the file, when it is there, is this daemon's. From then to its
        # listen() it takes microseconds, and a guest's kernel a second to connect.
        # (Connecting here would be the guest that some daemons serve only once.)
        if self.fresh and os.path.exists(self.socket):
            os.unlink(self.socket)
        # Appended to: a daemon started again keeps what the first one said.
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        start = time.monotonic()
        deadline = start + START_SECONDS
        while not os.path.exists(self.socket) or time.monotonic() < start + self.settle:
            if self.process.poll() is not None:
                raise Failure(f"the daemon ended at once, exit code {self.process.returncode}: "
                              + shlex.join(self.process.args), self.log_tail())
            if time.monotonic() > deadline:
                self.kill()
                raise Failure(f"no socket {self.socket} after {START_SECONDS} s",
                              self.log_tail())
            time.sleep(0.02)
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """SIGTERM; returns the exit code, or raises when it takes too long."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            details = self.threads() + self.log_tail()
            self.kill()
            raise Failure(f"still there {STOP_SECONDS} s after SIGTERM", details) from None

    def signal_kill(self):
        """Kill it and whatever it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill(self):
        self.signal_kill()
        self.process.wait()

    def log_tail(self, lines=30):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                text = log.readlines()[-lines:]
        except FileNotFoundError:
            return ""
        return "".join(f"daemon: {line}" for line in text)

    def threads(self):
        """Where each thread of the daemon is, for the report of a hang."""
        lines = []
        for pid in session_processes(self.process.pid):
            for tid in sorted(os.listdir(f"/proc/{pid}/task")):
                try:
                    base = f"/proc/{pid}/task/{tid}"
                    with open(f"{base}/comm", encoding="utf-8") as comm, \
                            open(f"{base}/wchan", encoding="utf-8") as wchan, \
                            open(f"{base}/syscall", encoding="utf-8") as syscall:
                        lines.append(f"thread {tid} {comm.read().strip()}: "
                                     f"in {wchan.read().strip()}, "
                                     f"syscall {syscall.read().split()[0]}\n")
                except OSError:
                    pass
        return "".join(lines)


def session_processes(leader):
    """The pids of a session: a sandboxed daemon may be a child of what we started."""
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == leader:
                    pids.append(int(name))
            except OSError:
                pass
    return pids


class Ovfs(Daemon):
    """ovfs itself, told by a configuration file."""

    kind = "ovfs"
    # Off by default, and tested nevertheless.
    settings = {"allow_direct_io": True}
    cache = {}

    def argv(self):
        path = self.socket + ".toml"
        with open(path, "w", encoding="utf-8") as conf:
            conf.write(f"[socket_settings]\n"
                       f"socket_path = {toml(self.socket)}\n"
                       f"tag = {toml(self.tag)}\n"
                       f"num_request_queues = {self.queues}\n"
                       f"\n[storage_settings]\n"
                       f"type = \"fs\"\n"
                       f"root = {toml(self.root)}\n"
                       f"readonly = {toml(self.readonly)}\n")
            if in_chroot():
                # With its own namespaces it says that it cannot, and ends.
                conf.write("\n[sandbox_settings]\nmode = \"chroot\"\n")
            for table, settings in ("fuse_settings", self.settings), ("cache_settings", self.cache):
                if settings:
                    conf.write(f"\n[{table}]\n" + "".join(
                        f"{key} = {toml(value)}\n" for key, value in settings.items()))
        return [*self.command, f"--config-file={path}"]


class OvfsWithWindow(Ovfs):
    """ovfs with a DAX window, that shows the host's files themselves."""

    window_size = "64MiB"
    map = "direct"

    def argv(self):
        argv = super().argv()
        with open(self.socket + ".toml", "a", encoding="utf-8") as conf:
            conf.write(f"\n[dax_settings]\nenabled = true\n"
                       f"window_size = {toml(self.window_size)}\nmap = {toml(self.map)}\n")
        return argv


class OvfsWithCache(Ovfs):
    """ovfs with the directory's data in its own cache: small, so that it is full."""

    cache = {"enabled_cache": True, "enabled_cache_write_back": True, "write_back_delay": "1s",
             "size": "32MiB"}


class OvfsByFlags(Ovfs):
    """ovfs, started the way that libvirt and Kata start virtiofsd."""

    def argv(self):
        return [*self.command, f"--socket-path={self.socket}", f"--shared-dir={self.root}",
                f"--tag={self.tag}", "--cache=auto", *(["--readonly"] if self.readonly else []),
                *(["--sandbox=chroot"] if in_chroot() else [])]


class OvfsByDefault(Ovfs):
    """ovfs with the shortest configuration file, as the demo shows it."""

    settings = {}


class OvfsOnBucket(Ovfs):
    """ovfs on object storage; `tables` of a subclass say which."""

    tables = {}
    can_readonly = False

    def argv(self):
        path = self.socket + ".toml"
        self.write(path)
        return [*self.command, f"--config-file={path}"]

    def write(self, path):
        tables = {"socket_settings": {"socket_path": self.socket, "tag": self.tag,
                                      "num_request_queues": self.queues}, **self.tables}
        if in_chroot():
            tables["sandbox_settings"] = {"mode": "chroot"}
        with open(path, "w", encoding="utf-8") as conf:
            os.fchmod(conf.fileno(), 0o600)
            for name, keys in tables.items():
                conf.write(f"[{name}]\n" + "".join(
                    f"{key} = {toml(value)}\n" for key, value in keys.items()))


class VirtiofsdRust(Daemon):
    """The virtiofsd of Debian 13 and newer."""

    kind = "virtiofsd"
    max_queues = 1

    def argv(self):
        return [*self.command, f"--socket-path={self.socket}", f"--shared-dir={self.root}",
                f"--tag={self.tag}", "--xattr", "--posix-acl", "--announce-submounts",
                "--allow-direct-io", *(["--readonly"] if self.readonly else [])]


class VirtiofsdC(Daemon):
    """The virtiofsd that came with QEMU up to 7.2; no tag, so not for User-mode Linux."""

    kind = "virtiofsd-c"
    can_readonly = False
    max_queues = 1

    def argv(self):
        return [*self.command, f"--socket-path={self.socket}", "-f",
                "-o", f"source={self.root}", "-o", "xattr", "-o", "posix_acl",
                "-o", "posix_lock", "-o", "flock", "-o", "allow_direct_io"]


KINDS = {cls.kind: cls for cls in (Ovfs, VirtiofsdRust, VirtiofsdC)}
