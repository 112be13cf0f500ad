"""The only part of this stage that looks at the disk: finding `build.toml`, and checking the files that it names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.spec.locate import KeyPath, printable, render_key
from kernel_builder.spec.model import BuildSpec, InstantiationMatrix, TorchNoarchFramework, name_variable
from kernel_builder.spec.problems import suggest
from kernel_builder.spec.remark import Remark, Rule, framework_key
from kernel_builder.spec.unit_template import (
    MAX_TEMPLATE_BYTES,
    BadTemplateError,
    Fault,
    decode_template,
    parse_template,
)

FILE_NAME = "build.toml"
MAX_UNITS_BYTES = 64 << 20
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
    tree = _Tree(spec.root)
    size = 0
    for component in () if isinstance(spec.framework, TorchNoarchFramework) else spec.components:
        for index, matrix in enumerate(component.instantiate):
            key: KeyPath = ("kernel", component.name, "instantiate", index)
            name = f"`{printable(str(matrix.template))}`"
            fault = tree.find_fault(matrix.template)
            if fault is not None:
                message = f"`{render_key(key)}` names a template that {fault[0]}: {name}"
                yield Remark((*key, "template"), message, fault[1])
                continue
            try:
                texts = make_units(spec.root, matrix)
            except BadTemplateError as error:
                for each in error.faults:
                    place = name if each.line is None else f"line {each.line} of {name}"
                    yield Remark((*key, "template"), f"{place} {each.message}", each.hint)
                continue
            size += sum(map(len, texts.values()))
            yield from _check_units(spec.root, matrix, texts, key)
            if size > MAX_UNITS_BYTES:
                message = f"the units of the file have more than {MAX_UNITS_BYTES >> 20} MiB in all"
                yield Remark((*key, "axes"), message, "move what they share into a header")
                return


def make_units(root: Path, matrix: InstantiationMatrix) -> dict[PurePosixPath, bytes]:
    """The text of every unit of a template in the project at `root`. Raises `BadTemplateError`."""
    try:
        with (root / matrix.template).open("rb") as stream:
            content = stream.read(MAX_TEMPLATE_BYTES + 1)
    except OSError as error:
        raise BadTemplateError(Fault(None, f"cannot be read: {error.strerror}")) from None
    template = parse_template(decode_template(content))
    faults = tuple(template.list_faults(name_variable(axis) for axis in matrix.axes))
    if faults:
        raise BadTemplateError(*faults)
    return {unit.path: template.render(unit.values) for unit in matrix.instantiations}


def _check_units(
    root: Path, matrix: InstantiationMatrix, texts: Mapping[PurePosixPath, bytes], key: KeyPath
) -> Iterator[Remark]:
    """A unit stands in nobody's place, and is no other one again."""
    owners: dict[bytes, PurePosixPath] = {}
    for path, text in texts.items():
        first = owners.setdefault(text, path)
        if first != path:
            message = f"`{matrix.template}` makes the same of `{first.name}` and `{path.name}`"
            yield Remark(key, message, "have the template tell them apart, or leave one out with `exclude`")
        if _is_there(root / path):
            message = f"the unit `{path}` has the name of a file of the project"
            yield Remark(key, message, "remove the file: the unit takes its place; or rename the template")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


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
