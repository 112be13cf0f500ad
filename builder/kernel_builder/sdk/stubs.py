"""Libraries that a linker can name and nothing can run: for linking against a torch that is not there.

A shared object for Linux is written byte by byte, so that no compiler for the target is needed; for macOS a text stub
says the same.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kernel_builder.host import HostPlatform

_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_HEADER, _SEGMENT, _SECTION, _SYMBOL, _ENTRY = 64, 56, 64, 24, 16
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_SHT_STRTAB, _SHT_DYNAMIC, _SHT_DYNSYM = 3, 6, 11
_DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 5, 6, 10, 11, 14
_READ, _ALLOC = 4, 2
_TBD_TARGETS = {"aarch64": "arm64-macos", "x86_64": "x86_64-macos"}


def write_stub(directory: Path, name: str, host: HostPlatform) -> Path:
    """Write the stub of the library `name`, such as `torch_cpu`, for a platform. Raises `ValueError` for others.

    The artifact that is linked to it names `libtorch_cpu.so` (or `@rpath/libtorch_cpu.dylib`) as needed.
    """
    if host.os == "linux":
        path = directory / f"lib{name}.so"
        write_elf_stub(path, path.name, host)
    elif host.os == "darwin" and host.machine in _TBD_TARGETS:
        path = directory / f"lib{name}.tbd"
        path.write_text(render_text_stub(f"lib{name}.dylib", host.machine), encoding="ascii")
    else:
        raise ValueError(f"there are no stub libraries for `{host}`")
    return path


def write_elf_stub(path: Path, soname: str, host: HostPlatform) -> None:
    """Write a stub for Linux whose name as a library may differ from that of its file. Raises `ValueError`."""
    if host.machine not in _ELF_MACHINES:
        raise ValueError(f"there are no stub libraries for `{host}`")
    path.write_bytes(render_elf_stub(soname, host.machine))


def render_elf_stub(soname: str, machine: str) -> bytes:
    """A 64-bit little-endian shared object that has a name and no symbols."""
    strings = b"\0" + soname.encode("ascii") + b"\0"
    section_names = b"\0.dynsym\0.dynstr\0.dynamic\0.shstrtab\0"
    symbols = bytes(_SYMBOL)
    symbols_at = _HEADER + 3 * _SEGMENT
    strings_at = symbols_at + len(symbols)
    dynamic_at = _align(strings_at + len(strings))
    dynamic = b"".join(
        struct.pack("<qQ", tag, value)
        for tag, value in (
            (_DT_SONAME, 1),
            (_DT_STRTAB, strings_at),
            (_DT_SYMTAB, symbols_at),
            (_DT_STRSZ, len(strings)),
            (_DT_SYMENT, _SYMBOL),
            (0, 0),
        )
    )
    names_at = dynamic_at + len(dynamic)
    sections_at = _align(names_at + len(section_names))
    body = bytearray(sections_at)
    body[symbols_at : symbols_at + len(symbols)] = symbols
    body[strings_at : strings_at + len(strings)] = strings
    body[dynamic_at:names_at] = dynamic
    body[names_at : names_at + len(section_names)] = section_names
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        3,  # a shared object
        _ELF_MACHINES[machine],
        1,
        0,
        _HEADER,
        sections_at,
        0,
        _HEADER,
        _SEGMENT,
        3,
        _SECTION,
        5,
        4,
    )
    segments = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, size, size, align)
        for kind, flags, offset, size, align in (
            (_PT_LOAD, _READ, 0, names_at, 0x10000),
            (_PT_DYNAMIC, _READ, dynamic_at, len(dynamic), 8),
            (_PT_GNU_STACK, 6, 0, 0, 16),
        )
    )
    body[: len(header)] = header
    body[_HEADER : _HEADER + len(segments)] = segments
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, info, align, entry)
        for name, kind, flags, address, offset, size, link, info, align, entry in (
            (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
            (1, _SHT_DYNSYM, _ALLOC, symbols_at, symbols_at, len(symbols), 2, 1, 8, _SYMBOL),
            (9, _SHT_STRTAB, _ALLOC, strings_at, strings_at, len(strings), 0, 0, 1, 0),
            (17, _SHT_DYNAMIC, _ALLOC, dynamic_at, dynamic_at, len(dynamic), 2, 0, 8, _ENTRY),
            (26, _SHT_STRTAB, 0, 0, names_at, len(section_names), 0, 0, 1, 0),
        )
    )
    return bytes(body) + sections


def render_text_stub(file_name: str, machine: str) -> str:
    """The same for macOS, in the format that its linkers read instead of a library."""
    return (
        "--- !tapi-tbd\n"
        "tbd-version: 4\n"
        f"targets: [ {_TBD_TARGETS[machine]} ]\n"
        f"install-name: '@rpath/{file_name}'\n"
        "...\n"
    )


def _align(offset: int, to: int = 8) -> int:
    return -(-offset // to) * to
