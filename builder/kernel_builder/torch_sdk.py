"""The torch that is compiled against: found by its files, never imported."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.version import MinorVersion

ENVIRONMENT_VARIABLE = "KERNEL_BUILDER_TORCH"
_ASSIGNMENT = re.compile(r"^(__version__|cuda|hip|xpu)\s*(?::[^=]+)?=\s*(.+)$", re.MULTILINE)
_COMPACT_TOOLKIT = re.compile(r"(\d{4})\d(\d)\d{2}")
_CXX11_FLAG = re.compile(r"_GLIBCXX_USE_CXX11_ABI=([01])")
_LARGEST_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class TorchSdk:
    """Headers and libraries of one torch installation.

    root: the package directory, which holds `include/`, `lib/` and `share/cmake/`. version: in full, such as
    `2.13.0+cpu`. cxx11: the C++ string ABI, None off Linux, where variants do not name it. accelerators: the
    toolkit that it was built for, such as CUDA 13.0; empty for a cpu build.
    """

    root: Path
    version: str
    release: MinorVersion
    cxx11: bool | None
    accelerators: dict[Backend, MinorVersion]

    @property
    def include_dir(self) -> Path:
        """Where `torch/` and `ATen/` lie."""
        return self.root / "include"

    @property
    def library_dir(self) -> Path:
        """Where `libtorch_cpu.so` and `libc10.so` lie."""
        return self.root / "lib"


def probe_torch(chosen: Path | None = None) -> TorchSdk | None:
    """Find torch: at `chosen`, else beside the running interpreter; None when there is none.

    chosen: the package directory, a `site-packages` directory, a virtual environment, or the Python inside one.
    Raises `BadInputError` when `chosen` is given and holds no torch, or when what is found cannot be compiled against.
    """
    places = (site / "torch" for site in list_site_directories()) if chosen is None else _list_candidates(chosen)
    for place in places:
        if (place / "version.py").is_file() and place.name == "torch":
            return read_torch(place, probe_host())
    if chosen is None:
        return None
    raise BadInputError(
        Problem(
            f"there is no torch at `{chosen}`",
            hint="give the directory of the `torch` package, its `site-packages`, or a virtual environment with torch",
        )
    )


def list_site_directories() -> tuple[Path, ...]:
    """The directories that the running Python imports from, its own `site-packages` first."""
    places = (sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path)
    return tuple(Path(place).absolute() for place in dict.fromkeys(places) if place)


def _list_candidates(chosen: Path) -> Iterator[Path]:
    yield chosen.absolute()
    yield chosen / "torch"
    environment = chosen.absolute().parent.parent if chosen.is_file() else chosen
    for pattern in ("lib/python3.*/site-packages", "Lib/site-packages", "lib/python3*/dist-packages"):
        yield from (found / "torch" for found in sorted(environment.glob(pattern), reverse=True))


def read_torch(root: Path, host: HostPlatform) -> TorchSdk:
    """Read the torch in a package directory; host: the platform that it is for. Raises `BadInputError`."""
    facts = {match[1]: _parse_literal(match[2]) for match in _ASSIGNMENT.finditer(_read_text(root / "version.py"))}
    version = facts.get("__version__")
    problem = None
    if version is None:
        problem = f"`{root / 'version.py'}` does not say which torch it belongs to"
    elif not (root / "include/torch").is_dir():
        problem = f"the torch {version} in `{root}` has no headers"
    if version is None or problem is not None:
        raise BadInputError(Problem(problem or "", hint="install torch again, from a wheel"))
    try:
        release = MinorVersion.parse_release(version)
        accelerators = {
            backend: _parse_toolkit(text)
            for backend, key in ((Backend.CUDA, "cuda"), (Backend.ROCM, "hip"), (Backend.XPU, "xpu"))
            if (text := facts.get(key)) is not None
        }
    except ValueError as error:
        raise BadInputError(Problem(f"`{root / 'version.py'}`: {error}", hint="install torch again")) from error
    return TorchSdk(root, version, release, _read_cxx11(root, host), accelerators)


def _parse_toolkit(text: str) -> MinorVersion:
    """`13.0`, or Intel's `20250201` for 2025.2, of which loaders take the same digits."""
    match = _COMPACT_TOOLKIT.fullmatch(text)
    return MinorVersion.parse_release(text) if match is None else MinorVersion(int(match[1]), int(match[2]))


def _parse_literal(text: str) -> str | None:
    """The string on the right of an assignment; None for anything else."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str) else None


def _read_cxx11(root: Path, host: HostPlatform) -> bool | None:
    """Releases that could still be built either way say it in their CMake files; later ones are always cxx11."""
    if host.os != "linux":
        return None
    match = _CXX11_FLAG.search(_read_text(root / "share/cmake/Torch/TorchConfig.cmake"))
    return match is None or match[1] == "1"


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_LARGEST_TEXT)
    except OSError:
        return ""
