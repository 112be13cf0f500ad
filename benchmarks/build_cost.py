"""What a whole build from source costs: time by the clock, time of the CPUs, the most memory of one process.

    python benchmarks/build_cost.py --backend cuda

Builds the kernels of a project into a temporary directory, from nothing but toolchains that are here or were fetched.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_MIB = 1 << 20


def main() -> None:
    """Build, print a line, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, nargs="?", default=ROOT, help="default: this one")
    parser.add_argument("--backend", default="cuda", help="what to build (default: cuda)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args()
    figures = measure_build(options.project, options.backend)
    print(
        f"{', '.join(figures['variants'])}: {figures['wall-s']:.0f} s on {figures['cores']} cores,"
        f" {figures['cpu-s']:.0f} s of CPU, at most {figures['peak-bytes'] / _MIB:.0f} MiB in one process"
    )
    if options.output is not None:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure_build(project: Path, backend: str) -> dict[str, Any]:
    """Return the figures of a build for this backend; processes of the builder itself are among those measured."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="build-cost-") as directory:
        output = Path(directory) / "build"
        command = [sys.executable, "-m", "kernel_builder", "build", str(project), "--quiet", "--backend", backend]
        command += ["--output", str(output), "--work-dir", str(Path(directory) / "work")]
        started = time.perf_counter()
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            raise SystemExit(f"the build for `{backend}` failed")
        wall = time.perf_counter() - started
        variants = sorted({each.parent.name for each in output.glob("**/metadata.json")})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of all descendants: each process waits for its own
    return {
        "schema": 1,
        "command": "build-cost",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": backend,
        "variants": variants,
        "cores": len(os.sched_getaffinity(0)),
        "load-before": load,
        "wall-s": wall,
        "cpu-s": used.ru_utime + used.ru_stime,
        "peak-bytes": used.ru_maxrss * 1024,
    }


if __name__ == "__main__":
    main()
