# SPDX-License-Identifier: Apache-2.0
"""Operating the daemon: ovfsctl and metrics say what is the case, also when the storage hangs."""

import glob
import json
import os
import re

from ground.operate import Operator, tables
from ground.stage import case, check, equal, eventually
from ground.tools import pattern

MIB = 1 << 20
SLOW_WRITE_BACK = {"enabled_cache_write_back": True, "write_back_delay": "1h"}
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def operated(stage, *more, **keys):
    """A mount, and who operates its daemon."""
    extra = tables(stage.dir)
    for layer in more:
        extra.update(layer)
    mount = stage.mount(extra, **keys)
    return mount, Operator(stage)


@case("metrics count what was asked for, to the last request")
def metrics_count(stage):
    stage.bucket.put("a", pattern(1, 300000))
    mount, operator = operated(stage)
    equal(operator.metrics().sum("ovfs_guests"), 1, "guests")
    before = operator.metrics()
    stage.proxy.reset()
    for _ in range(7):
        mount.statfs()
    check(not mount.exists("missing"), "there is no such file")
    check(mount.read_file("a") == pattern(1, 300000), "bytes")
    mount.write_file("b", pattern(2, 50000))
    after = operator.metrics()
    sent = stage.proxy.requests()

    def grown(name, **labels):
        return after.sum(name, **labels) - before.sum(name, **labels)

    equal(grown("ovfs_requests_total", opcode="STATFS", result="ok"), 7, "STATFS")
    equal(grown("ovfs_request_duration_seconds_count", opcode="STATFS"), 7, "STATFS timed")
    check(grown("ovfs_requests_total", opcode="LOOKUP", result="absent") >= 1, "LOOKUP absent")
    equal(grown("ovfs_read_bytes_total"), 300000, "bytes read")
    equal(grown("ovfs_written_bytes_total"), 50000, "bytes written")
    equal(grown("ovfs_storage_received_bytes_total"), 300000, "bytes received")
    equal(grown("ovfs_storage_sent_bytes_total"), 50000, "bytes sent")
    for operation, wire in (("put", "PutObject"), ("read", "GetObject")):
        equal(grown("ovfs_storage_requests_total", operation=operation), sent.get(wire, 0), wire)
    equal(grown("ovfs_cache_commits_total"), 1, "commits")
    equal(after.sum("ovfs_requests_in_flight"), 0, "in flight")
    equal(operator.get("/healthz"), (200, "ok\n"))
    # Counters outlive the guest.
    mount.close()
    stage.mounts.remove(mount)
    eventually(lambda: operator.metrics().sum("ovfs_guests") == 0, 20, "the guest has left")
    check(operator.metrics().sum("ovfs_requests_total", opcode="STATFS") >= 7, "still there")


@case("retries are counted")
def retries_count(stage):
    stage.bucket.put("a", b"content")
    mount, operator = operated(stage)
    rule = stage.proxy.rule(ops=["GetObject"], times=2, status=503, code="SlowDown")
    equal(mount.read_file("a"), b"content")
    equal(stage.proxy.hits(rule), 2)
    equal(operator.metrics().sum("ovfs_storage_retries_total"), 2, "retries")
    equal(operator.metrics().sum("ovfs_storage_attempts_total", operation="read"), 3, "attempts")


