#!/bin/sh
# What continuous integration does with a kernel project, step by step, wherever it runs. The GitHub action calls this
# script and adds nothing to it.
#
#   kernel-ci.sh plan                   print the variants of this machine as a matrix, one JSON line
#   kernel-ci.sh build VARIANT          build, audit and test one variant
#   kernel-ci.sh publish                publish all that lies in build/
#   kernel-ci.sh all                    plan, build each, publish if REPO_ID is set
#
# PROJECT   the kernel project (default: this directory)
# REPO_ID   where to publish (default: that of build.toml); the token comes from HF_TOKEN, the Hub from HF_ENDPOINT
# BUILD_OPTIONS   further words for `kernel-builder plan` and `build`, such as `--matrix`
# OPTIONS   further words for `kernel-builder upload`, such as `--dry-run` or `--allow-untested`
# PYTHON    a Python that has kernel-builder and torch (default: python3)
set -eu

project=${PROJECT:-.}
python=${PYTHON:-python3}
nothing_selected=3

builder() {
    "$python" -m kernel_builder "$@"
}

plan() {
    # shellcheck disable=SC2086 # a list of words
    planned=$(builder plan "$project" ${BUILD_OPTIONS:-} --json) || return
    printf '%s' "$planned" | "$python" -c '
import json, sys
variants = json.load(sys.stdin)["plan"]["variants"]
if not variants:
    sys.exit("error: no variant can be planned here; kernel-builder plan says why")
rows = {variant["variant"]: {"variant": variant["variant"], "backend": variant["backend"]} for variant in variants}
print(json.dumps({"include": [rows[name] for name in sorted(rows)]}, separators=(",", ":")))'
}

build() {
    # shellcheck disable=SC2086 # a list of words
    builder build "$project" ${BUILD_OPTIONS:-} --variant "$1"
    status=0
    builder test "$project" --variant "$1" || status=$?
    if [ "$status" -eq "$nothing_selected" ]; then
        echo "no device here runs $1: it stays untested, and upload will say so" >&2
    elif [ "$status" -ne 0 ]; then
        exit "$status"
    fi
}

publish() {
    # shellcheck disable=SC2086 # a list of words
    builder upload "$project" ${REPO_ID:+--repo "$REPO_ID"} ${OPTIONS:-}
}

case ${1:-} in
plan) plan ;;
build) build "${2:?name a variant}" ;;
publish) publish ;;
all)
    matrix=$(plan)
    for variant in $(printf '%s' "$matrix" |
        "$python" -c 'import json, sys; print(*(row["variant"] for row in json.load(sys.stdin)["include"]))'); do
        build "$variant"
    done
    [ -z "${REPO_ID:-}" ] || publish
    ;;
*)
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
