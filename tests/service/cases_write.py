# SPDX-License-Identifier: Apache-2.0
"""Writing: whatever was written, in whatever order, is what the object holds."""

import hashlib
import os
import random
import time

from ground.stage import at_most, case, check, equal, eventually, fails
from ground.tools import digest_of, pattern, pieces, put_large

MIB = 1 << 20
WRITE_BACK = {"cache_settings": {"enabled_cache_write_back": True, "write_back_delay": "2s"}}
SLOW_WRITE_BACK = {"cache_settings": {"enabled_cache_write_back": True, "write_back_delay": "1h"}}


@case("one file is one object under its path, whole, when close has returned", limit=300)
def sizes(stage):
    mount = stage.mount()
    for size in (0, 1, 4095, 4096, 4097, 65536, 1000000, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1,
                 8 * MIB, 16 * MIB + 3, 70 * MIB + 5):
        data = pattern(size, size)
        mount.write_file(f"f{size}", data)
        equal(stage.bucket.size(f"f{size}"), size)
        check(stage.bucket.get(f"f{size}") == data, f"the data of {size} bytes")
        equal(mount.stat(f"f{size}").size, size)
        check(mount.read_file(f"f{size}") == data, f"the data of {size} bytes, read back")
    equal(stage.bucket.uploads(), [])


@case("a stream of 1 GiB in bounded memory", limit=300)
def large_stream(stage):
    mount = stage.mount(cache__size="64MiB")
    file = mount.create("large")
    highest, at = 0, 0
    for data in pieces(11, 1024 * MIB):
        file.write(at, data)
        at += len(data)
        highest = max(highest, mount.daemon.memory_kib())
    file.close(300)
    at_most(highest, (64 + 64) * 1024, "KiB of memory while writing")
    equal(stage.bucket.sum("large"), digest_of(1024 * MIB, 11))
    equal(stage.bucket.uploads(), [])


@case("without write-back, close returns after the commit")
def close_commits(stage):
    mount = stage.mount()
    file = mount.create("a")
    file.write(0, b"x" * 100000)
    file.flush()
    equal(stage.bucket.size("a"), 100000)
    file.write(100000, b"y")
    file.close()
    equal(stage.bucket.get("a"), b"x" * 100000 + b"y")


@case("fsync brings what is written so far; writing goes on after it")
def fsync_in_between(stage):
    for tables in ({}, SLOW_WRITE_BACK):
        mount = stage.mount(tables)
        file = mount.create("a")
        file.write(0, b"one")
        file.fsync()
        equal(stage.bucket.get("a"), b"one")
        file.write(3, b"two")
        equal(file.read(0, 100), b"onetwo")
        file.fsync(datasync=True)
        equal(stage.bucket.get("a"), b"onetwo")
        file.write(1, b"X")
        file.close()
        mount.syncfs()
        equal(stage.bucket.get("a"), b"oXetwo")
        mount.unlink("a")


@case("what was opened with O_SYNC or O_DSYNC is in the bucket when write returns")
def sync_writes(stage):
    mount = stage.mount(SLOW_WRITE_BACK)
    for flag in (os.O_SYNC, os.O_DSYNC):
        file = mount.create("a", os.O_RDWR | flag)
        file.write(0, b"one")
        equal(stage.bucket.get("a"), b"one")
        file.write(3, b"two")
        equal(stage.bucket.get("a"), b"onetwo")
        file.close()
        mount.unlink("a")


@case("write-back: close asks the storage nothing; the delay, fsync and syncfs do")
def write_back(stage):
    mount = stage.mount(WRITE_BACK)
    mount.mkdir("d")
    mount.list("d")
    stage.proxy.reset()
    start = time.monotonic()
    mount.write_file("d/a", b"data")
    requests = stage.proxy.requests()
    if time.monotonic() - start < 1:
        equal({op: requests.get(op, 0) for op in ("PutObject", "CreateMultipartUpload")},
              {"PutObject": 0, "CreateMultipartUpload": 0}, "writing requests at close")
    equal(mount.read_file("d/a"), b"data")
    equal(mount.list("d"), ["a"])
    eventually(lambda: stage.bucket.exists("d/a"), 10, "the data is written after the delay")
    equal(stage.bucket.get("d/a"), b"data")

    mount = stage.mount(SLOW_WRITE_BACK)
    for i in range(50):
        mount.write_file(f"s{i}", b"%d" % i)
    at_most(len(stage.bucket.keys("s")), 0, "objects before syncfs")
    mount.syncfs()
    equal(len(stage.bucket.keys("s")), 50)
    mount.write_file("t", b"by fsync")
    file = mount.open("t", os.O_RDWR)
    file.fsync()
    file.close()
    equal(stage.bucket.get("t"), b"by fsync")


