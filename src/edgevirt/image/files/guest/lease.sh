#!/bin/busybox sh
# udhcpc tells of a lease: the interface gets what it says. `aside`: it is not the app's way out, and
# the app may have given it an address.
export PATH=/bin
[ -z "$aside" ] || unset router staticroutes dns
[ -z "$aside" ] || [ "$1" != deconfig ] || exit 0
case $1 in
  deconfig) ip address flush dev "$interface" ;;
  bound | renew)
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    ip address replace "$ip/${mask:-24}" dev "$interface"
    if [ -n "$staticroutes" ]; then
      set -- $staticroutes
      while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then
          ip route replace "$1" dev "$interface"
        else
          ip route replace "$1" via "$2" dev "$interface"
        fi
        shift 2
      done
    else
      for router in $router; do ip route replace default via "$router" dev "$interface"; done
    fi
    if [ -n "$dns" ] && [ -e /given/ask-names ]; then
      for server in $dns; do echo "nameserver $server"; done >/given/resolv.conf
    fi
    ;;
esac
