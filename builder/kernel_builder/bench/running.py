"""Start the measurement in a process of its own, for each number of threads, and take its samples."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder import process
from kernel_builder.backend import Backend
from kernel_builder.errors import BenchmarkError, Location, Problem

_PACKAGE = Path(__file__).parents[1]
_DEVICES = {Backend.ROCM: "cuda", Backend.METAL: "mps", Backend.CANN: "npu"}
_TOLD_LINES = 20


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How to measure. `threads`: None for as many as torch takes by itself; `min_time`: seconds for each workload."""

    threads: tuple[int | None, ...] = (None,)
    min_time: float = 1.0
    filters: tuple[str, ...] = ()
    quick: bool = False
    seed: int = 0


def find_benchmark_files(project: Path, places: Sequence[Path]) -> tuple[Path, ...]:
    """The benchmark files of a project: each place, relative to it, is a file, or a directory of `benchmark*.py`.

    Raises `BenchmarkError` when a place is not there or has none.
    """
    found: list[Path] = []
    problems: list[Problem] = []
    hint = "write one, or name another place with `--from`"
    for place in places:
        path = project / place
        if path.is_file():
            found.append(path.absolute())
            continue
        files = sorted(path.glob("benchmark*.py"))
        if not files:
            said = f"there is no `benchmark*.py` in `{path}`" if path.is_dir() else f"there is no `{path}`"
            problems.append(Problem(f"no benchmarks were found: {said}", hint=hint))
        found += [file.absolute() for file in files]
    if problems:
        raise BenchmarkError(problems)
    return tuple(dict.fromkeys(found))


def run_benchmarks(
    project: Path,
    artifact: Path,
    backend: Backend,
    files: Sequence[Path],
    options: BenchOptions,
    *,
    local_kernels: Sequence[str] = (),
    python: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> tuple[dict[str, Any], ...]:
    """Measure the files with each number of threads and give what each run reports.

    local_kernels: entries of `LOCAL_KERNELS`, for benchmarks that ask for kernels by name.
    Raises `BenchmarkError` when a benchmark cannot run, gives a wrong output, or nothing is there to run.
    """
    runs = []
    for threads in options.threads:
        with tempfile.TemporaryDirectory(prefix="kernel-builder-bench-") as directory:
            scratch = Path(directory).resolve()
            settings = {
                "artifact": str(artifact.absolute()),
                "device": _DEVICES.get(backend, str(backend)),
                "files": [str(file) for file in files],
                "filters": list(options.filters),
                "min-time": options.min_time,
                "quick": options.quick,
                "seed": options.seed,
                "threads": threads,
            }
            (scratch / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
            completed = process.run(
                [
                    *(python or sys.executable, "-m", "kernel_builder.bench.child"),
                    *(scratch / "settings.json", scratch / "report.json"),
                ],
                cwd=project,
                env=_make_environment(scratch, local_kernels),
                on_line=on_line,
            )
            runs.append(_read_report(scratch, completed, project))
    return tuple(runs)


def _make_environment(scratch: Path, local_kernels: Sequence[str]) -> dict[str, str]:
    """Our package alone on the path, so that the Python that is measured keeps its own packages; no byte code."""
    library = scratch / "library"
    library.mkdir()
    (library / _PACKAGE.name).symlink_to(_PACKAGE, target_is_directory=True)
    inherited = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    entries = [*local_kernels, *([os.environ["LOCAL_KERNELS"]] if os.environ.get("LOCAL_KERNELS") else [])]
    extra = {"PYTHONPATH": os.pathsep.join([str(library), *inherited]), "PYTHONDONTWRITEBYTECODE": "1"}
    return process.child_environment(extra | ({"LOCAL_KERNELS": ":".join(entries)} if entries else {}))


def _read_report(scratch: Path, completed: process.Completed, project: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads((scratch / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        step = scratch / "step.txt"
        doing = f" while {step.read_text(encoding='utf-8')}" if step.is_file() else ""
        raise BenchmarkError(
            f"the benchmark process ended with code {completed.returncode}{doing}",
            hint="\n".join(completed.lines[-_TOLD_LINES:]) or None,
        ) from None
    if "problems" in report:
        raise BenchmarkError([_make_problem(each, project) for each in report["problems"]])
    if not report["workloads"]:
        raise BenchmarkError("no benchmark is called so", hint="without `--filter` and `--quick` all of them run")
    return report


def _make_problem(trouble: dict[str, Any], project: Path) -> Problem:
    file = Path(trouble["file"])
    name = file.relative_to(project.absolute()) if file.is_relative_to(project.absolute()) else file
    return Problem(trouble["message"], Location(str(name), trouble["line"], trouble["workload"]))
