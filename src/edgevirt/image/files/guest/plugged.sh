#!/bin/busybox sh
# A device came: loads what drives it, and lets the app use it, whoever the app is. The kernel's
# words about it are in the environment; without any, all devices that are there are looked at.
#
# By the name that the node knows the device by, links lead to all that it brings, in
# /dev/edgevirt/NAME. `names` says which is where.
#
# What was given to this machine of the node's devices is the app's: all on USB, and the PCI functions
# of the places that they are given. Disks of its own and their like stay root's.
export PATH=/bin

tab=$(printf '\t')

# $1: where it is below /sys. $2: its name below /dev.
let_use() {
  case $1 in
    */0000:00:0f.0/* | */0000:00:1[0-9a-e].0/*)
      place=${1#*/0000:00:}
      place=pci-${place%%.*}
      ;;
    */usb[0-9]*/*)
      place=${1#*/usb[0-9]*/}
      place=${place%%/*}
      place=usb-${place#*-}
      ;;
    *) return ;;
  esac
  chmod a+rw "/dev/$2"
  link=${2##*/}
  case $2 in
    bus/usb/*) link=usb ;;
    bsg/*) return ;; # another way to a disk
  esac
  while IFS=$tab read -r where name; do
    if [ "$where" = "$place" ]; then
      mkdir -p "/dev/edgevirt/$name"
      ln -sf "/dev/$2" "/dev/edgevirt/$name/$link"
    fi
  done </given/names
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
if [ "$ACTION" = remove ] && [ -n "$DEVNAME" ]; then
  for link in /dev/edgevirt/*/*; do
    [ ! -L "$link" ] || [ -e "$link" ] || rm "$link"
  done
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
