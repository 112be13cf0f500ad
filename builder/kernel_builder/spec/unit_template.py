"""The templates that translation units are made of: a small part of Jinja2, which always ends and reaches nothing.

A template has text, variables, conditions, loops over what it lists itself, and tables to look a value up in. It has no
calls, no attributes, no includes and no macros, so that reading a foreign project runs nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.model import AxisValue
from kernel_builder.spec.problems import show, suggest

MAX_TEMPLATE_BYTES = 64 << 10
MAX_UNIT_BYTES = 1 << 20
_MAX_NODES = 5_000
_MAX_STEPS = 100_000  # of expressions in loops, for one unit
_MAX_INTEGER = 2**63
_NAME_OF_TEMPLATE = "<template>"  # Jinja2's own, in the tracebacks that it makes
_FILTERS = {"lower": str.lower, "upper": str.upper}
_LOOP_ATTRIBUTES = frozenset({"first", "index", "index0", "last"})
_LITERALS = (nodes.Const, nodes.Dict, nodes.List, nodes.Tuple)
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.If, nodes.For, nodes.Assign),
    *(nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Getitem),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pair),
    *_LITERALS,
)
_WORDS: dict[type[nodes.Node], str] = {
    nodes.Call: "calls a function",
    nodes.CallBlock: "calls a macro",
    nodes.Concat: "joins texts with `~`",
    nodes.Div: "divides with `/`",
    nodes.Extends: "extends another template",
    nodes.FromImport: "imports another template",
    nodes.Import: "imports another template",
    nodes.Include: "includes another template",
    nodes.Macro: "defines a macro",
    nodes.Pow: "uses the power `**`",
    nodes.Slice: "takes a slice",
    nodes.Test: "uses a test (`is`)",
}
_RULES = "a template has variables, `if`, `for` over a list, `set`, tables in `{}`, and the filters `lower` and `upper`"
_BRACES = "where C++ has `{{`, `{%` or `{#`, write `{ {`, or put it between `{% raw %}` and `{% endraw %}`"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a template, in words that go on after its name and line."""

    line: int | None
    message: str
    hint: str | None = None


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
            faults = tuple(_find_forbidden(tree))
            if not faults:
                self._names = meta.find_undeclared_variables(tree)
                self._lines = _find_lines(tree)
                _restrain(tree)
                self._template = self._environment.from_string(tree)
        except TemplateSyntaxError as error:
            faults = (Fault(error.lineno, f"cannot be read: {show(error.message or '')}", _BRACES),)
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


@lru_cache(maxsize=64)
def parse_template(text: str) -> UnitTemplate:
    """Read a template once, however many units are made of it. Raises `BadTemplateError`."""
    return UnitTemplate(text)


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
        self.filters.update(_FILTERS, _scalar=_scalar, _counted=self._counted)
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

    def _counted(self, values: Any, weight: int) -> Any:
        """What a loop runs over, once it is sure to end soon. weight: the expressions in its body."""
        if not isinstance(values, list | tuple | dict):
            raise TypeError("`for` runs over a list")
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
    """What a variable may hold: tables that hold tables could grow without end."""
    if isinstance(value, Undefined):
        str(value)  # raises
    if not isinstance(value, str | int):
        raise TypeError("`set` is for a text, an integer or a boolean")
    return value


def _find_forbidden(tree: nodes.Template) -> Iterator[Fault]:
    for count, node in enumerate(_walk(tree)):
        if count == _MAX_NODES:
            yield Fault(node.lineno, f"has more than {_MAX_NODES} expressions", "move code into a header")
            return
        words = _WORDS.get(type(node))
        if isinstance(node, nodes.Filter):
            if node.name not in _FILTERS or node.args or node.kwargs:
                yield Fault(node.lineno, f"uses the filter `{show(node.name)}`", _RULES)
        elif isinstance(node, nodes.Getattr):
            if not (isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _LOOP_ATTRIBUTES):
                yield Fault(node.lineno, f"takes the attribute `{show(node.attr)}` of a value", _RULES)
        elif isinstance(node, nodes.Output):
            yield from _find_printed_literals(node)
        elif (isinstance(node, nodes.For) and node.recursive) or (
            isinstance(node, nodes.Assign) and not isinstance(node.target, nodes.Name)
        ):
            yield Fault(node.lineno, f"uses `{type(node).__name__.lower()}` in a form that it has not", _RULES)
        elif not isinstance(node, _ALLOWED):
            yield Fault(node.lineno, words or f"uses `{type(node).__name__.lower()}`", _RULES)


def _find_printed_literals(output: nodes.Output) -> Iterator[Fault]:
    """`{{1}}` is an initialiser in C++, and would lose its braces without a word."""
    for node in output.nodes:
        if isinstance(node, _LITERALS):
            yield Fault(node.lineno, "prints a literal", _BRACES)


def _restrain(tree: nodes.Template) -> None:
    """Have what loops run over, and what variables hold, looked at when a unit is made."""
    for loop in tree.find_all(nodes.For):
        weight = nodes.Const(1 + sum(1 for part in loop.body for _ in _walk(part)), lineno=loop.lineno)
        loop.iter = nodes.Filter(loop.iter, "_counted", [weight], [], None, None, lineno=loop.lineno)
    for assignment in tree.find_all(nodes.Assign):
        assignment.node = nodes.Filter(assignment.node, "_scalar", [], [], None, None, lineno=assignment.lineno)
    tree.set_environment(tree.environment)  # type: ignore[arg-type] # of the new nodes, too


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    """A node and everything below it, in the order of the text."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(reversed(list(current.iter_child_nodes())))


def _find_lines(tree: nodes.Template) -> dict[str, int]:
    """Name -> the first line that reads it."""
    lines: dict[str, int] = {}
    for node in _walk(tree):
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
