"""What a template of units may say: a short list of Jinja2's statements and expressions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

from kernel_builder.spec.problems import show

FILTERS = {"lower": str.lower, "upper": str.upper}
_MAX_NODES = 5_000
_MAX_TEXT = 200  # of a literal: each step of a loop may read it from end to end
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
BRACES = "where C++ has `{{`, `{%` or `{#`, write `{ {`, or put it between `{% raw %}` and `{% endraw %}`"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a template, in words that go on after its name and line."""

    line: int | None
    message: str
    hint: str | None = None


def find_forbidden(tree: nodes.Template) -> Iterator[Fault]:
    """Everything in a template that is not of its language."""
    for count, node in enumerate(walk(tree)):
        if count == _MAX_NODES:
            yield Fault(node.lineno, f"has more than {_MAX_NODES} expressions", "move code into a header")
            return
        yield from _find_faults(node)


def _find_faults(node: nodes.Node) -> Iterator[Fault]:
    if isinstance(node, nodes.Filter):
        if node.name not in FILTERS or node.args or node.kwargs:
            yield Fault(node.lineno, f"uses the filter `{show(node.name)}`", _RULES)
    elif isinstance(node, nodes.Getattr):
        if not (isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _LOOP_ATTRIBUTES):
            yield Fault(node.lineno, f"takes the attribute `{show(node.attr)}` of a value", _RULES)
    elif isinstance(node, nodes.Output):
        yield from _find_printed_literals(node)
    elif isinstance(node, nodes.Const) and isinstance(node.value, str) and len(node.value) > _MAX_TEXT:
        yield Fault(node.lineno, f"computes with a text of more than {_MAX_TEXT} characters", "shorten it")
    elif _has_another_form(node):
        yield Fault(node.lineno, f"uses `{type(node).__name__.lower()}` in a form that it has not", _RULES)
    elif not isinstance(node, _ALLOWED):
        yield Fault(node.lineno, _WORDS.get(type(node)) or f"uses `{type(node).__name__.lower()}`", _RULES)


def _has_another_form(node: nodes.Node) -> bool:
    if isinstance(node, nodes.For):
        names = node.target.items if isinstance(node.target, nodes.Tuple) else [node.target]
        return node.recursive or not all(isinstance(name, nodes.Name) for name in names)
    return isinstance(node, nodes.Assign) and not isinstance(node.target, nodes.Name)


def _find_printed_literals(output: nodes.Output) -> Iterator[Fault]:
    """`{{1}}` is an initialiser in C++, and would lose its braces without a word."""
    for node in output.nodes:
        if isinstance(node, _LITERALS):
            yield Fault(node.lineno, "prints a literal", BRACES)


def walk(node: nodes.Node) -> Iterator[nodes.Node]:
    """A node and everything below it, in the order of the text."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(reversed(list(current.iter_child_nodes())))
