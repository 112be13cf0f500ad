"""Read the GPU code that a library carries: fat binaries of CUDA, offload bundles of HIP.

They are found by their magic numbers in the bytes of the file, not by section names, which stripping removes.
"""

from __future__ import annotations

import mmap
from typing import BinaryIO

from kernel_builder.audit.device.fatbin import read_fatbins
from kernel_builder.audit.device.model import DeviceCode, DeviceImage
from kernel_builder.audit.device.offload import read_bundles

__all__ = ["DeviceCode", "DeviceImage", "read_device_code"]


def read_device_code(stream: BinaryIO) -> DeviceCode:
    """All GPU code in a file. It is not trusted: every size in it is held against the size of the file."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts = (read_fatbins(data), read_bundles(data))
    return DeviceCode(
        images=tuple(sorted({image for part in parts for image in part.images})),
        damage=tuple(dict.fromkeys(text for part in parts for text in part.damage)),
        unread=tuple(dict.fromkeys(text for part in parts for text in part.unread)),
    )
