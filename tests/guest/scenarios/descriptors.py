# SPDX-License-Identifier: Apache-2.0
"""Files that a guest merely knows cost the daemon no descriptor each: with far
fewer of them than files, all goes on working."""

import os

from harness.daemon import session_processes
from harness.report import Failure

GUESTS = ("uml",)
FILES = 20000
LIMIT = 1000


def play(site, kind):
    daemon = site.daemon(arguments=[f"--rlimit-nofile={LIMIT}"])
    guest = site.guest(kind, daemon).boot()
    guest.mount()
    guest.must(f"mkdir $MNT/dir && fsop many $MNT/dir 0 {FILES} && "
               f"[ $(ls -l $MNT/dir | wc -l) = {FILES + 1} ]", 120)
    used = max(len(os.listdir(f"/proc/{pid}/fd")) for pid in session_processes(daemon.process.pid))
    # Some more are for sockets, queues and the guest's memory.
    if used > LIMIT + 200:
        raise Failure(f"{FILES} files in the guest's cache, {used} descriptors open")
    guest.must("[ -f $MNT/dir/f000000 ] && rm -r $MNT/dir", 60)
    guest.poweroff()
