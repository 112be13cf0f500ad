"""What a measurement ran on, in facts that a reader needs to judge it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kernel_builder.bench.child.ceilings import read_largest_cache

_TOLD_FLAGS = (
    *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_machine(device: str) -> dict[str, Any]:
    """Names, sizes and versions; what the system does not tell is null."""
    model, flags = _read_cpuinfo()
    return {
        "cpu": model,
        "isa": [flag for flag in _TOLD_FLAGS if flag in flags],
        "cores": os.cpu_count() or 1,
        "usable-cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "cache-bytes": read_largest_cache() or None,
        "memory-bytes": _read_memory(),
        "governor": _read_first_line(_GOVERNOR),
        "os": f"{platform.system()} {platform.release()}",
        "accelerator": None if device == "cpu" else _name_accelerator(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch-isa": torch.backends.cpu.get_cpu_capability(),
        "kernels": version("kernels"),
    }


def read_load() -> list[float] | None:
    """Load averages of 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _read_cpuinfo() -> tuple[str, frozenset[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip().lower(), value.strip())
    flags = facts.get("flags", facts.get("features", ""))
    return facts.get("model name", platform.machine()), frozenset(flags.split())


def _read_memory() -> int | None:
    names = os.sysconf_names
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read_first_line(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _name_accelerator(device: str) -> str:
    return torch.cuda.get_device_name(0) if device == "cuda" else device
