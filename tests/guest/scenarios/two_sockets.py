# SPDX-License-Identifier: Apache-2.0
"""Two guests on two sockets of one mount: one tree, and one cache. What one writes the
other one reads, and when one dies the other one goes on."""

from harness.daemon import Ovfs, in_chroot, toml
from harness.report import Failure

GUESTS = ("uml",)


class OvfsOfTwoSockets(Ovfs):
    storage = {}

    def argv(self):
        path = self.socket + ".toml"
        with open(path, "w", encoding="utf-8") as conf:
            conf.write(f"[socket_settings]\n"
                       f"socket_path = [{toml(self.socket + '2')}, {toml(self.socket)}]\n"
                       f"tag = {toml(self.tag)}\n[storage_settings]\n" +
                       "".join(f"{key} = {toml(value)}\n" for key, value in self.storage.items()))
            if self.storage["type"] != "fs":
                conf.write("[cache_settings]\nenabled_cache_write_back = true\n")
            if in_chroot():
                conf.write("[sandbox_settings]\nmode = \"chroot\"\n")
        return [*self.command, f"--config-file={path}"]


def play(site, kind):
    if site.daemon_class.kind != "ovfs":
        raise Failure("is about ovfs")
    for storage in ({"type": "fs", "root": site.export}, {"type": "memory"}):
        daemon = site.daemon(cls=type("TwoSockets", (OvfsOfTwoSockets,), {"storage": storage}))
        first = site.guest(kind, sockets={daemon.tag: daemon.socket}).boot()
        second = site.guest(kind, sockets={daemon.tag: daemon.socket + "2"}).boot()
        for guest in (first, second):
            guest.mount()
        # Not committed yet, with write-back, and to be seen all the same.
        first.must("mkdir $MNT/dir && seq 5000 >$MNT/dir/a")
        second.must(". $GUEST_DIR/lib.sh; within 5 test -e $MNT/dir/a && seq 5000 | cmp - $MNT/dir/a")
        second.must("echo more >>$MNT/dir/a && mv $MNT/dir/a $MNT/dir/b")
        first.must(". $GUEST_DIR/lib.sh; within 5 test -e $MNT/dir/b && "
                   "within 5 grep -qx more $MNT/dir/b && within 5 refused test -e $MNT/dir/a")
        job = first.start("cd $MNT && for i in $(seq 100); do echo $i >f$i && cat f$i >/dev/null "
                          "|| exit 1; done", 60)
        second.kill()
        rc, output = first.wait(job)
        if rc != 0:
            raise Failure("one guest noticed that the other one died", output)
        first.must("[ $(cat $MNT/f* | wc -l) = 100 ]")
        first.poweroff()
        site.stop_well(daemon)
