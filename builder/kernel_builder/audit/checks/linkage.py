"""Will the dynamic loader load the library, find what it needs, and only there where it should look?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernel_builder.audit import rules
from kernel_builder.audit.binary import BinaryFacts, BinaryFormat
from kernel_builder.audit.checks.symbols import is_torch_cxx, show_names
from kernel_builder.audit.mach_o import MachOFacts
from kernel_builder.audit.mangled import qualified_name
from kernel_builder.audit.policy import Policy, load_torch_shims
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Library, Subject
from kernel_builder.variant import ArchVariant, TvmFfiAbi

FORMAT_RULES = (rules.BINARY_FORMAT, rules.BINARY_UNAUDITED, rules.DEPLOYMENT_TARGET)
RULES = (
    rules.BINARY_MACHINE,
    rules.INIT_FUNCTION,
    rules.NEEDED_LIBRARIES,
    rules.NEEDED_TORCH,
    rules.RUN_PATH,
    rules.TEXT_RELOCATIONS,
    rules.EXECUTABLE_STACK,
    rules.SOURCE_PATHS,
    rules.DEBUG_SECTIONS,
)
_FORMATS = {"linux": BinaryFormat.ELF, "darwin": BinaryFormat.MACH_O, "windows": BinaryFormat.PE}


def check_format(library: Library, variant: ArchVariant, policy: Policy) -> Iterable[Finding]:
    """Whether this is a shared library of the variant's operating system that the audit can read."""
    name = str(library.path)
    expected = _FORMATS.get(variant.host.os)
    if library.format is not expected:
        described = "no shared library" if library.format is BinaryFormat.UNKNOWN else f"a {library.format} file"
        message = library.problem or f"it is {described}, the variant is for `{variant.host.os}`"
        yield rules.BINARY_FORMAT.found(name, message, "build the artifact on the platform that it is for")
    elif library.problem is not None:
        yield rules.BINARY_FORMAT.found(name, library.problem, "build the artifact again")
    elif library.mach_o is not None:
        yield from _check_mach_o(name, library.mach_o, variant, policy)
    elif library.facts is None:
        message = f"{library.format} files are not audited yet, so nothing vouches for it"
        yield rules.BINARY_UNAUDITED.found(name, message, "only artifacts for Linux can pass an audit so far")
    elif not library.facts.is_shared:
        yield rules.BINARY_FORMAT.found(name, "it is not a shared object that could be loaded", "link with `-shared`")


def _check_mach_o(name: str, facts: MachOFacts, variant: ArchVariant, policy: Policy) -> Iterator[Finding]:
    if not facts.is_loadable:
        yield rules.BINARY_FORMAT.found(name, "it is not a library that could be loaded", "link with `-bundle`")
    if facts.machine != variant.host.machine:
        message = f"it is for `{facts.machine}`, the variant is for `{variant.host.machine}`"
        yield rules.BINARY_MACHINE.found(name, message, "build the artifact for its platform")
    oldest = policy.deployment_targets.get(str(variant.backend))
    target = facts.deployment_target
    if oldest is not None and (target is None or target > oldest):
        told = "names no macOS that it was made for" if target is None else f"needs macOS {target}"
        message = f"it {told}, and must load on {oldest}"
        yield rules.DEPLOYMENT_TARGET.found(name, message, f"compile with `-mmacosx-version-min={oldest}`")
    message = "of a Mach-O file only machine and deployment target are read, so nothing vouches for the rest"
    yield rules.BINARY_UNAUDITED.found(name, message, "only artifacts for Linux can pass an audit so far")


def check_linkage(library: Library, facts: BinaryFacts, subject: Subject, policy: Policy) -> Iterable[Finding]:
    """What one library asks of the dynamic loader and offers to Python."""
    variant = subject.arch_variant
    if variant is None:
        return
    name = str(library.path)
    if facts.machine != variant.host.machine:
        message = f"it is for `{facts.machine}`, the variant is for `{variant.host.machine}`"
        yield rules.BINARY_MACHINE.found(name, message, "build the artifact for its platform")
    if library.path == subject.extension_path:
        yield from _check_init_function(name, facts, subject)
    yield from _check_needed(name, facts, variant, policy)
    if facts.rpath:
        message = f"it looks for libraries in {show_names(facts.rpath)}, a place of the build machine"
        yield rules.RUN_PATH.found(name, message, "link without `-rpath`; torch has loaded its libraries already")
    if facts.text_relocations:
        message = "its code must be patched when it is loaded, which hardened systems refuse"
        yield rules.TEXT_RELOCATIONS.found(name, message, "compile every object with `-fPIC`")
    if facts.executable_stack:
        message = "it asks for an executable stack, which glibc from 2.41 on refuses to give"
        hint = 'end assembler files with `.section .note.GNU-stack,"",@progbits`, or link with `-z noexecstack`'
        yield rules.EXECUTABLE_STACK.found(name, message, hint)
    if facts.source_paths:
        message = f"it names files of the build machine: {show_names(facts.source_paths)}"
        yield rules.SOURCE_PATHS.found(name, message, "compile with `-ffile-prefix-map=<directory>=.`")
    if facts.debug_sections:
        message = f"it carries debug information in {len(facts.debug_sections)} sections"
        yield rules.DEBUG_SECTIONS.found(name, message, "link with `-s`, or keep it if users should debug")


def _check_init_function(name: str, facts: BinaryFacts, subject: Subject) -> Iterator[Finding]:
    variant = subject.arch_variant
    if variant is None or isinstance(variant.abi, TvmFfiAbi) or subject.metadata is None:
        return  # tvm-ffi loads a plain shared library
    wanted = f"PyInit_{subject.metadata.id}"
    exported = sorted(symbol.name for symbol in facts.exported() if symbol.name.startswith("PyInit_"))
    if wanted not in exported:
        found = show_names(exported) if exported else "none"
        message = f"Python calls `{wanted}`, which it does not export; init functions found: {found}"
        hint = "the binding needs `REGISTER_EXTENSION(TORCH_EXTENSION_NAME)`"
        yield rules.INIT_FUNCTION.found(name, message, hint)


def _check_needed(name: str, facts: BinaryFacts, variant: ArchVariant, policy: Policy) -> Iterator[Finding]:
    framework = "tvm-ffi" if isinstance(variant.abi, TvmFfiAbi) else "torch"
    groups = ("system", framework, str(variant.backend))
    strangers = [library for library in facts.needed if not policy.provides_library(library, *groups)]
    if strangers:
        message = f"it needs {show_names(strangers)}, which neither the system nor torch provides"
        yield rules.NEEDED_LIBRARIES.found(name, message, "link it statically, or do without it")
    if framework != "torch":
        return
    _, shims = load_torch_shims()
    undefined = [symbol.name for symbol in facts.undefined()]
    used = [symbol for symbol in undefined if symbol in shims or is_torch_cxx(symbol)]
    needs_torch = any(qualified_name(symbol)[:1] != ("c10",) for symbol in used)
    providers = {library for library in facts.needed if library.startswith("libtorch") or library == "libc10.so"}
    if used and (not providers or (needs_torch and providers == {"libc10.so"})):
        message = f"it uses {show_names(used)}, but needs no library of torch that has them"
        hint = "link with `-Wl,--no-as-needed -ltorch -ltorch_cpu -lc10`: torch hides its symbols from all others"
        yield rules.NEEDED_TORCH.found(name, message, hint)
