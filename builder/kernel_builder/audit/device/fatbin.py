"""CUDA's fat binaries: a header, then one entry for each cubin and each PTX text.

NVIDIA does not document the format; this is what `nvcc` 12 and 13 write. Entries say which device they are for without
being decompressed.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Final

from kernel_builder.audit.device.model import DeviceCode, DeviceImage
from kernel_builder.backend import Backend

_MAGIC: Final = bytes.fromhex("50ed55ba")
_HEADER: Final = struct.Struct("<IHHQ")  # magic, version, size of this header, size of all entries
_ENTRY: Final = struct.Struct("<HHIQIIHHIIIQQQ")
_VERSION: Final = 1
_ALIGNMENT: Final = 8
_KIND_PTX: Final = 1
_KIND_CUBIN: Final = 2
_EXACT_FLAG: Final = 0x10_0000  # `sm_90a`
_FAMILY_FLAG: Final = 0x20_0000  # `sm_100f`
_NEWEST_ARCH: Final = 1000


class _DamagedError(Exception):
    """Why an entry cannot be one."""


def read_fatbins(data: bytes | mmap.mmap) -> DeviceCode:
    """The images of every fat binary in a file.

    The magic number alone proves nothing, since programs that write or read fat binaries hold it too: what has not
    the header of one is passed over.
    """
    images: set[DeviceImage] = set()
    damage: list[str] = []
    position = data.find(_MAGIC)
    while position >= 0:
        end = _find_end(data, position)
        if end is not None:
            try:
                images.update(_read_entries(data, position + _HEADER.size, end))
            except _DamagedError as reason:
                damage.append(f"the fat binary at {position:#x} is damaged: {reason}")
        position = data.find(_MAGIC, position + len(_MAGIC) if end is None else max(end, position + len(_MAGIC)))
    return DeviceCode(tuple(sorted(images)), tuple(damage))


def _find_end(data: bytes | mmap.mmap, position: int) -> int | None:
    if position % _ALIGNMENT or position + _HEADER.size > len(data):
        return None
    _, version, header_size, size = _HEADER.unpack_from(data, position)
    end = position + _HEADER.size + size
    return end if version == _VERSION and header_size == _HEADER.size and end <= len(data) else None


def _read_entries(data: bytes | mmap.mmap, position: int, end: int) -> Iterator[DeviceImage]:
    while position < end:
        if position + _ENTRY.size > end:
            raise _DamagedError(f"it ends within the header of an entry at {position:#x}")
        kind, _, header_size, size, _, _, _, _, arch, _, _, flags, _, _ = _ENTRY.unpack_from(data, position)
        following = position + header_size + size
        if header_size < _ENTRY.size or following > end:
            raise _DamagedError(f"the entry at {position:#x} claims {header_size} + {size} bytes")
        if kind in {_KIND_PTX, _KIND_CUBIN}:
            if not 0 < arch < _NEWEST_ARCH:
                raise _DamagedError(f"the entry at {position:#x} is for the unknown device sm_{arch}")
            suffix = "a" if flags & _EXACT_FLAG else "f" if flags & _FAMILY_FLAG else ""
            yield DeviceImage(Backend.CUDA, f"{arch // 10}.{arch % 10}{suffix}", portable=kind == _KIND_PTX)
        position = following
