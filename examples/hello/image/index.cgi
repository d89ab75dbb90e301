#!/bin/sh
# Answers with the node's name and counts visits on the volume, one at a time.
exec 9>>/data/lock
flock 9
visits=$(($(cat /data/visits 2>/dev/null || echo 0) + 1))
echo "$visits" >/data/visits.new && mv /data/visits.new /data/visits
printf 'Content-Type: text/plain\r\n\r\n'
printf 'hello from %s: visit %s\n' "${EDGEVIRT_NODE:-a node without a name}" "$visits"
echo "visit $visits" >/proc/1/fd/1
