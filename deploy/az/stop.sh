#!/usr/bin/env bash
# Stop the server of start.sh, and forget what it held.
. "$(dirname "$0")/../loopback.sh"

stopped "${TMPDIR:-/tmp}/emobeam-az-${EMOBEAM_AZ_PORT:-10000}"