@case("write-back: the end of the daemon writes everything first")
def write_back_drain(stage):
    mount = stage.mount(SLOW_WRITE_BACK)
    data = {f"f{i}": pattern(i, i * 40000) for i in range(40)}
    for name, content in data.items():
        mount.write_file(name, content)
    stage.unmount(mount)
    equal(stage.bucket.keys(), sorted(data))
    for name, content in data.items():
        check(stage.bucket.get(name) == content, f"{name} is whole")


@case("write-back: umount is answered when everything is written")
def write_back_unmount(stage):
    mount = stage.mount(SLOW_WRITE_BACK)
    mount.write_file("a", b"data")
    equal(stage.bucket.keys(), [])
    mount.destroy()
    equal(stage.bucket.get("a"), b"data")


@case("write-back: a file that is removed before it was written costs no upload")
def write_back_unlinked(stage):
    mount = stage.mount(SLOW_WRITE_BACK)
    mount.list()
    stage.proxy.reset()
    for i in range(10):
        mount.write_file(f"tmp{i}", pattern(i, 100000))
        mount.unlink(f"tmp{i}")
    mount.syncfs()
    requests = stage.proxy.requests()
    equal(requests.get("PutObject", 0) + requests.get("CreateMultipartUpload", 0), 0,
          f"uploads of {requests}")
    equal(stage.bucket.keys(), [])


@case("write-back: renamed before it was written, it appears under the new name only")
def write_back_renamed(stage):
    mount = stage.mount(SLOW_WRITE_BACK)
    stage.bucket.put("target", b"old")
    mount.write_file("a.tmp", b"new content")
    mount.rename("a.tmp", "target")
    equal(mount.read_file("target"), b"new content")
    mount.syncfs()
    equal(stage.bucket.get("target"), b"new content")
    equal(stage.bucket.keys(), ["target"])
    # A directory full of such files.
    mount.mkdir("d")
    for i in range(20):
        mount.write_file(f"d/{i}", b"%d" % i)
    mount.rename("d", "e")
    mount.syncfs()
    equal(len(stage.bucket.keys("e/")), 21)
    equal(stage.bucket.keys("d"), [])
    equal(stage.bucket.get("e/7"), b"7")


@case("append, truncate both ways, sparse growth")
def shapes(stage):
    mount = stage.mount()
    data = pattern(21, 300000)
    mount.write_file("a", data)
    file = mount.open("a", os.O_RDWR)
    file.write(300000, b"tail")
    file.truncate(200000)
    equal(file.getattr().size, 200000)
    file.truncate(250000)
    equal(file.read(199990, 100), data[199990:200000] + bytes(90))
    file.write(400000, b"far")
    file.close()
    wanted = data[:200000] + bytes(200000) + b"far"
    check(stage.bucket.get("a") == wanted, "the object's bytes")
    check(mount.read_file("a") == wanted, "the file's bytes")
    mount.truncate("a", 0)
    eventually(lambda: stage.bucket.size("a") == 0, 10, "truncate by path reaches the object")
    mount.truncate("a", 100)
    eventually(lambda: stage.bucket.size("a") == 100, 10, "and growth by path")
    equal(stage.bucket.get("a"), bytes(100))
    file = mount.create("sparse")
    file.write(40 * MIB, b"end")
    file.close()
    equal(stage.bucket.sum("sparse"),
          hashlib.sha256(bytes(40 * MIB) + b"end").hexdigest())


@case("an existing object is replaced by open with O_TRUNC, whole, at close")
def replaced(stage):
    stage.bucket.put("a", pattern(1, 20 * MIB))
    mount = stage.mount()
    file = mount.open_truncated("a")
    file.write(0, b"short")
    file.close()
    equal(stage.bucket.get("a"), b"short")


@case("changes in the middle of a large object keep the rest", limit=240)
def middle(stage):
    size = 100 * MIB
    put_large(stage.bucket, "large", size, seed=31)
    data = bytearray(pattern(31, size))
    mount = stage.mount()
    file = mount.open("large", os.O_RDWR)
    chance = random.Random(5)
    for _ in range(20):
        at, length = chance.randrange(size), chance.choice((1, 100, 5000, 300000))
        length = min(length, size - at)
        new = chance.randbytes(length)
        file.write(at, new)
        data[at:at + length] = new
        check(file.read(max(0, at - 10), length + 20) == data[max(0, at - 10):at + length + 10],
              f"the bytes around {at}, before the commit")
    file.close()
    check(stage.bucket.get("large") == data, "the object's bytes")
    equal(stage.bucket.uploads(), [])
    # Cut off and grown again, both within the copied part and at its end.
    file = mount.open("large", os.O_RDWR)
    file.truncate(77 * MIB + 1)
    file.write(77 * MIB + 1, b"new end")
    file.close()
    check(stage.bucket.get("large") == bytes(data[:77 * MIB + 1]) + b"new end", "the cut object")


