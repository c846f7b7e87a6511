#!/usr/bin/env bash
# Installs the tools that the tests of deploy/ need into ~/.cache/emobeam-deploy (or EMOBEAM_DEPLOY): Airflow in its own
# environment, and Prometheus's promtool from Debian's package. Scoring needs neither.
#
# usage: deploy/tools.sh [airflow] [promtool]     (default: both; tools that are already installed are not changed)
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
