#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""messages.py OVFS SOURCE PAGE...: that the messages which the pages quote are the daemon's.

What a page has in its tables of messages and events, in the first column between backquotes:

    a message of the configuration, or of a start     made to appear here, by what CAUSES does
    any other                                         its words are looked for in the source

In a quotation "..." stands for anything; so do FILE, LINE, KEY, N in capitals."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ovfs, source, pages = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
TIMEOUT_S = 60
SOCKET = '[socket_settings]\nsocket_path = "%D/socket"\n'
MEMORY = '[storage_settings]\ntype = "memory"\n'
FS = '[storage_settings]\ntype = "fs"\nroot = "%D"\n'
S3 = ('[storage_settings]\ntype = "s3"\nbucket = "b"\nendpoint = "http://127.0.0.1:1"\n'
      'access_key_id = "A"\n')
A_MOUNT = '[[mount]]\nname = "a"\n[mount.storage_settings]\ntype = "memory"\n'
# Root without the right to pass modes, as a daemon of another user.
WITHOUT_DAC = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


class Cause:
    """What makes the daemon say something: a configuration, a place, a way to start it."""

    def __init__(self, config=SOCKET + MEMORY, status=2, before=None, way=(), options=(),
                 check=True):
        self.config, self.status, self.before = config, status, before
        self.way, self.options, self.check = way, options, check


def others_file(folder):
    path = f"{folder}/others"
    with open(path, "w", encoding="utf-8") as f:
        f.write("secret")
    os.chmod(path, 0o600)
    os.chown(path, 1234, 1234)


def others_folder(folder):
    os.mkdir(f"{folder}/closed", 0o755)
    os.chown(f"{folder}/closed", 1234, 1234)


def plain_file(folder):
    with open(f"{folder}/socket", "w", encoding="utf-8"):
        pass


def readable(folder):
    os.chmod(f"{folder}/ovfs.toml", 0o644)


def including(folder):
    with open(f"{folder}/more.toml", "w", encoding="utf-8") as f:
        f.write('include = "ovfs.toml"\n')


def twice(folder):
    with open(f"{folder}/more.toml", "w", encoding="utf-8") as f:
        f.write('[log]\nlevel = "debug"\n')


def listening(folder):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{folder}/socket")
    s.listen(1)
    return s


def chrooted(proc):
    """A root that is no mount point, with the machine's folders in it."""
    binds = " ".join(["usr", "lib", "lib64", "bin", "etc", "tmp", "dev", os.path.dirname(ovfs)[1:],
                      *(["proc"] if proc else [])])
    return ("unshare", "--mount", "bash", "-ec",
            'root=$(dirname "$0")/root; mkdir -p "$root"; '
            f'for d in {binds}; do mkdir -p "$root/$d"; mount --rbind "/$d" "$root/$d"; done; '
            f'exec chroot "$root" "$@"', "%D/x")


CAUSES = {
    "FILE:LINE: KEY: unknown key, did you mean ...":
        Cause('[socket_settings]\nsocket_pth = "/x"\n' + MEMORY),
    "unknown table": Cause(SOCKET + MEMORY + "[sockets]\n"),
    "got ..., expected ...": Cause(SOCKET + "num_request_queues = \"many\"\n" + MEMORY),
    "this key is for type = ..., and type is ...": Cause(SOCKET + MEMORY + 'root = "/"\n'),
    "this key is for the whole daemon: ...": Cause(
        A_MOUNT + '[mount.socket_settings]\nsocket_path = "%D/socket"\n[mount.log]\nlevel = "info"\n'),
    "mount: expected [[mount]]": Cause(SOCKET + MEMORY + '[mount]\nname = "a"\n'),
    "given twice, also at FILE:LINE": Cause(
        'include = "more.toml"\n' + SOCKET + MEMORY + '[log]\nlevel = "info"\n', before=twice),
    "... is taken already, at FILE:LINE": Cause(
        A_MOUNT + '[mount.socket_settings]\nsocket_path = "%D/1"\n' +
        A_MOUNT + '[mount.socket_settings]\nsocket_path = "%D/2"\n'),
    "mount.name: required: ...": Cause(
        '[[mount]]\n[mount.storage_settings]\ntype = "memory"\n'
        '[mount.socket_settings]\nsocket_path = "%D/socket"\n'),
    "the environment variable ... is not set": Cause(
        '[socket_settings]\nsocket_path = "${env:OVFS_TEST_UNSET}"\n' + MEMORY),
    "include: ... is read already": Cause('include = "more.toml"\n' + SOCKET + MEMORY,
                                          before=including),
    'cannot read "...": Permission denied': Cause(
        SOCKET + S3 + 'secret_access_key_file = "%D/others"\n', before=others_file,
        way=WITHOUT_DAC),
    'directory "..." of the socket: No such file or directory': Cause(
        '[socket_settings]\nsocket_path = "%D/none/socket"\n' + MEMORY),
    "... exists and is not a socket": Cause(before=plain_file),
    "everybody can read this file, which holds a secret": Cause(
        SOCKET + S3 + 'secret_access_key = "secret"\n', status=0, before=readable),
    "--socket-path: is for one mount with one storage, and the configuration has several": Cause(
        A_MOUNT + '[mount.socket_settings]\nsocket_path = "%D/1"\n' +
        A_MOUNT.replace('"a"', '"b"') + '[mount.socket_settings]\nsocket_path = "%D/2"\n',
        options=("--socket-path=%D/socket",)),
    "--fd: ..., expected a listening socket": Cause(MEMORY, options=("--fd=900",)),
    "... is a socket that does not listen": Cause(
        MEMORY, way=("python3", "-c",
                     "import os,socket,sys; s=socket.socket(socket.AF_UNIX); os.dup2(s.fileno(), 9); "
                     "os.execvp(sys.argv[1], sys.argv[1:])"), options=("--fd=9",)),
    'directory "..." of the socket: Permission denied': Cause(
        '[socket_settings]\nsocket_path = "%D/closed/socket"\n' + MEMORY,
        before=others_folder, way=WITHOUT_DAC),
    # Those of a start.
    "... is served by another process: stop it, or choose another socket_path": Cause(
        status=1, before=listening, check=False),
    "cannot give the socket ... to group ...": Cause(
        SOCKET + 'socket_group = "daemon"\n' + MEMORY, status=1, check=False,
        way=("setpriv", "--clear-groups", "--bounding-set", "-chown")),
    "sandbox: cannot ... (start ovfs with the privilege, or turn the stage off ...)": Cause(
        SOCKET + FS, status=1, check=False, way=("setpriv", "--bounding-set", "-sys_admin")),
    "sandbox: ovfs was started in a chroot, ...": Cause(
        SOCKET + FS, status=1, check=False, way=chrooted(True)),
    "cannot open /proc/self/fd (is /proc mounted?)": Cause(
        SOCKET + FS + '[sandbox_settings]\nmode = "chroot"\n', status=1, check=False,
        way=chrooted(False)),
}


