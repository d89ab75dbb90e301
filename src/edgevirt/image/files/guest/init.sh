#!/bin/busybox sh
# Process 1 of the machine that a container runs in: puts its file system together, brings its
# network up, runs it, tells how it ended, and powers the machine off.
#
# Disks are known by their serials. `given` is a tar that the node made: `app` (see enter.c), and
# `plan`, lines of fields between tabs. `end` is a small disk that takes the last words:
# `exit CODE KILLED`, and a line of what could not be done. What is not told there did not end well.
# `drivers` is there where the machine is given devices of the node, which may come later, too.
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
exec </dev/null >/dev/null 2>&1
mount -t sysfs sysfs /sys
echo -1000 >/proc/self/oom_score_adj # if memory is short, that is the app's to bear
# a working set that no longer fits ends the app, instead of being read again and again for minutes
echo y >/sys/kernel/mm/lru_gen/enabled
echo 1000 >/sys/kernel/mm/lru_gen/min_ttl_ms
# with this, short memory makes the kernel reclaim more than it lacks; the app just ended, nothing is old
# enough to go, it looks for somebody else to end, and panics, as there is nobody
echo 0 >/proc/sys/vm/watermark_boost_factor
# the app's own words alone come to its console
for module in $(cat /modules); do insmod "/lib/$module"; done
# the console comes a moment after its driver, and its host may be busy
tries=0
until stty -F /dev/hvc0 -opost -echo || [ $tries -ge 300 ]; do
  tries=$((tries + 1))
  sleep 0.1
done
mkdir -p /disk /run /given

for disk in /sys/block/vd*; do
  serial=
  read -r serial <"$disk/serial"
  ln -s "/dev/${disk##*/}" "/disk/$serial"
done

off() {
  kill -9 -1
  sync
  umount -a -r
  poweroff -f
}

# $1: exit code. The rest: what could not be done; else what `enter` said.
end() {
  code=$1
  shift
  said=$*
  [ -n "$said" ] || read -r said </run/said
  [ -z "$said" ] || echo "$said" >/dev/hvc0
  killed=0
  while read -r name value; do
    [ "$name" != oom_kill ] || killed=$value
  done </proc/vmstat
  printf 'exit %d %d\n%s\n' "$code" "$killed" "$said" >/run/end
  dd if=/run/end of=/disk/end conv=notrunc,fsync
  off
}

# Loads what drives the devices that are there, and what these bring.
drive() {
  while aliases=$(cat /sys/bus/*/devices/*/modalias) && [ "$aliases" != "$driven" ]; do
    driven=$aliases
    modprobe -qab $aliases
  done
}

# Whether $1 USB devices are there, each disk among them with its file.
plugged() {
  left=$1
  for device in /sys/bus/usb/devices/[0-9]*-*; do
    case $device in *:* | *'*') ;; *) left=$((left - 1)) ;; esac
  done
  for storage in /sys/bus/usb/drivers/usb-storage/*:* /sys/bus/usb/drivers/uas/*:*; do
    set -- "$storage"/host*/target*/*:*/block/*
    [ ! -e "$storage" ] || [ -e "$1" ] || return 1
  done
  [ $left -le 0 ]
}

driven=
if [ -e /disk/drivers ]; then
  mkdir -p /lib/modules
  mount -t squashfs -o ro /disk/drivers /lib/modules
  echo /bin/modprobe >/proc/sys/kernel/modprobe # what the app mounts or opens may need one, too
  while :; do uevent /plugged; done &
  drive
fi

tar -xf /disk/given -C /given || end 126 "cannot read what the node gave"

# Sets `place` to where the app will find $1: links lead where they do in its own file system.
inside() {
  todo=$1
  place=/root
  links=0
  while [ -n "$todo" ]; do
    part=${todo%%/*}
    todo=${todo#"$part"}
    todo=${todo#/}
    case $part in
      '' | .) ;;
      ..) [ "$place" = /root ] || place=${place%/*} ;;
      *)
        if [ -L "$place/$part" ] && [ $links -lt 40 ]; then
          links=$((links + 1))
          link=$(readlink "$place/$part")
          todo=$link/$todo
          case $link in /*) place=/root ;; esac
        else
          place=$place/$part
        fi
        ;;
    esac
  done
}

# Mounts the layers that disk $1 has ($3: their names, lowest first) below what disk $2 keeps; `-`:
# nobody writes. (Then the kernel asks for two layers at least.)
layer() {
  base=/layers/$1
  mkdir -p "$base/image" "$base/kept"
  mount -t squashfs -o ro "/disk/$1" "$base/image" || end 126 "cannot mount the image"
  [ "$2" = - ] || mount -t ext4 -o errors=remount-ro "/disk/$2" "$base/kept" ||
    end 126 "cannot mount what is kept"
  [ "$2" = - ] || filled="$filled /disk/$2 $base/kept"
  mkdir -p "$base/kept/upper" "$base/kept/work"
  number=0
  lower=
  for name in $3; do
    ln -s "image/$name" "$base/$number"
    lower=$number${lower:+:$lower}
    number=$((number + 1))
  done
  cd "$base" || end 126 "cannot enter $base"
  mkdir -p "$4"
  layers="lowerdir=$lower,upperdir=kept/upper,workdir=kept/work"
  [ "$2" != - ] || layers=lowerdir=$lower:kept/upper
  mount -t overlay -o "$layers,userxattr" overlay "$4" ||
    end 126 "cannot put the layers together"
  cd /
}

system() {
  mkdir -p /root/proc /root/sys /root/dev /root/tmp /root/etc
  mount -t proc -o nosuid,noexec,nodev proc /root/proc
  mount -t sysfs -o nosuid,noexec,nodev sysfs /root/sys
  mount -t devtmpfs -o nosuid devtmpfs /root/dev
  for port in /sys/class/tty/ttyS*; do # `device` says how they are called
    cd -P "$port/device" && case $PWD in /sys/devices/pci*) ;; *) rm "/dev/${port##*/}" ;; esac
  done
  cd /
  mkdir -p /root/dev/pts /root/dev/shm /root/dev/mqueue
  mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /root/dev/pts
  mount -t tmpfs -o nosuid,noexec,nodev,mode=1777 shm /root/dev/shm
  mount -t mqueue -o nosuid,noexec,nodev mqueue /root/dev/mqueue
  ln -s /proc/self/fd /root/dev/fd
  for pair in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${pair%:*}" "/root/dev/${pair#*:}"
  done
}

