"""Time to first use: build the kernel from its sources, or load an artifact that somebody has built."""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
_USE = """
import sys, time, torch
from pathlib import Path
from kernels import get_local_kernel

started = time.perf_counter()
kernel = get_local_kernel(Path(sys.argv[1]))
q, k, v = torch.ones(3, 1, 16, 2, 64, dtype=torch.bfloat16, device=sys.argv[2])
kernel.flash_attn_func(q, k, v).cpu()
print(time.perf_counter() - started)
"""

VARIANTS = {"cpu": "torch-stable-abi*-cpu-*", "cuda": "torch-stable-abi*-cu[0-9]*"}
"""The variants that a device takes: what the source is built for."""


def measure_first_use(options: argparse.Namespace) -> dict[str, Any]:
    """Build into a temporary directory, load both; print the table; return the figures."""
    built = PROJECT / "build"
    variant = VARIANTS[options.device]
    if not list(built.glob(f"{variant}/metadata.json")):
        raise SystemExit("there is no artifact to load: `kernel-builder build` makes it")
    with tempfile.TemporaryDirectory(prefix="first-use-") as directory:
        output = Path(directory) / "build"
        command = [sys.executable, "-m", "kernel_builder", "build", PROJECT, "--quiet", "--output", output]
        command += ["--work-dir", Path(directory) / "work", "--kernel", "flash-attn-kernel", "--variant", variant]
        started = time.perf_counter()
        _run([str(word) for word in command])
        build = time.perf_counter() - started
        same = _digest(output, variant) == _digest(built, variant)
        own, prebuilt = _time_uses([output, built], options.turns, options.device)
    print("=== Time to First Use ===")
    print("A process that loads the kernel and calls it once; importing torch and kernels is not counted.\n")
    print("| way | build s | load and first call s | time to first use s |")
    print("|---|---|---|---|")
    print(f"| from source | {build:.1f} | {own:.2f} | {build + own:.1f} |")
    print(f"| prebuilt artifact | 0 | {prebuilt:.2f} | {prebuilt:.2f} |")
    if same:
        print("\nBoth binaries are the same, byte for byte: they are equally fast, and use the same memory.")
    else:
        print("\nThe binaries differ: the artifact in `build/` is of other sources or another compiler.")
    return {"build-s": build, "own-s": own, "prebuilt-s": prebuilt, "same-binary": same}


def _time_uses(places: list[Path], turns: int, device: str) -> list[float]:
    """Return the seconds that a first use takes once torch and kernels are imported, in turns, as medians."""
    seconds: list[list[float]] = [[] for _ in places]
    for _ in range(turns):
        for place, taken in zip(places, seconds, strict=True):
            taken.append(float(_run([sys.executable, "-c", _USE, str(place), device]).splitlines()[-1]))
    return [statistics.median(taken) for taken in seconds]


def _run(command: list[str]) -> str:
    completed = subprocess.run(command, check=False, capture_output=True, text=True)
    if completed.returncode != 0:
        raise SystemExit(f"`{command[0]} ...` failed:\n{completed.stderr}")
    return completed.stdout


def _digest(place: Path, variant: str) -> list[str]:
    """Return the digests of the binaries in the directories of variants, without those of faces."""
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in place.glob(f"{variant}/*.so"))
