#!/bin/busybox sh
# The first process of an emulated guest: runs each line that it reads from the console.
/bin/busybox --install /bin
export PATH=/bin
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
for module in /modules/*; do
    insmod "$module"
done
hostname web1
ip link set lo up
ip link add lan type dummy
ip link set lan up
ip addr add 10.0.0.2/24 dev lan

# The interface appears as a VIF of Xen, and a port of QEMU as the device of Xenstore.
mount -t tmpfs tmpfs /sys/class/net
mkdir -p /sys/class/net/lan/device /dev/xen
echo vif >/sys/class/net/lan/device/devtype
echo device/vif/0 >/sys/class/net/lan/device/nodename
use_port() {
    rm -f /dev/xen/xenbus
    mknod /dev/xen/xenbus c $(cat /sys/class/virtio-ports/vport*p"$1"/dev | tr : ' ')
}

stty -echo
echo "[exit status 0]"
while read -r line; do
    eval "$line"
    echo "[exit status $?]"
done
