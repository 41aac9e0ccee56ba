# SPDX-License-Identifier: Apache-2.0
"""Keys and paths: what is a directory, what is shown, and what names survive."""

import os

from ground.fuse import RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT
from ground.manykeys import GivenKeys, ManyKeys
from ground.stage import at_most, case, check, equal, eventually, fails
from ground.tools import pattern

IGNORE = {"object_settings": {"on_unsupported": "ignore"}}
# What an object's key may hold, and a URL or an XML document may not.
ODD = ["a b", " lead", "trail ", "100%", "%41", "%2F", "a+b", "a&b=c", "what?", "hash#",
       "semi;colon", "quote'", 'double"', "<tag>", "comma,", "star*", "tilde~", "dollar$", "at@",
       "brackets[]{}", "back`tick", "pipe|", "caret^", "excl!", "paren()", "colon:", "eq=",
       "..dots", "...", "-dash", "umlaut-äöüß", "кириллица", "日本語", "e\u0301 combining",
       "emoji-\U0001F600", "a" * 255, "ä" * 127]


@case("a prefix without a marker is a directory; with one, too; and the root always")
def implicit_directories(stage):
    stage.bucket.put("implicit/deep/file", b"1")
    stage.bucket.put("marked/", b"")
    stage.bucket.put("both/", b"")
    stage.bucket.put("both/file", b"2")
    mount = stage.mount()
    equal(mount.list(), ["both", "implicit", "marked"])
    for path in ("", "both", "implicit", "implicit/deep", "marked"):
        check(mount.stat(path).is_dir(), f"{path} is a directory")
    equal(mount.list("marked"), [])
    equal(mount.list("both"), ["file"])
    equal(mount.read_file("implicit/deep/file"), b"1")
    for entry in mount.scan(""):
        check(entry.entry.attr.is_dir(), f"{entry.name} is listed as a directory")


@case("an empty bucket mounts, and its root can be filled")
def empty_bucket(stage):
    mount = stage.mount()
    equal(mount.list(), [])
    mount.write_file("first", b"x")
    equal(mount.list(), ["first"])
    mount.unlink("first")
    equal(mount.list(), [])
    check(mount.getattr(ROOT).is_dir(), "the root is still there")


@case("the last entry of an implicit directory goes, the directory stays")
def last_entry(stage):
    stage.bucket.put("a/b/c", b"x")
    mount = stage.mount()
    mount.unlink("a/b/c")
    check(mount.stat("a/b").is_dir(), "a/b is still there")
    equal(mount.list("a/b"), [])
    mount.rmdir("a/b")
    check(mount.stat("a").is_dir(), "a is still there")
    mount.rmdir("a")
    equal(mount.list(), [])
    equal(stage.bucket.keys(), [])


@case("mkdir makes an empty object whose key ends in a slash; rmdir removes it")
def make_and_remove(stage):
    mount = stage.mount()
    mount.mkdir("d")
    mount.mkdir("d/e")
    equal(stage.bucket.keys(), ["d/", "d/e/"])
    equal(stage.bucket.size("d/"), 0)
    with fails("EEXIST"):
        mount.mkdir("d")
    with fails("ENOTEMPTY"):
        mount.rmdir("d")
    with fails("ENOENT"):
        mount.mkdir("nothing/e")
    mount.write_file("file", b"x")
    with fails("EEXIST"):
        mount.mkdir("file")
    with fails("ENOTDIR"):
        mount.rmdir("file")
    with fails("EISDIR", "EPERM"):
        mount.unlink("d")
    with fails("EEXIST"):
        mount.create("d")
    with fails("ENOENT"):
        mount.rmdir("nothing")
    with fails("ENOENT"):
        mount.unlink("nothing")
    mount.rmdir("d/e")
    mount.rmdir("d")
    equal(stage.bucket.keys(), ["file"])


