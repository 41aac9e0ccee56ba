# SPDX-License-Identifier: Apache-2.0
"""What a case gets: a bucket of its own, daemons on it, guests that mount them, faults.

    @case("a file written through the mount is one object")
    def one_object(stage):
        mount = stage.mount()
        mount.write_file("a", b"x")
        equal(stage.bucket.get("a"), b"x")

A daemon of a stage reaches the server through the fault proxy; the bucket's client does
not. When a case ends, every daemon of it must still be alive, end with exit code 0 on
SIGTERM, and have kept the secret key out of its log.
"""

import contextlib
import errno
import os
import time
import uuid

from harness.daemon import Daemon, in_chroot, session_processes, toml
from harness.report import Failure

from .bucket import Bucket
from .fuse import Mount
from .servers import External, MinIO, Proxy, REPOSITORY

STOP_SECONDS = 60


class Case:
    def __init__(self, function, summary, needs, limit):
        self.name = function.__name__.replace("_", "-")
        self.function, self.summary, self.needs, self.limit = function, summary, needs, limit


def case(summary, needs="", limit=120):
    """Marks a function of a cases_*.py file. `needs`: "own-server" for one that is killed or
    restarted; "minio" for what only the own server promises. `limit`: seconds."""
    def mark(function):
        function.case = Case(function, summary, needs, limit)
        return function
    return mark


