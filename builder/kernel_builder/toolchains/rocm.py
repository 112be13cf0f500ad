"""ROCm: AMD's own installation, or one assembled from a plain clang, the HIP runtime and the device libraries.

Distributions have these three as packages of different ages. Of the devices that clang knows, the device libraries may
not know all; the one file that is missing for such a device says only which one it is, and is made here. Code for it
compiles then, with libraries that nobody tried it with: these archs are for checking that code compiles.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from kernel_builder import process
from kernel_builder.backend import Backend
from kernel_builder.disk import explain_disk
from kernel_builder.errors import BuilderError, Problem, ToolchainMissingError
from kernel_builder.lock import hold_lock
from kernel_builder.plan import ToolchainKey
from kernel_builder.progress import Listener, step
from kernel_builder.toolchains.fetch import toolchains_dir
from kernel_builder.toolchains.model import Toolkit
from kernel_builder.toolchains.tool import Tool, probe_version
from kernel_builder.version import MinorVersion

PACKAGES = "clang-19 lld-19 clang-tools-19 llvm-19 libamdhip64-dev rocm-device-libs"
_HOMES = ("/opt/rocm",)
_HOME_VARIABLES = ("ROCM_PATH", "ROCM_HOME")
_HIP_VERSION = re.compile(r"HIP version: (\d+\.\d+\.\d+)")
_CLANG_VERSION = re.compile(r"clang version (\d+\.\d+\.\d+)")
_MACRO = re.compile(r"^#define\s+HIP_VERSION_(MAJOR|MINOR|PATCH)\s+(\d+)", re.MULTILINE)
_CPU = re.compile(r"^\s*(gfx[0-9a-f]+)\s*$", re.MULTILINE)
_GFX = re.compile(r"gfx(\d+)([0-9a-f])([0-9a-f])")
_CLANGS = tuple(f"clang++-{major}" for major in range(24, 16, -1))
_PARTS = {
    "hip-config.cmake": "lib/cmake/hip/hip-config.cmake",
    "hip-lang-config.cmake": "lib/cmake/hip-lang/hip-lang-config.cmake",
    "thrust_complex.h": "include/thrust/complex.h",
}
_ASK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class HipParts:
    """A plain clang, a HIP runtime and device libraries, as packages of the system brought them."""

    clang: Tool
    include: Path
    library: Path
    bitcode: Path
    hip_version: str
    archs: tuple[str, ...]

    @property
    def key(self) -> ToolchainKey:
        """The version of HIP is that of ROCm."""
        return ToolchainKey(Backend.ROCM, MinorVersion.parse_release(self.hip_version))

    @property
    def check_only(self) -> tuple[str, ...]:
        """The archs that the device libraries do not know."""
        return tuple(arch for arch in self.archs if not (self.bitcode / _isa_file(arch)).is_file())

    @property
    def description(self) -> str:
        """For example `clang 19.1.7 with HIP 5.2.21153`."""
        return f"clang {self.clang.version} with HIP {self.hip_version}"


def probe_rocm() -> Toolkit | None:
    """AMD's own ROCm, in `ROCM_PATH`, on the path or in the usual place."""
    homes = [os.environ[name] for name in _HOME_VARIABLES if os.environ.get(name)]
    places = [*(str(Path(home) / "bin") for home in homes), os.environ.get("PATH", ""),
              *(str(Path(home) / "bin") for home in _HOMES)]  # fmt: skip
    for place in places:
        hipcc = shutil.which("hipcc", path=place)
        if hipcc is not None and Path(hipcc).parent == Path("/usr/bin"):
            continue  # a distribution's, with a clang and libraries that lie elsewhere: `probe_parts` finds them
        version = None if hipcc is None else probe_version([hipcc, "--version"], _HIP_VERSION)
        root = None if hipcc is None else Path(hipcc).resolve().parent.parent
        if version is not None and root is not None:
            clang = _find_own_clang(root)
            return Toolkit(
                key=ToolchainKey(Backend.ROCM, MinorVersion.parse_release(version)),
                tool=Tool("hipcc", (str(hipcc),), version),
                root=root,
                settings={} if clang is None else _make_settings(clang, root),
                environment={"ROCM_PATH": str(root), "HIP_PLATFORM": "amd"},
            )
    return None


def probe_parts() -> HipParts | None:
    """What ROCm can be assembled from: the newest clang, and the packages of the HIP runtime."""
    include = Path("/usr/include")
    triple = next((path for path in sorted(Path("/usr/lib").glob("*-linux-gnu")) if (path / "amdgcn").is_dir()), None)
    if triple is None or not (include / "hip/hip_version.h").is_file() or not (triple / "libamdhip64.so").exists():
        return None
    text = (include / "hip/hip_version.h").read_text(encoding="utf-8", errors="replace")
    numbers = dict(_MACRO.findall(text))
    if not {"MAJOR", "MINOR", "PATCH"} <= numbers.keys():
        return None
    for name in (*_CLANGS, "clang++"):
        path = shutil.which(name)
        version = None if path is None else probe_version([path, "--version"], _CLANG_VERSION)
        archs = () if path is None or version is None else tuple(_probe_archs(path))
        if path is not None and version is not None and archs:
            return HipParts(
                Tool("clang", (path,), version),
                include,
                triple / "libamdhip64.so",
                triple / "amdgcn/bitcode",
                ".".join(numbers[part] for part in ("MAJOR", "MINOR", "PATCH")),
                archs,
            )
    return None


