"""How the sources of GPU kernels are compiled for an emulator: with the arithmetic of the compilers for GPUs."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU = Path("/proc/cpuinfo")
_NEEDS_FLAG = platform.machine() in {"x86_64", "AMD64"}
_HAS_FMA = not _NEEDS_FLAG or (_CPU.is_file() and {"fma", "f16c"} <= set(_CPU.read_text(encoding="utf-8").split()))

_EXTENSIONS = ("-mfma", "-mf16c") if _NEEDS_FLAG else ()

FUSED = (*_EXTENSIONS, "-ffp-contract=fast", "-fexpensive-optimizations") if _HAS_FMA else ()
"""Compilers for GPUs make one operation of a product and a sum, which rounds once. The difference of two equal products
is then not 0, but what the one that was rounded has lost. g++ does so below -O2 when it is asked twice. Beside it, fp16
is converted by an instruction: the same numbers, much sooner."""
