# SPDX-License-Identifier: Apache-2.0
"""Daemon or server are killed while guests write: what was synced is in the bucket, whole, and of
what was not, each piece is what some write made of it, never half of one."""

import os
import random
import time

from ground.fuse import Stuck
from ground.stage import case, check, equal, eventually
from ground.tools import pattern

MIB = 1 << 20
IMPATIENT = {"retry_settings": {"attempts": 3, "pause_first": "50ms", "pause_max": "500ms",
                                "total": "4s"},
             "timeout_settings": {"silence_min": "1s", "silence_max": "2s", "server_max": "3s"}}
# Something is being committed at any time.
BUSY = {"enabled_cache_write_back": True, "write_back_delay": "100ms", "size": "64MiB"}


class Piece:
    """What one WRITE writes, again and again."""

    def __init__(self, seed, size):
        self.seed, self.size = seed, size
        self.begun = self.acknowledged = self.synced = 0

    def content(self, version):
        """As the version's WRITE makes it; version 0 is nothing, or a hole."""
        return pattern(self.seed * 1000003 + version, self.size) if version else bytes(self.size)


class Written:
    """A file of some pieces, written in any order by one guest: one request at a time."""

    def __init__(self, seed, pieces, size):
        self.path = f"f{seed}"
        self.size = size
        self.pieces = [Piece(seed * 100 + i, size) for i in range(pieces)]
        self.file = self.call = self.then = None
        self.syncs = 0

    def open(self, mount):
        self.call = None
        self.file = (mount.open(self.path, os.O_RDWR) if mount.exists(self.path)
                     else mount.create(self.path))

    def step(self, chance):
        """Takes an answer, or begins something."""
        if self.call:
            if not self.call.done():
                return
            call, then, self.call = self.call, self.then, None
            try:
                call.result()
            except OSError:
                return  # it may have been done, or will be
            then()
        elif self.acknowledged_all() and chance.random() < 0.25:
            marks = [piece.acknowledged for piece in self.pieces]
            self.call, self.then = self.file.start_fsync(), lambda: self.note_synced(marks)
        else:
            at = next((i for i, piece in enumerate(self.pieces) if not piece.acknowledged),
                      chance.randrange(len(self.pieces)))
            piece = self.pieces[at]
            piece.begun = version = piece.begun + 1
            self.call = self.file.start_write(at * self.size, piece.content(version))
            self.then = lambda: setattr(piece, "acknowledged", version)

    def forget(self):
        """The daemon is gone, and with it what was not synced."""
        if self.call and self.call.outcome and self.call.outcome[0] == 0:
            self.then()
        for piece in self.pieces:
            piece.acknowledged = piece.synced

    def acknowledged_all(self):
        return all(piece.acknowledged for piece in self.pieces)

    def note_synced(self, marks):
        self.syncs += 1
        for piece, mark in zip(self.pieces, marks):
            piece.synced = mark

    def verify(self, data, all_of_it=False):
        """`data`: of the object, None for none. Returns the versions found in it."""
        synced = any(piece.synced for piece in self.pieces)
        check(data is not None or not (synced or all_of_it), f"{self.path} is in the bucket")
        for i, piece in enumerate(self.pieces):
            found = (data or b"")[i * self.size:(i + 1) * self.size]
            # Until it was written from end to end the object may end anywhere between two writes.
            if not found and piece.synced == 0 and not all_of_it:
                continue
            least = piece.acknowledged if all_of_it else piece.synced
            check(any(found == piece.content(version)
                      for version in range(least, piece.begun + 1)),
                  f"piece {i} of {self.path} is one of its versions {least} to {piece.begun}")


def files():
    return [Written(seed, 1, 30000 + 25000 * seed) for seed in range(1, 9)] + [Written(9, 20, MIB)]


def load(written, chance, until):
    while not until():
        for file in written:
            file.step(chance)
        time.sleep(0.001)


def settle(written):
    """Waits for what is under way."""
    for file in written:
        while file.call:
            file.call.pipe.pump(0.1)
            if file.call.done():
                file.step(None)


def object_of(stage, path):
    return stage.bucket.get(path) if stage.bucket.exists(path) else None


@case("SIGKILL of the daemon under write-back: synced data is whole, and another daemon goes on",
      limit=240)
def daemon_killed(stage):
    chance = random.Random(1)
    written = files()
    for _ in range(2):
        mount = stage.mount(IMPATIENT | {"cache_settings": BUSY})
        for file in written:
            file.open(mount)
        before = sum(file.syncs for file in written)
        end = time.monotonic() + 1 + chance.random()
        load(written, chance, lambda end=end, before=before: time.monotonic() > end and
             sum(file.syncs for file in written) - before >= 5)
        mount.daemon.kill()
        stage.daemons.remove(mount.daemon)
        stage.mounts.remove(mount)
        try:
            while True:
                mount.pipe.pump(5)  # answers that were given before
        except Stuck:
            pass
        mount.close()
        for file in written:
            file.forget()
            file.verify(object_of(stage, file.path))
    mount = stage.mount(IMPATIENT | {"cache_settings": BUSY})
    for file in written:
        data = object_of(stage, file.path)
        if data is not None:
            check(mount.read_file(file.path) == data, f"{file.path} as a new daemon shows it")
        file.open(mount)
    end = time.monotonic() + 1
    load(written, chance, lambda: time.monotonic() > end and
         all(file.acknowledged_all() for file in written))
    settle(written)
    mount.syncfs()
    for file in written:
        file.verify(object_of(stage, file.path), all_of_it=True)


@case("the server is killed and comes back, again and again, under write-back: nothing is lost",
      "own-server", limit=240)
def server_killed(stage):
    chance = random.Random(2)
    written = files()
    mount = stage.mount(IMPATIENT | {"cache_settings": BUSY})
    for file in written:
        file.open(mount)
    for _ in range(2):
        end = time.monotonic() + 0.3 + chance.random()
        load(written, chance, lambda end=end: time.monotonic() > end)
        stage.server.kill()
        end = time.monotonic() + 0.3 + 2 * chance.random()
        load(written, chance, lambda end=end: time.monotonic() > end)
        stage.server.start()
        # As it is after a crash, whatever is being written now.
        for file in written:
            file.verify(object_of(stage, file.path))
    load(written, chance, lambda: all(file.acknowledged_all() for file in written))
    settle(written)

    def synced():
        try:
            mount.syncfs()
        except OSError:
            return False
        return True

    eventually(synced, 60, "all is written")
    for file in written:
        file.verify(object_of(stage, file.path), all_of_it=True)
    other = stage.mount()
    for file in written:
        equal(len(other.read_file(file.path)), len(file.pieces) * file.size)
