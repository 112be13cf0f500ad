"""Which components include torch's headers although their `depends` does not say so.

Existing projects do, since with one ABI it makes no difference. With several, what knows torch must be compiled for
each, so the includes are followed through the project's own files.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from kernel_builder.spec.model import BuildSpec, Component, Dependency

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|import)[ \t]*[<"]([^>"\n]+)[>"]', re.MULTILINE)
_FRAMEWORK = re.compile(r"(?:torch|ATen|c10|caffe2)/|registration\.h$")
_LARGEST = 1 << 22


def declare_torch(spec: BuildSpec) -> tuple[BuildSpec, dict[str, str]]:
    """The declaration with `torch` in the `depends` of every component that includes its headers.

    Second, what was found: the name of each such component -> the file with the include and the header, in words. What
    a macro or a file outside the project includes is not seen.
    """
    found = {
        component.name: told
        for component in spec.components
        if not component.needs_torch and (told := _find_torch(spec.root.resolve(), component)) is not None
    }
    if not found:
        return spec, found
    components = tuple(
        replace(component, depends=(*component.depends, Dependency.TORCH)) if component.name in found else component
        for component in spec.components
    )
    return replace(spec, components=components), found


def _find_torch(root: Path, component: Component) -> str | None:
    directories = [root / directory for directory in component.include] + [root / "csrc", root]
    sources = (_resolve(str(source), root, [], root) for source in component.src)
    seen = {source for source in sources if source is not None}
    waiting = [(path, _list_includes(path)) for path in seen]
    waiting += _list_includes_of_units(root, component)
    while waiting:
        path, names = waiting.pop()
        for name in names:
            inside = _resolve(name, path.parent, directories, root)
            if inside is not None:
                if inside not in seen:
                    seen.add(inside)
                    waiting.append((inside, _list_includes(inside)))
            elif _FRAMEWORK.match(name):
                return f"`{path.relative_to(root).as_posix()}` includes `{name}`"
    return None


def _list_includes_of_units(root: Path, component: Component) -> list[tuple[Path, list[str]]]:
    """What a template includes may depend on its axes."""
    if not component.instantiate:
        return []
    from kernel_builder.spec.units import make_units  # noqa: PLC0415 - Jinja2, which most projects need not

    units = (unit for matrix in component.instantiate for unit in make_units(root, matrix).items())
    return [(root / path, _INCLUDE.findall(text.decode())) for path, text in units]


def _list_includes(path: Path) -> list[str]:
    try:
        is_read = path.stat().st_size <= _LARGEST
        return _INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace")) if is_read else []
    except OSError:
        return []


def _resolve(name: str, beside: Path, directories: list[Path], root: Path) -> Path | None:
    """The project's own file behind an include; None for any other, and for a name that cannot be one."""
    for directory in (beside, *directories):
        try:
            path = (directory / name).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):
            continue
    return None
