"""The templates that translation units are made of: a small part of Jinja2, which always ends and reaches nothing.

A template has text, variables, conditions, loops over what it lists itself, and tables to look a value up in. It has no
calls, no attributes, no includes and no macros, so that reading a foreign project runs nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.matrices import MAX_TEMPLATES
from kernel_builder.spec.model import AxisValue
from kernel_builder.spec.problems import show, suggest
from kernel_builder.spec.template_language import BRACES, FILTERS, Fault, find_forbidden, walk

MAX_TEMPLATE_BYTES = 64 << 10
MAX_UNIT_BYTES = 1 << 20
_MAX_STEPS = 25_000  # of expressions in loops, for one unit
_MAX_INTEGER = 2**63
_NAME_OF_TEMPLATE = "<template>"  # Jinja2's own, in the tracebacks that it makes


class BadTemplateError(BadInputError):
    """A template that makes no unit, and every reason for that."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(Problem(f"a template {fault.message}", hint=fault.hint) for fault in faults)
        self.faults = faults


class UnitTemplate:
    """A template that was read; units are made of it by `render`. Raises `BadTemplateError`."""

    def __init__(self, text: str) -> None:
        self._environment = _Environment()
        try:
            tree = self._environment.parse(text)
            faults = tuple(find_forbidden(tree))
            if not faults:
                self._names = meta.find_undeclared_variables(tree)
                self._lines = _find_lines(tree)
                _restrain(tree)
                self._template = self._environment.from_string(tree)
        except TemplateSyntaxError as error:
            faults = (Fault(error.lineno, f"cannot be read: {show(error.message or '')}", BRACES),)
        except (RecursionError, MemoryError, SyntaxError):  # of Python, for the code that Jinja2 makes
            faults = (Fault(None, "nests expressions or loops too deeply"),)
        except (TemplateError, ValueError, OverflowError) as error:
            faults = (Fault(None, f"cannot be read: {show(error)}"),)
        if faults:
            raise BadTemplateError(*faults)

    def list_faults(self, variables: Iterator[str] | tuple[str, ...]) -> Iterator[Fault]:
        """What is wrong with the names in it, if these are the axes."""
        known = tuple(variables)
        for name in sorted(self._names - set(known), key=lambda name: (self._lines.get(name, 0), name)):
            close = suggest(name, known)
            listed = ", ".join(f"`{word}`" for word in known)
            hint = f"the axes are {listed}" if close is None else f"did you mean `{close}`?"
            yield Fault(self._lines.get(name), f"uses `{show(name)}`, which is no axis", hint)
        for name in known:
            if name not in self._names:
                message = f"never uses the axis `{name}`: units that differ in it alone would be equal"
                yield Fault(None, message, f"use it as `{{{{ {name} }}}}`, or remove the axis")

    def render(self, values: Mapping[str, AxisValue]) -> bytes:
        """Make one unit. Raises `BadTemplateError` for what only shows with these values."""
        self._environment.steps_left = _MAX_STEPS
        pieces: list[bytes] = []
        size = 0
        try:
            for piece in self._template.generate(**values):
                pieces.append(piece.encode())
                size += len(pieces[-1])
                if size > MAX_UNIT_BYTES:
                    raise BadTemplateError(Fault(None, f"makes a unit of more than {MAX_UNIT_BYTES >> 20} MiB"))
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise BadTemplateError(Fault(_find_line(error), f"fails: {show(error)}", _explain(values))) from None
        return b"".join(pieces)


@lru_cache(maxsize=MAX_TEMPLATES)
def parse_template(text: str) -> UnitTemplate:
    """Read a template once, however many units are made of it. Raises `BadTemplateError`."""
    return UnitTemplate(text)


def read_template(path: Path) -> bytes:
    """The bytes of a template, and no more of a larger file than shows that it is too large. Raises `OSError`."""
    with path.open("rb") as stream:
        return stream.read(MAX_TEMPLATE_BYTES + 1)


