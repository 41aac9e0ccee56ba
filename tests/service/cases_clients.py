# SPDX-License-Identifier: Apache-2.0
"""Other programs on the same bucket: plain objects under plain keys."""

import os
import subprocess

from harness.report import Failure

from ground.stage import case, check, equal
from ground.tools import pattern

MIB = 1 << 20


def rclone(stage, *arguments):
    """rclone on the server itself; `:s3:` paths in the arguments are the bucket's."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": stage.dir, "RCLONE_CONFIG": f"{stage.dir}/none",
        "RCLONE_S3_PROVIDER": "Minio", "RCLONE_S3_ENDPOINT": stage.server.endpoint,
        "RCLONE_S3_REGION": stage.server.region,
        "RCLONE_S3_ACCESS_KEY_ID": stage.server.access_key,
        "RCLONE_S3_SECRET_ACCESS_KEY": stage.server.secret_key}
    bucket = f":s3:{stage.bucket.name}/{stage.bucket.prefix}"
    result = subprocess.run(
        ["rclone", *(word.replace("BUCKET/", bucket) for word in arguments)], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
    if result.returncode != 0:
        raise Failure(f"rclone {' '.join(arguments)}: exit code {result.returncode}", result.stdout)
    return result.stdout


@case("a tree that we wrote, checked by rclone")
def rclone_checks(stage):
    local = f"{stage.dir}/tree"
    mount = stage.mount()
    for i in range(30):
        path = f"d{i % 3}/e{i % 2}"
        os.makedirs(f"{local}/{path}", exist_ok=True)
        data = pattern(i, i * 10007)
        with open(f"{local}/{path}/f{i}", "wb") as file:
            file.write(data)
        for folder in (path.split("/")[0], path):
            if not mount.exists(folder):
                mount.mkdir(folder)
        mount.write_file(f"{path}/f{i}", data)
    large = pattern(50, 40 * MIB)
    with open(f"{local}/large", "wb") as file:
        file.write(large)
    mount.write_file("large", large)
    # --download: by the bytes, not by what the service says of them.
    rclone(stage, "check", "--download", local, "BUCKET/")


@case("a tree that rclone wrote, read by us: bytes and times")
def rclone_writes(stage):
    local = f"{stage.dir}/tree"
    os.makedirs(f"{local}/dir with space/ü")
    for i in range(20):
        path = f"{local}/dir with space/ü/f{i}"
        with open(path, "wb") as file:
            file.write(pattern(i, i * 5003))
        os.utime(path, (0, 1000000000 + i))
    with open(f"{local}/large", "wb") as file:
        file.write(pattern(60, 40 * MIB))
    rclone(stage, "copy", "--s3-chunk-size", "8M", "--s3-upload-cutoff", "8M", local, "BUCKET/")
    mount = stage.mount()
    equal(mount.list(), ["dir with space", "large"])
    for i in range(20):
        path = f"dir with space/ü/f{i}"
        equal(mount.read_file(path), pattern(i, i * 5003))
        equal(mount.getattr(mount.walk(path)).mtime, 1000000000 + i, f"mtime of {path}")
    check(mount.read_file("large") == pattern(60, 40 * MIB), "the large one")


@case("the time that touch sets is the one that rclone shows")
def rclone_times(stage):
    mount = stage.mount()
    mount.write_file("a", b"x")
    mount.utime("a", 1234567890.5)
    mount.syncfs()
    text = rclone(stage, "lsjson", "BUCKET/")
    check("2009-02-13T23:31:30.5" in text, f"the time in {text}")
