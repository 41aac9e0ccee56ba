# SPDX-License-Identifier: Apache-2.0
"""A guest in Python: FUSE requests over fuse-pipe, one method for each operation.

Pipe speaks in structures of the protocol (linux/fuse.h); Mount in paths and files. There is no
kernel in between, hence no cache: every method is the requests that it names, so that what
the daemon asks of its storage can be counted against them.

Errors are OSError with the reply's errno. A reply that does not come in time is Stuck.
"""

import errno
import itertools
import mmap
import os
import select
import stat
import struct
import subprocess
import tempfile
import time

from harness.report import Failure

ROOT = 1
SLOT = 1200 << 10
SLOTS = 48
MAX_IO = 1 << 20
TIMEOUT = 60

LOOKUP, FORGET, GETATTR, SETATTR = 1, 2, 3, 4
SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = 6, 8, 9, 10, 11, 12, 13
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 14, 15, 16, 17, 18, 20
SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR, FLUSH = 21, 22, 23, 24, 25
OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, DESTROY = 27, 28, 29, 30, 34, 35, 38
FALLOCATE, READDIRPLUS, RENAME2, LSEEK, COPY_FILE_RANGE, SYNCFS = 43, 44, 45, 46, 47, 50

FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE = 1, 2, 4, 8
FATTR_ATIME, FATTR_MTIME, FATTR_FH = 16, 32, 64
FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE = 1, 2
ATOMIC_O_TRUNC, SETXATTR_EXT = 1 << 3, 1 << 29
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY = struct.Struct("<QQQQII")
OPEN_OUT = struct.Struct("<QIi")
STATFS_OUT = struct.Struct("<QQQQQIIII6I")


class Stuck(Failure):
    """A request that was not answered in time. The mount must be given up."""


class Attr:
    def __init__(self, data):
        (self.ino, self.size, self.blocks, self.atime, self.mtime, self.ctime, self.atime_ns,
         self.mtime_ns, self.ctime_ns, self.mode, self.nlink, self.uid, self.gid, self.rdev,
         self.blksize, self.flags) = ATTR.unpack_from(data)

    def is_dir(self):
        return stat.S_ISDIR(self.mode)

    def is_file(self):
        return stat.S_ISREG(self.mode)


class Entry:
    """Outcome of a lookup; `node` 0 for a name that is known not to exist."""

    def __init__(self, data):
        (self.node, self.generation, seconds, attr_seconds, nsec,
         attr_nsec) = ENTRY.unpack_from(data)
        self.timeout = seconds + nsec / 1e9
        self.attr_timeout = attr_seconds + attr_nsec / 1e9
        self.attr = Attr(data[ENTRY.size:])


class Call:
    """A request on its way. result() waits for it; done() only looks."""

    def __init__(self, pipe, number, slot):
        self.pipe, self.number, self.slot = pipe, number, slot
        self.outcome = None

    def done(self):
        self.pipe.pump(0)
        return self.outcome is not None

    def result(self, timeout=TIMEOUT):
        deadline = time.monotonic() + timeout
        while self.outcome is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Stuck(f"request {self.number} was not answered in {timeout} s")
            self.pipe.pump(left)
        error, data = self.outcome
        if error:
            raise OSError(error, os.strerror(error))
        return data


