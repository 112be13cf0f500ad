"""What goes into a build, as one digest: equal inputs give equal digests wherever the project lies."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kernel_builder import __version__
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.model import BuildSpec, Component, TorchFramework, TvmFfiFramework

_HEADER_SUFFIXES = frozenset({
    ".cuh", ".def", ".h", ".hh", ".hip", ".hpp", ".hxx", ".inc", ".inl", ".ipp", ".metal", ".tcc", ".tpp",
})  # fmt: skip
_OUTPUT_DIRECTORIES = frozenset({PurePosixPath("build"), PurePosixPath("result")})
_BLOCK = 1 << 20
_NAMING = re.compile(rb"EXTENSION_NAME|registration\.h")
_LONGEST_NAMING = 32


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """Every file that decides what is built: path relative to the project -> sha256 of its bytes, sorted.

    naming: those whose text may use the unique id, through its macro or through `registration.h`. templates: the text
    of those that units are made of.
    """

    files: dict[PurePosixPath, str]
    naming: frozenset[PurePosixPath] = frozenset()
    templates: dict[PurePosixPath, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One sha256 over names and contents, and over the release of the builder that reads them."""
        return _digest_files(self.files.items())

    def digest_component(self, component: Component) -> str:
        """The sha256 of one component's own sources and units, and of the headers in its include directories."""
        wanted = set(component.src)
        found = {
            path: content
            for path, content in self.files.items()
            if path in wanted or (path.suffix in _HEADER_SUFFIXES and _is_below(path, component.include))
        }
        found |= {path: hashlib.sha256(text).hexdigest() for path, text in self._make_units(component)}
        return _digest_files(sorted(found.items()))

    def _make_units(self, component: Component) -> Iterator[tuple[PurePosixPath, bytes]]:
        if component.instantiate:
            from kernel_builder.spec.unit_template import parse_template  # noqa: PLC0415 - Jinja2, which few plans need

            for unit in component.instantiations:
                yield unit.path, parse_template(self.templates[unit.template]).render(unit.values)

    def list_unnamed(self, spec: BuildSpec) -> tuple[PurePosixPath, ...]:
        """The sources that do without the unique id, which changes whenever anything does.

        A unit is named by the place that it would have beside its template. None where a header uses the id, for
        nobody knows who includes that.
        """
        if any(path.suffix in _HEADER_SUFFIXES for path in self.naming):
            return ()
        units = {
            unit.path
            for component in spec.components
            for unit in component.instantiations
            if unit.template not in self.naming
        }
        return tuple(sorted((_list_sources(spec) - self.naming) | units))


def _is_below(path: PurePosixPath, directories: Iterable[PurePosixPath]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)


def probe_inputs(spec: BuildSpec) -> BuildInputs:
    """Read every input of the project.

    These are `build.toml`, the listed sources, headers beside them and in include directories, and the files of the
    Python packages that are shipped. Raises `BadInputError` for a file that is missing, that is not a regular file,
    or that a symbolic link takes from outside the project.
    """
    root = spec.root.resolve()
    problems: list[Problem] = []
    files: dict[PurePosixPath, str] = {}
    naming: set[PurePosixPath] = set()
    templates: dict[PurePosixPath, str] = {}
    made = _list_templates(spec)
    for path in sorted(_list_inputs(spec, root)):
        try:
            real = _check_inside(root, path)
            if path in made:
                files[path], names, templates[path] = _read_template(real, path)
            else:
                files[path], names = _read_content(real)
            if names:
                naming.add(path)
        except _UnusableFileError as error:
            problems.append(Problem(str(error)))
    if problems:
        raise BadInputError(problems)
    return BuildInputs(files, frozenset(naming), templates)


def list_package_files(spec: BuildSpec, kernel_name: str) -> dict[PurePosixPath, PurePosixPath]:
    """The files of a kernel's Python package: path in the package -> path in the project.

    kernel_name: the project's own, or that of a face, whose files lie over the project's.
    """
    root = spec.root.resolve()
    files: dict[PurePosixPath, PurePosixPath] = {}
    for name in dict.fromkeys((spec.general.name, kernel_name)):
        directory = spec.extension_dir / name.replace("-", "_")
        files.update((path.relative_to(directory), path) for path in _list_package(spec, root, name))
    return dict(sorted(files.items()))


class _UnusableFileError(Exception):
    """Why one file cannot be an input."""


def _list_compiled_parts(spec: BuildSpec) -> list[Component | TorchFramework | TvmFfiFramework]:
    parts = (spec.framework, *spec.components)
    return [part for part in parts if isinstance(part, Component | TorchFramework | TvmFfiFramework)]


