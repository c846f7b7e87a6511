#!/usr/bin/env bash
# Start an S3 server on loopback: eval "$(deploy/s3/start.sh)"
# versitygw stores objects as files, supports If-Match and If-None-Match on GET and PUT, and is built with Go.
# The script prints the environment variables for obstore and for the tests marked s3. EMOBEAM_S3_PORT sets another port
# than 7070.
. "$(dirname "$0")/../loopback.sh"

port="${EMOBEAM_S3_PORT:-7070}"
place="${TMPDIR:-/tmp}/emobeam-s3-$port"
key=loopback-key
secret=loopback-secret-that-nobody-should-read

server="$(go_program versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0)"
mkdir -p "$place/buckets/calls" "$place/buckets/warehouse"
ROOT_ACCESS_KEY="$key" ROOT_SECRET_KEY="$secret" in_background "$place" "$port" \
    "$server" --port "127.0.0.1:$port" --keep-alive --quiet posix "$place/buckets"

cat <<EOF
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret
export EMOBEAM_TEST_S3=s3://warehouse/tests
EOF
