# SPDX-License-Identifier: Apache-2.0
"""Several mounts of one daemon: what they share and what they do not; and reloads of what is
behind them."""

import copy
import os
import threading
import time

import boto3
from botocore.config import Config

from ground.operate import Operator, tables
from ground.servers import Proxy
from ground.stage import at_most, case, check, equal, eventually, fails
from ground.tools import pattern

MIB = 1 << 20
ROTATION_SECONDS = float(os.environ.get("OVFS_TEST_RELOAD_SECONDS", "20"))
IMPATIENT = {"retry_settings": {"attempts": 2, "pause_first": "50ms", "pause_max": "200ms",
                                "total": "3s"},
             "timeout_settings": {"silence_min": "1s", "silence_max": "2s", "server_max": "3s"}}
DIRTY = {"cache_settings": {"enabled_cache_write_back": True, "write_back_delay": "1h"}}


def black_hole(stage):
    """A way to the server of its own, that swallows what it is told to."""
    proxy = Proxy(stage.server.endpoint, stage.dir)
    stage.cleanups.append(proxy.end)
    return proxy


def through(proxy, tables=None):
    own = copy.deepcopy(tables or {})
    own.setdefault("storage_settings", {})["endpoint"] = proxy.endpoint
    return own


class Work:
    """A guest that writes and reads until it is told to stop; the first failure is kept."""

    def __init__(self, mount):
        self.mount, self.error, self.rounds, self.slowest = mount, None, 0, 0
        self.going = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while self.going:
                start = time.monotonic()
                data = pattern(self.rounds, 20000 + self.rounds % 7 * 50000)
                name = f"work{self.rounds % 20}"
                self.mount.write_file(name, data)
                check(self.mount.read_file(name) == data, f"bytes of round {self.rounds}")
                self.rounds += 1
                self.slowest = max(self.slowest, time.monotonic() - start)
        except Exception as error:  # to be raised in the test's own thread
            self.error = error

    def end(self):
        self.going = False
        self.thread.join()
        if self.error:
            raise self.error
        check(self.rounds > 0, "nothing was done")


@case("a mount whose storage hangs at the start keeps no other from being served")
def dead_at_start(stage):
    hole = black_hole(stage)
    hole.rule(hang=True)
    daemon = stage.many({"good": {}, "dead": through(hole, IMPATIENT)})
    good = stage.mount_of(daemon)
    good.write_file("a", b"x")
    equal(stage.bucket.get("a"), b"x")
    eventually(lambda: " storage_does_not_answer " in daemon.log(), 60, "the log says so")
    dead = stage.mount_of(daemon, socket=stage.socket_of(daemon, "dead"))
    with fails("EIO", "ETIMEDOUT"):
        dead.list()
    good.write_file("b", b"y")
    hole.clear()
    eventually(lambda: " storage_answers " in daemon.log(), 60, "it has come to life")
    equal(dead.read_file("b"), b"y")


@case("a mount whose storage says no at the start turns its guests away until it does not",
      needs="minio")
def refused_at_start(stage):
    late = f"{stage.bucket.name}-late"
    daemon = stage.many({"good": {}, "late": {"storage_settings": {"bucket": late}}},
                        **tables(stage.dir))
    operator = Operator(stage)
    eventually(lambda: " mount_waits " in daemon.log(), 60, "it waits")
    check("no bucket" in daemon.log(), "and says for what")
    told = {mount["name"]: mount.get("error") for mount in operator.ask("status")["mounts"]}
    check(told["good"] is None and "no bucket" in told["late"], f"and the operator: {told}")
    check("mount late is not served: " in operator.run("status"), "the same for people")
    equal(operator.metrics().sum("ovfs_mount_up"), 1)
    stage.mount_of(daemon).write_file("a", b"x")
    stage.bucket.client.create_bucket(Bucket=late)
    try:
        eventually(lambda: " ready mount=late " in daemon.log(), 60, "it is ready")
        equal(operator.metrics().sum("ovfs_mount_up"), 2)
        mount = stage.mount_of(daemon, socket=stage.socket_of(daemon, "late"))
        mount.write_file("a", b"y")
        mount.unlink("a")
    finally:
        stage.bucket.client.delete_bucket(Bucket=late)


@case("a mount whose storage hangs later takes nothing from another, nor at the end")
def dead_later(stage):
    hole = black_hole(stage)
    daemon = stage.many({"good": DIRTY, "dead": through(hole, {
        **IMPATIENT, **copy.deepcopy(DIRTY)} | {"cache_settings": {
            **DIRTY["cache_settings"], "drain_timeout": "2s"}})})
    good = stage.mount_of(daemon)
    dead = stage.mount_of(daemon, socket=stage.socket_of(daemon, "dead"))
    dead.write_file("lost", b"never written")
    hole.rule(hang=True)
    asked = [dead.pipe.start(1, 1, f"none{i}".encode() + b"\0", 128) for i in range(20)]
    good.write_file("kept", b"written at the end")
    for i in range(50):
        good.write_file(f"file{i}", pattern(i, 100000))
        check(good.read_file(f"file{i}") == pattern(i, 100000), "the bytes")
    for call in asked:
        with fails("EIO", "ETIMEDOUT"):
            call.result()
    stage.mounts.clear()
    good.close()
    dead.close()
    stage.end_daemon(daemon, wanted=3)
    equal(stage.bucket.get("kept"), b"written at the end")
    check("lost" in daemon.log(), "the key of what was lost, in the log")