def _list_sources(spec: BuildSpec) -> set[PurePosixPath]:
    return {path for part in _list_compiled_parts(spec) for path in part.src}


def _list_templates(spec: BuildSpec) -> set[PurePosixPath]:
    return {path for component in spec.components for path in component.templates}


def _list_inputs(spec: BuildSpec, root: Path) -> set[PurePosixPath]:
    listed = {PurePosixPath("build.toml"), *_list_sources(spec), *_list_templates(spec)}
    include = {directory for part in _list_compiled_parts(spec) for directory in part.include}
    beside = {path.parent for path in listed}
    found = set(listed)
    for directory in include:
        found.update(_list_files(root, directory, _HEADER_SUFFIXES, skip=_is_generated))
    for directory in beside:
        found.update(_list_files(root, directory, _HEADER_SUFFIXES, skip=lambda _: True))
    for name in (spec.general.name, *(face.name for face in spec.faces)):
        found.update(_list_package(spec, root, name))
    return found


def _list_package(spec: BuildSpec, root: Path, kernel_name: str) -> Iterator[PurePosixPath]:
    suffixes = [f".{extension.lstrip('.')}" for extension in spec.framework.pyext]
    return _list_files(root, spec.extension_dir / kernel_name.replace("-", "_"), suffixes, skip=_is_byte_code)


def _list_files(
    root: Path, directory: PurePosixPath, suffixes: Iterable[str], *, skip: Callable[[Path], bool]
) -> Iterator[PurePosixPath]:
    """Files below a directory with one of the suffixes; links to directories are followed inside the project.

    skip: whether a directory is passed over.
    """
    wanted = tuple(suffixes)
    waiting = [directory]
    seen: set[Path] = set()
    while waiting:
        current = waiting.pop()
        real = (root / current).resolve()
        if real in seen or not real.is_dir() or not real.is_relative_to(root):
            continue
        seen.add(real)
        for entry in sorted(real.iterdir()):
            path = current / entry.name
            if entry.is_dir():
                if path not in _OUTPUT_DIRECTORIES and not skip(entry):
                    waiting.append(path)
            elif entry.name.endswith(wanted):
                yield path


def _is_byte_code(directory: Path) -> bool:
    return directory.name == "__pycache__"


def _is_generated(directory: Path) -> bool:
    """Whether a directory holds what tools made: caches, hidden ones, virtual environments."""
    marks = ("CACHEDIR.TAG", "pyvenv.cfg")
    return directory.name.startswith(".") or any((directory / mark).exists() for mark in marks)


def _check_inside(root: Path, path: PurePosixPath) -> Path:
    """The real file behind a path of the project."""
    try:
        real = (root / path).resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its symbolic links form a loop"
        raise _UnusableFileError(f"cannot read the source `{path}`: {reason}") from error
    if not real.is_relative_to(root):
        raise _UnusableFileError(f"`{path}` is a symbolic link that leaves the project, to `{real}`")
    if not stat.S_ISREG(mode):
        raise _UnusableFileError(f"`{path}` is not a regular file")
    return real


def _read_content(path: Path) -> tuple[str, bool]:
    """The sha256 of a file, and whether its text may use the unique id."""
    digest = hashlib.sha256()
    names = False
    tail = b""
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                names = names or _NAMING.search(tail + block) is not None
                tail = block[-_LONGEST_NAMING:]
    except OSError as error:
        raise _UnusableFileError(f"cannot read `{path}`: {error.strerror}") from error
    return digest.hexdigest(), names


def _read_template(real: Path, path: PurePosixPath) -> tuple[str, bool, str]:
    """The same of a template, and its text: what was digested is what units are made of."""
    from kernel_builder.spec.unit_template import (  # noqa: PLC0415 - Jinja2, which most projects need not
        BadTemplateError,
        decode_template,
        parse_template,
        read_template,
    )

    try:
        content = read_template(real)
        text = decode_template(content)
        parse_template(text)
    except OSError as error:
        raise _UnusableFileError(f"cannot read `{path}`: {error.strerror}") from error
    except BadTemplateError as error:  # it was changed a moment ago: `load_spec` has read it, too
        raise _UnusableFileError(f"`{path}` {error.faults[0].message}") from error
    return hashlib.sha256(content).hexdigest(), _NAMING.search(content) is not None, text


def _digest_files(files: Iterable[tuple[PurePosixPath, str]]) -> str:
    digest = hashlib.sha256(f"kernel-builder {__version__}\0".encode())
    for path, content in files:
        digest.update(f"{path}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
