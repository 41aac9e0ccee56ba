# SPDX-License-Identifier: Apache-2.0
"""The ground itself: what the other cases take for granted."""

import botocore.exceptions

from ground.bucket import Bucket
from ground.fuse import RENAME_NOREPLACE
from ground.stage import case, check, equal, fails


class Through:
    """The server's keys with the proxy's address: the second client, through the proxy."""

    def __init__(self, stage):
        self.endpoint = stage.proxy.endpoint
        self.region = stage.server.region
        self.access_key, self.secret_key = stage.server.access_key, stage.server.secret_key


def proxied(stage):
    return Bucket(Through(stage), stage.bucket.name, stage.bucket.prefix)


@case("the fault proxy counts by operation, and signatures pass through it")
def proxy_counts(stage):
    bucket = proxied(stage)
    bucket.put("dir/a b+ü%41", b"x" * 100000)
    equal(bucket.get("dir/a b+ü%41"), b"x" * 100000)
    bucket.keys()
    bucket.head("missing")
    upload = bucket.client.create_multipart_upload(
        Bucket=bucket.name, Key=bucket.prefix + "large")["UploadId"]
    names = {"Bucket": bucket.name, "Key": bucket.prefix + "large", "UploadId": upload}
    tag = bucket.client.upload_part(PartNumber=1, Body=b"y" * (5 << 20), **names)["ETag"]
    copied = bucket.client.upload_part_copy(
        PartNumber=2, CopySource={"Bucket": bucket.name, "Key": bucket.prefix + "dir/a b+ü%41"},
        **names)["CopyPartResult"]["ETag"]
    bucket.client.list_parts(**names)
    bucket.client.complete_multipart_upload(MultipartUpload={"Parts": [
        {"PartNumber": 1, "ETag": tag}, {"PartNumber": 2, "ETag": copied}]}, **names)
    bucket.client.copy_object(Bucket=bucket.name, Key=bucket.prefix + "copy", CopySource={
        "Bucket": bucket.name, "Key": bucket.prefix + "large"})
    bucket.delete("copy")
    bucket.client.delete_object(Bucket=bucket.name, Key=bucket.prefix + "large")
    equal(stage.proxy.requests(), {
        "PutObject": 1, "GetObject": 1, "ListObjectsV2": 1, "HeadObject": 1,
        "CreateMultipartUpload": 1, "UploadPart": 1, "UploadPartCopy": 1, "ListParts": 1,
        "CompleteMultipartUpload": 1, "CopyObject": 1, "DeleteObjects": 1, "DeleteObject": 1})
    counts = stage.proxy.counts()
    equal(counts["UploadPart"]["up"], 5 << 20, "bytes up")
    equal(counts["GetObject"]["down"], 100000, "bytes down")
    equal(counts["HeadObject"]["failed"], 1)
    keys = [entry["key"] for entry in stage.proxy.log() if entry["op"] == "GetObject"]
    equal(keys, [bucket.prefix + "dir/a b+ü%41"])


@case("the fault proxy refuses, delays, cuts and truncates what its rules say")
def proxy_harms(stage):
    bucket = proxied(stage)
    data = bytes(range(256)) * 4096
    bucket.put("a", data)
    # boto3 tries again by itself: two errors are not seen.
    rule = stage.proxy.rule(ops=["GetObject"], key="a$", status=503, code="SlowDown", times=2)
    equal(bucket.get("a"), data)
    equal(stage.proxy.hits(rule), 2)
    stage.proxy.rule(ops=["GetObject"], status=403, code="AccessDenied")
    try:
        bucket.get("a")
        check(False, "a rule was not applied")
    except botocore.exceptions.ClientError as error:
        equal(error.response["Error"]["Code"], "AccessDenied")
    stage.proxy.clear()
    for harm in ({"cut_down": 5000}, {"truncate": 5000}):
        stage.proxy.rule(times=1, ops=["GetObject"], **harm)
        try:
            bucket.get("a")
            check(False, f"{harm} was not applied")
        except (botocore.exceptions.IncompleteReadError, botocore.exceptions.ResponseStreamingError,
                botocore.exceptions.ConnectionError, ConnectionError):
            pass
    stage.proxy.rule(times=1, ops=["PutObject"], cut_up=5000)
    stage.proxy.rule(times=1, skip=1, ops=["PutObject"], drop="after")
    equal(bucket.put("b", data), stage.bucket.etag("b"))
    equal(stage.proxy.requests()["PutObject"], 4)
    stage.proxy.refuse()
    stage.proxy.accept()
    equal(bucket.get("b"), data)


# The fuse-pipe guest itself is on trial here, on a directory.
@case("the guest without a kernel: files, directories, several requests at a time")
def guest_on_a_directory(stage):
    import os
    root = f"{stage.dir}/root"
    os.mkdir(root)
    mount = stage.mount({"storage_settings": dict.fromkeys(
        stage.storage()["storage_settings"]) | {"type": "fs", "root": root}})
    mount.mkdir("d")
    mount.write_file("d/a", b"hello")
    equal(mount.read_file("d/a"), b"hello")
    mount.write_file("d/a", b"jo")
    equal(mount.read_file("d/a"), b"jo")
    large = os.urandom(3 << 20)
    mount.write_file("large", large)
    equal(mount.read_file("large"), large)
    equal(mount.list("d"), ["a"])
    equal(mount.list(""), ["d", "large"])
    equal(mount.list("", plus=False), ["d", "large"])
    file = mount.open("large")
    calls = [file.start_read(i << 16, 1 << 16) for i in range(40)]
    for i, call in reversed(list(enumerate(calls))):
        equal(call.result(), large[i << 16:(i + 1) << 16])
    file.close()
    with fails("ENOENT"):
        mount.stat("nothing")
    with fails("ENOTEMPTY"):
        mount.rmdir("d")
    with fails("EEXIST"):
        mount.rename("large", "d/a", RENAME_NOREPLACE)
    mount.rename("large", "d/b")
    mount.truncate("d/b", 10)
    equal(mount.stat("d/b").size, 10)
    mount.utime("d/b", 1234567890.5)
    equal((mount.stat("d/b").mtime, mount.stat("d/b").mtime_ns), (1234567890, 500000000))
    mount.unlink("d/a")
    mount.unlink("d/b")
    mount.rmdir("d")
    equal(mount.list(), [])
    names = [f"name-{i}" for i in range(3000)]
    for name in names:
        mount.create(name).release()
    equal(mount.list(), sorted(names))
    mount.syncfs()
    check(mount.statfs()[0] > 0, "statfs says nothing")
