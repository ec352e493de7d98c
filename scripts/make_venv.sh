#!/bin/sh
# make_venv.sh PYTHON VENV: a virtual environment with pip, or a sentence that says what is missing.
set -u
python=$1
venv=$2

if ! command -v "$python" >/dev/null 2>&1; then
    echo "make: $python was not found. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
    echo "make: fallline needs Python 3.11, 3.12 or 3.13; $("$python" --version 2>&1) was found." \
         "Name another: make PYTHON=python3.12" >&2
    exit 1
fi

# Debian keeps what venv needs in a package of its own, so other makers are tried after it.
make_with() { rm -rf "$venv"; "$@" >/dev/null 2>&1 && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }
make_with "$python" -m venv "$venv" && exit 0
make_with "$python" -m virtualenv "$venv" && exit 0
make_with virtualenv --python "$python" "$venv" && exit 0
make_with uv venv --seed --python "$python" "$venv" && exit 0

rm -rf "$venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
echo "make: $python cannot make a virtual environment, because its venv module lacks pip." \
     "On Debian or Ubuntu: apt install python3-venv (or python$version-venv); then run make again." >&2
exit 1
