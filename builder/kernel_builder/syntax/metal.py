"""Metal without a Mac: clang reads shaders as C++, and Objective-C++ as it is, with stand-ins for Apple's headers."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from kernel_builder import process
from kernel_builder.errors import Location, Problem
from kernel_builder.spec.model import BuildSpec, Component, TorchFramework
from kernel_builder.spec.units import make_units
from kernel_builder.toolchains.tool import Tool, probe_version
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.version import MinorVersion

METAL_SUFFIXES = (".metal", ".mm", ".m")
_NAMES = (*(f"clang++-{major}" for major in range(24, 14, -1)), "clang++")
_VERSION = re.compile(r"clang version (\d+\.\d+\.\d+)")
_COMMON = ("-fsyntax-only", "-fno-caret-diagnostics", "-fno-color-diagnostics", "-ferror-limit=20", "-Wno-everything")
_SHADER = ("-x", "c++", "-std=c++17", "-nostdinc", "-nostdinc++")
_OBJECTIVE = ("-x", "objective-c++", "-fblocks", "-fobjc-runtime=gnustep-2.0", "-Werror=objc-method-access")
_EMBEDDED = ('-DEMBEDDED_METALLIB_HEADER="kernel_metallib.h"', "-DEMBEDDED_METALLIB_NAMESPACE=kernel_metallib")
_ATTRIBUTE = re.compile(r"\[\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]\]")
_ERROR = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>\d+):\d+: (?:fatal )?error: (?P<text>.+)")
_HINT = "Apple's headers are stood in for here: what these do not know is told as well, a Mac knows for sure"
_TIMEOUT = 300.0
_CODE = (*METAL_SUFFIXES, ".h", ".hpp", ".inl")
_CXX20_SINCE = MinorVersion(2, 12)


def find_clang() -> Tool | None:
    """The newest clang on the path."""
    for name in _NAMES:
        path = shutil.which(name)
        version = None if path is None else probe_version([path, "--version"], _VERSION)
        if path is not None and version is not None:
            return Tool("clang", (path,), version)
    return None


def check_metal(
    spec: BuildSpec, component: Component, sources: Sequence[PurePosixPath], clang: Tool, torch: TorchSdk | None
) -> Iterator[Problem]:
    """What clang finds wrong in shaders and Objective-C++ sources of a component."""
    with (
        resources.as_file(resources.files("kernel_builder.syntax") / "stand_ins") as stand_ins,
        tempfile.TemporaryDirectory(prefix="kernel-builder-") as scratch,
    ):
        copy, made = Path(scratch).resolve() / "blanked", Path(scratch).resolve() / "units"
        units = {path: text for matrix in component.instantiate for path, text in make_units(spec.root, matrix).items()}
        _write_units(units, made)
        _copy_without_attributes(spec.root, component, copy)
        _blank_attributes(made, units, copy)
        for source in sources:
            headers = copy if source.suffix == ".metal" else spec.root.resolve()
            root = made if source in units and source.suffix != ".metal" else headers
            flags = [flag for flag in component.cxx_flags if flag.startswith(("-D", "-U"))]
            flags += [f"-iquote{(headers / source).parent}"] if source in units else []
            flags += [f"-I{headers / path}" for path in component.include]
            if source.suffix == ".metal":
                command = [*_SHADER, *flags, f"-I{stand_ins / 'metal'}"]
            else:
                command = [
                    *_OBJECTIVE,
                    *_EMBEDDED,
                    *_torch_flags(spec, torch),
                    *flags,
                    f"-isystem{stand_ins / 'apple'}",
                ]
            yield from _read(clang, [*command, str(root / source)], root)


def _write_units(units: Mapping[PurePosixPath, bytes], target: Path) -> None:
    target.mkdir()
    for path, text in units.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(text)


def _torch_flags(spec: BuildSpec, torch: TorchSdk | None) -> Iterator[str]:
    if torch is None or not isinstance(spec.framework, TorchFramework):
        return
    yield f"-std=c++{20 if torch.release >= _CXX20_SINCE else 17}"
    yield from ("-DMETAL_KERNEL", f"-isystem{torch.include_dir}")
    yield f"-isystem{torch.include_dir / 'torch/csrc/api/include'}"


def _read(clang: Tool, arguments: Sequence[str], root: Path) -> Iterator[Problem]:
    try:
        completed = process.run([*clang.argv, *_COMMON, *arguments], cwd=root, timeout=_TIMEOUT)
    except TimeoutError:
        yield Problem(f"clang took too long to read `{Path(arguments[-1]).name}`")
        return
    found = [match for line in completed.lines if (match := _ERROR.match(line)) is not None]
    for match in found:
        path = Path(match["file"])
        name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        yield Problem(match["text"], Location(name, int(match["line"])), _HINT)
    if completed.returncode != 0 and not found:
        yield Problem(f"clang failed on `{Path(arguments[-1]).name}`: {' '.join(completed.lines[-1:])}", hint=_HINT)


def _copy_without_attributes(project: Path, component: Component, target: Path) -> None:
    """Copy what shaders may include, with Metal's attributes blanked: C++ does not let them stand where Metal does."""
    paths = {PurePosixPath(path) for path in component.src}
    for directory in component.include:
        for path in sorted((project / directory).rglob("*")):
            paths.add(PurePosixPath(path.relative_to(project).as_posix()))
    _blank_attributes(project, paths, target)


def _blank_attributes(project: Path, paths: Iterable[PurePosixPath], target: Path) -> None:
    for relative in sorted(paths):
        source = project / relative
        if source.suffix in _CODE and source.is_file():
            text = source.read_text(encoding="utf-8", errors="replace")
            text = _ATTRIBUTE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_text(text, encoding="utf-8")
