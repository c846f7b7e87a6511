# Functions for servers on loopback: install with Go into a cache, start in the background, stop by pid.
# Sourced by deploy/*/start.sh and stop.sh.
set -euo pipefail

cache="${EMOBEAM_DEPLOY_CACHE:-$HOME/.cache/emobeam-deploy}"
PATH="$PATH:/usr/local/go/bin"

# go_program NAME PACKAGE VERSION: build the program unless it is in the cache, and print its path.
go_program() {
    local folder="$cache/$1-$3"
    if [ ! -x "$folder/$1" ]; then
        command -v go >/dev/null || { echo "$1 needs Go, which is not installed: https://go.dev/dl" >&2; return 1; }
        echo "building $1 $3, once; minutes" >&2
        GOBIN="$folder" nice go install "$2@$3" >&2
    fi
    echo "$folder/$1"
}

# in_background FOLDER PORT COMMAND...: start the command, and wait until it listens.
in_background() {
    local folder="$1" port="$2"
    shift 2
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "port $port is taken: stop what listens there, or name another port" >&2
        return 1
    fi
    mkdir -p "$folder"
    nohup "$@" >"$folder/log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    for _ in $(seq 200); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            return 0
        fi
        kill -0 "$(cat "$folder/pid")" 2>/dev/null || break
        sleep 0.1
    done
    echo "$1 does not listen on port $port; $folder/log says why" >&2
    return 1
}

# stopped FOLDER: stop the process that was started there, and remove its data.
stopped() {
    if [ -f "$1/pid" ]; then
        kill "$(cat "$1/pid")" 2>/dev/null || true
        rm -rf "$1"
    fi
}
