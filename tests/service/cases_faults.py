# SPDX-License-Identifier: Apache-2.0
"""A service that fails: no wrong byte, no lost acknowledged write, the right errno, and
everything works again when the service does."""

import os
import threading
import time

from ground.stage import at_most, case, check, equal, eventually, fails
from ground.tools import pattern, put_large

MIB = 1 << 20
# Gives up after seconds instead of minutes.
IMPATIENT = {"retry_settings": {"attempts": 3, "pause_first": "50ms", "pause_max": "500ms",
                                "total": "4s"},
             "timeout_settings": {"silence_min": "1s", "silence_max": "2s", "server_max": "3s"}}
# Does not, and loses no time over it.
PATIENT = {"retry_settings": {"attempts": 20, "pause_first": "20ms", "pause_max": "500ms",
                              "total": "2m"},
           "timeout_settings": {"silence_min": "2s", "silence_max": "5s", "server_max": "10s"}}
SLOW_WRITE_BACK = {"enabled_cache_write_back": True, "write_back_delay": "1h"}
GONE = ("EIO", "ETIMEDOUT")

# What breaks once, and has to be mended without a word.
ONCE = {
    "500": {"status": 500, "code": "InternalError"},
    "503": {"status": 503, "code": "SlowDown"},
    "503 with a time to wait": {"status": 503, "code": "SlowDown", "retry_after": 1},
    "broken off before": {"drop": "before"},
    "answer lost": {"drop": "after"},
    "never answered": {"hang": True},
}
ONCE_UP = {"body cut": {"cut_up": 1000}}
ONCE_DOWN = {"body cut": {"cut_down": 1000}, "body short": {"truncate": 1000}}
ONCE_200 = {"error document with 200": {"error200": True, "code": "InternalError"}}


def once(stage, ops, harms, act):
    """Do `act` once for each of the harms, which must have been done."""
    for what, harm in harms.items():
        stage.proxy.clear()
        rule = stage.proxy.rule(ops=ops, times=1, **harm)
        try:
            act(what)
        except Exception as error:
            raise type(error)(f"{what}: {error}") from error
        equal(stage.proxy.hits(rule), 1, f"{what}: times it happened")
    stage.proxy.clear()


@case("a GET that fails once, in each way: the right bytes", limit=240)
def get_once(stage):
    data = pattern(1, 3 * MIB)
    for what in ONCE | ONCE_DOWN:
        stage.bucket.put(what, data)
    mount = stage.mount(PATIENT)

    def act(what):
        check(mount.read_file(what) == data, "bytes that were read")

    once(stage, ["GetObject"], ONCE | ONCE_DOWN, act)


@case("a PUT that fails once, in each way: written once, acknowledged", limit=240)
def put_once(stage):
    data = pattern(2, 100000)
    mount = stage.mount(PATIENT)

    def create(what):
        mount.write_file(what, data)
        equal(stage.bucket.get(what), data)

    def replace(what):
        mount.write_file(what, data[:5000])
        equal(stage.bucket.get(what), data[:5000])

    once(stage, ["PutObject"], ONCE | ONCE_UP, create)
    once(stage, ["PutObject"], ONCE | ONCE_UP, replace)


@case("each step of a multipart upload fails once, in each way", limit=400)
def multipart_once(stage):
    data = pattern(3, 40 * MIB)
    mount = stage.mount(PATIENT)
    for op, more in (("CreateMultipartUpload", {}), ("UploadPart", ONCE_UP),
                     ("CompleteMultipartUpload", ONCE_200)):
        def act(what, op=op):
            mount.write_file(f"{op} {what}", data)
            check(stage.bucket.get(f"{op} {what}") == data, "the object's bytes")
        once(stage, [op], ONCE | more, act)
    # An upload whose answer was lost is nobody's: not more of them than lost answers.
    at_most(len(stage.bucket.uploads()), 2, "unfinished uploads")


