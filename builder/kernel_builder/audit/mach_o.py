"""Read of a Mach-O library what decides where it may be loaded: its machine, its kind, and the oldest macOS for it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernel_builder.audit.binary import UnreadableBinaryError
from kernel_builder.version import MinorVersion

MACHINES: Final = {0x0100_0007: "x86_64", 0x0100_000C: "aarch64"}
_MAGIC_64: Final = 0xFEED_FACF
_FAT_MAGICS: Final = (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")
_HEADER: Final = struct.Struct("<8I")
_COMMAND: Final = struct.Struct("<2I")
_LOADABLE: Final = (6, 8)  # MH_DYLIB, MH_BUNDLE
_LC_VERSION_MIN_MACOSX: Final = 0x24
_LC_BUILD_VERSION: Final = 0x32
_PLATFORM_MACOS: Final = 1
_MAX_COMMANDS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MachOFacts:
    """machine: as Linux spells it. deployment_target: the oldest macOS that it was made for, None if it says none."""

    machine: str
    is_loadable: bool
    deployment_target: MinorVersion | None


def read_mach_o(path: Path) -> MachOFacts:
    """The facts of the Mach-O file at `path`. Raises `UnreadableBinaryError` when it is not a well-formed one."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEADER.size)
            if head[:4] in _FAT_MAGICS:
                raise UnreadableBinaryError("it holds code for several machines, and a variant is for one")
            magic, machine, _, kind, count, size, _, _ = _HEADER.unpack(head)
            if magic != _MAGIC_64:
                raise UnreadableBinaryError(
                    "it is no 64-bit little-endian Mach-O file, which every Mac since 2012 loads"
                )
            commands = stream.read(min(size, _MAX_COMMANDS))
        if len(commands) < size:
            raise UnreadableBinaryError("it is damaged: its load commands are cut off")
        return MachOFacts(MACHINES.get(machine, hex(machine)), kind in _LOADABLE, _find_target(commands, count))
    except (struct.error, OSError) as error:
        raise UnreadableBinaryError(f"it is damaged: {error}") from error


def _find_target(commands: bytes, count: int) -> MinorVersion | None:
    """What the load commands say about the oldest macOS. Every length in there is a claim, held against the bytes."""
    at, target = 0, None
    for _ in range(count):
        command, length = _COMMAND.unpack_from(commands, at)
        if length < _COMMAND.size or at + length > len(commands):
            raise UnreadableBinaryError("it is damaged: a load command is longer than what holds it")
        if command == _LC_BUILD_VERSION:
            platform, oldest = struct.unpack_from("<2I", commands, at + _COMMAND.size)
            if platform == _PLATFORM_MACOS:
                target = _unpack_version(oldest)
        elif command == _LC_VERSION_MIN_MACOSX:
            target = _unpack_version(*struct.unpack_from("<I", commands, at + _COMMAND.size))
        at += length
    return target


def _unpack_version(packed: int) -> MinorVersion:
    return MinorVersion(packed >> 16, packed >> 8 & 0xFF)