def pattern(quoted):
    """A regular expression for a quotation."""
    words = re.split(r"(\.\.\.|\bFILE\b|\bLINE\b|\bKEY\b|\bN\b)", quoted)
    return "".join({"...": ".*", "FILE": r"\S+", "LINE": r"\d+", "KEY": r"[\w.]+",
                    "N": r"\d+"}.get(word, re.escape(word)) for word in words)


def try_cause(quoted, cause):
    """What is wrong, or None."""
    folder = tempfile.mkdtemp(prefix="ovfs-messages-", dir="/tmp")
    kept = None
    try:
        config = f"{folder}/ovfs.toml"
        with open(config, "w", encoding="utf-8") as f:
            f.write(cause.config.replace("%D", folder))
        os.chmod(config, 0o600)
        if cause.before:
            kept = cause.before(folder)
        words = [*cause.way, ovfs, f"--config-file={config}", *cause.options,
                 *(["--check-config"] if cause.check else [])]
        process = subprocess.Popen([word.replace("%D", folder) for word in words],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   start_new_session=True)
        try:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0] + "\n(it did not end)"
        if process.returncode != cause.status:
            return f"status {process.returncode}, not {cause.status}: {said}"
        if not re.search(pattern(quoted), said):
            return said
        return None
    finally:
        if kept:
            kept.close()
        shutil.rmtree(folder)


def literals():
    """All strings of the source, neighbours joined, one a line."""
    found = []
    for folder, _, names in os.walk(source):
        for name in names:
            if not name.endswith((".c", ".h", ".cpp")):
                continue
            with open(f"{folder}/{name}", encoding="utf-8") as f:
                text = re.sub(r'"\s*\n\s*"', "", f.read())
            for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', text):
                found.append(literal.replace('\\"', '"').replace("\\n", " "))
    return "\n" + "\n".join(found) + "\n"


def find_words(quoted, said_in):
    """The first piece between what stands for anything that no string of the source has."""
    for piece in re.split(r"\.\.\.|\b(?:FILE|LINE|KEY|N)\b", quoted):
        piece = piece.strip(' "')
        if len(piece) > 2 and piece not in said_in:
            return piece
    return None


def find_event(quoted, said_in):
    """Likewise of a line of the log: an event, and keys with values, each of them somewhere."""
    event, *pairs = quoted.replace("...", "").split()
    if f"\n{event}\n" not in said_in:
        return event
    for key, _, value in (pair.partition("=") for pair in pairs):
        if f"{key}=" not in said_in:
            return f"{key}="
        if not value.isdigit() and value not in said_in:
            return value
    return None


def quotations(page):
    """(line, section, head, quotation) of each table whose head says message or event."""
    section = head = None
    with open(page, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            heading = re.match(r"#+ (.*)", line)
            if heading:
                section = heading[1]
            if not line.startswith("|"):
                head = None
                continue
            first = line.split(" | ")[0]
            if head is None:
                head = first.strip("| \n")
            if head in ("message", "event"):
                for quoted in re.findall(r"`([^`]+)`", first):
                    yield number, section, head, quoted


def main():
    said_in = literals()
    left = dict(CAUSES)
    number = failed = 0
    for page in pages:
        for line, section, head, quoted in quotations(page):
            number += 1
            if quoted in left:
                problem = try_cause(quoted, left.pop(quoted))
            elif "exit status" in section:
                problem = "no cause is known here: tests/docs/messages.py"
            else:
                find = find_event if head == "event" else find_words
                piece = find(quoted, said_in)
                problem = f"not in the source: {piece}" if piece else None
            print(f"{'not ok' if problem else 'ok'} {number} - {os.path.basename(page)}:{line} "
                  f"{quoted}", flush=True)
            if problem:
                print(*(f"# {said}" for said in problem.splitlines()), sep="\n")
                failed += 1
    for quoted in left:
        print(f"# on no page: {quoted}")
    print(f"# {number} quotations, {failed} failed")
    return failed > 0 or bool(left)


sys.exit(main())
