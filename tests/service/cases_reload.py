# SPDX-License-Identifier: Apache-2.0
"""Files of a configuration that are no files, or are not there, and a hangup before there is anybody
to hear it: the daemon goes on."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

from ground.operate import Operator, tables
from ground.stage import case, check, equal, eventually

def remove(path):
    if os.path.isdir(path):
        os.rmdir(path)
    elif os.path.lexists(path):
        os.remove(path)


def huge(path):
    with open(path, "wb") as file:
        file.truncate(100 << 20)


def garbage(path):
    with open(path, "wb") as file:
        file.write(os.urandom(100000))


@case("whatever becomes of the file of the configuration changes nothing")
def odd_files(stage):
    daemon = stage.daemon(tables(stage.dir))
    operator = Operator(stage)
    mount = stage.mount_of(daemon)
    mount.write_file("a", b"x")
    path, kept = daemon.socket + ".toml", daemon.socket + ".kept"
    shutil.copy(path, kept)
    for what, make, word in (
            ("deleted", lambda path: None, "No such file"),
            ("empty", lambda path: open(path, "wb").close(), ""),
            ("a fifo", os.mkfifo, "no regular file"),
            ("a directory", os.mkdir, "directory"),
            ("a device", lambda path: os.symlink("/dev/zero", path), "no regular file"),
            ("a link to itself", lambda path: os.symlink(path, path), "symbolic links"),
            ("of 100 MiB", huge, "longer"),
            ("garbage", garbage, "")):
        remove(path)
        make(path)
        operator.run("reload", wanted=1)
        error = operator.ask("status")["configuration"]["error"]
        check(error and word in error, f"{what}: the error is {error}")
        equal(mount.read_file("a"), b"x", what)
        equal(operator.metrics().sum("ovfs_config_last_reload_successful"), 0, what)
    remove(path)
    shutil.copy(kept, path)
    operator.run("reload")
    equal(operator.ask("status")["configuration"]["error"], None)
    equal(operator.metrics().sum("ovfs_config_last_reload_successful"), 1)
    # As a secret, and included, it is no better.
    fifo = f"{stage.dir}/fifo"
    os.mkfifo(fifo)
    with open(kept, encoding="utf-8") as file:
        text = file.read()
    for odd in (f'include = "{fifo}"\n{text}',
                re.sub("(secret_access_key) = .*", rf'\1_file = "{fifo}"', text)):
        with open(path, "w", encoding="utf-8") as file:
            file.write(odd)
        operator.run("reload", wanted=1)
        error = operator.ask("status")["configuration"]["error"]
        check("no regular file" in error, error)
    os.rename(kept, path)
    operator.run("reload")
    mount.write_file("b", b"y")


@case("a hangup that comes before the daemon is ready is kept for it")
def early_hangup(stage):
    daemon = stage.daemon(start=False)
    stage.daemons.remove(daemon)
    argv = daemon.argv()
    os.chmod(daemon.socket + ".toml", 0o644)  # so that it warns, and
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:  # cannot go on: nobody reads yet
            os.write(writer, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)

    def is_stuck():
        with open(f"/proc/{process.pid}/syscall", encoding="ascii") as file:
            return file.read().split()[:2] == ["1", "0x2"]  # write, stderr

    said = []
    heard = threading.Thread(target=lambda: said.extend(iter(lambda: os.read(reader, 65536), b"")))
    try:
        eventually(is_stuck, 30, "it warns")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        equal(process.poll(), None, "its exit status")
        heard.start()
        eventually(lambda: b" started " in b"".join(said), 30, "it has started")
        process.send_signal(signal.SIGTERM)
        equal(process.wait(60), 0, "its exit status at the end")
    finally:
        process.kill()
        process.wait()
        if heard.is_alive():
            heard.join()
        os.close(reader)
