#!/usr/bin/env bash
# Stop the servers of start.sh, and remove their data.
. "$(dirname "$0")/../loopback.sh"

place="${TMPDIR:-/tmp}/emobeam-gcs-${EMOBEAM_GCS_PORT:-4443}"
stopped "$place/xml_api"
stopped "$place/server"
rm -rf "$place"
