# Shared by start.sh and stop.sh, which source it.
cache="${EMOBEAM_DEPLOY_CACHE:-$HOME/.cache/emobeam-deploy}"
state="$cache/flink-state" # of the running cluster: process ids, logs, temporary files
python="${PYTHON:-python}"

# Print the ids of the processes of start.sh that are still running.
running() {
    local pid
    [ -f "$state/pids" ] || return 0
    while read -r pid _; do
        # The id may have been reused by another process.
        ps -p "$pid" -o command= 2>/dev/null | grep -q "$state" && echo "$pid"
    done <"$state/pids"
    return 0
}
