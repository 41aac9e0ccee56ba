# SPDX-License-Identifier: Apache-2.0
"""No guest at all: the cases on a local file system of the host.

A case that fails here is wrong, or says more than Linux promises. No part of
the test suite; it is for whoever writes cases.
"""

import os

from .guest import Guest


class LocalGuest(Guest):
    kind = "local"

    def argv(self):
        return ["sh", f"{self.tools.guest_dir}/agent.sh"]

    def environment(self):
        os.makedirs(f"{self.run_dir}/tmp", exist_ok=True)
        return {**os.environ, "GUEST_KIND": "local", "GUEST_DIR": self.tools.guest_dir,
                "GUEST_BIN": self.tools.bin_dir, "MNT": self.export, "TMPDIR": f"{self.run_dir}/tmp",
                "HOME": f"{self.run_dir}/tmp",
                "PATH": f"{self.tools.bin_dir}:{os.environ['PATH']}:/usr/sbin:/sbin"}

    def mount(self, tag="ovfs", folder="$MNT", options=""):
        pass

    def poweroff(self):
        self.kill()