@case("ovfsctl and metrics answer while the storage hangs, and show who waits")
def storage_hangs(stage):
    stage.bucket.put("cold", pattern(3, 2 * MIB))
    mount, operator = operated(stage, {"log": {"level": "info", "slow_request": "300ms"},
                                       "cache_settings": SLOW_WRITE_BACK})
    mount.write_file("dirty", pattern(4, 100000))
    cold = mount.open("cold")
    stage.proxy.rule(hang=True)
    read = cold.start_read(MIB, 4096)
    flush = operator.start("flush")
    statfs = mount.statfs()  # others are served
    check(statfs, "statfs")

    def waits_on_storage():
        requests = operator.ask("requests")["requests"]
        return [r for r in requests if r["operation"] == "READ" and r["in"] == "storage" and
                r["age_seconds"] > 0.5]

    eventually(waits_on_storage, 30, "the READ shows as waiting for the storage")
    status = operator.ask("status")
    check(any(t["task"] == "flush" for t in status["tasks"]), f"the flush: {status['tasks']}")
    equal(status["storages"][0]["dirty_files"], 1, "dirty files")
    equal([f["key"] for f in operator.ask("dirty")], ["dirty"])
    check("READ" in operator.run("status") and "dirty" in operator.run("dirty"), "as tables")
    metrics = operator.metrics()
    check(metrics.sum("ovfs_oldest_request_age_seconds") > 0.5, "age of the oldest request")
    check(metrics.sum("ovfs_requests_in_flight") >= 1, "in flight")
    equal(operator.get("/healthz")[0], 200)
    check(flush.poll() is None, "the flush waits")
    stage.proxy.clear()
    stage.proxy.accept()
    check(read.result() is not None, "the READ is answered in the end")
    equal(flush.wait(120), 0, "the flush")
    check(stage.bucket.get("dirty") == pattern(4, 100000), "what was flushed")
    cold.release()
    log = mount.daemon.log()
    slow = re.search(r"slow_request .*op=READ .*storage_ms=(\d+)", log)
    check(slow and int(slow[1]) >= 300, "the slow READ is in the log, with its time on storage")


@case("flush writes, drain leaves nothing, drop-cache forgets")
def flush_and_drop(stage):
    mount, operator = operated(stage, {"cache_settings": SLOW_WRITE_BACK})
    mount.write_file("a", pattern(5, 70000))
    equal(stage.bucket.keys(), [])
    equal([(f["key"], f["size"]) for f in operator.ask("dirty")], [("a", 70000)])
    operator.run("flush", stage.bucket.name)
    check(stage.bucket.get("a") == pattern(5, 70000), "flushed")
    equal(operator.ask("dirty"), [])
    for i in range(20):
        mount.write_file(f"many{i}", pattern(i, 3000))
    operator.run("drain")
    equal(len(stage.bucket.keys("many")), 20, "drained")
    equal(operator.ask("status")["storages"][0]["dirty_bytes"], 0)

    stage.proxy.reset()
    check(mount.read_file("a") == pattern(5, 70000), "cached")
    equal(stage.proxy.requests().get("GetObject", 0), 0, "GETs for what is cached")
    check(operator.ask("drop-cache")["dropped_bytes"] >= 70000, "dropped")
    check(mount.read_file("a") == pattern(5, 70000), "fetched")
    check(stage.proxy.requests().get("GetObject", 0) > 0, "it was fetched anew")
    operator.run("flush", "nobody", wanted=1)

    # Nothing can be written: the time of the drain runs out, and says so.
    mount.write_file("b", b"kept")
    stage.proxy.rule(ops=["PutObject"], status=503, code="SlowDown")
    operator.run("drain", "--timeout=1", wanted=1)
    stage.proxy.clear()
    operator.run("drain", "--timeout=60")
    equal(stage.bucket.get("b"), b"kept")


