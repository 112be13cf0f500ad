"""A shared library as a value: what its dynamic tables say, which is what the loader will act on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from kernel_builder.audit.device.model import DeviceCode


class BinaryFormat(StrEnum):
    """What the first bytes of a file say it is."""

    ELF = "ELF"
    MACH_O = "Mach-O"
    PE = "PE"
    UNKNOWN = "unknown"


class UnreadableBinaryError(Exception):
    """The file is not a well-formed shared library; the text says why in one sentence."""


class Binding(StrEnum):
    """How widely a symbol binds."""

    LOCAL = "local"
    GLOBAL = "global"
    WEAK = "weak"
    UNIQUE = "unique"


@dataclass(frozen=True, slots=True)
class Symbol:
    """One entry of the dynamic symbol table. `version` and `library` are those it is needed from, if it says so."""

    name: str
    defined: bool
    binding: Binding
    version: str | None = None
    library: str | None = None


@dataclass(frozen=True, slots=True)
class VersionNeed:
    """A symbol version that must exist in a library, or the loader refuses the file."""

    library: str
    version: str


@dataclass(frozen=True, slots=True)
class BinaryFacts:
    """What an ELF file asks of the loader and offers to it.

    machine: as `platform.machine()` spells it. rpath: the entries of DT_RPATH and DT_RUNPATH. executable_stack:
    asked for, or not ruled out on a machine where that is the same. source_paths: absolute paths of source and
    object files found anywhere in the file, at most 20. device_code: what it holds for GPUs.
    """

    machine: str
    is_shared: bool
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    symbols: tuple[Symbol, ...]
    version_needs: tuple[VersionNeed, ...]
    text_relocations: bool
    executable_stack: bool
    build_id: str | None = None
    debug_sections: tuple[str, ...] = ()
    source_paths: tuple[str, ...] = ()
    device_code: DeviceCode = field(default_factory=DeviceCode)

    def undefined(self) -> Iterator[Symbol]:
        """The symbols that come from elsewhere, weak ones too."""
        return (symbol for symbol in self.symbols if not symbol.defined)

    def exported(self) -> Iterator[Symbol]:
        """The symbols that others can bind to."""
        return (symbol for symbol in self.symbols if symbol.defined and symbol.binding is not Binding.LOCAL)


_MACH_O_MAGICS = frozenset(bytes.fromhex(text) for text in ("feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe"))


def recognise_format(path: Path) -> BinaryFormat:
    """Look at the first bytes of a file. Raises `OSError` when it cannot be opened."""
    with path.open("rb") as stream:
        head = stream.read(4)
    if head == b"\x7fELF":
        return BinaryFormat.ELF
    if head in _MACH_O_MAGICS:
        return BinaryFormat.MACH_O
    return BinaryFormat.PE if head.startswith(b"MZ") else BinaryFormat.UNKNOWN


# A run of path characters, taken whole (possessive), so that the scan is linear on any input. It begins with a plain
# character, which `re` looks for much faster than for a condition.
_PATH = re.compile(rb"/[\w.+@/-]{3,1023}+")
_PATH_CHARACTER = re.compile(rb"[\w.+@/-]")
_SOURCE = re.compile(r"/.+\.(c|cc|cpp|cxx|cu|cuh|h|hh|hip|hpp|hxx|inl|ipp|mm|o|py|rs|s|tcc)", re.IGNORECASE)
_PUBLIC_ROOTS = ("/usr/", "/lib/", "/lib64/", "/proc/", "/sys/", "/dev/", "/etc/")
_BLOCK = 1 << 20
_OVERLAP = 1 << 10
MAX_SOURCE_PATHS = 20


def find_source_paths(stream: BinaryIO) -> tuple[str, ...]:
    """Absolute paths of sources and objects inside a file, sorted, at most `MAX_SOURCE_PATHS`.

    System directories do not count: they are the same on every machine.
    """
    found: set[str] = set()
    tail = b""
    stream.seek(0)
    while (block := stream.read(_BLOCK)) and len(found) < MAX_SOURCE_PATHS:
        window = tail + block
        for match in _PATH.finditer(window):
            start, end = match.span()
            is_cut = (end == len(window) and len(block) == _BLOCK) or (start == 0 and tail)
            if is_cut or (start and _PATH_CHARACTER.match(window, start - 1)):
                continue  # a part of a path: of a relative one, or of one that another window has whole
            path = match[0].decode("utf-8", "backslashreplace")
            if _SOURCE.fullmatch(path) and path.count("/") > 1 and not path.startswith(_PUBLIC_ROOTS):
                found.add(path)
        tail = window[-_OVERLAP:]
    return tuple(sorted(found)[:MAX_SOURCE_PATHS])