@case("a partial change whose copies fail once, in each way", limit=400)
def part_copy_once(stage):
    size = 64 * MIB
    mount = stage.mount(PATIENT)

    def act(what):
        put_large(stage.bucket, what, size, seed=4)
        wanted = bytearray(pattern(4, size))
        wanted[20 * MIB:20 * MIB + 4] = b"OURS"
        file = mount.open(what, os.O_RDWR)
        file.write(20 * MIB, b"OURS")
        file.close()
        check(stage.bucket.get(what) == wanted, "the object's bytes")

    once(stage, ["UploadPartCopy"], ONCE | ONCE_200, act)


@case("listing, stat, rename and removal, each failing once in each way", limit=400)
def metadata_once(stage):
    mount = stage.mount(PATIENT | {"fuse_settings": {
        "entry_timeout": "0s", "attr_timeout": "0s", "negative_timeout": "0s"}})
    for i in range(30):
        stage.bucket.put(f"d/{i:02}", b"x")
    names = [f"{i:02}" for i in range(30)]

    def listing(_):
        # Where nothing is remembered.
        time.sleep(1.2)
        equal(mount.list("d"), names)

    def rename(what):
        stage.bucket.put(f"r/{what}", b"y")
        mount.rename(f"r/{what}", f"r/{what}.new")
        equal(stage.bucket.get(f"r/{what}.new"), b"y")
        check(not stage.bucket.exists(f"r/{what}"), "the old name is gone")

    def remove(what):
        stage.bucket.put(f"u/{what}", b"z")
        stage.bucket.put("u/keep", b"z")
        mount.unlink(f"u/{what}")
        check(not stage.bucket.exists(f"u/{what}"), "it is gone")

    once(stage, ["ListObjectsV2"], ONCE | {"body cut": {"cut_down": 1000},
                                           "body short": {"truncate": 1000}}, listing)
    once(stage, ["CopyObject"], ONCE | ONCE_200, rename)
    once(stage, ["DeleteObject", "DeleteObjects"], ONCE, remove)


@case("storms of 500, 503 and broken connections: slower, and right", limit=400)
def storms(stage):
    mount = stage.mount(PATIENT)
    data = {f"d{i % 4}/f{i}": pattern(i, i * 3000) for i in range(40)}
    data["large"] = pattern(99, 40 * MIB)
    for folder in range(4):
        mount.mkdir(f"d{folder}")
    # It asks the service once at its start, and ends when that fails.
    other = stage.mount(PATIENT)
    stage.proxy.rule(rate=0.15, status=503, code="SlowDown")
    stage.proxy.rule(rate=0.1, status=500, code="InternalError")
    stage.proxy.rule(rate=0.03, drop="before")
    stage.proxy.rule(rate=0.03, drop="after")
    stage.proxy.rule(rate=0.03, cut_down=500)
    for path, content in data.items():
        mount.write_file(path, content)
    for path, content in data.items():
        check(other.read_file(path) == content, f"{path} as another host reads it")
    listed = [f"d{i}/{name}" for i in range(4) for name in other.list(f"d{i}")]
    equal(sorted(listed), sorted(path for path in data if "/" in path))
    for i in range(0, 40, 5):
        other.rename(f"d{i % 4}/f{i}", f"moved{i}")
    stage.proxy.clear()
    for path, content in data.items():
        number = path.rpartition("f")[2]
        if "/" in path and int(number) % 5 == 0:
            path = f"moved{number}"
        check(stage.bucket.get(path) == content, f"{path} in the bucket")


