"""Small good things to spoil: a set of binary facts, an artifact on disk, and shared libraries made by gcc."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernel_builder.artifact.digest import compute_digest
from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import Metadata
from kernel_builder.audit.binary import BinaryFacts, Binding, Symbol, VersionNeed
from kernel_builder.backend import Backend

ID = "_relu_cpu_1a2b3c4"
CLASSIC = "torch213-cxx11-cpu-x86_64-linux"
STABLE = "torch-stable-abi210-cpu-x86_64-linux"
OPS = f"""from . import {ID}

ops = {ID}


def add_op_namespace_prefix(op_name: str) -> str:
    return f"{ID}::{{op_name}}"
"""
# What a binding needs of torch and of the C library, in C, so that no header of torch is read.
MODULE_SOURCE = f"""
extern int aoti_torch_delete_tensor_object(void *);
extern int puts(const char *);
__attribute__((visibility("default"))) void *PyInit_{ID}(void) {{
    puts("hello");
    return aoti_torch_delete_tensor_object(0) ? 0 : "";
}}
"""
GOOD_FACTS = BinaryFacts(
    machine="x86_64",
    is_shared=True,
    soname=None,
    needed=("libtorch_cpu.so", "libtorch.so", "libc10.so", "libstdc++.so.6", "libgcc_s.so.1", "libc.so.6"),
    rpath=(),
    symbols=(
        Symbol(f"PyInit_{ID}", defined=True, binding=Binding.GLOBAL),
        Symbol("PyModule_Create2", defined=False, binding=Binding.GLOBAL),
        Symbol("aoti_torch_delete_tensor_object", defined=False, binding=Binding.GLOBAL),
        Symbol("memcpy", defined=False, binding=Binding.GLOBAL, version="GLIBC_2.14", library="libc.so.6"),
    ),
    version_needs=(
        VersionNeed("libc.so.6", "GLIBC_2.14"),
        VersionNeed("libstdc++.so.6", "CXXABI_1.3"),
        VersionNeed("libstdc++.so.6", "GLIBCXX_3.4.21"),
    ),
    text_relocations=False,
    executable_stack=False,
)


def undefined(name: str, version: str | None = None, library: str | None = None) -> Symbol:
    """A symbol that comes from elsewhere."""
    return Symbol(name, defined=False, binding=Binding.GLOBAL, version=version, library=library)


def good_facts(*extra: Symbol, **changes: Any) -> BinaryFacts:
    """The good facts with further symbols and other fields."""
    facts = replace(GOOD_FACTS, **changes)
    return replace(facts, symbols=(*facts.symbols, *extra))


def good_metadata(**changes: Any) -> Metadata:
    """The metadata of the good artifact with other fields."""
    metadata = Metadata(name="relu", id=ID, version=1, license="Apache-2.0", backend=Backend.CPU)
    return replace(metadata, **changes)


def write_artifact(
    directory: Path,
    *,
    variant: str = CLASSIC,
    library: Path | None = None,
    files: dict[str, str] | None = None,
    metadata: Metadata | None = None,
) -> Path:
    """An artifact with a true digest. library: copied in as the extension module."""
    path = directory / variant
    path.mkdir(parents=True)
    for name, text in {"__init__.py": "from ._ops import ops\n", "_ops.py": OPS, **(files or {})}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    if library is not None:
        shutil.copyfile(library, path / f"{ID}.abi3.so")
    seal(path, good_metadata() if metadata is None else metadata)
    return path


def seal(path: Path, metadata: Metadata) -> None:
    """Write the metadata with the digest of what is there."""
    (path / "metadata.json").write_bytes(format_metadata(replace(metadata, digest=compute_digest(path))))


def link(target: Path, source: str, *flags: str, language: str = "c") -> Path:
    """Compile and link a shared library from a few lines."""
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = "gcc" if language == "c" else "g++"
    command: list[str | Path] = [compiler, "-shared", "-fPIC", "-o", target, "-x", language, "-", "-x", "none", *flags]
    subprocess.run(command, input=source, text=True, check=True)
    return target


def link_stub(target: Path, source: str = "", version: str | None = None) -> Path:
    """A library to link against; with `version`, every symbol of it carries that version."""
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-nostdlib", f"-Wl,-soname,{target.name}"]
    if version is not None:
        script = target.with_suffix(".map")
        script.write_text(f"{version} {{ global: *; }};\n")
        flags.append(f"-Wl,--version-script={script}")
    return link(target, source, *flags)


def link_module(directory: Path, *flags: str, source: str = MODULE_SOURCE, torch: bool = True) -> Path:
    """The extension module of the good artifact, linked against stubs of torch's libraries."""
    torch_flags: list[str] = []
    if torch:
        stubs = directory / "stubs"
        link_stub(stubs / "libtorch_cpu.so", "int aoti_torch_delete_tensor_object(void *p) { return !p; }")
        link_stub(stubs / "libc10.so")
        torch_flags = [f"-L{stubs}", "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10"]
    return link(directory / "module.so", source, "-O1", "-s", *torch_flags, *flags)
