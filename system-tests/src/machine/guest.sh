#!/bin/busybox sh
# The first process of a guest: starts the agent, and runs each line that it reads from the console.
/bin/busybox --install /bin
export PATH=/bin
mount -t devtmpfs devtmpfs /dev
exec </dev/hvc0 >/dev/hvc0 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do
    insmod "$module"
done
hostname web1
ip link set eth0 up
ip addr add 10.0.0.2/24 dev eth0
(
    # Nothing restarts the agent, so auto would keep the user.
    xen-guest-agent --stderr --confine=user
    echo "the agent ended with $?"
    : >/agent-ended
) &
stty -echo
while read -r line; do
    eval "$line"
    echo "status $?"
done
