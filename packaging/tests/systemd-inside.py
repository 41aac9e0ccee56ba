# SPDX-License-Identifier: Apache-2.0
"""What an administrator does with the package, by a real systemd: see systemd, which boots it.

Runs as root within the machine that was booted; everything there is thrown away after."""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback

sys.path.insert(0, "/check")

from ground.fuse import Mount  # pylint: disable=wrong-import-position

MAIN = "/etc/ovfs/ovfs.toml"
GIVE_UP_S = 60
CONFIG = """
[ctl_settings]
socket_path = "/run/ovfs/ctl.sock"

[log]
level = "{level}"

[[mount]]
name = "data"
[mount.socket_settings]
socket_path = "/run/ovfs/data.sock"
socket_group = "daemon"
[mount.storage_settings]
type = "fs"
root = "/srv/data"
[mount.cache_settings]
enabled_cache = true
enabled_cache_write_back = true
write_back_delay = "1h"
"""
ANOTHER = """
[[mount]]
name = "another"
[mount.socket_settings]
socket_path = "/run/ovfs/another.sock"
[mount.storage_settings]
type = "memory"
"""
BUCKET = """
[[mount]]
name = "bucket"
[mount.socket_settings]
socket_path = "/run/ovfs/bucket.sock"
[mount.storage_settings]
type = "s3"
bucket = "none"
endpoint = "http://127.0.0.1:1"
region = "us-east-1"
access_key_id = "none"
secret_access_key = "none"
"""
INSTANCE = """
[socket_settings]
socket_path = "/run/ovfs/apart.sock"
[storage_settings]
type = "fs"
root = "/srv/apart"
"""


class Failed(Exception):
    pass


