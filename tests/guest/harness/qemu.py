# SPDX-License-Identifier: Apache-2.0
"""A guest in QEMU: a stock Debian kernel, a small initramfs, virtio-pci.

/dev/kvm may be there and still not run a kernel (a machine without nested
virtualisation, say), so KVM is used only after a boot with it has succeeded.
"""

import os
import selectors
import signal
import subprocess
import time

from .guest import Guest
from .report import Failure

PROBE_SECONDS = 8
MEMORY = "512M"


def choose_accelerator(tools):
    """("kvm" or "tcg", why), by OVFS_GUEST_ACCEL=kvm|tcg|auto or by a probe."""
    wanted = os.environ.get("OVFS_GUEST_ACCEL", "auto")
    if wanted in ("kvm", "tcg"):
        return wanted, "OVFS_GUEST_ACCEL says so"
    if wanted != "auto":
        raise Failure(f"OVFS_GUEST_ACCEL={wanted}: must be kvm, tcg or auto")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "there is no usable /dev/kvm"
    if tools.kvm_works is None:
        tools.kvm_works = probe_kvm(tools)
    if tools.kvm_works:
        return "kvm", "a probe boot succeeded"
    return "tcg", f"/dev/kvm is there, but a probe boot did not come up in {PROBE_SECONDS} s"


def probe_kvm(tools):
    """Whether a kernel gets as far as its first message under KVM."""
    argv = [*base_argv("kvm", tools), "-append", "console=ttyS0 panic=-1"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, start_new_session=True) as process, \
            selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + PROBE_SECONDS
        seen = b""
        try:
            while b"Linux version" not in seen:
                if not selector.select(max(0, deadline - time.monotonic())):
                    return False
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return False
                seen += data
            return True
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def base_argv(accelerator, tools):
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", f"q35,accel={accelerator},memory-backend=mem", "-cpu", "max",
            "-smp", "2", "-m", MEMORY,
            "-object", f"memory-backend-memfd,id=mem,size={MEMORY},share=on",
            "-serial", "stdio", "-kernel", tools.kernel()]


class QemuGuest(Guest):
    kind = "qemu"

    def __init__(self, run_dir, export, sockets, tools, *, accelerator="tcg",
                 queue_size=1024, queues=1, packed=False, reboot=False,
                 generic=False, wrapper=(), extra=()):
        """`queues` request queues; `packed` asks for the packed ring format;
        `reboot` lets the guest reboot, where else that would end QEMU;
        `generic` is the device of QEMU 11 that knows nothing of virtio-fs;
        `wrapper` a command that runs QEMU elsewhere; `extra` more of its options."""
        super().__init__(run_dir, export, sockets, tools)
        self.accelerator = accelerator
        self.slowness = 4 if accelerator == "tcg" else 1
        self.scale = 20 if accelerator == "tcg" else 1
        self.queue_size = queue_size
        self.queues = queues
        self.packed = packed
        self.reboot = reboot
        self.generic = generic
        self.wrapper = wrapper
        self.extra = extra

    def argv(self):
        argv = [*self.wrapper, *base_argv(self.accelerator, self.tools), *self.extra,
                "-initrd", self.tools.initramfs(), "-append",
                # On a busy host timer interrupts come so late that the kernel takes the
                # timer for broken, and stops.
                "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/guest/init.sh GUEST_KIND=qemu "
                "GUEST_RUN=/run GUEST_DIR=/guest GUEST_BIN=/guest/bin"]
        if not self.reboot:
            argv.append("-no-reboot")
        for number, (tag, socket) in enumerate(self.sockets.items()):
            argv += ["-chardev", f"socket,id=c{number},path={socket}", "-device",
                     f"{self.device(tag)},chardev=c{number}"
                     f",packed={'on' if self.packed else 'off'}"]
        return argv

    def device(self, tag):
        if self.generic:
            # Tag and number of queues come from the daemon (struct virtio_fs_config
            # is 40 bytes); 26 is VIRTIO_ID_FS, and hiprio is a queue like the others.
            return (f"vhost-user-test-device-pci,virtio-id=26,num_vqs={self.queues + 1}"
                    f",vq_size={self.queue_size},config_size=40")
        return (f"vhost-user-fs-pci,tag={tag},queue-size={self.queue_size}"
                f",num-request-queues={self.queues}")
