# Images to compile kernels in: one stage for each toolchain, on any base with `apt-get` or `dnf`.
#
#     docker build --target cpu .
#     docker build --target cpu --build-arg BASE_IMAGE=debian:12 .
#
# `kernel-builder build --docker` builds and names what it needs by itself; docs/docker.md says what an image must have.

# The default is the tag 2026.07.25-1, for x86-64: it has a compiler and Pythons with their headers, nothing is installed.
ARG BASE_IMAGE=quay.io/pypa/manylinux_2_28_x86_64@sha256:fdb9a9c223b215604dc7b6f7e8fff4b39bfea5fbaa7777a2e5544a60dfa437f8


# A C++ compiler, and Python 3.11 or later with headers. The builder lends CMake, ninja and the build backend. Where the
# static C++ library is a package of its own, it is what makes kernels load on older systems.
FROM ${BASE_IMAGE} AS cpu
RUN set -eu; \
    has_python() { \
        for name in python3 python3.11 python3.12 python3.13; do \
            "$name" -c 'import os, sys, sysconfig; sys.exit(sys.version_info < (3, 11) or not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null && return 0; \
        done; \
        return 1; \
    }; \
    if command -v c++ && has_python; then exit 0; fi; \
    if command -v apt-get; then \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++ python3-dev; \
        rm -rf /var/lib/apt/lists/*; \
    elif command -v dnf; then \
        dnf install -y gcc-c++ python3.11-devel || dnf install -y gcc-c++ python3-devel; \
        for more in --enablerepo=crb --enablerepo=powertools --refresh; do \
            dnf install -y "$more" libstdc++-static && break; \
        done || true; \
        dnf clean all; \
    else \
        echo "this base has neither a compiler with Python 3.11 and its headers, nor apt-get or dnf to install them" >&2; \
        exit 1; \
    fi; \
    command -v c++ && has_python


# CUDA from the wheels that the builder pins, for images that are to be complete: `build --docker` mounts them instead.
FROM cpu AS cuda
ARG CUDA=13.0
COPY builder/kernel_builder/toolchains/toolchains.toml /tmp/toolchains.toml
RUN set -eu; \
    for name in python3.13 python3.12 python3.11 python3; do \
        if "$name" -c 'import tomllib' 2>/dev/null; then python=$name; break; fi; \
    done; \
    "$python" -c 'import sys, tomllib; \
catalog = tomllib.load(open("/tmp/toolchains.toml", "rb")); \
release = next(entry for entry in catalog["cuda"] if entry["release"] == sys.argv[1]); \
print("\n".join(" ".join([p["name"] + "==" + p["version"], *("--hash=sha256:" + h for h in p["sha256"])]) for p in release["packages"]))' \
        "$CUDA" >/tmp/requirements.txt; \
    "$python" -m venv /tmp/venv 2>/dev/null || { \
        apt-get update; apt-get install -y --no-install-recommends python3-venv; rm -rf /var/lib/apt/lists/*; \
        "$python" -m venv /tmp/venv; \
    }; \
    /tmp/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --target /usr/local/cuda-wheels --requirement /tmp/requirements.txt; \
    ln -s "$(dirname "$(dirname /usr/local/cuda-wheels/nvidia/cu*/bin/nvcc)")" /usr/local/cuda; \
    ln -s lib /usr/local/cuda/lib64; \
    for library in /usr/local/cuda/lib/lib*.so.*; do \
        link=${library%%.so.*}.so; [ -e "$link" ] || ln -s "$(basename "$library")" "$link"; \
    done; \
    rm -rf /tmp/venv /tmp/requirements.txt /tmp/toolchains.toml; \
    /usr/local/cuda/bin/nvcc --version
ENV PATH=/usr/local/cuda/bin:${PATH} CUDA_HOME=/usr/local/cuda


# HIP for AMD's GPUs: Debian's clang and device libraries. A base that has /opt/rocm is left as it is.
FROM cpu AS rocm
RUN set -eu; \
    if [ -d /opt/rocm ]; then exit 0; fi; \
    if ! command -v apt-get; then \
        echo "give a base with ROCm: --build-arg BASE_IMAGE=<an image of AMD's with a compiler>" >&2; \
        exit 1; \
    fi; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        clang-19 clang-tools-19 hipcc libamdhip64-dev lld-19 llvm-19 rocm-device-libs; \
    rm -rf /var/lib/apt/lists/*
