# SPDX-License-Identifier: Apache-2.0
"""Two guests, with a daemon each, on one bucket: what one has closed and synced, the
other opens."""

GUESTS = ("uml-s3",)


def play(site, kind):
    first, second = (site.guest("uml", site.daemon()).boot() for _ in range(2))
    for guest in (first, second):
        guest.mount()

    first.must("mkdir $MNT/dir && seq 100000 >$MNT/dir/a && sync")
    second.must(". $GUEST_DIR/lib.sh; within 5 test -e $MNT/dir/a && "
                "seq 100000 | cmp - $MNT/dir/a")
    # Changed by the second, seen by the first at its next open.
    second.must("echo more >>$MNT/dir/a && sync")
    first.must(". $GUEST_DIR/lib.sh; within 5 sh -c '[ $(tail -n 1 $MNT/dir/a) = more ]'")
    second.must("mv $MNT/dir/a $MNT/dir/b")
    first.must(". $GUEST_DIR/lib.sh; within 5 test -e $MNT/dir/b && "
               "within 5 refused test -e $MNT/dir/a")

    # Each its own files, at the same time; then each reads the other's.
    jobs = [(guest, guest.start(f"mkdir $MNT/{name} && cd $MNT/{name} && for i in $(seq 60); do "
                                f"seq $((i * 100)) >f$i; done; sync", 120))
            for guest, name in ((first, "one"), (second, "two"))]
    for guest, job in jobs:
        rc, output = guest.wait(job)
        assert rc == 0, output
    for guest, name in ((first, "two"), (second, "one")):
        guest.must(f". $GUEST_DIR/lib.sh; within 5 test -e $MNT/{name}/f60; for i in $(seq 60); do "
                   f"seq $((i * 100)) | cmp - $MNT/{name}/f$i || exit 1; done", 120)
    for guest in (first, second):
        guest.poweroff()
    for daemon in list(site.daemons):
        site.stop_well(daemon)
