# SPDX-License-Identifier: Apache-2.0
"""Another client changes objects under our open files: never two versions in one read,
never a silent overwrite."""

import os

from ground.fuse import FOPEN_KEEP_CACHE
from ground.stage import case, check, equal, eventually, fails
from ground.tools import pattern, put_large

MIB = 1 << 20
SLOW_WRITE_BACK = {"cache_settings": {"enabled_cache_write_back": True, "write_back_delay": "1h"}}
# What is read ahead is not there to be asked about.
NO_READ_AHEAD = {"cache_settings": {"read_ahead": "0"}}


@case("an object replaced under an open file: ESTALE for what was not read, or the old bytes")
def replaced_while_open(stage):
    old, new = pattern(1, 32 * MIB), pattern(2, 32 * MIB)
    put_large(stage.bucket, "a", len(old), seed=1)
    mount = stage.mount(NO_READ_AHEAD)
    file = mount.open("a")
    equal(file.read(0, 4096), old[:4096])
    stage.bucket.put("a", new)
    stale = 0
    for at in range(0, 32 * MIB, MIB):
        try:
            found = file.read(at, MIB)
            check(found == old[at:at + MIB], f"other bytes than the old ones at {at}")
        except OSError as error:
            equal(error.errno, 116, "errno")
            stale += 1
    check(stale >= 30, f"only {stale} of 32 reads were refused")
    file.close()
    # close-to-open: the next open sees the new version, whole.
    check(mount.read_file("a") == new, "the new version after opening again")


@case("an object removed under an open file: ESTALE for what was not read; open: ENOENT")
def removed_while_open(stage):
    data = pattern(3, 16 * MIB)
    stage.bucket.put("a", data)
    mount = stage.mount(NO_READ_AHEAD)
    file = mount.open("a")
    equal(file.read(0, 4096), data[:4096])
    stage.bucket.delete("a")
    with fails("ESTALE"):
        file.read(15 * MIB, 4096)
    file.close()
    eventually(lambda: not mount.exists("a"), 5, "the name is gone")
    with fails("ENOENT"):
        mount.open("a")


@case("open sees another client's version at once, whatever is cached")
def open_revalidates(stage):
    stage.bucket.put("a", b"first")
    mount = stage.mount(cache__cache_expiration_time="1h")
    equal(mount.read_file("a"), b"first")
    node = mount.walk("a")
    for i in range(5):
        content = b"version %d" % i + b"!" * i
        stage.bucket.put("a", content)
        # By the node, as a kernel whose entry has not timed out.
        file = mount.open_node(node)
        equal(file.read(0, 100), content)
        equal(file.getattr().size, len(content))
        file.close()


@case("the guest may keep its page cache only over opens of an unchanged version")
def keep_cache(stage):
    stage.bucket.put("a", b"first")
    mount = stage.mount()
    mount.read_file("a")
    node = mount.walk("a")
    file = mount.open_node(node)
    check(file.open_flags & FOPEN_KEEP_CACHE, "unchanged: KEEP_CACHE")
    file.close()
    stage.bucket.put("a", b"other")
    file = mount.open_node(node)
    check(not file.open_flags & FOPEN_KEEP_CACHE, "changed by another: no KEEP_CACHE")
    equal(file.read(0, 10), b"other")
    file.close()
    # Our own writes pass through the guest's cache: it is as good as before.
    file = mount.open_node(node, os.O_RDWR)
    file.write(0, b"OURS!")
    file.close()
    file = mount.open_node(node)
    equal(file.read(0, 10), b"OURS!")
    file.close()


@case("a lost race at commit: ESTALE, and the other's version stands")
def lost_race(stage):
    stage.bucket.put("a", b"original content")
    for tables in ({}, SLOW_WRITE_BACK):
        for ending in ("fsync", "close"):
            if tables and ending == "close":
                continue
            stage.bucket.put("a", b"original content")
            mount = stage.mount(tables)
            file = mount.open("a", os.O_RDWR)
            file.write(0, b"OURS")
            stage.bucket.put("a", b"theirs")
            with fails("ESTALE"):
                if ending == "fsync":
                    file.fsync()
                else:
                    file.flush()
            file.release()
            equal(stage.bucket.get("a"), b"theirs", f"after {ending}")
            check(mount.read_file("a") == b"theirs", "what we read afterwards")
            mount.close()
            stage.mounts.remove(mount)
            # What could not be written is dirty still, and an end says so.
            stage.end_daemon(mount.daemon, wanted=None)


