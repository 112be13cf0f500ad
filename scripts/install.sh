#!/bin/sh
# Make .venv with this package (editable), torch and the development tools. `make install` runs it and stamps success.
# On Debian as root, or with SUDO=sudo, missing system packages are installed too; elsewhere they are named.
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

# Debian ships Python without `ensurepip` and without its headers.
missing=
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || "$python" -m virtualenv --version >/dev/null 2>&1 ||
    "$python" -m pip --version >/dev/null 2>&1 || has_pip || missing="$missing python3-venv"
"$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' || missing="$missing python3-dev"
[ -n "${CXX:-}" ] || command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 ||
    command -v clang++ >/dev/null 2>&1 || missing="$missing g++"
if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" -eq 0 ] || [ -n "${SUDO:-}" ]; }; then
        echo "installing Debian packages:$missing"
        ${SUDO:-} apt-get update -qq
        # shellcheck disable=SC2086 # a list of words
        ${SUDO:-} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        fail "this machine lacks what these Debian packages bring:$missing" \
            "\`sudo apt-get install$missing\`, or their like elsewhere; then run the same command again"
    fi
fi

if ! has_pip; then
    echo "making $venv with $("$python" --version)"
    # Where `ensurepip` is missing still, `virtualenv` or the system's own pip stands in for it.
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        "$python" -m venv --clear "$venv"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet --clear "$venv"
    else
        "$python" -m venv --clear --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install --quiet pip
    fi
    has_pip || fail "\`$python\` cannot make a virtual environment with pip in it" \
        "name another Python: \`make PYTHON=/path/to/python3\`"
fi

echo "installing kernel-builder, $torch and the development tools into $venv (a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' # knows --group
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable . --group dev "$torch" ||
    fail "pip could not install everything" \
        "its own message stands above; another torch is taken with \`make build TORCH='torch==2.12.1'\`"
