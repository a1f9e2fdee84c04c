#!/bin/busybox sh
# What the kernel calls when the toolstack wants the guest to end, as /sbin/poweroff or /sbin/reboot.
exec >/dev/hvc0 2>&1
busybox kill -TERM $(busybox pidof xen-guest-agent)
until [ -e /agent-ended ]; do
    busybox sleep 0.1
done
exec busybox "${0##*/}" -f
