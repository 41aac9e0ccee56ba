#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# init.sh: the first process of a guest, both of User-mode Linux (whose root is
# the host's, read-only) and of QEMU (whose root is a small initramfs).
#
# From the kernel's command line, as environment variables:
#   GUEST_KIND    uml or qemu
#   GUEST_RUN     an empty folder to work in; a tmpfs goes there
#   GUEST_DIR     this folder: agent.sh, lib.sh, cases/
#   GUEST_BIN     the compiled helpers
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ "$GUEST_KIND" != qemu ] || /bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
# From here on only an oops may write between the agent's lines.
echo 1 >/proc/sys/kernel/printk
stty -echo -onlcr 2>/dev/null

# shellcheck disable=SC2153 # from the command line
mount -t tmpfs -o size=50% tmpfs "$GUEST_RUN"
mkdir "$GUEST_RUN/mnt" "$GUEST_RUN/tmp" "$GUEST_RUN/home"
export TMPDIR="$GUEST_RUN/tmp" HOME="$GUEST_RUN/home" MNT="$GUEST_RUN/mnt"
export GUEST_KIND GUEST_DIR GUEST_BIN
export PATH="$GUEST_BIN:$PATH"
cd /

if [ "$GUEST_KIND" = uml ]; then
	modules=/usr/lib/uml/modules/$(uname -r)/kernel/fs/fuse
	# Compiled in, in some builds.
	busybox insmod "$modules/fuse.ko" 2>/dev/null
	busybox insmod "$modules/virtiofs.ko" 2>/dev/null
else
	# Named so that they sort in the order in which they depend on each other.
	for module in /modules/*.ko; do
		insmod "$module"
	done
fi

sh "$GUEST_DIR/agent.sh"

# The harness hung up.
echo o >/proc/sysrq-trigger
sleep 60
