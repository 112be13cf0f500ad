"""`kernel-builder bench`: a project's benchmarks, run on the artifact that a user would load here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from kernel_builder.artifact.load import list_variant_directories
from kernel_builder.bench.plot import render_plot
from kernel_builder.bench.report import format_report, is_busy, load_report, make_report
from kernel_builder.bench.running import BenchOptions, find_benchmark_files, run_benchmarks
from kernel_builder.bench.table import (
    CHANGE_HEADINGS,
    GOAL_HEADINGS,
    HEADINGS,
    list_ceilings,
    list_changes,
    list_goal_rows,
    list_rows,
)
from kernel_builder.cli.console import Console
from kernel_builder.cli.loading import map_repositories
from kernel_builder.cli.options import json_option, pass_console, project_argument, talk_options, work_dir_option
from kernel_builder.cli.planning_options import selector_options, torch_options
from kernel_builder.cli.progress import show_progress
from kernel_builder.disk import explain_disk
from kernel_builder.environment import TorchChoice
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.pipeline import build_project
from kernel_builder.plan import Selector
from kernel_builder.planning import plan_project
from kernel_builder.spec.reader import load_spec
from kernel_builder.testing import choose_subjects, digest_artifact

_QUICK_MIN_TIME = 0.2
_WRITE_HINT = "name a file in a directory that can be written"


def _demand_finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    del context, parameter
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a time")
    return value


@click.command()
@project_argument
@click.option(
    "--from",
    "places",
    multiple=True,
    type=click.Path(path_type=Path),
    default=(Path("benchmarks"),),
    metavar="PATH",
    help="A benchmark file, or a directory of `benchmark*.py`, relative to PROJECT.  [default: benchmarks; repeatable]",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="TEXT",
    help="Only workloads whose `Class.name` has this part, or matches this pattern.  [repeatable]",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure with so many threads.  [default: as many as torch takes; repeatable]",
)
@click.option(
    "--min-time",
    type=click.FloatRange(min=0, min_open=True),
    callback=_demand_finite,
    metavar="SECONDS",
    help="Time the kernel so long in each workload, in at least 7 samples.  [default: 1, with --quick 0.2]",
)
@click.option("--quick", is_flag=True, help="Only the workloads that a class names in `quick`, and less often.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of the order of turns.")
@click.option(
    "--compare", type=click.Path(path_type=Path), metavar="FILE", help="Show the change since an older report."
)
@click.option("--output", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as JSON.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write a plot of the ratios as SVG.")
@click.option("--build", "rebuild", is_flag=True, help="Build first, also when there are artifacts already.")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where artifacts are, or are put.  [default: PROJECT/build]",
)
@click.option(
    "--python", type=click.Path(path_type=Path), metavar="PATH", help="Measure in this Python, with its torch."
)
@selector_options
@work_dir_option
@torch_options
@json_option
@talk_options
@pass_console
def bench(  # noqa: PLR0917 - click passes by name
    console: Console,
    project: Path,
    places: Sequence[Path],
    filters: tuple[str, ...],
    threads: tuple[int, ...],
    min_time: float | None,
    seed: int,
    compare: Path | None,
    output: Path | None,
    plot: Path | None,
    artifacts: Path | None,
    python: Path | None,
    selector: Selector,
    work_dir: Path | None,
    torch: TorchChoice,
    *,
    quick: bool,
    rebuild: bool,
) -> None:
    """Measure a project's kernel with its own benchmarks.

    Runs the subclasses of `kernels.benchmark.Benchmark` in `benchmarks/benchmark*.py` on the artifact that the
    `kernels` loader chooses. Workloads, their references and the machine's ceilings take turns; the output of every
    workload is verified before it is timed, after each sample, and at the end. Builds first when there is no artifact.
    Fails when an output is wrong, or when there is nothing to measure.
    """
    spec = load_spec(project).spec
    older = None if compare is None else load_report(compare)
    if plot is not None and plot.suffix.lower() != ".svg":
        raise BadInputError(Problem(f"`{plot}` is no name for a plot", hint="plots are SVG: end it in `.svg`"))
    for file in (output, plot):
        if file is not None:
            _check_writable(file)
    files = find_benchmark_files(spec.root, places)
    artifacts = (artifacts or spec.root / "build").absolute()
    if rebuild or not (artifacts.is_dir() and any(list_variant_directories(artifacts))):
        planned = plan_project(project, torch=torch)
        with show_progress(console) as listener:
            result = build_project(planned, selector=selector, output=artifacts, work_dir=work_dir, listener=listener)
        result.demand_passed()
    subjects = choose_subjects(spec, artifacts, selector, python=python)
    subject = next(each for each in subjects if each.is_wanted)
    artifact = subject.artifact
    console.say(f"measuring `{artifact.metadata.name}`: {artifact.variant}, torch {subject.choice.torch or 'absent'}")
    options = BenchOptions(
        threads=tuple(dict.fromkeys(threads)) or (None,),
        min_time=min_time or (_QUICK_MIN_TIME if quick else 1.0),
        filters=filters,
        quick=quick,
        seed=seed,
    )
    repo_ids = map_repositories(spec)
    runs = run_benchmarks(
        spec.root,
        artifact.path,
        artifact.metadata.backend,
        files,
        options,
        local_kernels=[
            f"{repo_ids[name]}={each.artifact.path.absolute()}"
            for each in subjects
            if (name := each.artifact.metadata.name) in repo_ids
        ],
        python=python,
        on_line=console.say,
    )
    report = make_report(artifact, digest_artifact(artifact), runs, options, datetime.now(UTC))
    if output is not None:
        _write(console, output, format_report(report))
    if plot is not None:
        picture = render_plot(report)
        if picture is None:
            console.warn("no workload has a reference, so there is no ratio to plot")
        else:
            _write(console, plot, picture)
    _show(console, report, older)


def _check_writable(file: Path) -> None:
    """Find out before minutes of measuring, not after them."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise BadInputError(Problem(f"`{file}` cannot be written", hint=_WRITE_HINT))
    if file.is_file():
        with explain_disk("a file", _WRITE_HINT):
            file.open("ab").close()
    elif not file.is_symlink() and not file.exists():
        with explain_disk("a file", _WRITE_HINT):
            file.touch()
            file.unlink()


