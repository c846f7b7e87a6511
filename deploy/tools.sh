#!/usr/bin/env bash
# Installs what the tests of deploy/ check with, into ~/.cache/emobeam-deploy (or EMOBEAM_DEPLOY): a real Airflow in an
# environment of its own, and Prometheus's promtool from Debian's package. Neither is needed to score.
#
# usage: deploy/tools.sh [airflow] [promtool]     (both, if none is named; what is there already is left as it is)
set -euo pipefail
cd "$(dirname "$0")"
cache="${EMOBEAM_DEPLOY:-$HOME/.cache/emobeam-deploy}"
mkdir -p "$cache/bin"

airflow() {
    [ -x "$cache/airflow/bin/airflow" ] && return
    rm -rf "$cache/airflow"
    "${PYTHON:-python3}" -m venv "$cache/airflow"
    "$cache/airflow/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint airflow/constraints.txt apache-airflow || { rm -rf "$cache/airflow"; return 1; }
}

promtool() {
    [ -x "$cache/bin/promtool" ] && return
    local package
    package="$(mktemp -d)"
    chmod 755 "$package"
    (
        cd "$package"
        apt-get download --quiet prometheus || { apt-get update --quiet && apt-get download --quiet prometheus; }
        dpkg-deb --extract prometheus_*.deb .
    )
    install "$package/usr/bin/promtool" "$cache/bin/promtool"
    rm -rf "$package"
}

[ $# -gt 0 ] || set -- airflow promtool
for tool; do
    "$tool"
done
