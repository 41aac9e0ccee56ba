# SPDX-License-Identifier: Apache-2.0
"""Both ring formats are really negotiated when asked for, and so is what makes
them fast; with several queues and the sizes in use."""

from harness.report import Failure

GUESTS = ("qemu",)

VIRTIO_F_INDIRECT_DESC = 28
VIRTIO_F_EVENT_IDX = 29
VIRTIO_F_VERSION_1 = 32
VIRTIO_F_RING_PACKED = 34

SETUPS = (
    {"packed": True, "queues": 4, "queue_size": 1024},
    {"packed": False, "queues": 2, "queue_size": 1024},
)


def play(site, kind):
    for setup in SETUPS:
        daemon = site.daemon(queues=setup["queues"])
        guest = site.guest(kind, daemon, **setup).boot()
        guest.mount()
        # A string of 0 and 1, feature bit 0 first.
        bits = guest.must("cat /sys/bus/virtio/devices/virtio0/features")
        for bit in (VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1):
            if bits[bit] != "1":
                raise Failure(f"feature {bit} was not negotiated with {setup}: {bits}")
        if (bits[VIRTIO_F_RING_PACKED] == "1") != setup["packed"]:
            raise Failure(f"packed ring: {bits[VIRTIO_F_RING_PACKED]} with {setup}")
        guest.must("fsx $MNT/fsx 1 300 && fscheck pattern write $MNT/p 8 && "
                   "echo 3 >/proc/sys/vm/drop_caches && fscheck pattern check $MNT/p 8", 60)
        guest.poweroff()
