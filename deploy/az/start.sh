#!/usr/bin/env bash
# Start a server of Azure Blob Storage's kind on loopback: eval "$(deploy/az/start.sh)"
# Azurite is Microsoft's own emulator, and comes from npm. Its account and key are the ones that all emulators have, and
# obstore knows them. It prints what obstore needs to reach it, and what the tests marked az look for.
# EMOBEAM_AZ_PORT names another port than 10000.
. "$(dirname "$0")/../loopback.sh"

port="${EMOBEAM_AZ_PORT:-10000}"
place="${TMPDIR:-/tmp}/emobeam-az-$port"
version=3.35.0

folder="$cache/azurite-$version"
server="$folder/node_modules/.bin/azurite-blob"
if [ ! -x "$server" ]; then
    command -v npm >/dev/null || { echo "azurite comes from npm, which is not here: https://nodejs.org" >&2; exit 1; }
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
