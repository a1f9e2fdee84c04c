#!/bin/busybox sh
# The first process of a virtual machine: mounts the root file system, and runs the script /command in it.
# An error ends this script, so that the kernel panics and the machine ends without reporting success.
set -e
busybox mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
for module in /modules/*; do
    busybox insmod "$module"
done
busybox hostname guest
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The lower layer has the files of the host. Writes stay in memory.
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 root /lower
busybox mount -t tmpfs tmpfs /upper
busybox mkdir /upper/files /upper/work
busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root
busybox mount -t proc proc /root/proc
busybox mount -t sysfs sysfs /root/sys
busybox mount -t devtmpfs devtmpfs /root/dev
busybox mkdir /root/dev/pts
busybox mount -t devpts -o ptmxmode=666 devpts /root/dev/pts
# Without /dev/fd, Xen's hotplug scripts would wait for their locks forever.
busybox ln -s /proc/self/fd /root/dev/fd
busybox ln -s fd/0 /root/dev/stdin
busybox mount -t tmpfs tmpfs /root/run
busybox cp /command /root/run/command
set +e
busybox chroot /root /bin/sh /run/command
echo "exit status $?" >/dev/ttyS1
busybox poweroff -f
