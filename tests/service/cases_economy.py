# SPDX-License-Identifier: Apache-2.0
"""How many requests an operation costs, counted outside of the daemon by the proxy.

The limits are those of the project's table; a smaller number is welcome. What the guest
does is what a Linux kernel sends for the system calls, with nothing in its caches that is
not mentioned.
"""

import hashlib
import os
import struct
import time

from ground.fuse import CREATE, File, MKDIR, OPENDIR, RMDIR, ROOT, UNLINK, name_bytes
from ground.stage import at_most, case, check, equal, fails
from ground.tools import digest_of, pattern, put_large

MIB = 1 << 20
GIB = 1 << 30


def costs(stage, limit, what, **wanted):
    """Hold the requests since the last reset against `limit` altogether, and those named
    against exact numbers; begins anew. Returns them."""
    found = stage.proxy.requests()
    at_most(sum(found.values()), limit, f"{what} took {found}")
    for name, number in wanted.items():
        equal(found.get(name, 0), number, f"{what}: {name} of {found}")
    stage.proxy.reset()
    return found


def fill(stage, prefix, count, size=10):
    for i in range(count):
        stage.bucket.put(f"{prefix}{i:05}", b"x" * size)


# What was just learned is still believed, however slow the machine is at the moment.
PATIENT = {"fuse_settings": {"entry_timeout": "5m", "attr_timeout": "5m"}}


@case("mounting costs next to nothing, and an idle mount nothing")
def mount_and_idle(stage):
    mount = stage.mount()
    costs(stage, 3, "start and mount")
    mount.getattr(ROOT)
    time.sleep(3)
    costs(stage, 0, "being idle for three seconds, and stat of the root")


@case("ls -l of 2500 entries: 3 LIST, and no HEAD", limit=240)
def list_long(stage):
    fill(stage, "d/", 2500)
    mount = stage.mount(PATIENT)
    mount.walk("d")
    stage.proxy.reset()
    entries = mount.scan("d")
    equal(len(entries), 2500)
    check(all(entry.entry.attr.size == 10 for entry in entries), "sizes come with the listing")
    # The first LOOKUP was `d` itself, by scan().
    costs(stage, 3 + 2, "ls -l of 2500", ListObjectsV2=3, HeadObject=0, GetObject=0)
    node = mount.walk("d")
    stage.proxy.reset()
    for entry in entries[::100]:
        equal(mount.lookup(node, entry.name).attr.size, 10)
    costs(stage, 0, "stat of names that were just listed")


@case("ls of 2500 entries without attributes: 3 LIST as well")
def list_short(stage):
    fill(stage, "", 1001)
    mount = stage.mount()
    stage.proxy.reset()
    equal(len(mount.scan("", plus=False)), 1001)
    costs(stage, 2, "ls of 1001 in the root", ListObjectsV2=2)


@case("open, read and close of a 4 KiB file just listed: 1 GET")
def read_listed(stage):
    data = pattern(1, 4096)
    stage.bucket.put("d/a", data)
    mount = stage.mount()
    entry, = mount.scan("d")
    stage.proxy.reset()
    file = mount.open_node(entry.entry.node)
    equal(file.read(0, 4096), data)
    file.close()
    costs(stage, 1, "reading a listed file", GetObject=1)
    file = mount.open_node(entry.entry.node)
    equal(file.read(0, 4096), data)
    file.close()
    # A revalidation, at most; the data is there.
    costs(stage, 1, "reading it again", GetObject=0)


@case("open, read and close of a file not listed: at most 3 requests")
def read_unlisted(stage):
    data = pattern(2, 4096)
    stage.bucket.put("a", data)
    mount = stage.mount()
    stage.proxy.reset()
    file = mount.open("a")
    equal(file.read(0, 8192), data)
    file.close()
    costs(stage, 3, "reading an unlisted file")


@case("create, write 4 KiB, close: at most 3 requests")
def create_small(stage):
    data = pattern(3, 4096)
    mount = stage.mount()
    mount.mkdir("d")
    for path in ("a", "d/b"):
        folder = mount.walk(path.rpartition("/")[0])
        stage.proxy.reset()
        with fails("ENOENT"):
            if mount.lookup(folder, path[-1]).node == 0:
                raise FileNotFoundError(2, "negative entry")
        file = mount.create(path)
        file.write(0, data)
        file.close()
        costs(stage, 3, f"creating {path}")
        equal(stage.bucket.get(path), data)


