# SPDX-License-Identifier: Apache-2.0
"""Several storages in one mount: files go between them
as between two mounts, and one that the configuration gains or loses comes and goes
under the guest's hands."""

import os

from harness.daemon import Ovfs, in_chroot, toml
from harness.report import Failure

GUESTS = ("uml",)


class OvfsOfDirectories(Ovfs):
    """`directories`: path -> folder of the host, or None for a storage in memory."""

    directories = {}

    def argv(self):
        self.configure()
        return [*self.command, f"--config-file={self.socket}.toml"]

    def configure(self):
        """By rename, as editors do."""
        with open(self.socket + ".new", "w", encoding="utf-8") as conf:
            if in_chroot():
                conf.write("[sandbox_settings]\nmode = \"chroot\"\n")
            conf.write(f"[[mount]]\nname = \"joined\"\n[mount.socket_settings]\n"
                       f"socket_path = {toml(self.socket)}\ntag = {toml(self.tag)}\n")
            for path, root in self.directories.items():
                conf.write(f"[[mount.directory]]\npath = {toml(path)}\n"
                           "[mount.directory.storage_settings]\n" +
                           (f"type = \"fs\"\nroot = {toml(root)}\n" if root else
                            "type = \"memory\"\n"))
        os.rename(self.socket + ".new", self.socket + ".toml")


def play(site, kind):
    if site.daemon_class.kind != "ovfs":
        raise Failure("is about ovfs")
    roots = [f"{site.dir}/{name}" for name in ("one", "two", "three")]
    for root in roots:
        os.mkdir(root)
    cls = type("Joined", (OvfsOfDirectories,),
               {"directories": {"one": roots[0], "deep/two": roots[1], "mem": None}})
    daemon = site.daemon(cls=cls)
    guest = site.guest(kind, daemon).boot()
    guest.mount()
    guest.must("[ \"$(ls $MNT | tr '\\n' ' ')\" = 'deep mem one ' ]")
    guest.must("[ \"$(ls $MNT/deep)\" = two ]")
    guest.must("cd $MNT && for d in one deep/two mem; do mkdir $d/dir && echo $d >$d/dir/file && "
               "cat $d/dir/file | grep -qx $d || exit 1; done")
    for root, name in zip(roots, ("one", "deep/two")):
        with open(f"{root}/dir/file", encoding="ascii") as file:
            if file.read() != name + "\n":
                raise Failure(f"what was written to {name} is not in {root}")

    # The same file through two of them is no link, and has two inode numbers.
    os.link(f"{roots[0]}/dir/file", f"{roots[1]}/same")
    guest.must("cd $MNT && [ $(stat -c %i one/dir/file deep/two/same | sort -u | wc -l) = 2 ] && "
               "ls -i deep/two | grep -q \"^ *$(stat -c %i deep/two/same) same\" && rm deep/two/same")
    guest.must("cd $MNT && [ $(stat -f -c %b one) != $(stat -f -c %b mem) ]")
    guest.must("cd $MNT && . $GUEST_DIR/lib.sh && refused ln one/dir/file deep/two/link && "
               "mv one/dir/file mem/moved && grep -qx one mem/moved && ! test -e one/dir/file && "
               "mv mem/dir deep/two/from-mem && grep -qx mem deep/two/from-mem/file")
    # Its root is the configuration's.
    guest.must("cd $MNT && . $GUEST_DIR/lib.sh && refused mkdir new && refused rmdir one && "
               "refused touch file && refused mv one other")
    guest.must("cd $MNT && seq 100000 >mem/numbers && cp mem/numbers one/ && sync && "
               "cmp mem/numbers one/numbers && [ $(find . -type f | wc -l) = 5 ]")

    # Gained and lost, with a file open in what goes.
    cls.directories = {"one": roots[0], "three": roots[2], "mem": None}
    guest.must("T=${MNT%/*}; (exec 9<$MNT/deep/two/dir/file; . $GUEST_DIR/lib.sh; touch $T/open; "
               "within 60 test -e $T/gone; cat <&9 >$T/read 2>&1; touch $T/tried) "
               ">/dev/null 2>&1 & . $GUEST_DIR/lib.sh; within 10 test -e ${MNT%/*}/open")
    daemon.configure()
    guest.must(". $GUEST_DIR/lib.sh; within 30 test -d $MNT/three && "
               "echo three >$MNT/three/file && within 10 refused test -e $MNT/deep && "
               "touch ${MNT%/*}/gone")
    guest.must(". $GUEST_DIR/lib.sh; within 30 test -e ${MNT%/*}/tried")
    with open(f"{roots[2]}/file", encoding="ascii") as file:
        if file.read() != "three\n":
            raise Failure("what was written to the new directory is not there")
    guest.must("cmp $MNT/mem/numbers $MNT/one/numbers")
    guest.poweroff()
    site.stop_well(daemon)