@case("mounts of one storage share what is cached, and what is not written yet")
def shared(stage):
    data = pattern(5, 3 * MIB)
    stage.bucket.put("a", data)
    daemon = stage.many({"first": DIRTY, "second": {**DIRTY, "storage_settings": {
        "readonly": True}}})
    first = stage.mount_of(daemon)
    second = stage.mount_of(daemon, socket=stage.socket_of(daemon, "second"))
    check(first.read_file("a") == data, "the bytes")
    stage.proxy.reset()
    check(second.read_file("a") == data, "the bytes, once more")
    equal(stage.proxy.requests().get("GetObject", 0), 0, "GETs by the second")
    first.write_file("new", b"not written yet")
    equal(stage.bucket.keys(), ["a"])
    equal(second.read_file("new"), b"not written yet")
    with fails("EROFS"):
        second.write_file("no", b"x")


@case("a mount that is removed writes what it has first; its guest is disconnected")
def removed_dirty(stage):
    daemon = stage.many({"stays": DIRTY, "goes": {**DIRTY, "limit_settings": {
        "data_requests": 7}}})
    stays = stage.mount_of(daemon)
    goes = stage.mount_of(daemon, socket=stage.socket_of(daemon, "goes"))
    data = pattern(9, 20 * MIB)
    goes.write_file("large", data)
    goes.write_file("small", b"x")
    stays.write_file("other", b"y")
    tables = copy.deepcopy(daemon.tables)
    tables["mount"] = tables["mount"][:1]
    daemon.reload(tables, word=" mount_ended mount=goes")
    check(stage.bucket.get("large") == data, "the large one")
    equal(stage.bucket.get("small"), b"x")
    stage.mounts.remove(goes)
    goes.close()
    stays.write_file("more", b"z")
    equal(stays.read_file("other"), b"y")


@case("turning write-back off writes what is dirty, and close() waits from then on")
def write_back_off(stage):
    daemon = stage.daemon(DIRTY)
    mount = stage.mount_of(daemon)
    mount.write_file("before", b"x")
    tables = copy.deepcopy(daemon.tables)
    tables["cache_settings"] = {"enabled_cache_write_back": False}
    daemon.reload(tables)
    equal(stage.bucket.get("before"), b"x")
    mount.write_file("after", b"y")
    equal(stage.bucket.get("after"), b"y")
    daemon.reload(copy.deepcopy(tables) | DIRTY)
    mount.write_file("again", b"z")
    equal(mount.read_file("again"), b"z")


@case("credentials that are wrong are refused, those that are there stay", needs="minio")
def wrong_credentials(stage):
    daemon = stage.daemon()
    mount = stage.mount_of(daemon)
    good = copy.deepcopy(daemon.tables)
    bad = copy.deepcopy(good)
    bad["storage_settings"]["secret_access_key"] = "wrong-wrong-wrong-wrong"
    daemon.reload(bad, word=" reload_failed ")
    mount.write_file("a", b"x")
    equal(stage.bucket.get("a"), b"x")
    bad["storage_settings"] = dict(good["storage_settings"], no_such_key="x")
    daemon.reload(bad, word=" reload_failed ")
    mount.write_file("b", b"x")
    good["limit_settings"] = {"data_requests": 3}
    daemon.reload(good)
    mount.write_file("c", b"x")
    equal(stage.bucket.get("c"), b"x")


@case("credentials that change each second under load: no request fails", needs="minio",
      limit=180)
def rotation(stage):
    sts = boto3.client("sts", endpoint_url=stage.server.endpoint, region_name="us-east-1",
                       aws_access_key_id=stage.server.access_key,
                       aws_secret_access_key=stage.server.secret_key,
                       config=Config(retries={"max_attempts": 5}))
    daemon = stage.daemon()
    work = Work(stage.mount_of(daemon))
    used = set()
    end = time.monotonic() + ROTATION_SECONDS
    try:
        while time.monotonic() < end:
            start = time.monotonic()
            fresh = sts.assume_role(RoleArn="arn:aws:iam::x:role/any", RoleSessionName="any",
                                    DurationSeconds=3600)["Credentials"]
            tables = copy.deepcopy(daemon.tables)
            tables["storage_settings"] |= {
                "access_key_id": fresh["AccessKeyId"],
                "secret_access_key": fresh["SecretAccessKey"],
                "session_token": fresh["SessionToken"]}
            used.add(fresh["SessionToken"])
            daemon.reload(tables)
            time.sleep(max(0, start + 1 - time.monotonic()))
    finally:
        work.end()
    check(len(used) > 1, "only one key was ever made")
    sent = {entry["headers"].get("x-amz-security-token") for entry in stage.proxy.log()
            if entry["op"] in ("PutObject", "GetObject", "HeadObject")}
    at_most(len(used - sent), len(used) // 2, f"keys of {len(used)} that no file was sent with")
