"""Which sources of a project can be read here, by what, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import Problem
from kernel_builder.host import HostPlatform
from kernel_builder.remedy import install_command
from kernel_builder.spec.model import BuildSpec, TorchNoarchFramework
from kernel_builder.syntax.metal import METAL_SUFFIXES, check_metal, find_clang
from kernel_builder.torch_sdk import TorchSdk


@dataclass(frozen=True, slots=True)
class SyntaxReport:
    """checked: sources that were read. reader: what read them. unchecked: backend -> why nothing of it was."""

    checked: tuple[str, ...] = ()
    reader: str | None = None
    problems: tuple[Problem, ...] = ()
    unchecked: tuple[tuple[Backend, str], ...] = ()


def check_syntax(spec: BuildSpec, host: HostPlatform, torch: TorchSdk | None) -> SyntaxReport:
    """Read what no compiler of this machine can compile. torch: whose headers Objective-C++ sources include."""
    unchecked = list(_list_unchecked(spec, host))
    sources = [part for part in spec.components if part.backend is Backend.METAL]
    if not sources or host.os == "darwin":
        return SyntaxReport(unchecked=tuple(unchecked))
    clang = find_clang()
    if clang is None:
        remedy = install_command("clang-19")
        unchecked.append((Backend.METAL, f"no clang was found here to read it with; `{remedy}` brings one"))
        return SyntaxReport(unchecked=tuple(unchecked))
    checked: list[str] = []
    problems: list[Problem] = []
    for component in sources:
        readable = [path for path in component.sources if path.suffix in METAL_SUFFIXES]
        if torch is None:
            unread = [path for path in readable if path.suffix != ".metal"]
            readable = [path for path in readable if path.suffix == ".metal"]
            if unread:
                unchecked.append(
                    (Backend.METAL, "no torch was found here, whose headers Objective-C++ sources include")
                )
        problems.extend(check_metal(spec, component, readable, clang, torch))
        checked.extend(str(path) for path in readable)
    return SyntaxReport(tuple(checked), f"clang {clang.version}", tuple(problems), tuple(dict.fromkeys(unchecked)))


def _list_unchecked(spec: BuildSpec, host: HostPlatform) -> Iterator[tuple[Backend, str]]:
    """The sentences for all backends but Metal."""
    if isinstance(spec.framework, TorchNoarchFramework):
        return
    for backend in sorted(set(spec.general.backends)):
        if not FACTS[backend].is_compiled or (backend is Backend.METAL and host.os != "darwin"):
            continue
        if backend is Backend.XPU:
            yield (
                backend,
                "only DPC++ reads SYCL sources, and it is in no package index: `icpx` comes with Intel oneAPI",
            )
        else:
            yield backend, "`kernel-builder build` compiles it"
