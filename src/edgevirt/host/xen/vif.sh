#!/bin/busybox sh
# Called by xl: connects a domain's network interface ($vif, the kernel's) to the app's tap, which is in
# the app's bridge and which all rules name. What comes from one goes into the other, as if the domain
# had the tap open itself. The tap's name stands where xl has a bridge's.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
TC=/sbin/tc
IP=/bin/ip

fail() {
  xenstore-write "$XENBUS_PATH/hotplug-error" "$1" "$XENBUS_PATH/hotplug-status" error
  exit 1
}

# all that $1 receives ($3: ingress) or is to send (egress) goes the same way by $2
redirect() {
  $TC qdisc del dev "$1" clsact 2>/dev/null
  said=$($TC qdisc add dev "$1" clsact 2>&1 &&
    $TC filter add dev "$1" "$3" protocol all u32 match u32 0 0 \
      action mirred "$3" redirect dev "$2" 2>&1) || fail "cannot connect $1 to $2: $said"
}

tap=$(xenstore-read "$XENBUS_PATH/bridge") || fail "no interface is named"
case $1 in
  online)
    mtu=$(cat "/sys/class/net/$tap/mtu") || fail "there is no interface $tap"
    $IP link set dev "$vif" mtu "$mtu" up || fail "cannot switch on $vif"
    redirect "$vif" "$tap" ingress
    redirect "$tap" "$vif" egress
    xenstore-write "$XENBUS_PATH/hotplug-status" connected
    ;;
  offline)
    $TC qdisc del dev "$tap" clsact 2>/dev/null
    xenstore-rm "$XENBUS_PATH/hotplug-status" 2>/dev/null
    exit 0
    ;;
esac
