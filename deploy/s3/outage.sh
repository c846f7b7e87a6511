#!/usr/bin/env bash
# Stop the process of start.sh's server, and continue it with its data: outage.sh down|up
# While it is stopped, the system accepts connections and no requests are answered.
. "$(dirname "$0")/../loopback.sh"

pid="$(cat "${TMPDIR:-/tmp}/emobeam-s3-${EMOBEAM_S3_PORT:-7070}/pid")"
case "${1:-}" in
    down) kill -STOP "$pid" ;;
    up) kill -CONT "$pid" ;;
    *) echo "usage: outage.sh down|up" >&2; exit 2 ;;
esac
