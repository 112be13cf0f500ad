"""Qualified names out of mangled C++ symbols (Itanium ABI), as far as the audit needs them: the leading names."""

from __future__ import annotations

import re

# Type information, virtual tables, guard variables and thunks precede the name that they belong to.
_PREFIX = re.compile(r"_Z(?:T[VTISWH]|GV|GR|Th?n?\d*_|Tv\d+_n?\d*_)*(?P<nested>N[rVK]*[RO]?)?")
_LENGTH = re.compile(r"[1-9][0-9]{0,4}")


def qualified_name(symbol: str) -> tuple[str, ...]:
    """`_ZN3c106detail14torchCheckFailE...` -> `("c10", "detail", "torchCheckFail")`; empty when no name leads.

    The names end at the first part that is not a plain identifier (a template, an operator, a constructor).
    """
    prefix = _PREFIX.match(symbol)
    if prefix is None:
        return ()
    position = prefix.end()
    names: list[str] = []
    if symbol.startswith("St", position):
        names.append("std")
        position += 2
    while match := _LENGTH.match(symbol, position):
        end = match.end() + int(match[0])
        if end > len(symbol):
            break
        names.append(symbol[match.end() : end])
        position = end
        if not prefix["nested"]:
            break  # what follows are the parameters
    return tuple(names)


def readable_name(symbol: str) -> str:
    """The qualified name as C++ spells it, without parameters; the symbol itself when it has none."""
    return "::".join(qualified_name(symbol)) or symbol