@case("the rename of a directory, and a drain, show how far they are")
def progress(stage):
    for i in range(40):
        stage.bucket.put(f"old/{i:02}", b"x")
    mount, operator = operated(stage, {"cache_settings": SLOW_WRITE_BACK,
                                       "log": {"level": "info"}})
    mount.stat("old")
    stage.proxy.rule(ops=["CopyObject"], key="new/30$", hang=True)
    renaming = mount.start_rename("old", "new")

    def tasks(kind):
        return [t for t in operator.ask("status")["tasks"] if t["task"] == kind]

    def half_way():
        found = tasks("rename")
        return found and found[0]["done"] >= 30 and found[0]

    eventually(half_way, 30, "the rename is under way")
    task = half_way()
    equal((task["subject"], task["total"], task["unit"]), ("old/ -> new/", 80, "steps"))
    check("task rename old/ -> new/" in operator.run("status"), "as text")
    eventually(lambda: "progress task=rename" in mount.daemon.log(), 40, "and in the log")
    stage.proxy.clear()
    stage.proxy.accept()
    renaming.result()
    equal(len(stage.bucket.keys("new/")), 40)
    equal(tasks("rename"), [])

    for i in range(10):
        mount.write_file(f"f{i}", b"data")
    stage.proxy.rule(ops=["PutObject"], key="f7$", hang=True)
    draining = operator.start("drain")
    # What is written before it looks for the first time does not count.
    eventually(lambda: any(t["unit"] == "files" and t["total"] - t["done"] == 1
                           for t in tasks("drain")), 30, "the drain shows what is left")
    stage.proxy.clear()
    stage.proxy.accept()
    equal(draining.wait(120), 0)


@case("ovfsctl inode tells what is known of a node")
def inode(stage):
    stage.bucket.put("dir/file", pattern(6, 5000))
    mount, operator = operated(stage, {"cache_settings": SLOW_WRITE_BACK})
    node = mount.walk("dir/file")
    record, = operator.ask("inode", "default", str(node))
    equal((record["type"], record["key"], record["size"]), ("file", "dir/file", 5000))
    file = mount.open("dir/file", os.O_RDWR)
    file.write(5000, b"more")
    record, = operator.ask("inode", "default", str(node))
    equal((record["dirty"], record["cached_size"], record["opens"]), (1, 5004, 1))
    file.close()
    record, = operator.ask("inode", "default", str(mount.walk("dir")))
    equal((record["type"], record["key"]), ("directory", "dir/"))
    check("dir/file" in operator.run("inode", "default", str(node)), "as text")
    equal(operator.ask("inode", "default", "999999"), [])
    operator.run("inode", "nobody", "1", wanted=1)


@case("ovfsctl reload and log-level; what it was asked wrongly")
def reload_and_level(stage):
    mount, operator = operated(stage, {"log": {"level": "info"}})
    generation = operator.ask("status")["configuration"]["generation"]
    operator.run("reload")
    status = operator.ask("status")["configuration"]
    equal((status["generation"], status["error"]), (generation + 1, None))
    path = mount.daemon.socket + ".toml"
    with open(path, "a", encoding="utf-8") as conf:
        conf.write("[nonsense]\n")
    operator.run("reload", wanted=1)
    status = operator.ask("status")["configuration"]
    check("nonsense" in status["error"] and status["failures"] >= 1, f"{status}")
    equal(operator.metrics().sum("ovfs_config_last_reload_successful"), 0)
    equal(operator.ask("log-level"), {"level": "info"})
    operator.run("log-level", "debug")
    equal(operator.ask("log-level"), {"level": "debug"})
    operator.run("log-level", "loud", wanted=1)
    operator.run("inode", "1", wanted=2)
    operator.run("make-coffee", wanted=2)


@case("every metric that the dashboard shows is one of the daemon's")
def dashboard(stage):
    _, operator = operated(stage)
    types = operator.metrics().types
    known = set()
    for name, kind in types.items():
        known |= {f"{name}{suffix}" for suffix in
                  (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    paths = glob.glob(f"{REPOSITORY}/packaging/grafana/*.json")
    check(paths, "there is a dashboard")
    shown = set()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            board = json.load(file)
        text = json.dumps(board)
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        for panel in panels:
            check(panel["title"] and panel["targets"], f"panel {panel.get('title')}: no query")
            for target in panel["targets"]:
                shown |= set(re.findall(r"\b(?:ovfs|process)_[a-z0-9_]+", target["expr"]))
        equal(len({panel["id"] for panel in board["panels"]}), len(board["panels"]),
              "identities of panels")
        shown |= set(re.findall(r"label_values\((\w+),", text))
    equal(sorted(shown - known), [], "unknown metrics")
    check(len(shown) > 20, f"only {len(shown)} metrics are shown")
