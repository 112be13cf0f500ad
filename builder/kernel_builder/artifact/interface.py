"""What users of an artifact can call, read from its files: public names, layers, op schemas. Nothing is imported."""

from __future__ import annotations

import ast
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TYPE = rb"(?:Tensor|int|SymInt|float|bool|str|Scalar|ScalarType|Device|Layout|MemoryFormat|Generator|Stream|__torch__)"
_SCHEMA = re.compile(
    rb"(?<![\x20-\x7e])[A-Za-z_][A-Za-z0-9_.]{0,99}\((?:(?:\*, )?" + _TYPE + rb"\b[\x20-\x7e]{0,2000})?\) ?->"
    rb" ?(?:\(|" + _TYPE + rb"\b)[\x20-\x7e]{0,500}(?=\x00)"
)
_LIBRARY_SUFFIXES = {".so", ".pyd", ".dylib", ".dll"}


@dataclass(frozen=True, slots=True)
class Interface:
    """Names that the package gives (`layers.RMSNorm` for a layer), and the schemas of its ops, each sorted."""

    names: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()


def read_interface(artifact: Path) -> Interface:
    """Read what the files of an artifact offer. Raises `OSError`; a file that is not Python offers nothing."""
    package = artifact
    if not (artifact / "__init__.py").is_file():  # older builders put the package one level deeper
        package = next((path.parent for path in sorted(artifact.glob("*/__init__.py"))), artifact)
    names = set(list_public_names(_read_text(package / "__init__.py")))
    for layers in (package / "layers.py", package / "layers" / "__init__.py"):
        names.update(f"layers.{name}" for name in list_public_names(_read_text(layers)))
    libraries = (path for path in sorted(package.iterdir()) if path.suffix in _LIBRARY_SUFFIXES)
    ops = {schema for path in libraries for schema in _list_schemas(path)}
    return Interface(tuple(sorted(names)), tuple(sorted(ops)))


def list_public_names(source: str) -> tuple[str, ...]:
    """The public names of a module: its `__all__`, else what it binds at its top level without an underscore."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    declared: list[str] = []
    bound: list[str] = []
    for node in tree.body:
        if _is_all(node):
            declared += _list_strings(node)
        else:
            bound += _list_bound(node)
    return tuple(sorted(set(declared or (name for name in bound if not name.startswith("_")))))


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _is_all(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _list_strings(node: ast.stmt) -> list[str]:
    value = getattr(node, "value", None)
    entries = value.elts if isinstance(value, ast.List | ast.Tuple) else []
    return [entry.value for entry in entries if isinstance(entry, ast.Constant) and isinstance(entry.value, str)]


def _list_bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.ImportFrom(level=level) if level:  # what comes from elsewhere is not this package's
            yield from (alias.asname or alias.name for alias in node.names if alias.name != "*")
        case ast.Assign():
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            pass


def _list_schemas(library: Path) -> list[str]:
    """Op schemas are plain strings in a library, whatever registers them."""
    if library.stat().st_size == 0:
        return []
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return [match[0].decode("ascii") for match in _SCHEMA.finditer(data)]