@case("a and a/: the directory is shown, once, and the log warns")
def file_and_directory(stage):
    stage.bucket.put("a", b"file")
    stage.bucket.put("a/", b"")
    mount = stage.mount()
    equal(mount.list(), ["a"])
    check(mount.stat("a").is_dir(), "a is a directory")
    mount.write_file("a/in", b"x")
    check("warn" in mount.daemon.log().lower(), "a warning in the log")
    # Of the other way, MinIO shows the file alone.
    mount = fake(stage, {"b": b"file", "b/in": b"x", "c": b"y"})
    equal(mount.list(), ["b", "c"])
    check(mount.stat("b").is_dir(), "b is a directory")
    equal(mount.list("b"), ["in"])


def fake(stage, objects):
    """A mount of a bucket with such objects as MinIO would not store."""
    keys = GivenKeys(objects)
    stage.cleanups.append(keys.end)
    return stage.mount(storage__endpoint=keys.endpoint, storage__root=None)


@case("keys that no path can name are left out, and hinder nothing")
def impossible_keys(stage):
    mount = fake(stage, dict.fromkeys([
        "good", "d//double", "d/ok", "d/./dot", "d/../dots", "e/fine", "e/f/g", "/lead", ".", "..",
        "n" * 256, "h/" + "n" * 300 + "/x", "h/x"], b"x"))
    equal(mount.list(), ["d", "e", "good", "h"])
    equal(mount.list("d"), ["ok"])
    equal(mount.list("e"), ["f", "fine"])
    equal(mount.list("h"), ["x"])
    equal(mount.read_file("d/ok"), b"x")
    check("warn" in mount.daemon.log().lower(), "the log says that there are such keys")


@case("odd names, made by us: the same bytes as keys, and back")
def odd_names_out(stage):
    mount = stage.mount()
    mount.mkdir("d")
    for i, name in enumerate(ODD):
        mount.write_file(f"d/{name}", b"%d" % i)
    equal(stage.bucket.keys("d/"), sorted(["d/", *(f"d/{name}" for name in ODD)],
                                          key=lambda key: key.encode()))
    for i, name in enumerate(ODD):
        equal(stage.bucket.get(f"d/{name}"), b"%d" % i, name)
        equal(mount.read_file(f"d/{name}"), b"%d" % i, name)
    equal(mount.list("d"), sorted(ODD))
    for name in ODD:
        mount.rename(f"d/{name}", "d/x")
        mount.rename("d/x", f"d/{name}")
        mount.unlink(f"d/{name}")
    mount.rmdir("d")
    equal(stage.bucket.keys(), [])


@case("odd names, made by another client: shown and readable")
def odd_names_in(stage):
    for i, name in enumerate(ODD):
        stage.bucket.put(f"dir {name[:100]}/{name}", b"%d" % i)
    mount = stage.mount()
    equal(mount.list(), sorted({f"dir {name[:100]}" for name in ODD}))
    for i, name in enumerate(ODD):
        equal(mount.list(f"dir {name[:100]}"), [name])
        equal(mount.read_file(f"dir {name[:100]}/{name}"), b"%d" % i)


@case("control characters in names", needs="minio")
def control_characters(stage):
    names = ["tab\there", "line\nfeed", "cr\rhere", "bell\x07", "esc\x1b[0m", "\x01", "del\x7f"]
    mount = stage.mount()
    for name in names:
        mount.write_file(name, name.encode())
    equal(mount.list(), sorted(names))
    equal(sorted(stage.bucket.keys()), sorted(names))
    # The second time without what the first one remembers.
    mount = stage.mount()
    equal(mount.list(), sorted(names))
    for name in names:
        equal(mount.read_file(name), name.encode())


@case("too long a name, or too long a key: ENAMETOOLONG")
def too_long(stage):
    mount = stage.mount()
    with fails("ENAMETOOLONG"):
        mount.create("n" * 256)
    with fails("ENAMETOOLONG", "ENOENT"):
        mount.stat("n" * 256)
    path = ""
    for _ in range(4):
        path += "d" * 240 + "/"
        mount.mkdir(path[:-1])
    mount.write_file(path + "f" * 50, b"x")
    with fails("ENAMETOOLONG"):
        mount.create(path + "f" * 200)
    with fails("ENAMETOOLONG"):
        mount.mkdir(path + "f" * 100)
    equal(stage.bucket.get(path + "f" * 50), b"x")