@case("a new file in a folder whose listing is fresh: 1 PUT")
def create_in_listed(stage):
    fill(stage, "d/", 10)
    mount = stage.mount()
    mount.scan("d")
    stage.proxy.reset()
    file = mount.create("d/new")
    file.write(0, b"x" * 4096)
    file.close()
    costs(stage, 2, "creating a file in a listed folder", PutObject=1)


@case("stat of a missing name twice within its time to live: no request the second time")
def missing_twice(stage):
    mount = stage.mount()
    stage.proxy.reset()

    def absent(name):
        try:
            equal(mount.lookup(ROOT, name).node, 0, "the entry of a missing name")
        except FileNotFoundError:
            pass

    absent("nothing")
    costs(stage, 2, "stat of a missing name")
    absent("nothing")
    costs(stage, 0, "stat of it again")


@case("the seed table: each operation by the requests it names, or fewer")
def seed_table(stage):
    stage.bucket.put("xxx/yyy/", b"")
    stage.bucket.put("xxx/yyy/other", b"")
    tables = {"fuse_settings": {"entry_timeout": "0s", "attr_timeout": "0s",
                                "negative_timeout": "0s"}}
    for what, limit, act in (
            # get "xxx/yyy/", list "xxx/yyy/"
            ("read directory", 2, lambda m, n: list_node(m, n["yyy"])),
            # get "zzz", get "zzz/", insert "zzz/"
            ("mkdir", 3, lambda m, n: mkdir_in(m, n["yyy"], "new")),
            # get "xxx/yyy/", get both forms, insert
            ("create", 4, lambda m, n: create_in(m, n["yyy"], "file")),
            # get both forms, delete
            ("remove file", 3, lambda m, n: m.pipe.call(UNLINK, n["yyy"], name_bytes("file"))),
            # get, list, delete
            ("remove directory", 3, lambda m, n: m.pipe.call(RMDIR, n["yyy"], name_bytes("new")))):
        # A daemon that knows nothing, each time.
        mount = stage.mount(tables)
        nodes = {"yyy": mount.walk("xxx/yyy")}
        stage.proxy.reset()
        act(mount, nodes)
        costs(stage, limit, what)
        stage.unmount(mount)
    equal(stage.bucket.keys(), ["xxx/yyy/", "xxx/yyy/other"])


def list_node(mount, node):
    handle, _, _ = struct.unpack("<QIi", mount.pipe.call(OPENDIR, node, bytes(8), 16))
    offset = 0
    while entries := mount.read_entries(node, handle, offset):
        offset = entries[-1].offset
    mount.releasedir(node, handle)


def mkdir_in(mount, node, name):
    mount.pipe.call(MKDIR, node, struct.pack("<II", 0o755, 0) + name_bytes(name), 128)


def create_in(mount, node, name):
    body = struct.pack("<IIII", os.O_RDWR | os.O_CREAT, 0o100644, 0, 0) + name_bytes(name)
    data = mount.pipe.call(CREATE, node, body, 144)
    file = File(mount, struct.unpack_from("<Q", data)[0], struct.unpack_from("<Q", data, 128)[0], 0)
    file.close()


@case("1 MiB changed inside a 1 GiB object: at most 16 MiB uploaded", limit=240)
def change_in_large(stage):
    put_large(stage.bucket, "large", GIB, seed=4)
    mount = stage.mount()
    change = pattern(5, MIB)
    stage.proxy.reset()
    file = mount.open("large", os.O_RDWR)
    file.write(500 * MIB + 12345, change)
    file.close()
    counts = stage.proxy.counts()
    up = sum(count["up"] for count in counts.values())
    at_most(up, 16 * MIB, f"bytes up for 1 MiB changed ({stage.proxy.requests()})")
    down = sum(count["down"] for count in counts.values())
    at_most(down, 32 * MIB, "bytes down for 1 MiB changed")
    for entry in stage.proxy.log():
        if entry["op"] == "UploadPartCopy":
            check("x-amz-copy-source-if-match" in entry["headers"], "a copy without a condition")
    wanted = digest_of(GIB, seed=4, change=(500 * MIB + 12345, change))
    equal(stage.bucket.sum("large"), wanted, "the object afterwards")
    equal(stage.bucket.uploads(), [], "unfinished uploads")


@case("sequential read of 1 GiB: no byte fetched twice", limit=240)
def read_once(stage):
    put_large(stage.bucket, "large", GIB, seed=6)
    mount = stage.mount(cache__size="256MiB")
    stage.proxy.reset()
    file = mount.open("large")
    digest = hashlib.sha256()
    calls = []
    # As a kernel's read-ahead does it: a few requests on their way.
    for at in range(0, GIB, MIB):
        calls.append(file.start_read(at, MIB))
        if len(calls) == 8:
            digest.update(calls.pop(0).result())
    for call in calls:
        digest.update(call.result())
    file.close()
    equal(digest.hexdigest(), digest_of(GIB, seed=6), "what was read")
    down = stage.proxy.counts()["GetObject"]["down"]
    equal(down, GIB, "bytes fetched")
    at_most(stage.proxy.requests()["GetObject"], 1100, "GETs for 1 GiB")


