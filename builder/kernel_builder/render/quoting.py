"""How a value enters a generated file: one function per place, each refusing what it cannot carry unchanged.

Every result is `Quoted`, the only type that a template may print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from kernel_builder.spec.names import SHELL_OPERATORS

_TARGET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_PROJECT_DIR = "${KERNEL_PROJECT_DIR}"
_UNITS_DIR = "${KERNEL_UNITS_DIR}"
_SPLITS_LISTS = ";[]"
_CMAKE_ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_GENEX_ESCAPES = {"$<": "$<1:$><", ">": "$<ANGLE-R>", ",": "$<COMMA>"}
_SHELL_SPECIAL = re.compile(r"([\\\"'\s])")


class Quoted(str):
    """Text that is ready for the file that it goes into."""

    __slots__ = ()


def quote_argument(value: str) -> Quoted:
    """A CMake argument that evaluates to exactly this text. Raises `ValueError` for a null character."""
    return Quoted(f'"{_escape_cmake(value)}"')


def quote_arguments(values: Iterable[str]) -> Quoted:
    """CMake arguments, one for each text.

    Raises `ValueError` for text that a CMake list would split or join, since most commands make lists of arguments.
    """
    return Quoted(" ".join(quote_argument(_check_element(value)) for value in values))


def quote_path(path: PurePosixPath) -> Quoted:
    """A CMake argument: a file of the kernel project, wherever that lies when the generated project is configured.

    Raises `ValueError` for a path that CMake or ninja takes for several.
    """
    if "|" in path.as_posix():
        raise ValueError(f"ninja cannot carry `{path}`: rename it without `|`")
    text = _escape_cmake(_check_element(path.as_posix()))
    return Quoted(f'"{_PROJECT_DIR}"' if text == "." else f'"{_PROJECT_DIR}/{text}"')


def quote_paths(paths: Iterable[PurePosixPath]) -> Quoted:
    """CMake arguments, one for each file, one a line."""
    return Quoted("\n    ".join(quote_path(path) for path in paths))


def quote_units(paths: Iterable[PurePosixPath]) -> Quoted:
    """CMake arguments, one for each unit, one a line: files of the generated project that stand for these."""
    return Quoted("\n    ".join(quote_path(path).replace(_PROJECT_DIR, _UNITS_DIR, 1) for path in paths))


def quote_flags(flags: Iterable[str]) -> Quoted:
    r"""A CMake argument: an option that gives the compiler each flag as one argument, as written.

    Four readers stand between the argument and the compiler, and each is answered here, the last one first. CMake
    splits what follows `SHELL:` like a shell does (so that it neither drops a repeated flag nor tears `-Xptxas -v`
    apart), before that splits lists at `;`, before that evaluates generator expressions, and before all evaluates the
    argument itself. The option is meant to stand inside a generator expression for one language.

    Raises `ValueError` for a flag that is an operator of the shell: CMake hands these on for what they are.
    """
    flags = tuple(flags)
    for flag in flags:
        if flag in SHELL_OPERATORS:
            raise ValueError(f"`{flag}` is an operator of the shell, not a flag")
    words = " ".join(_SHELL_SPECIAL.sub(r"\\\1", flag) for flag in flags)
    listed = words.replace(";", "\\;")
    evaluated = re.sub(r"\$<|[>,]", lambda match: _GENEX_ESCAPES[match[0]], listed)
    return quote_argument(f"SHELL:{evaluated}")


def quote_target(name: str) -> Quoted:
    """A name that CMake takes for a target. Raises `ValueError` for any other."""
    if _TARGET.fullmatch(name) is None:
        raise ValueError(f"`{name}` is not the name of a CMake target")
    return Quoted(name)


def quote_targets(names: Iterable[str]) -> Quoted:
    """Names that CMake takes for targets or languages."""
    return Quoted(" ".join(quote_target(name) for name in names))


def quote_python(value: str) -> Quoted:
    """A Python string literal."""
    return Quoted(ascii(value))


def quote_identifier(value: str) -> Quoted:
    """A Python identifier. Raises `ValueError` for any other text."""
    if not (value.isidentifier() and value.isascii()):
        raise ValueError(f"`{value}` is not an identifier")
    return Quoted(value)


def quote_toml(value: str) -> Quoted:
    """A TOML basic string."""
    return Quoted(json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f"))


def _escape_cmake(value: str) -> str:
    if "\0" in value:
        raise ValueError("CMake cannot read a null character")
    return "".join(_CMAKE_ESCAPES.get(character, character) for character in value)


def _check_element(value: str) -> str:
    if any(character in value for character in _SPLITS_LISTS) or "$<" in value or value.endswith("\\"):
        raise ValueError(f"CMake cannot keep `{value}` in a list: rename it without `;`, `[`, `]` and `$<`")
    return value
