#!/usr/bin/env bash
# Stop the server of start.sh, and remove its data.
. "$(dirname "$0")/../loopback.sh"

stopped "${TMPDIR:-/tmp}/emobeam-s3-${EMOBEAM_S3_PORT:-7070}"
