"""Measure everything that docs/benchmarks.md tells, and write it there: about 20 minutes on two quiet cores.

    python benchmarks/measure.py benchmarks/results/MACHINE              all steps, then the page
    python benchmarks/measure.py benchmarks/results/MACHINE --only NAME  some of them again, then the page
    python benchmarks/measure.py benchmarks/results/MACHINE --render     the page alone, from the figures that are there

Wants an environment with this project, torch and transformers. The kernel is built first, which is not measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from page import PAGE, write_page

ROOT = Path(__file__).resolve().parents[1]
BUILDER = ("-m", "kernel_builder")
MODEL = ("benchmarks/causal_lm.py",)


def list_steps(results: Path) -> dict[str, tuple[str, ...]]:
    """Return step -> arguments of Python; each writes the figures of its name."""

    def figures(name: str) -> tuple[str, str]:
        return "--output", str(results / f"{name}.json")

    effort = ("--min-time", "0.5", "--mem-repeats", "1")
    grid = ("--from", "benchmarks/grid", "--quick", "--threads", "1", "--threads", "2")
    return {
        "attention": (
            *(*BUILDER, "bench", str(ROOT), *grid, *figures("attention")),
            *("--plot", str(results / "attention.svg")),
        ),
        "generate-1": (*MODEL, "generate", "--threads", "1", *effort, *figures("generate-1")),
        "generate-2": (*MODEL, "generate", "--threads", "2", *effort, *figures("generate-2")),
        "train": (*MODEL, "train", "--threads", "1", "--batches", "4", "--plain", *effort, *figures("train")),
        "first-use": (*MODEL, "first-use", *figures("first-use")),
        "build-cuda": ("benchmarks/build_cost.py", "--backend", "cuda", *figures("build-cuda")),
    }


def main() -> None:
    """Build, measure step by step, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the directory of the figures, below benchmarks/results")
    parser.add_argument("--only", action="append", choices=list_steps(Path()), help="this step; repeatable")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args()
    results = options.results.resolve()
    if ROOT / "benchmarks" / "results" not in results.parents:
        parser.error(f"`results` must be a directory below benchmarks/results, got {options.results}")
    if options.render and not list(results.glob("*.json")):
        parser.error(f"there are no figures in {options.results}")
    if not options.render:
        results.mkdir(parents=True, exist_ok=True)
        run("build", (*BUILDER, "build", str(ROOT), "--variant", "torch-stable-abi*-cpu-*", "--quiet"))
        for name, arguments in list_steps(results).items():
            if options.only is None or name in options.only:
                run(name, arguments)
    write_page(ROOT / PAGE, results.relative_to(ROOT))
    print(f"wrote {PAGE}")


def run(name: str, arguments: tuple[str, ...]) -> None:
    """Run one step, its output passed on; stop when it fails."""
    print(f"--- {name}: python {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    completed = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False)
    if completed.returncode != 0:
        raise SystemExit(f"`{name}` failed with exit code {completed.returncode}; the page was not changed")
    print(f"--- {name}: {time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
