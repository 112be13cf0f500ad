"""Read an ELF shared library as the dynamic loader does: program headers, dynamic segment, symbols, versions.

Section headers play no part in it: a stripped library is read like any other, and one whose sections lie is
read as it will be loaded. pyelftools knows the layouts; the walk is ours, because every count in a file is a claim:
each one is held against the size of the file before it is believed, so that no input makes the audit hang.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.structs import ELFStructs

from kernel_builder.audit.binary import (
    BinaryFacts,
    Binding,
    Symbol,
    UnreadableBinaryError,
    VersionNeed,
    find_source_paths,
)
from kernel_builder.audit.device import read_device_code

MACHINES: Final = {
    "EM_386": "i686",
    "EM_AARCH64": "aarch64",
    "EM_ARM": "armv7l",
    "EM_LOONGARCH": "loongarch64",
    "EM_PPC64": "ppc64le",
    "EM_RISCV": "riscv64",
    "EM_S390": "s390x",
    "EM_X86_64": "x86_64",
}
# Where a missing PT_GNU_STACK means an executable stack.
_STACK_DEFAULTS_TO_EXECUTABLE: Final = frozenset({"x86_64", "i686", "armv7l"})
_BINDINGS: Final = {0: Binding.LOCAL, 1: Binding.GLOBAL, 2: Binding.WEAK, 10: Binding.UNIQUE}
_MAX_SYMBOLS: Final = 1_000_000
_MAX_STRINGS: Final = 1 << 28
_MAX_RECORDS: Final = 10_000
_MAX_NAME: Final = 1 << 16
_DF_TEXTREL: Final = 0x4
_PF_X: Final = 0x1
_VERSYM_INDEX: Final = 0x7FFF


def read_elf(path: Path) -> BinaryFacts:
    """The facts of the ELF file at `path`. Raises `UnreadableBinaryError` when it is not a well-formed one."""
    try:
        with path.open("rb") as stream:
            return _Reader(stream, path.stat().st_size).read()
    except (ELFError, ConstructError, struct.error, ValueError, OverflowError, OSError) as error:
        raise UnreadableBinaryError(f"it is damaged: {error}") from error


class _Reader:
    """One walk through one file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        ident = self._bytes(0, 16)
        if ident[:4] != b"\x7fELF" or ident[4] not in {1, 2} or ident[5] not in {1, 2}:
            raise UnreadableBinaryError("it has no valid ELF header")
        self._is_64 = ident[4] == 2  # noqa: PLR2004 - ELFCLASS64
        self._structs = ELFStructs(little_endian=ident[5] == 1, elfclass=64 if self._is_64 else 32)
        self._structs.create_basic_structs()
        self._structs.create_advanced_structs()
        self._order = "<" if ident[5] == 1 else ">"
        self._header = self._parse(self._structs.Elf_Ehdr, 0)
        self._segments = self._table(
            self._structs.Elf_Phdr, self._header.e_phoff, self._header.e_phnum, self._header.e_phentsize
        )
        self._tags = self._read_tags()
        self._strings = self._read_strings()

    def read(self) -> BinaryFacts:
        """All facts."""
        machine = MACHINES.get(self._header.e_machine, str(self._header.e_machine).removeprefix("EM_").lower())
        stacks = [segment for segment in self._segments if segment.p_type == "PT_GNU_STACK"]
        executable = bool(stacks[0].p_flags & _PF_X) if stacks else machine in _STACK_DEFAULTS_TO_EXECUTABLE
        versions = dict(self._read_version_needs())
        paths = [self._string(offset) for tag in ("DT_RPATH", "DT_RUNPATH") for offset in self._tags.get(tag, ())]
        flags = sum(self._tags.get("DT_FLAGS", ())[:1])
        return BinaryFacts(
            machine=machine,
            is_shared=self._header.e_type == "ET_DYN",
            soname=next((self._string(offset) for offset in self._tags.get("DT_SONAME", ())), None),
            needed=tuple(self._string(offset) for offset in self._tags.get("DT_NEEDED", ())),
            rpath=tuple(entry for path in paths for entry in path.split(":")),
            symbols=tuple(self._read_symbols(versions)),
            version_needs=tuple(sorted(set(versions.values()), key=lambda need: (need.library, need.version))),
            text_relocations="DT_TEXTREL" in self._tags or bool(flags & _DF_TEXTREL),
            executable_stack=executable,
            build_id=self._read_build_id(),
            debug_sections=tuple(self._read_debug_sections()),
            source_paths=find_source_paths(self._stream),
            device_code=read_device_code(self._stream),
        )

    # Bounded access to the file

    def _bytes(self, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > self._size:
            raise UnreadableBinaryError(f"it is cut off: {count} bytes at {offset:#x} lie beyond its {self._size}")
        self._stream.seek(offset)
        return self._stream.read(count)

    def _parse(self, layout: Any, offset: int) -> Any:
        self._bytes(offset, layout.sizeof())
        return struct_parse(layout, self._stream, offset)

    def _table(self, layout: Any, offset: int, count: int, entry_size: int) -> list[Any]:
        if count and entry_size < layout.sizeof():
            raise UnreadableBinaryError(f"its tables have entries of {entry_size} bytes")
        if offset + count * entry_size > self._size:
            raise UnreadableBinaryError(f"it is cut off: {count} table entries at {offset:#x} lie beyond its end")
        return [self._parse(layout, offset + index * entry_size) for index in range(count)]

    def _offset_of(self, address: int) -> int:
        """Where in the file the bytes lie that are loaded at `address`."""
        for segment in self._segments:
            if segment.p_type == "PT_LOAD" and 0 <= address - segment.p_vaddr < segment.p_filesz:
                return int(address - segment.p_vaddr + segment.p_offset)
        raise UnreadableBinaryError(f"its dynamic segment points to {address:#x}, which is in no loaded segment")

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset, offset + _MAX_NAME)
        if not 0 <= offset < len(self._strings) or end < 0:
            raise UnreadableBinaryError(f"a name at {offset:#x} lies outside of its string table")
        return self._strings[offset:end].decode("utf-8", "backslashreplace")

    # The dynamic segment and what it points to

    def _read_tags(self) -> dict[str, list[int]]:
        """Values by tag, in file order. A shared library without a dynamic segment is none."""
        dynamic = next((segment for segment in self._segments if segment.p_type == "PT_DYNAMIC"), None)
        if dynamic is None:
            raise UnreadableBinaryError("it has no dynamic segment, so it is not a shared library")
        layout = self._structs.Elf_Dyn
        tags: dict[str, list[int]] = {}
        for index in range(min(dynamic.p_filesz // layout.sizeof(), _MAX_RECORDS)):
            entry = self._parse(layout, dynamic.p_offset + index * layout.sizeof())
            if entry.d_tag == "DT_NULL":
                break
            tags.setdefault(str(entry.d_tag), []).append(entry.d_val)
        return tags

    def _address(self, tag: str) -> int | None:
        values = self._tags.get(tag)
        return values[0] if values else None

    def _read_strings(self) -> bytes:
        address, size = self._address("DT_STRTAB"), self._address("DT_STRSZ")
        if address is None or size is None:
            raise UnreadableBinaryError("its dynamic segment names no string table")
        if size > _MAX_STRINGS:
            raise UnreadableBinaryError(f"its string table claims {size} bytes")
        return self._bytes(self._offset_of(address), size)

    def _read_symbols(self, versions: dict[int, VersionNeed]) -> Iterator[Symbol]:
        address = self._address("DT_SYMTAB")
        count = 0 if address is None else self._count_symbols(address)
        if address is None or not count:
            return
        entry = struct.Struct(self._order + ("IBBHQQ" if self._is_64 else "IIIBBH"))
        table = self._bytes(self._offset_of(address), count * entry.size)
        version_address = self._address("DT_VERSYM")
        indexes: tuple[int, ...] = (0,) * count
        if version_address is not None:
            raw = self._bytes(self._offset_of(version_address), 2 * count)
            indexes = struct.unpack(f"{self._order}{count}H", raw)
        for position, fields in enumerate(entry.iter_unpack(table)):
            info, section = (fields[1], fields[3]) if self._is_64 else (fields[3], fields[5])
            if position == 0 or not fields[0]:
                continue  # the empty first entry, and section symbols
            need = versions.get(indexes[position] & _VERSYM_INDEX)
            yield Symbol(
                name=self._string(fields[0]),
                defined=section != 0,
                binding=_BINDINGS.get(info >> 4, Binding.GLOBAL),
                version=need.version if need and not section else None,
                library=need.library if need and not section else None,
            )

    def _count_symbols(self, symbols: int) -> int:
        """The length of the symbol table, which only the hash tables tell."""
        entry_size = 24 if self._is_64 else 16
        available = (self._size - self._offset_of(symbols)) // entry_size
        count = self._count_hashed()
        if count is None:
            # Nothing is exported. Every linker puts the strings right after the symbols.
            count = max(0, (self._address("DT_STRTAB") or 0) - symbols) // entry_size
        if count > min(available, _MAX_SYMBOLS):
            raise UnreadableBinaryError(f"its symbol table claims {count} entries")
        return count

    def _count_hashed(self) -> int | None:
        """One more than the last hashed symbol: exported ones end the table. None when nothing is exported."""
        address = self._address("DT_HASH")
        if address is not None:
            return int(struct.unpack(self._order + "II", self._bytes(self._offset_of(address), 8))[1])
        address = self._address("DT_GNU_HASH")
        if address is None:
            raise UnreadableBinaryError("it has no hash table, so no loader can look up its symbols")
        start = self._offset_of(address)
        buckets, first, bloom, _ = struct.unpack(self._order + "4I", self._bytes(start, 16))
        table = start + 16 + bloom * (8 if self._is_64 else 4)
        chain = table + 4 * buckets
        last = max(struct.unpack(f"{self._order}{buckets}I", self._bytes(table, 4 * buckets)), default=0)
        if last < first:
            return None
        longest = min((self._size - chain) // 4 - (last - first), _MAX_SYMBOLS)
        for index in range(last - first, last - first + longest):
            if struct.unpack(self._order + "I", self._bytes(chain + 4 * index, 4))[0] & 1:
                return int(first + index + 1)
        raise UnreadableBinaryError("its hash table has no end")

    def _read_version_needs(self) -> Iterator[tuple[int, VersionNeed]]:
        """Version index -> what is needed, from the table of needed versions."""
        address, count = self._address("DT_VERNEED"), self._address("DT_VERNEEDNUM")
        if address is None or count is None:
            return
        offset, records = self._offset_of(address), 0
        for _ in range(min(count, _MAX_RECORDS)):
            need = self._parse(self._structs.Elf_Verneed, offset)
            library = self._string(need.vn_file)
            detail = offset + need.vn_aux
            for _ in range(need.vn_cnt):
                records += 1
                if records > _MAX_RECORDS:
                    raise UnreadableBinaryError(f"it needs more than {_MAX_RECORDS} symbol versions")
                auxiliary = self._parse(self._structs.Elf_Vernaux, detail)
                yield auxiliary.vna_other & _VERSYM_INDEX, VersionNeed(library, self._string(auxiliary.vna_name))
                if not auxiliary.vna_next:
                    break
                detail += auxiliary.vna_next
            if not need.vn_next:
                break
            offset += need.vn_next

    # What only informs

    def _read_build_id(self) -> str | None:
        for segment in self._segments:
            if segment.p_type != "PT_NOTE" or segment.p_filesz > _MAX_NAME:
                continue
            notes = self._bytes(segment.p_offset, segment.p_filesz)
            mark = notes.find(b"GNU\0")
            while mark >= 12:  # noqa: PLR2004 - name size, descriptor size and type come before the name
                size, kind = struct.unpack_from(self._order + "II", notes, mark - 8)
                if kind == 3:  # noqa: PLR2004 - NT_GNU_BUILD_ID
                    return notes[mark + 4 : mark + 4 + min(size, 64)].hex()
                mark = notes.find(b"GNU\0", mark + 4)
        return None

    def _read_debug_sections(self) -> Iterator[str]:
        """Names of the sections with debug information; none when the section headers are gone or damaged."""
        header, layout = self._header, self._structs.Elf_Shdr
        end = header.e_shoff + header.e_shnum * header.e_shentsize
        if not header.e_shoff or end > self._size or header.e_shentsize < layout.sizeof():
            return
        sections = self._table(layout, header.e_shoff, header.e_shnum, header.e_shentsize)
        if header.e_shstrndx >= len(sections):
            return
        names = sections[header.e_shstrndx]
        if names.sh_offset + names.sh_size > self._size or names.sh_size > _MAX_STRINGS:
            return
        table = self._bytes(names.sh_offset, names.sh_size)
        for section in sections:
            name = table[section.sh_name : section.sh_name + 64].partition(b"\0")[0]
            if name.startswith((b".debug_", b".zdebug_")) and section.sh_size:
                yield name.decode("ascii", "backslashreplace")