class Pipe:
    """The connection; one `struct` of the protocol in, one out."""

    def __init__(self, binary, socket, queues=3):
        self.buffer_file = tempfile.NamedTemporaryFile(prefix="ovfs-pipe.", dir="/dev/shm")
        self.buffer_file.truncate(SLOT * SLOTS)
        self.buffer = mmap.mmap(self.buffer_file.fileno(), SLOT * SLOTS)
        self.free = list(range(SLOTS))
        self.numbers = itertools.count(1)
        self.calls = {}
        self.lost = None
        self.process = subprocess.Popen(
            [binary, socket, self.buffer_file.name, str(SLOT * SLOTS), str(queues)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.text = b""
        line = self.read_line(TIMEOUT)
        if not line or not line.startswith("ready "):
            self.close()
            raise Failure(f"the guest cannot mount: {line}")
        self.flags, self.max_write = (int(word) for word in line.split()[1:3])

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.buffer_file.close()

    def read_line(self, timeout):
        """A line; None when none came in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.text:
            ready, _, _ = select.select([self.process.stdout], [], [],
                                        max(0, deadline - time.monotonic()))
            if not ready:
                return None
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return "lost the guest's program ended"
            self.text += data
        line, self.text = self.text.split(b"\n", 1)
        return line.decode()

    def pump(self, timeout):
        """Take what has come, waiting for the first line if need be."""
        line = self.read_line(timeout)
        while line is not None:
            if line.startswith(("lost", "failed")):
                self.lost = line
                raise Stuck(line)
            number, error, length = (int(word) for word in line.split())
            call = self.calls.pop(number)
            start = call.slot * SLOT
            call.outcome = error, bytes(self.buffer[start:start + length])
            self.free.append(call.slot)
            line = self.read_line(0)

    def start(self, opcode, node, body=b"", room=0, queue=0):
        while not self.free:
            self.pump(TIMEOUT)
        call = Call(self, next(self.numbers), self.free.pop())
        start = call.slot * SLOT
        self.buffer[start:start + len(body)] = body
        self.calls[call.number] = call
        room = "-" if room is None else room
        self.process.stdin.write(
            f"{call.number} {opcode} {node} {start} {len(body)} {start} {room} {queue}\n".encode())
        self.process.stdin.flush()
        return call

    def call(self, opcode, node, body=b"", room=0):
        return self.start(opcode, node, body, room).result()


def name_bytes(name):
    return os.fsencode(name) + b"\0"


class File:
    """An open handle."""

    def __init__(self, mount, node, handle, flags):
        self.mount, self.node, self.handle, self.open_flags = mount, node, handle, flags
        self.pipe = mount.pipe

    def start_read(self, offset, length):
        body = struct.pack("<QQIIQII", self.handle, offset, length, 0, 0, 0, 0)
        return self.pipe.start(READ, self.node, body, length)

    def read(self, offset, length):
        """Up to `length` bytes, in as many requests as it takes."""
        data = b""
        while length > 0:
            piece = self.start_read(offset + len(data), min(length, MAX_IO)).result()
            data += piece
            length -= len(piece)
            if len(piece) == 0:
                break
        return data

    def start_write(self, offset, data):
        body = struct.pack("<QQIIQII", self.handle, offset, len(data), 0, 0, 0, 0)
        return self.pipe.start(WRITE, self.node, body + data, 8)

    def write(self, offset, data):
        done = 0
        while done < len(data):
            piece = data[done:done + MAX_IO]
            done += struct.unpack_from("<I", self.start_write(offset + done, piece).result())[0]
        return done

    def start_fsync(self, datasync=False):
        return self.pipe.start(FSYNC, self.node, struct.pack("<QII", self.handle, datasync, 0))

    def fsync(self, datasync=False, timeout=TIMEOUT):
        self.start_fsync(datasync).result(timeout)

    def start_flush(self):
        return self.pipe.start(FLUSH, self.node, struct.pack("<QIIQ", self.handle, 0, 0, 0))

    def flush(self, timeout=TIMEOUT):
        self.start_flush().result(timeout)

    def release(self):
        self.pipe.call(RELEASE, self.node, struct.pack("<QIIQ", self.handle, 0, 0, 0))

    def close(self, timeout=TIMEOUT):
        """What close(2) is: FLUSH, whose error it returns, and RELEASE."""
        try:
            self.flush(timeout)
        finally:
            self.release()

    def truncate(self, size):
        return self.mount.setattr(self.node, FATTR_SIZE | FATTR_FH, size=size, handle=self.handle)

    def getattr(self):
        return self.mount.getattr(self.node)

    def lseek(self, offset, whence):
        body = struct.pack("<QQII", self.handle, offset, whence, 0)
        return struct.unpack("<Q", self.pipe.call(LSEEK, self.node, body, 8))[0]

    def fallocate(self, offset, length, mode=0):
        body = struct.pack("<QQQII", self.handle, offset, length, mode, 0)
        self.pipe.call(FALLOCATE, self.node, body)


class DirEntry:
    def __init__(self, name, ino, offset, kind, entry):
        self.name, self.ino, self.offset, self.kind, self.entry = name, ino, offset, kind, entry


class Mount:
    """A mounted file system, by paths relative to its root ("" is the root)."""

    def __init__(self, binary, socket, queues=3):
        self.pipe = Pipe(binary, socket, queues)

    def close(self):
        self.pipe.close()

    # By node.

    def lookup(self, parent, name):
        return Entry(self.pipe.call(LOOKUP, parent, name_bytes(name), 128))

    def forget(self, node, count=1):
        self.pipe.start(FORGET, node, struct.pack("<Q", count), None).result()

    def getattr(self, node):
        return Attr(self.pipe.call(GETATTR, node, struct.pack("<IIQ", 0, 0, 0), 104)[16:])

    def setattr(self, node, valid, *, handle=0, size=0, atime=0, mtime=0, mode=0, uid=0, gid=0):
        body = struct.pack("<IIQQQQQQIIIIIIII", valid, 0, handle, size, 0, int(atime), int(mtime),
                           0, int(atime % 1 * 1e9), round(mtime % 1 * 1e9), 0, mode, 0, uid, gid, 0)
        return Attr(self.pipe.call(SETATTR, node, body, 104)[16:])

    def open_node(self, node, flags=os.O_RDONLY):
        handle, open_flags, _ = OPEN_OUT.unpack(
            self.pipe.call(OPEN, node, struct.pack("<II", flags, 0), 16))
        return File(self, node, handle, open_flags)

    # By path.

    def walk(self, path):
        """The node of a path: a LOOKUP for each component."""
        node = ROOT
        for name in filter(None, path.split("/")):
            entry = self.lookup(node, name)
            if entry.node == 0:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            node = entry.node
        return node

    def parent(self, path):
        folder, _, name = path.rpartition("/")
        return self.walk(folder), name

    def stat(self, path):
        """As the kernel does it when it knows nothing: the last LOOKUP has the attributes."""
        if not path:
            return self.getattr(ROOT)
        folder, name = self.parent(path)
        entry = self.lookup(folder, name)
        if entry.node == 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return entry.attr

    def exists(self, path):
        try:
            self.stat(path)
            return True
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False

    def open(self, path, flags=os.O_RDONLY):
        return self.open_node(self.walk(path), flags)

    def create(self, path, flags=os.O_RDWR | os.O_EXCL, mode=0o644):
        """CREATE; as the kernel sends it after a LOOKUP that found nothing."""
        folder, name = self.parent(path)
        body = struct.pack("<IIII", flags | os.O_CREAT, stat.S_IFREG | mode, 0, 0)
        data = self.pipe.call(CREATE, folder, body + name_bytes(name), 144)
        handle, open_flags, _ = OPEN_OUT.unpack_from(data, 128)
        return File(self, Entry(data).node, handle, open_flags)

    def mkdir(self, path, mode=0o755):
        folder, name = self.parent(path)
        return Entry(self.pipe.call(MKDIR, folder, struct.pack("<II", mode, 0) + name_bytes(name),
                                    128))

    def mknod(self, path, mode):
        folder, name = self.parent(path)
        return Entry(self.pipe.call(MKNOD, folder, struct.pack("<IIII", mode, 0, 0, 0) +
                                    name_bytes(name), 128))

    def symlink(self, path, target):
        folder, name = self.parent(path)
        return Entry(self.pipe.call(SYMLINK, folder, name_bytes(name) + name_bytes(target), 128))

    def link(self, old, new):
        node = self.walk(old)
        folder, name = self.parent(new)
        return Entry(self.pipe.call(LINK, folder, struct.pack("<Q", node) + name_bytes(name), 128))

    def unlink(self, path):
        folder, name = self.parent(path)
        self.pipe.call(UNLINK, folder, name_bytes(name))

    def rmdir(self, path):
        folder, name = self.parent(path)
        self.pipe.call(RMDIR, folder, name_bytes(name))

    def start_rename(self, old, new, flags=0):
        old_folder, old_name = self.parent(old)
        new_folder, new_name = self.parent(new)
        body = struct.pack("<QII", new_folder, flags, 0) + name_bytes(old_name) + name_bytes(new_name)
        return self.pipe.start(RENAME2, old_folder, body)

    def rename(self, old, new, flags=0):
        self.start_rename(old, new, flags).result(300)

    def truncate(self, path, size):
        return self.setattr(self.walk(path), FATTR_SIZE, size=size)

    def utime(self, path, mtime):
        return self.setattr(self.walk(path), FATTR_MTIME, mtime=mtime)

    def chmod(self, path, mode):
        return self.setattr(self.walk(path), FATTR_MODE, mode=mode)

    def chown(self, path, uid, gid):
        return self.setattr(self.walk(path), FATTR_UID | FATTR_GID, uid=uid, gid=gid)

    def setxattr(self, path, name, value):
        body = struct.pack("<II", len(value), 0)
        if self.pipe.flags & SETXATTR_EXT:
            body += bytes(8)
        body += name_bytes(name) + value
        self.pipe.call(SETXATTR, self.walk(path), body)

    def getxattr(self, path, name):
        return self.pipe.call(GETXATTR, self.walk(path), struct.pack("<II", 4096, 0) +
                              name_bytes(name), 4096)

    def statfs(self):
        """The eight numbers of struct fuse_kstatfs that have a meaning."""
        return STATFS_OUT.unpack(self.pipe.call(STATFS, ROOT, b"", STATFS_OUT.size))[:8]

    def syncfs(self, timeout=TIMEOUT):
        self.pipe.start(SYNCFS, ROOT, struct.pack("<Q", 0)).result(timeout)

    def destroy(self):
        """What umount(8) ends with; nothing works after it."""
        self.pipe.call(DESTROY, 0)

    # Directories.

    def opendir(self, path):
        node = self.walk(path)
        handle, _, _ = OPEN_OUT.unpack(
            self.pipe.call(OPENDIR, node, struct.pack("<II", os.O_RDONLY, 0), 16))
        return node, handle

    def releasedir(self, node, handle):
        self.pipe.call(RELEASEDIR, node, struct.pack("<QIIQ", handle, 0, 0, 0))

    def read_entries(self, node, handle, offset, size=128 << 10, plus=True):
        """One READDIRPLUS (or READDIR) at a position: a list, empty at the end."""
        body = struct.pack("<QQIIQII", handle, offset, size, 0, 0, 0, 0)
        data = self.pipe.call(READDIRPLUS if plus else READDIR, node, body, size)
        entries, at = [], 0
        while at < len(data):
            entry = None
            if plus:
                entry = Entry(data[at:at + 128])
                at += 128
            ino, next_offset, length, kind = struct.unpack_from("<QQII", data, at)
            name = data[at + 24:at + 24 + length]
            entries.append(DirEntry(os.fsdecode(name), ino, next_offset, kind, entry))
            at += 24 + (length + 7) // 8 * 8
        return entries

    def scan(self, path, plus=True, size=128 << 10):
        """All entries, without . and .., as `ls -l` reads them (or `ls -U`, without `plus`)."""
        node, handle = self.opendir(path)
        found, offset = [], 0
        try:
            while entries := self.read_entries(node, handle, offset, size, plus):
                found += [entry for entry in entries if entry.name not in (".", "..")]
                offset = entries[-1].offset
        finally:
            self.releasedir(node, handle)
        return found

    def list(self, path="", plus=True):
        return sorted(entry.name for entry in self.scan(path, plus))

    # Whole files.

    def read_file(self, path):
        file = self.open(path)
        try:
            return file.read(0, 1 << 40)
        finally:
            file.release()

    def open_truncated(self, path, flags=os.O_RDWR):
        """open(2) with O_TRUNC: one request where the daemon agreed to that at INIT."""
        if self.pipe.flags & ATOMIC_O_TRUNC:
            return self.open(path, flags | os.O_TRUNC)
        file = self.open(path, flags)
        file.truncate(0)
        return file

    def write_file(self, path, data):
        """Create or replace, as `cp` does it: open with O_TRUNC when it is there."""
        if self.exists(path):
            file = self.open_truncated(path)
        else:
            file = self.create(path)
        try:
            file.write(0, data)
        except BaseException:
            file.release()
            raise
        file.close()
