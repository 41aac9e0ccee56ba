# SPDX-License-Identifier: Apache-2.0
"""A running guest, seen through its console; agent.sh has the protocol."""

import os
import selectors
import signal
import subprocess
import time

from .report import Failure

# How long the harness waits past a command's own limit before it calls the
# guest hung: the agent kills the command at the limit, if it can be killed.
GRACE_SECONDS = 15


class Hung(Failure):
    """The guest does not answer any more. It must be killed."""


class Guest:
    """Owns the guest's process and its console. The subclasses know the argv.

    boot() it, mount(), then sh() and case() as often as wanted; poweroff() or
    kill() in the end. start() and wait() are the two halves of sh(), for a
    command that waits for another guest.
    """

    kind = None
    # Seconds until the agent must have reported, and how much slower than a
    # local machine everything is.
    boot_seconds = 60
    slowness = 1
    # The cases that move much do that much less of it.
    scale = 1

    def __init__(self, run_dir, export, sockets, tools):
        """`run_dir` an empty folder of its own; `export` what the daemon
        serves, where @@ host commands run; `sockets` {tag: socket path}."""
        self.run_dir = run_dir
        self.export = export
        self.sockets = sockets
        self.tools = tools
        self.log_path = run_dir.rstrip("/") + ".log"
        self.process = None
        self.buffer = b""
        self.number = 0
        self.output = {}
        self.limits = {}
        self.folder = export
        # Of commands on the host; with a bucket, where that one is.
        self.host_environment = {}
        self.bucket = None
        self.hung = False
        os.makedirs(run_dir, exist_ok=True)

    # What a subclass says.

    def argv(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    # The process.

    def boot(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env=self.environment(), start_new_session=True)
        self.wait_ready()
        return self

    def wait_ready(self):
        self.expect(lambda line: line == "@@ ready", self.boot_seconds, "boot")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def mount(self, tag="ovfs", folder="$MNT", options=""):
        options = f"-o {options}" if options else ""
        self.must(f"mkdir -p {folder} && mount -t virtiofs {options} {tag} {folder}")

    def poweroff(self):
        """Unmount, and shut the machine down as a person would."""
        self.sh("cd /; umount -a -t virtiofs; sync", 30)
        self.send(b"run 0 60 echo o >/proc/sysrq-trigger; sleep 30\n")
        try:
            self.drain(30)
        finally:
            self.kill()

    def drain(self, seconds):
        """Read the console until the guest has ended."""
        deadline = time.monotonic() + seconds
        while self.read_line(deadline, "power-off", end_is_fine=True) is not None:
            pass
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Hung("powered off, but its process is still there") from None

    def signal_kill(self):
        process = self.process
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def kill(self):
        if self.process is None:
            return
        self.signal_kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None

    # Commands.

    def start(self, command, limit=30):
        """Begin a command; the guest runs one at a time. Returns its number."""
        assert "\n" not in command
        limit = int(limit * self.slowness)
        self.number += 1
        self.output[self.number] = []
        self.send(f"run {self.number} {limit} {command}\n".encode())
        self.limits[self.number] = limit
        return self.number

    def wait(self, number, what="command"):
        """The (exit code, output) of a command that start() began."""
        end = f"@@ end {number} "
        seconds = self.limits.pop(number) + GRACE_SECONDS
        line = self.expect(lambda line: line.startswith(end), seconds, what)
        return int(line[len(end):]), "\n".join(self.output.pop(number))

    def sh(self, command, limit=30, what=None):
        return self.wait(self.start(command, limit), what or command)

    def must(self, command, limit=30):
        """The output of a command that has to succeed."""
        rc, output = self.sh(command, limit)
        if rc != 0:
            raise Failure(f"in the guest: {command}: exit code {rc}", output)
        return output

    def case(self, case):
        """Run one case of cases/; Failure when it fails, Hung when it hangs."""
        if self.bucket is None:
            self.folder = os.path.join(self.export, case.name)
        else:
            self.host_environment["S3"] = f"{self.bucket}/{case.name}"
        try:
            rc, output = self.sh(f"SCALE={self.scale} sh $GUEST_DIR/run-case.sh {case.name} "
                                 f"{case.folder}", case.limit, case.name)
        finally:
            self.folder = self.export
        if rc in (124, 137, 143):
            raise Failure(f"took longer than {int(case.limit * self.slowness)} s", output)
        if rc != 0:
            raise Failure(f"exit code {rc}; the end of its trace:", output)

    # The console.

    def send(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Hung("the guest is gone", self.console_tail()) from None

    def expect(self, wanted, seconds, what):
        """Serve the console until a line that is `wanted`."""
        deadline = time.monotonic() + seconds
        while True:
            line = self.read_line(deadline, what)
            if wanted(line):
                return line
            if line.startswith("@@ out "):
                number, _, text = line[len("@@ out "):].partition(" ")
                self.output.setdefault(int(number), []).append(text)
            elif line.startswith("@@ host "):
                self.send(self.serve_host(line[len("@@ host "):]))

    def serve_host(self, command):
        """Run a command that a case asked for; the answer's line."""
        path = f"{self.tools.bin_dir}:{os.environ['PATH']}"
        result = subprocess.run(["sh", "-c", command], cwd=self.folder, text=True, timeout=60,
                                env={**os.environ, "PATH": path, **self.host_environment},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, errors="replace", check=False)
        text = result.stdout.strip().split("\n")[-1][:1000]
        return f"ans {result.returncode} {text}\n".encode()

    def read_line(self, deadline, what, end_is_fine=False):
        """The next line of the console; None at its end."""
        while b"\n" not in self.buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise Hung(f"{what}: hung, the guest says nothing any more",
                               self.console_tail())
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                if end_is_fine:
                    return None
                raise Hung(f"{what}: the guest ended", self.console_tail())
            with open(self.log_path, "ab") as log:
                log.write(data)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace").rstrip("\r")

    def console_tail(self, lines=40):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(f"console: {line}" for line in log.readlines()[-lines:])