def run(*words, wanted=0):
    """What it printed; its status has to be the wanted one (None: any)."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False, timeout=120)
    if wanted is not None and done.returncode != wanted:
        raise Failed(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def equal(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: {got!r}, not {wanted!r}")


def eventually(true, what):
    end = time.monotonic() + GIVE_UP_S
    while not true():
        if time.monotonic() > end:
            raise Failed(f"not within {GIVE_UP_S} s: {what}")
        time.sleep(0.1)


def write(path, text, mode=0o640):
    # As an editor does: another file, renamed.
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)


def show(name, unit="ovfs"):
    return run("systemctl", "show", "--value", f"--property={name}", unit).strip()


def journal(unit="ovfs", *more):
    return run("journalctl", "--unit", unit, "--output=json", *more).splitlines()


def said(text, unit="ovfs"):
    return any(text in str(json.loads(line)["MESSAGE"]) for line in journal(unit))


def mounts():
    return sorted(m["name"] for m in json.loads(run("ovfsctl", "--json", "status"))
                  ["result"]["mounts"])


def processes(unit="ovfs"):
    """The process that systemd knows, and the one in the sandbox."""
    with open(f"/sys/fs/cgroup{show('ControlGroup', unit)}/cgroup.procs", encoding="ascii") as f:
        pids = [int(line) for line in f]
    main = int(show("MainPID", unit))
    return main, [pid for pid in pids if pid != main]


def guest(socket="/run/ovfs/data.sock"):
    return Mount("/check/fuse-pipe", socket)


# ---- Cases, in this order ----

def package_installs():
    """the package installs, and enables its unit"""
    run("dpkg", "--install", "--no-triggers", "--force-unsafe-io", "/check/ovfs.deb")
    equal(run("systemctl", "is-enabled", "ovfs").strip(), "enabled", "is-enabled")
    # Nothing to serve yet, and no error for that.
    equal(show("ActiveState"), "inactive", "without a configuration")
    equal(show("ConditionResult"), "no", "the condition")


def units_verify():
    """systemd-analyze finds nothing wrong with the units"""
    equal(run("systemd-analyze", "verify", "ovfs.service", "ovfs@apart.service"), "", "verify")


def starts():
    """the service is active when the mount can be used"""
    os.makedirs("/srv/data", exist_ok=True)
    write(MAIN, CONFIG.format(level="info"))
    run("systemctl", "start", "ovfs")
    equal(show("ActiveState"), "active", "state")
    equal(mounts(), ["data"], "mounts")
    _, others = processes()
    equal(len(others), 1, "processes besides the main one")
    for name in ("mnt", "pid", "net", "ipc"):
        if os.readlink(f"/proc/1/ns/{name}") == os.readlink(f"/proc/{others[0]}/ns/{name}"):
            raise Failed(f"no {name} namespace of its own")
    with open(f"/proc/{others[0]}/status", encoding="ascii") as f:
        status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
    equal(status["Seccomp"].strip(), "2", "seccomp")
    equal(status["NoNewPrivs"].strip(), "1", "no_new_privs")


def serves():
    """a guest makes, writes and reads files, as the user that it says"""
    g = guest()
    g.write_file("hello", b"by a guest")
    equal(g.read_file("hello"), b"by a guest", "read back")
    g.chown("hello", 1234, 5678)
    g.mknod("device", 0o060600)
    g.chmod("hello", 0o4755)
    g.close()
    st = os.stat("/srv/data/hello")
    equal((st.st_uid, st.st_gid, st.st_mode & 0o7777), (1234, 5678, 0o4755), "on the host")


def log_is_structured():
    """the journal has its lines with their priority, and no prefix"""
    found = [json.loads(line) for line in journal()]
    ready = [m for m in found if str(m["MESSAGE"]).startswith("ready ")]
    equal(len(ready), 1, "lines that begin with ready")
    equal(ready[0]["PRIORITY"], "6", "its priority")
    equal(ready[0]["SYSLOG_IDENTIFIER"], "ovfs", "its identifier")


def reloads():
    """systemctl reload: a mount comes, its process stays"""
    before = processes()
    write(MAIN, CONFIG.format(level="debug") + ANOTHER)
    run("systemctl", "reload", "ovfs")
    eventually(lambda: mounts() == ["another", "data"], "the new mount")
    eventually(lambda: show("SubState") == "running", "running again")
    equal(processes(), before, "the processes")
    guest("/run/ovfs/another.sock").close()


def reload_of_an_error():
    """systemctl reload with an error in the file fails and says where; the daemon goes on"""
    before = processes()
    write(MAIN, CONFIG.format(level="loud") + ANOTHER)
    run("systemctl", "reload", "ovfs", wanted=1)
    if not said(f"{MAIN}:6: log.level"):
        raise Failed("the journal does not say where")
    equal(show("ActiveState"), "active", "state")
    equal(mounts(), ["another", "data"], "mounts")
    equal(processes(), before, "the processes")
    write(MAIN, CONFIG.format(level="info"))
    run("systemctl", "reload", "ovfs")
    eventually(lambda: mounts() == ["data"], "one mount again")


def stop_writes():
    """stopping writes what only the cache has, and removes the sockets"""
    g = guest()
    f = g.create("unwritten")
    f.write(0, b"x" * 100000)
    equal(os.stat("/srv/data/unwritten").st_size, 0, "bytes on the host before")
    run("systemctl", "stop", "ovfs")
    g.close()
    equal(os.stat("/srv/data/unwritten").st_size, 100000, "bytes on the host after")
    equal(show("Result"), "success", "result")
    equal(glob.glob("/run/ovfs/*"), [], "files in /run/ovfs")


def restarts():
    """systemctl restart writes, too, and the next guest is served"""
    run("systemctl", "start", "ovfs")
    g = guest()
    f = g.create("unwritten-2")
    f.write(0, b"x" * 100000)
    run("systemctl", "restart", "ovfs")
    g.close()
    equal(os.stat("/srv/data/unwritten-2").st_size, 100000, "bytes on the host after")
    g = guest()
    equal(g.stat("unwritten-2").size, 100000, "size in the next guest")
    g.close()


def restarted_after(sig, victim, what):
    count = int(show("NRestarts"))
    main, others = processes()
    os.kill(main if victim == "outside" else others[0], sig)
    eventually(lambda: int(show("NRestarts")) > count and show("SubState") == "running",
               f"restarted after {what}")
    guest().close()


def crashes():
    """either process killed: the service is started again, and serves"""
    restarted_after(signal.SIGKILL, "inside", "a kill of the sandboxed process")
    restarted_after(signal.SIGKILL, "outside", "a kill of the main process")


def watchdog():
    """either process stopped: the watchdog has the service started again"""
    os.makedirs("/run/systemd/system/ovfs.service.d")
    write("/run/systemd/system/ovfs.service.d/watchdog.conf", "[Service]\nWatchdogSec=5s\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "ovfs")
    time.sleep(11)
    equal(show("NRestarts"), "0", "restarts while it is well")
    for victim in ("inside", "outside"):
        restarted_after(signal.SIGSTOP, victim, f"a stop of the process {victim}")
    if not said("Watchdog timeout"):
        raise Failed("the journal has no watchdog timeout")
    if said("timed out. Killing"):
        raise Failed("the main process does not end by the watchdog's signal")
    os.unlink("/run/systemd/system/ovfs.service.d/watchdog.conf")
    run("systemctl", "daemon-reload")


def configuration_error():
    """a start with an error in the file fails, says where, and is not tried again"""
    run("systemctl", "stop", "ovfs")
    write(MAIN, CONFIG.format(level="loud"))
    run("systemctl", "start", "ovfs", wanted=1)
    equal(show("ExecMainStatus"), "2", "exit status")
    time.sleep(4)  # RestartSec, and again
    equal(show("NRestarts"), "0", "restarts")
    equal(show("ActiveState"), "failed", "state")
    write(MAIN, CONFIG.format(level="info"))
    run("systemctl", "start", "ovfs")


def network_storage():
    """a bucket that cannot be reached keeps nothing up, and a new resolv.conf gets into the sandbox"""
    write(MAIN, CONFIG.format(level="info") + BUCKET)
    run("systemctl", "restart", "ovfs")
    guest().close()
    _, others = processes()
    equal(os.readlink("/proc/1/ns/net"), os.readlink(f"/proc/{others[0]}/ns/net"), "its network")
    write("/etc/resolv.conf", "nameserver 127.0.0.9\n", 0o644)
    eventually(lambda: said('sandbox_file_replaced path="/etc/resolv.conf"'), "the new file")
    with open(f"/proc/{others[0]}/root/etc/resolv.conf", encoding="ascii") as f:
        equal(f.read(), "nameserver 127.0.0.9\n", "resolv.conf in the sandbox")
    write(MAIN, CONFIG.format(level="info"))
    run("systemctl", "restart", "ovfs")


def instance():
    """an instance beside it, which ends without taking the other's sockets"""
    os.makedirs("/srv/apart", exist_ok=True)
    write("/etc/ovfs/apart.toml", INSTANCE)
    run("systemctl", "start", "ovfs@apart")
    guest("/run/ovfs/apart.sock").close()
    run("systemctl", "reload", "ovfs@apart")
    run("systemctl", "stop", "ovfs@apart")
    equal(sorted(os.listdir("/run/ovfs")), ["ctl.sock", "data.sock"], "sockets")
    guest().close()


