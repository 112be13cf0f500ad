"""The rules of the audit: a stable name, a severity and one sentence each.

`docs/reference/audit-rules.md` says for each why it exists and how to mend a violation.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel_builder.audit.report import Finding, Severity

_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` never changes once released; `promise` is what holds for an artifact without findings of this rule."""

    name: str
    severity: Severity
    promise: str

    def found(self, subject: str, message: str, hint: str | None = None) -> Finding:
        """A finding of this rule. Names that a hostile file chose cannot reach a terminal as control characters."""
        return Finding(self.name, self.severity, _clean(subject), _clean(message), hint)


def _clean(text: str) -> str:
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]} ..."
    return "".join(char if char == "\n" or char.isprintable() else ascii(char)[1:-1] for char in text)


_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

# The files of an artifact
VARIANT_NAME = Rule("variant-name", _ERROR, "The directory is named like a variant that the loader understands.")
REGULAR_FILES = Rule("regular-files", _ERROR, "The artifact holds readable, regular files with portable names only.")
INIT_MODULE = Rule("init-module", _ERROR, "The package has the `__init__.py` that the loader imports.")
OPS_MODULE = Rule("ops-module", _ERROR, "The package has the `_ops.py` that names its op namespace.")
EXTENSION_NAME = Rule("extension-name", _ERROR, "A compiled variant has one extension module, named after its id.")
EXTRA_LIBRARY = Rule("extra-library", _WARNING, "There is no shared library besides the extension module.")
NOARCH_BINARY = Rule("noarch-binary", _ERROR, "A variant without an architecture holds no machine code.")

# Its Python sources
PYTHON_SYNTAX = Rule("python-syntax", _ERROR, "Every Python file can be parsed.")
PYTHON_VERSION = Rule("python-version", _WARNING, "Every Python file has the syntax of Python 3.9.")
PYTHON_IMPORTS = Rule("python-imports", _WARNING, "Importing the kernel needs only torch and what it declares.")
OP_NAMESPACE = Rule("op-namespace", _ERROR, "Ops that are registered with decorators carry the op namespace prefix.")
OP_LITERAL = Rule("op-literal", _WARNING, "No torch.library call names an op in a fixed namespace.")

# Its metadata
METADATA_READABLE = Rule("metadata-readable", _ERROR, "`metadata.json` is there and is one JSON object.")
METADATA_FIELDS = Rule("metadata-fields", _ERROR, "`metadata.json` has the fields that the loader demands.")
METADATA_ID = Rule("metadata-id", _ERROR, "The id is a Python identifier that shadows no other module.")
METADATA_VARIANT = Rule("metadata-variant", _ERROR, "The metadata was made for the variant in the directory's name.")
METADATA_ARCHS = Rule("metadata-archs", _WARNING, "The device archs are spelled as the loader compares them.")
METADATA_DEPENDS = Rule("metadata-depends", _ERROR, "The loader knows every entry of `python-depends`.")
DIGEST_PRESENT = Rule("digest-present", _ERROR, "The metadata carries a digest of the files.")
DIGEST_MATCH = Rule("digest-match", _ERROR, "Every file has the bytes that the digest declares.")
DIGEST_COMPLETE = Rule("digest-complete", _ERROR, "The digest lists exactly the files that are there.")

# Its binaries
BINARY_FORMAT = Rule("binary-format", _ERROR, "Every shared library is a well-formed one of the variant's platform.")
BINARY_UNAUDITED = Rule("binary-unaudited", _ERROR, "The audit can read the binaries of the variant's platform.")
BINARY_MACHINE = Rule("binary-machine", _ERROR, "Every shared library is for the machine in the variant's name.")
DEPLOYMENT_TARGET = Rule("deployment-target", _ERROR, "A library for macOS loads on the oldest release of the policy.")
INIT_FUNCTION = Rule("init-function", _ERROR, "The extension module exports the init function that Python calls.")
UNIQUE_SYMBOLS = Rule("unique-symbols", _WARNING, "No symbol is shared with every other kernel in the process.")
SYMBOL_VERSIONS = Rule("symbol-versions", _ERROR, "No symbol is newer than the oldest system of the policy.")
PYTHON_ABI = Rule("python-abi", _ERROR, "Of Python only the limited API of the policy's version is used.")
TORCH_STABLE_ABI = Rule("torch-stable-abi", _ERROR, "A stable-ABI variant uses no C++ symbol of torch.")
TORCH_SHIMS = Rule("torch-shims", _ERROR, "A stable-ABI variant uses only shims of the torch version in its name.")
TORCH_CLASSIC_ABI = Rule("torch-classic-abi", _NOTE, "The variant does not depend on one torch release line.")
NEEDED_LIBRARIES = Rule("needed-libraries", _ERROR, "Every needed library comes with the system or with torch.")
NEEDED_TORCH = Rule("needed-torch", _ERROR, "The library that provides torch's symbols is among the needed ones.")
RUN_PATH = Rule("run-path", _ERROR, "No library search path is built in.")
TEXT_RELOCATIONS = Rule("text-relocations", _ERROR, "The code is position independent.")
EXECUTABLE_STACK = Rule("executable-stack", _ERROR, "No executable stack is asked for.")
SOURCE_PATHS = Rule("source-paths", _WARNING, "No path of the build machine is left in the binary.")
DEBUG_SECTIONS = Rule("debug-sections", _NOTE, "The binary carries no debug information.")

# The GPU code in its binaries
DEVICE_CODE = Rule("device-code", _ERROR, "The GPU code is well formed.")
DEVICE_ARCHS = Rule("device-archs", _ERROR, "There is GPU code for every arch that the metadata declares.")
DEVICE_UNDECLARED = Rule("device-undeclared", _WARNING, "The metadata declares every arch that there is GPU code for.")
DEVICE_CHECK_ONLY = Rule("device-check-only", _WARNING, "All GPU code was compiled with libraries that know its arch.")
DEVICE_UNREAD = Rule("device-unread", _NOTE, "All GPU code is in a form that the audit reads.")

# Loading it
IMPORT_DONE = Rule("import-done", _NOTE, "The artifact was imported in a fresh process.")
IMPORT_WORKS = Rule("import-works", _ERROR, "The import succeeds.")
IMPORT_SURVIVES = Rule("import-survives", _ERROR, "The import neither crashes nor hangs the process.")
OPS_REGISTERED = Rule("ops-registered", _WARNING, "Importing registers ops under the kernel's own id only.")

RULES: tuple[Rule, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
