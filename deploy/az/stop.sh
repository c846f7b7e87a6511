#!/usr/bin/env bash
# Stop the server of start.sh, and remove its data.
. "$(dirname "$0")/../loopback.sh"

stopped "${TMPDIR:-/tmp}/emobeam-az-${EMOBEAM_AZ_PORT:-10000}"
