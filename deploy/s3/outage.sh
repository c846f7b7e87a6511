#!/usr/bin/env bash
# Take the server of start.sh away, and bring it back with all that it held: outage.sh down|up
# It is halted: connections are taken by the system, and nobody answers.
. "$(dirname "$0")/../loopback.sh"

pid="$(cat "${TMPDIR:-/tmp}/emobeam-s3-${EMOBEAM_S3_PORT:-7070}/pid")"
case "${1:-}" in
    down) kill -STOP "$pid" ;;
    up) kill -CONT "$pid" ;;
    *) echo "usage: outage.sh down|up" >&2; exit 2 ;;
esac
