"""Runs in the Python that tests an artifact: what would the `kernels` loader choose there, and does it load?

`python loader_probe.py PLACE REPORT` writes a JSON object to REPORT. It imports nothing of ours.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def probe(place: Path) -> dict[str, object]:
    """What there is, which variant the loader takes from `place`, and why it does not if it does not."""
    report: dict[str, object] = {"python": platform.python_version(), "missing": []}
    for package in ("pytest", "kernels", "torch"):
        try:
            report[package] = version(package)
        except PackageNotFoundError:
            report[package] = None
    try:
        from kernels import get_local_kernel  # noqa: PLC0415 - it may be absent, which is an answer
    except ImportError as error:
        return {**report, "error": f"{type(error).__name__}: {error}"}
    try:
        module = get_local_kernel(place)
    except Exception as error:  # noqa: BLE001 - a kernel may fail in any way; all of them are answers
        return {**report, "error": f"{type(error).__name__}: {error}"}
    torch = sys.modules.get("torch")
    if torch is not None:
        report["cpu-capability"] = torch.backends.cpu.get_cpu_capability()
    return {**report, "path": str(Path(str(module.__file__)).parent)}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(probe(Path(sys.argv[1]))), encoding="utf-8")
