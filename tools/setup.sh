#!/usr/bin/env bash
# Set up a development environment: native libraries for the PDF, then .venv with all packages.
set -euo pipefail
: "${PYTHON:=python3}" "${VENV:=.venv}"

missing=()
have() { ldconfig -p 2>/dev/null | grep -q "$1"; }
have libpango-1.0.so.0 || missing+=(libpango-1.0-0)
have libpangoft2-1.0.so.0 || missing+=(libpangoft2-1.0-0)
have libharfbuzz-subset.so.0 || missing+=(libharfbuzz-subset0)
if ((${#missing[@]})); then
    echo "Installing native libraries for the PDF: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "This system has no apt-get: install ${missing[*]} by hand, then run this again." >&2
        exit 1
    fi
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

[ -x "$VENV/bin/python" ] || { echo "Creating $VENV"; "$PYTHON" -m venv "$VENV"; }
echo "Installing Python packages in $VENV (a few minutes the first time)"
# torch first and by itself: its build for the processor is taken where one is offered
# not compiled at once: Python compiles what is imported, which is a small part
install() { "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-compile "$@"; }
install torch torchvision
install --editable '.[dev,docs]'