def _write(console: Console, file: Path, text: str) -> None:
    with explain_disk("a file", _WRITE_HINT):
        file.write_text(text, encoding="utf-8")
    console.say(f"wrote `{file}`")


def _show(console: Console, report: dict[str, object], older: dict[str, object] | None) -> None:
    console.write_table(HEADINGS, list_rows(report))
    console.write("")
    for line in list_ceilings(report):
        console.write(line)
    goals = list(list_goal_rows(report))
    if goals:
        console.write("")
        console.write_table(GOAL_HEADINGS, goals)
    if older is not None:
        console.write("")
        console.write_table(CHANGE_HEADINGS, list_changes(older, report))
        if _name_place(older) != _name_place(report):
            console.warn("the older report is of another machine or torch, so its times are not comparable")
    _warn_of_noise(console, report)
    if console.as_json:
        console.write_json({"report": report})


def _name_place(report: dict[str, object]) -> tuple[object, ...]:
    machine = report["machine"]
    return tuple(machine[key] for key in ("cpu", "accelerator", "torch")) if isinstance(machine, dict) else ()


def _warn_of_noise(console: Console, report: dict[str, object]) -> None:
    runs, machine = report["runs"], report["machine"]
    if not isinstance(runs, list) or not isinstance(machine, dict):
        return
    busy = [run for run in runs if is_busy(run, machine["usable-cores"])]
    if busy:
        load = max(run["load"]["before"][0] for run in busy)
        console.warn(
            Problem(
                f"the load average was {load:.1f} on {machine['usable-cores']} cores: other programs ran meanwhile",
                hint="ratios may still mean something, times do not; measure on a quiet machine",
            )
        )
    unverified = sorted({each["name"] for run in runs for each in run["workloads"] if each["verified-by"] is None})
    if unverified:
        names = ", ".join(f"`{name}`" for name in unverified)
        console.warn(Problem(f"nobody knows whether the output is right: {names}", hint="add a method `verify_...`"))
