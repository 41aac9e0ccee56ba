# SPDX-License-Identifier: Apache-2.0
"""The case files and their headers; lib.sh describes them."""

import fnmatch
import glob
import os
import re


class Case:
    def __init__(self, path):
        self.name = os.path.basename(path)[:-len(".sh")]
        self.folder = os.path.basename(os.path.dirname(path))
        self.summary = ""
        self.debian = None
        self.limit = 30
        self.readonly = False
        with open(path, encoding="utf-8") as text:
            for line in text:
                match = re.match(r"# (CASE|TOOLS|LIMIT|WITH): (.*)$", line)
                if match:
                    self.header(path, *match.groups())
        if not self.summary or self.debian is None:
            raise ValueError(f"{path}: needs a CASE and a TOOLS line")

    def header(self, path, key, value):
        if key == "CASE":
            self.summary = value
        elif key == "TOOLS" and value in ("busybox", "debian"):
            self.debian = value == "debian"
        elif key == "LIMIT":
            self.limit = int(value)
        elif key == "WITH" and value == "readonly":
            self.readonly = True
        else:
            raise ValueError(f"{path}: {key}: {value}?")


def load(guest_dir, patterns, folder="cases"):
    """The cases whose name matches one of the patterns (all, without any)."""
    cases = [Case(path) for path in sorted(glob.glob(f"{guest_dir}/{folder}/*.sh"))]
    return [case for case in cases
            if not patterns or any(fnmatch.fnmatch(case.name, p) for p in patterns)]
