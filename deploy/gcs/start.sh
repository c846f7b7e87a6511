#!/usr/bin/env bash
# Start a server for Google Cloud Storage on loopback: eval "$(deploy/gcs/start.sh)"
# fake-gcs-server stores objects in memory, and is built with Go. xml_api.py in front of it adds the XML API, which
# obstore uses. The script prints the environment variables for obstore and for the tests marked gcs. EMOBEAM_GCS_PORT
# sets another port than 4443; the port after it is used, too.
. "$(dirname "$0")/../loopback.sh"

port="${EMOBEAM_GCS_PORT:-4443}"
place="${TMPDIR:-/tmp}/emobeam-gcs-$port"

server="$(go_program fake-gcs-server github.com/fsouza/fake-gcs-server v1.56.1)"
mkdir -p "$place/buckets/calls" "$place/buckets/warehouse"
in_background "$place/server" "$((port + 1))" "$server" -scheme http -host 127.0.0.1 -port "$((port + 1))" \
    -backend memory -data "$place/buckets" -public-host "127.0.0.1:$port" -log-level warn
in_background "$place/xml_api" "$port" python3 "$(dirname "$0")/xml_api.py" "$port" "$((port + 1))"
cat >"$place/account.json" <<EOF
{"gcs_base_url": "http://127.0.0.1:$port", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}
EOF

cat <<EOF
export GOOGLE_SERVICE_ACCOUNT=$place/account.json GOOGLE_ALLOW_HTTP=true
export EMOBEAM_TEST_GCS=gs://warehouse/tests
EOF
