"""The kernel that the check on a GPU is about: an artifact that was built elsewhere, or one that is built here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch
from kernels import get_local_kernel

from scripts.gpu_timing import first_line

PROJECT = Path(__file__).resolve().parents[1]


def describe_torch() -> str:
    """Return which torch this is."""
    is_for = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "not for CUDA"
    return f"torch {torch.__version__} ({is_for})"


def obtain_kernel(build: Path, device: torch.device) -> ModuleType | str:
    """Return the kernel, or why there is none. Where the project has no artifact and the builder is here, it is built.

    One that is there and does not load is not built again: what is wrong with it is what a check has to tell.
    """
    is_own = build.resolve() == PROJECT / "build"
    if is_own and not _has_artifact(build, device) and importlib.util.find_spec("kernel_builder") is not None:
        command = [sys.executable, "-m", "kernel_builder", "build", str(PROJECT), "--backend", device.type]
        print(f"`{build}` has no artifact for {device.type}: {' '.join(command[1:])}", flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            return "the build above has failed"
    return load_kernel(build, device)


def _has_artifact(build: Path, device: torch.device) -> bool:
    return any(build.glob("torch*-cu[0-9]*" if device.type == "cuda" else f"torch*-{device.type}-*"))


def load_kernel(build: Path, device: torch.device) -> ModuleType | str:
    """Return the kernel, or why none of the artifacts runs on this device with this torch."""
    found = ", ".join(sorted(path.name for path in build.glob("torch*"))) or "no artifact"
    advice = f"`{build}` has {found}, and this is {describe_torch()}; `kernel-builder build --backend cuda` makes one"
    if not build.is_dir():
        return advice
    try:
        flash = get_local_kernel(build)
    except Exception as error:  # noqa: BLE001  (a loader has many ways to say no)
        return f"{first_line(error)}\n{advice}"
    is_right = device.type != "cuda" or hasattr(flash._ops.ops, "cuda_kernels")  # noqa: SLF001  (no public name)
    return flash if is_right else f"what was loaded is not for CUDA\n{advice}"