def equal(found, wanted, what=""):
    if found != wanted:
        raise Failure(f"{what or 'values'}: found {brief(found)}, expected {brief(wanted)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 400 else f"{text[:200]} ... {text[-100:]} ({len(value)} long)"


def check(condition, what):
    if not condition:
        raise Failure(what)


def at_most(found, limit, what):
    if found > limit:
        raise Failure(f"{what}: {found}, at most {limit} expected")


@contextlib.contextmanager
def fails(*names):
    """The block must end in an OSError of one of these names ("ENOENT", ...)."""
    try:
        yield
    except OSError as error:
        found = errno.errorcode.get(error.errno, str(error.errno))
        # Two names of one number.
        found = "EOPNOTSUPP" if found == "ENOTSUP" else found
        if found not in names:
            raise Failure(f"failed with {found}, expected {' or '.join(names)}") from error
        return
    raise Failure(f"succeeded, expected {' or '.join(names)}")


def eventually(condition, seconds, what):
    """Wait for `condition` to return something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def merge(*layers):
    """Configuration tables, later ones over earlier ones; a key of None is left out."""
    merged = {}
    for layer in layers:
        for table, keys in layer.items():
            merged.setdefault(table, {}).update(keys)
    return {table: {key: value for key, value in keys.items() if value is not None}
            for table, keys in merged.items()}


def write_tables(conf, prefix, tables):
    for table, keys in tables.items():
        conf.write(f"[{prefix}{table}]\n")
        for key, value in keys.items():
            conf.write(f"{key} = {toml(value)}\n")


class Ovfs(Daemon):
    """The daemon under test, with a configuration given as {table: {key: value}}; "mount": a list
    of such, for [[mount]]s, with their name, and perhaps a "directory": {path: tables}."""

    kind = "ovfs"

    def __init__(self, command, socket, tables):
        super().__init__(command, "/nowhere", socket)
        self.tables = tables

    def write(self, path):
        with open(path, "w", encoding="utf-8") as conf:
            write_tables(conf, "", {table: keys for table, keys in self.tables.items()
                                    if table != "mount"})
            for mount in self.tables.get("mount", []):
                conf.write(f"[[mount]]\nname = {toml(mount['name'])}\n")
                write_tables(conf, "mount.", {table: keys for table, keys in mount.items()
                                              if table not in ("name", "directory")})
                for name, own in mount.get("directory", {}).items():
                    conf.write(f"[[mount.directory]]\npath = {toml(name)}\n")
                    write_tables(conf, "mount.directory.", own)
        os.chmod(path, 0o600)

    def argv(self):
        path = self.socket + ".toml"
        self.write(path)
        return [*self.command, f"--config-file={path}"]

    def reload(self, tables, word=" reloaded ", seconds=60):
        """Another configuration, as an editor saves it; waits until the log has one more line
        with `word`."""
        before = self.log().count(word)
        self.tables = tables
        path = self.socket + ".toml"
        self.write(path + "~")
        os.rename(path + "~", path)
        eventually(lambda: self.log().count(word) > before, seconds, f"{word!r} in the log")

    def kill(self):
        if self.process:
            super().kill()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def memory_kib(self):
        """Resident memory of all of its processes, without what is shared with the guest."""
        total = 0
        for pid in session_processes(self.process.pid):
            with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                for line in status:
                    if line.startswith("RssAnon:"):
                        total += int(line.split()[1])
        return total

    def end(self, wanted=0):
        """SIGTERM; Failure when it does not end well, or said what it must not say."""
        if not self.alive():
            raise Failure(f"the daemon died, code {self.process.poll()}", self.log_tail())
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except Exception:
            details = self.threads() + self.log_tail()
            self.kill()
            raise Failure(f"still there {STOP_SECONDS} s after SIGTERM", details) from None
        if wanted is not None and code != wanted:
            raise Failure(f"ended with code {code} on SIGTERM", self.log_tail())
        return code


class Ground:
    """What outlives a case: the server, and a proxy in front of it."""

    def __init__(self, work_dir, build_dir, daemon):
        self.work_dir = work_dir
        self.fuse_pipe = f"{build_dir}/tests/service/fuse-pipe"
        self.ctl = f"{build_dir}/ovfsctl"
        self.daemon = daemon
        self.external = "OVFS_TEST_S3_ENDPOINT" in os.environ
        self.server = None
        self.proxy = None

    def start(self):
        self.server = (External() if self.external else MinIO(self.work_dir)).start()
        self.proxy = Proxy(self.server.endpoint, self.work_dir, resign=self.external)

    def end(self):
        if self.proxy:
            self.proxy.end()
        if self.server:
            self.server.end()


class Stage:
    def __init__(self, ground, name, needs):
        self.ground = ground
        self.name = name
        self.dir = f"{ground.work_dir}/{name}"
        os.makedirs(self.dir, exist_ok=True)
        self.daemons = []
        self.mounts = []
        self.cleanups = []
        self.number = 0
        self.own_server = needs == "own-server" or bool(needs and ground.external)
        if self.own_server:
            self.server = MinIO(ground.work_dir).start()
            self.cleanups.append(self.server.end)
            self.proxy = Proxy(self.server.endpoint, ground.work_dir)
            self.cleanups.append(self.proxy.end)
        else:
            self.server, self.proxy = ground.server, ground.proxy
            self.proxy.clear()
            self.proxy.accept()
        self.bucket = self.make_bucket()
        self.proxy.reset()

    def make_bucket(self):
        """A fresh bucket; of somebody else's server, a fresh folder in his."""
        unique = uuid.uuid4().hex[:10]
        if self.ground.external and not self.own_server:
            return Bucket(self.server, os.environ["OVFS_TEST_S3_BUCKET"],
                          f"ovfs-test/{self.name}-{unique}/")
        return Bucket(self.server, f"ovfs-{unique}").make()

    def storage(self, bucket=None):
        """The storage's part of a configuration."""
        bucket = bucket or self.bucket
        return {"storage_settings": {
            "type": "s3", "bucket": bucket.name, "root": bucket.prefix or None,
            "endpoint": self.proxy.endpoint, "region": self.server.region,
            "access_key_id": self.server.access_key,
            "secret_access_key": self.server.secret_key,
            "disable_config_load": True, "disable_ec2_metadata": True}}

    def daemon(self, tables=None, start=True, **keys):
        """A daemon, started. `tables`: more of the configuration, over what is here;
        `keys`: "table__key"s of it, in short."""
        self.number += 1
        socket = f"{self.dir}/{self.number}.sock"
        base = {"socket_settings": {"socket_path": socket, "tag": "ovfs"},
                "log": {"level": "debug"}}
        if "OVFS_TEST_NO_SANDBOX" in os.environ:
            # For sanitizers, whose checks want /proc, a tracer and files.
            base["sandbox_settings"] = {
                "mode": "none", "disable": ["capabilities", "no_new_privs", "seccomp"]}
        elif in_chroot():
            base["sandbox_settings"] = {"mode": "chroot"}
        short = {}
        for name, value in keys.items():
            table, _, key = name.partition("__")
            short.setdefault(f"{table}_settings", {})[key] = value
        daemon = Ovfs(self.ground.daemon, socket,
                      merge(base, self.storage(), tables or {}, short))
        self.daemons.append(daemon)
        return daemon.start() if start else daemon

    def many(self, mounts, **tables):
        """A daemon with several mounts, started: {name: tables}, each with the storage of the
        stage where it says nothing else, and a socket that socket_of() tells."""
        daemon = self.daemon({"storage_settings": {}, **tables}, start=False)
        top = {table: keys for table, keys in daemon.tables.items()
               if table not in ("socket_settings", "storage_settings")}
        daemon.tables = top | {"mount": [
            {"name": name, **merge(self.storage(), {"socket_settings": {
                "socket_path": self.socket_of(daemon, name), "tag": name}}, own)}
            for name, own in mounts.items()]}
        daemon.socket = self.socket_of(daemon, next(iter(mounts)))
        return daemon.start()

    def joined(self, directories, start=True, **tables):
        """A daemon with one mount of several directories: {path: tables}, each with the storage of
        the stage where it says nothing else."""
        daemon = self.daemon({"storage_settings": {}, **tables}, start=False)
        daemon.tables.pop("storage_settings")
        daemon.tables["mount"] = [{"name": "joined",
                                   "socket_settings": daemon.tables.pop("socket_settings"),
                                   "directory": self.directories(directories)}]
        return daemon.start() if start else daemon

    def directories(self, directories):
        """The same, for a reload."""
        return {path: merge(self.storage(), own) for path, own in directories.items()}

    @staticmethod
    def socket_of(daemon, name):
        return f"{os.path.dirname(daemon.socket)}/{name}.sock"

    def mount_of(self, daemon, queues=3, socket=None):
        """Another guest's mount: of one socket, one at a time."""
        mount = Mount(self.ground.fuse_pipe, socket or daemon.socket, queues)
        mount.daemon = daemon
        self.mounts.append(mount)
        return mount

    def mount(self, tables=None, **keys):
        """A daemon and a guest on it, in one."""
        return self.mount_of(self.daemon(tables, **keys))

    def unmount(self, mount):
        """The guest leaves, the daemon ends."""
        mount.close()
        self.mounts.remove(mount)
        self.end_daemon(mount.daemon)

    def end_daemon(self, daemon, wanted=0):
        self.daemons.remove(daemon)
        code = daemon.end(wanted)
        self.check_log(daemon)
        return code

    def check_log(self, daemon):
        text = daemon.log()
        if self.server.secret_key in text:
            raise Failure("the secret key is in the log")
        for sign in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
                     "WARNING: ThreadSanitizer"):
            if sign in text:
                raise Failure(f"the log says {sign}", daemon.log_tail(80))

    def finish(self):
        """After a case that went well: all daemons end well."""
        self.proxy.clear()
        self.proxy.accept()
        for mount in list(self.mounts):
            mount.close()
            self.mounts.remove(mount)
        for daemon in list(self.daemons):
            self.end_daemon(daemon)

    def tails(self):
        """For the report of a failure."""
        return "".join(daemon.log_tail(40) for daemon in self.daemons)

    def close(self):
        """Whatever is left of the case goes."""
        for mount in self.mounts:
            mount.close()
        for daemon in self.daemons:
            daemon.kill()
        for cleanup in reversed(self.cleanups):
            cleanup()
        if not self.own_server:
            self.proxy.clear()
            self.proxy.accept()
            self.bucket.remove()
