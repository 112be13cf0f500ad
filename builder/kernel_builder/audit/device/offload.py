"""Clang's offload bundles, which hold HIP's code objects: a table of targets, then one ELF file for each."""

from __future__ import annotations

import mmap
import re
import struct
import tomllib
import zlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Final

from kernel_builder.audit.device.model import DeviceCode, DeviceImage
from kernel_builder.backend import Backend

_MAGIC: Final = b"__CLANG_OFFLOAD_BUNDLE__"
_COUNT: Final = struct.Struct("<Q")
_ENTRY: Final = struct.Struct("<QQQ")  # offset in the bundle, size, length of the target's name
_COMPRESSED_MAGIC: Final = b"CCOB"
_COMPRESSED_HEAD: Final = struct.Struct("<4sHH")
_COMPRESSED_SIZES: Final = {2: struct.Struct("<IIQ"), 3: struct.Struct("<QQQ")}  # of the whole, uncompressed, hash
_METHODS: Final = {0: "zlib", 1: "zstd"}
_MOST_ENTRIES: Final = 1000
_LONGEST_NAME: Final = 256
_LARGEST_BUNDLE: Final = 1 << 31
_NAME_PARTS: Final = 5  # kind, machine, vendor, system, environment; what is left names the device
_TARGET: Final = re.compile(r"[a-z0-9-]+(:[a-z]+[+-])*")
_ELF_HEAD: Final = struct.Struct("<16sHHIQQQI")
_EM_AMDGPU: Final = 224
_PORTABLE: Final = "amdgcnspirv"


class _DamagedError(Exception):
    """Why a bundle cannot be one."""


def read_bundles(data: bytes | mmap.mmap) -> DeviceCode:
    """The images of every bundle in a file, compressed ones too where Python can decompress them."""
    images: set[DeviceImage] = set()
    damage: list[str] = []
    unread: list[str] = []
    for position in _find_all(data, _MAGIC):
        try:
            images.update(_read_bundle(data, position))
        except _DamagedError as reason:
            damage.append(f"the offload bundle at {position:#x} is damaged: {reason}")
    for position in _find_all(data, _COMPRESSED_MAGIC):
        try:
            content = _decompress(data, position)
            if isinstance(content, bytes):
                images.update(_read_bundle(content, 0))
            elif content is not None:
                unread.append(f"an offload bundle is compressed with {content}")
        except _DamagedError as reason:
            damage.append(f"the compressed offload bundle at {position:#x} is damaged: {reason}")
    return DeviceCode(tuple(sorted(images)), tuple(damage), tuple(unread))


def _find_all(data: bytes | mmap.mmap, magic: bytes) -> Iterator[int]:
    position = data.find(magic)
    while position >= 0:
        yield position
        position = data.find(magic, position + len(magic))


def _read_bundle(data: bytes | mmap.mmap, start: int) -> Iterator[DeviceImage]:
    position = start + len(_MAGIC)
    if position + _COUNT.size > len(data):
        raise _DamagedError("it ends within its header")
    (count,) = _COUNT.unpack_from(data, position)
    if not 0 < count <= _MOST_ENTRIES:
        return  # the magic number in a program that reads bundles
    position += _COUNT.size
    for _ in range(count):
        if position + _ENTRY.size > len(data):
            raise _DamagedError("it ends within its table")
        offset, size, length = _ENTRY.unpack_from(data, position)
        position += _ENTRY.size
        if length > _LONGEST_NAME or start + offset + size > len(data):
            raise _DamagedError(f"an entry claims {size} bytes at {offset:#x}")
        name = bytes(data[position : position + length]).decode("ascii", "backslashreplace")
        position += length
        if name.startswith("hip"):
            target = (name.split("-", _NAME_PARTS)[_NAME_PARTS:] or [""])[0]
            if _TARGET.fullmatch(target) is None:
                raise _DamagedError(f"it names the device {target!r}")
            _check_code_object(data, start + offset, size, target)
            yield DeviceImage(Backend.ROCM, target, portable=target == _PORTABLE)


def _check_code_object(data: bytes | mmap.mmap, start: int, size: int, target: str) -> None:
    """The table says which device the code is for, and so does the code; the two must agree."""
    if target == _PORTABLE:
        return
    if size < _ELF_HEAD.size or bytes(data[start : start + 4]) != b"\x7fELF":
        raise _DamagedError(f"there is no code object for `{target}`")
    _, _, machine, _, _, _, _, flags = _ELF_HEAD.unpack_from(data, start)
    found = _load_machines().get(flags & 0xFF)
    if machine != _EM_AMDGPU or (found is not None and found != target.partition(":")[0]):
        raise _DamagedError(f"the code for `{target}` is for `{found or machine}`")


def _decompress(data: bytes | mmap.mmap, start: int) -> bytes | str | None:
    """What was compressed, or the name of a method that Python does not have; None for what is no bundle."""
    if start + _COMPRESSED_HEAD.size > len(data):
        return None
    _, version, method = _COMPRESSED_HEAD.unpack_from(data, start)
    sizes = _COMPRESSED_SIZES.get(version)
    name = _METHODS.get(method)
    if sizes is None or name is None or start + _COMPRESSED_HEAD.size + sizes.size > len(data):
        return None
    total, uncompressed, _ = sizes.unpack_from(data, start + _COMPRESSED_HEAD.size)
    body = start + _COMPRESSED_HEAD.size + sizes.size
    if start + total > len(data) or total < body - start or uncompressed > _LARGEST_BUNDLE:
        raise _DamagedError(f"it claims {total} bytes")
    if name != "zlib":
        return name
    try:
        content = zlib.decompressobj().decompress(bytes(data[body : start + total]), uncompressed)
    except zlib.error as error:
        raise _DamagedError(str(error)) from error
    if not content.startswith(_MAGIC):
        raise _DamagedError("there is no bundle in it")
    return content


@cache
def _load_machines() -> dict[int, str]:
    text = (resources.files("kernel_builder.audit.device") / "amdgpu.toml").read_text(encoding="utf-8")
    return {number: name for name, number in tomllib.loads(text)["machines"].items()}
