#!/bin/sh
# Answers with the node's name and counts visits on the volume: a byte for each.
printf . >>/data/visits
visits=$(wc -c </data/visits)
printf 'Content-Type: text/plain\r\n\r\n'
printf '%s from %s: visit %s\n' "${GREETING:-hello}" "${EDGEVIRT_NODE:-a node without a name}" "$visits"
echo "visit $visits" >/proc/1/fd/1
