#!/bin/busybox sh
# Process 1 of the initial file system: finds the root image of the slot that was booted, measures
# it, and hands over to it. Whatever fails is told on the console, and the machine restarts.
export PATH=/bin
/bin/busybox --install -s /bin
NEW=/root
PATIENCE=60
WATCHDOG=120
MEASURING=300

say() { echo "edgevirt: $*"; }

fail() {
  say "cannot boot: $*; the machine restarts"
  sleep 3
  echo b >/proc/sysrq-trigger
  sleep 60
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o nosuid,nodev,mode=755,size=64m tmpfs /run
mkdir -p /run/edgevirt
exec </dev/console >/dev/console 2>&1

slot=
watchdog=$WATCHDOG
esp=
for argument in $(cat /proc/cmdline); do
  case $argument in
    edgevirt.slot=*) slot=${argument#*=} ;;
    edgevirt.watchdog=*) watchdog=${argument#*=} ;;
    edgevirt.esp=*) esp=${argument#*=} ;;
  esac
done
[ -n "$slot" ] || fail "the kernel was not told which slot (edgevirt.slot=)"

load_drivers() {
  cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u | xargs modprobe -a -q 2>/dev/null
}

# GUID of the ESP that GRUB was started from: GRUB tells it, by a variable of UEFI's or an argument
if [ -d /sys/firmware/efi ]; then
  modprobe -q efivarfs
  mount -t efivarfs -o nosuid,nodev,noexec efivarfs /sys/firmware/efi/efivars 2>/dev/null
  told=/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
  [ -f $told ] && esp=$(dd if=$told bs=1 skip=4 2>/dev/null | tr -d '\0')
fi
esp=$(echo "$esp" | tr A-F a-f | tr -cd 0-9a-f)

# GUID of the partition that $1 (a directory of /sys) is, as its disk's table has it: 32 hex digits
guid_of() {
  number=$(cat "$1/partition")
  whole=$(readlink -f "$1/..")
  block=$(cat "$whole/queue/logical_block_size")
  table=$(hexdump -s $((block + 72)) -n 4 -e '1/4 "%u"' "/dev/${whole##*/}")
  at=$((table * block + (number - 1) * 128 + 16))
  hexdump -s $at -n 16 -e '1/4 "%08x" 2/2 "%04x" 8/1 "%02x"' "/dev/${whole##*/}"
}

# a partition of that label, on the disk that GRUB was started from; on any that has an ESP as well
# when nobody told which, or ($1) it is time to take what there is
find_root() {
  for uevent in $(grep -l "^PARTNAME=$slot\$" /sys/class/block/*/uevent 2>/dev/null); do
    partition=${uevent%/uevent}
    disk=$(readlink -f "$partition/..")
    beside=$(grep -l "^PARTNAME=EFI System\$" "$disk"/*/uevent | head -n 1)
    [ -n "$beside" ] || continue
    device=/dev/${partition##*/}
    [ "$(head -c 4 "$device")" = hsqs ] || continue
    [ -z "$esp" ] || [ -n "$1" ] || [ "$(guid_of "${beside%/uevent}")" = "$esp" ] || continue
    echo "$device"
    return 0
  done
  return 1
}

# an installer may be a CD, on which the kernel looks for no partitions: a loop device shows them
show_cds() {
  [ "$slot" = INSTALLER ] || return 0
  for cd in /sys/class/block/sr*; do
    name=${cd##*/}
    [ -e "$cd" ] && ! grep -qx "/dev/$name" /sys/block/loop*/loop/backing_file 2>/dev/null || continue
    modprobe -q loop
    losetup -rP -f "/dev/$name" 2>/dev/null || continue
    at=$(grep -lx "/dev/$name" /sys/block/loop*/loop/backing_file)
    at=${at%/loop/backing_file}
    # it was not read yet, or is none of ours
    [ -n "$(ls -d "$at/${at##*/}p"* 2>/dev/null)" ] || losetup -d "/dev/${at##*/}"
  done
}

# waits for slow disks; what shows up may need drivers of its own
modprobe -a -q squashfs sd_mod efi_pstore 2>/dev/null
waited=0
while
  load_drivers
  show_cds
  ! device=$(find_root)
do
  waited=$((waited + 1))
  if [ $waited -ge $((PATIENCE * 5)) ]; then
    device=$(find_root anyone) || fail "no disk has a root image in $slot"
    say "the disk that GRUB was started from does not show up: taking $device"
    break
  fi
  sleep 0.2
done

# What hangs from here on is reset by the hardware (`edgevirt.watchdog=SECONDS`; 0: it is left alone).
# Process 1 feeds it next. All of them are armed: one may be there and not wired to a reset.
arm_watchdogs() {
  [ "$watchdog" != 0 ] && [ "$slot" != INSTALLER ] || return 0
  for known in /sys/class/watchdog/watchdog*; do
    if [ ! -e "$known/identity" ] || grep -qi "^software watchdog" "$known/identity"; then
      continue
    fi
    watchdog -F -T "$1" -t 3600 "/dev/${known##*/}" 2>/dev/null &
    tries=0
    until [ "$(cat "$known/timeout")" = "$1" ] || [ $tries -ge 20 ]; do
      tries=$((tries + 1))
      sleep 0.05
    done
    kill -9 $! 2>/dev/null
  done
}

# TPM2_PCR_Extend of register 13 with a SHA-256 digest, with an empty password
extend_13() {
  escaped=$(echo "$1" | sed 's/../\\x&/g')
  exec 3<>/dev/tpm0 || return 1
  printf "\x80\x02\x00\x00\x00\x41\x00\x00\x01\x82\x00\x00\x00\x0d\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0b$escaped" >&3
  answer=$(dd bs=4096 count=1 <&3 2>/dev/null | hexdump -v -e '1/1 "%02x"')
  exec 3>&-
  case $answer in
    ????????????00000000*) return 0 ;;
  esac
  say "the TPM answered ${answer:-nothing}"
  return 1
}

# SHA-256 of the first $2 blocks of a device, by the kernel; by busybox where that cannot be had
measure() {
  digest "$1" $(($2 * 4096)) 2>/dev/null && return
  # mebibytes, and what is left: busybox's head would copy byte by byte, for as long as the hashing
  whole=$(($2 / 256))
  set -- "$({
    dd if="$1" bs=1048576 count=$whole
    dd if="$1" bs=4096 skip=$((whole * 256)) count=$(($2 % 256))
  } 2>/dev/null | sha256sum)"
  echo "${1%% *}"
}

if [ -c /dev/tpm0 ]; then
  arm_watchdogs $MEASURING  # all of the image is read: a slow disk takes its time
  # the image's size stands in its superblock; the file is padded to whole blocks of 4 KiB
  size=$(hexdump -s 40 -n 4 -e '1/4 "%u"' "$device")
  modprobe -a -q algif_hash sha256-ssse3
  digest=$(measure "$device" $(((size + 4095) / 4096)))
  extend_13 "$digest" || fail "the TPM does not take the measurement of the root image"
  echo "13 $digest root" >>/run/edgevirt/measured
fi

arm_watchdogs "$watchdog"
mount -t squashfs -o ro "$device" $NEW || fail "the root image in $slot ($device) cannot be mounted"
[ -x $NEW/sbin/init ] || fail "the root image in $slot has no /sbin/init"
for directory in run dev sys proc; do
  mount --move /$directory $NEW/$directory
done
exec switch_root $NEW /sbin/init
