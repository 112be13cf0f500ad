"""Will the Python sources load in any project, with only what the kernel declares?"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from kernel_builder.audit import rules
from kernel_builder.audit.policy import Policy
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Subject, iter_python_files

RULES = (
    rules.PYTHON_SYNTAX,
    rules.PYTHON_VERSION,
    rules.PYTHON_IMPORTS,
    rules.OP_NAMESPACE,
    rules.OP_LITERAL,
)
_LARGEST_SOURCE = 8 << 20
_PREFIX_FUNCTION = "add_op_namespace_prefix"
_PREFIX_HINT = f"wrap the name: `{_PREFIX_FUNCTION}(...)` from `._ops`, so that two versions of the kernel can coexist"
# Decorators of torch.library whose first argument names an op.
_DECORATORS = frozenset(
    {"custom_op", "register_fake", "register_kernel", "register_torch_dispatch", "register_vmap", "triton_op"}
)
# Further functions of torch.library that take such a name when they are called.
_FUNCTIONS = _DECORATORS | {"define", "impl", "impl_abstract", "register_autograd", "register_autocast"}


def check_sources(subject: Subject, policy: Policy) -> Iterable[Finding]:
    """All Python files of the artifact."""
    for path in iter_python_files(subject):
        try:
            with (subject.directory / path).open("rb") as stream:
                findings = _check_source(path, stream.read(_LARGEST_SOURCE + 1), subject, policy)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
            findings = [_tell_unparsable(path, error)]
        yield from findings


def _check_source(path: PurePosixPath, source: bytes, subject: Subject, policy: Policy) -> list[Finding]:
    if len(source) > _LARGEST_SOURCE:
        raise ValueError(f"it is larger than {_LARGEST_SOURCE} bytes")
    tree = _parse(source)
    return [
        *_check_version(path, source, policy),
        *_check_imports(path, tree, subject, policy),
        *_check_registrations(path, tree, subject),
    ]


def _tell_unparsable(path: PurePosixPath, error: Exception) -> Finding:
    place, reason = str(path), str(error) or type(error).__name__
    if isinstance(error, SyntaxError):
        place, reason = (f"{path}:{error.lineno}" if error.lineno else place), error.msg
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return rules.PYTHON_SYNTAX.found(place, f"Python {version} cannot parse it: {reason}")


def _parse(source: bytes, feature_version: tuple[int, int] | None = None) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a doubtful escape in somebody's string is not our business
        return ast.parse(source, feature_version=feature_version)


def _check_version(path: PurePosixPath, source: bytes, policy: Policy) -> Iterator[Finding]:
    version = (policy.python_abi.major, policy.python_abi.minor)
    try:
        _parse(source, version)
    except SyntaxError as error:
        message = f"Python {policy.python_abi} cannot parse it: {error.msg}"
        hint = f"kernels load in every Python from {policy.python_abi} on"
        yield rules.PYTHON_VERSION.found(f"{path}:{error.lineno}" if error.lineno else str(path), message, hint)


# Imports


def _check_imports(path: PurePosixPath, tree: ast.Module, subject: Subject, policy: Policy) -> Iterator[Finding]:
    metadata = subject.metadata
    allowed = set(sys.stdlib_module_names) | policy.python_modules
    own: set[str] = set()
    if metadata is not None:
        allowed |= {policy.module_of(entry, metadata.backend) or "" for entry in metadata.python_depends}
        allowed |= {"kernels"} if metadata.kernel_depends else set()
        own = {metadata.python_name, metadata.id}
    for node, module in _list_imports(tree.body):
        top = module.partition(".")[0]
        if top in allowed:
            continue
        if top in own:
            message = f"`import {module}` names the kernel absolutely, but the loader gives it a name of its own"
            yield rules.PYTHON_IMPORTS.found(f"{path}:{node.lineno}", message, "import it relatively: `from . import`")
        else:
            message = f"importing the kernel needs the module `{top}`, which is not declared"
            hint = "add it to `python-depends` if the loader knows it, or import it where it is optional"
            yield rules.PYTHON_IMPORTS.found(f"{path}:{node.lineno}", message, hint)


def _list_imports(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Absolute imports that must succeed when the module is imported.

    Those in functions, below `try` and below `if TYPE_CHECKING` need not.
    """
    for node in body:
        match node:
            case ast.Import():
                yield from ((node, alias.name) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield node, module
            case ast.If():
                if not _is_type_checking(node.test):
                    # A condition may stand for an optional module: only what holds either way is certain.
                    otherwise = {module for _, module in _list_imports(node.orelse)}
                    yield from (item for item in _list_imports(node.body) if item[1] in otherwise)
            case ast.ClassDef() | ast.With():
                yield from _list_imports(node.body)
            case _:
                pass


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


# Registrations of ops


def _check_registrations(path: PurePosixPath, tree: ast.Module, subject: Subject) -> Iterator[Finding]:
    own_prefix = "" if subject.metadata is None else f"{subject.metadata.id}::"
    told: set[ast.Call] = set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if not (isinstance(decorator, ast.Call) and decorator.args and _name_of(decorator) in _DECORATORS):
                continue
            told.add(decorator)
            name = decorator.args[0]
            if not (isinstance(name, ast.Call) and _name_of(name) == _PREFIX_FUNCTION):
                message = f"`{_name_of(decorator)}` on `{node.name}` registers {_quote(name)} in a fixed namespace"
                yield rules.OP_NAMESPACE.found(f"{path}:{decorator.lineno}", message, _PREFIX_HINT)
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or call in told or not call.args:
            continue
        function, name = _name_of(call), call.args[0]
        if not (isinstance(name, ast.Constant) and isinstance(name.value, str)) or not _is_library_call(call):
            continue
        text = name.value
        is_op = function in _FUNCTIONS and "::" in text and not text.startswith(own_prefix or "\0")
        is_library = function == "Library" and text != own_prefix.removesuffix("::")
        if is_op or is_library:
            message = f"`{function}` uses the fixed namespace of `{text}`"
            yield rules.OP_LITERAL.found(f"{path}:{call.lineno}", message, _PREFIX_HINT)


def _name_of(call: ast.Call) -> str | None:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return None


def _is_library_call(call: ast.Call) -> bool:
    """Whether the call is spelled as one of torch.library, not as a method of something else."""
    match call.func:
        case ast.Name():
            return True
        case ast.Attribute(value=ast.Name(id="library") | ast.Attribute(attr="library")):
            return True
        case _:
            return False


def _quote(name: ast.expr) -> str:
    try:
        return f"`{ast.unparse(name)}`"
    except (RecursionError, ValueError):
        return "an op"
