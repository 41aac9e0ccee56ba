# SPDX-License-Identifier: Apache-2.0
"""An S3 server on a tmpfs for benchmarks (the tests' MinIO), and who works on its bucket: the bare
client, ovfs, and other clients, as kinds of daemons (see daemon.py)."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from .daemon import Kind, Ovfs, PEERS, first_line
from .raw import REPO

sys.path[:0] = [f"{REPO}/tests/service", f"{REPO}/tests/guest"]

# pylint: disable=wrong-import-position
from ground.bucket import Bucket  # noqa: E402
from ground.servers import MinIO  # noqa: E402

BUCKET = "bench"
POOL = "512MiB"
MOUNT_SECONDS = 20
MIB = 1 << 20


def find_program(build, name):
    """A program that the build has put somewhere below its directory."""
    for directory, _, files in os.walk(build):
        if name in files:
            return os.path.join(directory, name)
    raise SystemExit(f"bench: no {name} in {build}: build it first (make)")


class Ground:
    """The server with a bucket. `work`: a folder on a tmpfs."""

    def __init__(self, build, work):
        self.build = build
        self.server = MinIO(work)

    def start(self):
        self.server.start()
        self.bucket = Bucket(self.server, BUCKET).make()
        return self

    def end(self):
        self.server.end()

    def bare(self, arguments, endpoint=None):
        """Runs the bare client, which signs; its JSON."""
        server = self.server
        keys = f"{server.region}:{server.access_key}:{server.secret_key}"
        return self.program("s3bare", arguments.split(), {
            "S3BARE_URL": f"{endpoint or server.endpoint}/{BUCKET}", "S3BARE_KEYS": keys})

    def program(self, name, arguments, environment=None):
        result = subprocess.run([find_program(self.build, name), *arguments], text=True,
                                env=os.environ | (environment or {}), check=False, timeout=600,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if result.returncode != 0:
            raise RuntimeError(f"{name} {' '.join(arguments)}: {result.stderr[-1000:]}")
        return json.loads(result.stdout)

    def kind(self, pool=POOL, endpoint=None, name="ovfs", **more):
        return OvfsBucket(name, f"{self.build}/ovfs", self.server, pool, endpoint, more)


class OvfsBucket(Ovfs):
    """ovfs on the bucket, with the defaults for everything but the size of its pool. `more`: keys
    of tables, {table: {key: value}}."""

    def __init__(self, name, binary, server, pool, endpoint, more):
        super().__init__(name, binary)
        self.server, self.pool, self.endpoint = server, pool, endpoint or server.endpoint
        self.more = more

    def argv(self, socket, root, tag, queues):
        server = self.server
        tables = {
            "socket_settings": {"socket_path": socket, "tag": tag, "num_request_queues": queues},
            "storage_settings": {
                "type": "s3", "bucket": BUCKET, "endpoint": self.endpoint,
                "region": server.region, "access_key_id": server.access_key,
                "secret_access_key": server.secret_key, "disable_config_load": True,
                "disable_ec2_metadata": True},
            "cache_settings": {"size": self.pool}}
        for table, keys in self.more.items():
            tables[table] = tables.get(table, {}) | keys
        conf = socket + ".toml"
        with open(conf, "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), 0o600)
            for table, keys in tables.items():
                out.write(f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n"
                                                   for key, value in keys.items()))
        return [self.binary, f"--config-file={conf}"]


class Client:
    """A FUSE client of the bucket on the host, at a mount point of its own, which the Rust
    virtiofsd hands to the guest: what one has without ovfs."""

    def __init__(self, name, version, argv, environment=None):
        self.name, self.version = name, version
        self.argv, self.environment = argv, environment or {}

    def mount(self, folder):
        """Starts it; its process."""
        os.makedirs(folder)
        # What the caller's environment says of some other service is not meant for this one.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        with open(folder + ".log", "ab") as log:
            process = subprocess.Popen(self.argv(folder), env=kept | self.environment,
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(folder):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                with open(folder + ".log", encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"{self.name} does not mount: {log.read()[-500:]}")
            time.sleep(0.05)
        return process


class BehindVirtiofsd(Kind):
    """The kind that a guest sees of a Client. Its daemon is virtiofsd; `process` is the client."""

    def __init__(self, client):
        super().__init__(client.name, f"{client.name} behind virtiofsd (Rust)", client.version)
        self.client, self.process, self.folder = client, None, None

    def start(self, folder):
        self.folder = folder
        self.process = self.client.mount(folder)

    def end(self):
        if self.folder:
            subprocess.run(["umount", "-l", self.folder], check=False, stderr=subprocess.DEVNULL)
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.process.kill()
            self.process.wait()

    def argv(self, socket, root, tag, queues):
        return [PEERS, "exec", "-b", self.folder, "--", "virtiofsd", "--shared-dir", self.folder,
                "--socket-path", socket, "--tag", tag, "--log-level", "error"]


class Bare(Kind):
    """The limit."""

    limit = True

    def __init__(self):
        super().__init__("bare", "bare parallel client on the host, no file system", "s3bare")


def version_of(argv):
    return " ".join(first_line(argv).split())


def s3fs(server, work):
    password = f"{work}/passwd-s3fs"
    with open(password, "w", encoding="utf-8") as out:
        os.fchmod(out.fileno(), 0o600)
        out.write(f"{server.access_key}:{server.secret_key}\n")
    options = (f"url={server.endpoint},endpoint={server.region},use_path_request_style,"
               f"passwd_file={password}")
    return Client("s3fs", version_of(["s3fs", "--version"]),
                  lambda folder: ["s3fs", BUCKET, folder, "-f", "-o", options])


def rclone(server, work):
    environment = {"RCLONE_CONFIG": "/dev/null"} | {
        f"RCLONE_CONFIG_BENCH_{key}": value for key, value in {
            "TYPE": "s3", "PROVIDER": "Minio", "ENDPOINT": server.endpoint,
            "REGION": server.region, "ACCESS_KEY_ID": server.access_key,
            "SECRET_ACCESS_KEY": server.secret_key}.items()}
    # Without its cache on disk it cannot write at random places.
    return Client("rclone", version_of(["rclone", "--version"]),
                  lambda folder: ["rclone", "mount", f"bench:{BUCKET}", folder,
                                  "--vfs-cache-mode", "full", "--cache-dir",
                                  f"{work}/rclone-cache"], environment)


def clients(server, work, raw_note):
    """Those that can be had here; a note for each of the others."""
    found = []
    for name, make in (("s3fs", s3fs), ("rclone", rclone)):
        if shutil.which(name):
            found.append(make(server, work))
        else:
            raw_note.append(f"{name} is not installed: scripts/install-deps.sh bench")
    raw_note.append("not measured: geesefs, which the Go module proxy does not give out; goofys, "
                    "for one of the modules that it is built from is not given out; mountpoint-s3: "
                    "the crate of that name is a placeholder, and Debian has no package")
    return found


@contextlib.contextmanager
def work_folders():
    """(a folder on a tmpfs for the server, one below /tmp, which guests and virtiofsd see)"""
    memory = tempfile.mkdtemp(prefix="ovfs-bench.", dir="/dev/shm")
    seen = tempfile.mkdtemp(prefix="ovfs-bench.", dir="/tmp")
    try:
        yield memory, seen
    finally:
        shutil.rmtree(memory, ignore_errors=True)
        # Nothing that is mounted there may be emptied.
        subprocess.run(["rm", "-rf", "--one-file-system", seen], check=False)
