#!/bin/busybox sh
# A device came: loads what drives it, and lets the app use it, whoever the app is. The kernel's
# words about it are in the environment; without any, all devices that are there are looked at.
#
# What was given to this machine of the node's devices is the app's: all on USB, and the PCI functions
# of the places that they are given. Disks of its own and their like stay root's.
export PATH=/bin

# $1: where it is below /sys. $2: its name below /dev.
let_use() {
  case $1 in
    */usb[0-9]*/* | */0000:00:0f.0/* | */0000:00:1[0-9a-e].0/*) chmod a+rw "/dev/$2" ;;
  esac
}

if [ -z "$ACTION" ]; then
  for place in /sys/dev/char/* /sys/dev/block/*; do
    cd -P "$place" || continue
    while IFS='=' read -r key value; do
      [ "$key" != DEVNAME ] || let_use "$PWD/" "$value"
    done <uevent
  done
  exit
fi
[ "$ACTION" = add ] || exit 0
[ -z "$MODALIAS" ] || modprobe -qb "$MODALIAS"
[ -z "$DEVNAME" ] || let_use "$DEVPATH/" "$DEVNAME"
# a network of its own is one beside those that the node gives, if there are any
case $SUBSYSTEM$INTERFACE:$DEVPATH in
  *virtio*) ;;
  neteth* | netusb*)
    set -- /sys/bus/virtio/drivers/virtio_net/virtio*
    [ ! -e "$1" ] || export aside=1
    ip link set "$INTERFACE" up
    udhcpc -i "$INTERFACE" -s /lease -b -t 1 -T 1 -A 5 -O staticroutes -O mtu &
    ;;
esac
exit 0
