"""What the machine gives at best, measured in the same run: a large matrix product, and reading memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_READ_AT_LEAST = 128 << 20
_READ_AT_MOST = 2 << 30
_READ_ON_ACCELERATORS = 1 << 30  # whose caches the system does not tell
_SIZE_ON_ACCELERATORS = 8192
_SIZES = ((4, 1536), (16, 2048), (1 << 30, 4096))  # up to so many threads -> rows and columns
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A probe that takes turns with the workloads. `work`: floating point operations or bytes of one call."""

    name: str
    unit: str
    work: float
    call: Callable[[], object]


def make_product(dtype: torch.dtype, device: str, threads: int, *, size: int | None = None) -> Ceiling:
    """`torch.mm` of square matrices, if not said otherwise large enough to be at its best on so many threads."""
    if size is None:
        size = _SIZE_ON_ACCELERATORS if device != "cpu" else next(size for most, size in _SIZES if threads <= most)
    left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty(size, size, device=device, dtype=dtype)
    return Ceiling(f"{name_dtype(dtype)}-mm", "flop", 2.0 * size**3, lambda: torch.mm(left, right, out=out))


def make_read(device: str) -> Ceiling:
    """The sum of a tensor that no cache holds."""
    amount = _READ_ON_ACCELERATORS
    if device == "cpu":
        amount = min(max(_READ_AT_LEAST, 4 * read_largest_cache()), _READ_AT_MOST)
    tensor = torch.zeros(amount // 4, device=device)
    return Ceiling("read", "byte", float(amount // 4 * 4), tensor.sum)


def read_largest_cache() -> int:
    """Bytes of the largest cache of the first CPU; 0 where the system does not say."""
    sizes = [0]
    for file in _CACHE.glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
        if text[:-1].isdigit() and text[-1] in units:
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes)


def name_dtype(dtype: torch.dtype) -> str:
    """For example `bfloat16`."""
    return str(dtype).removeprefix("torch.")
