"""The only part of this stage that looks at the disk: finding `build.toml`, and checking the files that it names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.spec.locate import KeyPath, printable, render_key
from kernel_builder.spec.model import BuildSpec, TorchNoarchFramework
from kernel_builder.spec.problems import suggest
from kernel_builder.spec.remark import Remark, Rule, framework_key

FILE_NAME = "build.toml"
MAX_BYTES = 2 << 20  # the longest that are known have half a megabyte of source paths
_MAX_CANDIDATES = 10_000
_NOT_SOURCES = frozenset({"build", "result", "__pycache__", "node_modules"})
_GENERATED = frozenset({"registration.h"})


@dataclass(frozen=True, slots=True)
class BuildFile:
    """A `build.toml` that was read: its text, its directory, and its path as the user named it."""

    text: str
    root: Path
    name: str


def read_build_file(project: Path) -> BuildFile:
    """Read the `build.toml` of a project, or the one at this very path. Raises `BadInputError`."""
    file = project / FILE_NAME if _is_directory(project) else project
    name = printable(str(file))
    try:
        content = _read_bytes(file, name)
        root = file.parent.resolve(strict=True)
    except FileNotFoundError:
        raise BadInputError(_missing(project, file)) from None
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of symlinks; ValueError: a NUL
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the path is not usable"
        raise BadInputError(Problem(f"`{name}` cannot be read: {reason}")) from None
    try:
        return BuildFile(content.decode().removeprefix("\ufeff"), root, name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = "save the file as UTF-8"
        problem = Problem("the file is not UTF-8 text", Location(name, line), hint)
        raise BadInputError(problem) from None


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _read_bytes(file: Path, name: str) -> bytes:
    mode = file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise BadInputError(Problem(f"`{name}` is a directory", hint="a kernel project has a file of this name"))
    if not stat.S_ISREG(mode):
        raise BadInputError(Problem(f"`{name}` is not a regular file"))
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadInputError(Problem(f"`{name}` is larger than {MAX_BYTES >> 20} MiB: it cannot be a `{FILE_NAME}`"))
    return content


def _missing(project: Path, file: Path) -> Problem:
    if file is project:
        return Problem(
            f"`{printable(str(project))}` does not exist", hint=f"name a kernel project or its `{FILE_NAME}`"
        )
    return Problem(
        f"`{printable(str(project))}` has no `{FILE_NAME}`",
        hint=f"a kernel project is a directory with a `{FILE_NAME}`: go there, or name it",
    )


class _Tree:
    """The files below a directory, looked at lazily and for suggestions only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._resolved = root.resolve()

    def find_fault(self, path: PurePosixPath) -> tuple[str, str | None] | None:
        """What keeps `path` from being a readable file of this project, and what to do about it."""
        full = self._root / path
        try:
            mode = full.stat().st_mode
            target = full.resolve()
        except PermissionError:
            return "may not be read", None
        except (OSError, RuntimeError):
            return ("is a broken symlink", None) if self._is_link(full) else ("does not exist", self._suggest(path))
        if not target.is_relative_to(self._resolved):
            return "is a symlink that leaves the project", "copy the file into the project"
        if stat.S_ISDIR(mode):
            return "is a directory", "list the files in it, one by one"
        return None if stat.S_ISREG(mode) else ("is not a regular file", None)

    @staticmethod
    def _is_link(path: Path) -> bool:
        try:
            return path.is_symlink()
        except OSError:
            return False

    def _suggest(self, path: PurePosixPath) -> str | None:
        if any(character in path.name for character in "*?["):
            return "patterns are not expanded: list every file"
        siblings = self._files.get(path.parent, ())
        close = suggest(path.name, siblings)
        if close is not None:
            return f"did you mean `{printable(str(path.parent / close))}`?"
        for parent in sorted(self._files):
            if path.name in self._files[parent]:
                return f"did you mean `{printable(str(parent / path.name))}`?"
        return None

    @cached_property
    def _files(self) -> dict[PurePosixPath, list[str]]:
        found: dict[PurePosixPath, list[str]] = {}
        count = 0
        for directory, subdirectories, files in os.walk(self._root):
            subdirectories[:] = sorted(n for n in subdirectories if n not in _NOT_SOURCES and not n.startswith("."))
            found[PurePosixPath(Path(directory).relative_to(self._root).as_posix())] = files
            count += len(files)
            if count > _MAX_CANDIDATES:
                break
        return found


def check_sources(spec: BuildSpec) -> Iterator[Remark]:
    """Every source is a file of the project."""
    tree = _Tree(spec.root)
    lists: list[tuple[KeyPath, str, tuple[PurePosixPath, ...]]] = []
    if not isinstance(spec.framework, TorchNoarchFramework):
        table = framework_key(spec)
        lists.append(((table, "src"), f"[{table}]", spec.framework.src))
        lists.extend((("kernel", c.name, "src"), render_key(("kernel", c.name)), c.src) for c in spec.components)
    for path, owner, sources in lists:
        for index, source in enumerate(sources):
            fault = tree.find_fault(source)
            is_generated = source.parent == spec.extension_dir and source.name in _GENERATED
            if fault is not None and not (is_generated and fault[0] == "does not exist"):
                message = f"`{owner}` names a source that {fault[0]}: `{printable(str(source))}`"
                yield Remark((*path, index), message, fault[1])


def check_templates(spec: BuildSpec) -> Iterator[Remark]:
    """Every template is a file of the project, and every unit can be made of it."""
    if any(component.instantiate for component in spec.components):
        from kernel_builder.spec.units import check_units  # noqa: PLC0415 - Jinja2, which most projects need not

        yield from check_units(spec, _Tree(spec.root).find_fault)


def check_includes(spec: BuildSpec) -> Iterator[Remark]:
    """An include directory that does not exist helps nobody, and stops no compiler."""
    lists: list[tuple[KeyPath, tuple[PurePosixPath, ...]]] = []
    if not isinstance(spec.framework, TorchNoarchFramework):
        lists.append(((framework_key(spec), "include"), spec.framework.include))
        lists.extend((("kernel", c.name, "include"), c.include) for c in spec.components)
    resolved = spec.root.resolve()
    for path, directories in lists:
        for index, directory in enumerate(directories):
            full = spec.root / directory
            if not _is_directory(full):
                message = f"`{render_key(path)}` names a directory that does not exist: `{printable(str(directory))}`"
                yield Remark((*path, index), message, is_error=False)
            elif not full.resolve().is_relative_to(resolved):
                message = f"`{render_key(path)}` names a symlink that leaves the project: `{printable(str(directory))}`"
                yield Remark((*path, index), message, "copy the directory into the project")


def check_packages(spec: BuildSpec) -> Iterator[Remark]:
    """The kernel and each face have a Python package."""
    tree = _Tree(spec.root)
    owners: list[tuple[KeyPath, str, str]] = [(("general", "name"), "the kernel", spec.general.python_name)]
    owners.extend((("face", face.name), f"`face.{face.name}`", face.python_name) for face in spec.faces)
    for path, owner, python_name in owners:
        package = spec.extension_dir / python_name / "__init__.py"
        fault = tree.find_fault(package)
        if fault is not None:
            message = f"{owner} has no Python package: `{package}` {fault[0]}"
            yield Remark(path, message, "write it: it is what `import` gives to the users of the kernel")


FILE_RULES: tuple[Rule, ...] = (
    Rule("sources", check_sources),
    Rule("templates", check_templates),
    Rule("includes", check_includes),
    Rule("packages", check_packages, (("general", "name"),)),
)
