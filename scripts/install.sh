#!/bin/sh
# Make .venv with this package (editable), torch and the development tools. `make install` runs it and stamps success.
set -eu

python=${PYTHON:-python3}
torch=${TORCH:-torch==2.13.0}
venv=.venv

fail() {
    printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

has_pip() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "\`$python\` is not on the PATH" "install Python 3.11 or later, or name one: \`make PYTHON=/path/to/python3\`"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "\`$python\` is older than Python 3.11" "name a newer one: \`make PYTHON=python3.12\`"

if ! has_pip; then
    echo "making $venv with $("$python" --version)"
    # Debian ships Python without `ensurepip`; `virtualenv`, or the system's own pip, can stand in for it.
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        "$python" -m venv --clear "$venv"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet --clear "$venv"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install --quiet pip
    fi
    has_pip || fail "\`$python\` cannot make a virtual environment with pip in it" \
        "on Debian and Ubuntu: \`sudo apt-get install python3-venv\`; then run the same command again"
fi

echo "installing kernel-builder, $torch and the development tools into $venv (a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' # knows --group
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable . --group dev "$torch" ||
    fail "pip could not install everything" \
        "its own message stands above; another torch is taken with \`make build TORCH='torch==2.12.1'\`"
