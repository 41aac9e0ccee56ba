# SPDX-License-Identifier: Apache-2.0
"""How what runs is ended: a suite that takes too long, and what it has left running."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from .daemon import descendants

PR_SET_CHILD_SUBREAPER = 36
# For a guest to be switched off, daemons to be ended, and folders to be removed.
GRACE_S = 40


def unwind_when_told():
    """SIGTERM ends the caller as an exception does, so that what it started is ended, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def adopt():
    """What our children leave behind becomes ours, and not init's."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_rest():
    """Ends all below us, and tells how many that were. After adopt()."""
    killed = set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = descendants(os.getpid())[1:]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.05)
    return len(killed)


def run_for(command, seconds, **more):
    """The exit code of a command, None when it had to be ended. `seconds`: at most; None: any.
    It does not outlive the caller."""
    with subprocess.Popen(command, **more) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
