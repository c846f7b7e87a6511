#!/usr/bin/env bash
# Start a server for Azure Blob Storage on loopback: eval "$(deploy/az/start.sh)"
# Azurite is Microsoft's emulator, from npm. All emulators have the same account and key, which obstore uses by default.
# The script prints the environment variables for obstore and for the tests marked az.
# EMOBEAM_AZ_PORT sets another port than 10000.
. "$(dirname "$0")/../loopback.sh"

port="${EMOBEAM_AZ_PORT:-10000}"
place="${TMPDIR:-/tmp}/emobeam-az-$port"
version=3.35.0

folder="$cache/azurite-$version"
server="$folder/node_modules/.bin/azurite-blob"
if [ ! -x "$server" ]; then
    command -v npm >/dev/null || { echo "azurite needs npm, which is not installed: https://nodejs.org" >&2; exit 1; }
    echo "installing azurite $version, once" >&2
    nice npm install --silent --no-audit --no-fund --prefix "$folder" "azurite@$version" >&2
fi
in_background "$place" "$port" "$server" --blobHost 127.0.0.1 --blobPort "$port" --inMemoryPersistence --silent \
    --disableTelemetry --skipApiVersionCheck
python3 "$(dirname "$0")/containers.py" "$port" calls warehouse

cat <<EOF
export AZURE_STORAGE_USE_EMULATOR=true AZURITE_BLOB_STORAGE_URL=http://127.0.0.1:$port AZURE_ALLOW_HTTP=true
export AZURE_STORAGE_ACCOUNT_NAME=devstoreaccount1
export EMOBEAM_TEST_AZ=az://warehouse/tests
EOF