@case("storage out of reach: requests fail in the configured time, and work again after it")
def out_of_reach(stage):
    data = pattern(5, 2 * MIB)
    stage.bucket.put("cached", b"hot")
    stage.bucket.put("a", data)
    mount = stage.mount(IMPATIENT)
    equal(mount.read_file("cached"), b"hot")
    file = mount.open("a")
    for down, up in ((stage.proxy.refuse, stage.proxy.accept),
                     (lambda: stage.proxy.rule(hang=True), stage.proxy.clear)):
        down()
        start = time.monotonic()
        with fails(*GONE):
            file.read(0, 4096)
        with fails(*GONE):
            mount.stat("unknown")
        with fails(*GONE):
            mount.mkdir("new")
        at_most(time.monotonic() - start, 45, "seconds for three requests")
        up()
        check(file.read(0, 2 * MIB) == data, "the bytes, when it is back")
        with fails("ENOENT"):
            mount.stat("unknown")
        # The next round must ask anew.
        file.close()
        data = data[::-1]
        stage.bucket.put("a", data)
        file = mount.open("a")
    file.close()
    mount.mkdir("new")
    check(stage.bucket.exists("new/"), "and changes work")


@case("a hanging service does not hold up what needs no service")
def hang_is_local(stage):
    stage.bucket.put("hot", pattern(6, 100000))
    stage.bucket.put("cold", pattern(7, 100000))
    mount = stage.mount(PATIENT)
    hot = mount.open("hot")
    hot.read(0, 100000)
    cold = mount.open("cold")
    stage.proxy.rule(hang=True)
    waiting = [cold.start_read(i * 4096, 4096) for i in range(20)]
    start = time.monotonic()
    for i in range(200):
        equal(hot.read(i * 400, 400), pattern(6, 100000)[i * 400:i * 400 + 400])
    at_most(time.monotonic() - start, 2, "seconds for 200 reads of cached data")
    check(not any(call.done() for call in waiting), "the others wait")
    stage.proxy.clear()
    for i, call in enumerate(waiting):
        equal(call.result(), pattern(7, 100000)[i * 4096:i * 4096 + 4096])
    hot.close()
    cold.close()


@case("write-back: the storage goes, data is kept, fsync says so, and it arrives later",
      limit=240)
def dirty_data_kept(stage):
    mount = stage.mount(IMPATIENT | {"cache_settings": {
        "enabled_cache_write_back": True, "write_back_delay": "1s"}})
    data = {f"f{i}": pattern(i, 50000 * i) for i in range(6)}
    mount.list()
    for name in data:
        mount.create(name).close()
    mount.syncfs()
    files = {name: mount.open(name, os.O_RDWR) for name in data}
    stage.proxy.refuse()
    for name, content in data.items():
        files[name].write(0, content)
    with fails(*GONE):
        files["f5"].fsync()
    time.sleep(6)
    for name, content in data.items():
        check(files[name].read(0, 1 << 20) == content, f"{name} from memory")
    stage.proxy.accept()
    for name, content in data.items():
        eventually(lambda n=name, c=content: stage.bucket.get(n) == c, 60,
                   f"{name} arrives by itself")
    # Whoever was not told yet is told now, once; then all is well.
    for file in files.values():
        try:
            file.flush()
        except OSError as error:
            check(error.errno in (5, 110), f"errno {error.errno}")
        file.release()
    mount.syncfs()


@case("without write-back: close fails while the storage is gone, and the data is kept")
def close_fails(stage):
    mount = stage.mount(IMPATIENT)
    file = mount.create("a")
    file.write(0, b"precious")
    stage.proxy.refuse()
    with fails(*GONE):
        file.flush()
    equal(file.read(0, 100), b"precious")
    stage.proxy.accept()
    file.fsync()
    file.close()
    equal(stage.bucket.get("a"), b"precious")