# $1: a file of /etc that is the node's to say.
tell() {
  inside "/etc/$1"
  mkdir -p "${place%/*}"
  [ -e "$place" ] || : >"$place"
  mount --bind "/given/$1" "$place"
}

filled=
readonly_root=
stay=
tab=$(printf '\t')
while IFS=$tab read -r what one two three four; do
  case $what in
    hostname) hostname "$one" ;;
    stay) stay=1 ;;
    root)
      layer "$one" "$two" "$four" /root
      system
      [ "$three" != ro ] || readonly_root=1
      ;;
    file)
      inside "${three%/*}"
      name=$place/${three##*/}
      mkdir -p "$place"
      rm -f "$name"
      cat "/given/$one" >"$name" && chmod "$two" "$name" || end 126 "cannot write $three"
      ;;
    layers)
      inside "${three#* }"
      layer "$one" "$two" "$four" "$place"
      [ "${three%% *}" != ro ] || mount -o remount,ro "$place"
      ;;
    volume)
      inside "$three"
      mkdir -p "$place"
      access=rw,errors=remount-ro
      [ "$two" != ro ] || access=ro,noload
      mount -t ext4 -o "nosuid,nodev,$access" "/disk/$one" "$place" ||
        end 126 "cannot mount a volume at $three"
      # a place may have blanks in its name
      ln -s "$place" "/run/$one"
      [ "$two" = ro ] || filled="$filled /disk/$one /run/$one"
      ;;
    # what was plugged in all along takes a moment to be found; what comes later, comes
    usb)
      tries=0
      while drive && ! plugged "$one" && [ $tries -lt 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
      done
      ;;
    # whoever the app is in here: nobody else is
    device)
      mkdir -p "/root${one%/*}"
      mknod -m 666 "/root$one" c "$two" "$three" || end 126 "cannot give $one to the app"
      ;;
  esac
done </given/plan
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
# what the node made bigger, now or while the app runs
/fill $filled &
tell resolv.conf
tell hosts
[ -z "$readonly_root" ] || mount -o remount,ro /root

# an address that does not come in time may come later: the app is not kept from starting
for link in /sys/bus/virtio/drivers/virtio_net/virtio*/net/*; do
  [ -e "$link" ] || continue
  ip link set "${link##*/}" up
  udhcpc -i "${link##*/}" -s /lease -b -t 4 -T 2 -A 5 -O staticroutes -O mtu
done

[ ! -e /disk/drivers ] || /plugged
[ ! -e /dev/tpm0 ] || chmod a+rw /dev/tpm0 /dev/tpmrm0
: >/run/said
(
  echo 0 >/proc/self/oom_score_adj
  exec /enter /root /given/app
) </dev/null >/dev/hvc0 2>&1 3>/run/said &
app=$!

# Waits for the power button: it is how the node asks for an end.
asked() {
  while :; do
    for button in /sys/class/input/event*; do
      read -r name <"$button/device/name"
      [ "$name" = "Power Button" ] || continue
      dd if="/dev/input/${button##*/}" of=/dev/null bs=24 count=1 && return
    done
    sleep 1
  done
}

(
  asked
  : >/run/asked
  kill -TERM $app
) &
wait $app
code=$?
[ -z "$stay" ] || [ -e /run/asked ] || asked
end $code
