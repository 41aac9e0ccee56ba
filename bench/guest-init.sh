#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First process of a benchmark guest (see ovfsbench/guest.py): loads virtio-fs,
# then runs the command lines that come from the console, one at a time.
# Output of a command goes where the command says; the console carries only
# the marks that the host waits for.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
modules=/usr/lib/uml/modules/$(uname -r)/kernel/fs/fuse
command -v insmod >/dev/null || insmod() { busybox insmod "$@"; }
insmod "$modules/fuse.ko" && insmod "$modules/virtiofs.ko"
# Neither an echo of what is typed nor a translation of it.
stty -echo -icanon min 1 time 0
echo "@@READY $?"
while read -r line; do
	eval "$line"
	echo "@@DONE $?"
done
echo o >/proc/sysrq-trigger
sleep 10
