"""Peaks of memory: what torch's allocator says on an accelerator, what the system says of the process on a CPU."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 1 << 30
CPU_LEGEND = (
    "On CPU torch keeps no count: Alloc is by how much the call raised the peak of the process's resident memory,"
    " Reserved is that peak, weights and libraries included"
)


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes."""

    allocated: int
    reserved: int


def measure_peak(call: Callable[[], object], device: str) -> Peak:
    """Run a call and return its peaks, from a state in which nothing is cached."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return Peak(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
    _give_back_unused()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from the present
    before = _read_status("VmRSS")
    call()
    peak = _read_status("VmHWM")
    return Peak(max(peak - before, 0), peak)


def _give_back_unused() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it, and only glibc needs it
    if trim is not None:
        trim(0)


def _read_status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
