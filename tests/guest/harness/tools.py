# SPDX-License-Identifier: Apache-2.0
"""The parts of a guest: compiled helpers, kernels, the initramfs."""

import glob
import lzma
import os
import re
import shutil
import subprocess
import threading

from .report import Failure

# What a QEMU guest needs beyond what is compiled in.
MODULES = ("virtio_pci", "virtiofs")


class Tools:
    """Finds and makes things; `work_dir` is where it may write."""

    def __init__(self, guest_dir, work_dir):
        self.guest_dir = guest_dir
        self.repository = os.path.dirname(os.path.dirname(guest_dir))
        self.work_dir = work_dir
        # Not known before a probe boot; see qemu.py.
        self.kvm_works = None
        self.bin_dir = f"{work_dir}/bin"
        self.uml = os.environ.get("OVFS_UML") or shutil.which("linux.uml") or "linux.uml"
        cache = os.environ.get("OVFS_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ovfs")
        self.kernel_dir = f"{cache}/guest-kernel"
        # Guests boot side by side.
        self.lock = threading.Lock()

    def build_helpers(self):
        """Compile the helpers; static, since a guest may have no libc."""
        os.makedirs(self.bin_dir, exist_ok=True)
        compiler = os.environ.get("CC", "cc").split()
        for source in sorted(glob.glob(f"{self.guest_dir}/*.c")):
            target = f"{self.bin_dir}/{os.path.basename(source)[:-2]}"
            if os.path.exists(target) and os.path.getmtime(target) > os.path.getmtime(source):
                continue
            result = subprocess.run(
                [*compiler, "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-static", "-pthread",
                 "-o", target, source],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if result.returncode != 0:
                raise Failure(f"cannot compile {source}", result.stdout)

    def need_uml(self):
        if not shutil.which(self.uml):
            raise Failure("User-mode Linux is not installed: scripts/install-deps.sh test")

    def need_qemu(self):
        if not shutil.which("qemu-system-x86_64"):
            raise Failure("QEMU is not installed: scripts/install-deps.sh qemu")
        if not os.path.exists(f"{self.kernel_dir}/release"):
            raise Failure(f"no kernel in {self.kernel_dir}: scripts/install-deps.sh qemu")

    def kernel(self):
        return f"{self.kernel_dir}/vmlinuz"

    def module_paths(self):
        """The files of MODULES, each after those that it depends on."""
        files = {}
        for path in glob.glob(f"{self.kernel_dir}/modules/kernel/**/*.ko*", recursive=True):
            name = os.path.basename(path).split(".ko")[0].replace("-", "_")
            files[name] = path
        ordered = []

        def add(name):
            # No file: it is compiled in.
            if name not in files or files[name] in ordered:
                return
            match = re.search(rb"\0depends=([^\0]*)\0", b"\0" + read_module(files[name]))
            for needed in match.group(1).decode().split(",") if match else ():
                add(needed.replace("-", "_"))
            ordered.append(files[name])

        for name in MODULES:
            add(name)
        return ordered

    def initramfs(self):
        """The QEMU guest's root: busybox, modules, helpers, cases."""
        with self.lock:
            return self.make_initramfs()

    def make_initramfs(self):
        image = f"{self.work_dir}/initramfs.cpio"
        if os.path.exists(image):
            return image
        root = f"{self.work_dir}/initramfs"
        for folder in ("bin", "proc", "sys", "dev", "run", "tmp", "modules", "guest"):
            os.makedirs(f"{root}/{folder}", exist_ok=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", f"{root}/bin/busybox")
        os.symlink("busybox", f"{root}/bin/sh")
        for number, path in enumerate(self.module_paths()):
            name = os.path.basename(path).split(".ko")[0]
            with open(f"{root}/modules/{number:02}-{name}.ko", "wb") as out:
                out.write(read_module(path))
        for path in glob.glob(f"{self.guest_dir}/*.sh"):
            shutil.copy(path, f"{root}/guest/")
        shutil.copytree(f"{self.guest_dir}/cases", f"{root}/guest/cases")
        shutil.copytree(self.bin_dir, f"{root}/guest/bin")
        names = "".join(sorted(
            os.path.relpath(os.path.join(folder, name), root) + "\n"
            for folder, folders, files in os.walk(root) for name in folders + files))
        with open(image, "wb") as out:
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root,
                           input=names.encode(), stdout=out, check=True)
        return image


def read_module(path):
    if path.endswith(".xz"):
        with lzma.open(path) as module:
            return module.read()
    with open(path, "rb") as module:
        return module.read()