@case("telldir and seekdir: a position leads to the same entry again")
def directory_positions(stage):
    names = [f"name-{i:04}" for i in range(1500)]
    for name in names:
        stage.bucket.put(f"d/{name}", b"")
    mount = stage.mount()
    node, handle = mount.opendir("d")
    seen, offset, marks = [], 0, []
    while entries := mount.read_entries(node, handle, offset, 4096):
        for entry in entries:
            marks.append((offset, entry.name))
            offset = entry.offset
            seen.append(entry.name)
    equal(sorted(name for name in seen if name not in (".", "..")), names)
    for offset, name in marks[::97]:
        entry = mount.read_entries(node, handle, offset, 4096)[0]
        equal(entry.name, name, f"the entry at {offset}")
    # Entries that go meanwhile do not move the others.
    for name in names[100:200]:
        mount.unlink(f"d/{name}")
    for offset, name in marks[300::97]:
        entry = mount.read_entries(node, handle, offset, 4096)[0]
        equal(entry.name, name, f"the entry at {offset}, after others went")
    mount.releasedir(node, handle)


@case("rm -r while listing: every entry is met once")
def remove_while_listing(stage):
    names = [f"{i:04}" for i in range(1200)]
    for name in names:
        stage.bucket.put(f"d/{name}", b"")
    mount = stage.mount()
    node, handle = mount.opendir("d")
    met, offset = [], 0
    while entries := mount.read_entries(node, handle, offset, 8192):
        for entry in entries:
            if entry.name not in (".", ".."):
                mount.unlink(f"d/{entry.name}")
                met.append(entry.name)
        offset = entries[-1].offset
    mount.releasedir(node, handle)
    equal(met, names)
    mount.rmdir("d")
    equal(stage.bucket.keys(), [])