@case("random writes, truncations, reads, fsync and reopening against a model", limit=400)
def against_a_model(stage):
    for tables in ({}, WRITE_BACK, {"cache_settings": {"size": "16MiB"}}):
        mount = stage.mount(tables)
        for seed in (1, 2):
            model_run(stage, mount, f"model{stage.number}-{seed}", seed, steps=250)
        stage.unmount(mount)


def model_run(stage, mount, path, seed, steps):
    chance = random.Random(seed)
    model = bytearray()
    file = mount.create(path)
    # A size that crosses from one PUT to several parts and back.
    limit = chance.choice((200000, 24 * MIB))
    for step in range(steps):
        kind = chance.randrange(20)
        at = chance.randrange(limit)
        length = chance.choice((1, 17, 4096, 60000, min(limit, MIB)))
        if kind < 9:
            data = chance.randbytes(length)
            file.write(at, data)
            model.extend(bytes(max(0, at - len(model))))
            model[at:at + length] = data
        elif kind < 16:
            found = file.read(at, length)
            check(found == model[at:at + length],
                  f"{path} step {step}: {length} bytes at {at} of {len(model)}")
        elif kind == 16:
            size = chance.randrange(limit)
            file.truncate(size)
            model.extend(bytes(max(0, size - len(model))))
            del model[size:]
        elif kind == 17:
            file.fsync()
            check(stage.bucket.get(path) == model, f"{path} step {step}: the object after fsync")
        elif kind == 18:
            data = chance.randbytes(length)
            file.write(len(model), data)
            model += data
        else:
            file.close()
            file = mount.open(path, os.O_RDWR)
        if step % 16 == 0:
            equal(file.getattr().size, len(model), f"{path} step {step}: size")
    file.fsync()
    file.close()
    check(stage.bucket.get(path) == model, f"{path}: the object in the end")


@case("two handles on one file see each other's writes at once")
def two_handles(stage):
    for tables in ({}, SLOW_WRITE_BACK):
        mount = stage.mount(tables)
        mount.write_file("a", b"0123456789")
        first, second = mount.open("a", os.O_RDWR), mount.open("a", os.O_RDWR)
        first.write(2, b"AB")
        equal(second.read(0, 20), b"01AB456789")
        second.write(10, b"tail")
        equal(first.read(0, 20), b"01AB456789tail")
        equal(first.getattr().size, 14)
        first.close()
        second.write(0, b"Z")
        second.close()
        mount.syncfs()
        equal(stage.bucket.get("a"), b"Z1AB456789tail")
        mount.unlink("a")


@case("an empty file is an object as soon as it is closed")
def empty_file(stage):
    mount = stage.mount()
    mount.create("a").close()
    equal(stage.bucket.size("a"), 0)
    mount.create("b").release()
    eventually(lambda: stage.bucket.exists("b"), 5, "also without a FLUSH")


@case("many files at a time, from one guest", limit=240)
def many_at_a_time(stage):
    mount = stage.mount()
    files = [mount.create(f"f{i}") for i in range(40)]
    for i, file in enumerate(files):
        file.write(0, pattern(i, 200000))
    for call in [file.start_flush() for file in files]:
        call.result()
    for file in files:
        file.release()
    for i in range(40):
        check(stage.bucket.get(f"f{i}") == pattern(i, 200000), f"f{i}")


@case("a full pool makes writers wait, not fail, and readers go on", limit=300)
def full_pool(stage):
    stage.bucket.put("read", pattern(1, MIB))
    mount = stage.mount(SLOW_WRITE_BACK | {"cache_settings": {
        "enabled_cache_write_back": True, "write_back_delay": "1h", "size": "32MiB"}})
    mount.read_file("read")
    for i in range(8):
        mount.write_file(f"f{i}", pattern(i, 16 * MIB))
        check(mount.read_file("read") == pattern(1, MIB), "a reader meanwhile")
    mount.syncfs(300)
    for i in range(8):
        check(stage.bucket.get(f"f{i}") == pattern(i, 16 * MIB), f"f{i}")
    at_most(mount.daemon.memory_kib(), (32 + 64) * 1024, "KiB of memory")


@case("fallocate and lseek do something sane, or say that they cannot")
def allocation(stage):
    mount = stage.mount()
    mount.write_file("a", b"x" * 100)
    file = mount.open("a", os.O_RDWR)
    with fails("EOPNOTSUPP", "ENOSYS"):
        file.fallocate(0, 1000)
        equal(file.getattr().size, 1000)
        raise OSError(95, "it can")
    with fails("ENXIO", "ENOSYS", "EOPNOTSUPP"):
        file.lseek(5000, os.SEEK_DATA)
    file.close()
