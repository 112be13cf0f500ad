"""Do the symbols that a library needs exist wherever its variant may be loaded?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache

import abi3info

from kernel_builder.audit import rules
from kernel_builder.audit.binary import BinaryFacts, Binding
from kernel_builder.audit.mangled import qualified_name, readable_name
from kernel_builder.audit.policy import Policy, load_torch_shims
from kernel_builder.audit.report import Finding
from kernel_builder.variant import ArchVariant, TorchAbi, TorchStableAbi
from kernel_builder.version import MinorVersion

RULES = (
    rules.UNIQUE_SYMBOLS,
    rules.SYMBOL_VERSIONS,
    rules.PYTHON_ABI,
    rules.TORCH_STABLE_ABI,
    rules.TORCH_SHIMS,
    rules.TORCH_CLASSIC_ABI,
)
_SHOWN = 5
_PYTHON_NAME = re.compile(r"_?Py[A-Z_]")
_SHIM_PREFIXES = ("aoti_torch_", "torch_")
_TORCH_NAMESPACES = frozenset({"at", "c10", "caffe2", "torch"})
_STABLE_NAMESPACES = frozenset({"stable", "headeronly"})


def check_symbols(name: str, facts: BinaryFacts, variant: ArchVariant, policy: Policy) -> Iterable[Finding]:
    """The symbols of one library, called `name`."""
    yield from _check_versions(name, facts, policy)
    yield from _check_python(name, facts, policy)
    match variant.abi:
        case TorchStableAbi(version):
            yield from _check_stable_abi(name, facts)
            yield from _check_shims(name, facts, version)
        case TorchAbi(version):
            uses = sum(1 for symbol in facts.undefined() if is_torch_cxx(symbol.name))
            if uses:
                message = f"it uses {uses} C++ symbols of torch, so it serves torch {version} alone"
                hint = "`stable-abi` in `[torch]` makes one artifact for every later torch"
                yield rules.TORCH_CLASSIC_ABI.found(name, message, hint)
        case _:
            pass
    unique = [symbol.name for symbol in facts.exported() if symbol.binding is Binding.UNIQUE]
    if unique:
        message = f"other kernels in the process share its variables {show_names(unique)}"
        yield rules.UNIQUE_SYMBOLS.found(name, message, "compile with `-fno-gnu-unique`")


def is_torch_cxx(symbol: str) -> bool:
    """Whether this is a C++ symbol that only torch's own libraries can provide."""
    names = qualified_name(symbol)
    return bool(names) and names[0] in _TORCH_NAMESPACES and not _STABLE_NAMESPACES.intersection(names[1:2])


def is_torch_shim(symbol: str) -> bool:
    """Whether this is spelled like one of torch's C functions."""
    return symbol.startswith(_SHIM_PREFIXES)


def show_names(names: Iterable[str]) -> str:
    """A few of the names, and how many more there are; overloads of a C++ function are one."""
    listed = sorted({readable_name(name) for name in names})
    text = ", ".join(f"`{name}`" for name in listed[:_SHOWN])
    return text if len(listed) <= _SHOWN else f"{text} and {len(listed) - _SHOWN} more"


def _check_versions(name: str, facts: BinaryFacts, policy: Policy) -> Iterator[Finding]:
    """Versions that the loader looks for before it looks for any symbol, so unused ones count as well."""
    users: dict[tuple[str, str], list[str]] = defaultdict(list)
    for symbol in facts.undefined():
        if symbol.library is not None and symbol.version is not None:
            users[symbol.library, symbol.version].append(symbol.name)
    for need in facts.version_needs:
        is_limited = policy.provides_library(need.library, "system") or policy.limits_version(need.version)
        if not is_limited or policy.provides_version(need.version):
            continue
        symbols = users[need.library, need.version]
        use = f" for {show_names(symbols)}" if symbols else ""
        message = f"it needs `{need.version}` of `{need.library}`{use}, which {policy.name} does not have"
        yield rules.SYMBOL_VERSIONS.found(name, message, "build with an older toolchain, or avoid these functions")


def _check_python(name: str, facts: BinaryFacts, policy: Policy) -> Iterator[Finding]:
    known = _load_limited_api()
    newer: dict[MinorVersion, list[str]] = defaultdict(list)
    foreign: list[str] = []
    for symbol in facts.undefined():
        if not _PYTHON_NAME.match(symbol.name):
            continue
        added = known.get(symbol.name)
        if added is None:
            foreign.append(symbol.name)
        elif added > policy.python_abi:
            newer[added].append(symbol.name)
    hint = f"compile with `-DPy_LIMITED_API=0x{policy.python_abi.major:02x}{policy.python_abi.minor:02x}0000`"
    if foreign:
        message = f"{show_names(foreign)} is no part of Python's stable ABI"
        yield rules.PYTHON_ABI.found(name, message, f"{hint}; pybind11 cannot be used")
    for added, symbols in sorted(newer.items()):
        message = f"{show_names(symbols)} came with Python {added}, the kernel must load in {policy.python_abi}"
        yield rules.PYTHON_ABI.found(name, message, hint)


@cache
def _load_limited_api() -> dict[str, MinorVersion]:
    """Functions and variables of CPython's stable ABI, and the Python that added each."""
    return {
        symbol.name: MinorVersion(entry.added.major, entry.added.minor)
        for table in (abi3info.FUNCTIONS, abi3info.DATAS)
        for symbol, entry in table.items()
    }


def _check_stable_abi(name: str, facts: BinaryFacts) -> Iterator[Finding]:
    """Weak references count too: a C++ object of another torch is no less wrong for being optional."""
    unstable = [symbol for symbol in facts.undefined() if is_torch_cxx(symbol.name)]
    if unstable:
        names = show_names(symbol.name for symbol in unstable)
        message = f"it uses the C++ symbols {names}, which torch may change in any release"
        hint = "include only headers below `torch/csrc/stable` and `torch/headeronly`"
        yield rules.TORCH_STABLE_ABI.found(name, message, hint)


def _check_shims(name: str, facts: BinaryFacts, claimed: MinorVersion) -> Iterator[Finding]:
    newest, introduced = load_torch_shims()
    newer: dict[MinorVersion, list[str]] = defaultdict(list)
    unknown: list[str] = []
    for symbol in facts.undefined():
        if symbol.name in introduced:
            if introduced[symbol.name] > claimed:
                newer[introduced[symbol.name]].append(symbol.name)
        elif is_torch_shim(symbol.name):
            unknown.append(symbol.name)
    hint = f"compile with `TORCH_TARGET_VERSION` {claimed}, or raise `stable-abi`"
    for version, symbols in sorted(newer.items()):
        message = f"{show_names(symbols)} came with torch {version}, the variant claims {claimed}"
        yield rules.TORCH_SHIMS.found(name, message, hint)
    if unknown:
        message = f"{show_names(unknown)} is no stable function of any torch up to {newest}"
        yield rules.TORCH_SHIMS.found(name, message, hint)
