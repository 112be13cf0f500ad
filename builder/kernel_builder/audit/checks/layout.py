"""Is everything there under the name that the loader looks for, and nothing else?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernel_builder.audit import rules
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Subject
from kernel_builder.variant import NoarchVariant

RULES = (
    rules.VARIANT_NAME,
    rules.REGULAR_FILES,
    rules.INIT_MODULE,
    rules.OPS_MODULE,
    rules.EXTENSION_NAME,
    rules.EXTRA_LIBRARY,
    rules.NOARCH_BINARY,
)


def check_layout(subject: Subject) -> Iterable[Finding]:
    """Names and places of the files."""
    if subject.variant_problem is not None:
        hint = "name the directory after its variant, such as `torch213-cxx11-cpu-x86_64-linux`"
        yield rules.VARIANT_NAME.found(subject.name, subject.variant_problem, hint)
    for entry in subject.irregular:
        yield rules.REGULAR_FILES.found(entry.path, f"`{entry.path}` {entry.reason}", "remove it or rename it")
    yield from _check_modules(subject)
    if isinstance(subject.variant, NoarchVariant):
        for library in subject.libraries:
            message = f"`{library.path}` is a shared library in a variant that claims to run on every machine"
            hint = "declare a framework that compiles (`[torch]`), or leave the file out"
            yield rules.NOARCH_BINARY.found(str(library.path), message, hint)
    else:
        yield from _check_libraries(subject)


def _check_modules(subject: Subject) -> Iterator[Finding]:
    package = subject.package
    if package / "__init__.py" not in subject.files:
        message = "there is no `__init__.py`, so there is nothing that the loader could import"
        yield rules.INIT_MODULE.found("__init__.py", message, "put the Python package into the artifact's root")
    if package / "_ops.py" not in subject.files:
        message = "there is no `_ops.py`, so Python code cannot find the kernel's ops"
        yield rules.OPS_MODULE.found("_ops.py", message, "build the artifact with `kernel-builder build`")


def _check_libraries(subject: Subject) -> Iterator[Finding]:
    wanted = subject.extension_path
    if wanted is None:
        return
    for library in subject.libraries:
        if library.path != wanted:
            message = f"`{library.path}` is a shared library besides the extension module `{wanted}`"
            yield rules.EXTRA_LIBRARY.found(str(library.path), message, "link it into the module statically")
    if wanted not in subject.files:
        found = ", ".join(f"`{library.path}`" for library in subject.libraries) or "none"
        message = f"the extension module must be `{wanted}`, named after the id; shared libraries found: {found}"
        yield rules.EXTENSION_NAME.found(str(wanted), message, "build the artifact again, do not rename its files")
