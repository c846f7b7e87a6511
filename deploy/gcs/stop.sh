#!/usr/bin/env bash
# Stop the server of start.sh, and remove what it held.
. "$(dirname "$0")/../loopback.sh"

stopped "${TMPDIR:-/tmp}/emobeam-gcs-${EMOBEAM_GCS_PORT:-4443}"
