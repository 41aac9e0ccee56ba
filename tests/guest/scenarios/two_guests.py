# SPDX-License-Identifier: Apache-2.0
"""Two guests, with a daemon each, on one directory: they see each other's files
and keep out of each other's locks."""

from harness.report import Failure

GUESTS = ("uml",)


def play(site, kind):
    first, second = (site.guest(kind, site.daemon()).boot() for _ in range(2))
    for guest in (first, second):
        guest.mount()
        guest.must("cd $MNT && . $GUEST_DIR/lib.sh")

    first.must("mkdir $MNT/dir && echo from-first >$MNT/dir/a")
    second.must(". $GUEST_DIR/lib.sh; within 5 grep -q from-first $MNT/dir/a")
    second.must("echo from-second >>$MNT/dir/a && mv $MNT/dir/a $MNT/dir/b")
    first.must(". $GUEST_DIR/lib.sh; within 5 test -e $MNT/dir/b && "
               "within 5 grep -q from-second $MNT/dir/b && within 5 refused test -e $MNT/dir/a")

    # Neither overwrites the other's lines.
    jobs = [(guest, guest.start(f"fsop append $MNT/log 400 {name}"))
            for guest, name in ((first, "one"), (second, "two"))]
    for guest, job in jobs:
        rc, output = guest.wait(job)
        if rc != 0:
            raise Failure("append failed", output)
    second.must("[ $(sort -u $MNT/log | wc -l) = 800 ]")

    for verb, taken, wait in (
            ("lock", "write 0 5 now 0", "write 0 5 wait 0"),
            ("flock", "exclusive now 0", "exclusive wait 0")):
        hold = taken.replace(" now 0", f" now 3 $MNT/{verb}-held")
        job = first.start(f"fsop {verb} $MNT/locked {hold}")
        second.must(f". $GUEST_DIR/lib.sh; within 5 test -e $MNT/{verb}-held; "
                    f"fails_with EAGAIN fsop {verb} $MNT/locked {taken}")
        # Given to who waits, when the first lets go; not before.
        second.must(f"fsop {verb} $MNT/locked {wait}")
        rc, output = first.wait(job)
        if rc != 0:
            raise Failure(f"{verb} failed in the first guest", output)
        second.must(f"fsop {verb} $MNT/locked {taken}")

    # A lock of a guest that dies does not outlive it.
    second.must("(fsop lock $MNT/locked write 0 0 now 600 $MNT/second-held &) >/dev/null 2>&1; "
                ". $GUEST_DIR/lib.sh; within 5 test -e $MNT/second-held")
    first.must(". $GUEST_DIR/lib.sh; fails_with EAGAIN fsop lock $MNT/locked write 0 0 now 0")
    second.kill()
    first.must(". $GUEST_DIR/lib.sh; within 5 fsop lock $MNT/locked write 0 0 now 0")
    first.poweroff()
