#!/usr/bin/env bash
# Starts a Flink cluster on this machine, with Beam's job server beside it: deploy/flink/start.sh [TASKMANAGERS], 2 by
# default. Needs Java 11 or 17, Maven and Go; downloads stay in ~/.cache/emobeam-deploy (EMOBEAM_DEPLOY_CACHE).
# Workers run the first Python on the PATH, or the one in PYTHON. It must have emobeam.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/common.sh"

for tool in java mvn go; do
    command -v "$tool" >/dev/null ||
        { echo "start.sh: $tool is not on the PATH; it needs Java 11 or 17, Maven and Go" >&2; exit 1; }
done
beam="$("$python" -c 'import importlib.metadata as m; print(m.version("apache-beam"))' 2>/dev/null)" ||
    { echo "start.sh: $python has no apache-beam: activate the environment that has emobeam, or set PYTHON" >&2; exit 1; }
if [ -n "$(running)" ]; then
    echo "start.sh: a cluster runs already; deploy/flink/stop.sh stops it" >&2
    exit 1
fi

# Folders are named by their content and renamed when complete: an interrupted download starts again.
lib="$cache/flink-$(sha256sum "$here/pom.xml" | head -c 12)"
if [ ! -d "$lib" ]; then
    echo "fetching Flink and the job server ..."
    mvn --batch-mode --quiet --file "$here/pom.xml" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$lib.part"
    mv "$lib.part" "$lib"
fi
boot="$cache/boot-$beam"
if [ ! -x "$boot" ]; then
    echo "building the boot program of Beam $beam ..."
    GOBIN="$boot.part" GOFLAGS=-buildvcs=false go install "github.com/apache/beam/sdks/v2/python/container@v$beam"
    mv "$boot.part/container" "$boot"
    rmdir "$boot.part"
fi

rm -rf "$state"
mkdir -p "$state/bin" "$state/tmp"
ln -s "$boot" "$state/bin/beam-boot"
ln -s "$here/worker.sh" "$state/bin/emobeam-worker"
# A TaskManager starts emobeam-worker by name, which starts beam-boot, which starts `python`.
export PATH="$state/bin:$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH"

cd "$state" # workers leave files where they start
export TMPDIR="$state/tmp"

launch() { # NAME CLASS HEAP ARGUMENTS...: one Java process, its log in $state/NAME.log
    local name="$1" class="$2" heap="$3"
    shift 3
    # Java only passes names and paths: a short start matters more than throughput.
    nohup java "-Xmx$heap" -XX:MaxMetaspaceSize=256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        "-Dlog4j.configurationFile=$here/log4j2.properties" "-Djava.io.tmpdir=$state/tmp" \
        -cp "$lib/*" "$class" "$@" >"$state/$name.log" 2>&1 </dev/null &
    echo "$! $name" >>"$state/pids"
}

flink=org.apache.flink.runtime
launch jobmanager "$flink.entrypoint.StandaloneSessionClusterEntrypoint" 384m --configDir "$here"
for number in $(seq "${1:-2}"); do
    launch "taskmanager-$number" "$flink.taskexecutor.TaskManagerRunner" 320m --configDir "$here"
done
launch job-server org.apache.beam.runners.flink.FlinkJobServerDriver 384m --flink-master localhost:8081 \
    --job-host localhost --job-port 8099 --artifact-port 8098 --expansion-port 0 --artifacts-dir "$state/artifacts"

for _ in $(seq 120); do
    [ "$(running | wc -l)" = "$(wc -l <"$state/pids")" ] ||
        { echo "start.sh: a process ended; see $state/*.log, then stop.sh" >&2; exit 1; }
    if curl --silent --fail http://localhost:8081/overview 2>/dev/null | grep -q "\"taskmanagers\":${1:-2}," &&
        (exec 3<>/dev/tcp/localhost/8099) 2>/dev/null; then
        echo "Flink: ${1:-2} TaskManagers with 2 slots each, http://localhost:8081, logs in $state"
        echo "emobeam score --input DIR --output DIR @$(dirname "${BASH_SOURCE[0]}")/options"
        exit 0
    fi
    sleep 1
done
echo "start.sh: the cluster did not come up within two minutes; see $state/*.log" >&2
exit 1
