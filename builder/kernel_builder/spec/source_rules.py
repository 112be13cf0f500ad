"""Rules about the files that a component lists and about the units that it has made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath

from kernel_builder.backend import Backend
from kernel_builder.spec.locate import KeyPath, render_key
from kernel_builder.spec.model import (
    TEMPLATE_SUFFIX,
    BuildSpec,
    Component,
    TorchFramework,
    TorchNoarchFramework,
    TvmFfiFramework,
)
from kernel_builder.spec.names import find_shell_character
from kernel_builder.spec.remark import Remark, framework_key

COMPILED_SUFFIXES = frozenset(
    {".c", ".cc", ".cpp", ".cxx", ".c++", ".cu", ".hip", ".m", ".mm", ".metal", ".sycl", ".s", ".S"}
)
_HOST_SUFFIXES = frozenset({".c", ".cc", ".cpp", ".cxx"})
_DEVICE_SUFFIXES: dict[Backend, frozenset[str]] = {
    Backend.CUDA: frozenset({".cu"}),
    Backend.METAL: frozenset({".m", ".metal", ".mm"}),
    Backend.ROCM: frozenset({".cu", ".hip"}),
}


def check_component_sources(spec: BuildSpec) -> Iterator[Remark]:
    """A component has sources."""
    for component in spec.components:
        if not component.sources:
            message = f"`kernel.{component.name}` has no sources"
            yield Remark(("kernel", component.name, "src"), message, "list them in `src`, or remove the component")


def check_duplicate_sources(spec: BuildSpec) -> Iterator[Remark]:
    """A file is listed once in a component, and a compiled file in one component of a backend.

    Only a compiled file that one list names twice is an error: it is a slip. Kernel authors do name one in two
    components, for two sets of flags, and have it compiled once.
    """
    framework_src = () if isinstance(spec.framework, TorchNoarchFramework) else spec.framework.src
    table = framework_key(spec)
    yield from _check_repeats({}, (table, "src"), framework_src)
    by_backend = sorted(spec.components, key=lambda component: component.backend)
    for _, components in groupby(by_backend, key=lambda component: component.backend):
        owners: dict[PurePosixPath, KeyPath] = dict.fromkeys(framework_src, (table, "src"))
        for component in components:
            yield from _check_repeats(owners, ("kernel", component.name, "src"), component.src)


def _check_repeats(
    owners: dict[PurePosixPath, KeyPath], owner: KeyPath, paths: tuple[PurePosixPath, ...]
) -> Iterator[Remark]:
    """Remarks on the files of one list; adds those that it is the first to name to `owners`."""
    seen: set[PurePosixPath] = set()
    for index, path in enumerate(paths):
        first = owners.setdefault(path, owner)
        is_compiled = path.suffix in COMPILED_SUFFIXES
        if path in seen:
            message = f"`{path}` is listed twice in `{render_key(owner)}`"
            yield Remark((*owner, index), message, "remove one of the two", is_error=is_compiled)
        elif first != owner and is_compiled:
            message = f"`{path}` is in `{render_key(first)}` as well as in `{render_key(owner)}`: it is compiled once"
            yield Remark((*owner, index), message, is_error=False)
        seen.add(path)


def check_cuda_paths(spec: BuildSpec) -> Iterator[Remark]:
    """Sources and include directories that nvcc can take: it hands them to a shell, between double quotes."""
    parts = {("kernel", each.name): each for each in spec.components if each.backend is Backend.CUDA}
    tables: list[tuple[KeyPath, Component | TorchFramework | TvmFfiFramework]] = list(parts.items())
    if Backend.CUDA in spec.general.backends and not isinstance(spec.framework, TorchNoarchFramework):
        tables.append(((framework_key(spec),), spec.framework))
    for table, part in tables:
        named: list[tuple[KeyPath, PurePosixPath]] = [
            ((*table, "src", index), path) for index, path in enumerate(part.src) if path.suffix == ".cu"
        ]
        matrices = part.instantiate if isinstance(part, Component) else ()
        named += [
            ((*table, "instantiate", index, "template"), matrix.template)
            for index, matrix in enumerate(matrices)
            if matrix.source_suffix == ".cu"
        ]
        named += [((*table, "include", index), path) for index, path in enumerate(part.include)] if named else []
        for key, path in named:
            if found := find_shell_character(str(path)):
                message = f"`{path}` contains `{found}`, which the shell that nvcc starts would act on"
                yield Remark(key, message, "rename the file or the directory")


def check_instantiations(spec: BuildSpec) -> Iterator[Remark]:
    """A unit is a source that its backend compiles, and it has a name of its own there."""
    listed = () if isinstance(spec.framework, TorchNoarchFramework) else spec.framework.src
    by_backend = sorted(spec.components, key=lambda component: component.backend)
    for backend, group in groupby(by_backend, key=lambda component: component.backend):
        components = tuple(group)
        known = _HOST_SUFFIXES | _DEVICE_SUFFIXES.get(backend, frozenset())
        owners: dict[PurePosixPath, str] = dict.fromkeys(listed, f"`{framework_key(spec)}.src`")
        owners |= {path: f"`{render_key(('kernel', each.name, 'src'))}`" for each in components for path in each.src}
        for component in components:
            for index, matrix in enumerate(component.instantiate):
                path: KeyPath = ("kernel", component.name, "instantiate", index)
                own = f"`{render_key(path)}`"
                if matrix.source_suffix not in known:
                    suffixes = ", ".join(f"`{suffix}{TEMPLATE_SUFFIX}`" for suffix in sorted(known))
                    message = f"`{matrix.template}` makes sources that are not compiled for `{backend}`"
                    yield Remark((*path, "template"), message, f"its name must end with one of {suffixes}")
                units = [unit.path for unit in matrix.instantiations]
                if len({str(unit).lower() for unit in units}) < len(units):  # as macOS and Windows tell files apart
                    message = f"two points of {own} have units of one name"
                    yield Remark(
                        (*path, "axes"), message, "choose values that differ when `_` joins them, and not by case alone"
                    )
                for unit in units:
                    first = owners.setdefault(unit, own)
                    if first != own:
                        message = f"the unit `{unit}` has the name of a source of {first}"
                        yield Remark(path, message, "rename the template, or remove the other source")
