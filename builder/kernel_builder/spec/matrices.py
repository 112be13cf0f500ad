"""`[[kernel.<name>.instantiate]]`: templates and their axes, read, and bounded before anything is multiplied out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from kernel_builder.spec import schema
from kernel_builder.spec.fields import Fields
from kernel_builder.spec.locate import render_key
from kernel_builder.spec.model import TEMPLATE_SUFFIX, AxisValue, InstantiationMatrix, name_variable
from kernel_builder.spec.names import parse_compiled_path
from kernel_builder.spec.problems import BadValueError, ProblemCollector, describe, shorten, show, suggest

MAX_UNITS = 1024
MAX_TEMPLATES = 128  # of a file: reading a large one takes a tenth of a second
_MAX_OF_PROJECT = 4096
_MAX_NAME = 200  # of a unit's file, to which compilers append more
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_AXIS = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*")
_MAX_AXIS = 64
_TAKEN = frozenset({  # words of Jinja2
    "and", "as", "block", "call", "caller", "context", "elif", "else", "false", "filter", "for", "if", "import", "in",
    "include", "is", "loop", "macro", "none", "not", "or", "raw", "recursive", "self", "set", "super", "true", "with",
    "without",
})  # fmt: skip
_SHOWN = 80
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
UNIT_SUFFIXES = frozenset({".c", ".cc", ".cpp", ".cu", ".cxx", ".hip", ".m", ".metal", ".mm"})


class MatrixReader:
    """Reads the matrices of one file, whose units it counts."""

    def __init__(self, collector: ProblemCollector) -> None:
        self._collector = collector
        self._units_left = _MAX_OF_PROJECT
        self._templates_left = MAX_TEMPLATES

    def read(self, component: Fields) -> tuple[InstantiationMatrix, ...]:
        """All matrices of a component. What is refused is left out."""
        found = {}
        if isinstance(component.values.get("instantiate"), dict):
            header = f"[[{render_key((*component.path, 'instantiate'))}]]"
            component.refuse(
                "instantiate", f"`{header[2:-2]}` must be an array of tables, got a table", f"write `{header}`"
            )
            return ()
        for table in component.tables_at("instantiate", schema.INSTANTIATE):
            self._templates_left -= 1
            if self._templates_left == -1:  # said once
                message = f"the file has more than {MAX_TEMPLATES} `instantiate` tables"
                table.refuse("template", message, "make more units of one template")
            is_read = self._units_left >= 0 and self._templates_left >= 0
            matrix = self._read_matrix(table) if is_read else None
            if matrix is not None:
                found[int(table.path[-1])] = matrix
        self._collector.keep((*component.path, "instantiate"), tuple(found))
        return tuple(found.values())

    def _read_matrix(self, table: Fields) -> InstantiationMatrix | None:
        template = table.parsed("template", parse_template_path)
        axes = self._read_axes(table)
        if axes is None or not self._check_count(table, axes):
            return None
        exclude = self._read_exclude(table, axes)
        if template is None or exclude is None:
            return None
        matrix = InstantiationMatrix(template, axes, exclude)
        return matrix if self._check_units(table, matrix) else None

    def _read_axes(self, table: Fields) -> dict[str, tuple[AxisValue, ...]] | None:
        raw = table.free_table("axes")
        if raw is None:
            return None
        if not raw:
            table.refuse("axes", f"{table.title} has no axis", 'for example `axes.dtype = ["bfloat16", "float16"]`')
        read = {name: self._read_axis(table, name, raw[name]) for name in sorted(raw) if not self._collector.is_full}
        owners: dict[str, str] = {}
        for name in read:
            first = owners.setdefault(name_variable(name), name)
            if first != name:
                message = f"the axes `{first}` and `{name}` are both `{name_variable(name)}` in the template"
                self._collector.refuse((*table.path, "axes", name), message, "rename one of the two")
        axes = {name: values for name, values in read.items() if values is not None}
        return axes if raw and len(axes) == len(raw) == len(owners) else None

    def _read_axis(self, table: Fields, name: str, values: object) -> tuple[AxisValue, ...] | None:
        path = (*table.path, "axes", name)
        problem: str | None = None
        if not _AXIS.fullmatch(name) or len(name) > _MAX_AXIS:
            problem = f"`{show(name)}` is not the name of an axis"
        elif name_variable(name) in _TAKEN:
            problem = f"`{name}` cannot be an axis: it is a word of the template's own language"
        if problem is not None:
            hint = f"use letters and digits with dashes between, such as `head-dim`, at most {_MAX_AXIS} characters"
            self._collector.refuse(path, problem, hint)
            return None
        if not isinstance(values, list) or not values:
            message = f"the axis `{name}` must be an array of values, got {describe(values)}"
            self._collector.refuse(path, message, f'for example `{name} = ["bfloat16", "float16"]`')
            return None
        kept: dict[AxisValue, None] = {}
        for index, value in enumerate(values):
            if self._collector.is_full:
                return None
            try:
                kept[_check_value(value, values[0], kept)] = None
            except BadValueError as error:
                self._collector.refuse((*path, index), f"the axis `{name}` {error}", error.hint)
        return tuple(kept) if len(kept) == len(values) else None

    def _check_count(self, table: Fields, axes: Mapping[str, tuple[AxisValue, ...]]) -> bool:
        count = math.prod(len(values) for values in axes.values())
        if count > MAX_UNITS:
            factors = shorten(" x ".join(str(len(values)) for values in axes.values()), _SHOWN)
            told = "more points than can be counted" if count > _HIGHEST else f"{count} points"
            message = f"{table.title} has {factors} = {told}, at most {MAX_UNITS} are possible"
            table.refuse("axes", message, "give it fewer values, or several templates fewer axes each")
            return False
        was_left = self._units_left
        self._units_left -= count
        if self._units_left < 0 <= was_left:  # said once
            table.refuse("axes", f"the file declares more than {_MAX_OF_PROJECT} units", "give axes fewer values")
        return self._units_left >= 0

    def _read_exclude(
        self, table: Fields, axes: Mapping[str, tuple[AxisValue, ...]]
    ) -> tuple[dict[str, AxisValue], ...] | None:
        """None when an entry was refused."""
        raw = table.free_tables("exclude")
        if raw is None:
            return None
        read = []
        for index, entry in enumerate(raw):
            if self._collector.is_full:
                return None
            problem = _find_fault(entry, axes)
            if problem is None:
                read.append(dict(sorted(entry.items())))
            else:
                self._collector.refuse((*table.path, "exclude", index), *problem)
        return tuple(read) if len(read) == len(raw) else None

    def _check_units(self, table: Fields, matrix: InstantiationMatrix) -> bool:
        everything = [dict(unit.values) for unit in InstantiationMatrix(matrix.template, matrix.axes).instantiations]
        left, is_right = everything, True
        for index, entry in enumerate(matrix.exclude):
            if self._collector.is_full:
                return False
            wanted = {name_variable(axis): value for axis, value in entry.items()}
            rest = [point for point in left if not wanted.items() <= point.items()]
            if left and len(rest) == len(left):
                message = f"`exclude[{index}]` matches nothing that the entries before it leave"
                self._collector.refuse((*table.path, "exclude", index), message, "remove it")
                is_right = False
            left = rest
        if not left:
            table.refuse("exclude", f"{table.title} excludes every point of its axes", "leave at least one")
            return False
        longest = max((unit.path.name for unit in matrix.instantiations), key=len)
        if len(longest) > _MAX_NAME:
            message = f"a unit would have a file name of {len(longest)} characters: `{show(longest)}`"
            table.refuse("axes", message, f"use shorter values: at most {_MAX_NAME} characters are possible")
            return False
        return is_right


def parse_template_path(text: str) -> PurePosixPath:
    """The template of a source: `cuda/forward.cu.j2`."""
    path = parse_compiled_path(text)
    source = PurePosixPath(path.name.removesuffix(TEMPLATE_SUFFIX))
    if path.suffix != TEMPLATE_SUFFIX or source.suffix not in UNIT_SUFFIXES:
        known = ", ".join(f"`{suffix}{TEMPLATE_SUFFIX}`" for suffix in sorted(UNIT_SUFFIXES))
        raise BadValueError(
            f"is not the template of a source: `{show(text)}`", f"its name must end with one of {known}"
        )
    return path


def _check_value(value: Any, first: Any, seen: Collection[AxisValue]) -> AxisValue:
    """One value of an axis. Raises `BadValueError`."""
    if not isinstance(value, str | int):
        raise BadValueError(f"must have strings, integers or booleans, got {describe(value)}")
    if type(value) is not type(first):
        raise BadValueError(f"must have values of one type, got {describe(first)} and {describe(value)}")
    if isinstance(value, str) and not _WORD.fullmatch(value):
        hint = "it becomes a part of a file name: use letters, digits, `_`, `.` and `-`, at most 64 characters"
        raise BadValueError(f"has a value that cannot be used: {describe(value)}", hint)
    if not isinstance(value, str) and not _LOWEST <= value <= _HIGHEST:
        raise BadValueError(f"has {describe(value)}, which has more than 64 bits")
    if value in seen:
        raise BadValueError(f"has {describe(value)} twice", "remove one of the two")
    return value


def _find_fault(entry: dict[str, Any], axes: Mapping[str, tuple[AxisValue, ...]]) -> tuple[str, str] | None:
    """What is wrong with an entry of `exclude`, and what to do."""
    listed = ", ".join(f"`{axis}`" for axis in axes)
    if not entry:
        return "an entry of `exclude` names no axis", f"name at least one of {listed}"
    for axis, value in entry.items():
        if axis not in axes:
            close = suggest(axis, axes)
            hint = f"the axes are {listed}" if close is None else f"did you mean `{close}`?"
            return f"`exclude` names `{show(axis)}`, which is no axis", hint
        if not any(type(known) is type(value) and known == value for known in axes[axis]):
            message = f"`exclude` matches nothing: the axis `{axis}` does not have {describe(value)}"
            return message, "write it as in `axes`, or remove the entry"
    return None
