# What start.sh and stop.sh share; to be sourced.
cache="${EMOBEAM_DEPLOY_CACHE:-$HOME/.cache/emobeam-deploy}"
state="$cache/flink-state" # of the cluster that runs: process ids, logs, temporary files
python="${PYTHON:-python}"

# The ids of the processes that start.sh started and that still run.
running() {
    local pid
    [ -f "$state/pids" ] || return 0
    while read -r pid _; do
        # An id may belong to another process by now.
        ps -p "$pid" -o command= 2>/dev/null | grep -q "$state" && echo "$pid"
    done <"$state/pids"
    return 0
}
