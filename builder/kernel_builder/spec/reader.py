"""Stage 1: `build.toml` -> BuildSpec. Finds the file, reads it, applies the rules, and reports all problems at once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.spec.editions import detect_edition, tell_lifted
from kernel_builder.spec.fields import Fields
from kernel_builder.spec.files import FILE_RULES, read_build_file
from kernel_builder.spec.locate import Locator
from kernel_builder.spec.model import BuildSpec
from kernel_builder.spec.problems import ProblemCollector, show
from kernel_builder.spec.remark import Rule
from kernel_builder.spec.rules import RULES
from kernel_builder.spec.schema import ROOT
from kernel_builder.spec.sections import SectionReader

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_MAX_DEPTH = 16  # twice what the format has
_MAX_DOTS = 200
_NOT_IN_KEYS = re.compile(r"[,\[\]{}#=]")
_ONE_STRING = re.compile(r"\s*(\"[^\"]*\"|'[^']*')\s*")


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A valid declaration, and what its author should know about it, one line each."""

    spec: BuildSpec
    notices: tuple[str, ...] = ()


def load_spec(project: Path, *, check_files: bool = True) -> LoadedSpec:
    """Load a kernel project: a directory, or the path of its `build.toml`.

    With `check_files` the sources and Python packages that the file names must exist. Raises `BadInputError` with
    every problem of the file, each with its line.
    """
    found = read_build_file(project)
    return read_spec(found.text, root=found.root, file=found.name, rules=RULES + FILE_RULES if check_files else RULES)


def read_spec(text: str, *, root: Path, file: str = "build.toml", rules: tuple[Rule, ...] = RULES) -> LoadedSpec:
    """Read the text of a `build.toml`. `file` is what problems call it. Raises `BadInputError`."""
    document = parse_document(text, file)
    collector = ProblemCollector(file, Locator(text))
    spec = _read_document(document, root, collector)
    if spec is not None:
        for rule in rules:
            _apply(rule, spec, collector)
    if spec is None or collector.problems:
        raise BadInputError(collector.problems)
    return LoadedSpec(spec, collector.notices)


def _apply(rule: Rule, spec: BuildSpec, collector: ProblemCollector) -> None:
    if any(collector.has_failed(path) for path in rule.needs):
        return
    for remark in rule.check(spec):
        if collector.is_full:
            return
        if remark.is_error:
            collector.refuse(remark.path, remark.message, remark.hint)
        else:
            collector.notice(remark.path, remark.message)


def parse_document(text: str, file: str) -> dict[str, Any]:
    """Parse TOML. Raises `BadInputError` with the line of the first syntax error."""
    document = None if _has_endless_key(text) else _parse_toml(text, file)
    if document is None or _is_deeper(document, _MAX_DEPTH):
        message = f"the file nests arrays or tables more than {_MAX_DEPTH} deep"
        raise BadInputError(Problem(message, Location(file)))
    return document


def _parse_toml(text: str, file: str) -> dict[str, Any] | None:
    """None when the parser runs out of stack."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        return None
    except ValueError as error:  # besides `TOMLDecodeError`: numbers with thousands of digits, impossible dates
        raise BadInputError(_syntax_problem(str(error), text, file)) from None


def _has_endless_key(text: str) -> bool:
    """Whether a key has so many parts that the parser, which is quadratic in them, would not come back."""
    lines = (line for line in text.split("\n") if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"))
    parts = (part for line in lines for part in _NOT_IN_KEYS.split(line) if part.count(".") > _MAX_DOTS)
    return any(not _ONE_STRING.fullmatch(part) for part in parts)


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(each, depth - 1) for each in inner)


def _syntax_problem(message: str, text: str, file: str) -> Problem:
    place = _PLACE.search(message)
    reason = message if place is None else message[: place.start()]
    reason = reason.partition(":")[0] if "sys.set_int_max_str_digits" in reason else reason
    reason = f"the file is not valid TOML: {show(reason[:1].lower() + reason[1:])}"
    if place is None:
        return Problem(reason, Location(file))
    if not place["line"]:
        return Problem(f"{reason}, at the end of the file", Location(file, text.rstrip().count("\n") + 1))
    line = int(place["line"])
    excerpt = text.replace("\r\n", "\n").split("\n")[line - 1].strip()
    hint = "a string is written in quotes" if reason.endswith("invalid value") else None
    return Problem(f"{reason}, in column {place['column']} of `{show(excerpt)}`", Location(file, line), hint)


def _read_document(document: dict[str, Any], root: Path, collector: ProblemCollector) -> BuildSpec | None:
    """The spec as far as it can be read. None when not even the edition or the framework can be known."""
    edition = detect_edition(document, collector)
    if edition is None:
        return None
    fields = Fields(document, (), ROOT, edition, collector)
    spec = SectionReader(root, edition, collector).read(fields)
    if spec is not None:
        tell_lifted(edition, document, collector)
    return spec