@case("a directory of 1,000,000 objects is listed without holding them all", limit=300)
def million(stage):
    keys = ManyKeys(1000000)
    stage.cleanups.append(keys.end)
    mount = stage.mount(storage__endpoint=keys.endpoint, storage__root=None, cache__size="16MiB")
    equal([entry.name for entry in mount.scan("")], ["d"])
    before = keys.listings
    node, handle = mount.opendir("d")
    count, offset, last, marks, memory = 0, 0, "", {}, 0
    while entries := mount.read_entries(node, handle, offset, plus=False):
        for entry in entries:
            if entry.name not in (".", ".."):
                check(entry.name > last, f"{entry.name} after {last}")
                last = entry.name
                count += 1
        if count // 100000 not in marks:
            marks[count // 100000] = (entries[-1].offset, last)
            memory = max(memory, mount.daemon.memory_kib())
        offset = entries[-1].offset
    equal(count, 1000000)
    at_most(keys.listings - before, 1010, "requests for 1,000,000 entries")
    at_most(memory, (16 + 64) * 1024, "KiB of memory while listing")
    # telldir and seekdir, far apart and backwards.
    for offset, name in sorted(marks.values(), reverse=True):
        entries = mount.read_entries(node, handle, offset, 4096, plus=False)
        if name < last:
            equal(entries[0].name, f"key-{int(name[4:]) + 1:07}", f"the entry after {name}")
    mount.releasedir(node, handle)
    equal(mount.stat("d/key-0777777").size, 777777)


@case("inode numbers are the same after a restart, and on another host")
def inode_numbers(stage):
    for key in ("a", "b/c", "b/d/e", "marked/"):
        stage.bucket.put(key, b"x" if not key.endswith("/") else b"")
    paths = ["", "a", "b", "b/c", "b/d", "b/d/e", "marked"]
    found = []
    for _ in range(2):
        mount = stage.mount()
        by_stat = {path: mount.stat(path).ino for path in paths}
        listed = {entry.name: (entry.ino, entry.entry.attr.ino) for entry in mount.scan("b")}
        equal(listed, {"c": (by_stat["b/c"],) * 2, "d": (by_stat["b/d"],) * 2})
        found.append(by_stat)
    equal(found[0], found[1])
    equal(len(set(found[0].values())), len(paths), "different numbers")


@case("link, symlink, xattr, chmod, chown, devices: EOPNOTSUPP")
def unsupported(stage):
    stage.bucket.put("a", b"x")
    mount = stage.mount()
    # The kernel makes EOPNOTSUPP for xattr of ENOSYS, and does not ask again.
    for what, act in (("link", lambda: mount.link("a", "b")),
                      ("symlink", lambda: mount.symlink("b", "a")),
                      ("chmod", lambda: mount.chmod("a", 0o600)),
                      ("chown", lambda: mount.chown("a", 5, 6)),
                      ("setxattr", lambda: mount.setxattr("a", "user.a", b"b")),
                      ("fifo", lambda: mount.mknod("b", 0o010644))):
        try:
            with fails("EOPNOTSUPP", *(["ENOSYS"] if what == "setxattr" else [])):
                act()
        except Exception as error:
            raise type(error)(f"{what}: {error}") from error
    equal(stage.bucket.keys(), ["a"])


@case("on_unsupported = ignore: chmod and chown succeed, and change nothing")
def ignored(stage):
    stage.bucket.put("a", b"x")
    mount = stage.mount(IGNORE)
    before = mount.stat("a")
    mount.chmod("a", 0o600)
    mount.chown("a", 5, 6)
    after = mount.stat("a")
    equal((after.mode, after.uid, after.gid), (before.mode, before.uid, before.gid))
    with fails("EOPNOTSUPP"):
        mount.symlink("b", "a")


@case("mode, owner and group come from the configuration")
def owner_and_mode(stage):
    stage.bucket.put("d/a", b"x")
    mount = stage.mount(object__file_mode="0640", object__dir_mode="0750", object__uid=1234,
                        object__gid=2345)
    attr = mount.stat("d/a")
    equal((oct(attr.mode), attr.uid, attr.gid, attr.nlink), (oct(0o100640), 1234, 2345, 1))
    attr = mount.stat("d")
    equal((oct(attr.mode), attr.uid, attr.gid), (oct(0o040750), 1234, 2345))
    equal(mount.stat("").uid, 1234)
    mount.create("new").close()
    equal(oct(mount.stat("new").mode), oct(0o100640))


@case("touch is kept in x-amz-meta-mtime; without it the object's own time counts")
def times(stage):
    stage.bucket.put("a", b"data", Metadata={"other": "kept"})
    mount = stage.mount()
    modified = int(stage.bucket.head("a")["LastModified"].timestamp())
    equal(mount.stat("a").mtime, modified)
    mount.utime("a", 1000000000.25)
    equal(mount.stat("a").mtime, 1000000000)
    mount.syncfs()
    head = stage.bucket.head("a")
    equal(float(head["Metadata"]["mtime"]), 1000000000.25)
    equal(head["Metadata"]["other"], "kept", "metadata of others")
    equal(stage.bucket.get("a"), b"data")
    # A fresh daemon sees it once it has asked for the object itself.
    mount = stage.mount()
    file = mount.open("a")
    file.read(0, 10)
    file.close()
    attr = mount.getattr(file.node)
    equal((attr.mtime, attr.mtime_ns), (1000000000, 250000000))
    # Writing makes it young again.
    mount.write_file("a", b"new")
    check(mount.stat("a").mtime > 1000000000, "a write changes mtime")
    # cp -p: create, write, set the time, close.
    file = mount.create("b")
    file.write(0, b"x")
    mount.setattr(file.node, 32, mtime=1111111111)
    file.close()
    equal(int(float(stage.bucket.head("b")["Metadata"]["mtime"])), 1111111111)


@case("content type and metadata of other clients survive a write, small and large")
def properties_stay(stage):
    theirs = dict(ContentType="text/x-theirs", CacheControl="no-store", ContentLanguage="de",
                  Metadata={"mine": "yes", "other": "two words"})
    stage.bucket.put("small", b"old", **theirs)
    stage.bucket.put("large", b"old", **theirs)
    stage.bucket.put("moved", b"old", **theirs)
    mount = stage.mount()

    def expect(key):
        head = stage.bucket.head(key)
        equal((head["ContentType"], head["CacheControl"], head["ContentLanguage"]),
              ("text/x-theirs", "no-store", "de"), key)
        equal(head["Metadata"]["mine"], "yes", key)
        check("ovfs-write-id" in head["Metadata"], f"{key} is of ours")

    mount.write_file("small", b"new")
    file = mount.open("small", os.O_RDWR)
    file.write(3, b"er")
    file.close()
    equal(stage.bucket.get("small"), b"newer")
    expect("small")
    mount.write_file("large", bytes(20 << 20))
    equal(stage.bucket.head("large")["ContentLength"], 20 << 20)
    expect("large")
    mount.truncate("moved", 1)
    mount.rename("moved", "there")
    expect("there")


@case("statfs is plausible")
def statfs(stage):
    blocks, free, available, files, ffree, bsize, namelen, frsize = stage.mount().statfs()
    check(blocks * frsize >= 1 << 40, f"a large file system: {blocks} of {frsize}")
    check(0 < available <= free <= blocks and 0 < ffree <= files, "room in it")
    equal(namelen, 255)
    check(bsize >= 512, "a block size")


@case("a read-only mount refuses every change with EROFS")
def read_only(stage):
    stage.bucket.put("d/a", b"x")
    mount = stage.mount(storage__readonly=True)
    equal(mount.read_file("d/a"), b"x")
    for act in (lambda: mount.create("b"), lambda: mount.mkdir("e"), lambda: mount.unlink("d/a"),
                lambda: mount.rmdir("d"), lambda: mount.rename("d/a", "b"),
                lambda: mount.open("d/a", os.O_RDWR), lambda: mount.truncate("d/a", 0),
                lambda: mount.utime("d/a", 1)):
        with fails("EROFS"):
            act()
    equal(stage.bucket.keys(), ["d/a"])


@case("a root in the configuration is a mount of that folder alone")
def root_prefix(stage):
    stage.bucket.put("deep/er/a", b"in")
    stage.bucket.put("deep/other", b"out")
    stage.bucket.put("top", b"out")
    root = stage.bucket.prefix + "deep/er"
    mount = stage.mount(storage__root=root)
    equal(mount.list(), ["a"])
    mount.write_file("b", b"new")
    mount.mkdir("d")
    equal(stage.bucket.keys("deep/er/"), ["deep/er/a", "deep/er/b", "deep/er/d/"])
    mount = stage.mount(storage__root=f"/{root}/")
    equal(mount.list(), ["a", "b", "d"])
    mount = stage.mount(storage__root=stage.bucket.prefix + "not/yet")
    equal(mount.list(), [])
    mount.write_file("x", b"y")
    equal(stage.bucket.get("not/yet/x"), b"y")


@case("rename of files: over nothing, over another, NOREPLACE, EXCHANGE, into nowhere")
def rename_files(stage):
    stage.bucket.put("a", b"1", ContentType="text/x-mine", Metadata={"mine": "kept"})
    stage.bucket.put("b", b"2")
    stage.bucket.put("d/c", b"3")
    mount = stage.mount()
    with fails("EEXIST"):
        mount.rename("a", "b", RENAME_NOREPLACE)
    with fails("EINVAL"):
        mount.rename("a", "b", RENAME_EXCHANGE)
    mount.rename("a", "d/new name", RENAME_NOREPLACE)
    head = stage.bucket.head("d/new name")
    equal((head["ContentType"], head["Metadata"].get("mine")), ("text/x-mine", "kept"))
    mount.rename("d/new name", "b")
    equal(stage.bucket.keys(), ["b", "d/c"])
    equal(mount.read_file("b"), b"1")
    with fails("ENOENT"):
        mount.rename("nothing", "x")
    with fails("ENOENT"):
        mount.rename("b", "nowhere/x")
    with fails("EISDIR"):
        mount.rename("b", "d")
    mount.rename("b", "b")
    equal(mount.read_file("b"), b"1")
    with fails("ENOENT"):
        mount.stat("a")


@case("rename of directories: with all that is below, empty ones, over an empty one")
def rename_directories(stage):
    for i in range(120):
        stage.bucket.put(f"from/sub{i % 3}/{i:03}", b"%d" % i)
    stage.bucket.put("from/", b"")
    stage.bucket.put("full/x", b"")
    stage.bucket.put("empty/", b"")
    stage.bucket.put("file", b"")
    mount = stage.mount()
    with fails("ENOTEMPTY", "EEXIST"):
        mount.rename("from", "full")
    with fails("ENOTDIR"):
        mount.rename("from", "file")
    with fails("EINVAL"):
        mount.rename("from", "from/sub0/inside")
    mount.rename("from", "empty")
    equal(mount.list("empty"), ["sub0", "sub1", "sub2"])
    equal(len(stage.bucket.keys("empty/sub")), 120)
    equal(stage.bucket.keys("from"), [])
    for i in range(0, 120, 13):
        equal(mount.read_file(f"empty/sub{i % 3}/{i:03}"), b"%d" % i)
    mount.rename("empty", "again")
    check(not mount.exists("empty"), "the old name is gone")
    mount.mkdir("bare")
    mount.rename("bare", "again/bare")
    check(mount.stat("again/bare").is_dir(), "an empty one moved")


@case("more objects than rename_max: EXDEV, and nothing happened")
def rename_too_many(stage):
    for i in range(30):
        stage.bucket.put(f"d/{i}", b"x")
    mount = stage.mount(object__rename_max=20)
    with fails("EXDEV"):
        mount.rename("d", "e")
    equal(len(stage.bucket.keys("d/")), 30)
    equal(stage.bucket.keys("e"), [])


@case("a file that is renamed while it is open goes on working")
def rename_open(stage):
    data = pattern(1, 100000)
    stage.bucket.put("a", data)
    mount = stage.mount()
    file = mount.open("a", os.O_RDWR)
    equal(file.read(0, 10), data[:10])
    mount.rename("a", "b")
    equal(file.read(90000, 10000), data[90000:])
    file.write(0, b"changed")
    file.close()
    equal(stage.bucket.keys(), ["b"])
    equal(stage.bucket.get("b"), b"changed" + data[7:])


@case("a file that is removed while it is open: its data can be read, nothing comes back")
def unlink_open(stage):
    data = pattern(2, 50000)
    mount = stage.mount()
    file = mount.create("a")
    file.write(0, data)
    file.fsync()
    mount.unlink("a")
    equal(file.read(0, 50000), data)
    file.write(10, b"more")
    equal(file.read(8, 8), data[8:10] + b"more" + data[14:16])
    file.close()
    equal(stage.bucket.keys(), [])
    equal(mount.list(), [])
    mount.write_file("a", b"another")
    equal(stage.bucket.get("a"), b"another")


@case("what another client adds and removes shows within the time-out")
def others_changes(stage):
    stage.bucket.put("d/a", b"1")
    mount = stage.mount()
    equal(mount.list("d"), ["a"])
    with fails("ENOENT"):
        mount.stat("d/b")
    stage.bucket.put("d/b", b"22")
    eventually(lambda: mount.exists("d/b"), 5, "a new object is found by name")
    eventually(lambda: mount.list("d") == ["a", "b"], 5, "a new object is listed")
    stage.bucket.put("d/a", b"longer")
    eventually(lambda: mount.stat("d/a").size == 6, 5, "a new size is seen")
    stage.bucket.delete("d/a")
    eventually(lambda: mount.list("d") == ["b"], 5, "a removed object is not listed")
    eventually(lambda: not mount.exists("d/a"), 5, "a removed object is not found")
    stage.bucket.delete("d/b")
    eventually(lambda: not mount.exists("d"), 5, "an implicit directory without objects is gone")