@case("403 in the middle: EACCES, nothing wrong is written, and it works again")
def forbidden(stage):
    stage.bucket.put("a", pattern(8, 100000))
    mount = stage.mount(IMPATIENT)
    file = mount.open("a")
    new = mount.create("new")
    new.write(0, b"data")
    for code in ("AccessDenied", "ExpiredToken", "SignatureDoesNotMatch"):
        stage.proxy.rule(status=400 if code == "ExpiredToken" else 403, code=code)
        with fails("EACCES", "EPERM"):
            file.read(0, 4096)
        with fails("EACCES", "EPERM"):
            new.fsync()
        with fails("EACCES", "EPERM"):
            mount.stat(f"unknown {code}")
        stage.proxy.clear()
    check(file.read(0, 100000) == pattern(8, 100000), "the bytes")
    new.fsync()
    equal(stage.bucket.get("new"), b"data")
    file.close()
    new.close()


@case("a commit that is refused by its precondition: ESTALE, at once")
def refused_commit(stage):
    stage.bucket.put("a", b"old")
    mount = stage.mount(PATIENT)
    file = mount.open("a", os.O_RDWR)
    file.write(0, b"new")
    stage.proxy.rule(ops=["PutObject"], status=412, code="PreconditionFailed")
    start = time.monotonic()
    # Or EIO, since a look at the object contradicts it: it is the one that was opened.
    with fails("ESTALE", "EIO"):
        file.flush()
    at_most(time.monotonic() - start, 5, "seconds to say so")
    file.release()
    equal(stage.bucket.get("a"), b"old")
    stage.proxy.clear()
    stage.mounts.remove(mount)
    mount.close()
    stage.end_daemon(mount.daemon, wanted=None)


@case("slow bodies, both ways, are waited for: slow is not dead", limit=240)
def slow_bodies(stage):
    data = pattern(9, 400000)
    stage.bucket.put("a", data)
    mount = stage.mount({"timeout_settings": {"silence_min": "1s", "silence_max": "2s",
                                              "server_max": "3s"}})
    stage.proxy.rule(ops=["GetObject"], slow_down=80000)
    stage.proxy.rule(ops=["PutObject"], slow_up=80000)
    equal(mount.read_file("a"), data)
    mount.write_file("b", data)
    equal(stage.bucket.get("b"), data)


@case("an error document never becomes file data")
def no_error_as_data(stage):
    data = pattern(10, 300)
    stage.bucket.put("a", data)
    mount = stage.mount(IMPATIENT)
    for status in (400, 403, 404, 409, 500, 503):
        stage.proxy.rule(ops=["GetObject"], status=status, code="Whatever")
        try:
            found = mount.read_file("a")
            check(found == data, f"{status}: read {found[:60]}")
        except OSError:
            pass
        stage.proxy.clear()
        equal(mount.read_file("a"), data, f"after {status}")
        # Not from the cache.
        stage.bucket.put("a", data)


def interrupted(stage, act):
    """The server is killed while `act` runs, and started again."""
    trouble = []

    def crash():
        try:
            time.sleep(0.4)
            stage.server.kill()
            time.sleep(1.5)
            stage.server.start()
        except Exception as error:  # pylint: disable=broad-except
            trouble.append(error)

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        act()
    finally:
        thread.join()
    if trouble:
        raise trouble[0]


@case("the server is killed and restarted in the middle of reading", "own-server", limit=240)
def killed_reading(stage):
    size = 192 * MIB
    put_large(stage.bucket, "a", size, seed=11)
    data = pattern(11, size)
    mount = stage.mount(PATIENT | {"cache_settings": {"size": "32MiB"}})
    file = mount.open("a")
    stage.proxy.rule(ops=["GetObject"], slow_down=60 * MIB)

    def act():
        for at in range(0, size, MIB):
            check(file.read(at, MIB) == data[at:at + MIB], f"the bytes at {at}")

    interrupted(stage, act)
    stage.proxy.clear()
    file.close()


@case("the server is killed and restarted in the middle of an upload", "own-server", limit=240)
def killed_uploading(stage):
    data = pattern(12, 160 * MIB)
    mount = stage.mount(PATIENT)
    stage.proxy.rule(ops=["UploadPart"], slow_up=60 * MIB)
    interrupted(stage, lambda: mount.write_file("a", data))
    stage.proxy.clear()
    check(stage.bucket.get("a") == data, "the object's bytes")
    equal(stage.bucket.uploads(), [])


