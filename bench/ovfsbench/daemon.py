# SPDX-License-Identifier: Apache-2.0
"""The daemons that are compared: how each is started, and what CPU it used.

All of them run with the isolation that they have by default, with the same
cache policy (their default, "auto"), with extended attributes (the default of
ovfs; it gives the guest's kernel more to ask), and export the same directory.
"""

import os
import shutil
import signal
import subprocess
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PEERS = os.path.join(REPO, "scripts", "peers.sh")
C_VIRTIOFSD = "/usr/lib/qemu/virtiofsd"


class Kind:
    """One program to compare. `needs_config_proxy`: it cannot tell its tag to a
    front end that asks for it (see proxy.py). `max_queues`: request queues it has."""

    max_queues = 1
    limit = False

    def __init__(self, name, label, version, needs_config_proxy=False):
        self.name = name
        self.label = label
        self.version = version
        self.needs_config_proxy = needs_config_proxy

    def argv(self, socket, root, tag, queues):
        raise NotImplementedError


class Ovfs(Kind):
    max_queues = 62

    def __init__(self, name, binary, extra=()):
        super().__init__(name, "ovfs", first_line([binary, "--version"]))
        self.binary = binary
        self.extra = list(extra)

    def argv(self, socket, root, tag, queues):
        conf = socket + ".toml"
        with open(conf, "w", encoding="utf-8") as out:
            out.write(
                "[socket_settings]\n"
                f'socket_path = "{socket}"\n'
                f'tag = "{tag}"\n'
                f"num_request_queues = {queues}\n"
                "[storage_settings]\n"
                'type = "fs"\n'
                f'root = "{root}"\n'
            )
        return [self.binary, f"--config-file={conf}"] + self.extra


class RustVirtiofsd(Kind):
    def __init__(self, extra=()):
        super().__init__(
            "rust", "virtiofsd (Rust)", first_line([PEERS, "exec", "--", "virtiofsd", "--version"])
        )
        self.extra = list(extra)

    def argv(self, socket, root, tag, queues):
        return [PEERS, "exec", "-b", root, "--", "virtiofsd", "--shared-dir", root] + [
            "--socket-path", socket, "--tag", tag, "--xattr", "--log-level", "error",
        ] + self.extra


class CVirtiofsd(Kind):
    def __init__(self):
        super().__init__(
            "c", "virtiofsd (C, QEMU 7.2)", first_line([C_VIRTIOFSD, "--version"]), True
        )

    def argv(self, socket, root, tag, queues):
        return [C_VIRTIOFSD, f"--socket-path={socket}", "-o", f"source={root},xattr", "-f"]


class HostItself(Kind):
    """No daemon: what the host's own file system gives to the same programs, as the limit."""

    limit = True

    def __init__(self):
        super().__init__("host", "the same on the host, without guest or daemon", "no version")


def first_line(argv):
    out = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (out.stdout.splitlines() or ["unknown"])[0]


def kinds_available(ovfs, wanted, extra=()):
    """The wanted kinds that can be had here, in order, with a word on each other."""
    kinds = []
    for name in wanted:
        if name == "ovfs":
            if not os.access(ovfs, os.X_OK):
                print(f"bench: no {ovfs}: build it first (make)")
            else:
                kinds.append(Ovfs("ovfs", ovfs, extra))
        elif name == "rust":
            made = subprocess.run([PEERS, "path"], stdout=subprocess.DEVNULL).returncode == 0
            if made:
                kinds.append(RustVirtiofsd())
        elif name == "c":
            if not os.access(C_VIRTIOFSD, os.X_OK):
                print(f"bench: no {C_VIRTIOFSD} on this host: left out")
            else:
                kinds.append(CVirtiofsd())
        elif os.access(name, os.X_OK):
            # Another build of ovfs, to compare two versions of it.
            kinds.append(Ovfs(os.path.basename(os.path.dirname(name)), name, extra))
        else:
            raise SystemExit(f"bench: no such daemon: {name}")
    return kinds


def descendants(pid):
    """pid and every process below it (a sandboxed daemon serves from a child)."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    ppid = int(stat.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(ppid, []).append(int(entry))
    found = [pid]
    for at in found:
        found.extend(children.get(at, []))
    return found


def process_cpu_s(pid):
    """CPU seconds of all threads of a process, dead ones included (ns resolution)."""
    try:
        # The kernel's encoding of "the scheduler's CPU clock of process pid".
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def on_cpus(cpus):
    """What to put before a command so that it keeps to these processors; all for none."""
    return ["taskset", "-c", ",".join(str(cpu) for cpu in cpus)] if cpus else []


class Daemon:
    """One running daemon on one socket; a context manager that ends it."""

    def __init__(self, kind, workdir, root, tag="bench", queues=1, wrap=(), name=None):
        self.kind = kind
        self.socket = os.path.join(workdir, (name or kind.name) + ".sock")
        self.log = os.path.join(workdir, (name or kind.name) + ".log")
        for leftover in (self.socket, self.socket + ".pid"):
            if os.path.exists(leftover):
                os.unlink(leftover)
        argv = list(wrap) + kind.argv(self.socket, root, tag, queues)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self._wait_listening()

    def _wait_listening(self):
        deadline = time.monotonic() + 20
        seen = None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind.label} ended at once: {self.log_tail()}")
            if os.path.exists(self.socket):
                seen = seen or time.monotonic()
                # A socket of another network namespace is not listed: then give it a moment.
                if self._is_listed() or time.monotonic() - seen > 0.5:
                    return
            time.sleep(0.005)
        raise RuntimeError(f"{self.kind.label} does not listen on {self.socket}: {self.log_tail()}")

    def _is_listed(self):
        with open("/proc/net/unix", encoding="utf-8") as table:
            for line in table:
                fields = line.split()
                if fields[-1] == self.socket and int(fields[3], 16) & 0x10000:
                    return True
        return False

    def log_tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return " | ".join(log.read().splitlines()[-5:])

    def pids(self):
        return descendants(self.process.pid)

    def cpu_s(self):
        return sum(process_cpu_s(pid) for pid in self.pids())

    def stop(self):
        pids = self.pids()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        # A parent may end without its sandboxed child. A pid that is gone is not reused
        # in this short time.
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.stop()


def tool(name):
    path = shutil.which(name)
    if not path:
        raise SystemExit(f"bench: needs {name}: run scripts/install-deps.sh")
    return path