def assemble_rocm(parts: HipParts, listener: Listener) -> Toolkit:
    """Make a directory that CMake and clang take for a ROCm, once for the same parts.

    Raises `ToolchainMissingError` when clang cannot make the files that complete the device libraries.
    """
    facts = "\0".join([str(parts), *(_read_part(name) for name in _PARTS)])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
    root = toolchains_dir() / f"rocm-{parts.hip_version}-clang-{parts.clang.version}-{digest}"
    with explain_disk(f"the cache `{root.parent}`", "choose another place with `KERNEL_BUILDER_CACHE`"):
        root.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(root.parent, listener):
            if not root.is_dir():
                staging = root.with_name(f".{root.name}.unfinished")
                shutil.rmtree(staging, ignore_errors=True)
                with step(listener, f"complete the device libraries of HIP {parts.hip_version}"):
                    _assemble(parts, staging)
                staging.rename(root)
    return Toolkit(
        key=parts.key,
        tool=Tool("clang", parts.clang.argv, f"{parts.clang.version} with HIP {parts.hip_version}"),
        root=root,
        settings=_make_settings(parts.clang.path, root) | {"hip_DIR": str(root / "lib/cmake/hip")},
        environment={"ROCM_PATH": str(root), "HIP_PLATFORM": "amd"},
        archs=parts.archs,
        check_only=parts.check_only,
    )


def _make_settings(clang: Path, root: Path) -> dict[str, str]:
    return {
        "CMAKE_HIP_COMPILER": str(clang),
        "CMAKE_HIP_COMPILER_ROCM_ROOT": str(root),
        "CMAKE_HIP_FLAGS": f"--rocm-path={root}",
        "CMAKE_HIP_ARCHITECTURES": "gfx90a",  # of CMake's own test programs; each component has its own
    }


def _find_own_clang(root: Path) -> Path | None:
    places = (root / "lib/llvm/bin/clang++", root / "llvm/bin/clang++")
    return next((path for path in places if path.is_file()), None)


def _probe_archs(clang: str) -> Iterator[str]:
    """The devices that a clang can compile and bundle for, in the spelling of `build.toml`."""
    suffix = Path(clang).name.removeprefix("clang++")
    if shutil.which(f"clang-offload-bundler{suffix}") is None or shutil.which(f"ld.lld{suffix}") is None:
        return
    command = [clang, "--target=amdgcn-amd-amdhsa", "-nogpulib", "--print-supported-cpus"]
    try:
        completed = process.run(command, timeout=_ASK_SECONDS)
    except (BuilderError, TimeoutError):
        return
    for arch in _CPU.findall(completed.output):
        if _GFX.fullmatch(arch) is not None and int(arch[3:-2]) >= 9:  # noqa: PLR2004 - gfx9: the first with HIP's ABI
            yield arch


def _assemble(parts: HipParts, root: Path) -> None:
    for name, target in _PARTS.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_read_part(name), encoding="utf-8")
    major, minor, _ = parts.hip_version.split(".")
    version = f'set(PACKAGE_VERSION "{parts.hip_version}")\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n'
    (root / "lib/cmake/hip/hip-config-version.cmake").write_text(version, encoding="utf-8")
    (root / ".info").mkdir()
    (root / ".info/version").write_text(f"{major}.{minor}\n", encoding="utf-8")
    for path in sorted(parts.include.iterdir()):
        if path.name.startswith(("hip", "hsa", "roc")):
            (root / "include" / path.name).symlink_to(path)
    (root / "lib/libamdhip64.so").symlink_to(parts.library)
    bitcode = root / "amdgcn/bitcode"
    bitcode.mkdir(parents=True)
    for path in sorted(parts.bitcode.glob("*.bc")):
        (bitcode / path.name).symlink_to(path)
    for arch in parts.check_only:
        _write_isa(parts.clang.path, arch, bitcode)


def _write_isa(clang: Path, arch: str, bitcode: Path) -> None:
    """The device library that says which device it is for, and nothing else."""
    number = _number_of(arch)
    name = "@__oclc_ISA_version"
    source = bitcode / f"{_isa_file(arch)}.ll"
    text = f"{name} = linkonce_odr protected local_unnamed_addr addrspace(4) constant i32 {number}, align 4\n"
    source.write_text(text, encoding="ascii")
    options = ("--target=amdgcn-amd-amdhsa", "-nogpulib", "-c", "-emit-llvm", "-x", "ir")
    command: list[str | Path] = [clang, *options, source, "-o", bitcode / _isa_file(arch)]
    completed = process.run(command, timeout=_ASK_SECONDS)
    source.unlink()
    if completed.returncode != 0:
        told = next(iter(completed.lines), "it said nothing")
        raise ToolchainMissingError(Problem(f"`{clang}` cannot complete the device libraries for {arch}: {told}"))


def _isa_file(arch: str) -> str:
    return f"oclc_isa_version_{arch.removeprefix('gfx')}.bc"


def _number_of(arch: str) -> int:
    """`gfx90a` is 9010, `gfx1201` is 12001: the numbers that the device libraries compare."""
    match = _GFX.fullmatch(arch)
    return 0 if match is None else int(match[1]) * 1000 + int(match[2], 16) * 100 + int(match[3], 16)


def _read_part(name: str) -> str:
    return (resources.files("kernel_builder.toolchains") / "rocm_parts" / name).read_text(encoding="utf-8")
