"""What CMake and ninja are told: settings, environment, and whether an older build directory still fits them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kernel_builder import process
from kernel_builder.backend import Backend
from kernel_builder.plan import BuildPlan
from kernel_builder.resources import count_jobs, probe_cores, probe_free_memory
from kernel_builder.toolchains import Tool, Toolkit
from kernel_builder.toolchains.system import Toolchain

_EPOCH = "315532800"  # the first moment that a zip file can hold; `__DATE__` must not differ between builds
_FINGERPRINT = "toolchain"
_FLAG_VARIABLES = (  # what CMake reads from the environment at its first run only
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "CUDAFLAGS",
    "HIPFLAGS",
    "CUDAHOSTCXX",
    "CMAKE_ARGS",
    "CMAKE_TOOLCHAIN_FILE",
    "CMAKE_PREFIX_PATH",
)


@dataclass(frozen=True, slots=True)
class Equipment:
    """All that one project is built with.

    toolkit: the compiler of device code, None where there is none. defines: where torches and header libraries lie, as
    entries of CMake's cache.
    """

    toolchain: Toolchain
    toolkit: Toolkit | None = None
    defines: Mapping[str, str] = field(default_factory=dict)


def make_settings(
    plan: BuildPlan, equipment: Equipment, build_dir: Path, unnamed: Iterable[PurePosixPath]
) -> dict[str, str]:
    """The settings of scikit-build-core for one build. unnamed: sources that do without the unique id."""
    tvm_ffi, toolkit = equipment.toolchain.tvm_ffi, equipment.toolkit
    settings = {
        "build-dir": str(build_dir).replace("{", "{{").replace("}", "}}"),  # it is a format for scikit-build-core
        "cmake.define.KERNEL_PROJECT_DIR": str(plan.spec.root.resolve()),
        "cmake.define.KERNEL_UNNAMED_SOURCES": ";".join(str(plan.spec.root.resolve() / path) for path in unnamed),
        "cmake.define.CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
    }
    defines = dict(equipment.defines) | ({} if toolkit is None else dict(toolkit.settings))
    if tvm_ffi is not None:
        defines["KERNEL_TVM_FFI_SDK"] = str(tvm_ffi.root)
    settings |= {f"cmake.define.{name}": value for name, value in defines.items()}
    return settings


def make_environment(equipment: Equipment, jobs: int) -> dict[str, str]:
    """The user's environment, as far as it may decide what is built; messages in English, so that we can read them."""
    toolchain, toolkit = equipment.toolchain, equipment.toolkit
    env = {name: value for name, value in process.child_environment().items() if not name.startswith("SKBUILD_")}
    tools = [tool for tool in (toolchain.cmake, toolchain.ninja) if tool is not None]
    directories = [str(tool.path.parent) for tool in tools]
    env["PATH"] = os.pathsep.join([*directories, env.get("PATH", os.defpath)])
    if toolchain.cxx is not None:
        env["CXX"] = " ".join(toolchain.cxx.argv)
    env.update(
        CMAKE_BUILD_PARALLEL_LEVEL=str(jobs),
        CMAKE_GENERATOR="Ninja",
        CMAKE_COLOR_DIAGNOSTICS="OFF",
        NINJA_STATUS="[%f/%t] ",
        NO_COLOR="1",
        LC_ALL="C.UTF-8",
        SOURCE_DATE_EPOCH=_EPOCH,
        PYTHONDONTWRITEBYTECODE="1",
    )
    if toolkit is not None:
        env.update(toolkit.environment)
        if toolkit.key.backend is Backend.CUDA and toolchain.cxx is not None and len(toolchain.cxx.argv) == 1:
            env.setdefault("CUDAHOSTCXX", str(toolchain.cxx.path))  # else nvcc takes whatever `gcc` is on the path
    env.pop("FORCE_COLOR", None)
    env.pop("CLICOLOR_FORCE", None)
    return env


def choose_jobs(wanted: int | None) -> int:
    """How many compilers may run at once: as wanted, as `MAX_JOBS` says, or as the machine allows."""
    limit = os.environ.get("MAX_JOBS", "")
    if wanted is None and limit.isascii() and limit.isdigit():
        wanted = int(limit)
    return count_jobs(probe_cores(), probe_free_memory(), wanted=wanted)


def drop_other_builds(build_dir: Path, plan: BuildPlan, equipment: Equipment, site: str = "") -> None:
    """Remove a build directory that another toolchain, another place or other flags have filled.

    CMake keeps what it found the first time, and would go on with a compiler that the user has changed. site: the
    identity of the place where compilers run.
    """

    def describe(tool: Tool | None) -> str:
        return "" if tool is None else f"{tool.argv} {tool.version}"

    toolchain, toolkit = equipment.toolchain, equipment.toolkit
    tvm_ffi = toolchain.tvm_ffi
    facts = [
        site,
        str(build_dir),
        str(plan.spec.root.resolve()),
        sys.executable,
        describe(toolchain.cxx),
        describe(toolchain.cmake),
        describe(toolchain.ninja),
        "" if tvm_ffi is None else f"{tvm_ffi.root} {tvm_ffi.version}",
        "" if toolkit is None else f"{toolkit.root} {describe(toolkit.tool)} {sorted(toolkit.settings.items())}",
        *(f"{name}={os.environ.get(name, '')}" for name in _FLAG_VARIABLES),
    ]
    fingerprint = hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()
    mark = build_dir.parent / _FINGERPRINT
    try:
        known = mark.read_text(encoding="ascii") == fingerprint
    except (OSError, UnicodeDecodeError):
        known = False
    if not known:
        if build_dir.exists():
            shutil.rmtree(build_dir)
        build_dir.mkdir(parents=True)
        mark.write_text(fingerprint, encoding="ascii")
