# SPDX-License-Identifier: Apache-2.0
"""A storage that is not there at the start, or when it is added: it keeps nobody else from being
served, what it is asked for fails at once, and it comes to life by itself."""

import copy
import time

from ground.operate import Operator, tables
from ground.servers import Proxy
from ground.stage import at_most, case, check, equal, eventually, fails
from harness.report import Failure

# A guest's patience is long enough to be told from an answer at once, the daemon's at its start
# short.
PATIENT = {"retry_settings": {"total": "5m"},
           "timeout_settings": {"silence_min": "1s", "silence_max": "1s"}}


def black_hole(stage):
    """A way to the server that swallows everything."""
    proxy = Proxy(stage.server.endpoint, stage.dir)
    stage.cleanups.append(proxy.end)
    proxy.rule(hang=True)
    return proxy


def through(proxy):
    return {"storage_settings": {"endpoint": proxy.endpoint, "connect_timeout": "1s"},
            **copy.deepcopy(PATIENT)}


def storage(operator, name):
    return next(one for one in operator.ask("status")["storages"] if one["name"] == name)


def fails_at_once(what, *arguments):
    start = time.monotonic()
    with fails("EIO", "ETIMEDOUT"):
        what(*arguments)
    at_most(time.monotonic() - start, 60, "seconds until it failed")


@case("a directory whose storage is silent at the start takes nothing from the others")
def dead_directory(stage):
    hole = black_hole(stage)
    daemon = stage.joined({"live": {}, "dead": through(hole)}, **tables(stage.dir))
    operator = Operator(stage)
    mount = stage.mount_of(daemon)
    equal(sorted(mount.list()), ["dead", "live"])
    mount.write_file("live/a", b"x")
    equal(stage.bucket.get("a"), b"x")
    fails_at_once(mount.list, "dead")
    fails_at_once(mount.write_file, "dead/no", b"y")
    check("storage_does_not_answer" in daemon.log(), "the log says so")
    dead = storage(operator, f"{stage.bucket.name}#2")
    equal(dead["state"], "silent")
    check("no answer" in dead["error"], dead["error"])
    equal(storage(operator, stage.bucket.name)["state"], "well")
    equal(operator.metrics().sum("ovfs_storage_up"), 1)
    parts = {one["path"]: one for one in operator.ask("status")["mounts"][0]["directories"]}
    equal((parts["live"]["errors"], parts["dead"]["storage"]), (0, f"{stage.bucket.name}#2"))
    check(parts["dead"]["errors"] >= 2, parts)
    check("has not answered yet" in operator.run("status"), "the same for people")
    hole.clear()
    eventually(lambda: "storage_answers" in daemon.log(), 60, "it has come to life")
    equal(mount.list("dead"), ["a"])
    mount.write_file("dead/b", b"y")
    equal(stage.bucket.get("b"), b"y")
    equal(storage(operator, f"{stage.bucket.name}#2")["error"], None)
    node = mount.walk("dead/b")
    record, = operator.ask("inode", "joined", str(node))
    equal((record["directory"], record["key"]), ("dead", "b"))


@case("a directory whose storage is silent can be added, and one that is refused cannot")
def dead_directory_added(stage):
    hole = black_hole(stage)
    daemon = stage.joined({"live": {}}, **tables(stage.dir))
    mount = stage.mount_of(daemon)
    mount.write_file("live/a", b"x")
    before = copy.deepcopy(daemon.tables)
    wrong = copy.deepcopy(before)
    wrong["mount"][0]["directory"] |= stage.directories({
        "wrong": {"storage_settings": {"bucket": "no-such-bucket-anywhere"}}})
    daemon.reload(wrong, word=" reload_failed ")
    check("no bucket" in daemon.log(), "which it is")
    equal(mount.list(), ["live"])
    after = copy.deepcopy(before)
    after["mount"][0]["directory"] |= stage.directories({"dead": through(hole)})
    daemon.reload(after)
    check("storage_does_not_answer" in daemon.log(), "the log says so")
    eventually(lambda: sorted(mount.list()) == ["dead", "live"], 20, "it is shown")
    fails_at_once(mount.list, "dead")
    parts = [one["path"] for one in Operator(stage).ask("status")["mounts"][0]["directories"]]
    equal(parts, ["live", "dead"])
    equal(mount.read_file("live/a"), b"x")
    hole.clear()
    eventually(lambda: "storage_answers" in daemon.log(), 60, "it has come to life")
    equal(mount.list("dead"), ["a"])


@case("a directory whose bucket does not exist is an error of the configuration")
def wrong_directory(stage):
    try:
        daemon = stage.joined({"live": {}, "wrong": {"storage_settings": {
            "bucket": "no-such-bucket-anywhere"}}})
    except Failure as failure:
        text = failure.details
        stage.daemons.clear()
    else:
        eventually(lambda: not daemon.alive(), 60, "it ends")
        text = daemon.log()
        stage.daemons.remove(daemon)
    check("directory wrong" in text and "no bucket" in text, text[-1000:])


@case("a mount whose storage is silent at the start is served, and comes to life")
def dead_alone(stage):
    hole = black_hole(stage)
    daemon = stage.daemon(through(hole))
    mount = stage.mount_of(daemon)
    fails_at_once(mount.list)
    fails_at_once(mount.write_file, "no", b"x")
    # The same settings but the keys: what is silent says nothing against them.
    changed = copy.deepcopy(daemon.tables)
    changed["limit_settings"] = {"data_requests": 7}
    daemon.reload(changed)
    check("storage_unchecked" in daemon.log(), "the log says so")
    hole.clear()
    eventually(lambda: "storage_answers" in daemon.log(), 60, "it has come to life")
    mount.write_file("a", b"x")
    equal(stage.bucket.get("a"), b"x")


@case("another endpoint is not taken when nobody is there")
def elsewhere(stage):
    daemon = stage.daemon()
    mount = stage.mount_of(daemon)
    mount.write_file("a", b"x")
    bad = copy.deepcopy(daemon.tables)
    bad["storage_settings"]["endpoint"] = "http://127.0.0.1:1"
    daemon.reload(bad, word=" reload_failed ")
    equal(mount.read_file("a"), b"x")


@case("a storage that fails later is told of, and that it is back", limit=180)
def fails_later(stage):
    hole = Proxy(stage.server.endpoint, stage.dir)
    stage.cleanups.append(hole.end)
    daemon = stage.daemon({**through(hole), "retry_settings": {"attempts": 1},
                           **tables(stage.dir)})
    operator = Operator(stage)
    mount = stage.mount_of(daemon)
    mount.write_file("a", b"x")
    hole.refuse()
    for i in range(4):
        with fails("EIO", "ETIMEDOUT"):
            mount.stat(f"none{i}")
    equal(storage(operator, stage.bucket.name)["state"], "failing")
    equal(operator.metrics().sum("ovfs_storage_up"), 0)
    hole.accept()
    # Without anybody's asking.
    eventually(lambda: "storage_answers" in daemon.log(), 60, "it is back")
    equal(storage(operator, stage.bucket.name)["state"], "well")
    equal(mount.read_file("a"), b"x")
