#!/bin/busybox sh
# Told by udhcpc what happened to a lease; passes it on, on its output, to who started udhcpc.
# Fields end with a NUL, a record with one more: no value can hold any.
printf '%s\0' "event=$1" "ip=$ip" "prefix=$mask" "router=$router" "dns=$dns" \
  "domain=$domain" "ntp=$ntpsrv" "routes=$staticroutes" "lease=$lease" "server=$serverid" ''
