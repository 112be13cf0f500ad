"""`kernel-builder test`: a project's own tests, run on the artifact that a user would load here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kernel_builder.artifact.load import list_variant_directories
from kernel_builder.cli.console import Console, error_as_json
from kernel_builder.cli.loading import map_repositories
from kernel_builder.cli.options import (
    json_option,
    output_option,
    pass_console,
    project_argument,
    talk_options,
    work_dir_option,
)
from kernel_builder.cli.planning_options import selector_options, torch_options
from kernel_builder.cli.progress import show_progress
from kernel_builder.environment import TorchChoice
from kernel_builder.errors import TestsFailedError
from kernel_builder.pipeline import build_project
from kernel_builder.plan import Selector
from kernel_builder.planning import plan_project
from kernel_builder.spec.reader import load_spec
from kernel_builder.testing import (
    SuiteOutcome,
    TestSubject,
    check_outcome,
    check_places,
    choose_subjects,
    describe_outcome,
    record_outcome,
    run_suite,
)


class _CommandWithRest(click.Command):
    """A command that leaves the words after `--` to somebody else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words, rest = args, []
        if "--" in args:
            cut = args.index("--")
            words, rest = args[:cut], args[cut + 1 :]
        ctx.meta["rest"] = rest
        return super().parse_args(ctx, words)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- PYTEST ARGUMENTS]"]


@click.command(cls=_CommandWithRest)
@project_argument
@click.option("--build", "rebuild", is_flag=True, help="Build first, also when there are artifacts already.")
@click.option(
    "--tests",
    multiple=True,
    type=click.Path(path_type=Path),
    default=(Path("tests"),),
    metavar="PATH",
    help="Where the tests are, relative to PROJECT.  [default: tests; repeatable]",
)
@click.option(
    "--python", type=click.Path(path_type=Path), metavar="PATH", help="Run the tests in this Python, with its torch."
)
@click.option("--junit-xml", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit report too.")
@click.option("--no-record", is_flag=True, help="Do not write the outcome into the artifact's metadata.")
@selector_options
@output_option
@work_dir_option
@torch_options
@json_option
@talk_options
@click.pass_context
@pass_console
def test(  # noqa: PLR0917 - click passes by name
    console: Console,
    context: click.Context,
    project: Path,
    tests: Sequence[Path],
    python: Path | None,
    junit_xml: Path | None,
    selector: Selector,
    output: Path | None,
    work_dir: Path | None,
    torch: TorchChoice,
    *,
    rebuild: bool,
    no_record: bool,
) -> None:
    """Run a project's tests on what was built.

    The `kernels` loader chooses the variant as it does for users; `import <python name>` and `get_kernel` give that
    artifact to the tests. Builds first when there is no artifact. The outcome is recorded in the artifact. Fails when
    no test runs, or when none loads the kernel.
    """
    spec = load_spec(project).spec
    check_places(spec.root, tests)
    output = (output or spec.root / "build").absolute()
    if rebuild or not (output.is_dir() and any(list_variant_directories(output))):
        planned = plan_project(project, torch=torch)
        with show_progress(console) as listener:
            result = build_project(planned, selector=selector, output=output, work_dir=work_dir, listener=listener)
        result.demand_passed()
    subjects = choose_subjects(spec, output, selector, python=python)
    for subject in subjects:
        console.say(f"testing `{subject.artifact.metadata.name}`: {subject.artifact.variant}, {_tell_python(subject)}")
    junit = [] if junit_xml is None else [f"--junitxml={junit_xml.absolute()}"]
    outcome = run_suite(
        spec.root,
        [subject.artifact for subject in subjects],
        tests=tests,
        arguments=(*junit, *context.meta["rest"]),
        repo_ids=map_repositories(spec),
        python=python,
        on_line=console.write_raw,
        color=console.has_color,
    )
    tested = [subject for subject in subjects if subject.artifact.path.resolve() in outcome.loaded]
    if not no_record and outcome.ran:
        for subject in tested:
            record_outcome(subject.artifact, subject.choice, outcome)
    error = _judge(outcome, subjects)
    if console.as_json:
        console.write_json(_describe(tested, outcome, error), ok=error is None)
    if error is not None:
        raise error
    for subject in subjects:
        if subject not in tested:
            console.warn(f"no test loaded `{subject.artifact.metadata.name}`, so its artifact is not tested")


def _tell_python(subject: TestSubject) -> str:
    choice = subject.choice
    return f"torch {choice.torch or 'absent'}, kernels {choice.kernels}, Python {choice.python}"


def _judge(outcome: SuiteOutcome, subjects: Sequence[TestSubject]) -> TestsFailedError | None:
    try:
        check_outcome(outcome, [subject.artifact for subject in subjects if subject.is_wanted])
    except TestsFailedError as error:
        return error
    return None


def _describe(tested: Sequence[TestSubject], outcome: SuiteOutcome, error: TestsFailedError | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "pytest-exit-code": outcome.exit_code,
        "counts": dict(outcome.counts),
        "artifacts": [
            {
                "kernel": subject.artifact.metadata.name,
                "variant": str(subject.artifact.variant),
                "path": str(subject.artifact.path),
                "record": describe_outcome(subject.artifact, subject.choice, outcome),
            }
            for subject in tested
        ],
    }
    return document if error is None else {**document, "error": error_as_json(error)}
