# Turns a booted system into a domain 0 in which xl works.
set -e
export PATH=/usr/lib/xen-4.17/bin:$PATH
mount -t xenfs xenfs /proc/xen
mkdir -p /run/lock /run/xen /run/xenstored /var/lib/xen /var/log/xen/console
ip link add xenbr0 type bridge
ip link set xenbr0 up
$XENSTORED
xen-init-dom0
xenconsoled --log=guest
