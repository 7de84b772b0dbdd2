#!/bin/busybox sh
# PID 1 of the initrd: load the modules the root filesystem needs, mount it, hand over.
# Only builtins where possible: under software emulation every process costs tens of milliseconds.
busybox=/bin/busybox

fail() {
    echo "initrd: $1" >/dev/console
    $busybox poweroff -f
}

$busybox mount -t devtmpfs devtmpfs /dev || $busybox poweroff -f
$busybox mount -t proc proc /proc || fail "cannot mount /proc"

root=/dev/vda
read -r cmdline </proc/cmdline
for argument in $cmdline; do
    case $argument in
    root=/dev/*) root=${argument#root=} ;;
    esac
done

# One insmod per line of the list, in dependency order.
while read -r module; do
    $busybox insmod "/modules/$module" || fail "cannot load $module"
done </modules/order

# The driver finds its disk while its module loads; the loop is for a slow host.
tries=0
while [ ! -b "$root" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 1000 ] || fail "$root did not appear"
    $busybox usleep 10000
done

$busybox mount -t ext4 -o noatime,noinit_itable "$root" /root || fail "cannot mount $root"
$busybox umount /proc
$busybox mount -o move /dev /root/dev
exec $busybox switch_root /root /sbin/init