@case("a lost race at commit of a large object: ESTALE, no mixture, no upload left")
def lost_race_large(stage):
    put_large(stage.bucket, "a", 64 * MIB, seed=4)
    mount = stage.mount()
    file = mount.open("a", os.O_RDWR)
    file.write(30 * MIB, b"OURS")
    theirs = pattern(5, 20 * MIB)
    stage.bucket.put("a", theirs)
    with fails("ESTALE"):
        file.flush()
    file.release()
    check(stage.bucket.get("a") == theirs, "the other's version")
    eventually(lambda: stage.bucket.uploads() == [], 10, "no unfinished upload")
    stage.mounts.remove(mount)
    mount.close()
    stage.end_daemon(mount.daemon, wanted=None)


@case("two creators of one name: the first commit wins, the other gets ESTALE")
def create_race(stage):
    mount = stage.mount()
    file = mount.create("a")
    file.write(0, b"ours")
    stage.bucket.put("a", b"theirs")
    with fails("ESTALE", "EEXIST"):
        file.flush()
    file.release()
    equal(stage.bucket.get("a"), b"theirs")
    stage.mounts.remove(mount)
    mount.close()
    stage.end_daemon(mount.daemon, wanted=None)


@case("on_conflict = overwrite: the last writer wins")
def overwrite(stage):
    stage.bucket.put("a", b"original content")
    mount = stage.mount(cache__on_conflict="overwrite")
    file = mount.open("a", os.O_RDWR)
    # What was never read of a version that is gone, nobody can write again.
    file.read(0, 100)
    file.write(0, b"OURS")
    stage.bucket.put("a", b"theirs")
    file.close()
    # Of the version that was opened, not of a mixture.
    equal(stage.bucket.get("a"), b"OURSinal content")


@case("write-back, the writer gone: a conflict keeps our version beside the other's",
      limit=60)
def conflict_kept(stage):
    stage.bucket.put("a", b"original content")
    mount = stage.mount(cache__enabled_cache_write_back=True, cache__write_back_delay="1s")
    file = mount.open("a", os.O_RDWR)
    file.read(0, 100)
    file.write(0, b"OURS")
    file.close()
    stage.bucket.put("a", b"theirs")
    sibling, = eventually(lambda: [key for key in stage.bucket.keys() if key != "a"], 20,
                          "our version under a sibling key")
    equal(stage.bucket.get("a"), b"theirs")
    equal(stage.bucket.get(sibling), b"OURSinal content")
    check(sibling in mount.daemon.log(), "the log names the sibling")
    stage.mounts.remove(mount)
    mount.close()
    stage.end_daemon(mount.daemon, wanted=None)


@case("two mounts on one bucket: what one closed, the other opens")
def close_to_open(stage):
    first, second = stage.mount(), stage.mount()
    for i in range(20):
        writer, reader = (first, second) if i % 2 else (second, first)
        content = pattern(i, 10000 * (i + 1))
        writer.write_file(f"f{i % 3}", content)
        # A new name: at the latest when the negative entry has timed out.
        eventually(lambda: reader.exists(f"f{i % 3}"), 5, "the name is seen")
        check(reader.read_file(f"f{i % 3}") == content, f"round {i}")
    first.mkdir("d")
    first.write_file("d/a", b"1")
    eventually(lambda: second.exists("d/a"), 5, "a file in a new directory")
    second.rename("d", "e")
    eventually(lambda: first.exists("e/a") and not first.exists("d/a"), 5, "a renamed directory")


@case("ranged GETs of a pinned version say so in their condition")
def conditional_gets(stage):
    put_large(stage.bucket, "a", 64 * MIB, seed=6)
    mount = stage.mount()
    mount.read_file("a")
    gets = [entry for entry in stage.proxy.log() if entry["op"] == "GetObject"]
    check(len(gets) > 0, "there were GETs")
    # The first one may learn the version.
    for entry in gets[1:]:
        check("if-match" in entry["headers"], f"a GET without If-Match: {entry}")


@case("writers on two hosts of one object: every lost commit is told")
def competing_writers(stage):
    stage.bucket.put("a", b"0")
    mounts = [stage.mount(), stage.mount()]
    told = 0
    for i in range(10):
        files = [mount.open("a", os.O_RDWR) for mount in mounts]
        for number, file in enumerate(files):
            file.write(0, b"%d-%03d" % (number, i))
        outcomes = []
        for file in files:
            try:
                file.flush()
                outcomes.append(True)
            except OSError as error:
                equal(error.errno, 116, "errno")
                outcomes.append(False)
                told += 1
            file.release()
        equal(sum(outcomes), 1, f"commits that succeeded in round {i}")
        equal(stage.bucket.get("a"), b"%d-%03d" % (outcomes.index(True), i))
    equal(told, 10)
    for mount in mounts:
        stage.mounts.remove(mount)
        mount.close()
        stage.end_daemon(mount.daemon, wanted=None)
