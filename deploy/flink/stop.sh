#!/usr/bin/env bash
# Stops the processes of start.sh. A running job fails, and the next scoring run recovers what it scored.
set -euo pipefail
source "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"

for signal in TERM KILL; do
    for pid in $(running); do
        kill -s "$signal" "$pid" 2>/dev/null || true
    done
    for _ in $(seq 40); do
        [ -n "$(running)" ] || { rm -rf "$state"; echo "the Flink cluster is stopped"; exit 0; }
        sleep 0.25
    done
done
echo "stop.sh: these processes do not end: $(running | tr '\n' ' ')" >&2
exit 1