@case("4 KiB read at random places of a large object do not fetch megabytes")
def random_reads(stage):
    put_large(stage.bucket, "large", 256 * MIB, seed=7)
    mount = stage.mount()
    file = mount.open("large")
    stage.proxy.reset()
    data = pattern(7, 256 * MIB)
    for i in range(100):
        at = (i * 7919 % 65536) * 4096
        equal(file.read(at, 4096), data[at:at + 4096])
    file.close()
    at_most(stage.proxy.counts()["GetObject"]["down"], 100 * 128 * 1024, "bytes for 400 KiB")
    at_most(stage.proxy.requests()["GetObject"], 100, "GETs for 100 reads")


@case("overwriting a small file: at most 3 requests; appending to it: 4")
def rewrite_small(stage):
    stage.bucket.put("a", b"old" * 1000)
    mount = stage.mount()
    mount.stat("a")
    stage.proxy.reset()
    file = mount.open_truncated("a")
    file.write(0, b"new")
    file.close()
    costs(stage, 3, "overwriting")
    equal(stage.bucket.get("a"), b"new")
    file = mount.open("a", os.O_WRONLY | os.O_APPEND)
    file.write(3, b"er")
    file.close()
    costs(stage, 4, "appending")
    equal(stage.bucket.get("a"), b"newer")


@case("mv of a file: a copy, a delete, and what it takes to know the names")
def rename_file(stage):
    stage.bucket.put("a", b"x")
    mount = stage.mount()
    mount.scan("")
    stage.proxy.reset()
    mount.rename("a", "b")
    costs(stage, 4, "mv", CopyObject=1)
    equal(stage.bucket.keys(), ["b"])


@case("touch: a HEAD and a copy, and the same when the file is opened first")
def touch(stage):
    stage.bucket.put("a", b"x", ContentType="text/x-theirs", Metadata={"mine": "yes"})
    mount = stage.mount()
    mount.scan("")
    stage.proxy.reset()
    mount.utime("a", 1000000000)
    costs(stage, 2, "touch", CopyObject=1, HeadObject=1)
    for _ in range(10):
        stage.proxy.reset()
        file = mount.open("a", os.O_WRONLY)
        mount.utime("a", 1000000001)
        file.close()
        if stage.proxy.requests().get("HeadObject", 0) == 1:  # within a second
            break
    costs(stage, 2, "touch(1)", CopyObject=1, HeadObject=1)
    head = stage.bucket.head("a")
    equal(int(float(head["Metadata"]["mtime"])), 1000000001)
    equal((head["ContentType"], head["Metadata"]["mine"]), ("text/x-theirs", "yes"))
    check("ovfs-write-id" in head["Metadata"], "a copy of ours has our name, too")


@case("rm -r of a folder of 300: listed once, one DELETE or less for each")
def remove_tree(stage):
    fill(stage, "d/", 300)
    mount = stage.mount(PATIENT)
    stage.proxy.reset()
    for entry in mount.scan("d"):
        mount.unlink(f"d/{entry.name}")
    mount.rmdir("d")
    found = costs(stage, 300 + 10, "rm -r")
    at_most(found.get("HeadObject", 0), 3, "HEADs of rm -r")
    equal(stage.bucket.keys(), [])


@case("a lookup deep in a tree asks for each component once")
def deep_lookup(stage):
    stage.bucket.put("a/b/c/d/e/f", b"x")
    mount = stage.mount(PATIENT)
    stage.proxy.reset()
    equal(mount.stat("a/b/c/d/e/f").size, 1)
    costs(stage, 12, "stat of a file six levels down")
    equal(mount.stat("a/b/c/d/e/f").size, 1)
    costs(stage, 0, "stat of it again")


@case("one guest's many readers of a file cause one GET for each block")
def stampede(stage):
    data = pattern(8, 64 << 10)
    stage.bucket.put("a", data)
    mount = stage.mount()
    file = mount.open("a")
    stage.proxy.rule(ops=["GetObject"], delay=0.3)
    stage.proxy.reset()
    calls = [file.start_read(0, 65536) for _ in range(32)]
    for call in calls:
        equal(call.result(), data)
    file.close()
    equal(stage.proxy.counts()["GetObject"]["down"], 65536, "bytes for 32 readers")


