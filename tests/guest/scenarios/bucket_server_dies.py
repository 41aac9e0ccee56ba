# SPDX-License-Identifier: Apache-2.0
"""The S3 server is killed under a guest that writes, and comes back: what the guest was
told is stored, is stored; the guest never notices but for the time."""

import time

GUESTS = ("uml-s3",)


def play(site, kind):
    guest = site.guest("uml", site.daemon()).boot()
    guest.mount()
    guest.must("seq 1000 >$MNT/before && sync")
    job = guest.start("cd $MNT && for i in $(seq 40); do seq $((i * 1000)) >f$i || exit 1; "
                      "[ $((i % 10)) != 0 ] || sync f$i || exit 1; sleep 0.1; done", 120)
    time.sleep(1)
    site.bucket.minio.kill()
    time.sleep(4)
    site.bucket.minio.start()
    rc, output = guest.wait(job)
    assert rc == 0, output
    guest.must("sync", 60)
    guest.poweroff()
    for daemon in list(site.daemons):
        site.stop_well(daemon)

    # Another guest, another daemon: only the bucket is left.
    guest = site.guest("uml", site.daemon()).boot()
    guest.mount()
    guest.must("cd $MNT && seq 1000 | cmp - before && for i in $(seq 40); do "
               "seq $((i * 1000)) | cmp - f$i || exit 1; done", 60)
    guest.poweroff()