@case("the server is killed and restarted in the middle of a listing", "own-server", limit=240)
def killed_listing(stage):
    names = [f"{i:05}" for i in range(3000)]
    for name in names:
        stage.bucket.put(f"d/{name}", b"")
    mount = stage.mount(PATIENT)
    stage.proxy.rule(ops=["ListObjectsV2"], delay=0.5)

    def act():
        equal(mount.list("d"), names)

    interrupted(stage, act)


@case("SIGTERM with dirty data and no storage: ends in time, says what is lost, fails",
      limit=60)
def drain_fails(stage):
    mount = stage.mount(IMPATIENT | {"cache_settings": SLOW_WRITE_BACK | {"drain_timeout": "3s"}})
    mount.list()
    mount.write_file("precious", b"data")
    stage.proxy.refuse()
    stage.mounts.remove(mount)
    mount.close()
    daemon = mount.daemon
    start = time.monotonic()
    code = stage.end_daemon(daemon, wanted=None)
    at_most(time.monotonic() - start, 20, "seconds to end")
    check(code != 0, "an exit code that says so")
    check("precious" in daemon.log(), "the log names the file")


@case("SIGTERM while requests wait for a storage that hangs: ends in time, and well or not",
      limit=120)
def end_while_hanging(stage):
    # With and without data that only the cache has; the configuration would wait for minutes.
    stage.bucket.put("a", b"x")
    for dirty in (False, True):
        mount = stage.mount({"cache_settings": SLOW_WRITE_BACK | {"drain_timeout": "3s"}})
        file = mount.open("a")
        if dirty:
            mount.write_file("precious", b"data")
        stage.proxy.rule(hang=True)
        waiting = [file.start_read(0, 4096) for _ in range(5)]
        time.sleep(1)
        start = time.monotonic()
        stage.mounts.remove(mount)
        code = stage.end_daemon(mount.daemon, wanted=None)
        at_most(time.monotonic() - start, 25, "seconds to end")
        equal(code, 3 if dirty else 0)
        equal("precious" in mount.daemon.log(), dirty)
        del waiting
        mount.close()
        stage.proxy.clear()


@case("SIGTERM after a guest left while its requests wait for a storage that hangs", limit=120)
def end_after_guest_left(stage):
    stage.bucket.put("a", b"x")
    mount = stage.mount({"cache_settings": SLOW_WRITE_BACK | {"drain_timeout": "3s"}})
    file = mount.open("a")
    mount.write_file("precious", b"data")
    stage.proxy.rule(hang=True)
    waiting = [file.start_read(0, 4096) for _ in range(3)]
    time.sleep(1)
    stage.mounts.remove(mount)
    mount.close()
    time.sleep(1)
    start = time.monotonic()
    code = stage.end_daemon(mount.daemon, wanted=None)
    at_most(time.monotonic() - start, 25, "seconds to end")
    equal(code, 3)
    equal("precious" in mount.daemon.log(), True)
    del waiting
    stage.proxy.clear()


@case("one mount's dead storage leaves other mounts alone")
def other_mounts(stage):
    stage.bucket.put("a", b"x")
    dead = stage.mount(IMPATIENT)
    root = f"{stage.dir}/root"
    os.mkdir(root)
    file = dead.open("a")
    stage.proxy.rule(hang=True)
    waiting = [file.start_read(0, 4096) for _ in range(30)]
    alive = stage.mount({"storage_settings": dict.fromkeys(
        stage.storage()["storage_settings"]) | {"type": "fs", "root": root}})
    alive.write_file("b", b"y")
    equal(alive.read_file("b"), b"y")
    for call in waiting:
        with fails(*GONE):
            call.result()
    stage.proxy.clear()
    file.close()
