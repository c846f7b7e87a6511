#!/usr/bin/env bash
# Start a server of Google Cloud Storage's kind on loopback: eval "$(deploy/gcs/start.sh)"
# fake-gcs-server keeps objects in memory, and is built by Go. It prints what obstore needs to reach it, and what the
# tests marked gcs look for. EMOBEAM_GCS_PORT names another port than 4443.
. "$(dirname "$0")/../loopback.sh"

port="${EMOBEAM_GCS_PORT:-4443}"
place="${TMPDIR:-/tmp}/emobeam-gcs-$port"

server="$(go_program fake-gcs-server github.com/fsouza/fake-gcs-server v1.56.1)"
mkdir -p "$place/buckets/calls" "$place/buckets/warehouse"
in_background "$place" "$port" "$server" -scheme http -host 127.0.0.1 -port "$port" -backend memory \
    -data "$place/buckets" -external-url "http://127.0.0.1:$port" -public-host "127.0.0.1:$port" -log-level warn
cat >"$place/account.json" <<EOF
{"gcs_base_url": "http://127.0.0.1:$port", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}
EOF

cat <<EOF
export GOOGLE_SERVICE_ACCOUNT=$place/account.json GOOGLE_ALLOW_HTTP=true
export EMOBEAM_TEST_GCS=gs://warehouse/tests
EOF