def security():
    """systemd-analyze security finds the unit at least as closed as it was"""
    overall = run("systemd-analyze", "security", "--no-pager", "ovfs.service").splitlines()[-1]
    exposure = float(re.search(r"ovfs\.service: ([\d.]+)", overall)[1])
    print(f"# exposure {exposure}")
    if exposure > EXPOSURE_MAX:
        raise Failed(overall)


def removes():
    """the package goes, and the service with it"""
    run("dpkg", "--purge", "--no-triggers", "--force-unsafe-io", "ovfs")
    equal(show("ActiveState"), "inactive", "state")
    equal(glob.glob("/usr/bin/ovfs*"), [], "programs")


EXPOSURE_MAX = 6.0
CASES = (package_installs, units_verify, starts, serves, log_is_structured, reloads,
         reload_of_an_error, stop_writes, restarts, crashes, watchdog, configuration_error,
         network_storage, instance, security, removes)
SLOW = (crashes, watchdog)


def main():
    cases = [c for c in CASES if "--quick" not in sys.argv or c not in SLOW]
    failed = 0
    for number, case in enumerate(cases, 1):
        begin = time.monotonic()
        try:
            case()
        except Exception as e:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} - {case.__doc__}")
            text = str(e) if isinstance(e, Failed) else traceback.format_exc()
            text += "\n" + run("journalctl", "--unit=ovfs*", "--lines=25", "--no-pager",
                               wanted=None)
            print(*(f"# {line}" for line in text.splitlines()), sep="\n", flush=True)
        else:
            print(f"ok {number} - {case.__doc__} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{len(cases) - failed} passed, {failed} failed", flush=True)
    return failed > 0


sys.exit(main())
