#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""run.py OVFS OVFSCTL FILE...: tries what the documentation shows.

Every fenced block says what it is:

    toml        a configuration: `ovfs --check-config` takes it. A first line
                "# /etc/ovfs/NAME.toml" has it kept under that name for the blocks below
    toml part   some keys: loaded together with what a file needs at least
    sh          run by bash -e, in the order of the page; ovfs and ovfsctl are there
    sh host     needs a hypervisor, systemd or the like: its syntax is checked
    sh guest    for within a guest: likewise
    json, xml   parsed
    text, yaml, ini

/run/ovfs, /etc/ovfs and /srv become folders of a scratch folder; what a configuration
names is made there before. Groups become our own."""

import grp
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from xml.dom.minidom import parseString
from xml.parsers.expat import ExpatError

BLOCK_TIMEOUT_S = 120
MINIMUM = '[socket_settings]\nsocket_path = "/run/ovfs/part.sock"\n'
MINIMUM_STORAGE = '[storage_settings]\ntype = "memory"\n'

ovfs, ovfsctl, files = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
counts = {"tried": 0, "need hardware": 0}


class Failure(Exception):
    pass


def in_chroot():
    """Where the kernel lets nobody make namespaces: / is no mount point."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return not any(line.split()[4] == "/" for line in f)


class Page:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="ovfs-docs-", dir="/tmp")
        for name in ("run/ovfs", "etc/ovfs", "srv", "bin"):
            os.makedirs(f"{self.dir}/{name}")
        self.write("/bin/ovfs",
                   f'#!/bin/bash\nexec {ovfs} "$@"{" --sandbox=chroot" if in_chroot() else ""}\n',
                   0o755)
        # A page does not wait for the daemon that it starts; a person does.
        self.write("/bin/ovfsctl",
                   "#!/bin/bash\n"
                   f'export OVFS_CTL_SOCKET="${{OVFS_CTL_SOCKET:-{self.dir}/run/ovfs/ctl.sock}}"\n'
                   "for i in {1..250}; do\n"
                   f'\tsaid=$({ovfsctl} "$@" 2>&1); status=$?\n'
                   '\t[ $status -ne 3 ] && break\n\tsleep 0.2\ndone\n'
                   'echo "$said"\nexit $status\n', 0o755)
        self.env = dict(os.environ, PATH=f"{self.dir}/bin:{os.environ['PATH']}", HOME=self.dir)
        self.groups = []

    def write(self, path, text, mode=0o600):
        with open(self.dir + path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.dir + path, mode)

    def moved(self, text):
        own = grp.getgrgid(os.getgid()).gr_name
        text = re.sub(r'^socket_group = "[^"]*"', f'socket_group = "{own}"', text, flags=re.M)
        return re.sub(r"(?<![\w/])/(run/ovfs|etc/ovfs|srv)\b", rf"{self.dir}/\1", text)

    def toml(self, text):
        name = re.match(r"# (/etc/ovfs/[\w.-]+(?:/[\w.-]+)?)\n", text)
        text = self.moved(text)
        for root in re.findall(r'^root = "(/[^"]+)"', text, re.M):
            os.makedirs(root, exist_ok=True)
        for secret in re.findall(r'^\w+_file = "(/[^"]+)"', text, re.M):
            if not os.path.exists(secret):
                self.write(secret.removeprefix(self.dir), "secret\n")
        for variable in re.findall(r"(?<!\$)\$\{env:(\w+)\}", text):
            self.env[variable] = "secret"
        for folder in re.findall(r'^include = "([^"]+\.d)"', text, re.M):
            os.makedirs(f"{self.dir}/etc/ovfs/{folder}", exist_ok=True)
        path = name[1] if name else "/etc/ovfs/block.toml"
        os.makedirs(os.path.dirname(self.dir + path), exist_ok=True)
        self.write(path, text)
        # A file of a folder that another one includes is loaded with that one.
        if os.path.dirname(path) == "/etc/ovfs":
            self.run([ovfs, "--check-config", f"--config-file={self.dir}{path}"])

    def part(self, text):
        front = MINIMUM if "[socket_settings]" not in text and "[[mount]]" not in text else ""
        if "[storage_settings]" not in text and "[mount.storage_settings]" not in text:
            front += MINIMUM_STORAGE
        self.toml(text + "\n" + front)

    def run(self, words):
        # What is left running belongs to the page; its output goes where it holds up nobody.
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(words, cwd=self.dir, env=self.env, stdout=out, stderr=out,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
            self.groups.append(process.pid)
            try:
                status = process.wait(BLOCK_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                status = "none: it hangs"
            out.seek(0)
            said = out.read().decode(errors="replace")
        if status != 0:
            raise Failure(f"status {status}:\n{said}")

    def end(self):
        # What they started in the background: let it end, then see to it.
        for sig in (signal.SIGTERM, signal.SIGKILL):
            for group in self.groups:
                try:
                    os.killpg(group, sig)
                except ProcessLookupError:
                    continue
            for _ in range(100):
                if not any(self.lives(group) for group in self.groups):
                    break
                subprocess.run(["sleep", "0.1"], check=True)
        shutil.rmtree(self.dir)

    @staticmethod
    def lives(group):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        return True


def block(page, kind, text):
    if kind in ("sh host", "sh guest"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        counts["need hardware"] += 1
        return
    if kind in ("text", "yaml", "ini"):
        return
    if kind == "toml":
        page.toml(text)
    elif kind == "toml part":
        page.part(text)
    elif kind == "sh":
        page.run(["bash", "-ec", page.moved(text)])
    elif kind == "json":
        json.loads(text)
    elif kind == "xml":
        parseString(f"<page>{text}</page>")
    else:
        raise Failure(f"a block of kind \"{kind}\"")
    counts["tried"] += 1


def page_blocks(name):
    """(line, kind, text) of each fenced block."""
    kind, start, lines = None, 0, []
    with open(name, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            fence = re.match(r"```(.*)$", line)
            if fence and kind is None:
                kind, start, lines = fence[1].strip(), number, []
            elif fence:
                yield start, kind, "".join(lines)
                kind = None
            elif kind is not None:
                lines.append(line)
    if kind is not None:
        raise Failure(f"{name}:{start}: no end of the block")


number = failed = 0
for file in files:
    page = Page()
    try:
        for line, kind, text in page_blocks(file):
            number += 1
            problem = None
            try:
                block(page, kind, text)
            except (Failure, subprocess.CalledProcessError, ValueError, ExpatError) as e:
                problem = e
            print(f"{'not ok' if problem else 'ok'} {number} - {os.path.basename(file)}:{line} "
                  f"{kind}", flush=True)
            if problem:
                print(*(f"# {said}" for said in str(problem).splitlines()), sep="\n")
                failed += 1
    finally:
        page.end()
print("# " + ", ".join(f"{n} {what}" for what, n in counts.items()) + f", {failed} failed")
sys.exit(failed > 0)
