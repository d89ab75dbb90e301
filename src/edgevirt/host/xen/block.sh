#!/bin/busybox sh
# Called by xl: gives a domain's disk its block device (add), and takes it away (remove). The file
# stands in the backend's entry in xenstored; the kernel waits for the device's number there.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
LOSETUP=/sbin/losetup

fail() {
  xenstore-write "$XENBUS_PATH/hotplug-error" "$1" "$XENBUS_PATH/hotplug-status" error
  exit 1
}

case $1 in
  add)
    file=$(xenstore-read "$XENBUS_PATH/params") || fail "no file is named"
    writable=$(xenstore-read "$XENBUS_PATH/mode")
    if [ -b "$file" ]; then
      device=$file
    else
      [ "$writable" = w ] || read_only=--read-only
      device=$($LOSETUP --find --show $read_only "$file" 2>&1) || fail "$device"
      xenstore-write "$XENBUS_PATH/loop" "$device"
    fi
    number=$(stat -L -c "%t:%T" "$device") || fail "$device is no device"
    xenstore-write "$XENBUS_PATH/physical-device" "$number" \
      "$XENBUS_PATH/physical-device-path" "$device" "$XENBUS_PATH/hotplug-status" connected
    ;;
  remove)
    device=$(xenstore-read "$XENBUS_PATH/loop" 2>/dev/null) && $LOSETUP --detach "$device"
    xenstore-rm "$XENBUS_PATH/hotplug-status" 2>/dev/null
    exit 0
    ;;
esac
