"""How much of this machine a build may use: cores and memory, also inside a container that was given a share."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_UNLIMITED = 1 << 60
_MOST_JOBS = 1024  # ninja takes no more than an `int` can hold, and no machine more than this
_LIGHT_BYTES = 600_000_000
_HEAVY_BYTES = 2_000_000_000  # device code with templates of CUTLASS
BYTES_PER_JOB = 1_400_000_000
"""What one compiler needs at most for a file that includes all of torch (0.8 GB measured), with room to spare."""


def probe_cores() -> int:
    """Cores that this process may use, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    return max(1, min(cores, _read_cpu_quota() or cores))


def probe_free_memory() -> int | None:
    """Bytes that new processes can use before the machine or the container is full; None where nobody tells."""
    return min((size for size in (_read_available(), _read_cgroup_room()) if size is not None), default=None)


def count_jobs(cores: int, free_memory: int | None, *, wanted: int | None = None) -> int:
    """How many compilers to run at once: what was asked for, else one a core as far as the memory lasts."""
    if wanted is not None:
        return max(1, min(wanted, _MOST_JOBS))
    return max(1, cores if free_memory is None else min(cores, free_memory // BYTES_PER_JOB))


def count_heavy_jobs(jobs: int, free_memory: int | None) -> int:
    """How many of the jobs may be heavy ones at once, so that the memory lasts whatever the others are."""
    if free_memory is None:
        return jobs
    room = free_memory - jobs * _LIGHT_BYTES
    return max(1, min(jobs, room // (_HEAVY_BYTES - _LIGHT_BYTES)))


def _read_available() -> int | None:
    for line in _read_lines(_MEMINFO):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _read_cpu_quota() -> int | None:
    """Version 2 writes quota and period in one file, version 1 in two."""
    words = " ".join(_read_lines(_CGROUP / "cpu.max")).split()
    if not words:
        words = _read_lines(_CGROUP / "cpu/cpu.cfs_quota_us") + _read_lines(_CGROUP / "cpu/cpu.cfs_period_us")
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:  # noqa: PLR2004
        return None
    return max(1, -(-int(words[0]) // int(words[1])))


def _read_cgroup_room() -> int | None:
    for limit, usage, reclaimable in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        numbers = [line for name in (limit, usage) for line in _read_lines(_CGROUP / name)]
        if len(numbers) == 2 and all(number.isdigit() for number in numbers) and int(numbers[0]) < _UNLIMITED:  # noqa: PLR2004
            return max(0, int(numbers[0]) - int(numbers[1]) + _read_page_cache(_CGROUP / reclaimable))
    return None


def _read_page_cache(stat: Path) -> int:
    """File pages count as used, but the kernel gives them back when a compiler wants memory."""
    for line in _read_lines(stat):
        name, _, number = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and number.isdigit():
            return int(number)
    return 0


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