def decode_template(content: bytes) -> str:
    """The text of a template. Raises `BadTemplateError` for bytes that are none, or too many."""
    if len(content) > MAX_TEMPLATE_BYTES:
        raise BadTemplateError(Fault(None, f"is larger than {MAX_TEMPLATE_BYTES >> 10} KiB", "move code into a header"))
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadTemplateError(Fault(line, "is not UTF-8 text", "save the file as UTF-8")) from None
    if "\0" in text:
        raise BadTemplateError(Fault(text.count("\n", 0, text.index("\0")) + 1, "has a null character: it is no text"))
    return text


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 without functions, tests and attributes; numbers and loops are bounded."""

    intercepted_binops = frozenset({"+", "-", "*", "//", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            finalize=_print,
            autoescape=False,
            optimized=False,
            keep_trailing_newline=True,
            cache_size=0,
        )
        self.globals.clear()
        self.tests.clear()
        self.filters.clear()
        self.filters.update(FILTERS, _scalar=_scalar, _counted=self._counted)
        self.steps_left = 0

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An element, and never an attribute in the place of one that is not there."""
        if isinstance(argument, Undefined):
            str(argument)  # raises
        try:
            return obj[argument]
        except KeyError:
            raise LookupError(f"the table has no `{argument}`") from None

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic of integers, no longer than a compiler takes them."""
        for operand in (left, right):
            if isinstance(operand, Undefined):
                str(operand)  # raises
        if type(left) is not int or type(right) is not int:
            raise TypeError(f"`{operator}` is for integers")
        result = super().call_binop(context, operator, left, right)
        if not -_MAX_INTEGER <= result < _MAX_INTEGER:
            raise OverflowError("an integer has more than 64 bits")
        return result

    def _counted(self, values: Any, weight: int, unpacks: bool) -> Any:
        """What a loop runs over, once it is sure to end soon.

        weight: the expressions that are computed each time. unpacks: whether it has several variables.
        """
        if not isinstance(values, list | tuple | dict):
            raise TypeError("`for` runs over a list")
        for value in values:
            for part in value if unpacks and isinstance(value, list | tuple) else (value,):
                _check_scalar(part, "a variable of `for`")
        self.steps_left -= len(values) * weight
        if self.steps_left < 0:
            raise OverflowError("its loops do not end in reasonable time")
        return values


def _print(value: Any) -> Any:
    """Text as it is, integers in digits, booleans as C++ spells them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | Undefined):  # an undefined value raises by itself when it is printed
        return value
    raise TypeError(f"a value of type `{type(value).__name__}` cannot be printed")


def _scalar(value: Any) -> Any:
    _check_scalar(value, "`set`")
    return value


def _check_scalar(value: Any, owner: str) -> None:
    """What a variable may hold: a few loops put tables into tables until two are never compared to their ends."""
    if isinstance(value, Undefined):
        str(value)  # raises
    if not isinstance(value, str | int):
        raise TypeError(f"{owner} is for a text, an integer or a boolean")


def _restrain(tree: nodes.Template) -> None:
    """Have what loops run over, and what variables hold, looked at when a unit is made."""
    for loop in tree.find_all(nodes.For):
        repeated = loop.body if loop.test is None else [loop.test, *loop.body]
        weight = 1 + sum(1 for part in repeated for _ in walk(part))
        facts: list[nodes.Expr] = [nodes.Const(weight), nodes.Const(isinstance(loop.target, nodes.Tuple))]
        loop.iter = nodes.Filter(loop.iter, "_counted", facts, [], None, None, lineno=loop.lineno)
    for assignment in tree.find_all(nodes.Assign):
        assignment.node = nodes.Filter(assignment.node, "_scalar", [], [], None, None, lineno=assignment.lineno)
    tree.set_environment(tree.environment)  # type: ignore[arg-type] # of the new nodes, too


def _find_lines(tree: nodes.Template) -> dict[str, int]:
    """Name -> the first line that reads it."""
    lines: dict[str, int] = {}
    for node in walk(tree):
        if isinstance(node, nodes.Name) and node.ctx == "load":
            lines.setdefault(node.name, node.lineno)
    return lines


def _find_line(error: BaseException) -> int | None:
    """The line of the template that an error comes from, which Jinja2 puts into its traceback."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _NAME_OF_TEMPLATE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _explain(values: Mapping[str, AxisValue]) -> str:
    return "with " + ", ".join(f"`{name} = {_print(value)}`" for name, value in values.items())
